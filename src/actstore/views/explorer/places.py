"""Where a store's samples lie: the conditions, patients, frames, slices and patches that can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.tables.unchanged import noun_of
from actstore.views.explorer.state import State
from actstore.views.explorer.statistics import Statistics

if TYPE_CHECKING:
    from actstore.store.store import Store


class Places(Statistics):
    """The statistics of a store, and the conditions and samples that they are of."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.conditions: pd.DataFrame = store.conditions
        self.names: list[str] = list(store.conditions.index)
        #: Whether the run perturbed nothing: the original is the only condition, and there is no change to show.
        self.alone: bool = len(self.names) == 1
        #: Conditions that can be chosen, in the store's order: all but the original, unless it is alone.
        self.perturbed: list[str] = self.names[1:] or self.names
        self.patients: list[str] = list(dict.fromkeys(self.samples["patient"]))
        #: Of each sample. Columns of a table take pandas a while to hand out, and a tap asks for dozens.
        self._slice = self.samples["slice"].to_numpy()
        self._patch = self.samples["patch"].to_numpy() if self.patched else np.zeros(len(self.samples), np.intp)
        #: Size of the input, ([z,] y, x).
        self.space: tuple[int, ...] = tuple(store.layout.space)

    @property
    def is_3d(self) -> bool:
        """Whether a sample is a volume, or a patch of one."""
        return len(self.space) == 3

    @property
    def noun(self) -> str:
        """What a sample is: a slice, a volume, a patch, or an image."""
        return noun_of(self.store)

    @property
    def patched(self) -> bool:
        """Whether a sample is a patch of a slice or volume that has several."""
        return self.store.patched

    def condition(self, name: str) -> int:
        """Number of a condition."""
        return self.names.index(name)

    def target(self, condition: str) -> str:
        """The class that a condition changes, "" for a repeat of the original."""
        return str(self.conditions.loc[condition, "target"])

    def volumes(self, patient: str) -> list[int]:
        """Frames of a patient."""
        return sorted(int(frame) for name, frame in self._volumes if name == patient)

    def frame_name(self, patient: str, frame: int) -> str:
        """A frame with its phase, where that is known: "ED 1"."""
        phase = (
            str(self.samples["phase"].to_numpy()[self._volumes[patient, frame][0]]) if "phase" in self.samples else ""
        )
        return f"{phase} {frame}".strip()

    def slices(self, patient: str, frame: int) -> list[int]:
        """Slices of a volume that can be shown."""
        if self.is_3d:
            return list(range(self.space[0]))
        return list(dict.fromkeys(self._slice[self._volumes[patient, frame]].tolist()))

    def patches(self, patient: str, frame: int, number: int) -> list[int]:
        """Patches of a slice, for a 3D network of the volume; the only one is 0."""
        patches: list[int] = self._patch[self._of_slice(patient, frame, number)].tolist()
        return patches if self.patched else [0]

    def holds(self, patient: str, frame: int, number: int, patch: int) -> bool:
        """Whether there is such a sample, or plane of one."""
        there = (patient, frame) in self._volumes and number in self.slices(patient, frame)
        return there and patch in self.patches(patient, frame, number)

    def _of_slice(self, patient: str, frame: int, number: int) -> NDArray[np.intp]:
        """Numbers of the samples of a slice, for a 3D network of the volume."""
        at = self._volumes[patient, frame]
        return at if self.is_3d else at[self._slice[at] == number]

    @cached_property
    def _volumes(self) -> dict[tuple[str, int], NDArray[np.intp]]:
        """Numbers of the samples of each patient and frame: pandas takes a millisecond to look for them."""
        grouped: Any = self.samples.groupby(["patient", "frame"], sort=False)
        found: dict[tuple[str, int], NDArray[np.intp]] = grouped.indices
        return found

    def sample(self, state: State) -> int:
        """Number of the sample that ``state`` shows."""
        at = self._of_slice(state.patient, state.frame, state.slice)
        return int(at[self.patches(state.patient, state.frame, state.slice).index(state.patch)])

    def at(self, sample: int, like: State | None = None) -> dict[str, Any]:
        """patient, frame, slice and patch of a sample; of a volume the plane of ``like``, else the middle one."""
        row = self.samples.iloc[sample]
        plane = like.slice if like else self.space[0] // 2
        return {
            "patient": str(row["patient"]),
            "frame": int(row["frame"]),
            "slice": plane if self.is_3d else int(row["slice"]),
            "patch": int(row["patch"]) if self.patched else 0,
        }

    def nearest(
        self, patient: str, frame: int | None, number: int | None, condition: str, patch: int | None = None
    ) -> dict[str, Any]:
        """The patient, frame, slice and patch nearest to those given.

        That is the slice nearest to ``number``, or the middle one of those that ``condition`` applies to; so is the
        patch.
        """
        frames = self.volumes(patient)
        frame = frame if frame in frames else frames[0]
        slices = self.slices(patient, frame)
        applies = self.applicable[:, self.condition(condition)]
        if number is None and not self.is_3d:
            usable = [n for n in slices if applies[self._of_slice(patient, frame, n)].any()] or slices
            number = usable[len(usable) // 2]
        elif number is None:
            number = slices[len(slices) // 2]
        shown = closest(slices, number)
        patches = self.patches(patient, frame, shown)
        if patch is None:
            here = applies[self._of_slice(patient, frame, shown)]
            usable = [n for n, there in zip(patches, here, strict=True) if there] or patches
            patch = usable[len(usable) // 2]
        return {"patient": patient, "frame": frame, "slice": shown, "patch": closest(patches, patch)}


def closest(numbers: Sequence[int], number: int) -> int:
    """The one of ``numbers`` that is nearest to ``number``."""
    return min(numbers, key=lambda n: abs(n - number))
