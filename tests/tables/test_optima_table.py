"""The table of optima: its rows against the planted arrays, and what a store without them says."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import actstore
from actstore import Findings
from actstore.analysis.optima import STATUSES
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.jobs.runner import Workers, run
from actstore.store.files import storage_at
from actstore.store.opening import MissingBlocksWarning
from actstore.tables.build import build_table, write_csv
from actstore.tables.catalogue import Unanswerable
from actstore.tables.optima import open_optima, optima_names
from actstore.views.html_tables import html_table
from image_means import ImageMeans
from patched import patched_store
from planted_optima import PlantedOptima, plant

COLUMNS = (
    "layer,module,channel,seed,status,start,final,data_max,data_mean,data_std,above_data,patient,frame,slice,value"
)


@pytest.fixture(scope="module")
def planted(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> PlantedOptima:
    copy = Path(shutil.copytree(tiny_store, tmp_path_factory.mktemp("optima") / "tiny.zarr"))
    return plant(copy)


@pytest.fixture
def copy(planted: PlantedOptima, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planted.storage.location, tmp_path / "tiny.zarr"))


def table_of(path: Any, **options: Any) -> pd.DataFrame:
    return build_table(actstore.open(path), "optima", **options)


def test_rows_are_those_of_the_arrays(planted: PlantedOptima) -> None:
    store = actstore.open(planted.storage.location)
    table = Findings(store).table("optima")
    assert ",".join(table.columns) == COLUMNS
    at = iter(table.itertuples(index=False))
    for unit, (layer, module, channels) in enumerate(planted.layers):
        values = planted.planted(unit)
        for channel in range(channels):
            for seed in range(planted.seeds):
                row = next(at)._asdict()
                status = STATUSES[values["status"][channel, seed]]
                assert (row["layer"], row["module"], row["channel"]) == (layer, module, channel)
                assert (row["seed"], row["status"]) == (seed, status)
                for name in ("start", "final"):
                    assert row[name] == np.float32(values[name][channel, seed])
                for name in ("data_max", "data_mean", "data_std"):
                    assert row[name] == np.float32(values[name][channel])
                if status in ("live", "bounded"):
                    assert row["above_data"] == (values["final"][channel, seed] > values["data_max"][channel])
                else:
                    assert row["above_data"] is pd.NA
                sample = store.samples.iloc[values["top_sample"][channel, 0]]
                for name in ("patient", "frame", "slice"):
                    assert row[name] == sample[name]
                assert row["value"] == np.float32(values["top_value"][channel, 0])
    assert next(at, None) is None
    assert {*table["status"]} == {*STATUSES}
    assert {*table["above_data"].dropna()} == {True, False}


def test_a_bounded_channel_is_compared_at_the_size_of_the_data_only(copy: Path) -> None:
    plant(copy, "features/larger", size=(80, 96))
    same, larger = (table_of(copy, of=name).set_index("status")["above_data"] for name in ("optima", "larger"))
    assert same.loc["bounded"].notna().all()
    assert larger.loc["bounded"].isna().all()
    assert larger.loc["live"].tolist() == same.loc["live"].tolist()


def test_a_store_without_optima_says_how_to_get_some(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(Unanswerable, match=r"the store holds no optima: `actstore visualise SPEC` computes them"):
        Findings(actstore.open(tiny_store)).table("optima")
    failed = CliRunner().invoke(main, ["table", str(tiny_store), "optima"])
    assert failed.exit_code == 1
    assert "`actstore visualise SPEC` computes them" in str(failed.output) + str(failed.exception)


def test_one_of_several_is_chosen_by_name(copy: Path, tmp_path: Path) -> None:
    storage = storage_at(copy)
    run(ImageMeans.again(storage, {}), storage, Workers())  # of another job: no optima
    plant(copy, "features/small", seeds=1)
    store = actstore.open(copy)
    assert optima_names(store) == ["optima", "small"]
    with pytest.raises(StoreError, match=r"holds several optima, optima, small: choose one with `of`, or --of NAME"):
        Findings(store).table("optima")
    with pytest.raises(StoreError, match=r"no optima 'large': there are optima, small"):
        Findings(store, of="large").table("optima")
    assert Findings(store, of="small").table("optima")["seed"].unique().tolist() == [0]
    written = CliRunner().invoke(main, ["table", str(copy), "optima", "--of", "small", "-o", str(tmp_path / "o.csv")])
    assert written.exit_code == 0, written.output
    assert len(pd.read_csv(tmp_path / "o.csv")) == len(Findings(store, of="small").table("optima"))
    refused = CliRunner().invoke(main, ["table", str(copy), "mad", "--of", "small"])
    assert refused.exit_code == 2
    assert "--of does not go with mad, only with optima" in refused.output


def test_samples_that_were_not_looked_at_leave_cells_empty(copy: Path) -> None:
    plant(copy, "features/alone", samples=False)
    table = table_of(copy, of="alone")
    assert table[["data_max", "data_mean", "data_std", "above_data", "frame", "slice", "value"]].isna().all(axis=None)
    assert (table["patient"] == "").all()
    text = io.BytesIO()
    write_csv(table, text)
    assert text.getvalue().decode().splitlines()[1].endswith(",0.125,2.0,,,,,,,,")
    assert html_table(table.head(1), "empty").count("–") == 7


def test_rows_of_samples_mean_nothing_while_volumes_are_missing(copy: Path) -> None:
    """``top_sample`` counts the samples of the whole store: others would be named in their place."""
    (copy / "committed" / "c.1").unlink()
    with pytest.warns(MissingBlocksWarning):
        table = table_of(copy)
    assert (table["patient"] == "").all()
    assert table[["frame", "slice", "value"]].isna().all(axis=None)
    assert table["above_data"].notna().any()


def test_only_what_is_committed_has_rows(copy: Path) -> None:
    layers = actstore.open(copy).layers.index.tolist()
    records = copy / "features/optima/committed"
    (records / "c.0").unlink()
    assert table_of(copy)["layer"].unique().tolist() == layers[1:]
    for record in records.glob("c.*"):
        record.unlink()
    with pytest.raises(Unanswerable, match="the store holds no optima"):
        table_of(copy)


def test_patches_of_volumes_are_named(tmp_path: Path) -> None:
    store, _ = patched_store(tmp_path, (8, 16, 16))
    planted = plant(tmp_path / "patched.zarr")
    store = actstore.open(tmp_path / "patched.zarr")
    table = Findings(store).table("optima")
    assert list(table.columns) == COLUMNS.replace("slice,", "slice,patch,").split(",")
    first = planted.planted(0)["top_sample"][1, 0]
    row = table[(table["channel"] == 1) & (table["layer"] == "L01")].iloc[0]
    assert tuple(row[["patient", "frame", "slice", "patch"]]) == tuple(
        store.samples.iloc[first][["patient", "frame", "slice", "patch"]]
    )


def test_a_layer_or_channel_that_is_not_there_is_named(planted: PlantedOptima) -> None:
    optima = open_optima(actstore.open(planted.storage.location))
    layer, _, channels = planted.layers[0]
    with pytest.raises(KeyError, match=f"no optima of layer 'L99': there are {', '.join(optima.layers)}"):
        optima.channel("L99", 0)
    with pytest.raises(StoreError, match=rf"no optimum of channel 99 of {layer}: there are 0\.\.{channels - 1}"):
        optima.channel(layer, 99)


def test_a_sample_beyond_the_store_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = actstore.open(copy)
    optima = open_optima(store)
    wrong = optima.group.assign(top_sample=optima.group["top_sample"] + len(store.samples))
    monkeypatch.setattr(type(store), "group", lambda *_: wrong)
    with pytest.raises(StoreError, match=r"names sample \d+, and the store has 0\.\.\d+: compute the optima again"):
        table_of(copy)
