"""Orders of a layer's channels: by frequency, by MAD, by the effect of each alone, at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.channels.ranking import in_top
from actstore.analysis.evidence import perturbations
from actstore.analysis.segmentation.overlap import dice
from actstore.conditions import ORIGINAL
from actstore.errors import SpecError, StoreError
from actstore.jobs.edits import Ranking
from actstore.spec.intervene import Intervene
from actstore.store.fingerprint import differences
from actstore.store.schema import Layer
from actstore.store.store import Store


def rankings_of(
    settings: Intervene, layers: Sequence[Layer], store: Store, interventions: Sequence[Intervene]
) -> tuple[Ranking, ...]:
    """Every order that an intervention needs, of ``layers`` that the store records.

    By frequency: how often a channel is among the ``top`` of its layer in the samples of the condition, channels that
    are never there by their mean MAD; of equals the lower channel first, as in the table of frequencies. The condition
    is the perturbed one of the two that a patch joins, else the one that is edited; for an edit of the original all
    perturbations count together. By effect: what each channel alone did in the intervention ``effect_of``, one of the
    spec's ``interventions``.

    Raises
    ------
    SpecError, StoreError
        if the run has no perturbation to rank by; if the intervention ``effect_of`` is not complete in the store, or
        was made with other settings.
    """
    if not settings.ranked:
        return ()
    orders = settings.orders if not settings.most else ("frequency",)
    if settings.effect_of is not None:
        _require_effects(settings, store, next(one for one in interventions if one.name == settings.effect_of))
    made: list[Ranking] = []
    for order in orders:
        if order == "random":
            made += [_random(settings, layers, repeat) for repeat in range(settings.repeats)]
            continue
        ranked = (
            _by_effect(settings, layers, store) if order == "effect" else _by_change(settings, layers, store, order)
        )
        made.append(Ranking(order, 0, tuple(tuple(tuple(map(int, one)) for one in layer) for layer in ranked)))
    return tuple(made)


def _random(settings: Intervene, layers: Sequence[Layer], repeat: int) -> Ranking:
    """The same order in every condition."""
    rng = np.random.default_rng([settings.seed, repeat])
    drawn = [tuple(map(int, rng.permutation(layer.channels))) for layer in layers]
    return Ranking("random", repeat, tuple((one,) * len(settings.into) for one in drawn))


def _by_change(settings: Intervene, layers: Sequence[Layer], store: Store, order: str) -> list[list[NDArray[np.int64]]]:
    """By frequency or mean MAD: of each layer and condition the order of its channels."""
    applicable = store.applicable.compute()
    perturbing = perturbations(applicable)
    if not len(perturbing):
        raise SpecError(
            f"intervene {settings.name!r}: channels are ranked by what perturbations change, and the run has none: "
            'give channels = "each", "layer" or lists'
        )
    names = store.conditions.index.tolist()
    perturbed = set(store.conditions.index[store.conditions["target"] != ""])
    found = []
    for layer in layers:
        mad = store.statistics(layer.name, ["mad"])["mad"].compute()
        member = in_top(mad, settings.top, applicable=applicable)
        of_layer = []
        for condition in settings.into:
            of = next((name for name in (condition, settings.from_condition) if name in perturbed), None)
            at = perturbing if of is None else [names.index(of)]
            there = applicable.isel(condition=at)
            count = member.isel(condition=at).where(there, False).sum(("sample", "condition")).values
            mean = mad.isel(condition=at).where(there).mean(("sample", "condition")).fillna(0).values
            of_layer.append(_order(mean if order == "mad" else count, mean))
        found.append(of_layer)
    return found


def _order(values: NDArray[np.floating] | NDArray[np.integer], mean: NDArray[np.floating]) -> NDArray[np.int64]:
    """Channels by ``values``, the highest first; those of 0 by ``mean``, other equals by number."""
    among = np.where(values > 0, 0.0, mean)
    return np.lexsort((np.arange(len(values)), -among, -values)).astype(np.int64)


def _by_effect(settings: Intervene, layers: Sequence[Layer], store: Store) -> list[list[NDArray[np.int64]]]:
    """By how far each channel alone moved the mean Dice of all classes away from that of the unedited pass."""
    path = f"interventions/{settings.effect_of}"
    group = store.group(path)
    found = []
    for layer in layers:
        own = group.isel(edit=np.flatnonzero(group["layer"].values == layer.name))
        if own.sizes["edit"] != layer.channels:
            raise SpecError(f"intervene {settings.name!r}: {path} has no edits of {layer.name}: take the layer out")
        effects = [_effect(own.sel(condition=condition), store, condition) for condition in settings.into]
        found.append([np.argsort(-effect, kind="stable") for effect in effects])
    return found


def _require_effects(settings: Intervene, store: Store, other: Intervene) -> None:
    """Refuse an order by effects of ``other`` that are not in the store, or not as the spec has it."""
    path, where = f"interventions/{other.name}", f"intervene {settings.name!r}"
    if path not in store.groups or not store.group_committed(path).all():
        raise StoreError(
            f"{where}: its order by effect needs {path}, which is not complete: "
            f"`actstore intervene SPEC --name {other.name}` makes it"
        )
    if changes := list(differences(store.groups[path].identity["intervene"], other.as_json())):
        raise StoreError(
            f"{where}: its order by effect needs {path}, which was made with other settings ({changes[0]}): give that "
            "intervention another name, in effect_of too"
        )


def _effect(own: xr.Dataset, store: Store, condition: str) -> NDArray[np.float64]:
    """How far each edit raised Dice in a condition, or lowered it in the original: (edit)."""
    edited = np.flatnonzero(own["edited"].values)
    before = store.confusion.isel(sample=edited).sel(condition=[condition]).compute()
    after = own["confusion"].isel(sample=edited).compute().reset_coords(drop=True).rename(edit="condition")
    old = dice(before, regions=store.members)
    new = dice(after, regions=store.members)
    change = (new - old.isel(condition=0, drop=True)).mean(("sample", "class_name")).values
    return change if condition != ORIGINAL else -change
