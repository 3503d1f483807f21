"""What pipelines of trained networks have in common: their folder says what they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from actstore.data.names import NIFTI
from actstore.data.volume import VolumeFile
from actstore.spec.bundle_folder import BundleFolder
from actstore.spec.nnunet_results import ResultFolder

Folder = TypeVar("Folder", ResultFolder, BundleFolder)


@dataclass(frozen=True, eq=False)
class TrainedPipeline(Generic[Folder]):
    """The part of a `Pipeline` that follows from the folder of a trained network."""

    folder: Folder
    #: ``data.geometry``: "check", or "ignore" for headers that contradict each other.
    geometry: str = "check"

    def __reduce__(self) -> tuple[Any, ...]:
        # What the network's libraries make of the folder is made anew where this arrives: not all of it can be pickled.
        return type(self), (self.folder, self.geometry)

    @property
    def channels(self) -> tuple[str, ...]:
        return self.folder.channels

    @property
    def window(self) -> tuple[int, ...]:
        return self.folder.window

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As `Pipeline.seen`: the patches show all of it."""
        return shape[-len(self.window) :]


def all_nifti(file: VolumeFile) -> bool:
    """Whether images and mask are NIfTI files."""
    return all(path.name.endswith(NIFTI) for path in (*file.images, file.label))
