"""Studies of made-up numbers with the part of a store's interface that the report uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore import analysis
from actstore.case_rules import CaseRules
from helpers import CLASSES

IDENTITY = 1.0


@dataclass
class MadeUp:
    """A study of noise for MAD and Dice, with only the requested effects.

    Replaces a store for :class:`actstore.Findings` and :class:`actstore.views.report.study.Study` where neither pixels
    nor tensors are needed.
    """

    patients: int = 6
    slices: int = 4
    widths: Sequence[int] = (4, 16, 8)
    targets: Sequence[str] = ("LV", "RV")
    strengths: Sequence[float] = (0.1,)
    controls: bool = False
    #: The perturbed prediction has no pixel of this class.
    floor: str = ""
    #: Number of steps to round MAD to, so that channels often tie; 0 for no rounding.
    steps: int = 0
    #: Share of (sample, condition) to which a condition does not apply.
    missing: float = 0.1
    frames: Sequence[int] = (1, 12)
    #: Correlation of MAD and Dice between neighbouring slices of a volume.
    smooth: float = 0.0
    seed: int = 0
    path: str = "made-up.zarr"
    #: Samples are slices, and not images of one class.
    patched: bool = False
    classified: bool = False
    class_names: tuple[str, ...] = CLASSES
    case_rules: CaseRules = field(default_factory=CaseRules)

    @property
    def attributes(self) -> dict[str, Any]:
        return {"spec": {"data": {"preprocess": {"normalize": "minmax-slice", "window": "perturbed"}}}}

    @property
    def groups(self) -> dict[str, Any]:
        """No job filled any."""
        return {}

    @cached_property
    def members(self) -> dict[str, tuple[int, ...]]:
        return {name: (i,) for i, name in enumerate(self.class_names) if i}

    @cached_property
    def block_samples(self) -> list[int]:
        return list(range(self.patients * len(self.frames)))

    @cached_property
    def conditions(self) -> pd.DataFrame:
        rows = [("original", "original", "", np.nan, "")]
        for target in self.targets:
            for strength in self.strengths:
                rows.append((f"brightness({target}, {strength:g})", "brightness", target, strength, "target"))
                if self.controls:
                    name = f"brightness({target}, {strength:g}, control)"
                    rows.append((name, "brightness", target, strength, "control"))
        if self.controls:
            rows.append(("repeat", "repeat", "", np.nan, ""))
        columns = ["condition", "transform", "target", "strength", "region"]
        return pd.DataFrame(rows, columns=columns).assign(perturbation_source="").set_index("condition")

    @cached_property
    def samples(self) -> pd.DataFrame:
        rows = [
            {"patient": f"patient{p + 1:03d}", "frame": frame, "slice": s, "spacing_y": 1.5, "spacing_x": 1.5}
            for p in range(self.patients)
            for frame in self.frames
            for s in range(self.slices)
        ]
        return pd.DataFrame(rows)

    @cached_property
    def layers(self) -> pd.DataFrame:
        names = [f"L{i + 1:02d}" for i in range(len(self.widths))]
        return pd.DataFrame(
            {"module": [f"net.{n}" for n in names], "channels": list(self.widths), "size": [(64, 64)] * len(names)},
            index=pd.Index(names, name="layer"),
        )

    @property
    def layout(self) -> Any:
        layers = [SimpleNamespace(name=name, kept=False) for name in self.layers.index]
        return SimpleNamespace(layers=layers, space=(64, 64))

    @cached_property
    def _coords(self) -> dict[str, Any]:
        along = {name: ("sample", self.samples[name].to_numpy()) for name in self.samples}
        of = {name: ("condition", self.conditions[name].to_numpy()) for name in self.conditions}
        return {**along, **of, "condition": self.conditions.index.to_numpy()}

    def _random(self, what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, what])

    @cached_property
    def applicable(self) -> xr.DataArray:
        values = self._random(0).random((len(self.samples), len(self.conditions))) >= self.missing
        values[:, (self.conditions["target"] == "").to_numpy()] = True
        return xr.DataArray(values, dims=("sample", "condition"), coords=self._coords)

    @property
    def rescaling(self) -> xr.DataArray:
        """Normalisation rescaled nothing."""
        return xr.ones_like(self.applicable, dtype=float)

    def _normal(self, rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
        """Standard normal (sample, *shape), an autoregressive process along the slices of each volume."""
        noise = rng.standard_normal((len(self.block_samples), self.slices, *shape))
        for s in range(1, self.slices):
            noise[:, s] = self.smooth * noise[:, s - 1] + np.sqrt(1 - self.smooth**2) * noise[:, s]
        return noise.reshape(-1, *shape)

    @cached_property
    def confusion(self) -> xr.DataArray:
        rng, n = self._random(1), len(CLASSES)
        size = rng.integers(60, 140, (len(self.samples), 1, n))
        changed = self.conditions["target"].to_numpy()[:, None] == np.array(CLASSES)
        lost = changed & (np.array(CLASSES) == self.floor)
        rate = np.where(lost, 0.0, np.where(changed, 0.7, 0.9)) - 0.05 * self._normal(rng, *changed.shape)
        hits = rng.binomial(np.broadcast_to(size, rate.shape), np.where(lost, 0.0, rate.clip(0, 1)))
        values = np.zeros((*hits.shape, n), dtype=np.int64)
        every = np.arange(n)
        values[..., every, every] = hits
        # Missed pixels become background, so that a lost class is not predicted anywhere.
        values[..., every, 0] += size - hits
        values[~self.applicable.values] = 0
        dims = ("sample", "condition", "true_class", "predicted_class")
        coords = self._coords | {"true_class": list(CLASSES), "predicted_class": list(CLASSES)}
        return xr.DataArray(values, dims=dims, coords=coords)

    @cached_property
    def cases(self) -> xr.DataArray:
        return analysis.cases(self.confusion, self.case_rules, applicable=self.applicable)

    def statistics(self, layer: str, names: Sequence[str] = ("mad", "mse", "mean", "std")) -> xr.Dataset:
        number, channels = list(self.layers.index).index(layer), int(self.layers.loc[layer, "channels"])
        rng = self._random(2 + number)
        mad = np.exp(0.5 * self._normal(rng, len(self.conditions), channels))
        if self.steps:
            mad = np.ceil(mad * self.steps) / self.steps
        mad[:, (self.conditions["target"] == "").to_numpy()] = 0
        mad[~self.applicable.values] = np.nan
        original = rng.lognormal(sigma=0.2, size=(2, len(self.samples), channels))
        dims = ("sample", "condition", "channel")
        found = {"mad": (dims, mad), "mse": (dims, mad**2), "mean": (dims[::2], original[0])}
        found["std"] = (dims[::2], original[1])
        coords = self._coords | {"layer": layer, "module": f"net.{layer}"}
        return xr.Dataset({name: found[name] for name in names}, coords=coords)

    def compute_statistics(self, names: Sequence[str] = ("mad", "mse", "mean", "std")) -> dict[str, xr.Dataset]:
        return {layer: self.statistics(layer, names) for layer in self.layers.index}
