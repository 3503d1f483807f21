"""Where files land: umask, group and setgid of the folder above decide, and a colleague of the group can go on."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import actstore
from actstore.data.phantom import write_phantom
from actstore.jobs.capture import capture
from actstore.jobs.reduce import reduce_store
from actstore.jobs.repair import repair
from actstore.spec.spec import load_spec
from actstore.store.files import storage_at
from actstore.store.verify import verify
from actstore.tables.build import write_table
from conftest import WriteSpec
from stores import slow_spec

#: Only root may give a file to a group that it is not in, and become somebody else.
ROOT = os.geteuid() == 0
GROUP, COLLEAGUE = 100, 1234


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(root: Path) -> dict[str, set[str]]:
    """Permission bits, octal, of folders and of files at and below ``root``."""
    found: dict[str, set[str]] = {"folder": set(), "file": set()}
    for path in (root, *root.rglob("*")):
        found["folder" if path.is_dir() else "file"].add(oct(stat.S_IMODE(path.stat().st_mode)))
    return found


def write_everything(folder: Path, write_spec: WriteSpec) -> None:
    """A store that was captured, damaged, repaired and reduced, a table and a phantom, all in ``folder``."""
    spec = load_spec(write_spec(folder, data__patients=["patient001"]))
    store = Path(capture(spec, cluster="inline").store)
    next((store / "layers" / "L01" / "activation").glob("c.*")).write_bytes(b"")
    next((store / "statistics" / "committed").glob("c.*")).unlink()
    (store / "zarr.json").write_bytes(b"{}")
    repair(store, verify(store).damage, cluster="inline")
    assert verify(store).whole
    reduce_store(actstore.open(store))
    write_table(pd.DataFrame({"a": [1]}), folder / "tables" / "t.csv")
    write_phantom(folder / "phantom", patients=1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mask", "folder_mode", "file_mode"),
    [(0o002, "0o775", "0o664"), (0o077, "0o700", "0o600"), (0o027, "0o750", "0o640")],
)
def test_the_umask_decides(mask: int, folder_mode: str, file_mode: str, write_spec: WriteSpec, tmp_path: Path) -> None:
    with umask(mask):
        (place := tmp_path / "place").mkdir()
        write_everything(place, write_spec)
    assert modes(place) == {"folder": {folder_mode}, "file": {file_mode}}


def test_a_shard_that_direct_writes_are_refused_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for direct in (0, getattr(os, "O_DIRECT", 0)):
        monkeypatch.setattr("actstore.store.files.local._DIRECT", direct)
        with umask(0o002):
            sink = storage_at(tmp_path).sink(f"c.{direct}", 3)
            sink.append(np.zeros(4096, dtype=np.uint8), 0, 3, last=True)
            sink.close()
    assert modes(tmp_path)["file"] == {"0o664"}


@pytest.mark.slow
def test_setgid_and_group_are_taken_on(write_spec: WriteSpec, tmp_path: Path) -> None:
    place = tmp_path / "project"
    place.mkdir()
    if ROOT:
        os.chown(place, -1, GROUP)
    place.chmod(0o2775)
    with umask(0o002):
        write_everything(place, write_spec)
    assert modes(place) == {"folder": {"0o2775"}, "file": {"0o664"}}
    assert {path.stat().st_gid for path in place.rglob("*")} == {place.stat().st_gid}


@contextmanager
def colleague() -> Iterator[None]:
    """Another user of the group where the tests run as root; elsewhere the same one."""
    if not ROOT:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(GROUP)
    os.seteuid(COLLEAGUE)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@pytest.mark.slow
def test_a_colleague_of_the_group_continues_repairs_and_reduces(write_spec: WriteSpec, phantom_root: Path) -> None:
    # Not in pytest's folder, which only its user may enter.
    with tempfile.TemporaryDirectory() as parent, umask(0o002):
        os.chmod(parent, 0o755)
        data = shutil.copytree(phantom_root, Path(parent) / "data")
        (place := Path(parent) / "project").mkdir()
        if ROOT:
            os.chown(place, -1, GROUP)
        place.chmod(0o2775)
        path = slow_spec(place, write_spec, data)
        spec = load_spec(path)
        store = Path(capture(spec, cluster="inline").store)
        shard = next((store / "layers" / "L01" / "activation").glob("c.*"))
        shard.write_bytes(b"")
        shard.with_name("c.9.partial-0123456789ab").write_bytes(b"")
        next(path for path in (store / "committed").glob("c.*")).unlink()
        with colleague():
            (place / "by_hand").touch()
            repair(store, verify(store).damage, cluster="inline")
            assert verify(store).whole
            next((store / "statistics" / "committed").glob("c.*")).unlink()
            assert reduce_store(actstore.open(store)) == 1
            assert capture(spec, cluster="inline").skipped == 4
            assert verify(store).whole
        assert (place / "by_hand").stat().st_uid == shard.stat().st_uid == (COLLEAGUE if ROOT else os.geteuid())
        assert modes(store) == {"folder": {"0o2775"}, "file": {"0o664"}}


def default_acl(user: int) -> bytes:
    """What ``setfacl -d -m u:USER:rwx`` writes: owner, user, group, mask and others as (tag, permissions, id)."""
    nobody = 2**32 - 1
    entries = [(0x01, 7, nobody), (0x02, 7, user), (0x04, 5, nobody), (0x10, 7, nobody), (0x20, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.slow
def test_a_default_acl_is_taken_on(write_spec: WriteSpec, tmp_path: Path) -> None:
    (place := tmp_path / "project").mkdir()
    try:
        os.setxattr(place, "system.posix_acl_default", default_acl(COLLEAGUE))
    except (OSError, AttributeError):
        pytest.skip("no ACLs on this file system")
    with umask(0o077):
        write_everything(place, write_spec)
    for path in place.rglob("*"):
        assert struct.pack("<HHI", 0x02, 7, COLLEAGUE) in os.getxattr(path, "system.posix_acl_access"), path
    # The mask, which the group's bits show, lets the user in whatever the umask.
    assert modes(place / "tiny.zarr") == {"folder": {"0o770"}, "file": {"0o660"}}
