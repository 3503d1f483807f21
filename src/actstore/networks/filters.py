"""The weight of a network's first convolution: the filters that every image passes first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actstore.networks.repeatable import kept_generators


@dataclass(frozen=True, eq=False)
class Filters:
    """Filters as the network applies them."""

    #: Module path below the network.
    module: str
    #: Groups of channels, each with its own output channels.
    groups: int
    #: Whether it takes the network's input channels, all together, as they are counted there.
    of_input: bool
    #: float32 (out_channel, input_channel, [z,] y, x), or in_channel where the channels are not :attr:`of_input`.
    weight: NDArray[np.float32]

    @property
    def dims(self) -> tuple[str, ...]:
        # In the tree of a store, input_channel has the size that it has in the root.
        taken = "input_channel" if self.of_input else "in_channel"
        return ("out_channel", taken, *("z", "y", "x")[5 - self.weight.ndim :])


class _Found(BaseException):
    """Ends a forward pass: no ``except Exception`` of a network holds it up."""


def first_filters(model: nn.Module, input_shape: Sequence[int]) -> Filters | None:
    """The weight of the convolution that runs first on zeros of ``input_shape`` (channel, [z,] y, x).

    The pass ends there. None where no convolution runs; one whose weight is no tensor of its own, such as a quantised
    one, does not count.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first: list[tuple[str, Any]] = []

    def note(path: str, module: nn.Module) -> None:
        if isinstance(module.weight, torch.Tensor):
            first.append((path, module))
            raise _Found

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with ExitStack() as stack, torch.inference_mode(), kept_generators():
        for path, module in model.named_modules():
            if isinstance(module, kinds):
                hook = module.register_forward_pre_hook(lambda module, _, path=path: note(path, module))
                stack.callback(hook.remove)
        try:
            model(torch.zeros(1, *input_shape, device=device))
        except _Found:
            path, module = first[0]
            weight = module.weight.detach().to("cpu", torch.float32).numpy()
            groups = int(module.groups)
            return Filters(path, groups, groups == 1 and weight.shape[1] == input_shape[0], np.array(weight))
    return None
