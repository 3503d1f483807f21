"""The tab on pins: each pinned channel in each pinned sample, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import panel as pn
import param
from markupsafe import Markup

from actstore.errors import StoreError
from actstore.views.explorer.download_buttons import download_button
from actstore.views.explorer.html import html_pane, style_sheet
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.pins import SamplePin, as_csv, as_json
from actstore.views.explorer.state import SAMPLE
from actstore.views.explorer.thumbnails import Thumbnail, ThumbnailGrid, ThumbnailPlot, resized
from actstore.views.figures.scales import around_zero

#: Room above a map for two lines of text, as a share of its side.
HEAD = 0.36
#: Pixels a side that a map is drawn with, and that it takes on the screen at most.
SIDE, WIDEST = 96, 170
EMPTY = "Nothing is pinned yet: the tab Channel has buttons that pin the channel and the sample shown."


class PinsTab(Part):
    """A row a sample, a column a channel; without pinned samples the sample that is shown."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        options: dict[str, Any] = {"sizing_mode": "scale_width", "aspect_ratio": 4}
        self.plot = ThumbnailPlot(session.theme, self._tapped, names=("channel", "sample", "largest"), **options)
        self.list = html_pane()
        state = session.state
        whole = lambda: as_json(str(self.source.store.path), state.channels, state.samples, state.query())  # noqa: E731
        table = lambda: as_csv(state.channels, state.samples)  # noqa: E731
        self.clear = pn.widgets.Button(label="unpin all", stylesheets=[style_sheet()], margin=(0, 6, 6, 0))
        self.clear.on_click(lambda _: session.go(channels=(), samples=()))
        buttons = [
            download_button(session, "pins (JSON)", "pins.json", whole),
            download_button(session, "pins (CSV)", "pins.csv", table),
            self.clear,
        ]
        row = pn.Row(*buttons, margin=0, styles={"flex-wrap": "wrap"})
        self.view = pn.Column(row, self.plot.view, self.list, sizing_mode="stretch_width", margin=0)

    @param.depends(*of_state(*SAMPLE, "condition", "layer", "channel", "gallery", "channels", "samples"))
    def _show(self) -> bool:
        state = self.state
        self.clear.disabled = not (state.channels or state.samples)
        self.list.object = str(self._notes())
        if self.clear.disabled:
            self.plot.hide(EMPTY)
            return False
        shown = SamplePin(state.patient, state.frame, state.slice, state.patch)
        #: What each map is of: sample by sample, in each the channels.
        self._cells = [
            (sample, layer, channel)
            for sample in (state.samples or (shown,))
            for layer, channel in ([pin.place for pin in state.channels] or [(state.layer, state.channel)])
        ]
        columns = max(len(state.channels), 1)
        try:
            maps = [self._map(*cell) for cell in self._cells]
        except StoreError as error:
            self.plot.hide(str(error))
            return True
        self._draw(maps, columns)
        return False

    def _map(self, sample: SamplePin, layer: str, channel: int) -> Any:
        """The change of a channel under the condition; its map where the gallery shows the original, or it is alone."""
        source, state = self.source, self.state
        number = source.sample(state.copy(**sample._asdict()))
        if not source.has_maps(layer):
            raise StoreError(f"{layer} has one value a sample and channel, and no maps: unpin its channels")
        wanted = [0] if source.alone or state.gallery == "original" else [self.condition, 0]
        found = [source.map(layer, number, c, channel, sample.slice).astype(np.float32) for c in wanted]
        return found[0] - found[1] if len(found) > 1 else found[0]

    def _draw(self, maps: list[Any], columns: int) -> None:
        shape = tuple(max(one.shape[axis] for one in maps) for axis in (0, 1))
        # A channel has one scale in all samples.
        most = [
            max(map(abs, around_zero(np.stack([np.ravel(one) for one in maps[k::columns]])))) for k in range(columns)
        ]
        tiles = []
        for i, (cell, one) in enumerate(zip(self._cells, maps, strict=True)):
            sample, layer, channel = cell
            top = most[i % columns]
            name = f"{sample.patient} f{sample.frame} s{sample.slice}"
            tiles.append(Thumbnail(i, f"{layer} · {channel}", name, top, resized(one / top, shape), None))
        grid = ThumbnailGrid(tiles, columns, None, side=SIDE, head=HEAD)
        height, width = grid.shape
        self.plot.figure.plot.update(aspect_ratio=width / height, max_width=columns * WIDEST)
        self.plot.draw(grid, (-1.0, 1.0))
        what = "the original" if self.source.alone or self.state.gallery == "original" else "perturbed − original"
        self.plot.show_below(f"{what} · a column a channel, colours end at ± the number over it · tap a map to see it")

    def _tapped(self, cell: int) -> None:
        sample, layer, channel = self._cells[cell]
        self.session.go(**sample._asdict(), layer=layer, channel=channel)

    def _notes(self) -> Markup:
        rows = (
            Markup("<tr><td>{} channel {}</td><td>{}</td></tr>").format(*pin.place, pin.note)
            for pin in self.state.channels
            if pin.note
        )
        body = Markup("").join(rows)
        return Markup('<table class="effects"><caption>notes</caption>{}</table>').format(body) if body else Markup("")
