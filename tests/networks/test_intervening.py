"""The hook that edits channels: what it puts in, what it leaves alone, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, UNet  # type: ignore[attr-defined]
from torch import Tensor, nn

from actstore.errors import ModelError
from actstore.networks.interventions import Intervention, intervening
from actstore.networks.recording import probe, recording
from actstore.store.schema import Layer


class Chain(nn.Module):
    """A chain whose second module works in place on what the first returned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        self.act(hidden)
        result: Tensor = self.last(hidden)
        return result


class Moody(Chain):
    """Runs its second module on zeros alone."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        result: Tensor = self.last(hidden if x.any() else self.act(hidden))
        return result


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> dict[Any, Any]:
        return {"maps": (self.conv(x), self.conv(x) * 2), "note": "kept"}


class DottedInner(Inner):
    def forward(self, x: Tensor) -> dict[Any, Any]:
        return {"stage.1": self.conv(x), 2: [self.conv(x) * 2], "stage": None}


class Several(nn.Module):
    """Returns what its last module makes of a dict of a tuple."""

    kind: type[Inner] = Inner

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = self.kind(), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.added(self.inner(x)))
        return result

    def added(self, found: dict[Any, Any]) -> Tensor:
        result: Tensor = found["maps"][1] + found["maps"][0]
        return result


class Dotted(Several):
    """With a dot in a key of the dict, and a key that is a number."""

    kind = DottedInner

    def added(self, found: dict[Any, Any]) -> Tensor:
        result: Tensor = found["stage.1"] + found[2][0]
        return result


class Inferring(Chain):
    """Enters inference mode by itself."""

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def seeded(make: Any, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found: nn.Module = make().eval()
    return found


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def maps_of(model: nn.Module, layers: Sequence[Layer], inputs: Tensor) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    with torch.no_grad(), recording(model, layers) as forward:
        forward(inputs, lambda number, maps: found.update({number: maps.clone()}))
    return found


NETWORKS: Mapping[str, tuple[Any, tuple[int, ...], list[str]]] = {
    "unet": (lambda: UNet(2, 1, 3, (4, 8, 8), (2, 2), num_res_units=2), (1, 32, 32), ["*.adn.N"]),
    "unet of volumes": (lambda: UNet(3, 1, 3, (4, 8), (2,), num_res_units=1), (1, 16, 16, 16), ["*.adn.N"]),
    "basic unet": (lambda: BasicUNet(2, 1, 3, (4, 4, 8, 8, 8, 4)), (1, 32, 32), ["*.adn.N"]),
    "dynunet": (
        lambda: DynUNet(2, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8]),
        (1, 32, 32),
        ["*.norm1", "*.norm2"],
    ),
    "in place": (Chain, (1, 8, 8), ["first", "act"]),
    "dict of a tuple": (Several, (1, 8, 8), ["inner"]),
    "dict with a dot in a key": (Dotted, (1, 8, 8), ["inner"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_edits_reach_the_output_and_own_maps_change_nothing(name: str) -> None:
    make, shape, patterns = NETWORKS[name]
    model, inputs = seeded(make), images(2, *shape)
    layers = probe(model, shape, patterns).layers
    maps = maps_of(model, layers, inputs)
    with torch.no_grad():
        before = model(inputs)
    with intervening(model, layers) as forward:
        for number, layer in enumerate(layers):
            every = torch.arange(layer.channels)
            own = [Intervention(i, every, values=maps[number][i]) for i in range(2)]
            assert torch.equal(forward(inputs, {number: own}), before), f"own maps of {layer.label}"
            zero = [Intervention(1, every, values=torch.zeros(layer.channels, *[1] * (len(shape) - 1)))]
            edited = forward(inputs, {number: zero})
            assert torch.equal(edited[0], before[0]), "another element"
            assert not torch.equal(edited[1], before[1]), layer.label
    with torch.no_grad():
        assert torch.equal(model(inputs), before), "hooks are gone"


def test_all_channels_of_a_cut_give_the_donors_output() -> None:
    model, inputs = seeded(Chain), images(2, 1, 8, 8)
    layers = probe(model, (1, 8, 8), ["first"]).layers
    with torch.no_grad():
        before = model(inputs)
    with intervening(model, layers) as forward:
        patched = forward(inputs, {0: [Intervention(1, torch.arange(3), donor=0)]})
    assert torch.equal(patched[1], before[0])
    assert not torch.equal(patched[1], before[1])


def test_what_is_put_in() -> None:
    model, inputs = seeded(Chain), images(2, 1, 8, 8)
    layers = probe(model, (1, 8, 8), ["first"]).layers
    plain = maps_of(model, layers, inputs)[0]
    seen: list[Tensor] = []
    handle = model.get_submodule("act").register_forward_pre_hook(lambda _m, given: seen.append(given[0].clone()))
    where = torch.zeros(8, 8, dtype=torch.bool)
    where[2:5] = True
    order = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(k)) for k in range(2)])
    channels = torch.tensor([2, 0])
    with intervening(model, layers) as forward:
        forward(inputs, {0: [Intervention(0, channels, values=torch.tensor([[[5.0]], [[7.0]]]), where=where)]})
        forward(inputs, {0: [Intervention(1, channels, order=order)]})
        forward(inputs, {0: [Intervention(1, channels, donor=0), Intervention(0, torch.tensor([1]), donor=1)]})
    handle.remove()
    values, shuffled, swapped = seen
    assert (values[0, 2][where] == 5).all()
    assert (values[0, 0][where] == 7).all()
    assert torch.equal(values[0, 2][~where], plain[0, 2][~where])
    assert torch.equal(values[0, 1], plain[0, 1])
    assert torch.equal(values[1], plain[1])
    assert torch.equal(shuffled[1, 2].flatten(), plain[1, 2].flatten()[order[0]])
    assert torch.equal(shuffled[1, 2].flatten().sort().values, plain[1, 2].flatten().sort().values)
    assert torch.equal(swapped[1, channels], plain[0, channels])
    assert torch.equal(swapped[0, 1], plain[1, 1])


def test_hooks_are_gone_after_an_error() -> None:
    model, inputs = seeded(Chain), images(1, 1, 8, 8)
    layers = probe(model, (1, 8, 8), ["first"]).layers
    with torch.no_grad():
        before = model(inputs)
    with pytest.raises(IndexError), intervening(model, layers) as forward:
        forward(inputs, {0: [Intervention(0, torch.tensor([9]), values=torch.zeros(1, 1, 1))]})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(inputs), before)


class Named(tuple[Tensor, Tensor]):
    """A tuple that cannot be made of its entries."""

    __slots__ = ()

    def __new__(cls, first: Tensor, second: Tensor) -> Named:
        return super().__new__(cls, (first, second))


class Odd(Several):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.inner(x)[1])
        return result


class OddInner(Inner):
    def forward(self, x: Tensor) -> Any:
        return Named(self.conv(x), self.conv(x))


def test_what_cannot_be_edited_is_refused() -> None:
    model = seeded(Odd)
    model.inner = seeded(OddInner)
    layers = probe(model, (1, 8, 8), ["inner"]).layers
    with (
        pytest.raises(ModelError, match=r"'inner' returns a Named.*edit a module inside"),
        intervening(model, layers) as forward,
    ):
        forward(images(1, 1, 8, 8), {0: [Intervention(0, torch.tensor([0]), values=torch.zeros(1, 1, 1))]})
    chain = seeded(Chain)
    layers = probe(chain, (1, 8, 8), ["first"]).layers
    edit = {0: [Intervention(0, torch.tensor([0]), values=torch.zeros(1, 1, 1))]}
    with (
        pytest.raises(ModelError, match=r"'first' returned \(1, 3, 4, 4\).*cannot be edited"),
        intervening(chain, layers) as forward,
    ):
        forward(images(1, 1, 4, 4), edit)
    moody = seeded(Moody)
    layers = probe(moody, (1, 8, 8), ["act"]).layers
    with pytest.raises(ModelError, match="'act' is not reached"), intervening(moody, layers) as forward:
        forward(images(1, 1, 8, 8), edit)
    inferring = seeded(Inferring)
    layers = probe(inferring, (1, 8, 8), ["act"]).layers
    with (
        pytest.raises(ModelError, match=r"'act' runs in torch\.inference_mode"),
        intervening(inferring, layers) as forward,
    ):
        forward(images(1, 1, 8, 8), edit)
