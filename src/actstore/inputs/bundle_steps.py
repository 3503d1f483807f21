"""The transforms of a MONAI bundle, one by one: what each derives from the original, and how it treats labels."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from actstore.errors import ModelError

_SPATIAL = ("monai.transforms.spatial", "monai.transforms.croppad")
#: Modes of padding that repeat voxels of the image, and so their labels; others make values up.
_REPEATING = frozenset({"edge", "replicate", "reflect", "symmetric", "wrap", "circular"})
#: Options of padding that say what it writes.
_FILLS = frozenset({"value", "constant_values", "end_values", "stat_length"})


@dataclass(frozen=True, eq=False)
class Step:
    """One dictionary transform behind the loader, applied to the image alone."""

    transform: Any
    key: str

    @property
    def name(self) -> str:
        return type(self.transform).__name__

    @property
    def spatial(self) -> bool:
        """Whether it moves voxels, so that labels need it too."""
        return type(self.transform).__module__.startswith(_SPATIAL)

    def nearest(self) -> Step:
        """This step with nearest-neighbour interpolation, and padding that is background, for labels."""
        transform = copy(self.transform)
        for part in ("padder", "cropper", "zoomer"):
            if hasattr(transform, part):
                setattr(transform, part, _unfilled(getattr(transform, part)))
        # In the module of crops and pads, `mode` is that of padding.
        resampling, padding = (type(transform).__module__.startswith(module) for module in _SPATIAL)
        if hasattr(transform, "mode") and padding:
            modes = map(word, transform.mode)
            transform.mode = tuple(mode if mode in _REPEATING else "constant" for mode in modes)
        if hasattr(transform, "mode") and resampling:
            transform.mode = ("nearest",) * len(transform.keys)
            if self.name in ("Resized", "Zoomd"):
                transform.align_corners = (None,) * len(transform.keys)
            if self.name == "Resized":
                transform.anti_aliasing = (False,) * len(transform.keys)
        return Step(transform, self.key)

    def derive(self, data: Any) -> Any:
        """What the transform takes from the original ``data`` (channel, z, y, x): a crop box, a mask, or nothing."""
        if self.name == "CropForegroundd":
            return self.transform.cropper.compute_bounding_box(img=data)
        if self._masked:
            return data.as_tensor() != 0
        return None

    def apply(self, data: Any, derived: Any) -> Any:
        """Transform ``data`` (channel, z, y, x) with what `derive` gave."""
        if self.name == "CropForegroundd":
            start, end = derived
            mode = self.transform.mode[0]
            return self.transform.cropper.crop_pad(img=data, box_start=start, box_end=end, mode=mode)
        if self._masked:
            return _normalized(self.transform.normalizer, data, derived)
        return self.transform({self.key: data})[self.key]

    @property
    def _masked(self) -> bool:
        return self.name == "NormalizeIntensityd" and bool(self.transform.normalizer.nonzero)


@dataclass(frozen=True, eq=False)
class Transforms:
    """A bundle's preprocessing, taken apart."""

    #: Of the image in the transforms' dictionaries.
    key: str
    #: From a path to a tensor (channel, z, y, x) of raw intensities.
    loading: tuple[Any, ...]
    #: From there to the network's input.
    steps: tuple[Step, ...]


def _unfilled(pad: Any) -> Any:
    """A copy of what pads an image, or crops and pads it, that writes 0 where an image gets a value of its own."""
    found = copy(pad)
    if hasattr(found, "kwargs"):
        found.kwargs = {name: value for name, value in found.kwargs.items() if name not in _FILLS}
    if hasattr(found, "padder"):
        found.padder = _unfilled(found.padder)
    return found


def word(option: Any) -> str:
    """The text of one of MONAI's options, which are members of enumerations or plain text."""
    return str(getattr(option, "value", option))


def as_steps(preprocessing: Any, where: str) -> Transforms:
    """Take a ``Compose`` of dictionary transforms apart; ``where`` names the configuration in messages.

    Raises
    ------
    ModelError
        if transforms are random, lazy, or no dictionary transforms, or if the image is not loaded first.
    """
    from monai.transforms.compose import Compose
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.transform import MapTransform, Randomizable
    from monai.transforms.utility.dictionary import EnsureChannelFirstd, Transposed

    if not isinstance(preprocessing, Compose):
        raise ModelError(f"{where}: 'preprocessing' is a {type(preprocessing).__name__}; only Compose is supported")
    transforms: Sequence[Any] = preprocessing.flatten().transforms  # type: ignore[no-untyped-call]
    if preprocessing.lazy:
        raise ModelError(f"{where}: 'preprocessing' is lazy, which interpolates otherwise; take `lazy` out")
    for transform in transforms:
        name = type(transform).__name__
        if isinstance(transform, Randomizable):
            raise ModelError(f"{where}: {name} is random, and inputs of all conditions must be alike; take it out")
        if not isinstance(transform, MapTransform):
            raise ModelError(f"{where}: {name} is no dictionary transform; use the one that ends in 'd'")
        if isinstance(transform, Transposed):
            raise ModelError(
                f"{where}: {name} changes the order of axes and leaves the header as it was, so that voxel sizes and "
                "labels would be of other axes; use Orientationd"
            )
        transform.allow_missing_keys = True
        if getattr(transform, "lazy", False):
            raise ModelError(f"{where}: {name} is lazy, which interpolates otherwise; take `lazy` out")
    if not transforms or not isinstance(transforms[0], LoadImaged):
        first = type(transforms[0]).__name__ if transforms else "nothing"
        raise ModelError(f"{where}: 'preprocessing' begins with {first}, not with LoadImaged; load the image first")
    key = str(transforms[0].keys[0])
    at = next((i for i, transform in enumerate(transforms) if isinstance(transform, EnsureChannelFirstd)), None)
    if at is None and not transforms[0]._loader.ensure_channel_first:
        raise ModelError(f"{where}: 'preprocessing' has no EnsureChannelFirstd; add it behind LoadImaged")
    split = (at or 0) + 1
    steps = tuple(Step(transform, key) for transform in transforms[split:] if key in transform.keys)
    for step in steps:
        if step.name == "CropForegroundd" and step.transform.source_key != key:
            raise ModelError(
                f"{where}: CropForegroundd crops to {step.transform.source_key!r}, which is not there when a network "
                f"runs; crop to {key!r}"
            )
    return Transforms(key, tuple(transforms[:split]), steps)


def _normalized(normalizer: Any, data: Any, mask: Any) -> Any:
    """``NormalizeIntensity`` of the voxels in ``mask``, those that are not zero in the original."""
    result = data.clone().float()
    if normalizer.channel_wise:
        for channel, (one, where) in enumerate(zip(result, mask, strict=True)):
            own = [None if given is None else given[channel] for given in (normalizer.subtrahend, normalizer.divisor)]
            result[channel] = _of_mask(normalizer, one, where, *own)
        return result
    return _of_mask(normalizer, result, mask, normalizer.subtrahend, normalizer.divisor)


def _of_mask(normalizer: Any, image: Any, mask: Any, subtrahend: Any, divisor: Any) -> Any:
    if not mask.any():
        return image
    values = image[mask]
    mean = normalizer._mean(values) if subtrahend is None else subtrahend
    deviation = normalizer._std(values) if divisor is None else divisor
    image[mask] = (values - mean) / (1.0 if deviation == 0 else deviation)
    return image
