"""Predicts one labelled volume as a capture will, to notice data that the network sees otherwise than in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actstore.data.nifti import read_volume
from actstore.data.volume import Volume, VolumeFile
from actstore.errors import ActstoreError, DataError
from actstore.inputs.prepare import prepare
from actstore.jobs.inference import most_likely
from actstore.networks.repeatable import kept_generators
from actstore.spec.spec import Spec
from actstore.spec.toml_tables import Controls

#: Slices of a volume that a 2D network predicts: enough to tell orders apart, and little beside a capture.
SLICES = 5
#: Below this share of the way from chance to 1, other axis orders are tried. An nnU-Net of hearts has a mean Dice of
#: 0.84 to 0.92 in the right order, of 0.18 to 0.47 in the wrong one: a heart in the middle of a slice overlaps itself.
LOW = 0.75
#: Below this share, the result counts as near chance.
NEAR_CHANCE = 0.25
#: Another order counts as better if its mean Dice is higher by this; that of five slices varies by less.
BETTER = 0.1

#: Volumes to look through for a labelled one.
LOOKED_THROUGH = 10
#: Network inputs (sample, …, \\*space) float32 and their labels (sample, \\*space) uint8, in one axis order.
Samples = tuple[NDArray[np.float32], NDArray[np.uint8]]
#: The class of each pixel, uint8 (sample, \\*space), for inputs (sample, …, \\*space).
Predict = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Trial:
    """How a prediction of one volume agrees with its label."""

    #: Name of the volume.
    volume: str
    #: Slices of a 2D network, else 1.
    samples: int
    #: Order of axes as the run reads them.
    axes: str
    #: Dice of each class or region that the label has.
    dice: Mapping[str, float]
    #: Mean Dice of labels drawn at random, each as often as in the label.
    chance: float
    #: Mean Dice with each other order, if tried.
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.dice.values())))

    @property
    def best(self) -> str | None:
        """The order that is clearly better than that of the run, if any."""
        best = max(self.others, key=self.others.__getitem__, default=None)
        return best if best is not None and self.others[best] > self.mean + BETTER else None

    @property
    def suspicious(self) -> bool:
        return self.best is not None or self.mean < _share(NEAR_CHANCE, self.chance)

    def text(self) -> str:
        """The result on one line."""
        each = ", ".join(f"{name} {dice:.2f}" for name, dice in self.dice.items())
        where = f"{self.samples} slices of {self.volume}" if self.samples > 1 else self.volume
        return f"mean Dice {self.mean:.2f} ({each}) in {where}, where chance gives {self.chance:.2f}"

    def warning(self) -> str | None:
        """What to look at, on one line, or ``None`` if the prediction agrees well enough."""
        if not self.suspicious:
            return None
        tried = ", ".join(f"{dice:.2f} with {order!r}" for order, dice in self.others.items())
        if self.best is not None:
            mend = f"set data.axes = {_quoted(self.best)} ({tried})"
        else:
            mend = f"data.axes is {_quoted(self.axes)}" + (f" ({tried})" if tried else "")
        return (
            f"the prediction does not fit the labels: {self.text()}. Look at axis order first: {mend}; then at "
            "data.preprocess.normalize and at the label values in data.classes. "
            'run.check = "off" silences this'
        )

    def as_json(self) -> dict[str, Any]:
        """Root attribute ``check`` of a store."""
        return {
            "volume": self.volume,
            "samples": self.samples,
            "axes": self.axes,
            "dice": {name: round(dice, 4) for name, dice in self.dice.items()},
            "chance": round(self.chance, 4),
            "others": {order: round(dice, 4) for order, dice in self.others.items()},
        }


def try_first(spec: Spec, model: nn.Module, files: Iterable[VolumeFile]) -> Trial | None:
    """`try_volume` of the first of ``files`` that can be read and has a label, as the run would prepare it.

    ``None`` if there is none among the first `LOOKED_THROUGH`, or the network fails, which its blocks then report.
    """
    untouched = spec.model_copy(update={"perturb": (), "controls": Controls()})
    # Named by data.axes where the spec has that.
    axes = getattr(spec.data, "axes", None) or "nibabel"
    other = "nibabel" if axes == "simpleitk" else "simpleitk"
    members = {name: (index,) for index, name in enumerate(spec.class_names) if index}

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        with torch.inference_mode(), kept_generators():
            # One at a time: a batch of volumes may not fit the memory.
            parts = [most_likely(model(torch.from_numpy(one)[None, None])) for one in inputs]
        return torch.cat(parts).numpy()

    for file in islice(files, LOOKED_THROUGH):
        try:
            volume = read_volume(file, spec.data.classes, geometry=spec.data.geometry, sliced=spec.sliced)
        except DataError:
            continue

        def samples(order: str, volume: Volume = volume) -> Samples:
            seen = volume if order == axes else turned(volume, sliced=spec.sliced)
            prepared = prepare(untouched, seen)
            return prepared.inputs[:, 0], prepared.label

        try:
            trial = try_volume(str(file.key), samples, predict, members, axes, [other])
        except Exception:  # a user's network may raise anything
            return None
        if trial is not None:
            return trial
    return None


def try_volume(
    name: str,
    samples: Callable[[str], Samples],
    predict: Predict,
    members: Mapping[str, Sequence[int]],
    axes: str,
    others: Sequence[str] = (),
) -> Trial | None:
    """Compare the prediction of a volume's original condition with its label.

    Parameters
    ----------
    samples
        gives the samples in an axis order; only called for ``others`` if Dice is low.
    predict
        of the network, on the CPU.
    members
        each class or region, and the indices of exclusive classes that it consists of.
    axes, others
        the run's axis order, and those that ``data.axes`` could name instead.

    Returns
    -------
    ``None`` if the label has none of the classes.
    """
    inputs, label = _few(*samples(axes))
    present = {key: label_of for key in members if (label_of := np.isin(label, members[key])).any()}
    if not present:
        return None
    # A class with the share f of all pixels, predicted at random as often, has the Dice 2 f² / (f + f) = f.
    chance = float(np.mean([mask.mean() for mask in present.values()]))
    trial = Trial(name, len(label), axes, _dice(predict(inputs), label, members, present), chance)
    if trial.mean >= _share(LOW, chance):
        return trial
    found = {}
    for order in others:
        try:
            inputs, label = _few(*samples(order))
            dice = _dice(predict(inputs), label, members, present)
        except ActstoreError:
            # A volume may not fit the network in another order.
            continue
        found[order] = float(np.mean(list(dice.values())))
    return replace(trial, others=found)


def turned(volume: Volume, *, sliced: bool) -> Volume:
    """The volume as the other kind of reader gives it: "simpleitk" instead of "nibabel" or "monai", or the reverse.

    Slices along the third axis of the file stay and are transposed; for a 3D network, all axes are reversed.
    """

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        return array.swapaxes(-1, -2) if sliced else array.swapaxes(-1, -3)

    return replace(volume, image=turn(volume.image), label=turn(volume.label))


def _few(inputs: NDArray[np.float32], label: NDArray[np.uint8]) -> Samples:
    """At most `SLICES` samples through the middle of what is labelled."""
    labelled = np.flatnonzero(label.reshape(len(label), -1).any(1))
    if len(labelled) <= SLICES:
        chosen = labelled
    else:
        start = (len(labelled) - SLICES) // 2
        chosen = labelled[start : start + SLICES]
    return inputs[chosen], label[chosen]


def _dice(
    predicted: NDArray[np.uint8],
    label: NDArray[np.uint8],
    members: Mapping[str, Sequence[int]],
    present: Mapping[str, Any],
) -> dict[str, float]:
    """Dice of each present class over all samples together."""
    found = {}
    for key in present:
        true, said = np.isin(label, members[key]), np.isin(predicted, members[key])
        total = int(true.sum()) + int(said.sum())
        found[key] = 2 * int((true & said).sum()) / total if total else 1.0
    return found


def _share(share: float, chance: float) -> float:
    return chance + share * (1 - chance)


def _quoted(text: str) -> str:
    return f'"{text}"'
