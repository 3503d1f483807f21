"""Buffers between the network and the writer: one set is filled while the previous one is copied and written.

Activations are recorded on the device that computes them: on the CPU in the shard buffer itself, elsewhere in a mirror
of it in device memory. Layers that are not stored are reduced to statistics at once. A separate stream copies the
mirror to the host while the next samples are inferred. A buffer is refilled only after its content is written, and a
forward pass never waits.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.errors import PlanError
from actstore.jobs.originals import Originals
from actstore.measures.device import reduce_on_device
from actstore.store.layout import ArrayLayout, c_strides
from actstore.store.schema import StoreLayout
from actstore.store.shards import ShardBuffer
from actstore.units import human_bytes

#: Sets of buffers in the ring: one is filled while the other is written.
RING_BUFFERS = 2

Pair = tuple[Tensor, Tensor]


class Stream(Protocol):
    """Copies device memory to the host after the work that the device has queued so far."""

    device: torch.device

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        """Uninitialised host memory of ``size`` values for asynchronous copies."""
        ...

    def pin(self, memory: Tensor) -> None:
        """Make copies to existing host memory asynchronous, until `unpin`."""
        ...

    def unpin(self, memory: Tensor) -> None:
        """Undo `pin`; call it before the memory is freed."""
        ...

    def copy(self, pairs: Sequence[Pair]) -> Callable[[], None]:
        """Begin to copy each (host, device) pair. Returns a function that waits for all of them."""
        ...


class CudaStream:
    """A side stream of a GPU. Events order it after the network; the host waits only before it reads."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._side: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, pin_memory=True)

    def pin(self, memory: Tensor) -> None:
        runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        refused = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
        if refused:
            raise PlanError(
                f"the GPU driver refuses to lock {human_bytes(memory.nbytes)} of memory (CUDA error {refused}): "
                "raise the limit of locked memory (ulimit -l), or use --device cpu"
            )

    def unpin(self, memory: Tensor) -> None:
        runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        runtime.cudaHostUnregister(memory.data_ptr())

    def copy(self, pairs: Sequence[Pair]) -> Callable[[], None]:
        self._side.wait_stream(torch.cuda.current_stream(self.device))
        done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._side):
            for host, device in pairs:
                host.copy_(device, non_blocking=True)
            done.record(self._side)
        wait_for_event: Callable[[], None] = done.synchronize
        return wait_for_event


class Buffers:
    """Buffers for every array of a few samples.

    Attributes
    ----------
    images
        shard buffers of inputs, labels and, unless they are known only at the end of a block, predictions.
    activations
        shard buffer of each layer, in host memory; ``None`` where only statistics of a layer are stored.
    originals
        of each layer that has no buffer, else ``None``.
    """

    def __init__(
        self,
        layout: StoreLayout,
        samples: int,
        stream: Stream | None,
        maps: Sequence[Tensor | None],
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.layout = layout
        self.images = [ShardBuffer(array, samples) for array in layout.images if array in layout.streamed]
        arrays = layout.activations
        self.activations = [
            ShardBuffer(array, samples) if layer.kept else None
            for array, layer in zip(arrays, layout.layers, strict=True)
        ]
        self.originals = [
            None if shared is None else Originals(array, samples, shared, pool)
            for array, shared in zip(arrays, maps, strict=True)
        ]
        self._stream = stream
        self._mirrors: list[Mirror | None] = [None] * len(arrays)
        self._pinned: list[Tensor] = []
        if stream is not None:
            self._mirrors = [
                Mirror(buffer.layout, samples, stream.device) if buffer else None for buffer in self.activations
            ]
            # However the set ends, even half made: memory that is freed while it is pinned can be pinned no more.
            weakref.finalize(self, _unpin, stream, self._pinned).atexit = False
            for buffer in filter(None, self.activations):
                memory = torch.from_numpy(buffer.bytes)
                stream.pin(memory)
                self._pinned.append(memory)
        self.first = 0
        self.count = 0
        self._arrived: Callable[[], None] = lambda: None
        self._reduced: list[Any] = []
        #: Keeps device memory alive while it is being copied.
        self._pairs: list[Pair] = []

    def close(self) -> None:
        """Unpin the host memory."""
        if self._stream is not None:
            _unpin(self._stream, self._pinned)

    @property
    def written(self) -> list[ShardBuffer]:
        """Buffers that are written, in the order of ``layout.streamed``."""
        return [*self.images, *filter(None, self.activations)]

    def place(self, first: int, count: int) -> tuple[list[NDArray[Any]], list[Tensor | Originals]]:
        """Take samples ``first`` … ``first + count - 1``.

        Returns
        -------
        images
            writable views of ``images``, as `ShardBuffer.place`.
        activations
            for each layer that is stored, on the network's device: (sample, condition group, condition in group,
            channel group, channel in group, \\*space), a view of where it will lie in the shard; for each other one
            what reduces it.
        """
        self.first, self.count = first, count
        images = [buffer.place(first, count) for buffer in self.images]
        for reducer in filter(None, self.originals):
            reducer.place()
        activations: list[Tensor | Originals] = []
        for buffer, mirror, original in zip(self.activations, self._mirrors, self.originals, strict=True):
            if original is not None:
                activations.append(original)
            elif buffer is not None:
                view = buffer.place(first, count)
                activations.append(_by_condition(torch.from_numpy(view)) if mirror is None else mirror.view(count))
        return images, activations

    def send(self, results: Sequence[Tensor] = ()) -> list[Tensor]:
        """Begin to copy the samples, their statistics from the device, and ``results`` to the host. Returns at once.

        Returns
        -------
        ``results`` in host memory, to be read after `arrived`.
        """
        self._reduced = [None if original is None else original.found[: self.count] for original in self.originals]
        if self._stream is None:
            return list(results)
        self._pairs = [
            (_host(buffer), mirror.run(self.count))
            for buffer, mirror in zip(self.activations, self._mirrors, strict=True)
            if buffer is not None and mirror is not None
        ]
        self._reduced = [
            self._to_host(reduce_on_device(mirror.view(self.count)) if mirror is not None else values)
            for values, mirror in zip(self._reduced, self._mirrors, strict=True)
        ]
        found = [self._to_host(values) for values in results]
        self._arrived = self._stream.copy(self._pairs)
        return found

    def _to_host(self, values: Tensor) -> Tensor:
        """Memory that ``values`` will be copied to."""
        assert self._stream is not None
        host = self._stream.memory(values.numel(), values.dtype).reshape(values.shape)
        self._pairs.append((host, values))
        return host

    def arrived(self) -> list[NDArray[np.float64] | None]:
        """Wait for what was sent.

        Returns
        -------
        for each layer its statistics (sample, statistic, condition, channel), ``None`` where its buffer has to be
        reduced.
        """
        self._arrived()
        return [None if values is None else values.numpy() for values in self._reduced]


def _unpin(stream: Stream, pinned: list[Tensor]) -> None:
    while pinned:
        stream.unpin(pinned.pop())


class Ring:
    """Sets of buffers that inference fills and one writer thread empties, in order."""

    def __init__(self, layout: StoreLayout, samples: int, stream: Stream | None = None, threads: int = 1) -> None:
        device = torch.device("cpu") if stream is None else stream.device
        # Only a forward pass uses them, and no pass begins before the last one of another set has ended.
        maps = [
            None if layer.kept else Originals.memory(array, samples, device)
            for array, layer in zip(layout.activations, layout.layers, strict=True)
        ]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="actstore-reduce") if threads > 1 else None
        self._buffers = [Buffers(layout, samples, stream, maps, self._pool) for _ in range(RING_BUFFERS)]
        self._busy: list[Future[None] | None] = [None] * RING_BUFFERS
        self._turn = 0

    def close(self) -> None:
        """Free the buffers, which nothing may use any more."""
        for buffers in self._buffers:
            buffers.close()
        if self._pool is not None:
            self._pool.shutdown()

    def take(self) -> Buffers:
        """The next set, once the writer has finished with it; errors surface in the block that owns that write."""
        self._turn = (self._turn + 1) % RING_BUFFERS
        busy = self._busy[self._turn]
        if busy is not None:
            wait([busy])
        return self._buffers[self._turn]

    def give(self, writing: Future[None]) -> None:
        """Hand the set taken last to the writer, until ``writing`` is done."""
        self._busy[self._turn] = writing


class Mirror:
    """A shard buffer's samples in device memory, chunk by chunk, with space for each checksum."""

    def __init__(self, layout: ArrayLayout, samples: int, device: torch.device) -> None:
        self.layout = layout
        self._itemsize = np.dtype(layout.dtype).itemsize
        self._values = torch.empty(
            samples * layout.sample_stride // self._itemsize, dtype=getattr(torch, layout.dtype), device=device
        )

    def run(self, count: int) -> Tensor:
        """The first ``count`` samples as they will lie in the file, one value after another."""
        return self._values[: count * self.layout.sample_stride // self._itemsize]

    def view(self, count: int) -> Tensor:
        """The first ``count`` samples, as `Buffers.place` returns them."""
        layout = self.layout
        stride = layout.chunk_stride // self._itemsize
        strides = (stride * layout.chunks_per_sample, *c_strides(layout.grid, stride), *c_strides(layout.chunk, 1))
        return _by_condition(self._values.as_strided((count, *layout.grid, *layout.chunk), strides))


def _host(buffer: ShardBuffer) -> Tensor:
    """The samples placed in ``buffer`` as one run of values."""
    size = buffer.count * buffer.layout.sample_stride
    return torch.from_numpy(buffer.bytes[buffer.phase : buffer.phase + size].view(buffer.layout.dtype))


def _by_condition(view: Tensor) -> Tensor:
    """A shard view (sample, \\*grid, \\*chunk) with each grid axis before its chunk axis; space is never split."""
    n = (view.ndim - 1) // 2
    squeezed = view.squeeze(tuple(range(3, 1 + n)))
    return squeezed.transpose(2, 3)
