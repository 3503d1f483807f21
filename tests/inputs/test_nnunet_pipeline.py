"""The network's input and the stitched prediction of a result folder are nnunetv2's own."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from actstore.data.nnunet import key_of
from actstore.data.volume import VolumeFile
from actstore.errors import DataError, ModelError
from actstore.inputs.nnunet import NnUNetPipeline
from actstore.inputs.windows import Stitched, Windows
from actstore.networks.nnunet import build_network
from actstore.spec.nnunet_results import ResultFolder
from nnunet_folders import (
    NETWORKS,
    case,
    made_results,
    needs_reference,
    own_input,
    own_logits,
    results,
    save_weights,
)

both = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def _without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it fails, as where it is of another build than torch."""
    monkeypatch.setitem(sys.modules, "torchvision", None)


def stitched(folder: ResultFolder, image: np.ndarray, windows: Windows) -> np.ndarray:
    network = build_network(folder).eval()
    result = Stitched(windows, folder.outputs)
    flat = len(folder.window) == 2
    with torch.inference_mode():
        for patch in range(len(windows)):
            cut = windows.cut(image, patch)
            logits = network(torch.from_numpy(cut[:, 0] if flat else cut)[None])[0].numpy()
            result.add(patch, logits[:, None] if flat else logits)
    return result.logits


@needs_reference
@both
def test_input_and_label_are_those_of_run_case(name: str) -> None:
    folder, file = ResultFolder.read(results(name)), case(name)
    pipeline = pickle.loads(pickle.dumps(NnUNetPipeline(folder)))
    volume = pipeline.read(file)
    frame = pipeline.frame(volume)
    image = pipeline.image(volume.image, frame)
    theirs, _ = own_input(folder, file)
    assert image.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(image, theirs)
    _, seg = own_input(folder, file, label=True)
    np.testing.assert_array_equal(pipeline.label(volume, frame), np.maximum(seg[0], 0))
    header = pipeline.grid(file)
    assert header.shape == image.shape[1:]


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("name", ["2d", "3d"])
def test_stitched_logits_are_the_predictor_s(name: str) -> None:
    folder, file = ResultFolder.read(results(name)), case(name)
    pipeline = NnUNetPipeline(folder)
    image, _ = own_input(folder, file)
    # Fewer patches, not others: slices do not see each other in 2D.
    image = np.ascontiguousarray(image[:, :3] if name == "2d" else image[..., :140, :140])
    mine = stitched(folder, image, pipeline.windows(image.shape[1:]))
    # Bitwise on the machine where it was written, one patch a pass; 1e-4 is what other kernels may differ by.
    assert np.abs(mine - own_logits(folder, image, exact=True)).max() <= 1e-4
    stock = own_logits(folder, image, exact=False)
    classes = (lambda logits: logits.argmax(axis=0)) if name == "2d" else (lambda logits: logits > 0)
    assert (classes(mine) != classes(stock)).mean() <= 1e-4


def written(folder: Path, images: dict[str, np.ndarray], label: np.ndarray, spacing: tuple[float, ...]) -> VolumeFile:
    """Files of arrays (z, y, x), as SimpleITK reads them; ``spacing`` likewise, in mm."""
    affine = np.diag([*spacing[::-1], 1.0])
    paths = {**{name: folder / f"case_{name}.nii.gz" for name in images}, "label": folder / "case.nii.gz"}
    for name, array in {**images, "label": label}.items():
        image = nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, paths[name])
    return VolumeFile(key_of("case"), tuple(paths[name] for name in images), paths["label"])


def body(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with three nested boxes of labels in the middle: intensities, and labels 0 to 3."""
    image = np.random.default_rng(seed).uniform(50, 400, shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    for value, share in ((1, 4), (2, 5), (3, 8)):
        label[tuple(slice(n // 2 - n // share, n // 2 + n // share + 1) for n in shape)] = value
    return image, label


TRANSPOSED = {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}


@pytest.mark.parametrize(
    ("configuration", "plans", "settings"),
    [
        ("2d", {}, {}),
        ("2d", TRANSPOSED, {}),
        ("3d_fullres", TRANSPOSED, {"use_mask_for_norm": [True, True]}),
        ("3d_fullres", {}, {"normalization_schemes": ["ZScoreNormalization", "CTNormalization"]}),
        ("3d_fullres", {"image_reader_writer": "NibabelIO"}, {"resampling_fn_data": "no_resampling_hack"}),
    ],
    ids=["2d", "2d transposed", "3d transposed, mask", "3d, MRI and CT", "nibabel, no resampling"],
)
def test_input_of_made_folders(tmp_path: Path, configuration: str, plans: Any, settings: Any) -> None:
    if "resampling_fn_data" in settings:
        pytest.importorskip(
            "nnunetv2.preprocessing.resampling.no_resampling", reason="nnunetv2 from 2.6 on resamples so"
        )
        names = ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities")
        settings = {**dict.fromkeys(names, "no_resampling_hack"), **{f"{name}_kwargs": {} for name in names}}
    path = made_results(tmp_path, configuration=configuration, channels=("T1", "T2"), plans=plans, settings=settings)
    folder = ResultFolder.read(path)
    image, label = body((9, 40, 50))
    image[:, :4] = image[..., -7:] = 0
    other = np.where(image > 0, body((9, 40, 50), 1)[0], 0)
    file = written(tmp_path, {"0000": image, "0001": other}, label, (6.0, 1.2, 1.7))
    pipeline = NnUNetPipeline(folder)
    volume = pipeline.read(file)
    frame = pipeline.frame(volume)
    # A perturbation may return another memory layout.
    mine = pipeline.image(np.ascontiguousarray(volume.image), frame)
    theirs, _ = own_input(folder, file)
    np.testing.assert_array_equal(mine, theirs)
    _, seg = own_input(folder, file, label=True)
    np.testing.assert_array_equal(pipeline.label(volume, frame), np.maximum(seg[0], 0))
    header = pipeline.grid(file)
    assert header.shape == mine.shape[1:]
    assert header.shape != volume.label.shape
    forward = plans.get("transpose_forward", [0, 1, 2])
    assert volume.image.shape[1:] == tuple((9, 40, 50)[axis] for axis in forward)
    np.testing.assert_allclose(volume.spacing, [(6.0, 1.2, 1.7)[axis] for axis in forward], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("shape", [(3, 20, 70), (12, 50, 30)], ids=str)
def test_windows_are_the_predictor_s(tmp_path: Path, configuration: str, shape: tuple[int, int, int]) -> None:
    folder = ResultFolder.read(made_results(tmp_path, configuration=configuration))
    save_weights(folder)
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    windows = NnUNetPipeline(folder).windows(shape)
    theirs = own_logits(folder, image, exact=True)
    assert np.abs(stitched(folder, image, windows) - theirs).max() <= 1e-4
    start, stop = windows.owned[:, 0], windows.owned[:, 1]
    assert (stop - start).prod(axis=1).sum() == np.prod(shape)


def test_a_perturbation_to_zero_moves_neither_crop_nor_mask(tmp_path: Path) -> None:
    masked = {"use_mask_for_norm": [True]}
    folder = ResultFolder.read(made_results(tmp_path, configuration="3d_fullres", settings=masked))
    image, label = body((9, 40, 50))
    file = written(tmp_path, {"0000": np.where(label > 0, image, 0)}, label, (6.0, 1.2, 1.7))
    pipeline = NnUNetPipeline(folder)
    volume = pipeline.read(file)
    frame = pipeline.frame(volume)
    dark = np.where(volume.label == 1, np.float32(0), volume.image)
    original, perturbed = pipeline.image(volume.image, frame), pipeline.image(dark, frame)
    assert original.shape == perturbed.shape == (1, *pipeline.grid(file).shape)
    # On its own frame it would be another volume.
    moved = pipeline.image(dark, pipeline.frame(replace(volume, image=dark)))
    assert moved.shape != perturbed.shape
    assert pipeline.label(volume, frame).shape == original.shape[1:]


def test_threads_share_a_pipeline(tmp_path: Path) -> None:
    folder = ResultFolder.read(made_results(tmp_path, configuration="3d_fullres"))
    volumes = []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        image, label = body((9, 40, 50), seed)
        image[: seed % 3] = image[:, : 3 * seed] = 0
        volumes.append(written(tmp_path / str(seed), {"0000": image}, label, (6.0, 1.2, 1.7)))
    pipeline = NnUNetPipeline(folder)

    def one(file: VolumeFile) -> np.ndarray:
        volume = pipeline.read(file)
        return pipeline.image(volume.image, pipeline.frame(volume))

    alone = [one(file) for file in volumes]
    assert len({image.shape for image in alone}) > 1
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone * 3, pool.map(one, volumes * 3), strict=True):
            np.testing.assert_array_equal(a, b)


def _one_channel(folder: Path, image: np.ndarray, label: np.ndarray) -> VolumeFile:
    return written(folder, {"0000": image}, label, (6.0, 1.2, 1.7))


def _ignored(folder: Path, image: np.ndarray, label: np.ndarray) -> VolumeFile:
    return written(folder, {"0000": image, "0001": image}, np.where(label == 0, 4, label), (6.0, 1.2, 1.7))


def _unknown(folder: Path, image: np.ndarray, label: np.ndarray) -> VolumeFile:
    return written(folder, {"0000": image, "0001": image}, np.where(label == 3, 9, label), (6.0, 1.2, 1.7))


def _constant(folder: Path, image: np.ndarray, label: np.ndarray) -> VolumeFile:
    return written(folder, {"0000": image, "0001": 0 * image}, label, (6.0, 1.2, 1.7))


def _unequal(folder: Path, image: np.ndarray, label: np.ndarray) -> VolumeFile:
    return written(folder, {"0000": image, "0001": image[:-1]}, label, (6.0, 1.2, 1.7))


def _gone(folder: Path, image: np.ndarray, label: np.ndarray) -> VolumeFile:
    file = written(folder, {"0000": image, "0001": image}, label, (6.0, 1.2, 1.7))
    file.images[1].unlink()
    return file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            _one_channel,
            "along its fourth and last axis: add the file of each further channel",
        ),
        (
            _ignored,
            " of label 4 ('ignore') say nothing about the truth, so that no confusion can be counted",
        ),
        (
            _unknown,
            "label value 9 (429 pixels) is none of background = 0, RV = 1, MYO = 2, LV = 3; the network's",
        ),
        (_constant, "case_0001.nii.gz: constant, every pixel is 0, so there is nothing to perturb; leave the patient"),
        (_unequal, "belongs to another image or was resampled; replace it"),
        (_gone, "case_0001.nii.gz: the file is gone; "),
    ],
)
def test_volumes_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, make: Any, message: str) -> None:
    labels = {"background": 0, "RV": 1, "MYO": 2, "LV": 3, "ignore": 4}
    folder = ResultFolder.read(made_results(tmp_path, channels=("T1", "T2"), labels=labels))
    file = make(tmp_path, *body((9, 40, 50)))
    with pytest.raises(DataError) as caught:
        NnUNetPipeline(folder).read(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_preprocessor_that_crops_in_its_own_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ResultFolder.read(made_results(tmp_path))
    pipeline = NnUNetPipeline(folder)

    class Own(pipeline._preprocessor):  # type: ignore[misc]
        def run_case_npy(self, *arguments: Any) -> Any:
            return super().run_case_npy(*arguments)

    monkeypatch.setitem(pipeline.__dict__, "_preprocessor", Own)
    volume = pipeline.read(_one_channel(tmp_path, *body((9, 40, 50))))
    with pytest.raises(ModelError, match=r"crops without nnunetv2's crop_to_nonzero, so that a perturbation"):
        pipeline.image(volume.image, pipeline.frame(volume))


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".png"])
def test_other_file_endings_are_read_by_the_plans_reader(tmp_path: Path, ending: str) -> None:
    natural = ending == ".png"
    reader = "NaturalImage2DIO" if natural else "SimpleITKIO"
    folder = ResultFolder.read(made_results(tmp_path, plans={"image_reader_writer": reader}))
    image, label = body((1 if natural else 5, 40, 50))
    paths = tmp_path / f"case_0000{ending}", tmp_path / f"case{ending}"
    for path, array in zip(paths, (image.round().astype(np.uint8 if natural else np.int16), label), strict=True):
        written_image = SimpleITK.GetImageFromArray(array[0] if natural else array)
        written_image.SetSpacing((1.7, 1.2) if natural else (1.7, 1.2, 6.0))
        SimpleITK.WriteImage(written_image, str(path))
    file = VolumeFile(key_of("case"), paths[:1], paths[1])
    pipeline = NnUNetPipeline(folder)
    volume = pipeline.read(file)
    theirs, _ = own_input(folder, file)
    mine = pipeline.image(volume.image, pipeline.frame(volume))
    np.testing.assert_array_equal(mine, theirs)
    assert pipeline.grid(file).shape == mine.shape[1:]
    assert set(np.unique(volume.label)) == {0, 1, 2, 3}


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("moved", ["case", "case_0001"])
def test_files_must_lie_on_one_grid(tmp_path: Path, ending: str, moved: str) -> None:
    folder = ResultFolder.read(made_results(tmp_path, channels=("T1", "T2")))
    image, label = body((5, 40, 50))
    paths = {name: tmp_path / f"{name}{ending}" for name in ("case_0000", "case_0001", "case")}
    for (name, path), array in zip(paths.items(), (image, image, label), strict=True):
        made = SimpleITK.GetImageFromArray(array)
        made.SetSpacing((1.7, 1.2, 6.0))
        if name == moved:
            made.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        SimpleITK.WriteImage(made, str(path))
    file = VolumeFile(key_of("case"), (paths["case_0000"], paths["case_0001"]), paths["case"])
    for use in (NnUNetPipeline(folder).read, NnUNetPipeline(folder).grid):
        with pytest.raises(DataError) as caught:
            use(file)
        assert f"case_0000{ending} (LPS) and " in str(caught.value)
        assert f"{moved}{ending} (RAS) do not lie on one grid: their corners are" in str(caught.value)
        assert "\n" not in str(caught.value)
    accepting = NnUNetPipeline(folder, "ignore")
    assert set(np.unique(accepting.read(file).label)) == {0, 1, 2, 3}
    assert [caveat.kind for caveat in accepting.grid(file).caveats] == ["grid"]
