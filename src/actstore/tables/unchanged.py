"""Perturbations that left the network's input as it was, counted for summaries, status and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from actstore.analysis.segmentation.counts import true_pixels
from actstore.conditions import CONTROL, Condition
from actstore.units import counted

if TYPE_CHECKING:
    from actstore.store.store import Store


@dataclass(frozen=True)
class Unchanged:
    """How often a condition left the network's input as it was, so that it does not apply there."""

    condition: str
    target: str
    is_control: bool
    #: Samples whose input stayed as it was, and all that have the target class or a place for its control.
    samples: int
    held: int

    def __str__(self) -> str:
        where = f"a control region of {self.target}" if self.is_control else self.target
        return (
            f"{self.condition} changed no pixel in {self.samples} of {counted(self.held, 'sample')} with {where}: "
            "not applicable there"
        )


def of_blocks(
    conditions: Sequence[Condition], counts: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> tuple[Unchanged, ...]:
    """One for each condition that changed nothing somewhere; ``counts`` are (unchanged, held) by condition, by block.

    A block without counts, because nothing was computed, is left out.
    """
    blocks = [np.array(block) for block in counts if len(block[1])]
    unchanged, held = np.sum(blocks, axis=0).tolist() if blocks else ((), ())
    return tuple(
        Unchanged(condition.name, condition.target, condition.is_control, n, of)
        for condition, n, of in zip(conditions if blocks else (), unchanged, held, strict=True)
        if n
    )


def of_store(store: Store) -> tuple[Unchanged, ...]:
    """The same for all committed samples of a store, without controls: the store does not say where one has a place."""
    conditions = store.conditions
    true = true_pixels(store.confusion.isel(condition=0), store.members).transpose("sample", "class_name").values
    applicable = store.applicable.transpose("sample", "condition").values
    names = list(store.members)
    found = []
    for c, (name, row) in enumerate(conditions.iterrows()):
        if row["target"] and row["region"] != CONTROL:
            held = true[:, names.index(row["target"])] > 0
            if n := int((held & ~applicable[:, c]).sum()):
                found.append(Unchanged(str(name), str(row["target"]), False, n, int(held.sum())))
    return tuple(found)


def nowhere(store: Store) -> list[tuple[str, str]]:
    """Conditions that apply to no committed sample of a store, and why; none while no sample is committed."""
    applies = store.applicable.any("sample").values
    if not store.block_samples:
        return []
    return [
        (str(name), why_not(store, str(name)))
        for name, found in zip(store.conditions.index, applies, strict=True)
        if not found
    ]


def why_not(store: Store, condition: str, sample: int | None = None) -> str:
    """Why a condition does not apply to a sample, or to any."""
    row = store.conditions.loc[condition]
    target = str(row["target"])
    true = true_pixels(store.confusion.isel(condition=0), store.members).sel(class_name=target)
    held = bool((true > 0).any()) if sample is None else int(true.isel(sample=sample)) > 0
    subject = "they have" if sample is None else "it has"
    if not held:
        return f"{subject} no {target}"
    if row["region"] == CONTROL:
        return f"{subject} no place for a control of {target}, or nothing changed there"
    return f"the perturbation changed no pixel{' of any' if sample is None else ''}"


def noun_of(store: Store) -> str:
    """What a sample of a store is: a slice, a volume, a patch of one, or an image that has one class."""
    if store.classified:
        return "image"
    if store.patched:
        return "patch"
    return "volume" if len(store.layout.space) == 3 else "slice"


def no_sample(store: Store) -> str:
    """Why no perturbation applies to any sample of a store."""
    if of_store(store):
        return f"No perturbation changed what the network sees of a {noun_of(store)} with its class."
    return f"No {noun_of(store)} contains a perturbed class."
