"""Captures by workers of one's own, and the copies of a GPU on the CPU: for tests, and for benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from actstore.jobs.blocks import Block
from actstore.jobs.capture import check_remaining
from actstore.jobs.creation import ensure_store
from actstore.jobs.plan.plan import Plan
from actstore.jobs.ring import Pair
from actstore.store import commits


def prepare_store(plan: Plan) -> tuple[Plan, list[Block]]:
    """Create the plan's store if it is missing and list the blocks to compute, for callers with their own workers.

    No second capture may run at the same time.
    """
    plan = ensure_store(plan)
    schema = plan.layout.capture
    done = commits.finished(plan.store, schema, plan.fingerprint.token, mending=True)
    check_remaining(plan, done)
    todo = [block for block in plan.blocks if not done[block.index]]
    commits.sweep(plan.store, schema, [block.index for block in todo])
    return plan, sorted(todo, key=lambda block: -block.samples)


class ThreadStream:
    """The same order of events on the CPU with a copying thread, so that tests detect a missing wait."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="actstore-stream")

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype)

    def pin(self, memory: Tensor) -> None:
        pass

    def unpin(self, memory: Tensor) -> None:
        pass

    def copy(self, pairs: Sequence[Pair]) -> Callable[[], None]:
        def run() -> None:
            for host, device in pairs:
                host.copy_(device)

        copying = self._thread.submit(run)

        def arrived() -> None:
            copying.result()

        return arrived
