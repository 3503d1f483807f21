"""Very small networks for test specs: ``networks:tiny_unet``, and others that each have one fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TinyUNet(nn.Module):
    """(batch, input, y, x) to (batch, class, y, x), by two recorded normalisations at full and half size."""

    def __init__(self, classes: int = 4, width: int = 2, inputs: int = 1) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1), nn.InstanceNorm2d(width), nn.ReLU(inplace=True)
        )
        self.bottom = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width))
        self.up = nn.ConvTranspose2d(2 * width, classes, 2, stride=2)
        self.unused = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.bottom(self.down(x)))
        return result


class Planted(nn.Module):
    """Predicts LV where the input is bright, by channel 1 of four alone; the others lead nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 1)
        self.head = nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([0.5, 1.0, -1.0, 2.0]).reshape(4, 1, 1, 1))
            self.layer.bias.copy_(torch.tensor([0.1, 0.0, 0.3, -0.2]))  # type: ignore[union-attr]
            self.head.weight.zero_()
            self.head.weight[3, 1] = 1.0
            self.head.bias.copy_(torch.tensor([0.3, -1.0, -1.0, 0.0]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.layer(x))
        return result


def _seeded(network: type[nn.Module], seed: int, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(**arguments)


def tiny_unet(seed: int = 0, classes: int = 4, width: int = 2, inputs: int = 1) -> nn.Module:
    """The same random weights for the same ``seed``."""
    return _seeded(TinyUNet, seed, classes=classes, width=width, inputs=inputs)


def softmax_unet() -> nn.Module:
    """Returns probabilities."""
    network = tiny_unet()
    network.register_forward_hook(lambda _module, _arguments, output: output.softmax(1))
    return network


def unseeded() -> nn.Module:
    """Other random weights at every call."""
    return TinyUNet()


def loud(gain: float = 1e6) -> nn.Module:
    """Its second recorded layer exceeds the range of float16."""
    network = tiny_unet()
    norm = network.get_submodule("bottom.1")
    norm.register_forward_hook(lambda _module, _arguments, output: output * gain)
    return network


def broken() -> nn.Module:
    raise LookupError("no such backbone,\nchoose another")


def no_module() -> dict[str, int]:
    return {"layers": 3}


class OddError(Exception):
    """An error of an unexpected class."""


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        raise OddError("not today")


def odd() -> nn.Module:
    return _Odd()


class _Pair(TinyUNet):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def pair() -> nn.Module:
    return _seeded(_Pair, 0)


class _NotANumber(TinyUNet):
    """Divides by the spread of its input: NaN where a slice is constant."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(x) * float("nan") if x.any() else super().forward(x)
        return result


def not_a_number() -> nn.Module:
    return _seeded(_NotANumber, 0)


class _Moody(TinyUNet):
    """Runs different modules on images than on zeros."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.bottom(self.down(x) if not x.any() else self.down[0](x)))
        return result


def moody() -> nn.Module:
    return _seeded(_Moody, 0)


def unchanged(image: Any, mask: Any, **_: Any) -> Any:
    """A transform that changes nothing."""
    return image


def large_only(image: Any, mask: Any, *, strength: float, **_: Any) -> Any:
    """A transform that darkens masks of more than ``strength`` pixels, and changes no others."""
    return image * (1 - 0.9 * mask) if mask.sum() > strength else image


def outside(image: Any, mask: Any, **_: Any) -> Any:
    """A transform that changes pixels outside the mask."""
    return image + 1


class _Dead(TinyUNet):
    """One of its recorded layers is 0 everywhere, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU())
        nn.init.zeros_(self.dead[0].weight)
        nn.init.constant_(self.dead[0].bias, -1.0)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.bottom(self.down(x + self.dead(x).sum(1, keepdim=True))))
        return result


def dead() -> nn.Module:
    return _seeded(_Dead, 0)


class _NotANumberInside(TinyUNet):
    """Its last recorded layer is NaN on images with anything in them, its output never."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.bottom(self.down(x) * (float("nan") if x.any() else 1)).nan_to_num())
        return result


def not_a_number_inside() -> nn.Module:
    return _seeded(_NotANumberInside, 0)


class Volumes(nn.Module):
    """(batch, 1, z, y, x) to (batch, class, z, y, x); the second recorded layer has half of the slices and rows."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.InstanceNorm3d(1)
            self.down = nn.Sequential(nn.Conv3d(1, 2, 3, stride=2, padding=1), nn.InstanceNorm3d(2))
            self.up = nn.ConvTranspose3d(2, 4, 2, stride=2)

    def forward(self, x: Any) -> Any:
        return self.up(self.down(self.first(x)))


class Wide(nn.Module):
    """(batch, 1, y, x) to (batch, class, y, x), with layers of 4 and of 512 channels at a sixteenth of the size."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.few = nn.Sequential(nn.Conv2d(1, 4, 16, stride=16), nn.InstanceNorm2d(4))
            self.many = nn.Sequential(nn.Conv2d(4, 512, 1), nn.InstanceNorm2d(512))
            self.up = nn.ConvTranspose2d(512, 4, 16, stride=16)

    def forward(self, x: Any) -> Any:
        return self.up(self.many(self.few(x)))


class Unpadded(nn.Module):
    """(batch, 1, y, x) to (batch, class, y, x); its two recorded layers lack one and two pixels at each border."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3))
        self.second = nn.Sequential(nn.Conv2d(3, 3, 3), nn.InstanceNorm2d(3))
        self.up = nn.ConvTranspose2d(3, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.second(self.first(x)))
        return result


def unpadded() -> nn.Module:
    return _seeded(Unpadded, 0)


class _Regional(TinyUNet):
    """One sigmoid for each of three regions, by deep supervision: in full and in half size."""

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return [logits, nn.functional.avg_pool2d(logits, 2)]


def regional() -> nn.Module:
    return _seeded(_Regional, 0, classes=3)


class _OneSigmoid(TinyUNet):
    """One sigmoid, beside the image, in a dict."""

    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x), "image": x}


def one_sigmoid() -> nn.Module:
    return _seeded(_OneSigmoid, 0, classes=1)


class _Blind(TinyUNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(x))


def blind() -> nn.Module:
    """Its layers do not depend on the input."""
    return _seeded(_Blind, 0)
