"""Networks of nnU-Net's result folders: built, loaded strictly, refused in one line where something is amiss."""

from __future__ import annotations

import builtins
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from actstore.errors import MissingError, ModelError
from actstore.networks import nnunet
from actstore.networks.nnunet import build_network, import_nnunetv2
from actstore.spec.nnunet_results import ResultFolder
from nnunet_folders import NETWORKS, made_results, needs_reference, results, save_weights


@pytest.fixture(autouse=True)
def _without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it fails, as where it is of another build than torch."""
    monkeypatch.setitem(sys.modules, "torchvision", None)


def changed(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; ``None`` takes one out."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(content), encoding="utf-8")


@needs_reference
@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_networks_are_built(name: str) -> None:
    folder = ResultFolder.read(results(name))
    network = build_network(folder)
    assert not network.decoder.deep_supervision
    output = network.eval()(torch.zeros(1, len(folder.channels), *folder.window))
    assert output.shape == (1, folder.outputs, *folder.window)


@pytest.mark.parametrize("stages", [3, 6])
def test_weights_are_loaded_strictly_and_deep_supervision_is_off(tmp_path: Path, stages: int) -> None:
    window = [64, 96] if stages == 6 else [32, 48]
    folder = ResultFolder.read(made_results(tmp_path, stages=stages, settings={"patch_size": window}))
    state = save_weights(folder)
    network = build_network(pickle.loads(pickle.dumps(folder)))
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network.eval()(torch.zeros(1, 1, *window)).shape == (1, 4, *window)


def test_fold_and_checkpoint_choose_the_file(tmp_path: Path) -> None:
    both = ("checkpoint_best.pth", "checkpoint_final.pth")
    path = made_results(tmp_path, folds={"0": both, "1": both, "all": both})
    seen = set()
    for seed, (fold, checkpoint) in enumerate((fold, name) for fold in (0, 1, "all") for name in both):
        folder = ResultFolder.read(path, fold=fold, checkpoint=checkpoint)
        assert folder.weights == path / f"fold_{fold}" / checkpoint
        state = save_weights(folder, seed)
        first = next(iter(state))
        assert torch.equal(build_network(folder).state_dict()[first], state[first])
        seen.add(float(state[first].sum()))
    assert len(seen) == 6


def test_old_plans_are_converted(tmp_path: Path) -> None:
    old = {
        "architecture": None,
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 16,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [2, 2],
        "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
        "conv_kernel_sizes": [[3, 3]] * 3,
    }
    folder = ResultFolder.read(made_results(tmp_path, settings=old))
    state = save_weights(folder)
    assert build_network(folder).state_dict().keys() == state.keys()
    assert "UNet_class_name" in folder.settings


def test_settings_are_inherited(tmp_path: Path) -> None:
    path = made_results(tmp_path)
    plans = json.loads((path / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"]["2d_bs4"] = {"inherits_from": "2d", "batch_size": 4, "patch_size": [16, 16]}
    (path / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    folder = ResultFolder.read(path.rename(path.with_name("nnUNetTrainer__nnUNetPlans__2d_bs4")))
    assert folder.window == (16, 16)
    assert folder.settings["spacing"] == [1.5, 1.5]


def test_the_identity_is_of_the_content_not_of_its_layout(tmp_path: Path) -> None:
    path = made_results(tmp_path)
    before = ResultFolder.read(path).identity
    for name in ("plans.json", "dataset.json"):
        content = json.loads((path / name).read_text(encoding="utf-8"))
        (path / name).write_text(json.dumps(dict(reversed(content.items())), indent=4), encoding="utf-8")
    assert ResultFolder.read(path).identity == before
    changed(path / "plans.json", image_reader_writer="NibabelIO")
    assert ResultFolder.read(path).identity != before


def _second_stage(path: Path) -> None:
    plans = json.loads((path / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"]["2d"]["previous_stage"] = "3d_lowres"
    (path / "plans.json").write_text(json.dumps(plans), encoding="utf-8")


REGIONS = {"background": 0, "heart": [1, 2], "LV": 2}

#: What is done to a result folder, how it is read, and what the error says.
REFUSED: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "configuration": (
        lambda path: changed(path / "plans.json", configurations={"3d_fullres": {}, "3d_lowres": {}}),
        {},
        "its plans have no configuration '2d', which the folder's name states; they have 3d_fullres, 3d_lowres: rest",
    ),
    "fold": (lambda path: None, {"fold": 3}, "no fold 3, there are 0; choose another with model.fold"),
    "checkpoint": (
        lambda path: None,
        {"checkpoint": "checkpoint_best.pth"},
        "fold_0: no checkpoint_best.pth, there are checkpoint_final.pth; choose another with model.checkpoint",
    ),
    "several folds": (
        lambda path: None,
        {"fold": [0, 1]},
        "model.fold = [0, 1]: several folds are an ensemble of networks, and activations belong to one; choose",
    ),
    "no fold": (lambda path: None, {"fold": "first"}, "model.fold = 'first': give the number of a fold, or 'all'"),
    "cascade": (
        _second_stage,
        {},
        "2d is the second stage of a cascade, whose input holds the segmentation of 3d_lowres; capture 3d_lowres or",
    ),
    "channels": (
        lambda path: changed(path / "dataset.json", channel_names={"0": "T1", "1": "T2"}),
        {},
        "dataset.json names 2 channels (T1, T2), plans.json normalises 1; restore both from one training",
    ),
    "labels": (
        lambda path: changed(path / "dataset.json", labels={"background": 0, "RV": 1, "LV": 3}),
        {},
        "labels are [1, 3], nnU-Net needs consecutive ones from 1; restore dataset.json",
    ),
    "background": (
        lambda path: changed(path / "dataset.json", labels={"RV": 1}),
        {},
        "dataset.json has no label 'background' = 0; restore it",
    ),
    "order": (
        lambda path: changed(path / "dataset.json", labels=REGIONS, regions_class_order=[1]),
        {},
        "has regions (heart) and regions_class_order = [1]; it needs one label for each of heart, LV",
    ),
    "no dataset.json": (
        lambda path: (path / "dataset.json").unlink(),
        {},
        "dataset.json: no such file, an nnU-Net v2 result folder needs it; copy it there or correct the folder",
    ),
    "no JSON": (
        lambda path: (path / "plans.json").write_text("{", encoding="utf-8"),
        {},
        "plans.json: is no JSON: JSONDecodeError: Expecting property name",
    ),
    "first version": (
        lambda path: (path / "plans.json").rename(path / "plans.pkl"),
        {},
        "a result folder of nnU-Net v1, of which only v2 can be read; train with v2",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    damage, how, message = REFUSED[what]
    path = made_results(tmp_path)
    damage(path)
    with pytest.raises(ModelError) as caught:
        ResultFolder.read(path, **how)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_above_or_below_is_named(tmp_path: Path) -> None:
    path = made_results(tmp_path / "Dataset009_Made")
    with pytest.raises(ModelError, match=r"there is Dataset009_Made/nnUNetTrainer__nnUNetPlans__2d in it: name that"):
        ResultFolder.read(tmp_path)
    with pytest.raises(ModelError, match=r"fold_0: a fold; name the folder above it in model.nnunet, and the fold in"):
        ResultFolder.read(path / "fold_0")
    with pytest.raises(ModelError, match=r"nowhere: no such folder; correct model.nnunet"):
        ResultFolder.read(tmp_path / "nowhere")
    renamed = path.rename(path.with_name("mine"))
    with pytest.raises(ModelError, match=r"mine: its name does not read TRAINER__PLANS__CONFIGURATION, from which"):
        ResultFolder.read(renamed)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    folder = ResultFolder.read(made_results(tmp_path))
    save_weights(folder)
    content = torch.load(folder.weights, weights_only=False)
    torch.save({**content, "init_args": {"configuration": "3d_fullres"}}, folder.weights)
    with pytest.raises(ModelError, match=r"was trained as 3d_fullres, its folder's name says 2d; give the folder the"):
        build_network(folder)


def test_a_checkpoint_that_would_run_code_is_refused_by_name(tmp_path: Path) -> None:
    folder = ResultFolder.read(made_results(tmp_path))
    torch.save({"network_weights": {}, "own": folder}, folder.weights)
    with pytest.raises(ModelError, match=r"hold pickled objects \(\S*ResultFolder\) that would run code, and are not"):
        build_network(folder)
    folder.weights.write_bytes(b"damaged")
    with pytest.raises(
        ModelError, match=r"are not a torch checkpoint that loads without running code, or a damaged one"
    ):
        build_network(folder)


def _other_keys(folder: ResultFolder, trainer: str) -> None:
    save_weights(folder, trainer=trainer)
    content = torch.load(folder.weights, weights_only=False)
    content["network_weights"]["extra.weight"] = torch.zeros(3)
    torch.save(content, folder.weights)


def test_the_trainer_is_asked_only_where_keys_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ResultFolder.read(made_results(tmp_path))
    save_weights(folder, trainer="nnUNetTrainer_ofOthers")
    asked = []

    class Trainer:
        @staticmethod
        def build_network_architecture(plans_manager: Any, *_: Any, enable_deep_supervision: bool) -> torch.nn.Module:
            asked.append(enable_deep_supervision)
            network = nnunet.network_of_plans(folder)
            network.extra = torch.nn.Linear(1, 3, bias=False)
            network.extra.weight = torch.nn.Parameter(torch.ones(3))
            return network

    monkeypatch.setattr(nnunet, "_trainer_class", lambda name: Trainer)
    build_network(folder)
    assert asked == []
    _other_keys(folder, "nnUNetTrainer_ofOthers")
    assert build_network(folder).extra.weight.tolist() == [0, 0, 0]
    assert asked == [False]


def test_a_trainer_whose_imports_fail_gives_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ResultFolder.read(made_results(tmp_path))
    _other_keys(folder, "nnUNetTrainer_1epoch")

    def no_torchvision(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(nnunet, "_trainer_class", no_torchvision)
    words = r"its trainer nnUNetTrainer_1epoch cannot be asked for another: RuntimeError: operator torchvision::nms"
    with pytest.raises(ModelError, match=words) as caught:
        build_network(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_nnunetv2_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ResultFolder.read(made_results(tmp_path))
    own = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "nnunetv2":
            raise ModuleNotFoundError(f"No module named {name!r}", name="nnunetv2")
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    import_nnunetv2.cache_clear()
    words = r"an nnU-Net result folder needs nnunetv2, which is not installed: pip install 'actstore\[nnunet\]'"
    with pytest.raises(MissingError, match=words):
        build_network(folder)
