"""What a channel does where it is edited alone: a line for each intervention."""

from __future__ import annotations

from functools import partial

import param
from markupsafe import Markup

from actstore.errors import StoreError
from actstore.views.explorer.edits import ChannelEdits, Edits
from actstore.views.explorer.html import html_pane, note
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.statistics import LoadProgress

_HEADS = ("intervention", "effect", "class", "mean", "95 % interval", "corrected p", "")


class EffectLines(Part):
    """Effects of editing the shown channel alone, on the class that the shown condition perturbs."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        #: Nothing where no intervention edits channels alone.
        self.view = html_pane(visible=bool(session.source.edits.offered))

    @param.depends(*of_state("condition", "layer", "channel"))
    def _show(self) -> None:
        edits = self.source.edits
        if not edits.offered:
            return
        if all(map(edits.loaded, edits.offered)):
            lines = Markup("").join(map(self._line, edits.offered))
            heads = Markup("").join(Markup("<th>{}</th>").format(name) for name in _HEADS)
            table = Markup(
                '<table class="effects"><caption>edited alone, by interventions</caption><tr>{}</tr>{}</table>'
            )
            self.view.object = str(table.format(heads, lines))
        else:
            self.read("effects", partial(_load, edits), "reading interventions", self._show, self._note)

    def _note(self, message: str) -> None:
        self.view.object = str(note(message))

    def _line(self, edits: ChannelEdits) -> Markup:
        source, state = self.source, self.state
        try:
            found = source.edits.effects(edits, state.condition)
        except StoreError as error:
            return Markup('<tr><td>{}</td><td colspan="6">{}</td></tr>').format(edits.name, error)
        number = source.where[state.layer].start + state.channel
        if number not in found.words.index:
            return Markup('<tr><td>{}</td><td colspan="6">{} was not edited</td></tr>').format(edits.name, state.layer)
        own = found.words.loc[number]
        cells = (edits.name, found.quantity, found.class_name, own["mean"], own["interval"], own["p"], own["note"])
        return Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells))


def _load(edits: Edits, progress: LoadProgress) -> None:
    for i, one in enumerate(edits.offered):
        edits.load(one)
        progress(i + 1, len(edits.offered))
