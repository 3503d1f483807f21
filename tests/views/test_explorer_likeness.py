"""The explorer on neighbours and projections, on classifiers and on runs without perturbations, without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.events import Tap
from scipy.special import softmax

import actstore
from actstore import analysis
from actstore.errors import StoreError
from actstore.tables.build import build_table
from actstore.views.explorer import downloads, likeness
from actstore.views.explorer.cohort import CohortTab
from actstore.views.explorer.links import read
from actstore.views.explorer.neighbours import NEAREST, NeighboursTab
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import LIGHT
from actstore.views.explorer.probabilities import MOST, shown_classes
from actstore.views.explorer.projection_plot import Groups
from actstore.views.explorer.source import Source
from conftest import Once, WriteSpec, _captured

pytestmark = pytest.mark.slow

LV = "brightness(LV, 0.1)"
RING = "noise(ring, 0.5)"


@pytest.fixture(scope="module")
def source(study_store: Path) -> Source:
    return Source(actstore.open(study_store))


@pytest.fixture(scope="module")
def classified(classified_store: Path) -> Source:
    return Source(actstore.open(classified_store))


@pytest.fixture(scope="module")
def alone(once: Once, write_spec: WriteSpec) -> dict[str, Source]:
    """Stores of runs without perturbations: a classifier's without tensors, and a segmentation's."""

    def fill(folder: Path) -> None:
        from classifiers import spec_tables, write_images

        tables = spec_tables(write_images(folder / "images"))
        _captured(write_spec(folder, **tables, store__path=folder / "images.zarr", store__keep="statistics"))
        changes: dict[str, Any] = {"perturb": None, "data__patients": ["patient001"]}
        _captured(write_spec(folder, **changes, store__path=folder / "slices.zarr"))

    folder = once("alone", fill)
    return {name: Source(actstore.open(folder / f"{name}.zarr")) for name in ("images", "slices")}


def opened(source: Source, **changes: Any) -> Page:
    page = Page(source, LIGHT)
    page.go(**changes)
    return page


def tab(page: Page, kind: type[Any]) -> Any:
    (found,) = (one for one in page._tabs.values() if isinstance(one, kind))
    return found


def text_of(html: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", str(html.object))).strip()


def tap(plot: Any, x: float, y: float) -> None:
    plot._trigger_event(Tap(plot, x=x, y=y))


# Neighbours


def test_neighbours_are_those_of_the_analysis_never_of_the_same_patient(source: Source) -> None:
    page = opened(source, tab="neighbours", layer="L02", sample=11)
    pictures = tab(page, NeighboursTab).nearest.grid.thumbnails
    points = analysis.embedding(source.store, "L02", "mean+max").compute()
    found = analysis.neighbours(points, NEAREST).isel(sample=11)
    assert [one.number for one in pictures] == [11, *found["neighbour"].values]
    np.testing.assert_allclose([one.value for one in pictures[1:]], found["distance"].values, rtol=1e-9)
    patients = source.samples["patient"].to_numpy()
    assert patients[11] not in patients[[one.number for one in pictures[1:]]]
    image = source.store.picture("image", pictures[1].number)
    np.testing.assert_allclose(pictures[1].pixels, (image - image.min()) / np.ptp(image), rtol=1e-5)


def test_a_tap_on_a_neighbour_selects_it(source: Source) -> None:
    page = opened(source, tab="neighbours", layer="L02", sample=11)
    shown = tab(page, NeighboursTab).nearest
    wanted = shown.grid.thumbnails[2].number
    edges = {name: ends[2] for name, ends in shown.grid.edges.items()}
    tap(shown.figure.plot, (edges["left"] + edges["right"]) / 2, (edges["top"] + edges["bottom"]) / 2)
    assert source.sample(page.state) == wanted
    assert shown.grid.thumbnails[0].number == wanted


def test_points_of_a_layer_are_read_once_and_without_tensors(study_store: Path, monkeypatch: Any) -> None:
    own = Source(actstore.open(study_store))
    monkeypatch.setattr(type(own.store), "__getitem__", lambda *_: pytest.fail("tensors were read"))
    reads: list[str] = []
    embed = likeness.embedding

    def counted(of: Any, layer: str, *rest: Any, **named: Any) -> Any:
        reads.append(layer)
        return embed(of, layer, *rest, **named)

    monkeypatch.setattr(likeness, "embedding", counted)
    for sample in (3, 4):
        for layer in ("L01", "L02"):
            own.likeness.nearest(layer, sample, 3)
    assert reads == ["L01", "L02"]


def test_without_statistics_the_tab_says_what_to_run(tiny_copy: Path) -> None:
    layout = actstore.open(tiny_copy).layout
    for block in range(layout.blocks):
        (tiny_copy / layout.statistics.record.key(block)).unlink()
    page = opened(Source(actstore.open(tiny_copy)), tab="neighbours")
    shown = tab(page, NeighboursTab)
    assert "run `actstore reduce" in text_of(shown.nearest.head)
    assert not shown.projection._holder.visible
    assert page._messages == []


def test_a_store_of_one_patient_has_no_neighbours(volume_store: Path) -> None:
    page = opened(Source(actstore.open(volume_store)), tab="neighbours")
    assert text_of(tab(page, NeighboursTab).nearest.head) == (
        "no neighbour of another patient: all samples are of one patient"
    )


# Projection


def test_the_picture_is_that_of_the_table_where_one_perturbation_is_in_it(tiny_store: Path) -> None:
    """Up to the conditions that it is made of: the table has both perturbations in one picture, this only one."""
    store = actstore.open(tiny_store)
    own = Source(store)
    found = own.likeness.draw("L02", 1, "pca")
    points = analysis.embedding(store, "L02", "mean+max", condition=None).isel(condition=[0, 1])
    expected = analysis.projection(points)
    np.testing.assert_allclose(found.places[..., 0], expected["x"].values, atol=1e-12)
    np.testing.assert_allclose(found.places[..., 1], expected["y"].values, atol=1e-12)
    page = opened(own, tab="neighbours", layer="L02", condition=own.names[1])
    title = tab(page, NeighboursTab).projection.figure.plot.title.text
    share, trust = float(expected["share"]), float(expected["trustworthiness"])
    assert title == f"L02 · principal components, {100 * share:.0f} % of variance · trustworthiness {trust:.2f}"


def test_a_tap_selects_the_nearest_sample_and_its_arrow_follows(source: Source) -> None:
    page = opened(source, tab="neighbours", layer="L02", condition=LV)
    plot = tab(page, NeighboursTab).projection
    picture = source.likeness.picture("L02", source.condition(LV), "pca")
    assert picture is not None
    applies = np.flatnonzero(source.applicable[:, source.condition(LV)])
    wanted = int(next(n for n in applies if n != source.sample(page.state)))
    tap(plot.figure.plot, *picture.places[wanted, 0])
    assert source.sample(page.state) == wanted
    arrows = plot._arrows.data
    # Of more than a few samples, only the one that is shown has an arrow.
    assert len(arrows["x0"]) == 1
    np.testing.assert_allclose([arrows["x0"][0], arrows["y0"][0]], picture.places[wanted, 0])
    np.testing.assert_allclose([arrows["x1"][0], arrows["y1"][0]], picture.places[wanted, 1])


def test_few_samples_all_have_arrows(classified: Source) -> None:
    page = opened(classified, tab="neighbours", layer="L02", condition=RING)
    arrows = tab(page, NeighboursTab).projection._arrows.data
    assert len(arrows["x0"]) == int(classified.applicable[:, 1].sum()) == 4


def test_tsne_is_on_request_and_only_of_few_samples(classified: Source, monkeypatch: Any) -> None:
    page = opened(classified, tab="neighbours", layer="L02", method="tsne")
    assert "t-SNE · trustworthiness" in tab(page, NeighboursTab).projection.figure.plot.title.text
    assert read(page.state.query(), classified) == (page.state, [])
    monkeypatch.setattr("actstore.views.explorer.links.MOST_TSNE", 11)
    state, messages = read("method=tsne", classified)
    assert state.method == "pca"
    assert messages == ["method tsne: this store has 12 samples, t-SNE places at most 11: ignored"]


def test_a_picture_of_many_samples_is_of_some_drawn_evenly(source: Source, monkeypatch: Any) -> None:
    monkeypatch.setattr(likeness, "MOST_SAMPLES", 10)
    found = likeness.Likeness(source.store).draw("L02", 0, "pca")
    assert found.samples[[0, -1]].tolist() == [0, len(source.samples) - 1]
    assert found.places.shape == (10, 1, 2)


def test_a_layer_in_which_all_samples_are_one_is_said(source: Source, monkeypatch: Any) -> None:
    own = likeness.Likeness(source.store)
    same = own.read("L02") * 0
    monkeypatch.setattr(own, "read", lambda layer: same)
    with pytest.raises(StoreError, match="in L02 all samples are one"):
        own.draw("L02", 0, "pca")


def test_more_groups_than_colours_leave_only_the_own_in_colour() -> None:
    of = np.array([0, 1, 2, 8, 8, -1])
    many = Groups([f"patient{i}" for i in range(9)], of)
    assert [colour == LIGHT.accent for colour in many.colours(LIGHT, 3)] == [False, False, False, True, True, False]
    few = Groups(["ring", "cross", "disc"], np.array([0, 1, 2, -1]))
    colours = list(few.colours(LIGHT, 0))
    assert len(set(colours)) == 4
    assert colours[3] == LIGHT.neutral


# Classifiers


def test_every_part_of_a_classifiers_page_works(classified: Source) -> None:
    page = Page(classified, LIGHT)
    for layer in classified.channels:
        for name in ("cohort", "channel", "neighbours", "provenance"):
            page.go(layer=layer, tab=name)
            assert page._messages == []
            assert "could not" not in page.notice.object
    assert read(page.state.query(), classified) == (page.state, [])


def test_bars_are_the_softmax_of_the_score_with_the_label_marked(classified: Source) -> None:
    page = opened(classified, condition=RING)
    sample = classified.sample(page.state)
    score = classified.store.score.sel(condition=["original", RING]).isel(sample=sample).values.astype(float)
    expected = softmax(score, axis=1).T
    rows = re.findall(r"<tr.*?</tr>", page.metrics.view.object)[1:]
    found = [
        [float(n) for n in re.findall(r">(\d\.\d{3})<|(?<=</span>)(\d\.\d{3})", row) for n in n if n] for row in rows
    ]
    np.testing.assert_allclose(found, expected, atol=6e-4)
    label = classified.store.samples["label"].iloc[sample]
    marked = [name for name, row in zip(classified.store.class_names, rows, strict=True) if "label</span>" in row]
    assert marked == [label]


def test_of_many_classes_the_probable_ones_and_the_label_have_bars() -> None:
    probability = np.linspace(0, 1, 40)[None]
    assert shown_classes(probability, 2).tolist() == [2, *range(31, 40)]
    assert len(shown_classes(probability, 39)) == MOST


def test_a_layer_without_maps_shows_its_values(classified: Source) -> None:
    page = opened(classified, layer="L04", condition=RING)
    bars, sample = page.activations.bars, classified.sample(page.state)
    assert bars is not None
    assert bars.view.visible
    values = classified.store["L04"].isel(sample=sample).values
    for glyph, number in (("original", 0), ("perturbed", 1)):
        np.testing.assert_array_equal(bars.figure._glyphs[glyph].data_source.data["value"], values[number])
    tap(bars.figure.plot, 1.2, 0)
    assert page.state.channel == 1
    page.go(layer="L02")
    assert not bars.view.visible


def test_accuracy_stands_in_the_place_of_dice(classified: Source) -> None:
    page = opened(classified, condition=RING, tab="cohort")
    cohort = tab(page, CohortTab)
    assert cohort._dice is None
    table = build_table(classified.store, "accuracy").set_index(["condition", "class_name"])["accuracy"]
    shown = cohort._accuracy.figure._glyphs
    for glyph, condition in (("original dots", "original"), ("perturbed dots", RING)):
        data = shown[glyph].data_source.data
        assert len(data["accuracy"])
        expected = table.loc[condition].loc[list(data["class_name"])]
        np.testing.assert_array_equal(data["accuracy"], expected.to_numpy())
    own = classified.label_probability
    rows = pd.DataFrame(dict(cohort._table.source.data))
    np.testing.assert_allclose(rows["perturbed"], own[rows["sample"], 1], atol=6e-4)


def test_keys_step_from_image_to_image(classified: Source) -> None:
    page = opened(classified, sample=2)
    page._pressed("1 slice 3")
    assert classified.sample(page.state) == 5
    page._pressed("2 slice 99")
    assert classified.sample(page.state) == len(classified.samples) - 1


def test_a_classifiers_downloads(classified: Source) -> None:
    state = classified.first_state(RING).copy(layer="L04")
    rows = downloads.csv(classified, state, classified.subset(state)).splitlines()
    assert "image_name,label,probability_original_ring,probability_perturbed_ring" in rows[0]
    assert len(rows) == 5
    assert downloads.png(classified, state).startswith(b"\x89PNG")
    names: dict[str, Any] = {}
    exec(downloads.code(classified, state), names)
    assert names["sample"] == classified.sample(state)


# Runs without perturbations


@pytest.mark.parametrize("name", ["images", "slices"])
def test_a_run_without_perturbations_opens(alone: dict[str, Source], name: str) -> None:
    own = alone[name]
    page = Page(own, LIGHT)
    assert page.state.condition == "original"
    for layer in own.channels:
        for shown in ("cohort", "channel", "neighbours", "provenance"):
            page.go(layer=layer, tab=shown)
            assert page._messages == []
    assert len(page.inputs.row.pictures) == 1
    assert read(page.state.query(), own) == (page.state, [])
    assert "perturbed" not in downloads.csv(own, page.state, page.subset)
    assert downloads.png(own, page.state).startswith(b"\x89PNG")
    exec(downloads.code(own, page.state), {})


def test_without_perturbations_channels_are_coloured_by_their_maximum(alone: dict[str, Source]) -> None:
    own = alone["slices"]
    page = opened(own, layer="L02")
    maximum = own.store["L02"].isel(sample=own.sample(page.state), condition=0).max(["y", "x"]).values
    shown = page.navigator.figure._glyphs["map"].data_source.data["image"][0]
    np.testing.assert_allclose(shown[1], maximum, rtol=1e-6)
    assert page.state.channel == int(np.argmax(maximum))
    assert read("colour=mad", own)[1] == ["colour 'mad' is not in this store, which has maximum: ignored"]


def test_without_perturbations_samples_of_least_dice_come_first(alone: dict[str, Source]) -> None:
    own = alone["slices"]
    rows = tab(opened(own, tab="cohort"), CohortTab)._table.source.data
    dice = analysis.dice(own.store.confusion).isel(condition=0).values[rows["sample"]]
    there = own.present[rows["sample"]]
    expected = [values[here].mean() if here.any() else np.nan for values, here in zip(dice, there, strict=True)]
    np.testing.assert_allclose(rows["original"], expected, atol=6e-4)
    known = rows["original"][~np.isnan(rows["original"])]
    assert list(known) == sorted(known)


def test_images_alone_can_be_narrowed_to_those_mistaken(alone: dict[str, Source]) -> None:
    own = alone["images"]
    page = opened(own, case="ring→cross", tab="cohort")
    assert own.store.samples["label"][page.subset].unique().tolist() == ["ring"]
    names: dict[str, Any] = {}
    exec(downloads.code(own, page.state), names)
    assert list(names["samples"].index) == np.flatnonzero(page.subset).tolist()


def test_values_come_from_statistics_where_tensors_were_not_kept(alone: dict[str, Source], classified: Source) -> None:
    own = alone["images"]
    names = {name: i for i, name in enumerate(classified.store.samples["image_name"])}
    for sample in (0, 7):
        at = names[own.store.samples["image_name"].iloc[sample]]
        np.testing.assert_allclose(own.values("L04", sample)[0], classified.values("L04", at)[0], rtol=1e-6)
