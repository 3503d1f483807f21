"""Maps of a score over the input, by one way back through the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from actstore.attribution.rules import Method, Norm, require_fired, ruled
from actstore.errors import ModelError

#: From inputs (element, input_channel, \\*space) to what the network returns.
Network = Callable[[Tensor], Tensor]


def saliency(
    network: Network,
    inputs: Tensor,
    score: Callable[[Tensor], Tensor],
    method: Method = "gradient",
    *,
    norm: Norm = "frozen",
) -> tuple[Tensor, Tensor]:
    """How each score depends on each pixel of its input.

    Parameters
    ----------
    network
        returns logits; its weights get no gradient, whether they ask for one or not.
    inputs
        (element, input_channel, [z,] y, x).
    score
        of the network's logits, (element, class_name); an element's own depends on its own input alone.
    method, norm
        how the way back passes activations and norms, as for `actstore.attribution.rules.Rules`.

    Returns
    -------
    maps
        (element, class_name, input_channel, [z,] y, x), 0 where a score is NaN.
    scores
        (element, class_name)

    Raises
    ------
    ModelError
        if no activation is met that the method changes, or one that it is not for; if the input has no gradient.
    """
    seen = inputs.detach().requires_grad_()
    with torch.enable_grad():
        with ruled(method, norm) as rules:
            # A copy: a network may begin with what works in place.
            logits = network(seen.clone())
        scores = score(logits)
        maps = torch.stack([_back(scores[:, k], seen, k + 1 < scores.shape[1]) for k in range(scores.shape[1])], 1)
    if not scores.isnan().all():
        require_fired(rules)
    return maps, scores.detach()


def _back(scores: Tensor, inputs: Tensor, more: bool) -> Tensor:
    there = scores[~scores.isnan()]
    if not len(there):
        return torch.zeros_like(inputs)
    if not there.requires_grad:
        raise ModelError(
            "the network passes no gradient to its input: it computes without autograd, as under torch.no_grad() or by "
            'detach(), or ends in a sigmoid or softmax, which "guided" and "deconvnet" hold constant; let it return '
            "logits"
        )
    (found,) = torch.autograd.grad(there.sum(), inputs, retain_graph=more, allow_unused=True)
    return torch.zeros_like(inputs) if found is None else found
