"""The steps that a spec asks for itself: normalise, then centre-pad or centre-crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.data.nifti import read_header, read_volume
from actstore.data.volume import Volume, VolumeFile, VolumeHeader
from actstore.inputs.preprocess import Scaling, normalize, scalings
from actstore.inputs.windows import Windows, centred
from actstore.spec.spec import Spec


@dataclass(frozen=True)
class Plain:
    """Preprocessing by ``data.preprocess``: every slice, or the volume, is one patch in the middle of the image."""

    spec: Spec

    @property
    def channels(self) -> tuple[str, ...]:
        return self.spec.input_channels

    @property
    def window(self) -> tuple[int, ...]:
        return self.spec.data.preprocess.size

    @property
    def slice_axis(self) -> int:
        return self.spec.slice_axis

    def grid(self, file: VolumeFile) -> VolumeHeader:
        return read_header(file, **self._reading)

    def read(self, file: VolumeFile) -> Volume:
        return read_volume(file, self.spec.labels.exclusive, **self._reading)

    @property
    def _reading(self) -> Any:
        spec = self.spec
        return {
            "geometry": spec.data.geometry,
            "sliced": spec.sliced,
            "order": spec.axis_order,
            "channels": len(spec.input_channels),
        }

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.window

    def frame(self, volume: Volume) -> tuple[tuple[Scaling, ...], ...] | None:
        """The scalings of the original's channels, where conditions share them."""
        if self.spec.window != "original":
            return None
        method = self.spec.data.preprocess.normalize
        return tuple(scalings(channel, method, slices=self.slice_axis) for channel in volume.image)

    def image(self, raw: NDArray[np.floating], frame: Sequence[Sequence[Scaling]] | None) -> NDArray[np.float32]:
        method, slices = self.spec.data.preprocess.normalize, self.slice_axis
        shared = [None] * len(raw) if frame is None else frame
        return np.stack(
            [normalize(channel, method, of, slices=slices) for channel, of in zip(raw, shared, strict=True)]
        )

    def label(self, volume: Volume, frame: object) -> NDArray[np.uint8]:
        return volume.label

    def windows(self, shape: tuple[int, int, int]) -> Windows:
        return centred(shape, self.window)
