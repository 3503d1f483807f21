"""Builds the network that an nnU-Net result folder or a MONAI bundle holds."""

from __future__ import annotations

from torch import nn

from actstore.networks import bundle, nnunet
from actstore.spec.nnunet_results import ResultFolder
from actstore.spec.trained import Trained


def build_trained(trained: Trained) -> nn.Module:
    """The network with its weights, on the CPU.

    Raises
    ------
    MissingError
        if nnunetv2 is needed and not installed.
    ModelError
        if the network cannot be built, or the weights do not fit.
    """
    return nnunet.build_network(trained) if isinstance(trained, ResultFolder) else bundle.build_network(trained)
