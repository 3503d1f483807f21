"""The frame of the page."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import panel as pn
from bokeh.document import Document


class PageTemplate(pn.Template):
    """A template whose roots Bokeh looks through once, not all of them each time that one is added."""

    def server_doc(self, doc: Document | None = None, *args: Any, **kwargs: Any) -> Document:
        with doc.models.freeze() if doc is not None else nullcontext():
            return super().server_doc(doc, *args, **kwargs)
