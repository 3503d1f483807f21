"""The same network with weights permuted from the output backwards: what a map keeps then, it did not learn from them.

Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: Names of parameters that are permuted together: a layer's weights, and those of norms and activations behind it.
Layers = tuple[tuple[str, ...], ...]
SEED = 0


def weighted_layers(model: nn.Module, ended: Sequence[str], upto: int | None = None) -> Layers:
    """The parameters of a network by layers, from the output or from one module's return backwards.

    A layer is a module with a weight of two dims or more, such as a convolution. Parameters of other modules go with
    the layer before them, and those of modules that are never called themselves with the module that holds them.

    Parameters
    ----------
    ended
        paths of modules in the order in which they return in a pass.
    upto
        how many of these count; others have no part in what is explained. By default all, and the network itself.
    """
    whole = (*ended, "")
    known, last = {*whole}, {path: number for number, path in enumerate(whole[:upto])}
    own: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        path = name.rpartition(".")[0]
        while path not in known:
            path = path.rpartition(".")[0]
        if path in last:
            own.setdefault(path, []).append(name)
    layers: list[tuple[str, ...]] = []
    behind: list[str] = []
    for path in sorted(own, key=lambda path: last[path], reverse=True):
        behind += own[path]
        if any(model.get_parameter(name).ndim > 1 for name in own[path]):
            layers.append(tuple(behind))
            behind = []
    if behind:
        layers = [*layers[:-1], (*(layers[-1] if layers else ()), *behind)]
    return tuple(layers)


def permuted_weights(model: nn.Module, seed: int = SEED) -> dict[str, Tensor]:
    """Each parameter's values among themselves in a random order, the same for a name and seed."""
    found = {}
    for number, (name, parameter) in enumerate(model.named_parameters()):
        generator = torch.Generator().manual_seed(seed + number)
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        found[name] = parameter.detach().flatten()[order].reshape(parameter.shape)
    return found


@contextmanager
def replaced(model: nn.Module, weights: Mapping[str, Tensor], names: Sequence[str]) -> Iterator[None]:
    """The network has the ``weights`` of ``names`` inside, and its own again behind."""
    parameters = [model.get_parameter(name) for name in names]
    before = [parameter.data for parameter in parameters]
    try:
        for name, parameter in zip(names, parameters, strict=True):
            parameter.data = weights[name]
        yield
    finally:
        for parameter, values in zip(parameters, before, strict=True):
            parameter.data = values


def rank_correlation(maps: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Spearman's correlation of maps (…, pixel) with ``others``, (…): as they are, and of their magnitudes: (…, 2).

    Only pixels count that both have. NaN where one of both is the same everywhere.
    """
    found = np.full((*maps.shape[:-1], 2), np.nan)
    for index in np.ndindex(*maps.shape[:-1]):
        one, other = maps[index].astype(np.float64), others[index].astype(np.float64)
        there = np.isfinite(one) & np.isfinite(other)
        if there.any():
            pair = one[there], other[there]
            found[index] = _spearman(*pair), _spearman(*map(np.abs, pair))
    return found


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata

    a, b = (ranks - ranks.mean() for ranks in map(rankdata, (one, other)))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else np.nan
