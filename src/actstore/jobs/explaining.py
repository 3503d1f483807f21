"""What a job of explanations works with: the run, the settings, the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.attribution.randomisation import Layers
from actstore.jobs.of_run import OfRun
from actstore.spec.explain import Explain
from actstore.spec.spec import Spec
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.schema import Layer

#: Numbers of samples in the store, and what one sample has in each array.
Samples = NDArray[np.int64]
Found = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Explaining(OfRun):
    """Which explanation of a run's samples is made, and how."""

    #: With what depends on the network as it was found.
    settings: Explain
    #: Whose channels are projected back; none where classes are explained.
    layers: tuple[Layer, ...]
    #: Whose weights are permuted: of each of ``layers``, those up to it; else those of the network.
    weighted: tuple[Layers, ...]

    @property
    def group(self) -> str:
        return f"explain/{self.settings.name}"

    @property
    def targets(self) -> tuple[str, ...]:
        """The classes that are explained."""
        return self.settings.targets or tuple(self.spec.labels.members)

    @property
    def conditions(self) -> tuple[int, ...]:
        """Indices, among the run's, of the conditions that are explained."""
        names = [condition.name for condition in self.spec.conditions]
        return tuple(names.index(name) for name in self.settings.conditions)

    def maps(self, name: str, leading: tuple[str, ...], shape: tuple[int, ...]) -> ArrayLayout:
        """The layout of maps over the input, (sample, \\*leading, [z,] y, x) float32."""
        layout, ones = self.layout, (1,) * len(shape)
        dims = ("sample", *leading, *self.spec.spatial_dims)
        whole, chunk = (*shape, *layout.space), (*ones, *layout.space)
        return ArrayLayout(f"{self.group}/{name}", dims, "float32", layout.blocks, layout.slots, whole, chunk)

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers."""
        return {
            "explain": self.settings.as_json(),
            "layers": [layer.as_json() for layer in self.layers],
            "weighted": self.weighted,
            **self.network_identity(),
        }

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None) -> Self:
        """As `OfRun.again_of`."""
        return cls(
            **cls.again_of(storage, identity, spec),
            settings=Explain.model_validate(identity["explain"]),
            layers=tuple(Layer.from_json(layer) for layer in identity["layers"]),
            weighted=tuple(tuple(tuple(names) for names in layers) for layers in identity["weighted"]),
        )
