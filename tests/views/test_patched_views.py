"""Figures, report and explorer of a store with patches and two input channels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import Findings, views
from actstore.errors import StoreError
from actstore.store.store import Store
from actstore.views.explorer import downloads
from actstore.views.explorer.links import read
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import LIGHT
from actstore.views.explorer.source import Source
from actstore.views.figures.selection import sample_label, sample_number
from actstore.views.report.sections.order import SECTIONS, sections_of
from actstore.views.report.study import Study
from patched import Volume, patched_store

pytestmark = pytest.mark.slow

Patched = tuple[Store, list[Volume]]
LV = "brightness(LV, 0.1)"


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    """What a notebook's extension sets goes again."""
    current = hv.Store.current_backend
    yield
    hv.Store.set_current_backend(current)


@pytest.fixture(scope="module", params=[(16, 16), (8, 16, 16)], ids=["2D", "3D"])
def patched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Patched:
    return patched_store(tmp_path_factory.mktemp("patched"), request.param)


@pytest.fixture(scope="module")
def source(patched: Patched) -> Source:
    return Source(patched[0])


@pytest.fixture(scope="module")
def study(patched: Patched) -> Study:
    return Study(patched[0], Findings(patched[0], resamples=50))


def title_of(panel: Any) -> str:
    return str(panel.opts.get("plot", backend="bokeh").kwargs["title"])


def shown_image(layout: Any) -> Any:
    """Values of the first picture of a figure, its rows from the top."""
    first = next(iter(layout))
    image = next(iter(first.traverse(lambda element: element, [hv.Image])))
    return image.dimension_values(2, flat=False)


# Figures


def test_a_figure_shows_the_input_channel_that_is_asked_for(patched: Patched) -> None:
    store, _ = patched
    sample = int(np.flatnonzero(store.applicable.sel(condition=LV).values)[0])
    plane: dict[str, Any] = {"z": 3} if len(store.layout.space) == 3 else {}
    for asked, number in ((0, 0), ("T1", 0), (1, 1), ("T2", 1)):
        layout = views.inputs(store, sample, LV, crop=False, input_channel=asked, **plane)
        assert title_of(next(iter(layout))) == f"original · {['T1', 'T2'][number]}"
        expected = store.picture("image", sample, 0, input_channel=number)
        expected = expected[3] if plane else expected
        found = shown_image(layout)
        assert np.array_equal(found, expected) or np.array_equal(found[::-1], expected)
    case = str(store.cases.sel(condition=LV).values[sample])
    assert " · T2" in title_of(next(iter(views.gallery(store, case, LV, input_channel="T2"))))
    with pytest.raises(StoreError, match="no input channel 'T9': there are 0 T1, 1 T2"):
        views.inputs(store, sample, LV, input_channel="T9")
    with pytest.raises(StoreError, match="no input channel 2: there are 0 T1, 1 T2"):
        views.inputs(store, sample, LV, input_channel=2)


def test_a_sample_is_named_with_its_patch(patched: Patched) -> None:
    store, _ = patched
    number = 1
    place = tuple(store.samples.iloc[number][["patient", "frame", "slice", "patch"]])
    assert sample_number(store, place) == number
    assert sample_label(store, number) == "sample 1 (patient001, 1, 0, 1)"
    with pytest.raises(StoreError, match=re.escape("give its number, or (patient, frame, slice, patch)")):
        sample_number(store, ("patient001", 1, 0))
    with pytest.raises(StoreError, match="no patient patient001, frame 1, slice 0, patch 99: there are 0, 1, 2"):
        sample_number(store, ("patient001", 1, 0, 99))


# Report


def test_every_section_of_the_report(study: Study) -> None:
    assert study.noun == "patch"
    said: list[str] = []
    for ask in sections_of(study.store).values():
        section = ask(study)
        for figure in section.figures:
            figure.draw()
        captions = [part.caption for part in (*section.figures, *section.tables)]
        said += [*section.words, *section.findings, *captions]
    words = " ".join(said)
    assert "patches" in words
    assert "patchs" not in words
    # What is normalised is a slice, and in 2D what is named or put in order; a sample is none.
    slices = "minmax-slice|perturbed slice by itself|what a slice is"
    if len(study.store.layout.space) == 2:
        slices += r"|slice \d+|along the slices"
    left = re.sub(slices, "", words)
    assert re.findall(r".{30}\bslices?\b.{20}", left) == []


def test_measures_in_the_report_count_each_patch_once(patched: Patched, study: Study) -> None:
    store, _ = patched
    [table] = [t for t in SECTIONS["segmentation"](study).tables if t.key == "segmentation"]
    row = table.data[(table.data["class"] == "LV") & (table.data["condition"] == LV)]
    lv = store.confusion.isel(condition=0).sel(true_class="LV").sum("predicted_class") > 0
    both = int((lv & store.applicable.sel(condition=LV)).sum())
    assert row["sensitivity_samples"].tolist() == [both]


# Explorer


def test_a_page_shows_any_patch(source: Source) -> None:
    page = Page(source, LIGHT)
    assert page.sidebar.patch.visible
    assert page.sidebar.input_channel.visible
    assert page.sidebar.input_channel.options == {"T1": 0, "T2": 1}
    store = source.store
    for sample in range(0, len(store.samples), 17):
        page.go(sample=sample)
        assert source.sample(page.state) == sample
        assert page.sidebar.patch.value == store.samples["patch"].iloc[sample] == page.state.patch
        assert page._messages == []
        assert read(page.state.query(), source) == (page.state, [])
    expected = page.state.copy(patch=page.sidebar.patch.options[0])
    page.sidebar.patch.value = page.sidebar.patch.options[0]
    assert page.state == expected
    assert f"patch {page.state.patch}" in str(page.metrics.view.object)


def test_a_page_shows_any_input_channel(source: Source) -> None:
    page = Page(source, LIGHT)
    first = page.inputs.row.head.object
    assert "Input, original · T1" in str(first)
    page.sidebar.input_channel.value = 1
    assert page.state.input_channel == 1
    assert "Input, original · T2" in str(page.inputs.row.head.object)
    assert "input_channel=1" in page.state.query()
    sample = source.sample(page.state)
    shown = source.picture("image", sample, 0, page.state.slice, 1)
    expected = source.store.picture("image", sample, 0, input_channel=1)
    np.testing.assert_array_equal(shown, expected[page.state.slice] if source.is_3d else expected)
    assert not np.array_equal(shown, source.picture("image", sample, 0, page.state.slice, 0))


def test_another_volume_keeps_the_nearest_patch(source: Source) -> None:
    page = Page(source, LIGHT)
    page.go(sample=len(source.samples) - 1)
    last = page.state.patch
    page.go(patient="patient002", frame=1)
    assert page.state.patch == min(last, max(source.patches("patient002", 1, page.state.slice)))
    page.go(patch=99)
    assert page.state.patch == max(source.patches("patient002", 1, page.state.slice))


@pytest.mark.parametrize("tab", ["cohort", "channel", "provenance"])
def test_every_tab_opens(source: Source, tab: Any) -> None:
    page = Page(source, LIGHT)
    page._complete()
    page.go(tab=tab)
    page.go(sample=3)
    assert page._messages == []
    assert page._tabs[tab].view.get_root() is not None


def test_links_that_this_store_cannot_show(source: Source) -> None:
    _, [message] = read("patient=patient002&frame=1&patch=50", source)
    assert message.startswith("patient002, frame 1, patch 50 is not in this store: shown is patient002, frame 1, slice")
    assert re.search(r", patch \d$", message)
    state, [message] = read("input_channel=7", source)
    assert message == "input_channel 7 is not in this store, which has 0 T1, 1 T2: ignored"
    assert state.input_channel is None


def test_downloads_name_patch_and_channel(source: Source) -> None:
    page = Page(source, LIGHT)
    page.go(input_channel=1)
    sample = source.sample(page.state)
    assert len(downloads.png(source, page.state)) > 1000
    table = pd.read_csv(pd.io.common.StringIO(downloads.csv(source, page.state, page.subset)))
    assert list(table.columns)[:4] == ["patient", "frame", "slice", "patch"]
    made: dict[str, Any] = {}
    code = downloads.code(source, page.state)
    exec(compile(code, "downloaded", "exec"), made)
    assert made["sample"] == sample
    assert title_of(next(iter(made["view"]))) == "original · T2"


def test_a_store_of_one_channel_shows_neither(tiny_store: Path) -> None:
    source = Source(actstore.open(tiny_store))
    page = Page(source, LIGHT)
    assert not page.sidebar.patch.visible
    assert not page.sidebar.input_channel.visible
    code = downloads.code(source, page.state)
    assert "patch" not in code
    assert "input_channel" not in code
    assert "patch" not in page.state.query()
    assert "patch" not in str(page.metrics.view.object)
