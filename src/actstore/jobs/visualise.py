"""Activation maximisation of every channel of a run's network, beside the samples that drive the channel most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from actstore.cluster.main_guard import refuse_in_worker
from actstore.jobs.filled import Filled
from actstore.jobs.job import Compute, Job, Report
from actstore.jobs.optima import OpenedNetwork, Optimising
from actstore.jobs.out import Out
from actstore.jobs.plan.visualise import plan_optima
from actstore.jobs.reading import inputs_of, read
from actstore.jobs.responses import Responses
from actstore.jobs.runner import Progress, run
from actstore.maximisation.maximise import ascend_batch
from actstore.maximisation.objectives import Goal
from actstore.maximisation.targets import Target
from actstore.spec.spec import Spec
from actstore.store.files.base import Location, Storage
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.schema import Coordinate, Schema, record_of
from actstore.store.store import Store

#: Strongest samples that are listed for a channel.
RANKS = 9
#: Share of a gradient's mass along an axis that a sample's box holds.
MASS = 0.95


@dataclass(frozen=True)
class ChannelBatch:
    """A unit: a fixed batch of channels of one target, with all their images."""

    index: int
    name: str
    #: Number of its channels.
    samples: int
    target: int
    #: Number of its first channel among those of the target.
    first: int


@dataclass(frozen=True)
class VisualiseJob:
    """Images that maximise channels; fills the group ``features/NAME``."""

    of: Optimising

    @property
    def _batches(self) -> list[ChannelBatch]:
        size = self.of.settings.batch_size
        found: list[ChannelBatch] = []
        for number, target in enumerate(self.of.targets):
            for first in range(0, len(target.channels), size):
                count = min(size, len(target.channels) - first)
                name = f"{target.name} {target.channels[first]}–{target.channels[first + count - 1]}"
                found.append(ChannelBatch(len(found), name, count, number, first))
        return found

    def units(self) -> Sequence[ChannelBatch]:
        return self._batches

    @property
    def schema(self) -> Schema:
        of, group, n = self.of, self.of.features, len(self._batches)
        slots, repeats, dims = of.settings.batch_size, of.settings.repeats, len(of.size)
        channels = len(of.layout.input_channels)

        def small(name: str, along: tuple[str, ...], dtype: str, *shape: int) -> SmallLayout:
            return SmallLayout(f"{group}/{name}", ("layer_channel", *along), dtype, n, (slots, *shape))

        image = ArrayLayout(
            f"{group}/image",
            ("layer_channel", "seed", "input_channel", *of.spec.spatial_dims),
            "float32",
            n,
            slots,
            (repeats, channels, *of.size),
            (1, 1, *of.size),
        )
        arrays: tuple[ArrayLayout | SmallLayout, ...] = (
            image,
            small("curve", ("seed", "step"), "float32", repeats, of.settings.steps),
            small("start", ("seed",), "float32", repeats),
            small("final", ("seed",), "float32", repeats),
            small("status", ("seed",), "uint8", repeats),
            *(small(name, (), "float32") for name in ("data_max", "data_mean", "data_std")),
            small("top_sample", ("rank",), "int64", RANKS),
            small("top_value", ("rank",), "float32", RANKS),
            *(
                small(name, ("rank", "axis"), "int32", RANKS, dims)
                for name in ("top_position", "top_start", "top_stop")
            ),
        )
        names = tuple(coordinate.name for coordinate in self.coordinates())
        return Schema(group, record_of(group, n), arrays, coordinates=names)

    @property
    def needs(self) -> Sequence[str]:
        return (self.of.responses,) if self.of.settings.samples else ()

    def identity(self) -> Mapping[str, Any]:
        return {**self.of.identity(), "name": self.of.name}

    def coordinates(self) -> Sequence[Coordinate]:
        size, batches = self.of.settings.batch_size, self._batches
        channel = np.full((len(batches), size), -1, np.int64)
        layer = np.empty((len(batches), size), object)
        module = np.empty((len(batches), size), object)
        for batch in batches:
            target = self.of.targets[batch.target]
            channel[batch.index, : batch.samples] = target.channels[batch.first : batch.first + batch.samples]
            layer[batch.index], module[batch.index] = target.name, target.label
        along = ("layer_channel",)
        return (
            Coordinate("layer", along, layer.reshape(-1).astype(str)),
            Coordinate("module", along, module.reshape(-1).astype(str)),
            Coordinate("channel", along, channel.reshape(-1)),
            Coordinate("seed", ("seed",), np.arange(self.of.settings.repeats)),
            Coordinate("step", ("step",), np.arange(self.of.settings.steps)),
            Coordinate("rank", ("rank",), np.arange(RANKS)),
            Coordinate("axis", ("axis",), np.asarray(self.of.spec.spatial_dims)),
            Coordinate("input_channel", ("input_channel",), np.asarray(self.of.layout.input_channels)),
        )

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        with self.of.opened(device) as opened:
            store = Store(self.of.storage.location)

            def compute(unit: ChannelBatch, out: Out) -> Report:
                with opened.lock:
                    self._compute(opened, store, unit, out)
                return Report(unit.index, unit.name)

            yield compute

    def _compute(self, opened: OpenedNetwork, store: Store, unit: ChannelBatch, out: Out) -> None:
        settings, target = self.of.settings, self.of.targets[unit.target]
        with opened.reach(target) as reach:
            found = ascend_batch(reach, target, unit.first, settings, opened.canvas, opened.device)
            for name in ("image", "curve", "start", "final", "status"):
                value = getattr(found, name)
                out.put(name, value.reshape(unit.samples, settings.repeats, *value.shape[1:]))
        for name, values in self._of_samples(opened, store, unit, target).items():
            out.put(name, values)

    def _of_samples(
        self, opened: OpenedNetwork, store: Store, unit: ChannelBatch, target: Target
    ) -> dict[str, NDArray[Any]]:
        """What the run's samples give: the distribution of the objective, and the strongest of them."""
        dims, n = len(self.of.size), unit.samples
        found: dict[str, NDArray[Any]] = {
            **{name: np.full(n, np.nan, np.float32) for name in ("data_max", "data_mean", "data_std")},
            "top_sample": np.full((n, RANKS), -1, np.int64),
            "top_value": np.full((n, RANKS), np.nan, np.float32),
            **{f"top_{name}": np.full((n, RANKS, dims), -1, np.int32) for name in ("position", "start", "stop")},
        }
        if not self.of.settings.samples:
            return found
        before = list(accumulate((len(t.channels) for t in self.of.targets), initial=0))[unit.target]
        own = slice(before + unit.first, before + unit.first + n)
        data = store.group(self.of.responses).isel(layer_channel=own)
        value, position = read(data["value"]), read(data["position"])
        wide = value.astype(np.float64)
        found |= {
            "data_max": value.max(0),
            "data_mean": wide.mean(0).astype(np.float32),
            "data_std": wide.std(0).astype(np.float32),
        }
        ranks = min(RANKS, len(value))
        # Of equals the first sample, whatever the order of blocks.
        top = np.argsort(-value, axis=0, kind="stable")[:ranks].T
        found["top_sample"][:, :ranks] = top
        found["top_value"][:, :ranks] = np.take_along_axis(value.T, top, 1)
        found["top_position"][:, :ranks] = np.take_along_axis(position.swapaxes(0, 1), top[..., None], 1)
        with opened.reach(target) as reach:
            for rank in range(ranks):
                at = found["top_sample"][:, rank]
                samples, where = np.unique(at, return_inverse=True)
                images = inputs_of(store, samples, 0)[where]
                channels = target.channels[unit.first : unit.first + n]
                goal = Goal.of(self.of.settings.objective, channels, self.of.settings.directions, opened.device)
                mass = _gradient_mass(reach, goal, images, found["top_position"][:, rank], opened.device)
                found["top_start"][:, rank], found["top_stop"][:, rank] = boxes(mass)
        return found

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        return cls(Optimising.again(storage, identity, spec))


def _gradient_mass(
    reach: Any, goal: Goal, images: NDArray[np.float32], positions: NDArray[np.int32], device: torch.device
) -> NDArray[np.float64]:
    """Magnitude of the gradient of each element's map at ``positions`` (element, axis): (element, [z,] y, x)."""
    inputs = torch.from_numpy(np.ascontiguousarray(images)).to(device).requires_grad_()
    maps = goal.maps(reach(inputs).values)
    at = torch.from_numpy(positions.astype(np.int64)).to(device)
    chosen = maps[(torch.arange(len(maps), device=device), *at.T)]
    (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
    mass: NDArray[np.float64] = gradient.abs().sum(1).double().cpu().numpy()
    return mass


def boxes(mass: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The box of each element that holds `MASS` along each axis: start and stop (element, axis).

    The whole image where there is no gradient, as below a ReLU that is off.
    """
    elements, *size = mass.shape
    start, stop = np.zeros((elements, len(size)), np.int32), np.tile(np.asarray(size, np.int32), (elements, 1))
    for element in range(elements):
        for axis in range(len(size)):
            along = mass[element].sum(axis=tuple(other for other in range(len(size)) if other != axis))
            total = np.cumsum(along)
            if total[-1] > 0:
                share = total / total[-1]
                start[element, axis] = np.searchsorted(share, (1 - MASS) / 2, side="right")
                stop[element, axis] = np.searchsorted(share, (1 + MASS) / 2) + 1
    return start, np.minimum(stop, size).astype(np.int32)


def visualise(
    spec: Spec,
    *,
    store: Location | None = None,
    name: str = "optima",
    cluster: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> Filled:
    """Maximise channels as ``spec.visualise`` says, into the group ``features/NAME`` of the run's store; continues.

    Before that, what the run's samples give goes into ``responses/NAME``, unless ``spec.visualise.samples`` is false.

    Parameters
    ----------
    store, cluster, workers, device, progress, stopping
        as for `actstore.capture`; a unit is a batch of channels, or a volume.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run; if the settings do not fit the network; if the group belongs to
        other settings.

    Examples
    --------
    >>> found = actstore.visualise(actstore.load_spec("run.toml"), cluster="inline")
    >>> found.complete, "features/optima" in actstore.open("run.zarr").groups
    (True, True)
    """
    refuse_in_worker(cluster or spec.cluster.kind)
    planned = plan_optima(spec.with_cluster(cluster), store=store, name=name, workers=workers, device=device)
    of, where = planned.of, planned.workers
    jobs: list[Job] = [*([Responses.of_run(of)] if of.settings.samples else []), VisualiseJob(of)]
    for job in jobs:
        outcome = run(job, of.storage, where, progress=progress, stopping=stopping)
        if outcome.failed or outcome.left:
            break
    return Filled.of(of.storage.location, job.schema.group, outcome)
