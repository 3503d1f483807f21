"""Captures of the reference data, in the folder that ACTSTORE_REFERENCE names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from actstore.jobs.capture import Summary, capture
from actstore.spec.spec import load_spec
from conftest import WriteSpec


def reference() -> Path:
    return Path(os.environ["ACTSTORE_REFERENCE"])


def capture_reference(folder: Path, write_spec: WriteSpec, kind: str, **changes: Any) -> Summary:
    """The reference network on the data set ``kind``; ``changes`` as of ``write_spec``."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "data__format": kind,
        "data__root": reference() / kind,
        "data__preprocess": None,
        "model__factory": "actstore.models:unet_heart_8_4_4",
        "model__weights": reference() / "weights" / "unet_heart_8_4_4.pt",
        "model__layers": ["*.adn.N"],
        "perturb": [{"transform": "brightness", "targets": ["LV", "RV", "MYO"], "strengths": [0.1]}],
        "run": None,
    }
    summary = capture(load_spec(write_spec(folder, **(settings | changes))), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return summary
