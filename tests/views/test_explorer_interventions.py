"""Interventions in the explorer: colours of the map of channels, lines of a channel's card, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.models import HoverTool

import actstore
from actstore.errors import StoreError
from actstore.jobs.intervene import intervene
from actstore.spec.spec import load_spec
from actstore.tables.build import build_table
from actstore.tables.findings import Findings
from actstore.views.explorer import server
from actstore.views.explorer.channel import ChannelTab
from actstore.views.explorer.edits import Edits
from actstore.views.explorer.links import read
from actstore.views.explorer.navigator import COLOURS, missing, offered_colours, values_of
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import LIGHT
from actstore.views.explorer.source import Source
from actstore.views.wording import interval, number
from conftest import WriteSpec
from intervened import REMOVE, RESTORE, TRANSMIT, Intervened

pytestmark = pytest.mark.slow

DARK_LV, DARK_RV = "brightness(LV, 0.1)", "brightness(RV, 0.1)"


@pytest.fixture(scope="module")
def source(study_store: Path) -> Source:
    return Source(actstore.open(study_store))


@pytest.fixture(scope="module")
def rows(study_store: Path) -> pd.DataFrame:
    """What the table says of each channel of the last layer and the perturbed class."""
    table = build_table(actstore.open(study_store), "effects")
    return table.query("class_name == 'LV' and layer == 'L02'").set_index(["intervention", "channel"])


def card_of(page: Page) -> list[list[str]]:
    """Cells of the lines of the channel's card, without their heads."""
    page.go(tab="channel")
    tab = page._tabs["channel"]
    assert isinstance(tab, ChannelTab)
    lines = re.findall(r"<tr><td.*?</tr>", str(tab.effects.view.object))
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]


def message(page: Page) -> str:
    return re.sub("<[^>]+>", "", str(page.navigator.head.object))


def hover(page: Page) -> HoverTool:
    return page.navigator.figure.plot.select_one(HoverTool)


def test_stores_without_interventions_offer_what_they_did(tiny_store: Path, source: Source) -> None:
    tiny = Source(actstore.open(tiny_store))
    own = {label: colour for label, colour in COLOURS.items() if colour != "maximum"}
    assert offered_colours(tiny) == own
    page = Page(tiny, LIGHT, "tab=channel")
    assert ("value", "@image{0.0000}") in hover(page).tooltips
    assert not page._tabs["channel"].effects.view.visible
    # Growing sets are no effects of channels alone.
    assert offered_colours(source) == own | {
        "necessity (remove), all patients": "effect:remove",
        "restoration (restore), all patients": "effect:restore",
    }


def test_the_map_of_channels_shows_the_table(source: Source, rows: pd.DataFrame) -> None:
    page = Page(source, LIGHT, "colour=effect:remove")
    assert page.sidebar.colour.value == "effect:remove"
    glyph = page.navigator.figure._glyphs["map"]
    image = glyph.data_source.data["image"][0]
    assert np.isnan(image[0]).all(), "L01 was not edited"
    rows = rows.loc["remove"]
    np.testing.assert_allclose(image[1], rows["effect"], rtol=1e-6)
    assert glyph.glyph.color_mapper.low == -glyph.glyph.color_mapper.high < 0
    text = page.navigator._details.data["text"]
    assert text[: image.shape[1]] == [""] * image.shape[1]
    for shown, row in zip(text[image.shape[1] :], rows.itertuples(), strict=True):
        ends = " to ".join(interval(row.effect, row.low, row.high, row.error))
        assert shown == f"{number(row.effect)} ({ends}), corrected p {number(row.q)}"
    assert ("value", "@image{custom}") in hover(page).tooltips
    page.go(colour="mad")
    assert page.navigator._details.data["text"] == []


def test_links_hold_the_intervention(source: Source, tiny_store: Path) -> None:
    state = source.first_state().copy(colour="effect:restore")
    assert read(state.query(), source) == (state, [])
    assert source.subset(state).any()
    found, messages = read("colour=effect:restore", Source(actstore.open(tiny_store)))
    assert found.colour == "mad"
    assert len(messages) == 1
    assert messages[0].startswith("colour 'effect:restore' is not in this store")


def test_an_intervention_of_another_condition_says_of_which(source: Source) -> None:
    page = Page(source, LIGHT, f"condition={DARK_RV}&colour=effect:restore")
    expected = f"restore was made for {DARK_LV}: choose one of these conditions, or another colour"
    assert message(page) == expected
    assert card_of(page)[1] == ["restore", expected]
    page.go(condition="repeat")
    assert message(page) == "repeat perturbs no class: choose another condition or colour"
    page.go(condition=DARK_LV)
    assert expected not in message(page)


def test_a_card_has_a_line_for_each_intervention(source: Source, rows: pd.DataFrame) -> None:
    page = Page(source, LIGHT, "layer=L02&channel=2")
    names = [("remove", "necessity (Dice)"), ("restore", "restoration (share)")]
    for line, (name, quantity) in zip(card_of(page), names, strict=True):
        row = rows.loc[name, 2]
        ends = " to ".join(interval(row["effect"], row["low"], row["high"], row["error"]))
        assert line == [name, quantity, "LV", number(row["effect"]), ends, number(row["q"]), row["note"]]
    page.go(channel=1)
    assert [line[3] for line in card_of(page)] == [number(rows.loc[name, 1]["effect"]) for name, _ in names]
    page.go(layer="L01")
    assert card_of(page)[0] == ["remove", "L01 was not edited"]
    assert card_of(page)[1][1] == "restoration (share)"


def test_effects_are_read_once_and_not_by_the_page(study_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Source(actstore.open(study_store))
    state, built = fresh.first_state().copy(colour="effect:restore"), []
    made = Findings.table
    monkeypatch.setattr(Findings, "table", lambda self, name: (built.append(name), made(self, name))[1])
    assert missing(fresh, state) == [fresh.edits.of_colour("effect:restore")]
    assert built == []
    page = Page(fresh, LIGHT, state.query())
    assert built == ["effects"]
    assert len(card_of(page)) == len(card_of(page)) == 2
    assert built == ["effects"] * 2
    assert missing(fresh, state) == []


def test_each_kind_of_intervention_is_on_the_class_of_the_condition() -> None:
    study: Any = Intervened(patients=6, interventions=(REMOVE, {**RESTORE, "into": [DARK_LV, DARK_RV]}, TRANSMIT))
    edits = Edits(study, {"L01": slice(0, 4), "L02": slice(4, 20), "L03": slice(20, 28)})
    removed, restored, transmitted = edits.offered
    table = Findings(study).table("effects").query("order == 'each'")

    def expected(name: str, condition: str, class_name: str) -> pd.DataFrame:
        return table.query("intervention == @name and condition == @condition and class_name == @class_name")

    for own, condition, rows, quantity in (
        (removed, DARK_LV, expected("remove", "original", "LV"), "necessity (Dice)"),
        (removed, DARK_RV, expected("remove", "original", "RV"), "necessity (Dice)"),
        (restored, DARK_RV, expected("restore", DARK_RV, "RV"), "restoration (share)"),
        (transmitted, DARK_LV, expected("transmit", "original", "LV"), "transmission (share)"),
    ):
        found = edits.effects(own, condition)
        assert (found.quantity, found.class_name) == (quantity, rows["class_name"].iloc[0])
        np.testing.assert_array_equal(found.values, rows["effect"])
        assert len(found.words) == len(rows) == 28
    assert edits.effects(transmitted, DARK_LV).values.argmax() == 4 + 3
    with pytest.raises(StoreError, match=re.escape(f"transmit was made for {DARK_LV}: choose one of these conditions")):
        edits.effects(transmitted, DARK_RV)


def test_a_loss_that_is_none_has_no_share_and_the_note_says_so() -> None:
    study: Any = Intervened(patients=6, interventions=(RESTORE,))
    study.confusion.loc[{"condition": DARK_LV}] = study.confusion.sel(condition="original")
    edits = Edits(study, {"L01": slice(0, 4), "L02": slice(4, 20), "L03": slice(20, 28)})
    with pytest.raises(StoreError, match="restore: loss not above 0: no share of it: choose another condition"):
        edits.effects(edits.offered[0], DARK_LV)


def test_without_perturbations_each_class_has_its_own_colour() -> None:
    study: Any = Intervened(patients=6, interventions=(REMOVE,))
    study.group("interventions/remove")  # made before the perturbations are taken away
    study.conditions = study.conditions.iloc[:1]
    study.confusion, study.applicable = (found.isel(condition=[0]) for found in (study.confusion, study.applicable))
    edits = Edits(study, {"L01": slice(0, 4), "L02": slice(4, 20), "L03": slice(20, 28)})
    assert [(one.colour, one.label) for one in edits.offered] == [
        (f"effect:remove:{name}", f"necessity of {name} (remove), all patients") for name in study.members
    ]
    table = Findings(study).table("effects").query("order == 'each' and class_name == 'MYO'")
    found = edits.effects(edits.offered[1], "original")
    np.testing.assert_array_equal(found.values, table["effect"])


def test_a_store_with_a_new_intervention_is_opened_again_and_few_patients_are_said(
    tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec
) -> None:
    sources = server.Sources(tiny_copy)
    first = sources.get()
    assert not first.edits.offered
    off = {"name": "off", "edit": "zero", "layers": ["bottom.1"], "samples": 2}
    spec = load_spec(write_spec(tmp_path, store__path=tiny_copy, intervene=[off]))
    assert intervene(spec, cluster="inline", device="cpu")[-1].complete
    assert sources.get() is not first
    own = sources.get()
    assert sources.get() is own
    page = Page(own, LIGHT, "colour=effect:off&layer=L02&channel=1")
    table = build_table(own.store, "effects", of="off").query("class_name == 'LV'")
    np.testing.assert_array_equal(values_of(own, page.state, page.subset)[own.where["L02"]], table["effect"])
    row = table.iloc[1]
    assert card_of(page) == [["off", "necessity (Dice)", "LV", number(row["effect"]), "", "", row["note"]]]
    assert row["note"] == "2 patients: too few for an interval"
