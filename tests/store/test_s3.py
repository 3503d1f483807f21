"""A store in a bucket of an S3 server on loopback: the same code, the same bits, the same refusals."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import obstore
import pytest
import tensorstore
import zarr
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

import actstore
from actstore.errors import MissingError, SpecError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.reduce import reduce_store
from actstore.jobs.repair import repair
from actstore.spec.spec import load_spec
from actstore.store import fence
from actstore.store.files import bucket as bucket_module
from actstore.store.files import lease as lease_module
from actstore.store.files import storage_at
from actstore.store.files.s3 import S3Storage
from actstore.store.opening import MissingBlocksWarning
from actstore.store.verify import verify
from actstore.tables.build import build_table
from actstore.views.explorer import downloads
from actstore.views.explorer.page import Page
from actstore.views.explorer.page_theme import LIGHT
from actstore.views.explorer.server import Sources
from attended import prepare_store
from conftest import WriteSpec
from forked import forked
from processes import PYTHONPATH, finish, until
from stores import files_of, is_chunk, worker

pytestmark = pytest.mark.process

SECRET = "never-to-be-written-0123456789"
#: Of a captured store that tests share; not to be changed: `copied` is.
WHOLE = "whole.zarr"


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """The environment that reaches a server with a bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "researcher",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    import urllib.request

    request = urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request")
    urllib.request.urlopen(request).close()
    yield environment
    running.stop()


@pytest.fixture
def bucket(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    bucket_module._opened.cache_clear()
    store = S3Store("bucket")
    yield store
    bucket_module._opened.cache_clear()
    keys = [entry["path"] for batch in obstore.list(store) for entry in batch]
    if left := [key for key in keys if not key.startswith(f"{WHOLE}/")]:
        obstore.delete(store, left)


@pytest.fixture
def whole(bucket: S3Store, tiny_spec: Path) -> str:
    """URL of the tiny store in the bucket, captured by the first test that asks for it."""
    url = f"s3://bucket/{WHOLE}"
    if not objects(bucket, WHOLE):
        assert capture(load_spec(tiny_spec), store=url, cluster="inline", device="cpu").complete
    return url


def copied(bucket: S3Store, whole: str, name: str) -> str:
    """URL of a copy of that store, to damage."""
    assert whole.endswith(WHOLE)
    for batch in obstore.list(bucket, WHOLE):
        for entry in batch:
            obstore.copy(bucket, entry["path"], name + entry["path"].removeprefix(WHOLE))
    return f"s3://bucket/{name}"


def objects(bucket: S3Store, prefix: str) -> dict[str, bytes]:
    found = {}
    for batch in obstore.list(bucket, prefix):
        for entry in batch:
            found[entry["path"].removeprefix(f"{prefix}/")] = bytes(obstore.get(bucket, entry["path"]).bytes())
    return found


def lock_of(bucket: S3Store, prefix: str) -> bytes:
    try:
        return bytes(obstore.get(bucket, f"{prefix}.lock").bytes())
    except FileNotFoundError:
        return b""


class Requests(logging.Handler):
    """What the server was asked, as its log has it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_a_block_costs_hardly_more_requests_than_it_has_objects(
    bucket: S3Store, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_spec(
        tmp_path,
        data__patients=["patient001"],
        model__factory="actstore.models:unet_heart_8_4_4",
        model__weights="package:unet_heart_8_4_4_phantom.safetensors",
        model__layers=["*.adn.N"],
    )
    plan, todo = prepare_store(make_plan(load_spec(spec), store="s3://bucket/few.zarr", device="cpu", timing=False))
    assert len(plan.layout.layers) == 21
    assert plan.layout.capture.block_objects <= 32
    # A look at the record stands for as long as the block takes, however slow the machine is.
    monkeypatch.setattr(fence, "PATIENCE", 1e9)
    before = set(objects(bucket, "few.zarr"))
    log, requests = logging.getLogger("werkzeug"), Requests()
    log.addHandler(requests)
    log.setLevel(logging.INFO)
    try:
        with worker(plan) as compute:
            assert not compute(todo[0]).failed
    finally:
        log.removeHandler(requests)
        log.setLevel(logging.ERROR)
    written = set(objects(bucket, "few.zarr")) - before
    assert len(written) == plan.layout.capture.block_objects
    assert len(written) <= len(requests.lines) <= 1.2 * len(written), "\n".join(requests.lines)


@pytest.mark.parametrize("ring_bytes", [None, 300_000])
def test_the_same_bits_as_in_a_folder(
    bucket: S3Store,
    tiny_spec: Path,
    tiny_store: Path,
    ring_bytes: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a shard is written in several pieces from buffers that are used again."""
    expected = tiny_store
    if ring_bytes:
        monkeypatch.setattr("actstore.jobs.plan.budget.RING_BYTES", ring_bytes)
        expected = tmp_path / "folder.zarr"
        capture(load_spec(tiny_spec), store=expected, cluster="inline", device="cpu")
    url = "s3://bucket/runs/tiny.zarr"
    summary = capture(load_spec(tiny_spec), store=url, cluster="inline", device="cpu")
    assert summary.complete
    assert summary.store == url
    found = {key: content for key, content in objects(bucket, "runs/tiny.zarr").items() if is_chunk(key)}
    assert found == files_of(expected)
    assert not lock_of(bucket, "runs/tiny.zarr"), "the lease is given back"
    again = capture(load_spec(tiny_spec), store=url, cluster="inline", device="cpu")
    assert (again.done, again.skipped) == (0, 4)


def test_it_reads_as_one_in_a_folder(whole: str, tiny_store: Path) -> None:
    mine, plain = actstore.open(whole), actstore.open(tiny_store)
    assert mine.path == whole
    for name in plain.layers.index:
        np.testing.assert_array_equal(mine[name].values, plain[name].values)
        np.testing.assert_array_equal(mine.map(name, 3, 0, 1), plain.map(name, 3, 0, 1))
        for persisted in (True, False):
            a, b = (store.statistics(name, persisted=persisted).compute() for store in (mine, plain))
            assert a.identical(b)
    for table in ("dice", "cases", "top-channels", "frequency", "mad"):
        assert build_table(mine, table).equals(build_table(plain, table))
    root = zarr.open_group(storage_at(whole).zarr(), mode="r")
    np.testing.assert_array_equal(np.asarray(root["layers/L01/activation"][0]), plain["L01"].values[0])
    with_tensorstore = tensorstore.open(
        {
            "driver": "zarr3",
            "kvstore": {
                "driver": "s3",
                "bucket": "bucket",
                "path": f"{WHOLE}/layers/L01/activation/",
                "endpoint": os.environ["AWS_ENDPOINT_URL"],
                "aws_region": "us-east-1",
            },
        }
    ).result()
    np.testing.assert_array_equal(with_tensorstore[0].read().result(), plain["L01"].values[0])


def test_the_explorer_shows_it_as_one_in_a_folder(whole: str, tiny_store: Path) -> None:
    pages = [Page(Sources(location).get(), LIGHT) for location in (whole, tiny_store)]
    for changes in ({"sample": 4}, {"layer": "L02", "channel": 3}, {"tab": "channel"}, {"tab": "provenance"}):
        for page in pages:
            page.go(**changes)
        mine, plain = ([*page.inputs.row.pictures, *page.activations.row.pictures] for page in pages)
        for a, b in zip(mine, plain, strict=True):
            shown = [picture.columns("image")["image"][0] for picture in (a, b)]
            np.testing.assert_array_equal(*shown)
        assert pages[0].metrics.view.object == pages[1].metrics.view.object
        assert [page.notice.object for page in pages] == ["", ""]
    assert downloads.png(pages[0].source, pages[0].state).startswith(b"\x89PNG")
    assert f"actstore.open({whole!r})" in downloads.code(pages[0].source, pages[0].state)


def test_worker_processes_write_there_and_no_secret_is_kept(
    bucket: S3Store, write_spec: WriteSpec, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path, store__path="s3://bucket/local.zarr")
    command = ("--debug", "capture", spec, "--workers", "1")
    with forked("actstore", *command, environment={"PYTHONPATH": PYTHONPATH}) as process:
        output, errors = finish(process)
    assert process.returncode == 0, errors
    assert SECRET not in output + errors
    kept = objects(bucket, "local.zarr")
    assert len(kept) > 100
    assert not [key for key, content in kept.items() if SECRET.encode() in content]
    found = verify("s3://bucket/local.zarr")
    assert found.whole
    assert found.files == len(kept)


def test_a_stopped_capture_continues_there(bucket: S3Store, whole: str, tiny_spec: Path, tiny_store: Path) -> None:
    url = copied(bucket, whole, "part.zarr")
    layout = actstore.open(url).layout
    storage = storage_at(url)
    storage.delete([layout.capture.record.key(1), layout.capture.sharded[0].key(1)])
    with pytest.warns(MissingBlocksWarning):
        assert len(actstore.open(url).missing) == 1
    again = capture(load_spec(tiny_spec), store=url, cluster="inline", device="cpu")
    assert (again.done, again.skipped) == (1, 3)
    assert {k: v for k, v in objects(bucket, "part.zarr").items() if is_chunk(k)} == files_of(tiny_store)


def test_damage_there_is_found_and_mended(bucket: S3Store, whole: str, tiny_store: Path) -> None:
    url = copied(bucket, whole, "worn.zarr")
    layout = actstore.open(url).layout
    storage = storage_at(url)
    shard, gone = layout.capture.sharded[-1].key(2), layout.capture.sharded[1].key(0)
    content = bytearray(storage.read(shard) or b"")
    content[1000] ^= 4
    storage.write(shard, bytes(content))
    storage.delete([gone])
    with pytest.raises(StoreError, match=rf"s3://bucket/worn\.zarr/{shard} is damaged: wrong checksum of slot 0"):
        actstore.open(url)[layout.layers[-1].name].compute()
    with pytest.raises(StoreError, match=rf"s3://bucket/worn\.zarr/{gone} is missing"):
        actstore.open(url).label.compute()
    found = verify(url)
    assert [damage.key for damage in found.damage] == [gone, shard]
    repair(url, found.damage, cluster="inline", device="cpu")
    assert verify(url).whole
    assert {k: v for k, v in objects(bucket, "worn.zarr").items() if is_chunk(k)} == files_of(tiny_store)
    (storage.delete([layout.statistics.arrays[0].key(1)]))
    assert reduce_store(actstore.open(url)) == 1
    assert verify(url).whole


def test_a_second_capture_is_kept_away(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = S3Storage("bucket", "a.zarr")
    with storage.locked() as lease:
        assert lease.held
        with pytest.raises(StoreError, match=r"another job is writing to s3://bucket/a\.zarr"), storage.locked():
            pass
        assert lock_of(bucket, "a.zarr")
    with storage.locked():
        pass


def test_the_lease_of_a_killed_capture_is_taken_after_a_while(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's clock, which is put forward here."""
    now = lease_module.Lease._server_time
    storage = S3Storage("bucket", "a.zarr")
    obstore.put(bucket, "a.zarr.lock", b'{"owner": "a capture that was killed"}')
    with pytest.raises(StoreError, match="or 120 s where it was killed"), storage.locked():
        pass
    monkeypatch.setattr(lease_module.Lease, "_server_time", lambda lease: now(lease) + timedelta(seconds=121))
    with storage.locked():
        assert b"killed" not in lock_of(bucket, "a.zarr")
    assert not lock_of(bucket, "a.zarr")


def test_a_lease_is_renewed_and_its_loss_is_noticed(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEWAL", 0.05)
    storage = S3Storage("bucket", "a.zarr")
    with storage.locked() as lease:
        first = lock_of(bucket, "a.zarr")
        until(lambda: lock_of(bucket, "a.zarr") not in (b"", first), "it is renewed")
        assert lease.held
        obstore.put(bucket, "a.zarr.lock", b'{"owner": "another"}')
        until(lambda: not lease.held, "its loss is noticed")
    assert lock_of(bucket, "a.zarr"), "the other's lease is not taken away"


def test_a_capture_that_lost_its_lease_stops(bucket: S3Store, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actstore.jobs import runner

    plain = runner.run_unit

    def run_unit(task: object, block: object) -> object:
        report = plain(task, block)  # type: ignore[arg-type]
        obstore.put(bucket, "lost.zarr.lock", b'{"owner": "another"}')
        # What renews the lease ends with it.
        until(lambda: "actstore-lease" not in {thread.name for thread in threading.enumerate()}, "its loss is noticed")
        return report

    monkeypatch.setattr(lease_module, "RENEWAL", 0.05)
    monkeypatch.setattr(runner, "run_unit", run_unit)
    with pytest.raises(StoreError, match=r"another job took over s3://bucket/lost\.zarr"):
        capture(load_spec(tiny_spec), store="s3://bucket/lost.zarr", cluster="inline", device="cpu")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://me:hush-hush@bucket/a.zarr", "take them out, use s3://bucket/run.zarr, and set AWS_ACCESS_KEY_ID"),
        ("s3://me:hush/hush-hush@bucket/a.zarr", "holds credentials"),
        ("s3://bucket/a.zarr?sig=hush-hush", "holds credentials or options"),
        ("s3://bucket", "use s3://bucket/run.zarr"),
        ("s3://bucket/../a.zarr", "'..' part"),
        ("gs://bucket/a.zarr", "is none that actstore knows"),
    ],
)
def test_a_bad_url_is_one_clear_line(url: str, why: str, write_spec: WriteSpec, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as opened:
        actstore.open(url)
    with pytest.raises(SpecError) as loaded:
        load_spec(write_spec(tmp_path, store__path=url))
    assert why in str(opened.value)
    assert "hush" not in str(opened.value) + str(loaded.value)
    assert "use s3://" in str(loaded.value) or "holds credentials" in str(loaded.value)


def test_no_bucket_and_no_server_are_one_clear_line(
    bucket: S3Store, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match=r"s3://nowhere/a\.zarr does not exist"):
        actstore.open("s3://nowhere/a.zarr")
    with pytest.raises(StoreError, match=r"s3://nowhere/a\.zarr: .*check the bucket") as failed:
        capture(load_spec(tiny_spec), store="s3://nowhere/a.zarr", cluster="inline", device="cpu")
    assert SECRET not in str(failed.value)
    assert "\n" not in str(failed.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(bucket_module, "RETRIES", {"max_retries": 0})
    bucket_module._opened.cache_clear()
    with pytest.raises(StoreError, match=r"s3://bucket/a\.zarr/zarr\.json: .*check the bucket, AWS_ENDPOINT_URL"):
        actstore.open("s3://bucket/a.zarr")


def test_no_obstore_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    bucket_module.library.cache_clear()
    try:
        with pytest.raises(MissingError, match=r"pip install 'actstore\[s3\]'"):
            actstore.open("s3://bucket/a.zarr")
    finally:
        bucket_module.library.cache_clear()


def test_a_lock_of_strange_content_is_left_alone(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEWAL", 0.05)
    with S3Storage("bucket", "a.zarr").locked() as lease:
        obstore.put(bucket, "a.zarr.lock", b"[]")
        until(lambda: not lease.held, "its loss is noticed")
    assert lock_of(bucket, "a.zarr") == b"[]"


def test_a_lease_that_cannot_be_renewed_is_given_up_before_it_ends(
    bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(lease_module, "RENEWAL", 0.1)
    monkeypatch.setattr(lease_module, "EXPIRY", 1.0)
    with S3Storage("bucket", "a.zarr").locked() as lease:
        monkeypatch.setattr(lease_module.Lease, "_put", fail)
        until(lambda: not lease.held, "it is given up")
        obstore.put(bucket, "a.zarr.lock", b'{"owner": "the next"}')
    assert lock_of(bucket, "a.zarr") == b'{"owner": "the next"}'
