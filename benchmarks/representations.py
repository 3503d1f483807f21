"""Times principal components and CKA over persisted statistics of 100,000 samples x 532 channels, and t-SNE.

The store has the real layout of UNetHeart 8-4-4 with `store.keep = "statistics"`: one small file of statistics a
volume, here of random points of low rank. Compared with a plain read of the same bytes of the same files, in the same
run. Each candidate runs in a process of its own, whose peak memory is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from common import machine, require_free

from actstore import analysis
from actstore.analysis.representations.embedding import embedding
from actstore.analysis.representations.stream import parts_of
from actstore.jobs.blocks import condition_coordinates
from actstore.jobs.runner import peak_memory
from actstore.spec.spec import Spec
from actstore.store.commits import write_record
from actstore.store.files import storage_at
from actstore.store.fingerprint import Fingerprint
from actstore.store.opening import open_store
from actstore.store.schema import SCHEMA_VERSION, Coordinate, Layer, StoreLayout
from actstore.store.shards import write_small
from actstore.store.store import Store
from actstore.store.template import files_of
from actstore.units import human_bytes

#: Channels of the layers of UNetHeart 8-4-4: 532.
WIDTHS = (*[8] * 4, *[16] * 4, *[32] * 4, *[64] * 4, 16, 16, 8, 8, 4)
SLOTS, RANK = 10, 12
THREADS = 2


def synthesise(folder: Path, samples: int) -> Path:
    """A finished store with statistics of ``samples`` samples, ten a volume, two volumes a patient."""
    blocks = samples // SLOTS
    space = (8, 8)
    spec = Spec.from_mapping(
        {
            "data": {"format": "acdc", "root": ".", "classes": {"LV": 1}, "preprocess": {"size": list(space)}},
            "model": {"factory": "actstore.models:unet_heart_8_4_4", "layers": ["*"]},
            "perturb": [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}],
            "store": {"path": "store.zarr", "keep": "statistics"},
        },
        folder=folder,
    )
    layers = tuple(
        Layer(f"L{i + 1:02d}", f"unit{i}", "InstanceNorm2d", 0, "", width, space, kept=False)
        for i, width in enumerate(WIDTHS)
    )
    layout = StoreLayout(blocks, SLOTS, len(spec.conditions), len(spec.class_names), space, "float32", layers)
    names = [f"patient{b // 2:05d} frame {b % 2}" for b in range(blocks)]
    identity = spec.identity()
    fingerprint = Fingerprint.of("0" * 64, identity, layers, names)
    attributes = {
        "schema": SCHEMA_VERSION,
        "spec": spec.model_dump(mode="json"),
        "folder": str(folder),
        "identity": identity,
        "fingerprint": fingerprint.as_json(),
        "layers": [layer.as_json() for layer in layers],
        "input_channels": list(layout.input_channels),
        "classes": list(spec.class_names),
        "blocks": names,
        "slots": SLOTS,
        "versions": {},
    }
    coordinates = {"": root_coordinates(spec, layout), "statistics": layout.statistic_coordinates()}
    storage = storage_at(folder / "store.zarr")
    storage.create(files_of(layout.capture, coordinates, attributes))
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(RANK, layout.channels))
    for block in range(blocks):
        shape = (SLOTS, len(layout.statistic_names), layout.conditions)
        values = rng.normal(size=(*shape, RANK)) @ mixing + 0.1 * rng.normal(size=(*shape, layout.channels))
        write_small(storage, layout.statistic, block, values)
        write_record(storage, layout.statistics.record, block, fingerprint.token)
        write_record(storage, layout.capture.record, block, fingerprint.token)
    return folder / "store.zarr"


def root_coordinates(spec: Spec, layout: StoreLayout) -> tuple[Coordinate, ...]:
    slots = layout.blocks * layout.slots
    block = np.repeat(np.arange(layout.blocks), layout.slots)
    number = np.tile(np.arange(layout.slots), layout.blocks)
    zeros = np.zeros((slots, 3), np.int64)
    sample = {
        "patient": np.char.add("patient", np.char.zfill((block // 2).astype(str), 5)),
        "frame": block % 2,
        "slice": number,
        "phase": np.full(slots, ""),
        "group": np.full(slots, ""),
        "block": block,
        "valid": np.ones(slots, bool),
        "depth": np.full(slots, layout.slots),
        "height": np.full(slots, 8),
        "width": np.full(slots, 8),
        "spacing": np.ones((slots, 3)),
        "patch": np.zeros(slots, np.int64),
        **dict.fromkeys(("origin", "owned_start", "owned_stop"), zeros),
    }
    names = np.asarray(spec.class_names)
    indexes = {"true_class": names, "predicted_class": names, "axis": np.asarray(["z", "y", "x"])}
    indexes["input_channel"] = np.asarray(layout.input_channels)
    conditions = condition_coordinates(spec.conditions, layout.input_channels)
    return (
        *(Coordinate(name, ("sample", "axis")[: values.ndim], values) for name, values in sample.items()),
        *(Coordinate(name, ("condition",), values) for name, values in conditions.items()),
        *(Coordinate(name, (name,), values) for name, values in indexes.items()),
    )


def plain(store: Store, *, whole: bool = False) -> None:
    """Read the files of statistics, or of each the part with the means, in two threads into one buffer each."""
    layout = store.layout.statistic
    at = store.layout.statistic_names.index("mean")
    size = layout.file_bytes() if whole else layout.section_bytes
    start = 0 if whole else at * layout.section_bytes

    def read(blocks: list[int]) -> None:
        buffer = bytearray(size)
        for block in blocks:
            with open(store.path / layout.key(block), "rb", buffering=0) as file:
                file.seek(start)
                file.readinto(buffer)

    blocks = [block for block, _ in store.block_samples]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(read, [blocks[i::THREADS] for i in range(THREADS)]))


def streamed(store: Store) -> None:
    for _ in parts_of(embedding(store)):
        pass


def components(store: Store) -> None:
    analysis.pca(embedding(store), 50)


def scores(store: Store) -> None:
    for _ in parts_of(analysis.pca(embedding(store), 50)["score"]):
        pass


def similar(store: Store) -> None:
    analysis.similarity(embedding(store), resamples=0)


CANDIDATES: dict[str, Callable[[Store], object]] = {
    "plain read of the means": plain,
    "plain read of the whole files": lambda store: plain(store, whole=True),
    "embedding, streamed": streamed,
    "pca, 50 components": components,
    "pca, and all scores": scores,
    "similarity of all layers (CKA, RSA)": similar,
}


def measured(path: Path, name: str) -> None:
    store = open_store(path)
    taken, computed = [], []
    for _ in range(3):
        start, before = time.perf_counter(), time.process_time()
        CANDIDATES[name](store)
        taken.append(time.perf_counter() - start)
        computed.append(time.process_time() - before)
    print(json.dumps({"seconds": taken, "cpu": computed, "peak": peak_memory()}))


def tsne(points: int) -> None:
    """t-SNE of blobs, by the library that so many points take."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(points, 64)) + 6 * rng.normal(size=(10, 64))[rng.integers(0, 10, points)]
    start = time.perf_counter()
    found = analysis.projection(xr.DataArray(values, dims=("sample", "feature")), "tsne")
    trust = float(found["trustworthiness"])
    print(json.dumps({"seconds": [time.perf_counter() - start], "peak": peak_memory(), "trust": trust}))


def in_a_process(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--tsne", type=int, nargs="*", default=[], help="numbers of points; above 10,000 by openTSNE")
    parser.add_argument("--folder", type=Path, default=None, help="where to write; the system's folder for such files")
    parser.add_argument("--measure", nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--points", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measured(Path(arguments.measure[0]), arguments.measure[1])
        return
    if arguments.points is not None:
        tsne(arguments.points)
        return
    print(f"\n### Representations\n\n{machine()}; `python {' '.join(sys.argv)}`\n")
    if arguments.samples:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            require_free(folder, arguments.samples * sum(WIDTHS) * 5 * 2 * 8)
            path = synthesise(Path(folder), arguments.samples)
            means = arguments.samples * sum(WIDTHS) * 2 * 8
            print(f"{arguments.samples} samples x {sum(WIDTHS)} channels, {human_bytes(means)} of means\n")
            print("| what | median s | min–max s | rate ÷ plain reads, means and files | CPU s | peak memory |")
            print("|---|---|---|---|---|---|")
            bases: list[float] = []
            for name in CANDIDATES:
                found = in_a_process("--measure", path, name)
                taken = found["seconds"]
                middle = statistics.median(taken)
                if len(bases) < 2:
                    bases.append(middle)
                spread = f"{min(taken):.2f}–{max(taken):.2f}"
                rates = ", ".join(f"{base / middle:.2f}" for base in bases)
                cpu = statistics.median(found["cpu"])
                print(f"| {name} | {middle:.2f} | {spread} | {rates} | {cpu:.2f} | {human_bytes(found['peak'])} |")
    for points in arguments.tsne:
        found = in_a_process("--points", points)
        (seconds,) = found["seconds"]
        print(
            f"\nt-SNE of {points} points: {seconds:.1f} s, trustworthiness {found['trust']:.3f}, "
            f"peak {human_bytes(found['peak'])}"
        )


if __name__ == "__main__":
    main()
