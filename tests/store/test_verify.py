"""`verify` finds whatever is not as it was written; `repair` brings exactly that back."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import actstore
from actstore.cli.commands import main
from actstore.errors import ActstoreError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.repair import repair, spec_of
from actstore.spec.spec import load_spec
from actstore.store import commits, metadata
from actstore.store.attributes import read_attributes
from actstore.store.files import LocalStorage, storage_at
from actstore.store.files.local import LocalFile
from actstore.store.verify import verify
from conftest import WriteSpec
from damage import DAMAGE, Wound
from stores import expect_same, files_of

pytestmark = pytest.mark.slow

PLACES = 1


def mend(root: Path) -> None:
    found = verify(root)
    repair(root, found.damage, cluster="inline", device="cpu")


@pytest.mark.parametrize("place", [*range(PLACES), *(pytest.param(p, marks=pytest.mark.faults) for p in range(1, 20))])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_named_and_mended(kind: str, place: int, tiny_copy: Path, tiny_store: Path) -> None:
    rng = random.Random(f"{kind} {place}")
    wound: Wound = DAMAGE[kind](tiny_copy, rng)
    found = verify(tiny_copy)
    assert not found.whole
    (damage,) = [damage for damage in found.damage if damage.key == wound.key]
    assert wound.what in damage.what
    assert damage.volume == wound.volume
    assert [other.key for other in found.damage if other.key != wound.key and not wound.spreads] == []
    before = {key: (tiny_copy / key).stat().st_mtime_ns for key in files_of(tiny_copy)}
    repair(tiny_copy, found.damage, cluster="inline", device="cpu")
    assert verify(tiny_copy).whole
    expect_same(tiny_copy, tiny_store)
    for path in tiny_store.rglob("zarr.json"):
        assert (tiny_copy / path.relative_to(tiny_store)).read_bytes() == path.read_bytes()
    layout = actstore.open(tiny_store).layout
    others = [b for b in range(layout.blocks) if b != wound.block]
    untouched = {key for block in others for key in layout.capture.files(block)}
    after = {key: (tiny_copy / key).stat().st_mtime_ns for key in files_of(tiny_copy)}
    assert {key for key in untouched if before.get(key) != after[key]} == set(), "exactly that block was computed again"


@pytest.mark.parametrize("kind", ["bit in a shard", "bit in a shard index", "missing shard", "truncated shard"])
def test_readers_of_damage_get_an_error_and_no_values(kind: str, tiny_copy: Path) -> None:
    wound = DAMAGE[kind](tiny_copy, random.Random(3))
    store = actstore.open(tiny_copy)
    arrays = {"inputs/image": store.image, "inputs/label": store.label, "outputs/prediction": store.prediction}
    arrays |= {"outputs/histogram": store.histogram, "outputs/calibration": store.calibration}
    arrays |= {f"layers/{name}/activation": store[name] for name in store.layers.index}
    array = arrays[wound.key.rpartition("/")[0]]
    with pytest.raises(StoreError, match=f"{wound.key}.*verify STORE --repair"):
        array.compute()


def test_a_whole_store_is_whole(tiny_store: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = verify(tiny_store, progress=lambda *step: seen.append(step))
    assert found.whole
    assert (found.committed, found.blocks) == (4, 4)
    assert [step[1:] for step in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    files = [path for path in tiny_store.rglob("*") if path.is_file()]
    assert (found.files, found.bytes) == (len(files), sum(path.stat().st_size for path in files))


def test_a_store_with_nothing_in_it_is_not_whole(tiny_copy: Path) -> None:
    layout = actstore.open(tiny_copy).layout
    for block in range(layout.blocks):
        for key in layout.capture.files(block):
            (tiny_copy / key).unlink()
    found = verify(tiny_copy)
    assert not found.whole
    assert found.committed == 0
    assert [damage.what for damage in found.damage] == ["is missing: the volume is not committed"] * 4


def test_no_store_is_no_whole_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        verify(tmp_path / "none.zarr")
    (tmp_path / "a").write_text("x")
    with pytest.raises(StoreError, match="is not an actstore store"):
        verify(tmp_path)


def test_metadata_and_copy_both_damaged_are_refused(tiny_copy: Path) -> None:
    root = tiny_copy / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["blocks"][0] = "somebody else"
    root.write_text(json.dumps(content))
    (tiny_copy / metadata.KEY).write_bytes(b"torn")
    with pytest.raises(StoreError, match=r"zarr\.json is damaged, and the copy of the metadata too"):
        verify(tiny_copy)


def test_wounds_of_every_kind_at_once(tiny_copy: Path, tiny_store: Path) -> None:
    rng = random.Random(11)
    for kind in DAMAGE:
        DAMAGE[kind](tiny_copy, rng)
    with pytest.raises(StoreError):
        actstore.open(tiny_copy)
    mend(tiny_copy)
    assert verify(tiny_copy).whole
    expect_same(tiny_copy, tiny_store)


def test_statistics_need_no_network(tiny_copy: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = actstore.open(tiny_copy).layout
    (tiny_copy / layout.statistic.key(2)).write_bytes(b"torn")
    monkeypatch.setattr("actstore.jobs.repair.capture", lambda *_, **__: pytest.fail("no network is needed"))
    mend(tiny_copy)
    expect_same(tiny_copy, tiny_store)


def test_what_cannot_be_computed_again_stays_readable_elsewhere(
    write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path
) -> None:
    spec = write_spec(tmp_path, data__root=phantom_copy)
    root = capture(load_spec(spec), cluster="inline", device="cpu").store
    layout = actstore.open(root).layout
    shard = Path(root) / layout.capture.sharded[-1].key(1)
    shard.write_bytes(b"torn")
    moved = phantom_copy.rename(phantom_copy.with_name("moved"))
    result = CliRunner().invoke(main, ["verify", str(root), "--repair", "--cluster", "inline", "--device", "cpu"])
    assert result.exit_code == 1
    assert "no such folder" in result.stderr
    elsewhere = write_spec(tmp_path, data__root=moved)
    arguments = ["verify", str(root), "--repair", "--spec", str(elsewhere), "--cluster", "inline", "--device", "cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    assert verify(root).whole


def test_the_command_line_names_volumes_and_layers(tiny_copy: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(main, ["verify", str(tiny_copy)])
    assert good.exit_code == 0
    assert "4 of 4 volumes" in good.stdout
    wound = DAMAGE["bit in a shard"](tiny_copy, random.Random(0))
    bad = runner.invoke(main, ["verify", str(tiny_copy)])
    assert bad.exit_code == 1
    assert wound.volume in bad.stdout
    assert wound.key in bad.stdout
    assert "--repair" in bad.stderr
    mended = runner.invoke(main, ["verify", str(tiny_copy), "--repair", "--cluster", "inline", "--device", "cpu"])
    assert mended.exit_code == 0, mended.stderr
    assert runner.invoke(main, ["verify", str(tiny_copy)]).exit_code == 0


@pytest.mark.parametrize("folder", ["layers/L01", "layers", "statistics", "committed", "valid", "metadata", "inputs"])
def test_a_lost_folder_comes_back(tiny_copy: Path, tiny_store: Path, folder: str) -> None:
    shutil.rmtree(tiny_copy / folder)
    mend(tiny_copy)
    assert verify(tiny_copy).whole
    expect_same(tiny_copy, tiny_store)


@pytest.mark.parametrize("content", [b"", b"\0", bytes(4)])
def test_a_coordinate_without_content_is_damage(tiny_copy: Path, content: bytes) -> None:
    (tiny_copy / "valid" / "c.0").write_bytes(content)
    assert [damage.key for damage in verify(tiny_copy).damage] == ["valid/c.0"]


@pytest.mark.parametrize("how", ["missing", "other type"])
def test_metadata_are_compared_with_the_roots_where_their_copy_is_lost(
    tiny_copy: Path, tiny_store: Path, how: str
) -> None:
    (tiny_copy / metadata.KEY).unlink()
    path = tiny_copy / "layers/L01/activation/zarr.json"
    if how == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("float32", "float16"))
    found = verify(tiny_copy)
    assert {damage.key for damage in found.damage} == {metadata.KEY, "layers/L01/activation/zarr.json"}
    mend(tiny_copy)
    assert verify(tiny_copy).whole
    for original in tiny_store.rglob("zarr.json"):
        assert (tiny_copy / original.relative_to(tiny_store)).read_bytes() == original.read_bytes()
    assert (tiny_copy / metadata.KEY).read_bytes() == (tiny_store / metadata.KEY).read_bytes()


def test_layers_on_another_disk_behind_a_link(tiny_copy: Path, tmp_path: Path) -> None:
    (tiny_copy / "layers").rename(tmp_path / "elsewhere")
    (tiny_copy / "layers").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tiny_copy)
    assert verify(tiny_copy).whole


@pytest.mark.parametrize("how", ["cluster", "data"])
def test_a_repair_that_cannot_begin_gives_nothing_up(
    write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path, how: str
) -> None:
    spec = load_spec(write_spec(tmp_path, data__root=phantom_copy))
    root = Path(str(capture(spec, cluster="inline", device="cpu").store))
    DAMAGE["bit in a shard"](root, random.Random(4))
    found = verify(root)
    if how == "data":
        phantom_copy.rename(phantom_copy.with_name("moved"))
    with pytest.raises(ActstoreError):
        repair(root, found.damage, cluster="clod" if how == "cluster" else "inline", device="cpu")
    assert len(list((root / "committed").glob("c.*"))) == 4


def test_a_storage_that_does_not_answer_is_no_damage(tiny_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to `verify` nor to a capture, which would delete healthy blocks."""
    plain = LocalStorage.fill

    def fill(self: LocalStorage, key: str, content: bytearray) -> int | None:
        if key == "committed/c.1":
            raise StoreError(f"{key}: 503 Slow Down")
        return plain(self, key, content)

    store = actstore.open(tiny_copy)
    monkeypatch.setattr(LocalStorage, "fill", fill)
    for look in (
        lambda: verify(tiny_copy),
        lambda: commits.finished(LocalStorage(tiny_copy), store.layout.capture, store.token, mending=True),
        lambda: commits.is_finished(LocalStorage(tiny_copy), store.layout.capture, 1, store.token),
    ):
        with pytest.raises(StoreError, match="503"):
            look()


def test_a_sector_that_cannot_be_read_is_damage(
    tiny_copy: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LocalFile.read_into

    def read_into(self: LocalFile, view: memoryview, offset: int) -> int:
        if "L02" in os.readlink(f"/proc/self/fd/{self._fd}") and offset == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(self, view, offset)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFile, "read_into", read_into)
        found = verify(tiny_copy)
    assert {damage.what for damage in found.damage} == {"cannot be read: Input/output error"}
    assert len(found.damage) == 4
    repair(tiny_copy, found.damage, cluster="inline", device="cpu")
    expect_same(tiny_copy, tiny_store)


def test_a_volume_store_from_before_axes_were_named_is_not_continued(volume_store: Path) -> None:
    attributes = read_attributes(storage_at(volume_store))
    assert spec_of(attributes).axes == "simpleitk"
    del attributes["spec"]["data"]["axes"]
    words = r"the store's spec has no data.axes: its volumes were read as \(k, i, j\), .* It opens as before and is not"
    with pytest.raises(StoreError, match=words):
        spec_of(attributes)
