"""Decides where a recorded output has its channels, and refuses outputs for which that is in doubt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from actstore.errors import ModelError
from actstore.networks.axes import AxisGroup


@dataclass(frozen=True)
class Output:
    """One tensor that a module returned in a pass over zeros."""

    module: str
    type: str
    call: int
    #: Position in the module's output, as in the layer table.
    position: str
    #: With the batch dim.
    shape: tuple[int, ...]
    #: Which of its axes holds the channels.
    channels: AxisGroup

    @property
    def evidently_first(self) -> bool:
        return self.channels.axes == {1}


def channels_first(tensor: Tensor) -> Tensor:
    """A view of (batch, [z,] y, x, channel) as (batch, channel, [z,] y, x)."""
    return tensor.movedim(-1, 1)


def place_channels(
    output: Output, name: str, size: Sequence[int], spaces: Collection[tuple[int, ...]], said: str | None
) -> tuple[int, tuple[int, ...], bool]:
    """Number of channels, ([z,] y, x) and whether the channels are the last axis.

    A layer (batch, feature) has its features as channels, and space ().

    Parameters
    ----------
    name
        of the layer, for messages.
    size
        ([z,] y, x) of the input.
    spaces
        sizes of maps whose channels are evidently first.
    said
        the pattern of ``model.channels_last`` that matches the module, or ``None``.

    Raises
    ------
    ModelError
        if the output is not one map for the batch of one; if its channels come last, or may do so, and ``said`` does
        not say so; if they evidently come first and ``said`` says otherwise.
    """
    axes = len(size)
    shape, where = output.shape, f"{output.module!r} ({output.type})"
    if len(shape) == 2 and shape[0] == 1:
        # Features of the whole input, as a classifier has them at its end.
        return shape[1], (), False
    form = f"(batch, channel, {'z, ' if axes == 3 else ''}y, x)"
    if len(shape) != axes + 2 or shape[0] != 1:
        tokens = "; tokens (batch, token, feature) have no rows and columns" if len(shape) == 3 > shape[0] else ""
        raise ModelError(
            f"module {output.module!r} returns {shape} for a batch of one: a recorded output must be {form}{tokens}; "
            "leave it out of model.layers"
        )
    first, last = (shape[1], shape[2:], False), (shape[-1], shape[1:-1], True)
    if said is not None:
        if output.channels.axes and axes + 1 not in output.channels.axes:
            raise ModelError(
                f"model.channels_last pattern {said!r} matches module {where}, which returns {shape} with its channels "
                f"in axis {min(output.channels.axes)}, not last: write a pattern that leaves it out"
            )
        return last
    if output.evidently_first:
        return first
    mend = f'add it to model.channels_last = ["{output.module}"] to store {last[0]} channels of {_sizes(last[1])}'
    if output.channels.axes == {axes + 1}:
        raise ModelError(
            f"layer {name}, module {where}, returns {shape} for a batch of one, with its channels last, not {form}: "
            f"{mend}, or leave it out of model.layers"
        )
    if not output.channels.axes and not output.channels.of_products and _only_first(shape, size, spaces):
        return first
    raise ModelError(
        f"layer {name}, module {where}, returns {shape} for a batch of one, of which the channels may be axis 1 or "
        f"another: if they come last, {mend}; else leave it out of model.layers"
    )


def _only_first(shape: tuple[int, ...], size: Sequence[int], spaces: Collection[tuple[int, ...]]) -> bool:
    """Whether sizes alone show that the channels come first, for the results of code that cannot be followed."""

    def likely(space: tuple[int, ...]) -> bool:
        ratios = {before / after for before, after in zip(size, space, strict=True)}
        return space in spaces or set(space) == {1} or len(ratios) == 1

    return likely(shape[2:]) and not likely(shape[1:-1])


def _sizes(space: tuple[int, ...]) -> str:
    return " x ".join(map(str, space))
