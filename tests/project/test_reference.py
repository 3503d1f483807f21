"""Against real data and published numbers, where ACTSTORE_REFERENCE names the folder that holds them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import analysis
from actstore.jobs.intervene import intervene
from actstore.jobs.stored_spec import spec_of
from actstore.jobs.visualise import visualise
from actstore.spec.intervene import Intervene
from actstore.spec.visualise import Visualise
from actstore.store.store import Store
from actstore.tables.build import build_table
from conftest import WriteSpec
from reference import capture_reference, reference

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "ACTSTORE_REFERENCE" not in os.environ, reason="ACTSTORE_REFERENCE names no folder with reference data"
    ),
]

#: The published numbers are rounded to 4 decimals.
ROUNDING = 5.1e-5
#: Of SSIM also what float32 differs by between machines.
SSIM_ROUNDING = 5.5e-5
#: Channels whose values are closer than this may change places.
TIE = 1e-4
#: Slices whose published case comes from another run: (patient, frame, slice).
OTHER_RUN = {
    ("patient001", 1, 7),
    ("patient001", 1, 9),
    ("patient001", 12, 1),
    ("patient001", 12, 2),
}
SLICE = ["patient", "frame", "slice"]


@pytest.fixture(scope="module")
def store(reference_store: Path) -> Store:
    return actstore.open(reference_store)


def published(name: str) -> pd.DataFrame:
    table = pd.read_csv(reference() / f"published_{name}.csv")
    return table.assign(frame=table["frame"].str.removeprefix("frame").astype(int))


@pytest.fixture(scope="module")
def top3() -> pd.DataFrame:
    return published("top3")


@pytest.fixture(scope="module")
def values(store: Store) -> pd.DataFrame:
    """MAD, MSE and SSIM of every channel, from the activations: a row for each layer, slice, target and channel."""
    frames = []
    for layer in store.layers.index:
        found = analysis.statistics(store[layer], ["mad", "mse", "ssim"]).isel(condition=slice(1, None)).compute()
        table = found.to_dataframe()[["mad", "mse", "ssim", "target", *SLICE]].reset_index(drop=True)
        table["channel"] = np.tile(np.arange(found.sizes["channel"]), len(table) // found.sizes["channel"])
        frames.append(table.assign(layer=layer))
    return pd.concat(frames).set_index(["layer", *SLICE, "target", "channel"]).sort_index()


def test_layers_are_those_of_the_worked_example(store: Store, top3: pd.DataFrame) -> None:
    older = top3.groupby("layer")["module"].first()
    # The published run's MONAI had one more level in the bottleneck.
    modules = "model." + older.str.replace(r"^((?:1\.submodule\.){3})0\.", r"\1", regex=True)
    assert store.layers["module"].to_dict() == modules.to_dict()
    assert len(modules) == 21
    assert store.layers.loc["L01", ["channels", "size"]].tolist() == [8, (128, 128)]
    assert store.layers.loc["L13", ["channels", "size"]].tolist() == [64, (32, 32)]
    assert store.layers.loc["L21", ["channels", "size"]].tolist() == [4, (256, 256)]
    raw = sum(c * h * w * 4 for c, (h, w) in zip(store.layers["channels"], store.layers["size"], strict=True))
    assert raw == pytest.approx(7.34e6, rel=1e-3)


def test_every_published_mad_and_mse_is_met(values: pd.DataFrame, top3: pd.DataFrame) -> None:
    keys = pd.MultiIndex.from_frame(top3[["layer", *SLICE, "target", "channel"]])
    mine = values.loc[keys, ["mad", "mse"]].to_numpy()
    error = np.abs(mine - top3[["mad", "mse"]].to_numpy())
    print(f"{len(top3)} published rows, largest difference: MAD {error[:, 0].max():.3g}, MSE {error[:, 1].max():.3g}")
    assert len(top3) > 10_000
    assert not np.isnan(mine).any()
    assert error.max() <= ROUNDING


def test_every_published_ssim_is_met(values: pd.DataFrame, top3: pd.DataFrame) -> None:
    keys = pd.MultiIndex.from_frame(top3[["layer", *SLICE, "target", "channel"]])
    error = np.abs(values.loc[keys, "ssim"].to_numpy() - top3["ssim"].to_numpy())
    print(f"{len(top3)} published rows, largest difference: SSIM {error.max():.3g}")
    assert len(top3) > 10_000
    assert error.max() <= SSIM_ROUNDING


@pytest.mark.parametrize("by", ["mad", "mse"])
def test_the_published_top_3_are_met(values: pd.DataFrame, top3: pd.DataFrame, by: str) -> None:
    group = ["layer", *SLICE, "target"]
    theirs = top3[top3["ranked_by"] == by].groupby(group)["channel"].agg(set)
    ranked = values[by].sort_values(ascending=False, kind="stable").reset_index()
    mine = ranked.groupby(group).head(3).groupby(group)["channel"].agg(set)[theirs.index]
    fourth = ranked.groupby(group)[by].agg(lambda v: v.iloc[2] - v.iloc[3])[theirs.index]
    decided = fourth > TIE
    print(f"{by}: {len(theirs)} rankings, {(~decided).sum()} too close to call, {(mine != theirs).sum()} differ in all")
    assert decided.mean() > 0.5
    assert theirs.map(len).eq(3).all()
    assert mine[decided].equals(theirs[decided])


def test_the_table_lists_the_published_top_3(store: Store, values: pd.DataFrame) -> None:
    table = build_table(store, "top-channels", top=3)
    keys = pd.MultiIndex.from_frame(table[["layer", *SLICE, "target", "channel"]])
    np.testing.assert_allclose(table["mad"], values.loc[keys, "mad"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(table["mse"], values.loc[keys, "mse"], rtol=1e-6, atol=1e-9)


def test_the_published_cases_are_met(store: Store) -> None:
    theirs = published("cases").groupby(["target", *SLICE])["case"].agg(set)
    cases = store.cases.isel(condition=slice(1, None)).compute().rename("case")
    mine = cases.to_dataframe().reset_index(drop=True).set_index(["target", *SLICE])["case"]
    differing = sorted(key for key, labels in theirs.items() if labels != {mine[key]})
    for key in differing:
        print(*key, f"{mine[key]!r}, published {sorted(theirs[key])}")
    assert len(theirs) > 60
    assert {key[1:] for key in differing} == OTHER_RUN
    assert len(differing) == 5


def test_dice_falls_for_the_perturbed_class(store: Store) -> None:
    mean = analysis.mean_dice(store.confusion, applicable=store.applicable).compute()
    print(mean.to_pandas().round(3).to_string())
    for name in ("LV", "RV"):
        before = float(mean.sel(condition="original", class_name=name))
        after = float(mean.sel(condition=f"brightness({name}, 0.1)", class_name=name))
        assert before > 0.6
        assert after < 0.1 * before


def test_the_layout_of_acdc_with_volumes_of_different_depth(tmp_path: Path, write_spec: WriteSpec) -> None:
    summary = capture_reference(
        tmp_path,
        write_spec,
        "acdc",
        data__patients=["patient101", "patient102"],
        data__preprocess={"size": [64, 64]},
        model__factory="networks:tiny_unet",
        model__weights=None,
        model__layers=["type:InstanceNorm2d"],
        perturb=[{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}],
    )
    assert summary.done == 4
    store = actstore.open(summary.store)
    depth = {}
    import nibabel

    for volume in ("patient101_frame01", "patient101_frame14", "patient102_frame01", "patient102_frame13"):
        image: Any = nibabel.load(reference() / "acdc" / volume[:10] / f"{volume}.nii.gz")
        depth[volume[:10], int(volume[-2:])] = image.shape[2]
    assert len(set(depth.values())) > 1, "slice counts differ"
    assert store.layout.slots == max(depth.values())
    assert store.samples.groupby(["patient", "frame"]).size().to_dict() == depth
    assert store.samples.groupby(["patient", "frame"])["phase"].unique().map(list).to_dict() == {
        ("patient101", 1): ["ED"],
        ("patient101", 14): ["ES"],
        ("patient102", 1): ["ED"],
        ("patient102", 13): ["ES"],
    }
    groups = {}
    for patient in ("patient101", "patient102"):
        info = (reference() / "acdc" / patient / "Info.cfg").read_text()
        groups[patient] = dict(line.split(": ") for line in info.splitlines() if ": " in line)["Group"].strip()
    assert store.samples.groupby("patient")["group"].unique().map(list).to_dict() == {p: [g] for p, g in groups.items()}

    import zarr

    root = zarr.open_group(store.path, mode="r")
    valid: Any = root["valid"]
    used = np.asarray(valid[...]).reshape(4, -1)
    assert used.sum(axis=1).tolist() == [depth[key] for key in sorted(depth)]
    assert all(row[: row.sum()].all() for row in used), "the unused slots come last"
    activation: Any = root["layers/L02/activation"]
    assert np.isnan(activation[np.flatnonzero(~used.reshape(-1))]).all()
    assert np.isnan(store["L02"].values).any((1, 2, 3, 4)).sum() == (~store.applicable.values).any(1).sum()


def test_optima_exceed_what_any_sample_reaches(store: Store, tmp_path: Path) -> None:
    """Of the trained network's bottleneck: in at least nine of ten live channels, on images as they are, after 8 steps.

    `benchmarks/optima.py` says the same of every convolution, after all steps.
    """
    copied = shutil.copytree(Path(str(store.path)), tmp_path / "run.zarr", copy_function=os.link)
    settings = Visualise.model_validate(
        {"layers": ["*.submodule.1.submodule.conv.unit0.conv"], "channels": list(range(8)), "steps": 8}
    )
    spec = spec_of(store.attributes).model_copy(update={"visualise": settings})
    assert visualise(spec, store=copied, cluster="inline", device="cpu").complete
    table = build_table(actstore.open(copied), "optima")
    live = table[table["status"] == "live"]
    assert len(live) == 8
    assert live["above_data"].mean() >= 0.9


def test_patching_the_last_layer_gives_the_originals_prediction(store: Store, tmp_path: Path) -> None:
    """Every path to the output leads through L21."""
    copied = shutil.copytree(Path(str(store.path)), tmp_path / "run.zarr", copy_function=os.link)
    conditions = tuple(store.conditions.index[1:])
    table = Intervene(
        name="restore", edit="patch", into=conditions, layers=("model.2.0.adn.N",), channels="layer", samples=4
    )
    spec = spec_of(store.attributes).model_copy(update={"intervene": (table,)})
    (found,) = intervene(spec, store=copied, cluster="inline", device="cpu")
    assert found.complete, found.failed
    group = actstore.open(copied).group("interventions/restore").load()
    original = store.confusion.isel(condition=0).values
    for number, condition in enumerate(conditions):
        edited = group["edited"].values[:, number]
        assert edited.any()
        assert (group["confusion"].values[edited, number, 0] == original[edited]).all()
        assert (store.confusion.sel(condition=condition).values[edited] != original[edited]).any()
