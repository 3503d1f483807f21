"""Measures the explorer in headless Chromium: milliseconds from action to paint, first paint, and server memory.

UNetHeart 8-4-4 on phantom volumes unless STORE is given. Paint is the last change of the canvases. For comparison, the
same action on :func:`actstore.views.cube` served by Panel: one picture and sliders.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from common import machine, parser, phantom_spec
from numpy.typing import NDArray
from playwright.sync_api import Page, TimeoutError, sync_playwright

from actstore.jobs.capture import capture

SERVE = "from actstore.cli.commands import main; main()"
#: One image with a slider for each of sample, condition and channel.
ALTERNATIVE = """
import sys
import holoviews as hv
import panel as pn
import actstore
from actstore import views

hv.extension("bokeh", logo=False)
pn.extension()
store = actstore.open(sys.argv[1])
cube = lambda: pn.panel(views.cube(store, sys.argv[2]), widget_location="bottom")
server = pn.serve({"/": cube}, port=0, show=False, start=False, verbose=False, websocket_origin="*")
print(f"http://127.0.0.1:{server.port}/", flush=True)
server.run_until_shutdown()
"""
#: Target in milliseconds by action.
TARGETS = {"channel": 400, "layer": 400, "tap": 400, "sample": 800, "gallery": 800}
FIRST = 2500
#: Channels of the layers that the gallery is measured on.
WIDE = 64
#: Milliseconds without a change after which a page counts as painted.
QUIET = 500
PATIENCE = 60_000
#: Actions between two readings of the server's memory.
EVERY = 50

#: Records when canvases in each place changed, and when an action ended. What was not drawn on is not looked at: to
#: compare every canvas at every frame would slow down what is measured.
WATCH = """() => {
    const small = Object.assign(document.createElement("canvas"), { width: 40, height: 40 });
    const brush = small.getContext("2d", { willReadFrequently: true });
    const drawn = new Set();
    const context = CanvasRenderingContext2D.prototype;
    const drawing = ["clearRect", "drawImage", "fill", "fillRect", "fillText", "putImageData", "stroke", "strokeRect"];
    for (const name of drawing) {
        const draw = context[name];
        context[name] = function (...given) {
            if (this !== brush) { drawn.add(this.canvas); }
            return draw.apply(this, given);
        };
    }
    const hash = canvas => {
        brush.clearRect(0, 0, 40, 40);
        brush.drawImage(canvas, 0, 0, 40, 40);
        let found = 0;
        for (const part of new Uint32Array(brush.getImageData(0, 0, 40, 40).data.buffer)) {
            found = (Math.imul(found, 31) + part) | 0;
        }
        return found;
    };
    const pictured = node => {
        for (; node; node = node.parentNode ?? node.host) {
            if (["input", "map", "navigator"].includes(node.id)) { return true; }
        }
        return false;
    };
    const last = new WeakMap();
    window.painted = { pictures: 0, page: 0, acted: 0 };
    for (const kind of ["keydown", "input", "pointerup"]) {
        window.addEventListener(kind, event => { window.painted.acted = event.timeStamp; }, true);
    }
    const look = () => {
        for (const canvas of drawn) {
            if (!canvas.isConnected || !canvas.width || !canvas.height) { continue; }
            const now = hash(canvas);
            if (now === last.get(canvas)) { continue; }
            last.set(canvas, now);
            window.painted.page = performance.now();
            if (pictured(canvas)) { window.painted.pictures = window.painted.page; }
        }
        drawn.clear();
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
#: Screen position of a point in a figure, which is found by the id or class around it and its title.
SPOT = """([place, title, x, y]) => {
    let found = null;
    const walk = view => {
        if (view.model?.type === "Figure" && (view.model.title?.text ?? "").startsWith(title)) {
            for (let node = view.el; node; node = node.parentNode ?? node.host) {
                if (node.id === place || node.classList?.contains(place)) { found = view; }
            }
        }
        (view.child_views ?? []).forEach(walk);
    };
    Object.values(Bokeh.index).forEach(walk);
    const box = found.el.getBoundingClientRect();
    const { left, top, width, height } = found.frame.bbox;
    const { x_range, y_range } = found.model;
    const share = (at, range) => (at - range.start) / (range.end - range.start);
    const end = (at, range) => typeof at === "string" ? range.start + Number(at) * (range.end - range.start) : at;
    return [box.x + left + share(end(x, x_range), x_range) * width,
        box.y + top + (1 - share(end(y, y_range), y_range)) * height];
}"""


@contextmanager
def served(code: str, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server that writes its address to standard output, and its process."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[0], psutil.Process(process.pid)
        finally:
            process.kill()


class Driver:
    """Acts on the explorer's page and measures the time until it is painted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE)

    def quiet(self) -> None:
        """Wait until nothing has been painted for a while."""
        self.page.wait_for_function(f"performance.now() - Math.max(painted.page, painted.acted) > {QUIET}")

    def load(self, url: str) -> tuple[float, float]:
        """Milliseconds from navigation to pictures painted, and to everything painted."""
        self.page.goto(url)
        self.page.wait_for_function("Number(document.documentElement.dataset.shown) > 1")
        self.quiet()
        found = self.page.evaluate("painted")
        return found["pictures"], found["page"]

    def act(self, do: Callable[[], object]) -> None:
        """Perform an action and wait until the server has shown its result."""
        before = self.page.evaluate("document.documentElement.dataset.shown")
        do()
        self.page.wait_for_function("before => document.documentElement.dataset.shown !== before", arg=before)

    def timed(self, do: Callable[[], object]) -> tuple[float, float]:
        """Milliseconds from the end of an action until pictures (NaN if unchanged) and everything are painted."""
        self.quiet()
        self.act(do)
        self.quiet()
        found = self.page.evaluate("painted")
        pictures, page = (found[name] - found["acted"] for name in ("pictures", "page"))
        return pictures if pictures > 0 else float("nan"), page if page > 0 else float("nan")

    def key(self, name: str) -> None:
        self.page.keyboard.press(name)

    def keys_are_the_pages(self) -> None:
        """Take the keyboard focus from widgets."""
        self.page.locator("header h1").click()

    def other(self, label: str) -> None:
        """Choose another option of a menu at random."""
        menu = self.page.get_by_label(label, exact=True)
        now, count = menu.evaluate("menu => [menu.selectedIndex, menu.options.length]")
        if count > 1:
            menu.select_option(index=random.choice([i for i in range(count) if i != now]))

    def other_button(self, names: list[str]) -> None:
        """Press another button of a radio group."""
        buttons = [self.page.get_by_role("radio", name=name, exact=True) for name in names]
        idle = [button for button in buttons if "bk-active" not in (button.get_attribute("class") or "")]
        random.choice(idle).click()

    def channel_by_widget(self) -> None:
        """Step to the next channel, or the previous one at the end."""
        up = self.page.locator("aside .bk-spin-btn-up")
        field = self.page.locator("aside input[type=text]").first
        at, last = field.evaluate("field => [field.value, field.closest('.bk-input-group').textContent]")
        last = int("".join(c for c in last.rpartition("–")[2] if c.isdigit()) or 0)
        (self.page.locator("aside .bk-spin-btn-down") if int(at) >= last else up).click()

    def tap(self, layers: int, channels: int) -> None:
        """Tap on the map of channels, in a layer that is not displayed."""
        now = self.page.get_by_label("Layer", exact=True).evaluate("menu => menu.selectedIndex")
        row = random.choice([i for i in range(layers) if i != now])
        self.page.mouse.click(*self.spot("navigator", "", random.randrange(channels), row))

    def box(self) -> None:
        """Drag a box over the dots of a class."""
        low, high = sorted(random.sample(range(10), 2))
        start = self.spot("tabs", "Dice", "0.02", str(0.03 + low / 12))
        end = self.spot("tabs", "Dice", "0.3", str(0.1 + high / 12))
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def spot(self, place: str, title: str, x: float | str, y: float | str) -> tuple[float, float]:
        """Screen position of (x, y) in a figure: numbers of its axes, or fractions of them as text."""
        found: tuple[float, float] = tuple(self.page.evaluate(SPOT, [place, title, x, y]))
        return found

    def tab(self, name: str) -> None:
        self.act(lambda: self.page.locator(".bk-tab", has_text=name).click())


def actions(driver: Driver, layers: int, channels: int, targets: list[str]) -> dict[str, Callable[[], object]]:
    """User actions by name, for ``layers`` of at least ``channels`` each."""
    step = {"channel": ["ArrowRight", "ArrowLeft"], "slice": ["ArrowUp", "ArrowDown"]}

    def key(name: str) -> None:
        step[name].append(step[name].pop(0))
        driver.key(step[name][0])

    return {
        "channel, key": partial(key, "channel"),
        "channel, widget": driver.channel_by_widget,
        "layer, menu": partial(driver.other, "Layer"),
        "tap on the map of channels": partial(driver.tap, layers, channels),
        "sample, slice by key": partial(key, "slice"),
        "sample, another patient": partial(driver.other, "Patient"),
        "condition, another class": partial(driver.other_button, targets),
    }


def gallery_actions(driver: Driver) -> dict[str, Callable[[], object]]:
    """Actions that draw all channels of a layer again, of the widest layer first."""
    menu = driver.page.get_by_label("Layer", exact=True)
    texts = menu.evaluate("menu => [...menu.options].map(one => one.text)")
    wide = [text for text in texts if f"· {WIDE} ×" in text]

    def layer() -> None:
        now = menu.evaluate("menu => menu.options[menu.selectedIndex].text")
        menu.select_option(label=random.choice([text for text in wide or texts if text != now]))

    return {
        f"gallery, another layer of {WIDE} channels": layer,
        "gallery, another order": partial(driver.other, "Sorted by"),
        "gallery, another patient": partial(driver.other, "Patient"),
    }


def median_known(values: NDArray[np.float64]) -> float:
    """Median of the values that are not NaN; NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def medians(driver: Driver, what: dict[str, Callable[[], object]], runs: int, tab: str) -> dict[str, float]:
    """Print medians of every action on a tab, and return the medians until everything is painted."""
    found = {}
    for name, do in what.items():
        if "key" in name:
            driver.keys_are_the_pages()
        driver.timed(do)
        taken = np.array([driver.timed(do) for _ in range(runs)])
        pictures, everything = (median_known(column) for column in taken.T)
        target = next((f"{ms}" for start, ms in TARGETS.items() if name.startswith(start)), "")
        span = f"{min(taken[:, 1]):.0f}–{max(taken[:, 1]):.0f}"
        print(f"| {tab} | {name} | {pictures:.0f} | {everything:.0f} | {span} | {target} |", flush=True)
        found[name] = everything
    return found


def memory(driver: Driver, process: psutil.Process, what: dict[str, Callable[[], object]], number: int) -> None:
    """The server's memory over ``number`` random actions, and how fast it grows in the last three fifths."""
    print("\n| actions | RSS, MiB |\n|---:|---:|")
    seen = []
    for i in range(number + 1):
        if i % EVERY == 0:
            seen.append((i, process.memory_info().rss / 2**20))
            print(f"| {i} | {seen[-1][1]:.0f} |", flush=True)
        name = random.choice(list(what))
        try:
            if "key" in name:
                driver.keys_are_the_pages()
            driver.act(what[name])
        except TimeoutError:
            print(f"{name}: nothing was shown within {PATIENCE / 1000:.0f} s", file=sys.stderr)
    late = np.array([(i, rss) for i, rss in seen if i >= 0.4 * number])
    if len(late) < 2:
        print(f"\n{number} actions are too few to see growth: give --actions {3 * EVERY} or more")
        return
    print(f"\nlast {number - late[0, 0]:.0f} actions: {100 * np.polyfit(*late.T, 1)[0]:+.2f} MiB per 100 actions")


def alternative(page: Page, url: str, runs: int) -> float:
    """Median milliseconds to show another channel of one image with sliders."""
    driver = Driver(page)
    page.goto(url)
    handle = page.locator(".noUi-handle").last
    handle.focus()
    taken = []
    for i in range(runs + 1):
        driver.quiet()
        page.keyboard.press("ArrowLeft" if i % 2 else "ArrowRight")
        page.wait_for_function("painted.page > painted.acted && painted.acted > 0")
        driver.quiet()
        found = page.evaluate("painted")
        taken.append(found["page"] - found["acted"])
    return statistics.median(taken[1:])


def measure(store: Path, runs: int, number: int) -> None:
    from actstore.store.opening import open_store

    opened = open_store(store)
    layers, channels = len(opened.layers), int(opened.layers["channels"].min())
    targets = list(dict.fromkeys(name for name in opened.conditions["target"] if name))
    layer = opened.layers.index[-2:][0]
    random.seed(0)
    about = f"{len(opened.samples)} samples, {layers} layers; load {os.getloadavg()[0]:.1f}"
    print(f"\n### Explorer\n\n{machine()}; {about}\n")
    with sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        path = None if own.exists() else os.environ.get("ACTSTORE_CHROMIUM") or shutil.which("chromium")
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])

        def fresh() -> Page:
            page = browser.new_page(viewport={"width": 1920, "height": 1080})
            page.add_init_script(f"({WATCH})()")
            return page

        with served(SERVE, "explore", str(store), "--port", "0", "--no-open") as (url, process):
            firsts = []
            for i in range(6):
                page = fresh()
                firsts.append(Driver(page).load(url))
                if i < 5:
                    page.close()
            pictures, everything = (statistics.median(column) for column in zip(*firsts[1:], strict=True))
            driver = Driver(page)
            print("| tab | action | pictures, ms | all, ms | min–max | target, ms |\n|---|---|---:|---:|---:|---:|")
            print(f"| | first paint | {pictures:.0f} | {everything:.0f} | | {FIRST} |", flush=True)
            what = actions(driver, layers, channels, targets)
            found: dict[str, float] = {}
            for tab in ("Cohort", "Channel", "Provenance"):
                if tab != "Cohort":
                    driver.tab(tab)
                more = {"box on Dice": driver.box} if tab == "Cohort" else {}
                found = medians(driver, what | more, runs, tab) | found
                if more:
                    driver.act(lambda: page.get_by_role("button", name="clear", exact=True).click())
            driver.tab("Gallery")
            driver.act(gallery_actions(driver)[f"gallery, another layer of {WIDE} channels"])
            medians(driver, gallery_actions(driver), runs, "Gallery")
            driver.tab("Cohort")
            memory(driver, process, what, number)
        with served(ALTERNATIVE, str(store), layer) as (url, _):
            other = alternative(fresh(), url, runs)
        browser.close()
    ours = found["channel, key"]
    ratio = f"{other / ours:.2f} × the explorer's {ours:.0f} ms"
    print(f"\nanother channel, views.cube served by Panel: {other:.0f} ms, {ratio}")


def main() -> None:
    made = parser(__doc__, runs=8, patients=6)
    made.add_argument("store", type=Path, nargs="?", metavar="STORE")
    made.add_argument("--actions", type=int, default=500, help="at random, to see what memory does")
    arguments = made.parse_args()
    if arguments.store:
        measure(arguments.store, arguments.runs, arguments.actions)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        spec = phantom_spec(Path(folder), patients=arguments.patients)
        measure(Path(capture(spec).store), arguments.runs, arguments.actions)


if __name__ == "__main__":
    main()
