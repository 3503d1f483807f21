"""What `actstore.jobs.ring.CudaStream` uses of `torch.cuda`, on the CPU: a stream is a thread, pinned memory a list.

It answers as a driver does where memory is pinned twice or was never pinned, and refuses an asynchronous copy to memory
that is not pinned.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from actstore.jobs.ring import CudaStream

#: Errors of the CUDA runtime: memory is pinned already, or is not pinned.
ALREADY, NEVER = 712, 713


class Current:
    """The stream of the network: what it is asked for is done at once, unless it is held up."""

    def __init__(self) -> None:
        self.idle = threading.Event()
        self.idle.set()


class Side:
    """`torch.cuda.Stream`."""

    def __init__(self, device: torch.device) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="actstore-cuda")

    def wait_stream(self, other: Current) -> None:
        self.thread.submit(other.idle.wait)


class Event:
    """`torch.cuda.Event`."""

    done: Future[None]

    def record(self, stream: Side) -> None:
        self.done = stream.thread.submit(lambda: None)

    def synchronize(self) -> None:
        self.done.result()


class Runtime:
    """`torch.cuda.cudart()`, and memory that torch pinned itself."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.errors: list[int] = []
        self.own: dict[int, Tensor] = {}

    def cudaHostRegister(self, address: int, size: int, _flags: int) -> int:
        if any(address < start + length and start < address + size for start, length in self.registered.items()):
            self.errors.append(ALREADY)
            return ALREADY
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        if self.registered.pop(address, None) is None:
            self.errors.append(NEVER)
            return NEVER
        return 0

    def holds(self, memory: Tensor) -> bool:
        spans = [*self.registered.items(), *((start, own.nbytes) for start, own in self.own.items())]
        return any(start <= memory.data_ptr() < start + length for start, length in spans)


class StandIn:
    """Puts the stand-in in place for a test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.runtime, self.current = Runtime(), Current()
        self._within = threading.local()
        copy, empty = Tensor.copy_, torch.empty

        def copy_(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
            side: Side | None = getattr(self._within, "side", None)
            if side is None or not non_blocking:
                return copy(to, source)
            assert self.runtime.holds(to), "a copy to memory that is not pinned waits for the device"
            side.thread.submit(copy, to, source)
            return to

        def empty_(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
            made = empty(*size, **options)
            if pin_memory:
                self.runtime.own[made.data_ptr()] = made
            return made

        patch.setattr(torch, "empty", empty_)
        patch.setattr(Tensor, "copy_", copy_)
        patch.setattr(Tensor, "is_pinned", lambda memory: self.runtime.holds(memory))
        patch.setattr(torch.cuda, "Stream", Side)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "stream", self._entered)
        patch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        patch.setattr(torch.cuda, "cudart", lambda: self.runtime)

    @contextmanager
    def _entered(self, side: Side) -> Iterator[None]:
        self._within.side = side
        try:
            yield
        finally:
            self._within.side = None

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Nothing that the network's stream is asked for in here is done before the end of the block."""
        self.current.idle.clear()
        try:
            yield
        finally:
            self.current.idle.set()


class StandInStream(CudaStream):
    """A `CudaStream` on the CPU, as long as ``stand_in`` is in place."""

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(torch.device("cpu"))
        self.stand_in = stand_in
