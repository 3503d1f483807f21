"""Measures savings and costs of compressing or rounding the inner chunks of a store.

First codecs, with one thread and in memory: compression and speed in both directions, each with the checksum that
every stored chunk has. Then the effect of a lossy dtype on MAD and on the sets of the three channels of highest MAD.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, phantom_spec
from crc32c import crc32c
from numcodecs import Blosc, Zstd
from numpy.typing import NDArray

from actstore.jobs.capture import capture
from actstore.jobs.inference import rounding
from actstore.measures.kernel import reduce_chunk
from actstore.store.opening import open_store
from actstore.store.store import Store

Change = Callable[[NDArray[np.float32]], NDArray[Any]]
CODECS: dict[str, Any] = {
    "raw": None,
    "zstd 1": Zstd(level=1),
    "zstd 3": Zstd(level=3),
    "blosc: bit shuffle, lz4": Blosc("lz4", clevel=5, shuffle=Blosc.BITSHUFFLE),
    "blosc: bit shuffle, zstd 1": Blosc("zstd", clevel=1, shuffle=Blosc.BITSHUFFLE),
}


def rounded(dtype: str, bits: int | None) -> Change:
    change = rounding(bits)
    return lambda values: change(torch.from_numpy(values)).to(getattr(torch, dtype)).numpy()


STORED: dict[str, Change] = {
    "float32": lambda values: values,
    "float32, 12 bits": rounded("float32", 12),
    "float32, 7 bits": rounded("float32", 7),
    "float32, 4 bits": rounded("float32", 4),
    "float16": rounded("float16", None),
    "float16, 4 bits": rounded("float16", 4),
}


def samples_of(store: Store, layer: str, most: int) -> NDArray[np.float32]:
    """Samples spread over the store in which every condition applies: (sample, condition, channel, \\*space)."""
    everywhere = np.flatnonzero(store.applicable.values.all(axis=1))
    chosen = everywhere[np.linspace(0, len(everywhere) - 1, min(most, len(everywhere))).astype(int)]
    found: NDArray[np.float32] = np.stack([store[layer][int(i)].values for i in np.unique(chosen)])
    return found


def megabytes_a_second(step: Callable[[], object], size: int) -> float:
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return size / statistics.median(taken) / 1e6


def codecs(chunks: list[NDArray[np.float32]]) -> None:
    print("| stored as | codec | times smaller than raw float32 | in MB/s | out MB/s |\n|---|---|---|---|---|")
    whole = sum(chunk.nbytes for chunk in chunks)
    for name in ("float32", "float32, 7 bits", "float16"):
        contents = [np.ascontiguousarray(STORED[name](chunk)).tobytes() for chunk in chunks]
        size = sum(map(len, contents))
        for label, codec in CODECS.items():
            encode = codec.encode if codec else bytes
            decode = codec.decode if codec else bytes
            encoded = [bytes(encode(content)) for content in contents]

            def write(encode: Any = encode, contents: list[bytes] = contents) -> None:
                for content in contents:
                    crc32c(encode(content))

            def read(decode: Any = decode, encoded: list[bytes] = encoded) -> None:
                for content in encoded:
                    crc32c(content)
                    decode(content)

            rates = [megabytes_a_second(step, size) for step in (write, read)]
            print(f"| {name} | {label} | {whole / sum(map(len, encoded)):.2f} | {rates[0]:.0f} | {rates[1]:.0f} |")


def effects(layers: dict[str, NDArray[np.float32]]) -> None:
    print("\n| stored as | MAD off by, median | 99 % | at most | top-3 sets that differ | sets |")
    print("|---|---|---|---|---|---|")
    exact = {layer: reduce_chunk(values.swapaxes(1, 2), ("mad",))[0] for layer, values in layers.items()}
    for name, change in STORED.items():
        errors, different, sets = [], 0, 0
        for layer, values in layers.items():
            found = reduce_chunk(change(values).swapaxes(1, 2), ("mad",))[0][..., 1:]
            expected = exact[layer][..., 1:]
            errors.append((np.abs(found - expected) / expected).ravel())
            tops = [np.sort(np.argsort(-mad, axis=1, kind="stable")[:, :3], axis=1) for mad in (found, expected)]
            different += int((tops[0] != tops[1]).any(axis=1).sum())
            sets += tops[0].shape[0] * tops[0].shape[2]
        off = np.concatenate(errors)
        parts = [f"{value:.1e}" for value in (np.median(off), np.quantile(off, 0.99), off.max())]
        print(f"| {name} | {' | '.join(parts)} | {different} ({different / sets:.2%}) | {sets} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=None, help="a store in float32; a phantom's where left out")
    parser.add_argument("--samples", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.store or capture(phantom_spec(Path(folder), patients=4)).store
        store = open_store(path)
        layers = {name: samples_of(store, name, arguments.samples) for name in store.layers.index}
    print(f"\n### Codecs\n\n{machine()}; `python {' '.join(sys.argv)}`\n")
    codecs([sample for values in layers.values() for sample in values[:: max(1, len(values) // 4)]])
    effects(layers)


if __name__ == "__main__":
    main()
