"""Times statistics of all layers of a stored run, compared with reading the same bytes and with other readers.

UNetHeart 8-4-4, phantom volumes, 21 layers in float32, two threads. Then one channel map, looked up at random.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import tensorstore
import xarray as xr
from common import interleave, parser, phantom_spec, require_free, show

from actstore import analysis
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.measures.names import STATISTICS
from actstore.store import pool
from actstore.store.opening import open_store
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.units import human_bytes

THREADS = 2


def shards(store: Store) -> list[Path]:
    arrays = [store.layout.activation(layer) for layer in store.layout.layers]
    return [store.path / array.key(block) for array in arrays for block, _ in store.block_samples]


def plain_read(files: list[Path]) -> None:
    """Read every byte with two threads, each into one reused buffer."""

    def read(part: list[Path]) -> None:
        buffer = pool.take(max(path.stat().st_size for path in part))
        for path in part:
            with open(path, "rb", buffering=0) as file:
                file.readinto(buffer)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(read, [files[i::THREADS] for i in range(THREADS)]))


def fused(store: Store, names: tuple[str, ...]) -> object:
    """``names`` of every layer, reduced while reading shards, as tables ask for them; builds new graphs."""
    return store.compute_statistics(names, persisted=False)


def layer_by_layer(store: Store) -> object:
    """All statistics of every layer, each lazy, computed at once."""
    return dask.compute(*(store.statistics(layer, STATISTICS, persisted=False) for layer in store.layers.index))


def of_arrays(store: Store) -> object:
    """MAD and MSE from the lazy activations, as for any xarray object."""
    return dask.compute(*(analysis.statistics(store[name]) for name in store.layers.index))


def read_arrays(store: Store) -> None:
    """Read every file into a new array with `np.fromfile`; one thread."""
    for path in shards(store):
        np.fromfile(path, np.uint8)


def with_tensorstore(store: Store) -> None:
    """Read only, block after block, with tensorstore's default threads."""
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
    for layer in store.layout.layers:
        array = store.layout.activation(layer)
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store.path / array.path)}}
        opened = tensorstore.open(spec, context=context).result()
        for block, samples in store.block_samples:
            opened[block * array.slots : block * array.slots + samples].read().result()


def with_xarray(store: Store) -> None:
    """The obvious xarray expressions over zarr-python, one dask chunk per block."""
    results: list[Any] = []
    for layer in store.layout.layers:
        array = store.layout.activation(layer)
        a = xr.open_zarr(store.path, group=f"layers/{layer.name}", chunks={"sample": array.slots})["activation"]
        difference = a - a.isel(condition=0)
        results += [abs(difference).mean(("y", "x")), (difference**2).mean(("y", "x"))]
    dask.compute(*results)


def map_milliseconds(path: Path, looks: int) -> float:
    """Median time to read one map of a random layer, sample, condition and channel from an open store."""
    rng = np.random.default_rng(0)
    taken = []
    store = open_store(path)
    for _ in range(looks):
        layer = store.layout.layers[rng.integers(len(store.layout.layers))]
        at = [int(rng.integers(n)) for n in (len(store.samples), store.layout.conditions, layer.channels)]
        start = time.perf_counter()
        store.map(layer.name, *at)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def main() -> None:
    arguments = parser(__doc__, runs=5, patients=10).parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        spec = phantom_spec(Path(folder), patients=arguments.patients)
        free = require_free(folder, make_plan(spec, timing=False).bytes)
        summary = capture(spec)
        store = open_store(summary.store)
        files = shards(store)
        size = sum(path.stat().st_size for path in files)
        candidates: dict[str, Callable[[], object]] = {
            "plain read, two threads, buffers reused": partial(plain_read, files),
            "plain read, np.fromfile": partial(read_arrays, store),
            f"all lazy statistics ({', '.join(STATISTICS)})": partial(fused, store, STATISTICS),
            "the same, from a lazy dataset of each layer": partial(layer_by_layer, store),
            "lazy mad, mse, mean, std": partial(fused, store, ("mad", "mse", "mean", "std")),
            "lazy mad, mse": partial(fused, store, ("mad", "mse")),
            "analysis.statistics of lazy arrays, mad, mse": partial(of_arrays, store),
            "actstore verify, images too": partial(verify, summary.store),
            "tensorstore, read only": partial(with_tensorstore, store),
            "xarray over zarr-python": partial(with_xarray, store),
        }
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            seconds = interleave(candidates, runs=arguments.runs)
        base = "plain read, two threads, buffers reused"
        show("Reductions", seconds, base=base, note=f"{human_bytes(size)}, {human_bytes(free)} free before")
        print(f"\none channel map: median {map_milliseconds(summary.store, 300):.2f} ms")


if __name__ == "__main__":
    main()
