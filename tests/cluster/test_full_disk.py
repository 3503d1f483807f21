"""A file system that is really full, at the moments that matter."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.store import commits
from actstore.store.files.local import LocalStorage
from actstore.store.shards import ShardWriter
from actstore.store.verify import verify
from conftest import WriteSpec
from stores import committed, expect_same, strays

pytestmark = pytest.mark.cluster

SIZE = 64 * 2**20


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system of its own; ext4 takes direct I/O."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    if request.param == "ext4" and not shutil.which("mkfs.ext4"):
        pytest.skip("a file in ext4 needs mkfs.ext4: install e2fsprogs")
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        mount = ["mount", "-o", "loop", str(image), str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"{request.param} cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all of the disk's space but about ``leave`` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass
        size = file.tell()
        os.ftruncate(file.fileno(), max(0, size - leave))
    return ballast


@pytest.mark.parametrize("moment", ["in a shard", "in a small file", "at the commit"])
def test_a_full_disk_costs_the_blocks_that_met_it(
    disk: Path, write_spec: WriteSpec, tmp_path: Path, tiny_store: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path, store__path=disk / "tiny.zarr"))
    root = disk / "tiny.zarr"
    filled: list[Path] = []

    def once(leave: int = 0) -> None:
        if not filled and committed(root):
            filled.append(fill(disk, leave))

    plain_write, plain_local, plain_commit = ShardWriter.write, LocalStorage.write, commits.commit

    def write(self: ShardWriter, buffer: Any) -> None:
        if self.layout.path.startswith("layers/"):
            once(leave=2**16)
        plain_write(self, buffer)

    def small(storage: LocalStorage, key: str, content: bytes, *, fsync: bool = False) -> None:
        if key.startswith("confusion"):
            once()
        plain_local(storage, key, content, fsync=fsync)

    def commit(*arguments: Any, **more: Any) -> None:
        once()
        plain_commit(*arguments, **more)

    with monkeypatch.context() as patch:
        if moment == "in a shard":
            patch.setattr(ShardWriter, "write", write)
        elif moment == "in a small file":
            patch.setattr(LocalStorage, "write", small)
        else:
            patch.setattr(commits, "commit", commit)
        summary = capture(spec, cluster="inline", device="cpu")
    assert filled
    assert summary.failed
    assert all("No space left on device" in report.error for report in summary.failed), summary.failed
    assert summary.done == len(committed(root)) > 0
    assert strays(root) == []
    filled[0].unlink()
    again = capture(spec, cluster="inline", device="cpu")
    assert again.complete
    assert again.skipped == summary.done
    expect_same(root, tiny_store)
    assert verify(root).whole


def test_a_disk_that_is_full_before_the_store_is_made(disk: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    """In the middle of the metadata: nothing is left of them."""
    spec = load_spec(write_spec(tmp_path, store__path=disk / "tiny.zarr"))
    import actstore.jobs.capture as capturing

    ballast: list[Path] = []
    plain = capturing.files_of

    def files_of(*arguments: Any) -> dict[str, bytes]:
        ballast.append(fill(disk, leave=20_000))
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "files_of", files_of)
        with pytest.raises(StoreError, match=r"no store can be made at .*No space left on device"):
            capture(spec, cluster="inline", device="cpu")
    assert [path.name for path in disk.iterdir() if path.name != "lost+found"] == ["ballast"]
    ballast[0].unlink()
    assert capture(spec, cluster="inline", device="cpu").complete
