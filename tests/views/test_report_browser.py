"""The report in a real Chromium: it asks for nothing, complains of nothing, and shows every figure, light and dark."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from accessible import violations
from actstore.views.report.picture import UNITS
from browser import PATIENCE

pytestmark = pytest.mark.browser

WIDTH = 1280


@pytest.fixture(scope="module")
def opened(chromium: Any, study_report: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page; its requests; its complaints."""
    page = chromium.new_page(viewport={"width": WIDTH, "height": 800})
    page.set_default_timeout(PATIENCE)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(study_report.as_uri())
    page.wait_for_load_state("networkidle")
    yield page, requests, complaints
    page.close()


def test_nothing_but_the_file_is_asked_for(opened: Any, study_report: Path) -> None:
    _, requests, _ = opened
    assert [url for url in requests if not url.startswith("data:")] == [study_report.as_uri()]


def test_the_console_is_silent(opened: Any) -> None:
    assert opened[2] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(opened: Any, scheme: str) -> None:
    page, _, _ = opened
    page.emulate_media(color_scheme=scheme)
    found = violations(page)
    page.emulate_media(color_scheme="light")
    assert "\n".join(found) == ""


@pytest.mark.parametrize("media", ["screen", "print"])
def test_every_figure_is_shown(opened: Any, media: str) -> None:
    page, _, _ = opened
    page.emulate_media(media=media)
    shown = page.evaluate(
        """() => Array.from(document.querySelectorAll('figure')).map(figure => {
            const image = figure.querySelector('img');
            return [figure.id, image.complete && image.naturalWidth > 100 && image.getBoundingClientRect().width > 100];
        })"""
    )
    page.emulate_media(media="screen")
    assert len(shown) >= 20
    assert [name for name, drawn in shown if not drawn] == []


def test_a_mark_that_is_pointed_at_says_its_values(opened: Any) -> None:
    page, _, _ = opened
    figure = page.locator("#figure-frequency")
    left, top, right, bottom, text = json.loads(figure.locator("script").text_content())[0]
    assert "layer L01" in text
    image = figure.locator("img")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    x, y = ((low + high) / 2 / UNITS for low, high in ((left, right), (top, bottom)))
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    assert page.locator(".tip").text_content() == text
    page.mouse.move(1, 1)
    assert page.locator(".tip").is_hidden()


def test_on_a_dark_page_figures_are_dark(opened: Any) -> None:
    """The pixel that a figure shows most is that of the page, in either theme."""
    page, _, _ = opened
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        picture = Image.open(io.BytesIO(page.locator("#figure-dice img").screenshot())).convert("RGB")
        _, most = max(picture.getcolors(picture.width * picture.height))
        assert f"rgb({', '.join(map(str, most))})" == paper, scheme
    page.emulate_media(color_scheme="light")


def test_nothing_is_clipped_at_the_width_of_a_laptop(opened: Any) -> None:
    page, _, _ = opened
    wide = page.evaluate(
        """() => Array.from(document.querySelectorAll('.frame')).filter(f => f.scrollWidth > f.clientWidth + 1)
            .map(f => [f.parentElement.id, f.scrollWidth, f.clientWidth])"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH


def test_it_can_be_printed(opened: Any) -> None:
    assert opened[0].pdf().startswith(b"%PDF")


def test_without_script_the_drawings_stay(chromium: Any, study_report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(study_report.as_uri())
    assert page.locator("figure img").first.is_visible()
    context.close()
