"""A trial prediction notices data that the network sees otherwise than in training, and names what is right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from torch import nn

import actstore
from actstore.cli.commands import main
from actstore.data.discovery import discover
from actstore.data.volume import Volume, VolumeKey
from actstore.errors import DataError
from actstore.inputs.plain import Plain
from actstore.jobs.plan.network import examine_network
from actstore.jobs.plan.trial import SLICES, Predict, Samples, Trial, try_first, try_volume
from actstore.networks.heads import Head
from actstore.networks.weights import load_weights
from actstore.spec.spec import Spec
from conftest import WriteSpec

MEMBERS = {"RV": (1,), "LV": (2,), "heart": (1, 2)}


def volume(slices: int = 9, *, empty: bool = False) -> Volume:
    """Two rectangles beside each other, in all slices but the outermost."""
    label = np.zeros((slices, 32, 32), dtype=np.uint8)
    if not empty:
        label[1:-1, 12:20, 8:14], label[1:-1, 12:20, 14:26] = 1, 2
    return Volume(VolumeKey("patient001", 1), label[None].astype(np.float32), label, b"")


def turned(found: Volume, *, sliced: bool) -> Volume:
    """As the other kind of reader gives it: each slice, or the whole volume, transposed."""
    axes = (-1, -2) if sliced else (-1, -3)
    return replace(found, image=found.image.swapaxes(*axes), label=found.label.swapaxes(*axes))


def sampled(found: Volume, *, sliced: bool = True) -> Callable[[str], Samples]:
    def samples(order: str) -> Samples:
        seen = found if order == "nibabel" else turned(found, sliced=sliced)
        image, label = seen.image.astype(np.float32), seen.label
        if not sliced:
            return image[None], label[None], np.ones_like(label[None], bool)
        middle = slice((len(label) - SLICES) // 2, (len(label) + SLICES) // 2)
        return image[0, middle, None], label[middle], np.ones_like(label[middle], bool)

    return samples


def trained(predicts: Volume, *, sliced: bool = True) -> Predict:
    """A network that knows where the heart lies, as trained on arrays like those of ``predicts``."""

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        whole = predicts.label[len(predicts.label) // 2]
        return np.broadcast_to(whole if sliced else predicts.label, (len(inputs), *inputs.shape[2:]))

    return predict


def test_a_prediction_that_agrees_is_no_warning() -> None:
    trial = try_volume("v", sampled(volume()), trained(volume()), MEMBERS, "nibabel", "simpleitk")
    assert trial is not None
    assert trial.dice == {"RV": 1, "LV": 1, "heart": 1}
    assert trial.chance == pytest.approx(np.mean([48, 96, 144]) / 1024)
    assert trial.samples == SLICES
    assert not trial.others, "no other order is tried"
    assert trial.warning() is None
    assert trial.text() == "mean Dice 1.00 (RV 1.00, LV 1.00, heart 1.00) in 5 samples of v, where chance gives 0.09"


@pytest.mark.parametrize("sliced", [True, False])
def test_the_right_order_is_named(sliced: bool) -> None:
    found = volume(32)
    if not sliced:
        label = found.label.copy()
        label[:8] = 0
        found = replace(found, label=label)
    network = trained(turned(found, sliced=sliced), sliced=sliced)
    trial = try_volume("v", sampled(found, sliced=sliced), network, MEMBERS, "nibabel", "simpleitk")
    assert trial is not None
    assert trial.best == "simpleitk"
    assert trial.mean < 0.6
    assert trial.others == {"simpleitk": 1.0}
    warning = trial.warning()
    assert warning is not None
    assert "Look at axis order first: set data.axes = \"simpleitk\" (1.00 with 'simpleitk'); then at" in warning
    assert "data.preprocess.normalize and at the label values in data.classes" in warning
    assert warning.endswith('run.check = "off" silences this')
    assert "\n" not in warning


def test_an_order_that_does_not_fit_is_left_out() -> None:
    def samples(order: str) -> Samples:
        if order == "simpleitk":
            raise DataError("does not fit")
        return sampled(volume())(order)

    trial = try_volume(
        "v", samples, lambda x: np.zeros((len(x), *x.shape[2:]), np.uint8), MEMBERS, "nibabel", "simpleitk"
    )
    assert trial is not None
    assert (trial.mean, trial.best) == (0, None)
    assert 'axis order first: data.axes is "nibabel"; then at' in str(trial.warning())


def test_a_trained_network_is_not_told_what_its_spec_cannot_say() -> None:
    trial = try_volume("v", sampled(volume()), lambda x: np.zeros((len(x), *x.shape[2:]), np.uint8), MEMBERS, "monai")
    assert trial is not None
    warning = str(replace(trial, trained=True).warning())
    assert "look at whether these images are of its kind (modality, order of channels, voxel sizes" in warning
    assert "data.axes" not in warning
    assert "data.preprocess" not in warning
    assert warning.endswith('run.check = "off" silences this')


def test_random_labels_give_what_is_called_chance() -> None:
    label = np.random.default_rng(0).choice(3, size=(5, 200, 200), p=[0.7, 0.2, 0.1]).astype(np.uint8)
    other = np.random.default_rng(1).permutation(label.ravel()).reshape(label.shape)
    all_of_it = np.ones_like(label, bool)
    given = (label[:, None].astype(np.float32), label, all_of_it)
    trial = try_volume("v", lambda _order: given, lambda _x: other, MEMBERS, "nibabel")
    assert trial is not None
    assert trial.mean == pytest.approx(trial.chance, abs=0.01)
    assert trial.suspicious


def test_a_weak_network_in_the_right_order_is_left_alone() -> None:
    trial = Trial("v", 5, "nibabel", {"lesion": 0.42}, 0.01, {"simpleitk": 0.05})
    assert trial.warning() is None
    assert Trial("v", 5, "nibabel", {"lesion": 0.2}, 0.01, {"simpleitk": 0.05}).suspicious
    assert Trial("v", 5, "nibabel", {"lesion": 0.3}, 0.01, {"simpleitk": 0.7}).best == "simpleitk"


def test_a_volume_without_labels_is_no_trial() -> None:
    assert try_volume("v", sampled(volume(empty=True)), trained(volume()), MEMBERS, "nibabel") is None


def test_its_record_is_json() -> None:
    trial = try_volume("v", sampled(volume()), trained(volume()), MEMBERS, "nibabel")
    assert trial is not None
    assert json.loads(json.dumps(trial.as_json())) == trial.as_json()


@pytest.mark.slow
@pytest.mark.skipif("ACTSTORE_REFERENCE" not in os.environ, reason="ACTSTORE_REFERENCE names no folder with real data")
def test_a_real_network_on_real_hearts() -> None:
    reference = Path(os.environ["ACTSTORE_REFERENCE"])
    content: dict[str, Any] = {
        "data": {"format": "acdc", "root": str(reference / "acdc"), "classes": {"RV": 1, "MYO": 2, "LV": 3}},
        "model": {
            "factory": "actstore.models:unet_heart_8_4_4",
            "weights": str(reference / "weights" / "unet_heart_8_4_4.pt"),
            "layers": ["*.adn.N"],
        },
        "perturb": [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}],
        "store": {"path": "run.zarr"},
    }
    spec = Spec.from_mapping(content)
    files = discover(spec.data).volumes
    good = try_first(spec, Plain(spec), examine_network(spec, Plain(spec), 1), files)
    assert good is not None
    assert good.mean > 0.9
    assert good.warning() is None
    content["data"]["preprocess"] = {"normalize": "none"}
    spec = Spec.from_mapping(content)
    bad = try_first(spec, Plain(spec), examine_network(spec, Plain(spec), 1), files)
    assert bad is not None
    assert "mean Dice 0.00" in str(bad.warning())


@pytest.mark.slow
@pytest.mark.skipif("ACTSTORE_REFERENCE" not in os.environ, reason="ACTSTORE_REFERENCE names no folder with real data")
def test_an_nnunet_that_sees_transposed_slices() -> None:
    architectures = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    reference = Path(os.environ["ACTSTORE_REFERENCE"]) / "nnunet_v2"
    [folder] = (reference / "results" / "Dataset001_Heart").iterdir()
    plans = json.loads((folder / "plans.json").read_text())["configurations"]["2d"]
    architecture = plans["architecture"]
    settings = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        settings[key] = settings[key] and getattr(nn, settings[key].rpartition(".")[2])
    name = architecture["network_class_name"].rpartition(".")[2]
    model = getattr(architectures, name)(input_channels=1, num_classes=4, deep_supervision=False, **settings).eval()
    load_weights(model, folder / "fold_0" / "checkpoint_final.pth")
    content: dict[str, Any] = {
        "data": {
            "format": "nnunet",
            "root": str(reference / "raw" / "Dataset001_Heart"),
            "classes": {"RV": 1, "MYO": 2, "LV": 3},
            "preprocess": {"normalize": "zscore-volume", "size": plans["patch_size"]},
        },
        "model": {"factory": "actstore.models:unet_heart_8_4_4", "layers": ["*.adn.N"]},
        "perturb": [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}],
        "store": {"path": "run.zarr"},
    }
    spec = Spec.from_mapping(content)
    network: Any = SimpleNamespace(model=model, head=Head("argmax", 4, 2))
    for file in discover(spec.data).volumes:
        trial = try_first(spec, Plain(spec), network, [file])
        assert trial is not None
        assert trial.best == "simpleitk"
        assert trial.others["simpleitk"] > 0.8
        assert 'set data.axes = "simpleitk"' in str(trial.warning())
        assert trial.mean < 0.5


@pytest.mark.slow
def test_plan_and_capture_warn_and_the_store_remembers(tmp_path: Path, write_spec: WriteSpec) -> None:
    path = write_spec(tmp_path, data__patients=["patient001"], run__check="warn")
    planned = CliRunner().invoke(main, ["plan", str(path)])
    assert planned.exit_code == 0, planned.stderr
    assert "mean Dice 0." in planned.stdout
    [line] = [line for line in planned.stderr.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: the prediction does not fit the labels: mean Dice ")
    captured = CliRunner().invoke(main, ["capture", str(path), "--cluster", "inline", "--device", "cpu"])
    assert captured.exit_code == 0, captured.stderr
    assert line in captured.stderr
    check = actstore.open(tmp_path / "tiny.zarr").attributes["check"]
    assert {*check["dice"]} == {"RV", "MYO", "LV"}
    assert {*check["others"]} == {"simpleitk"}
    path = write_spec(tmp_path, data__patients=["patient001"], run__check="off")
    silent = CliRunner().invoke(main, ["plan", str(path)])
    assert "Dice" not in silent.output
    assert "warning" not in silent.output
