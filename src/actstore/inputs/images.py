"""What a classifier sees of images: each is read and preprocessed by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from actstore.conditions import Applies
from actstore.data.images import GroupHeader, ImageGroup, header_of
from actstore.data.pictures import Reading, picture_header, read_picture
from actstore.data.volume import Volume, VolumeKey
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import Prepared, prepare
from actstore.inputs.windows import Windows
from actstore.spec.spec import Spec


@dataclass(frozen=True)
class ImageSet:
    """The images of a group in memory."""

    key: VolumeKey
    images: tuple[Volume, ...]
    #: As `ImageGroup.digest`.
    digest: bytes


@dataclass(frozen=True)
class ImagePipeline:
    """Preprocessing of images by ``data.preprocess``: as `Plain` for volumes of one slice, image by image."""

    spec: Spec

    @cached_property
    def each(self) -> Plain:
        """Preprocesses one image."""
        return Plain(self.spec)

    @property
    def channels(self) -> tuple[str, ...]:
        return self.each.channels

    @property
    def window(self) -> tuple[int, ...]:
        return self.each.window

    @property
    def reading(self) -> Reading:
        spec = self.spec
        order = spec.axis_order if not spec.sliced else (0, 1, 2)
        colour = spec.data.images.colour
        return Reading(len(self.window), len(spec.input_channels), colour, order, spec.data.geometry)

    def windows(self, shape: tuple[int, int, int]) -> Windows:
        """How the network's input covers one image of ``shape`` (1 or z, y, x)."""
        return self.each.windows(shape)

    def grid(self, group: ImageGroup) -> GroupHeader:
        """Sizes of a group's images, without preprocessing them."""
        reading = self.reading
        return header_of([picture_header(picture, reading) for picture in group.pictures])

    def read(self, group: ImageGroup) -> ImageSet:
        """The raw images of a group."""
        reading = self.reading
        images = tuple(read_picture(picture, reading) for picture in group.pictures)
        return ImageSet(group.key, images, group.digest_with(image.digest for image in images))

    def prepare(self, images: ImageSet, *, applies: Applies = "changed") -> PreparedImages:
        """The network's inputs of each image, under every condition."""
        return PreparedImages(
            tuple(prepare(self.spec, self.each, image, applies=applies) for image in images.images),
            tuple(image.key.patient for image in images.images),
        )


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """The network's inputs of some images, as `Prepared` has them of a volume. A sample is an image."""

    parts: Sequence[Prepared]
    #: Of each image.
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def space(self) -> tuple[int, ...]:
        return self.parts[0].space

    @cached_property
    def classes(self) -> NDArray[np.intp]:
        """(sample,) number of each image's class."""
        return np.array([part.classes.flat[0] for part in self.parts], np.intp)

    @cached_property
    def applicable(self) -> NDArray[np.bool_]:
        return np.concatenate([part.applicable for part in self.parts])

    @cached_property
    def unchanged(self) -> NDArray[np.bool_]:
        return np.concatenate([part.unchanged for part in self.parts])

    @cached_property
    def stretched(self) -> NDArray[np.float64]:
        return np.concatenate([part.stretched for part in self.parts])

    def images(self, samples: slice, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Inputs (sample, condition, channel, \\*space), NaN where not ``wanted`` (sample, condition)."""
        chosen = self.parts[samples]
        return np.concatenate([part.images(slice(0, 1), wanted[samples][i : i + 1]) for i, part in enumerate(chosen)])

    def name_of(self, sample: int) -> str:
        """For messages."""
        return self.names[sample]


#: What a block's samples are made of.
Inputs = Prepared | PreparedImages
