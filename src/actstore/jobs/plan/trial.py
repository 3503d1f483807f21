"""Predicts one labelled volume as a capture will, to notice data that the network sees otherwise than in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from actstore.data.volume import VolumeFile
from actstore.errors import ActstoreError, DataError, one_line
from actstore.inputs.pipeline import Pipeline
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import prepare
from actstore.jobs.plan.network import Network
from actstore.networks.heads import normalised_warning
from actstore.networks.repeatable import kept_generators
from actstore.spec.spec import Spec
from actstore.spec.toml_tables import Axes, Controls

#: Slices of a volume that a 2D network predicts: enough to tell orders apart, and little beside a capture.
SLICES = 5
#: Patches of a volume that a 3D network predicts, those with the largest part of the label.
PATCHES = 3
#: Below this share of the way from chance to 1, other axis orders are tried. An nnU-Net of hearts has a mean Dice of
#: 0.84 to 0.92 in the right order, of 0.18 to 0.47 in the wrong one: a heart in the middle of a slice overlaps itself.
LOW = 0.75
#: Below this share, the result counts as near chance.
NEAR_CHANCE = 0.25
#: Another order counts as better if its mean Dice is higher by this; that of five slices varies by less.
BETTER = 0.1

#: Volumes to look through for a labelled one.
LOOKED_THROUGH = 10
#: Network inputs (sample, channel, \\*space) float32 in one axis order, their labels (sample, \\*space) uint8, and
#: which pixels count (sample, \\*space) bool.
Samples = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]
#: The class of each pixel, uint8 (sample, \\*space), for inputs (sample, channel, \\*space).
Predict = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Trial:
    """How a prediction of one volume agrees with its label."""

    #: Name of the volume.
    volume: str
    #: Patches that were predicted.
    samples: int
    #: Order of axes as the run reads them.
    axes: str
    #: Dice of each class or region that the label has.
    dice: Mapping[str, float]
    #: Mean Dice of labels drawn at random, each as often as in the label.
    chance: float
    #: Mean Dice with each other order, if tried.
    others: Mapping[str, float] = field(default_factory=dict)
    #: Why nothing could be predicted, or "".
    problem: str = ""
    #: Why outputs are no logits, or "".
    normalised: str = ""
    #: Whether a trained network brought axes and preprocessing, which the spec then does not choose.
    trained: bool = False

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.dice.values()))) if self.dice else float("nan")

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
        if self.problem:
            return f"{self.volume} cannot be predicted: {self.problem}"
        each = ", ".join(f"{name} {dice:.2f}" for name, dice in self.dice.items())
        where = f"{self.samples} samples of {self.volume}" if self.samples > 1 else self.volume
        return f"mean Dice {self.mean:.2f} ({each}) in {where}, where chance gives {self.chance:.2f}"

    def warning(self) -> str | None:
        """What to look at, on one line, or ``None`` if the prediction agrees well enough."""
        if self.normalised or not self.suspicious:
            return self.normalised or None
        unfit = f"the prediction does not fit the labels: {self.text()}"
        silence = 'run.check = "off" silences this'
        if self.trained:
            return (
                f"{unfit}. Axes and preprocessing are those of the network's training: look at whether these images "
                "are of its kind (modality, order of channels, voxel sizes in the headers), and masks have its label "
                f"values. {silence}"
            )
        tried = ", ".join(f"{dice:.2f} with {order!r}" for order, dice in self.others.items())
        if self.best is not None:
            mend = f"set data.axes = {_quoted(self.best)} ({tried})"
        else:
            mend = f"data.axes is {_quoted(self.axes)}" + (f" ({tried})" if tried else "")
        return (
            f"{unfit}. Look at axis order first: {mend}; then at data.preprocess.normalize and at the label values in "
            f"data.classes. {silence}"
        )

    def as_json(self) -> dict[str, Any]:
        """Root attribute ``check`` of a store."""
        return {
            "volume": self.volume,
            "samples": self.samples,
            "axes": self.axes,
            "dice": {name: round(dice, 4) for name, dice in self.dice.items()},
            "chance": round(self.chance, 4),
            **({"problem": self.problem} if self.problem else {}),
            **({"normalised": True} if self.normalised else {}),
            "others": {order: round(dice, 4) for order, dice in self.others.items()},
        }


def try_first(spec: Spec, pipeline: Pipeline, network: Network, files: Iterable[VolumeFile]) -> Trial | None:
    """`try_volume` of the first of ``files`` that can be read and has a label, as the run would prepare it.

    ``None`` if there is none among the first `LOOKED_THROUGH`. Other axis orders are tried only where the spec chooses
    the order, not where a trained network brings it.
    """
    pipelines: dict[str, Pipeline] = {spec.axes: pipeline}
    if spec.trained is None:
        other: Axes = "nibabel" if spec.axes == "simpleitk" else "simpleitk"
        pipelines[other] = Plain(spec.model_copy(update={"data": spec.data.model_copy(update={"axes": other})}))

    normalised: list[bool] = []

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        head = network.head
        with torch.inference_mode(), kept_generators():
            # One at a time: a batch of volumes may not fit the memory.
            classes = []
            for one in inputs:
                logits = head.logits(network.model(torch.from_numpy(one)[None]))
                normalised.append(head.is_normalised(logits))
                classes.append(head.classes(logits))
            return torch.cat(classes).numpy()

    for file in islice(files, LOOKED_THROUGH):
        try:
            found = try_volume(
                str(file.key), partial(_samples, spec, file, pipelines), predict, spec.labels.members, *pipelines
            )
        except DataError:
            continue
        except Exception as error:  # a user's network may raise anything
            return Trial(str(file.key), 0, spec.axes, {}, 0.0, problem=one_line(error))
        if found is not None:
            why = normalised_warning(spec) if all(normalised) else ""
            return replace(found, trained=spec.trained is not None, normalised=why)
    return None


def _samples(spec: Spec, file: VolumeFile, pipelines: Mapping[str, Pipeline], order: str) -> Samples:
    """Some patches of the original through the middle of what is labelled."""
    pipeline = pipelines[order]
    prepared = prepare(spec.model_copy(update={"perturb": (), "controls": Controls()}), pipeline, pipeline.read(file))
    windows = prepared.windows
    labelled = [int((prepared.classes[windows.box(patch)] > 0).sum()) for patch in range(len(windows))]
    chosen = np.flatnonzero(labelled)
    if len(pipeline.window) == 2:
        start = max(0, (len(chosen) - SLICES) // 2)
        chosen = chosen[start : start + SLICES]
    else:
        chosen = np.sort(np.argsort(labelled, kind="stable")[::-1][: min(PATCHES, len(chosen))])
    wanted = np.ones_like(prepared.applicable)
    inputs = [prepared.images(slice(patch, patch + 1), wanted)[0, 0] for patch in chosen.tolist()]
    owned = np.zeros((len(chosen), *windows.size), bool)
    for i, patch in enumerate(chosen.tolist()):
        owned[(i, *windows.owned_in(patch))] = True
    shape = (len(chosen), len(pipeline.channels), *pipeline.window)
    return np.array(inputs).reshape(shape), prepared.label[chosen], owned.reshape(len(chosen), *pipeline.window)


def try_volume(
    name: str,
    samples: Callable[[str], Samples],
    predict: Predict,
    members: Mapping[str, Sequence[int]],
    axes: str,
    *others: str,
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
    inputs, label, owned = samples(axes)
    present = {key: mask for key in members if (mask := np.isin(label, members[key]) & owned).any()}
    if not present:
        return None
    # A class with the share f of all pixels, predicted at random as often, has the Dice 2 f² / (f + f) = f.
    chance = float(np.mean([mask.sum() / owned.sum() for mask in present.values()]))
    trial = Trial(name, len(label), axes, _dice(predict(inputs), label, owned, members, present), chance)
    if trial.mean >= _share(LOW, chance):
        return trial
    found = {}
    for order in others:
        try:
            inputs, label, owned = samples(order)
            dice = _dice(predict(inputs), label, owned, members, present)
        except ActstoreError:
            # A volume may not fit the network in another order.
            continue
        found[order] = float(np.mean(list(dice.values())))
    return replace(trial, others=found)


def _dice(
    predicted: NDArray[np.uint8],
    label: NDArray[np.uint8],
    owned: NDArray[np.bool_],
    members: Mapping[str, Sequence[int]],
    present: Mapping[str, Any],
) -> dict[str, float]:
    """Dice of each present class over what all samples own together."""
    found = {}
    for key in present:
        true, said = (np.isin(a, members[key]) & owned for a in (label, predicted))
        total = int(true.sum()) + int(said.sum())
        found[key] = 2 * int((true & said).sum()) / total if total else 1.0
    return found


def _share(share: float, chance: float) -> float:
    return chance + share * (1 - chance)


def _quoted(text: str) -> str:
    return f'"{text}"'
