"""Patches: what each owns, and how their predictions are stitched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actstore.inputs.windows import Stitched, Windows, product


@st.composite
def covers(draw: st.DrawFn) -> Windows:
    """Any patches that cover a volume: starts at most a patch apart, the ends reached, padding on both sides."""
    sizes, lengths, starts = [], [], []
    for _ in range(3):
        size, length = draw(st.integers(1, 6)), draw(st.integers(1, 12))
        places = [-draw(st.integers(0, min(2, size - 1)))]
        while places[-1] + size < length:
            places.append(places[-1] + draw(st.integers(0 if len(places) < 12 else 1, size)))
        sizes.append(size)
        lengths.append(length)
        starts.append(places)
    return product(lengths, sizes, starts, None)


@given(covers())
def test_owned_boxes_partition_the_volume_inside_their_patches(windows: Windows) -> None:
    shape = windows.shape
    start, stop = windows.owned[:, 0], windows.owned[:, 1]
    owners = np.zeros(shape, int)
    for patch, (a, b) in enumerate(zip(start, stop, strict=True)):
        owners[tuple(slice(*pair) for pair in zip(a, b, strict=True))] += 1
        if (b > a).all():
            assert (a >= windows.origins[patch]).all()
            assert (b <= windows.origins[patch] + windows.size).all()
    np.testing.assert_array_equal(owners, 1)


@pytest.mark.slow
@given(covers())
def test_the_nearest_centre_owns_a_voxel_and_the_lower_at_a_tie(windows: Windows) -> None:
    shape = windows.shape
    start, stop = windows.owned[:, 0], windows.owned[:, 1]
    # Twice the distance along each axis, so that it is whole.
    centres = 2 * windows.origins + np.array(windows.size) - 1
    for voxel in np.ndindex(*shape):
        owner = np.flatnonzero(((start <= voxel) & (voxel < stop)).all(axis=1))
        distances = np.abs(2 * np.array(voxel) - centres)
        nearest = np.flatnonzero((distances == distances.min(axis=0)).all(axis=1))
        lowest = min(nearest, key=lambda p: (tuple(windows.origins[p]), p))
        assert owner.tolist() == [lowest]


def test_uncovered_voxels_and_scattered_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"leave 16 voxels of \(9, 4, 4\) uncovered"):
        Stitched(product((9, 4, 4), (4, 4, 4), ([0, 5], [0], [0]), None), 1)
    with pytest.raises(ValueError, match="2 patches are no grid: one of 4 is needed"):
        Windows((6, 6, 4), (4, 4, 4), np.array([[0, 0, 0], [2, 2, 0]]))
    with pytest.raises(ValueError, match=r"weights have shape \(2, 2, 2\), patches \(4, 4, 4\)"):
        product((4, 4, 4), (4, 4, 4), ([0], [0], [0]), np.ones((2, 2, 2), np.float32))


@given(covers())
def test_cut_and_stitched_is_the_volume(windows: Windows) -> None:
    shape = windows.shape
    volume = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    stitched = Stitched(windows, 2)
    for patch in range(len(windows)):
        stitched.add(patch, windows.cut(volume, patch))
    np.testing.assert_allclose(stitched.logits, volume, rtol=1e-6)


def test_padding_is_zero_on_the_side_where_the_patch_begins() -> None:
    windows = product((1, 2, 3), (1, 4, 4), ([0], [-1], [-1]), None)
    cut = windows.cut(np.ones((1, 1, 2, 3), np.float32), 0)
    np.testing.assert_array_equal(cut[0, 0, :, 1], [0, 1, 1, 0])
    np.testing.assert_array_equal(cut[0, 0, 1], [0, 1, 1, 1])
