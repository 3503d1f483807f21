"""What the parts of the page are, and what they see of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Protocol

import panel as pn

from actstore.views.explorer.look import Look
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import State
from actstore.views.explorer.statistics import Bools, Progress

#: What takes long: it is given a function to tell how far it is.
Work = Callable[[Progress], Any]


class Session(Protocol):
    """One page that somebody looks at."""

    source: Source
    look: Look

    @property
    def state(self) -> State:
        """What is shown."""

    @property
    def subset(self) -> Bools:
        """bool (sample): which samples it is about."""

    def go(self, **changes: Any) -> None:
        """Show something else: fields of :class:`State`, or ``sample``, the number of one."""

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> None:
        """Do long ``work`` beside the page, which shows its progress as ``what``, then call ``done`` with its result.

        An error of either is shown on the page, and ``failed`` is called with it.
        """


class Part(Protocol):
    """A part of the page: built once, then told whenever what it shows has changed."""

    def update(self) -> None:
        """Show what the session's state and subset are now."""


class Tab(Part, Protocol):
    """A part that is shown when it is asked for."""

    @property
    def view(self) -> pn.viewable.Viewable:
        """What stands on the page."""


@cache
def style() -> str:
    """The page's style sheet of text and widgets, which none from outside reaches."""
    return resources.files("actstore.views").joinpath("templates/explorer.page.css").read_text(encoding="utf-8")


def html(**options: Any) -> pn.pane.HTML:
    """A place for text in the page's style."""
    return pn.pane.HTML(
        **{"object": "", "sizing_mode": "stretch_width", "margin": 0, "stylesheets": [style()]} | options
    )
