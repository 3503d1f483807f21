"""Whole volumes from patches, against a loop over voxels."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import actstore
from actstore import analysis
from actstore.analysis.arrays import AnalysisError
from actstore.geometry import Grid
from actstore.store.reader import ShardReader
from actstore.store.store import Store
from helpers import chunked, raise_if_dask_computes
from patched import SHAPES, Volume, patched_store

SPACES = (pytest.param((16, 16), id="2D"), pytest.param((8, 16, 16), id="3D", marks=pytest.mark.slow))
Patched = tuple[Store, list[Volume]]


@pytest.fixture(scope="module", params=SPACES)
def patched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Patched:
    return patched_store(tmp_path_factory.mktemp("patched"), request.param)


def owner_of(volume: Volume, voxel: tuple[int, ...]) -> int:
    """The one patch whose box holds a voxel."""
    inside = ((volume.start <= voxel) & (voxel < volume.stop)).all(axis=1)
    assert inside.sum() == 1
    return int(np.flatnonzero(inside)[0])


def by_voxel(volume: Volume, maps: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """``maps`` (patch, …, [z,] y, x) as a whole volume (…, z, y, x)."""
    axes = len(grid.step)
    found = np.empty((*maps.shape[1 : maps.ndim - axes], *volume.shape), maps.dtype)
    for voxel in product(*map(range, volume.shape)):
        patch = owner_of(volume, voxel)
        inside = [int(v - o) for v, o in zip(voxel, volume.origin[patch], strict=True)][-axes:]
        pixel = [grid.pixel_at(n, axis, maps.shape[axis - axes]) for axis, n in enumerate(inside)]
        found[(..., *voxel)] = maps[(patch, ..., *pixel)]
    return found


def test_label_and_prediction_are_the_whole_volumes(patched: Patched) -> None:
    store, volumes = patched
    for volume in volumes:
        label = store.mosaic("label", volume.patient, volume.frame)
        assert label.dims == ("z", "y", "x")
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, volume.label)
        prediction = store.mosaic("prediction", volume.patient, volume.frame)
        assert prediction.dims == ("condition", "z", "y", "x")
        np.testing.assert_array_equal(prediction, volume.prediction)


def test_image_is_the_whole_volumes_where_it_was_recorded(patched: Patched) -> None:
    store, volumes = patched
    for volume in volumes:
        image = store.mosaic("image", volume.patient, volume.frame)
        assert image.dims == ("condition", "input_channel", "z", "y", "x")
        assert image.input_channel.values.tolist() == ["T1", "T2"]
        expected = volume.image.copy()
        for patch in range(len(volume.origin)):
            box = volume.box(patch)
            expected[(~volume.applicable[patch], slice(None), *box)] = np.nan
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("layer", [0, 1])
def test_each_voxel_takes_the_pixel_of_the_patch_that_owns_it(patched: Patched, layer: int) -> None:
    store, volumes = patched
    name = list(store.layers.index)[layer]
    for volume in volumes[::2]:
        found = store.mosaic(name, volume.patient, volume.frame)
        assert found.dims == ("condition", "channel", "z", "y", "x")
        np.testing.assert_array_equal(found, by_voxel(volume, volume.activations[layer], store.grids[name]))


def test_numpy_and_dask_agree_and_dask_stays_lazy(patched: Patched) -> None:
    store, volumes = patched
    volume = volumes[0]
    own = slice(0, len(volume.origin))
    eager = analysis.mosaic(store["L02"].isel(sample=own).compute(), grid=store.grids["L02"])
    with raise_if_dask_computes():
        lazy = store.mosaic("L02", volume.patient, volume.frame)
        split = analysis.mosaic(
            chunked(store["L02"].isel(sample=own), {"sample": 5, "condition": 1, "channel": 4, "x": 3}),
            grid=store.grids["L02"],
        )
    assert isinstance(eager.data, np.ndarray)
    for found in (lazy, split):
        xr.testing.assert_identical(found.compute(), eager)
    assert eager.attrs == {}
    assert eager.name == "activation"
    assert eager.coords["patient"].item() == volume.patient
    assert not {"sample", "slice", "patch", "origin_x", "owned_stop_z"} & {*map(str, eager.coords)}


def test_a_plane_reads_only_the_patches_that_own_it(patched: Patched, monkeypatch: pytest.MonkeyPatch) -> None:
    store, volumes = patched
    volume = volumes[0]
    read: list[int] = []
    fill = ShardReader.fill

    def noted(self: ShardReader, out: Any, first: int, start: int) -> None:
        read.extend(range(first, first + len(out)))
        fill(self, out, first, start)

    monkeypatch.setattr(ShardReader, "fill", noted)
    monkeypatch.setattr("actstore.store.lazy.TASK_BYTES", 1)  # a task a sample
    plane = store.mosaic("L01", volume.patient, volume.frame).isel(z=2, x=0)
    assert read == []
    with dask.config.set(scheduler="synchronous"):
        values = plane.values
    owners = {owner_of(volume, (2, y, 0)) for y in range(volume.shape[1])}
    assert {*read} == owners
    assert len(owners) < len(volume.origin)
    expected = by_voxel(volume, volume.activations[0], store.grids["L01"])
    np.testing.assert_array_equal(values, expected[:, :, 2, :, 0])


def test_a_store_of_whole_slices_has_mosaics_too(tiny_store: Path) -> None:
    whole = actstore.open(tiny_store)
    row = whole.samples.iloc[-1]
    own = whole.label[(whole.samples["block"] == row["block"]).to_numpy()].values
    found = whole.mosaic("label", row["patient"], int(row["frame"]))
    height, width = int(row["height"]), int(row["width"])
    assert found.shape == (int(row["depth"]), height, width)
    patches = whole.patches.loc[row.name]
    y, x = int(patches["owned_start_y"]), int(patches["owned_start_x"])
    inside = found.values[:, y : int(patches["owned_stop_y"]), x : int(patches["owned_stop_x"])]
    top, left = y - int(patches["origin_y"]), x - int(patches["origin_x"])
    np.testing.assert_array_equal(inside, own[:, top : top + inside.shape[1], left : left + inside.shape[2]])


def test_what_no_patch_owns_is_nan_or_0(patched: Patched) -> None:
    store, volumes = patched
    volume = volumes[0]
    own = store.image.isel(sample=slice(1, len(volume.origin)))
    found = analysis.mosaic(own).isel(condition=0).values
    z, y, x = volume.box(0)
    assert np.isnan(found[:, z, y, x]).all()
    assert np.isfinite(found).sum() == found.size - found[:, z, y, x].size
    assert (analysis.mosaic(store.label.isel(sample=slice(1, len(volume.origin)))).values[z, y, x] == 0).all()


def test_refused_in_words(patched: Patched, tiny_store: Path) -> None:
    store, volumes = patched
    several = len(volumes[0].origin) + 1
    with pytest.raises(AnalysisError, match="image has samples of several volumes: select those of one patient"):
        analysis.mosaic(store.image.isel(sample=slice(0, several)))
    with pytest.raises(AnalysisError, match="image has no sample: select those of one patient and frame"):
        analysis.mosaic(store.image.isel(sample=slice(0, 0)))
    with pytest.raises(AnalysisError, match="samples 0 and 1 own the same voxels: select each patch"):
        analysis.mosaic(store.image.isel(sample=[0, 0]))
    with pytest.raises(AnalysisError, match="give the `grid` of the layer, or arrays of the input's size"):
        analysis.mosaic(store["L02"].isel(sample=slice(0, len(volumes[0].origin))))
    with pytest.raises(AnalysisError, match="no coordinate 'origin_z' along sample: take the array from a store that"):
        analysis.mosaic(actstore.open(tiny_store).image)
    with pytest.raises(KeyError, match="no volume 'patient009' frame 1: there are patient001 frame 1, patient001 fra"):
        store.mosaic("image", "patient009", 1)
    with pytest.raises(KeyError, match="no layer 'L99': there are L01 … L02"):
        store.mosaic("L99", "patient001", 1)


def test_shapes_are_those_of_the_volumes(patched: Patched) -> None:
    store, _ = patched
    for i, shape in enumerate(SHAPES):
        assert store.mosaic("label", f"patient{i + 1:03d}", 7).shape == shape


def test_a_prediction_is_the_originals_where_a_condition_was_not_inferred(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    row = store.samples.iloc[0]
    own = (store.samples["block"] == row["block"]).to_numpy()
    with raise_if_dask_computes():
        found = store.mosaic("prediction", row["patient"], int(row["frame"]))
    assert found.dtype == np.uint8
    assert found.dims == ("condition", "z", "y", "x")
    image = store.mosaic("image", row["patient"], int(row["frame"])).isel(input_channel=0)
    applies = store.applicable.values[own]
    assert not applies.all()
    assert applies.any(axis=0).all()
    for z, c in np.argwhere(~applies):
        np.testing.assert_array_equal(found[c, z], found[0, z])
        assert np.isnan(image[c, z]).all()
    for z, c in np.argwhere(applies):
        assert np.isfinite(image[c, z]).any()
