"""Turns what a network returns into logits, and logits into class indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from actstore.errors import ModelError, SpecError
from actstore.networks.recording import SUMS_TO_ONE
from actstore.spec.labels import Labels
from actstore.spec.spec import Spec

#: How logits become classes: the largest of one channel a class, one sigmoid for one class, one sigmoid a region.
HeadKind = Literal["argmax", "sigmoid", "regions"]


@dataclass(frozen=True)
class Head:
    """Which of a network's outputs holds its logits, and how they become exclusive class indices."""

    kind: HeadKind
    #: Channels of the logits.
    channels: int
    #: Axes of space: 2 or 3; 0 for a classifier.
    dims: int
    #: Keys that lead from what the network returns to the tensor of logits; none where it returns that tensor.
    path: tuple[int | str, ...] = ()
    #: For regions: the class index that each region writes, in the order of writing.
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("argmax", "sigmoid", "regions"):
            raise ValueError(f"kind = {self.kind!r}: give 'argmax', 'sigmoid' or 'regions'")
        if self.kind == "sigmoid" and self.channels != 1:
            raise ValueError(f"a sigmoid head has one channel, not {self.channels}: use 'regions'")
        if len(self.order) != (self.channels if self.kind == "regions" else 0):
            raise ValueError(f"order = {self.order} for {self.channels} channels of {self.kind!r}")

    @property
    def is_plain(self) -> bool:
        """Whether it is the largest logit of the one tensor that the network returns."""
        return self.kind == "argmax" and not self.path

    def as_json(self) -> dict[str, Any]:
        """The head as part of a run's identity."""
        return {"kind": self.kind, "path": list(self.path), "order": list(self.order)}

    def whole_json(self) -> dict[str, Any]:
        """All of it, for `from_json`."""
        return {**self.as_json(), "channels": self.channels, "dims": self.dims}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "path": tuple(content["path"]), "order": tuple(content["order"])})

    def described_for(self, labels: Labels) -> str:
        """How the outputs become the classes of ``labels``, for `plan`."""
        entry = f"of output {''.join(f'[{key!r}]' for key in self.path)}, " if self.path else ""
        if self.kind == "argmax":
            return f"{entry}one channel for each of {', '.join(labels.names)}: the largest"
        if self.kind == "sigmoid":
            return f"{entry}one sigmoid for {labels.names[1]}"
        writes = (f"{name} as {labels.names[i]}" for name, i in zip(labels.members, self.order, strict=True))
        return f"{entry}one sigmoid for each region, later ones over earlier ones: {', '.join(writes)}"

    def logits(self, output: Any) -> Tensor:
        """The logits (batch, class or region, \\*space) in what the network returned.

        Raises
        ------
        ModelError
            if it returned something else than in the trial pass.
        """
        found = output
        for key in self.path:
            try:
                found = found[key]
            except (LookupError, TypeError) as error:
                raise ModelError(
                    f"the network returned {described(output)}, without the output {key!r} of the trial pass: what it "
                    "returns depends on its input, which cannot be recorded"
                ) from error
        if not isinstance(found, Tensor) or found.ndim != self.dims + 2 or found.shape[1] != self.channels:
            raise ModelError(
                f"the network returned {described(found)}, (batch, {self.channels}, space) in the trial pass: what it "
                "returns depends on its input, which cannot be recorded"
            )
        return found

    def scores(self, logits: Tensor) -> Tensor:
        """A classifier's logits (batch, class) float32, whose softmax are its probabilities: of one logit, 0 and it."""
        logits = logits.float()
        return torch.cat([torch.zeros_like(logits), logits], 1) if self.kind == "sigmoid" else logits

    def is_normalised(self, logits: Tensor) -> bool:
        """Whether logits of sigmoids (batch, channel, \\*space) look like their probabilities, all from 0 to 1.

        Those of a softmax are refused by `head_of`.
        """
        return self.kind != "argmax" and logits.numel() > 0 and bool(((logits >= 0) & (logits <= 1)).all())

    def classes(self, logits: Tensor) -> Tensor:
        """Class index of each pixel: (batch, \\*space) uint8.

        Of logits (batch, channel, \\*space); those of one input, (channel, \\*space), give (\\*space). A sigmoid is on
        where its logit is above 0. Of regions, later ones in ``order`` overwrite earlier ones, as in nnU-Net's
        ``convert_logits_to_segmentation``.
        """
        if logits.ndim == self.dims + 1:
            return self.classes(logits[None])[0]
        if self.kind == "argmax":
            return most_likely(logits)
        if self.kind == "sigmoid":
            return (logits[:, 0] > 0).to(torch.uint8)
        index = torch.zeros_like(logits[:, 0], dtype=torch.uint8)
        for channel, written in enumerate(self.order):
            index.masked_fill_(logits[:, channel] > 0, written)
        return index


def most_likely(logits: Tensor) -> Tensor:
    """Index of the largest of (batch, class, \\*space) along class, the first of equals: (batch, \\*space) uint8.

    On a CPU ``argmax`` over this axis takes half as long as the network itself; one comparison per class is 20 times
    faster.
    """
    best = logits[:, 0].clone()
    index = torch.zeros_like(best, dtype=torch.uint8)
    for k in range(1, logits.shape[1]):
        larger = logits[:, k] > best
        index.masked_fill_(larger, k)
        torch.maximum(best, logits[:, k], out=best)
    return index


def head_of(spec: Spec, size: Sequence[int], output: Any) -> Head:
    """The head that fits the classes of ``spec`` and what its network returned for one input of ``size`` ([z,] y, x).

    Only shapes are looked at. Of a list or tuple of outputs of falling resolution (deep supervision), the one that has
    the input's size counts; any other choice is that of ``model.output``.

    - One channel for each exclusive class, background first: the largest logit.
    - One channel, and one class besides the background: a sigmoid.
    - One channel for each of ``data.classes``, if some of them are regions: sigmoids, written in that order.

    Of a classifier, ``size`` is (), and its output (batch, class).

    Raises
    ------
    ModelError
        in one line that says what was returned and what would fit.
    """
    size = tuple(size)
    path, found = _chosen(spec, size, output)
    labels, given = spec.labels, spec.data.regions_class_order
    if not isinstance(found, Tensor) or found.ndim != len(size) + 2 or found.shape[2:] != size:
        raise ModelError(_unfit(spec, size, path, found))
    channels, exclusive = found.shape[1], len(labels.names)
    if getattr(found, SUMS_TO_ONE, False) and channels == exclusive and (not size or spec.store.histogram):
        insist = ", or set store.histogram = false, which keeps no scores" if size else ""
        raise ModelError(
            f"{_returns(spec, path)} probabilities, which sum to 1 over its {channels} channels, where logits are "
            f"needed: take the softmax out of the network that the factory returns{insist}"
        )
    regions = channels == len(labels.members) and bool(given or (given is None and labels.regions))
    if regions and given is None and channels == exclusive:
        raise ModelError(
            f"{_returns(spec, path)} {channels} channels: one for each of {', '.join(labels.names)}, or one sigmoid "
            f"for each of {', '.join(labels.members)}; give data.regions_class_order for sigmoids, or "
            "data.regions_class_order = [] for exclusive classes"
        )
    if regions:
        try:
            return Head("regions", channels, len(size), path, labels.order(given))
        except SpecError as error:
            raise ModelError(str(error)) from error
    if channels == exclusive and not given:
        return Head("argmax", channels, len(size), path)
    if channels == 1 and exclusive == 2 and not given:
        return Head("sigmoid", channels, len(size), path)
    raise ModelError(_unfit(spec, size, path, found))


def normalised_warning(spec: Spec) -> str:
    """What is wrong with a network whose outputs `Head.is_normalised`, on one line."""
    return (
        f"{spec.model.source!r} returns what looks like probabilities, all from 0 to 1: outputs are taken for logits, "
        "of which those above 0 are of the class, and curves would be of a sigmoid's sigmoid; take the sigmoid out "
        'of the network that the factory returns. run.check = "off" silences this'
    )


def described(output: Any) -> str:
    """The structure and shapes of what a network returned for one input, without the batch."""
    if isinstance(output, Tensor):
        return str(tuple(output.shape[1:]))
    if isinstance(output, Mapping):
        return f"a dict of {', '.join(f'{key!r}: {described(value)}' for key, value in output.items()) or 'nothing'}"
    if isinstance(output, list | tuple):
        entries = (f"{i}: {described(value)}" for i, value in enumerate(output))
        return f"a {'list' if isinstance(output, list) else 'tuple'} of {', '.join(entries) or 'nothing'}"
    return type(output).__name__


def _returns(spec: Spec, path: Sequence[int | str]) -> str:
    entry = "".join(f"[{key!r}]" for key in path)
    return f"{spec.model.source!r} returns{f' as output {entry}' if entry else ''}"


def _unfit(spec: Spec, size: Sequence[int], path: Sequence[int | str], found: Any) -> str:
    """What was returned, and all that would fit."""
    labels, given = spec.labels, spec.data.regions_class_order
    fits = []
    if not given:
        fits.append(f"{(len(labels.names), *size)}, one channel for each of {', '.join(labels.names)}")
        if len(labels.names) == 2:
            fits.append(f"{(1, *size)}, one sigmoid for {', '.join(labels.members)}")
    if given or (given is None and labels.regions):
        fits.append(f"{(len(labels.members), *size)}, one sigmoid for each of {', '.join(labels.members)}")
    if not size:
        wanted = f"({len(labels.names)},), one logit for each of {', '.join(labels.names)}"
        wanted += f", or (1,), one sigmoid for {labels.names[1]}" if len(labels.names) == 2 else ""
        return (
            f"{_returns(spec, path)} {described(found)} for one image: expected {wanted}; correct data.classes or "
            'model.arguments, or take another data.format than "images" for a network that segments'
        )
    classifies = isinstance(found, Tensor) and found.ndim == 2
    return (
        f"{_returns(spec, path)} {described(found)} for one sample: expected {', or '.join(fits)}, at "
        "data.preprocess.size; correct data.classes, data.preprocess.size or model.arguments"
        + (', or give a classifier data.format = "images"' if classifies else "")
    )


def _chosen(spec: Spec, size: Sequence[int], output: Any) -> tuple[tuple[int | str, ...], Any]:
    """The keys that lead to the logits in ``output``, and what is there."""
    path: list[int | str] = []
    if spec.model.output is not None:
        path.append(_entry(spec, output, spec.model.output))
        output = output[path[0]]
    while isinstance(output, Mapping | list | tuple):
        key = _only(output, size)
        if key is None:
            mend = "return one tensor of logits there" if path else "name the one of its logits in model.output"
            raise ModelError(f"{_returns(spec, path)} {described(output)}: {mend}")
        path.append(key)
        output = output[key]
    return tuple(path), output


def _entry(spec: Spec, output: Any, wanted: int | str) -> int | str:
    """``model.output``, if the network returned such an entry."""
    if isinstance(output, Mapping):
        keys: list[Any] = list(output)
    else:
        keys = list(range(len(output))) if isinstance(output, list | tuple) else []
    if wanted not in keys:
        known = f"there are {', '.join(map(repr, keys))}" if keys else "take it out"
        raise ModelError(f"model.output = {wanted!r}: {_returns(spec, ())} {described(output)}; {known}")
    return wanted


def _only(output: Mapping[Any, Any] | Sequence[Any], size: Sequence[int]) -> Any:
    """The key of the only entry, or of the only one of the input's ``size`` among outputs of falling resolution."""
    keys = list(output) if isinstance(output, Mapping) else list(range(len(output)))
    if len(keys) == 1:
        return keys[0]
    if isinstance(output, Mapping) or not all(isinstance(entry, Tensor) for entry in output):
        return None
    alike = {(entry.ndim, *entry.shape[1:2]) for entry in output}
    full = [key for key, entry in zip(keys, output, strict=True) if tuple(entry.shape[2:]) == tuple(size)]
    return full[0] if len(alike) == 1 and len(full) == 1 else None
