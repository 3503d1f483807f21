"""nnU-Net's own preprocessing and prediction, to compare with; result folders with random weights."""

from __future__ import annotations

import contextlib
import json
import os
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from actstore.data.nnunet import key_of
from actstore.data.volume import VolumeFile
from actstore.networks.nnunet import build_network, managers, nnunetv2_quiet
from actstore.spec.nnunet_results import ResultFolder

REFERENCE = os.environ.get("ACTSTORE_REFERENCE")
needs_reference = pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE names no folder with result folders")

#: Data set and result folder of each reference network.
NETWORKS = {
    "2d": ("Dataset001_Heart", "nnUNetTrainer__nnUNetPlans__2d"),
    "3d": ("Dataset002_Regions", "nnUNetTrainer__nnUNetPlans__3d_fullres"),
}


def results(name: str) -> Path:
    data, folder = NETWORKS[name]
    return Path(str(REFERENCE)) / "nnunet_v2" / "results" / data / folder


def case(name: str, which: str = "patient002_frame01") -> VolumeFile:
    root = Path(str(REFERENCE)) / "nnunet_v2" / "raw" / NETWORKS[name][0]
    images = tuple(sorted((root / "imagesTr").glob(f"{which}_*.nii.gz")))
    return VolumeFile(key_of(which), images, root / "labelsTr" / f"{which}.nii.gz")


def own_input(folder: ResultFolder, file: VolumeFile, *, label: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What nnunetv2's ``run_case`` gives for the files: (channel, z, y, x), and its segmentation (1, z, y, x)."""
    plans, configuration = managers(folder)
    preprocessor = configuration.preprocessor_class(verbose=False)
    files = [str(path) for path in file.images]
    mask = str(file.label) if label else None
    found = preprocessor.run_case(files, mask, plans, configuration, dict(folder.dataset))
    return found[0], found[1]


def own_logits(folder: ResultFolder, data: np.ndarray, *, exact: bool) -> np.ndarray:
    """What ``nnUNetPredictor`` gives unmirrored on the CPU, accumulated in float32 if ``exact``, or in float16."""
    with nnunetv2_quiet():
        from nnunetv2.inference import predict_from_raw_data as module
    plans, configuration = managers(folder)
    network = build_network(folder)
    with nnunetv2_quiet():
        predictor = module.nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        weights = [network.state_dict()]
        predictor.manual_initialization(network, plans, configuration, weights, dict(folder.dataset), "", None)
        with accumulating_in_float32(module) if exact else contextlib.nullcontext():
            logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    return logits.float().numpy()


@contextlib.contextmanager
def accumulating_in_float32(module: Any) -> Iterator[None]:
    names = types.SimpleNamespace(**{name: getattr(torch, name) for name in dir(torch)})
    names.half = torch.float32
    gaussian = partial(module.compute_gaussian, dtype=torch.float32)
    with mock.patch.object(module, "torch", names), mock.patch.object(module, "compute_gaussian", gaussian):
        yield


def made_results(
    root: Path,
    *,
    configuration: str = "2d",
    folds: dict[str, tuple[str, ...]] | None = None,
    channels: tuple[str, ...] = ("MRI",),
    labels: dict[str, Any] | None = None,
    order: list[int] | None = None,
    settings: dict[str, Any] | None = None,
    plans: dict[str, Any] | None = None,
    stages: int = 3,
) -> Path:
    """A result folder whose network has random weights, in every checkpoint of ``folds`` others."""
    dims = 2 if configuration == "2d" else 3
    labels = {"background": 0, "RV": 1, "MYO": 2, "LV": 3} if labels is None else labels
    own = {
        "data_identifier": f"nnUNetPlans_{configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 48] if dims == 2 else [8, 32, 48],
        "median_image_size_in_voxels": [64] * dims,
        "spacing": [1.5, 1.5] if dims == 2 else [7.0, 1.5, 1.5],
        "normalization_schemes": ["ZScoreNormalization"] * len(channels),
        "use_mask_for_norm": [False] * len(channels),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": [4 * 2 ** min(i, 3) for i in range(stages)],
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                "kernel_sizes": [[3] * dims] * stages,
                "strides": [[1] * dims] + [([1] if dims == 3 else []) + [2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
        **(settings or {}),
    }
    own = {name: value for name, value in own.items() if value is not None}
    statistics = {"mean": 100.0, "std": 50.0, "percentile_00_5": 0.0, "percentile_99_5": 400.0}
    content = {
        "dataset_name": "Dataset009_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {configuration: own},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): statistics for i in range(len(channels))},
        **(plans or {}),
    }
    dataset = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
        **({"regions_class_order": order} if order else {}),
    }
    path = root / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    for fold, checkpoints in (folds or {"0": ("checkpoint_final.pth",)}).items():
        (path / f"fold_{fold}").mkdir(parents=True)
        for name in checkpoints:
            (path / f"fold_{fold}" / name).touch()
    (path / "plans.json").write_text(json.dumps(content), encoding="utf-8")
    (path / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    return path


def save_weights(folder: ResultFolder, seed: int = 0, trainer: str = "nnUNetTrainer") -> dict[str, torch.Tensor]:
    """Write random weights into the folder's checkpoint, beside NumPy scalars as nnU-Net has them."""
    from actstore.networks import nnunet

    network = nnunet.network_of_plans(folder)
    torch.manual_seed(seed)
    state = {name: torch.randn_like(value) * 0.2 for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    state = network.state_dict()
    content = {
        "network_weights": state,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 2,
        "init_args": {"configuration": folder.configuration, "fold": folder.fold, "device": torch.device("cpu")},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1),
    }
    torch.save(content, folder.weights)
    return state
