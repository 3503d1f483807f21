"""The channel card, the provenance and the downloads of the explorer, without a browser, against the store."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import panel as pn
import pytest
from bokeh.core.property.vectorization import Field

import actstore
from actstore import analysis
from actstore.errors import StoreError
from actstore.store.store import Store
from actstore.tables.build import build_table
from actstore.tables.findings import Findings
from actstore.views.arrays import Bools
from actstore.views.explorer import downloads, thumbnails
from actstore.views.explorer.channel import ChannelTab
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import LIGHT, THEMES, PageTheme
from actstore.views.explorer.part import Work
from actstore.views.explorer.patient_plot import PatientPlot
from actstore.views.explorer.provenance import ProvenanceTab
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DiceBox, MadRange, State
from actstore.views.explorer.thumbnails import LEVELS, Thumbnail, ThumbnailGrid
from actstore.views.figures.spread import PatientColumns, patient_ticks
from actstore.views.figures.sweeps import sweep_of
from actstore.views.figures.theme import class_colours

pytestmark = pytest.mark.slow

DARK_LV = "brightness(LV, 0.1)"


class FakeSession:
    """As the page's own, but nothing is drawn until asked, and work is done when ``finish`` says so."""

    def __init__(self, source: Source, theme: PageTheme = LIGHT, **changes: Any) -> None:
        self.source = source
        self.theme = theme
        self.state: State = source.first_state(DARK_LV).copy(**changes)
        self.gone: list[dict[str, Any]] = []
        self.waiting: list[Callable[[], None]] = []

    @property
    def subset(self) -> Bools:
        return self.source.subset(self.state)

    def go(self, **changes: Any) -> None:
        self.gone.append(changes)

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> bool:
        self.waiting.append(lambda: done(work(lambda done, all: None)))
        return False

    def finish(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    """What a notebook's extension sets goes again."""
    current = hv.Store.current_backend
    yield
    hv.Store.set_current_backend(current)


@pytest.fixture(scope="module")
def study(study_store: Path) -> Store:
    return actstore.open(study_store)


@pytest.fixture(scope="module")
def source(study: Store) -> Source:
    return Source(study)


@pytest.fixture
def session(study: Store) -> FakeSession:
    return FakeSession(Source(study))


@pytest.fixture
def card(session: FakeSession) -> ChannelTab:
    return drawn(session)


def drawn(session: FakeSession) -> ChannelTab:
    """Everything read, and drawn."""
    found = ChannelTab(session)
    found.view.get_root()
    found.update()
    session.finish()
    return found


def own_mad(session: FakeSession) -> np.ndarray[Any, Any]:
    """MAD of the shown channel (sample) from the store's tensors."""
    state = session.state
    every = analysis.mad(session.source.store[state.layer]).sel(condition=state.condition)
    return np.asarray(every.isel(channel=state.channel).values, dtype=float)


def lower_half(session: FakeSession) -> DiceBox:
    """Of the perturbed LV."""
    source = session.source
    dice = source.dice[session.subset, source.condition(session.state.condition), source.foreground.index("LV")]
    return DiceBox("LV", 0.0, 1.0, 0.0, float(np.sort(dice)[len(dice) // 2]))


def number_in(text: str, before: str) -> float:
    """The number that follows ``before``."""
    found = re.search(rf"{re.escape(before)} (\S+?),?(?=\s|$)", text)
    assert found, text
    return float(found[1].replace("−", "-"))


def text_of(html: pn.pane.HTML) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", str(html.object))).strip()


def test_a_channel_card_waits_for_statistics_and_asks_once(session: FakeSession) -> None:
    card = ChannelTab(session)
    card.update()
    card.update()
    assert text_of(card.strongest.head) == "reading statistics …"
    assert not shows(card, "strongest")
    assert len(session.waiting) == 3, "statistics, what channels have in common, and effects of interventions"
    mad = own_mad(session)[session.source.sample(session.state)]
    told = number_in(text_of(card.facts), "MAD of this sample")
    assert told == pytest.approx(mad, rel=1e-3), "what one block says is told at once"
    session.finish()
    assert shows(card, "strongest")
    assert not session.waiting


def test_the_strongest_samples_are_those_of_highest_mad(session: FakeSession, card: ChannelTab) -> None:
    mad = own_mad(session)
    expected = np.sort(mad[np.isfinite(mad)])[::-1][: thumbnails.MOST]
    shown = [tile.number for tile in card.strongest.grid.thumbnails]
    assert len(set(shown)) == len(shown) == len(expected)
    # By value: samples that differ by rounding alone may change places.
    assert mad[shown].tolist() == pytest.approx(expected, rel=1e-5)
    assert [tile.value for tile in card.strongest.grid.thumbnails] == pytest.approx(mad[shown], rel=1e-5)
    store, state = session.source.store, session.state
    for tile in card.strongest.grid.thumbnails:
        maps = store[state.layer].isel(sample=tile.number, channel=state.channel)
        change = maps.sel(condition=DARK_LV) - maps.isel(condition=0)
        np.testing.assert_allclose(tile.pixels, change.values, rtol=1e-5, atol=1e-6)
        row = store.samples.iloc[tile.number]
        assert tile.title.startswith(f"{row['patient']}\nf{row['frame']} · s{row['slice']} · ")
    assert card.strongest.grid.most == max(float(np.abs(tile.pixels).max()) for tile in card.strongest.grid.thumbnails)


def test_the_strongest_samples_of_a_control_show_the_region_that_it_changed(session: FakeSession) -> None:
    source, control = session.source, f"{DARK_LV[:-1]}, control)"
    session.state.param.update(condition=control, layer="L01")
    tiles = drawn(session).strongest.grid.thumbnails
    assert tiles
    for tile in tiles:
        images = [source.store.picture("image", tile.number, c) for c in (0, control)]
        # Maps of L01 are as large as the image.
        np.testing.assert_array_equal(tile.cover > 0, images[0] != images[1])


def test_numbers_of_a_channel_are_those_of_the_tables(session: FakeSession, card: ChannelTab) -> None:
    state, source = session.state, session.source
    store = source.store
    row = build_table(store, "mad").query(
        "condition == @state.condition and layer == @state.layer and patient == @state.patient "
        "and frame == @state.frame and slice == @state.slice"
    )
    own = row[row["channel"] == state.channel].iloc[0]
    told = text_of(card.facts)
    rank = int((row["mad"] > own["mad"]).sum()) + 1
    assert number_in(told, "MAD of this sample") == pytest.approx(own["mad"], rel=1e-3)
    assert f", rank {rank} of {len(row)} in {state.layer}" in told
    assert number_in(told, "in standard deviations of the channel") == pytest.approx(own["standardised"], rel=1e-3)
    member = Findings(store).member.sel(condition=state.condition)
    of_layer = member[:, (member["layer"] == state.layer).values].isel(channel=state.channel).values
    assert f"in {int(of_layer.sum())} of {int(session.subset.sum())} slices" in told
    size = " × ".join(map(str, source.sizes[state.layer]))
    assert told.startswith(f"{state.layer} · {source.modules[state.layer]} · channel {state.channel} of ")
    assert f"· {size}" in told


def test_a_narrower_subset_is_what_the_card_is_about(session: FakeSession, card: ChannelTab) -> None:
    session.state.param.update(dice=lower_half(session))
    card.update()
    at = np.flatnonzero(session.subset)
    assert 0 < len(at) < np.isfinite(own_mad(session)).sum()
    assert list(card.patients.columns.samples) == list(at)
    assert {tile.number for tile in card.strongest.grid.thumbnails} <= set(at)
    assert f"of {len(at)} slices" in text_of(card.facts)


def test_a_channel_without_a_number_is_not_one_without_samples(session: FakeSession, card: ChannelTab) -> None:
    session.source.scores(session.source.condition(session.state.condition)).mad[:] = np.nan
    session.state.channel = 0 if session.state.channel else 1
    card.update()
    own = int(session.subset.sum())
    assert own
    assert text_of(card.strongest.head) == f"the MAD of this channel is NaN in all of {own} slices"


def test_no_sample_in_the_subset_is_said(session: FakeSession, card: ChannelTab) -> None:
    nothing = DiceBox("LV", 2.0, 3.0, 2.0, 3.0)
    session.state.param.update(dice=nothing)
    card.update()
    assert text_of(card.strongest.head) == "no sample of the subset has this perturbation"
    assert "in 0 of 0 slices" in text_of(card.facts)


def test_patients_medians_are_their_samples(session: FakeSession, card: ChannelTab) -> None:
    frame = session.source.samples.assign(mad=own_mad(session)).dropna(subset="mad")
    expected = frame.groupby("patient", sort=False)["mad"].quantile([0.25, 0.5, 0.75]).unstack()
    assert card.patients.columns.patients == list(expected.index)
    np.testing.assert_allclose(card.patients.columns.quartiles.T, expected.to_numpy(), rtol=1e-5)


def test_dose_response_is_the_median_over_the_subset(session: FakeSession, card: ChannelTab) -> None:
    store, state = session.source.store, session.state
    curve = card.doses.curve
    assert curve is not None
    assert curve.sweep.strengths == (0.1, 0.5, 1.5)
    every = analysis.mad(store[state.layer]).isel(channel=state.channel)
    expected = [
        np.nanquantile(every.sel(condition=f"brightness(LV, {s})").values[session.subset], [0.25, 0.5, 0.75])
        for s in (0.1, 0.5, 1.5)
    ]
    np.testing.assert_allclose(curve.quartiles.T, expected, rtol=1e-5)
    assert curve.samples == int(session.subset.sum())
    assert text_of(card.doses.head) == f"dose–response · n = {curve.samples} slices"


def test_the_curve_is_zero_where_the_transform_changes_nothing(card: ChannelTab) -> None:
    line, mark = data(card, "doses", 1), data(card, "doses", 3)
    assert list(line["x"]) == [0.1, 0.5, 1.0, 1.5]
    assert line["y"][2] == 0
    assert list(mark["x"]) == [0.1, 0.1]


def data(card: ChannelTab, name: str, number: int) -> Any:
    """What the browser has of a figure's glyph."""
    return getattr(card, name).figure.plot.renderers[number].data_source.data


def shows(card: ChannelTab, name: str) -> bool:
    """Whether a figure is there, not a note in its place."""
    return bool(getattr(card, name).view[1].visible)


def test_a_control_is_compared_with_controls(study: Store) -> None:
    sweep = sweep_of(study.conditions, "brightness(LV, 0.1, control)")
    assert sweep.names == tuple(f"brightness(LV, {s}, control)" for s in (0.1, 0.5, 1.5))
    with pytest.raises(StoreError, match=r"no dose–response: repeat has no strength"):
        sweep_of(study.conditions, "repeat")


def test_without_a_sweep_the_card_says_what_the_spec_needs(tiny_store: Path) -> None:
    session = FakeSession(Source(actstore.open(tiny_store)))
    card = ChannelTab(session)
    card.update()
    session.finish()
    said = "no dose–response: brightness of LV has 1 strength; list 3 or more as `strengths` below [[perturb]]"
    assert text_of(card.doses.head).startswith(said)
    assert shows(card, "strongest")
    assert not shows(card, "doses")


def test_without_persisted_statistics_the_card_says_so(tiny_copy: Path) -> None:
    layout = actstore.open(tiny_copy).layout
    for block in range(layout.blocks):
        (tiny_copy / layout.statistics.record.key(block)).unlink()
    store = actstore.open(tiny_copy)
    assert not store.reduced
    session = FakeSession(Source(store))
    card = ChannelTab(session)
    card.update()
    assert "has volumes without statistics: run `actstore reduce" in text_of(card.strongest.head)
    assert session.state.layer in text_of(card.facts)
    assert not session.waiting
    table = pd.read_csv(io.StringIO(downloads.csv(session.source, session.state, session.subset)))
    assert table["mad"].isna().all()


def test_without_tensors_the_rest_of_the_card_stays(study_store: Path) -> None:
    store = actstore.open(study_store)
    layers = tuple(dataclasses.replace(layer, kept=False) for layer in store.layout.layers)
    store.layout = dataclasses.replace(store.layout, layers=layers)
    session = FakeSession(Source(store))
    card = ChannelTab(session)
    card.update()
    session.finish()
    assert f"the tensors of {session.state.layer} (" in text_of(card.strongest.head)
    assert len(card.patients.columns.samples) == int(session.subset.sum())
    assert text_of(card.doses.head).endswith(f"n = {session.subset.sum()} slices")
    png = downloads.png(session.source, session.state)
    assert png.startswith(b"\x89PNG")
    assert "views.activation" not in downloads.code(session.source, session.state)


def test_a_tap_shows_the_sample_or_the_strength(session: FakeSession, card: ChannelTab) -> None:
    y, x = card.strongest.grid.corner(1)
    tap(card, "strongest", x + 2, y + 2)
    tap(card, "strongest", -50, -50)
    strips = card.patients.columns
    tap(card, "patients", strips.x[3], strips.mad[3])
    tap(card, "doses", 0.6, 0.0)
    assert session.gone == [
        {"sample": card.strongest.grid.thumbnails[1].number},
        {"sample": strips.samples[3]},
        {"condition": "brightness(LV, 0.5)"},
    ]


def tap(card: ChannelTab, name: str, x: float, y: float) -> None:
    """As the browser says it."""
    from bokeh.events import Tap

    figure = getattr(card, name).figure.plot
    figure._trigger_event(Tap(figure, x=x, y=y))


@pytest.mark.parametrize("theme", THEMES)
def test_every_figure_changes_with_layer_channel_and_sample(theme: str, study: Store) -> None:
    session = FakeSession(Source(study), THEMES[theme])
    card = ChannelTab(session)
    card.view.get_root()
    for layer in study.layers.index:
        for sample in (0, 9):
            place = session.source.at(sample)
            session.state.param.update(layer=layer, channel=1, **place)
            card.update()
            session.finish()
            mosaic, figure = card.strongest.grid, card.strongest.figure.plot
            (drawn,) = data(card, "strongest", 0)["image"]
            assert drawn.shape == mosaic.shape
            if mosaic.most:
                assert {0, LEVELS - 1} & {*drawn[drawn < LEVELS].tolist()}, "the largest change has the last colour"
            height, width = mosaic.shape
            assert (figure.x_range.start, figure.x_range.end) == (-1.0, width + 0.5)
            assert figure.y_range.start > height - 0.5 > figure.y_range.end == -0.5, "row 0 on top"
            assert list(data(card, "strongest", 3)["text"]) == [tile.title for tile in mosaic.thumbnails]
            marked = [tile.number for tile in mosaic.thumbnails].index(sample) if sample in shown(card) else None
            assert list(data(card, "strongest", 4)["top"]) == ([] if marked is None else [mosaic.edges["top"][marked]])
            strips = card.patients.columns
            assert card.patients.figure.plot.y_range.end == pytest.approx(strips.mad.max(), rel=0.2)
            assert list(data(card, "patients", 3)["MAD"]) == list(strips.mad[strips.samples == sample])


def shown(card: ChannelTab) -> list[int]:
    return [tile.number for tile in card.strongest.grid.thumbnails]


def test_figures_take_the_colour_of_the_perturbed_class(session: FakeSession, card: ChannelTab) -> None:
    colours = class_colours(session.source.store.class_names)
    for target in ("RV", "LV"):
        session.state.param.update(condition=f"brightness({target}, 0.1)")
        card.update()
        session.finish()
        dots, curve = (getattr(card, name).figure.plot.renderers[1].glyph for name in ("patients", "doses"))
        assert dots.fill_color == dots.line_color == curve.line_color == colours[target]


def test_every_field_that_a_glyph_reads_is_there(session: FakeSession, card: ChannelTab) -> None:
    nothing = DiceBox("LV", 2.0, 3.0, 2.0, 3.0)
    for dice in (None, nothing):
        session.state.param.update(dice=dice)
        card.update()
        for name in ("strongest", "patients", "doses"):
            for renderer in getattr(card, name).figure.plot.renderers:
                assert reads(renderer.glyph) <= set(renderer.data_source.data), name


def reads(glyph: Any) -> set[str]:
    """Columns that a glyph is drawn from."""
    values = glyph.properties_with_values().values()
    return {value.field if isinstance(value, Field) else value["field"] for value in values if _is_field(value)}


def _is_field(value: Any) -> bool:
    return isinstance(value, Field) or (isinstance(value, dict) and "field" in value)


def test_a_figure_drawn_late_leaves_the_page_its_theme(session: FakeSession) -> None:
    from bokeh.document import Document
    from bokeh.io.doc import patch_curdoc

    document = Document()
    document.theme = LIGHT.bokeh
    with patch_curdoc(document):
        ChannelTab(session)
    assert document.theme is LIGHT.bokeh


def test_no_part_of_the_card_reads_back_what_the_design_has_set(card: ChannelTab, session: FakeSession) -> None:
    """Panel fails where a Bokeh pane is hidden or shown after a design has given it style sheets."""
    from bokeh.models import ImportedStyleSheet

    for plot in (card.strongest, card.patients, card.doses):
        plot.figure.plot.stylesheets = [ImportedStyleSheet(url="a.css")]
    session.state.param.update(dice=DiceBox("LV", 2.0, 3.0, 2.0, 3.0))
    card.update()
    assert not shows(card, "strongest")
    session.state.param.update(dice=None)
    card.update()
    assert shows(card, "strongest")


# ThumbnailGrid and strips


def tiles(number: int, shape: tuple[int, int] = (32, 32), **changes: Any) -> list[Thumbnail]:
    rng = np.random.default_rng(0)
    mask = np.zeros(shape)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 1
    one = Thumbnail(0, "patient001", "f1 · s4", 0.42, np.zeros(shape), mask)
    return [dataclasses.replace(one, number=i, pixels=rng.normal(size=shape), **changes) for i in range(number)]


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (32, 32), (48, 24), (130, 130), (512, 512)], ids=str)
def test_a_mosaic_shows_every_map_where_a_tap_finds_it(shape: tuple[int, int]) -> None:
    found = ThumbnailGrid(tiles(7, shape))
    assert max(found.size) <= thumbnails.MOST_SIDE
    values = found.values
    for i in range(7):
        y, x = found.corner(i)
        part = values[y : y + found.size[0], x : x + found.size[1]]
        assert np.isfinite(part).all()
        if max(shape) <= thumbnails.MOST_SIDE:
            assert part[0, 0] == np.float32(found.thumbnails[i].pixels[0, 0])
            assert part[-1, -1] == np.float32(found.thumbnails[i].pixels[-1, -1])
        assert found.at(x, y) == found.at(x + found.size[1] - 1, y + found.size[0] - 1) == i
        assert found.at(x, y - found.head + 1) == i, "its title is its own"
    y, x = found.corner(7)
    assert found.at(x, y) is None
    assert found.at(found.corner(0)[1] + found.size[1], found.corner(0)[0]) is None, "between two maps"


def test_large_maps_are_averaged() -> None:
    found = ThumbnailGrid(tiles(1, (256, 256)))
    assert found.fewer == 2
    y, x = found.corner(0)
    assert found.values[y, x] == pytest.approx(found.thumbnails[0].pixels[:2, :2].mean(), rel=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (32, 32), (256, 256)], ids=str)
def test_outlines_lie_on_the_mosaic_where_the_mask_does(shape: tuple[int, int]) -> None:
    found = ThumbnailGrid(tiles(6, shape))
    x, y = found.outlines
    top, left = found.corner(5)
    own = (y > top - 1) & (x > left - 1)
    quarter, half = found.size[0] / 4, found.size[0] / 2
    assert y[own].min() - top == pytest.approx(quarter - 0.5, abs=0.51 * max(1, found.more))
    assert y[own].max() - top == pytest.approx(half - 0.5, abs=0.51 * max(1, found.more))
    assert ThumbnailGrid(tiles(2, shape, cover=None)).outlines.size == 0


def test_long_names_are_cut_over_a_map() -> None:
    (tile,) = tiles(1, name="a very long name of a patient")
    assert tile.title == "a very long na…\nf1 · s4 · 0.42"


def strips_of(patients: int, each: int = 4) -> PatientColumns:
    rng = np.random.default_rng(1)
    number = patients * each
    names = np.array([f"patient{i // each + 1:03d}" for i in range(number)], object)
    return PatientColumns(np.arange(number), names, rng.lognormal(size=number))


def test_many_patients_are_sorted_by_their_median() -> None:
    few, many = strips_of(40), strips_of(41)
    assert not few.many
    assert few.patients == sorted(few.patients)
    assert many.many
    assert (np.diff(many.quartiles[1]) >= 0).all()
    of_last = many.mad[many.column == 40]
    np.testing.assert_allclose(many.quartiles[:, 40], np.quantile(of_last, [0.25, 0.5, 0.75]))
    names = np.array([f"sample {i}" for i in range(41 * 4)], object)
    plot = PatientPlot(LIGHT, names, lambda sample: None)
    dots, ring = (plot.figure.plot.renderers[i].data_source for i in (1, 3))
    plot.show(few, "#000000", "slice")
    assert len(dots.data["x"]) == 160
    assert list(dots.data["of"][:2]) == ["sample 0", "sample 1"]
    plot.show(many, "#000000", "slice")
    plot.mark(7)
    assert len(dots.data["x"]) == 41
    assert (ring.data["MAD"][0], ring.data["x"][0]) == (many.mad[7], many.patients.index("patient002"))


@pytest.mark.parametrize("patients", [6, 60])
def test_a_tap_on_a_strip_finds_the_nearest_sample_of_that_patient(patients: int) -> None:
    found = strips_of(patients)
    for sample, x, mad in zip(found.samples, found.x, found.mad, strict=True):
        assert found.at(x, mad) == sample
    assert strips_of(0).at(0, 0) is None


def test_ticks_leave_out_what_all_names_begin_with() -> None:
    assert patient_ticks([f"patient{i:03d}" for i in (1, 2, 10)]) == {0: "001", 1: "002", 2: "010"}
    assert patient_ticks(["a", "b"]) == {0: "a", 1: "b"}
    assert len(patient_ticks([f"patient{i:03d}" for i in range(40)])) <= 9
    assert patient_ticks(["patient001"]) == {0: "patient001"}
    assert patient_ticks(["patient1", "pete"]) == {0: "patient1", 1: "pete"}
    assert patient_ticks(["acdc_anna", "acdc_ann2"]) == {0: "anna", 1: "ann2"}


# ProvenanceTab


def provenance(source: Source) -> tuple[ProvenanceTab, str]:
    found = ProvenanceTab(FakeSession(source))
    found.update()
    return found, str(found.view.object)


def test_provenance_tells_digests_layers_and_versions(source: Source) -> None:
    _, page = provenance(source)
    attributes = source.store.attributes
    for told in (
        attributes["fingerprint"]["weights"],
        attributes["fingerprint"]["run"],
        *(f"{name} {version}" for name, version in attributes["versions"].items()),
        *(layer.label for layer in source.store.layout.layers),
        f"{len(source.store.block_samples)} committed, 0 missing",
    ):
        assert told in page
    assert "Missing volumes" not in page
    spec = re.search(r"<summary>Spec</summary><pre>(.*?)</pre>", page, re.DOTALL)
    assert spec is not None
    assert json.loads(spec[1].replace("&#34;", '"')) == attributes["spec"]


def test_provenance_escapes_what_comes_from_files(study_store: Path) -> None:
    store = actstore.open(study_store)
    bad = "<script>alert(1)</script>"
    store.attributes["spec"]["data"]["root"] = bad
    store.attributes["versions"][bad] = bad
    store.attributes["blocks"] = [bad for _ in store.attributes["blocks"]]
    store.committed[:] = False
    layers = (dataclasses.replace(store.layout.layers[0], module=bad, type=bad), *store.layout.layers[1:])
    store.layout = dataclasses.replace(store.layout, layers=layers)
    _, page = provenance(Source(store))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5


def test_provenance_names_the_first_missing_volumes(study_store: Path) -> None:
    store = actstore.open(study_store)
    source = Source(store)
    part, before = provenance(source)
    part.view.object = "as it was"
    part.state.param.update(slice=part.state.slice + 1, channel=1)
    part.update()
    assert part.view.object == "as it was", "nothing is written twice"
    store.attributes["blocks"] = [f"volume {i}" for i in range(25)]
    store.committed = np.zeros(25, bool)
    _, page = provenance(source)
    assert "<li>volume 19</li><li>and 5 more</li>" in page
    assert page != before


# Downloads


def test_a_csv_has_a_row_a_sample_with_the_numbers_of_the_tables(source: Source) -> None:
    session = FakeSession(source)
    state, store = session.state, source.store
    table = pd.read_csv(io.StringIO(downloads.csv(source, state, session.subset)), keep_default_na=False)
    assert len(table) == int(session.subset.sum())
    keys = ["patient", "frame", "slice"]
    dice = build_table(store, "dice")
    for kind, condition in (("original", "original"), ("perturbed", DARK_LV)):
        for name in source.foreground:
            own = dice[(dice["condition"] == condition) & (dice["class_name"] == name)]
            both = table.merge(own, on=keys, how="left", suffixes=("", "_"))
            # Not every pandas reads the last digit of what it wrote.
            np.testing.assert_allclose(both[f"dice_{kind}_{name}"].astype(float), both["dice"], rtol=1e-12)
    mad = build_table(store, "mad").astype({"condition": str, "layer": str, "patient": str})
    chosen = (mad["condition"] == DARK_LV) & (mad["layer"] == state.layer) & (mad["channel"] == state.channel)
    both = table.merge(mad[chosen], on=keys, suffixes=("", "_"))
    assert len(both) == len(table)
    np.testing.assert_allclose(both["mad"], both["mad_"], rtol=1e-12)
    assert set(both["module"]) == {source.modules[state.layer]}
    cases = build_table(store, "cases")
    own_cases = table.merge(cases[cases["condition"] == DARK_LV], on=keys, suffixes=("", "_"))
    assert list(own_cases["case"]) == list(own_cases["case_"])


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "view", "exec"), names)
    return names


def test_the_code_opens_the_view(source: Source) -> None:
    state = FakeSession(source, channel=1).state
    found = run(downloads.code(source, state))
    assert found["sample"] == source.sample(state)
    assert (found["condition"], found["layer"], found["channel"]) == (state.condition, state.layer, 1)
    assert Path(found["store"].path).resolve() == Path(str(source.store.path)).resolve()
    assert list(found["samples"].index) == list(np.flatnonzero(source.subset(state)))
    assert len(found["view"]) == 6


def test_the_code_selects_the_subset(source: Source) -> None:
    session = FakeSession(source)
    state, c = session.state, source.condition(DARK_LV)
    source.scores(c)
    mad = source.layer_mad(state.layer, c)[session.subset]
    boxes = {
        "case": source.case_names[0],
        "dice": lower_half(session),
        "mad": MadRange(state.layer, float(np.median(mad)) + 1e-6, 1e9),
    }
    for name, value in boxes.items():
        narrowed = state.copy(**{name: value})
        expected = np.flatnonzero(source.subset(narrowed))
        assert 0 < len(expected) < session.subset.sum() or name == "case"
        assert list(run(downloads.code(source, narrowed))["samples"].index) == list(expected), name


def test_names_in_the_code_are_quoted(source: Source) -> None:
    state = FakeSession(source).state.copy(case="\"]; import os  # '")
    line = next(line for line in downloads.code(source, state).splitlines() if "cases" in line)
    assert line.endswith(repr(state.case))


def test_a_png_holds_both_rows(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt
    from PIL import Image

    state = FakeSession(source, opacity=40, contrast=50, colours="viridis").state
    monkeypatch.setitem(source.modules, state.layer, "a {module} of $1 and $2")
    drawn: list[Any] = []
    save = downloads.saving.save_png
    monkeypatch.setattr(downloads.saving, "save_png", lambda f, path, **o: (drawn.append(f), save(f, path, **o))[1])
    content = downloads.png(source, state)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width > 1500
        assert picture.height > 1000
    assert len(drawn[0]) == 6
    assert not plt.get_fignums()
    for panels, backend in ((drawn[0], "matplotlib"), (run(downloads.code(source, state))["view"], "bokeh")):
        below, shown = [*panels.traverse(lambda one: one, [hv.Image])][3:5]
        style = hv.Store.lookup_options(backend, shown, "style").kwargs
        assert (style["cmap"], style["alpha"]) == ("viridis", 0.4)
        assert np.array_equal(
            below.dimension_values(2, flat=False), source.picture("image", source.sample(state), 0, state.slice)
        )
        high = hv.Store.lookup_options(backend, shown, "plot").kwargs["clim"][1]
        assert high == pytest.approx(Page(source, LIGHT, state.query()).activations.row.scales[0][1][1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "patient001-f1-s4-brightness-LV-0.1-L20-c1.png"),
        ({"patient": "../../etc/passwd"}, "etc-passwd-f1-s4-brightness-LV-0.1-L20-c1.png"),
        ({"condition": "fill(LV, 1, source=MYO, control)"}, "patient001-f1-s4-fill-LV-1-source-MYO-control-L20-c1.png"),
        ({"patient": "患者"}, "f1-s4-brightness-LV-0.1-L20-c1.png"),
        ({"patient": 'a\n\0"b'}, "a-b-f1-s4-brightness-LV-0.1-L20-c1.png"),
    ],
    ids=["usual", "path", "control", "other letters", "quotes"],
)
def test_names_of_downloads_are_safe(changes: dict[str, Any], expected: str) -> None:
    state = State(patient="patient001", frame=1, slice=4, condition=DARK_LV, layer="L20", channel=1)
    assert downloads.filename(state.copy(**changes), "png") == expected
    long = state.copy(patient="p" * 500)
    assert len(downloads.filename(long, ".csv")) <= downloads.LONGEST + 4


# Volumes


@pytest.fixture(scope="module")
def volumes(volume_store: Path) -> Source:
    return Source(actstore.open(volume_store))


def test_a_card_of_volumes_shows_the_plane(volumes: Source) -> None:
    layer = list(volumes.channels)[1]
    session = FakeSession(volumes, layer=layer, channel=1)
    card = ChannelTab(session)
    for plane in (2, 5):
        session.state.param.update(slice=plane)
        card.update()
        session.finish()
        assert f"{layer} · {volumes.modules[layer]} · channel 1 of 2 · 4 × 16 × 16" in text_of(card.facts)
        tiles = card.strongest.grid.thumbnails
        assert len(tiles) == 2
        for tile in tiles:
            assert f"s{plane}" in tile.title
            maps = volumes.store[layer].isel(sample=tile.number, channel=1, z=volumes.plane(layer, plane))
            change = maps.sel(condition=DARK_LV) - maps.isel(condition=0)
            np.testing.assert_allclose(tile.pixels, change.values, rtol=1e-5, atol=1e-6)
    tap(card, "strongest", 2, card.strongest.grid.corner(0)[0] + 2)
    assert session.gone == [{"sample": card.strongest.grid.thumbnails[0].number}]
    assert "4 × 16 × 16" in provenance(volumes)[1]


@pytest.mark.parametrize("scale", ["shared", "own"])
def test_downloads_of_volumes_show_the_plane(volumes: Source, scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = FakeSession(volumes, layer=list(volumes.channels)[1], slice=3, scale=scale, truth=scale == "own").state
    asked = views_asked(monkeypatch)
    assert downloads.png(volumes, state).startswith(b"\x89PNG")
    shown = {"z": 3, "truth": state.truth, "prediction": True, "crop": False, "scale": scale}
    assert asked == [shown, {"z": 3, "outline": state.truth, "scale": scale}]
    found = run(downloads.code(volumes, state))
    assert (found["z"], found["sample"], len(found["view"])) == (3, volumes.sample(state), 6)
    assert len(pd.read_csv(io.StringIO(downloads.csv(volumes, state, volumes.subset(state))))) == 2


def views_asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Options with which pictures are drawn for a download from here on."""
    asked: list[dict[str, Any]] = []

    def noted(draw: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            asked.append(options)
            return draw(*args, **options)

        return call

    for name in ("inputs", "activation"):
        monkeypatch.setattr(downloads, name, noted(getattr(downloads, name)))
    return asked


def test_maps_are_coloured_each_by_its_own_values_where_the_page_does(source: Source) -> None:
    limits = {}
    for scale in ("shared", "own"):
        state = FakeSession(source, scale=scale).state
        panels = list(run(downloads.code(source, state))["view"])[3:5]
        limits[scale] = [hv.Store.lookup_options("bokeh", panel.get(0), "plot").kwargs["clim"] for panel in panels]
    assert limits["shared"][0] == limits["shared"][1]
    assert limits["own"][0] != limits["own"][1]
