"""Pins the channel and the sample shown, and takes a note on the channel."""

from __future__ import annotations

from typing import Any

import panel as pn
import param

from actstore.views.explorer.html import style_sheet
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.pins import ChannelPin, SamplePin, noted, toggled
from actstore.views.explorer.state import LONGEST as READ
from actstore.views.explorer.state import SAMPLE

#: Characters of a note.
LONGEST = 500


class PinButtons(Part):
    """Two buttons and a line to write on."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        style: dict[str, Any] = {"stylesheets": [style_sheet()], "margin": (2, 8, 8, 0)}
        self.channel = pn.widgets.Button(label="pin this channel", **style)
        self.sample_button = pn.widgets.Button(label="pin this sample", **style)
        hint = "a note of your own: it pins the channel, and is part of the link"
        self.note = pn.widgets.TextInput(placeholder=hint, max_length=LONGEST, width=460, **style)
        self.channel.on_click(lambda _: self._pin(channels=toggled(self.state.channels, self._channel())))
        self.sample_button.on_click(lambda _: self._pin(samples=toggled(self.state.samples, self._sample())))
        self.note.param.watch(lambda event: self._noted(event.new), "value")
        self.view = pn.Row(self.channel, self.sample_button, self.note, margin=0, styles={"flex-wrap": "wrap"})

    def _channel(self, note: str = "") -> ChannelPin:
        return ChannelPin(self.state.layer, self.state.channel, note)

    def _sample(self) -> SamplePin:
        return SamplePin(*(getattr(self.state, name) for name in SAMPLE))

    def _noted(self, text: str) -> None:
        if text.strip() != self._known:
            self._pin(channels=noted(self.state.channels, self._channel(text.strip())))

    def _pin(self, **pins: Any) -> None:
        """Not more than a link of the page holds: what it names is what it shows when it is loaded again."""
        if len(self.state.copy(**pins).query()) > READ:
            self.session.complain(f"a link has at most {READ} characters, and no room for more: unpin some first")
        else:
            self.session.go(**pins)

    @property
    def _known(self) -> str:
        """The note on the channel shown."""
        place = self._channel().place
        return next((pin.note for pin in self.state.channels if pin.place == place), "")

    @param.depends(*of_state(*SAMPLE, "layer", "channel", "channels", "samples"))
    def _show(self) -> None:
        pinned = self._channel().place in [pin.place for pin in self.state.channels]
        self.channel.label = "unpin this channel" if pinned else "pin this channel"
        held = self._sample() in self.state.samples
        self.sample_button.label = "unpin this sample" if held else "pin this sample"
        self.note.value = self._known
