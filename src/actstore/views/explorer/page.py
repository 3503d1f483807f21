"""One page that a reader has open: its state, its parts, and how they update."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import panel as pn
from bokeh.models.callbacks import CustomJS
from bokeh.models.layouts import Column
from bokeh.models.widgets.inputs import TextInput
from markupsafe import Markup

from actstore.errors import ActstoreError, one_line
from actstore.views.arrays import Bools
from actstore.views.explorer.background import Background
from actstore.views.explorer.channel import ChannelTab
from actstore.views.explorer.cohort import CohortTab
from actstore.views.explorer.download_buttons import download_buttons
from actstore.views.explorer.gallery import GalleryTab
from actstore.views.explorer.growth import Growth
from actstore.views.explorer.html import html_pane, style_sheet
from actstore.views.explorer.links import read
from actstore.views.explorer.navigator import Navigator
from actstore.views.explorer.neighbours import NeighboursTab
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.part import Part, Session
from actstore.views.explorer.pictures import Activations, Inputs
from actstore.views.explorer.pins_tab import PinsTab
from actstore.views.explorer.places import closest
from actstore.views.explorer.provenance import ProvenanceTab
from actstore.views.explorer.sample_metrics import SampleMetrics
from actstore.views.explorer.sidebar import Sidebar
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import SUBSET, State

log = logging.getLogger(__name__)

_TABS: dict[str, Callable[[Session], Part]] = {
    "cohort": CohortTab,
    "gallery": GalleryTab,
    "channel": ChannelTab,
    "neighbours": NeighboursTab,
    "pins": PinsTab,
    "provenance": ProvenanceTab,
}
#: A change of these alone is not a step to go back to: keys and sliders make dozens.
_SMALL = {"slice", "patch", "channel", "opacity", "contrast"}
#: A tab that is not open leaves no room below the one that is: Panel keeps the height of the highest.
_CLOSED = ':host > [aria-hidden="true"] { max-height: 0; overflow: hidden; }'
#: Milliseconds between two looks whether the browser is connected.
_BETWEEN = 100


class Page:
    """The parts of one page, and what they show: every change of :attr:`state`, at once."""

    def __init__(self, source: Source, theme: PageTheme, query: str = "") -> None:
        self.source, self.theme = source, theme
        self.state, self._messages = read(query, source)
        self.state.param.watch(self._changed, State.names())
        self._subset: Bools | None = None
        self._serial = 0
        self._push = True
        self._document = pn.state.curdoc
        self.background = Background(self._document, self.complain)
        self.soon = self.background.soon
        self.notice = html_pane()
        # Between page and script: the address to set, the address gone back to, and the key pressed. Bokeh's own
        # widgets: Panel drops values that arrive while it is busy.
        self.address, self.visit, self.key = (
            TextInput(name=f"actstore-{name}") for name in ("address", "visit", "key")
        )
        self.address.js_on_change("value", CustomJS(code="actstoreShown(cb_obj.value)"))
        self.visit.on_change("value", lambda _, __, text: self._visited(text))
        self.key.on_change("value", lambda _, __, text: self._pressed(text))
        self.grown = TextInput(name="actstore-grown")
        self.grown.js_on_change("value", CustomJS(code="actstoreGrown(cb_obj.value)"))
        self.bridge = pn.pane.Bokeh(Column(children=[self.address, self.visit, self.key, self.grown]))
        self.sidebar = Sidebar(self)
        self.inputs = Inputs(self)
        self.activations = Activations(self, self.inputs.row)
        self.metrics, self.navigator = SampleMetrics(self), Navigator(self)
        self.parts: list[Part] = [self.sidebar, self.inputs, self.activations, self.metrics, self.navigator]
        self._tabs: dict[str, Part] = {}
        self._places = {name: pn.Column(sizing_mode="stretch_width", margin=0) for name in _TABS}
        titled = [(name.title(), place) for name, place in self._places.items()]
        self.tabs = pn.Tabs(*titled, stylesheets=[style_sheet(), _CLOSED], sizing_mode="stretch_width", margin=0)
        self.tabs.param.watch(lambda event: self.go(tab=[*_TABS][event.new]), "active")
        self.downloads = download_buttons(self)
        self._show("replace")
        if self._document is not None:
            pn.state.onload(self._complete)
            self._preparing = self._document.add_periodic_callback(self._prepare, _BETWEEN)

    def watch(self, since: Callable[[], str]) -> None:
        """Report what changes in the store from now on; ``since`` as in :class:`Growth`."""
        if self._document is not None:
            self._growth = Growth(self._document, since, self._grown)

    def _grown(self, what: str) -> None:
        self.grown.value = what

    @property
    def subset(self) -> Bools:
        """bool (sample): those that the condition applies to and that were selected."""
        if self._subset is None:
            self._subset = self.source.subset(self.state)
        return self._subset

    def go(self, *, push: bool = True, **changes: Any) -> None:
        """Show something else: fields of the state, or ``sample``, the number of one.

        Values are moved to what there is: the nearest slice of another volume, the last channel of a narrower layer.
        """
        source, before = self.source, self.state
        if (sample := changes.pop("sample", None)) is not None:
            changes |= source.at(int(sample), before)
        state = before.copy(**changes)
        chosen = state.case not in ("", before.case)
        if chosen and not (subset := source.subset(state))[source.sample(before)] and subset.any():
            # A kind of failure leads to its first sample.
            changes |= source.at(int(subset.argmax()), before)
            state = before.copy(**changes)
        if {*changes} & {"patient", "frame"} and "slice" not in changes:
            place = source.nearest(state.patient, state.frame, state.slice, state.condition, state.patch)
            state.param.update(**place)
        state.patch = closest(source.patches(state.patient, state.frame, state.slice), state.patch)
        if state.layer != before.layer and "channel" not in changes:
            state.channel = source.strongest(state)
        state.channel = min(max(state.channel, 0), source.channels[state.layer] - 1)
        self._set(state, push=push)

    def _set(self, state: State, *, push: bool) -> None:
        self._push = push
        try:
            self.state.param.update(**state.fields())
        finally:
            self._push = True

    def _changed(self, *events: Any) -> None:
        """Show what has changed together, and nothing else."""
        changed = {event.name for event in events}
        self._messages = []
        if not changed.isdisjoint(SUBSET):
            self._subset = None
        self._show("push" if self._push and not changed <= _SMALL else "replace")

    def _show(self, how: str) -> None:
        with pn.io.hold(self._document):
            for part in self.parts:
                self._refresh(part)
            # Pictures first: the tab below them is drawn once they are on the screen.
            if self.background.ready:
                self._show_tab()
            self._notify()
            self._send(how)

    def _complete(self) -> None:
        with pn.io.hold(self._document):
            self.background.ready = True
            self._show("replace")
            self.background.start()

    def _show_tab(self) -> None:
        """Update the open tab; a tab that opens for the first time is added once it is complete."""
        name = self.state.tab
        self._refresh(self._tab(name))
        if not len(self._places[name]):
            self._places[name].append(self._tabs[name])
        self.tabs.active = list(_TABS).index(name)

    def _tab(self, name: str) -> Part:
        if name not in self._tabs:
            self._tabs[name] = _TABS[name](self)
        return self._tabs[name]

    def _prepare(self) -> None:
        """Draw the open tab while the browser builds the rest of the page, which it begins once it is connected."""
        assert self._document is not None
        session = getattr(self._document.session_context, "session", None)
        if session is not None and session.connection_count:
            self._document.remove_periodic_callback(self._preparing)
            if not self.background.ready:
                self._refresh(self._tab(self.state.tab))

    def _refresh(self, part: Part) -> None:
        """Update one part; show an error of it on the page, and go on."""
        try:
            part.update()
        except Exception as error:  # a page without one part is better than none
            message = one_line(error)
            if not isinstance(error, ActstoreError | OSError):
                log.exception("%s could not be shown", type(part).__name__)
                message = f"{type(part).__name__} could not be shown: {message}"
            self.complain(message)

    def complain(self, message: str) -> None:
        """Show a message, until the page shows something else."""
        self._add_messages([message])

    def _add_messages(self, messages: list[str]) -> None:
        self._messages = list(dict.fromkeys([*self._messages, *messages]))
        self._notify()

    def _notify(self) -> None:
        paragraphs = (Markup('<p class="notice">{}</p>').format(text) for text in self._messages)
        self.notice.object = str(Markup("").join(paragraphs))

    def _visited(self, query: str) -> None:
        """The reader went back or forward."""
        state, messages = read(query.partition(" ")[2], self.source)
        before = self._serial
        self._set(state, push=False)
        if self._serial == before:
            self._send("replace")
        self._messages = []
        self._add_messages(messages)

    def _pressed(self, text: str) -> None:
        """What the script asks for: "serial slice 2" is two slices on, "serial jump L15/36" another channel."""
        _, field, steps = text.split(" ")
        state, before = self.state, self._serial
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
        elif field == "view":
            self.inputs.look(steps)
        elif field == "clear":
            self.go(case="", dice=None, mad=None)
        elif field == "jump":
            self._jump(steps)
        # The script waits for an answer before it sends the next.
        if self._serial == before:
            self._send("keep")

    def _jump(self, text: str) -> None:
        """Show a layer and channel, such as "L15/36", a layer, or a channel of the layer shown."""
        layer, _, channel = unquote(text).strip().partition("/")
        if not channel and layer.isdigit():
            layer, channel = self.state.layer, layer
        names = {name.casefold(): name for name in self.source.channels}
        names |= {f"l{name[1:].lstrip('0')}": name for name in self.source.channels if re.fullmatch(r"L\d+", name)}
        if (found := names.get(layer.casefold())) is None or (channel and not channel.isdigit()):
            self.complain(
                f"{unquote(text)!r} is no channel: write a layer and a channel, such as {next(iter(names.values()))}/0"
            )
        elif channel and int(channel) >= self.source.channels[found]:
            self.complain(f"{found} has channels 0–{self.source.channels[found] - 1}, not {channel}")
        else:
            changes: dict[str, Any] = {"channel": int(channel)} if channel else {}
            self.go(layer=found, **changes)

    def _send(self, how: str) -> None:
        """Report to the script that the state is shown, and whether to "push", "replace" or "keep" the address."""
        self._serial += 1
        self.address.value = f"{self._serial} {how} {self.state.query()}"
