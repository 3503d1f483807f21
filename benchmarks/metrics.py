"""Times all metrics of all layers of a stored run, compared with scikit-image and NumPy over the same maps.

UNetHeart 8-4-4, phantom volumes, 21 layers in float32, the page cache warm; one thread, and two.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import dask
import numpy as np
from common import interleave, parser, phantom_spec, require_free, show
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.measures.names import MEASURES, STATISTICS
from actstore.store.opening import open_store
from actstore.store.store import Store
from actstore.units import human_bytes


def lazily(store: Store, names: tuple[str, ...], threads: int) -> list[NDArray[np.float64]]:
    """``names`` of every layer, reduced while reading shards."""
    lazy = [store.statistics(layer, names, persisted=False) for layer in store.layers.index]
    with dask.config.set(scheduler="threads", num_workers=threads):
        computed = dask.compute(*lazy)
    return [data[name].values for data in computed for name in names]


def with_scikit_image(store: Store, metric: str) -> list[NDArray[np.float64]]:
    """The same with scikit-image, map by map; one thread."""
    results = []
    for layer in store.layers.index:
        values = store[layer].values
        found = np.full(values.shape[:3], np.nan)
        if metric == "ssim":
            low, high = values.min((3, 4), keepdims=True), values.max((3, 4), keepdims=True)
            values = (values - low) / np.where(high == low, 1, high - low)
        for s, c, k in np.ndindex(found.shape):
            a, b = values[s, 0, k], values[s, c, k]
            if c == 0 or np.isnan(b[0, 0]):
                continue
            if metric == "ssim":
                found[s, c, k] = structural_similarity(a, b, data_range=1)
            elif np.ptp(a) > 0:
                found[s, c, k] = peak_signal_noise_ratio(a, b, data_range=np.ptp(a))
        results.append(found)
    return results


def with_numpy(store: Store) -> list[NDArray[np.float64]]:
    """Cosine similarity by einsum, one layer at a time; one thread."""
    results = []
    for layer in store.layers.index:
        values = store[layer].values.reshape(*store[layer].shape[:3], -1)
        product = np.einsum("skp,sckp->sck", values[:, 0], values, optimize=False)
        length = np.sqrt(np.einsum("sckp,sckp->sck", values, values))
        with np.errstate(invalid="ignore", divide="ignore"):
            results.append(product / (length * length[:, :1]))
    return results


def main() -> None:
    arguments = parser(__doc__, runs=3, patients=1).parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        spec = phantom_spec(Path(folder), patients=arguments.patients)
        require_free(folder, make_plan(spec, timing=False).bytes)
        store = open_store(capture(spec).store)
        size = sum(store.layers["bytes"])
        ours, theirs = lazily(store, ("ssim",), 1), with_scikit_image(store, "ssim")
        apart = max(np.nanmax(np.abs(a[:, 1:] - b[:, 1:])) for a, b in zip(ours, theirs, strict=True))
        groups = {"mad, mse": ("mad", "mse"), "cosine": ("cosine",), "psnr": ("psnr",), "ssim": ("ssim",)}
        groups |= {"persisted": STATISTICS, "everything": MEASURES}
        candidates = {
            f"{name}, {threads} thread{'s' * (threads > 1)}": partial(lazily, store, names, threads)
            for name, names in groups.items()
            for threads in (1, 2)
        }
        candidates |= {
            "scikit-image ssim, 1 thread": partial(with_scikit_image, store, "ssim"),
            "scikit-image psnr, 1 thread": partial(with_scikit_image, store, "psnr"),
            "NumPy cosine, 1 thread": partial(with_numpy, store),
        }
        seconds = interleave(candidates, runs=arguments.runs)
    note = f"{human_bytes(size)} of tensors; largest difference from scikit-image's SSIM {apart:.1e}"
    show("Metrics", seconds, base="ssim, 1 thread", note=note)
    print("\n| what | MB/s |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {size / 1e6 / statistics.median(values):.0f} |")


if __name__ == "__main__":
    main()
