"""Optima with known values in a captured store, as activation maximisation fills them: no network is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.optima import STATUSES
from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.out import Out
from actstore.jobs.runner import Workers, run
from actstore.spec.spec import Spec
from actstore.store.files import storage_at
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.schema import Coordinate, Schema, record_of
from actstore.store.store import Store

GROUP = "features/optima"
RANKS, STEPS = 9, 12
#: Status of channel c of layer n, at c + n: one in five each is dead, constant, bounded, below the data.
PATTERN = tuple(map(STATUSES.index, ("live", "dead", "live", "constant", "bounded")))


@dataclass(frozen=True)
class PlantedOptima:
    """Values of all recorded layers; a unit is a layer."""

    storage: Storage
    group: str = GROUP
    seeds: int = 2
    #: ([z,] y, x) of the images; by default the network's input.
    size: tuple[int, ...] = ()
    #: Modules that the store does not record, each with its channels, instead of its layers.
    modules: tuple[tuple[str, int], ...] = ()
    #: Whether samples of the data were looked at.
    samples: bool = True
    objective: str = "mean"
    needs = ()

    @cached_property
    def store(self) -> Store:
        return Store(self.storage.location)

    @property
    def layers(self) -> list[tuple[str, str, int]]:
        """Of each layer its name, module and number of channels."""
        if self.modules:
            return [(module, module, channels) for module, channels in self.modules]
        rows = self.store.layers[["module", "channels"]].itertuples()
        return [(str(row.Index), str(row.module), int(row.channels)) for row in rows]  # type: ignore[call-overload]

    @property
    def space(self) -> tuple[int, ...]:
        return self.size or self.store.layout.space

    @property
    def slots(self) -> int:
        return max(channels for _, _, channels in self.layers)

    @property
    def schema(self) -> Schema:
        n, slots, dims = len(self.layers), self.slots, self.store.layout.space_dims
        shape = (self.seeds, len(self.store.layout.input_channels), *self.space)

        def small(name: str, dtype: str, **more: int) -> SmallLayout:
            return SmallLayout(f"{self.group}/{name}", ("layer_channel", *more), dtype, n, (slots, *more.values()))

        ranks, axes = {"rank": RANKS}, {"rank": RANKS, "axis": len(dims)}
        arrays = (
            ArrayLayout(
                f"{self.group}/image",
                ("layer_channel", "seed", "input_channel", *dims),
                "float32",
                n,
                slots,
                shape,
                shape,
            ),
            small("curve", "float32", seed=self.seeds, step=STEPS),
            *(small(name, "float32", seed=self.seeds) for name in ("start", "final")),
            small("status", "uint8", seed=self.seeds),
            *(small(name, "float32") for name in ("data_max", "data_mean", "data_std")),
            small("top_sample", "int64", **ranks),
            small("top_value", "float32", **ranks),
            *(small(name, "int32", **axes) for name in ("top_position", "top_start", "top_stop")),
        )
        return Schema(self.group, record_of(self.group, n), arrays, coordinates=tuple(self._along))

    @property
    def _along(self) -> dict[str, tuple[str, NDArray[Any]]]:
        spread = [(*layer[:2], c) for layer in self.layers for c in range(self.slots)]
        names, modules, channels = (np.asarray(values) for values in zip(*spread, strict=True))
        return {
            "layer": ("layer_channel", names),
            "module": ("layer_channel", modules),
            "channel": ("layer_channel", channels),
            "seed": ("seed", np.arange(self.seeds)),
            "input_channel": ("input_channel", np.asarray(self.store.layout.input_channels)),
            "axis": ("axis", np.asarray(self.store.layout.space_dims)),
            "rank": ("rank", np.arange(RANKS)),
            "step": ("step", np.arange(STEPS)),
        }

    def identity(self) -> Mapping[str, Any]:
        visualise = {
            "layers": [module for _, module, _ in self.layers],
            "channels": "all",
            "objective": self.objective,
            "parameterization": "fourier",
            "size": list(self.space),
            "steps": STEPS,
            "optimizer": "adam",
            "learning_rate": 0.05,
            "range": [0.0, 1.0],
            "repeats": self.seeds,
            "diversity": 0.0,
            "batch_size": 16,
            "seed": 0,
            "regularize": [{"kind": "rotate", "range": None, "weight": None, "mode": None, "every": 1, "apply": None}],
            "samples": self.samples,
        }
        return {"visualise": visualise, "modules": [list(module) for module in self.modules]}

    def coordinates(self) -> Sequence[Coordinate]:
        return tuple(Coordinate(name, (dim,), values) for name, (dim, values) in self._along.items())

    def units(self) -> Sequence[PlainUnit]:
        return [PlainUnit(i, name, channels) for i, (name, _, channels) in enumerate(self.layers)]

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        def compute(unit: PlainUnit, out: Out) -> Report:
            for name, values in self.planted(unit.index).items():
                out.put(name, values)
            return Report(unit.index, unit.name)

        yield compute

    def planted(self, unit: int) -> dict[str, NDArray[Any]]:
        """A layer's arrays: statuses by :data:`PATTERN`, seed 1 the best."""
        name, _, n = self.layers[unit]
        rng = np.random.default_rng(unit)
        channel, seed = np.arange(n)[:, None], np.arange(self.seeds)[None, :]
        kind = (channel + unit) % len(PATTERN)
        status = np.broadcast_to(np.asarray(PATTERN)[kind], (n, self.seeds)).astype(np.uint8)
        moves = np.isin(status, (STATUSES.index("live"), STATUSES.index("bounded")))
        final = np.where(moves, 2 + 0.25 * channel + 0.5 * (seed == 1), 0.0)
        start = np.where(moves, 0.125, 0.0)
        along = 1 - np.exp(-np.arange(STEPS) / 3)
        curve = start[..., None] + (final - start)[..., None] * along
        data_max = np.where(kind[:, 0] == 2, final.max(1) + 1, final.max(1) / 2)
        found: dict[str, NDArray[Any]] = {"start": start, "final": final, "curve": curve, "status": status}
        found["image"] = np.stack([[self.picture(rng, c, k) for k in range(self.seeds)] for c in range(n)])
        found |= {"data_max": data_max, "data_mean": data_max / 4, "data_std": data_max / 8}
        if not self.samples:
            found |= {key: np.full(n, np.nan) for key in ("data_max", "data_mean", "data_std")}
        return found | self._strongest(name, n, data_max)

    def picture(self, rng: np.random.Generator, channel: int, seed: int) -> NDArray[np.float64]:
        """Stripes of an angle and width of its own, (input_channel, [z,] y, x) between 0 and 1."""
        places = np.indices(self.space).astype(float)
        angle, width = rng.uniform(0, np.pi), 2 + channel % 5
        wave = np.cos(angle) * places[-1] + np.sin(angle) * places[-2] + (places[0] if len(self.space) == 3 else 0)
        stripes = 0.5 + 0.4 * np.sin(wave / width + seed)
        return np.stack([stripes if k % 2 == 0 else 1 - stripes for k in range(len(self.store.layout.input_channels))])

    def _strongest(self, name: str, n: int, data_max: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Of channel c the samples c, c + 1, …: as many as there are, of the value of the maximum and less."""
        space = self.store.layout.space
        size = space if name not in self.store.layers.index else self.store.layers.loc[name, "size"]
        samples = len(self.store.samples) if self.samples else 0
        rank = np.arange(RANKS)
        there = rank < samples
        sample = np.where(there, (np.arange(n)[:, None] + rank) % max(samples, 1), -1)
        value = np.where(there, data_max[:, None] / (1 + rank), np.nan)
        shape = (n, RANKS, len(space))
        position = np.broadcast_to([[int(s) // 2 for s in size]] * RANKS, shape) + rank[:, None] % 2
        start = np.broadcast_to([s // 4 for s in space], shape) + rank[:, None] % 3
        stop = np.broadcast_to([s // 4 + max(s // 3, 1) for s in space], shape) + rank[:, None] % 3
        boxes = {"top_position": position, "top_start": start, "top_stop": stop}
        kept = {key: np.where(there[:, None], values, -1) for key, values in boxes.items()}
        return {"top_sample": sample, "top_value": value, **kept}

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        settings = identity["visualise"]
        return cls(
            storage,
            seeds=settings["repeats"],
            size=tuple(settings["size"]),
            modules=tuple((module, channels) for module, channels in identity["modules"]),
            samples=settings["samples"],
            objective=settings["objective"],
        )


def plant(path: Path, group: str = GROUP, **settings: Any) -> PlantedOptima:
    """Add optima to the store at ``path``."""
    job = PlantedOptima(storage_at(path), group, **settings)
    outcome = run(job, job.storage, Workers())
    assert not outcome.failed, outcome.failed
    return job
