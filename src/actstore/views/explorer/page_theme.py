"""The page's frame, and its colours by day and by night."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import panel as pn
import param
from bokeh.document import Document
from bokeh.themes import Theme
from panel.theme import DarkTheme, DefaultTheme, Native

from actstore.views.figures.theme import FAINT, INK, NEUTRAL, SOFT


@dataclass(frozen=True)
class PageTheme:
    """Colours that the figures and style sheets of one page share."""

    name: str
    #: Main text and lines; secondary text; lines and cells in the background; the page, and cards upon it.
    ink: str
    soft: str
    faint: str
    neutral: str
    page: str
    card: str
    accent: str
    #: Frames that must be seen on any colour of a map.
    mark: str

    @cached_property
    def bokeh(self) -> Theme:
        """For Bokeh: everything of a figure but its data."""
        text = {"text_color": self.ink}
        return Theme(
            json={
                "attrs": {
                    "Plot": {
                        "background_fill_color": self.card,
                        "border_fill_color": self.card,
                        "outline_line_color": None,
                    },
                    "Axis": {
                        "axis_label_text_color": self.soft,
                        "major_label_text_color": self.soft,
                        "axis_line_color": self.neutral,
                        "major_tick_line_color": self.neutral,
                        "minor_tick_line_color": None,
                        "axis_label_text_font_style": "normal",
                    },
                    "Grid": {"grid_line_color": self.faint},
                    "Title": text,
                    "Legend": {
                        "label_text_color": self.ink,
                        "title_text_color": self.ink,
                        "background_fill_color": self.card,
                        "background_fill_alpha": 0.8,
                        "border_line_color": None,
                    },
                    "BaseColorBar": {
                        "background_fill_color": self.card,
                        "major_label_text_color": self.soft,
                        "title_text_color": self.soft,
                    },
                }
            }
        )

    @property
    def variables(self) -> dict[str, Any]:
        """For style sheets: name to colour."""
        return {
            name: getattr(self, name) for name in ("ink", "soft", "faint", "neutral", "page", "card", "accent", "mark")
        }


LIGHT = PageTheme("light", INK, SOFT, FAINT, NEUTRAL, page="#f3f5f7", card="#ffffff", accent="#0072b2", mark="#d6006c")
DARK = PageTheme(
    "dark",
    ink="#e6eaee",
    soft="#a9b4bf",
    faint="#2f3840",
    neutral="#6b7782",
    page="#14181c",
    card="#1d2328",
    accent="#56b4e9",
    mark="#ff4fa3",
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


class Day(DefaultTheme):
    """By day."""

    bokeh_theme = param.Parameter(LIGHT.bokeh)


class Night(DarkTheme):
    """By night."""

    bokeh_theme = param.Parameter(DARK.bokeh)


class PageDesign(Native):
    """Panel's plain widgets, and figures in the page's colours."""

    _themes: ClassVar = {"default": Day, "dark": Night}


class PageTemplate(pn.Template):
    """A template whose roots Bokeh collects once, instead of all of them each time that one is added."""

    def server_doc(self, doc: Document | None = None, *args: Any, **kwargs: Any) -> Document:
        with doc.models.freeze() if doc is not None else nullcontext():
            return super().server_doc(doc, *args, **kwargs)

    def __repr__(self) -> str:
        # Panel writes it down for notebooks whenever a part is added: a tenth of all that the server does for a page.
        return type(self).__name__
