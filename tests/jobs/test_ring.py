"""The pipeline from network to writer: what a device mirrors is stored bit by bit, and no buffer is used too early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actstore import analysis
from actstore.errors import ModelError, PlanError, StoreError
from actstore.jobs.inference import Inference, rounding
from actstore.jobs.plan import budget
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.reduce import reduce_store
from actstore.jobs.ring import Pair, Ring
from actstore.networks.arithmetic import arithmetic
from actstore.spec.spec import load_spec
from actstore.store.shards import ShardBuffer, ShardWriter
from actstore.store.store import Store
from attended import ThreadStream, prepare_store
from classifiers import spec_tables, write_images
from conftest import WriteSpec
from stores import worker

pytestmark = pytest.mark.slow

POISON = 0xA5
#: Seconds after which what another thread should do is no longer waited for.
PATIENCE = 180


class SlowStream(ThreadStream):
    """Copies late, as a busy link would."""

    def copy(self, pairs: Sequence[Pair]) -> Callable[[], None]:
        self._thread.submit(time.sleep, 0.02)
        return super().copy(pairs)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def capture_with(spec_path: Path, store: Path, stream: ThreadStream | None) -> Store:
    made, todo = prepare_store(make_plan(load_spec(spec_path), store=store, timing=False))
    with worker(made, stream) as compute, ThreadPoolExecutor(2) as pool:
        list(pool.map(compute, todo))
    return Store(store)


@pytest.fixture
def two_sample_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several turns of the ring a block."""
    plain = budget.ring_samples
    for user in ("actstore.jobs.plan.plan", "actstore.jobs.creation"):
        monkeypatch.setattr(f"{user}.ring_samples", lambda *of: min(2, plain(*of)))


@pytest.mark.usefixtures("two_sample_ring")
@pytest.mark.parametrize("kind", ["float32", "float16", "classifier"])
def test_a_mirrored_device_stores_the_same_bits(write_spec: WriteSpec, tmp_path: Path, kind: str) -> None:
    """Of a classifier too, whose last layer has no space."""
    if kind == "classifier":
        spec = write_spec(tmp_path, **spec_tables(write_images(tmp_path / "images", 2)))
    else:
        spec = write_spec(tmp_path, store__dtype=kind)
    direct = capture_with(spec, tmp_path / "direct.zarr", None)
    mirrored = capture_with(spec, tmp_path / "mirrored.zarr", SlowStream())
    a, b = files(direct.path), files(mirrored.path)
    assert a.keys() == b.keys()
    different = {name for name in a if a[name] != b[name]}
    assert all(name.startswith("statistics/") for name in different)
    for layer in direct.layers.index:
        for name, values in direct.statistics(layer).items():
            np.testing.assert_allclose(mirrored.statistics(layer)[name], values, rtol=1e-6, atol=1e-12)


def test_several_writers_store_the_same_bits(write_spec: WriteSpec, tmp_path: Path, tiny_store: Path) -> None:
    store = capture_with(write_spec(tmp_path, run__writers=3, run__threads=1), tmp_path / "s.zarr", None)
    a, b = files(tiny_store), files(store.path)
    assert {name for name in a if a[name] != b[name]} <= {"zarr.json", "metadata/zarr.json", "metadata/c.0"}


@pytest.mark.usefixtures("two_sample_ring")
@pytest.mark.parametrize("stream", [None, SlowStream], ids=["on the CPU", "mirrored"])
def test_no_buffer_is_filled_before_what_it_held_is_written(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: type[ThreadStream] | None
) -> None:
    """A slow writer poisons every buffer that it has written: whatever was filled too early would be stored so."""
    spec = write_spec(tmp_path)
    expected = capture_with(spec, tmp_path / "expected.zarr", None)
    plain = ShardWriter.write
    writing, inferred, overlaps = threading.Event(), threading.Event(), []

    def slow(self: ShardWriter, buffer: ShardBuffer) -> None:
        writing.set()
        if any(overlaps):
            time.sleep(0.01)
        else:
            # For the other buffers's samples: for ever, if they wait for this one.
            inferred.wait(PATIENCE)
        plain(self, buffer)
        buffer.bytes[...] = POISON
        writing.clear()

    forward = Inference.infer

    def noting(self: Any, *args: Any) -> Any:
        if overlaps and not any(overlaps):
            # The first samples are with the writer, who waits for these.
            writing.wait(PATIENCE)
        passes = forward(self, *args)
        overlaps.append(writing.is_set())
        inferred.set() if overlaps[-1] else None
        return passes

    monkeypatch.setattr(ShardWriter, "write", slow)
    monkeypatch.setattr(Inference, "infer", noting)
    found = capture_with(spec, tmp_path / "found.zarr", stream() if stream else None)
    a, b = files(expected.path), files(found.path)
    assert {n for n in a if a[n] != b[n] and not n.startswith("statistics/")} == set()
    assert any(overlaps), "inference went on while the writer was busy"


def test_a_mirror_that_is_not_waited_for_would_be_seen(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above can fail: without the wait, the writer stores memory that has not arrived."""
    plain, written = ShardWriter.write, threading.Event()

    def write(self: ShardWriter, buffer: ShardBuffer) -> None:
        plain(self, buffer)
        if self.layout.path.startswith("layers/"):
            written.set()

    class Unordered(SlowStream):
        def copy(self, pairs: Sequence[Pair]) -> Callable[[], None]:
            self._thread.submit(written.wait, PATIENCE)
            large = [(host, device) for host, device in pairs if host.dtype == torch.float32]
            for host, device in pairs:
                host.copy_(device) if host.dtype != torch.float32 else None
            super().copy(large)
            return lambda: None

    spec = write_spec(tmp_path)
    expected = files(capture_with(spec, tmp_path / "expected.zarr", None).path)
    monkeypatch.setattr(ShardWriter, "write", write)
    found = files(capture_with(spec, tmp_path / "found.zarr", Unordered()).path)
    assert any(expected[n] != found[n] for n in expected if n.startswith("layers/"))


def test_a_ring_waits_for_the_writer_of_a_slot_alone(tiny_spec: Path) -> None:
    layout = make_plan(load_spec(tiny_spec), timing=False).layout
    ring = Ring(layout, 1)
    with ThreadPoolExecutor(1) as pool:
        release = threading.Event()
        first = ring.take()
        ring.give(pool.submit(lambda: (release.wait(PATIENCE), None)[1]))
        second = ring.take()
        assert second is not first
        taking = ThreadPoolExecutor(1).submit(ring.take)
        time.sleep(0.05)
        assert not taking.done(), "the first buffers is still being written"
        release.set()
        assert taking.result(PATIENCE) is first


def expect_no_tensors(store: Store, layer: str) -> None:
    for ask in (
        lambda: store[layer],
        lambda: store.map(layer, 0, 0, 0),
        partial(store.statistics, layer, persisted=False),
    ):
        with pytest.raises(Exception, match=rf"tensors of {layer} .* are not in .* store.keep") as caught:
            ask()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stream", [None, SlowStream], ids=["on the CPU", "mirrored"])
def test_statistics_alone_are_the_same_and_take_little(
    write_spec: WriteSpec, tmp_path: Path, tiny_store: Path, stream: type[ThreadStream] | None
) -> None:
    whole = Store(tiny_store)
    store = capture_with(write_spec(tmp_path, store__keep="statistics"), tmp_path / "s.zarr", stream and stream())
    assert not list(store.path.glob("layers/*"))
    owned = [key for block, _ in store.block_samples for key in store.layout.capture.files(block)]
    assert store.nbytes == sum((store.path / key).stat().st_size for key in owned)
    assert list(store.layers["bytes"].unique()) == [0]
    for layer in whole.layers.index:
        expect_no_tensors(store, layer)
        for name, values in whole.statistics(layer).items():
            np.testing.assert_allclose(store.statistics(layer)[name], values, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(store.confusion, whole.confusion)
    assert "layers" not in store.tree or not store.tree["layers"].children


def test_some_layers_are_kept(write_spec: WriteSpec, tmp_path: Path, tiny_store: Path) -> None:
    whole = Store(tiny_store)
    modules = list(whole.layers["module"])
    store = capture_with(write_spec(tmp_path, store__keep=[modules[1]]), tmp_path / "s.zarr", None)
    np.testing.assert_array_equal(store["L02"], whole["L02"])
    expect_no_tensors(store, "L01")
    assert {node.name for node in store.tree["layers"].children.values()} == {"L02"}


def test_a_block_without_its_only_statistics_is_computed_again(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, store__keep="statistics")
    store = capture_with(spec, tmp_path / "s.zarr", None)
    before = files(store.path)
    (store.path / store.layout.statistics.record.key(1)).unlink()
    assert len(Store(store.path).missing) == 1
    assert not capture_with(spec, tmp_path / "s.zarr", None).missing
    assert files(store.path) == before


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.nanmax(np.abs(found - expected) / np.maximum(np.abs(expected), 1e-30)))


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 7), ("float32", 1), ("float16", 6)])
def test_mantissa_bits_are_rounded_and_statistics_are_of_what_is_stored(
    write_spec: WriteSpec, tmp_path: Path, tiny_store: Path, dtype: str, bits: int
) -> None:
    store = capture_with(write_spec(tmp_path, store__dtype=dtype, store__mantissa_bits=bits), tmp_path / "s.zarr", None)
    exact = Store(tiny_store)
    for layer in store.layers.index:
        stored = store[layer].values
        raw = stored.view({"float32": np.uint32, "float16": np.uint16}[dtype])
        dropped = {"float32": 23, "float16": 10}[dtype] - bits
        normal_numbers = np.isfinite(stored) & (np.abs(stored) >= np.finfo(dtype).smallest_normal)
        assert not (raw[normal_numbers] & ((1 << dropped) - 1)).any()
        normal = np.abs(exact[layer].values) > 1e-4
        assert relative(stored.astype(np.float64)[normal], exact[layer].values[normal]) <= 2.0 ** -(bits + 1) + 2.0**-11
        np.testing.assert_allclose(store.statistics(layer)["mad"], analysis.mad(store[layer]), rtol=1e-12, atol=1e-15)


def test_bfloat16_is_recorded_and_close(write_spec: WriteSpec, tmp_path: Path, tiny_store: Path) -> None:
    store = capture_with(write_spec(tmp_path, run__precision="bf16"), tmp_path / "s.zarr", None)
    exact = Store(tiny_store)
    assert store.attributes["identity"]["precision"] == "bf16"
    assert store.token != exact.token
    a, b = store["L01"].values, exact["L01"].values
    assert not np.array_equal(a, b, equal_nan=True)
    assert np.nanmax(np.abs(a - b)) < 0.1 * np.nanmax(np.abs(b))


def test_float32_is_exact_where_a_gpu_would_round() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for precision, allowed in (("float32", False), ("tf32", True), ("bf16", False)):
        with arithmetic(precision, torch.device("cpu")):
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (allowed, allowed)
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_patterns_and_precisions_that_cannot_be_are_refused(write_spec: WriteSpec, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"store.keep pattern 'type:Conv2d' matches no recorded layer"):
        make_plan(load_spec(write_spec(tmp_path, store__keep=["type:Conv2d"])), timing=False)
    with pytest.raises(PlanError, match="'tf32' is of NVIDIA GPUs, the device is 'cpu'"):
        make_plan(load_spec(write_spec(tmp_path, run__precision="tf32")), device="cpu", timing=False)


def test_a_resumed_run_keeps_its_batch_size(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path))
    made, _ = prepare_store(make_plan(spec, timing=False))
    monkeypatch.setattr(budget, "BATCH_SIZE", made.batch_size + 5)
    again = make_plan(spec, timing=False)
    assert again.batch_size == made.batch_size + 5
    assert prepare_store(again)[0].batch_size == made.batch_size


def test_a_failed_shard_write_leaves_no_other_behind(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write fails at once while another takes its time: buffers must not be given away before both have ended."""
    made, todo = prepare_store(make_plan(load_spec(write_spec(tmp_path, run__writers=3)), timing=False))
    plain = ShardWriter.write
    running, failed = [], []

    def write(self: ShardWriter, buffer: ShardBuffer) -> None:
        if not failed and "prediction" in self.layout.path:
            failed.append(self.layout.path)
            raise OSError(28, "No space left on device")
        running.append(self.layout.path)
        time.sleep(0.05 if failed else 0)
        plain(self, buffer)
        running.remove(self.layout.path)

    monkeypatch.setattr(ShardWriter, "write", write)
    with worker(made) as compute:
        with pytest.raises(OSError, match="No space"):
            compute(todo[0])
        assert running == []
        for one in todo[1:]:
            compute(one)
    store = Store(made.store.location)
    assert store.missing == [todo[0].name]
    assert all(np.isfinite(store.statistics(layer, persisted=False)["std"]).all() for layer in store.layers.index)


def test_rounding_never_makes_a_number_infinite_and_overflow_is_seen_beside_nan() -> None:
    values = torch.tensor([65000.0, 3.3e38, -3.4e38, float("inf"), float("nan"), 1 + 2**-4 + 2**-13])
    found = rounding(3)(values)
    assert found[:3].isfinite().all()
    assert found[3] == torch.inf
    assert found[4].isnan()
    assert found[5] == 1.125


@pytest.mark.parametrize("keep", ["all", "statistics"])
@pytest.mark.parametrize("fault", ["missing", "damaged", "record"])
def test_lost_statistics_come_back(write_spec: WriteSpec, tmp_path: Path, keep: str, fault: str) -> None:
    spec = write_spec(tmp_path, store__keep=keep)
    store = capture_with(spec, tmp_path / "s.zarr", None)
    before = files(store.path)
    small = store.layout.statistics.record if fault == "record" else store.layout.statistic
    path = store.path / small.key(1)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(b"xx")
    damaged = Store(store.path)
    if keep == "all":
        assert reduce_store(damaged) == 1
    else:
        if fault != "record":
            with pytest.raises(StoreError, match="`actstore capture SPEC` computes the volume again"):
                reduce_store(damaged)
        assert len(Store(store.path).missing) == 1
        capture_with(spec, tmp_path / "s.zarr", None)
    assert files(store.path) == before


def test_an_empty_store_has_empty_statistics(write_spec: WriteSpec, tmp_path: Path) -> None:
    made, _ = prepare_store(make_plan(load_spec(write_spec(tmp_path)), timing=False))
    for persisted in (None, False):
        assert Store(made.store.location).statistics("L01", persisted=persisted).compute()["mad"].shape == (0, 3, 2)


def test_workers_that_would_share_a_gpu_are_not_started_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local cluster gives every worker the first GPU; only dask-cuda gives each its own."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert budget.default_workers("cuda", "local") == 1
    assert budget.default_workers("cuda", "cuda") == 4
    assert budget.default_workers("cuda:1", "local") == 1
    monkeypatch.setattr(budget, "cpu_count", lambda: 16)
    assert budget.default_workers("cpu", "local") == 4
