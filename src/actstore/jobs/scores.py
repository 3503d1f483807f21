"""Histograms of the scores of one volume: of every sample, condition and class, true pixels apart from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.inputs.prepare import Prepared
from actstore.measures.bins import BINS, PROBABILITY_BINS, PROBABILITY_STEP, TOTALS, Activation
from actstore.measures.device_scores import count_on_device
from actstore.measures.scores import add_cells, count_scores
from actstore.networks.heads import Head
from actstore.spec.labels import Labels

Cell = tuple[int, int]


def activation_of(head: Head) -> Activation:
    """How a head's logits become probabilities."""
    return "softmax" if head.kind == "argmax" else "sigmoid"


def scored_classes(head: Head, labels: Labels) -> tuple[str, ...]:
    """What each channel of a head's logits is of: an exclusive class, background too, or one of ``labels.members``."""
    return labels.names if head.kind == "argmax" else tuple(labels.members)


class Scores:
    """Counts the voxels that a sample owns, by their scores.

    Parameters
    ----------
    stitched
        whether predictions of patches are averaged: then `add_volume` takes their logits, else `count`, or `sent` and
        `add`.
    on_host
        whether logits are counted on the host as they come, or on their device and then copied.
    """

    def __init__(self, prepared: Prepared, head: Head, labels: Labels, *, stitched: bool, on_host: bool = True) -> None:
        self._stitched = stitched
        #: Whether `count` takes a batch's logits; else `sent`.
        self.at_once = on_host and not stitched
        self._prepared, self._head = prepared, head
        self._activation = activation_of(head)
        self._member = _members(head, labels)
        #: ``_member`` on the logits' device, copied once: the copy waits for what the device computes.
        self._there: Tensor | None = None
        shape = (*prepared.applicable.shape, len(self._member))
        #: By sample and condition, as of `count_scores`.
        self._histogram = np.zeros((*shape, 2, BINS), np.uint32)
        self._totals = np.zeros((*shape, PROBABILITY_BINS, len(TOTALS)), np.int64)

    def count(self, logits: Tensor, cells: Sequence[Cell]) -> list[Tensor]:
        """Count a batch's logits (batch, class, \\*space) on the host, one entry for each of ``cells``.

        Returns which of them hold NaN, bool (batch), and their classes as of `Head.classes`, which come of the same
        pass over the logits.
        """
        broken = np.empty(len(cells), np.bool_)
        classes = np.empty((len(cells), *logits.shape[2:]), np.uint8)
        # Rounded to float32, logits that differ may be equal.
        rounded = logits.dtype == torch.float64
        # At once, as long as they are in the cache; kept, they would cost the network memory that it knows.
        for i, (cell, values) in enumerate(zip(cells, logits.float().numpy(), strict=True)):
            owned = self._owned(cell[0])
            label = self._prepared.label[cell[0]][owned]
            if label.shape == classes[i].shape and not rounded:
                broken[i] = self._count(cell, values, label, classes[i])
                continue
            self._count(cell, values[(slice(None), *owned)], label)
            broken[i] = np.isnan(values).any()
            classes[i] = self._head.classes(logits[i]).numpy()
        return [torch.from_numpy(broken), torch.from_numpy(classes)]

    def sent(self, logits: Tensor, cells: Sequence[Cell]) -> list[Tensor]:
        """Count a batch's logits on another device, as `count`; what is copied to the host, for `add`.

        Nothing where predictions are averaged.
        """
        if self._stitched:
            return []  # `add_volume` counts them.
        label = torch.from_numpy(np.stack([self._owned_label(sample) for sample, _ in cells]))
        if logits.device.type == "cuda":
            label = label.pin_memory()
        if self._there is None:
            self._there = torch.from_numpy(self._member).to(logits.device)
        label = label.to(logits.device, non_blocking=True)
        return [count_on_device(logits, label, self._there, self._activation)]

    def add(self, cell: Cell, found: NDArray[Any]) -> None:
        """Take what was `sent` for one (sample, condition)."""
        add_cells(found[0], found[1], self._histogram[cell], self._totals[cell])

    def add_volume(self, condition: int, logits: NDArray[np.float32]) -> None:
        """Take the averaged logits (class, z, y, x) of a whole volume under one condition."""
        windows = self._prepared.windows
        for sample in range(len(windows)):
            box = windows.box(sample)
            self._count((sample, condition), logits[(slice(None), *box)], self._prepared.classes[box])

    def _count(
        self, cell: Cell, logits: NDArray[Any], label: NDArray[np.uint8], classes: NDArray[np.uint8] | None = None
    ) -> bool:
        counts = self._histogram[cell], self._totals[cell]
        order = (1,) if self._head.kind == "sigmoid" else self._head.order
        return count_scores(logits, label, self._member, self._activation, *counts, classes, order)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """After the last sample: the arrays of the block, by path."""
        calibration = self._totals.astype(np.float64)
        calibration[..., TOTALS.index("probability")] *= PROBABILITY_STEP
        return {"outputs/histogram": self._histogram, "outputs/calibration": calibration}

    def _owned(self, sample: int) -> tuple[slice, ...]:
        return self._prepared.windows.owned_in(sample)[-len(self._prepared.space) :]

    def _owned_label(self, sample: int) -> NDArray[np.int16]:
        """A sample's label, -1 where it does not own a voxel."""
        label = np.full(self._prepared.space, -1, np.int16)
        owned = self._owned(sample)
        label[owned] = self._prepared.label[sample][owned]
        return label


def _members(head: Head, labels: Labels) -> NDArray[np.uint8]:
    """(class, 256) uint8: of which class indices each class of the logits is made."""
    member = np.zeros((head.channels, 256), np.uint8)
    of_class = [(c,) for c in range(head.channels)] if head.kind == "argmax" else labels.members.values()
    for c, indices in enumerate(of_class):
        member[c, list(indices)] = 1
    return member
