"""Dice of the same slices before and after, against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import holoviews as hv

from actstore.views.figures import marks
from actstore.views.figures.selection import chosen, paired_dice
from actstore.views.figures.theme import INK, class_colours, grid, panel

if TYPE_CHECKING:
    from actstore.store.store import Store


def dice_paired(store: Store, condition: str | None = None) -> hv.Layout:
    """Dice under a perturbation against that on the original, one plot a class; on the dashed line nothing changes.

    A dot is a slice that contains the class.

    Parameters
    ----------
    condition
        name of a perturbation, control or repeat; by default the first perturbation that applies to any sample.

    Raises
    ------
    StoreError
        if there is no such condition, or it applies to no sample.
    """
    _, c = chosen(store, None, condition)
    table = paired_dice(store, [c])
    colours = class_colours(store.class_names)
    size = ({1: 360, 2: 320}.get(len(colours), 250),) * 2
    panels = []
    for i, (name, colour) in enumerate(colours.items()):
        own = table[table["class_name"] == name][["original", "perturbed", "patient", "frame", "slice"]]
        panels.append(
            panel(
                [
                    marks.line([0, 1], [0, 1], INK, width=1, dashed=True, alpha=0.55),
                    marks.dots(own, "original", "perturbed", colour),
                ],
                size,
                title=f"{name} · n = {len(own)}",
                xlim=(-0.03, 1.03),
                ylim=(-0.03, 1.03),
                xlabel="Dice, original",
                ylabel=f"Dice, {store.conditions.index[c]}" if i % 3 == 0 else "",
            )
        )
    return grid(panels, 3, size)
