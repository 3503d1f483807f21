"""A MONAI bundle's own transforms and windows, around raw intensities that a perturbation may change."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.data.geometry import volume_header
from actstore.data.headers import Geometry
from actstore.data.nifti import check_intensities, class_indices, digest_files, read_header
from actstore.data.volume import Volume, VolumeFile, VolumeHeader
from actstore.errors import DataError, ModelError, one_line
from actstore.inputs.bundle_steps import Step, Transforms, as_steps, word
from actstore.inputs.trained import TrainedPipeline, all_nifti
from actstore.inputs.windows import Windows, product
from actstore.networks.bundle import resolved
from actstore.spec.bundle_folder import BundleFolder
from actstore.units import by, counted, shown


@dataclass(frozen=True, eq=False)
class BundleVolume(Volume):
    """A volume with what MONAI's transforms read from its image's header."""

    meta: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class BundleFrame:
    """What a bundle's transforms derive from the original image."""

    meta: Mapping[str, Any]
    #: What each transform takes from the original: a crop box, a mask of non-zero voxels, or nothing.
    derived: tuple[Any, ...]
    #: (z, y, x) of the preprocessed volume.
    shape: tuple[int, int, int]
    #: Voxel indices of the preprocessed volume to millimetres, float64 (4, 4).
    affine: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BundlePipeline(TrainedPipeline[BundleFolder]):
    """The `Pipeline` of a MONAI bundle. Arrays have MONAI's order of axes, (i, j, k), called (z, y, x)."""

    def grid(self, file: VolumeFile) -> VolumeHeader:
        """Reads and preprocesses the images, whose content may decide the shape.

        Raises
        ------
        DataError
            if the images cannot be read, or are not those of the network.
        """
        caveats = self._header(file).caveats if all_nifti(file) else ()
        image, meta = self._images(file)
        frame = self._frame(image, meta)
        z, y, x = (float(length) for length in np.linalg.norm(frame.affine[:3, :3], axis=0))
        return VolumeHeader(frame.shape, (z, y, x), caveats)

    def read(self, file: VolumeFile) -> BundleVolume:
        """The images as the bundle's loader gives them; class indices of the mask.

        Raises
        ------
        DataError
            if a file cannot be read or holds a label that the network does not know, or if the images and the mask do
            not match each other or the network.
        """
        if all_nifti(file):
            self._header(file)
        image, meta = self._images(file)
        loaded, label_meta = self._loaded(str(file.label), file.label)
        raw = loaded.numpy()
        if raw.shape[1:] != image.shape[1:]:
            raise DataError(
                f"{shown(file.label)}: has shape {by(raw.shape[1:])}, its image {by(image.shape[1:])}; give "
                "the mask that belongs to the image"
            )
        if not all_nifti(file):
            grids = [(file.images[0], _geometry(image, meta)), (file.label, _geometry(raw, label_meta))]
            volume_header(file.key, grids, geometry=self.geometry)
        mend = "the bundle's metadata.json has no other: correct the mask"
        label = class_indices(raw[0], self.folder.classes, file.label, mend=mend)
        spacing = _geometry(image, meta).spacing
        return BundleVolume(file.key, image, label, digest_files(file), spacing, meta)

    @property
    def slice_axis(self) -> int:
        return 2

    def frame(self, volume: Volume) -> BundleFrame:
        if not isinstance(volume, BundleVolume) or volume.meta is None:
            raise TypeError(f"{volume.key} was not read by this pipeline")
        return self._frame(volume.image, volume.meta)

    def image(self, raw: NDArray[np.floating], frame: Any) -> NDArray[np.float32]:
        """As `Pipeline.image`.

        Raises
        ------
        DataError
            if the transforms fail, or give another shape than for the original.
        """
        data = self._start(raw, frame.meta)
        for step, derived in zip(self._transforms.steps, frame.derived, strict=True):
            data = _applied(step, data, derived)
        result: NDArray[np.float32] = np.array(data.as_tensor().cpu().numpy(), np.float32)
        if result.shape[1:] != frame.shape:
            raise DataError(
                f"the bundle's transforms gave {by(result.shape[1:])} voxels, for the original "
                f"{by(frame.shape)}: a perturbation moves what they derive from the image; use others"
            )
        return result

    def label(self, volume: Volume, frame: Any) -> NDArray[np.uint8]:
        data = self._start(volume.label[None], frame.meta)
        for step, derived in zip(self._transforms.steps, frame.derived, strict=True):
            if step.spatial:
                data = _applied(step.nearest(), data, derived)
        result: NDArray[np.uint8] = np.rint(data.as_tensor().cpu().numpy()).astype(np.uint8)[0]
        if result.shape != frame.shape:
            raise ModelError(
                f"{shown(self.folder.config)}: preprocessing gives images {by(frame.shape)} voxels and labels "
                f"{by(result.shape)}: a transform that is not MONAI's own moves the image; only MONAI's may"
            )
        return result

    def windows(self, shape: tuple[int, int, int]) -> Windows:
        """As ``SlidingWindowInferer`` lays them, or the one of ``SimpleInferer``.

        Raises
        ------
        DataError
            if the volume would be padded otherwise than with zeros, or does not have the one window's size.
        """
        inferer, (z, y, x) = self._inferer, self.window
        if type(inferer).__name__ == "SimpleInferer":
            if shape != self.window:
                raise DataError(
                    f"a preprocessed volume has {by(shape)} voxels, the network takes {by(self.window)} and "
                    "the bundle's SimpleInferer makes no windows; use a SlidingWindowInferer"
                )
            return product(shape, (z, y, x), ([0], [0], [0]), None)
        from monai.data.utils import compute_importance_map, dense_patch_slices
        from monai.inferers.utils import _get_scan_interval
        from monai.utils.misc import ensure_tuple_rep

        padded = [max(n, s) for n, s in zip(shape, self.window, strict=True)]
        if padded != list(shape) and (inferer.cval or word(inferer.padding_mode) != "constant"):
            raise DataError(
                f"a preprocessed volume has {by(shape)} voxels, its window {by(self.window)}, and the bundle's "
                f"inferer pads with {word(inferer.padding_mode)} {inferer.cval:g}; only zeros are supported"
            )
        interval = _get_scan_interval(padded, self.window, 3, ensure_tuple_rep(inferer.overlap, 3))
        slices = dense_patch_slices(padded, self.window, interval)
        before = [(m - n) // 2 for m, n in zip(padded, shape, strict=True)]
        origins = np.array([[s.start - b for s, b in zip(where, before, strict=True)] for where in slices], np.int64)
        if word(inferer.mode) == "constant":
            return Windows(shape, (z, y, x), origins)
        weights = compute_importance_map((z, y, x), mode=inferer.mode, sigma_scale=inferer.sigma_scale)
        return Windows(shape, (z, y, x), origins, weights.numpy().copy())

    @cached_property
    def _transforms(self) -> Transforms:
        return as_steps(resolved(self.folder, "preprocessing"), shown(self.folder.config))

    @cached_property
    def _inferer(self) -> Any:
        inferer = resolved(self.folder, "inferer")
        name, where = type(inferer).__name__, shown(self.folder.config)
        if name not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SimpleInferer"):
            raise ModelError(
                f"{where}: its inferer is a {name}; SlidingWindowInferer and SimpleInferer are supported, write a "
                "factory for model.factory otherwise"
            )
        if getattr(inferer, "with_coord", False):
            raise ModelError(f"{where}: its network takes coordinates of windows (with_coord), which is not supported")
        size = getattr(inferer, "roi_size", self.window)
        size = tuple(size) if isinstance(size, list | tuple) else (size,) * 3
        if size != self.window:
            raise ModelError(
                f"{where}: inferer.roi_size is {list(size)}, the window {list(self.window)} was expected; write "
                "roi_size as a list of three sizes"
            )
        return inferer

    def _header(self, file: VolumeFile) -> VolumeHeader:
        return read_header(file, geometry=self.geometry, channels=len(self.channels))

    def _images(self, file: VolumeFile) -> tuple[NDArray[np.floating], Mapping[str, Any]]:
        paths = [str(path) for path in file.images]
        data, meta = self._loaded(paths[0] if len(paths) == 1 else paths, file.images[0])
        image = np.ascontiguousarray(data.numpy(), np.float32)
        if image.ndim != 4 or len(image) != len(self.channels):
            raise DataError(
                f"{shown(file.images[0])}: {file.key} is read as {by(image.shape)}, the network takes "
                f"{counted(len(self.channels), 'channel')} ({', '.join(self.channels)}) of 3D; correct data.root"
            )
        for channel, one in enumerate(image):
            check_intensities(one, file.images[min(channel, len(file.images) - 1)])
        return image, meta

    def _loaded(self, path: Any, shown_path: Path) -> tuple[Any, Mapping[str, Any]]:
        """What the bundle's loader gives: a tensor (channel, i, j, k), and the header's entries."""
        data = {self._transforms.key: path}
        try:
            for transform in self._transforms.loading:
                data = transform(data)
        except Exception as error:
            raise DataError(
                f"{shown(shown_path)}: the bundle's loader cannot read it: {one_line(error)}; restore the file, or "
                "correct data.root"
            ) from error
        loaded: Any = data[self._transforms.key]
        return loaded.as_tensor(), deepcopy(dict(loaded.meta))

    def _start(self, raw: NDArray[Any], meta: Mapping[str, Any]) -> Any:
        import torch
        from monai.data.meta_tensor import MetaTensor

        # A copy, since transforms may change their input.
        return MetaTensor(torch.from_numpy(np.array(raw, np.float32)), meta=deepcopy(dict(meta)))

    def _frame(self, image: NDArray[np.floating], meta: Mapping[str, Any]) -> BundleFrame:
        data = self._start(image, meta)
        derived = []
        for step in self._transforms.steps:
            derived.append(step.derive(data))
            data = _applied(step, data, derived[-1])
        z, y, x = data.shape[1:]
        return BundleFrame(meta, tuple(derived), (z, y, x), np.asarray(data.affine, np.float64))


def _applied(step: Step, data: Any, derived: Any) -> Any:
    try:
        return step.apply(data, derived)
    except Exception as error:
        raise DataError(f"the bundle's {step.name} failed: {one_line(error)}; correct preprocessing") from error


def _geometry(array: NDArray[Any], meta: Mapping[str, Any]) -> Geometry:
    """Where the voxels of a loaded ``array`` (channel, i, j, k) lie."""
    affine = np.asarray(meta["affine"], np.float64)
    i, j, k = array.shape[1:]
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return Geometry((i, j, k), (x, y, z), affine, "")
