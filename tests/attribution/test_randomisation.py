"""Weights permuted from the output backwards: by which layers, and that they come back; how maps are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from actstore.attribution.randomisation import permuted_weights, rank_correlation, replaced, weighted_layers


class Attending(nn.Module):
    """A module whose parts are used without being called, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.PReLU())
        self.attention = nn.MultiheadAttention(4, 2)
        self.last = nn.Linear(4, 2, bias=False)
        self.scale = nn.Parameter(torch.ones(()))


ENDED = ["first.0", "first.1", "first.2", "first", "attention", "last"]


def test_layers_from_the_output_backwards() -> None:
    network = Attending()
    first, second, third = weighted_layers(network, ENDED)
    assert first == ("scale", "last.weight")
    assert {*second} == {name for name, _ in network.named_parameters() if name.startswith("attention")}
    assert "attention.out_proj.weight" in second, "a part that is never called goes with its module"
    assert third == ("first.2.weight", "first.1.weight", "first.1.bias", "first.0.weight", "first.0.bias")
    assert weighted_layers(nn.ReLU(), []) == ()
    assert weighted_layers(network, ENDED, 4) == (third,), "of what runs before the fourth module returns"
    assert weighted_layers(network, ENDED, 5) == (second, third)


def test_what_lies_before_the_first_weights_goes_with_them() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3))
    (layer,) = weighted_layers(network, ["0", "1"])
    assert {*layer} == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_weights_are_permuted_inside_and_back_behind() -> None:
    network = Attending()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    permuted = permuted_weights(network)
    assert all(torch.equal(values, permuted_weights(network)[name]) for name, values in permuted.items())

    def inside() -> None:
        own = network.first[0].weight
        assert not torch.equal(own, before["first.0.weight"])
        assert torch.equal(own.flatten().sort().values, before["first.0.weight"].flatten().sort().values)
        assert torch.equal(network.last.weight, before["last.weight"])
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), replaced(network, permuted, ["first.0.weight"]):
        inside()
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_traced_network_has_layers_and_takes_other_weights() -> None:
    network = torch.jit.trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.rand(1, 1, 8, 8))
    image = torch.rand(1, 1, 8, 8)
    before = network(image)
    (names,) = weighted_layers(network, [])
    with replaced(network, permuted_weights(network), names):
        assert not torch.equal(network(image), before)
    assert torch.equal(network(image), before)


def test_ranks_are_compared_where_both_have_values() -> None:
    rng = np.random.default_rng(0)
    maps, others = rng.normal(size=(2, 3, 50)), rng.normal(size=(2, 3, 50)).round(1)
    maps[0, 1, :20] = np.nan
    maps[1, 2] = 7
    others[1, 1] = np.nan
    found = rank_correlation(maps, others)
    assert found.shape == (2, 3, 2)
    assert found[0, 1, 0] == pytest.approx(spearmanr(maps[0, 1, 20:], others[0, 1, 20:]).statistic, rel=1e-12)
    magnitudes = spearmanr(np.abs(maps[0, 0]), np.abs(others[0, 0])).statistic
    assert found[0, 0, 1] == pytest.approx(magnitudes, rel=1e-12)
    assert np.isnan(found[1, 1:]).all()
