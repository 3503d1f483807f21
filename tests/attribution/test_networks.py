"""Back-projection through networks in use: adjoint, unlike the plain gradient, and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from actstore.attribution.norms import _scale
from actstore.attribution.rules import Method, ruled
from actstore.attribution.saliency import saliency
from actstore.errors import ModelError
from actstore.models import unet_heart_8_4_4

SMALL: dict[str, Any] = {"in_channels": 2, "out_channels": 3}


def dynunet(dims: int) -> nn.Module:
    kernels: dict[str, Any] = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    return DynUNet(dims, **SMALL, **kernels, filters=[4, 8, 8], res_block=True)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "UNet": lambda dims: UNet(dims, **SMALL, channels=(4, 8, 8), strides=(2, 2), num_res_units=2),
    "BasicUNet": lambda dims: BasicUNet(dims, **SMALL, features=(4, 4, 8, 8, 8, 4)),
    "AttentionUnet": lambda dims: AttentionUnet(dims, **SMALL, channels=(4, 8, 8), strides=(2, 2)),
    "DynUNet": dynunet,
    "SegResNet": lambda dims: SegResNet(dims, init_filters=8, **SMALL),
}


def made(name: str, dims: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return NETWORKS[name](dims).eval()


def inputs_of(name: str, dims: int) -> Tensor:
    size = 32 if dims == 2 or name == "BasicUNet" else 16
    return torch.randn(1, 2, *[size] * dims, generator=torch.Generator().manual_seed(1))


def first_class(logits: Tensor) -> Tensor:
    return logits[:, 1].flatten(1).mean(1, keepdim=True)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_way_back_is_another_and_the_way_there_is_not(name: str, dims: int) -> None:
    network, inputs = made(name, dims), inputs_of(name, dims)
    plain, scores = saliency(network, inputs, first_class, "gradient")
    with torch.inference_mode():
        expected = network(inputs)
    found = {}
    methods: tuple[Method, ...] = ("guided", "deconvnet")
    for method in methods:
        with ruled(method, "frozen"), torch.inference_mode():
            assert torch.equal(network(inputs), expected), "forward outputs keep every bit"
        found[method], own = saliency(network, inputs, first_class, method)
        assert torch.equal(own, scores)
        assert not torch.allclose(found[method], plain)
        assert float(found[method].abs().max()) > 0
        again, _ = saliency(network, inputs, first_class, method)
        assert torch.equal(again, found[method]), "nothing is added up"
    assert not torch.allclose(found["guided"], found["deconvnet"])
    with torch.inference_mode():
        assert torch.equal(network(inputs), expected)


class Failing(nn.Module):
    """Fails at the second of three layers, or on the way back."""

    def __init__(self, back: bool) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(1, 1, 1), back

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        if not self.back:
            raise ArithmeticError("on the way there")
        x.register_hook(self.fail)  # type: ignore[no-untyped-call]
        return x

    @staticmethod
    def fail(_: Tensor) -> None:
        raise ArithmeticError("on the way back")


@pytest.mark.parametrize("back", [False, True])
def test_nothing_is_left_behind_after_an_error(back: bool) -> None:
    network, inputs = Failing(back), torch.randn(1, 1, 4, 4)
    with pytest.raises(ArithmeticError, match="on the way"):
        saliency(network, inputs, lambda found: found.flatten(1).sum(1, keepdim=True), "guided")
    assert _get_current_function_mode_stack() == []  # type: ignore[no-untyped-call]
    assert not inputs.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


def test_weights_get_no_gradient() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).requires_grad_()
    saliency(network, torch.randn(1, 1, 6, 6), lambda found: found.flatten(1).sum(1, keepdim=True), "guided")
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


class Recorded(TorchFunctionMode):
    """Notes the slope of each activation and the scale of each norm of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.prelu:
            given, weight = args
            self.factors.append(torch.where(given > 0, 1.0, weight.reshape(-1, 1, 1)))
        elif (scale := _scale(func, args, kwargs)) is not None:
            self.factors.append(scale)
        return func(*args, **kwargs)


class Linearised(TorchFunctionMode):
    """The linear map that a network is about an input: no biases, activations and norms as factors."""

    def __init__(self, factors: list[Tensor]) -> None:
        super().__init__()
        self.factors = iter(factors)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.prelu or func is functional.instance_norm:
            return args[0] * next(self.factors)
        if func in (torch.conv2d, functional.conv2d, torch.conv_transpose2d, functional.conv_transpose2d):
            given, weight, _, *rest = args
            return func(given, weight, None, *rest, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def test_it_is_the_adjoint_on_a_network_in_use() -> None:
    """⟨Jv, s⟩ = ⟨v, Jᵀs⟩: with the slopes and scales of a pass, the way there and the way back are of one matrix."""
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(6)
    network = unet_heart_8_4_4().double().eval()
    inputs = torch.rand(1, 1, 32, 32, generator=generator, dtype=torch.float64)
    with torch.no_grad(), Recorded() as recorded:
        network(inputs)
    assert len(recorded.factors) == 42, "21 norms and 21 activations"
    direction = torch.randn(1, 1, 32, 32, generator=generator, dtype=torch.float64)
    sent = torch.randn(1, 4, 32, 32, generator=generator, dtype=torch.float64)
    with torch.no_grad(), Linearised(recorded.factors):
        forward = network(direction)
    maps, _ = saliency(network, inputs, lambda found: (found * sent).flatten(1).sum(1, keepdim=True))
    there, back = float((forward * sent).sum()), float((direction * maps[:, 0]).sum())
    assert abs(there - back) <= 1e-12 * max(abs(there), float((forward * sent).abs().sum()))
    assert abs(there) > 1e-3


def test_what_bends_is_refused_by_its_name() -> None:
    with pytest.raises(ModelError, match="the network uses gelu"):
        saliency(nn.Sequential(nn.Conv2d(1, 1, 1), nn.GELU()), torch.randn(1, 1, 4, 4), lambda x: x, "guided")
