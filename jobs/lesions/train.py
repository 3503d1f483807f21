"""Train one network to tell images with a lesion from images without."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lesions.data import Array, Clean, Kind, with_lesions

#: As in the paper.
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4


@dataclass(frozen=True)
class Schedule:
    """How long a network is trained."""

    epochs: int
    patience: int
    batch: int


@dataclass
class Trained:
    """What became of a network."""

    #: Balanced accuracy on validation images, one number an epoch.
    validation: list[float] = field(default_factory=list)
    #: Mean cross-entropy on them, which chooses the epoch.
    entropy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    #: The epoch whose weights are kept, from 0.
    epoch: int = -1
    #: Balanced accuracy on held-out images; None before training.
    test: float | None = None
    seconds: float = 0.0


def train(network: nn.Module, kind: Kind, seed: int, data: tuple[Clean, Clean, Clean], schedule: Schedule) -> Trained:
    """Train ``network`` in place, and leave it at the epoch with the least cross-entropy on validation images.

    ``data`` is to train on, to choose the epoch, and to test.

    Validation and test images are the same for every network of a kind; training lesions differ by ``seed``.
    """
    start = time.monotonic()
    train_on, validate_on, test_on = data
    found = Trained()
    rng = np.random.default_rng([1, seed])
    validation = fixed(validate_on, kind, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best = float("inf")
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    for epoch in range(schedule.epochs):
        network.train()
        order = rng.permutation(len(train_on))
        losses = []
        for first in range(0, len(order) - schedule.batch + 1, schedule.batch):
            images, labels, _ = with_lesions(train_on, order[first : first + schedule.batch].tolist(), kind, rng)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(torch.from_numpy(images)), torch.from_numpy(labels))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        accuracy, entropy = judge(network, *validation)
        found.validation.append(accuracy)
        found.loss.append(float(np.mean(losses)))
        found.entropy.append(entropy)
        print(f"  {kind}, seed {seed}, epoch {epoch}: {accuracy:.4f} on validation images", flush=True)
        # Not by accuracy: a slice more or less of some hundred is chance.
        if entropy < best:
            best, found.epoch = entropy, epoch
            weights = {name: value.clone() for name, value in network.state_dict().items()}
        elif epoch - found.epoch >= schedule.patience:
            break
    network.load_state_dict(weights)
    found.test, _ = judge(network, *fixed(test_on, kind, 3))
    network.eval()
    found.seconds = time.monotonic() - start
    return found


def fixed(clean: Clean, kind: Kind, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """All images of ``clean``, half of them with lesions that ``seed`` alone decides."""
    images, labels, _ = with_lesions(clean, range(len(clean)), kind, np.random.default_rng([seed]))
    return images, labels


@torch.inference_mode()
def judge(network: nn.Module, images: Array, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Balanced accuracy, and mean cross-entropy."""
    network.eval()
    logits = torch.cat([network(torch.from_numpy(images[i : i + 16])) for i in range(0, len(images), 16)])
    entropy = float(nn.functional.cross_entropy(logits, torch.from_numpy(labels)))
    right = logits.argmax(1).numpy() == labels
    return float(np.mean([right[labels == label].mean() for label in (0, 1)])), entropy
