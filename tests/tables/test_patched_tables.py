"""Tables of a store whose samples are patches, against the whole volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

import actstore
from actstore import Findings, analysis
from actstore.store.store import Store
from patched import FRAMES, SPACING, Volume, patched_store

Patched = tuple[Store, list[Volume]]
PLACE = ["patient", "frame", "slice", "patch"]
PER_SAMPLE = ("dice", "segmentation", "surface", "cases", "mad", "top-channels", "rescaling")


@pytest.fixture(
    scope="module",
    params=[pytest.param((16, 16), id="2D"), pytest.param((8, 16, 16), id="3D", marks=pytest.mark.slow)],
)
def patched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Patched:
    return patched_store(tmp_path_factory.mktemp("patched"), request.param)


def numbered(volumes: list[Volume], sliced: bool) -> list[tuple[Volume, int, tuple[Any, ...]]]:
    """Each sample's volume, number there, and (patient, frame, slice, patch)."""
    return [
        (v, p, (v.patient, v.frame, int(v.origin[p, 0]) if sliced else 0, int(v.patch_numbers[p])))
        for v in volumes
        for p in range(len(v.origin))
    ]


def counts_of(label: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.int64]:
    found = np.zeros((4, 4), np.int64)
    for true, predicted in zip(label.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        found[true, predicted] += 1
    return found


def dice_of(counts: NDArray[np.int64], k: int) -> float:
    whole = counts[k].sum() + counts[:, k].sum()
    return float(2 * counts[k, k] / whole) if whole else 1.0


def test_samples_name_their_patch(patched: Patched) -> None:
    store, volumes = patched
    expected = [place for *_, place in numbered(volumes, len(store.layout.space) == 2)]
    assert [*store.samples[PLACE].itertuples(index=False, name=None)] == expected
    assert list(store.samples.columns)[:4] == PLACE
    assert store.patched
    assert store.label.coords["patch"].dims == ("sample",)
    np.testing.assert_array_equal(store.image.coords["owned_stop_x"], store.patches["owned_stop_x"])


def test_other_stores_have_no_patch(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    assert not store.patched
    assert "patch" not in store.samples
    assert "patch" not in store.image.coords
    assert not [name for name in store["L01"].coords if str(name).startswith(("origin", "owned"))]
    findings = Findings(store, resamples=10)
    assert all("patch" not in findings.table(name) for name in PER_SAMPLE)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_tables_by_sample_have_one_row_a_patch(patched: Patched, name: str) -> None:
    store, _ = patched
    table = Findings(store, resamples=10).table(name)
    at = list(table.columns).index("patient")
    assert list(table.columns)[at : at + 4] == PLACE
    rest = [c for c in ("layer", "condition", "class_name", "channel") if c in table]
    assert not table.duplicated([*PLACE, *rest]).any()


def test_dice_of_a_patch_is_over_its_box(patched: Patched) -> None:
    store, volumes = patched
    table = Findings(store, resamples=10).table("dice")
    found = {(*row[:4], row.condition, row.class_name): row.dice for row in table.itertuples(index=False)}
    expected = {}
    for volume, patch, place in numbered(volumes, len(store.layout.space) == 2):
        box = volume.box(patch)
        for c, condition in enumerate(store.conditions.index):
            if volume.applicable[patch, c]:
                counts = counts_of(volume.label[box], volume.prediction[c][box])
                for k, name in enumerate(store.class_names[1:], 1):
                    expected[(*place, condition, name)] = dice_of(counts, k)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_volumes_confusion_is_the_stitched_volumes(patched: Patched, chunked: bool) -> None:
    store, volumes = patched
    confusion = store.confusion if chunked else store.confusion.compute()
    applicable = store.applicable if chunked else store.applicable.compute()
    for given in (applicable, None):
        found = analysis.pooled(confusion, applicable=given).compute()
        assert list(zip(found.patient.values, found.frame.values, strict=True)) == [
            (v.patient, v.frame) for v in volumes
        ]
        for i, volume in enumerate(volumes):
            for c in range(len(store.conditions)):
                expected = counts_of(volume.label, volume.prediction[c]) * volume.applicable[:, c].any()
                np.testing.assert_array_equal(found[i, c], expected)
    assert not {"patch", "slice", "origin_x", "owned_start_z"} & {*map(str, found.coords)}


def test_a_patient_and_cases_follow_from_the_volumes(patched: Patched) -> None:
    store, volumes = patched
    by_patient = analysis.pooled(store.confusion, "patient", applicable=store.applicable).compute()
    first = [counts_of(v.label, v.prediction[1]) for v in volumes[: len(FRAMES)]]
    np.testing.assert_array_equal(by_patient[0, 1], sum(first))
    table = Findings(store, per="volume").table("segmentation")
    assert "patch" not in table
    assert "slice" not in table
    row = table[(table["patient"] == "patient001") & (table["frame"] == 1) & (table["class_name"] == "LV")]
    changed = row[row["condition"] == "brightness(LV, 0.1)"]
    assert changed["dice"].item() == dice_of(first[0], 3)
    millilitres = np.prod(SPACING) / 1000
    excess = (first[0][:, 3].sum() - first[0][3].sum()) * millilitres
    np.testing.assert_allclose(changed["volume_difference"].item(), excess)
    cases = analysis.cases(analysis.pooled(store.confusion, applicable=store.applicable), store.case_rules).compute()
    whole = xr.DataArray(
        np.array([[counts_of(v.label, p) for p in v.prediction] for v in volumes]),
        dims=store.confusion.dims,
        coords={"condition": store.confusion.condition, "target": store.confusion.target}
        | {"true_class": list(store.class_names), "predicted_class": list(store.class_names)},
    )
    applies = np.array([v.applicable.any(axis=0) for v in volumes])
    np.testing.assert_array_equal(cases.values, analysis.cases(whole.where(applies[..., None, None], 0).astype(int)))


@pytest.mark.parametrize("chunked", [False, True])
def test_surface_distances_of_volumes_are_the_stitched_volumes(patched: Patched, chunked: bool) -> None:
    store, volumes = patched
    arrays = [store.prediction, store.label, store.applicable]
    prediction, label, applicable = arrays if chunked else [array.compute() for array in arrays]
    names = store.class_names
    found = analysis.surface_distances(prediction, label, names, applicable=applicable, by="volume").compute()
    for i, volume in enumerate(volumes):
        whole = xr.DataArray(volume.prediction[None], dims=("sample", "condition", "z", "y", "x"))
        coords: dict[str, Any] = {f"spacing_{axis}": ("sample", [mm]) for axis, mm in zip("zyx", SPACING, strict=True)}
        whole = whole.assign_coords(coords | {"condition": store.conditions.index})
        truth = xr.DataArray(volume.label[None], dims=("sample", "z", "y", "x"))
        applies = xr.DataArray(volume.applicable.any(axis=0)[None], dims=("sample", "condition"))
        expected = analysis.surface_distances(whole, truth, names, applicable=applies)
        for name in ("hd95", "assd"):
            np.testing.assert_array_equal(found[name][i], expected[name][0])
    table = Findings(store, per="volume").table("surface")
    assert "patch" not in table
    assert len(table) == 3 * sum(int(v.applicable.any(axis=0).sum()) for v in volumes)


def test_surface_distances_of_a_patch_are_of_its_box(patched: Patched) -> None:
    store, volumes = patched
    found = analysis.surface_distances(store.prediction, store.label, store.class_names).compute()
    axes = len(store.layout.space)
    for number, (volume, patch, _) in enumerate(numbered(volumes, axes == 2)[:40:3]):
        box = volume.box(patch)
        own = volume.prediction[0][box].reshape(-1, *[b.stop - b.start for b in box[-axes:]])
        space = ("z", "y", "x")[-axes:]
        whole = xr.DataArray(own[:, None], dims=("sample", "condition", *space))
        coords = {f"spacing_{a}": ("sample", [mm]) for a, mm in zip("zyx", SPACING, strict=True)}
        truth = xr.DataArray(volume.label[box].reshape(own.shape), dims=("sample", *space))
        expected = analysis.surface_distances(
            whole.assign_coords(coords | {"condition": ["original"]}), truth, store.class_names
        )
        np.testing.assert_array_equal(found["assd"][3 * number, 0], expected["assd"][0, 0])


def test_patches_that_do_not_overlap_count_as_the_original_where_a_condition_was_not_inferred() -> None:
    """Two patches side by side: the second does not hold the class, and was not inferred."""
    prediction = np.array([[[[1, 0]], [[0, 0]]], [[[0, 1]], [[0, 0]]]], np.uint8)
    label = np.array([[[1, 0]], [[0, 0]]], np.uint8)
    along: dict[str, Any] = {name: ("sample", [1, 1]) for name in ("frame", "depth", "height")}
    along |= {"patient": ("sample", ["a", "a"]), "width": ("sample", [4, 4]), "patch": ("sample", [0, 1])}
    for axis, first, stop in (("z", [0, 0], [1, 1]), ("y", [0, 0], [1, 1]), ("x", [0, 2], [2, 4])):
        along |= {f"{name}_{axis}": ("sample", first) for name in ("origin", "owned_start")}
        along |= {f"owned_stop_{axis}": ("sample", stop), f"spacing_{axis}": ("sample", [1.0, 1.0])}
    coords = along | {"condition": ["original", "dark"]}
    applicable = xr.DataArray([[True, True], [True, False]], dims=("sample", "condition"))
    maps = xr.DataArray(prediction, dims=("sample", "condition", "y", "x"), coords=coords)
    truth = xr.DataArray(label, dims=("sample", "y", "x"))
    found = analysis.surface_distances(maps, truth, ["background", "LV"], applicable=applicable, by="volume")
    # Under "dark" the class is predicted where the original has it in the second patch, and nowhere else.
    whole = xr.DataArray(
        np.array([[1, 0, 0, 1], [0, 0, 0, 1]]).reshape(1, 2, 1, 1, 4),
        dims=("sample", "condition", "z", "y", "x"),
        coords={"condition": ["original", "dark"]} | {f"spacing_{a}": ("sample", [1.0]) for a in "zyx"},
    )
    expected = analysis.surface_distances(
        whole, xr.DataArray([[[[1, 0, 0, 0]]]], dims=("sample", "z", "y", "x")), ["background", "LV"]
    )
    np.testing.assert_array_equal(found["assd"], expected["assd"])


def test_slices_lie_where_they_do_without_patches(tmp_path: Path) -> None:
    store, volumes = patched_store(tmp_path)
    found = analysis.slice_position(store.confusion).compute().values
    number = 0
    for volume in volumes:
        slices = np.array([(volume.label[z] > 0).sum() for z in range(volume.shape[0])])
        whole = xr.DataArray(
            np.stack([np.diag([0, n, 0, 0]) for n in slices])[:, None],
            dims=store.confusion.dims,
            coords={"patient": ("sample", ["a"] * len(slices)), "frame": ("sample", [1] * len(slices))}
            | {"slice": ("sample", np.arange(len(slices))), "condition": ["original"]}
            | {"true_class": list(store.class_names), "predicted_class": list(store.class_names)},
        )
        expected = analysis.slice_position(whole).values
        own = found[number : number + len(volume.origin)]
        np.testing.assert_array_equal(own, expected[volume.origin[:, 0]])
        number += len(volume.origin)


def test_rescaling_looks_at_what_a_patch_shows_of_the_volume(tmp_path: Path) -> None:
    """Zeros of the padding lie on no line of intensities."""
    store, volumes = patched_store(tmp_path)
    image = store.image.isel(condition=[0, 1], input_channel=[0]).compute()
    values = image.values.copy()
    values[:, 1] = np.where(np.isnan(values[:, 1]), np.nan, 2 * values[:, 0] + 3)
    number = 0
    for volume in volumes:
        for patch in range(len(volume.origin)):
            low = np.clip(-volume.origin[patch, 1:], 0, 16)
            high = np.clip(np.array(volume.shape)[1:] - volume.origin[patch, 1:], 0, 16)
            padding = np.ones((16, 16), bool)
            padding[low[0] : high[0], low[1] : high[1]] = False
            values[number, :, 0, padding] = 0
            number += 1
    found = analysis.rescaling(image.copy(data=values), store.label.compute(), store.class_names).values[:, 1]
    applies = store.applicable.values[:, 1]
    np.testing.assert_allclose(found[applies], 2, rtol=1e-6)
    assert np.isnan(found[~applies]).all()


def test_channel_statistics_are_of_each_patch(patched: Patched) -> None:
    store, volumes = patched
    table = Findings(store, resamples=10).table("mad")
    row: Any = table.iloc[len(table) // 2]
    at = {
        place: volume.activations[list(store.layers.index).index(row["layer"])][patch]
        for volume, patch, place in numbered(volumes, len(store.layout.space) == 2)
    }
    maps = at[tuple(row[name] for name in PLACE)][:, row["channel"]].astype(np.float64)
    c = list(store.conditions.index).index(row["condition"])
    np.testing.assert_allclose(row["mad"], np.abs(maps[c] - maps[0]).mean(), rtol=1e-12)
    assert isinstance(table, pd.DataFrame)
