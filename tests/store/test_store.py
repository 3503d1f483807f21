"""A captured store, as anybody's tools read it and as ``actstore.open`` shows it."""

from __future__ import annotations

import html
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import tensorstore
import torch
import xarray as xr
import zarr
from numpy.typing import NDArray
from torch import nn

import actstore
from actstore import analysis
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.jobs.job import Report
from actstore.jobs.reduce import reduce_store
from actstore.measures.names import STATISTICS
from actstore.spec.spec import load_spec
from actstore.store import lazy, reader
from actstore.store.commits import write_record
from actstore.store.files import LocalStorage
from actstore.store.layout import ArrayLayout
from actstore.store.opening import MissingBlocksWarning
from actstore.store.store import Store
from conftest import WriteSpec
from helpers import raise_if_dask_computes

DEPTH = 12


def deep() -> nn.Module:
    """More layers than one digit counts, so that their names and their order are told apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pairs = [(nn.Conv2d(1 if i == 0 else 2, 2, 3, padding=1), nn.InstanceNorm2d(2)) for i in range(DEPTH)]
        return nn.Sequential(*(module for pair in reversed(pairs[1:]) for module in reversed(pair)), nn.Conv2d(2, 4, 1))


class Widened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = deep()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.body(x.repeat(1, 2, 1, 1))
        return result


@pytest.fixture(scope="session")
def deep_path(write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks of 23 layers on 32 x 32. Not to be changed: ``deep_copy`` is."""
    spec = write_spec(
        tmp_path_factory.mktemp("deep"),
        data__preprocess__size=[32, 32],
        model__factory="test_store:Widened",
        model__layers=["type:InstanceNorm2d", "body.22"],
    )
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return summary.store


@pytest.fixture
def deep_copy(deep_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(deep_path, tmp_path / "deep.zarr"))


@pytest.fixture
def store(deep_path: Path) -> Store:
    return actstore.open(deep_path)


def forget_statistics(path: Path, *blocks: int) -> None:
    """As a store is whose blocks were captured and not reduced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingBlocksWarning)
        layout = actstore.open(path).layout
    for block in blocks or range(layout.blocks):
        for small in (layout.statistics.record, *layout.statistics.arrays):
            (path / small.key(block)).unlink(missing_ok=True)


def mine(store: Store) -> dict[str, xr.DataArray]:
    """Every array of the store by its path, as actstore shows it."""
    found = {
        "applicable": store.applicable,
        "confusion": store.confusion,
        "inputs/image": store.image,
        "inputs/label": store.label,
        "outputs/prediction": store.prediction,
    }
    return found | {f"layers/{name}/activation": store[name] for name in store.layers.index}


def shown_slots(store: Store) -> NDArray[np.intp]:
    """Slots of the store's arrays that ``actstore.open`` shows."""
    root = zarr.open_group(store.path, mode="r")
    valid: Any = root["valid"]
    return np.flatnonzero(np.asarray(valid[...]) & np.repeat(store.committed, store.layout.slots))


def same(found: Any, expected: Any) -> bool:
    found, expected = np.asarray(found), np.asarray(expected)
    return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")


def test_volumes_differ_so_that_some_slots_are_unused(store: Store) -> None:
    counts = [n for _, n in store.block_samples]
    assert store.layout.slots == max(counts)
    assert sum(counts) == len(store.samples)


def test_zarr_and_tensorstore_read_every_array(store: Store) -> None:
    slots = shown_slots(store)
    for path, array in mine(store).items():
        plain: Any = zarr.open_array(store.path / path, mode="r")
        assert same(plain[...][slots], array.values), path
        other = tensorstore.open(
            {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store.path / path)}}
        ).result()
        assert same(other[...].read().result()[slots], array.values), path
        assert plain.metadata.dimension_names == array.dims


def test_xarray_opens_every_group(store: Store) -> None:
    slots = shown_slots(store)
    for path, array in mine(store).items():
        group, _, name = path.rpartition("/")
        with xr.open_zarr(store.path, group=group or None, chunks=None) as dataset:
            assert dataset[name].dims == array.dims
            assert same(dataset[name].values[slots], array.values), path


def test_a_notebook_completes_layers_and_shows_what_is_there(store: Store) -> None:
    assert store._ipython_key_completions_() == list(store.layers.index)
    shown = store._repr_html_()
    for text in (*store.samples["patient"], *store.conditions.index, *store.layers["module"], *store.layers.index):
        assert html.escape(text) in shown
    assert f"{store.layout.blocks} of {store.layout.blocks} volumes committed" in shown
    assert "No volume is missing" in shown
    assert "<script" not in shown


def test_a_notebook_shows_what_is_missing(deep_copy: Path) -> None:
    before = actstore.open(deep_copy)
    lost = before.attributes["blocks"][1]
    (deep_copy / before.layout.capture.record.key(1)).unlink()
    with pytest.warns(MissingBlocksWarning):
        shown = actstore.open(deep_copy)._repr_html_()
    assert f"<b>1 missing</b>: {html.escape(lost)}" in shown
    assert "<details open><summary>3 of 4 volumes committed" in shown


def test_the_package_lists_what_is_public() -> None:
    names = {"Findings", "Store", "capture", "explain", "intervene", "load_spec", "open", "visualise"}
    assert set(dir(actstore)) == names | {"__version__", "analysis", "views"}
    assert all(getattr(actstore, name) is not None for name in dir(actstore))


def test_xarray_opens_the_tree(store: Store) -> None:
    slots = shown_slots(store)
    with xr.open_datatree(store.path, engine="zarr") as tree:
        for path, array in mine(store).items():
            assert same(tree[path].values[slots], array.values), path
        assert {"patient", "frame", "slice", "valid", "transform", "target", "strength"} <= set(tree.coords)
        assert tree["patient"].values[slots].tolist() == store.samples["patient"].tolist()
        assert tree["condition"].values.tolist() == store.conditions.index.tolist()
        unused = np.setdiff1d(np.arange(tree.sizes["sample"]), slots)
        assert np.isnan(tree["layers/L01/activation"].values[unused]).all()
        assert not tree["applicable"].values[unused].any()


def test_the_tree_is_in_network_order_with_coordinates(store: Store) -> None:
    names = [layer.name for layer in store.layout.layers]
    assert len(names) == DEPTH
    modules = [layer.module for layer in store.layout.layers]
    assert modules != sorted(modules), "the order of the alphabet is another"
    assert list(store.tree["layers"].children) == names
    assert list(store.tree["statistics"].children) == names
    assert [str(store.tree[f"layers/{name}/activation"].coords["module"].values) for name in names] == modules
    assert store.layers["module"].tolist() == modules
    for node in store.tree.subtree:
        for array in node.data_vars.values():
            assert {"patient", "frame", "slice", "phase", "group", "block"} <= set(array.coords), node.path
            if "condition" in array.dims:
                assert {"condition", "transform", "target", "strength"} <= set(array.coords), node.path
    assert store.tree["layers/L02/activation"].equals(store["L02"])


def test_tables_of_layers_samples_and_conditions(store: Store) -> None:
    assert store.layers.columns.tolist() == ["module", "type", "channels", "size", "bytes"]
    assert store.layers.loc["L01"].tolist()[:4] == ["body.0", "InstanceNorm2d", 2, (32, 32)]
    assert {"patient", "frame", "slice", "phase", "group", "block", "height", "width"} <= set(store.samples.columns)
    assert store.samples["patient"].unique().tolist() == ["patient001", "patient002"]
    assert store.samples["phase"].unique().tolist() == ["ED", "ES"]
    for _, own in store.samples.groupby("block"):
        assert own["slice"].tolist() == list(range(len(own)))
        assert own["depth"].unique().tolist() == [len(own)]
    assert store.conditions.index.tolist() == ["original", "brightness(LV, 0.1)", "brightness(RV, 0.1)"]
    assert store.conditions["target"].tolist() == ["", "LV", "RV"]
    assert store.conditions["region"].tolist() == ["", "target", "target"]
    assert np.isnan(store.conditions["strength"].iloc[0])
    assert store.conditions["strength"].tolist()[1:] == [0.1, 0.1]
    assert repr(store).endswith(f"4 blocks, {len(store.samples)} samples, 3 conditions, {DEPTH} layers>")


@pytest.mark.parametrize("name", ["patient", "frame", "slice", "phase", "group", "block", "height", "spacing_y"])
def test_any_sample_coordinate_selects(store: Store, name: str) -> None:
    activation = store["L03"]
    value = activation.coords[name].values[-1]
    wanted = np.flatnonzero(store.samples[name].to_numpy() == value)
    expected = activation.values[wanted]
    assert same(activation.isel(sample=activation[name] == value).values, expected)
    assert same(activation.set_xindex(name).sel({name: value}).values, expected)
    assert same(activation.where(activation[name] == value, drop=True).values, expected)


@pytest.mark.parametrize(("name", "value"), [("target", "RV"), ("transform", "brightness"), ("strength", 0.1)])
def test_any_condition_coordinate_selects(store: Store, name: str, value: Any) -> None:
    activation = store["L03"]
    wanted = np.flatnonzero(store.conditions[name].to_numpy() == value)
    assert same(activation.isel(condition=activation[name] == value).values, activation.values[:, wanted])
    one = activation.sel(condition="brightness(RV, 0.1)")
    assert same(one.values, activation.values[:, 2])
    assert str(one.coords["target"].values) == "RV"


@pytest.mark.slow
@pytest.mark.parametrize("missing", [[1], [0, 3], [0, 1, 2, 3]], ids=str)
def test_uncommitted_blocks_are_hidden_and_counted(deep_copy: Path, deep_path: Path, missing: list[int]) -> None:
    whole = actstore.open(deep_path)
    for block in missing:
        (deep_copy / whole.layout.capture.record.key(block)).unlink()
    with pytest.warns(MissingBlocksWarning, match=f"{len(missing)} of 4 volumes are missing") as caught:
        store = actstore.open(deep_copy)
    assert caught[0].filename == __file__, "the warning points at the caller"
    assert store.missing == [whole.attributes["blocks"][block] for block in missing]
    kept = ~np.isin(whole.samples["block"].to_numpy(), missing)
    pd.testing.assert_frame_equal(store.samples, whole.samples[kept].reset_index(drop=True).rename_axis("sample"))
    for path, array in mine(store).items():
        assert same(array.values, mine(whole)[path].values[kept]), path
    assert analysis.mad(store["L01"]).values.shape == (kept.sum(), 3, 2)
    assert store.tree["layers/L12/activation"].sizes["sample"] == kept.sum()
    for name in STATISTICS:
        assert same(store.statistics("L02")[name].values, whole.statistics("L02")[name].values[kept])


def test_files_of_an_uncommitted_block_prove_nothing(deep_copy: Path) -> None:
    """Whatever lies there, damaged or not, is not read before its block is committed."""
    layout = actstore.open(deep_copy).layout
    (deep_copy / layout.capture.record.key(2)).unlink()
    (deep_copy / layout.capture.sharded[-1].key(2)).write_bytes(b"torn")
    (deep_copy / layout.confusion.key(2)).write_bytes(b"torn")
    with pytest.warns(MissingBlocksWarning):
        store = actstore.open(deep_copy)
    for array in mine(store).values():
        array.compute()


def test_a_damaged_shard_is_named_by_the_reduction_that_meets_it(deep_copy: Path) -> None:
    forget_statistics(deep_copy)
    store = actstore.open(deep_copy)
    path = deep_copy / store.layout.activation(store.layout.layers[4]).key(3)
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    analysis.mad(store["L04"]).compute()
    with pytest.raises(StoreError, match=r"L05/activation/c\.3\..* wrong checksum of slot 0, inner chunk 0"):
        analysis.mad(store["L05"]).compute()
    with pytest.raises(StoreError, match=r"L05/activation/c\.3\."):
        reduce_store(store)
    assert not (deep_copy / store.layout.statistics.record.key(3)).exists()


def test_a_missing_file_of_a_committed_block_is_named(deep_copy: Path) -> None:
    store = actstore.open(deep_copy)
    (deep_copy / store.layout.capture.sharded[-1].key(1)).unlink()
    (deep_copy / store.layout.confusion.key(0)).unlink()
    with pytest.raises(StoreError, match=r"L12/activation/c\.1\..* is missing from a committed block"):
        store["L12"].compute()
    with pytest.raises(StoreError, match=r"confusion/c\.0\..* is missing from a committed block"):
        store.confusion.compute()


def test_a_commit_record_must_be_whole_and_of_this_run(deep_copy: Path) -> None:
    record = deep_copy / actstore.open(deep_copy).layout.capture.record.key(1)
    content = record.read_bytes()
    layout = actstore.open(deep_copy).layout
    record.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=r"committed/c\.1 is damaged"):
        actstore.open(deep_copy)
    write_record(LocalStorage(deep_copy), layout.capture.record, 1, 12345)
    with pytest.raises(StoreError, match=r"committed/c\.1 was committed by another run .*fingerprint 0000000000003039"):
        actstore.open(deep_copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist or is empty: give the path of an actstore store"),
        ("", "is not an actstore store"),
        ("[]", "is not an actstore store"),
        ('{"attributes": {"schema": 1}}', "is not an actstore store"),
        ('{"zarr_format": 3, "node_type": "group", "attributes": {}}', "is not an actstore store"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.zarr"
    if content is not None:
        path.mkdir()
        (path / "zarr.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        actstore.open(path)


def test_a_file_or_empty_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist or is empty"):
        actstore.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is not an actstore store"):
        actstore.open(tmp_path / "file")


def test_a_newer_schema_is_refused(deep_copy: Path) -> None:
    path = deep_copy / "zarr.json"
    metadata = json.loads(path.read_text())
    metadata["attributes"]["schema"] = 99
    path.write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="has schema 99, this actstore reads 2 to 4: install a newer actstore"):
        actstore.open(deep_copy)


def test_an_unknown_layer_names_those_there_are(store: Store) -> None:
    with pytest.raises(KeyError, match="no layer 'L99': there are L01 … L12"):
        store["L99"]
    with pytest.raises(KeyError, match="no layer 'L99'"):
        store.statistics("L99")


def expect_statistics(store: Store, layer: str) -> None:
    """What is read is what is computed, up to the order of sums, and what NumPy computes in double precision."""
    assert store.reduced
    lazily, read = analysis.statistics(store[layer], STATISTICS), store.statistics(layer)
    fused = store.statistics(layer, persisted=False)
    assert set(read) == set(fused) == set(STATISTICS)
    for statistic in STATISTICS:
        xr.testing.assert_allclose(fused[statistic].compute(), lazily[statistic].compute(), rtol=1e-12, atol=1e-15)
        assert read[statistic].dims == lazily[statistic].dims
        assert read[statistic].dtype == np.float64
        np.testing.assert_allclose(read[statistic].values, lazily[statistic].values, rtol=1e-12, atol=1e-15)
        assert set(lazily[statistic].coords) == set(read[statistic].coords)
    activation = store[layer].values.astype(np.float64)
    change = activation - activation[:, :1]
    expected = {
        "mad": np.abs(change).mean((3, 4)),
        "mse": np.square(change).mean((3, 4)),
        "mean": activation.mean((3, 4)),
        "max": activation.max((3, 4)),
        "std": activation[:, 0].std((2, 3)),
    }
    for statistic, values in expected.items():
        np.testing.assert_allclose(read[statistic].values, values, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_capture_persists_what_is_computed_lazily(store: Store) -> None:
    assert reduce_store(store) == 0
    for layer in store.layers.index:
        expect_statistics(store, layer)


def test_reduce_persists_what_is_computed_lazily(deep_copy: Path, deep_path: Path) -> None:
    forget_statistics(deep_copy)
    store = actstore.open(deep_copy)
    assert not store.reduced
    progress: list[tuple[Report, int, int]] = []
    assert reduce_store(store, progress=lambda *seen: progress.append(seen)) == 4
    assert sorted(report.name for report, _, _ in progress) == store.attributes["blocks"]
    assert [seen[1:] for seen in progress] == [(i + 1, 4) for i in range(4)]
    again = actstore.open(deep_copy)
    for layer in ("L01", "L12"):
        expect_statistics(again, layer)
    assert reduce_store(again) == 0
    written = [path for path in (deep_path / "statistics").rglob("c.*") if path.is_file()]
    assert len(written) == 4 * 2 + 3, "two files a block, three coordinates"
    for path in written:
        assert (deep_copy / path.relative_to(deep_path)).read_bytes() == path.read_bytes(), path


def test_plain_tools_read_persisted_statistics(deep_copy: Path) -> None:
    store = actstore.open(deep_copy)
    slots = shown_slots(store)
    found = store.statistics("L07")
    with xr.open_zarr(deep_copy, group="statistics", chunks=None) as dataset:
        plain = dataset["value"].isel(sample=slots).swap_dims(statistic="statistic").sel(statistic=list(STATISTICS))
        of_layer = plain.isel(layer_channel=(plain["layer"] == "L07").values)
        assert of_layer["channel"].values.tolist() == found["channel"].values.tolist()
        for name in STATISTICS:
            values = of_layer.sel(statistic=name).values
            assert same(values[:, 0] if name == "std" else values, found[name].values)
    with xr.open_datatree(deep_copy, engine="zarr") as tree:
        mad = tree["statistics/value"].values[slots, 0]
        assert same(mad[..., (plain["layer"] == "L07").values], found["mad"].values)


def test_reduce_computes_only_blocks_without_statistics(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path, data__preprocess__size=[32, 32]))
    path = capture(spec, cluster="inline", device="cpu").store
    layout = actstore.open(path).layout
    forget_statistics(path)
    for block in (1, 2):
        (path / layout.capture.record.key(block)).unlink()
    with pytest.warns(MissingBlocksWarning):
        assert reduce_store(actstore.open(path)) == 2
    again = capture(spec, cluster="inline", device="cpu")
    assert (again.done, again.skipped) == (2, 2)
    forget_statistics(path, 1, 2)
    grown = actstore.open(path)
    assert not grown.reduced, "half of it would be a trap"
    opened: set[str] = set()
    plain = reader.ShardReader.__init__

    def spy(self: Any, storage: LocalStorage, key: str, layout: ArrayLayout, samples: int) -> None:
        opened.add(key.rpartition("/")[2].split(".")[1])
        plain(self, storage, key, layout, samples)

    monkeypatch.setattr(reader.ShardReader, "__init__", spy)
    assert reduce_store(grown) == 2
    assert opened == {"1", "2"}
    expect_statistics(actstore.open(path), "L01")


def test_a_recomputed_block_has_statistics_of_its_own(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, data__preprocess__size=[32, 32], data__patients=["patient001"]))
    path = capture(spec, cluster="inline", device="cpu").store
    layout = actstore.open(path).layout
    mad = path / layout.statistics.arrays[0].key(0)
    before = mad.read_bytes()
    mad.write_bytes(before[::-1])
    (path / layout.capture.record.key(0)).unlink()
    capture(spec, cluster="inline", device="cpu")
    assert mad.read_bytes() == before
    assert actstore.open(path).reduced


@pytest.fixture
def no_shard_is_opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(self: Any, path: Path, *args: Any) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(reader.ShardReader, "__init__", refuse)
    return


def build_everything(store: Store) -> list[Any]:
    """Every reduction of the library, as a notebook would write them down."""
    activation = store["L05"]
    statistics = store.statistics("L05")
    mad = analysis.mad(activation)
    top = analysis.top_channels(mad, 2, applicable=store.applicable)
    return [
        mad,
        analysis.mse(activation),
        statistics["std"],
        top,
        analysis.channel_frequency(top, by="patient"),
        analysis.dice(store.confusion, applicable=store.applicable),
        analysis.jaccard(store.confusion),
        analysis.mean_dice(store.confusion),
        store.cases,
        store.image.mean("sample"),
        activation.isel(sample=slice(0, 3)).max(("y", "x")),
        store.tree,
        store.layers,
        store.samples,
        store.conditions,
        repr(store) + repr(activation) + activation._repr_html_(),
    ]


@pytest.mark.usefixtures("no_shard_is_opened")
@pytest.mark.parametrize("reduced", [True, False], ids=["reduced", "not reduced"])
def test_opening_and_building_computes_nothing(deep_copy: Path, reduced: bool) -> None:
    if not reduced:
        forget_statistics(deep_copy)
    with raise_if_dask_computes():
        store = actstore.open(deep_copy)
        assert store.reduced == reduced
        for built in build_everything(store):
            if isinstance(built, xr.DataArray):
                assert built.chunks is not None
        arrays = [array for node in store.tree.subtree for array in node.data_vars.values()]
        assert all(array.chunks is not None for array in arrays)


def test_a_reduction_reads_its_own_layer_alone(deep_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    plain = reader.ShardReader.__init__

    def spy(self: Any, storage: LocalStorage, key: str, layout: ArrayLayout, samples: int) -> None:
        opened.append(layout.path)
        plain(self, storage, key, layout, samples)

    monkeypatch.setattr(reader.ShardReader, "__init__", spy)
    store = actstore.open(deep_path)
    array = store.layout.activation(store.layout.layers[4])
    monkeypatch.setattr(lazy, "TASK_BYTES", array.sample_stride * store.layout.slots)
    mad = analysis.mad(store["L05"])
    mad.isel(sample=0).compute()
    assert opened == ["layers/L05/activation"], "one sample needs one block"
    opened.clear()
    mad.compute()
    assert opened == ["layers/L05/activation"] * 4


def count_tasks(array: xr.DataArray) -> tuple[int, int]:
    """Tasks as built, and after dask's optimization."""
    (optimized,) = dask.optimize(array.data)  # type: ignore[attr-defined, no-untyped-call]
    return len(array.data.__dask_graph__()), len(optimized.__dask_graph__())


@pytest.mark.parametrize("blocks", [3, pytest.param(300, marks=pytest.mark.slow)])
def test_graphs_grow_with_blocks_alone(tmp_path: Path, blocks: int) -> None:
    """A layer of many inner chunks: 10 samples of 64 channels of 256 x 256 in a block, 32 chunks a sample."""
    layout = ArrayLayout(
        "a", ("sample", "condition", "channel", "y", "x"), "float32", blocks, 10, (4, 64, 256, 256), (4, 2, 256, 256)
    )
    data = lazy.sharded(LocalStorage(tmp_path), layout, lazy.BlockSamples(tuple((b, 10) for b in range(blocks))))
    activation = xr.DataArray(data, dims=layout.dims, coords={"condition": ["original", "a", "b", "c"]})
    total = blocks * 10 * layout.sample_stride
    assert data.npartitions <= 2 * total / lazy.TASK_BYTES + 1, "tasks are large, however small an inner chunk is"
    built, optimized = count_tasks(analysis.mad(activation))
    assert optimized <= 2 * data.npartitions
    assert built <= 8 * data.npartitions


def test_statistics_that_are_not_there_are_refused(deep_copy: Path) -> None:
    forget_statistics(deep_copy, 1)
    store = actstore.open(deep_copy)
    with pytest.raises(StoreError, match="run `actstore reduce"):
        store.statistics("L05", persisted=True)
    with pytest.raises(StoreError, match="unknown statistic 'msd': choose from mad, mse, mean_difference, cosine"):
        store.statistics("L05", ["mad", "msd"])
    assert set(store.statistics("L05", ["std"])) == {"std"}


def test_small_blocks_share_a_task(store: Store) -> None:
    """At most a task a block, whatever the number of layers, channels and conditions."""
    for layer in store.layers.index:
        assert store[layer].data.npartitions <= len(store.block_samples)


@pytest.mark.parametrize(("valid", "channels"), [(7, 64), (1, 4), (3, 96)])
def test_lazy_cuts_cover_every_sample_and_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: int, channels: int
) -> None:
    from shards import random_bits, write_shard

    monkeypatch.setattr(lazy, "TASK_BYTES", 20_000)
    layout = ArrayLayout(
        "a", ("sample", "condition", "channel", "y", "x"), "float32", 3, 8, (2, channels, 9, 11), (2, 4, 9, 11)
    )
    values = random_bits(np.random.default_rng(0), (2 * valid, *layout.sample_shape), "float32").copy()
    values = np.nan_to_num(values)
    for block, content in ((0, values[:valid]), (2, values[valid:])):
        write_shard(tmp_path / layout.key(block), layout, content, [valid])
    found = lazy.sharded(LocalStorage(tmp_path), layout, lazy.BlockSamples(((0, valid), (2, valid))))
    assert max(np.prod(chunk) for chunk in zip(*[(max(c),) for c in found.chunks], strict=True)) * 4 <= 20_000 + 1000
    assert np.array_equal(found.compute(), values)


def test_an_empty_store_stays_usable(deep_copy: Path) -> None:
    layout = actstore.open(deep_copy).layout
    for block in range(4):
        (deep_copy / layout.capture.record.key(block)).unlink()
    with pytest.warns(MissingBlocksWarning, match="4 of 4"):
        store = actstore.open(deep_copy)
    assert reduce_store(store) == 0
    for array in (*mine(store).values(), store.cases, analysis.mad(store["L01"]), analysis.dice(store.confusion)):
        assert array.compute().sizes["sample"] == 0
    assert store.tree["layers/L12"].sizes["sample"] == len(store.samples) == 0


def test_opening_warns_of_nothing_when_complete(deep_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert actstore.open(deep_path).missing == []
        assert actstore.open(str(deep_path)).missing == []


def test_a_store_pickles(store: Store) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(store["L05"]))
    assert again.equals(store["L05"])


def test_one_map(deep_path: Path) -> None:
    store = actstore.open(deep_path)
    rng = np.random.default_rng(0)
    for layer in ("L01", "L05", "L12"):
        whole = store[layer].values
        for _ in range(5):
            at = [int(rng.integers(n)) for n in whole.shape[:3]]
            found = store.map(layer, *at)
            np.testing.assert_array_equal(found, whole[tuple(at)])
            by_name = store.map(layer, at[0], store.conditions.index[at[1]], at[2])
            np.testing.assert_array_equal(by_name, found)
    with pytest.raises(KeyError, match="no condition 'dark'"):
        store.map("L01", 0, "dark", 0)
    with pytest.raises(KeyError, match="no layer 'L99'"):
        store.map("L99", 0, 0, 0)
    with pytest.raises(IndexError, match="sample -1 is outside"):
        store.map("L01", -1, 0, 0)
    with pytest.raises(IndexError, match="channel 999 is outside"):
        store.map("L01", 0, 0, 999)
