"""From raw volumes to what a network sees: the steps that a trained network brings, or those of a spec."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actstore.data.volume import Volume, VolumeFile, VolumeHeader
from actstore.inputs.windows import Windows


class Pipeline(Protocol):
    """Reads volumes and preprocesses them. Perturbations come between the two."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input's channels."""
        ...

    @property
    def window(self) -> tuple[int, ...]:
        """The network's input in voxels: (y, x) or (z, y, x)."""
        ...

    @property
    def slice_axis(self) -> int:
        """The axis of a raw volume (z, y, x) along which the file has its slices."""
        ...

    def grid(self, file: VolumeFile) -> VolumeHeader:
        """Shape (z, y, x) and spacing (mm) of the preprocessed volume, without preprocessing it."""
        ...

    def read(self, file: VolumeFile) -> Volume:
        """The raw volume, in the network's order of axes."""
        ...

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the part in the middle of a raw volume of ``shape`` (z, y, x) that the network sees: of a slice
        (y, x) for a 2D network, else (z, y, x)."""
        ...

    def frame(self, volume: Volume) -> Any:
        """What is derived from the original image and used for every condition, such as the box it is cropped to."""
        ...

    def image(self, raw: NDArray[np.floating], frame: Any) -> NDArray[np.float32]:
        """Raw intensities (channel, z, y, x) of any condition → preprocessed (channel, z, y, x)."""
        ...

    def label(self, volume: Volume, frame: Any) -> NDArray[np.uint8]:
        """Class indices in the voxels of the preprocessed volume, (z, y, x)."""
        ...

    def windows(self, shape: tuple[int, int, int]) -> Windows:
        """How patches cover a preprocessed volume of ``shape`` (z, y, x)."""
        ...
