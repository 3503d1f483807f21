"""The network's input and the stitched prediction of a result folder are nnunetv2's own."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch

from actstore.inputs.nnunet import NnUNetPipeline
from actstore.inputs.windows import Stitched, Windows
from actstore.networks.nnunet import build_network
from actstore.spec.nnunet_results import ResultFolder
from nnunet_folders import NETWORKS, case, needs_reference, own_input, own_logits, results

both = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def _without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it fails, as where it is of another build than torch."""
    monkeypatch.setitem(sys.modules, "torchvision", None)


def stitched(folder: ResultFolder, image: np.ndarray, windows: Windows) -> np.ndarray:
    network = build_network(folder).eval()
    result = Stitched(windows, image.shape[1:], folder.outputs)
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
@both
def test_stitched_logits_are_the_predictor_s(name: str) -> None:
    folder, file = ResultFolder.read(results(name)), case(name)
    pipeline = NnUNetPipeline(folder)
    image, _ = own_input(folder, file)
    # Fewer patches, not others: slices do not see each other in 2D.
    image = np.ascontiguousarray(image[:, :3] if name == "2d" else image[..., :160])
    mine = stitched(folder, image, pipeline.windows(image.shape[1:]))
    # Bitwise on the machine where it was written, one patch a pass; 1e-4 is what other kernels may differ by.
    assert np.abs(mine - own_logits(folder, image, exact=True)).max() <= 1e-4
    stock = own_logits(folder, image, exact=False)
    classes = (lambda logits: logits.argmax(axis=0)) if name == "2d" else (lambda logits: logits > 0)
    assert (classes(mine) != classes(stock)).mean() <= 1e-4
