"""A job that actstore does not know, run by the runner: killed, resumed, damaged, found, repaired, on any cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from click.testing import CliRunner

import actstore
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.out import Out
from actstore.jobs.repair import repair
from actstore.jobs.runner import Workers, ensure_group, run
from actstore.spec.cluster import Cluster
from actstore.store import metadata
from actstore.store.files import storage_at
from actstore.store.groups import group_token, read_groups
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.schema import Coordinate, Schema, record_of
from actstore.store.verify import verify
from image_means import ImageMeans
from processes import until
from stores import committed, files_of

GROUP = ImageMeans.group


def job_of(path: Path) -> ImageMeans:
    return ImageMeans.again(storage_at(path), {})


@pytest.fixture
def means(tiny_copy: Path) -> Path:
    """A store with the job's group, whole."""
    outcome = run(job_of(tiny_copy), storage_at(tiny_copy), Workers())
    assert (len(outcome.reports), outcome.failed, outcome.skipped, outcome.left) == (4, (), 0, 0)
    return tiny_copy


def expected(path: Path) -> xr.DataArray:
    return actstore.open(path).image.mean(["input_channel", "y", "x"], dtype=np.float64).compute()


def test_a_group_is_part_of_the_store(means: Path, tiny_store: Path) -> None:
    store = actstore.open(means)
    found = store.group(GROUP)
    xr.testing.assert_equal(found["mean"].compute().variable, expected(means).variable)
    assert found["unit"].values.tolist() == store.attributes["blocks"]
    assert found["patient"].values.tolist() == store.samples["patient"].tolist()
    used = np.flatnonzero(zarr.open_array(means / "valid", mode="r")[...])  # type: ignore[arg-type]
    with xr.open_zarr(means, group=GROUP, chunks=None) as plain:
        np.testing.assert_array_equal(plain["mean"].values[used], found["mean"].values)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(means / GROUP / "mean")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result()[used], found["mean"].values)
    files = {path.relative_to(tiny_store) for path in tiny_store.rglob("*") if path.is_file()}
    changed = {str(key) for key in files if (tiny_store / key).read_bytes() != (means / key).read_bytes()}
    assert changed == {"zarr.json", "metadata/c.0"}, "what the capture wrote stays, bit for bit"
    root = json.loads((means / "zarr.json").read_text())
    assert f"{GROUP}/mean" in root["consolidated_metadata"]["metadata"]
    assert metadata.read_copy(storage_at(means)).keys() >= {f"{GROUP}/zarr.json", f"{GROUP}/mean/zarr.json"}
    assert f"{GROUP}: 4 of 4 units" in CliRunner().invoke(main, ["status", str(means)]).stdout
    found_whole = verify(means)
    assert found_whole.whole
    assert found_whole.groups == ((GROUP, 4, 4),)


def test_a_finished_job_computes_nothing_again(means: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageMeans, "open", lambda *_: pytest.fail("nothing is to be done"))
    outcome = run(job_of(means), storage_at(means), Workers())
    assert (outcome.reports, outcome.skipped) == ((), 4)


def test_the_token_is_of_the_run_and_of_the_job(means: Path) -> None:
    (group,) = read_groups(storage_at(means))
    run_of = actstore.open(means).attributes["fingerprint"]["run"]
    assert group.token == group_token(run_of, {"of": "inputs/image"})
    assert group.token not in (group_token(run_of, {"of": "label"}), group_token("f" * 64, {"of": "inputs/image"}))
    with pytest.raises(StoreError, match=r"features/means is of another job \(of: \"inputs/image\" → \"label\"\)"):
        run(Other(**vars(job_of(means))), storage_at(means), Workers())


class Other(ImageMeans):
    def identity(self) -> dict[str, Any]:
        return {"of": "label"}


Other.__module__, Other.__qualname__ = ImageMeans.__module__, ImageMeans.__qualname__


#: Runs the job; from the third unit on, nothing is put while a file is there.
HELD_RUN = """
import os, sys, time
from actstore.jobs.out import Out
from actstore.jobs.runner import Workers, run
from actstore.store.files import storage_at
from image_means import ImageMeans

plain = Out.put


def put(self, *arguments):
    while self.unit > 1 and os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    plain(self, *arguments)


Out.put = put
storage = storage_at(sys.argv[1])
run(ImageMeans.again(storage, {}), storage, Workers())
"""


@pytest.mark.process
def test_a_job_that_was_killed_goes_on(tiny_copy: Path, tmp_path: Path) -> None:
    """Killed by SIGKILL while its third unit is in flight: two are committed, and are not computed again."""
    held = tmp_path / "held"
    held.touch()
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", HELD_RUN, str(tiny_copy), str(held)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    until(lambda: process.poll() is not None or len(committed(tiny_copy / GROUP)) >= 2, "two units are committed")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = committed(tiny_copy / GROUP)
    assert len(done) == 2
    assert actstore.open(tiny_copy).group(GROUP).sizes["sample"] < len(actstore.open(tiny_copy).samples)
    reports: list[Report] = []
    outcome = run(job_of(tiny_copy), storage_at(tiny_copy), Workers(), progress=lambda r, *_: reports.append(r))
    assert (outcome.skipped, len(outcome.reports)) == (2, 2)
    assert {report.unit for report in reports}.isdisjoint(done)
    np.testing.assert_array_equal(actstore.open(tiny_copy).group(GROUP)["mean"], expected(tiny_copy))
    assert verify(tiny_copy).whole


@pytest.mark.process
def test_a_job_runs_on_dask_workers(tiny_copy: Path) -> None:
    workers = Workers(Cluster(kind="local"), count=1)
    assert not run(job_of(tiny_copy), storage_at(tiny_copy), workers).failed
    np.testing.assert_array_equal(actstore.open(tiny_copy).group(GROUP)["mean"], expected(tiny_copy))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("key", "kind", "spoil"),
    [
        ("mean/c.1.0", "content", _flip),
        ("mean/c.2.0", "content", Path.unlink),
        ("committed/c.3", "commit", Path.unlink),
        ("committed/c.0", "commit", _flip),
        ("unit/c.0", "coordinate", _flip),
        ("mean/zarr.json", "metadata", Path.unlink),
    ],
)
def test_damage_in_a_group_is_found_and_repaired(means: Path, key: str, kind: str, spoil: Any) -> None:
    whole = files_of(means)
    spoil(means / GROUP / key)
    found = verify(means)
    (damage,) = found.damage
    assert (damage.kind, damage.key, found.whole) == (kind, f"{GROUP}/{key}", False)
    repair(means, found.damage)
    assert verify(means).whole
    assert files_of(means) == whole


def test_a_group_whose_class_is_not_here_is_named(means: Path) -> None:
    storage = storage_at(means)
    (group,) = read_groups(storage)
    from actstore.jobs.repair import job_of as job_again

    with pytest.raises(StoreError, match=r"was computed by nowhere:Job, which cannot be imported here"):
        job_again(storage, replace(group, made_by="nowhere:Job"))


@pytest.fixture
def cut_off(tiny_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store into which a group was being added when the process ended: all but the root's metadata are there."""
    storage = storage_at(tiny_copy)
    plain = type(storage).write

    def write(self: Any, key: str, content: bytes, *, fsync: bool = False) -> None:
        if key == "zarr.json":
            raise KeyboardInterrupt
        plain(self, key, content, fsync=fsync)

    with monkeypatch.context() as patched:
        patched.setattr(type(storage), "write", write)
        with pytest.raises(KeyboardInterrupt):
            run(job_of(tiny_copy), storage, Workers())
    return tiny_copy


@pytest.mark.parametrize("how", ["run again", "repair"])
def test_a_group_that_was_being_added_is_added_by_the_next(cut_off: Path, how: str, tmp_path: Path) -> None:
    assert not actstore.open(cut_off).groups, "a reader does not see it"
    if how == "repair":
        damage = verify(cut_off).damage
        assert {found.key for found in damage} >= {"zarr.json"}
        repair(cut_off, damage)
    run(job_of(cut_off), storage_at(cut_off), Workers())
    assert verify(cut_off).whole
    whole = shutil.copytree(cut_off, tmp_path / "again.zarr")
    assert list(actstore.open(whole).groups) == [GROUP]


def test_a_job_cannot_put_what_does_not_fit(means: Path) -> None:
    job = job_of(means)
    out = Out(storage_at(means), job.schema, 0, 7, 1)
    with pytest.raises(ValueError, match=r"features/means has no array 'median': mean"):
        out.put("median", np.zeros((7, 3)))
    with pytest.raises(ValueError, match=r"features/means/mean: float64 \(7, 2\) does not fit float64 \(7, 3\)"):
        out.put("mean", np.zeros((7, 2)))
    with pytest.raises(ValueError, match=r"complex128 \(7, 3\) does not fit float64"):
        out.put("mean", np.zeros((7, 3), complex))
    with pytest.raises(ValueError, match="features/means: unit 0 put no mean"):
        out.commit()


@dataclass(frozen=True)
class Ranges:
    """A job whose units are ranges of channels, the last of them shorter."""

    needs = ()

    group: str = "features/ranges"
    dtype: str = "int8"
    sizes: tuple[int, ...] = (3, 3, 2)
    values: tuple[int, ...] = (1, 2, 3)

    @property
    def schema(self) -> Schema:
        n = len(self.sizes)
        small = SmallLayout(f"{self.group}/small", ("layer_channel",), self.dtype, n, (3,))
        sharded = ArrayLayout(f"{self.group}/image", ("layer_channel", "y", "x"), "float32", n, 3, (4, 5), (2, 5))
        return Schema(self.group, record_of(self.group, n), (small, sharded), coordinates=("channel",))

    def identity(self) -> dict[str, Any]:
        return {}

    def coordinates(self) -> list[Coordinate]:
        return [Coordinate("channel", ("layer_channel",), np.arange(9))]

    def units(self) -> list[PlainUnit]:
        return [PlainUnit(i, f"range {i}", n) for i, n in enumerate(self.sizes)]

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        def compute(unit: PlainUnit, out: Out) -> Report:
            out.put("small", np.full(unit.samples, self.values[unit.index]))
            out.put("image", np.arange(unit.samples * 20, dtype=np.float64).reshape(-1, 4, 5) + unit.index)
            return Report(unit.index, unit.name)

        yield compute

    @classmethod
    def again(cls, storage: Any, identity: Any, spec: Any = None) -> Ranges:
        return cls()


def test_units_need_not_be_blocks(tiny_copy: Path) -> None:
    """Ranges of channels, one array of shards, nothing along ``sample``, an identity that is empty."""
    storage = storage_at(tiny_copy)
    assert not run(Ranges(), storage, Workers()).failed
    found = actstore.open(tiny_copy).group("features/ranges").load()
    assert found["small"].values.tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    assert found["channel"].values.tolist() == [*range(8)], "nothing of what the last unit leaves empty"
    np.testing.assert_array_equal(found["image"][3], np.arange(20).reshape(4, 5) + 1)
    np.testing.assert_array_equal(found["image"][7], np.arange(20, 40).reshape(4, 5) + 2)
    assert verify(tiny_copy).whole
    _flip(tiny_copy / "features/ranges/image/c.2.0.0")
    (damage,) = verify(tiny_copy).damage
    assert damage.volume == "range 2"
    repair(tiny_copy, [damage])
    assert verify(tiny_copy).whole


def test_what_an_array_does_not_hold_fails_the_unit(tiny_copy: Path) -> None:
    outcome = run(Ranges(values=(1, 300, 3)), storage_at(tiny_copy), Workers())
    (failed,) = outcome.failed
    assert (failed.unit, len(outcome.reports)) == (1, 3)
    assert "features/ranges/small: int8 does not hold 300" in failed.error


@pytest.mark.parametrize(
    "name",
    [
        *("inputs", "layers/L01/mine", "statistics", "committed", "valid", "metadata", "features/ranges/more"),
        *("features", "/outside", "../outside", "features/x.partial-1", "a/", "a//b"),
    ],
)
def test_a_group_takes_no_name_of_others(tiny_copy: Path, name: str) -> None:
    run(Ranges(), storage_at(tiny_copy), Workers())
    before = files_of(tiny_copy.parent)
    with pytest.raises(StoreError, match=r"exists already: choose another name|use letters, digits, _ and -"):
        ensure_group(Ranges(group=name), storage_at(tiny_copy))
    assert files_of(tiny_copy.parent) == before
    assert verify(tiny_copy).whole


def test_a_job_waits_for_the_capture(tiny_copy: Path) -> None:
    layout = actstore.open(tiny_copy).layout
    (tiny_copy / layout.capture.record.key(1)).unlink()
    with pytest.raises(StoreError, match="lacks 1 volume, and jobs need all: run `actstore capture SPEC` first"):
        run(Ranges(), storage_at(tiny_copy), Workers())


def test_an_open_store_sees_a_group_that_is_added(tiny_copy: Path) -> None:
    store = actstore.open(tiny_copy)
    assert not store.groups
    run(Ranges(), storage_at(tiny_copy), Workers())
    assert list(store.groups) == ["features/ranges"]
