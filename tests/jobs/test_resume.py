"""A capture whose writes fail continues: repeats nothing, and ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import actstore
from actstore.data.phantom import write_phantom
from actstore.errors import StoreError
from actstore.jobs.capture import Summary, capture
from actstore.spec.spec import load_spec
from actstore.store import commits
from actstore.store.files import LocalStorage
from actstore.store.files.base import TEMPORARY
from actstore.store.store import Store
from conftest import WriteSpec
from stores import BATCH, committed, expect_same, files_of, slow_spec, strays

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "acdc"
    write_phantom(root, patients=4, seed=11)
    return root


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec, data_root: Path
) -> tuple[Path, Summary]:
    path = slow_spec(tmp_path_factory.mktemp("undisturbed"), write_spec, data_root)
    summary = capture(load_spec(path), cluster="inline", device="cpu")
    assert summary.complete
    return summary.store, summary


def passes_of(store: Store, blocks: list[int]) -> int:
    """Forward passes for ``blocks``: ``BATCH`` applicable inputs at a time, never across blocks."""
    applicable = store.applicable.values
    of = store.samples["block"].to_numpy()
    return sum(-(-int(applicable[of == block].sum()) // BATCH) for block in blocks)


@pytest.mark.process
def test_local_and_inline_store_the_same_bits(
    tmp_path: Path, write_spec: WriteSpec, data_root: Path, undisturbed: tuple[Path, Summary]
) -> None:
    """By one worker: `test_kills` compares what two leave behind."""
    spec = load_spec(slow_spec(tmp_path, write_spec, data_root))
    local = capture(spec, cluster="local", workers=1, device="cpu")
    assert local.complete
    expected, inline = undisturbed
    assert (local.done, local.inferred, local.forward_passes, local.bytes) == (
        inline.done,
        inline.inferred,
        inline.forward_passes,
        inline.bytes,
    )
    expect_same(local.store, expected)


def test_a_finished_capture_does_nothing_more(undisturbed: tuple[Path, Summary]) -> None:
    root, first = undisturbed
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    again = capture(load_spec(root.parent / "spec.toml"), cluster="inline", device="cpu")
    assert (again.done, again.skipped, again.forward_passes, again.inferred) == (0, first.done, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_failing_writes_cost_their_blocks_alone(
    tmp_path: Path,
    write_spec: WriteSpec,
    data_root: Path,
    undisturbed: tuple[Path, Summary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every third write fails until the disk is mended; each capture keeps what it could."""
    expected, whole = undisturbed
    spec = load_spec(slow_spec(tmp_path / "all", write_spec, data_root))
    plain = os.pwrite
    writes = 0
    faults = {"every": 0}

    def pwrite(fd: int, content: Any, offset: int) -> int:
        nonlocal writes
        writes += 1
        if faults["every"] and writes % faults["every"] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(fd, content, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    one = load_spec(slow_spec(tmp_path / "one", write_spec, data_root, data__patients=["patient001"]))
    assert capture(one, cluster="inline", device="cpu").done == 2
    # Once in one and a half blocks, of whose writes file systems differ in number.
    faults["every"], writes = 3 * writes // 4, 0
    first = capture(spec, cluster="inline", device="cpu")
    assert first.failed
    assert first.done
    assert all("No space left on device" in report.error for report in first.failed)
    assert committed(first.store) == sorted(set(range(whole.done)) - {report.unit for report in first.failed})
    assert strays(first.store) == []

    faults["every"] = 3
    second = capture(spec, cluster="inline", device="cpu")
    assert [report.unit for report in second.failed] == [report.unit for report in first.failed]
    assert second.done == 0
    assert second.skipped == first.done

    faults["every"] = 0
    third = capture(spec, cluster="inline", device="cpu")
    assert third.complete
    assert (third.done, third.skipped) == (len(first.failed), first.done)
    assert third.forward_passes == passes_of(actstore.open(third.store), [report.unit for report in first.failed])
    expect_same(third.store, expected)


@pytest.mark.parametrize("victim", ["applicable", "committed", "layers/L02/activation"])
def test_a_failing_rename_commits_nothing(
    tmp_path: Path, write_spec: WriteSpec, data_root: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    spec = load_spec(slow_spec(tmp_path, write_spec, data_root, data__patients=["patient001"]))
    plain = os.replace

    def replace(source: Any, target: Any) -> None:
        if str(target).startswith(f"{spec.store.path / victim / 'c.0'}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        plain(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        summary = capture(spec, cluster="inline", device="cpu")
    assert [report.unit for report in summary.failed] == [0]
    assert "Input/output error" in summary.failed[0].error
    assert committed(summary.store) == [1]
    assert strays(summary.store) == []
    assert capture(spec, cluster="inline", device="cpu").done == 1
    assert committed(summary.store) == [0, 1]


def test_the_record_is_the_last_file_of_a_block(
    tmp_path: Path, write_spec: WriteSpec, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(slow_spec(tmp_path, write_spec, data_root, data__patients=["patient001"]))
    named: list[Path] = []
    plain = os.replace

    def replace(source: Any, target: Any) -> None:
        named.append(Path(target))
        plain(source, target)

    monkeypatch.setattr(os, "replace", replace)
    root = capture(spec, cluster="inline", device="cpu").store
    layout = actstore.open(root).layout
    for block in range(2):
        files = {root / key for key in layout.capture.files(block)}
        own = [path for path in named if path in files]
        assert own[-1] == root / layout.capture.record.key(block)
        assert len(own) == len(files)
        assert set(own) == files


def test_a_block_that_lost_a_file_meanwhile_is_not_committed(undisturbed: tuple[Path, Summary], tmp_path: Path) -> None:
    layout = actstore.open(undisturbed[0]).layout
    with pytest.raises(StoreError, match=r"vanished before it was committed: run one job at a time"):
        commits.commit(LocalStorage(tmp_path), layout.capture, 0, 1)
    assert not (tmp_path / layout.capture.record.key(0)).exists()


def test_a_sweep_takes_the_record_first(
    undisturbed: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(undisturbed[0], tmp_path / "a.zarr"))
    layout = actstore.open(root).layout
    others = {key: content for key, content in files_of(root).items() if key not in layout.capture.files(2)}
    gone: list[Path] = []
    plain = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        gone.append(self)
        plain(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        commits.sweep(LocalStorage(root), layout.capture, [2])
    assert {path.relative_to(root).as_posix() for path in gone[:2]} == {
        layout.capture.record.key(2), layout.statistics.record.key(2)
    }  # fmt: skip
    assert files_of(root) == others


def test_a_sweep_takes_what_killed_attempts_left_and_nothing_else(
    undisturbed: tuple[Path, Summary], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(undisturbed[0], tmp_path / "a.zarr"))
    layout = actstore.open(root).layout
    before = files_of(root)
    for key in (layout.capture.sharded[-1].key(2), layout.confusion.key(1), layout.capture.record.key(0)):
        path = root / key
        path.with_name(f"{path.name}{TEMPORARY}0").write_bytes(b"torn")
    assert len(strays(root)) == 3
    commits.sweep(LocalStorage(root), layout.capture, ())
    assert files_of(root) == before
