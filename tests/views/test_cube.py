"""Cubes of maps: what a frame shows and reads, how cubes are narrowed and composed, and pages that are kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pytest
from bokeh.models import ColorMapper
from test_views import sample_with

import actstore
import actstore.store.single
from actstore import views
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.store.store import Store
from browser import PATIENCE
from conftest import WriteSpec

DARK_LV, DARK_RV = "brightness(LV, 0.1)", "brightness(RV, 0.1)"


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return actstore.open(tiny_store)


@pytest.fixture(scope="module")
def volumes(volume_store: Path) -> Store:
    return actstore.open(volume_store)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """(array, index) of every inner chunk that is read from here on."""
    found: list[tuple[str, tuple[int, ...]]] = []
    read = actstore.store.single.read_map

    def counted(storage: Any, layout: Any, piece: Any, index: tuple[int, ...]) -> Any:
        found.append((layout.path, index))
        return read(storage, layout, piece, index)

    monkeypatch.setattr(actstore.store.single, "read_map", counted)
    return found


def values(frame: hv.Overlay) -> Any:
    """Of the image of a frame, as the store has them: row 0 first."""
    return frame.get(0).dimension_values("value", flat=False)


def clim(frame: hv.Overlay) -> tuple[float, float]:
    found: tuple[float, float] = hv.Store.lookup_options("bokeh", frame.get(0), "plot").kwargs["clim"]
    return found


def test_a_frame_shows_what_the_store_holds_in_pixels_of_the_input(store: Store) -> None:
    layer, sample = store.layers.index[-1], sample_with(store, DARK_LV)
    frame = views.cube(store, layer)[sample, DARK_LV, 3]
    expected = store[layer].isel(sample=sample, channel=3).sel(condition=["original", DARK_LV]).values
    np.testing.assert_array_equal(values(frame), expected[1])
    assert clim(frame) == (expected[1].min(), expected[1].max())
    image, grid = frame.get(0), store.grids[layer]
    for axis, name in enumerate("yx"):
        where = image.dimension_values(name, expanded=False)
        np.testing.assert_allclose(where, grid.start[axis] + np.arange(32) * 2.0)
    inside = np.argwhere(store.label[sample].values == store.classes["LV"]).mean(axis=0)
    outline = frame.get(1)
    drawn = [outline.dimension_values(name) for name in "yx"]
    centre = [(np.nanmin(line) + np.nanmax(line)) / 2 for line in drawn]
    np.testing.assert_allclose(centre, inside, atol=2.5)
    change = views.cube(store, layer, show="change")[sample, DARK_LV, 3]
    np.testing.assert_allclose(values(change), expected[1] - expected[0], atol=1e-6)
    assert clim(change)[0] == -clim(change)[1] == -np.abs(values(change)).max()


def test_only_the_chunks_of_a_frame_are_read(store: Store, reads: list[Any]) -> None:
    layer, sample = store.layers.index[-1], sample_with(store, DARK_LV)
    cube, change = views.cube(store, layer), views.cube(store, layer, show="change")
    narrow = cube[sample, :, :].select(channel=(1, 3)) + cube.layout("channel")
    assert isinstance(narrow, hv.Layout)
    assert reads == [], "nothing is read before it is looked at"
    cube[sample, DARK_LV, 3]
    c = list(store.conditions.index).index(DARK_LV)
    path, label = f"layers/{layer}/activation", "inputs/label"
    assert reads == [(path, (c, 3)), (label, ())]
    reads.clear()
    change[sample, DARK_LV, 2]
    assert reads == [(path, (c, 2)), (path, (0, 2)), (label, ())]


def test_where_a_condition_does_not_apply_the_frame_is_empty(store: Store, tmp_path: Path) -> None:
    sample = sample_with(store, DARK_LV, applies=False)
    for show in ("activation", "change"):
        frame = views.cube(store, "L01", show=show)[sample, DARK_LV, 0]
        assert np.isnan(values(frame)).all()
        [words] = [one.data[2] for one in frame.values() if isinstance(one, hv.Text)]
        assert words == f"{DARK_LV}\ndoes not apply here:\nit has no LV"
        assert [type(element) for element in frame] == [hv.Image, hv.Contours, hv.Text]
        views.save(frame, tmp_path / "empty.png")


def test_colours_follow_the_frame_that_is_shown(store: Store) -> None:
    sample = sample_with(store, DARK_LV)
    cube = views.cube(store, "L02", samples=[sample], show="change")
    plot = hv.Store.renderers["bokeh"].get_plot(cube)
    for channel in (2, 0, 1):
        plot.update((sample, DARK_LV, channel))
        (mapper,) = plot.state.select({"type": ColorMapper})
        assert (mapper.low, mapper.high) == clim(cube[sample, DARK_LV, channel])
    plot.cleanup()
    fixed = views.cube(store, "L02", limits=(-2.0, 3.0))
    assert clim(fixed[sample, DARK_LV, 0]) == clim(fixed[sample, "original", 1]) == (-2.0, 3.0)


def test_a_holomap_has_one_scale_and_the_frames_of_the_dynamic_one(store: Store) -> None:
    row = store.samples.iloc[sample_with(store, DARK_LV)]
    named = (row["patient"], row["frame"], row["slice"])
    chosen = {"samples": [int(row.name), named], "conditions": ["original", DARK_LV], "channels": [2, 0]}
    held, live = views.cube(store, "L02", dynamic=False, **chosen), views.cube(store, "L02", **chosen)
    assert isinstance(held, hv.HoloMap)
    assert not isinstance(held, hv.DynamicMap)
    assert isinstance(live, hv.DynamicMap)
    assert len(held) == 4
    for key, frame in held.data.items():
        np.testing.assert_array_equal(values(frame), values(live[key]))
    every = np.concatenate([values(frame).ravel() for frame in held])
    assert {clim(frame) for frame in held} == {(every.min(), every.max())}
    dark = held.select(condition=DARK_LV)
    assert dark.dimension_values("condition").tolist() == [DARK_LV] * 2
    assert dark.reindex(["channel"]).layout().keys() == [0, 2]


def test_a_cube_is_narrowed_by_values_and_ranges(store: Store) -> None:
    cube = views.cube(store, "L02")
    sample = sample_with(store, DARK_LV)
    cube[0, "original", 0]
    one = cube[sample, DARK_LV, :]
    assert [dim.values for dim in one.kdims] == [[sample], [DARK_LV], [0, 1, 2, 3]]
    assert [dim.values for dim in cube[sample, :, 1:3].kdims][1:] == [list(store.conditions.index), [1, 2]]
    selected = cube.select(sample=[1, sample], channel=(0, 2))
    assert [dim.values for dim in selected.kdims][::2] == [sorted({1, sample}), [0, 1]]
    assert list(one.layout("channel").keys()) == [0, 1, 2, 3]
    assert (
        cube.kdims[0].pprint_value(0)
        == f"0 ({', '.join(map(str, store.samples.loc[0, ['patient', 'frame', 'slice']]))})"
    )
    assert cube.select(sample=sample, x=(0, 20))[sample, DARK_LV, 0].get(0).dimension_values("x").max() <= 20
    with pytest.raises(KeyError, match="no channel 9: there are 0 … 3"):
        cube[:, DARK_LV, 9]


def test_row_0_stays_on_top_when_it_is_drawn_over(store: Store) -> None:
    over = views.cube(store, "L02")[sample_with(store, DARK_LV), DARK_LV, 0] * hv.HLine(3)
    plot = hv.Store.renderers["bokeh"].get_plot(over)
    assert (plot.state.y_range.start, plot.state.y_range.end) == (63.5, -0.5)
    paper = hv.Store.renderers["matplotlib"].get_plot(over)
    assert paper.handles["axis"].get_ylim() == (63.5, -0.5)
    import matplotlib.pyplot as plt

    plt.close(paper.state)


def test_of_volumes_the_slice_is_a_dimension(volumes: Store) -> None:
    layer, sample = volumes.layers.index[-1], 0
    cube = views.cube(volumes, layer)
    assert [dim.name for dim in cube.kdims] == ["sample", "condition", "channel", "z"]
    assert cube.kdims[-1].values == list(range(8))
    expected = volumes.map(layer, sample, DARK_LV, 1)
    assert expected.shape[0] == 4
    start = volumes.grids[layer].start[0]
    for z in range(8):
        at = int(np.clip(np.floor((z - start) / 2 + 0.5), 0, 3))
        np.testing.assert_array_equal(values(cube[sample, DARK_LV, 1, z]), expected[at])
    held = views.cube(volumes, layer, samples=[0], conditions=[DARK_LV], channels=[0], z=[2, 5], dynamic=False)
    assert held.dimension_values("z").tolist() == [2, 5]
    for z, text in ((8, "no slice of the input 8: there are 0..7"), (-1, "no slice of the input -1")):
        with pytest.raises(StoreError, match=text):
            views.cube(volumes, layer, z=[z])


def test_volumes_are_shown_by_the_slice_with_most_of_the_class(volumes: Store) -> None:
    sample = sample_with(volumes, DARK_LV)
    label = volumes.label[sample].values
    z = int((label == volumes.classes["LV"]).sum(axis=(1, 2)).argmax())
    assert (label[z] > 0).any()
    for asked, shown in ((None, z), (1, 1)):
        original = next(iter(views.inputs(volumes, sample, DARK_LV, z=asked))).get(0)
        image = volumes.image[sample, 0, 0, shown].values
        rows, columns = (original.dimension_values(name, expanded=False).astype(int) for name in "yx")
        np.testing.assert_array_equal(original.dimension_values("value", flat=False), image[np.ix_(rows, columns)])
        layer = volumes.layers.index[-1]
        _, perturbed, _ = views.activation(volumes, layer, 0, sample, DARK_LV, z=asked)
        at = volumes.grids[layer].pixel_at(shown, 0, 4)
        np.testing.assert_array_equal(values(perturbed), volumes.map(layer, sample, DARK_LV, 0)[at])


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda s: views.cube(s, "L02", samples=[10**6]), "sample 1000000 is outside 0.."),
        (lambda s: views.cube(s, "L02", samples=[]), "a cube without a sample shows nothing: name one"),
        (lambda s: views.cube(s, "L02", conditions=["blur"]), "no perturbation 'blur': there are brightness(LV, 0.1)"),
        (lambda s: views.cube(s, "L02", channels=[4]), "no channel of L02 4: there are 0..3"),
        (lambda s: views.cube(s, "L02", z=[0]), "z = [0]: the inputs are slices, not volumes; leave it out"),
        (lambda s: views.cube(s, "L02", show="difference"), "show = 'difference': choose activation or change"),
        (
            lambda s: views.cube(s, "L02", show="change", conditions=["original"]),
            "the original does not change: leave it out of conditions, or show='activation'",
        ),
    ],
)
def test_what_no_cube_is_of_is_named(store: Store, draw: Callable[[Store], Any], text: str) -> None:
    with pytest.raises(StoreError) as caught:
        draw(store)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_frames_are_not_drawn_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, reads: list[Any], tmp_path: Path
) -> None:
    n = len(store.samples)
    monkeypatch.setattr(sys.modules["actstore.views.figures.saving"], "MOST_FRAMES", 12 * n - 1)
    with pytest.raises(StoreError, match=rf"{n} sample x 3 condition x 4 channel\) are too many for a page"):
        views.save(views.cube(store, "L02") + hv.Curve([1, 2]), tmp_path / "many.html")
    monkeypatch.setattr(sys.modules["actstore.views.figures.cube"], "MOST_FRAMES", 12 * n - 1)
    with pytest.raises(StoreError) as caught:
        views.cube(store, "L02", dynamic=False)
    assert f"{12 * n:,} frames ({n} sample x 3 condition x 4 channel) are too many to draw at once" in str(caught.value)
    assert reads == []


def test_a_layer_must_be_there_and_kept(store: Store, write_spec: WriteSpec, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no layer 'L99': there are L01 … L02"):
        views.cube(store, "L99")
    spec = write_spec(tmp_path, data__patients=["patient001"], store__keep="statistics")
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    with pytest.raises(StoreError, match=r"the tensors of L02 \(bottom.1\) are not in"):
        views.cube(actstore.open(summary.store), "L02")


@pytest.mark.parametrize("name", ["figure", "figure.pdf"])
def test_a_figure_is_saved_as_what_its_name_ends_in(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=r"figures are saved as \.html, \.png or \.svg; choose one of these"):
        views.save(hv.Curve([1, 2]), tmp_path / name)
    with pytest.raises(StoreError, match="cannot be written: No such file or directory"):
        views.save(hv.Curve([1, 2]), tmp_path / "nowhere" / "figure.png")


def test_a_kept_page_asks_for_nothing_and_its_sliders_work(
    store: Store,
    tmp_path: Path,
    chromium: Any,
) -> None:
    """In a browser, which knows best what a page asks for."""
    sample = sample_with(store, DARK_LV)
    path = views.save(
        views.cube(store, "L02")[sample, DARK_LV, :] + views.inputs(store, sample), tmp_path / "cube.html"
    )
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    page.locator(".noUi-handle").wait_for(timeout=PATIENCE)
    mapper = """Array.from(Bokeh.documents[0]._all_models.values())
        .filter(model => model.type === 'LinearColorMapper').map(model => model.high)"""
    before = page.evaluate(mapper)
    page.locator(".noUi-handle").press("ArrowRight")
    page.wait_for_function(f"before => String({mapper}) !== before", arg=",".join(map(str, before)), timeout=PATIENCE)
    high = clim(views.cube(store, "L02")[sample, DARK_LV, 1])[1]
    assert any(value == pytest.approx(high) for value in page.evaluate(mapper))
    page.close()
    assert [url for url in asked if not re.match("data:|blob:", url)] == [path.as_uri()]
    assert complaints == []
