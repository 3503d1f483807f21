"""Buffers between the network and the writer: one set is filled while the previous one is copied and written.

Activations are recorded on the device that computes them: on the CPU in the shard buffer itself, elsewhere in a mirror
of it in device memory. A separate stream copies the mirror to the host while the next samples are inferred. A buffer
is refilled only after its content is written, and a forward pass never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.errors import PlanError
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


class Buffers:
    """Buffers for every array of a few samples.

    Attributes
    ----------
    images
        shard buffers of inputs, labels and predictions.
    activations
        shard buffer of each layer, in host memory; ``None`` where a layer stays on the device that reduces it.
    """

    def __init__(self, layout: StoreLayout, samples: int, stream: Stream | None) -> None:
        self.layout = layout
        self.images = [ShardBuffer(array, samples) for array in layout.images]
        arrays = layout.activations
        self.activations = [
            ShardBuffer(array, samples) if stream is None or layer.kept else None
            for array, layer in zip(arrays, layout.layers, strict=True)
        ]
        self._stream = stream
        self._mirrors: list[Mirror] = []
        self._pinned: list[Tensor] = []
        if stream is not None:
            self._mirrors = [Mirror(array, samples, stream.device) for array in arrays]
            self._pinned = [torch.from_numpy(buffer.bytes) for buffer in self.activations if buffer]
            for memory in self._pinned:
                stream.pin(memory)
        self.first = 0
        self.count = 0
        self._arrived: Callable[[], None] = lambda: None
        self._reduced: list[dict[str, Tensor]] = []
        #: Keeps device memory alive while it is being copied.
        self._pairs: list[Pair] = []

    def close(self) -> None:
        """Unpin the host memory."""
        while self._stream is not None and self._pinned:
            self._stream.unpin(self._pinned.pop())

    @property
    def written(self) -> list[ShardBuffer]:
        """Buffers that are written, in the order of ``layout.capture.sharded``."""
        layers = zip(self.activations, self.layout.layers, strict=True)
        return [*self.images, *(buffer for buffer, layer in layers if layer.kept and buffer is not None)]

    def place(self, first: int, count: int) -> tuple[list[NDArray[Any]], list[Tensor]]:
        """Take samples ``first`` … ``first + count - 1``.

        Returns
        -------
        images
            writable views of inputs, labels and predictions, as `ShardBuffer.place`.
        activations
            for each layer, on the network's device: (sample, condition group, condition in group, channel group,
            channel in group, \\*space), a view of where it will lie in the shard.
        """
        self.first, self.count = first, count
        images = [buffer.place(first, count) for buffer in self.images]
        for buffer in filter(None, self.activations):
            buffer.place(first, count)
        if self._mirrors:
            return images, [mirror.view(count) for mirror in self._mirrors]
        return images, [_by_condition(torch.from_numpy(buffer.view)) for buffer in self.activations if buffer]

    def send(self, results: Sequence[Tensor] = ()) -> list[Tensor]:
        """Begin to copy the samples, their statistics from the device, and ``results`` to the host. Returns at once.

        Returns
        -------
        ``results`` in host memory, to be read after `arrived`.
        """
        if self._stream is None:
            return list(results)
        self._pairs = [
            (_host(buffer), mirror.run(self.count))
            for buffer, mirror in zip(self.activations, self._mirrors, strict=True)
            if buffer is not None
        ]
        self._reduced = [
            {name: self._to_host(values) for name, values in reduce_on_device(mirror.view(self.count)).items()}
            for mirror in self._mirrors
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

    def arrived(self) -> list[dict[str, NDArray[np.float64]]]:
        """Wait for what was sent. Returns the device's statistics of each layer; empty if the CPU computes."""
        self._arrived()
        return [{name: values.numpy() for name, values in found.items()} for found in self._reduced]


class Ring:
    """Sets of buffers that inference fills and one writer thread empties, in order."""

    def __init__(self, layout: StoreLayout, samples: int, stream: Stream | None = None) -> None:
        self._buffers = [Buffers(layout, samples, stream) for _ in range(RING_BUFFERS)]
        self._busy: list[Future[None] | None] = [None] * RING_BUFFERS
        self._turn = 0

    def close(self) -> None:
        """Free the buffers, which nothing may use any more."""
        for buffers in self._buffers:
            buffers.close()

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
