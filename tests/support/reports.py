"""Writes reports without drawings, which take most of the time, to check their words, tables and files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actstore.store.store import Store
from actstore.tables.findings import Findings
from actstore.views.report import render
from actstore.views.report.write import write_report


@contextlib.contextmanager
def undrawn(*, pages: bool = True) -> Iterator[None]:
    """Reports that are written meanwhile have a dot for each drawing, and without ``pages`` none in the page either.

    The fixture ``study_report`` and ``test_report`` use whole reports; ``test_odd_stores`` draws those of few patients
    or no classes.
    """

    def dot(_figure: Any, png: Path | None, svg: Path | None = None, **_: Any) -> None:
        for path in filter(None, (png, svg)):
            path.write_bytes(b".")

    with pytest.MonkeyPatch.context() as patch:
        # With a second core, another process draws, which the patch would not reach.
        patch.setattr(os, "cpu_count", lambda: 1)
        patch.setattr(render, "save_images", dot)
        if not pages:
            patch.setattr(render, "page_item", lambda _figure, target: "{}")
        yield


def undrawn_report(store: Store, output: Path, findings: Findings | None = None, *, pages: bool = True) -> Path:
    """`write_report` in this process only, with a dot for each drawing; ``pages`` as of `undrawn`."""
    with undrawn(pages=pages):
        return write_report(store, output, findings)
