"""Where the energy of maps lies, against the area of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.maps.landmarks import landmarks

NAMES = ("background", "RV", "LV")


def labelled(samples: int = 2) -> xr.DataArray:
    """Samples of 4 x 6 pixels with RV in two and LV in six of them; the last sample has no LV."""
    label = np.zeros((samples, 4, 6), np.uint8)
    label[:, 0, :2] = 1
    label[:, 1:3, 3:6] = 2
    label[-1][label[-1] == 2] = 0
    return xr.DataArray(label, dims=("sample", "y", "x"))


def maps_of(values: Any, samples: int = 2) -> xr.DataArray:
    whole = np.broadcast_to(np.asarray(values, np.float32), (samples, 1, 2, 4, 6)).copy()
    return xr.DataArray(whole, dims=("sample", "condition", "class_name", "y", "x"))


def test_a_flat_map_pays_no_heed_to_any_class() -> None:
    found = landmarks(maps_of(-3), labelled(), class_names=NAMES)
    assert found["concentration"].dims == ("sample", "condition", "class_name", "landmark")
    assert found["landmark"].values.tolist() == ["background", "RV", "LV"]
    np.testing.assert_allclose(found["concentration"][0, 0], 1)
    np.testing.assert_allclose(found["area"][0, 0, 0], [16 / 24, 2 / 24, 6 / 24])
    assert np.isnan(found["concentration"][1, 0, 0, 2]), "no LV there"
    assert not np.isnan(found["concentration"][1, 0, 0, :2]).any()


def test_energy_is_squared_and_shared() -> None:
    values = np.zeros((4, 6))
    values[0, 0], values[1, 3] = 1, -2
    found = landmarks(maps_of(values), labelled(), class_names=NAMES)
    np.testing.assert_allclose(found["energy"][0, 0, 0], [0, 1 / 5, 4 / 5])
    np.testing.assert_allclose(found["concentration"][0, 0, 0, 2], (4 / 5) / (6 / 24))


def test_where_a_map_does_not_reach_counts_nowhere() -> None:
    values = np.ones((4, 6))
    values[:, 3:] = np.nan
    found = landmarks(maps_of(values), labelled(), class_names=NAMES)
    np.testing.assert_allclose(found["area"][0, 0, 0, :2], [10 / 12, 2 / 12])
    assert np.isnan(found["energy"][0, 0, 0, 2])
    assert np.isnan(landmarks(maps_of(0), labelled(), class_names=NAMES)["energy"]).all()


def test_padding_is_no_image() -> None:
    label = labelled().assign_coords(height=("sample", [2, 2]), width=("sample", [6, 6]))
    found = landmarks(maps_of(1), label, class_names=NAMES)
    np.testing.assert_allclose(found["area"][0, 0, 0], [6 / 12, np.nan, 6 / 12])


def test_regions_of_several_classes() -> None:
    found = landmarks(maps_of(1), labelled(), class_names=NAMES, regions={"heart": (1, 2)})
    np.testing.assert_allclose(found["area"][0, 0, 0], [16 / 24, 8 / 24])
    assert found["landmark"].values.tolist() == ["background", "heart"]


def test_it_is_lazy() -> None:
    maps = maps_of(np.arange(24).reshape(4, 6))
    lazy = landmarks(maps.chunk(sample=1, condition=1), labelled().chunk(sample=1), class_names=NAMES)
    xr.testing.assert_identical(lazy.compute(), landmarks(maps, labelled(), class_names=NAMES))


def test_other_samples_are_refused() -> None:
    with pytest.raises(AnalysisError, match="label has 3 samples, maps 2: select the same samples of both"):
        landmarks(maps_of(1), labelled(3), class_names=NAMES)
