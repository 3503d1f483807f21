"""What the explorer reads of a store: one chunk for a picture or map, statistics once, and no more than fits."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore import analysis
from actstore.analysis.evidence import perturbations
from actstore.analysis.masks import averaged
from actstore.analysis.relative import pooled_std
from actstore.conditions import CONTROL
from actstore.errors import StoreError
from actstore.reader import read_small, read_smalls
from actstore.views.explorer.state import State
from actstore.views.pixels import Place, place_of
from actstore.views.selection import typical_sample

if TYPE_CHECKING:
    from actstore.store import Store

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

#: Channels of a layer that count as top.
TOP = 3
#: Bytes of pictures and maps kept for going back and forth.
KEPT_BYTES = 128 * 2**20
#: Statistics of more bytes than this lie in an unnamed file instead of memory.
MEMORY_BYTES = 512 * 2**20


class Kept:
    """Arrays that were read last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of ``key``, read if it is not kept."""
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        # A copy of its own: what is read may be a view of a whole chunk.
        found = np.array(read())
        self._arrays[key] = found
        self._bytes += found.nbytes
        while self._bytes > self.most and len(self._arrays) > 1:
            self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return found


@dataclass(frozen=True)
class Scores:
    """One perturbation's statistics of all layers, along all channels of the network in order."""

    #: MAD, float32 (sample, channel), NaN where it does not apply.
    mad: Floats
    #: Whether a channel is among the top of its layer, bool (sample, channel).
    member: Bools


class Source:
    """A store as the explorer sees it; one for all who look at it.

    Samples, conditions and channels are numbered as in the store. Along ``channel`` lie all layers' channels in network
    order where nothing else is said.
    """

    def __init__(self, store: Store) -> None:
        if not store.parts:
            raise StoreError(f"{store.path} has no committed block yet: `actstore capture SPEC` computes them")
        self.store = store
        self.samples: pd.DataFrame = store.samples
        self.conditions: pd.DataFrame = store.conditions
        self.names: list[str] = list(store.conditions.index)
        #: Every condition but the original, in the store's order.
        self.perturbed: list[str] = self.names[1:]
        self.foreground: list[str] = list(store.class_names[1:])
        self.patients: list[str] = list(dict.fromkeys(self.samples["patient"]))
        #: Layer name to how many channels it has, in network order.
        self.channels: dict[str, int] = {layer.name: layer.channels for layer in store.layout.layers}
        self.kept: dict[str, bool] = {layer.name: layer.kept for layer in store.layout.layers}
        self.modules: dict[str, str] = {layer.name: layer.label for layer in store.layout.layers}
        #: Size of each layer's maps, ([z,] y, x).
        self.sizes: dict[str, tuple[int, ...]] = {layer.name: tuple(layer.space) for layer in store.layout.layers}
        #: Size of the input, ([z,] y, x).
        self.space: tuple[int, ...] = tuple(store.layout.space)
        starts = np.cumsum([0, *self.channels.values()])
        #: Layer name to where its channels lie along all channels of the network.
        self.where: dict[str, slice] = {
            name: slice(int(a), int(b)) for name, a, b in zip(self.channels, starts, starts[1:], strict=False)
        }
        self.applicable: Bools = store.applicable.compute().transpose("sample", "condition").values
        self.confusion: xr.DataArray = store.confusion.compute()
        found = analysis.dice(self.confusion, applicable=store.applicable.compute())
        #: Dice, float64 (sample, condition, class without background).
        self.dice: Floats = found.sel(class_name=self.foreground).transpose("sample", "condition", "class_name").values
        self.cases: NDArray[np.str_] = store.cases.compute().transpose("sample", "condition").values.astype(str)
        self._kept = Kept(KEPT_BYTES)
        self._scores: dict[int, Scores] = {}
        self._loading = threading.Lock()

    @property
    def is_3d(self) -> bool:
        """Whether a sample is a volume."""
        return len(self.space) == 3

    @cached_property
    def case_names(self) -> list[str]:
        """Kinds of failure that occur, the most usual first."""
        names, counts = np.unique(self.cases[self.cases != ""], return_counts=True)
        return [str(name) for name in names[np.argsort(-counts, kind="stable")]]

    @cached_property
    def has_controls(self) -> bool:
        """Whether any perturbation was repeated on a control region."""
        return bool((self.conditions["region"] == CONTROL).any())

    # Samples

    def condition(self, name: str) -> int:
        """Number of a condition."""
        return self.names.index(name)

    def target(self, condition: str) -> str:
        """The class that a condition changes, "" for a repeat of the original."""
        return str(self.conditions.loc[condition, "target"])

    def volumes(self, patient: str) -> list[int]:
        """Frames of a patient."""
        frames = self.samples.loc[self.samples["patient"] == patient, "frame"]
        return sorted({int(frame) for frame in frames})

    def slices(self, patient: str, frame: int) -> list[int]:
        """Slices of a volume that can be shown."""
        if self.is_3d:
            return list(range(self.space[0]))
        return [int(n) for n in self.samples["slice"].to_numpy()[self._volume(patient, frame)]]

    def _volume(self, patient: str, frame: int) -> Bools:
        return cast(Bools, ((self.samples["patient"] == patient) & (self.samples["frame"] == frame)).to_numpy())

    def sample(self, state: State) -> int:
        """Number of the sample that ``state`` shows."""
        at = np.flatnonzero(self._volume(state.patient, state.frame))
        if self.is_3d:
            return int(at[0])
        return int(at[self.samples["slice"].to_numpy()[at] == state.slice][0])

    def at(self, sample: int, like: State | None = None) -> dict[str, Any]:
        """patient, frame and slice of a sample; of a volume the plane of ``like``, else the middle one."""
        row = self.samples.iloc[sample]
        plane = like.slice if like else self.space[0] // 2
        return {
            "patient": str(row["patient"]),
            "frame": int(row["frame"]),
            "slice": plane if self.is_3d else int(row["slice"]),
        }

    def first_state(self, condition: str | None = None, place: Mapping[str, Any] | None = None) -> State:
        """What is shown where a link says no more than a condition and ``place``: some of patient, frame and slice.

        By default the first perturbation of a class that applies anywhere, its sample of median change in Dice, and the
        channel of the last layer but one that changes most there.
        """
        if condition is None:
            at = [int(c) for c in perturbations(self.confusion) if self.applicable[:, c].any()]
            condition = self.names[at[0] if at else min(1, len(self.names) - 1)]
        if place:
            patient = place.get("patient", self.patients[0])
            shown = self.nearest(patient, place.get("frame"), place.get("slice"), condition)
        else:
            usable = self.applicable[:, self.condition(condition)].any() and self.target(condition)
            shown = self.at(typical_sample(self.store, condition) if usable else 0)
        layer = list(self.channels)[-2:][0]
        first = State(condition=condition, layer=layer, channel=0, **shown)
        if self.store.reduced:
            mad = self.sample_mad(self.sample(first), self.condition(condition))[self.where[layer]]
            if np.isfinite(mad).any():
                first = State(condition=condition, layer=layer, channel=int(np.nanargmax(mad)), **shown)
        return first

    def nearest(self, patient: str, frame: int | None, number: int | None, condition: str) -> dict[str, Any]:
        """patient, frame and slice next to what is asked.

        That is the slice nearest to ``number``, or the middle one of those that ``condition`` applies to.
        """
        frames = self.volumes(patient)
        frame = frame if frame in frames else frames[0]
        slices = self.slices(patient, frame)
        if number is None and not self.is_3d:
            here = self.applicable[self._volume(patient, frame), self.condition(condition)]
            of_it = [n for n, applies in zip(slices, here, strict=True) if applies] or slices
            number = of_it[len(of_it) // 2]
        elif number is None:
            number = slices[len(slices) // 2]
        return {"patient": patient, "frame": frame, "slice": min(slices, key=lambda n: abs(n - number))}

    # Pictures

    def picture(self, name: str, sample: int, condition: int, plane: int) -> NDArray[Any]:
        """``image``, ``label`` or ``prediction`` of one sample: (y, x), of a volume its plane."""
        c = 0 if name == "label" else condition
        kind = cast(Any, name)
        found = self._kept.get((name, sample, c), lambda: self.store.picture(kind, sample, c))
        return found[plane] if self.is_3d else found

    def map(self, layer: str, sample: int, condition: int, channel: int, plane: int) -> Floats:
        """One channel's map of one sample: (y, x), of a volume the layer's plane where the input's ``plane`` is."""
        key = (layer, sample, condition, channel)
        found = self._kept.get(key, lambda: self.store.map(layer, sample, condition, channel))
        return found[self.plane(layer, plane)] if self.is_3d else found

    def cover(self, layer: str, sample: int, class_name: str, plane: int) -> Floats:
        """Share of each of a layer's pixels that a class of the truth covers: (y, x)."""

        def read() -> Floats:
            label = self._kept.get(("label", sample, 0), lambda: self.store.picture("label", sample))
            mask: Bools = label == self.store.classes[class_name]
            return averaged(mask, self.sizes[layer], self.store.offsets[layer])

        found = self._kept.get(("cover", layer, sample, class_name), read)
        return found[self.plane(layer, plane)] if self.is_3d else found

    def plane(self, layer: str, plane: int) -> int:
        """The z of a layer in which the middle of the input's ``plane`` lies."""
        depth, stride = self.sizes[layer][0], self.space[0] / self.sizes[layer][0]
        return int(np.clip((plane + 0.5 - self.store.offsets[layer][0]) // stride, 0, depth - 1))

    def place(self, layer: str) -> Place:
        """Where the pixels of a layer lie on the input."""
        return place_of(self.sizes[layer], self.space, self.store.offsets[layer])

    # Statistics

    def sample_mad(self, sample: int, condition: int) -> Floats:
        """MAD of every channel of the network for one sample: float (channel), NaN where not applicable.

        Raises
        ------
        StoreError
            if the store's statistics are not persisted.
        """
        if condition in self._scores:
            return cast(Floats, self._scores[condition].mad[sample])
        self.need_statistics()
        block = int(self.samples["block"].to_numpy()[sample])
        first = int(np.searchsorted(self.samples["block"].to_numpy(), block))
        found = self._kept.get(("mad", block), lambda: self._block_mad(block))
        return cast(Floats, found[sample - first, condition])

    def _block_mad(self, block: int) -> Floats:
        """float32 (sample, condition, channel)."""
        parts = []
        for layer in self.store.layout.layers:
            chunk = read_small(self.store.storage, self.store.layout.statistic(layer, "mad"), block)
            if chunk is None:
                raise StoreError(
                    f"{self.store.path} has no MAD of {layer.name}: run `actstore reduce {self.store.path}`"
                )
            parts.append(chunk.astype(np.float32))
        return np.concatenate(parts, axis=-1)

    def need_statistics(self) -> None:
        """Refuse a store whose statistics are not persisted."""
        if not self.store.reduced:
            raise StoreError(
                f"{self.store.path} has volumes without statistics: run `actstore reduce {self.store.path}`, "
                "then load this page again"
            )

    def loaded(self, condition: int) -> bool:
        """Whether :meth:`scores` comes back at once."""
        return condition in self._scores

    def scores(self, condition: int, progress: Callable[[int, int], None] = lambda done, all: None) -> Scores:
        """Statistics of one perturbation over all samples, read once; may be called from a thread of its own.

        Parameters
        ----------
        progress
            called with how many layers of how many are read.
        """
        with self._loading:
            if condition not in self._scores:
                self.need_statistics()
                self._scores[condition] = self._load(condition, progress)
            return self._scores[condition]

    def _load(self, condition: int, progress: Callable[[int, int], None]) -> Scores:
        n, total = len(self.samples), sum(self.channels.values())
        mad, member = _room((n, total), np.float32), _room((n, total), np.bool_)
        applicable = xr.DataArray(self.applicable[:, [0, condition]], dims=("sample", "condition"))
        for i, layer in enumerate(self.store.layout.layers):
            small = self.store.layout.statistic(layer, "mad")
            values = read_smalls(self.store.storage, small, self.store.parts)[:, [0, condition]]
            score = xr.DataArray(values, dims=("sample", "condition", "channel"), name="mad")
            mad[:, self.where[layer.name]] = values[:, 1]
            member[:, self.where[layer.name]] = analysis.in_top(score, TOP, applicable=applicable).values[:, 1]
            progress(i + 1, len(self.channels))
        return Scores(mad, member)

    @property
    def has_scale(self) -> bool:
        """Whether :attr:`scale` comes back at once."""
        return "scale" in self.__dict__

    @cached_property
    def scale(self) -> Floats:
        """Standard deviation of each channel on the original over space and samples: float64 (channel)."""
        self.need_statistics()
        parts = []
        for layer in self.channels:
            parts.append(pooled_std(self.store.statistics(layer, ["mean", "std"]).compute()).values)
        return np.concatenate(parts)

    def layer_mad(self, layer: str, condition: int) -> Floats:
        """Mean MAD over a layer's channels: float (sample)."""
        return cast(Floats, self.scores(condition).mad[:, self.where[layer]].mean(axis=1))

    # Subsets

    def subset(self, state: State) -> Bools:
        """Which samples the whole page is about: those that the condition applies to, and that were selected."""
        c = self.condition(state.condition)
        chosen = self.applicable[:, c].copy()
        if state.case:
            chosen &= self.cases[:, c] == state.case
        if state.dice:
            name, left, right, low, high = state.dice
            original, perturbed = (
                self.dice[:, 0, self.foreground.index(name)],
                self.dice[:, c, self.foreground.index(name)],
            )
            chosen &= (original >= left) & (original <= right) & (perturbed >= low) & (perturbed <= high)
        if state.mad:
            mad = self.layer_mad(state.mad.layer, c)
            chosen &= (mad >= state.mad.low) & (mad <= state.mad.high)
        return chosen

    def as_grid(self, values: Floats) -> Floats:
        """Values along all channels of the network as (layer, channel), NaN where a layer has no more channels."""
        found = np.full((len(self.channels), max(self.channels.values())), np.nan)
        for row, where in enumerate(self.where.values()):
            found[row, : where.stop - where.start] = values[where]
        return found


def _room(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array in memory, or in an unnamed file if it is large."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= MEMORY_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)
