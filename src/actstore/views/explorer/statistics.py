"""The statistics of a store as the explorer reads them: a volume's at once, all samples' once for a perturbation."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import xarray as xr
from cachetools import LRUCache
from numpy.typing import NDArray

from actstore.analysis.channels.ranking import in_top
from actstore.analysis.channels.relative import pooled_std
from actstore.errors import StoreError
from actstore.measures.names import TOP
from actstore.views.arrays import Bools, Floats

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Called with the number of steps done and the number of all.
LoadProgress = Callable[[int, int], None]

#: Arrays over all samples and conditions, of :meth:`Statistics.whole`.
Whole = Literal["scale", "rescaled"]

#: Bytes of recent pictures, maps and statistics of a volume that stay in memory.
RECENT_BYTES = 64 * 2**20
#: Bytes of statistics read at a time: many samples, since each layer's are ranked by one call.
SHARE_BYTES = 64 * 2**20
#: Bytes of statistics of all samples in memory; the rest goes to unnamed files.
MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Scores:
    """One perturbation's statistics of all layers, along all channels of the network in order."""

    #: MAD, float32 (sample, channel), NaN where it does not apply.
    mad: Floats
    #: Whether a channel is among the top of its layer, bool (sample, channel).
    member: Bools


class Statistics:
    """The statistics of one store.

    Samples and conditions are numbered as in the store; ``channel`` runs over the channels of all layers, in order.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.samples: pd.DataFrame = store.samples
        #: Layer name to how many channels it has, in network order.
        self.channels: dict[str, int] = {layer.name: layer.channels for layer in store.layout.layers}
        starts = np.cumsum([0, *self.channels.values()])
        #: Layer name to its channels among all channels of the network.
        self.where: dict[str, slice] = {
            name: slice(int(a), int(b)) for name, a, b in zip(self.channels, starts, starts[1:], strict=False)
        }
        self.applicable: Bools = store.applicable.compute().transpose("sample", "condition").values
        # A larger array counts as all of them, and so is the only one.
        self._recent: LRUCache[Hashable, NDArray[Any]] = LRUCache(
            RECENT_BYTES, getsizeof=lambda array: min(array.nbytes, RECENT_BYTES)
        )
        self._whole: dict[Whole, NDArray[Any]] = {}
        self._scores: dict[int, Scores] = {}
        self._loading = threading.Lock()

    def recent(self, key: Hashable, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of ``key``, read unless it is one of those used last."""
        if (found := self._recent.get(key)) is None:
            # A copy: what is read may be a view of a whole chunk.
            self._recent[key] = found = np.array(read())
        return found

    def sample_maximum(self, sample: int) -> Floats:
        """The largest value of every channel's map on the original, for one sample: float (channel).

        Raises
        ------
        StoreError
            if the store's statistics are not persisted, or are older than schema 4, which has this one.
        """
        self.need_statistics()
        if "max" not in self.store.layout.statistic_names:
            raise StoreError(f"{self.store.path} has schema {self.store.layout.version}, which persisted no maximum")
        block, first = self._block_of(sample)
        read = self.recent(("max", block), lambda: self.store.stored_statistic("max", block)[:, 0].astype(np.float32))
        return cast(Floats, read[sample - first])

    def _block_of(self, sample: int) -> tuple[int, int]:
        """The block of a sample, and its first sample."""
        block = int(self.samples["block"].to_numpy()[sample])
        return block, int(np.searchsorted(self.samples["block"].to_numpy(), block))

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
        block, first = self._block_of(sample)
        found = self.recent(("mad", block), lambda: self._block_mad(block))
        return cast(Floats, found[sample - first, condition])

    def _block_mad(self, block: int) -> Floats:
        """float32 (sample, condition, channel)."""
        return self.store.stored_statistic("mad", block).astype(np.float32)

    def need_statistics(self) -> None:
        """Refuse a store whose statistics are not persisted."""
        if not self.store.reduced:
            raise StoreError(
                f"{self.store.path} has volumes without statistics: run `actstore reduce {self.store.path}`, "
                "then load this page again"
            )

    def loaded(self, condition: int) -> bool:
        """Whether :meth:`scores` returns at once."""
        return condition in self._scores

    def scores(self, condition: int, progress: LoadProgress = lambda done, all: None) -> Scores:
        """Statistics of one perturbation over all samples, read once; may be called from a thread of its own.

        Parameters
        ----------
        progress
            called with the number of layers read and of all.
        """
        # Without the lock first: nobody waits for what is there while something else is read.
        if condition not in self._scores:
            with self._loading:
                if condition not in self._scores:
                    self.need_statistics()
                    self._scores[condition] = self._load(condition, progress)
        return self._scores[condition]

    def _load(self, condition: int, progress: LoadProgress) -> Scores:
        n, total = len(self.samples), sum(self.channels.values())
        in_memory = sum(scores.mad.nbytes + scores.member.nbytes for scores in self._scores.values())
        left = MEMORY_BYTES - in_memory
        mad, member = _allocated((n, total), np.float32, left), _allocated((n, total), np.bool_, left)
        applicable = xr.DataArray(self.applicable[:, [0, condition]], dims=("sample", "condition"))
        blocks = [block for block, _ in self.store.block_samples]
        share = max(1, SHARE_BYTES // max(1, 16 * total * self.store.layout.slots))
        position = 0
        for i in range(0, len(blocks), share):
            read = [self.store.stored_statistic("mad", block)[:, [0, condition]] for block in blocks[i : i + share]]
            values = np.concatenate(read)
            samples = slice(position, position + len(values))
            mad[samples] = values[:, 1]
            for channels in self.where.values():
                score = xr.DataArray(values[..., channels], dims=("sample", "condition", "channel"), name="mad")
                found = in_top(score, TOP, applicable=applicable[samples])
                member[samples, channels] = found.values[:, 1]
            position += len(values)
            progress(min(i + share, len(blocks)), len(blocks))
        return Scores(mad, member)

    def has(self, name: Whole) -> bool:
        """Whether :meth:`whole` returns at once."""
        return name in self._whole

    def whole(self, name: Whole) -> NDArray[Any]:
        """An array over all samples, read once.

        "scale": standard deviation of each channel on the original over space and samples, float64 (channel).
        "rescaled": where normalisation changed what was not perturbed, bool (sample, condition); also where nothing
        applies.
        """
        if name not in self._whole:
            if name == "rescaled":
                found: NDArray[Any] = (self.store.rescaling != 1).transpose("sample", "condition").values
            else:
                self.need_statistics()
                found = np.concatenate([self._pooled_std(layer) for layer in self.channels])
            self._whole[name] = found
        return self._whole[name]

    def _pooled_std(self, layer: str) -> Floats:
        # Of all conditions, only the original's mean is held in memory.
        original = self.store.statistics(layer, ["mean", "std"]).isel(condition=slice(1), missing_dims="ignore")
        found: Floats = pooled_std(original.compute()).values
        return found

    def persisted_mad(self, layer: str) -> Floats:
        """MAD of a layer as it is stored: float64 (sample, condition, channel), NaN where not applicable.

        Raises
        ------
        StoreError
            if the store's statistics are not persisted, or damaged.
        """
        self.need_statistics()
        return self.store.statistics(layer, ["mad"], persisted=True)["mad"].transpose(..., "channel").values

    def layer_mad(self, layer: str, condition: int) -> Floats:
        """Mean MAD over a layer's channels: float64 (sample); reads that layer's alone before :meth:`scores`."""
        if self.loaded(condition):
            mad = self.scores(condition).mad[:, self.where[layer]]
        else:
            mad = self.persisted_mad(layer)[:, condition].astype(np.float32)
        # The last bits of a sum depend on dtype and order: make both the same, wherever it was read from.
        return cast(Floats, np.ascontiguousarray(mad, np.float64).mean(axis=1))

    def as_grid(self, values: Floats) -> Floats:
        """Values along all channels of the network as (layer, channel), NaN where a layer has no more channels."""
        found = np.full((len(self.channels), max(self.channels.values())), np.nan)
        for row, where in enumerate(self.where.values()):
            found[row, : where.stop - where.start] = values[where]
        return found


def _allocated(shape: tuple[int, ...], dtype: Any, most: int) -> NDArray[Any]:
    """An array in memory, or in an unnamed file if it has more than ``most`` bytes."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= most:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)
