"""Statistics reduced while shards are read: any layout, dtype, number of shards a task, and damage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.measures.kernel import reduce_chunk
from actstore.measures.names import MEASURES, STATISTICS
from actstore.store import lazy, reader
from actstore.store.files import LocalStorage
from actstore.store.layout import ArrayLayout, activation_layout
from actstore.store.reader import Piece, reduce_groups
from actstore.store.reductions import reduce_pieces
from helpers import raise_if_dask_computes
from shards import write_shard


def layout_of(
    channels: int, space: tuple[int, ...], *, conditions: int = 3, dtype: str = "float32", blocks: int = 4
) -> ArrayLayout:
    return activation_layout(
        "a",
        dtype=dtype,
        blocks=blocks,
        slots=5,
        conditions=conditions,
        channels=channels,
        space=space,
        space_dims=("z", "y", "x")[-len(space) :],
    )


def write_blocks(root: Path, layout: ArrayLayout, samples: list[int]) -> NDArray[Any]:
    rng = np.random.default_rng(3)
    values = rng.normal(1, 3, (sum(samples), *layout.sample_shape)).astype(layout.dtype)
    first = 0
    for block, count in enumerate(samples):
        write_shard(root / layout.key(block), layout, values[first : first + count], [count])
        first += count
    return values


def expected(values: NDArray[Any], name: str) -> NDArray[np.float64]:
    space = tuple(range(3, values.ndim))
    wide = values.astype(np.float64)
    difference = wide - wide[:, :1]
    return {
        "mad": lambda: np.abs(difference).mean(space),
        "mse": lambda: (difference**2).mean(space),
        "mean": lambda: wide.mean(space),
        "max": lambda: wide.max(space),
        "std": lambda: wide[:, 0].std(tuple(a - 1 for a in space)),
    }[name]()


LAYOUTS = {
    "one chunk": layout_of(4, (9, 7)),
    "one map": layout_of(1, (1, 1)),
    "channels in chunks": layout_of(6, (300, 301)),
    "conditions in chunks": layout_of(2, (820, 830)),
    "3D": layout_of(3, (5, 9, 7)),
    "half": layout_of(4, (9, 7), dtype="float16"),
    "half, conditions in chunks": layout_of(2, (1200, 900), dtype="float16"),
    "original alone": layout_of(4, (9, 7), conditions=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("task_bytes", [1, 2**26], ids=["a sample a task", "all in one task"])
def test_fused_statistics_are_those_of_the_values(
    layout: ArrayLayout, task_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "TASK_BYTES", task_bytes)
    values = write_blocks(tmp_path, layout, [2, 1])
    with raise_if_dask_computes():
        arrays = lazy.statistics(LocalStorage(tmp_path), layout, lazy.BlockSamples(((0, 2), (1, 1))), STATISTICS)
    found = dask.compute({name: array for name, (_, array) in arrays.items()}, scheduler="threads")[0]
    (at_once,) = lazy.compute_statistics(
        LocalStorage(tmp_path), [layout], lazy.BlockSamples(((0, 2), (1, 1))), STATISTICS
    )
    for name in STATISTICS:
        assert arrays[name][1].shape == found[name].shape
        np.testing.assert_allclose(found[name], expected(values, name), rtol=1e-6, atol=1e-12)
        assert at_once[name][0] == arrays[name][0]
        np.testing.assert_array_equal(at_once[name][1], found[name])


def test_the_layouts_are_what_their_names_say() -> None:
    assert LAYOUTS["channels in chunks"].grid[:2] == (1, 6)
    assert LAYOUTS["conditions in chunks"].grid[:2] == (3, 2)
    assert LAYOUTS["half, conditions in chunks"].grid[:2] == (3, 2)


@pytest.mark.slow
@given(
    channels=st.integers(1, 5),
    side=st.integers(1, 40),
    samples=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    piece_bytes=st.sampled_from([1, 3000, 2**21]),
    names=st.lists(st.sampled_from(MEASURES), unique=True, min_size=1).map(tuple),
)
@settings(max_examples=30, deadline=None)
def test_any_cut_gives_the_same_bits(
    channels: int, side: int, samples: list[int], piece_bytes: int, names: tuple[str, ...]
) -> None:
    layout = layout_of(channels, (side, side + 1))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        values = write_blocks(Path(folder), layout, samples)
        pieces = [Piece(layout.key(b), n, 0, n) for b, n in enumerate(samples)]
        patch.setattr(reader, "CACHE_BYTES", piece_bytes)
        found = reduce_pieces(pieces, storage=LocalStorage(Path(folder)), layout=layout, names=names)
    whole = reduce_chunk(values.swapaxes(1, 2), names)
    for name, mine, reference in zip(names, found, whole, strict=True):
        if name == "std":
            assert np.isnan(mine[:, 1:]).all()
            mine = mine[:, 0]
        else:
            reference = reference.swapaxes(1, 2)
        np.testing.assert_array_equal(mine, reference, err_msg=name)


def test_no_more_than_a_few_chunks_are_in_memory(tmp_path: Path) -> None:
    layout = layout_of(6, (300, 301))
    write_blocks(tmp_path, layout, [5])
    sizes = []

    def noting(maps: NDArray[Any]) -> Any:
        sizes.append(maps.nbytes)
        return lambda: None

    groups = list(reduce_groups(LocalStorage(tmp_path), layout, [Piece(layout.key(0), 5, 0, 5)], noting))
    assert len(groups) == 5 * 6
    assert sizes == [layout.chunk_bytes], "one buffer for the whole shard"


@pytest.mark.parametrize("what", ["statistics", "activation"])
def test_graphs_are_linear_in_tasks_also_when_sent(what: str, tmp_path: Path) -> None:
    def size(blocks: int) -> tuple[int, int]:
        layout = layout_of(64, (256, 256), conditions=4, blocks=blocks)
        parts = lazy.BlockSamples(tuple((b, 5) for b in range(blocks)))
        if what == "activation":
            array = lazy.sharded(LocalStorage(tmp_path), layout, parts)
        else:
            array = lazy.statistics(LocalStorage(tmp_path), layout, parts, STATISTICS)["mad"][1]
        graph = dict(array.__dask_graph__())
        return len(graph), sum(len(cloudpickle.dumps(task)) for task in graph.values())

    (few, few_bytes), (many, many_bytes) = size(10), size(40)
    assert many == 4 * few
    assert few <= 2 * 10 * 5
    assert many_bytes < 4.5 * few_bytes


def test_damage_is_named(tmp_path: Path) -> None:
    layout = layout_of(4, (9, 7))
    write_blocks(tmp_path, layout, [2, 2])
    path = tmp_path / layout.key(1)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    array = lazy.statistics(LocalStorage(tmp_path), layout, lazy.BlockSamples(((0, 2), (1, 2))), ("mad",))["mad"][1]
    with pytest.raises(StoreError, match="wrong checksum of slot 0, inner chunk 0"):
        array.compute()


def test_conditions_split_into_chunks_of_several_are_refused() -> None:
    odd = ArrayLayout("a", ("sample", "condition", "channel", "y", "x"), "float32", 1, 1, (4, 1, 2, 2), (2, 1, 2, 2))
    with pytest.raises(ValueError, match="2 of 4 conditions"):
        reader.maps_of(np.zeros((1, *odd.grid, *odd.chunk), np.float32))


@pytest.mark.process
def test_statistics_are_the_same_on_a_cluster(tmp_path: Path) -> None:
    layout = layout_of(6, (300, 301))
    values = write_blocks(tmp_path, layout, [2, 1])
    arrays = lazy.statistics(LocalStorage(tmp_path), layout, lazy.BlockSamples(((0, 2), (1, 1))), ("mad", "std"))
    activation = lazy.sharded(LocalStorage(tmp_path), layout, lazy.BlockSamples(((0, 2), (1, 1))))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        found, again = dask.compute({name: array for name, (_, array) in arrays.items()}, activation)
    np.testing.assert_array_equal(again, values)
    for name in ("mad", "std"):
        np.testing.assert_allclose(found[name], expected(values, name), rtol=1e-6, atol=1e-12)
