"""What a second capture, a fork, a missing coordinate or a damaged record must not do."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import actstore
from actstore.errors import DataError, StoreError
from actstore.jobs import runner
from actstore.jobs.capture import capture
from actstore.jobs.inference import Inference
from actstore.jobs.plan.plan import make_plan
from actstore.spec.spec import load_spec
from actstore.store import pool
from actstore.store.files import LocalStorage
from conftest import WriteSpec


def test_a_second_capture_is_kept_away(write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    refusals: list[str] = []
    plain = runner.run_unit

    def run_unit(task: Any, block: Any) -> Any:
        with pytest.raises(StoreError) as refused:
            capture(spec, cluster="inline", device="cpu")
        refusals.append(str(refused.value))
        return plain(task, block)

    monkeypatch.setattr(runner, "run_unit", run_unit)
    summary = capture(spec, cluster="inline", device="cpu")
    assert summary.complete
    assert set(refusals) == {f"another job is writing to {summary.store}: wait for it to end, then run again"}
    monkeypatch.undo()
    assert capture(spec, cluster="inline", device="cpu").skipped == summary.done, "the lock went with its capture"


def test_a_committed_block_is_never_begun_again(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    summary = capture(spec, cluster="inline", device="cpu")
    plan = make_plan(spec, workers=1, device="cpu", timing=False)
    with runner.releasing():
        report = runner.run_unit(plan.task, plan.blocks[0])
    assert (report.failed, report.samples, report.bytes) == (False, 0, 0)
    assert not actstore.open(summary.store).missing


@pytest.mark.parametrize("name", ["valid", "patient", "group", "condition", "strength", "slice", "spacing"])
def test_a_coordinate_that_is_gone_is_damage(tiny_copy: Path, name: str) -> None:
    for chunk in (tiny_copy / name).glob("c.*"):
        chunk.unlink()
    with pytest.raises(StoreError, match=f"coordinates cannot be read .*no chunk of {name}"):
        actstore.open(tiny_copy)


def test_a_relative_path_survives_a_change_of_folder(tiny_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_copy.parent)
    store = actstore.open(tiny_copy.name)
    monkeypatch.chdir("/")
    assert np.isfinite(store["L01"][0, 0].values).all()


def test_a_damaged_record_is_computed_again(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    store = capture(spec, cluster="inline", device="cpu").store
    layout = actstore.open(store).layout
    (store / layout.capture.record.key(1)).write_bytes(b"")
    with pytest.raises(StoreError, match=r"committed/c.1 is damaged"):
        actstore.open(store)
    again = capture(spec, cluster="inline", device="cpu")
    assert (again.done, again.skipped) == (1, 1)
    (store / layout.statistics.record.key(0)).write_bytes(b"torn")
    assert not actstore.open(store).reduced


def test_a_finished_store_needs_no_memory_or_disk(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    capture(spec, cluster="inline", device="cpu")
    monkeypatch.setattr("actstore.jobs.capture.check_resources", lambda *_: pytest.fail("nothing is to be done"))
    assert capture(spec, cluster="inline", device="cpu").skipped == 2


def test_a_layer_that_drops_the_batch_is_refused(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    plain = Inference.record
    monkeypatch.setattr(Inference, "record", lambda *of: plain(*of[:-1], of[-1][:1]))
    summary = capture(spec, cluster="inline", device="cpu")
    assert not summary.done
    assert "returns 1 samples for a batch of" in summary.failed[0].error


def test_code_beside_the_spec_belongs_to_the_run(write_spec: WriteSpec, tmp_path: Path) -> None:
    source = "from networks import tiny_unet\n\n\ndef net(**arguments):\n    return tiny_unet(**arguments)\n"
    (tmp_path / "own_net.py").write_text(source)
    path = write_spec(tmp_path, model__factory="own_net:net", data__patients=["patient001"])
    capture(load_spec(path), cluster="inline", device="cpu")
    (tmp_path / "own_net.py").write_text(source + "# changed\n")
    with pytest.raises(StoreError, match=r"another spec \(code.own_net: "):
        capture(load_spec(path), cluster="inline", device="cpu")


def test_buffers_that_no_checkpoint_holds_belong_to_the_weights() -> None:
    from actstore.networks.model import weights_digest

    class Scaled(torch.nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(scale), persistent=False)

    assert weights_digest(Scaled(1.0)) != weights_digest(Scaled(3.0))


def test_a_phantom_of_another_seed_is_refused(write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
    spec = load_spec(write_spec(tmp_path, data__format="phantom", data__root=phantom_copy, data__phantom={"seed": 99}))
    with pytest.raises(DataError, match="holds another phantom"):
        make_plan(spec, device="cpu", timing=False)


def test_memory_of_a_read_is_not_shared_with_a_forked_child() -> None:
    pool.clear()
    mine = pool.take(100)
    mine[:] = 7
    with warnings.catch_warnings():
        # Python warns of a fork beside threads, which libraries start on some machines.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        mine[:] = 9
        os._exit(0)
    os.waitpid(child, 0)
    assert (mine == 7).all()


def test_memory_comes_back_when_the_last_view_goes() -> None:
    pool.clear()
    array = pool.take(2**20)
    view = array[5:].reshape(-1, 1)[::2]
    del array
    assert pool.free_bytes() == 0
    del view
    assert pool.free_bytes() == 2**20
    pool.clear()


def test_a_lock_needs_no_file(tiny_copy: Path) -> None:
    before = sorted(path.name for path in tiny_copy.iterdir())
    with LocalStorage(tiny_copy).locked():
        assert sorted(path.name for path in tiny_copy.iterdir()) == before
