"""What stands between two attempts at one block, and between a capture and workers unlike it."""

from __future__ import annotations

import errno
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest

import actstore
from actstore.cluster import versions as provenance
from actstore.cluster.checks import SameAsClient
from actstore.cluster.launch import connect
from actstore.errors import ClusterError, DataError, MissingError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.statistics import BlockStatistics
from actstore.spec.spec import load_spec
from actstore.store import commits, fence
from actstore.store.files import LocalStorage
from actstore.store.files.base import TEMPORARY
from actstore.store.shards import ShardWriter
from actstore.store.verify import verify
from attended import prepare_store
from conftest import WriteSpec
from stores import committed, expect_same, files_of, strays, worker

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("moment", ["while it infers", "between shards", "before the small files", "in them"])
def test_an_attempt_that_woke_up_late_leaves_the_other_ones_files(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Frozen in its work, thawed when another worker has committed the block."""
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    made, todo = prepare_store(make_plan(spec, device="cpu", timing=False))
    times: dict[str, int] = {}
    calls = 0
    target, name, wanted = {
        "while it infers": (ShardWriter, "write", 1),
        "between shards": (ShardWriter, "close", 3),
        "before the small files": (BlockStatistics, "put", 1),
        "in them": (LocalStorage, "write", 5),
    }[moment]
    plain: Any = getattr(target, name)

    def frozen(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == wanted:
            with worker(made) as other:
                other(todo[0])
            times.update({key: (root / key).stat().st_mtime_ns for key in files_of(root) if TEMPORARY not in key})
            # A process that was stopped sees a clock that has gone on.
            monkeypatch.setattr(fence, "PATIENCE", -1.0)
        return plain(*arguments, **more)

    root = Path(str(made.store.location))
    monkeypatch.setattr(target, name, frozen)
    with worker(made) as compute:
        report = compute(todo[0])
    assert not report.failed
    assert report.bytes == 0, "it wrote nothing"
    found = {key: (root / key).stat().st_mtime_ns for key in files_of(root)}
    # What was on its way when the process stopped still arrives: whole, and of the same bits.
    assert len({key for key in times if times[key] != found[key]}) <= (moment in ("between shards", "in them"))
    assert times.keys() == found.keys()
    assert strays(root) == []


def test_a_worker_of_a_killed_capture_cannot_commit_what_was_swept(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends its block while the next capture clears away what was left of it: before, while and after."""
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    capture(spec, cluster="inline", device="cpu")
    plan, _ = prepare_store(make_plan(spec, device="cpu", timing=False))
    storage, layout = plan.store, plan.layout
    (Path(str(storage.location)) / layout.capture.record.key(0)).unlink()
    plain = LocalStorage.delete
    calls = 0

    def delete(self: LocalStorage, keys: Any) -> None:
        nonlocal calls
        calls += 1
        plain(self, keys)
        if calls == 1:
            commits.write_record(storage, layout.capture.record, 0, plan.fingerprint.token)

    monkeypatch.setattr(LocalStorage, "delete", delete)
    commits.sweep(storage, layout.capture, [0])
    monkeypatch.undo()
    assert not commits.is_finished(storage, layout.capture, 0, plan.fingerprint.token)
    with pytest.raises(StoreError, match="vanished before it was committed"):
        commits.commit(storage, layout.capture, 0, plan.fingerprint.token)


def test_a_block_that_lost_a_file_after_its_commit_is_no_success(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    plain = commits.commit

    def commit(storage: LocalStorage, schema: Any, block: int, token: int, *, fsync: bool = False) -> None:
        plain(storage, schema, block, token, fsync=fsync)
        if block == 1:
            storage.delete([schema.sharded[2].key(block)])

    with monkeypatch.context() as patch:
        patch.setattr(commits, "commit", commit)
        summary = capture(spec, cluster="inline", device="cpu")
    (failed,) = summary.failed
    assert "was lost after it was written: run again" in failed.error
    assert committed(Path(str(summary.store))) == [0]
    assert capture(spec, cluster="inline", device="cpu").done == 1
    assert verify(summary.store).whole


@pytest.mark.parametrize(("retries", "done"), [(0, False), (1, False), (2, True)])
def test_a_block_that_fails_by_itself_is_tried_again(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retries: int, done: bool
) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"], run__retries=retries))
    plain = commits.commit
    failures = {0: 2}

    def commit(storage: Any, layout: Any, block: int, token: int, *, fsync: bool = False) -> None:
        if failures.get(block, 0):
            failures[block] -= 1
            raise OSError(errno.EIO, "Input/output error")
        plain(storage, layout, block, token, fsync=fsync)

    monkeypatch.setattr(commits, "commit", commit)
    summary = capture(spec, cluster="inline", device="cpu")
    assert summary.complete is done
    if not done:
        (failed,) = summary.failed
        assert "Input/output error" in failed.error
        assert failed.attempts == retries + 1
        assert summary.done == 1


#: As Dask's plugins see one.
WORKER = SimpleNamespace(address="tcp://far:1", status=SimpleNamespace(name="running"))


@pytest.mark.process
def test_workers_of_other_versions_are_refused(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {**provenance.versions(), "torch": "0.0.1"}
    monkeypatch.setattr("actstore.cluster.launch.versions", lambda: found)
    with pytest.raises(ClusterError, match=r"has torch \S+, this process has 0\.0\.1: install the same versions"):
        capture(load_spec(tiny_spec), store=tmp_path / "a.zarr", cluster="local", workers=1, device="cpu")
    assert not (tmp_path / "a.zarr" / "committed" / "c.0").exists()


def test_workers_of_another_version_of_actstore_are_refused(tiny_store: Path) -> None:
    storage = LocalStorage(tiny_store)
    plugin = SameAsClient({**provenance.versions(), "actstore": "0.0.1"}, storage, storage.read("zarr.json") or b"")
    with pytest.raises(ClusterError, match=r"has actstore \S+, this process has 0\.0\.1: install the same versions"):
        plugin.setup(WORKER)


@pytest.mark.process
def test_workers_that_do_not_see_the_store_are_refused(tiny_spec: Path, tmp_path: Path) -> None:
    spec = load_spec(tiny_spec)
    made, _ = prepare_store(make_plan(spec, store=tmp_path / "a.zarr", device="cpu", timing=False))
    elsewhere = replace(made.store, root=tmp_path / "elsewhere")  # type: ignore[type-var]
    plugin = SameAsClient(provenance.versions(), elsewhere, made.store.read("zarr.json") or b"")
    with pytest.raises(ClusterError, match=r"tcp://far:1 does not see the store at .*use a folder that all machines"):
        plugin.setup(WORKER)


@pytest.mark.process
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kind": "tcp://127.0.0.1:9"}, "no scheduler answers at tcp://127.0.0.1:9"),
        ({"kind": "none.json"}, "none.json: no such scheduler file"),
        ({"kind": "slurm"}, "set cluster.interface"),
        ({"kind": "kubernetes"}, "name a DaskCluster manifest"),
        ({"kind": "cuda"}, r"pip install 'actstore\[cuda\]'"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(
    write_spec: WriteSpec, tmp_path: Path, settings: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask

    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    spec = load_spec(write_spec(tmp_path, cluster={**settings, "startup_timeout": 1}))
    storage = LocalStorage(tmp_path)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises((ClusterError, MissingError), match=why) as refused,
        connect(spec.cluster, 1, memory=10**9, storage=storage),
    ):
        pass
    assert "\n" not in str(refused.value)


class TestInputsChange:
    """An input file that is no longer what was planned, when a worker opens it."""

    @pytest.mark.parametrize("how", ["removed", "truncated", "replaced", "replaced by another shape"])
    def test_between_plan_and_capture(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path, tiny_store: Path, how: str
    ) -> None:
        spec = load_spec(write_spec(tmp_path, data__root=phantom_copy))
        victim = sorted(phantom_copy.rglob("patient002_frame??.nii.gz"))[0]
        kept = victim.read_bytes()
        import actstore.jobs.capture as capturing

        plain = capturing.check_remaining

        def check_remaining(plan: Any, done: Any) -> None:
            plain(plan, done)
            if how == "removed":
                victim.unlink()
            elif how == "truncated":
                victim.write_bytes(kept[: len(kept) // 2])
            else:
                image: Any = nibabel.load(victim)  # type: ignore[no-untyped-call]
                pixels = np.asarray(image.dataobj)
                pixels = pixels[..., :-1] if "shape" in how else pixels[::-1]
                changed: Any = nibabel.Nifti1Image(pixels.copy(), image.affine)  # type: ignore[no-untyped-call]
                changed.to_filename(victim)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(capturing, "check_remaining", check_remaining)
            summary = capture(spec, cluster="inline", device="cpu")
        if how == "replaced":
            # A whole file of the same shape is as good as the one before; the store knows which of them it saw.
            assert summary.complete
            victim.write_bytes(kept)
            with pytest.raises(StoreError, match="its files changed since it was captured"):
                capture(spec, cluster="inline", device="cpu")
            return
        (failed,) = summary.failed
        assert summary.done == 3
        assert "patient002" in failed.name
        assert str(victim.parent) in failed.error
        if how == "removed":
            with pytest.raises(DataError):
                capture(spec, cluster="inline", device="cpu")
        victim.write_bytes(kept)
        assert capture(spec, cluster="inline", device="cpu").done == 1
        expect_same(Path(str(summary.store)), tiny_store)


def test_a_swept_store_keeps_its_finished_blocks(tiny_copy: Path, tiny_store: Path) -> None:
    commits.sweep(LocalStorage(tiny_copy), actstore.open(tiny_copy).layout.capture, ())
    expect_same(tiny_copy, tiny_store)
    shutil.rmtree(tiny_copy)


@pytest.mark.process
def test_a_local_cluster_listens_on_loopback_alone(tiny_spec: Path, tmp_path: Path) -> None:
    """Scheduler, dashboard, nanny and worker: whoever reaches one of them could run programs here."""
    spec = load_spec(tiny_spec)
    made, _ = prepare_store(make_plan(spec, store=tmp_path / "a.zarr", device="cpu", timing=False))
    with connect(spec.cluster, 1, memory=made.worker_memory, storage=made.store):
        mine = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (mine, *mine.children(recursive=True))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}
