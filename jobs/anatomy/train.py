"""Trains one network on the images that the run of the test split does not hold, preprocessed as the run does it."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actstore.data.discovery import discover
from actstore.data.images import ImageGroup
from actstore.inputs.images import ImagePipeline
from actstore.spec.spec import Spec

Images = tuple[NDArray[np.float32], NDArray[np.int64]]
LEARNING_RATE, WEIGHT_DECAY, BATCH = 1e-3, 1e-4, 50
#: Largest shift in pixels of 64, rotation in degrees, and factor of size of augmentation; half of the images are
#: mirrored.
SHIFT, TURN, ZOOM = 6.0, 20.0, 1.2


def images_of(spec: Spec) -> Images:
    """(image, input_channel, y, x) float32 as the network sees them, and (image) class numbers."""
    found = discover(spec.data)
    pipeline = ImagePipeline(spec.with_channels(found.channels))
    inputs, labels = [], []
    for group in found.volumes:
        assert isinstance(group, ImageGroup)
        prepared = pipeline.prepare(pipeline.read(group))
        inputs.append(prepared.images(slice(None), np.ones((len(prepared), len(spec.conditions)), bool))[:, 0])
        labels += prepared.classes.tolist()
    return np.concatenate(inputs), np.asarray(labels)


def few_of_each(images: Images, each: int, seed: int) -> Images:
    """``each`` images of every class."""
    inputs, labels = images
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == k))[:each] for k in np.unique(labels)])
    return inputs[chosen], labels[chosen]


def train(network: nn.Module, images: Images, *, epochs: int, seed: int, augmented: bool) -> list[float]:
    """Train in place with Adam on cross-entropy; the loss of each epoch."""
    inputs, labels = torch.from_numpy(images[0]), torch.from_numpy(images[1])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    losses = []
    network.train()
    for _ in range(epochs):
        order, sums = torch.randperm(len(inputs), generator=generator), 0.0
        for chosen in order.split(BATCH):
            if len(chosen) < 2:
                continue
            batch = inputs[chosen]
            batch = changed(batch, generator) if augmented else batch
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(batch), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            sums += loss.item() * len(chosen)
        rate.step()
        losses.append(sums / len(inputs))
    network.eval()
    return losses


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted, turned, zoomed and perhaps mirrored."""
    count, side = len(images), images.shape[-1]

    def drawn() -> Tensor:
        return 2 * torch.rand(count, generator=generator) - 1

    angle, zoom = drawn() * math.radians(TURN), ZOOM ** drawn()
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    shift = 2 * SHIFT / side
    matrix = torch.stack(
        [
            torch.stack([zoom * angle.cos() * mirror, -zoom * angle.sin(), shift * drawn()], 1),
            torch.stack([zoom * angle.sin() * mirror, zoom * angle.cos(), shift * drawn()], 1),
        ],
        1,
    )
    grid = nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def build(factory: str, classes: int, seed: int) -> nn.Module:
    """A network of :mod:`anatomy.networks` with random weights of ``seed``."""
    from anatomy import networks

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = getattr(networks, factory)(classes)
    return made
