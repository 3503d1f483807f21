"""What the parts of the page are: methods that show some parameters of the state, and what they see of the page."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar, Protocol

import panel as pn
import param

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


def of_state(*names: str) -> Iterator[str]:
    """These parameters of the state, as `param.depends` names them in a part."""
    return (f"state.{name}" for name in names)


class Part(pn.viewable.Viewer):
    """A part of the page, built once.

    Its methods under `param.depends` draw, in the order in which they are written, whenever a parameter of the state
    that they name is not as they drew it last. One that returns True is called again at the next change of any.
    """

    state: State = param.ClassSelector(class_=State, doc="what the page shows")  # type: ignore[assignment]
    #: What is added to the page, where the part is one thing.
    view: Any
    _drawing: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        cls._drawing = tuple(name for name, method in vars(cls).items() if hasattr(method, "_dinfo"))

    def __init__(self, session: Session) -> None:
        super().__init__(state=session.state)  # type: ignore[no-untyped-call]
        self.session, self.source = session, session.source
        #: Parts of this part, which are updated after it.
        self.inside: list[Part] = []
        #: Of each method that draws: the parameters of the state that it depends on, and their values that it drew.
        self._depends = {name: [of.name for of in self.param.method_dependencies(name)] for name in self._drawing}
        self._last: dict[str, list[Any]] = {}
        self._reading: set[Hashable] = set()

    def __panel__(self) -> Any:
        return self.view

    @property
    def sample(self) -> int:
        """The number of the sample that the page shows."""
        return self.source.sample(self.state)

    @property
    def condition(self) -> int:
        """The number of the condition that the page shows."""
        return self.source.condition(self.state.condition)

    def update(self) -> None:
        """Draw what is not drawn as the state is now."""
        for name, parameters in self._depends.items():
            values = [getattr(self.state, parameter) for parameter in parameters]
            if self._last.get(name) == values:
                continue
            self._last[name], again = values, True
            try:
                again = bool(getattr(self, name)())
            finally:
                if again:
                    self._last.pop(name, None)
        for part in self.inside:
            part.update()

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
            self._last.clear()
            say(message)

        if not self.session.soon(work, done, what, refused):
            say(waits)
