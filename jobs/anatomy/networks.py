"""The networks, as specs name them: of grey images of 64 x 64."""

from __future__ import annotations

from torch import nn

#: Side of the images in pixels.
SIDE = 64


def shallow(classes: int = 6) -> nn.Sequential:
    """One convolution, its maxima, one linear map."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * 8 * 8, classes)
    )


def deeper(classes: int = 6) -> nn.Sequential:
    """Four convolutions with maxima, and two linear maps."""
    layers: list[nn.Module] = []
    channels = 1
    for width in (16, 32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    layers += [nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, classes)]
    return nn.Sequential(*layers)
