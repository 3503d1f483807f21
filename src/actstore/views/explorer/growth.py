"""Notices that the store of an open page has changed: a capture commits more of it, or another one takes its place."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bokeh.document import Document

from actstore.errors import ActstoreError

#: Milliseconds between two looks at the store.
EVERY = 5_000


class Growth:
    """Looks at a store now and then, in a thread of its own, as long as the page is open.

    Parameters
    ----------
    since
        reads what has changed since the page was made: a sentence, "" for nothing.
    say
        called on the page's own event loop with each new sentence.
    """

    def __init__(self, document: Document, since: Callable[[], str], say: Callable[[str], None]) -> None:
        self._document, self._since, self._say = document, since, say
        self._said = ""
        self._thread: threading.Thread | None = None
        document.add_periodic_callback(self.look, EVERY)

    def look(self) -> None:
        """Begin to look, unless the last look still waits for a slow store."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="actstore-growth", daemon=True)
            self._thread.start()

    def _look(self) -> None:
        try:
            found = self._since()
        except (ActstoreError, OSError):
            return  # a record that is being written, or a server out of reach: the next look may succeed
        if found not in ("", self._said) and self._document.session_context is not None:
            self._said = found
            self._document.add_next_tick_callback(lambda: self._say(found))
