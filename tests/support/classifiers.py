"""Tiny classifiers ``classifiers:tiny`` and ``classifiers:volumes``, and sets of images that they tell apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

#: Of the images of `images`: a ring, a cross, a disc, in the order of the networks' outputs.
CLASSES = {"ring": 0, "cross": 1, "disc": 2}
SIDE = 24


def images(each: int = 4, *, seed: int = 0, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(image, y, x) uint8 and its class, ``each`` of every class, at random places and sizes, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    found, labels = [], []
    for label in range(len(CLASSES)):
        for _ in range(each):
            cy, cx = side / 2 + rng.uniform(-2, 2, 2)
            radius = rng.uniform(5, 8)
            distance = np.hypot(y - cy, x - cx)
            mask = (
                abs(distance - radius) < 1.5,
                (abs(y - cy) < 1.5) | (abs(x - cx) < 1.5),
                distance < radius,
            )[label]
            found.append(np.clip(40 + 150 * mask + rng.normal(0, 10, mask.shape), 0, 255).astype(np.uint8))
            labels.append(label)
    return np.stack(found), np.array(labels)


def write_images(root: Path, each: int = 4, *, ending: str = "png", seed: int = 0) -> Path:
    """A folder for each class, as ``format = "images"`` reads it."""
    from PIL import Image

    found, labels = images(each, seed=seed)
    for number, (image, label) in enumerate(zip(found, labels, strict=True)):
        folder = root / list(CLASSES)[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03d}.{ending}")
    return root


class Tiny(nn.Module):
    """(batch, input, y, x) to (batch, class): two convolutions, their means, a linear map."""

    def __init__(self, outputs: int = 3, inputs: int = 1, dims: int = 2) -> None:
        super().__init__()
        conv: Any = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        pool: Any = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dims]
        self.first = conv(inputs, 4, 3, padding=1)
        self.second = conv(4, 6, 3, stride=2, padding=1)
        self.pool = pool(1)
        self.last = nn.Linear(6, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.features(x))
        return found

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        found: torch.Tensor = self.pool(x).flatten(1)
        return found


def tiny(seed: int = 3, **arguments: Any) -> nn.Module:
    """The same random weights for the same ``seed``; of grey images, such that not all are of one class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Tiny(**arguments)
    if not arguments:
        with torch.no_grad():
            seen = network.features(torch.from_numpy(images()[0][:, None].astype(np.float32) / 255))
            network.last.weight.mul_(20)
            network.last.bias.copy_(-network.last.weight @ seen.mean(0))
    return network


def one_logit(sigmoid: bool) -> nn.Module:
    """A network of one low logit, or of its sigmoid."""
    network = _seeded(lambda: Tiny(outputs=1))
    nn.init.constant_(network.get_parameter("last.bias"), -5)
    return nn.Sequential(OrderedDict(first=network, second=nn.Sigmoid() if sigmoid else nn.Identity()))


def spec_tables(root: Path, **data: Any) -> dict[str, Any]:
    """Changes of the spec of ``write_spec`` to a classifier's."""
    return {
        "data": {
            "format": "images",
            "root": str(root),
            "preprocess": {"size": [SIDE, SIDE]},
            "classes": dict(CLASSES),
            **data,
        },
        "model": {"factory": "classifiers:tiny", "layers": ["first", "second", "pool", "last"]},
        "perturb": None,
    }


def plain_forward(network: nn.Module, inputs: Sequence[NDArray[np.float32]], batch: int) -> NDArray[np.float32]:
    """The logits of a network without hooks, in batches as a capture has them."""
    with torch.inference_mode():
        stacked = torch.from_numpy(np.stack(inputs))
        return torch.cat([network(stacked[i : i + batch]) for i in range(0, len(stacked), batch)]).numpy()


def densenet() -> nn.Module:
    """MONAI's DenseNet121 of one grey channel, with the same random weights at every call."""
    from monai.networks.nets import DenseNet121

    return _seeded(lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=3))


def resnet() -> nn.Module:
    """MONAI's resnet18, likewise."""
    from monai.networks.nets import resnet18

    return _seeded(lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=3))


def vgg() -> nn.Module:
    """A plain VGG: blocks of convolutions and maxima, then linear maps with dropout between them."""

    def made() -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in ((1, 8), (8, 16)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        head = (
            nn.Flatten(),
            nn.Linear(16 * (SIDE // 4) ** 2, 32),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(32, 3),
        )
        return nn.Sequential(nn.Sequential(*layers), *head)

    return _seeded(made)


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return make()


def softmaxed() -> nn.Module:
    """Returns probabilities."""
    return nn.Sequential(tiny(), nn.Softmax(1))
