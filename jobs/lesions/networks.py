"""The paper's network: five convolutions and a linear head."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

FILTERS = (8, 16, 32, 64, 64)
#: Kernel and stride of the max-pooling behind a convolution, by its number.
POOLING = {1: (3, 1), 2: (3, 2), 5: (4, 2)}
#: The layers whose channels are maximised: what the convolutions return, before the ReLU.
LAYERS = tuple(f"conv{i}" for i in range(1, len(FILTERS) + 1))


class Largest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).amax(2)


def vgg_2d() -> nn.Sequential:
    """For slices: (sample, 1, y, x) to two logits."""
    network = _vgg(2)
    # Convolutions of 8 to 64 channels take half the time with channels last.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def vgg_3d() -> nn.Sequential:
    """For volumes: (sample, 1, z, y, x) to two logits."""
    return _vgg(3)


def _vgg(dims: int) -> nn.Sequential:
    """3 × 3 (× 3) convolutions with ReLU, max-pooling, and one linear layer of the largest value of each map.

    How the head takes in a map is our choice: with the maximum over all positions it answers alike wherever a lesion
    lies, and the network takes images of any size.
    """
    convolution, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    before = 1
    for i, filters in enumerate(FILTERS, 1):
        made = convolution(before, filters, 3, padding=1)
        nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
        assert made.bias is not None
        nn.init.zeros_(made.bias)
        parts[f"conv{i}"] = made
        parts[f"relu{i}"] = nn.ReLU()
        if i in POOLING:
            parts[f"pool{i}"] = pool(*POOLING[i])
        before = filters
    parts["largest"] = Largest()
    parts["head"] = nn.Linear(before, 2)
    return nn.Sequential(parts)
