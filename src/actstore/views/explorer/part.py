"""What the parts of the page are: methods that show some parameters of the state, and what they see of the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar, Protocol, TypeVar

from actstore.views.arrays import Bools
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import State
from actstore.views.explorer.statistics import LoadProgress

#: A long task; it reports its progress to the function that it is given.
Work = Callable[[LoadProgress], Any]
#: Of a part; it returns True to be called again at the next change, whatever changes.
Show = TypeVar("Show", bound=Callable[[Any], bool | None])


class Session(Protocol):
    """One page that a reader has open."""

    source: Source
    theme: PageTheme
    #: What is shown.
    state: State

    @property
    def subset(self) -> Bools:
        """bool (sample): which samples the page is about."""

    def go(self, **changes: Any) -> None:
        """Show something else: fields of :class:`State`, or ``sample``, the number of one."""

    def complain(self, message: str) -> None:
        """Show a message."""

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> bool:
        """Do ``work`` in the background, show its progress as ``what``, then call ``done`` with its result.

        The page shows an error of either, and ``failed`` is called with its message. Returns whether the work took so
        short that all of this is over.
        """


def shows(*names: str) -> Callable[[Show], Show]:
    """Marks a method of a part: it shows what depends on these parameters of the state."""

    def mark(method: Show) -> Show:
        method.shows = frozenset(names)  # type: ignore[attr-defined]
        return method

    return mark


class Part:
    """A part of the page, built once; its methods that are marked draw, in the order in which they are written."""

    #: What is added to the page, where the part is one thing.
    view: Any
    _shows: ClassVar[dict[str, frozenset[str]]]

    def __init_subclass__(cls) -> None:
        cls._shows = {name: method.shows for name, method in vars(cls).items() if hasattr(method, "shows")}

    def __init__(self, session: Session) -> None:
        self.session, self.source = session, session.source
        #: Parts of this part, which are updated after it.
        self.inside: list[Part] = []
        #: Methods to call at the next update, whatever has changed: at first all of them.
        self._again: set[str] = set(self._shows)
        self._reading: set[Hashable] = set()

    @property
    def state(self) -> State:
        """What the page shows."""
        return self.session.state

    @property
    def sample(self) -> int:
        """The number of the sample that the page shows."""
        return self.source.sample(self.session.state)

    @property
    def condition(self) -> int:
        """The number of the condition that the page shows."""
        return self.source.condition(self.session.state.condition)

    def update(self, changed: Collection[str] | None = None) -> None:
        """Show what depends on the ``changed`` parameters, or everything."""
        for name, parameters in self._shows.items():
            if changed is None or name in self._again or not parameters.isdisjoint(changed):
                self._again.discard(name)
                if getattr(self, name)():
                    self._again.add(name)
        for part in self.inside:
            part.update(changed)

    def read(
        self,
        key: Hashable,
        work: Work,
        what: str,
        show: Callable[[], object],
        say: Callable[[str], object],
        keep: Callable[[Any], object] = lambda found: None,
    ) -> None:
        """Do ``work`` in the background, once at a time for a ``key``: ``keep`` its result, then ``show``.

        Meanwhile ``say`` is called with ``what`` is done, unless it is done at once, and after an error with its
        message; then the next change shows everything again.
        """
        waits = f"{what} …"
        if key in self._reading:
            say(waits)
            return
        self._reading.add(key)

        def done(found: Any) -> None:
            self._reading.discard(key)
            keep(found)
            show()

        def refused(message: str) -> None:
            self._reading.discard(key)
            self._again |= set(self._shows)
            say(message)

        if not self.session.soon(work, done, what, refused):
            say(waits)
