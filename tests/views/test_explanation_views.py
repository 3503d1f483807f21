"""Figures of explanations: the stored maps over the stored input."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import views
from actstore.errors import StoreError
from actstore.tables.explanations import EXPLANATIONS
from actstore.tables.job_groups import Kind
from actstore.views.report.sections.explanations import explained as section_of
from actstore.views.report.sentences.explanations import beaten
from actstore.views.report.study import Study
from drawn import pictures, title_of
from explanations import CONDITION
from reports import REPORTED


def test_maps_lie_over_the_input(explained: Path) -> None:
    store = actstore.open(explained)
    group = store.group("explain/slope").load()
    sample = int(group["pixels"].values.sum(1).argmax())
    figure = list(views.explanation(store, "slope", crop=False))
    assert len(figure) == 3
    first, lv, rv = figure
    np.testing.assert_array_equal(pictures(first)[0], store.picture("image", sample))
    assert title_of(lv).startswith("LV · ")
    assert title_of(rv).startswith("RV · ")
    maps = group["map"].values[sample, 0]
    limit = float(np.quantile(np.abs(maps[np.isfinite(maps) & (maps != 0)]), 0.99))
    below, shown = pictures(lv)
    np.testing.assert_array_equal(below, pictures(first)[0])
    np.testing.assert_array_equal(shown, np.where(np.abs(maps[0]) < 0.08 * limit, np.nan, maps[0]))
    for one in (lv, rv):
        clim = hv.Store.lookup_options("bokeh", one.traverse(lambda e: e, [hv.Image])[1], "plot").kwargs["clim"]
        assert clim == pytest.approx((-limit, limit)), "one scale"


def test_a_class_that_is_not_predicted_says_so(explained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = actstore.open(explained)
    whole = EXPLANATIONS.open(store, "slope")
    group = whole.group.load()
    group["pixels"][2, 1], group["score"][2, 0, 1], group["map"][2, 0, 1] = 0, np.nan, np.nan
    monkeypatch.setattr(Kind, "open", lambda *_: replace(whole, group=group))
    _, lv, rv = views.explanation(store, "slope", 2)
    assert title_of(rv) == "RV · not predicted"
    assert "predicted" not in title_of(lv)


def test_channels_lie_over_the_input(explained: Path) -> None:
    store = actstore.open(explained)
    top = store.group("explain/top").load()
    figure = list(views.projections(store, "top", "L02", 3, most=2, crop=False))
    assert len(figure) == 3
    channel = int(top["channel"].sel(layer="L02")[3, 0, 0])
    assert title_of(figure[1]).startswith(f"L02 channel {channel} · ")
    shown, whole = pictures(figure[1])[1], top["projection"].sel(layer="L02").values[3, 0, 0]
    there = np.isfinite(shown)
    assert there.any()
    np.testing.assert_array_equal(shown[there], whole[there])
    assert title_of(list(views.projections(store, "top"))[1]).startswith("L02")


def test_channels_look_together(explained: Path) -> None:
    store = actstore.open(explained)
    first, two, every = list(views.focus(store, "top", "L02", 3, most=(2, 9), crop=False, blur=0))
    assert len(pictures(first)) == 1
    assert [title_of(one) for one in (two, every)] == ["L02 · top 2", "L02 · top 3"], "as many as there are"
    maps = np.abs(store.group("explain/top")["projection"].sel(layer="L02").values[3, 0])
    expected = (maps[:2] / maps[:2].max((1, 2), keepdims=True)).sum(0)
    shown = pictures(two)[1]
    np.testing.assert_allclose(shown[np.isfinite(shown)], expected[np.isfinite(shown)], rtol=1e-6)
    assert (expected[np.isnan(shown)] < 0.08 * expected.max()).all()


def test_samples_are_found_where_blocks_are_not_explained_yet(explained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(explained, tmp_path / "tiny.zarr"))
    (copy / "explain/slope/committed/c.0").unlink()
    store, whole = actstore.open(copy), actstore.open(explained)
    blocks = store.samples["block"].to_numpy()
    later = int(np.flatnonzero(blocks == 2)[0])
    one, other = (list(views.explanation(store, "slope", later)) for store in (store, whole))
    for mine, theirs in zip(one, other, strict=True):
        assert title_of(mine) == title_of(theirs)
        for seen, expected in zip(pictures(mine), pictures(theirs), strict=True):
            np.testing.assert_array_equal(seen, expected)
    first = int(np.flatnonzero(blocks == 0)[0])
    with pytest.raises(StoreError, match=f"sample {first} has no part in explain/slope yet: `actstore explain SPEC`"):
        views.explanation(store, "slope", first)


def test_checks_are_drawn_and_said(explained: Path) -> None:
    store = actstore.open(explained)
    section = section_of(Study(store, actstore.Findings(store, resamples=50)))
    keys = {figure.key for figure in section.figures}
    assert {"explanation-slope-0", "projections-top", "focus-top", "deletion", "randomisation"} <= keys
    assert [table.key for table in section.tables] == ["landmarks"]
    said = " ".join(section.words)
    assert "hidden: each window of the input is filled in turn" in said
    assert "in a window stands the mean of the image, which decides the map" in said
    left = store.group("explain/slope")["deletion"].sel(class_name="LV", deleted=0.05).isel(condition=0)
    means = [f"{float(left.sel(order=order).mean()):.2f}" for order in ("map", "distance", "random")]
    assert f"a probability of {means[0]} is left; nearest to the class first {means[1]}, at random {means[2]}." in said
    assert not section.findings, "two patients give no interval"
    counted = pd.DataFrame({"order": ["map", "map", "map", "random"], "excess_high": [-0.1, 0.2, np.nan, 0.5]})
    assert beaten(counted)[0].startswith("Of 2 maps of classes 1 finds what the prediction rests on better than")
    drawn = {figure.key: figure for figure in section.figures}
    assert len(list(drawn["deletion"].draw())) == 6, "as many as are shown"
    assert [title_of(one) for one in drawn["randomisation"].draw()] == ["hidden", "slope", "top"]
    assert drawn["explanation-slope-0"].data["class_name"].tolist() == ["LV", "RV"]


def test_samples_are_chosen_where_the_condition_applies(explained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = actstore.open(explained)
    whole = EXPLANATIONS.open(store, "hidden")
    changed = replace(whole, group=whole.group.isel(condition=[1]).load())
    monkeypatch.setattr(Kind, "open", lambda *_: changed)
    monkeypatch.setattr(Kind, "all", lambda *_: [changed])
    applies = store.applicable.sel(condition=CONDITION).values
    assert not applies.all()
    section = section_of(Study(store, actstore.Findings(store, resamples=50)))
    drawn = [figure for figure in section.figures if figure.key.startswith("explanation-hidden")]
    assert drawn
    for figure in drawn:
        assert applies[figure.data["sample"]].all()
        assert len(list(figure.draw())) == 4
    assert len(list(views.explanation(store, "hidden"))) == 4


DRAWN = {
    "explanation": lambda store: views.explanation(store, "hidden", condition=CONDITION),
    "projections": lambda store: views.projections(store, "top"),
    "focus": lambda store: views.focus(store, "top", most=[2]),
    "deletion": lambda store: views.deletion(actstore.Findings(store, of="slope", resamples=50).table("deletion")),
    "randomisation": lambda store: views.randomisation(actstore.Findings(store, resamples=50).table("randomisation")),
}


@pytest.mark.parametrize("name", DRAWN)
def test_both_backends_draw_them(explained: Path, name: str) -> None:
    """Matplotlib in the report."""
    assert name in REPORTED
    assert hv.render(DRAWN[name](actstore.open(explained)), backend="bokeh").references()


def test_what_is_not_there_is_named(explained: Path, tiny_store: Path) -> None:
    store = actstore.open(explained)
    bare = int(np.flatnonzero(~store.applicable.sel(condition=CONDITION).values)[0])
    for call, message in (
        (lambda: views.explanation(store, "other"), "no explanation 'other': there are guided, hidden, slope, top"),
        (lambda: views.explanation(actstore.open(tiny_store), "a"), "`actstore explain SPEC` makes them"),
        (lambda: views.explanation(store, "top"), "explain/top has no map: it is shown by views.projections"),
        (lambda: views.projections(store, "slope"), "has no projection: it is shown by views.explanation"),
        (lambda: views.projections(store, "top", "L07"), "explain/top has no layer 'L07': there are L02, up"),
        (lambda: views.explanation(store, "slope", condition=CONDITION), "was not explained: there are original"),
        (lambda: views.explanation(store, "hidden", bare, CONDITION), f"does not apply to sample {bare}"),
        (lambda: views.explanation(store, "slope", 999), "sample 999 is outside"),
        (lambda: views.explanation(store, "slope", scale="log"), "scale = 'log': choose shared or own"),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=message):
            call()
