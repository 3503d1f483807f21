"""Buttons that make the files of a page when they are pressed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import BytesIO

import panel as pn

from actstore.errors import ActstoreError, one_line
from actstore.views.explorer import downloads
from actstore.views.explorer.html import style_sheet
from actstore.views.explorer.part import Session

log = logging.getLogger(__name__)


def download_buttons(session: Session, complain: Callable[[str], None]) -> pn.Column:
    """Pictures, numbers and code of what the page shows; ``complain`` is called with an error's message."""

    def button(label: str, suffix: str, make: Callable[[], bytes]) -> pn.widgets.FileDownload:
        def named() -> BytesIO:
            made.filename = downloads.filename(session.state, suffix)
            try:
                return BytesIO(make())
            except Exception as error:  # a file with the reason is better than none
                if not isinstance(error, ActstoreError | OSError):
                    log.exception("%s could not be made", made.filename)
                complain(one_line(error))
                made.filename = "nothing.txt"
                return BytesIO(f"{one_line(error)}\n".encode())

        style = {"sizing_mode": "stretch_width", "margin": (0, 0, 4, 0), "stylesheets": [style_sheet()]}
        made = pn.widgets.FileDownload(callback=named, label=label, filename=suffix, **style)
        return made

    source = session.source
    return pn.Column(
        button("these pictures (PNG)", "png", lambda: downloads.png(source, session.state)),
        button("these samples (CSV)", "csv", lambda: downloads.csv(source, session.state, session.subset).encode()),
        button("notebook code (Python)", "py", lambda: downloads.code(source, session.state).encode()),
        sizing_mode="stretch_width",
        margin=0,
    )
