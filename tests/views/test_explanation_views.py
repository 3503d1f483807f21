"""Figures of explanations: the stored maps over the stored input."""

from __future__ import annotations

from pathlib import Path

import holoviews as hv
import numpy as np
import pytest

import actstore
from actstore import views
from actstore.errors import StoreError
from actstore.views.figures import explanations, saving
from actstore.views.report import embedding
from drawn import pictures, title_of
from explanations import CONDITION


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
    limit = float(np.nanmax(np.abs(maps)))
    below, shown = pictures(lv)
    np.testing.assert_array_equal(below, pictures(first)[0])
    np.testing.assert_array_equal(shown, np.where(np.abs(maps[0]) < 0.08 * limit, np.nan, maps[0]))
    for one in (lv, rv):
        clim = hv.Store.lookup_options("bokeh", one.traverse(lambda e: e, [hv.Image])[1], "plot").kwargs["clim"]
        assert clim == pytest.approx((-limit, limit)), "one scale"


def test_a_class_that_is_not_predicted_says_so(explained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = actstore.open(explained)
    group = store.group("explain/slope").load()
    group["pixels"][2, 1], group["score"][2, 0, 1], group["map"][2, 0, 1] = 0, np.nan, np.nan
    monkeypatch.setattr(explanations, "_group", lambda *_: group)
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


@pytest.mark.parametrize("name", ["hidden", "top"])
def test_both_backends_draw_them(explained: Path, tmp_path: Path, name: str) -> None:
    store = actstore.open(explained)
    figure = views.explanation(store, name, condition=CONDITION) if name == "hidden" else views.projections(store, name)
    saving.save_images(figure, tmp_path / "figure.png", tmp_path / "figure.svg", dpi=50)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert '"target_id":"here"' in embedding.page_item(figure, "here")


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
