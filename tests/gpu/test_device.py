"""A device beside the host: streams, pinned memory, the ring's order, statistics and memory.

Every check runs on the CPU too, where threads stand in for the stream or for `torch.cuda`; those variants belong to the
ordinary suite.
"""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import actstore
from actstore.errors import PlanError
from actstore.jobs.originals import Originals
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.ring import RING_BUFFERS, Buffers, CudaStream, Ring, Stream
from actstore.measures.kernel import reduce_chunk
from actstore.measures.names import STATISTICS
from actstore.spec.spec import load_spec
from actstore.store.schema import StoreLayout
from attended import ThreadStream
from conftest import WriteSpec
from cuda import StandIn, StandInStream
from memory import expect_predicted, measure
from stores import expect_same

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
#: Cycles for which a GPU is kept busy: about a second.
BUSY = 2_000_000_000
#: Seconds after which another thread is no longer waited for.
PATIENCE = 180
SENTINEL = -7.0
POISON = 0xA5
SAMPLES = 2
TURNS = 6


def gpu(request: pytest.FixtureRequest) -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip(f"{request.node.name} needs a GPU: torch sees none")
    torch.cuda.init()
    return torch.device("cuda", 0)


@pytest.fixture(params=["stand-in", CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    return gpu(request) if request.param == "cuda" else torch.device("cpu")


@pytest.fixture(params=["a thread", "torch.cuda on threads", CUDA])
def stream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    if request.param == "a thread":
        yield ThreadStream()
    elif request.param == "cuda":
        yield CudaStream(gpu(request))
    else:
        stand_in = StandIn(monkeypatch)
        yield StandInStream(stand_in)
        assert not stand_in.runtime.registered, "unpinned in the end"
        assert not stand_in.runtime.errors


@pytest.fixture
def layout(tiny_spec: Path) -> StoreLayout:
    return make_plan(load_spec(tiny_spec), device="cpu", timing=False).layout


@contextmanager
def busy(stream: Stream) -> Iterator[None]:
    """Nothing that the device or its link begins in here is finished before the end of the block."""
    if isinstance(stream, ThreadStream):
        release = threading.Event()
        stream._thread.submit(release.wait, PATIENCE)
        try:
            yield
        finally:
            release.set()
    elif isinstance(stream, StandInStream):
        with stream.stand_in.held_up():
            yield
    else:
        torch.cuda._sleep(BUSY)  # type: ignore[no-untyped-call]
        yield


# The stream


def test_a_copy_waits_for_the_network_and_nothing_waits_for_the_copy(stream: Stream) -> None:
    size = 2**20
    pairs = [
        (stream.memory(size, dtype).fill_(SENTINEL), torch.zeros(size, dtype=dtype, device=stream.device))
        for dtype in (torch.float32, torch.float64, torch.float16)
    ]
    stream.copy(pairs)()
    for host, _ in pairs:
        assert (host == 0).all()
        host.fill_(SENTINEL)
    with busy(stream):
        for i, (_, there) in enumerate(pairs):
            there.fill_(i + 1)
        arrived = stream.copy(pairs)
        assert all((host == SENTINEL).all() for host, _ in pairs), "the copy is not waited for"
    arrived()
    assert [host.unique().tolist() for host, _ in pairs] == [[1], [2], [3]], "what the device computed before the copy"


def test_host_memory_is_pinned_while_a_ring_lives(stream: Stream, layout: StoreLayout) -> None:
    on_gpu = isinstance(stream, CudaStream)
    assert stream.memory(1000, torch.float32).is_pinned() == on_gpu
    ring = Ring(layout, SAMPLES, stream)
    slots = [ring.take() for _ in range(RING_BUFFERS)]
    held = [torch.from_numpy(buffer.bytes) for buffers in slots for buffer in buffers.activations if buffer is not None]
    assert len(held) == RING_BUFFERS * len(layout.layers)
    assert [memory.is_pinned() for memory in held] == [on_gpu] * len(held)
    ring.close()
    assert not any(memory.is_pinned() for memory in held)


def test_a_ring_that_could_not_be_pinned_leaves_nothing_pinned(layout: StoreLayout) -> None:
    """Memory that is freed while it is pinned can never be pinned again in this process."""

    class Refusing(ThreadStream):
        pinned: ClassVar[list[int]] = []

        def pin(self, memory: torch.Tensor) -> None:
            if len(self.pinned) == 3:
                raise PlanError("the GPU driver refuses")
            self.pinned.append(memory.data_ptr())

        def unpin(self, memory: torch.Tensor) -> None:
            self.pinned.remove(memory.data_ptr())

    with pytest.raises(PlanError, match="refuses"):
        Ring(layout, SAMPLES, Refusing())
    gc.collect()
    assert Refusing.pinned == []


# The ring


def overwritten(ring: Ring, ahead: int) -> list[int]:
    """Fill the ring ``TURNS`` times with the number of the turn.

    The writer of a turn looks at its buffers only after the network has filled them ``ahead`` more times, and then
    poisons them.

    Returns
    -------
    turns whose writer found anything but its number.
    """
    filled = [threading.Event() for _ in range(TURNS)]
    wrong: list[int] = []

    def write(turn: int, buffers: Buffers) -> None:
        buffers.arrived()
        assert filled[min(turn + ahead, TURNS - 1)].wait(PATIENCE)
        reduced = buffers.arrived()
        means = [found[:, STATISTICS.index("mean")] for found in reduced if found is not None]
        values = [buffer.view for buffer in buffers.written] + means
        # Statistics may be gone, too, where a buffer was handed out anew.
        if len(means) != len(buffers.activations) or not all((found == turn).all() for found in values):
            wrong.append(turn)
        for buffer in buffers.written:
            buffer.bytes[...] = POISON

    writing: list[Future[None]] = []
    with ThreadPoolExecutor(1) as writer:
        for turn in range(TURNS):
            buffers = ring.take()
            images, activations = buffers.place(turn * SAMPLES, SAMPLES)
            for image in images:
                image[...] = turn
            for activation in activations:
                assert isinstance(activation, torch.Tensor)
                activation.fill_(turn)
            buffers.send()
            filled[turn].set()
            writing.append(writer.submit(write, turn, buffers))
            ring.give(writing[-1])
    for done in writing:
        done.result()
    return wrong


def test_no_buffer_is_filled_before_it_is_written(stream: Stream, layout: StoreLayout) -> None:
    ring = Ring(layout, SAMPLES, stream)
    assert overwritten(ring, ahead=1) == []
    ring.close()


def test_a_buffer_that_is_filled_too_early_would_be_seen(
    stream: Stream, layout: StoreLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above can fail: a ring that waits for no writer hands out a buffer that is not written yet."""
    ring = Ring(layout, SAMPLES, stream)
    monkeypatch.setattr(ring, "give", lambda writing: None)
    assert overwritten(ring, ahead=RING_BUFFERS) != []
    ring.close()


# Statistics


def test_statistics_of_the_device_are_those_of_the_cpu(stream: Stream, layout: StoreLayout) -> None:
    ring = Ring(layout, SAMPLES, stream)
    buffers = ring.take()
    _, activations = buffers.place(0, SAMPLES)
    rng = np.random.default_rng(5)
    for activation in activations:
        assert isinstance(activation, torch.Tensor)
        values = rng.normal(2, 3, tuple(activation.shape)).astype(np.float32)
        values[-1, :, -1].flat[3] = np.nan
        activation.copy_(torch.from_numpy(values))
    buffers.send()
    names = ("mad", "mse", "mean", "std")
    for activation, found in zip(activations, buffers.arrived(), strict=True):
        assert isinstance(activation, torch.Tensor)
        assert found is not None
        host = activation.cpu().numpy()
        # Condition and channel groups beside what they hold, as one axis each.
        values = host.reshape(SAMPLES, math.prod(host.shape[1:3]), math.prod(host.shape[3:5]), *host.shape[5:])
        expected = reduce_chunk(values.swapaxes(1, 2), names)
        for name, of_cpu in zip(names, expected, strict=True):
            reference = of_cpu.swapaxes(1, 2) if of_cpu.ndim == 3 else of_cpu
            of_device = found[:, STATISTICS.index(name)]
            of_device = of_device if of_cpu.ndim == 3 else of_device[:, 0]
            np.testing.assert_allclose(of_device, reference, rtol=1e-6, atol=1e-12)
    ring.close()


def test_layers_that_are_not_stored_are_reduced_as_those_that_are(stream: Stream, layout: StoreLayout) -> None:
    bare = replace(layout, layers=tuple(replace(layer, kept=False) for layer in layout.layers))
    stored, reduced = Ring(layout, SAMPLES, stream), Ring(bare, SAMPLES, stream)
    sets = [ring.take() for ring in (stored, reduced)]
    (_, activations), (_, originals) = (buffers.place(0, SAMPLES) for buffers in sets)
    rng = np.random.default_rng(5)
    for layer, activation, original in zip(layout.layers, activations, originals, strict=True):
        assert isinstance(activation, torch.Tensor)
        assert isinstance(original, Originals)
        shape = (SAMPLES, layout.conditions, layer.channels, *layer.space)
        values = torch.from_numpy(rng.normal(2, 3, shape).astype(np.float32)).to(stream.device)
        activation.copy_(values.reshape(activation.shape))
        for condition in range(layout.conditions):
            original.reduce(condition, 0, values[:, condition])
    for buffers in sets:
        buffers.send()
    for of_stored, of_reduced in zip(*(buffers.arrived() for buffers in sets), strict=True):
        np.testing.assert_allclose(of_reduced, of_stored, rtol=1e-6, atol=1e-12)
    for ring in (stored, reduced):
        ring.close()


# Captures


@pytest.fixture
def captured(write_spec: WriteSpec, tmp_path: Path, device: torch.device) -> Callable[[str], Path]:
    """Captures the tiny study on the device, into a store of the given name."""

    def capture(name: str) -> Path:
        spec = write_spec(tmp_path, store__path=f"{name}.zarr")
        summary = actstore.capture(load_spec(spec), cluster="inline", device=device.type)
        assert summary.complete, summary.failed
        return Path(summary.store)

    return capture


def test_a_repeated_capture_stores_the_same_bits(captured: Callable[[str], Path]) -> None:
    expect_same(captured("again"), captured("once"))


def test_a_capture_is_that_of_the_cpu(captured: Callable[[str], Path], tiny_store: Path) -> None:
    """The network rounds otherwise on another device; statistics are those of the bits that are stored."""
    found, expected = actstore.open(captured("found")), actstore.open(tiny_store)
    np.testing.assert_array_equal(found.applicable, expected.applicable)
    for layer in expected.layers.index:
        there, here = found[layer].values, expected[layer].values
        np.testing.assert_allclose(there, here, atol=1e-4 * np.nanmax(np.abs(here)))
        again = found.statistics(layer, persisted=False)
        for name, values in found.statistics(layer).items():
            np.testing.assert_allclose(values, again[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("device", [CUDA], indirect=True)
def test_device_memory_is_predicted(write_spec: WriteSpec, tmp_path: Path, device: torch.device) -> None:
    spec = load_spec(
        write_spec(
            tmp_path,
            model__arguments={"width": 32},
            data__preprocess__size=[256, 256],
            run={"threads": 1, "batch_size": 8},
        )
    )
    plan = make_plan(spec, workers=1, device="cuda", timing=False)
    mirrors = sum(plan.layout.activation(layer).sample_stride for layer in plan.layout.layers)
    predicted = plan.model_bytes + plan.transient_bytes + RING_BUFFERS * plan.ring_samples * mirrors
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    assert actstore.capture(spec, cluster="inline", device="cuda").complete
    peak = torch.cuda.max_memory_allocated(device)
    print(f"device memory: peak {peak / 2**20:.0f} MiB, predicted {predicted / 2**20:.0f} MiB")
    assert predicted / 3 <= peak <= 1.5 * predicted


@pytest.mark.parametrize("device", [CUDA], indirect=True)
@pytest.mark.usefixtures("device")
def test_host_memory_is_predicted(write_spec: WriteSpec, tmp_path: Path) -> None:
    """Stand-in: ``tests/jobs/test_memory.py``."""
    expect_predicted(
        measure(tmp_path / "gpu", write_spec, 4, size=(256, 256), width=32, cluster="inline", device="cuda")
    )
