"""Long work of a page: done in a thread, its progress shown, its result or error brought back to the page."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from time import monotonic
from typing import Any

import panel as pn
from bokeh.document import Document
from markupsafe import Markup

from actstore.errors import ActstoreError, one_line
from actstore.views.explorer.html import html_pane
from actstore.views.explorer.part import Work
from actstore.views.explorer.statistics import LoadProgress

log = logging.getLogger(__name__)

#: Held by the long work that is being done, one at a time: two would wait for the same disk.
_TURN = threading.Lock()
#: Seconds between two steps of a progress bar.
_STEP = 0.2
#: Seconds that the page waits for work before it says so: to take figures off a page, and put them back, lays all of
#: them out twice each time.
_GRACE = 0.1


class Background:
    """The long work of one page; ``complain`` shows a message on it.

    Without a ``document``, as in a test, work is done at once.
    """

    def __init__(self, document: Document | None, complain: Callable[[str], None]) -> None:
        self._document, self._complain = document, complain
        self.progress = html_pane()
        #: Whether results are shown; not while the browser still builds its views, which would miss what changes.
        self.ready = document is None
        self._early: list[Callable[[], None]] = []

    def start(self) -> None:
        """Show what was read before the page was on the screen, and from now on everything at once."""
        self.ready = True
        for call in self._early:
            call()
        self._early = []

    def soon(self, work: Work, done: Callable[[Any], None], what: str, failed: Callable[[str], None]) -> bool:
        """Do ``work``, then call ``done`` with its result, or ``failed``; returns whether that was at once.

        Of what takes longer, progress is shown as ``what``.
        """
        shown_at = monotonic()
        over = False

        def progress(number: int, whole: int) -> None:
            nonlocal shown_at
            if monotonic() - shown_at > _STEP:
                shown_at = monotonic()
                # Callbacks may run out of order: this one even after the work is over.
                self._later(lambda: None if over else self._progress(what, number, whole))

        def arrived(future: Future[Any]) -> None:
            nonlocal over
            over = True
            if self.ready:
                self._arrived(future, done, failed)
            else:
                self._early.append(lambda: self._arrived(future, done, failed))

        future = _submitted(work, progress)
        wait([future], None if self._document is None else _GRACE)
        at_once = future.done() and self.ready
        if at_once or self._document is None:
            arrived(future)
        else:
            self._progress(what, 0, 1)
            future.add_done_callback(lambda future: self._later(lambda: arrived(future)))
        return at_once

    def _later(self, call: Callable[[], None]) -> None:
        """Call on the page's own event loop, if the page is still open."""
        if self._document is not None and self._document.session_context is not None:
            self._document.add_next_tick_callback(call)

    def _progress(self, what: str, number: int, whole: int) -> None:
        bar = '<label class="progress">{} <progress value="{}" max="{}"></progress></label>'
        self.progress.object = str(Markup(bar).format(what, number, whole))

    def _arrived(self, future: Future[Any], done: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        with pn.io.hold(self._document):
            self.progress.object = ""
            try:
                done(future.result())
            except Exception as error:
                if not isinstance(error, ActstoreError | OSError):
                    log.exception("what was read could not be shown")
                self._complain(one_line(error))
                failed(one_line(error))


def _submitted(work: Work, progress: LoadProgress) -> Future[Any]:
    """What ``work`` will return; its thread does not keep a server that is stopped from ending, as a pool's does."""
    future: Future[Any] = Future()

    def run() -> None:
        with _TURN:
            try:
                future.set_result(work(progress))
            except BaseException as error:
                future.set_exception(error)

    threading.Thread(target=run, name="actstore-explorer", daemon=True).start()
    return future
