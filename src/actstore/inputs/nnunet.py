"""nnU-Net's own reader, preprocessing and sliding window, around raw intensities that a perturbation may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.data.geometry import volume_header
from actstore.data.headers import Geometry
from actstore.data.nifti import check_intensities, class_indices, digest_files, read_header
from actstore.data.volume import Caveat, Volume, VolumeFile, VolumeHeader
from actstore.errors import ActstoreError, DataError, ModelError, one_line
from actstore.inputs.trained import TrainedPipeline, all_nifti
from actstore.inputs.windows import Windows, product
from actstore.networks.nnunet import import_nnunetv2, managers, nnunetv2_quiet
from actstore.spec.nnunet_results import ResultFolder
from actstore.units import by, counted, shown

#: Distance of patches as a share of their size, width of the Gaussian likewise, and its peak: nnUNetPredictor's.
TILE_STEP_SIZE, SIGMA_SCALE, VALUE_SCALING_FACTOR = 0.5, 1 / 8, 10
#: Label that nnU-Net's crop writes where the image is zero.
_OUTSIDE = -1
_CROP = "crop_to_nonzero"


@dataclass(frozen=True, eq=False)
class Frame:
    """What nnU-Net derives from the original image."""

    #: (axis, 2): first voxel and end of the crop box along each of the network's axes.
    box: tuple[tuple[int, int], ...]
    #: Where any channel is not zero, holes filled, inside the box: bool (z, y, x).
    nonzero: NDArray[np.bool_]
    #: (z, y, x) in millimetres, of the raw volume.
    spacing: tuple[float, float, float]

    def crop(
        self, data: NDArray[Any], seg: NDArray[Any] | None = None, nonzero_label: int = _OUTSIDE
    ) -> tuple[NDArray[Any], NDArray[Any], list[list[int]]]:
        """In place of nnunetv2's ``crop_to_nonzero``: the same of the original's box and mask."""
        slices = (slice(None), *(slice(*ends) for ends in self.box))
        mask = self.nonzero[None]
        if seg is None:
            seg = np.where(mask, np.int8(0), np.int8(nonzero_label))
        else:
            seg = seg[slices]
            seg[(seg == 0) & ~mask] = nonzero_label
        return data[slices], seg, [list(ends) for ends in self.box]


@dataclass(frozen=True, eq=False)
class NnUNetPipeline(TrainedPipeline[ResultFolder]):
    """The `Pipeline` of an nnU-Net v2 result folder."""

    def grid(self, file: VolumeFile) -> VolumeHeader:
        """Reads the images, since the crop box depends on their zeros, but resamples none.

        Raises
        ------
        DataError
            if the images cannot be read, or are not those of the network.
        """
        caveats = self._caveats(file)
        image, spacing = self._images(file)
        frame = self._frame(image, spacing)
        shape = self._shape(frame)
        if shape is None:
            shape = self.image(image, frame).shape[1:]
        z, y, x = (int(n) for n in shape)
        target = self._spacing(frame)
        return VolumeHeader((z, y, x), (target[0], target[1], target[2]), caveats)

    def read(self, file: VolumeFile) -> Volume:
        """The images as nnU-Net's reader gives them, in the plans' axis order; class indices of the mask.

        Raises
        ------
        DataError
            if a file cannot be read, holds the label "ignore" or one that the network does not know, or if the images
            and the mask do not match each other or the network.
        """
        self._caveats(file)
        image, spacing = self._images(file)
        raw, _ = self._opened(file.label, "read_seg", str(file.label))
        mask = self._forth(raw)[0]
        if mask.shape != image.shape[1:]:
            raise DataError(
                f"{shown(file.label)}: has shape {by(mask.shape)}, its image {by(image.shape[1:])}; give the "
                "mask that belongs to the image"
            )
        if self.folder.ignored is not None and (count := int((raw == self.folder.ignored).sum())):
            raise DataError(
                f"{shown(file.label)}: {counted(count, 'voxel')} of label {self.folder.ignored} ('ignore') say nothing "
                "about the truth, so that no confusion can be counted; leave the patient out of data.patients"
            )
        classes = {f"label {value}": value for value in self._values[1:]}
        classes = {**classes, **{name: v for name, v in self.folder.classes.items() if isinstance(v, int)}}
        by_value = {value: name for name, value in classes.items()}
        label = class_indices(
            mask,
            {name: value for value, name in by_value.items()},
            file.label,
            mend="the network's dataset.json has no other: correct the mask",
        )
        return Volume(file.key, image, label, digest_files(file), spacing)

    @property
    def slice_axis(self) -> int:
        return self._axes.index(0)

    def frame(self, volume: Volume) -> Frame:
        return self._frame(volume.image, volume.spacing)

    def image(self, raw: NDArray[np.floating], frame: Any) -> NDArray[np.float32]:
        """As `Pipeline.image`.

        Raises
        ------
        ModelError
            if the plans' preprocessor crops in a way of its own.
        DataError
            if preprocessing gives another shape than for the original.
        """
        data, _ = self._run(raw, None, frame)
        expected = self._shape(frame)
        if expected is not None and data.shape[1:] != expected:
            raise DataError(
                f"{self._preprocessor.__name__} gave {by(data.shape[1:])} voxels instead of {by(expected)}; "
                "use the nnunetv2 that the network was trained with"
            )
        return np.ascontiguousarray(data, np.float32)

    def label(self, volume: Volume, frame: Any) -> NDArray[np.uint8]:
        values = np.array(self._values)
        _, seg = self._run(volume.image, values[volume.label][None], frame)
        seg = np.where(seg[0] == _OUTSIDE, 0, seg[0])
        found = np.searchsorted(values, seg).clip(max=len(values) - 1)
        if (values[found] != seg).any():
            raise DataError(
                f"{volume.key}: preprocessing made label values that the mask does not have; use the nnunetv2 that the "
                "network was trained with"
            )
        return found.astype(np.uint8)

    def windows(self, shape: tuple[int, int, int]) -> Windows:
        """As ``nnUNetPredictor`` lays them: half a patch apart at most, Gaussian weights, the volume padded evenly."""
        size, flat = (1,) * (3 - len(self.window)) + self.window, 3 - len(self.window)
        import_nnunetv2()
        from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

        padded = [max(n, s) for n, s in zip(shape, size, strict=True)]
        steps = compute_steps_for_sliding_window(tuple(padded[flat:]), self.window, TILE_STEP_SIZE)
        weights = _gaussian(compute_gaussian, self.window)
        starts = [list(range(shape[0]))] * flat + [
            [step - (m - n) // 2 for step in along]
            for along, m, n in zip(steps, padded[flat:], shape[flat:], strict=True)
        ]
        return product(shape, size, starts, weights.reshape(size))

    @cached_property
    def _managers(self) -> tuple[Any, Any]:
        return managers(self.folder)

    @cached_property
    def _reader(self) -> Any:
        with nnunetv2_quiet():
            try:
                return self._managers[0].image_reader_writer_class()
            except Exception as error:
                raise ModelError(
                    f"{shown(self.folder.path)}: nnunetv2 has no reader {self.folder.reader!r}: {one_line(error)}; "
                    "install what it needs"
                ) from error

    @cached_property
    def _preprocessor(self) -> Any:
        with nnunetv2_quiet():
            found = self._managers[1].preprocessor_class
        if found is None:
            raise ModelError(
                f"{shown(self.folder.path)}: nnunetv2 has no preprocessor {self._managers[1].preprocessor_name!r}; "
                "install the nnunetv2 that the network was trained with"
            )
        return found

    @cached_property
    def _values(self) -> tuple[int, ...]:
        """Label values of the exclusive classes, the background first."""
        classes = self.folder.classes.values()
        return (0, *sorted({v for value in classes for v in (value if isinstance(value, list) else [value])}))

    @property
    def _axes(self) -> list[int]:
        return [int(axis) for axis in self.folder.plans["transpose_forward"]]

    def _forth(self, array: NDArray[Any]) -> NDArray[Any]:
        """From the reader's axis order to the network's: (channel, z, y, x)."""
        return array.transpose([0, *(axis + 1 for axis in self._axes)])

    def _back(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.transpose([0, *(axis + 1 for axis in np.argsort(self._axes).tolist())])

    def _caveats(self, file: VolumeFile) -> tuple[Caveat, ...]:
        """What is wrong with the headers of the files, which must lie on one grid: nnU-Net's readers do not insist."""
        sliced = len(self.window) == 2 and self._axes[0] == 0
        if all_nifti(file):
            return read_header(file, geometry=self.geometry, sliced=sliced, channels=len(self.channels)).caveats
        if self.folder.reader != "SimpleITKIO":
            return ()
        found = [(path, _geometry(path)) for path in (*file.images, file.label) if path.is_file()]
        placed = [(path, geometry) for path, geometry in found if geometry is not None]
        if len(placed) < len(found):
            return ()
        return volume_header(file.key, placed, geometry=self.geometry, sliced=sliced).caveats

    def _images(self, file: VolumeFile) -> tuple[NDArray[np.floating], tuple[float, float, float]]:
        """Raw intensities (channel, z, y, x), float32, and spacing (z, y, x) in mm, both in the network's order."""
        raw, properties = self._opened(file.images[0], "read_images", [str(path) for path in file.images])
        if len(raw) != len(self.channels):
            raise DataError(
                f"{shown(file.images[0])}: {file.key} has {counted(len(raw), 'channel')}, the network was trained with "
                f"{len(self.channels)} ({', '.join(self.channels)}); name the data set of that training in data.root"
            )
        for channel, image in enumerate(raw):
            check_intensities(image, file.images[min(channel, len(file.images) - 1)])
        z, y, x = (float(properties["spacing"][axis]) for axis in self._axes)
        return self._forth(raw), (z, y, x)

    def _opened(self, path: Path, method: str, files: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        for file in files if isinstance(files, list) else [files]:
            if not Path(file).is_file():
                raise DataError(f"{shown(file)}: the file is gone; restore it")
        try:
            raw, properties = getattr(self._reader, method)(files)
        except ActstoreError:
            raise
        except Exception as error:
            raise DataError(
                f"{shown(path)}: {self.folder.reader} of nnunetv2 cannot read it: {one_line(error)}; "
                "images of one case must agree in size and spacing, and be of the kind that the plans name"
            ) from error
        return raw, properties

    def _frame(self, image: NDArray[np.floating], spacing: tuple[float, float, float]) -> Frame:
        import_nnunetv2()
        from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask, get_bbox_from_mask

        nonzero = create_nonzero_mask(image)
        box = tuple((int(a), int(b)) for a, b in get_bbox_from_mask(nonzero))
        return Frame(box, nonzero[tuple(slice(*ends) for ends in box)], spacing)

    def _spacing(self, frame: Frame) -> list[float]:
        """(z, y, x) in mm of the preprocessed volume; 2D configurations keep the distance of slices."""
        target = [float(n) for n in self.folder.settings["spacing"]]
        return [frame.spacing[0], *target] if len(target) == 2 else target

    def _shape(self, frame: Frame) -> tuple[int, ...] | None:
        """Shape (z, y, x) of the preprocessed volume, or ``None`` where it shows only once it is preprocessed."""
        import_nnunetv2()
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

        own = self._preprocessor.run_case_npy is not DefaultPreprocessor.run_case_npy
        if own or "no_resampling" in self.folder.settings.get("resampling_fn_data", ""):
            return None
        shape = compute_new_shape(frame.nonzero.shape, frame.spacing, self._spacing(frame))
        return tuple(int(n) for n in shape)

    def _run(
        self, raw: NDArray[np.floating], seg: NDArray[Any] | None, frame: Frame
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """nnunetv2's ``run_case_npy`` with the original's crop."""
        plans, configuration = self._managers
        crops: list[int] = []

        def crop(data: NDArray[Any], seg: NDArray[Any] | None = None, nonzero_label: int = _OUTSIDE) -> Any:
            crops.append(1)
            return frame.crop(data, seg, nonzero_label)

        # In the reader's order and memory layout, on which the last bits of means depend.
        data = np.ascontiguousarray(self._back(raw), np.float32)
        mask = None if seg is None else np.ascontiguousarray(self._back(seg), np.float32)
        spacing = [frame.spacing[axis] for axis in np.argsort(self._axes).tolist()]
        preprocessor = self._preprocessor(verbose=False)
        run = _cropping_with(type(preprocessor).run_case_npy, crop)
        found = run(preprocessor, data, mask, {"spacing": spacing}, plans, configuration, dict(self.folder.dataset))
        if len(crops) != 1:
            raise ModelError(_own_crop(type(preprocessor)))
        return found[0], found[1]


def _cropping_with(method: Any, crop: Callable[..., Any]) -> FunctionType:
    """A copy of ``run_case_npy`` that calls ``crop``; the method itself, which other threads may run, stays."""
    if not isinstance(method, FunctionType) or _CROP not in method.__code__.co_names:
        raise ModelError(_own_crop(method))
    scope = {**method.__globals__, _CROP: crop}
    copy = FunctionType(method.__code__, scope, method.__name__, method.__defaults__, method.__closure__)
    copy.__kwdefaults__ = method.__kwdefaults__
    return copy


def _own_crop(what: Any) -> str:
    name = getattr(what, "__qualname__", what)
    return (
        f"the plans' preprocessor {name} crops without nnunetv2's {_CROP}, so that a perturbation could move the crop; "
        "only preprocessors that call it once can be used"
    )


def _gaussian(compute: Callable[..., Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    import torch

    found = compute(
        size,
        sigma_scale=SIGMA_SCALE,
        value_scaling_factor=VALUE_SCALING_FACTOR,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    weights: NDArray[np.float32] = found.numpy().copy()
    return weights


def _geometry(path: Path) -> Geometry | None:
    """Where the voxels of a 3D image lie that SimpleITK reads; ``None`` for others."""
    import_nnunetv2()
    from nnunetv2.imageio import simpleitk_reader_writer

    reader: Any = simpleitk_reader_writer.sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        # nnU-Net's reader says what is wrong with it.
        return None
    if reader.GetDimension() != 3:
        return None
    i, j, k = reader.GetSize()
    spacing: tuple[float, float, float] = reader.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * spacing
    affine[:3, 3] = reader.GetOrigin()
    # From ITK's axes, left and posterior, to those of NIfTI.
    affine[:2] *= -1
    return Geometry((i, j, k), spacing, affine, "")
