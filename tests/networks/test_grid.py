"""Where a layer's pixels lie on the network's input, against arithmetic and against the arrays of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from monai.networks.nets import AttentionUnet, BasicUNet, DynUNet, FlexibleUNet, SegResNet, UNet, VNet
from torch import Tensor, nn

import actstore
from actstore import analysis
from actstore.geometry import Grid
from actstore.jobs.capture import capture
from actstore.jobs.creation import attributes
from actstore.jobs.plan.plan import make_plan
from actstore.models import unet_heart_8_4_4
from actstore.networks.grids import affine, layer_grids
from actstore.networks.linear import middle
from actstore.networks.recording import probe
from actstore.spec.spec import load_spec
from conftest import WriteSpec
from helpers import CLASSES, make_activation


def grids_of(model: nn.Module, size: Sequence[int], *patterns: str) -> dict[str, Grid]:
    layers = probe(model.eval(), (1, *size), patterns).layers
    return dict(zip([layer.module for layer in layers], layer_grids(model, layers, size), strict=True))


def known(start: float, step: float, axes: int = 2) -> Grid:
    return Grid((start,) * axes, (step,) * axes, ("geometry",) * axes)


def convolved(start: float, step: float, k: int, s: int = 1, p: int = 0, d: int = 1) -> tuple[float, float]:
    """A convolution's or pooling's grid, from that of what it is given."""
    return start + step * ((k - 1) * d / 2 - p), step * s


def spread(start: float, step: float, k: int, s: int, p: int = 0) -> tuple[float, float]:
    """A transposed convolution's."""
    return start + step * (p - (k - 1) / 2) / s, step / s


@pytest.mark.slow
def test_the_heart_network_is_placed_exactly() -> None:
    found = list(grids_of(unet_heart_8_4_4(), (256, 256), "*.adn.N").values())
    steps = [2] * 4 + [4] * 4 + [8] * 8 + [4] * 2 + [2] * 2 + [1]
    assert found == [known(0, step) for step in steps]
    assert [grid.low[0] for grid in found] == [0.5 - step / 2 for step in steps]


CHAIN: dict[str, tuple[Callable[[], nn.Module], Callable[[float, float], tuple[float, float]]]] = {
    "stride 2": (lambda: nn.Conv2d(1, 2, 3, stride=2, padding=1), lambda a, b: convolved(a, b, 3, 2, 1)),
    "stride 3": (lambda: nn.Conv2d(1, 2, 3, stride=3, padding=1), lambda a, b: convolved(a, b, 3, 3, 1)),
    "unpadded": (lambda: nn.Conv2d(1, 2, 3), lambda a, b: convolved(a, b, 3)),
    "even kernel": (lambda: nn.Conv2d(1, 2, 4, stride=2, padding=1), lambda a, b: convolved(a, b, 4, 2, 1)),
    "dilated": (lambda: nn.Conv2d(1, 2, 3, dilation=3, padding=3), lambda a, b: convolved(a, b, 3, 1, 3, 3)),
    "dilated, unpadded": (lambda: nn.Conv2d(1, 2, 3, dilation=2), lambda a, b: convolved(a, b, 3, 1, 0, 2)),
    "reflected": (
        lambda: nn.Conv2d(1, 2, 5, padding=2, padding_mode="reflect"),
        lambda a, b: convolved(a, b, 5, 1, 2),
    ),
    "max-pool": (lambda: nn.MaxPool2d(2), lambda a, b: convolved(a, b, 2, 2)),
    "max-pool, overlapping": (lambda: nn.MaxPool2d(3, 2, padding=1), lambda a, b: convolved(a, b, 3, 2, 1)),
    "average": (lambda: nn.AvgPool2d(3, 3), lambda a, b: convolved(a, b, 3, 3)),
    "transposed 2": (lambda: nn.ConvTranspose2d(1, 2, 2, stride=2), lambda a, b: spread(a, b, 2, 2)),
    "transposed 3": (
        lambda: nn.ConvTranspose2d(1, 2, 3, stride=2, padding=1, output_padding=1),
        lambda a, b: spread(a, b, 3, 2, 1),
    ),
    "transposed 4": (lambda: nn.ConvTranspose2d(1, 2, 4, stride=2, padding=1), lambda a, b: spread(a, b, 4, 2, 1)),
    "transposed, stride 3": (lambda: nn.ConvTranspose2d(1, 2, 3, stride=3), lambda a, b: spread(a, b, 3, 3)),
    "transposed, with holes": (lambda: nn.ConvTranspose2d(1, 2, 1, stride=2), lambda a, b: spread(a, b, 1, 2)),
    "nearest": (lambda: nn.Upsample(scale_factor=2), lambda a, b: spread(a, b, 2, 2)),
    "bilinear": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        lambda a, b: spread(a, b, 2, 2),
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)),
        lambda a, b: spread(a, b, 2, 2),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["stride 2", "stride 3", "unpadded", "max-pool, overlapping"])
@pytest.mark.parametrize("second", list(CHAIN))
def test_one_module_after_another_is_placed_as_arithmetic_has_it(first: str, second: str) -> None:
    modules = [CHAIN[name][0]() for name in (first, second)]
    model = nn.Sequential(modules[0], nn.Conv2d(1 if "pool" in first else 2, 1, 1), nn.ReLU(), modules[1])
    found = grids_of(model, (60, 72), "0", "3")
    expected = CHAIN[first][1](0, 1)
    assert found["0"] == known(*expected)
    for axis in range(2):
        start, step = CHAIN[second][1](*expected)
        assert (found["3"].start[axis], found["3"].step[axis]) == pytest.approx((start, step), abs=1e-12)
    assert found["3"].how == ("geometry", "geometry")


def test_aligned_corners_shorten_the_step() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 1, 2, stride=2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    )
    # Of 32 and 20 pixels at 0.5, 2.5, …: 64 and 40 between the first and the last.
    found = grids_of(model, (64, 40), "1")["1"]
    assert found.start == (0.5, 0.5)
    np.testing.assert_allclose(found.step, [62 / 63, 38 / 39], rtol=1e-12)
    assert found.how == ("geometry", "geometry")


def test_of_volumes_each_axis_is_placed_by_itself() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3, stride=(1, 2, 3), padding=(0, 1, 1)), nn.ReLU())
    found = grids_of(model, (8, 32, 30), "1")["1"]
    assert (found.start, found.step) == ((1.0, 0.0, 0.0), (1.0, 2.0, 3.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "size", "patterns", "last"),
    [
        (lambda: UNet(2, 1, 2, channels=(4, 8, 16), strides=(3, 3)), (81, 81), "*.adn.N", known(0, 3)),
        (lambda: BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 16, 4)), (64, 64), "*.adn.N", known(0, 1)),
        (
            lambda: BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 16, 4), upsample="nontrainable"),
            (64, 64),
            "*.adn.N",
            known(0, 1),
        ),
        (lambda: SegResNet(2, 8, in_channels=1, out_channels=2), (64, 64), "*.conv", known(0, 1)),
        (lambda: SegResNet(3, 8, in_channels=1, out_channels=2), (16, 32, 32), "*.conv", known(0, 1, 3)),
        (
            lambda: DynUNet(2, 1, 2, kernel_size=[3] * 4, strides=[1, 2, 2, 2], upsample_kernel_size=[2, 2, 2]),
            (64, 64),
            "*.conv_block.conv2.conv",
            known(0, 1),
        ),
        (lambda: VNet(2, in_channels=1, out_channels=2), (64, 64), "*.adn.N", known(0, 1)),
        (lambda: AttentionUnet(2, 1, 2, channels=(4, 8, 16), strides=(2, 2)), (64, 64), "*.merge.conv", known(0, 1)),
        # EfficientNet pads at the far end alone where that is even: each of its five strides moves on by a pixel.
        (
            lambda: FlexibleUNet(1, 2, "efficientnet-b0", spatial_dims=2),
            (64, 64),
            "encoder._blocks.6.15._project_conv",
            known(1 + 2 + 4 + 8 + 16, 32),
        ),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value,
)
def test_networks_in_use_are_placed(make: Callable[[], nn.Module], size: Any, patterns: str, last: Grid) -> None:
    with torch.random.fork_rng(devices=[]):
        found = list(grids_of(make(), size, patterns).values())[-1]
    assert (found.start, found.step) == (last.start, last.step)


def test_a_skip_connection_decides_where_its_layer_lies() -> None:
    """A stride-2 convolution and a transposed one of width 2 are shifted by half a pixel, the skip is not."""

    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ConvTranspose2d(2, 2, 2, stride=2)
            self.joined = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            found: Tensor = self.joined(torch.cat([image, self.up(self.down(image))], 1))
            return found

    found = grids_of(Skipping(), (32, 32), "*")
    assert [found[name] for name in ("down", "up", "joined")] == [known(0, 2), known(-0.5, 1), known(0, 1)]


class ByHand(nn.Module):
    """What networks do in functions rather than in modules."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.gate = nn.Linear(4, 4)
        self.seen = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.instance_norm(torch.relu(self.a(image))), 2)
        x += torch.sigmoid(self.gate(x.mean((2, 3))))[..., None, None] * F.gelu(self.b(x))
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)[..., 0, 0]))[..., None, None]
        x = x * F.silu((x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt()).sigmoid()
        context = F.interpolate(F.adaptive_avg_pool2d(x, 1), size=x.shape[2:])
        flat = x.flatten(2).transpose(1, 2)
        attention = torch.softmax(flat @ flat.transpose(1, 2) + 1, -1) @ flat
        x = x + context + attention.transpose(1, 2).reshape(x.shape)
        found: Tensor = self.seen(F.dropout(x, 0.5, training=self.training))
        return found


def test_functions_are_seen_through_like_modules() -> None:
    found = grids_of(ByHand(), (64, 48), "a", "b", "seen")
    assert found["a"] == known(0, 2)
    assert found["b"] == found["seen"] == known(1, 4)


def test_a_token_lies_where_its_patch_lies() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.place = nn.Conv2d(1, 8, 8, stride=8), nn.Parameter(torch.randn(1, 48, 8))
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.value, self.seen = nn.Linear(8, 8), nn.Identity()

        def forward(self, image: Tensor) -> Tensor:
            x = self.embed(image)
            tokens = self.block(x.flatten(2).transpose(1, 2) + self.place)
            tokens = tokens + F.scaled_dot_product_attention(tokens, tokens, self.value(tokens))
            found: Tensor = self.seen(tokens.transpose(1, 2).reshape(x.shape))
            return found

    assert grids_of(Patches(), (64, 48), "seen")["seen"] == known(3.5, 8)


class Own(nn.Module):
    """Normalisation that somebody wrote."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()


class OwnNorm(Own):
    """The same by a name that says so."""


def test_what_cannot_be_placed_is_said_to_be_assumed() -> None:
    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x

    class Picky(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            if float(self.weight.std()) == 0:
                raise RuntimeError("not with these weights")
            return super().forward(x)

    conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 64), nn.Unflatten(1, (1, 8, 8)))
    overflowing = nn.Sequential(*(Squares() for _ in range(10)))
    for last in (Own(), Squares(), overflowing, dense, Picky(4, 4, 1), nn.Sigmoid()):
        model = nn.Sequential(*([] if last is dense else [conv]), last)
        [found] = grids_of(model, (32, 32), str(len(model) - 1)).values()
        shape = (8, 8) if last is dense else (16, 16)
        assert found == Grid.between_edges(shape, (32, 32)), last
        assert found.how == ("assumed", "assumed")
    assert grids_of(nn.Sequential(conv, OwnNorm()), (32, 32), "1")["1"] == known(0, 2)


def test_a_mistake_in_the_measurement_is_not_taken_for_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actstore.networks.grids._over_channels", lambda _: np.zeros(0))
    with pytest.raises(ValueError, match="zero-size array"):
        grids_of(nn.Sequential(nn.Conv2d(1, 1, 1)), (8, 8), "0")


def test_a_branch_that_sees_everything_is_no_geometry() -> None:
    class Mixed(nn.Module):
        """Half of each pixel is the mean of all, by a way that no function's name shows."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.seen = nn.Conv2d(1, 1, 1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            everything = torch.cumsum(torch.cumsum(x, 2), 3)[..., -1:, -1:] / x.shape[2:].numel()
            found: Tensor = self.seen(x + everything)
            return found

    found = grids_of(Mixed(), (64, 64), "seen")["seen"]
    assert found.how == ("measured", "measured")
    np.testing.assert_allclose(found.start, 0, atol=1e-9)
    assert found.step == (1.0, 1.0)


def test_of_few_pixels_the_middle_is_measured() -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(4)))
    found = grids_of(model, (32, 64), "1", "2", "3")
    assert found["3"] == Grid((0.0, 0.0), (16.0, 16.0), ("measured", "geometry"))
    assert found["2"] == known(0, 8)


def centres_of(pooling: nn.Module, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Mean number of the rows that each row of the result is made of."""
    rows = torch.arange(size[0], dtype=torch.float64)[None, None, :, None].expand(1, 1, *size)
    return np.asarray(pooling(rows)[0, 0, :, 0].numpy())


@pytest.mark.parametrize(
    ("make", "uneven"),
    [
        (lambda m: nn.AdaptiveAvgPool2d((m, 16)), True),
        (lambda m: nn.Upsample(size=(m, 48), mode="nearest"), True),
        (lambda m: nn.Upsample(size=(m, 24), mode="nearest-exact"), True),
        (lambda m: nn.Upsample(size=(m, 48), mode="area"), True),
        (lambda m: nn.Upsample(size=(m, 48), mode="bilinear"), False),
    ],
    ids=["adaptive", "nearest", "nearest-exact", "area", "bilinear"],
)
def test_uneven_resizing_is_measured(make: Callable[[int], nn.Module], uneven: bool) -> None:
    for m in (5, 7, 10, 12, 16, 24, 32, 47):
        resized = make(m)
        found = grids_of(nn.Sequential(resized, nn.Conv2d(1, 1, 1)), (48, 48), "0", "1")
        centres = centres_of(resized, (48, 48))
        assert {grid.how[1] for grid in found.values()} == {"geometry"}
        # Windows of 48 rows to 5 lie 9.5 rows apart, all of them, although 48 / 5 is 9.6.
        even = not uneven or np.ptp(np.diff(centres)) < 1e-9
        assert {grid.how[0] for grid in found.values()} == {"geometry" if even else "measured"}
        if found["0"].how[0] == "measured":
            assert found["0"].step[0] == 48 / m
            np.testing.assert_allclose(found["0"].start[0] + (m - 1) / 2 * 48 / m, centres.mean(), atol=1e-9)
        else:
            inner = slice(m // 4, m - m // 4)
            line = found["0"].start[0] + found["0"].step[0] * np.arange(m)
            np.testing.assert_allclose(line[inner], centres[inner], atol=1e-8)


def test_only_what_rests_on_uneven_pooling_is_measured() -> None:
    class Pyramid(nn.Module):
        """Context of 7 × 6 regions joins the map that it is taken from."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.context = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 1)
            self.last = nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            x = self.first(image)
            context = self.context(F.adaptive_avg_pool2d(x, (7, 6)))
            found: Tensor = self.last(torch.cat([x, F.interpolate(context, size=x.shape[2:], mode="bilinear")], 1))
            return found

    found = grids_of(Pyramid(), (96, 96), "first", "context", "last")
    assert found["first"] == found["last"] == known(0, 2)
    assert found["context"].how == ("measured", "geometry")
    assert found["context"].step == (96 / 7, 16.0)
    assert found["context"].start[1] == 7


def test_the_network_stays_as_it_was() -> None:
    model = unet_heart_8_4_4().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grids_of(model, (64, 64), "*.adn.N")
    assert all(
        torch.equal(before[name], value) and value.dtype == before[name].dtype
        for name, value in model.state_dict().items()
    )
    assert not any(module._forward_hooks or "forward" in vars(module) for module in model.modules())
    image = torch.rand(1, 1, 64, 64)
    assert model(image).std() > 0


def test_the_middle_of_a_kernel_is_its_centre_and_passes_constants_on() -> None:
    for count in range(1, 8):
        for stride in range(1, 5):
            for dilation in (1, 2, 3):
                weights = np.array(middle(count, stride, dilation))
                taps = np.arange(count) * dilation
                np.testing.assert_allclose(weights, weights[::-1])
                sums = [weights[taps % stride == phase].sum() for phase in set(taps % stride)]
                assert all(total == pytest.approx(1) or total == 0 for total in sums)
    assert middle(3) == [0, 1, 0]
    assert middle(4) == [0, 0.5, 0.5, 0]
    assert middle(3, 2) == [0.5, 1, 0.5]


def test_centres_that_repeat_an_affine_function_give_it() -> None:
    i = np.arange(24)
    assert affine(3.0 + 2.0 * i) == (3, 2)
    assert affine(np.repeat(2.0 * i, 4)) == (-0.75, 0.5)
    bent = 2.0 * i
    bent[0] += 0.5
    bent[-2:] -= 0.25
    assert affine(bent) == (0, 2)
    assert affine(np.where(i % 2, np.nan, 2.0 * i)) == (0, 2)
    assert affine(np.full(24, 7.0)) is None
    assert affine(i**1.1) is None
    # Too few to know a bend at both ends from a smaller step.
    assert affine(np.array([0.0, 0.25, 0.75, 1.0])) is None
    assert affine(np.array([0.5, 1.0])) is None


def test_a_grid_says_which_of_its_pixels_holds_a_centre() -> None:
    grid = Grid((-0.5,), (1.5,), ("geometry",))
    for number in range(-3, 30):
        at = [abs(number - (-0.5 + 1.5 * i)) for i in range(12)]
        assert at[grid.pixel_at(number, 0, 12)] == min(at)
    assert [Grid.between_edges((8,), (8,)).pixel_at(z, 0, 8) for z in range(8)] == list(range(8))
    shifted = Grid.shifted((4,), (8,), [-0.5], "measured")
    assert [shifted.pixel_at(z, 0, 4) for z in range(8)] == [0, 1, 1, 2, 2, 3, 3, 3]
    assert [Grid.between_edges((16,), (8,)).pixel_at(z, 0, 16) for z in range(4)] == [1, 3, 5, 7]
    assert [Grid.between_edges((3,), (9,)).pixel_at(z, 0, 3) for z in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [Grid.between_edges((4,), (2,)).pixel_at(z, 0, 4) for z in range(2)] == [1, 3]
    with pytest.raises(ValueError, match="step above 0"):
        Grid((0.0,), (0.0,), ("assumed",))
    with pytest.raises(ValueError, match="start, step and how of every axis"):
        Grid((0.0,), (1.0, 1.0), ("assumed",))
    assert Grid.from_json(grid.as_json()) == grid


def test_a_region_at_the_border_of_an_unpadded_network_lies_where_its_pixels_are() -> None:
    """Each pixel of a 5 x 5 convolution lies on the input's pixel two further in: the map is a part of the input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU()).eval()
    [grid] = grids_of(model, (32, 40), "0").values()
    assert grid == known(2, 1)
    label = np.zeros((1, 32, 40), np.uint8)
    label[0, 20:31, 1:9] = 3
    image = np.random.default_rng(0).random((32, 40), np.float32)
    darkened = np.where(label[0] == 3, image * 0.1, image)
    with torch.inference_mode():
        both = model[0](torch.from_numpy(np.stack([image, darkened]))[:, None]).numpy()
    activation = make_activation(both[None], targets=["LV"])
    found = analysis.regional_mad(
        activation, xr.DataArray(label, dims=("sample", "y", "x")), class_names=CLASSES, rim=2.0, grid=grid
    ).isel(sample=0, condition=1)
    mask = (label[0] == 3)[2:-2, 2:-2]
    change = np.abs(both[1].astype(float) - both[0])
    np.testing.assert_allclose(found["inside"], change[:, mask].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["inside_area"], mask.mean())
    # Of 11 x 8 pixels those in rows up to 29 and columns from 2.
    np.testing.assert_allclose(found["seen"], 10 * 7 / 88)
    whole = sum(found[name] * found[f"{name}_area"] for name in ("inside", "rim", "outside"))
    np.testing.assert_allclose(whole, change.mean(axis=(1, 2)), rtol=1e-6)
    assert found["start"].values.tolist() == [2, 2]
    assert found["stride"].values.tolist() == [1, 1]


def test_a_region_that_no_pixel_sees_is_nowhere() -> None:
    label = np.zeros((1, 16, 16), np.uint8)
    label[0, 0, 3:9] = 3
    activation = make_activation(np.random.default_rng(0).random((1, 2, 1, 12, 12)), targets=["LV"])
    found = analysis.regional_mad(
        activation, xr.DataArray(label, dims=("sample", "y", "x")), class_names=CLASSES, rim=1.0, grid=known(2, 1)
    ).isel(sample=0, condition=1)
    assert (float(found["seen"]), float(found["inside_area"]), float(found["rim_area"])) == (0, 0, 0)
    assert np.isnan(found["inside"]).all()
    np.testing.assert_allclose(found["outside"], np.abs(activation[0, 1] - activation[0, 0]).mean(("y", "x")))
    means = analysis.mean_regions(
        analysis.regional_mad(
            activation, xr.DataArray(label, dims=("sample", "y", "x")), class_names=CLASSES, rim=1.0, grid=known(2, 1)
        )
    )
    assert float(means["outside_share"].isel(condition=1)[0]) == 1
    assert float(means["seen"].isel(condition=1)) == 0


@pytest.mark.parametrize(("step", "start"), [(8.0, 0.0), (3.0, 0.0), (1.0, 3.0), (62 / 63, 0.5)], ids=str)
def test_a_change_that_is_known_exactly_has_its_mad_in_each_region(step: float, start: float) -> None:
    """A change by the share of a pixel that the mask covers: its regional means are sums over those shares."""
    size, space = (6, 7), (48, 56)
    grid = Grid((start,) * 2, (step,) * 2, ("geometry",) * 2)
    label = np.zeros((1, *space), np.uint8)
    label[0, 1:6, 2:7] = 3
    fine = 2520

    def share(axis: int, low: int, high: int) -> np.ndarray[Any, Any]:
        """Of each pixel along an axis, by counting points within it."""
        points = (np.arange(fine) + 0.5) / fine * step
        found = []
        for i in range(size[axis]):
            at = np.clip(np.floor(start + 0.5 + (i - 0.5) * step + points), 0, space[axis] - 1)
            found.append(((at >= low) & (at < high)).mean())
        return np.array(found)

    inside = np.outer(share(0, 1, 6), share(1, 2, 7))
    around = np.outer(share(0, 0, 7), share(1, 1, 8)) - inside
    for y, x in ((0, 1), (0, 7), (6, 1), (6, 7)):  # a corner is 1.41 away
        around -= np.outer(share(0, y, y + 1), share(1, x, x + 1))
    original = np.zeros((1, 1, 1, *size))
    activation = make_activation(np.concatenate([original, original + inside], axis=1), targets=["LV"])
    found = analysis.regional_mad(
        activation, xr.DataArray(label, dims=("sample", "y", "x")), class_names=CLASSES, rim=1.0, grid=grid
    ).isel(sample=0, condition=1, channel=0)
    for name, weights in (("inside", inside), ("rim", around), ("outside", 1 - inside - around)):
        np.testing.assert_allclose(found[name], (weights * inside).sum() / weights.sum(), atol=2e-3, err_msg=name)
        np.testing.assert_allclose(found[f"{name}_area"], weights.mean(), atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_store_places_an_unpadded_layer_where_it_is(write_spec: WriteSpec, tmp_path: Path) -> None:
    """From capture to the table of regions, against the store's own arrays: layer 2 is the input without two rows and
    columns at each side."""
    spec = write_spec(
        tmp_path, model__factory="networks:unpadded", data__patients=["patient001"], data__preprocess__size=[40, 40]
    )
    store = actstore.open(capture(load_spec(spec), cluster="inline", device="cpu").store)
    assert list(store.grids.values()) == [known(1, 1), known(2, 1)]
    findings = actstore.Findings(store)
    found = findings.regions.isel(channel=findings.regions.layer.values == "L02")
    dark = "brightness(LV, 0.1)"
    both = store["L02"].sel(condition=["original", dark]).values.astype(float)
    there = ~np.isnan(both[:, 1, 0, 0, 0])
    masks = store.label.values[there] == store.classes["LV"]
    cut = masks[:, 2:-2, 2:-2]
    assert cut.any(axis=(1, 2)).all()
    change = np.abs(both[there, 1] - both[there, 0])
    inside = np.stack([c[:, m].mean(axis=1) for c, m in zip(change, cut, strict=True)]).mean(axis=0)
    np.testing.assert_allclose(found["inside"].sel(condition=dark), inside, rtol=1e-6)
    seen = np.mean([m.sum() / whole.sum() for m, whole in zip(cut, masks, strict=True)])
    np.testing.assert_allclose(found["seen"].sel(condition=dark), seen, rtol=1e-12)
    table = findings.table("regions")
    assert table.loc[table["layer"] == "L02", "stride"].tolist() == [1.0] * len(table[table["layer"] == "L02"])


@pytest.mark.slow
def test_a_store_that_holds_offsets_opens_and_is_continued(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(write_spec(tmp_path))
    with monkeypatch.context() as patched:
        offsets = [[0.0, 0.0], [-0.375, -0.5]]
        older = attributes(make_plan(spec, device="cpu", timing=False)) | {"grid": offsets}
        patched.setattr("actstore.jobs.creation.attributes", lambda plan: older)
        assert capture(spec, cluster="inline", device="cpu").complete
    store = actstore.open(spec.store.path)
    assert store.grids["L02"] == Grid((0.125, 0.0), (2.0, 2.0), ("measured", "measured"))
    assert store.grids["L02"].low == (-0.375, -0.5)
    again = capture(spec, cluster="inline", device="cpu")
    assert (again.skipped, again.done) == (len(store.committed), 0)
    # Pixel i covered the input from i·stride + offset on.
    low, found = store.grids["L02"].low, store.grids["L02"]
    activation, label = store["L02"].isel(sample=[4]), store.label.isel(sample=[4])
    regional = analysis.regional_mad(activation, label, class_names=store.class_names, grid=found)
    c = list(store.conditions.index).index("brightness(LV, 0.1)")
    points = [np.clip(np.floor((np.arange(32 * 64) + 0.5) / 32 + shift), 0, 63).astype(int) for shift in low]
    weights = (label.values[0] == 3)[np.ix_(*points)].reshape(32, 64, 32, 64).mean(axis=(1, 3))
    change = np.abs(activation.values[0, c].astype(float) - activation.values[0, 0])
    np.testing.assert_allclose(regional["inside"][0, c], (change * weights).sum((1, 2)) / weights.sum(), rtol=1e-6)
    del store.attributes["grid"], store.__dict__["grids"]
    assert store.grids["L02"] == Grid.between_edges((32, 32), (64, 64)), "a store from before that"
