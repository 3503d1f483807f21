"""A capture with regions as classes, each predicted by its own sigmoid: every result against plain NumPy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import actstore
from actstore.data.discovery import find_volumes
from actstore.data.nifti import read_volume
from actstore.data.volume import VolumeKey
from actstore.errors import ModelError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.spec.spec import Spec, load_spec
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.tables.catalogue import TABLES, Unanswerable
from actstore.tables.findings import Findings
from actstore.tables.summaries import original_dice
from actstore.views.explorer.downloads import code
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DiceBox
from actstore.views.report.sections.order import SECTIONS
from actstore.views.report.sentences import segmentation as on_segmentation
from actstore.views.report.study import Study
from conftest import Once, WriteSpec
from counted import expect_counts, owned
from networks import one_sigmoid, regional

#: As nnU-Net lists them; the phantom's labels are RV 1, MYO 2, LV 3.
REGIONS = {"heart": [1, 2, 3], "left": [2, 3], "LV": [3]}
ORDER = (1, 2, 3)
PERTURB = [
    {"transform": "brightness", "targets": ["heart", "left", "LV"], "strengths": [0.1]},
    {"transform": "fill", "targets": ["LV"], "strengths": [1.0], "source": "left"},
]
SIGMOIDS = {
    "data__classes": REGIONS,
    "data__preprocess__normalize": "none",
    "model__factory": "networks:regional",
    "perturb": PERTURB,
}


@pytest.fixture(scope="module")
def spec(once: Once, write_spec: WriteSpec) -> Path:
    def fill(folder: Path) -> None:
        summary = capture(load_spec(write_spec(folder, **SIGMOIDS)), cluster="inline", device="cpu")
        assert summary.complete, summary.failed

    return once("regions", fill) / "spec.toml"


@pytest.fixture(scope="module")
def store(spec: Path) -> Store:
    return actstore.open(spec.with_name("tiny.zarr"))


@pytest.fixture(scope="module")
def findings(store: Store) -> Findings:
    return Findings(store)


def mask(values: Any, region: str) -> NDArray[np.bool_]:
    return np.isin(values, REGIONS[region])


def test_the_store_says_what_its_classes_are(store: Store) -> None:
    assert store.class_names == ("background", "heart only", "left only", "LV")
    assert store.regions == {"heart": (1, 2, 3), "left": (2, 3)}
    assert store.members == {"heart": (1, 2, 3), "left": (2, 3), "LV": (3,)}
    assert store.attributes["regions"] == {"heart": [1, 2, 3], "left": [2, 3]}
    assert store.attributes["identity"]["classes"] == REGIONS
    assert store.attributes["identity"]["head"] == {"kind": "regions", "path": [0], "order": [1, 2, 3]}
    assert set(np.unique(store.label)) == {0, 1, 2, 3}


def test_a_region_is_perturbed_in_the_union_of_its_labels(store: Store) -> None:
    image, label = store.image.values[:, :, 0], store.label.values
    applicable = store.applicable.values
    for c, region in enumerate(REGIONS, start=1):
        there = mask(label, region)
        np.testing.assert_array_equal(applicable[:, c], there.any(axis=(1, 2)))
        for s in np.flatnonzero(applicable[:, c]):
            expected = np.where(there[s], image[s, 0].astype(np.float64) * 0.1, image[s, 0])
            np.testing.assert_allclose(image[s, c], expected, rtol=1e-6)
            np.testing.assert_array_equal(image[s, c][~there[s]], image[s, 0][~there[s]])


def test_fill_writes_the_mean_of_a_region(store: Store) -> None:
    image, label = store.image.values[:, 4, 0], store.label.values
    spec = Spec.from_mapping(store.attributes["spec"])
    volumes = {str(file.key): read_volume(file, spec.labels.exclusive) for file in find_volumes(spec.data)}
    compared = 0
    for s in np.flatnonzero(store.applicable.values[:, 4]):
        row = store.samples.iloc[s]
        volume = volumes[str(VolumeKey(row["patient"], int(row["frame"])))]
        raw = volume.image[0, row["slice"]][mask(volume.label[row["slice"]], "left")]
        np.testing.assert_allclose(image[s][mask(label[s], "LV")], raw.mean(dtype=np.float64), rtol=1e-6)
        compared += 1
    assert compared > 5


def test_predictions_are_the_regions_in_order(store: Store) -> None:
    network, prediction = regional().eval(), store.prediction.values
    pairs = np.argwhere(store.applicable.values)
    image = torch.from_numpy(store.image.values[tuple(pairs.T)])
    with torch.inference_mode():
        probabilities = network(image)[0].sigmoid().numpy()
    expected = np.zeros((len(pairs), 64, 64), np.uint8)
    for i, written in enumerate(ORDER):  # nnU-Net's convert_logits_to_segmentation
        expected[probabilities[:, i] > 0.5] = written
    found = prediction[tuple(pairs.T)]
    assert (found != expected).mean() < 1e-4  # the batch decides how sums round
    assert all(0.01 < share < 0.99 for share in (probabilities > 0.5).mean(axis=(0, 2, 3)))


def test_scores_are_of_each_region(store: Store) -> None:
    model, counts, totals = regional(), store.histogram.compute(), store.calibration.compute()
    assert counts["class_name"].values.tolist() == list(REGIONS)
    sample, condition = (int(i) for i in np.argwhere(store.applicable.values[:, 1:])[0] + (0, 1))
    with torch.inference_mode():
        image = store.image.isel(sample=sample, condition=condition).values
        logits = model(torch.from_numpy(image)[None])[0][0].numpy()
    at, box = {"sample": sample, "condition": condition}, owned(store, sample)
    label = store.label.values[sample][box]
    found = counts.isel(at).values.astype(int), totals.isel(at).values
    expect_counts(*found, logits[(slice(None), *box)], label, list(store.members.values()), "sigmoid")


def test_confusion_is_exclusive(store: Store) -> None:
    confusion, label, prediction = store.confusion.values, store.label.values, store.prediction.values
    for s, c in np.argwhere(store.applicable.values):
        pairs = np.zeros((4, 4), np.int64)
        np.add.at(pairs, (label[s], prediction[s, c]), 1)
        np.testing.assert_array_equal(confusion[s, c], pairs)


def test_dice_of_a_region_is_that_of_its_union(store: Store, findings: Findings) -> None:
    table = findings.table("dice")
    assert list(dict.fromkeys(table["class_name"])) == list(REGIONS)
    dice = table.set_index(["patient", "frame", "slice", "condition", "class_name"])["dice"]
    label, prediction = store.label.values, store.prediction.values
    compared = 0
    for s, c in np.argwhere(store.applicable.values):
        row = store.samples.iloc[s]
        for region in REGIONS:
            true, predicted = (mask(values, region) for values in (label[s], prediction[s, c]))
            total = true.sum() + predicted.sum()
            expected = 2 * (true & predicted).sum() / total if total else 1.0
            found = dice[row["patient"], row["frame"], row["slice"], store.conditions.index[c], region]
            assert found == pytest.approx(expected, abs=1e-12)
            compared += 1
    assert compared == len(table)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_made(findings: Findings, name: str) -> None:
    try:
        table = findings.table(name)
    except Unanswerable:
        return
    if "class_name" in table.columns:
        assert set(table["class_name"]) <= set(REGIONS)
    if "target" in table.columns:
        assert set(table["target"]) <= {"", *REGIONS}


def test_volumes_pool_their_slices(store: Store) -> None:
    table = Findings(store, per="volume").table("segmentation")
    row = table.query("condition == 'original' and class_name == 'left'").iloc[0]
    samples = np.flatnonzero((store.samples["patient"] == row["patient"]) & (store.samples["frame"] == row["frame"]))
    true, predicted = (mask(v[samples], "left") for v in (store.label.values, store.prediction.values[:, 0]))
    assert row["dice"] == pytest.approx(2 * (true & predicted).sum() / (true.sum() + predicted.sum()))


def test_cases_take_a_region_as_one_class(store: Store) -> None:
    cases = store.cases.values
    found = set(cases[:, 1][store.applicable.values[:, 1]])
    assert found <= {"empty prediction", "only heart", "error"}
    assert len(found) >= 1


def test_sentences_are_of_the_regions(store: Store) -> None:
    original = original_dice(store)
    assert original["class_name"].tolist() == list(REGIONS)
    words = " ".join(on_segmentation.untouched(original))
    for region, dice in zip(original["class_name"], original["dice"], strict=True):
        label, prediction = mask(store.label.values, region), mask(store.prediction.values[:, 0], region)
        pairs = [(true, found) for true, found in zip(label, prediction, strict=True) if true.any()]
        own = [2 * (true & found).sum() / (true.sum() + found.sum()) for true, found in pairs]
        assert dice == pytest.approx(np.mean(own))
        assert f"{region} {np.mean(own):.3f} ({len(own)} slices)" in words


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in SECTIONS if key != "classification"])
def test_every_section_of_a_report_can_be_made(store: Store, findings: Findings, key: str) -> None:
    section = SECTIONS[key](Study(store, findings))
    for figure in section.figures:
        assert figure.draw() is not None
    if key == "failures":
        assert any(line.startswith("left perturbed: ") for line in section.words)


def test_the_explorer_shows_regions(store: Store) -> None:
    source = Source(store)
    assert source.foreground == list(REGIONS)
    assert source.present[:, 0].tolist() == (store.label.values > 0).any(axis=(1, 2)).tolist()
    state = source.first_state("brightness(left, 0.1)")
    cover = source.cover("L01", source.sample(state), "left", state.slice)
    np.testing.assert_allclose(cover, mask(store.label.values[source.sample(state)], "left"))
    written = code(source, state.copy(dice=DiceBox("left", 0.0, 1.0, 0.0, 1.0)))
    assert (
        ".dice(store.confusion, applicable=store.applicable, regions=store.members).sel(class_name='left')" in written
    )
    names: dict[str, Any] = {}
    exec(written, names)
    assert names["samples"].index.tolist() == np.flatnonzero(source.subset(state)).tolist()


def test_the_run_can_be_continued_and_verified(spec: Path, store: Store) -> None:
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert (summary.done, summary.skipped) == (0, 4)
    assert not verify(store.path).damage


def test_another_order_is_another_run(spec: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    changed = write_spec(tmp_path / "here", **SIGMOIDS, data__regions_class_order=[1, 2, 3])
    with pytest.raises(StoreError, match="belongs to another run: another spec"):
        capture(load_spec(changed), store=spec.with_name("tiny.zarr"), cluster="inline", device="cpu")


def test_one_sigmoid_in_a_dict(write_spec: WriteSpec, tmp_path: Path) -> None:
    heart = {"data__classes": {"heart": [1, 2, 3]}, "model__factory": "networks:one_sigmoid"}
    darker = [{"transform": "brightness", "targets": ["heart"], "strengths": [0.1]}]
    bare = write_spec(tmp_path, **heart, perturb=darker)
    words = "'networks:one_sigmoid' returns a dict of 'logits': (1, 64, 64), 'image': (1, 64, 64): name the one of its"
    with pytest.raises(ModelError, match=re.escape(words)):
        make_plan(load_spec(bare), device="cpu", timing=False)
    named = write_spec(tmp_path, **heart, perturb=darker, model__output="logits", data__patients=["patient001"])
    assert capture(load_spec(named), cluster="inline", device="cpu").complete
    store = actstore.open(tmp_path / "tiny.zarr")
    image = torch.from_numpy(store.image.values[:, 0])
    with torch.inference_mode():
        expected = one_sigmoid().eval()(image)["logits"][:, 0].numpy() > 0
    assert (store.prediction.values[:, 0] != expected).mean() < 1e-4
    assert store.members == {"heart": (1, 2, 3)}
    found = Findings(store).table("dice")
    assert set(found["class_name"]) == {"heart"}
