"""Made-up studies with interventions: what each edit does is known, and the groups are as a job writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.channels.ranking import in_top
from helpers import CLASSES
from studies import MadeUp

LV = "brightness(LV, 0.1)"
COUNTS = (1, 2, 4)

#: Settings as a group says them of itself.
RESTORE = {"name": "restore", "edit": "patch", "into": [LV], "donor": "original", "channels": "each"}
TRANSMIT = {"name": "transmit", "edit": "patch", "into": ["original"], "donor": LV, "channels": "each"}
REMOVE = {"name": "remove", "edit": "zero", "into": ["original"], "channels": "each"}
GROW = {"name": "grow", "edit": "patch", "into": [LV], "donor": "original", "channels": "cumulative"}


@dataclass
class Intervened(MadeUp):
    """A study whose perturbation of LV goes through a few channels: their share of the lost Dice is given."""

    #: Share of the loss that a channel carries, by layer and channel; of others 0.
    carried: Mapping[tuple[str, int], float] = field(default_factory=lambda: {("L02", 3): 0.6})
    #: Standard deviation of the noise on each edit's Dice.
    noise: float = 0.01
    interventions: Sequence[Mapping[str, Any]] = (RESTORE, TRANSMIT, REMOVE, GROW)
    #: How much more MAD the channels that carry something have.
    louder: float = 1.0
    #: Samples of each patient that are edited.
    chosen: int = 99
    #: Blocks whose interventions are committed, by default all.
    committed: int | None = None

    @cached_property
    def samples(self) -> Any:
        found = super().samples
        volume = found.groupby(["patient", "frame"], sort=False).ngroup()
        return found.assign(block=volume)

    def statistics(self, layer: str, names: Sequence[str] = ("mad", "mse", "mean", "std")) -> xr.Dataset:
        found = super().statistics(layer, names)
        scale = np.array([self.louder if (layer, c) in self.carried else 1.0 for c in range(found.sizes["channel"])])
        return found.assign(mad=found["mad"] * xr.DataArray(scale, dims="channel"))

    @property
    def groups(self) -> dict[str, Any]:
        return {
            f"interventions/{one['name']}": SimpleNamespace(identity={"intervene": dict(one)})
            for one in sorted(self.interventions, key=lambda one: str(one["name"]))
        }

    def group_committed(self, path: str) -> NDArray[np.bool_]:
        blocks = len(self.block_samples)
        return np.arange(blocks) < (blocks if self.committed is None else self.committed)

    def group(self, path: str) -> xr.Dataset:
        one = next(one for one in self.interventions if path.endswith(f"/{one['name']}"))
        made = (
            self._made[one["name"]] if one["name"] in self._made else self._made.setdefault(one["name"], self._of(one))
        )
        kept = self.group_committed(path)[self.samples["block"].to_numpy()]
        return made.isel(sample=np.flatnonzero(kept))

    @cached_property
    def _made(self) -> dict[str, xr.Dataset]:
        return {}

    def _edits(self, one: Mapping[str, Any]) -> Iterator[tuple[str, str, str, int, int, list[int]]]:
        """Edit, layer, order, count, repeat, channels."""
        rng = self._random(99)
        for layer, width in self.layers["channels"].items():
            if one["channels"] == "each":
                for channel in range(width):
                    yield f"{layer}:{channel}", layer, "each", 1, 0, [channel]
                yield layer, layer, "layer", width, 0, list(range(width))
                continue
            mad = self.statistics(layer, ["mad"])["mad"]
            top = in_top(mad, applicable=self.applicable).sel(condition=LV).sum("sample").values
            orders = {"frequency": [np.argsort(-top, kind="stable")]}
            orders["mad"] = [np.argsort(-mad.sel(condition=LV).mean("sample").values, kind="stable")]
            orders["random"] = [rng.permutation(width) for _ in range(2)]
            for order, ways in orders.items():
                for repeat, way in enumerate(ways):
                    for count in sorted({*COUNTS, width}):
                        if order == "random" and count == width and repeat:
                            continue
                        name = f"{layer}:{order}:{count}" + (f"#{repeat}" if order == "random" else "")
                        yield name, layer, order, count, repeat, way[:count].tolist()

    def _of(self, one: Mapping[str, Any]) -> xr.Dataset:
        edits = list(self._edits(one))
        edit, layer, order, count, repeat, channels = (list(part) for part in zip(*edits, strict=True))
        into, widest = list(one["into"]), int(self.layers["channels"].max())
        chosen = np.zeros((len(into), len(edit), widest), dtype=bool)
        for i, own in enumerate(channels):
            chosen[:, i, own] = True
        number = self.samples.groupby("patient").cumcount().to_numpy()
        applies = self.applicable.sel(condition=into).values
        if "donor" in one:
            applies = applies & self.applicable.sel(condition=[one["donor"]]).values
        edited = applies & (number < self.chosen)[:, None]
        counts = np.zeros((len(number), len(into), len(edit), len(CLASSES), len(CLASSES)), dtype=np.int64)
        share = [
            min(1.0, sum(self.carried.get((la, c), 0.0) for c in own)) for la, own in zip(layer, channels, strict=True)
        ]
        names, rng = list(self.conditions.index), self._random(98)
        hits = self.confusion.values[..., range(len(CLASSES)), range(len(CLASSES))].astype(float)
        size = self.confusion.values.sum(-1)[:, 0]
        for c, name in enumerate(into):
            start = hits[:, names.index(name)]
            # Switching a channel off costs what it would restore.
            end = hits[:, names.index(one.get("donor", LV))]
            for i, part in enumerate(share):
                noise = self.noise * size * rng.standard_normal(start.shape)
                found = np.rint(start + part * (end - start) + noise).clip(0, size).astype(int)
                every = np.arange(len(CLASSES))
                counts[:, c, i, every, every] = found
                counts[:, c, i, every, 0] += size - found
        counts[~edited] = 0
        sample = {name: ("sample", self.samples[name].to_numpy()) for name in self.samples}
        along = {
            "layer": layer,
            "module": [f"net.{la}" for la in layer],
            "order": order,
            "count": count,
            "repeat": repeat,
        }
        return xr.Dataset(
            {
                "confusion": (("sample", "condition", "edit", "true_class", "predicted_class"), counts),
                "edited": (("sample", "condition"), edited),
            },
            coords={
                **sample,
                **{name: ("edit", values) for name, values in along.items()},
                "condition": into,
                "edit": edit,
                "true_class": list(CLASSES),
                "predicted_class": list(CLASSES),
                "chosen": (("condition", "edit", "channel"), chosen),
            },
        )
