"""Cost of occlusion and of back-projection by that of bare forward passes, for UNetHeart 8-4-4 at 256², on one core."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import interleave, show
from torch import Tensor, nn

from actstore.attribution.occlusion import Windows, occlude
from actstore.attribution.projection import project, strongest
from actstore.attribution.scores import ClassScores
from actstore.maximisation.target import reaching
from actstore.models import unet_heart_8_4_4
from actstore.networks.heads import Head
from actstore.networks.recording import probe

SIZE = (256, 256)
#: On the way up, at half of the input's size: of the layers near the output the last with more than five channels.
LATE = "model.1.submodule.2.1.conv.unit0.adn.N"
#: Every class but the background.
CLASSES = ((1,), (2,), (3,))


def network() -> nn.Module:
    torch.manual_seed(0)
    return unet_heart_8_4_4().eval().requires_grad_(False)


def occlusion(model: nn.Module, image: Tensor, windows: int, runs: int) -> None:
    every = Windows.of(SIZE, 16, 8)
    chosen = np.zeros(every.grid, bool)
    chosen.flat[:windows] = True
    masks = torch.ones(1, len(CLASSES), *SIZE, dtype=torch.bool)
    score = ClassScores(Head("argmax", 4, 2), CLASSES, (0, 1, 2), "probability").within(masks)

    def bare() -> None:
        with torch.inference_mode():
            model(image[None])
            for first in range(0, windows, 8):
                model(image.expand(min(8, windows - first), *image.shape))

    def ours() -> None:
        occlude(lambda x: score(model(x)), image, torch.zeros_like(image), every, chosen=chosen)

    seconds = interleave({"bare forward passes": bare, "occlusion": ours}, runs=runs)
    show(f"{windows} windows of one slice, batches of 8, scores of 3 classes", seconds, base="bare forward passes")


def projections(model: nn.Module, image: Tensor, runs: int) -> None:
    (layer,) = probe(model, image.shape, [LATE]).layers
    one = image[None]

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(8):
                model(one)

    def ours() -> None:
        with reaching(model, layer, follow=False) as reach:
            project(lambda x: reach(x).values, one, strongest(min(5, layer.channels), "max"))

    seconds = interleave({"8 forward passes": bare, f"top {min(5, layer.channels)}": ours}, runs=runs)
    show(f"channels of {LATE} projected back, one slice", seconds, base="8 forward passes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--windows", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = torch.rand(1, *SIZE)
    occlusion(network(), image, options.windows, options.runs)
    projections(network(), image, options.runs)


if __name__ == "__main__":
    main()
