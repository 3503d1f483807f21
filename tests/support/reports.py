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
def undrawn() -> Iterator[None]:
    """Reports that are written meanwhile have a dot for each drawing.

    The fixture ``study_report`` and ``test_report`` use whole reports; ``test_odd_stores`` draws those of few patients
    or no classes.
    """

    def dot(_figure: Any, *paths: Path) -> str:
        for path in paths:
            path.write_bytes(b".")
        return "[]"

    with pytest.MonkeyPatch.context() as patch:
        # With a second core, another process draws, which the patch would not reach.
        patch.setattr(os, "cpu_count", lambda: 1)
        patch.setattr(render, "save_picture", dot)
        yield


def undrawn_report(store: Store, output: Path, findings: Findings | None = None) -> Path:
    """`write_report` in this process only, with a dot for each drawing."""
    with undrawn():
        return write_report(store, output, findings)
