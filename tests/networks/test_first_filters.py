"""The weight of the convolution that runs first."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from actstore.networks.filters import first_filters


class Late(nn.Module):
    """Its modules are not registered in the order in which they run, and an exception of theirs is swallowed."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            x = self.first(x)
        except Exception:
            x = x.repeat(1, 4, 1, 1)[:, :4]
        return self.last(x)


def test_it_is_the_first_that_runs_and_no_hook_stays() -> None:
    model = Late(nn.Conv2d(3, 4, (5, 3)))
    found = first_filters(model, (3, 8, 8))
    assert found is not None
    assert (found.module, found.groups, found.dims) == ("first", 1, ("out_channel", "input_channel", "y", "x"))
    np.testing.assert_array_equal(found.weight, model.first.weight.detach().numpy())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_channels_that_are_not_the_inputs_have_another_dim() -> None:
    grouped = first_filters(nn.Conv3d(2, 4, 3, groups=2), (2, 5, 5, 5))
    assert grouped is not None
    assert (grouped.groups, grouped.dims) == (2, ("out_channel", "in_channel", "z", "y", "x"))


def test_a_network_without_a_convolution_has_none() -> None:
    assert first_filters(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2)) is None
