"""The report in a real Chromium: it asks for nothing, complains of nothing, and paints every figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import PATIENCE

WIDTH = 1280


@pytest.fixture(scope="module")
def opened(chromium: Any, study_report: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page with every figure painted; its requests; its complaints."""
    page = chromium.new_page(viewport={"width": WIDTH, "height": 800})
    page.set_default_timeout(PATIENCE)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(study_report.as_uri())
    page.wait_for_function("document.documentElement.dataset.figures === 'painted'", timeout=PATIENCE)
    page.wait_for_timeout(500)
    yield page, requests, complaints
    page.close()


def test_nothing_but_the_file_is_asked_for(opened: Any, study_report: Path) -> None:
    _, requests, _ = opened
    assert [url for url in requests if not url.startswith("data:")] == [study_report.as_uri()]


def test_the_console_is_silent(opened: Any) -> None:
    assert opened[2] == []


def test_every_figure_is_painted(opened: Any) -> None:
    page, _, _ = opened
    painted = page.evaluate(
        """() => Array.from(document.querySelectorAll('figure')).map(figure => {
            const found = [];
            const walk = node => {
                if (node.tagName === 'CANVAS') { found.push(node); }
                if (node.shadowRoot) { walk(node.shadowRoot); }
                Array.from(node.children || []).forEach(walk);
            };
            walk(figure.querySelector('.plot'));
            const inked = found.some(canvas => {
                if (!canvas.width || !canvas.height) { return false; }
                const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
                return new Set(new Uint32Array(data.buffer)).size > 3;
            });
            return [figure.id, figure.classList.contains('painted'), inked];
        })"""
    )
    assert len(painted) >= 20
    assert [name for name, marked, inked in painted if not (marked and inked)] == []


def test_nothing_is_clipped_at_the_width_of_a_laptop(opened: Any) -> None:
    page, _, _ = opened
    wide = page.evaluate(
        """() => Array.from(document.querySelectorAll('.frame')).filter(f => f.scrollWidth > f.clientWidth + 1)
            .map(f => [f.querySelector('.plot').id, f.scrollWidth, f.clientWidth])"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH


def test_on_paper_the_drawings_stand_for_the_canvases(opened: Any) -> None:
    page, _, _ = opened
    page.emulate_media(media="print")
    shown = page.evaluate(
        """() => Array.from(document.querySelectorAll('figure')).map(figure => {
            const image = figure.querySelector('img');
            const plot = getComputedStyle(figure.querySelector('.plot')).display;
            return [figure.id, image.naturalWidth > 100 && image.getBoundingClientRect().width > 100, plot === 'none'];
        })"""
    )
    page.emulate_media(media="screen")
    assert [name for name, drawn, hidden in shown if not (drawn and hidden)] == []
    assert page.pdf().startswith(b"%PDF")


def test_without_script_the_drawings_stay(chromium: Any, study_report: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(study_report.as_uri())
    assert page.locator("figure img").first.is_visible()
    context.close()
