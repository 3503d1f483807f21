"""The explorer in a real Chromium, driven as a person would; what it shows compared with what the store holds."""

from __future__ import annotations

import csv
import http.client
import io
import math
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from actstore import analysis
from actstore.store.opening import open_store
from actstore.store.store import Store
from actstore.tables.findings import Findings
from actstore.views.figures.pixels import Place, place_of
from actstore.views.wording import interval
from actstore.views.wording import number as words
from browser import Figure, Log, Served, Visitor, eventually, explorers, number, picture
from conftest import WriteSpec
from web import Handler, web_server

pytestmark = pytest.mark.browser

LV, RV = "brightness(LV, 0.1)", "brightness(RV, 0.1)"
#: After which predictions fail in more than one way.
BRIGHT = "brightness(RV, 1.5)"
#: A slice with both ventricles, and one without them.
THERE = {"patient": "patient002", "frame": 12, "slice": 5}
EMPTY = {"patient": "patient001", "frame": 1, "slice": 0}
#: Columns of an effect and its interval.
ENDS = ("effect", "low", "high", "error")
#: A class of that name is text wherever it stands.
HOSTILE = "RV<img src=x onerror=window.ran=1>"
#: High enough that nothing needs to be scrolled to.
TALL = {"width": 1440, "height": 1300}


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def served(study_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with explorers([study_store], tmp_path_factory.mktemp("served")) as (one,):
        yield one


@pytest.fixture(scope="module")
def store(study_store: Path) -> Store:
    return open_store(study_store)


@pytest.fixture(scope="module")
def context(chromium: Any, served: Served, log: Log) -> Iterator[Any]:
    """Of a browser whose pages may use the clipboard."""
    made = chromium.new_context(viewport=TALL)
    made.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.url)
    made.on("page", log.follow)
    yield made
    made.close()


@pytest.fixture(scope="module")
def window(context: Any) -> Any:
    return context.new_page()


@pytest.fixture
def visitor(window: Any, served: Served) -> Visitor:
    """The page as it is without a link to anything but a slice with both ventricles."""
    visitor = Visitor(window, served.url)
    visitor.turn(**THERE, condition=LV)
    return visitor


def sample_of(store: Store, where: dict[str, Any]) -> int:
    """Number of the sample that an address names."""
    samples = store.samples
    at = (samples["patient"] == where["patient"]) & (samples["frame"] == int(where["frame"]))
    return int(samples.index[at & (samples["slice"] == int(where["slice"]))][0])


def mads(store: Store, where: dict[str, Any], layer: str) -> NDArray[np.float64]:
    """MAD of a layer's channels in the sample and condition that an address names."""
    found = store.statistics(layer)["mad"].sel(condition=where["condition"]).values[sample_of(store, where)]
    return np.asarray(found, float)


def dice_of(store: Store, condition: str, class_name: str) -> NDArray[np.float64]:
    """float (sample, 2): original and perturbed."""
    found = analysis.dice(store.confusion, applicable=store.applicable).sel(class_name=class_name)
    return np.asarray(found.sel(condition=["original", condition]).transpose("sample", "condition").values)


def expect_numbers(visitor: Visitor, store: Store) -> None:
    """Dice, confusion and limits on the page are those of the store, for what the address says."""
    where = visitor.state
    sample, condition = sample_of(store, where), where["condition"]
    before_after = np.stack([dice_of(store, condition, name)[sample] for name in store.class_names[1:]])
    shown = np.array(visitor.dice)
    np.testing.assert_allclose(shown[:, :2], before_after, atol=6e-4)
    np.testing.assert_allclose(shown[:, 2], before_after[:, 1] - before_after[:, 0], atol=6e-4)
    confusion = store.confusion.sel(condition=condition)[sample].transpose("true_class", "predicted_class")
    np.testing.assert_array_equal(visitor.confusion, confusion.values)
    both = ["original", condition]
    images = store.image.sel(condition=both).isel(input_channel=0).values[sample]
    maps = store[where["layer"]].sel(condition=both).values[sample][:, int(where["channel"])].astype(float)
    expected = [
        limits for values, cmap in ((images, "gray"), (maps, "viridis")) for _, limits in scales(values, cmap, where)
    ]
    np.testing.assert_allclose(visitor.limits, expected, rtol=6e-3)


def scales(pair: NDArray[Any], cmap: str, where: dict[str, Any]) -> list[tuple[str, tuple[float, float]]]:
    """Colour map and limits of original, perturbed and difference: of maps one around 0, unless each has its own."""
    original, perturbed = pair
    change = np.abs(perturbed - original).max()
    if where.get("scale") == "own":
        ends = [(values.min(), values.max()) for values in pair]
    elif cmap == "gray":
        ends = [(pair.min(), pair.max())] * 2
    else:
        most = max(np.abs(pair).max(), change)
        return [("RdBu_r", (-most, most))] * 3
    return [*((cmap, limits) for limits in ends), ("RdBu_r", (-change, change))]


# Who is answered


def test_only_loopback_is_listened_on(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=180):
        pass
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", served.port), timeout=5)


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:{port}", 101), ("http://localhost:{port}", 101), ("http://example.org", 403)],
)
def test_only_the_pages_of_this_server_are_talked_to(served: Served, origin: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=180)
    connection.request("GET", "/")
    token = re.search(r'"token":"([^"]+)"', connection.getresponse().read().decode())
    assert token
    connection.close()
    connection.request(
        "GET",
        "/ws",
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
            "Sec-WebSocket-Protocol": f"bokeh, {token[1]}",
            "Origin": origin.format(port=served.port),
        },
    )
    assert connection.getresponse().status == status
    connection.close()


# What is shown


def test_the_page_tells_the_numbers_of_the_store(visitor: Visitor, store: Store) -> None:
    assert visitor.page.title() == f"{store.path.name} · actstore"
    header = visitor.page.locator("header").inner_text()
    assert store.path.name in header
    assert f"{store.samples['patient'].nunique()} patients · {len(store.samples)} slices" in header
    where = visitor.state
    assert visitor.heads[0] == "Input, original"
    assert visitor.heads[1] == visitor.heads[4] == LV
    size = "×".join(str(n) for n in store[where["layer"]].shape[-2:])
    assert visitor.heads[3] == f"{where['layer']} channel {where['channel']} · {size}"
    assert int(where["channel"]) == int(np.argmax(mads(store, where, where["layer"])))
    expect_numbers(visitor, store)
    who = visitor.page.locator(".sample .who").inner_text()
    case = store.cases.sel(condition=LV).values[sample_of(store, where)]
    assert who.startswith("patient002 · frame 12")
    assert who.endswith(f"slice 5 · kind of failure: {case}")


@pytest.mark.parametrize(("layer", "scale"), [("L01", "shared"), ("L02", "shared"), ("L02", "own")])
def test_every_pixel_has_the_colour_of_its_value_at_its_place(
    visitor: Visitor, store: Store, layer: str, scale: str
) -> None:
    """Row 0 on top, column 0 to the left, and a layer of half the size where it lies on the input."""
    visitor.turn(**THERE, condition=LV, layer=layer, channel=1, truth="no", prediction="no", scale=scale)
    sample = sample_of(store, visitor.state)
    both = ["original", LV]
    images = store.image.sel(condition=both).isel(input_channel=0).values[sample]
    maps = store[layer].sel(condition=both).values[sample][:, 1].astype(float)
    place = place_of(store.grids[layer])
    for row, values, cmap, where in (("input", images, "gray", Place()), ("map", maps, "viridis", place)):
        shown = [*values, values[1] - values[0]]
        for i, (picture_, (colours, limits)) in enumerate(
            zip(shown, scales(values, cmap, {"scale": scale}), strict=True)
        ):
            _expect_colours(visitor, visitor.figure(row, index=i), picture_, limits, colours, where)


def _expect_colours(
    visitor: Visitor, figure: Figure, values: NDArray[Any], limits: tuple[float, float], cmap: str, place: Place
) -> None:
    height, width = values.shape
    rows = np.array([0, 0, height - 1, height - 1, 1, height // 2, height // 2 + 5, height // 4, height - 3])
    columns = np.array([0, width - 1, 0, width - 1, width // 2, 2, width // 2 - 4, width // 3, width // 2 + 7])
    xs, ys = place.centre(columns, 1), place.centre(rows, 0)
    inside = (np.abs(xs - 31.5) <= 31.5) & (np.abs(ys - 31.5) <= 31.5)
    assert inside.sum() >= 6
    shares = (values[rows, columns] - limits[0]) / (limits[1] - limits[0])
    expected = matplotlib.colormaps[cmap](shares)[:, :3] * 255
    left, top = figure.frame[:2]

    def as_expected() -> None:
        seen = visitor.pixels(figure).astype(int)
        at = [figure.at(x, y) for x, y in zip(xs[inside], ys[inside], strict=True)]
        found = np.array([seen[int(y - top), int(x - left)] for x, y in at])
        # A palette of 256 colours rounds differently by one of them, which is up to 6 of 255.
        np.testing.assert_allclose(found, expected[inside], atol=7)

    eventually(as_expected)


def test_outlines_are_drawn_where_truth_and_prediction_change(visitor: Visitor, store: Store) -> None:
    """The perturbed class in its colour along its border, and nothing of it with outlines off."""
    visitor.turn(**THERE, condition=LV, prediction="no")
    label = store.label.values[sample_of(store, visitor.state)] == store.classes["LV"]
    difference = visitor.figure("input", index=2)
    colour = np.array([0xD5, 0x5E, 0x00])

    def outlined() -> NDArray[np.intp]:
        return np.argwhere(np.abs(visitor.pixels(difference).astype(int) - colour).max(axis=2) < 24)

    eventually(lambda: _expect_around(outlined(), difference, label))
    visitor.press("truth")
    assert visitor.state["truth"] == "no"
    eventually(lambda: _expect_none(outlined()))


def _expect_around(found: NDArray[np.intp], figure: Figure, mask: NDArray[np.bool_]) -> None:
    scale = figure.frame[2] / mask.shape[1]
    assert len(found) > 50
    for axis in range(2):
        of_mask = np.flatnonzero(mask.any(axis=1 - axis))
        assert abs(found[:, axis].min() / scale - of_mask[0]) < 1
        assert abs(found[:, axis].max() / scale - of_mask[-1] - 1) < 1


def _expect_none(found: NDArray[np.intp]) -> None:
    assert len(found) == 0


def test_a_condition_that_does_not_apply_is_said(visitor: Visitor) -> None:
    visitor.turn(**EMPTY, condition=LV)
    notes = visitor.page.locator(".pictures .note").all_inner_texts()
    assert notes[0] == f"{LV} was not inferred here: the sample contains no LV"
    assert np.isnan(np.array(visitor.dice)[:, 1]).all()


# What is chosen


def test_widgets_choose_the_sample(visitor: Visitor, store: Store) -> None:
    visitor.choose("Patient", "patient004")
    assert visitor.state["patient"] == "patient004"
    expect_numbers(visitor, store)
    own = store.samples.query("patient == 'patient004'")
    phase, other = next(p for p in zip(own["phase"], own["frame"], strict=True) if p[1] != int(visitor.state["frame"]))
    visitor.press(f"{phase} {other}")
    assert visitor.state["frame"] == str(other)
    expect_numbers(visitor, store)
    before = int(visitor.state["slice"])
    handle = visitor.page.locator("aside .noUi-handle:visible").first
    handle.focus()
    visitor.act(lambda: visitor.page.keyboard.press("ArrowLeft"))
    assert int(visitor.state["slice"]) == before - 1
    assert f"slice {before - 1} ·" in visitor.page.locator(".who").inner_text()
    expect_numbers(visitor, store)


def test_the_slider_goes_back_to_where_it_was_before_a_key(visitor: Visitor) -> None:
    visitor.turn(patient="patient002", frame=12, slice=2, condition=LV)
    base = visitor.page.locator("aside .noUi-base").first

    def slide() -> None:
        box = base.bounding_box()
        visitor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    visitor.act(slide)
    there = visitor.state["slice"]
    assert there != "2"
    visitor.page.locator("header h1").click()
    for _ in range(2):
        visitor.act(lambda: visitor.page.keyboard.press("ArrowUp"))
    assert int(visitor.state["slice"]) == int(there) - 2
    visitor.act(slide)
    assert visitor.state["slice"] == there


def test_widgets_choose_the_perturbation(visitor: Visitor, store: Store) -> None:
    visitor.press("RV")
    assert visitor.state["condition"] == RV
    expect_numbers(visitor, store)
    visitor.choose("Strength", "1.5")
    assert visitor.state["condition"] == "brightness(RV, 1.5)"
    assert visitor.heads[1] == "brightness(RV, 1.5)"
    expect_numbers(visitor, store)
    visitor.choose("Perturbation", "brightness, control region")
    assert visitor.state["condition"] == "brightness(RV, 1.5, control)"


def test_widgets_choose_the_kind_of_failure(visitor: Visitor, store: Store) -> None:
    cases = store.cases.sel(condition=BRIGHT).values
    names, counts = np.unique(cases[cases != ""], return_counts=True)
    rarest = int(np.argmin(counts))
    assert len(names) > 1
    visitor.turn(**THERE, condition=BRIGHT)
    visitor.choose("Kind of failure", f"{names[rarest]} ({counts[rarest]})")
    assert visitor.state["case"] == names[rarest]
    expect_words(visitor, int(counts[rarest]), int(counts.sum()))


def test_widgets_choose_layer_channel_and_scale(visitor: Visitor, store: Store) -> None:
    visitor.choose("Layer", re.compile("^L02 "))
    where = visitor.state
    assert where["layer"] == "L02"
    assert int(where["channel"]) == int(np.argmax(mads(store, where, "L02")))
    expect_numbers(visitor, store)
    field = visitor.page.get_by_label("Channel (0–3)")
    field.fill("3")
    visitor.act(lambda: field.press("Enter"))
    assert visitor.state["channel"] == "3"
    assert visitor.heads[3].startswith("L02 channel 3 ")
    expect_numbers(visitor, store)
    shared = visitor.limits
    visitor.press("own scale")
    assert visitor.state["scale"] == "own"
    assert visitor.limits != shared
    expect_numbers(visitor, store)
    visitor.press("shared scale")
    assert visitor.limits == shared


def test_outlines_can_be_switched_off(visitor: Visitor) -> None:
    visitor.aside()
    visitor.settled()
    shown = visitor.pictures()
    visitor.press("prediction")
    visitor.press("truth")
    assert (visitor.state["truth"], visitor.state["prediction"]) == ("no", "no")
    visitor.aside()
    eventually(lambda: _expect_all_changed(shown, visitor.pictures()))


def _expect_all_changed(before: list[bytes], after: list[bytes]) -> None:
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a == b] == []


# The map of layers and channels


def test_a_tap_on_the_map_of_channels_shows_that_channel(visitor: Visitor, store: Store) -> None:
    layers = list(store.layers.index)
    for layer, channel in (("L02", 2), ("L01", 0)):
        visitor.tap(visitor.figure("navigator"), channel, layers.index(layer))
        assert (visitor.state["layer"], visitor.state["channel"]) == (layer, str(channel))
        assert visitor.heads[3].startswith(f"{layer} channel {channel} ")
        expect_numbers(visitor, store)


def test_of_two_quick_taps_the_second_is_shown_too(visitor: Visitor, store: Store) -> None:
    layers, figure = list(store.layers.index), visitor.figure("navigator")

    def tapped_twice() -> None:
        for layer, channel in (("L02", 2), ("L01", 0)):
            visitor.page.mouse.click(*figure.at(channel, layers.index(layer)))

    visitor.act(tapped_twice)
    eventually(lambda: _expect_map(visitor, "L01", 0))


def _expect_map(visitor: Visitor, layer: str, channel: int) -> None:
    assert (visitor.state["layer"], visitor.state["channel"]) == (layer, str(channel))


def test_the_map_of_channels_marks_the_top_3_and_is_coloured_by_mad(visitor: Visitor, store: Store) -> None:
    visitor.aside()
    where, figure = visitor.state, visitor.figure("navigator")
    values = [mads(store, where, layer) for layer in store.layers.index]
    known = np.concatenate(values)
    most = np.quantile(known, 0.995)
    left, top = figure.frame[:2]

    def as_expected() -> None:
        seen = visitor.pixels(figure).astype(int)
        for row, of_layer in enumerate(values):
            best = np.argsort(-of_layer)[:3]
            for channel, value in enumerate(of_layer):
                x, y = figure.at(channel, row)
                x, y = int(x - left), int(y - top)
                marked = (seen[y - 2 : y + 3, x - 2 : x + 3].min(axis=2) > 200).any()
                assert marked == (channel in best), (row, channel)
                colour = matplotlib.colormaps["viridis"](value / most)[:3]
                np.testing.assert_allclose(seen[y + 15, x + 15], np.array(colour) * 255, atol=7)

    eventually(as_expected)


def test_the_map_of_channels_is_coloured_by_what_is_chosen(visitor: Visitor, store: Store) -> None:
    member = analysis.in_top(store.statistics("L01")["mad"], 3, applicable=store.applicable)
    assert member.sel(condition=LV).values[store.applicable.sel(condition=LV).values].all(), (
        "two channels, all in top 3"
    )
    menu = visitor.page.locator(".navigator select")
    ends = {}
    for label, name in (
        ("frequency in the top 3, subset", "frequency"),
        ("effect against control, subset", "control"),
        ("standardised MAD of this sample", "standardised"),
    ):
        visitor.act(lambda label=label: menu.select_option(label=label))
        assert visitor.state["colour"] == name
        visitor.page.locator(".navigator .note", has_text="reading").wait_for(state="detached")
        ends[name] = [number(text) for text in visitor.page.locator(".navigator .scale i").all_inner_texts()]
    assert ends["frequency"] == [0, 1]
    assert ends["control"][0] == -ends["control"][1] < 0
    assert ends["standardised"][0] == 0 < ends["standardised"][1]


def test_the_pointer_shows_an_effect_with_its_interval_and_p(visitor: Visitor, store: Store) -> None:
    row = Findings(store, of="remove").table("effects").query("class_name == 'LV'").iloc[2]
    tooltip = visitor.page.locator(".bk-Tooltip")
    for colour, shown in (
        ("effect:remove", f"{words(row['effect'])} ({' to '.join(interval(*row[list(ENDS)]))}), corrected p"),
        ("mad", f"{mads(store, visitor.state, 'L02')[2]:.4f}"),
    ):
        visitor.turn(**THERE, condition=LV, colour=colour)
        figure = visitor.figure("navigator")
        visitor.page.mouse.move(*figure.at(0, 0))
        visitor.page.mouse.move(*figure.at(2, 1))
        tooltip.get_by_text(shown, exact=False).wait_for()
    visitor.aside()


# All samples


def expect_words(visitor: Visitor, chosen: int, of: int) -> None:
    """The cohort says that the page is about ``chosen`` of ``of`` samples."""
    visitor.page.locator(".tabs").get_by_text(f"{chosen} of {of} slices", exact=False).first.wait_for()


def test_a_box_on_dice_chooses_samples(visitor: Visitor, store: Store) -> None:
    dice = dice_of(store, LV, "LV")
    applies = store.applicable.sel(condition=LV).values
    figure = visitor.figure("tabs", "dice")
    top = float(np.nanmedian(dice[applies, 1]))
    # LV is the last class: its square is the rightmost.
    right = figure.x[1] - 0.02
    visitor.drag(figure, (right - 1.05, -0.03), (right, top))
    name, *bounds = visitor.state["dice"].split(":")
    left_end, right_end, low, high = map(float, bounds)
    assert name == "LV"
    assert (left_end, right_end, low) == (0, 1, 0)
    assert high == pytest.approx(top, abs=1.5 * (figure.y[1] - figure.y[0]) / figure.frame[3])
    inside = applies & (dice[:, 1].round(3) <= high)
    assert 0 < inside.sum() < applies.sum()
    expect_words(visitor, int(inside.sum()), int(applies.sum()))
    visitor.press("clear")
    assert "dice" not in visitor.state
    words = f"{applies.sum()} slices of {store.samples['patient'][applies].nunique()} patients"
    visitor.page.locator(".tabs").get_by_text(words).wait_for()


def test_a_box_on_mad_chooses_samples(visitor: Visitor, store: Store) -> None:
    mad = store.statistics("L02")["mad"].sel(condition=LV).mean("channel").values
    applies = store.applicable.sel(condition=LV).values
    visitor.page.locator(".tabs").get_by_text(f"{applies.sum()} slices").wait_for()
    eventually(lambda: _expect_scale(visitor, float(np.nanmedian(mad[applies]))))
    figure = visitor.figure("tabs", "mad")
    middle = float(np.nanmedian(mad[applies]))
    visitor.drag(figure, (0.75, middle), (1.25, figure.y[1] * 0.99))
    layer, *bounds = visitor.state["mad"].split(":")
    low, high = map(float, bounds)
    assert layer == "L02"
    assert low == pytest.approx(middle, abs=1.5 * figure.y[1] / figure.frame[3])
    shown = analysis.significant(mad)
    inside = applies & (shown >= low) & (shown <= high)
    assert 0 < inside.sum() < applies.sum()
    expect_words(visitor, int(inside.sum()), int(applies.sum()))


def _expect_scale(visitor: Visitor, value: float) -> None:
    """Statistics are read beside the page: until then there is no MAD to draw."""
    figure = visitor.figure("tabs", "mad")
    assert "loading" not in figure.title
    assert figure.y[1] > value


def test_a_tap_on_a_bar_chooses_a_kind_of_failure(visitor: Visitor, store: Store) -> None:
    visitor.turn(**THERE, condition=BRIGHT)
    cases = store.cases.sel(condition=BRIGHT).values
    names, counts = np.unique(cases[cases != ""], return_counts=True)
    bars = sorted(zip(-counts, names, strict=True))
    eventually(lambda: _expect_bars(visitor, int(counts.sum())))
    visitor.tap(visitor.figure("tabs", "kinds"), 0.5, 1)
    count, name = bars[1]
    assert visitor.state["case"] == name
    expect_words(visitor, -count, int(counts.sum()))
    visitor.tap(visitor.figure("tabs", "kinds"), 0.5, 1)
    assert "case" not in visitor.state


def _expect_bars(visitor: Visitor, number: int) -> None:
    assert visitor.figure("tabs", "kinds").title.endswith(f"n = {number}")


#: Columns of the table, in their order.
COLUMNS = ("patient", "frame", "slice", "case", "original", "perturbed", "change")


def test_a_click_on_a_row_shows_that_sample(visitor: Visitor, store: Store) -> None:
    row = visitor.page.locator(".tabs .slick-row:not(:has(.selected))").nth(1)
    row.wait_for()
    text = dict(zip(COLUMNS, row.locator(".slick-cell").all_inner_texts(), strict=True))
    visitor.act(row.locator(".slick-cell").first.click)
    assert {name: visitor.state[name] for name in THERE} == {name: text[name] for name in THERE}
    original, perturbed = dice_of(store, LV, "LV")[sample_of(store, visitor.state)]
    assert number(text["change"]) == pytest.approx(perturbed - original, abs=6e-4)
    expect_numbers(visitor, store)


def test_the_table_has_the_worst_first_and_opens_where_the_sample_is(visitor: Visitor, store: Store) -> None:
    visitor.open(**THERE, condition=LV)
    dice = dice_of(store, LV, "LV")
    applies = store.applicable.sel(condition=LV).values
    ordered = np.sort(np.diff(dice[applies], axis=1)[:, 0])
    found = changes_seen(visitor)
    own = np.diff(dice[sample_of(store, visitor.state)])[0]
    first = int(np.argmin(np.abs(ordered - found[0])))
    np.testing.assert_allclose(found, ordered[first:][: len(found)], atol=6e-4)
    chosen = visitor.page.locator(".tabs .slick-row:has(.selected) .slick-cell").all_inner_texts()
    assert chosen[:3] == [str(THERE[name]) for name in ("patient", "frame", "slice")]
    assert number(chosen[-1]) == pytest.approx(own, abs=6e-4)


def changes_seen(visitor: Visitor) -> list[float]:
    """The last column of the rows of the table that are on the screen, from the top."""
    rows = visitor.page.locator(".tabs .slick-row")
    rows.first.wait_for()
    texts = [row.locator(".slick-cell").all_inner_texts() for row in rows.all()]
    # Rows stand in the page as they were scrolled to.
    tops = np.array([row.bounding_box()["y"] for row in rows.all()])
    head = visitor.page.locator(".tabs .slick-header").first.bounding_box()
    seen = [i for i in np.argsort(tops) if tops[i] >= head["y"] + head["height"] - 2]
    return [number(texts[i][-1]) for i in seen]


def test_another_subset_is_shown_from_its_top(visitor: Visitor, store: Store) -> None:
    """The sample shown is not in it, and the page says so."""
    cases = store.cases.sel(condition=BRIGHT).values
    dice = dice_of(store, BRIGHT, "RV")
    change = dice[:, 1] - dice[:, 0]
    names, counts = np.unique(cases[cases != ""], return_counts=True)
    most = str(names[np.argmax(counts)])
    # The last rows of the table, so that it is scrolled down.
    outside = np.flatnonzero((cases != most) & (cases != "") & np.isfinite(change))
    row = store.samples.iloc[int(outside[np.argmax(change[outside])])]
    visitor.turn(**{name: row[name] for name in THERE}, condition=BRIGHT)
    visitor.turn(**{name: row[name] for name in THERE}, condition=BRIGHT, case=most)
    visitor.page.get_by_text("the sample shown is not among them").wait_for()
    lowest = float(np.min(change[cases == most]))
    eventually(lambda: _expect_close(changes_seen(visitor)[0], lowest))


def _expect_close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=6e-4)


# One channel


def test_the_channel_s_tab_tells_of_the_channel(visitor: Visitor, store: Store) -> None:
    visitor.turn(**THERE, condition=LV, layer="L02", channel=2)
    visitor.tab("Channel")
    eventually(lambda: visitor.expect_idle())
    tab = visitor.page.locator(".tabs")
    values = mads(store, visitor.state, "L02")
    tab.get_by_text(f"rank {1 + int((values > values[2]).sum())} of 4 in L02").first.wait_for()
    member = analysis.in_top(store.statistics("L02")["mad"], 3, applicable=store.applicable)
    applies = store.applicable.sel(condition=LV).values
    times = int(member.sel(condition=LV).values[applies, 2].sum())
    tab.get_by_text(f"{times} of {applies.sum()} slices").first.wait_for()
    shown = [figure for figure in visitor.figures() if "tabs" in figure["outside"] and figure["frame"][2] > 100]
    assert len(shown) >= 3


# Links


def test_a_copied_link_shows_the_same_in_another_window(context: Any, visitor: Visitor, served: Served) -> None:
    visitor.choose("Layer", re.compile("^L02 "))
    visitor.press("own scale")
    visitor.page.locator("#copy").click()
    visitor.page.get_by_role("button", name="copied").wait_for()
    link = visitor.page.evaluate("navigator.clipboard.readText()")
    assert link == visitor.page.url
    other = Visitor(context.new_page(), served.url)
    other.page.goto(link)
    other.loaded()
    assert other.page.url == link
    assert (other.heads, other.limits, other.dice) == (visitor.heads, visitor.limits, visitor.dice)
    other.page.reload()
    other.loaded()
    assert other.page.url == link
    assert other.heads == visitor.heads
    other.page.close()


def test_back_and_forward_show_what_was_shown(visitor: Visitor) -> None:
    seen = [_shown(visitor)]
    for do in (
        lambda: visitor.choose("Layer", re.compile("^L02 ")),
        lambda: visitor.press("RV"),
        lambda: visitor.choose("Patient", "patient001"),
    ):
        do()
        seen.append(_shown(visitor))
    assert len({url for url, _, _ in seen}) == 4
    for expected in seen[-2::-1]:
        visitor.act(lambda: visitor.page.evaluate("history.back()"))
        assert _shown(visitor) == expected
    for expected in seen[1:]:
        visitor.act(lambda: visitor.page.evaluate("history.forward()"))
        assert _shown(visitor) == expected


def _shown(visitor: Visitor) -> tuple[str, list[str], str]:
    return visitor.page.url, visitor.heads, str(visitor.dice)


def test_a_bad_link_is_said_and_the_page_works(visitor: Visitor, store: Store) -> None:
    visitor.open(patient="nobody", layer="L99", channel=-3, tab="<b>", condition=LV)
    notice = visitor.page.locator(".notice p").all_inner_texts()
    assert len(notice) == 4
    assert notice[0].startswith("patient 'nobody' is not in this store, which has patient001")
    assert "layer 'L99'" in notice[1]
    visitor.choose("Layer", re.compile("^L02 "))
    assert visitor.state["layer"] == "L02"
    assert set(visitor.state) == {"patient", "frame", "slice", "condition", "layer", "channel"}
    expect_numbers(visitor, store)


# Keys and wheel


def test_arrows_step_through_slices_and_channels(visitor: Visitor, store: Store) -> None:
    visitor.turn(**{**THERE, "slice": 2}, condition=LV, layer="L02", channel=0)
    visitor.act(lambda: visitor.page.keyboard.press("ArrowDown"))
    assert visitor.state["slice"] == "3"
    visitor.act(lambda: visitor.page.keyboard.press("ArrowRight"))
    assert visitor.state["channel"] == "1"
    expect_numbers(visitor, store)
    for key in ["ArrowDown"] * 6 + ["ArrowRight"] * 2 + ["ArrowUp"] * 2 + ["ArrowLeft"]:
        visitor.page.keyboard.press(key)
    # Slice 8 is the last: what is pressed beyond it is not stepped back through.
    eventually(lambda: _expect_place(visitor, slice_=6, channel=2))
    expect_numbers(visitor, store)


def _expect_place(visitor: Visitor, *, slice_: int, channel: int) -> None:
    assert (visitor.state["slice"], visitor.state["channel"]) == (str(slice_), str(channel))
    assert visitor.heads[3].startswith(f"L02 channel {channel} ")


def test_arrows_in_a_widget_are_the_widget_s(visitor: Visitor) -> None:
    visitor.page.get_by_label("Strength").focus()
    visitor.act(lambda: visitor.page.keyboard.press("ArrowDown"))
    assert visitor.state["condition"] == "brightness(LV, 0.5)"
    field = visitor.page.get_by_label(re.compile("^Channel "))
    field.focus()
    before = visitor.state
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):
        visitor.page.keyboard.press(key)
    # A key that is the page's, after those that are not: what these did would be shown by now.
    visitor.page.locator("header h1").click()
    visitor.act(lambda: visitor.page.keyboard.press("ArrowUp"))
    assert visitor.state == {**before, "slice": str(int(before["slice"]) - 1)}


def test_the_wheel_zooms_all_six_pictures_and_0_shows_them_whole(visitor: Visitor) -> None:
    visitor.act(lambda: visitor.page.keyboard.press("0"))
    visitor.aside()
    visitor.settled()
    whole = visitor.pictures()
    visitor.page.mouse.move(*visitor.figure("input").at(20, 40))
    visitor.page.mouse.wheel(0, -300)
    eventually(lambda: _expect_all_changed(whole, visitor.pictures()))
    ranges = {visitor.figure(row, index=i).x for row in ("input", "map") for i in range(3)}
    assert len(ranges) == 1
    visitor.aside()
    visitor.page.keyboard.press("0")
    eventually(lambda: _expect_same(whole, visitor.pictures()))


def test_the_wheel_steps_through_slices_one_by_one(visitor: Visitor) -> None:
    visitor.turn(**THERE, condition=LV)
    visitor.page.keyboard.press("w")
    visitor.page.get_by_role("button", name="wheel: slices").wait_for()
    visitor.page.mouse.move(*visitor.figure("input").at(20, 40))
    for turned, expected in ((100, 6), (100, 7), (-100, 6)):
        visitor.act(lambda turned=turned: visitor.page.mouse.wheel(0, turned))
        visitor.settled()
        assert visitor.state["slice"] == str(expected)
    visitor.page.keyboard.press("w")
    visitor.page.get_by_role("button", name="wheel: zoom").wait_for()


def test_a_zoom_outlives_what_loads_the_page_again(visitor: Visitor) -> None:
    visitor.open()
    before = visitor.figure("input").x
    visitor.page.mouse.move(*visitor.figure("input").at(20, 40))
    visitor.page.mouse.wheel(0, -300)
    eventually(lambda: _expect_zoomed(before, visitor.figure("input").x))
    zoomed = (visitor.figure("input").x, visitor.figure("input").y)
    visitor.page.locator("#theme").click()
    visitor.page.wait_for_url(re.compile("theme="))
    visitor.loaded()
    eventually(lambda: np.testing.assert_allclose((visitor.figure("map").x, visitor.figure("map").y), zoomed))
    # As when a capture has committed more.
    visitor.page.evaluate("actstoreGrown('1 more slice is committed')")
    with visitor.page.expect_navigation():
        visitor.page.get_by_role("button", name="now").click()
    visitor.loaded()
    eventually(lambda: np.testing.assert_allclose((visitor.figure("map").x, visitor.figure("map").y), zoomed))
    # Loaded by the reader, it begins as its address says.
    visitor.page.reload()
    visitor.loaded()
    eventually(lambda: np.testing.assert_allclose(visitor.figure("input").x, before))


def _expect_zoomed(before: tuple[float, float], now: tuple[float, float]) -> None:
    assert now[1] - now[0] < before[1] - before[0]


def test_a_tap_in_the_gallery_shows_that_channel(visitor: Visitor) -> None:
    visitor.choose("Layer", re.compile("^L02 "))
    visitor.tab("Gallery")
    figure = visitor.figure("tabs")
    visitor.tap(figure, figure.x[0] + 0.06 * (figure.x[1] - figure.x[0]), sum(figure.y) / 2)
    assert visitor.state["channel"] == "0", "the first of the gallery"


def _expect_same(before: list[bytes], after: list[bytes]) -> None:
    """But for how edges are smoothed, which is another at every drawing."""
    apart = [np.abs(picture(a).astype(int) - picture(b)).mean() for a, b in zip(before, after, strict=True)]
    assert max(apart) < 1.5, apart


def values_below(visitor: Visitor, figure: Figure, x: float, y: float) -> tuple[list[float], list[float]]:
    """What the line above the pictures says of the input and of the map at a place of a figure."""
    visitor.aside()
    visitor.page.mouse.move(*figure.at(x, y))
    line = visitor.page.locator("#under")
    eventually(lambda: _expect_pointed(line.inner_text(), round(x), round(y)))
    own, of_map = line.inner_text().partition(": input ")[2].split(" · map ")
    read = lambda text: [math.nan if value == "—" else number(value) for value in text.split(" | ")]  # noqa: E731
    return read(own), read(of_map)


def _expect_pointed(text: str, x: int, y: int) -> None:
    assert text.startswith(f"x {x} y {y}:")


def test_values_below_the_pointer(visitor: Visitor, store: Store) -> None:
    visitor.turn(**THERE, condition=LV, layer="L02", channel=1, opacity=40)
    sample = sample_of(store, visitor.state)
    # In the middle of a pixel of the map.
    grid, (row, column) = store.grids["L02"], (15, 17)
    y, x = (start + at * step for start, step, at in zip(grid.start, grid.step, (row, column), strict=True))
    assert (y, x) == (int(y), int(x))
    y, x = int(y), int(x)
    own, of_map = values_below(visitor, visitor.figure("map"), x, y)
    expected = [float(store.picture("image", sample, c)[y, x]) for c in (0, LV)]
    np.testing.assert_allclose(own, [*expected, expected[1] - expected[0]], rtol=6e-3, atol=1e-6)
    expected = [float(store.map("L02", sample, c, 1)[row, column]) for c in (0, LV)]
    np.testing.assert_allclose(of_map, [*expected, expected[1] - expected[0]], rtol=6e-3, atol=1e-6)


def test_values_below_a_pointer_that_rests_are_those_of_the_pictures_now(visitor: Visitor, store: Store) -> None:
    visitor.turn(**THERE, condition=LV, layer="L01", channel=1)
    x, y = 33, 30
    values_below(visitor, visitor.figure("input"), x, y)
    for key in ("ArrowDown", "ArrowLeft", "ArrowUp"):
        visitor.act(lambda key=key: visitor.page.keyboard.press(key))
        where = visitor.state
        sample, channel = sample_of(store, where), int(where["channel"])
        own = [float(store.picture("image", sample, c)[y, x]) for c in (0, LV)]
        of_map = [float(store.map("L01", sample, c, channel)[y, x]) for c in (0, LV)]
        eventually(lambda own=own, of_map=of_map: _expect_below(visitor, own, of_map))


def test_what_hovers_over_the_map_of_channels_is_of_the_sample_now(visitor: Visitor, store: Store) -> None:
    visitor.turn(**THERE, condition=LV, layer="L01", channel=1)
    visitor.aside()
    visitor.page.mouse.move(*visitor.figure("navigator").at(1, 1))
    for key in ("ArrowDown", "ArrowUp"):
        visitor.act(lambda key=key: visitor.page.keyboard.press(key))
        sample = sample_of(store, visitor.state)
        mad = float(store.statistics("L02")["mad"].sel(condition=LV)[sample, 1])
        eventually(lambda mad=mad: _expect_tip(visitor, mad))


def _expect_tip(visitor: Visitor, value: float) -> None:
    assert number(visitor.page.locator(".bk-tooltip-row-value").nth(1).inner_text()) == pytest.approx(value, abs=1e-4)


def _expect_below(visitor: Visitor, own: list[float], of_map: list[float]) -> None:
    shown, below = visitor.page.locator("#under").inner_text().partition(": input ")[2].split(" · map ")
    for text, (original, perturbed) in ((shown, own), (below, of_map)):
        values = [number(value) for value in text.split(" | ")]
        np.testing.assert_allclose(values, [original, perturbed, perturbed - original], rtol=6e-3, atol=1e-6)
    _expect_tip(visitor, own[0])


def test_where_a_map_does_not_reach_the_input_below_it_is_no_value_of_it(elsewhere: Any, volume_store: Path) -> None:
    visitor, store = elsewhere("volumes"), open_store(volume_store)
    visitor.turn(**visitor.state | {"layer": "L02", "channel": 0, "opacity": 50, "view": "whole"})
    grid, size = store.grids["L02"], store.layout.layers[1].space
    ends = [start + (n - 0.5) * step for start, step, n in zip(grid.start, grid.step, size, strict=True)]
    height, width = store.layout.space[-2:]
    below = height - 0.7
    assert ends[-2] < below, "the map ends before the image"
    own, of_map = values_below(visitor, visitor.figure("map"), width // 2, below)
    assert np.isfinite(own).all()
    assert np.isnan(of_map).all()


# What can be taken along


def _downloaded(visitor: Visitor, name: str) -> tuple[str, bytes]:
    with visitor.page.expect_download() as waiting:
        visitor.page.get_by_text(name).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_the_pictures_can_be_downloaded(visitor: Visitor) -> None:
    name, content = _downloaded(visitor, "these pictures (PNG)")
    assert name.endswith(".png")
    height, width, _ = picture(content).shape
    assert width > height > 800


def test_the_numbers_can_be_downloaded(visitor: Visitor, store: Store) -> None:
    name, content = _downloaded(visitor, "these samples (CSV)")
    assert name.endswith(".csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    where = visitor.state
    applies = np.flatnonzero(store.applicable.sel(condition=LV).values)
    assert [sample_of(store, row) for row in rows] == list(applies)
    dice = dice_of(store, LV, "MYO")[applies]
    found = [[float(row[f"dice_{when}_MYO"]) for when in ("original", "perturbed")] for row in rows]
    np.testing.assert_allclose(found, dice)
    mad = store.statistics(where["layer"])["mad"].sel(condition=LV).values[applies, int(where["channel"])]
    np.testing.assert_allclose([float(row["mad"]) for row in rows], mad, rtol=1e-6)


def test_the_code_shows_the_same_sample(visitor: Visitor, store: Store) -> None:
    name, content = _downloaded(visitor, "notebook code (Python)")
    assert name.endswith(".py")
    names: dict[str, Any] = {}
    exec(compile(content, name, "exec"), names)
    assert names["sample"] == sample_of(store, visitor.state)
    assert names["layer"] == visitor.state["layer"]
    assert len(names["view"]) == 6


# Colours


def test_the_colours_that_the_browser_prefers_are_taken(chromium: Any, served: Served, log: Log) -> None:
    context = chromium.new_context(viewport=TALL, color_scheme="dark")
    context.on("page", log.follow)
    visitor = Visitor(context.new_page(), served.url)
    visitor.open(**THERE)
    assert visitor.state["theme"] == "dark"
    assert _lightness(visitor) < 60
    visitor.page.locator("#theme").click()
    visitor.page.wait_for_url(re.compile("theme=light"))
    visitor.loaded()
    assert _lightness(visitor) > 200
    assert visitor.where["patient"] == "patient002"
    context.close()


def _lightness(visitor: Visitor) -> float:
    """Median of the screen to the right of the sidebar, 0 to 255."""
    return float(np.median(picture(visitor.page.screenshot())[60:, 260:]))


# Stores that are not whole, and volumes


@pytest.fixture(scope="module")
def others(
    tiny_store: Path,
    volume_store: Path,
    classified_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
    write_spec: WriteSpec,
) -> Iterator[dict[str, Served]]:
    """Servers of a store with a volume missing, of one without tensors, of one of volumes, and of a classifier's."""
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    folder = tmp_path_factory.mktemp("others")
    unfinished = Path(shutil.copytree(tiny_store, folder / "unfinished.zarr"))
    (unfinished / Store(unfinished).layout.capture.record.key(3)).unlink()
    spec = write_spec(
        folder,
        store__path=folder / "statistics.zarr",
        store__keep="statistics",
        data__classes={HOSTILE: 1, "MYO": 2, "LV": 3},
        perturb=[{"transform": "brightness", "targets": ["LV", HOSTILE], "strengths": [0.1]}],
    )
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    made = [unfinished, summary.store, volume_store, classified_store]
    with explorers(made, folder) as started:
        yield dict(zip(("unfinished", "statistics", "volumes", "classified"), started, strict=True))


@pytest.fixture
def elsewhere(context: Any, others: dict[str, Served]) -> Iterator[Callable[[str], Visitor]]:
    pages = []

    def visit(name: str) -> Visitor:
        visitor = Visitor(context.new_page(), others[name].url)
        pages.append(visitor.page)
        visitor.open()
        return visitor

    yield visit
    for page in pages:
        page.close()


def test_a_server_that_ended_is_missed(tiny_store: Path, chromium: Any, tmp_path: Path) -> None:
    with explorers([tiny_store], tmp_path) as (one,):
        context = chromium.new_context(viewport=TALL)
        visitor = Visitor(context.new_page(), one.url)
        visitor.open()
        alert = visitor.page.get_by_role("alert")
        assert not alert.is_visible()
        one.process.kill()
        alert.wait_for()
        assert alert.get_by_role("button", name="load this view again").is_visible()
        context.close()


def test_a_store_on_a_web_server_is_explored_there(
    tiny_store: Path, chromium: Any, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(tiny_store.parent) as url, explorers([f"{url}/{tiny_store.name}"], tmp_path) as (one,):
        context = chromium.new_context(viewport=TALL)
        context.on("page", log.follow)
        visitor = Visitor(context.new_page(), one.url)
        visitor.open(condition=LV, tab="provenance")
        assert f"{url}/{tiny_store.name}" in visitor.page.locator("header").inner_html()
        expect_numbers(visitor, open_store(tiny_store))
        assert all(len(np.unique(picture(shown))) > 50 for shown in visitor.pictures()[::3])
        # As Python's own server answers.
        monkeypatch.setattr(Handler, "mode", "whole")
        layer = next(name for name in ("L01", "L02") if name != visitor.state["layer"])
        visitor.turn(**visitor.state | {"layer": layer})
        visitor.page.get_by_text(
            "the server sends whole files only: use one that answers range requests"
        ).first.wait_for()
        context.close()


def test_an_unfinished_store_says_how_much_is_missing(elsewhere: Any) -> None:
    visitor = elsewhere("unfinished")
    assert "1 of 4 volumes missing" in visitor.page.locator("header").inner_text()
    visitor.tab("Provenance")
    visitor.page.locator(".tabs").get_by_text("3 committed, 1 missing, 4 in all").wait_for()


def test_without_tensors_the_page_says_why_there_are_no_maps(elsewhere: Any) -> None:
    visitor = elsewhere("statistics")
    notes = visitor.page.locator(".pictures .note").all_inner_texts()
    assert len(notes) == 1
    assert "are not in" in notes[0]
    assert "store.keep" in notes[0]
    assert visitor.page.locator(".navigator .note").count() == 0
    shown = [one for one in visitor.page.locator(".picture").all() if one.is_visible()]
    assert len(shown) == 3, "the input's"
    assert len(np.unique(picture(shown[0].screenshot()))) > 50


def test_names_of_classes_are_text(elsewhere: Any) -> None:
    visitor = elsewhere("statistics")
    assert HOSTILE in visitor.page.locator(".look").inner_text()
    for name in ("Gallery", "Channel", "Neighbours", "Pins", "Provenance", "Cohort"):
        visitor.tab(name)
    visitor.press(HOSTILE)
    visitor.settled()
    assert visitor.state["condition"] == f"brightness({HOSTILE}, 0.1)"
    assert visitor.page.evaluate("window.ran") is None


def test_a_volume_is_stepped_through_by_the_slider(elsewhere: Any, others: dict[str, Served]) -> None:
    visitor = elsewhere("volumes")
    visitor.aside()
    visitor.settled()
    shown = visitor.pictures()[0]
    assert visitor.state["slice"] == "4"
    assert "8×32×32" in visitor.heads[3]
    visitor.page.locator("aside .noUi-handle:visible").first.focus()
    visitor.act(lambda: visitor.page.keyboard.press("ArrowRight"))
    assert visitor.state["slice"] == "5"
    visitor.aside()
    eventually(lambda: _expect_other(shown, visitor.pictures()[0]))
    visitor.page.locator("header h1").click()
    visitor.act(lambda: visitor.page.keyboard.press("ArrowUp"))
    assert visitor.state["slice"] == "4"
    visitor.aside()
    eventually(lambda: _expect_same([shown], visitor.pictures()[:1]))


def _expect_other(before: bytes, after: bytes) -> None:
    assert np.abs(picture(before).astype(int) - picture(after)).mean() > 2


def test_a_tap_in_the_projection_of_a_classifiers_store_shows_that_image(
    elsewhere: Any, classified_store: Path
) -> None:
    visitor, store = elsewhere("classified"), open_store(classified_store)
    visitor.tab("Neighbours")
    visitor.choose("Layer", re.compile("^L02 "))
    condition = visitor.state["condition"]
    points = analysis.embedding(store, "L02", "mean+max", condition=None).sel(condition=["original", condition])
    plane = analysis.projection(points)
    eventually(lambda: _expect_drawn(visitor, "L02 · principal components"))
    before = visitor.state
    wanted = next(i for i, name in enumerate(store.samples["patient"]) if name != before["patient"])
    visitor.tap(visitor.figure("tabs", "l02 · principal components"), *plane_at(plane, wanted))
    row = store.samples.iloc[wanted]
    assert visitor.state["patient"] == row["patient"]
    assert visitor.page.locator(".sample .who").inner_text().startswith(row["image_name"])
    label = visitor.page.locator(".sample tr.label th")
    assert label.inner_text().split() == [row["label"], "label"]


def _expect_drawn(visitor: Visitor, title: str) -> None:
    assert any(found["title"].startswith(title) for found in visitor.figures())


def plane_at(plane: Any, sample: int) -> tuple[float, float]:
    """Where a sample lies on the original."""
    x, y = (float(plane[name].values[sample, 0]) for name in "xy")
    return x, y


# After all that


def test_nothing_was_asked_of_any_other_host(visitor: Visitor, log: Log) -> None:
    assert {host.rpartition(":")[0] for host in log.hosts} == {"127.0.0.1"}


def test_neither_page_nor_server_complained(visitor: Visitor, served: Served, log: Log) -> None:
    assert set(log.complaints) == set()
    lines = [line for line in served.errors.splitlines() if "example.org" not in line and "403 GET /ws" not in line]
    assert lines == []
