"""What an adapter does between a volume's files and the network's input."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actstore.data.volume import Volume, VolumeFile, VolumeHeader
from actstore.inputs.windows import Windows


class Pipeline(Protocol):
    """The preprocessing and the patches that a network was trained with. Picklable; safe to use from threads.

    Arrays have the network's axis order, called (z, y, x) here. What preprocessing derives from an image, such as a
    crop box, comes from the original image and holds for every condition: a perturbation must not move the frame.
    """

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""

    @property
    def window(self) -> tuple[int, ...]:
        """The network's input in voxels: (y, x) or (z, y, x)."""

    def grid(self, file: VolumeFile) -> VolumeHeader:
        """Shape (z, y, x) and spacing (mm) of the preprocessed volume."""

    def read(self, file: VolumeFile) -> Volume:
        """The raw volume. `frame`, `image` and `label` take what this returns."""

    def frame(self, volume: Volume) -> Any:
        """What preprocessing derives from the original image."""

    def image(self, raw: NDArray[np.floating], frame: Any) -> NDArray[np.float32]:
        """Preprocess raw intensities (channel, z, y, x) of any condition: (channel, z, y, x), float32, a new array."""

    def label(self, volume: Volume, frame: Any) -> NDArray[np.uint8]:
        """Class indices (z, y, x) in the preprocessed grid, uint8."""

    def windows(self, shape: tuple[int, int, int]) -> Windows:
        """How patches cover a preprocessed volume of ``shape`` (z, y, x)."""
