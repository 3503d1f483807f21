"""What the parts of the page are, and what they see of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import panel as pn

from actstore.views.arrays import Bools
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import State
from actstore.views.explorer.statistics import LoadProgress

#: A long task; it reports its progress to the function that it is given.
Work = Callable[[LoadProgress], Any]


class Session(Protocol):
    """One page that a reader has open."""

    source: Source
    theme: PageTheme

    @property
    def state(self) -> State:
        """What is shown."""

    @property
    def subset(self) -> Bools:
        """bool (sample): which samples the page is about."""

    def go(self, **changes: Any) -> None:
        """Show something else: fields of :class:`State`, or ``sample``, the number of one."""

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> None:
        """Do long ``work`` in the background, show its progress as ``what``, then call ``done`` with its result.

        The page shows an error of either, and ``failed`` is called with its message.
        """


class Part(Protocol):
    """A part of the page: built once, then updated whenever what it shows has changed."""

    def update(self) -> None:
        """Show what the session's state and subset are now."""


class Tab(Part, Protocol):
    """A part that is built when the reader opens it."""

    @property
    def view(self) -> pn.viewable.Viewable:
        """Its place on the page."""
