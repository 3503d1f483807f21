"""The explorer without a browser: what a link says, what is read, and what the page shows."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from bokeh.document import Document
from click.testing import CliRunner
from panel.io.state import set_curdoc

from actstore import analysis
from actstore.cli import finished
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.store.opening import open_store
from actstore.store.store import Store
from actstore.views.explorer import server
from actstore.views.explorer.channel import ChannelTab
from actstore.views.explorer.cohort import CohortTab
from actstore.views.explorer.growth import Growth
from actstore.views.explorer.links import read
from actstore.views.explorer.navigator import values_of
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import DARK, LIGHT
from actstore.views.explorer.pictures import control_region
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DiceBox, MadRange, State

pytestmark = pytest.mark.slow

LV = "brightness(LV, 0.1)"


@pytest.fixture(scope="module")
def source(study_store: Path) -> Source:
    return Source(open_store(study_store))


@pytest.fixture(scope="module")
def tiny(tiny_store: Path) -> Source:
    return Source(open_store(tiny_store))


@pytest.fixture
def page(source: Source) -> Page:
    return Page(source, LIGHT)


# What a link says


def test_a_link_says_the_whole_state(source: Source) -> None:
    first = source.first_state()
    other = first.copy(
        layer="L02",
        channel=3,
        case=source.case_names[0],
        dice=DiceBox("LV", 0.25, 1.0, 0.0, 0.5),
        mad=MadRange("L01", 0.0, 0.75),
        scale="own",
        truth=False,
        prediction=False,
        colour="control",
        tab="channel",
    )
    for state in (first, other):
        assert read(state.query(), source) == (state, [])
    assert read("?" + other.query() + "&theme=dark", source) == (other, [])


def test_a_class_may_have_any_name(source: Source) -> None:
    named = copy(source)
    named.foreground = ["a:b{c}", *source.foreground[1:]]
    state = source.first_state().copy(dice=DiceBox("a:b{c}", 0.0, 1.0, 0.25, 1.0))
    assert read(state.query(), named) == (state, [])


def test_a_view_is_the_same_when_it_is_loaded_again(source: Source) -> None:
    once, _ = read("dice=LV:0.123456789:1:0:1&mad=L01:0.00012345678:1e300", source)
    assert read(once.query(), source) == (once, [])


def test_without_a_link_a_typical_sample_and_its_strongest_channel_are_shown(source: Source) -> None:
    state, messages = read("", source)
    assert messages == []
    assert state.condition == LV
    sample = source.sample(state)
    mad = source.store.statistics(state.layer)["mad"].sel(condition=LV).values[sample]
    assert state.channel == int(np.argmax(mad))
    assert bool(source.applicable[sample, source.condition(LV)])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("patient=nobody", "patient 'nobody' is not in this store, which has patient001"),
        (
            "condition=darkness(LV, 1)",
            "condition 'darkness(LV, 1)' is not in this store, which has brightness(LV, 0.1)",
        ),
        ("layer=L99", "layer 'L99' is not in this store, which has L01"),
        ("layer=L01&channel=99", "channel 99: L01 has channels 0–"),
        ("channel=-1", "channel '-1' is not a whole number, 0 or more"),
        ("channel=٣", "channel '٣' is not a whole number, 0 or more"),
        ("patient=patient001&slice=99", "patient001, slice 99 is not in this store: shown is patient001"),
        ("frame=77", "frame 77 is not in this store"),
        ("case=despair", "case 'despair' is not in this store"),
        ("dice=LV:0:1:0:nan", "are not all numbers"),
        ("dice=LV:0:1", "is not a class and four numbers"),
        ("mad=L01:a:b", "are not all numbers"),
        ("mad=L99:0:1", "is not a layer and two numbers"),
        ("scale=huge", "scale 'huge' is none of shared, own"),
        ("truth=perhaps", "truth 'perhaps' is none of yes, no"),
        ("colour=pink", "colour 'pink'"),
        ("tab=<script>", "tab '<script>'"),
        ("nonsense=1", "the link names 'nonsense', which this page does not know"),
        ("patient=" + "a" * 3000, "the link has 3008 characters, at most 2000 are read"),
    ],
)
def test_what_a_bad_link_says_wrong_is_named_and_the_rest_is_shown(source: Source, query: str, message: str) -> None:
    state, messages = read(query, source)
    assert len(messages) == 1
    assert message in messages[0]
    assert "\n" not in messages[0]
    # What is shown can be shown.
    assert 0 <= state.channel < source.channels[state.layer]
    source.sample(state)


def test_messages_are_escaped_on_the_page(source: Source) -> None:
    page = Page(source, LIGHT, "patient=<img src=x onerror=alert(1)>")
    assert "<img" not in page.notice.object
    assert "&lt;img" in page.notice.object


# What is read


def test_one_map_reads_one_chunk(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two maps for a channel that was not looked at, none for one that was."""
    from actstore.store import single as module

    reads: list[tuple[str, tuple[int, ...]]] = []
    plain = module.read_map

    def counted(storage: Any, layout: Any, piece: Any, index: tuple[int, ...]) -> Any:
        reads.append((layout.path, index))
        return plain(storage, layout, piece, index)

    monkeypatch.setattr(module, "read_map", counted)
    page = Page(source, LIGHT)
    layer = page.state.layer
    other = (page.state.channel + 1) % source.channels[layer]
    reads.clear()
    page.go(channel=other)
    c = source.condition(LV)
    assert reads == [(f"layers/{layer}/activation", (0, other)), (f"layers/{layer}/activation", (c, other))]
    reads.clear()
    page.go(channel=(other - 1) % source.channels[layer])
    page.go(channel=other)
    assert reads == []


def test_recent_arrays_stay_within_their_bytes(study_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actstore.views.explorer.statistics.RECENT_BYTES", 1000)
    source = Source(open_store(study_store))
    for i in range(50):
        assert source.recent(i, lambda i=i: np.full(30, i, np.float64))[0] == i
    assert source.recent(49, lambda: np.zeros(1))[0] == 49, "what was read last stays"
    assert source._recent.currsize <= 1000
    whole = np.zeros((100, 100))
    assert source.recent("view", lambda: whole[0]).base is None, "a view would hold the whole array"
    source.recent("large", lambda: whole)
    assert source.recent("large", lambda: np.ones(1)) is source.recent("large", lambda: np.ones(1)), "alone, but there"
    assert list(source._recent) == ["large"]


def test_mad_of_a_sample_is_that_of_the_store(source: Source) -> None:
    fresh = Source(source.store)
    state = fresh.first_state()
    sample, c = fresh.sample(state), fresh.condition(state.condition)
    alone = fresh.sample_mad(sample, c)
    expected = np.concatenate([source.store.statistics(layer)["mad"].values[sample, c] for layer in source.channels])
    np.testing.assert_allclose(alone, expected, rtol=1e-6)
    np.testing.assert_array_equal(fresh.scores(c).mad[sample], alone)


def test_mad_of_a_layer_is_the_same_before_and_after_all_are_read(study_store: Path) -> None:
    source = Source(open_store(study_store))
    before = source.layer_mad("L02", 1)
    assert not source.loaded(1), "a link that narrows by a layer waits for that layer alone"
    source.scores(1)
    np.testing.assert_array_equal(source.layer_mad("L02", 1), before)
    stored = source.store.statistics("L02")["mad"].isel(condition=1).mean("channel", skipna=False)
    np.testing.assert_allclose(before, stored.values, rtol=1e-6)


def test_statistics_that_are_there_are_not_waited_for_while_others_are_read(study_store: Path) -> None:
    source = Source(open_store(study_store))
    begun, go_on, known = threading.Event(), threading.Event(), source.scores(1)

    def held(done: int, _: int) -> None:
        begun.set()
        assert go_on.wait(180)

    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(source.scores, 2, held)
        assert begun.wait(180)
        try:
            assert threads.submit(source.scores, 1).result(timeout=180) is known
        finally:
            go_on.set()
        assert reading.result() is source.scores(2)


def test_colours_of_the_navigator_are_those_of_the_tables(source: Source) -> None:
    """MAD, standardised MAD, frequency and effect, each against the package's own reductions."""
    from actstore.tables.findings import Findings

    findings = Findings(source.store)
    state = source.first_state()
    sample, c = source.sample(state), source.condition(state.condition)
    every = source.subset(state)
    np.testing.assert_allclose(values_of(source, state, every), findings.score.values[sample, c], rtol=1e-6)
    standardised = values_of(source, state.copy(colour="standardised"), every)
    np.testing.assert_allclose(standardised, findings.standardised.values[sample, c], rtol=1e-5)
    frequency = values_of(source, state.copy(colour="frequency"), every)
    np.testing.assert_allclose(frequency, findings.member.values[every, c].mean(axis=0), rtol=1e-6)
    effect = values_of(source, state.copy(colour="control"), every)
    table = findings.table("controls").query("condition == @state.condition")
    np.testing.assert_allclose(effect, table["effect"], rtol=1e-4)


def test_a_subset_is_what_its_words_say(source: Source) -> None:
    state = source.first_state()
    c = source.condition(state.condition)
    applies = source.store.applicable.values[:, c]
    dice = analysis.dice(source.store.confusion, applicable=source.store.applicable)
    original, perturbed = dice.sel(class_name="LV").values[:, [0, c]].T
    # In the middle of the widest gap, so that no sample lies near the end.
    middle = gap(perturbed[applies])
    low = state.copy(dice=DiceBox("LV", 0.0, 1.0, 0.0, middle))
    np.testing.assert_array_equal(source.subset(low), applies & (perturbed <= middle) & (original >= 0))
    case = source.case_names[0]
    cases = source.store.cases.values[:, c]
    np.testing.assert_array_equal(source.subset(state.copy(case=case)), applies & (cases == case))
    mad = source.store.statistics("L01")["mad"].values[:, c].mean(axis=1)
    middle = gap(mad[applies])
    np.testing.assert_array_equal(
        source.subset(state.copy(mad=MadRange("L01", 0.0, middle))), applies & (mad <= middle)
    )


def gap(values: np.ndarray) -> float:
    """The middle of the widest gap between ``values`` that has some of them on both sides."""
    rising = np.unique(values[np.isfinite(values)])
    at = int(np.argmax(np.diff(rising)))
    return float(rising[at : at + 2].mean())


def nudged(values: np.ndarray) -> list[np.ndarray]:
    """``values``, and what another order of summing may make of them."""
    return [values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf)]


def test_ends_of_a_range_include_what_they_show(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    state = source.first_state()
    c = source.condition(state.condition)
    at = np.flatnonzero(source.applicable[:, c])
    mad = source.layer_mad("L01", c)
    for values in nudged(mad):
        monkeypatch.setattr(source, "layer_mad", lambda layer, condition, values=values: values)
        for sample in at:
            end = float(f"{mad[sample]:.4g}")
            for low, high in ((end, 1e9), (0.0, end)):
                asked, _ = read(f"mad=L01:{low!r}:{high!r}&condition={state.condition}", source)
                assert source.subset(asked)[sample], (mad[sample], low, high)
    dice = source.present_dice[:, c, source.foreground.index("LV")]
    for sample in at:
        end = f"{dice[sample]:.3f}"
        for low, high in ((end, "1"), ("0", end)):
            asked, _ = read(f"dice=LV:0:1:{low}:{high}&condition={state.condition}", source)
            assert source.subset(asked)[sample], (dice[sample], low, high)


def test_a_range_does_not_depend_on_what_was_read_before(source: Source) -> None:
    fresh = Source(source.store)
    state = source.first_state()
    c = source.condition(state.condition)
    alone = [fresh.layer_mad(layer, c) for layer in fresh.channels]
    fresh.scores(c)
    for layer, before in zip(fresh.channels, alone, strict=True):
        np.testing.assert_array_equal(fresh.layer_mad(layer, c), before)


# What the page shows


def other_layer(page: Page) -> str:
    """Another layer than is shown."""
    return next(layer for layer in page.source.channels if layer != page.state.layer)


def shown(page: Page, number: int, row: str = "activations") -> np.ndarray:
    """What one picture of the page is drawn from: (y, x)."""
    picture = getattr(page, row).row.pictures[number]
    return np.asarray(picture.columns("image")["image"][0])


def test_pictures_are_those_of_the_store(page: Page, source: Source) -> None:
    page.go(layer="L02", channel=1)
    state, store = page.state, source.store
    sample = source.sample(state)
    for row, maps in {
        "inputs": [store.image.values[sample, c, 0] for c in (0, source.condition(state.condition))],
        "activations": [store["L02"].values[sample, c, 1] for c in (0, source.condition(state.condition))],
    }.items():
        np.testing.assert_array_equal(shown(page, 0, row), maps[0])
        np.testing.assert_array_equal(shown(page, 1, row), maps[1])
        np.testing.assert_allclose(shown(page, 2, row), maps[1] - maps[0])


def test_row_0_lies_on_top_and_rows_of_pictures_are_linked(page: Page, source: Source) -> None:
    first = page.inputs.row.pictures[0].plot
    height, width = source.space
    page.go(view="whole")
    assert (first.y_range.start, first.y_range.end) == (height - 0.5, -0.5)
    assert (first.x_range.start, first.x_range.end) == (-0.5, width - 0.5)
    data = page.activations.row.pictures[0].columns("image")
    stride = height / source.sizes[page.state.layer][0]
    assert data["dh"][0] == stride * source.sizes[page.state.layer][0]
    assert data["y"][0] == source.store.grids[page.state.layer].low[0] - 0.5, "the first row, at the low end of y"
    for row in (page.inputs.row, page.activations.row):
        assert {picture.plot.x_range for picture in row.pictures} == {first.x_range}
        assert {picture.plot.y_range for picture in row.pictures} == {first.y_range}


def test_pictures_start_on_the_target_and_stay_where_the_reader_zoomed(page: Page, source: Source) -> None:
    along = page.inputs.row.pictures[0].plot.x_range
    _, columns = source.target_window(page.state)
    assert along.start <= columns.start
    assert along.end >= columns.stop - 1
    along.update(start=3.0, end=9.0)
    page.go(channel=(page.state.channel + 1) % 2)
    page.go(slice=source.slices(page.state.patient, page.state.frame)[-1])
    assert (along.start, along.end) == (3.0, 9.0)
    page.key.value = "1 view target"
    assert along.start <= columns.start
    page.key.value = "2 view whole"
    assert (along.start, along.end) == (-0.5, source.space[-1] - 0.5)
    assert page.state.view == "whole"


def test_the_region_of_a_control_is_outlined(page: Page) -> None:
    source = page.source
    control = next(name for name in source.names if name.endswith("control)"))
    c = source.condition(control)
    page.go(condition=control, sample=int(np.flatnonzero(source.applicable[:, c])[0]))
    region = control_region(source, page.state)
    assert region is not None
    original, perturbed = (source.picture("image", source.sample(page.state), i, 0) for i in (0, c))
    np.testing.assert_array_equal(region, original != perturbed)
    mark = page.theme.mark
    assert [mark in picture.columns("solid")["colour"] for picture in page.inputs.row.pictures] == [False, True, True]
    page.go(condition=source.perturbed[0])
    assert control_region(source, page.state) is None
    assert mark not in page.inputs.row.pictures[1].columns("solid")["colour"]


def test_maps_lie_over_the_image_with_contrast_and_colours(page: Page) -> None:
    picture = page.activations.row.pictures[0]
    mapper = picture._glyphs["image"].glyph.color_mapper
    assert len(picture.columns("under")["image"]) == 0
    high = mapper.high
    page.go(opacity=40, contrast=50, colours="viridis")
    assert picture._glyphs["image"].glyph.global_alpha == 0.4
    assert mapper.high == pytest.approx(high / 2)
    np.testing.assert_array_equal(picture.columns("under")["image"][0], shown(page, 0, "inputs"))
    assert read(page.state.query(), page.source) == (page.state, [])
    page.go(opacity=100)
    assert len(picture.columns("under")["image"]) == 0


def test_the_jump_box_shows_a_layer_and_channel_or_says_why_not(page: Page) -> None:
    for text, expected in (("L02%2F3", ("L02", 3)), ("l1/1", ("L01", 1)), ("0", ("L01", 0))):
        page.key.value = f"1 jump {text}"
        assert (page.state.layer, page.state.channel) == expected
    for text, message in (
        ("L99", "is no channel"),
        ("L02/77", "L02 has channels 0–3, not 77"),
        ("L02/x", "is no channel"),
    ):
        page.key.value = f"2 jump {text}"
        assert message in page.notice.object
        assert (page.state.layer, page.state.channel) == ("L01", 0)


def test_a_kind_of_failure_leads_to_its_first_sample(source: Source) -> None:
    page = Page(source, LIGHT, "patient=patient001&slice=0")
    case = source.case_names[-1]
    condition = next(name for name in source.perturbed if (source.cases[:, source.condition(name)] == case).any())
    page.go(condition=condition)
    page.go(case=case)
    assert page.subset[source.sample(page.state)]
    link = page.state.copy(**source.at(int(np.flatnonzero(~page.subset)[0])))
    page.visit.value = f"1 ?{link.query()}"
    assert page.state == link, "a link is shown as it is"
    page.key.value = "1 clear all"
    assert not page.state.narrowed


def test_the_card_tells_dice_and_confusion_of_the_sample(page: Page, source: Source) -> None:
    sample, c = source.sample(page.state), source.condition(page.state.condition)
    text = str(page.metrics.view.object)
    dice = analysis.dice(source.store.confusion, applicable=source.store.applicable).values[sample]
    for before, after in zip(dice[0], dice[c], strict=True):
        assert f"<td>{before:.3f}</td><td>{after:.3f}</td>" in text
    for count in source.store.confusion.values[sample, c].ravel():
        assert f">{count}</td>" in text


def test_another_volume_keeps_the_slice_where_it_can(page: Page, source: Source) -> None:
    page.go(slice=source.slices(page.state.patient, page.state.frame)[-1])
    last = page.state.slice
    other = next(p for p in source.patients if p != page.state.patient)
    page.go(patient=other)
    slices = source.slices(other, page.state.frame)
    assert page.state.slice == min(slices, key=lambda n: abs(n - last))
    assert page.sidebar.slice.value == page.state.slice
    assert page.sidebar.slice.options == slices


def test_another_layer_shows_its_strongest_channel_and_the_sidebar_follows(page: Page, source: Source) -> None:
    layer = other_layer(page)
    page.go(layer=layer)
    sample, c = source.sample(page.state), source.condition(page.state.condition)
    assert page.state.channel == int(np.argmax(source.sample_mad(sample, c)[source.where[layer]]))
    assert page.sidebar.layer.value == layer
    assert page.sidebar.channel.value == page.state.channel
    page.go(channel=999)
    assert page.state.channel == source.channels[layer] - 1


def test_widgets_change_the_state_once(page: Page) -> None:
    told: list[str] = []
    page.address.on_change("value", lambda _, __, new: told.append(new))
    page.sidebar.target.value = "RV"
    assert page.state.condition == "brightness(RV, 0.1)"
    page.sidebar.strength.value = "0.5"
    assert page.state.condition == "brightness(RV, 0.5)"
    page.sidebar.sort.value = "brightness, control region"
    assert page.state.condition == "brightness(RV, 0.5, control)"
    assert len(told) == 3
    assert told[-1].split(" ", 2)[1:] == ["push", page.state.query()]


def test_keys_step_through_slices_and_channels_within_their_ends(page: Page, source: Source) -> None:
    slices = source.slices(page.state.patient, page.state.frame)
    page.key.value = "1 slice -99"
    assert page.state.slice == slices[0]
    page.key.value = "2 slice 1"
    assert page.state.slice == slices[1]
    page.key.value = "3 channel 99"
    assert page.state.channel == source.channels[page.state.layer] - 1
    assert page.address.value.split(" ")[1] == "keep", "every key is answered"


def test_going_back_shows_what_was_shown(page: Page) -> None:
    before = page.state.copy()
    page.go(layer=other_layer(page))
    assert page.state != before
    page.visit.value = f"1 ?{before.query()}"
    assert page.state == before
    assert page.address.value.split(" ")[1] == "replace", "going back is no step to go back to"


def test_a_condition_that_does_not_apply_is_said(page: Page, source: Source) -> None:
    c = source.condition(LV)
    sample = int(np.flatnonzero(~source.applicable[:, c])[0])
    page.go(sample=sample)
    assert "was not inferred here: the sample contains no LV" in page.inputs.row.head.object
    assert np.isnan(shown(page, 1)).all()
    assert np.isfinite(shown(page, 0)).all()


def test_a_part_that_fails_leaves_the_others(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("no reason")

    monkeypatch.setattr(page.metrics, "update", fail)
    layer = other_layer(page)
    page.go(layer=layer)
    assert "SampleMetrics could not be shown" in page.notice.object
    assert page.sidebar.layer.value == layer


def test_damage_is_said_on_the_page(tiny_copy: Path) -> None:
    source = Source(open_store(tiny_copy))
    page = Page(source, LIGHT)
    for shard in (tiny_copy / "layers" / "L01").rglob("*"):
        if shard.is_file() and shard.stat().st_size > 10_000:
            content = bytearray(shard.read_bytes())
            content[:-4096:50] = bytes(len(content[:-4096:50]))
            shard.write_bytes(content)
    page.go(layer="L02", opacity=50)
    assert all(len(picture.columns("under")["image"]) for picture in page.activations.row.pictures)
    page.go(layer="L01", channel=0)
    assert "is damaged" in page.activations.row.head.object
    assert not any(len(picture.columns("under")["image"]) for picture in page.activations.row.pictures)
    page.go(layer="L02")
    assert "is damaged" not in page.activations.row.head.object


def spoil(path: Path, at: int = -1) -> Callable[[], object]:
    """Change a byte of a file, the last unless said; what is returned mends it."""
    content = path.read_bytes()
    spoilt = bytearray(content)
    spoilt[at] ^= 255
    path.write_bytes(bytes(spoilt))
    return lambda: path.write_bytes(content)


def statistics_of(store: Path, block: int) -> Path:
    """The file of a block's statistics, of which MAD comes first."""
    return store / Store(store).layout.statistic.key(block)


def test_the_page_opens_where_the_statistics_of_its_sample_are_damaged(tiny_copy: Path) -> None:
    source = Source(open_store(tiny_copy))
    block = int(source.samples["block"].iloc[source.sample(source.first_state())])
    spoil(statistics_of(tiny_copy, block), at=8)
    page = Page(Source(open_store(tiny_copy)), LIGHT)
    assert "is damaged" in page.navigator.head.object
    assert np.isfinite(shown(page, 0)).all()
    page.go(layer=other_layer(page))
    assert page.state.channel == 0


def test_a_reading_that_failed_is_said_and_tried_again(tiny_copy: Path) -> None:
    source = Source(open_store(tiny_copy))
    first = source.first_state()
    block = int(source.samples["block"].iloc[source.sample(first)])
    mend = spoil(statistics_of(tiny_copy, (block + 1) % source.store.layout.blocks), at=8)
    page = Page(source, LIGHT, "colour=frequency")
    page.go(tab="channel")
    cohort, card = (page._tabs[name] for name in ("cohort", "channel"))
    assert isinstance(cohort, CohortTab)
    assert isinstance(card, ChannelTab)
    assert "is damaged" in page.notice.object
    assert "is damaged" in page.navigator.head.object
    assert "is damaged" in card.strongest.head.object
    assert "could not be read" in cohort._mad.figure.plot.title.text
    mend()
    page.go(channel=page.state.channel - 1 if page.state.channel else 1)
    page.go(tab="cohort")
    assert "damaged" not in page.navigator.head.object + card.strongest.head.object + page.notice.object
    assert "n = " in cohort._mad.figure.plot.title.text


@pytest.mark.parametrize("name", ["image", "label"])
def test_no_picture_of_another_sample_stays(tiny_copy: Path, name: str) -> None:
    source = Source(open_store(tiny_copy))
    page = Page(source, LIGHT, "patient=patient001&view=whole")
    other = next(s for s in range(len(source.samples)) if source.samples["patient"][s] != "patient001")
    block = int(source.samples["block"].iloc[other])
    array = next(own for own in source.store.layout.images if own.path.endswith(name))
    spoil(tiny_copy / array.key(block))
    page.go(sample=other)
    assert "damaged" in page.inputs.row.head.object
    assert np.isnan(page.inputs.row.pictures[0].columns("image")["image"][0]).all()
    assert ("damaged" in page.activations.row.head.object) == (name == "label")


def test_messages_go_with_what_they_are_about(page: Page) -> None:
    page._visited("1 ?layer=L99")
    assert "L99" in page.notice.object
    page.go(layer=other_layer(page))
    assert page.notice.object == ""


# Stores that are not whole


def test_statistics_alone_can_be_explored(tmp_path: Path, write_spec: Any, phantom_root: Path) -> None:
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    spec = write_spec(tmp_path, store__keep="statistics", store__path=tmp_path / "small.zarr")
    page = Page(Source(Store(capture(load_spec(spec), cluster="inline", device="cpu").store)), LIGHT)
    assert "are not in" in page.activations.row.head.object
    assert "store.keep" in page.activations.row.head.object
    assert np.isfinite(np.asarray(page.navigator.figure.plot.renderers[0].data_source.data["image"][0])).any()


def test_layers_of_4_and_of_512_channels_stand_beside_each_other(tmp_path: Path, write_spec: Any) -> None:
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    spec = write_spec(tmp_path, data__patients=["patient001"], model__factory="networks:Wide")
    store = Store(capture(load_spec(spec), cluster="inline", device="cpu").store)
    page = Page(Source(store), LIGHT, "layer=L02&channel=511&tab=channel")
    assert page.notice.object == ""
    sample, c = page.source.sample(page.state), page.source.condition(page.state.condition)
    np.testing.assert_array_equal(shown(page, 0), store.map("L02", sample, 0, 511))
    grid = page.navigator.figure.plot.renderers[0].data_source.data["image"][0]
    assert np.isfinite(grid).sum(axis=1).tolist() == [4, 512]
    expected = store.statistics("L02")["mad"].values[sample, c]
    np.testing.assert_allclose(grid[1], expected, rtol=1e-6)


def test_without_statistics_the_maps_are_shown_and_the_mend_is_said(tiny_copy: Path) -> None:
    layout = Store(tiny_copy).layout
    (tiny_copy / layout.statistics.record.key(0)).unlink()
    store = Store(tiny_copy)
    assert not store.reduced
    page = Page(Source(store), LIGHT)
    assert "actstore reduce" in page.navigator.head.object
    page = Page(Source(store), LIGHT, "mad=L01:0:1")
    assert page.state.mad is None
    assert "volumes without statistics: ignored" in page.notice.object
    assert np.isfinite(shown(page, 0)).all()


def test_what_was_read_before_the_page_is_on_the_screen_waits_for_it(page: Page) -> None:
    """A browser that still builds its views misses changes."""
    found: list[int] = []
    page.background.ready = False
    page.soon(lambda _: 3, found.append, "reading", lambda _: None)
    assert found == []
    page._complete()
    assert found == [3]
    page._complete()
    assert found == [3]


def test_long_work_does_not_keep_a_server_from_ending(page: Page) -> None:
    daemons: list[bool] = []
    page.soon(lambda _: threading.current_thread().daemon, daemons.append, "reading", lambda _: None)
    assert daemons == [True]


def test_a_store_that_grows_is_opened_again(tiny_copy: Path) -> None:
    record = tiny_copy / Store(tiny_copy).layout.capture.record.key(3)
    kept = record.read_bytes()
    record.unlink()
    sources = server.Sources(tiny_copy)
    first = sources.get()
    assert len(first.store.missing) == 1
    assert sources.get() is first
    said: list[str] = []
    document = Mock(session_context=True, add_next_tick_callback=lambda call: call())
    growth = Growth(document, partial(sources.since, first), said.append)

    def look() -> None:
        growth.look()
        assert growth._thread
        growth._thread.join()

    look()
    assert said == []
    record.write_bytes(kept[:-1])
    look()
    assert said == []
    record.write_bytes(kept)
    look()
    look()
    assert said == ["1 more volume is committed"]
    assert sources.get() is not first
    assert sources.get().store.missing == []


def test_a_store_computed_anew_is_opened_again(tiny_copy: Path, study_store: Path) -> None:
    sources = server.Sources(tiny_copy)
    first = sources.get()
    assert first.names == Source(open_store(tiny_copy)).names
    assert sources.since(first) == ""
    shutil.rmtree(tiny_copy)
    shutil.copytree(study_store, tiny_copy)
    assert sources.get().names == Source(open_store(study_store)).names
    assert sources.since(first) == "The store has been written anew"


def test_a_store_captured_again_from_corrected_masks_is_opened_again(tiny_copy: Path) -> None:
    """Its spec, and with it its fingerprint, are the same."""
    sources = server.Sources(tiny_copy)
    first = sources.get()
    again = tiny_copy.with_name("again.zarr")
    shutil.copytree(tiny_copy, again)
    shutil.rmtree(tiny_copy)
    again.rename(tiny_copy)
    assert sources.get().store.attributes == first.store.attributes
    assert sources.get() is not first
    assert sources.get() is sources.get()


# The server


def test_an_empty_store_and_a_missing_one_are_refused_in_one_line(tiny_copy: Path, tmp_path: Path) -> None:
    layout = Store(tiny_copy).layout
    for block in range(layout.blocks):
        (tiny_copy / layout.capture.record.key(block)).unlink()
    for path, message in ((tiny_copy, "holds no volume yet"), (tmp_path / "no.zarr", "no.zarr")):
        result = CliRunner().invoke(main, ["explore", str(path), "--no-open", "--port", "0"])
        assert result.exit_code == 1
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_taken_port_is_refused_in_one_line(tiny_store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["explore", str(tiny_store), "--no-open", "--port", str(port)])
    assert result.exit_code == 1
    assert f"127.0.0.1:{port} cannot be listened on" in result.stderr
    assert "choose another --port" in result.stderr


def test_only_loopback_unless_asked_and_then_with_a_warning(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def served(_: Any, **options: Any) -> None:
        asked.append(options)
        options["ready"]("http://…")

    monkeypatch.setattr(server, "serve", served)
    monkeypatch.setattr(finished, "free_port", Mock())
    plain = CliRunner().invoke(main, ["explore", str(tiny_store), "--no-open"])
    assert plain.exit_code == 0
    assert asked[0]["address"] == "127.0.0.1"
    assert plain.stderr == ""
    for address in ("0.0.0.0", "192.168.1.5"):
        warned = CliRunner().invoke(main, ["explore", str(tiny_store), "--no-open", "--address", address])
        assert "there is no login" in warned.stderr
    for address in ("::1", "localhost", "127.0.0.2"):
        assert CliRunner().invoke(main, ["explore", str(tiny_store), "--no-open", "--address", address]).stderr == ""


def test_what_cannot_be_listened_on_is_not_warned_of(tiny_store: Path) -> None:
    refused = CliRunner().invoke(main, ["explore", str(tiny_store), "--no-open", "--address", "203.0.113.9"])
    assert refused.exit_code == 1
    assert "cannot be listened on" in refused.stderr
    assert "there is no login" not in refused.stderr


@pytest.mark.parametrize(
    "origin", ["http://localhost:6006/", "a b", "localhost:port", "me@host:1", "localhost:99999", ""]
)
def test_an_origin_that_is_none_is_refused_in_one_line(tiny_store: Path, origin: str) -> None:
    with pytest.raises(StoreError, match="is not HOST:PORT: give it as localhost:6006"):
        server.listen(tiny_store, origins=[origin])


def test_both_looks_know_the_same_names() -> None:
    assert LIGHT.variables.keys() == DARK.variables.keys()
    assert all(LIGHT.variables[name] != DARK.variables[name] for name in LIGHT.variables)


def test_a_state_is_a_value(source: Source) -> None:
    first = source.first_state()
    assert first == State(**first.fields())
    assert first != first.copy(channel=first.channel + 1)


@pytest.mark.process
def test_the_command_serves_until_it_is_interrupted(tiny_store: Path) -> None:
    command = [sys.executable, "-c", "from actstore.cli.commands import main; main()", "explore", str(tiny_store)]
    with subprocess.Popen(
        [*command, "--port", "0", "--no-open"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with urllib.request.urlopen(url, timeout=180) as page:
            text = page.read().decode()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=180)
    assert "<title>tiny.zarr · actstore</title>" in text
    assert process.returncode == 0
    assert errors == ""


def test_looking_adds_nothing_to_the_page(source: Source) -> None:
    """Forty-eight actions at random leave as many models in the document as the first few."""
    document = Document()
    choose = np.random.default_rng(0).choice
    with set_curdoc(document):
        page = Page(source, LIGHT)
        server.laid_out(page).server_doc(document)
        counts = []
        for _ in range(24):
            page.go(tab=str(choose(["cohort", "channel"])), layer=str(choose(list(source.channels))))
            page.go(sample=int(choose(len(source.samples))), condition=str(choose(source.perturbed)))
            counts.append(len(document.models))
    assert len(set(counts[10:])) == 1
    assert source._recent.maxsize >= source._recent.currsize > 0
