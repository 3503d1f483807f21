"""What figures show of a store: conditions, samples, slices, and the part of an image that matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from dask.base import compute
from numpy.typing import NDArray

from actstore.analysis.evidence import PERTURBATION, perturbations
from actstore.analysis.maps.masks import Mask
from actstore.analysis.members import mask_of
from actstore.analysis.segmentation.counts import true_pixels
from actstore.analysis.segmentation.overlap import dice, mean_dice
from actstore.analysis.segmentation.pooling import slice_position
from actstore.conditions import CHANNEL_SEPARATOR
from actstore.errors import StoreError
from actstore.store.opening import require_committed
from actstore.tables.rows import sample_columns
from actstore.tables.unchanged import why_not
from actstore.units import counted
from actstore.views.figures.theme import MOST_CONDITIONS

if TYPE_CHECKING:
    from actstore.store.store import Store


#: A sample by its number, or by (patient, frame, slice), with its patch where a slice or volume has several.
Sample = int | tuple[str, int, int] | tuple[str, int, int, int]


def chosen(store: Store, sample: Sample | None = None, condition: str | None = None) -> tuple[int, int]:
    """Numbers of a sample and of a perturbation that applies to it.

    Parameters
    ----------
    sample
        its number, or (patient, frame, slice[, patch]); by default that of median change in Dice under the
        perturbation.
    condition
        name of a perturbation, control or repeat; by default the first perturbation that applies to the sample, or,
        without one, to any.

    Raises
    ------
    StoreError
        if there is no such sample or condition, or the one does not apply to the other.
    """
    number = None if sample is None else sample_number(store, sample)
    named = None if condition is None else condition_number(store, condition)
    applies = store.applicable.transpose("sample", "condition").values
    if number is not None:
        applies = applies[number : number + 1]
    if named is None:
        every = perturbations(store.confusion)
        found = every[applies[:, every].any(axis=0)]
        if len(found) == 0:
            where = store.path if number is None else sample_label(store, number)
            raise StoreError(
                f"{where} has no prediction under a perturbation: it contains no perturbed class, or none that changed"
            )
        named = int(found[0])
    elif not applies[:, named].any():
        raise StoreError(_inapplicable(store, number, str(condition), np.atleast_1d(applies.any(axis=0))))
    return typical_sample(store, str(store.conditions.index[named])) if number is None else number, named


def _inapplicable(store: Store, number: int | None, condition: str, applies: NDArray[np.bool_]) -> str:
    other = ", ".join(name for name, used in zip(store.conditions.index[1:], applies[1:], strict=True) if used)
    there = f"there are {other}" if other else "nor any other perturbation"
    where = "applies to no sample" if number is None else f"does not apply to {sample_label(store, number)}"
    return f"{condition!r} {where}: {why_not(store, condition, number)}; {there}"


def sample_number(store: Store, sample: Sample) -> int:
    """The number of a sample that is named by it, or by (patient, frame, slice), of patches with the patch.

    Raises
    ------
    StoreError
        if there is none.
    """
    samples = store.samples
    require_committed(store)
    if isinstance(sample, (int, np.integer)) and not isinstance(sample, bool):
        if not 0 <= sample < len(samples):
            raise StoreError(f"sample {sample} is outside 0..{len(samples) - 1}")
        return int(sample)
    names = sample_columns(samples)
    if not isinstance(sample, tuple) or len(sample) != len(names):
        raise StoreError(f"sample = {sample!r}: give its number, or ({', '.join(names)})")
    left = samples
    before: list[str] = []
    for name, value in zip(names, sample, strict=True):
        own = left[left[name] == value]
        if own.empty:
            there = list(dict.fromkeys(left[name].tolist()))
            known = ", ".join(map(str, there)) if len(there) <= 12 else f"{there[0]} … {there[-1]}"
            raise StoreError(f"no {' '.join([*before, name])} {value}: there are {known}")
        left = own
        before.append(f"{name} {value},")
    return int(left.index[0])


def condition_number(store: Store, condition: str) -> int:
    """The number of a condition that is not the original.

    Raises
    ------
    StoreError
        naming the conditions that there are.
    """
    names = list(store.conditions.index)
    if condition not in names[1:]:
        raise StoreError(f"no perturbation {condition!r}: there are {', '.join(names[1:])}")
    return names.index(condition)


def numbers(wanted: Sequence[int] | None, count: int, what: str) -> list[int]:
    """Numbers below ``count``, by default all; ``what`` names them.

    Raises
    ------
    StoreError
        if there is no such number.
    """
    found = list(range(count)) if wanted is None else [int(n) for n in wanted]
    if unknown := [n for n in found if not 0 <= n < count]:
        raise StoreError(f"no {what} {unknown[0]}: there are 0..{count - 1}")
    return found


def samples_of(
    store: Store, condition: int, samples: Sequence[Sample | bool] | NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Which samples a condition applies to: bool (sample).

    Parameters
    ----------
    samples
        of these only: a mask, bool (sample), or their numbers or (patient, frame, slice[, patch]).

    Raises
    ------
    StoreError
        if there is no such sample, or the condition applies to none of them.
    """
    applies = store.applicable.isel(condition=condition).values
    asked = samples.tolist() if isinstance(samples, np.ndarray) else list(samples or [])
    if asked and all(isinstance(one, bool) for one in asked):
        if len(asked) != len(applies):
            raise StoreError(f"samples = a mask of {len(asked)}: the store has {counted(len(applies), 'sample')}")
        applies = applies & np.array(asked)
    elif samples is not None:
        wanted = [sample_number(store, one) for one in asked]
        applies = applies & np.isin(np.arange(len(applies)), wanted)
    if not applies.any():
        some = f"none of the {len(asked)} samples" if len(asked) != 1 else "no chosen sample"
        among = "no sample" if samples is None else some
        raise StoreError(f"{store.conditions.index[condition]!r} applies to {among}: choose others")
    return applies


def sample_label(store: Store, number: int) -> str:
    """``sample 5 (patient001, 1, 5)``: its number, patient, frame and slice, of a patch its number there."""
    row = store.samples.iloc[number]
    return f"sample {number} ({', '.join(str(row[name]) for name in sample_columns(store.samples))})"


def place_label(store: Store, number: int, separator: str = ", ", *, short: bool = False) -> str:
    """``patient001, frame 1, slice 5`` and, of a patch, ``, patch 2``; ``short``: ``patient001, f1, s5, p2``.

    Without the slice where the network takes volumes.
    """
    row = store.samples.iloc[number]
    volumes = len(store.layout.space) == 3
    names = [name for name in sample_columns(store.samples)[1:] if name != "slice" or not volumes]
    parts = [f"{name[0]}{row[name]}" if short else f"{name} {row[name]}" for name in names]
    return separator.join([str(row["patient"]), *parts])


def shown_conditions(store: Store, most: int = MOST_CONDITIONS) -> list[str]:
    """Perturbations to show one by one: for each transform, class, source and choice of input channels, the strength of
    lowest Dice.

    A sweep of strengths would otherwise fill pages with maps that differ little. At most ``most``, in the store's
    order.
    """
    at = perturbations(store.confusion)
    if len(at) == 0:
        return []
    table = store.conditions.iloc[at]
    dice = mean_dice(store.confusion, applicable=store.applicable, regions=store.members).compute()
    own = [float(dice.sel(condition=name, class_name=row.target)) for name, row in table.iterrows()]
    families = [name for name in PERTURBATION if name in table]
    lowest = table.assign(dice=np.nan_to_num(own, nan=2.0)).groupby(families, sort=False)["dice"]
    chosen = set(lowest.idxmin())
    return [name for name in table.index if name in chosen][:most]


def target_of(store: Store, condition: str) -> str:
    """The class that a condition changes."""
    return str(store.conditions.loc[condition, "target"])


def paired_dice(store: Store, conditions: Sequence[int] | None = None) -> pd.DataFrame:
    """Dice of each class on the original and under each perturbation, on the slices that contain the class.

    Columns ``patient, frame, slice, position, condition, target, class_name, original, perturbed, change``, of patches
    with ``patch`` after ``slice``. ``position`` is of :func:`actstore.analysis.slice_position`: 0 at the base, 1 at the
    apex. ``conditions`` are numbers, by default of every perturbation.
    """
    confusion, applicable = compute(store.confusion, store.applicable)
    overlap = dice(confusion, applicable=applicable, regions=store.members).transpose(
        "sample", "condition", "class_name"
    )
    present = true_pixels(confusion.isel(condition=0), store.members) > 0
    values = overlap.values
    chosen = np.zeros(values.shape, bool)
    chosen[:, perturbations(confusion) if conditions is None else list(conditions)] = True
    chosen &= np.isfinite(values) & present.transpose("sample", "class_name").values[:, None, :]
    s, c, k = np.nonzero(chosen)
    frame = pd.DataFrame({name: confusion.coords[name].values[s] for name in sample_columns(store.samples)})
    frame["position"] = slice_position(confusion).values[s]
    frame["condition"] = confusion.coords["condition"].values[c]
    frame["target"] = confusion.coords["target"].values[c]
    frame["class_name"] = overlap.coords["class_name"].values[k]
    frame["original"] = values[s, 0, k]
    frame["perturbed"] = values[s, c, k]
    return frame.assign(change=frame["perturbed"] - frame["original"])


def typical_sample(store: Store, condition: str) -> int:
    """The sample of median change in the Dice of the perturbed class: neither the best nor the worst.

    For a repeat, which perturbs no class, in the mean Dice of all classes. Of a classifier, that of median change in
    the difference of its own class's logit from the mean of all.
    """
    c = list(store.conditions.index).index(condition)
    if store.classified:
        return _typical_image(store, c)
    confusion = store.confusion.isel(condition=[0, c]).compute()
    at = np.flatnonzero(store.applicable.isel(condition=c).values)
    target = target_of(store, condition)
    overlap = dice(confusion.isel(sample=at), regions=store.members)
    own = overlap.sel(class_name=target) if target else overlap.mean("class_name")
    change = (own.isel(condition=1) - own.isel(condition=0)).values
    return int(at[np.argsort(change, kind="stable")[len(at) // 2]])


def _typical_image(store: Store, condition: int) -> int:
    at = np.flatnonzero(store.applicable.isel(condition=condition).values)
    logits = store.score.isel(sample=at, condition=[0, condition]).transpose("sample", "condition", "class_name").values
    own = [store.class_names.index(label) for label in store.samples["label"].iloc[at]]
    change = np.diff((logits - logits.mean(2, keepdims=True))[np.arange(len(at)), :, own], axis=1)[:, 0]
    return int(at[np.argsort(change, kind="stable")[len(at) // 2]])


def picture(
    store: Store, sample: int, conditions: list[int], z: int | None = None, *, input_channel: int | None = None
) -> dict[str, Any]:
    """One sample as arrays (y, x): "label", and of ``conditions`` a list each of "image" and "prediction".

    Of a volume, the slice ``z`` as :func:`plane` has it for the last of ``conditions``; of the image one channel, by
    default :func:`changed_input_channel` of the last.
    """
    input_channel = changed_input_channel(store, conditions[-1]) if input_channel is None else input_channel
    label = store.picture("label", sample)
    z = plane(store, label, conditions[-1], z)
    image = np.stack([store.picture("image", sample, c, input_channel=input_channel) for c in conditions])
    prediction = np.stack([store.picture("prediction", sample, c) for c in conditions])
    if z is not None:
        label, image, prediction = label[z], image[:, z], prediction[:, z]
    return {"label": label, "image": image.astype(np.float32), "prediction": prediction}


def plane(store: Store, label: NDArray[Any], condition: int, z: int | None = None) -> int | None:
    """The slice of an input that is shown: ``z``, by default that with most of :func:`perturbed_masks`; None in 2D.

    Raises
    ------
    StoreError
        if a volume has no such slice, or the inputs are no volumes.
    """
    if label.ndim == 2:
        if z is not None:
            raise StoreError(f"z = {z}: the inputs are slices, not volumes; leave it out")
        return None
    if z is None:
        masks = perturbed_masks(store, label, condition)
        return int(np.argmax(np.sum(masks, axis=(0, 2, 3)))) if masks else label.shape[0] // 2
    if not 0 <= z < label.shape[0]:
        raise StoreError(f"z = {z} is outside 0..{label.shape[0] - 1}, the slices of the input")
    return z


def changed_input_channel(store: Store, condition: int) -> int:
    """The number of the first input channel that a condition changes; 0 for the original and its repeats."""
    names = store.layout.input_channels
    text = str(store.conditions["channels"].iloc[condition]) if "channels" in store.conditions else ""
    if not text or text in names:
        return names.index(text) if text else 0
    first = [name for name in names if text.startswith(f"{name}{CHANNEL_SEPARATOR}")]
    return names.index(first[0]) if first else 0


def input_channel_number(store: Store, input_channel: int | str | None, condition: int) -> int:
    """The number of an input channel that is named by it, or by its name; None: :func:`changed_input_channel`.

    Raises
    ------
    StoreError
        naming the channels that there are.
    """
    if input_channel is None:
        return changed_input_channel(store, condition)
    names = list(store.layout.input_channels)
    if isinstance(input_channel, str) and input_channel in names:
        return names.index(input_channel)
    if isinstance(input_channel, int | np.integer) and 0 <= input_channel < len(names):
        return int(input_channel)
    known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    raise StoreError(f"no input channel {input_channel!r}: there are {known}")


def channel_suffix(store: Store, input_channel: int = 0) -> str:
    """Names the input channel of a picture in its title: " · T1"; "" where the network has only one."""
    names = store.layout.input_channels
    return f" · {names[input_channel]}" if len(names) > 1 else ""


def perturbed_masks(store: Store, label: NDArray[Any], condition: int) -> list[Mask]:
    """Masks ([z,] y, x) of the class that a condition perturbs; for the original and repeats, of all perturbed
    classes."""
    targets = store.conditions["target"]
    names = dict.fromkeys([targets.iloc[condition]] if targets.iloc[condition] else targets[targets != ""])
    return [mask_of(label, store.members[str(name)]) for name in names]


def window(masks: NDArray[Any], margin: float = 0.35) -> tuple[slice, slice]:
    """Rows and columns of a square, with a ``margin``, around everything that is not 0 in ``masks`` (…, y, x)."""
    found = np.any(masks.reshape(-1, *masks.shape[-2:]) > 0, axis=0)
    if not found.any():
        return slice(0, found.shape[0]), slice(0, found.shape[1])
    edges = [np.flatnonzero(found.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    side = int((1 + 2 * margin) * max(last - first + 1 for first, last in edges)) + 4
    spans = []
    for (first, last), size in zip(edges, found.shape, strict=True):
        start = int(np.clip((first + last + 1) // 2 - side // 2, 0, max(size - side, 0)))
        spans.append(slice(start, min(start + side, size)))
    return spans[0], spans[1]
