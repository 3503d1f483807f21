"""Each regulariser, against none with the same seeds, does what it is for; on the network that ships."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from actstore.maximisation.ascent import Optima
from actstore.maximisation.maximise import maximise
from actstore.maximisation.transforms import transform_of
from actstore.models import unet_heart_8_4_4
from actstore.networks.arithmetic import torch_threads
from actstore.spec.visualise import Regularizer, Visualise

pytestmark = pytest.mark.slow

LAYER = "model.1.submodule.1.submodule.0.conv.unit1.conv"
CHANNELS = (0, 1, 2, 3)
SIZE = (64, 64)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    network = unet_heart_8_4_4().eval()
    weights = files("actstore") / "weights" / "unet_heart_8_4_4_phantom.safetensors"
    network.load_state_dict(load_file(str(weights)))
    return network.requires_grad_(False)


def optima(model: nn.Module, *regularize: Mapping[str, Any]) -> Optima:
    settings = Visualise.model_validate(
        {
            "layers": [LAYER],
            "channels": CHANNELS,
            "batch_size": len(CHANNELS),
            "steps": 64,
            "parameterization": "pixel",
            "regularize": regularize,
        }
    )
    return maximise(model, settings, size=SIZE)[LAYER]


@pytest.fixture(scope="module")
def plain(model: nn.Module) -> Optima:
    return optima(model)


def variation(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean difference between neighbouring pixels, (image)."""
    return np.abs(np.diff(images, axis=-1)).mean((1, 2, 3)) + np.abs(np.diff(images, axis=-2)).mean((1, 2, 3))


def fine(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the power above 0.15 cycles a pixel, (image)."""
    power = np.abs(np.fft.fft2(images - images.mean((2, 3), keepdims=True))) ** 2
    frequency = np.hypot(np.fft.fftfreq(SIZE[0])[:, None], np.fft.fftfreq(SIZE[1])[None])
    return (power * (frequency > 0.15)).sum((1, 2, 3)) / power.sum((1, 2, 3))


def responses(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Each image's own channel, (image)."""
    found: list[Tensor] = []
    handle = model.get_submodule(LAYER).register_forward_hook(lambda _m, _a, output: found.append(output))
    with torch.no_grad(), torch_threads(1):
        model(images)
    handle.remove()
    return found[0][torch.arange(len(images)), torch.tensor(CHANNELS)].mean((1, 2)).numpy()


@pytest.mark.parametrize(
    "regularizer",
    [{"kind": "tv", "every": 10}, {"kind": "tv", "apply": "forward", "weight": 10}],
    ids=["image", "penalty"],
)
def test_tv_lowers_total_variation(model: nn.Module, plain: Optima, regularizer: dict[str, Any]) -> None:
    assert (variation(optima(model, regularizer).image) < 0.5 * variation(plain.image)).all()


def test_l1_lowers_the_mean(model: nn.Module, plain: Optima) -> None:
    assert (optima(model, {"kind": "l1"}).image.mean((1, 2, 3)) < 0.7 * plain.image.mean((1, 2, 3))).all()


def test_the_bilateral_filter_lowers_noise(model: nn.Module, plain: Optima) -> None:
    """What it does to impulses and edges, `test_filters` checks on planted ones."""
    found = optima(model, {"kind": "switching_bilateral", "every": 10})
    assert (variation(found.image) < 0.5 * variation(plain.image)).all()
    assert (fine(found.image) < 0.7 * fine(plain.image)).all()


def test_robustness_to_rotation_holds_for_other_angles(model: nn.Module, plain: Optima) -> None:
    """Turned by angles that were not drawn, the channel responds more than to an image made without."""
    robust = optima(model, {"kind": "rotate", "range": [-12.0, 12.0]})
    turn = transform_of(Regularizer(kind="rotate", range=(-10.0, 10.0)), 2, (0.0, 1.0))

    def turned(found: Optima) -> NDArray[np.float64]:
        at = [torch.full((len(CHANNELS), 1), (angle + 10) / 20) for angle in (-9, -6, 6, 9)]
        return np.mean([responses(model, turn(torch.from_numpy(found.image), u)) for u in at], axis=0)

    assert (turned(robust) > turned(plain)).all()
    assert (responses(model, torch.from_numpy(robust.image)) < plain.final).all(), "at a price"


def test_brightness_widens_contrast(model: nn.Module, plain: Optima) -> None:
    """Slightly, of a network that normalises each map: on average over channels."""
    assert optima(model, {"kind": "brightness"}).image.std((1, 2, 3)).mean() > plain.image.std((1, 2, 3)).mean()


@pytest.mark.parametrize("kind", ["resize", "crop", "translate"])
def test_moving_the_image_takes_fine_detail_away(model: nn.Module, plain: Optima, kind: str) -> None:
    assert (fine(optima(model, {"kind": kind}).image) < fine(plain.image) - 0.03).all()
