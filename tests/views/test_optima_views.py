"""Figures of optima and the report's section on them, against planted arrays."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import Findings, views
from actstore.errors import StoreError
from actstore.store.opening import MissingBlocksWarning
from actstore.store.store import Store
from actstore.views.figures import saving
from actstore.views.figures.optima import MOST_SIDE, _columns, _reduced
from actstore.views.report.sections.optima import numbers
from actstore.views.report.sections.order import SECTIONS, has_section
from actstore.views.report.sentences import optima as on
from actstore.views.report.study import Section, Study
from drawn import pictures, title_of
from patched import patched_store
from planted_optima import PlantedOptima, plant
from reports import undrawn_report
from texts import plain

#: Of layer L02: channels 1 (live), 0 (dead), 2 (constant), 3 (bounded).
L02, LIVE, DEAD, CONSTANT, BOUNDED = "L02", 1, 0, 2, 3


@pytest.fixture(scope="module")
def slices(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> PlantedOptima:
    """Of a 2D network with one input channel."""
    return plant(Path(shutil.copytree(tiny_store, tmp_path_factory.mktemp("slices") / "tiny.zarr")))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> PlantedOptima:
    """Of a 3D network with two input channels, whose samples are patches."""
    folder = tmp_path_factory.mktemp("volumes")
    patched_store(folder, (8, 16, 16))
    return plant(folder / "patched.zarr")


@pytest.fixture
def copy(slices: PlantedOptima, tmp_path: Path) -> Path:
    return Path(shutil.copytree(slices.storage.location, tmp_path / "tiny.zarr"))


def opened(planted: PlantedOptima) -> Store:
    return actstore.open(planted.storage.location)


def titles(figure: Any) -> list[str]:
    return [title_of(panel) for panel in figure]


def words(panel: Any) -> list[str]:
    return [str(text) for found in panel.traverse(lambda e: e, [hv.Labels]) for text in found.dframe()["text"]]


def expect_drawn(figure: Any, folder: Path) -> None:
    saving.save_images(figure, folder / "figure.png", folder / "figure.svg", dpi=50)
    assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert hv.render(figure, backend="bokeh").references()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "channel", "most"),
    [("slices", LIVE, 2), ("slices", DEAD, 1), ("slices", BOUNDED, 0), ("volumes", LIVE, 1), ("volumes", CONSTANT, 0)],
)
def test_one_channel_is_drawn_by_both_backends(
    of: str, channel: int, most: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The report of a study has one with all ranks."""
    expect_drawn(views.optimum(opened(request.getfixturevalue(of)), L02, channel, most=most), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["slices", "volumes"])
def test_a_layer_is_drawn_by_both_backends(of: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    figure = views.optima(opened(request.getfixturevalue(of)), L02)
    expect_drawn(figure, tmp_path)
    for composed in (figure + hv.Curve([1, 2, 1]), figure * hv.HLine(0.5)):
        assert isinstance(composed, hv.Layout)


def test_the_optimum_is_that_of_the_best_seed(slices: PlantedOptima) -> None:
    first, curve, beside, *_ = views.optimum(opened(slices), L02, LIVE)
    assert title_of(first) == "L02 channel 1 · seed 1"
    planted = slices.planted(1)
    [shown] = pictures(first)
    np.testing.assert_array_equal(shown, planted["image"][LIVE, 1, 0].astype(np.float32))
    *others, best = curve.traverse(lambda e: e, [hv.Curve])
    np.testing.assert_allclose(best.dimension_values("y"), planted["curve"][LIVE, 1], rtol=1e-6)
    np.testing.assert_allclose(others[0].dimension_values("y"), planted["curve"][LIVE, 0], rtol=1e-6)
    [ends] = curve.traverse(lambda e: e, [hv.Points])
    assert ends.dframe()["objective"].tolist() == [planted["start"][LIVE, 1], planted["final"][LIVE, 1]]
    [most] = beside.traverse(lambda e: e, [hv.HLine])
    assert most.data == pytest.approx(planted["data_max"][LIVE])
    [band] = beside.traverse(lambda e: e, [hv.Area])
    mean, std = planted["data_mean"][LIVE], planted["data_std"][LIVE]
    assert band.dframe()[["y", "y2"]].iloc[0].tolist() == pytest.approx([mean - std, mean + std])
    top, rest, best = beside.traverse(lambda e: e, [hv.Points])
    np.testing.assert_allclose(top.dframe()["objective"], planted["top_value"][LIVE], rtol=1e-6)
    assert best.dframe()["objective"].tolist() == [planted["final"][LIVE, 1]]
    assert rest.dframe()["objective"].tolist() == [planted["final"][LIVE, 0]]


def test_samples_are_cut_to_where_the_channel_responds(slices: PlantedOptima) -> None:
    store = opened(slices)
    *_, first, second = views.optimum(store, L02, LIVE, most=2)
    planted = slices.planted(1)
    for rank, crop in enumerate((first, second)):
        sample = planted["top_sample"][LIVE, rank]
        row = store.samples.iloc[sample]
        value = planted["top_value"][LIVE, rank]
        assert title_of(crop) == f"{row['patient']} · f{row['frame']} · s{row['slice']} · {value:.2f}"
        [shown] = crop.traverse(lambda e: e, [hv.Image])
        xs, ys = (shown.dimension_values(name, expanded=False).astype(int) for name in ("x", "y"))
        start, stop = planted["top_start"][LIVE, rank], planted["top_stop"][LIVE, rank]
        assert ys.min() <= start[0]
        assert ys.max() >= stop[0] - 1
        assert xs.min() <= start[1]
        assert xs.max() >= stop[1] - 1
        assert len(ys) < store.layout.space[0]
        whole = store.picture("image", int(sample), 0)
        [pixels] = pictures(crop)
        np.testing.assert_array_equal(pixels, whole[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1])
        [outline] = crop.traverse(lambda e: e, [hv.Path])
        assert outline.range("y") == (start[0] - 0.5, stop[0] - 0.5)
        assert outline.range("x") == (start[1] - 0.5, stop[1] - 0.5)
        [dot] = crop.traverse(lambda e: e, [hv.Points])
        grid, place = store.grids[L02], planted["top_position"][LIVE, rank]
        where = [a + b * c for a, b, c in zip(grid.start, grid.step, place, strict=True)]
        assert dot.dframe()[["y", "x"]].iloc[0].tolist() == pytest.approx(where)


@pytest.mark.parametrize(("channel", "word"), [(DEAD, "dead"), (CONSTANT, "constant")])
def test_what_is_not_live_is_never_an_image(slices: PlantedOptima, channel: int, word: str) -> None:
    store = opened(slices)
    first = next(iter(views.optimum(store, L02, channel)))
    assert not pictures(first)
    assert words(first) == [word]
    assert title_of(first) == f"L02 channel {channel}"


def test_a_sheet_shows_the_best_image_of_each_channel(slices: PlantedOptima) -> None:
    store, planted = opened(slices), slices.planted(1)
    [sheet] = views.optima(store, L02)
    assert title_of(sheet) == "L02 · grey from 0.10 to 0.90"
    assert sorted(words(sheet)) == ["0", "1", "2", "3 bounded", "constant", "dead"]
    [levels] = pictures(sheet)
    assert levels.dtype == np.uint8
    tiles = sheet.traverse(lambda e: e, [hv.Rectangles])[-1].dframe()
    live = planted["image"][[LIVE, BOUNDED], 1, 0].astype(np.float32)
    low, high = live.min(), live.max()
    for row in tiles.itertuples():
        tile = levels[int(row.y0) : int(row.y1), int(row.x0) : int(row.x1)]
        assert tile.shape == store.layout.space
        if row.channel in (DEAD, CONSTANT):
            assert (tile == 255).all()
            continue
        expected = 255 * (planted["image"][row.channel, 1, 0] - low) / (high - low)
        np.testing.assert_allclose(tile, expected, atol=0.51)
        assert (row.seed, row.final) == (1, planted["final"][row.channel, 1])
    [own] = views.optima(store, L02, scale="own")
    assert title_of(own) == "L02 · each from its least to its largest value"
    tile = pictures(own)[0][: -1 or None, -store.layout.space[1] :]
    assert tile[-store.layout.space[0] :].min() == 0


def test_volumes_are_shown_by_a_plane_and_each_input_channel_has_a_row(volumes: PlantedOptima) -> None:
    store, planted = opened(volumes), volumes.planted(1)
    figure = views.optimum(store, L02, LIVE)
    found = titles(figure)
    assert found[0] == "L02 channel 1 · T1 · seed 1 · z 4"
    assert found[4] == "L02 channel 1 · T2 · seed 1 · z 4"
    assert found[8:] == ["Mean of the map, by step", "The same, beside the data"]
    panels = list(figure)
    for k, at in enumerate((0, 4)):
        np.testing.assert_array_equal(pictures(panels[at])[0], planted["image"][LIVE, 1, k, 4].astype(np.float32))
    place = planted["top_position"][LIVE, 0]
    grid = store.grids[L02]
    z = round(grid.start[0] + grid.step[0] * int(place[0]))
    assert f" · z {z} · " in found[1]
    sample = int(planted["top_sample"][LIVE, 0])
    whole = store.picture("image", sample, 0, input_channel=1)[z]
    [shown] = panels[5].traverse(lambda e: e, [hv.Image])
    xs, ys = (shown.dimension_values(name, expanded=False).astype(int) for name in ("x", "y"))
    np.testing.assert_array_equal(
        pictures(panels[5])[0], whole[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.float32)
    )
    one = views.optimum(store, L02, LIVE, input_channel="T2", z=1)
    assert titles(one)[0] == "L02 channel 1 · T2 · seed 1 · z 1"
    assert len(one) == 3 + 9
    np.testing.assert_array_equal(pictures(next(iter(one)))[0], planted["image"][LIVE, 1, 1, 1].astype(np.float32))
    assert titles(views.optima(store, L02, z=0)) == [
        "L02 · T1 · z 0 · grey from 0.10 to 0.90",
        "L02 · T2 · z 0 · grey from 0.10 to 0.90",
    ]
    assert len(views.optima(store, L02, input_channel=1)) == 1


@pytest.mark.slow
def test_of_a_module_that_is_not_recorded_only_the_box_is_known(copy: Path) -> None:
    plant(copy, "features/other", modules=(("down.0.conv", 5),), size=(80, 80))
    store = actstore.open(copy)
    figure = views.optimum(store, "down.0.conv", 0, of="other")
    assert titles(figure)[0] == "channel 0 · seed 1"
    crop = list(figure)[3]
    assert crop.traverse(lambda e: e, [hv.Path])
    assert not crop.traverse(lambda e: e, [hv.Points])
    assert titles(views.optima(store, "down.0.conv", of="other")) == ["down.0.conv · grey from 0.10 to 0.90"]


@pytest.mark.slow
def test_pixels_of_an_oblong_image_are_square(copy: Path) -> None:
    plant(copy, "features/oblong", size=(20, 32), seeds=1)
    store = actstore.open(copy)
    options = hv.Store.lookup_options("bokeh", next(iter(views.optimum(store, L02, LIVE, of="oblong"))), "plot").kwargs
    assert (options["xlim"], options["ylim"]) == ((-0.5, 31.5), (-6.5, 25.5))
    assert titles(views.optimum(store, L02, BOUNDED, of="oblong"))[2] == "Data of another size"
    assert titles(views.optimum(store, L02, LIVE, of="oblong"))[2] == "The same, beside the data"
    [sheet] = views.optima(store, L02, of="oblong")
    options = hv.Store.lookup_options("bokeh", sheet, "plot").kwargs
    across, down = options["xlim"][1], options["ylim"][1]
    assert options["frame_width"] / options["frame_height"] == pytest.approx(across / down, rel=0.02)


def test_without_samples_there_are_none(copy: Path) -> None:
    plant(copy, "features/alone", samples=False, seeds=1)
    figure = views.optimum(actstore.open(copy), L02, LIVE, of="alone")
    assert titles(figure) == ["L02 channel 1", "Mean of the map, by step", "Data not looked at"]


def test_large_images_are_averaged_and_sheets_are_wider_than_high() -> None:
    image = np.random.default_rng(0).random((3 * MOST_SIDE - 10, 200), np.float32)
    reduced = _reduced(image)
    assert reduced.shape == (92, 66)
    assert reduced[5, 7] == pytest.approx(image[15:18, 21:24].mean())
    assert _reduced(image[:MOST_SIDE, :MOST_SIDE]).shape == (MOST_SIDE, MOST_SIDE)
    assert [_columns(n, 1.0) for n in (1, 4, 8, 16, 64, 256, 1000)] == [1, 4, 8, 8, 11, 16, 16]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda s: views.optimum(s, "L09", 0), KeyError, "no optima of layer 'L09': there are L01, L02"),
        (lambda s: views.optima(s, "L09"), KeyError, "no optima of layer 'L09': there are L01, L02"),
        (lambda s: views.optimum(s, L02, 7), StoreError, "no optimum of channel 7 of L02: there are 0..3"),
        (lambda s: views.optimum(s, L02, 0, of="x"), StoreError, "no optima 'x': there are optima"),
        (lambda s: views.optimum(s, L02, 0, scale="log"), StoreError, "scale = 'log': choose shared or own"),
        (lambda s: views.optima(s, L02, scale="log"), StoreError, "scale = 'log': choose shared or own"),
        (lambda s: views.optimum(s, L02, 0, most=-1), StoreError, "most = -1: ask for no sample or more"),
        (lambda s: views.optimum(s, L02, 0, z=1), StoreError, "z = 1: the optima are images, not volumes"),
        (lambda s: views.optima(s, L02, z=1), StoreError, "z = 1: the optima are images, not volumes"),
        (lambda s: views.optima(s, L02, input_channel="T9"), StoreError, "no input channel 'T9': there are 0 "),
    ],
)
def test_what_is_not_there_is_named(slices: PlantedOptima, call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call(opened(slices))


def test_a_slice_beyond_the_volume_and_a_store_without_optima_are_named(
    volumes: PlantedOptima, tiny_store: Path
) -> None:
    with pytest.raises(StoreError, match=r"z = 8 is outside 0\.\.7, the slices of the optima"):
        views.optima(opened(volumes), L02, z=8)
    with pytest.raises(StoreError, match="the store holds no optima: `actstore visualise SPEC` computes them"):
        views.optimum(actstore.open(tiny_store), L02, 0)


# Report


def section_of(store: Store, **options: Any) -> Section:
    return SECTIONS["optima"](Study(store, Findings(store, resamples=50, **options)))


def test_the_section_says_what_the_table_holds(slices: PlantedOptima) -> None:
    store = opened(slices)
    section = section_of(store)
    table = Findings(store).table("optima")
    best = table.loc[table.groupby(["layer", "channel"], sort=False)["final"].idxmax()]
    counts = best["status"].value_counts()
    said = " ".join([*section.words, *section.findings])
    assert f"Of {len(best)} channels in 2 layers, {counts['live']} are live, {counts['dead']} dead" in said
    compared = best["above_data"].dropna()
    assert f"In {compared.sum()} of {len(compared)} channels" in said
    assert f"the highest of all {len(store.samples)} slices" in said
    assert "12 steps of Adam at rate 0.05 on the image's spectrum; 64 × 64 pixels, intensities from 0 to 1" in said
    assert "random rotation" in said
    by_layer = next(made for made in section.tables if made.key == "optima-layers").data.set_index("layer")
    for layer, own in best.groupby("layer"):
        assert by_layer.loc[layer, "channels"] == len(own)
        assert by_layer.loc[layer, "live"] == (own["status"] == "live").sum()
        assert by_layer.loc[layer, "above"] == own["above_data"].sum()
    whole = next(made for made in section.tables if made.key == "optima").data
    pd.testing.assert_frame_equal(whole, best.reset_index(drop=True))
    keys = [figure.key for figure in section.figures]
    assert keys[:2] == ["optima-L01", "optima-L02"]
    assert all(key.startswith("optimum-") for key in keys[2:])
    assert keys[2:]
    for figure in section.figures:
        assert figure.draw() is not None
        assert "n = 26 slices" in figure.caption


def test_channels_that_respond_are_shown_where_they_are_live(slices: PlantedOptima) -> None:
    section = section_of(opened(slices))
    shown = [figure for figure in section.figures if figure.key.startswith("optimum-")]
    assert all("which responds most often to brightness(" in figure.caption for figure in shown)
    assert not {f"optimum-L02-{channel}" for channel in (DEAD, CONSTANT)} & {figure.key for figure in shown}


def test_of_modules_that_are_not_recorded_the_strongest_are_shown(copy: Path) -> None:
    plant(copy, "features/other", modules=(("down.0.conv", 5),))
    section = section_of(actstore.open(copy), of="other")
    [one] = [figure for figure in section.figures if figure.key.startswith("optimum-")]
    assert one.key == "optimum-down.0.conv-4"
    assert "the highest final value of its layer" in one.caption
    assert any("the store also holds optima" in line for line in section.words)
    assert "Shown are the optima optima; the store also holds other" in " ".join(section_of(actstore.open(copy)).words)


@pytest.mark.slow
def test_numbers_of_directions_are_not_taken_for_channels(copy: Path) -> None:
    plant(copy, "features/turned", objective="direction")
    store = actstore.open(copy)
    assert titles(views.optimum(store, L02, LIVE, of="turned"))[:2] == [
        "L02 direction 1 · seed 1",
        "Mean along the direction, by step",
    ]
    assert titles(views.optima(store, L02, of="turned")) == ["L02 · directions · grey from 0.10 to 0.90"]
    with pytest.raises(StoreError, match=r"no optimum of direction 9 of L02: there are 0\.\.3"):
        views.optimum(store, L02, 9, of="turned")
    section = section_of(store, of="turned")
    said = [*section.words, *section.findings, *(figure.caption for figure in section.figures)]
    assert not any("responds most often" in line for line in said), "that is of channels"
    assert any("Of 6 directions in 2 layers" in line for line in said)
    assert any(line.startswith("Direction 3 of L02, the highest final value of its layer") for line in said)


def test_numbers_beside_a_figure_are_those_of_the_group(slices: PlantedOptima) -> None:
    from actstore.tables.optima import open_optima

    frame = numbers(open_optima(opened(slices)), L02, LIVE)
    planted = slices.planted(1)
    curve = frame[(frame["what"] == "curve") & (frame["seed"] == 1)]
    np.testing.assert_allclose(curve["value"], planted["curve"][LIVE, 1], rtol=1e-6)
    samples = frame[frame["what"] == "sample"]
    assert samples["sample"].tolist() == planted["top_sample"][LIVE].tolist()
    np.testing.assert_allclose(samples["value"], planted["top_value"][LIVE], rtol=1e-6)


def test_patches_are_called_patches(volumes: PlantedOptima) -> None:
    section = section_of(opened(volumes))
    said = " ".join([*section.words, *section.findings, *(figure.caption for figure in section.figures)])
    assert "8 × 16 × 16 voxels" in said
    assert "n = 38 patches" in said
    assert "the slice z = 4, at the centre" in said


def test_a_report_has_the_section_only_where_there_are_optima(slices: PlantedOptima, tiny_store: Path) -> None:
    assert has_section(opened(slices), "optima")
    assert not has_section(actstore.open(tiny_store), "optima")
    assert has_section(actstore.open(tiny_store), "dose")
    assert section_of(actstore.open(tiny_store)).missing == [
        "the store holds no optima: `actstore visualise SPEC` computes them"
    ]


@pytest.mark.slow
def test_the_page_of_a_store_with_optima_and_of_one_without(
    slices: PlantedOptima, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(store: Store) -> dict[str, Any]:
        return {key: SECTIONS[key] for key in ("activations", "optima", "dose") if has_section(store, key)}

    monkeypatch.setattr("actstore.views.report.write.sections_of", few)
    page = undrawn_report(opened(slices), tmp_path / "with.html").read_text(encoding="utf-8")
    assert '<section id="optima">' in page
    assert "What channels look for" in plain(page)
    data = pd.read_csv(tmp_path / "with_data" / "optima.csv")
    assert data.columns.tolist() == Findings(opened(slices)).table("optima").columns.tolist()
    other = undrawn_report(actstore.open(tiny_store), tmp_path / "without.html")
    without = other.read_text(encoding="utf-8")
    assert "optima" not in re.sub(r"(?s)<script.*?</script>", "", without)


def test_while_volumes_are_missing_samples_are_left_out(copy: Path) -> None:
    (copy / "committed" / "c.1").unlink()
    with pytest.warns(MissingBlocksWarning):
        store = actstore.open(copy)
    assert any("strongest samples are left out" in line for line in section_of(store).words)
    assert len(views.optimum(store, L02, LIVE)) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "24 steps of Adam at rate 0.1 on the image's spectrum; 8 × 8 pixels, intensities from −2 to 2; not regu"),
        ({"optimizer": "sgd", "ball": 3.0}, "24 steps of gradient ascent within an L2 ball of radius 3 at rate 0.1"),
        ({"range": "free", "parameterization": "pixel"}, "on the image's pixels; 8 × 8 pixels, free intensities; not"),
        ({"repeats": 3}, "3 random starts each, of which the best is shown"),
        (
            {"regularize": [{"kind": "rotate", "range": [-5, 5], "every": 50}, {"kind": "tv", "weight": 0.1}]},
            "regularised by random rotation (−5 to 5 degrees, every 50 steps), total variation (weight 0.1).",
        ),
    ],
)
def test_settings_are_said_in_words(changes: dict[str, Any], said: str) -> None:
    settings = {
        "objective": "mean",
        "parameterization": "fourier",
        "size": [8, 8],
        "range": [-2.0, 2.0],
        "steps": 24,
        "optimizer": "adam",
        "ball": None,
        "learning_rate": 0.1,
        "repeats": 1,
        "regularize": [],
    }
    assert said in on.made(settings | changes)


def test_nothing_compared_is_said() -> None:
    layers = pd.DataFrame({"layer": ["L01"], "channels": [1], "live": [0], "dead": [1], "constant": [0]})
    layers = layers.assign(bounded=0, compared=0, above=0)
    assert on.statuses(layers)[0].startswith("Of 1 channel in 1 layer, 1 is dead. Dead: ")
    assert on.above(layers, 3) == []
    assert "No optimum can be compared" in on.not_compared(layers)[0]
