"""The spec's tables of explanations: where in the image a class's score comes from, or what excites channels."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictFloat, StrictInt, field_validator, model_validator

from actstore.conditions import ORIGINAL
from actstore.spec.values import GroupName, Positive, Text, TomlTable, check_known, check_names

#: Methods that go back through the network, by how they pass an activation: its own derivative; that, and only what is
#: positive; only what is positive.
BACKWARD = ("gradient", "guided", "deconvnet")
OCCLUSION = "occlusion"
Score = Literal["probability", "logit"]
Box = Literal["image", "body", "class"]
Rank = Literal["max", "mean", "mad"]
Start = Literal["peak", "map"]
Norm = Literal["frozen", "autograd"]


def _lengths(value: Any) -> Any:
    """One number for all axes, or one an axis."""
    numbers = value if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not whole or not numbers or min(numbers) < 1:
        raise ValueError("must be a number of pixels from 1 on, or one for each axis, ([z,] y, x)")
    return tuple(value) if isinstance(value, list | tuple) else value


def _filled(value: Any) -> Any:
    if value in ("mean", "blur") or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ):
        return value
    raise ValueError('must be an intensity as the network sees it, "mean" or "blur"')


def _tiles(value: Any) -> Any:
    return value if value is False or value is None else _lengths(value)


def _levels(value: Any) -> Any:
    if value is None:
        return value
    numbers = value if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in numbers)
    if not whole or sorted({*numbers}) != [*numbers]:
        raise ValueError("must be numbers of layers from 1 on, rising, or [] for none")
    return tuple(numbers)


Lengths = Annotated[int | tuple[int, ...], BeforeValidator(_lengths)]
Tiles = Annotated[int | tuple[int, ...] | Literal[False] | None, BeforeValidator(_tiles)]
Levels = Annotated[tuple[int, ...] | None, BeforeValidator(_levels)]


class Explain(TomlTable):
    """One explanation: maps of classes' scores over the input, or, with ``layers``, channels projected back into it."""

    #: Of its group in the store, ``explain/NAME``.
    name: GroupName
    #: "occlusion", "gradient", "guided", "deconvnet", or ``module:callable`` with (model, input, score) → map.
    method: Text
    #: Classes whose score is explained; by default all but the background.
    targets: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    conditions: Annotated[tuple[Text, ...], Field(min_length=1)] = (ORIGINAL,)
    #: What is explained: the class's probability or logit, averaged over the pixels where the original is predicted as
    #: the class.
    score: Score = "probability"
    #: Side of the window that hides a part of the input, in pixels.
    window: Lengths = 16
    #: From one window to the next.
    stride: Lengths = 8
    #: What stands where the input is hidden or deleted: an intensity as the network sees it, the mean of the sample, or
    #: the sample, blurred.
    fill: Annotated[StrictFloat | StrictInt | Literal["mean", "blur"], BeforeValidator(_filled)] = "mean"
    #: Where windows lie: all over the image without its padding, over the body, or about the class's prediction.
    box: Box = "body"
    #: Layers whose strongest channels are projected back, as in ``model.layers``.
    layers: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    #: Number of channels of each layer and sample.
    top: Positive = 5
    #: By what a channel is strong: the largest value or the mean of its map, or how a condition changed it.
    by: Rank = "max"
    #: What is sent back: the map's largest value at its place alone, or the whole map.
    start: Start = "peak"
    #: Whether norms keep the mean and spread of this pass, or these are differentiated too.
    norm: Norm = "frozen"
    #: Side in pixels of the tiles that are deleted, in the map's order and in others, to see how fast the class's
    #: probability falls; by default a sixteenth of the input's; ``false`` for none.
    deletion: Tiles = None
    #: After how many layers, from the back, whose weights are permuted maps are compared with those of the network; by
    #: default 1, 2, 4, … and all of methods that go back, and none of others, for which that takes as long as all else
    #: once more for each number.
    randomisation: Levels = None

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        module, _, function = method.partition(":")
        if method not in (OCCLUSION, *BACKWARD) and not (module and function):
            known = ", ".join(map(repr, (OCCLUSION, *BACKWARD)))
            raise ValueError(f"{method!r} is unknown: use {known}, or 'module:callable'")
        return method

    @model_validator(mode="after")
    def _consistent(self) -> Explain:
        if self.layers is not None and self.method not in BACKWARD:
            raise ValueError(
                f"{self.name}: {self.method} has no layers: only {', '.join(BACKWARD)} go back from channels"
            )
        for names, fits, what in self._kinds:
            if not fits and (given := [name for name in names if name in self.model_fields_set]):
                raise ValueError(f"{self.name}: {given[0]} is of {what}: take it out")
        if self.by == "mad" and ORIGINAL in self.conditions:
            raise ValueError(
                f'{self.name}: by = "mad" ranks by the change from the original: name conditions other than it'
            )
        axes = max(len(value) if isinstance(value, tuple) else 1 for value in (self.window, self.stride))
        sides, steps = (v if isinstance(v, tuple) else (v,) * axes for v in (self.window, self.stride))
        if any(step > side for side, step in zip(sides, steps, strict=False)):
            raise ValueError(
                f"{self.name}: stride = {self.stride} is longer than window = {self.window}, and pixels between "
                "windows would never be hidden: give a stride up to the window"
            )
        for key in ("targets", "conditions", "layers"):
            names = getattr(self, key) or ()
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{self.name}: {key} has {twice!r} twice: take one out")
        return self

    @property
    def _kinds(self) -> tuple[tuple[tuple[str, ...], bool, str], ...]:
        """Settings that only some explanations have, whether this one does, and which do."""
        return (
            (("window", "stride", "box"), self.method == OCCLUSION, f'method = "{OCCLUSION}"'),
            (("targets", "score", "fill", "deletion"), self.layers is None, "classes, without layers"),
            (("top", "by", "start"), self.layers is not None, "channels, with layers"),
            (("norm",), self.method in BACKWARD, f"methods that go back: {', '.join(BACKWARD)}"),
        )

    def as_json(self) -> dict[str, Any]:
        """Its settings, with defaults, without those of other explanations."""
        others = {name for names, fits, _ in self._kinds if not fits for name in names}
        return {name: value for name, value in self.model_dump(mode="json").items() if name not in others}

    @property
    def of_channels(self) -> bool:
        """Whether it projects channels back, not classes."""
        return self.layers is not None


def check_explanations(
    explanations: Sequence[Explain], conditions: Sequence[str], classes: Collection[str], dims: int
) -> None:
    """Refuse explanations that do not fit a run's conditions, classes and number of axes of space.

    Raises
    ------
    ValueError
        naming what does not fit.
    """
    check_names("explain", (explanation.name for explanation in explanations))
    for explanation in explanations:
        where = f"explain {explanation.name!r}"
        check_known(where, explanation.targets or (), list(classes), "class", "data.classes has")
        check_known(where, explanation.conditions, conditions, "condition", "the run has")
        for key in ("window", "stride", "deletion"):
            value = getattr(explanation, key)
            if isinstance(value, tuple) and len(value) != dims:
                raise ValueError(f"{where} has {key} = {list(value)}: give one number, or {dims}")
