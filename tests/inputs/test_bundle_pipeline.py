"""The network's input and the stitched prediction of a bundle are those of its own transforms and inferer."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from actstore.data import acdc, nnunet
from actstore.data.volume import VolumeFile
from actstore.errors import DataError, ModelError
from actstore.inputs.bundle import BundlePipeline
from actstore.inputs.windows import Stitched
from actstore.networks.bundle import build_network
from actstore.spec.bundle_folder import BundleFolder
from bundles import INFERER, SPACING, made_bundle, own_input, own_logits, save_weights

REFERENCE = os.environ.get("ACTSTORE_REFERENCE")
CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 2}
NONZERO = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
ORIENTATION = {"_target_": "Orientationd", "keys": "image", "axcodes": "LAS"}
RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 500, "b_min": 0, "b_max": 1}


@pytest.fixture(autouse=True)
def _without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it fails, as where it is of another build than torch."""
    monkeypatch.setitem(sys.modules, "torchvision", None)


@pytest.fixture(scope="module")
def file(phantom_root: Path) -> VolumeFile:
    return acdc.find(phantom_root, None).volumes[0]


def compare(folder: BundleFolder, file: VolumeFile) -> None:
    pipeline = pickle.loads(pickle.dumps(BundlePipeline(folder)))
    volume = pipeline.read(file)
    frame = pipeline.frame(volume)
    image = pipeline.image(volume.image, frame)
    theirs = own_input(folder, file)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, theirs.numpy())
    header = pipeline.grid(file)
    assert header.shape == image.shape[1:] == pipeline.label(volume, frame).shape
    windows = pipeline.windows(image.shape[1:])
    network = build_network(folder).eval()
    stitched = Stitched(windows, folder.outputs)
    with torch.inference_mode():
        for patch in range(len(windows)):
            stitched.add(patch, network(torch.from_numpy(windows.cut(image, patch))[None])[0].numpy())
    assert np.abs(stitched.logits - own_logits(folder, theirs)).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE names no folder with a bundle")
def test_of_the_reference() -> None:
    folder = BundleFolder.read(Path(str(REFERENCE)) / "bundle")
    root = Path(str(REFERENCE)) / "nnunet_v2" / "raw" / "Dataset001_Heart"
    file = next(volume for volume in nnunet.find(root, None).volumes if volume.key.patient == "patient002")
    compare(folder, file)
    pipeline = BundlePipeline(folder)
    volume = pipeline.read(file)
    assert folder.classes == {"RV": 1, "MYO": 2, "LV": 3}
    assert folder.channels == ("image",)
    label = pipeline.label(volume, pipeline.frame(volume))
    shares = [np.bincount(part.ravel(), minlength=4) / part.size for part in (volume.label, label)]
    np.testing.assert_allclose(*shares, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transforms", "inferer"),
    [
        ((ORIENTATION, SPACING, CROP, NONZERO), {}),
        ((RANGE, CROP, SPACING), {"mode": "constant", "overlap": 0.25}),
        ((SPACING, RANGE), {"roi_size": [160, 48, 12], "sigma_scale": [0.1, 0.2, 0.3]}),
    ],
    ids=["crop and non-zero mask", "crop before spacing", "window larger than the volume"],
)
def test_of_made_bundles(tmp_path: Path, file: VolumeFile, transforms: Any, inferer: dict[str, Any]) -> None:
    folder = BundleFolder.read(made_bundle(tmp_path / "made", *transforms, inferer={**INFERER, **inferer}))
    save_weights(folder)
    compare(folder, file)


def test_a_perturbation_moves_neither_crop_nor_mask(tmp_path: Path, file: VolumeFile) -> None:
    folder = BundleFolder.read(made_bundle(tmp_path / "made", CROP, NONZERO))
    pipeline = BundlePipeline(folder)
    volume = pipeline.read(file)
    heart = volume.label > 0
    volume = replace(volume, image=np.where(heart, volume.image, 0))
    frame = pipeline.frame(volume)
    raw = np.where(volume.label == 1, np.float32(0), volume.image)
    image, dark = pipeline.image(volume.image, frame), pipeline.image(raw, frame)
    assert image.shape == dark.shape == (1, *frame.shape)
    assert frame.shape < volume.label.shape
    own = pipeline.frame(replace(volume, image=raw))
    assert own.shape != frame.shape
    # What was darkened to 0 is normalised like every voxel of the mask: it is the darkest there.
    right = pipeline.label(volume, frame) == 1
    assert np.unique(dark[0][right]).size == 1
    assert dark[0][right][0] == dark.min() < 0


def test_a_mask_of_another_format_lies_on_the_image_s_grid(
    tmp_path: Path, file: VolumeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What MONAI's readers of other formats give; they are not installed.
    monkeypatch.setattr("actstore.inputs.bundle.all_nifti", lambda file: False)
    mask: Any = nibabel.load(file.label)  # type: ignore[no-untyped-call]
    moved = mask.affine @ np.diag([-1.0, 1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(np.asarray(mask.dataobj), moved), tmp_path / "moved.nii.gz")  # type: ignore[no-untyped-call]
    folder = BundleFolder.read(made_bundle(tmp_path / "made", SPACING))
    assert BundlePipeline(folder).read(file).label.any()
    file = replace(file, label=tmp_path / "moved.nii.gz")
    with pytest.raises(DataError, match=r"moved\.nii\.gz \(...\) do not lie on one grid: their corners are"):
        BundlePipeline(folder).read(file)
    assert BundlePipeline(folder, "ignore").read(file).label.any()


@pytest.mark.parametrize(
    "padding",
    [
        {"_target_": "SpatialPadd", "spatial_size": [272, 272, 16], "value": 2},
        {"_target_": "SpatialPadd", "spatial_size": [272, 272, 16], "constant_values": -1},
        {"_target_": "SpatialPadd", "spatial_size": [272, 272, 16], "mode": "maximum"},
        {"_target_": "ResizeWithPadOrCropd", "spatial_size": [272, 272, 16], "value": -1000},
        {"_target_": "CropForegroundd", "source_key": "image", "k_divisible": 64, "value": 1},
    ],
    ids=["value", "constant_values", "maximum", "pad or crop", "crop"],
)
def test_padding_is_background(tmp_path: Path, file: VolumeFile, padding: dict[str, Any]) -> None:
    """Whatever it writes into the image."""
    pipeline = BundlePipeline(BundleFolder.read(made_bundle(tmp_path / "made", {"keys": "image", **padding})))
    volume = pipeline.read(file)
    frame = pipeline.frame(volume)
    np.testing.assert_array_equal(pipeline.image(volume.image, frame), own_input(pipeline.folder, file).numpy())
    label = pipeline.label(volume, frame)
    assert label.size > volume.label.size
    np.testing.assert_array_equal(*(np.bincount(part[part > 0]) for part in (label, volume.label)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inferer": None},
            "inference.json: has no 'inferer', the windows in which it sees an image; add it, or",
        ),
        ({"network_def": None}, "inference.json: has no 'network_def', the network; add it, or write a factory"),
        ({"preprocessing": None}, "inference.json: has no 'preprocessing', the transforms before it; add it, or"),
        ({"inferer": {**INFERER, "roi_size": [48, 48]}}, r"its network sees (48, 48), a 2D window; 2D bundles are not"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else None,
)
def test_incomplete_configurations_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        BundleFolder.read(made_bundle(tmp_path / "made", SPACING, **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _preprocessing(pipeline: BundlePipeline) -> object:
    return pipeline._transforms


def _inferer(pipeline: BundlePipeline) -> object:
    return pipeline.windows((48, 48, 8))


def _network(pipeline: BundlePipeline) -> object:
    return build_network(pipeline.folder)


RANDOM = {"_target_": "RandFlipd", "keys": "image"}


@pytest.mark.parametrize(
    ("use", "transforms", "change", "message"),
    [
        (_preprocessing, [RANDOM], {}, "RandFlipd is random, and inputs of all conditions must be alike; take it"),
        (
            _preprocessing,
            [{"_target_": "ScaleIntensity"}],
            {},
            "ScaleIntensity is no dictionary transform; use",
        ),
        (
            _preprocessing,
            [{"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1, 3]}],
            {},
            "Transposed changes the order of axes and leaves the header as it was, so that voxel sizes and labels",
        ),
        (_preprocessing, [{**CROP, "source_key": "label"}], {}, "CropForegroundd crops to 'label', which is not there"),
        (
            _preprocessing,
            [{**SPACING, "lazy": True}],
            {},
            "Spacingd is lazy, which interpolates otherwise; take",
        ),
        (
            _inferer,
            [],
            {"inferer": {"_target_": "SaliencyInferer", "cam_name": "CAM", "target_layers": "x"}},
            "is a Sal",
        ),
        (_inferer, [], {"inferer": {**INFERER, "roi_size": "$(48, 48, 16)"}}, "inferer.roi_size is [48, 48, 16], the"),
        (_network, [], {"network_def": {"_target_": "Nothing"}}, "'network_def' cannot be made: "),
        (_network, [], {"network_def": "$dict(a=1)"}, "'network_def' makes a dict, not a torch.nn.Module; correct it"),
    ],
    ids=[
        "random",
        "array transform",
        "transposed",
        "crop to the label",
        "lazy",
        "inferer",
        "window",
        "no class",
        "no network",
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, use: Callable[[BundlePipeline], object], transforms: Any, change: dict[str, Any], message: str
) -> None:
    folder = BundleFolder.read(made_bundle(tmp_path / "made", *transforms, **change))
    with pytest.raises(ModelError) as caught:
        use(BundlePipeline(folder))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_padding_with_other_values_is_refused(tmp_path: Path) -> None:
    folder = BundleFolder.read(made_bundle(tmp_path / "made", inferer={**INFERER, "padding_mode": "replicate"}))
    pipeline = BundlePipeline(folder)
    assert len(pipeline.windows((48, 48, 9))) == 2
    with pytest.raises(DataError, match="has 48×40×8 voxels, its window 48×48×8, and the bundle's inferer pads with"):
        pipeline.windows((48, 40, 8))
