"""Back-projection against closed forms, explicit matrices and Captum."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from actstore.attribution.projection import project, strongest
from actstore.attribution.rules import Method, Norm
from actstore.attribution.saliency import saliency
from actstore.errors import ModelError

METHODS: tuple[Method, ...] = ("guided", "deconvnet")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def back(
    network: Callable[[Tensor], Tensor], inputs: Tensor, sent: Tensor, method: Method, norm: Norm = "frozen"
) -> Tensor:
    """``sent`` of one input's size, sent back from what the network returns."""
    maps, _ = saliency(network, inputs, lambda found: (found * sent).flatten(1).sum(1, keepdim=True), method, norm=norm)
    return maps[:, 0]


def matrix_of(linear: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The explicit matrix of a linear network: (output, input)."""
    size = int(torch.tensor(shape).prod())
    return linear(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1).T


class Linear(nn.Module):
    """Convolution, strided and transposed convolution, average pooling and a skip connection, all without bias."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        conv, transposed = (nn.Conv2d, nn.ConvTranspose2d) if dims == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        self.first = conv(2, 3, 3, padding=1, bias=False)
        self.down = conv(3, 4, 3, stride=2, padding=1, bias=False)
        self.up = transposed(4, 3, 2, stride=2, bias=False)
        self.pool = nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        pooled: Tensor = self.pool(torch.cat([first, self.up(self.down(first))], 1))
        return pooled


@pytest.mark.parametrize("dims", [2, 3])
def test_of_a_linear_network_it_is_the_transposed_matrix(dims: int) -> None:
    shape = (2, *[4] * dims)
    network = Linear(dims)
    sent = torch.randn(1, 6, *[2] * dims, generator=seeded(), dtype=torch.float64)
    inputs = torch.randn(1, *shape, generator=seeded(1), dtype=torch.float64)
    expected = (matrix_of(network, shape).T @ sent.flatten()).reshape(1, *shape)
    torch.testing.assert_close(back(network, inputs, sent, "gradient"), expected, rtol=0, atol=1e-12)


def test_one_relu_between_two_matrices() -> None:
    first = nn.Conv2d(1, 3, 3, padding=1, bias=False).double()
    second = nn.Conv2d(3, 2, 3, padding=1, bias=False).double()
    shape = (1, 5, 5)
    inputs = torch.randn(1, *shape, generator=seeded(), dtype=torch.float64)
    sent = torch.randn(1, 2, 5, 5, generator=seeded(1), dtype=torch.float64)
    found = back(lambda x: second(first(x).relu()), inputs, sent, "deconvnet")
    middle = functional.conv_transpose2d(sent, second.weight, padding=1).relu()
    assert torch.equal(found, functional.conv_transpose2d(middle, first.weight, padding=1))
    explicit = matrix_of(first, shape).T @ (matrix_of(second, (3, 5, 5)).T @ sent.flatten()).relu()
    torch.testing.assert_close(found.flatten(), explicit, rtol=0, atol=1e-12)


def test_pooling_puts_values_back_where_they_came_from() -> None:
    inputs = torch.randn(2, 3, 6, 6, generator=seeded())
    _, index = functional.max_pool2d(inputs, 2, return_indices=True)
    sent = torch.randn(2, 3, 3, 3, generator=seeded(1))
    found = back(lambda x: functional.max_pool2d(x, 2), inputs, sent, "gradient")
    assert torch.equal(found, functional.max_unpool2d(sent, index, [2, 2]))
    sent = torch.randint(-8, 9, (2, 3, 4, 4), generator=seeded(2)).float()
    found = back(lambda x: functional.max_pool2d(x, 3, stride=1), inputs, sent, "gradient")
    assert torch.equal(found.sum((2, 3)), sent.sum((2, 3))), "none is lost where windows overlap"


class Vgg(nn.Module):
    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 6), (6, 8), (8, 8)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=in_place), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(8 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.features(x).flatten(1))
        return found


class Functional(Vgg):
    """The same with functions, which Captum does not see."""

    def forward(self, x: Tensor) -> Tensor:
        for i in (0, 3, 6):
            x = functional.max_pool2d(functional.relu(self.features[i](x)), 2)
        found: Tensor = self.head(x.flatten(1))
        return found


def networks() -> dict[str, Callable[[], nn.Module]]:
    from monai.networks.nets.densenet import DenseNet121
    from monai.networks.nets.resnet import resnet18

    # Captum's hooks do not go with what works in place behind a sum: without that, the same numbers.
    return {
        "VGG": Vgg,
        "VGG in place": lambda: Vgg(in_place=True),
        "DenseNet121": lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=3),
        "resnet18": lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=3, shortcut_type="A"),
    }


@pytest.mark.parametrize(
    "name", ["VGG", "VGG in place", *(pytest.param(n, marks=pytest.mark.slow) for n in ("DenseNet121", "resnet18"))]
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU", "ignore:Input Tensor .* did not already require")
def test_equal_to_captum_to_the_last_bit(name: str, method: Method) -> None:
    torch.manual_seed(3)
    network = networks()[name]().eval()
    inputs = torch.randn(2, 1, 32, 32, generator=seeded())
    rival = (GuidedBackprop if method == "guided" else Deconvolution)(_apart(network))
    theirs = rival.attribute(inputs.clone(), target=1)
    ours, _ = saliency(network, inputs, lambda found: found[:, 1:2], method, norm="autograd")
    assert torch.equal(ours[:, 0], theirs)
    assert float(theirs.abs().max()) > 0


def _apart(network: nn.Module) -> nn.Module:
    """A copy in which each ReLU works on memory of its own, as Captum needs it."""
    other = copy.deepcopy(network)
    for module in other.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return other


@pytest.mark.parametrize("method", METHODS)
def test_functions_are_met_as_modules_are(method: Method) -> None:
    torch.manual_seed(4)
    modules = Vgg().eval()
    functions = Functional().eval()
    functions.load_state_dict(modules.state_dict())
    inputs = torch.randn(2, 1, 32, 32, generator=seeded())
    expected, _ = saliency(modules, inputs, lambda found: found[:, :1], method)
    found, _ = saliency(functions, inputs, lambda found: found[:, :1], method)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "relu",
    [
        torch.relu,
        functional.relu,
        Tensor.relu,
        lambda x: functional.relu(x, inplace=True),
        lambda x: torch.relu_(x),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp_(0),
        lambda x: torch.clamp_min(x, 0),
        lambda x: torch.clamp(x, min=torch.zeros(())),
        lambda x: torch.maximum(x, torch.zeros_like(x)),
        lambda x: torch.maximum(x, other=torch.zeros(())),
        lambda x: torch.maximum(torch.zeros_like(x), x),
        lambda x: torch.max(x, torch.zeros_like(x)),
        lambda x: x.clamp(0, math.inf),
        lambda x: functional.prelu(input=x, weight=torch.zeros(2)),
        lambda x: functional.threshold(x, 0, 0),
        lambda x: functional.leaky_relu(x, 0.0),
        lambda x: functional.prelu(x, torch.zeros(2)),
        nn.ReLU(inplace=True),
    ],
)  # fmt: skip
def test_every_way_to_write_a_relu(relu: Callable[[Tensor], Tensor], method: Method) -> None:
    conv = nn.Conv2d(1, 2, 3, padding=1)
    inputs = torch.randn(1, 1, 6, 6, generator=seeded())
    sent = torch.randn(1, 2, 6, 6, generator=seeded(1))
    found = back(lambda x: relu(conv(x)), inputs, sent, method)
    upstream = sent.clamp_min(0) * (1 if method == "deconvnet" else (conv(inputs) > 0))
    assert torch.equal(found, functional.conv_transpose2d(upstream, conv.weight, padding=1))


def test_slopes_below_zero() -> None:
    """Guided: the activation's own derivative, of what is positive upstream."""
    inputs = torch.tensor([[[[-1.0, 2.0], [-3.0, 4.0]], [[5.0, -6.0], [-7.0, 8.0]]]])
    sent = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]]]])
    weight = torch.tensor([0.25, -2.0])
    found = back(lambda x: functional.prelu(x, weight), inputs, sent, "guided")
    assert found.tolist() == [[[[0.25, 1.0], [0.0, 0.0]], [[1.0, -2.0], [0.0, 0.0]]]]
    found = back(lambda x: functional.leaky_relu(x, 0.5), inputs, sent, "guided")
    assert found.tolist() == [[[[0.5, 1.0], [0.0, 0.0]], [[1.0, 0.5], [0.0, 0.0]]]]
    found = back(lambda x: functional.leaky_relu(x, 0.5), inputs, sent, "deconvnet")
    assert torch.equal(found, sent.clamp_min(0))


NORMS: dict[str, nn.Module] = {
    "instance": nn.InstanceNorm2d(4, affine=True),
    "plain instance": nn.InstanceNorm2d(4),
    "group": nn.GroupNorm(2, 4),
    "layer": nn.LayerNorm([4, 5, 5]),
    "batch": nn.BatchNorm2d(4, track_running_stats=False),
    "rms": nn.RMSNorm([4, 5, 5], eps=1e-5),
}


@pytest.mark.parametrize("norm", NORMS)
def test_a_frozen_norm_is_affine(norm: str) -> None:
    """As if its mean and spread were numbers: their slope is that of a small step, all else held."""
    module = copy.deepcopy(NORMS[norm]).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=seeded(7)) + 0.5)
    inputs = torch.randn(3, 4, 5, 5, generator=seeded(), dtype=torch.float64)
    sent = torch.randn(3, 4, 5, 5, generator=seeded(1), dtype=torch.float64)
    dims = {"group": None, "layer": (1, 2, 3), "batch": (0, 2, 3)}.get(norm, (2, 3))
    if dims is None:
        parts = inputs.reshape(3, 2, -1)
        spread = parts.var(2, correction=0, keepdim=True).expand_as(parts).reshape_as(inputs)
    else:
        spread = inputs.var(dims, correction=0, keepdim=True)
    if norm == "rms":
        spread = inputs.square().mean((1, 2, 3), keepdim=True)
    weight = dict(module.named_parameters()).get("weight", torch.ones(4, dtype=torch.float64))
    scale = (weight if norm in ("layer", "rms") else weight.reshape(4, 1, 1)) / (spread + 1e-5).sqrt()
    found = back(module, inputs, sent, "gradient", "frozen")
    torch.testing.assert_close(found, sent * scale, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, back(module, inputs, sent, "gradient", "autograd"))


def test_a_batch_norm_with_running_statistics_is_affine_anyway() -> None:
    module = nn.BatchNorm2d(3).eval()
    inputs, sent = torch.randn(2, 2, 3, 4, 4, generator=seeded()).unbind()
    assert torch.equal(back(module, inputs, sent, "gradient"), back(module, inputs, sent, "gradient", "autograd"))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x).relu() * torch.sigmoid(self.gate(x))
        return found


def test_gates_are_held_constant() -> None:
    network = Gated()
    inputs = torch.randn(1, 1, 5, 5, generator=seeded())
    sent = torch.rand(1, 2, 5, 5, generator=seeded(1))
    found = back(network, inputs, sent, "deconvnet")
    gate = torch.sigmoid(network.gate(inputs)).detach()
    assert torch.equal(found, functional.conv_transpose2d((sent * gate).relu(), network.conv.weight, padding=1))


@pytest.mark.parametrize(
    ("activation", "name"),
    [(nn.ELU(), "elu"), (nn.SiLU(), "silu"), (nn.GELU(), "gelu"), (torch.tanh, "tanh"), (nn.ReLU6(), "relu6")],
)
@pytest.mark.parametrize("method", METHODS)
def test_activations_that_bend_are_refused(activation: Any, name: str, method: Method) -> None:
    inputs = torch.randn(1, 1, 4, 4, generator=seeded())
    with pytest.raises(ModelError, match=rf"the network uses (hardtanh|{name}), and '{method}' is for ReLU"):
        back(lambda x: activation(2 * x), inputs, inputs, method)
    back(lambda x: activation(2 * x), inputs, inputs, "gradient")


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_attention_in_one_function_is_refused(method: Method) -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    inputs = torch.randn(1, 6, 4, generator=seeded())
    with pytest.raises(ModelError, match="whose softmax '" + method + "' cannot hold constant: use method ="):
        back(lambda x: attention(x, x, x)[0].relu(), inputs, torch.ones(1, 6, 4), method)
    with pytest.raises(ModelError, match="scaled_dot_product_attention"):
        back(lambda x: functional.scaled_dot_product_attention(x, x, x), inputs, torch.ones(1, 6, 4), method)


def test_a_reduction_by_its_largest_is_no_relu() -> None:
    inputs = torch.randn(1, 1, 6, 6, generator=seeded())
    sent = torch.randn(1, 1, 6, generator=seeded(1))
    found = back(lambda x: torch.max(x, 2).values.relu(), inputs, sent, "guided")
    assert found.shape == inputs.shape
    assert int((found != 0).sum()) <= 6


def test_methods_and_norms_that_are_not_known_are_refused() -> None:
    inputs = torch.randn(1, 1, 4, 4)
    with pytest.raises(ValueError, match="method = 'gradcam': give 'gradient', 'guided', 'deconvnet'"):
        back(torch.relu, inputs, inputs, "gradcam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm = 'froze': give 'frozen', 'autograd'"):
        back(torch.relu, inputs, inputs, "guided", "froze")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_a_rule_that_is_met_nowhere_is_an_error(method: Method) -> None:
    inputs = torch.randn(1, 1, 4, 4, generator=seeded())
    with pytest.raises(ModelError, match=f"'{method}' met no ReLU, leaky ReLU or PReLU between"):
        back(lambda x: 2 * x + x.detach().relu(), inputs, inputs, method)


def test_a_network_that_ends_in_a_softmax_says_so() -> None:
    inputs = torch.randn(1, 2, 4, 4, generator=seeded())
    with pytest.raises(ModelError, match=r"passes no gradient to its input.*ends in a sigmoid or softmax"):
        back(lambda x: x.relu().softmax(1), inputs, inputs, "guided")


class TestChannels:
    """The strongest channels of a layer."""

    def reach(self, x: Tensor) -> Tensor:
        return torch.cat([x, 3 * x, -x], 1).relu()

    inputs = torch.tensor([[[[1.0, 2.0], [0.0, -5.0]]], [[[0.5, 0.0], [0.25, 0.0]]]])

    def test_a_peak_alone(self) -> None:
        found = project(self.reach, self.inputs, strongest(2, "max"))
        assert found.peaks.tolist() == [[6.0, 5.0], [1.5, 0.5]]
        assert found.places.tolist() == [[[0, 1], [1, 1]], [[0, 0], [0, 0]]]
        assert found.maps[0, 0, 0].tolist() == [[0.0, 18.0], [0.0, 0.0]]
        assert found.maps[0, 1, 0].tolist() == [[0.0, 0.0], [0.0, -5.0]]
        assert found.maps.shape == (2, 2, 1, 2, 2)

    def test_a_whole_map(self) -> None:
        found = project(self.reach, self.inputs, strongest(1, "mean"), start="map")
        assert found.maps[1, 0, 0].tolist() == [[4.5, 0.0], [2.25, 0.0]]

    def test_a_layer_without_maps(self) -> None:
        with pytest.raises(ModelError, match=r"returns \(3,\) for an input of \(1, 2, 2\): only channels with maps"):
            project(lambda x: self.reach(x).mean((2, 3)), self.inputs, strongest(1, "max"))


def test_a_layer_that_does_not_depend_on_the_input_is_named() -> None:
    own = nn.Parameter(torch.rand(1, 3, 8, 8))
    with pytest.raises(ModelError, match="the layer passes no gradient to the input, on which its maps do not depend"):
        project(lambda seen: own.relu(), torch.rand(1, 1, 8, 8), strongest(1, "max"))
