"""Train the demo's network, UNetHeart 8-4-4, on phantom patients and write its weights.

    python jobs/train_phantom.py --output src/actstore/weights/unet_heart_8_4_4_phantom.safetensors

Seed 0 is trained on and seed 1000 chooses nothing but is reported while training; the demo shows seed 7, which is
never trained on. The training patients are unperturbed: a network that had seen darkened ventricles would have
nothing to show. Slices are prepared as a capture prepares them: min-max of each raw slice, then centred in 256 x 256.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from actstore.data.phantom import generate
from actstore.inputs.perturb import brightness
from actstore.inputs.preprocess import fit, normalize
from actstore.models import unet_heart_8_4_4

SIDE = 256
#: Side of the crops that all but the last ``WHOLE`` of the steps see: a step on them took a third of the time.
CROP = 160
WHOLE = 0.2
CLASSES = {"RV": 1, "MYO": 2, "LV": 3}
TRAINING_SEED = 0
VALIDATION_SEED = 1000
DEMO_SEED = 7


def pool(patients: int, seed: int, darkened: dict[str, float] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Every slice of ``patients`` patients: images (slice, 1, y, x) float32 and labels (slice, 1, y, x) uint8.

    ``darkened`` multiplies the raw intensities inside a class before they are normalised.
    """
    images, labels = [], []
    for index in range(1, patients + 1):
        for frame in generate(index, seed=seed).frames:
            raw = frame.image.astype(np.float64)
            for name, strength in (darkened or {}).items():
                raw = brightness(raw, frame.label == CLASSES[name], strength=strength)
            images.append(fit(normalize(raw, "minmax-slice"), (SIDE, SIDE)))
            labels.append(fit(frame.label, (SIDE, SIDE)))
    return torch.from_numpy(np.concatenate(images))[:, None], torch.from_numpy(np.concatenate(labels))[:, None]


def batches(count: int, size: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
    while True:
        yield from torch.randperm(count, generator=rng)[: count - count % size].split(size)


def augment(
    images: torch.Tensor, labels: torch.Tensor, side: int, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate, scale and shift each slice, keep its middle ``side`` pixels, bend its intensities; labels move along."""
    n = len(images)

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=rng)

    angle, scale = draw(-0.35, 0.35), draw(0.85, 1.2) * side / SIDE
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * torch.cos(angle), -scale * torch.sin(angle)
    theta[:, 1, 0], theta[:, 1, 1] = scale * torch.sin(angle), scale * torch.cos(angle)
    theta[:, 0, 2], theta[:, 1, 2] = draw(-0.1, 0.1), draw(-0.1, 0.1)
    grid = functional.affine_grid(theta, [n, 1, side, side], align_corners=False)
    images = functional.grid_sample(images, grid, align_corners=False)
    labels = functional.grid_sample(labels.float(), grid, mode="nearest", align_corners=False)
    gamma, gain = draw(0.75, 1.35).view(-1, 1, 1, 1), draw(0.8, 1.15).view(-1, 1, 1, 1)
    return gain * images.clamp(0, 1) ** gamma, labels


@torch.inference_mode()
def dice(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Mean Dice a slice of each class over the slices that contain it."""
    predictions = torch.cat([network(part).argmax(1, keepdim=True) for part in images.split(16)])
    means = {}
    for name, value in CLASSES.items():
        true, found = (labels == value).flatten(1), (predictions == value).flatten(1)
        scores = 2 * (true & found).sum(1) / (true.sum(1) + found.sum(1)).clamp(min=1)
        means[name] = float(scores[true.any(1)].mean())
    return means


def shown(scores: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in scores.items())


def train(arguments: argparse.Namespace) -> nn.Module:
    rng = torch.Generator().manual_seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    images, labels = pool(arguments.patients, TRAINING_SEED)
    held_images, held_labels = pool(5, VALIDATION_SEED)
    print(f"{len(images)} training slices, {len(held_images)} held out", flush=True)
    network = unet_heart_8_4_4()
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=True, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.rate, weight_decay=1e-4)
    warm_up = 30

    def schedule(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / arguments.steps, 1.0)))
        return min((step + 1) / warm_up, 1.0) * max(cosine, 0.01)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    start = time.monotonic()
    for step, chosen in zip(range(1, arguments.steps + 1), batches(len(images), arguments.batch, rng), strict=False):
        side = SIDE if step > (1 - WHOLE) * arguments.steps else CROP
        x, y = augment(images[chosen], labels[chosen], side, rng)
        optimizer.zero_grad()
        value = loss(network(x), y)
        value.backward()
        optimizer.step()
        scheduler.step()
        if step % arguments.report == 0 or step == arguments.steps:
            network.eval()
            scores = shown(dice(network, held_images, held_labels))
            network.train()
            print(f"step {step}  {time.monotonic() - start:.0f} s  loss {value.item():.3f}  {scores}", flush=True)
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=60, help="training patients, of phantom seed 0")
    parser.add_argument("--seed", type=int, default=0, help="seed of the network's start, batches and augmentation")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--report", type=int, default=200, help="steps between reports")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    network = train(arguments)
    settings = {name: str(getattr(arguments, name)) for name in ("seed", "steps", "patients", "batch", "rate")}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    arguments.output.write_bytes(save(weights, {"training_data": f"phantom seed {TRAINING_SEED}", **settings}))
    changes: list[dict[str, float]] = [{}, *({name: 0.1} for name in reversed(CLASSES))]
    for change in changes:
        text = ", ".join(f"brightness({name}, {factor})" for name, factor in change.items()) or "original"
        print(f"phantom seed {DEMO_SEED}, {text}: {shown(dice(network, *pool(6, DEMO_SEED, change)))}")


if __name__ == "__main__":
    main()
