"""Classifiers of whole images, captured: scores, layers without space, patients, splits, and what is left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from sklearn import metrics

import actstore
import classifiers
from actstore import views
from actstore.analysis import AnalysisError
from actstore.errors import ModelError, StoreError
from actstore.inputs.preprocess import normalize
from actstore.jobs.capture import capture
from actstore.jobs.explain import explain
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.repair import repair
from actstore.spec.spec import load_spec
from actstore.store.verify import verify
from actstore.tables.catalogue import TABLES, Unanswerable
from actstore.tables.findings import Findings
from actstore.views.report.sections.order import OF_PIXELS, SECTIONS, sections_of
from actstore.views.report.sentences.curves import perturbed
from actstore.views.report.study import Study
from classifiers import CLASSES, SIDE, images, plain_forward, spec_tables, tiny, write_images
from conftest import WriteSpec
from reference import reference
from reports import undrawn_report
from stores import files_of


def captured(spec: Path) -> Path:
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return Path(summary.store)


def inputs_of(found: np.ndarray) -> list[np.ndarray]:
    return [normalize(image[None].astype(np.float32), "minmax-slice")[0][None] for image in found]


def test_scores_are_the_bits_of_a_plain_forward_pass(classified_store: Path) -> None:
    store = actstore.open(classified_store)
    found, labels = images()
    assert sorted(store.samples["label"]) == sorted(list(CLASSES)[label] for label in labels)
    order = [int(name.partition("/")[2]) for name in store.samples["image_name"]]
    expected = []
    for block in (0, 1):
        own = [order[i] for i in np.flatnonzero(store.samples["block"] == block)]
        expected.append(plain_forward(tiny(), inputs_of(found[own]), 5))
    score = store.score.sel(condition="original").values
    np.testing.assert_array_equal(score, np.concatenate(expected))
    assert score.dtype == np.float32
    predicted = store.confusion.sel(condition="original").sum("true_class").argmax("predicted_class")
    np.testing.assert_array_equal(predicted, score.argmax(1))
    truth = store.confusion.sel(condition="original").sum("predicted_class").argmax("true_class").values
    np.testing.assert_array_equal(np.asarray(list(CLASSES))[truth], store.samples["label"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "layers", "last"),
    [
        ("densenet", ["features.norm5", "class_layers.*"], "class_layers.out"),
        ("resnet", ["layer4", "avgpool", "fc"], "fc"),
        ("vgg", ["type:Conv2d", "type:Linear"], "5"),
    ],
)
def test_networks_of_others(write_spec: WriteSpec, tmp_path: Path, network: str, layers: list[str], last: str) -> None:
    """The bits of a plain forward pass, in the scores and in the last layer."""
    found, labels = images(1)
    found = np.kron(found, np.ones((2, 2), np.uint8)) if network != "vgg" else found
    np.savez(tmp_path / "all.npz", image=found, label=labels)
    tables = spec_tables(tmp_path / "all.npz", preprocess={"size": list(found.shape[1:])})
    tables["model"] = {"factory": f"classifiers:{network}", "layers": layers}
    store = actstore.open(captured(write_spec(tmp_path, **tables)))
    model = getattr(classifiers, network)().eval()
    np.testing.assert_array_equal(store.score.values[:, 0], plain_forward(model, inputs_of(found), 3))
    name = store.layers.index[store.layers["module"] == last].item()
    np.testing.assert_array_equal(store[name].values[:, 0], store.score.values[:, 0])


@pytest.mark.skipif("ACTSTORE_REFERENCE" not in os.environ, reason="ACTSTORE_REFERENCE names no folder with real data")
def test_radiographs_and_slices_of_six_kinds(write_spec: WriteSpec, tmp_path: Path) -> None:
    """The reference's subset of MedNIST, as the comparison of three networks splits it."""
    names = ["AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT"]
    data = {
        "preprocess": {"size": [64, 64]},
        "classes": {name: i for i, name in enumerate(names)},
        "split": {"share": 0.5},
    }
    tables = spec_tables(reference() / "mednist/mednist_6x300.npz", **data)
    tables["model"]["arguments"] = {"outputs": 6}
    plan = make_plan(load_spec(write_spec(tmp_path, **tables)), timing=False)
    assert (plan.samples, len(plan.blocks), plan.discovery.patients) == (900, 15, 1800)


def test_layers_without_space_have_none(classified_store: Path) -> None:
    store = actstore.open(classified_store)
    assert store.layers["size"].tolist() == [(SIDE, SIDE), (SIDE // 2, SIDE // 2), (1, 1), ()]
    last = store["L04"]
    assert last.dims == ("sample", "condition", "channel")
    np.testing.assert_array_equal(last.sel(condition="original"), store.score.sel(condition="original"))
    mad = store.statistics("L04", ["mad"])["mad"]
    np.testing.assert_allclose(mad, abs(last - last.isel(condition=0)), atol=1e-7)
    one = store.map("L04", 3, "original", 2)
    assert one.shape == ()
    assert one == last.values[3, 0, 2]
    plain = xr.open_zarr(classified_store, group="layers/L04", consolidated=False)["activation"]
    assert plain.dims == last.dims
    assert store.grids["L04"].start == ()


def test_a_condition_applies_to_images_of_its_class(classified_store: Path) -> None:
    store = actstore.open(classified_store)
    applies = store.applicable.sel(condition="noise(ring, 0.5)").values
    np.testing.assert_array_equal(applies, store.samples["label"] == "ring")
    assert np.isnan(store.score.sel(condition="noise(ring, 0.5)").values[~applies]).all()
    assert (store.cases.values[~applies, 1] == "").all()
    cases = set(store.cases.values[applies, 1])
    assert cases <= {"right", "ring→cross", "ring→disc"}
    label = store.picture("label", 0)
    assert label.shape == (SIDE, SIDE)
    assert (label == CLASSES[store.samples["label"][0]]).all()
    np.testing.assert_array_equal(store.label.isel(sample=0), label)
    np.testing.assert_array_equal(
        store.prediction.isel(sample=0, condition=0), store.picture("prediction", 0, "original")
    )


def test_tables_say_what_a_classifier_has(classified_store: Path) -> None:
    findings = Findings(actstore.open(classified_store))
    made, refused = set(), {}
    for name in TABLES:
        try:
            assert len(findings.table(name)) or name in ("comparison", "heterogeneity")
            made.add(name)
        except Unanswerable as error:
            refused[name] = str(error)
    assert {"accuracy", "cases", "mad", "top-channels", "frequency", "layers", "certainty"} <= made
    assert {"dice", "surface", "regions", "association"} <= refused.keys()
    assert "classifies whole images" in refused["dice"]
    table = findings.table("accuracy")
    right = findings.confusion.sel(condition="original")
    whole = table[(table["condition"] == "original") & (table["class_name"] == "all")].iloc[0]
    assert whole["accuracy"] == np.trace(right.sum("sample").values) / 12
    k, n = round(whole["accuracy"] * 12), 12
    z2, t = stats.norm.ppf(0.975) ** 2, stats.t.ppf(0.975, 11)
    effective = n * z2 / t**2
    low, high = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert whole["low"] <= low + 1e-12, "Student's quantile widens it"
    assert whole["high"] >= high - 1e-12
    middle = (whole["accuracy"] + z2 / (2 * effective)) / (1 + z2 / effective)
    if 0 < k < n:
        assert (whole["low"] + whole["high"]) / 2 == pytest.approx(middle)


def test_curves_are_exact(classified_store: Path) -> None:
    store = actstore.open(classified_store)
    table = Findings(store, resamples=50).table("curves").set_index(["condition", "class_name"])
    score = store.score.sel(condition="original").values.astype(np.float64)
    probability = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    for c, name in enumerate(store.class_names):
        row, true = table.loc[("original", name)], store.samples["label"].to_numpy() == name
        assert row["auc"] == pytest.approx(metrics.roc_auc_score(true, probability[:, c]), rel=1e-12)
        expected = metrics.average_precision_score(true, probability[:, c])
        assert row["average_precision"] == pytest.approx(expected, rel=1e-12)
        assert row["auc_bound"] == row["average_precision_bound"] == 0
        assert row["f1"] == pytest.approx(metrics.f1_score(true, probability[:, c] >= 0.5, zero_division=0), rel=1e-12)
        assert row["count"] == row["samples"] == len(true)
    assert not perturbed(table.reset_index(), {"noise(ring, 0.5)": "adding noise"}), "no other class is there"
    with pytest.raises(AnalysisError, match="by = split groups nothing: no sample that counts has a value"):
        Findings(store, by=["split"]).table("confusion")


def test_a_segmentation_has_no_accuracy_and_no_scores(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    with pytest.raises(Unanswerable, match="the network segments"):
        Findings(store).table("accuracy")
    with pytest.raises(StoreError, match="holds segmentations"):
        _ = store.score


@pytest.mark.slow
def test_the_report_has_no_section_of_segmentations(classified_store: Path, tmp_path: Path) -> None:
    """With explanations; every figure drawn."""
    store = Path(shutil.copytree(classified_store, tmp_path / "tiny.zarr"))
    spec = load_spec(classified_store.with_name("spec.toml"))
    spec = spec.model_copy(update={"store": spec.store.model_copy(update={"path": store})})
    done = explain(spec, cluster="inline", device="cpu")
    assert all(one.complete for one in done), [one.failed for one in done]
    opened = actstore.open(store)
    slope = opened.group("explain/slope")
    there = np.isfinite(slope["score"].sel(condition="original").values)
    np.testing.assert_array_equal(there.sum(1), 1), "the predicted class alone is explained"
    probability = torch.from_numpy(opened.score.isel(condition=0).values).softmax(1).max(1).values.numpy()
    np.testing.assert_allclose(slope["score"].sel(condition="original").values[there], probability, rtol=1e-5)
    keys = list(sections_of(opened))
    assert not {*OF_PIXELS, "controls"} & {*keys}
    assert {"images", "classification", "channels", "activations", "explanations", "patients"} <= {*keys}
    study = Study(opened)
    for key in ("images", "classification", "activations", "explanations"):
        section = SECTIONS[key](study)
        assert section.figures
        assert not section.missing
        for figure in section.figures:
            assert "Dice" not in figure.caption
            assert figure.draw().traverse(lambda part: part, [hv.Image, hv.Points, hv.Curve])
    views.classified(opened, "noise(disc, 0.5)", each=2)
    with pytest.raises(StoreError, match="no condition 'blur'"):
        views.classified(opened, "blur")


def test_resumed_verified_and_repaired(classified_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(classified_store, tmp_path / "tiny.zarr"))
    spec = load_spec(classified_store.with_name("spec.toml"))
    assert verify(store).whole
    next((store / "outputs/score").glob("c.1.*")).write_bytes(b"")
    next((store / "layers/L04/activation").glob("c.0.*")).unlink()
    damage = verify(store)
    assert {found.block for found in damage.damage} == {0, 1}
    repair(store, damage.damage, spec=spec, cluster="inline", device="cpu")
    assert files_of(store) == files_of(classified_store)


def test_no_perturbation_is_one_condition(write_spec: WriteSpec, tmp_path: Path) -> None:
    """Of a classifier from an NPZ, and of a segmentation: tables, the report and the plan."""
    found, labels = images(2)
    np.savez(tmp_path / "all.npz", image=found, label=labels, names=np.array(list(CLASSES)))
    (tmp_path / "a").mkdir()
    first = actstore.open(captured(write_spec(tmp_path / "a", **spec_tables(tmp_path / "all.npz"))))
    (tmp_path / "b").mkdir()
    second = actstore.open(captured(write_spec(tmp_path / "b", perturb=None, data__patients=["patient001"])))
    for store, title, other in ((first, "Classification", "accuracy"), (second, "Segmentation", "dice")):
        assert store.conditions.index.tolist() == ["original"]
        with pytest.raises(Unanswerable, match="holds no perturbation"):
            Findings(store).table("frequency")
        assert len(Findings(store).table(other))
        page = undrawn_report(store, tmp_path / f"{other}.html", Findings(store, resamples=50), built=True)
        words = page.read_text(encoding="utf-8")
        assert f">{title}<" in words
        assert "perturbed class" not in words
        assert store.tree["/layers/L01"]["activation"].sizes["condition"] == 1


def test_volumes_and_colour(write_spec: WriteSpec, tmp_path: Path) -> None:
    """A 3D classifier of one logit on NIfTI, and colour images; a patient is a block."""
    import nibabel

    rng = np.random.default_rng(1)
    rows = ["path,label,patient,split"]
    for i in range(4):
        volume = rng.normal(100, 10, (8, 10, 6)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"v{i}.nii.gz")
        rows.append(f"v{i}.nii.gz,{'b' if i % 2 else 'a'},p{i // 2},{'test' if i < 2 else 'train'}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    tables: dict[str, Any] = {
        "data": {
            "format": "images",
            "root": str(tmp_path / "list.csv"),
            "axes": "nibabel",
            "preprocess": {"size": [8, 8, 8]},
            "classes": {"a": 0, "b": 1},
            "split": {"column": "split", "use": "train"},
        },
        "model": {
            "factory": "classifiers:tiny",
            "arguments": {"outputs": 1, "dims": 3},
            "layers": ["second", "last"],
        },
        "perturb": None,
    }
    store = actstore.open(captured(write_spec(tmp_path, **tables)))
    assert store.samples["patient"].tolist() == ["p1", "p1"]
    assert set(store.samples["split"]) == {"train"}
    assert store.layers["size"].tolist() == [(4, 4, 4), ()]
    score = store.score.values[:, 0]
    np.testing.assert_array_equal(score[:, 0], 0)
    np.testing.assert_array_equal(score[:, 1], store["L02"].values[:, 0, 0])
    whole = nibabel.load(tmp_path / "v2.nii.gz").get_fdata(dtype=np.float32)
    expected = np.zeros((8, 8, 8), np.float32)
    expected[..., 1:7] = normalize(whole, "minmax-slice", slices=2)[:, 1:9]
    np.testing.assert_array_equal(store.image.values[0, 0, 0], expected)

    colour = np.stack([images(1)[0]] * 3, -1)
    colour[..., 1] //= 2
    np.savez(tmp_path / "colour.npz", image=colour, label=np.array(list(CLASSES)))

    def plan(**changes: Any) -> Any:
        tables = spec_tables(tmp_path / "colour.npz")
        return make_plan(load_spec(write_spec(tmp_path, **tables, store__path="colour.zarr", **changes)), timing=False)

    assert plan(model__arguments={"inputs": 3}).layout.input_channels == ("red", "green", "blue")
    with pytest.raises(ModelError, match=r"images have 3 channels.*colour = \"grey\""):
        plan()
    assert plan(data__images={"colour": "grey"}).layout.input_channels == ("image",)


def test_a_network_that_does_not_fit_is_refused(write_spec: WriteSpec, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 1)
    classifies = {"factory": "classifiers:tiny", "layers": ["first"]}
    segments = {"factory": "networks:tiny_unet", "layers": ["bottom.1"]}
    for changes, message in (
        (spec_tables(root) | {"model__arguments": {"outputs": 5}}, r"returns \(5,\) for one image: expected \(3,\)"),
        (spec_tables(root) | {"model": segments}, "another data.format than"),
        ({"model": classifies}, r'classifier data\.format = "images"'),
    ):
        with pytest.raises(ModelError, match=message):
            make_plan(load_spec(write_spec(tmp_path, **changes)), timing=False)


def test_sigmoids_in_place_of_logits_are_noticed(write_spec: WriteSpec, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 1)
    shutil.rmtree(root / "disc")
    for sigmoid, said in ((True, "returns what looks like probabilities"), (False, "do not fit the labels")):
        tables = spec_tables(root, classes={"ring": 0, "cross": 1})
        tables["model"] = {
            "factory": "classifiers:one_logit",
            "arguments": {"sigmoid": sigmoid},
            "layers": ["first.last"],
        }
        found = make_plan(load_spec(write_spec(tmp_path, **tables, run__check="warn")), timing=False).check
        assert found is not None
        assert said in (found.warning() or "")
        assert bool(found.normalised) == sigmoid == found.as_json().get("normalised", False)


def test_labels_in_another_order_are_noticed(write_spec: WriteSpec, tmp_path: Path) -> None:
    """A network that tells the classes apart, and one whose outputs have another order."""
    root = write_images(tmp_path / "images", 3)
    spec = write_spec(tmp_path, **spec_tables(root), run__check="warn")
    found = make_plan(load_spec(spec), timing=False).check
    assert found is not None
    assert 0 <= found.right <= found.images == 9
    assert found.suspicious == (found.right / 9 < 1 / 3 + 0.25 * 2 / 3)
    assert (found.warning() is not None) == found.suspicious
