"""Reports whose words, tables and files are looked at, without the drawings that take most of the time of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from actstore.store.store import Store
from actstore.tables.findings import Findings
from actstore.views.report import render
from actstore.views.report.write import write_report


def undrawn_report(store: Store, output: Path, findings: Findings | None = None) -> Path:
    """`write_report` in this process alone, with a dot for each drawing on paper.

    Whole reports are the fixture ``study_report`` and what ``test_report`` says of the demo; ``test_odd_stores`` draws
    what few patients and no classes leave.
    """

    def dot(_figure: Any, png: Path | None, svg: Path | None = None, **_: Any) -> None:
        for path in filter(None, (png, svg)):
            path.write_bytes(b".")

    with pytest.MonkeyPatch.context() as patch:
        # Another process, which the patch would not reach, draws on a second core.
        patch.setattr(os, "cpu_count", lambda: 1)
        patch.setattr(render, "save_images", dot)
        return write_report(store, output, findings)
