"""A store that a web server on loopback hands out: the same values, read only, and one line on each way to fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import actstore
from actstore.errors import SpecError, StoreError
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.reduce import reduce_store
from actstore.spec.spec import load_spec
from actstore.store.files import http, storage_at
from actstore.store.verify import verify
from actstore.tables.build import build_table
from conftest import WriteSpec
from web import Handler, web_server

SECRET = "never-to-be-written"


@pytest.fixture
def address(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "mode", "")
    monkeypatch.setattr(http, "TIMEOUT", 0.2)
    http._opened.cache_clear()
    with web_server(tiny_store.parent) as url:
        yield f"{url}/{tiny_store.name}"
    http._opened.cache_clear()


def test_it_gives_what_the_folder_gives(address: str, tiny_store: Path) -> None:
    there, here = actstore.open(address), actstore.open(tiny_store)
    assert there.path == address
    np.testing.assert_array_equal(there["L01"].values, here["L01"].values)
    sample, condition = map(int, np.argwhere(here.applicable.values[:, 1:])[0])
    np.testing.assert_array_equal(there.map("L02", sample, condition + 1, 1), here.map("L02", sample, condition + 1, 1))
    for name in ("frequency", "dice-mean"):
        pd.testing.assert_frame_equal(build_table(there, name), build_table(here, name))
    for key in ("zarr.json", "committed/zarr.json"):
        assert storage_at(address).read(key) == (tiny_store / key).read_bytes()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("forbidden", "the server refuses it: ask for access, or copy the store"),
        ("whole", "the server sends whole files only: use one that answers range requests, or copy the store"),
        ("cut", "the answer was cut off; check the address and the server, then run again"),
        ("slow", "no answer within 0.2 s; check the address and the server, then run again"),
    ],
)
def test_a_server_that_fails_is_named_in_one_line(
    address: str, mode: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = actstore.open(address)
    monkeypatch.setattr(Handler, "mode", mode)
    with pytest.raises(StoreError) as raised:
        store["L01"].isel(sample=0).compute()
    assert re.fullmatch(rf"{re.escape(address)}/layers/L01/activation/\S+: {re.escape(message)}", str(raised.value))
    if mode != "whole":
        with pytest.raises(StoreError, match=re.escape(f"{address}/zarr.json: {message}")):
            actstore.open(address)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("{address}x", "does not exist or is empty"),
        ("http://127.0.0.1:9/run.zarr", r"run\.zarr/zarr\.json: the server cannot be reached"),
        ("https://host", "names no store: use https://host/run.zarr"),
        ("https://host:x/run.zarr", "cannot be read"),
        (f"https://me:{SECRET}@host/run.zarr", "holds credentials or options"),
        (f"https://host/run.zarr?token={SECRET}", "holds credentials or options"),
    ],
)
def test_an_address_of_no_store_is_named(address: str, at: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as raised:
        actstore.open(at.format(address=address))
    assert SECRET not in str(raised.value)


def test_what_writes_refuses_an_address(address: str, tiny_spec: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    refused = f"{re.escape(address)} can only be read: write to a folder or to s3://bucket/run.zarr"
    with pytest.raises(StoreError, match=refused):
        make_plan(load_spec(tiny_spec), store=address)
    with pytest.raises(SpecError, match="can only be read"):
        load_spec(write_spec(tmp_path, store__path=address))
    with pytest.raises(StoreError, match="cannot be listed over HTTP; copy the store"):
        verify(address)
    with pytest.raises(StoreError, match=refused):
        storage_at(address).locked()
    assert reduce_store(actstore.open(address)) == 0, "all persisted already"
