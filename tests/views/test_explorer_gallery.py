"""The gallery, the channel's findings and the pins of the explorer, without a browser, against the store."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
import pytest
from bokeh.events import Tap

from actstore.store.opening import open_store
from actstore.store.store import Store
from actstore.tables.optima import open_optima
from actstore.views.explorer.channel import ChannelTab
from actstore.views.explorer.gallery import GalleryTab
from actstore.views.explorer.links import read
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import LIGHT
from actstore.views.explorer.pin_buttons import PinButtons
from actstore.views.explorer.pins import ChannelPin, SamplePin, as_csv, as_json, channel_pins, sample_pins, written
from actstore.views.explorer.pins_tab import PinsTab
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import LONGEST, as_query

pytestmark = pytest.mark.slow

LV = "brightness(LV, 0.1)"


@pytest.fixture(scope="module")
def source(study_store: Path) -> Source:
    return Source(open_store(study_store))


def gallery(page: Page) -> GalleryTab:
    found = page._tabs["gallery"]
    assert isinstance(found, GalleryTab)
    return found


def tap(plot: Any, x: float, y: float) -> None:
    plot._trigger_event(Tap(plot, x=x, y=y))


@pytest.mark.parametrize(("what", "expected"), [("original", 0), ("perturbed", 1), ("difference", None)])
def test_the_gallery_shows_every_channels_map(source: Source, what: str, expected: int | None) -> None:
    page = Page(source, LIGHT, f"tab=gallery&layer=L02&gallery={what}")
    tiles = gallery(page).plot.grid.thumbnails
    both = source.store["L02"].sel(condition=["original", LV]).values[source.sample(page.state)].astype(np.float32)
    maps = both[1] - both[0] if expected is None else both[expected]
    assert [one.number for one in tiles] == [0, 1, 2, 3]
    np.testing.assert_allclose([one.pixels for one in tiles], maps, atol=1e-6)


def test_channels_are_sorted_by_their_numbers_of_the_tables_and_tapped(source: Source) -> None:
    page = Page(source, LIGHT, "tab=gallery&layer=L02&order=mad")
    mad = source.sample_mad(source.sample(page.state), source.condition(LV))[source.where["L02"]]
    tiles = gallery(page).plot.grid.thumbnails
    assert [one.number for one in tiles] == np.argsort(-mad).tolist()
    page.go(order="frequency")
    member = source.scores(source.condition(LV)).member[page.subset][:, source.where["L02"]]
    assert [one.value for one in gallery(page).plot.grid.thumbnails] == sorted(member.mean(axis=0), reverse=True)
    page.go(order="effect")
    effects = source.edits.effects(source.edits.offered[0], LV).values[source.where["L02"]]
    assert [one.number for one in gallery(page).plot.grid.thumbnails] == np.argsort(-effects).tolist()
    grid = gallery(page).plot.grid
    y, x = grid.corner(2)
    tap(gallery(page).plot.figure.plot, x + 1, y + 1)
    assert page.state.channel == grid.thumbnails[2].number
    marked = gallery(page).plot.figure._glyphs["shown"].data_source.data
    assert list(marked["left"]) == [grid.edges["left"][2]]


def test_optima_are_shown_where_there_are_some(source: Source, tiny_store: Path) -> None:
    layer = source.optima.layers[0]
    page = Page(source, LIGHT, f"tab=gallery&layer={layer}&gallery=optima")
    found = open_optima(source.store)
    at = found.channels(layer)
    assert {one.number for one in gallery(page).plot.grid.thumbnails} <= set(at)
    page = Page(Source(open_store(tiny_store)), LIGHT, "tab=gallery&layer=L02&gallery=optima")
    assert "no optima of L02: `actstore visualise SPEC`" in gallery(page).plot.head.object


def test_a_gallery_without_maps_says_why(classified_store: Path, study_store: Path, volume_store: Path) -> None:
    page = Page(Source(open_store(classified_store)), LIGHT, "tab=gallery&layer=L04")
    assert "one value a sample and channel, and no maps" in gallery(page).plot.head.object
    page = Page(Source(open_store(volume_store)), LIGHT, "tab=gallery&layer=L02&gallery=original")
    own = page.source.store["L02"].values[page.source.sample(page.state), 0]
    plane = own[:, page.source.plane("L02", page.state.slice)].astype(np.float32)
    np.testing.assert_array_equal([one.pixels for one in gallery(page).plot.grid.thumbnails], plane)
    store = open_store(study_store)
    store.layout = _without_tensors(store)
    page = Page(Source(store), LIGHT, "tab=gallery")
    assert "the tensors of" in gallery(page).plot.head.object


def _without_tensors(store: Store) -> Any:
    import dataclasses

    layers = tuple(dataclasses.replace(layer, kept=False) for layer in store.layout.layers)
    return dataclasses.replace(store.layout, layers=layers)


def test_a_channel_shows_what_reaches_most_and_what_is_like_it(source: Source) -> None:
    page = Page(source, LIGHT, "tab=channel&layer=L02&channel=1")
    card = page._tabs["channel"]
    assert isinstance(card, ChannelTab)
    maximum = source.store["L02"].isel(condition=0).max(["y", "x"]).values.astype(float)
    shown = [one for one in card.looks_for.finds.grid.thumbnails if one.number >= 0]
    expected = np.sort(maximum[:, 1])[::-1][: len(shown)]
    assert [one.value for one in shown] == pytest.approx(expected, rel=1e-2)
    correlation = np.corrcoef(maximum.T)[1]
    alike = card.looks_for.alike.grid.thumbnails
    assert [one.number for one in alike] == [k for k in np.argsort(-np.abs(correlation)).tolist() if k != 1]
    np.testing.assert_allclose([one.value for one in alike], correlation[[one.number for one in alike]], atol=1e-2)


def test_a_back_projection_is_that_of_the_explanation(source: Source) -> None:
    group = source.store.group("explain/top")
    layer = str(group["layer"].values[0])
    condition = str(group["condition"].values[0])
    channel = int(group["channel"].values[0, 0, 0, 0])
    sample = int(np.flatnonzero(source.store.group_committed("explain/top")[source.samples["block"].to_numpy()])[0])
    found = source.findings.projection(layer, channel, sample, condition, None)
    np.testing.assert_array_equal(found, group["projection"].values[0, 0, 0, 0])


def test_pins_are_part_of_the_link_and_stand_side_by_side(source: Source) -> None:
    first = source.first_state()
    pins = (ChannelPin("L01", 1, "bright: rim | left"), ChannelPin("L02", 0))
    places = [source.at(0), source.at(9)]
    samples = tuple(SamplePin(**place) for place in places)
    state = first.copy(channels=pins, samples=samples, tab="pins")
    assert read(state.query(), source) == (state, [])
    page = Page(source, LIGHT, state.query())
    tab = page._tabs["pins"]
    assert isinstance(tab, PinsTab)
    assert [one.name for one in tab.plot.grid.thumbnails] == ["L01 · 1", "L02 · 0"] * 2
    tap(tab.plot.figure.plot, *reversed([float(edge) + 2 for edge in tab.plot.grid.corner(3)]))
    assert (page.state.layer, page.state.channel) == ("L02", 0)
    assert source.sample(page.state) == 9
    table = pd.read_csv(io.StringIO(as_csv(pins, samples)))
    assert list(table["kind"]) == ["channel", "channel", "sample", "sample"]
    content = json.loads(as_json("a store", pins, samples, state.query()))
    assert tuple(ChannelPin(**one) for one in content["channels"]) == pins
    assert tuple(SamplePin(**one) for one in content["samples"]) == samples


def test_notes_that_do_not_fit_are_left_out_of_the_link(source: Source) -> None:
    state = source.first_state().copy(channels=(ChannelPin("L01", 1, "long " * 400),))
    assert len(state.query()) <= LONGEST
    assert read(state.query(), source)[0].channels == (ChannelPin("L01", 1),)


def test_no_more_is_pinned_than_a_link_holds(source: Source) -> None:
    page = Page(source, LIGHT)
    # One, as long as there is room.
    room = LONGEST - len(page.state.copy(samples=(SamplePin("p", 1, 2),)).query())
    page.state.samples = (SamplePin("p" * (1 + room), 1, 2),)
    assert len(page.state.query()) == LONGEST
    buttons = PinButtons(page)
    buttons.update()
    for pin in (lambda: setattr(buttons.channel, "clicks", 1), lambda: setattr(buttons.note, "value", "a note")):
        pin()
        assert page.state.channels == ()
        assert "no room for more: unpin some first" in page.notice.object
        page.go(channel=1 - page.state.channel)
    page.go(samples=())
    buttons.channel.clicks = 2
    assert len(page.state.channels) == 1


def test_what_the_page_wrote_is_as_long_when_a_server_has_parsed_it(source: Source) -> None:
    pins = tuple(ChannelPin("L01", 1, f"a, b: ({i}) | ü") for i in range(40))
    query = source.first_state().copy(channels=pins, samples=(SamplePin("patient001", 1, 2),)).query()
    assert as_query(dict(parse_qsl(query, keep_blank_values=True))) == query


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("channels=L99:0", "L99 channel 0 is not in this store"),
        ("channels=L01:9999", "L01 channel 9999 is not in this store"),
        ("channels=L01", "is no list of pins"),
        ("samples=patient001:1:99", "patient001, frame 1, slice 99 is not in this store"),
        ("samples=a:b:c", "is no list of pins"),
    ],
)
def test_pins_that_are_not_there_are_named(source: Source, query: str, message: str) -> None:
    state, messages = read(query, source)
    assert state.channels == state.samples == ()
    assert len(messages) == 1
    assert message in messages[0]


def test_pins_are_written_and_read() -> None:
    channels = (ChannelPin("a:b|c", 3), ChannelPin("L01", 0, "50 % of: a|b"))
    samples = (SamplePin("a:b", 1, 0), SamplePin("patient|2", 1, 3, 2))
    assert channel_pins(written(channels)) == channels
    assert sample_pins(written(samples)) == samples
    assert channel_pins(written(channels, notes=False)) == (channels[0], ChannelPin("L01", 0))
