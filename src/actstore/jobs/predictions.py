"""Class maps of the samples of one volume, and their confusion counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.inputs.images import Inputs, PreparedImages
from actstore.inputs.prepare import Prepared
from actstore.inputs.windows import Stitched
from actstore.jobs.scores import Scores
from actstore.networks.heads import Head

Sent = Mapping[tuple[int, int], NDArray[Any]]


class Predictions(Protocol):
    """Takes what the network returned, and counts true against predicted classes."""

    #: Whether predictions of overlapping patches are averaged, and known only after the last one.
    stitched: bool
    #: int64 (sample, condition, true class, predicted class): voxels that the sample owns.
    confusion: NDArray[np.int64]

    def sent(self, logits: Tensor) -> Tensor:
        """What of a batch's logits (batch, class, \\*space) is copied to the host."""
        ...

    def add(self, found: Sent) -> None:
        """Take what was `sent` for each (sample, condition) of consecutive samples."""
        ...

    def finish(self) -> Mapping[str, NDArray[Any]]:
        """After the last sample: arrays of the block that are known only now, by path."""
        ...


def predictions_of(
    prepared: Inputs, head: Head, classes: int, *, stitched: bool, scores: Scores | None = None
) -> Predictions:
    """Predictions of a volume, ``stitched`` from its patches or each patch's own; or of images as a whole.

    Averaged logits go to ``scores``.
    """
    if isinstance(prepared, PreparedImages):
        return Classified(prepared, head, classes)
    return Averaged(prepared, head, classes, scores) if stitched else Single(prepared, head, classes)


class Single:
    """Each sample's prediction is its own."""

    stitched = False

    def __init__(self, prepared: Prepared, head: Head, classes: int) -> None:
        self._prepared, self._head = prepared, head
        self.confusion = np.zeros((*prepared.applicable.shape, classes, classes), dtype=np.int64)

    def sent(self, logits: Tensor) -> Tensor:
        return self._head.classes(logits)

    def add(self, found: Sent) -> None:
        windows, space = self._prepared.windows, self._prepared.space
        for (sample, condition), predicted in found.items():
            owned = windows.owned_in(sample)[-len(space) :]
            label = self._prepared.label[sample][owned]
            self.confusion[sample, condition] = confusion_of(label, predicted[owned], self.confusion.shape[-1])

    def finish(self) -> Mapping[str, NDArray[Any]]:
        return {}


class Classified:
    """One class a sample: the largest of its logits."""

    stitched = False

    def __init__(self, prepared: PreparedImages, head: Head, classes: int) -> None:
        self._prepared, self._head = prepared, head
        shape = prepared.applicable.shape
        self.confusion = np.zeros((*shape, classes, classes), dtype=np.int64)
        #: (sample, condition, class) float32 logits, NaN where not applicable.
        self.score = np.full((*shape, classes), np.nan, dtype=np.float32)

    def sent(self, logits: Tensor) -> Tensor:
        return self._head.scores(logits)

    def add(self, found: Sent) -> None:
        for (sample, condition), scores in found.items():
            self.score[sample, condition] = scores
            # The first of equals, as `Head.classes` has it.
            self.confusion[sample, condition, self._prepared.classes[sample], int(scores.argmax())] = 1

    def finish(self) -> Mapping[str, NDArray[Any]]:
        return {"outputs/score": self.score}


class Averaged:
    """Logits of overlapping patches are averaged with the window's weights, in float32 and in the order of the patches.

    Counts every sample in every condition that applies to some: what a perturbation does to the prediction reaches
    beyond the patches that it is recorded for.
    """

    stitched = True

    def __init__(self, prepared: Prepared, head: Head, classes: int, scores: Scores | None = None) -> None:
        self._prepared, self._head, self._scores = prepared, head, scores
        self.confusion = np.zeros((*prepared.applicable.shape, classes, classes), dtype=np.int64)
        self._sums: dict[int, Stitched] = {}
        self._conditions: list[int] = np.flatnonzero(prepared.applicable.any(axis=0)).tolist()

    def sent(self, logits: Tensor) -> Tensor:
        return logits.float()

    def add(self, found: Sent) -> None:
        windows = self._prepared.windows
        for sample in sorted({sample for sample, _ in found}):
            for condition in self._conditions:
                # Where an input is the original's, so is the prediction.
                logits = found.get((sample, condition))
                logits = found[sample, 0] if logits is None else logits
                logits = logits.reshape(len(logits), *windows.size)
                if condition not in self._sums:
                    self._sums[condition] = Stitched(windows, len(logits))
                self._sums[condition].add(sample, logits)

    def finish(self) -> Mapping[str, NDArray[Any]]:
        windows, space = self._prepared.windows, self._prepared.space
        predictions = np.zeros((*self.confusion.shape[:2], *space), np.uint8)
        for condition in self._conditions:
            logits = self._sums.pop(condition).logits
            if self._scores is not None:
                self._scores.add_volume(condition, logits)
            classes = self._head.classes(torch.from_numpy(logits)[None])[0].numpy()
            for sample in range(len(windows)):
                box = windows.box(sample)
                found = confusion_of(self._prepared.classes[box], classes[box], self.confusion.shape[-1])
                self.confusion[sample, condition] = found
                predictions[sample, condition] = windows.cut(classes, sample).reshape(space)
        return {"outputs/prediction": predictions}


def confusion_of(label: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Pixels of each true class (rows) that were predicted as each class (columns)."""
    pairs = label.astype(np.intp).ravel() * classes + predicted.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
