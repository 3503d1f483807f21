"""Trained networks captured from their own folders: input, prediction and activations are those of their own code."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import actstore
import bundles
from actstore import analysis
from actstore.cli import text
from actstore.data.discovery import discover
from actstore.inputs.adapters import pipeline_of
from actstore.jobs.capture import capture
from actstore.jobs.explain import explain
from actstore.jobs.intervene import intervene
from actstore.jobs.predictions import confusion_of
from actstore.jobs.visualise import visualise
from actstore.networks.arithmetic import torch_threads
from actstore.networks.model import build_model
from actstore.networks.recording import forward_hooks
from actstore.spec.explain import Explain
from actstore.spec.intervene import Intervene
from actstore.spec.spec import Spec, load_spec
from actstore.spec.visualise import Visualise
from actstore.store.store import Store
from actstore.tables.catalogue import TABLES, Unanswerable
from actstore.tables.findings import Findings
from conftest import Once
from counted import expect_counts
from nnunet_folders import NETWORKS, REFERENCE, own_input, own_logits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE names no folder with trained networks"),
]

CASE = "patient002_frame01"
#: What of the volume is captured, in its file's axes: enough for patches that overlap along every axis, three in a row
#: along one at least.
CUT = {"2d": np.s_[50:200, :, 4:6], "3d": np.s_[60:190, 60:190, :], "bundle": np.s_[:, :, :]}
#: Of the networks that nnU-Net's folders hold: target of the perturbation.
SPEC = """\
[data]
format = "nnunet"
root = "raw"
[model]
{model}
layers = [{layers}]
[[perturb]]
transform = "brightness"
targets = ["LV"]
strengths = [0.1]
[store]
path = "run.zarr"
"""


@dataclass(frozen=True)
class Captured:
    """A captured volume of a trained network, and what that network makes of it by itself."""

    name: str
    spec: Spec
    store: Store
    #: The preprocessed original (channel, z, y, x), its class indices (z, y, x), and the stitched class map.
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    #: Its stitched logits (class, z, y, x).
    logits: NDArray[np.float32]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def root() -> Path:
    return Path(str(REFERENCE))


def write(folder: Path, name: str) -> None:
    """A data set of one volume, and the spec of a network in twelve lines."""
    if name == "bundle":
        data, model, layers = "Dataset001_Heart", f'bundle = "{root() / "bundle"}"', '"*.adn.N"'
    else:
        data, results = NETWORKS[name]
        model = f'nnunet = "{root() / "nnunet_v2" / "results" / data / results}"'
        layers = '"encoder.stages.*.norm"'
    raw = root() / "nnunet_v2" / "raw" / data
    for part in ("imagesTr", "labelsTr"):
        (folder / "raw" / part).mkdir(parents=True)
        for file in (raw / part).glob(f"{CASE}*"):
            whole: Any = nibabel.load(file)  # type: ignore[no-untyped-call]
            nibabel.save(whole.slicer[CUT[name]], folder / "raw" / part / file.name)  # type: ignore[no-untyped-call]
    shutil.copy(raw / "dataset.json", folder / "raw")
    text = SPEC.format(model=model, layers=layers)
    assert len([line for line in text.splitlines() if line]) <= 12
    (folder / "spec.toml").write_text(text, encoding="utf-8")
    spec = load_spec(folder / "spec.toml")
    # Alone in its batch and on one thread, an input gives the same bits here and there.
    run = spec.run.model_copy(update={"batch_size": 1, "threads": 1})
    capture(spec.model_copy(update={"run": run}), cluster="inline")


@pytest.fixture(scope="module", params=["2d", "3d", "bundle"])
def captured(request: pytest.FixtureRequest, once: Once) -> Captured:
    name = request.param
    folder = once(f"trained-{name}", lambda made: write(made, name))
    spec = load_spec(folder / "spec.toml")
    pipeline = pipeline_of(spec)
    (file,) = discover(spec.data).volumes
    volume = pipeline.read(file)
    frame = pipeline.frame(volume)
    trained: Any = spec.trained
    if name == "bundle":
        theirs = bundles.own_input(trained, file)
        image, logits = theirs.numpy(), bundles.own_logits(trained, theirs)
    else:
        image, _ = own_input(trained, file)
        logits = own_logits(trained, image, exact=True)
    store = actstore.open(folder / "run.zarr")
    head = store.attributes["identity"].get("head")
    if head and head["kind"] == "regions":
        predicted = np.zeros(logits.shape[1:], np.uint8)
        for region, written in enumerate(head["order"]):
            predicted[logits[region] > 0] = written
    else:
        predicted = logits.argmax(0).astype(np.uint8)
    return Captured(name, spec, store, image, pipeline.label(volume, frame), predicted, np.asarray(logits))


def assembled(captured: Captured, values: NDArray[Any]) -> NDArray[Any]:
    """A volume (…, z, y, x) from the boxes that the samples own; ``values`` are (sample, …, \\*space)."""
    patches, shape = captured.store.patches, captured.label.shape
    origin, start, stop = (
        patches[[f"{name}_{axis}" for axis in "zyx"]].to_numpy() for name in ("origin", "owned_start", "owned_stop")
    )
    whole = np.zeros((*values.shape[1 : values.ndim - len(captured.store.layout.space)], *shape), values.dtype)
    filled = np.zeros(shape, int)
    for i in range(len(patches)):
        of_volume = tuple(slice(a, b) for a, b in zip(start[i], stop[i], strict=True))
        of_patch = tuple(slice(a - o, b - o) for a, b, o in zip(start[i], stop[i], origin[i], strict=True))
        patch = values[i] if len(captured.store.layout.space) == 3 else np.expand_dims(values[i], -3)
        whole[(..., *of_volume)] = patch[(..., *of_patch)]
        filled[of_volume] += 1
    assert (filled == 1).all(), "the boxes partition the volume"
    return whole


def test_the_network_sees_what_it_saw_in_training(captured: Captured) -> None:
    images = captured.store.tree["inputs/image"].isel(condition=0).values
    np.testing.assert_array_equal(assembled(captured, images), captured.image)
    labels = captured.store.tree["inputs/label"].values
    np.testing.assert_array_equal(assembled(captured, labels), captured.label)


def test_the_prediction_is_its_own(captured: Captured) -> None:
    found = assembled(captured, captured.store.tree["outputs/prediction"].isel(condition=0).values)
    np.testing.assert_array_equal(found, captured.predicted)


def test_confusion_counts_add_up_to_those_of_the_volume(captured: Captured) -> None:
    store = captured.store
    for condition in range(2):
        found = assembled(captured, store.tree["outputs/prediction"].isel(condition=condition).values)
        expected = confusion_of(captured.label, found, store.layout.classes)
        np.testing.assert_array_equal(store.confusion.isel(condition=condition).sum("sample").values, expected)


def test_scores_add_up_to_those_of_the_volume(captured: Captured) -> None:
    store = captured.store
    activation = store.attributes["histogram"]["activation"]
    own = list(store.members.values()) if activation == "sigmoid" else [(c,) for c in range(len(store.class_names))]
    expect_counts(
        store.histogram.isel(condition=0).astype(int).sum("sample").values,
        store.calibration.isel(condition=0).sum("sample").values,
        captured.logits,
        captured.label,
        own,
        activation,
    )


def test_activations_are_those_of_a_hooked_pass(captured: Captured) -> None:
    store, model = captured.store, build_model(captured.spec)
    applicable = store.applicable.compute()
    sample = int(np.flatnonzero(applicable.values[:, 1])[0])
    images = store.tree["inputs/image"].isel(sample=sample).values
    for layer in store.layers.index[[0, -1]]:
        maps: list[NDArray[np.float32]] = []

        def keep(_path: str, output: Any, maps: list[NDArray[np.float32]] = maps) -> None:
            maps.append(output[0].numpy().copy())

        with torch.inference_mode(), forward_hooks(model, [store.layers.loc[layer, "module"]], keep):
            for image in images:
                model(torch.from_numpy(image)[None])
        stored = store[layer].isel(sample=sample).values
        np.testing.assert_array_equal(stored, np.stack(maps))
        space = tuple(range(1, maps[0].ndim))
        expected = np.abs(maps[1] - maps[0]).mean(axis=space, dtype=np.float64)
        mad = store.statistics(layer, ("mad",))["mad"].isel(sample=sample, condition=1).values
        np.testing.assert_allclose(mad, expected, rtol=1e-5)
        top = analysis.top_channels(store.statistics(layer, ("mad",))["mad"].compute(), k=3)
        first = top["channel"].isel(sample=sample, condition=1).values
        np.testing.assert_array_equal(first, np.argsort(-expected, kind="stable")[:3])


def test_what_normalisation_spread_is_known(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    """All three normalise by the image's own intensities, though the spec has no method of its own."""
    store = captured.store
    factor, applies = store.rescaling.values[:, 1], store.applicable.values[:, 1]
    assert applies.any()
    assert (factor[applies] != 1).all()
    text.show_status(store)
    by = "the bundle" if captured.name == "bundle" else "nnU-Net"
    assert f"as {by} does it, each condition by itself" in capsys.readouterr().out


def test_every_table_can_be_made(captured: Captured) -> None:
    findings = Findings(captured.store)
    made = {}
    for name in TABLES:
        with contextlib.suppress(Unanswerable):
            made[name] = findings.table(name)
    assert {"top-channels", "frequency", "dice", "mad", "segmentation", "surface"} <= made.keys()
    assert ("patch" in made["dice"].columns) == captured.store.patched
    mosaic = captured.store.mosaic("prediction", "patient002", 1).isel(condition=0).values
    np.testing.assert_array_equal(mosaic, captured.predicted)


#: A convolution, and the activation behind it: not of the network whose passes in 3D take longest.
VISUALISED = {
    "2d": ("encoder.stages.1.0.convs.0.conv", "encoder.stages.1.0.convs.0.nonlin"),
    "3d": ("encoder.stages.1.0.convs.0.conv",),
    "bundle": ("model.1.submodule.0.conv.unit0.conv", "model.1.submodule.0.conv.unit0.adn.A"),
}


def test_images_of_its_channels(captured: Captured, tmp_path: Path) -> None:
    """Several input channels, 3D patches, leaky ReLUs: images in the range of its inputs, numbers of its passes."""
    location = Path(str(captured.store.path))
    copied = shutil.copytree(location, tmp_path / "run.zarr", copy_function=os.link)
    pixels = {"parameterization": "pixel", "steps": 2, "regularize": [{"kind": "rotate", "range": [-1.0, 1.0]}]}
    chosen = {"layers": VISUALISED[captured.name], "channels": [0, 1], "batch_size": 2}
    settings = Visualise.model_validate({**chosen, **pixels})
    spec = captured.spec.model_copy(update={"visualise": settings})
    assert visualise(spec, store=copied, cluster="inline", device="cpu").complete
    store = actstore.open(copied)
    found = store.group("features/optima").load()
    layout = store.layout
    assert found["image"].shape[2:] == (len(layout.input_channels), *layout.space)
    assert found["input_channel"].values.tolist() == list(layout.input_channels)
    assert (found["status"] == 0).all()
    assert (found["final"] > found["start"]).all()
    inputs = store.image.isel(condition=0).values
    low, high = store.groups["features/optima"].identity["visualise"]["range"]
    np.testing.assert_allclose([low, high], np.percentile(inputs, [0.1, 99.9]), rtol=6e-3, atol=1e-3)
    assert low <= found["image"].min()
    assert found["image"].max() <= high
    model = build_model(spec)
    layers = list(dict.fromkeys(found["layer"].values))
    means: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}

    def keep(path: str, output: torch.Tensor) -> None:
        means[path].append(output.flatten(2).mean(2).numpy())

    with torch.inference_mode(), forward_hooks(model, layers, keep):
        for image in inputs:
            model(torch.from_numpy(image)[None])
    for layer in layers:
        own = found.isel(layer_channel=found["layer"].values == layer)
        data = np.concatenate(means[layer])[:, :2]
        with torch.inference_mode(), forward_hooks(model, [layer], keep):
            model(torch.from_numpy(own["image"].values[:, 0]))
        final = means[layer][-1]
        np.testing.assert_allclose(own["final"].values[:, 0], np.diag(final[:, :2]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(own["data_max"], data.max(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(own["top_sample"].values[:, 0], data.argmax(0))
    pixels = {"parameterization": "pixel", "steps": 2, "batch_size": 4}
    settings = Visualise.model_validate({"objective": "class", "samples": False, **pixels})
    spec = captured.spec.model_copy(update={"visualise": settings})
    assert visualise(spec, store=copied, name="classes", cluster="inline", device="cpu").complete
    classes = actstore.open(copied).group("features/classes").load()
    assert set(classes["layer"].values) == {"output"}
    assert (classes["final"] > classes["start"]).mean() > 0.5
    assert np.isnan(classes["data_max"]).all()


def _share(store: Store, sample: int, values: NDArray[np.float32], members: Any) -> float:
    """Of the voxels that a sample owns, LV's share of the squares of a map over its share of the voxels."""
    label, axes, ends = store.label.isel(sample=sample), store.layout.space_dims, ("owned_start", "owned_stop")
    box = tuple(slice(*(int(label[f"{end}_{axis}"] - label[f"origin_{axis}"]) for end in ends)) for axis in axes)
    squares = values[box].astype(float) ** 2
    on = np.isin(label.values[box], members["LV"])
    return float(squares[on].sum() / squares.sum() / on.mean()) if on.any() and squares.any() else 0.0


def test_explanations_of_its_classes_and_channels(captured: Captured, tmp_path: Path) -> None:
    """Scores over owned voxels, which together are the stitched prediction; a map for each input that has the class."""
    location = Path(str(captured.store.path))
    copied = shutil.copytree(location, tmp_path / "run.zarr", copy_function=os.link)
    space = captured.store.layout.space
    half = (*space[:-1], space[-1] // 2)
    hides = Explain(
        name="hidden", method="occlusion", window=half, stride=half, box="class", targets=("LV",), deletion=False
    )
    # nnU-Net's passes in 3D take seconds each; the bundle's network is one in 3D too.
    long = captured.name == "3d"
    explanations = (
        Explain(name="back", method="guided", targets=("LV",), deletion=False if long else half, randomisation=(1,)),
        Explain(name="top", method="deconvnet", layers=VISUALISED[captured.name][:1], top=2, randomisation=()),
        *([] if long else [hides]),
    )
    spec = captured.spec.model_copy(update={"explain": explanations})
    found = explain(spec, store=copied, cluster="inline", device="cpu")
    assert all(one.complete for one in found), [one.failed for one in found]
    store = actstore.open(copied)
    back, top = (store.group(f"explain/{name}").load() for name in ("back", "top"))
    members = captured.spec.labels.members
    for number, name in enumerate(back["class_name"].values):
        voxels = int(np.isin(captured.predicted, members[name]).sum())
        assert int(back["pixels"][:, number].sum()) == voxels
    there = back["pixels"].values > 0
    assert there.any()
    assert long or not there.all(), "in some patches the class is not predicted"
    assert np.isfinite(back["map"].values[:, 0][there]).all()
    assert np.isnan(back["map"].values[:, 0][~there]).all()
    assert (top["response"].values[..., 0] >= top["response"].values[..., 1]).all()
    assert top["projection"].shape == (len(store.samples), 1, 1, 2, *space)
    assert float(np.abs(top["projection"].values).max()) > 0
    assert (np.isfinite(back["randomisation"].values[:, 0, 0, 0, 0]) == there[:, 0]).all()
    lies = Findings(store, of="back").table("landmarks").set_index("landmark").loc["LV"]
    maps = back["map"].values[:, 0, 0]
    shares = [_share(store, int(s), maps[s], members) for s in np.flatnonzero(there[:, 0])]
    shares = [share for share in shares if share]
    assert lies["samples"] == len(shares) > 0
    np.testing.assert_allclose(lies["concentration"], np.mean(shares), rtol=1e-5)
    if not long:
        left = Findings(store, of="back").table("deletion").query("deleted == 0")
        assert (left["samples"] == there.sum()).all()
        np.testing.assert_allclose(left["probability"], np.nanmean(back["score"].values), rtol=1e-4)
        hidden = store.group("explain/hidden").load()
        assert np.array_equal(hidden["pixels"], back["pixels"])
        assert np.isfinite(hidden["drop"].values[:, 0].reshape(*there.shape, -1)).any(2)[there].all()
        np.testing.assert_allclose(back["score"].values, hidden["score"].values, rtol=1e-4, atol=1e-6)


def test_a_cut_through_it_gives_the_donors_stitched_prediction(captured: Captured, tmp_path: Path) -> None:
    """Of nnU-Net's networks the first norm, which all goes through; of the bundle's the last."""
    location = Path(str(captured.store.path))
    copied = shutil.copytree(location, tmp_path / "run.zarr", copy_function=os.link)
    (condition,) = captured.store.conditions.index[1:]
    layer = captured.store.layers["module"].iloc[-1 if captured.name == "bundle" else 0]
    restore = Intervene(name="restore", edit="patch", into=(condition,), layers=(layer,), channels="layer")
    spec = captured.spec.model_copy(update={"intervene": (restore,)})
    (found,) = intervene(spec, store=copied, cluster="inline", device="cpu")
    assert found.complete, found.failed
    store = actstore.open(copied)
    group = store.group("interventions/restore").load()
    edited, counts = group["edited"].values[:, 0], group["confusion"].values[:, 0, 0]
    original, perturbed = (store.confusion.isel(condition=c).values for c in (0, 1))
    assert edited.any()
    assert edited.all(), "every patch of the volume, whether it has some of the class or not"
    assert (perturbed[edited] != original[edited]).any(), "the condition changes predictions"
    assert np.abs(counts - original)[edited].sum() <= 1e-4 * original[edited].sum()
    effects = Findings(store, of="restore").table("effects")
    own = effects[effects["class_name"] == "LV"].iloc[0]
    assert own["quantity"] == "restoration"
    assert own["samples"] == (1 if len(store.layout.space) == 3 else store.samples["slice"].nunique())
    np.testing.assert_allclose(own["effect"], 1.0, atol=0.02)
    whole = analysis.dice(analysis.pooled(store.confusion, ("patient", "frame")), regions=store.members)
    if len(store.layout.space) == 3:
        np.testing.assert_allclose(own["unedited"], whole.isel(sample=0, condition=1).sel(class_name="LV"), atol=1e-12)
