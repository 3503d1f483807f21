"""Runs the explorer in a real browser: its server process, and user actions and views of its page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forked import EXPLORER, forked
from processes import until

#: Timeout in milliseconds for anything on the page; nothing should need a hundredth of it.
PATIENCE = 180_000

#: All figures of the page, read only after the layout settles: position, position and ranges of the axes, title.
_FIGURES = """async () => {
    const found = () => {
        const figures = [];
        const walk = view => {
            if (view.model?.type === "Figure") {
                const outside = [];
                for (let node = view.el; node; node = node.parentNode ?? node.host) {
                    outside.push(node.id ?? "", ...(node.classList ?? []));
                }
                const { x, y } = view.el.getBoundingClientRect();
                const { left, top, width, height } = view.frame.bbox;
                const { x_range, y_range, title } = view.model;
                figures.push({ title: title?.text ?? "", outside, frame: [x + left, y + top, width, height],
                    x: [x_range.start, x_range.end], y: [y_range.start, y_range.end] });
            }
            (view.child_views ?? []).forEach(walk);
        };
        Object.values(Bokeh.index).forEach(walk);
        return JSON.stringify(figures);
    };
    let before, now;
    do {
        before = now;
        await new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)));
        now = found();
    } while (now !== before);
    return JSON.parse(now);
}"""


@dataclass(frozen=True)
class Figure:
    """Screen position and ranges of a figure's axes."""

    title: str
    frame: tuple[float, float, float, float]
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Screen position of a point within the axes."""
        left, top, width, height = self.frame
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return left + across * width, top + (1 - up) * height


class Visitor:
    """A user of the page."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        page.set_default_timeout(PATIENCE)

    def open(self, **query: object) -> None:
        """Load the page with ``query``, and wait until its tab is shown."""
        self.page.goto(self.link(**query))
        self.loaded()

    def turn(self, **query: object) -> None:
        """Show the state of ``query`` without reloading the page, as the browser's back button does."""
        if not self.page.url.startswith(self.url):
            self.open(**query)
            return
        # Take the keyboard focus from the last widget.
        self.page.locator("header h1").click()
        show = "at => { history.replaceState(null, '', at); window.dispatchEvent(new PopStateEvent('popstate')); }"
        self.act(lambda: self.page.evaluate(show, self.link(**query)))

    def link(self, **query: object) -> str:
        """The page's address with a query."""
        return self.url + ("?" + "&".join(f"{k}={quote(str(v))}" for k, v in query.items()) if query else "")

    def loaded(self) -> None:
        """Wait until the page is complete."""
        self.page.wait_for_function("Number(document.documentElement.dataset.shown) > 1", timeout=PATIENCE)

    @property
    def state(self) -> dict[str, str]:
        """The state in the address, read by a script, since ``page.url`` is updated only with other events."""
        return dict(parse_qsl(self.page.evaluate("location.search").removeprefix("?")))

    @property
    def where(self) -> dict[str, str]:
        """The state without the page's colours."""
        return {name: value for name, value in self.state.items() if name != "theme"}

    def act(self, do: Callable[[], object]) -> None:
        """Perform an action and wait until the server has shown its result."""
        before = self.page.evaluate("document.documentElement.dataset.shown")
        do()
        self.page.wait_for_function("before => document.documentElement.dataset.shown !== before", arg=before)

    def choose(self, label: str, option: str | re.Pattern[str]) -> None:
        """Choose from the menu ``label``."""
        menu = self.page.get_by_label(label, exact=True)
        if isinstance(option, re.Pattern):
            texts = menu.locator("option").all_inner_texts()
            option = next(text for text in texts if option.search(text))
        self.act(lambda: menu.select_option(label=option))

    def press(self, name: str) -> None:
        """Press a button that changes the view."""
        self.act(lambda: self.button(name).click())

    def button(self, name: str) -> Any:
        """A button, or one of several that exclude each other."""
        found = self.page.get_by_role("button", name=name, exact=True)
        return found.or_(self.page.get_by_role("radio", name=name, exact=True))

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.act(lambda: self.page.locator(".bk-tab", has_text=name).click())

    @property
    def heads(self) -> list[str]:
        """Titles of the six pictures."""
        found: list[str] = self.page.locator(".pictures .heads b").all_inner_texts()
        return found

    @property
    def limits(self) -> list[tuple[float, float]]:
        """Numbers at the ends of the six pictures' colour scales."""
        ends = [number(text) for text in self.page.locator(".pictures .scale i").all_inner_texts()]
        return list(zip(ends[::2], ends[1::2], strict=True))

    @property
    def dice(self) -> list[list[float]]:
        """The table of Dice, one row per class: original, perturbed, change."""
        return self._cells(".sample table.dice tr")

    @property
    def confusion(self) -> list[list[float]]:
        """The table of pixels, true class by predicted class."""
        return self._cells(".sample table.confusion tr")

    def _cells(self, rows: str) -> list[list[float]]:
        texts = [row.locator("td").all_inner_texts() for row in self.page.locator(rows).all()]
        return [[number(text) for text in row] for row in texts if row]

    def figure(self, place: str, title: str = "", index: int = 0) -> Figure:
        """A figure in the element with class or id ``place``, by the start of its title or by its number."""
        for found in self.figures():
            if place in found["outside"] and found["title"].lower().startswith(title):
                if index == 0:
                    return Figure(found["title"], *(tuple(found[name]) for name in ("frame", "x", "y")))
                index -= 1
        raise LookupError(f"no figure {title!r} in {place}")

    def figures(self) -> list[dict[str, Any]]:
        """All figures, as the browser knows them."""
        found: list[dict[str, Any]] = self.page.evaluate(_FIGURES)
        return found

    def pixels(self, figure: Figure) -> NDArray[np.uint8]:
        """Screenshot of a figure within its axes: (y, x, RGB)."""
        left, top, width, height = figure.frame
        clip = {"x": left, "y": top, "width": width, "height": height}
        return picture(self.page.screenshot(clip=clip))

    def pictures(self) -> list[bytes]:
        """The six pictures as they are on the screen."""
        return [picture.screenshot() for picture in self.page.locator(".picture").all()]

    def tap(self, figure: Figure, x: float, y: float) -> None:
        """Tap on a place within the axes of a figure."""
        self.act(lambda: self.page.mouse.click(*figure.at(x, y)))

    def drag(self, figure: Figure, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place within the axes of a figure to another."""

        def dragged() -> None:
            self.page.mouse.move(*figure.at(*start))
            self.page.mouse.down()
            self.page.mouse.move(*figure.at(*end), steps=4)
            self.page.mouse.up()

        self.act(dragged)

    def aside(self) -> None:
        """Move the mouse to an empty place."""
        self.page.mouse.move(600, 2)

    def settled(self) -> bytes:
        """Wait until nothing is read any more and the screen stays as it is; the screen as PNG."""
        eventually(self.expect_idle)
        last = [b""]

        def still() -> None:
            now = self.page.screenshot()
            before, last[0] = last[0], now
            assert now == before

        eventually(still)
        return last[0]

    def expect_idle(self) -> None:
        """Fail while something is read."""
        assert self.page.get_by_text("reading statistics").locator("visible=true").count() == 0
        assert self.page.locator("header progress").count() == 0


@dataclass
class Log:
    """Requests and complaints of pages."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def follow(self, page: Any) -> None:
        """Note all that a page does from now on."""
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)

    @property
    def hosts(self) -> set[str]:
        """Hosts with ports that were asked."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("data:", "blob:"))}


def number(text: str) -> float:
    """Parse a number from the page, NaN for a dash."""
    return float("nan") if text in ("", "—") else float(text.replace("−", "-").replace("+", ""))


def picture(content: bytes) -> NDArray[np.uint8]:
    """(y, x, RGB) of a PNG."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def eventually(check: Callable[[], object], seconds: float = PATIENCE / 1000) -> None:
    """Wait until ``check`` holds; on timeout show why it does not."""
    last: list[AssertionError] = []

    def holds() -> bool:
        try:
            check()
        except AssertionError as error:
            last[:] = [error]
            return False
        return True

    try:
        until(holds, "it holds", seconds)
    except AssertionError:
        raise last[0] from None


@dataclass
class Served:
    """A server of the explorer."""

    url: str
    process: Popen[str]
    log: Path

    @property
    def errors(self) -> str:
        """Its standard error so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def port(self) -> int:
        found = urlsplit(self.url).port
        assert found
        return found


@contextmanager
def explorers(stores: Sequence[Path | str], folder: Path) -> Iterator[list[Served]]:
    """``actstore explore`` for each store, all started at once, and killed at the end."""
    started: list[Served] = []
    try:
        for i, store in enumerate(stores):
            log, output = folder / f"{i}.err", folder / f"{i}.out"
            with log.open("w") as errors, output.open("w") as out:
                arguments = ("explore", store, "--port", "0", "--no-open")
                process = forked("actstore", *arguments, environment={}, output=out, errors=errors, modules=EXPLORER)
            started.append(Served("", process, log))
        for i, served in enumerate(started):
            output = folder / f"{i}.out"
            until(lambda o=output, s=served: "\n" in o.read_text() or s.process.poll() is not None, "it is served")
            assert served.process.poll() is None, served.errors
            served.url = output.read_text().split()[0]
        yield started
    finally:
        for served in started:
            served.process.kill()
            served.process.wait()
