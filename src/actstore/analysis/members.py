"""Classes and regions: of which exclusive classes each is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError
from actstore.conditions import BACKGROUND

#: Name of each class and region to report, with the indices of its exclusive classes, as ``store.members`` lists them.
Regions = Mapping[str, Sequence[int]]


def members_of(names: Sequence[str], regions: Regions | None) -> dict[str, tuple[int, ...]]:
    """The indices of each of ``regions``, checked; without them, of every class in ``names`` but the background.

    Raises
    ------
    AnalysisError
        if a region is empty, lists a class twice, holds the background or an index that ``names`` does not have.
    """
    if regions is None:
        return {name: (i,) for i, name in enumerate(names) if i}
    if not regions:
        raise AnalysisError("regions is empty: name at least one class, or leave it out")
    for region, indices in regions.items():
        if not len(indices) or len({*indices}) < len(indices):
            raise AnalysisError(f"region {region!r} = {list(indices)}: list one class or more, each once")
        for i in indices:
            # Classes of images have no background.
            if not (names[0] == BACKGROUND) <= i < len(names):
                what = "is the background" if i == 0 else "is no class"
                raise AnalysisError(
                    f"region {region!r} = {list(indices)}: {i} {what}, foreground classes are 1 to {len(names) - 1}"
                )
    return {region: tuple(int(i) for i in indices) for region, indices in regions.items()}


def mask_of(label: NDArray[np.integer], indices: Sequence[int]) -> NDArray[np.bool_]:
    """Where ``label`` holds any of ``indices``; nowhere if there are none."""
    mask: NDArray[np.bool_] = label == indices[0] if len(indices) == 1 else np.isin(label, indices)
    return mask
