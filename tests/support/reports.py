"""Writes reports without drawings, which take most of the time, to check their words, tables and files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actstore.store.store import Store
from actstore.tables.findings import Findings
from actstore.views.report import render
from actstore.views.report.study import Figure
from actstore.views.report.write import write_report

#: Functions of `actstore.views` that the report of ``study_store`` draws with Matplotlib, and how names of their
#: figures begin there.
REPORTED = {
    "activation": "activation-L01",
    "agreement": "agreement",
    "areas": "areas",
    "calibration": "calibration",
    "cases": "cases",
    "certainty": "certainty",
    "comparison": "comparison",
    "confusion": "confusion",
    "controls": "controls",
    "cumulative": "cumulative-",
    "deletion": "deletion",
    "dice": "dice",
    "dice_by_patient": "dice-by-patient",
    "dice_by_position": "dice-by-position",
    "dice_change": "dice-change",
    "dice_cumulative": "dice-cumulative",
    "dose": "dose",
    "dose_cases": "dose-cases",
    "dose_channels": "dose-channels",
    "effects": "effects",
    "explanation": "explanation-",
    "focus": "focus-",
    "frequency": "frequency-by-condition",
    "frequency by case": "frequency-by-case",
    "gallery": "gallery-brightness",
    "general_specific": "general-specific",
    "heterogeneity": "heterogeneity",
    "inputs": "inputs-brightness",
    "layers": "layers",
    "leave_one_out": "leave-one-out",
    "neighbours": "neighbours",
    "noise": "noise",
    "precision_recall": "precision-recall",
    "projection": "projection",
    "projections": "projections-",
    "randomisation": "randomisation",
    "rankings": "rankings",
    "regions": "regions",
    "roc": "roc",
    "sensitivity": "sensitivity",
    "similarity": "similarity",
    "stability": "stability",
}


@contextlib.contextmanager
def undrawn(*, built: bool = False) -> Iterator[None]:
    """Reports that are written meanwhile have a dot for each drawing; figures are made only if ``built``.

    The fixture ``study_report`` is a whole report; ``test_odd_stores`` makes the figures of stores with few patients,
    missing volumes or no classes.
    """
    whole = render._figure

    def dot(_figure: Any, *paths: Path) -> str:
        for path in paths:
            path.write_bytes(b".")
        return "[]"

    def unbuilt(figure: Figure, folder: Path) -> dict[str, Any]:
        return whole(dataclasses.replace(figure, draw=lambda: None), folder)

    with pytest.MonkeyPatch.context() as patch:
        # With a second core, another process draws, which the patch would not reach.
        patch.setattr(os, "cpu_count", lambda: 1)
        patch.setattr(render, "save_picture", dot)
        if not built:
            patch.setattr(render, "_figure", unbuilt)
        yield


def undrawn_report(store: Store, output: Path, findings: Findings | None = None, *, built: bool = False) -> Path:
    """`write_report` in this process only, with a dot for each drawing; see `undrawn`."""
    with undrawn(built=built):
        return write_report(store, output, findings)
