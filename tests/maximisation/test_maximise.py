"""What is maximised is reached where it is known, and what cannot be is refused or flagged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from actstore.errors import ModelError, SpecError
from actstore.maximisation.ascent import Canvas, Optima, ascend
from actstore.maximisation.maximise import maximise
from actstore.maximisation.parameterizations import mean_magnitude, parameterization_of
from actstore.maximisation.target import reaching
from actstore.maximisation.targets import find_targets
from actstore.networks.heads import Head
from actstore.networks.recording import probe
from actstore.spec.visualise import Visualise

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def network(*modules: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose weights are drawn with ``seed``."""
    model = nn.Sequential(*modules).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(False)
    return model


def optima(model: nn.Module, layer: str, size: tuple[int, ...], /, *, channels: int = 1, **settings: Any) -> Optima:
    chosen = Visualise.model_validate({"layers": [layer], "steps": 64, "batch_size": 4, **settings})
    return maximise(model, chosen, channels=channels, size=size)[layer]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


PIXELS = {"objective": "neuron", "parameterization": "pixel"}
PENALTY = {"range": "free", "steps": 300, "regularize": [{"kind": "l2"}]}
BALL = {"range": "free", "optimizer": "sgd", "ball": 1.0, "learning_rate": 1.0}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("settings", [PENALTY, BALL], ids=["penalty", "ball"])
def test_of_a_convolution_the_optimum_is_its_filter(dims: int, settings: dict[str, Any]) -> None:
    """Under an L2 constraint, by Cauchy and Schwarz."""
    model = network(CONVOLUTION[dims](2, 5, 3))
    found = optima(model, "0", (3,) * dims, channels=2, **PIXELS, **settings)
    assert cosine(found.image, model[0].weight.numpy()).min() > 0.9999


@pytest.mark.parametrize("dims", [2, 3])
def test_of_a_convolution_in_a_box_the_optimum_is_known(dims: int) -> None:
    """Intensities of 1 where the filter is positive, 0 elsewhere."""
    model = network(CONVOLUTION[dims](1, 5, 5))
    found = optima(model, "0", (5,) * dims, **PIXELS)
    weight, bias = model[0].weight.numpy().reshape(5, -1), model[0].bias.numpy()
    best = np.maximum(weight, 0).sum(1) + bias
    np.testing.assert_allclose(found.final, best, rtol=1e-3)
    assert found.image.min() >= 0
    assert found.image.max() <= 1


@pytest.mark.parametrize("parameterization", ["pixel", "fourier"])
def test_a_wide_range_is_crossed_in_as_many_steps(parameterization: str) -> None:
    """Of a linear channel, whatever intensities are counted in."""
    model = network(nn.Conv2d(1, 3, 3, padding=1, bias=False))
    one, many = (
        optima(model, "0", (8, 8), parameterization=parameterization, range=[0.0, high]) for high in (1.0, 4000.0)
    )
    np.testing.assert_allclose(many.image / 4000, one.image, atol=5e-3)


def test_a_random_transform_of_the_image_does_not_spoil_the_last_one() -> None:
    model = network(nn.Conv2d(1, 3, 3, padding=1, bias=False))
    dark = [{"kind": "brightness", "range": [0.0, 0.0], "apply": "image", "every": 8}]
    found, without = (optima(model, "0", (8, 8), **PIXELS, steps=8, regularize=r) for r in (dark, []))
    np.testing.assert_array_equal(found.image, without.image)
    assert optima(model, "0", (8, 8), **PIXELS, steps=9, regularize=dark).image.max() < 0.1


def test_planted_filters_are_recovered_and_not_one_anothers() -> None:
    lines = torch.arange(7) - 3.0
    y, x = torch.meshgrid(lines, lines, indexing="ij")
    angles = [torch.cos(1.5 * (x * math.cos(a) + y * math.sin(a))) for a in (0, 0.8, 1.6, 2.4)]
    filters = torch.stack(angles) * torch.exp(-(x**2 + y**2) / 8)
    filters = filters - filters.mean((1, 2), keepdim=True)
    model = network(nn.Conv2d(1, 4, 7, bias=False))
    model[0].weight.data = filters[:, None]
    for settings, least in (({"objective": "neuron", "range": [-1.0, 1.0]}, 0.6), (PIXELS | PENALTY, 0.99)):
        found = optima(model, "0", (7, 7), **{"steps": 128, **settings})
        flat = found.image.reshape(4, -1)
        alike = np.corrcoef(np.concatenate([flat, filters.reshape(4, -1).numpy()]))[:4, 4:]
        own = np.eye(4, dtype=bool)
        assert (alike[own] > least).all(), alike
        assert (np.abs(alike[~own]) < 0.4).all(), alike


@pytest.mark.parametrize("dims", [2, 3])
def test_the_mean_behind_an_instance_norm_is_refused(dims: int) -> None:
    model = network(CONVOLUTION[dims](1, 4, 3, padding=1), NORM[dims](4), nn.LeakyReLU(0.01))
    with pytest.raises(ModelError) as caught:
        optima(model, "1", (8,) * dims)
    assert "the mean of layer '1' is " in str(caught.value)
    assert "for every image, as behind a norm that gives each map the same mean" in str(caught.value)
    assert str(caught.value).endswith('Visualise 0 before it or 2 after it or the objective "neuron"')
    for other in ("0", "2"):
        assert (optima(model, other, (8,) * dims, steps=8).status == 0).all()


def test_one_position_behind_an_instance_norm_is_bounded() -> None:
    """By the square root of n - 1, of n positions: it grows with the size of the image."""
    model = network(nn.Conv2d(1, 3, 3, padding=1), nn.InstanceNorm2d(3))
    for size in (8, 16):
        found = optima(model, "1", (size, size), **PIXELS, steps=200)
        assert (found.status == 3).all()
        assert (found.final < math.sqrt(size**2 - 1)).all()
        assert (found.final > 0.5 * math.sqrt(size**2 - 1)).all()
    behind = network(nn.Conv2d(1, 3, 3, padding=1), nn.InstanceNorm2d(3), nn.PReLU())
    assert (optima(behind, "2", (8, 8), **PIXELS, steps=2).status == 3).all()
    for norm in (nn.GroupNorm(4, 4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 8])):
        group = network(nn.Conv2d(1, 4, 3, padding=1), norm)
        assert (optima(group, "1", (8, 8), **PIXELS, steps=2).status == 3).all()
    fixed = network(nn.Conv2d(1, 3, 3, padding=1), nn.InstanceNorm2d(3, track_running_stats=True))
    assert (optima(fixed, "1", (8, 8), **PIXELS, steps=2).status == 0).all()


class Functional(nn.Module):
    """As nn.ReLU, by a function."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu_(x) if self.in_place else x.relu()


RELUS = {
    "module": nn.ReLU(),
    "up to 6": nn.ReLU6(),
    "up to 6 in place": nn.ReLU6(inplace=True),
    "in place": nn.ReLU(inplace=True),
    "method": Functional(False),
    "function in place": Functional(True),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
@pytest.mark.parametrize("objective", ["mean", "neuron"])
def test_a_dead_start_behind_a_relu_is_climbed_from_below(relu: nn.Module, objective: str) -> None:
    """A bias keeps every unit off at the start: without the map before the ReLU there is no gradient at all."""
    model = network(nn.Conv2d(1, 4, 3, padding=1), relu)
    model[0].bias.data = -1 - model[0].weight.sum((1, 2, 3)) / 2
    found = optima(model, "1", (8, 8), objective=objective, parameterization="pixel", steps=100)
    assert (found.start == 0).all()
    before = optima(model, "0", (8, 8), objective="neuron", parameterization="pixel", steps=100)
    reachable = before.final > 0
    assert reachable.any()
    assert (found.status[reachable] == 0).all()
    assert (found.final[reachable] > 0).all()


def test_a_channel_that_no_image_turns_on_is_dead() -> None:
    model = network(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
    model[0].bias.data = torch.tensor([-100.0, 0.0])
    found = optima(model, "1", (8, 8), parameterization="pixel")
    assert found.status.tolist() == [1, 0]
    assert found.final[0] == 0


class Hollow(nn.Module):
    """A map that is never on at its centre."""

    def forward(self, x: Tensor) -> Tensor:
        off = torch.zeros_like(x)
        off[:, :, 4, 4] = -100
        return functional.relu(x + off)


def test_a_position_that_no_image_turns_on_is_dead_whatever_the_rest_of_the_map() -> None:
    found = optima(network(Hollow()), "0", (8, 8), objective="neuron", steps=4)
    assert (found.status.tolist(), found.final.tolist()) == ([1], [0])


def test_a_channel_that_is_the_same_for_every_image_is_constant() -> None:
    model = network(nn.Conv2d(1, 2, 3, padding=1))
    model[0].weight.data[0] = 0
    assert optima(model, "0", (8, 8), steps=4).status.tolist() == [2, 0]


def test_the_rest_of_the_network_is_not_run() -> None:
    class Counting(nn.Module):
        runs = 0

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            return x

    last = Counting()
    model = network(nn.Conv2d(1, 2, 3), last)
    optima(model, "0", (8, 8), steps=16)
    assert last.runs <= 2, "only while the network is looked at"
    assert not model[0]._forward_hooks


def test_images_do_not_depend_on_the_rest_of_their_batch() -> None:
    """Nor on which channels are maximised: to rounding, since convolutions of other batches sum otherwise."""
    model = network(nn.Conv2d(1, 6, 3, padding=1), nn.PReLU())
    settings = {"steps": 16, "repeats": 2, "regularize": [{"kind": "rotate"}]}
    every = optima(model, "1", (12, 12), **settings)
    some = optima(model, "1", (12, 12), channels=1, **settings | {"batch_size": 3})
    np.testing.assert_allclose(every.image, some.image, atol=1e-3)
    again = optima(model, "1", (12, 12), **settings)
    np.testing.assert_array_equal(every.image, again.image)
    images = every.image.reshape(6, 2, -1)
    assert (np.abs(images[:, 0] - images[:, 1]).max(1) > 1e-3).all(), "other seeds, other images"


def test_diversity_pushes_images_of_a_channel_apart() -> None:
    model = network(nn.Conv2d(1, 4, 5, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 5, bias=False))

    def alike(diversity: float) -> float:
        found = optima(model, "2", (16, 16), repeats=3, diversity=diversity, steps=64)
        with torch.no_grad():
            maps = model(torch.from_numpy(found.image)).flatten(2)
        gram = functional.normalize((maps @ maps.transpose(1, 2)).flatten(1), dim=1).reshape(3, 3, -1)
        pairs = torch.einsum("cad,cbd->cab", gram, gram)
        return float(pairs[:, ~torch.eye(3, dtype=torch.bool)].mean())

    assert alike(1.0) < alike(0.0) - 0.02


def test_diversity_does_not_count_copies_that_fill_up_a_batch() -> None:
    """The last of three channels, by itself and in a batch of eight, which has five more copies of it."""
    model = network(nn.Conv2d(1, 4, 5, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 5, bias=False))
    settings = {"repeats": 2, "diversity": 5.0, "steps": 8, "optimizer": "sgd", "learning_rate": 1.0}
    alone, padded = (optima(model, "2", (12, 12), **settings, batch_size=size) for size in (1, 8))
    np.testing.assert_allclose(padded.image, alone.image, atol=1e-4)


@pytest.mark.parametrize(
    "module",
    [nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3).train(), nn.Dropout(0.5).train()],
    ids=["batch norm without statistics", "batch norm in training", "dropout that stays on"],
)
def test_maps_that_depend_on_the_batch_or_on_chance_are_refused(module: nn.Module) -> None:
    training = module.training
    model = network(nn.Conv2d(1, 3, 3), module, nn.ReLU())
    module.train(training)
    with pytest.raises(ModelError, match=r"maps of layer '2' change by up to .* with the other images of a batch"):
        optima(model, "2", (12, 12), steps=1)


def test_a_direction_is_a_weighted_sum_of_channels() -> None:
    model = network(nn.Conv2d(1, 3, 3, bias=False))
    weights = [[1.0, -1.0, 0.0], [0.0, 0.5, 2.0]]
    found = optima(model, "0", (3, 3), parameterization="pixel", objective="direction", directions=weights)
    combined = np.tensordot(np.asarray(weights), model[0].weight.numpy(), 1).reshape(2, -1)
    np.testing.assert_allclose(found.final, np.maximum(combined, 0).sum(1), rtol=1e-3)
    with pytest.raises(SpecError, match=r"visualise.directions\[0\] has 2 weights, layer '0' has 3"):
        optima(model, "0", (3, 3), objective="direction", directions=[[1.0, 2.0]])


@pytest.mark.parametrize("size", [(9, 12), (6, 9, 8)])
@pytest.mark.parametrize("kind", ["pixel", "fourier", "maco"])
def test_images_can_be_set(kind: str, size: tuple[int, ...]) -> None:
    """As a transform of the image itself does: `assign` then `images` gives the image back."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0.2, 0.8, (2, 2, *size)).astype(np.float32)
    magnitude = np.abs(np.fft.rfftn(images[:1], axes=range(-len(size), 0)))[0].astype(np.float32)
    settings = Visualise.model_validate({"parameterization": kind})
    made = parameterization_of(settings, [1, 2], 2, size, (0.0, 1.0), magnitude, torch.device("cpu"))
    assert made.images().shape == images.shape
    assert float(made.images().detach().min()) >= 0
    assert float(made.images().detach().max()) <= 1
    made.assign(torch.from_numpy(images))
    # Another image's phase does not have this magnitude.
    rows = 1 if kind == "maco" else 2
    np.testing.assert_allclose(made.images().detach().numpy()[:rows], images[:rows], atol=2e-5)


def test_maco_keeps_the_magnitude_of_natural_inputs() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-0.7, -0.3, (5, 1, 16, 16)).astype(np.float32)
    magnitude = mean_magnitude(inputs, 2)
    model = network(nn.Conv2d(1, 2, 5))
    settings = Visualise.model_validate({"layers": ["0"], "parameterization": "maco", "steps": 20, "range": "free"})
    (layer,) = probe(model, (1, 16, 16), ["0"]).layers
    with reaching(model, layer) as reach:
        canvas = Canvas(1, (16, 16), None, magnitude)
        found = ascend(reach, "0", [0, 1], [0, 0], settings, canvas, torch.device("cpu"))
    assert (found.final > found.start).all()
    np.testing.assert_allclose(found.image.mean((1, 2, 3)), inputs.mean(), rtol=1e-3)
    # A real image has real spectra on the edges, whatever their phase.
    inside = (..., slice(1, None), slice(1, -1))
    spectrum = np.abs(np.fft.rfft2(found.image))
    np.testing.assert_allclose(spectrum[inside], np.broadcast_to(magnitude, spectrum.shape)[inside], rtol=1e-3)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach() * 2


def test_bad_input_gets_one_line() -> None:
    model = network(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 36, 2))
    with pytest.raises(ModelError, match=r"visualise.size = \[10, 10\]: the network refuses images of \(1, 10, 10\)"):
        optima(model, "0", (8, 8), size=[10, 10])
    with pytest.raises(SpecError, match=r"visualise.channels: '0' has no channel 3, only 0 to 2"):
        maximise(model, Visualise(layers=("0",), channels=(0, 3)), size=(8, 8))
    with pytest.raises(ModelError, match="pattern 'x' matches no module"):
        optima(model, "x", (8, 8))
    with pytest.raises(SpecError, match='objective = "class" needs `head`'):
        maximise(model, Visualise(objective="class"), size=(8, 8))
    with pytest.raises(SpecError, match='"maco" takes its magnitude from the inputs of a run'):
        optima(model, "0", (8, 8), parameterization="maco")
    with pytest.raises(SpecError, match="size is missing"):
        maximise(model, Visualise(layers=("0",)))
    with pytest.raises(SpecError, match="give the lower intensity first"):
        maximise(model, Visualise(layers=("0",)), size=(8, 8), bounds=(1.0, 0.0))
    logits = Head("argmax", 3, 2)
    normed = network(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3))
    with pytest.raises(ModelError, match="the mean logit of every class is the same for every image"):
        maximise(normed, Visualise(objective="class"), size=(8, 8), head=logits)
    with pytest.raises(ModelError, match="layer '1' passes no gradient to its input"):
        optima(network(nn.Conv2d(1, 3, 3), Detached()), "1", (8, 8), steps=1)
    square = network(nn.Conv2d(1, 2, 3), Square())
    with pytest.raises(
        ModelError, match=r"the objective of channel 0 of layer '1' is (inf|nan) at step \d+: use a smaller"
    ):
        optima(square, "1", (8, 8), range="free", parameterization="pixel", learning_rate=1e20, steps=8)
    square[0].weight.data *= 1e30
    with pytest.raises(ModelError, match="layer '1' returns inf: correct the network"):
        optima(square, "1", (8, 8))


def test_a_layer_that_never_runs_is_refused() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(ModelError, match=r"'0\.spare' matches only modules that never run"):
        optima(network(Unused()), "0.spare", (8, 8))


def test_targets_are_in_order_and_know_what_they_cost() -> None:
    model = network(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    settings = Visualise(layers=("0", "2"))
    found = find_targets(model, settings, Canvas(1, (8, 8), (0.0, 1.0)), ["0", "2"])
    assert [target.label for target in found] == ["0", "2"]
    assert [target.bytes for target in found] == [(2 + 4) * 4 * 4 * 64, 4 * (2 * (4 + 4 + 2) + 4 * 4) * 64]


def test_a_prelu_gives_the_same_bits_and_the_same_gradient() -> None:
    """With its weight frozen, it runs as a leaky ReLU."""
    model = network(nn.Conv2d(1, 3, 3), nn.PReLU(), nn.Conv2d(3, 2, 3))
    model[1].weight.data[:] = 0.37
    (layer,) = probe(model, (1, 12, 12), ["2"]).layers
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with reaching(model, layer, follow=False) as reach:
        ours = reach(images).values
    plain = model(images)
    assert torch.equal(ours, plain)
    gradients = [torch.autograd.grad(values.sum(), images)[0] for values in (ours, plain)]
    torch.testing.assert_close(*gradients)
