"""What a job of interventions works with: the run, the settings, layers, edits, and which samples they are made of."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.jobs.edits import Edit, Ranking, edit_coordinates, edits_of
from actstore.jobs.of_run import OfRun
from actstore.jobs.reading import read
from actstore.spec.intervene import Intervene
from actstore.spec.spec import Spec
from actstore.store.files.base import Storage
from actstore.store.layout import CHUNK_BYTES, ArrayLayout, SmallLayout, largest_divisor
from actstore.store.schema import Coordinate, Layer, Schema, record_of
from actstore.store.store import Store


@dataclass(frozen=True)
class Intervening(OfRun):
    """Which channels of a run are edited, and how."""

    settings: Intervene
    layers: tuple[Layer, ...]
    #: Of each layer, whether the donor's maps are computed in the same pass, since the store does not have their bits.
    recomputed: tuple[bool, ...]
    #: Whether predictions are averaged over overlapping patches.
    stitched: bool
    #: What sets of channels are the beginnings of.
    rankings: tuple[Ranking, ...]

    @property
    def group(self) -> str:
        return f"interventions/{self.settings.name}"

    @cached_property
    def edits(self) -> tuple[Edit, ...]:
        return edits_of(self.settings, self.layers, len(self.settings.into), self.rankings)

    def _index(self, condition: str) -> int:
        return [one.name for one in self.spec.conditions].index(condition)

    @property
    def into(self) -> tuple[int, ...]:
        """Indices, among the run's conditions, of those whose passes are edited."""
        return tuple(map(self._index, self.settings.into))

    @property
    def donor(self) -> int | None:
        """Index of the condition whose maps are put in, of a patch."""
        return self._index(self.settings.from_condition) if self.settings.edit == "patch" else None

    @property
    def touched(self) -> bool:
        """Whether inputs other than the original's are needed."""
        conditions = [*self.into, *([] if self.donor is None else [self.donor])]
        return any(not self.spec.conditions[condition].is_untouched for condition in conditions)

    def target(self, position: int) -> str:
        """The class of the region that is edited, for the condition at ``position`` of ``into``."""
        names = [self.spec.conditions[c].target for c in (self.into[position], self.donor or 0)]
        return self.settings.target or next(filter(None, names))

    @property
    def schema(self) -> Schema:
        layout, conditions, edits, classes = self.layout, len(self.into), len(self.edits), self.layout.classes

        def array(name: str, dims: tuple[str, ...], dtype: str, shape: tuple[int, ...]) -> ArrayLayout:
            each = int(np.prod(shape)) * np.dtype(dtype).itemsize
            together = largest_divisor(edits, max(1, CHUNK_BYTES // each))
            return ArrayLayout(
                f"{self.group}/{name}",
                ("sample", "condition", "edit", *dims),
                dtype,
                layout.blocks,
                layout.slots,
                (conditions, edits, *shape),
                (1, together, *shape),
            )

        arrays: tuple[ArrayLayout | SmallLayout, ...] = (
            array("confusion", ("true_class", "predicted_class"), "int64", (classes, classes)),
            SmallLayout(
                f"{self.group}/edited", ("sample", "condition"), "bool", layout.blocks, (layout.slots, conditions)
            ),
        )
        if layout.classified:
            arrays += (array("score", ("class_name",), "float32", (classes,)),)
        names = tuple(coordinate.name for coordinate in self.coordinates)
        return Schema(self.group, record_of(self.group, layout.blocks), arrays, coordinates=names)

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        classes = np.asarray(self.spec.class_names)
        named = ("true_class", "predicted_class", *(("class_name",) if self.layout.classified else ()))
        return (
            Coordinate("condition", ("condition",), np.asarray(self.settings.into)),
            *edit_coordinates(self.edits, self.layers),
            *(Coordinate(name, (name,), classes) for name in named),
        )

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers."""
        return {
            "intervene": self.settings.as_json(),
            "layers": [layer.as_json() for layer in self.layers],
            "recomputed": list(self.recomputed),
            "stitched": self.stitched,
            "rankings": [ranking.as_json() for ranking in self.rankings],
            **self.network_identity(),
        }

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None) -> Self:
        """As `OfRun.again_of`."""
        return cls(
            **cls.again_of(storage, identity, spec),
            settings=Intervene.model_validate(identity["intervene"]),
            layers=tuple(Layer.from_json(layer) for layer in identity["layers"]),
            recomputed=tuple(identity["recomputed"]),
            stitched=identity["stitched"],
            rankings=tuple(Ranking.from_json(one) for one in identity["rankings"]),
        )

    @cached_property
    def means(self) -> tuple[NDArray[np.float32], ...]:
        """Of each layer the mean, over all originals of the run, of each channel's mean: (channel)."""
        store = Store(self.storage.location)
        found = (store.statistics(layer.name, ["mean"])["mean"].isel(condition=0) for layer in self.layers)
        return tuple(read(means.mean("sample")).astype(np.float32) for means in found)

    def _present(self, store: Store) -> NDArray[np.bool_]:
        """Whether a sample owns any of the class whose region is edited: (sample, condition)."""
        true = read(store.confusion.isel(condition=0).sum("predicted_class"))
        members = self.spec.labels.members
        targets = [self.target(position) for position in range(len(self.into))]
        return np.stack([true[:, list(members[target])].sum(1) > 0 for target in targets], 1)

    def edited(self, store: Store) -> NDArray[np.bool_]:
        """Which passes are edited: bool (sample, condition), of the store's samples and the conditions of ``into``.

        Those where the condition, and the donor's, apply, and that own some of the class inside which is edited; of
        patches that overlap all of a volume, if they apply to one. Of each patient as many samples, or such volumes, as
        ``samples`` says, drawn at random by the seed and the patient's name alone.
        """
        applicable = read(store.applicable)
        found: NDArray[np.bool_] = applicable[:, list(self.into)].copy()
        if self.donor is not None:
            found &= applicable[:, [self.donor]]
        if self.settings.region == "inside":
            found &= self._present(store)
        units = np.arange(len(found))
        if self.stitched:
            units = store.samples["block"].to_numpy()
            found = np.stack([found[units == unit].any(0) for unit in units])
        if self.settings.samples is None:
            return found
        patients = store.samples["patient"].to_numpy()
        for patient in np.unique(patients):
            own = (patients == patient) & found.any(1)
            rng = np.random.default_rng([self.settings.seed, zlib.crc32(str(patient).encode())])
            drawn = rng.permutation(np.unique(units[own]))[: self.settings.samples]
            found[(patients == patient) & ~np.isin(units, drawn)] = False
        return found
