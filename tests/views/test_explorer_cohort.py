"""The part of the explorer on all samples: its figures against the store, and what boxes and taps ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
import pytest
from bokeh.document import Document
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import BoxSelectTool, ColumnDataSource, Plot

import actstore
from actstore import analysis
from actstore.views.explorer import cohort_figures as figures
from actstore.views.explorer import cohort_numbers as numbers
from actstore.views.explorer.cohort import CohortTab
from actstore.views.explorer.links import read
from actstore.views.explorer.page_theme import DARK, LIGHT, PageTheme
from actstore.views.explorer.part import Work
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DiceBox, MadRange

LV = "brightness(LV, 0.1)"
PITCH = figures.PITCH


class Session:
    """Does what a page does, and keeps what its part asked for."""

    def __init__(self, source: Source, theme: PageTheme = LIGHT, sample: int | None = None) -> None:
        self.source, self.theme = source, theme
        self.state = source.first_state(LV)
        if sample is not None:
            self.state = self.state.copy(**source.at(sample))
        self.subset = source.subset(self.state)
        self.asked: list[dict[str, Any]] = []
        self.works: list[tuple[Callable[..., Any], Callable[[Any], None], str]] = []
        self.part = CohortTab(self)
        self.document = Document()
        self.document.add_root(self.part.view.get_root())
        self.part.update()

    def go(self, **changes: Any) -> None:
        self.asked.append(dict(changes))
        if "sample" in changes:
            changes |= self.source.at(changes.pop("sample"), self.state)
        self.state.param.update(**changes)
        self.subset = self.source.subset(self.state)
        self.part.update()

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> bool:
        self.works.append((work, done, what, failed))
        return False

    def work(self) -> None:
        work, done, _, _ = self.works.pop()
        done(work(lambda n, of: None))

    def plot(self, name: str) -> Any:
        return getattr(self.part, name).figure.plot

    def columns(self, name: str, glyph: int) -> dict[str, Any]:
        """What a glyph of a figure was given to draw."""
        return dict(self.plot(name).renderers[glyph].data_source.data)

    def tap(self, name: str, x: float, y: float) -> None:
        plot = self.plot(name)
        plot._trigger_event(Tap(plot, x=x, y=y))

    def box(self, name: str, x0: float, y0: float, x1: float, y1: float) -> None:
        plot = self.plot(name)
        geometry = {"type": "rect", "x0": x0, "y0": y0, "x1": x1, "y1": y1}
        plot._trigger_event(SelectionGeometry(plot, geometry=geometry, final=True))

    @property
    def table(self) -> ColumnDataSource:
        return self.part._table.source


DICE, CASES, MAD = "_dice", "_cases", "_mad"
#: Numbers of glyphs in their figures.
NAMES, BOX, DOTS, RING = 1, 3, 4, 5
BAR, CHOSEN = 0, 1
POINTS = 5


@pytest.fixture(scope="module")
def source(study_store: Path) -> Source:
    return Source(actstore.open(study_store))


@pytest.fixture
def fresh(study_store: Path) -> Source:
    return Source(actstore.open(study_store))


@pytest.fixture
def session(source: Source) -> Session:
    found = Session(source)
    if found.works:
        found.work()
    return found


@pytest.fixture(scope="module")
def truth(source: Source) -> pd.DataFrame:
    """Of the samples that the condition applies to, by number: Dice of each class, NaN where it is not there; case."""
    store = source.store
    dice = analysis.dice(store.confusion, applicable=store.applicable).compute()
    applies = store.applicable.sel(condition=LV).values
    label = store.label.values
    there = {name: (label == number).any(axis=(1, 2)) for name, number in store.classes.items()}
    columns = {
        f"{when} {name}": np.where(there[name], dice.sel(condition=condition, class_name=name).values, np.nan)
        for when, condition in (("original", "original"), ("perturbed", LV))
        for name in ("RV", "MYO", "LV")
    }
    frame = pd.DataFrame(columns)
    frame["case"] = store.cases.compute().sel(condition=LV).values
    return frame[applies]


def dots(session: Session, k: int | None = None) -> pd.DataFrame:
    """Dots of the samples in the subset, or those of one class; and of -1, of the others."""
    found = pd.DataFrame(session.columns(DICE, DOTS))
    return found[found["colour"] >= 0] if k is None else found[found["colour"] == k]


def test_dice_lies_where_the_store_says(session: Session, truth: pd.DataFrame) -> None:
    assert dots(session, -1).empty
    for k, name in enumerate(("RV", "MYO", "LV")):
        own = dots(session, k)
        np.testing.assert_allclose(own["x"] - k * PITCH, truth[f"original {name}"], atol=1e-6)
        np.testing.assert_allclose(own["y"], truth[f"perturbed {name}"], atol=1e-6)
        assert session.columns(DICE, NAMES)["text"][k] == f"{name} · n = {truth[f'original {name}'].count()}"
        for told, names in (("patient", session.source.patients), ("case", session.source.case_names)):
            expected = truth["case"] if told == "case" else session.source.samples[told][truth.index]
            assert [names[n] for n in own[told]] == expected.tolist()
    now = session.source.sample(session.state)
    expected = [truth[f"perturbed {name}"][now] for name in ("RV", "MYO", "LV")]
    np.testing.assert_allclose(session.columns(DICE, RING)["y"], expected)


def test_a_box_narrows_the_page_to_what_lies_inside(session: Session, truth: pd.DataFrame) -> None:
    low = float(truth["perturbed RV"].median())
    session.box(DICE, -0.2, low, 1.06, 1.3)
    (asked,) = session.asked
    box = asked["dice"]
    assert (box.class_name, box.left, box.right, box.high) == ("RV", 0.0, 1.0, 1.0)
    assert low - 1e-3 < box.low <= low
    inside = truth.index[truth["perturbed RV"] >= box.low]
    assert 0 < len(inside) < len(truth)
    assert list(np.flatnonzero(session.subset)) == list(inside)
    assert (len(dots(session)), len(dots(session, -1))) == (3 * len(inside), 3 * (len(truth) - len(inside)))
    assert sorted(session.table.data["sample"]) == list(inside)
    link, messages = read(session.state.query(), session.source)
    assert not messages
    assert np.array_equal(session.source.subset(link), session.subset)
    x, y = (session.columns(DICE, BOX)[name] for name in "xy")
    assert (min(x), min(y), max(x), max(y)) == (0, box.low, 1, 1)


def test_a_box_in_another_square_is_of_its_class(session: Session) -> None:
    session.box(DICE, 2 * PITCH + 0.25, 0.125, 2 * PITCH + 0.75, 0.5)
    name, left, right, low, high = session.asked[0]["dice"]
    assert (name, low, high) == ("LV", 0.125, 0.5)
    assert (left, right) == (pytest.approx(0.25, abs=2e-4), pytest.approx(0.75, abs=2e-4))
    assert left <= 0.25 + 1e-12
    assert right >= 0.75 - 1e-12


def test_a_tap_shows_the_nearest_sample_of_the_condition(session: Session, truth: pd.DataFrame) -> None:
    x, y = 0.4, 0.6
    distance = np.hypot(truth["original MYO"] - x, truth["perturbed MYO"] - y)
    session.tap(DICE, PITCH + x, y)
    assert session.asked == [{"sample": int(distance.idxmin())}]
    session.tap(DICE, -0.1, 0.3)
    assert len(session.asked) == 1


def test_cases_are_counted_and_tapped(session: Session, truth: pd.DataFrame) -> None:
    counts = truth["case"].value_counts()
    bars = session.columns(CASES, BAR)
    assert dict(zip(bars["case"], bars["right"], strict=True)) == counts.to_dict()
    first = str(bars["case"][0])
    session.tap(CASES, 1.0, 0.2)
    assert session.state.case == first
    assert list(np.flatnonzero(session.subset)) == list(truth.index[truth["case"] == first])
    assert list(session.columns(CASES, CHOSEN)["right"]) == [counts[first]] + [0] * (len(counts) - 1)
    session.tap(CASES, 1.0, 0.2)
    assert session.asked == [{"case": first}, {"case": ""}]
    session.tap(CASES, 1.0, 3.4 + len(counts))
    assert len(session.asked) == 2


def layer_means(source: Source) -> pd.DataFrame:
    store = source.store
    return pd.DataFrame(
        {
            layer: store.statistics(layer, ["mad"])["mad"].sel(condition=LV).mean("channel").values
            for layer in store.layers.index
        }
    )


def test_mad_by_layer_is_of_the_subset_and_of_all(session: Session, truth: pd.DataFrame) -> None:
    means = layer_means(session.source).loc[truth.index]
    session.go(dice=DiceBox("RV", 0.0, 1.0, 0.0, float(truth["perturbed RV"].median())))
    own = means[session.subset[truth.index]]
    assert 0 < len(own) < len(means)
    points = session.columns(MAD, POINTS)
    assert list(points["layer"]) == list(means.columns)
    for name, expected in (
        ("median", own.median()),
        ("low", own.quantile(0.25)),
        ("high", own.quantile(0.75)),
        ("all", means.median()),
        ("this", means.loc[session.source.sample(session.state)]),
    ):
        np.testing.assert_allclose(points[name], expected, rtol=1e-4)


def test_a_box_and_a_tap_on_mad(session: Session, truth: pd.DataFrame) -> None:
    means = layer_means(session.source).loc[truth.index]
    layer = means.columns[-1]
    at, shown = len(means.columns) - 1, means[layer].map(lambda mad: float(f"{mad:.4g}"))
    # As a hand draws it: between two samples that the page shows with different numbers.
    low = float(shown.drop_duplicates().sort_values().iloc[len(shown.unique()) // 2])
    session.box(MAD, at - 0.3, low * (1 - 1e-6), at + 2.0, 1e6)
    assert session.asked[0]["mad"] == MadRange(layer, low, 1e6)
    assert list(np.flatnonzero(session.subset)) == list(means.index[shown >= low])
    session.tap(MAD, 1.2, 0.0)
    assert session.asked[1] == {"layer": means.columns[1]}


def test_mad_waits_for_the_statistics(fresh: Source) -> None:
    # Whether a first state has to read them is the source's matter.
    fresh._scores.clear()
    session = Session(fresh)
    points = session.columns(MAD, POINTS)
    assert np.isnan(points["median"]).all()
    session.part.update()
    ((_, _, what, _),) = session.works
    assert what == f"statistics of {LV}"
    session.work()
    points = session.columns(MAD, POINTS)
    assert np.isfinite(points["median"]).all()


def test_without_statistics_there_is_a_message(fresh: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(fresh.store), "reduced", False)
    session = Session(fresh)
    assert not session.works
    assert len(list(session.document.select({"type": Plot}))) == 2
    texts = [pane.object for pane in session.part.view.select(pn.pane.HTML)]
    assert any("run `actstore reduce" in text for text in texts)


def test_the_table_has_the_worst_first_and_shows_what_is_clicked(session: Session, truth: pd.DataFrame) -> None:
    change = truth["perturbed LV"] - truth["original LV"]
    table, data = session.table, session.table.data
    assert list(data["change"]) == pytest.approx(sorted(change), abs=6e-4)
    sample = int(data["sample"][-1])
    row = session.source.samples.iloc[sample]
    assert [data[name][-1] for name in ("patient", "frame", "slice")] == [row["patient"], row["frame"], row["slice"]]
    session.go(sample=sample)
    assert table.selected.indices == [len(data["sample"]) - 1]
    session.go(layer=next(iter(session.source.channels)), channel=1)
    assert table.data is data, "sent once"
    before = len(session.asked)
    table.selected.indices = [0]
    assert session.asked[before:] == [{"sample": int(data["sample"][0])}]


def test_only_what_changed_is_sent(session: Session) -> None:
    figures = {name: list(session.plot(name).renderers) for name in (DICE, CASES, MAD)}
    given = {}

    def changed() -> set[str]:
        now = {(name, i): r.data_source.data for name, of in figures.items() for i, r in enumerate(of)}
        found = {f"{name} {i}" for (name, i), data in now.items() if given.get((name, i)) is not data}
        given.update(now)
        return found

    changed()
    session.go(channel=1)
    assert changed() == set()
    session.go(layer=list(session.source.channels)[-1])
    assert {name.split()[0] for name in changed()} == {MAD}
    session.go(sample=int(np.flatnonzero(session.subset)[0]))
    assert {name for name in changed() if not name.startswith(MAD)} == {f"{DICE} {BOX}", f"{DICE} {RING}"}


def test_the_subset_in_words_and_cleared(session: Session, truth: pd.DataFrame) -> None:
    patients = session.source.samples["patient"][truth.index].nunique()
    every, condition = len(session.source.samples), session.state.condition
    assert session.part._words.object == (
        f"{len(truth)} slices of {patients} patients, of {every} in all: those that {condition} applies to"
    )
    assert session.part._clear.disabled
    session.go(case=str(truth["case"].mode()[0]), dice=DiceBox("LV", 0.0, 1.0, 0.0, 0.95))
    text = numbers.in_words(session.source, session.state, session.subset)
    assert text.startswith(f"{session.subset.sum()} of {len(truth)} slices · kind of failure: ")
    assert text.endswith(" · Dice LV 0.000–1.000 → 0.000–0.950")
    session.part._clear.clicks += 1
    assert session.asked[-1] == {"case": "", "dice": None, "mad": None}
    assert not session.state.narrowed


def test_an_empty_subset_is_said(session: Session) -> None:
    session.go(dice=DiceBox("LV", 0.31, 0.32, 0.99, 1.0), mad=MadRange("L01", 0.0, 0.0))
    assert not session.subset.any()
    assert session.part._words.object.startswith("no slice of ")
    assert len(session.table.data["sample"]) == 0
    points = session.columns(MAD, POINTS)
    assert np.isnan(points["median"]).all()


def test_every_condition_is_shown_in_both_colours(source: Source) -> None:
    repeats = [name for name in source.perturbed if not source.target(name)]
    assert repeats
    for theme in (LIGHT, DARK):
        session = Session(source, theme=theme)
        for name in source.perturbed:
            session.go(condition=name)
            while session.works:
                session.work()
            n = int(source.applicable[:, source.condition(name)].sum())
            assert len(session.table.data["sample"]) == n
            assert len(dots(session)) == 3 * n


def test_dragging_draws_a_box_that_fades_no_dots(session: Session) -> None:
    dragged = [figure.toolbar.active_drag for figure in session.document.select({"type": Plot})]
    boxes = [tool for tool in dragged if isinstance(tool, BoxSelectTool)]
    assert (len(dragged), len(boxes)) == (3, 2)
    assert all(tool.renderers == [] for tool in boxes)


def test_of_many_samples_the_others_are_thinned_out_evenly() -> None:
    chosen = np.zeros(9000, bool)
    chosen[:100] = True
    drawn = numbers.drawn_others(chosen)
    assert (len(drawn), drawn[0], drawn[-1]) == (numbers.MOST_DOTS - 100, 100, 8999)
    assert np.diff(drawn).max() <= 3
    assert len(numbers.drawn_others(np.zeros(50, bool))) == 50
    assert numbers.nearest(np.empty(0), np.empty(0), 0.0, 0.0) is None
