"""Units that compute lazy arrays by themselves: on a Dask worker the cluster would be asked, and may never answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import pytest

from actstore.jobs import runner


def forbid_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a unit fail that leaves to others who computes an array."""
    compute: Callable[..., Any] = runner.compute_unit

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a unit left its reading to the default scheduler, which is the cluster on a worker")

    def alone(*arguments: Any) -> Any:
        with dask.config.set(scheduler=refuse):
            return compute(*arguments)

    monkeypatch.setattr(runner, "compute_unit", alone)
