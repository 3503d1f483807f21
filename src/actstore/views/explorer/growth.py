"""Notices that a capture has committed more of the store since a page was opened."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bokeh.document import Document

from actstore.errors import ActstoreError

#: Milliseconds between two looks at the commit records.
EVERY = 5_000


class Growth:
    """Looks at a store now and then, in a thread of its own, until it is complete.

    Parameters
    ----------
    count
        reads how many blocks are committed, and how many there are.
    shown
        how many of them the page shows.
    say
        called on the page's own event loop with how many more there are.
    """

    def __init__(
        self, document: Document, count: Callable[[], tuple[int, int]], shown: int, say: Callable[[int], None]
    ) -> None:
        self._document, self._count, self._say = document, count, say
        self._shown = self._known = shown
        self._thread: threading.Thread | None = None
        self._looking = document.add_periodic_callback(self.look, EVERY)

    def look(self) -> None:
        """Begin to look, unless the last look still waits for a slow store."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="actstore-growth", daemon=True)
            self._thread.start()

    def _look(self) -> None:
        try:
            committed, every = self._count()
        except (ActstoreError, OSError):
            return  # a record that is being written, or a server out of reach: the next look may succeed
        if committed != self._known and self._document.session_context is not None:
            self._document.add_next_tick_callback(lambda: self._found(committed, every))

    def _found(self, committed: int, every: int) -> None:
        self._known = committed
        if committed == every:
            self._document.remove_periodic_callback(self._looking)
        self._say(committed - self._shown)
