"""The explorer for everybody: axe-core finds nothing grave, nothing is cut off, the keyboard reaches all.

At each size also a picture of every tab that is looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from accessible import ALL, controls, focused, violations, walked
from browser import Log, Served, Visitor, explorers
from conftest import TESTS

pytestmark = pytest.mark.browser

ARTEFACTS = Path(os.environ.get("ACTSTORE_ARTEFACTS") or TESTS.parent / "artefacts" / "explorer")
TABS = ["Cohort", "Gallery", "Channel", "Neighbours", "Pins", "Provenance"]
#: A slice with both ventricles, and a condition that applies to it.
THERE = {"patient": "patient002", "frame": 12, "slice": 5, "condition": "brightness(LV, 0.1)"}


@pytest.fixture(scope="module")
def served(study_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with explorers([study_store], tmp_path_factory.mktemp("served")) as (one,):
        yield one


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def visitor(chromium: Any, served: Served, log: Log) -> Iterator[Visitor]:
    """One page for the whole module."""
    page = chromium.new_page()
    log.follow(page)
    yield Visitor(page, served.url)
    page.close()


#: Text whose contrast to what lies behind it is below 4.5, and what is cut off, sticks out or overlaps.
_LOOK = (
    "() => {"
    + ALL
    + """
    const up = node => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null;
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const brush = canvas.getContext("2d", { willReadFrequently: true });
    const rgba = text => {
        brush.clearRect(0, 0, 1, 1);
        brush.fillStyle = text;
        brush.fillRect(0, 0, 1, 1);
        return [...brush.getImageData(0, 0, 1, 1).data];
    };
    const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] / 255 + b[i] * (1 - a[3] / 255)).concat([255]);
    const behind = node => {
        const layers = [];
        for (let n = node; n; n = up(n)) { layers.push(rgba(getComputedStyle(n).backgroundColor)); }
        return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255, 255]);
    };
    const light = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const visible = node => {
        const { width, height } = node.getBoundingClientRect();
        return width > 0 && height > 0 && node.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    };
    const name = node => `${node.tagName.toLowerCase()}.${[...node.classList].join(".")} `
        + (node.textContent || "").trim().slice(0, 40);
    const seen = (node, section) => {
        let { left, right, top, bottom } = node.getBoundingClientRect();
        for (let n = up(node); n && n !== section; n = up(n)) {
            const style = getComputedStyle(n);
            const box = n.getBoundingClientRect();
            if (style.overflowX !== "visible") { left = Math.max(left, box.left); right = Math.min(right, box.right); }
            if (style.overflowY !== "visible") { top = Math.max(top, box.top); bottom = Math.min(bottom, box.bottom); }
        }
        return { left, right, top, bottom };
    };
    const parts = Object.fromEntries(["header", "aside", ".pictures", ".side", ".tabs"]
        .map(at => [at, document.querySelector(at)]));
    const pale = [], out = [], scrolled = [], cut = [];
    for (const [at, section] of Object.entries(parts)) {
        const box = section.getBoundingClientRect();
        for (const node of all(section).filter(visible)) {
            const style = getComputedStyle(node);
            const { left, right, top, bottom } = seen(node, section);
            if (right > left && bottom > top && (left < box.left - 1 || right > box.right + 1
                || (at !== "aside" && (top < box.top - 1 || bottom > box.bottom + 1)))) {
                out.push(`${at}: ${name(node)} ${[left, top, right, bottom].map(Math.round)}`);
            }
            if (["auto", "scroll"].includes(style.overflowX) && node.scrollWidth > node.clientWidth + 1) {
                scrolled.push(`${at}: ${name(node)} ${node.scrollWidth} in ${node.clientWidth}`);
            }
            const told = node.title || node.closest("[title], .bk-CartesianFrame, .slick-header")
                || !node.textContent.trim();
            if (["hidden", "clip"].includes(style.overflowX) && node.scrollWidth > node.clientWidth + 1 && !told) {
                cut.push(`${at}: ${name(node)} ${node.scrollWidth} in ${node.clientWidth}`);
            }
            const text = [...node.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
            if (!text || node.matches("option, :disabled, style, script")) { continue; }
            const ground = behind(node);
            const [a, b] = [light(over(rgba(style.color), ground)), light(ground)].sort((x, y) => y - x);
            const contrast = (a + 0.05) / (b + 0.05);
            if (contrast < 4.5) { pale.push(`${at}: ${name(node)} ${contrast.toFixed(2)}`); }
        }
    }
    const boxes = Object.fromEntries(Object.entries(parts).map(([at, node]) => {
        const { left, right, top, bottom } = node.getBoundingClientRect();
        return [at, [left, top, right, bottom]];
    }));
    const wide = ["html", "body", "main", "aside", "header"].map(at => document.querySelector(at))
        .filter(node => node.scrollWidth > node.clientWidth + 1).map(name);
    return { pale, out, scrolled, cut, boxes, wide };
}"""
)


#: Scroll what scrolls: below a small header the whole page does. Returns how far it came.
_SCROLL = """to => [document.scrollingElement, document.querySelector("main")].reduce((far, box) => {
    box.scrollTop = to;
    return far + box.scrollTop;
}, 0)"""


@pytest.mark.parametrize(
    ("width", "height", "theme", "tabs"),
    # Colours move nothing: every tab in each theme at one width, two tabs at the other widths.
    [
        (1280, 800, "light", TABS),
        (768, 1000, "light", TABS[:2]),
        (1600, 900, "dark", TABS[:2]),
        (1920, 1080, "dark", TABS),
        pytest.param(768, 1000, "dark", TABS, marks=pytest.mark.faults),
        pytest.param(1920, 1080, "light", TABS, marks=pytest.mark.faults),
    ],
)
def test_nothing_is_cut_off_or_unreadable(
    visitor: Visitor, width: int, height: int, theme: str, tabs: list[str]
) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    visitor.page.set_viewport_size({"width": width, "height": height})
    if f"theme={theme}" not in visitor.page.url:
        visitor.open(**THERE, theme=theme)
    wrong: list[str] = []
    for tab in tabs:
        if visitor.state.get("tab", "cohort") != tab.lower():
            visitor.tab(tab)
        visitor.page.evaluate(_SCROLL, 0)
        visitor.aside()
        screen = visitor.settled()
        look = visitor.page.evaluate(_LOOK)
        boxes = look.pop("boxes")
        look["overlaps"] = [
            (a, b) for (a, first), (b, second) in combinations(boxes.items(), 2) if _overlap(first, second)
        ]
        look["axe"] = violations(visitor.page)
        # What sticks out takes all that is in it along.
        wrong += [f"{tab}: {what}: {found}" for what, every in look.items() for found in every[:4]]
        (ARTEFACTS / f"{tab.lower()}-{width}-{theme}.png").write_bytes(screen)
        if visitor.page.evaluate(_SCROLL, 1e6) > 0:
            visitor.page.screenshot(path=ARTEFACTS / f"{tab.lower()}-{width}-{theme}-below.png")
    assert "\n".join(wrong) == ""


def _overlap(a: list[float], b: list[float]) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1


@pytest.fixture
def usual(visitor: Visitor) -> Visitor:
    """The page at a usual size, on the first tab, with the focus at its beginning."""
    visitor.page.set_viewport_size({"width": 1440, "height": 1300})
    visitor.turn(**THERE)
    return visitor


def test_tab_reaches_every_control_and_shift_tab_comes_back(usual: Visitor) -> None:
    page = usual.page
    page.locator("a.skip").focus()
    every = controls(page)
    assert focused(page) == 0
    reached = [0, *walked(page, "Tab")]
    assert [name for i, (name, stepped) in enumerate(every) if not stepped and i not in reached] == []
    assert len(reached) > 20
    page.locator("#help").focus()
    copy = reached[reached.index(focused(page)) + 1]
    page.keyboard.press("Tab")
    assert focused(page) == copy
    page.keyboard.press("Shift+Tab")
    assert focused(page) == copy - 1


def test_arrows_open_each_tab_and_tab_reaches_what_is_in_it(usual: Visitor) -> None:
    page = usual.page
    page.get_by_role("tab", name=TABS[0]).focus()
    for tab in TABS[1:]:
        usual.act(lambda: page.keyboard.press("ArrowRight"))
        assert usual.state["tab"] == tab.lower()
        usual.settled()
        every = controls(page)
        bar = focused(page)
        assert every[bar][0].endswith(tab)
        reached = walked(page, "Tab")
        assert [name for i, (name, stepped) in enumerate(every) if i > bar and not stepped and i not in reached] == []
        page.get_by_role("tab", name=tab).focus()


def test_keys_open_help_and_go_to_any_channel(usual: Visitor) -> None:
    page = usual.page
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").is_hidden()
    page.keyboard.press("/")
    page.keyboard.type("L2/3")
    usual.act(lambda: page.keyboard.press("Enter"))
    assert (usual.state["layer"], usual.state["channel"]) == ("L02", "3")
    usual.choose("Kind of failure", re.compile("every class"))
    page.wait_for_function("location.search.includes('case=')")
    page.locator("header h1").click()
    usual.act(lambda: page.keyboard.press("Escape"))
    assert "case" not in usual.state
    page.get_by_role("radio", name="RV").focus()
    usual.act(lambda: page.keyboard.press("Enter"))
    assert usual.state["condition"] == "brightness(RV, 0.1)"


def test_tab_leaves_the_table(usual: Visitor) -> None:
    before = usual.state
    usual.page.get_by_label("Table of samples").focus()
    usual.page.keyboard.press("Tab")
    inside = """() => { let at = document.activeElement;
        while (at?.shadowRoot?.activeElement) { at = at.shadowRoot.activeElement; }
        return Boolean(at?.closest(".bk-data-table")); }"""
    assert not usual.page.evaluate(inside)
    assert usual.state == before


def test_no_other_host_is_asked_and_nobody_complained(usual: Visitor, served: Served, log: Log) -> None:
    assert log.hosts == {f"127.0.0.1:{served.port}"}
    assert set(log.complaints) == set()
    assert served.errors == ""
