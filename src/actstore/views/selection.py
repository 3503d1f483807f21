"""What of a store is shown: conditions, slices, and the part of an image that matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from dask.base import compute
from numpy.typing import NDArray

from actstore import analysis
from actstore.analysis.evidence import perturbations

if TYPE_CHECKING:
    from actstore.store import Store


def shown_conditions(store: Store, most: int = 6) -> list[str]:
    """Perturbations to show one by one: of each transform and class, the strength that lowers the class's Dice most.

    A sweep of strengths would otherwise fill pages with maps that differ little. At most ``most``, in the store's
    order.
    """
    at = perturbations(store.confusion)
    if len(at) == 0:
        return []
    table = store.conditions.iloc[at]
    dice = analysis.mean_dice(store.confusion, over="present", applicable=store.applicable).compute()
    own = [float(dice.sel(condition=name, class_name=row.target)) for name, row in table.iterrows()]
    lowest = table.assign(dice=np.nan_to_num(own, nan=2.0)).groupby(["transform", "target"], sort=False)["dice"]
    chosen = set(lowest.idxmin())
    return [name for name in table.index if name in chosen][:most]


def target_of(store: Store, condition: str) -> str:
    """The class that a condition changes."""
    return str(store.conditions.loc[condition, "target"])


def paired_dice(store: Store) -> pd.DataFrame:
    """Dice of each class on the original and under each perturbation, on the slices that contain the class.

    Columns ``patient, frame, slice, position, condition, target, class_name, original, perturbed, change``.
    ``position`` is of :func:`actstore.analysis.slice_position`: 0 at the base, 1 at the apex.
    """
    confusion, applicable = compute(store.confusion, store.applicable)
    dice = analysis.dice(confusion, applicable=applicable).transpose("sample", "condition", "class_name")
    present = (confusion.isel(condition=0).sum("predicted_class") > 0).isel(true_class=slice(1, None))
    values = dice.values
    chosen = np.zeros(values.shape, bool)
    chosen[:, perturbations(confusion)] = True
    chosen &= np.isfinite(values) & present.transpose("sample", "true_class").values[:, None, :]
    s, c, k = np.nonzero(chosen)
    frame = pd.DataFrame({name: confusion.coords[name].values[s] for name in ("patient", "frame", "slice")})
    frame["position"] = analysis.slice_position(confusion).values[s]
    frame["condition"] = confusion.coords["condition"].values[c]
    frame["target"] = confusion.coords["target"].values[c]
    frame["class_name"] = dice.coords["class_name"].values[k]
    frame["original"] = values[s, 0, k]
    frame["perturbed"] = values[s, c, k]
    return frame.assign(change=frame["perturbed"] - frame["original"])


def typical_sample(store: Store, condition: str) -> int:
    """The sample whose Dice of the perturbed class changes by the median: neither the best nor the worst to show."""
    c = list(store.conditions.index).index(condition)
    confusion = store.confusion.isel(condition=[0, c]).compute()
    at = np.flatnonzero(store.applicable.isel(condition=c).values)
    target = target_of(store, condition)
    dice = analysis.dice(confusion.isel(sample=at)).sel(class_name=target)
    change = (dice.isel(condition=1) - dice.isel(condition=0)).values
    return int(at[np.argsort(change, kind="stable")[len(at) // 2]])


def picture(store: Store, sample: int, conditions: list[int]) -> dict[str, Any]:
    """One sample as arrays (y, x): "label", and of ``conditions`` a list each of "image" and "prediction".

    Of a volume, the slice with most foreground.
    """
    label = store.picture("label", sample)
    image, prediction = (
        np.stack([store.picture(name, sample, c) for c in conditions]) for name in ("image", "prediction")
    )
    if label.ndim == 3:
        z = best_slice(label)
        label, image, prediction = label[z], image[:, z], prediction[:, z]
    return {"label": label, "image": image.astype(np.float32), "prediction": prediction}


def best_slice(label: NDArray[Any]) -> int:
    """The z of ``label`` (z, y, x) with most foreground."""
    return int(np.argmax((label > 0).sum(axis=(1, 2))))


def window(masks: NDArray[Any], margin: float = 0.35) -> tuple[slice, slice]:
    """Rows and columns around everything that is not 0 in ``masks`` (…, y, x): a square, with a ``margin``."""
    found = np.any(masks.reshape(-1, *masks.shape[-2:]) > 0, axis=0)
    if not found.any():
        return slice(0, found.shape[0]), slice(0, found.shape[1])
    edges = [np.flatnonzero(found.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    side = int((1 + 2 * margin) * max(last - first + 1 for first, last in edges)) + 4
    parts = []
    for (first, last), size in zip(edges, found.shape, strict=True):
        start = int(np.clip((first + last + 1) // 2 - side // 2, 0, max(size - side, 0)))
        parts.append(slice(start, min(start + side, size)))
    return parts[0], parts[1]
