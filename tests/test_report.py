"""Summaries, figure, report and demo."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import actstore
from actstore import analysis
from actstore.demo import run_demo
from actstore.errors import ActstoreError
from actstore.summaries import case_summary, dice_summary, frequency_summary, original_dice
from actstore.views import frequency_map
from actstore.views.report import write_report


def test_dice_compares_the_same_slices(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    dice = analysis.dice(store.confusion, applicable=store.applicable).compute()
    present = (store.confusion.isel(condition=0).sum("predicted_class") > 0).compute()
    for row in dice_summary(store).itertuples():
        both = present.sel(true_class=row.class_name) & store.applicable.sel(condition=row.condition)
        values = dice.sel(class_name=row.class_name).isel(sample=np.flatnonzero(both.values))
        assert row.samples == values.sizes["sample"]
        assert row.original == pytest.approx(float(values.isel(condition=0).mean()))
        assert row.perturbed == pytest.approx(float(values.sel(condition=row.condition).mean()))


def test_a_report_asks_nothing_of_a_network(tiny_store: Path, tmp_path: Path) -> None:
    store = actstore.open(tiny_store)
    page = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "url(" not in page
    for row in original_dice(store).itertuples():
        assert f"{row.dice:.3f}" in page
    assert set(case_summary(store)["case"]) <= set(re.findall(r"<td>([^<]*)</td>", page))
    assert list(frequency_summary(store)["layer"]) == list(store.layers.index)


def test_a_map_shows_the_share_of_samples(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    panels = list(frequency_map(store, top=1))
    assert len(panels) == len(store.conditions) - 1
    for condition, panel in zip(store.conditions.index[1:], panels, strict=True):
        share = panel.dimension_values("share", flat=False)
        assert share.shape == (len(store.layers), max(store.layers["channels"]))
        n = int(store.applicable.sel(condition=condition).sum())
        assert f"n = {n} samples" in panel.label
        np.testing.assert_allclose(np.nansum(share, axis=1), 1.0 if n else 0.0, err_msg="one top channel a sample")


def test_the_demo_ends_with_tables_figure_report_and_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(tmp_path / "demo", patients=1, cluster="inline")
    shown = capsys.readouterr().out
    for name in ("frequency.png", "report.html", "phantom.zarr"):
        assert (tmp_path / "demo" / name).exists()
        assert f"demo/{name}" in shown
    dice = original_dice(actstore.open(tmp_path / "demo" / "phantom.zarr")).set_index("class_name")["dice"]
    assert dice["LV"] >= 0.85
    assert dice["RV"] >= 0.75
    assert dice["MYO"] >= 0.75
    with pytest.raises(ActstoreError, match="is of another demo"):
        run_demo(tmp_path / "demo", patients=2, cluster="inline")
