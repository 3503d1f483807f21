"""Tables that hold the channels that change most against those that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.evidence import perturbations
from actstore.analysis.interventions.agreement import agreement, rankings
from actstore.analysis.interventions.effects import NECESSITY
from actstore.analysis.uncertainty.bootstrap import LEAST_WHOLE
from actstore.tables.catalogue import Unanswerable
from actstore.tables.passes import EACH, Intervention, Passes, having
from actstore.tables.rows import LAYER_COLUMNS, RESTS_ON, channel_frame

#: Of a perturbation without a loss that channels could have a share of.
_COSTLESS = "loss not above 0: no share of it"
_ENDS = ("low", "high", "error")
_RANKED = ("intervention", "quantity", "condition", "target", *LAYER_COLUMNS)
RANKINGS_COLUMNS = (
    *_RANKED, "channel", "frequency", "frequency_rank", "mad", "mad_rank", "effect", "effect_rank",
)  # fmt: skip
AGREEMENT_COLUMNS = (
    *_RANKED, *RESTS_ON, "frequent", "large", "shared", "expected", "p", "q", "tests",
    *(f"spearman_{by}{end}" for by in ("frequency", "mad") for end in ("", *(f"_{e}" for e in _ENDS))), "note",
)  # fmt: skip


def rankings_table(found: Sequence[Passes], member: xr.DataArray, mad: xr.DataArray) -> pd.DataFrame:
    """Where each channel stands in its layer by frequency, MAD and effect, in columns :data:`RANKINGS_COLUMNS`.

    ``condition`` is the perturbation whose MAD is meant: that which is undone or put in; of necessity, each of the
    run. The effect is that on the perturbed class.

    Parameters
    ----------
    found
        interventions and their passes.
    member, mad
        (sample, condition, channel) of all layers, as :class:`actstore.tables.reductions.Reductions` has them.

    Raises
    ------
    Unanswerable
        if no intervention edits each channel alone.
    """
    parts = []
    for own in _beside(found, member, mad):
        effect = own.part.where(own.there).sum("sample") / own.lost
        values = rankings(own.member, own.mad, effect.transpose("condition", "channel"))
        parts.append(own.rows(values, RANKINGS_COLUMNS, ("condition", "channel")))
    return pd.concat(parts, ignore_index=True)


def agreement_table(
    found: Sequence[Passes], member: xr.DataArray, mad: xr.DataArray, most: int, *, resamples: int
) -> pd.DataFrame:
    """Whether the most frequent channels of a layer have the largest effects, in columns :data:`AGREEMENT_COLUMNS`.

    ``most`` is the size of the sets; see :func:`actstore.analysis.interventions.agreement.agreement`. A perturbation
    that costs nothing has no channels with large effects. Otherwise as :func:`rankings_table`.
    """
    parts = []
    for own in _beside(found, member, mad):
        part = own.part.where(own.lost.notnull())
        values = agreement(own.member, own.mad, part, most, resamples=resamples)
        costless = own.there.any("sample") & own.lost.isnull()
        values["note"] = values["note"].where(~costless.reset_coords(drop=True), _COSTLESS)
        parts.append(own.rows(values, AGREEMENT_COLUMNS, ("condition", "layer")))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class _Beside:
    """Statistics and effects of the same channels and perturbations, of one intervention."""

    name: str
    #: Of each perturbation.
    quantity: list[str]
    #: (sample, condition, channel) of the store.
    member: xr.DataArray
    mad: xr.DataArray
    #: (sample, condition, channel) and (sample, condition) of the intervention, of the perturbed class.
    part: xr.DataArray
    whole: xr.DataArray

    @property
    def there(self) -> xr.DataArray:
        """Where there is an effect: bool (sample, condition)."""
        return self.part.notnull().any("channel") & self.whole.notnull()

    @property
    def lost(self) -> xr.DataArray:
        """What effects are shares of, summed over samples: (condition), NaN where nothing is lost."""
        whole = self.whole.where(self.there).sum("sample")
        return whole.where(whole > LEAST_WHOLE * self.there.sum("sample"))

    def rows(self, values: xr.Dataset, columns: Sequence[str], dims: Sequence[str]) -> pd.DataFrame:
        named = values.assign(intervention=self.name, quantity=("condition", self.quantity))
        return channel_frame(named, columns, conditions=np.arange(len(self.quantity)), dims=dims)


def _beside(found: Sequence[Passes], member: xr.DataArray, mad: xr.DataArray) -> list[_Beside]:
    """Of each intervention that edits channels alone what both rankings are made of."""
    parts = []
    for passes in having(found, (EACH,), 'channels = "each"'):
        one, own = passes.one, passes.differences
        part, channels = _ranked(_alone(one, own["part"]), mad)
        names = mad["condition"].values.tolist()
        every = [names[i] for i in perturbations(mad)]
        pairs = [
            (c, perturbation)
            for c, (quantity, name) in enumerate(zip(one.quantities, one.perturbations, strict=True))
            for perturbation in (every if quantity == NECESSITY else [name] if name else [])
        ]
        if not pairs or not len(channels):
            continue
        at = [names.index(name) for _, name in pairs]
        targets = mad["target"].values[at].tolist()
        patients = np.isin(mad["patient"].values, own["patient"].values)
        kept = {"sample": np.flatnonzero(patients), "condition": at, "channel": channels}
        parts.append(
            _Beside(
                one.name,
                [one.quantities[c] for c, _ in pairs],
                member.isel(kept),
                mad.isel(kept),
                _of_targets(part, pairs, targets, mad.isel(kept)),
                _of_targets(own["whole"], pairs, targets, mad.isel(kept)),
            )
        )
    if not parts:
        names_of = ", ".join(passes.one.name for passes in found)
        raise Unanswerable(
            f"{names_of}: no MAD to compare, of a perturbation that is undone or put in, in a layer of the store"
        )
    return parts


def _alone(one: Intervention, part: xr.DataArray) -> xr.DataArray:
    """Edits of one channel alone, along ``channel``: (sample, condition, channel, class_name)."""
    at = one.having((EACH,))
    number = one.group["chosen"].isel(condition=0, edit=at).transpose("edit", "channel").values.argmax(axis=-1)
    return part.isel(edit=at).rename(edit="channel").assign_coords(channel=number)


def _ranked(part: xr.DataArray, mad: xr.DataArray) -> tuple[xr.DataArray, NDArray[np.intp]]:
    """``part`` of the channels that the store records, and their positions in ``mad``; either may have fewer layers."""
    own, every = (
        list(zip(array["layer"].values.tolist(), array["channel"].values.tolist(), strict=True))
        for array in (part, mad)
    )
    place = {key: i for i, key in enumerate(every)}
    at = [i for i, key in enumerate(own) if key in place]
    return part.isel(channel=at), np.array([place[own[i]] for i in at], dtype=np.intp)


def _of_targets(
    array: xr.DataArray, pairs: Sequence[tuple[int, str]], targets: Sequence[str], mad: xr.DataArray
) -> xr.DataArray:
    """``array`` of the edited passes and the class of each perturbation, with the coordinates of perturbations."""
    parts = [
        array.isel(condition=c).sel(class_name=target).drop_vars(["condition", "class_name"])
        for (c, _), target in zip(pairs, targets, strict=True)
    ]
    joined = xr.concat(parts, "condition", coords="minimal", compat="override", join="override")
    along = {name: coord for name, coord in mad.coords.items() if coord.dims == ("condition",)}
    dims = [dim for dim in ("sample", "condition", "channel") if dim in joined.dims]
    return joined.transpose(*dims).assign_coords(along)
