"""Surface distances against MONAI on whole images, by hand, and of volumes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.analysis import AnalysisError, surface_distances, surface_table
from actstore.tables.segmentation import SURFACE_COLUMNS
from helpers import CLASSES, chunked, label_coords, raise_if_dask_computes

SPACING = (8.0, 1.5, 2.0)
#: Millimetres that MONAI's percentile may be off by: it interpolates in float32.
MICRONS = 1e-3


def arrays(prediction: Any, label: Any, **coords: Any) -> tuple[xr.DataArray, xr.DataArray]:
    prediction, label = np.asarray(prediction, np.uint8), np.asarray(label, np.uint8)
    axes = ("z", "y", "x")[-(label.ndim - 1) :]
    targets = ["LV", "RV", "MYO"][: prediction.shape[1] - 1]
    spacing = {f"spacing_{a}": ("sample", [s] * len(label)) for a, s in zip("zyx", SPACING, strict=True)}
    labels = {**label_coords(len(label), targets), **spacing, **coords}
    along = {name: value for name, value in labels.items() if isinstance(value, tuple) and value[0] == "sample"}
    return (
        xr.DataArray(prediction, dims=("sample", "condition", *axes), coords=labels, name="prediction"),
        xr.DataArray(label, dims=("sample", *axes), coords=along, name="label"),
    )


def by_monai(predicted: NDArray[Any], true: NDArray[Any], spacing: tuple[float, ...]) -> tuple[float, float]:
    """Of two whole binary images."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    if not predicted.any() or not true.any():
        return (0.0, 0.0) if predicted.any() == true.any() else (np.nan, np.nan)
    a, b = (torch.as_tensor(mask[None, None].astype(np.uint8)) for mask in (predicted, true))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI's own use of what it deprecates
        hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing)
        assd = compute_average_surface_distance(a, b, include_background=True, symmetric=True, spacing=spacing)
    return float(hd95), float(assd)


def blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Class numbers in random boxes, some of them touching the border, some images empty."""
    image = np.zeros(shape, np.uint8)
    for at in np.ndindex(shape[: -2 if len(shape) < 5 else -3]):
        space = image[at].shape
        for _ in range(rng.integers(0, 4)):
            low = [rng.integers(0, n) for n in space]
            image[at][tuple(slice(a, a + rng.integers(1, 8)) for a in low)] = rng.integers(1, 4)
    return image


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3))
def test_slices_as_monai_measures_whole_images(seed: int, samples: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, label = arrays(blobs(rng, (samples, 2, 16, 20)), blobs(rng, (samples, 16, 20)))
    applicable = xr.DataArray(rng.random((samples, 2)) < 0.8, dims=("sample", "condition"))
    found = surface_distances(prediction, label, CLASSES, applicable=applicable)
    with raise_if_dask_computes():
        chunks = {"sample": min(step, samples), "y": 5}
        lazy = surface_distances(
            chunked(prediction, chunks),
            chunked(label, {"sample": samples}),
            CLASSES,
            applicable=chunked(applicable, {}),
        )
    xr.testing.assert_allclose(lazy.compute(scheduler="synchronous"), found, rtol=1e-12)
    for s, c, k in np.ndindex(samples, 2, 3):
        expected = by_monai(prediction[s, c].values == k + 1, label[s].values == k + 1, SPACING[1:])
        if not applicable[s, c]:
            expected = (np.nan, np.nan)
        np.testing.assert_allclose([found["hd95"][s, c, k], found["assd"][s, c, k]], expected, atol=MICRONS)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_volumes_as_monai_measures_them(seed: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, label = arrays(blobs(rng, (samples, 2, 12, 14)), blobs(rng, (samples, 12, 14)))
    applicable = xr.DataArray(np.column_stack([np.ones(samples, bool), rng.random(samples) < 0.5]),
                              dims=("sample", "condition"))  # fmt: skip
    found = surface_distances(prediction, label, CLASSES, applicable=applicable, by="volume")
    with raise_if_dask_computes():
        lazy = surface_distances(
            chunked(prediction, {"sample": 2}),
            chunked(label, {"sample": 4}),
            CLASSES,
            applicable=applicable,
            by="volume",
        )
    xr.testing.assert_allclose(lazy.compute(scheduler="synchronous"), found, rtol=1e-12)
    shuffled = rng.permutation(samples)
    again = surface_distances(
        *(array.isel(sample=shuffled) for array in (prediction, label)),
        CLASSES,
        applicable=applicable.isel(sample=shuffled),
        by="volume",
    )
    both = [data.set_index(sample=["patient", "frame"]).sortby("sample") for data in (found, again)]
    np.testing.assert_allclose(both[0]["hd95"], both[1]["hd95"], rtol=1e-12)
    volume = np.arange(samples) // 3
    assert found["samples"].values.tolist() == np.bincount(volume).tolist()
    assert "slice" not in found.coords
    for v, c, k in np.ndindex(volume[-1] + 1, 2, 3):
        at = np.flatnonzero(volume == v)
        filled = np.stack([prediction[i, c if applicable[i, c] else 0] for i in at])
        expected = by_monai(filled == k + 1, label.values[at] == k + 1, SPACING)
        if not applicable[at, c].any():
            expected = (np.nan, np.nan)
        np.testing.assert_allclose([found["hd95"][v, c, k], found["assd"][v, c, k]], expected, atol=MICRONS)


def test_samples_that_are_volumes() -> None:
    rng = np.random.default_rng(0)
    prediction, label = arrays(blobs(rng, (2, 2, 5, 9, 9)), blobs(rng, (2, 1, 5, 9, 9))[:, 0])
    found = surface_distances(prediction, label, CLASSES)
    for s, c, k in np.ndindex(2, 2, 3):
        expected = by_monai(prediction[s, c].values == k + 1, label[s].values == k + 1, SPACING)
        np.testing.assert_allclose([found["hd95"][s, c, k], found["assd"][s, c, k]], expected, atol=MICRONS)


def test_by_hand_in_millimetres() -> None:
    label = np.zeros((1, 30, 30))
    label[0, 10:20, 10:20] = 3
    prediction = np.stack([label, np.roll(label, 2, axis=1), np.zeros_like(label)], axis=1)
    found = surface_distances(*arrays(prediction, label), CLASSES).isel(sample=0)
    assert found["hd95"].dims == ("condition", "class_name")
    assert found["hd95"].attrs == {"units": "mm"}
    assert found["class_name"].values.tolist() == ["RV", "MYO", "LV"]
    np.testing.assert_array_equal(found["hd95"].sel(class_name="LV"), [0, 3, np.nan])
    np.testing.assert_array_equal(found["hd95"].sel(class_name="RV"), [0, 0, 0])
    np.testing.assert_array_equal(found["assd"].sel(class_name="LV").isnull(), [False, False, True])
    assert 0 < found["assd"].sel(class_name="LV")[1] < 3


@pytest.mark.parametrize("by", ["slice", "volume"])
def test_padding_is_left_out(by: Any) -> None:
    rng = np.random.default_rng(2)
    prediction, label = blobs(rng, (3, 2, 12, 11)), blobs(rng, (3, 12, 11))
    plain = surface_distances(*arrays(prediction, label), CLASSES, by=by)
    around = [(0, 0), (4, 4), (2, 3)]
    padded = np.pad(prediction, [(0, 0), *around], constant_values=3), np.pad(label, around)
    size = {"height": ("sample", [12] * 3), "width": ("sample", [11] * 3)}
    found = surface_distances(*arrays(*padded, **size), CLASSES, by=by)
    for name in ("hd95", "assd"):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-12)
    everywhere = surface_distances(*arrays(*padded), CLASSES, by=by)
    assert not np.allclose(everywhere["hd95"], plain["hd95"], equal_nan=True)


@pytest.mark.parametrize("by", ["slice", "volume"])
def test_tables(by: Any) -> None:
    rng = np.random.default_rng(1)
    prediction, label = arrays(blobs(rng, (6, 3, 12, 14)), blobs(rng, (6, 12, 14)))
    applicable = np.ones((6, 3), bool)
    applicable[3:, 2] = False
    applicable[0, 1] = False
    mask = xr.DataArray(applicable, dims=("sample", "condition"))
    table = surface_table(prediction, label, CLASSES, applicable=mask, by=by)
    found = surface_distances(prediction, label, CLASSES, applicable=mask, by=by)
    wanted = SURFACE_COLUMNS if by == "slice" else tuple(name for name in SURFACE_COLUMNS if name != "slice")
    assert tuple(table.columns) == wanted
    assert len(table) == 3 * ((18 - 4) if by == "slice" else (6 - 1))
    assert table["hd95"].isna().sum() == int(found["hd95"].isnull().sum()) - 3 * (4 if by == "slice" else 1)
    last = table.iloc[-1]
    assert (last["patient"], last["frame"], last["condition"], last["class_name"]) == (
        "patient001",
        12,
        "brightness(LV, 0.1)",
        "LV",
    )
    np.testing.assert_equal(last["assd"], float(found["assd"][-1, 1, -1]))
    every = surface_table(prediction, label, CLASSES, by=by)
    assert len(every) == 3 * (18 if by == "slice" else 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, t: surface_distances(p, t, CLASSES, by="patient"), r"by = 'patient': give 'slice' or 'volume'"),
        (lambda p, t: surface_distances(p[:, 1:], t, CLASSES), r"prediction: the first condition is 'brightness"),
        (lambda p, t: surface_distances(p, t[:2], CLASSES), r"prediction has 4 of sample, label 2: select the same"),
        (lambda p, t: surface_distances(p, t.isel(y=0), CLASSES), r"label has no dimension 'y'"),
        (lambda p, t: surface_distances(p.drop_vars("spacing_x"), t, CLASSES), r"no coordinate 'spacing_x' along"),
        (
            lambda p, t: surface_distances(p[[0, 2]], t[[0, 2]], CLASSES, by="volume"),
            r"slice 0 of patient001 frame 1 is not followed by slice 1: select all slices of a volume, each once",
        ),
        (
            lambda p, t: surface_distances(p.drop_vars("slice"), t, CLASSES, by="volume"),
            r"by = 'slice' is no coordinate along sample",
        ),
        (
            lambda p, t: surface_distances(p.expand_dims("z", 2), t.expand_dims("z", 1), CLASSES, by="volume"),
            r"by = 'volume', but every sample is a volume already: leave 'volume' out",
        ),
        (lambda p, t: surface_table(p.drop_vars("frame"), t, CLASSES), r"no coordinate 'frame' along sample: assign"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    prediction, label = arrays(np.zeros((4, 2, 5, 5)), np.zeros((4, 5, 5)))
    with pytest.raises(AnalysisError, match=message):
        call(prediction, label)


@pytest.mark.parametrize("size", [np.nan, 0.0, -1.0, np.inf])
def test_an_unknown_voxel_size_takes_distances_from_its_volume_only(size: float) -> None:
    image = np.zeros((3, 1, 8, 8), np.uint8)
    image[0, 0, 2:5, 2:5] = image[1, 0, 2:5, 2:5] = 1
    true = image[:, 0].copy()
    true[:2, 5, 5] = 1
    prediction, label = arrays(image, true, spacing_y=("sample", [1.5, size, size]))
    found = surface_distances(prediction, label, CLASSES)["hd95"][:, 0, 0].values
    assert found[0] > 0
    assert np.isnan(found[1])
    assert found[2] == 0, "both masks are empty: 0 whatever the size"
