"""One page that a reader has open: its state, its parts, and how they update."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from time import monotonic
from typing import Any

import panel as pn
from bokeh.models.callbacks import CustomJS
from bokeh.models.layouts import Column
from bokeh.models.widgets.inputs import TextInput
from markupsafe import Markup

from actstore.errors import ActstoreError, one_line
from actstore.views.arrays import Bools
from actstore.views.explorer import downloads
from actstore.views.explorer.channel import ChannelTab
from actstore.views.explorer.cohort import CohortTab
from actstore.views.explorer.html import html_pane, style_sheet
from actstore.views.explorer.links import read
from actstore.views.explorer.navigator import Navigator
from actstore.views.explorer.neighbours import NeighboursTab
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.pictures import Activations, Inputs
from actstore.views.explorer.places import closest
from actstore.views.explorer.protocols import Part, Session, Tab, Work
from actstore.views.explorer.provenance import ProvenanceTab
from actstore.views.explorer.sample_metrics import SampleMetrics
from actstore.views.explorer.sidebar import Sidebar
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import State

log = logging.getLogger(__name__)

#: One thread for all long work: two would wait for the same disk.
_BACKGROUND = ThreadPoolExecutor(1, thread_name_prefix="actstore-explorer")
#: Seconds between two steps of a progress bar.
_STEP = 0.2
_TABS: dict[str, Callable[[Session], Tab]] = {
    "cohort": CohortTab,
    "channel": ChannelTab,
    "neighbours": NeighboursTab,
    "provenance": ProvenanceTab,
}
#: A change of these alone is not a step to go back to: keys and sliders make dozens.
_SMALL = ("slice", "patch", "channel")


class Page:
    """The parts of one page, and what they show."""

    def __init__(self, source: Source, theme: PageTheme, query: str = "") -> None:
        self.source = source
        self.theme = theme
        self._state, messages = read(query, source)
        self._subset: tuple[Any, Bools] | None = None
        self._serial = 0
        #: Messages to the reader, until the page shows something else.
        self._messages: list[str] = []
        self._document = pn.state.curdoc
        self.notice = html_pane()
        self.progress = html_pane()
        # Between page and script: the address to set, the address gone back to, and the key pressed. Bokeh's own
        # widgets: Panel drops values that arrive while it is busy.
        self.address, self.visit, self.key = (
            TextInput(name=f"actstore-{name}") for name in ("address", "visit", "key")
        )
        self.address.js_on_change("value", CustomJS(code="actstoreShown(cb_obj.value)"))
        self.visit.on_change("value", lambda _, __, text: self._visited(text))
        self.key.on_change("value", lambda _, __, text: self._pressed(text))
        self.bridge = pn.pane.Bokeh(Column(children=[self.address, self.visit, self.key]))
        self.sidebar = Sidebar(self)
        self.inputs = Inputs(self)
        self.activations = Activations(self, self.inputs.row)
        self.metrics, self.navigator = SampleMetrics(self), Navigator(self)
        self.parts: list[Part] = [self.sidebar, self.inputs, self.activations, self.metrics, self.navigator]
        self._tabs: dict[str, Tab] = {}
        self._places = {name: pn.Column(sizing_mode="stretch_width", margin=0) for name in _TABS}
        titled = [(name.title(), place) for name, place in self._places.items()]
        self.tabs = pn.Tabs(*titled, stylesheets=[style_sheet()], sizing_mode="stretch_width", margin=0)
        self.tabs.param.watch(self._turned, "active")
        self.downloads = pn.Column(
            self._download("these pictures (PNG)", "png", lambda: downloads.png(source, self._state)),
            self._download(
                "these samples (CSV)", "csv", lambda: downloads.csv(source, self._state, self.subset).encode()
            ),
            self._download("notebook code (Python)", "py", lambda: downloads.code(source, self._state).encode()),
            sizing_mode="stretch_width",
            margin=0,
        )
        self._add_messages(messages)
        # Pictures first: the tab below them is drawn once they are on the screen.
        self._open = self._document is None
        #: What was read before the page was on the screen.
        self._early: list[Callable[[], None]] = []
        self._update(push=False)
        if not self._open:
            pn.state.onload(self._complete)

    @property
    def state(self) -> State:
        """What is shown."""
        return self._state

    @property
    def subset(self) -> Bools:
        """bool (sample): those that the condition applies to and that were selected."""
        state = self._state
        key = (state.condition, state.case, state.dice, state.mad)
        if self._subset is None or self._subset[0] != key:
            self._subset = (key, self.source.subset(state))
        return self._subset[1]

    def go(self, *, push: bool = True, **changes: Any) -> None:
        """Show something else: fields of the state, or ``sample``, the number of one.

        Values are moved to what there is: the nearest slice of another volume, the last channel of a narrower layer.
        """
        before = self._state
        if (sample := changes.pop("sample", None)) is not None:
            changes |= self.source.at(int(sample), before)
        state = replace(before, **changes)
        if {*changes} & {"patient", "frame"} and "slice" not in changes:
            nearest = self.source.nearest(state.patient, state.frame, state.slice, state.condition, state.patch)
            state = replace(state, **nearest)
        patches = self.source.patches(state.patient, state.frame, state.slice)
        state = replace(state, patch=closest(patches, state.patch))
        if state.layer != before.layer and "channel" not in changes:
            state = replace(state, channel=self.source.strongest(state))
        last = self.source.channels[state.layer] - 1
        state = replace(state, channel=min(max(state.channel, 0), last))
        if state != before:
            self._state = state
            self._messages = []
            small = all(getattr(state, n) == getattr(before, n) for n in state.__dataclass_fields__ if n not in _SMALL)
            self._update(push=push and not small)

    def _update(self, *, push: bool) -> None:
        with pn.io.hold(self._document):
            for part in self.parts:
                self._refresh(part)
            if self._open:
                self._show_tab()
            self._notify()
            self._send("push" if push else "replace")

    def _notify(self) -> None:
        paragraphs = (Markup('<p class="notice">{}</p>').format(text) for text in self._messages)
        self.notice.object = str(Markup("").join(paragraphs))

    def _complete(self) -> None:
        self._open = True
        self._update(push=False)
        for call in self._early:
            call()
        self._early = []

    def _turned(self, event: Any) -> None:
        self.go(tab=[*_TABS][event.new])

    def _show_tab(self) -> None:
        """Update the open tab; a tab that opens for the first time is added once it is complete."""
        name = self._state.tab
        tab = self._tabs.get(name) or _TABS[name](self)
        self._refresh(tab)
        if name not in self._tabs:
            self._tabs[name] = tab
            self._places[name].append(tab.view)
        self.tabs.active = list(_TABS).index(name)

    def _refresh(self, part: Part) -> None:
        """Update one part; show an error of it on the page, and go on."""
        try:
            part.update()
        except (ActstoreError, OSError) as error:
            self._add_messages([one_line(error)])
        except Exception as error:  # a page without one part is better than none
            log.exception("%s could not be shown", type(part).__name__)
            self._add_messages([f"{type(part).__name__} could not be shown: {one_line(error)}"])

    def _download(self, label: str, suffix: str, make: Callable[[], bytes]) -> pn.widgets.FileDownload:
        """A button that makes its file when pressed."""

        def named() -> BytesIO:
            button.filename = downloads.filename(self._state, suffix)
            try:
                return BytesIO(make())
            except Exception as error:  # a file with the reason is better than none
                if not isinstance(error, ActstoreError | OSError):
                    log.exception("%s could not be made", button.filename)
                self._add_messages([one_line(error)])
                button.filename = "nothing.txt"
                return BytesIO(f"{one_line(error)}\n".encode())

        style = {"sizing_mode": "stretch_width", "margin": (0, 0, 4, 0), "stylesheets": [style_sheet()]}
        button = pn.widgets.FileDownload(callback=named, label=label, filename=suffix, **style)
        return button

    def _add_messages(self, messages: list[str]) -> None:
        """Show further messages."""
        self._messages = list(dict.fromkeys([*self._messages, *messages]))
        self._notify()

    def _visited(self, query: str) -> None:
        """The reader went back or forward."""
        self._state, messages = read(query.partition(" ")[2], self.source)
        self._messages = []
        self._add_messages(messages)
        self._update(push=False)

    def _pressed(self, text: str) -> None:
        """Step along slices or channels for the keys pressed: "serial slice 2" is two slices on."""
        _, field, steps = text.split(" ")
        state = before = self._state
        if field == "slice" and self.source.classified and not self.source.is_3d:
            # From image to image: a patient may have only one.
            to = self.source.sample(state) + int(steps)
            self.go(push=False, sample=min(max(to, 0), len(self.source.samples) - 1))
        elif field == "slice":
            slices = self.source.slices(state.patient, state.frame)
            to = min(max(slices.index(state.slice) + int(steps), 0), len(slices) - 1)
            self.go(slice=slices[to])
        elif field == "channel":
            self.go(channel=state.channel + int(steps))
        # The script waits for an answer before it sends the next.
        if self._state == before:
            self._send("keep")

    def _send(self, how: str) -> None:
        """Report to the script that the state is shown, and whether to "push", "replace" or "keep" the address."""
        self._serial += 1
        self.address.value = f"{self._serial} {how} {self._state.query()}"

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> None:
        """Do long ``work`` in a background thread, show its progress as ``what``, then call ``done`` with its result.

        Without a document, as in a test, at once.
        """
        shown_at = monotonic()
        over = False

        def progress(number: int, whole: int) -> None:
            nonlocal shown_at
            if monotonic() - shown_at > _STEP:
                shown_at = monotonic()
                # Callbacks may run out of order: this one even after the work is over.
                self._later(lambda: None if over else self._progress(what, number, whole))

        def arrived(future: Future[Any]) -> None:
            nonlocal over
            over = True
            # Not while the browser still builds its views: they would miss what changes.
            if self._open:
                self._arrived(future, done, failed)
            else:
                self._early.append(lambda: self._arrived(future, done, failed))

        self._progress(what, 0, 1)
        future = _BACKGROUND.submit(work, progress)
        if self._document is None:
            arrived(future)
        else:
            future.add_done_callback(lambda future: self._later(lambda: arrived(future)))

    def _later(self, call: Callable[[], None]) -> None:
        """Call on the page's own event loop, if the page is still open."""
        if self._document is not None and self._document.session_context is not None:
            self._document.add_next_tick_callback(call)

    def _progress(self, what: str, number: int, whole: int) -> None:
        bar = '<label class="progress">{} <progress value="{}" max="{}"></progress></label>'
        self.progress.object = str(Markup(bar).format(what, number, whole))

    def _arrived(self, future: Future[Any], done: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        with pn.io.hold(self._document):
            self.progress.object = ""
            try:
                done(future.result())
            except Exception as error:
                if not isinstance(error, ActstoreError | OSError):
                    log.exception("what was read could not be shown")
                self._add_messages([one_line(error)])
                failed(one_line(error))
