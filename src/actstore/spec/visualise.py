"""The spec's table of activation maximisation: which channels to maximise, how an image is made, and what shapes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from actstore.spec.values import Finite, Positive, SpatialSize, Text, TomlTable

Objective = Literal["mean", "neuron", "direction", "class"]
Parameterization = Literal["fourier", "pixel", "maco"]
RegularizerKind = Literal[
    "brightness", "translate", "rotate", "resize", "crop", "l1", "l2", "tv", "switching_bilateral"
]
Interpolation = Literal["nearest", "bilinear", "bicubic"]

#: Kinds that move or scale the image by random numbers, with the default range of these: of the factor of intensities,
#: the shift in pixels along each axis, the angle in degrees, the scale, and the share of the area or volume.
RANGES: Mapping[str, tuple[float, float]] = {
    "brightness": (0.0, 2.0),
    "translate": (-8.0, 8.0),
    "rotate": (-5.0, 5.0),
    "resize": (0.9, 1.1),
    "crop": (0.5, 1.0),
}
#: Kinds with a weight, with its default: λ of a penalty, the one of Eitel et al. for L1; Chambolle's for "tv" that
#: denoises the image.
WEIGHTS: Mapping[str, float] = {"l1": 10.0, "l2": 10.0, "tv": 0.1}
#: What a kind may be applied to, its default first.
APPLIES: Mapping[str, tuple[Literal["forward", "image"], ...]] = {
    **dict.fromkeys(RANGES, ("forward", "image")),
    "l1": ("forward",),
    "l2": ("forward",),
    "tv": ("image", "forward"),
    "switching_bilateral": ("image",),
}


def _channels(value: Any) -> Any:
    if value == "all":
        return value
    if (
        isinstance(value, list | tuple)
        and value
        and all(isinstance(channel, int) and not isinstance(channel, bool) and channel >= 0 for channel in value)
        and len(set(value)) == len(value)
    ):
        return tuple(value)
    raise ValueError('must be "all", or a list of channels of each layer, numbers from 0, each once')


class Regularizer(TomlTable):
    """One regulariser: a random transform, a filter, or a penalty."""

    kind: RegularizerKind
    #: Lowest and highest random number: a factor, pixels, degrees, a scale or a share of the area, by kind.
    range: tuple[Finite, Finite] | None = None
    #: Weight of a penalty ("l1", "l2", "tv" with ``apply = "forward"``), or of the denoising of "tv".
    weight: Annotated[StrictFloat | StrictInt, Field(gt=0)] | None = None
    #: How "rotate", "translate", "resize" and "crop" interpolate; "bicubic" in 2D only. By default "bilinear".
    mode: Interpolation | None = None
    #: Applied at every step of this number.
    every: Positive = 1
    #: "forward" transforms what the network sees, through which the gradient flows; "image" changes the image itself.
    apply: Literal["forward", "image"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Regularizer:
        for name, kinds in (("range", RANGES), ("weight", WEIGHTS), ("mode", _MOVING)):
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"{self.kind} has no {name}: only {', '.join(kinds)} do")
        if self.apply is not None and self.apply not in APPLIES[self.kind]:
            raise ValueError(f"{self.kind} applies to the {APPLIES[self.kind][0]} only: take `apply` out")
        low, high = self.bounds
        if low > high:
            raise ValueError(f"range = [{low:g}, {high:g}] is upside down: give the lower number first")
        if self.kind == "brightness" and low < 0:
            raise ValueError(f"range begins at {low:g}: factors of intensities are not negative")
        if self.kind == "resize" and low <= 0:
            raise ValueError(f"range begins at {low:g}: a scale is greater than 0")
        if self.kind == "crop" and not 0 < low <= high <= 1:
            raise ValueError(f"range = [{low:g}, {high:g}]: shares of the area lie above 0 and up to 1")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """``range``, or its default; (0, 0) for kinds without."""
        return self.range or RANGES.get(self.kind, (0.0, 0.0))

    @property
    def strength(self) -> float:
        """``weight``, or its default."""
        return float(self.weight or WEIGHTS.get(self.kind, 0.0))

    @property
    def filled(self) -> Regularizer:
        """With every default written out, as it is stored."""
        values: dict[str, Any] = {"apply": "image" if self.on_image else "forward"}
        if self.kind in RANGES:
            values["range"] = self.bounds
        if self.kind in WEIGHTS:
            values["weight"] = self.strength
        if self.kind in _MOVING:
            values["mode"] = self.interpolation
        return self.model_copy(update=values)

    @property
    def on_image(self) -> bool:
        """Whether it changes the image itself."""
        return (self.apply or APPLIES[self.kind][0]) == "image"

    @property
    def interpolation(self) -> Interpolation:
        """``mode``, or its default."""
        return self.mode or "bilinear"


_MOVING = ("translate", "rotate", "resize", "crop")

Direction = Annotated[tuple[Finite, ...], Field(min_length=1)]


class Visualise(TomlTable):
    """Activation maximisation: an image for each channel of each layer that makes the channel respond most."""

    #: Layers, as in ``model.layers``; by default those.
    layers: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    #: "all", or the same channels of each layer.
    channels: Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(_channels)] = "all"
    #: What is maximised: the mean of the channel's map, its value at the centre ("neuron"), the mean of a weighted sum
    #: of channels ("direction", see ``directions``), or the mean logit of a class ("class").
    objective: Objective = "mean"
    #: Weights over all channels of a layer, one list a direction.
    directions: Annotated[tuple[Direction, ...], Field(min_length=1)] | None = None
    #: What the optimiser changes: the spectrum of the image, its pixels, or the phase of a spectrum whose magnitude is
    #: the mean of the run's own inputs ("maco").
    parameterization: Parameterization = "fourier"
    #: ([z,] y, x) of the image in pixels; by default the network's input.
    size: SpatialSize | None = None
    #: Steps of the optimiser.
    steps: Positive = 256
    #: "adam", or "sgd" with plain steps along the gradient.
    optimizer: Literal["adam", "sgd"] = "adam"
    #: Of "adam" the length of a step, for "pixel" in units of ``range``, or of intensity where that is free.
    learning_rate: Annotated[StrictFloat | StrictInt, Field(gt=0)] = 0.05
    #: Radius of the L2 ball to which "sgd" projects the image of the parameterization "pixel" after each step.
    ball: Annotated[StrictFloat | StrictInt, Field(gt=0)] | None = None
    #: Lowest and highest intensity of an image, or "free". By default [0, 1] after min-max and percentile
    #: normalisation, else the range of the run's own inputs.
    range: tuple[Finite, Finite] | Literal["free"] | None = None
    #: Images of each channel, from different random starts.
    repeats: Positive = 1
    #: How strongly the images of one channel are pushed apart.
    diversity: Annotated[StrictFloat | StrictInt, Field(ge=0)] = 0.0
    #: Channels optimised at once.
    batch_size: Positive = 16
    seed: Annotated[StrictInt, Field(ge=0)] = 0
    regularize: tuple[Regularizer, ...] = ()
    #: Whether to find the samples of the run that activate each channel most, and compare with them.
    samples: StrictBool = True

    @model_validator(mode="after")
    def _consistent(self) -> Visualise:
        if isinstance(self.range, tuple) and self.range[0] >= self.range[1]:
            raise ValueError(
                f"range = [{self.range[0]:g}, {self.range[1]:g}] is upside down: give the lower intensity first"
            )
        if (self.objective == "direction") != (self.directions is not None):
            raise ValueError('objective = "direction" and `directions` go together: give both, or neither')
        if self.objective == "class" and self.layers is not None:
            raise ValueError('objective = "class" is of the network\'s output: take `layers` out')
        if self.ball is not None and self.optimizer == "adam":
            raise ValueError(
                "a ball does not go with Adam, whose steps have one length in every pixel and converge to the sign of "
                'the filter: use optimizer = "sgd", or the penalty kind = "l2"'
            )
        if self.ball is not None and self.parameterization != "pixel":
            raise ValueError('a ball is of images: use parameterization = "pixel"')
        for i, regularizer in enumerate(self.regularize):
            if regularizer.every > self.steps:
                raise ValueError(
                    f"regularize[{i}]: every = {regularizer.every} is beyond the last of {self.steps} steps, so that "
                    f"{regularizer.kind} would never be applied: give a smaller number, or more steps"
                )
        if self.diversity > 0 and self.repeats == 1:
            raise ValueError("diversity pushes several images of a channel apart: give repeats of 2 or more")
        return self
