"""Compares capture with the bare forward pass and with careful hand-written code.

UNetHeart 8-4-4 with the shipped weights, phantom volumes, all 21 layers in float32. The candidates run in turn, warm,
in one process. Times exclude loading the network and starting workers. Every written store or folder is deleted.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import torch
import zarr
from common import interleave, parser, phantom_spec, require_free, show
from numpy.typing import NDArray

from actstore.cluster.launch import connect
from actstore.inputs.prepare import Prepared, prepare
from actstore.inputs.preprocess import fit, normalize
from actstore.jobs.plan.plan import Plan, make_plan
from actstore.jobs.runner import releasing, run_unit
from actstore.networks.model import build_model
from actstore.networks.recording import recording
from actstore.spec.spec import Spec
from actstore.store.opening import open_store
from actstore.store.template import CODECS
from actstore.tables.build import build_table
from actstore.units import human_bytes
from attended import prepare_store

BATCHES = (1, 2, 4, 8, 16)
#: Volumes that the hand-written candidates may hold for writing while they infer the next one.
WRITING = 1


class Setting:
    """The network, the volumes and a folder to write to."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.plan: Plan = make_plan(spec, workers=1, timing=False)
        torch.set_num_threads(self.plan.threads)
        self.model = build_model(spec)
        self.volumes = [self.plan.pipeline.read(block.file) for block in self.plan.blocks]
        self.inputs = [self.stack(prepare(spec, self.plan.pipeline, volume)) for volume in self.volumes]
        self.batch = min(BATCHES, key=self.seconds)

    @staticmethod
    def stack(prepared: Prepared) -> torch.Tensor:
        """Every applicable input of a volume, condition by condition: (input, 1, y, x)."""
        inputs, applicable = prepared.inputs, prepared.applicable
        return torch.from_numpy(np.concatenate([inputs[applicable[:, c], c] for c in range(inputs.shape[1])]))

    def seconds(self, batch: int) -> float:
        stack = torch.cat(self.inputs)[:32]
        taken = []
        for _ in range(4):
            start = time.perf_counter()
            with torch.inference_mode():
                for piece in stack.split(batch):
                    self.model(piece)
            taken.append(time.perf_counter() - start)
        return sorted(taken)[1]

    @contextmanager
    def folder(self) -> Iterator[Path]:
        path = Path(tempfile.mkdtemp(prefix="candidate-", dir=self.spec.folder))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def recorded(self, inputs: torch.Tensor) -> list[NDArray[np.float32]]:
        """Every layer's output for ``inputs``: a plain hooked forward pass at the best batch size."""
        outputs = [np.empty((len(inputs), lay.channels, *lay.space), np.float32) for lay in self.plan.layout.layers]
        position = 0

        def keep(layer: int, output: torch.Tensor) -> None:
            outputs[layer][position : position + len(output)] = output.numpy()

        with torch.inference_mode(), recording(self.model, self.plan.layout.layers, keep) as finish_pass:
            for batch in inputs.split(self.batch):
                self.model(batch)
                finish_pass()
                position += len(batch)
        return outputs


def forward(setting: Setting) -> None:
    with torch.inference_mode():
        for inputs in setting.inputs:
            for batch in inputs.split(setting.batch):
                setting.model(batch)


def hooks_and_save(setting: Setting) -> None:
    with setting.folder() as folder:
        for v, inputs in enumerate(setting.inputs):
            for layer, values in zip(setting.plan.layout.layers, setting.recorded(inputs), strict=True):
                np.save(folder / f"{v}-{layer.name}.npy", values)


def written_by(setting: Setting, make: Callable[[Path], Callable[[int, list[NDArray[np.float32]]], None]]) -> None:
    """Infer each volume while a thread writes the previous one."""
    with setting.folder() as folder, ThreadPoolExecutor(WRITING) as pool:
        write = make(folder)
        pending: Any = None
        for v, inputs in enumerate(setting.inputs):
            outputs = setting.recorded(inputs)
            if pending is not None:
                pending.result()
            pending = pool.submit(write, v, outputs)
        pending.result()


def most_inputs(setting: Setting) -> int:
    return max(len(inputs) for inputs in setting.inputs)


def with_tensorstore(setting: Setting) -> None:
    """One shard per volume and layer, raw and crc32c as in the store, (input, channel, y, x)."""

    def make(folder: Path) -> Callable[[int, list[NDArray[np.float32]]], None]:
        rows = most_inputs(setting)
        arrays = []
        for layer in setting.plan.layout.layers:
            shape = (rows * len(setting.inputs), layer.channels, *layer.space)
            zarr.create_array(
                folder / layer.name,
                shape=shape,
                dtype="float32",
                chunks=(1, *shape[1:]),
                shards=(rows, *shape[1:]),
                **CODECS,
            )
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / layer.name)}}
            arrays.append(tensorstore.open(spec).result())

        def write(v: int, outputs: list[NDArray[np.float32]]) -> None:
            futures = [
                array[v * rows : v * rows + len(values)].write(values)
                for array, values in zip(arrays, outputs, strict=True)
            ]
            for future in futures:
                future.result()

        return write

    written_by(setting, make)


def with_zarr(setting: Setting) -> None:
    """zarr-python with its default chunks and compressor."""

    def make(folder: Path) -> Callable[[int, list[NDArray[np.float32]]], None]:
        rows = most_inputs(setting)
        arrays: list[Any] = [
            zarr.create_array(
                folder / layer.name,
                shape=(rows * len(setting.inputs), layer.channels, *layer.space),
                dtype="float32",
            )
            for layer in setting.plan.layout.layers
        ]

        def write(v: int, outputs: list[NDArray[np.float32]]) -> None:
            for array, values in zip(arrays, outputs, strict=True):
                array[v * rows : v * rows + len(values)] = values

        return write

    written_by(setting, make)


def captured(setting: Setting, executor: Any) -> None:
    """A whole capture: read, perturb, infer, reduce, compute checksums, write and commit."""
    blocks = iter(setting.plan.blocks)
    reports = [r for _, r in executor.run(partial(run_unit, setting.plan.task), lambda: next(blocks, None))]
    failed = [report for report in reports if report.failed]
    if failed:
        raise RuntimeError(failed[0])


def fresh_store(setting: Setting) -> None:
    shutil.rmtree(setting.plan.store.location, ignore_errors=True)
    prepare_store(setting.plan)


class Threads:
    """Like one worker: two blocks at once in one process."""

    def run(self, function: Callable[[Any], Any], next_item: Callable[[], Any]) -> Iterator[tuple[Any, Any]]:
        items = list(iter(next_item, None))
        with ThreadPoolExecutor(2) as pool:
            yield from zip(items, pool.map(function, items), strict=True)


def notebook(setting: Setting) -> dict[str, NDArray[np.float64]]:
    """The usual notebook: one slice at a time, the original again for each class, MAD by a loop over channels.

    Keeps every feature map of every volume in memory as a NumPy array; writes nothing.
    """
    spec, layers = setting.spec, setting.plan.layout.layers
    features: dict[str, NDArray[np.float32]] = {}
    modules = dict(setting.model.named_modules())

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _args, output: features.__setitem__(name, output.detach().cpu().numpy())

    def run(image: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        seen = fit(normalize(image[None], "minmax-slice"), spec.data.preprocess.size)
        with torch.no_grad():
            setting.model(torch.from_numpy(seen)[:, None])
        return dict(features)

    kept: list[tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]] = []
    handles = [modules[layer.module].register_forward_hook(keep(layer.name)) for layer in layers]
    try:
        for volume in setting.volumes:
            for target in spec.perturb[0].targets:
                value = spec.class_names.index(target)
                slices = [s for s, label in enumerate(volume.label) if (label == value).any()]
                changed = volume.image[0].astype(np.float64)
                changed[volume.label == value] *= spec.perturb[0].strengths[0]
                original = [run(volume.image[0, s].astype(np.float64)) for s in slices]
                perturbed = [run(changed[s]) for s in slices]
                kept += zip(original, perturbed, strict=True)
    finally:
        for handle in handles:
            handle.remove()
    mad: dict[str, list[list[float]]] = defaultdict(list)
    for before, after in kept:
        for layer in layers:
            a, b = before[layer.name][0], after[layer.name][0]
            mad[layer.name].append([float(np.abs(b[k] - a[k]).mean()) for k in range(layer.channels)])
    return {name: np.asarray(rows) for name, rows in mad.items()}


def check(setting: Setting, store: Path) -> None:
    """Check that the notebook's MADs agree with the captured table."""
    mine = build_table(open_store(store), "mad")
    for layer, rows in notebook(setting).items():
        found = np.sort(mine.loc[mine["layer"] == layer, "mad"].to_numpy())
        np.testing.assert_allclose(found, np.sort(rows.reshape(-1)), rtol=1e-3, atol=1e-5)


def main() -> None:
    options = parser(__doc__, runs=5, patients=5)
    options.add_argument("--only", nargs="*", default=None, help="run candidates whose names contain one of these")
    arguments = options.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder))
        stack.enter_context(releasing())
        setting = Setting(phantom_spec(Path(folder), patients=arguments.patients))
        require_free(folder, 3 * setting.plan.bytes)
        two = Setting.__new__(Setting)
        two.__dict__.update(setting.__dict__)
        two.plan = make_plan(setting.spec, workers=2, timing=False, store=Path(folder) / "two.zarr")
        fresh_store(two)
        workers = stack.enter_context(
            connect(setting.spec.cluster, 2, memory=two.plan.worker_memory, storage=two.plan.store)
        )

        def table() -> None:
            captured(two, workers)
            build_table(open_store(two.plan.store.location), "mad")

        candidates: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "forward": (lambda: None, partial(forward, setting)),
            "capture, one process": (partial(fresh_store, setting), partial(captured, setting, Threads())),
            "capture, two Dask workers": (partial(fresh_store, two), partial(captured, two, workers)),
            "hooks + np.save": (lambda: None, partial(hooks_and_save, setting)),
            "tensorstore, raw + crc32c": (lambda: None, partial(with_tensorstore, setting)),
            "zarr-python, its defaults": (lambda: None, partial(with_zarr, setting)),
            "capture and MAD table, two Dask workers": (partial(fresh_store, two), table),
            "notebook: batch 1, loop over channels": (lambda: None, partial(notebook, setting)),
        }
        if arguments.only:
            candidates = {
                name: pair
                for name, pair in candidates.items()
                if name == "forward" or any(part in name for part in arguments.only)
            }
        seconds = interleave(candidates, runs=arguments.runs)
        if any("table" in name for name in candidates):
            check(setting, two.plan.store.location)
        inputs = sum(map(len, setting.inputs))
        note = f"{len(setting.volumes)} volumes, {inputs} inputs, {human_bytes(setting.plan.bytes)}"
        show("Capture", seconds, base="forward", note=f"{note}, forward at batch {setting.batch}")


if __name__ == "__main__":
    main()
