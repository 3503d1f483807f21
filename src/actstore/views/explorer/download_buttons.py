"""Buttons that make the files of a page when they are pressed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import BytesIO
from typing import Any

import panel as pn

from actstore.errors import ActstoreError, one_line
from actstore.views.explorer import downloads
from actstore.views.explorer.html import style_sheet
from actstore.views.explorer.part import Session

log = logging.getLogger(__name__)


def download_button(
    session: Session, label: str, suffix: str, make: Callable[[], str | bytes], **options: Any
) -> pn.widgets.FileDownload:
    """A button that makes its file when it is pressed, or a file with the reason why not."""

    def named() -> BytesIO:
        made.filename = downloads.filename(session.state, suffix)
        try:
            content = make()
        except Exception as error:
            if not isinstance(error, ActstoreError | OSError):
                log.exception("%s could not be made", made.filename)
            session.complain(one_line(error))
            made.filename, content = "nothing.txt", f"{one_line(error)}\n"
        return BytesIO(content.encode() if isinstance(content, str) else content)

    style = {"margin": (0, 6, 4, 0), "stylesheets": [style_sheet()]} | options
    made = pn.widgets.FileDownload(callback=named, label=label, filename=suffix, **style)
    return made


def download_buttons(session: Session) -> pn.Column:
    """Pictures, numbers and code of what the page shows."""
    source = session.source
    wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 4, 0)}
    made: dict[str, tuple[str, Callable[[], str | bytes]]] = {
        "these pictures (PNG)": ("png", lambda: downloads.png(source, session.state)),
        "these samples (CSV)": ("csv", lambda: downloads.csv(source, session.state, session.subset)),
        "notebook code (Python)": ("py", lambda: downloads.code(source, session.state)),
    }
    buttons = [download_button(session, label, *of, **wide) for label, of in made.items()]
    return pn.Column(*buttons, sizing_mode="stretch_width", margin=0)
