"""Places controls: regions of the target's size and shape elsewhere in the body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.members import mask_of
from actstore.geometry import image_window

Mask = NDArray[np.bool_]

#: Differences between the means of region and target are compared to this many decimals of the image's range.
DECIMALS = 4
#: Added before rounding, so that a difference half-way between two steps, common with integers, always rounds up. It
#: is far larger than the rounding of a Fourier transform and far smaller than a step.
NUDGE = 1e-9


def control_regions(
    image: NDArray[np.floating],
    label: NDArray[np.uint8],
    targets: Iterable[tuple[int, ...]],
    size: Sequence[int],
    *,
    slices: int = 0,
) -> dict[tuple[int, ...], Mask]:
    """The control's region of each of ``targets`` in every sample of a volume.

    Parameters
    ----------
    image, label
        raw intensities (channel, slice, y, x) and class indices (slice, y, x). The body is that of the first channel;
        how bright a place is counts in every channel, in units of that channel's range.
    targets
        class indices of each target: one, or those of a region.
    size
        the network's input size in pixels: (y, x) if each slice is a sample, (z, y, x) if the volume is.
    slices
        the axis of ``label`` along which slices lie, in which the body is looked for.

    Returns
    -------
    for each target, bool (slice, y, x): in each sample, the visible part of the target, moved to another visible place;
    all False if there is no place for it, see :func:`place`.
    """
    targets = tuple(targets)
    body = np.zeros(label.shape, dtype=bool)
    if targets:
        body = np.moveaxis(body_of(np.moveaxis(image[0], slices, 0)), 0, slices)
    # The input's position in the image equals that of an image of the input's size in one of this size.
    window = image_window(size, label.shape[label.ndim - len(size) :])
    samples: list[Any] = [()] if len(size) == label.ndim else [(i,) for i in range(len(label))]
    regions = {target: np.zeros(label.shape, dtype=bool) for target in targets}
    for target, region in regions.items():
        for sample in samples:
            seen = (*sample, *window)
            mask = mask_of(label[seen], target)
            found = place(image[:, *seen], mask, (label[seen] > 0) & ~mask, body[seen])
            if found is not None:
                region[seen] = found
    return regions


def place(image: NDArray[np.floating], target: Mask, others: Mask, body: Mask) -> Mask | None:
    """``target`` moved to the place where a perturbation compares best with one of the target.

    Considers all whole-pixel translations that keep the region wholly inside and off the target. Chooses those that
    cover the fewest pixels of ``others``; of these, the fewest outside ``body``; of these, those whose mean intensity
    is closest to the target's (the mean difference over the channels, each divided by its range), so that the
    perturbation removes as much; of these, the first in raster order.

    Parameters
    ----------
    image
        the part of one sample that the network sees: raw intensities, (channel, y, x) or (channel, z, y, x).
    target, others, body
        bool, (y, x) or (z, y, x).

    Returns
    -------
    bool of that shape, with the moved ``target``; ``None`` if there is no such translation or no target.
    """
    if not target.any():
        return None
    shape = target[_box(target)]
    pixels = np.count_nonzero(shape)
    total = _summing(shape, target.shape)
    # Count both at once: one pixel of the target weighs more than a region full of others.
    taken = _count(total(np.where(target, pixels + 1, others)))
    if taken.min() > pixels:
        return None
    best = _least(np.ones(taken.shape, bool), taken)
    best = _least(best, _count(total(~body)))
    if np.count_nonzero(best) > 1:
        apart = np.zeros(best.shape)
        for channel in image:
            values = channel.astype(np.float64)
            apart += np.abs(total((values - values[target].mean()) / (float(np.ptp(values)) or 1.0)))
        best = _least(best, np.round(apart / (len(image) * pixels) + NUDGE, DECIMALS))
    found = np.unravel_index(int(np.argmax(best)), best.shape)
    region = np.zeros_like(target)
    region[tuple(slice(i, i + n) for i, n in zip(found, shape.shape, strict=True))] = shape
    return region


#: Smoothing before the threshold of the body, in pixels; otherwise the threshold would split the noise of air.
BODY_SIGMA = 2.0


def body_of(image: NDArray[np.floating]) -> Mask:
    """Mask of the body in an image (slice, y, x): pixels brighter than air, by slice, with holes filled.

    A first threshold of the smoothed slice separates bright tissue (fat and blood) from the rest; a second threshold
    of the rest separates muscle from air. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979), 62, as in scikit-image. Empty
    for a constant slice.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    body = np.zeros(image.shape, bool)
    for i, part in enumerate(ndimage.gaussian_filter(np.asarray(image, np.float64), (0, BODY_SIGMA, BODY_SIGMA))):
        darker = part[part <= threshold_otsu(part)]
        body[i] = ndimage.binary_fill_holes(part > threshold_otsu(darker)) if len(darker) < part.size else False
    return body


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds ``mask``."""
    axes = range(mask.ndim)
    along = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return tuple(slice(int(a[0]), int(a[-1]) + 1) for a in along)


def _summing(shape: Mask, size: Sequence[int]) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """A function that sums a field of ``size`` over ``shape`` at every position inside it, with one correlation.

    Transforms of the field's own size suffice, half as long as those of `scipy.signal.fftconvolve`, since only
    positions outside wrap around.
    """
    from scipy import fft

    fast = [fft.next_fast_len(n, real=True) for n in size]
    kernel = fft.rfftn(shape.astype(np.float64), fast).conj()
    inside = tuple(slice(n - k + 1) for n, k in zip(size, shape.shape, strict=True))

    def total(field: NDArray[Any]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = fft.irfftn(fft.rfftn(field.astype(np.float64), fast) * kernel, fast)[inside]
        return sums

    return total


# Fourier transforms round differently in each build of a library. Round counts to integers, and differences of means
# to steps coarser than that error, so that it cannot decide between equal places.
def _count(sums: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(sums).astype(np.int64)


def _least(among: Mask, score: NDArray[Any]) -> Mask:
    """The places ``among`` those left where ``score`` is smallest."""
    least: Mask = among & (score == score[among].min())
    return least
