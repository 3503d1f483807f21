"""Perturbations: change raw intensities only inside the ground-truth mask of one class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.members import mask_of
from actstore.code.imports import resolve_callable
from actstore.conditions import TARGET, Condition, without_effect
from actstore.data.volume import VolumeKey
from actstore.errors import ActstoreError, DataError, SpecError, one_line

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]
Label = NDArray[np.uint8]


class Transform(Protocol):
    """A function that perturbs one input channel of one sample.

    A sample is a slice (y, x) for a 2D network, a volume (z, y, x) for a 3D one. ``image`` holds the channel's raw
    intensities, ``mask`` is the region of the target class, or for a control the same shape elsewhere, and ``label``
    holds class indices into ``class_names``. All have the same shape and are copies. ``source`` is the class named in
    the spec, if any. Use no randomness but ``rng``, which depends only on the run's seed, the sample, the condition and
    the channel. The result must have the shape of ``image``, finite values, and the values of ``image`` outside
    ``mask``.
    """

    def __call__(
        self,
        image: Image,
        mask: Mask,
        *,
        strength: float,
        label: Label,
        class_names: tuple[str, ...],
        source: str | None,
        rng: np.random.Generator,
    ) -> NDArray[Any]: ...


def brightness(image: Image, mask: Mask, *, strength: float, **_: object) -> Image:
    """Multiply by ``strength``."""
    return _inside(image, mask, image[mask] * strength)


def contrast(image: Image, mask: Mask, *, strength: float, **_: object) -> Image:
    """Gamma: scale to [0, 1] by the minimum and maximum of the whole ``image``, raise to ``strength``, scale back."""
    low, high = image.min(), image.max()
    if low == high:
        return image.copy()
    return _inside(image, mask, low + ((image[mask] - low) / (high - low)) ** strength * (high - low))


def noise(image: Image, mask: Mask, *, strength: float, rng: np.random.Generator, **_: object) -> Image:
    """Add Gaussian noise of ``strength`` times the standard deviation of the whole ``image``."""
    values = image[mask]
    return _inside(image, mask, values + rng.standard_normal(values.size) * (strength * image.std()))


def blur(image: Image, mask: Mask, *, strength: float, **_: object) -> Image:
    """Write the image blurred by a Gaussian of sigma = ``strength`` pixels along every axis, edges reflected.

    The blur sees the whole image, so that the mask's surroundings bleed in. The kernel reaches int(4 sigma + 0.5)
    pixels to each side. A sigma below 0.125 changes nothing; below 0.2 it changes no more than rounding and is refused.

    Raises
    ------
    SpecError
        if ``strength`` is wider than the image.
    """
    from scipy import ndimage

    # The kernel spans 8 sigma: without a limit, a mistyped strength would use all memory.
    if strength > max(image.shape):
        raise SpecError(f"strength {strength:g} of 'blur' is wider than the image of {image.shape}; use fewer pixels")
    blurred: Image = ndimage.gaussian_filter(image, sigma=strength, mode="reflect")
    return _inside(image, mask, blurred[mask])


def fill(
    image: Image,
    mask: Mask,
    *,
    strength: float,
    label: Label,
    class_names: tuple[str, ...],
    source: str | None,
    fill_value: float | None = None,
    **_: object,
) -> Image:
    """Blend towards ``fill_value``: ``strength`` 1 replaces, 0.5 goes half-way.

    ``fill_value`` is the mean of the class ``source`` in ``image`` unless given.
    """
    if fill_value is None:
        fill_value = float(image[label == class_names.index(source or "")].mean())
    return _inside(image, mask, image[mask] * (1 - strength) + fill_value * strength)


def shuffle(image: Image, mask: Mask, *, strength: float, rng: np.random.Generator, **_: object) -> Image:
    """Move the values of a fraction ``strength`` of the mask's pixels among themselves.

    The chosen pixels form one random cycle, so that each gets the value of another. Fewer than two chosen pixels change
    nothing.
    """
    values = image[mask]
    chosen = rng.permutation(values.size)[: round(strength * values.size)]
    values[chosen] = values[np.roll(chosen, 1)]
    return _inside(image, mask, values)


#: The built-in transforms by name, as ``conditions.IDENTITY_STRENGTH`` lists them.
TRANSFORMS: Mapping[str, Transform] = {
    "brightness": brightness,
    "contrast": contrast,
    "noise": noise,
    "blur": blur,
    "fill": fill,
    "shuffle": shuffle,
}

#: Largest strength of the transforms whose strength is a fraction.
_LARGEST_STRENGTH: Mapping[str, float] = {"fill": 1.0, "shuffle": 1.0}


def resolve(name: str) -> Transform:
    """The transform of that name: a built-in one, or an imported ``module:callable``.

    Raises
    ------
    SpecError
        if the name is unknown, its module cannot be imported, or it is not callable.
    """
    if ":" not in name:
        if name not in TRANSFORMS:
            raise SpecError(f"transform {name!r} is unknown: use {', '.join(TRANSFORMS)}, or 'module:callable'")
        return TRANSFORMS[name]
    transform: Transform = resolve_callable(name, "transform")
    return transform


def check(condition: Condition) -> None:
    """Refuse a condition that cannot be applied to any image or has no effect.

    The original and its repeats always pass.

    Raises
    ------
    SpecError
        if its transform cannot be resolved, or its strength is out of range or has no effect
        (:func:`actstore.conditions.without_effect`).
    """
    if condition.is_untouched:
        return
    resolve(condition.transform)
    if why := without_effect(condition.transform, condition.strength):
        raise SpecError(why)
    largest = _LARGEST_STRENGTH.get(condition.transform)
    if largest is not None and condition.strength > largest:
        raise SpecError(
            f"strength {condition.strength:g} of {condition.transform!r} is a fraction: use at most {largest:g}"
        )


def apply(
    condition: Condition,
    image: NDArray[np.floating],
    label: NDArray[np.uint8],
    class_names: tuple[str, ...],
    *,
    seed: int,
    key: VolumeKey,
    members: Mapping[str, tuple[int, ...]] | None = None,
    volumetric: bool = False,
    region: Mask | None = None,
    input_channels: Sequence[str] = (),
) -> Image:
    """Apply ``condition`` to a volume, only inside the target class, or inside ``region`` for a control.

    ``image`` holds raw intensities (channel, slice, y, x) and ``label`` class indices into ``class_names``
    (slice, y, x), uint8; neither is changed. ``members`` gives the class indices of each possible target and source; by
    default every class is one. Perturbs each slice on its own, as a 2D network sees it, or the whole volume at once if
    ``volumetric``, and each channel on its own: every one that the condition names, by the names in
    ``input_channels``, or all. A sample without the target class stays unchanged. Randomness depends on seed, volume,
    slice, condition and position of the channel, not on order or process, nor on which channels the condition names; a
    control draws the same numbers as its perturbation. ``region``, (slice, y, x) bool, comes from
    :func:`actstore.inputs.placement.control_regions`.

    Returns
    -------
    (channel, slice, y, x), float64, a new array.

    Raises
    ------
    SpecError
        if :func:`check` refuses the condition, or it names an unknown channel; if the transform fails or returns
        another shape, values that are not finite real numbers, or a changed pixel outside the mask.
    DataError
        if ``fill`` finds no pixel of its source class in the volume, or a built-in transform leaves float64's range.
    ValueError
        for a control without ``region``, or a region without a control.
    """
    if condition.is_control != (region is not None):
        raise ValueError(f"{condition.name}: a control has a region, and nothing else has")
    result = np.array(image, dtype=np.float64)
    check(condition)
    if condition.is_untouched:
        return result
    members = members or {name: (i,) for i, name in enumerate(class_names)}
    target = _indices(condition.target, condition, members)
    masks = mask_of(label, target) if region is None else region
    indices: Sequence[int | None] = [None] if volumetric else range(len(label))
    for channel, index in product(_channels(condition, len(image), input_channels), indices):
        part = slice(None) if index is None else index
        mask = masks[part]
        if not mask.any():
            continue
        transform = resolve(condition.transform)
        if condition.transform == "fill":
            value = _source_mean(condition, image[channel], label, part, members, key)
            transform = partial(fill, fill_value=value)
        where = f"{key}" if index is None else f"{key} slice {index}"
        if len(image) > 1:
            where += f" channel {input_channels[channel] if input_channels else channel}"
        before = result[channel, part]
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                changed = transform(
                    before.copy(),
                    mask.copy(),
                    strength=condition.strength,
                    label=label[part].copy(),
                    class_names=class_names,
                    source=condition.source,
                    rng=_generator(seed, key, index, condition, channel),
                )
            except ActstoreError:
                raise
            except Exception as error:
                raise SpecError(
                    f"transform {condition.transform!r} failed on {where}, {condition.name}: "
                    f"{one_line(error)}; correct the transform"
                ) from error
        result[channel, part] = _checked(changed, before, mask, condition, where)
    return result


def _channels(condition: Condition, count: int, names: Sequence[str]) -> Sequence[int]:
    """Positions of the channels that ``condition`` changes."""
    if not condition.channels:
        return range(count)
    if unknown := [name for name in condition.channels if name not in names]:
        raise SpecError(
            f"{condition.name} names the channel {unknown[0]!r}: there are {', '.join(names) or 'no names'}"
        )
    return [i for i, name in enumerate(names) if name in condition.channels]


def _inside(image: Image, mask: Mask, values: Image) -> Image:
    """A copy of ``image`` with ``values``, one per pixel of ``mask``, written to the mask."""
    result = image.copy()
    result[mask] = values
    return result


def _indices(name: str | None, condition: Condition, members: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    if name is None or name not in members:
        raise SpecError(f"{condition.name} names the class {name!r}: there are {', '.join(members)}")
    return members[name]


def _source_mean(
    condition: Condition,
    image: NDArray[np.floating],
    label: NDArray[np.uint8],
    part: slice | int,
    members: Mapping[str, tuple[int, ...]],
    key: VolumeKey,
) -> float:
    """Mean of the source class in that part of the volume, or in the whole volume if the part has none."""
    source = _indices(condition.source, condition, members)
    for values in (image[part][mask_of(label[part], source)], image[mask_of(label, source)]):
        if values.size:
            return float(values.mean(dtype=np.float64))
    raise DataError(
        f"{key}: {condition.name} needs the mean of {condition.source}, and the volume has no such pixel; "
        "choose another source or leave the patient out of data.patients"
    )


def _generator(seed: int, key: VolumeKey, index: int | None, condition: Condition, channel: int) -> np.random.Generator:
    same = replace(condition, region=TARGET, channels=())
    # The first channel draws what a single channel always drew, so that older stores can be continued.
    further = [channel] if channel else []
    identity = json.dumps([seed, key.patient, key.frame, index, same.name, *further]).encode("ascii")
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(identity).digest(), "big")))


def _checked(changed: object, image: Image, mask: Mask, condition: Condition, where: str) -> Image:
    """``changed`` as float64, after checking that it fulfils `Transform`."""
    name = f"transform {condition.transform!r}"
    array = np.asarray(changed)
    if array.dtype.kind not in "biuf":
        raise SpecError(f"{name} returned {type(changed).__name__} of {array.dtype} on {where}; return real numbers")
    if array.shape != image.shape:
        raise SpecError(f"{name} returned the shape {array.shape} on {where}; return the image's, {image.shape}")
    result = array.astype(np.float64)
    if broken := int(np.count_nonzero(~np.isfinite(result))):
        message = f"{name} made {broken} pixels NaN or infinite on {where}, {condition.name}"
        if condition.transform in TRANSFORMS:
            raise DataError(f"{message}; lower the strength or rescale the image")
        raise SpecError(f"{message}; correct the transform")
    outside = (result != image) & ~mask
    if outside.any():
        first = tuple(int(i) for i in np.argwhere(outside)[0])
        place = f"{condition.target}'s control region" if condition.is_control else condition.target
        raise SpecError(
            f"{name} changed {np.count_nonzero(outside)} pixels outside of {place} on {where}, the first at {first}; "
            "write inside of mask only, in float64"
        )
    return result
