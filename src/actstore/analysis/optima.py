"""What activation maximisation found for each channel, and how that compares with the samples of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from actstore.analysis.arrays import AnalysisError, require_dims
from actstore.units import by

#: What became of an image, by the code that a store holds: its channel responds; the channel is 0 everywhere, as behind
#: a ReLU that nothing passes; the objective is the same for every image; or it has a bound that depends on the size of
#: the image alone, as one position behind an instance norm does.
STATUSES = ("live", "dead", "constant", "bounded")
_LIVE, _BOUNDED = STATUSES.index("live"), STATUSES.index("bounded")


def best_seed(group: xr.Dataset) -> xr.DataArray:
    """The seed whose image reached the highest objective, of those that are live or bounded.

    Parameters
    ----------
    group
        ``final`` and ``status`` (layer_channel, seed), as a store's group of optima holds them; may be lazy.

    Returns
    -------
    xarray.DataArray
        Position along ``seed``: int64 (layer_channel), -1 where no image is live or bounded.

    Raises
    ------
    AnalysisError
        if a dimension is missing.
    """
    require_dims(group, ("layer_channel", "seed"))
    usable = group["status"].isin([_LIVE, _BOUNDED]) & group["final"].notnull()
    # Never compared with what is left out: -inf loses against every number.
    best = group["final"].where(usable, -np.inf).argmax("seed")
    return best.where(usable.any("seed"), -1).astype(np.int64).rename("best_seed")


def channel_status(group: xr.Dataset) -> xr.DataArray:
    """The status of each channel: that of its best seed, or of its first where none is live or bounded.

    ``group`` as for :func:`best_seed`. Index into :data:`STATUSES`: int64 (layer_channel).

    Raises
    ------
    AnalysisError
        if a dimension is missing.
    """
    return _at_seed(group["status"].astype(np.int64), best_seed(group).clip(min=0)).rename("status")


def above_data(group: xr.Dataset, *, size: Sequence[int], input_size: Sequence[int]) -> xr.DataArray:
    """Whether an image's objective exceeds the highest that any sample of the data reaches.

    Parameters
    ----------
    group
        ``final`` and ``status`` (layer_channel, seed), ``data_max`` (layer_channel); may be lazy.
    size, input_size
        ([z,] y, x) of the images, and of the inputs that the data were looked at in.

    Returns
    -------
    xarray.DataArray
        float64 (layer_channel, seed): 1 above, 0 not, NaN where it is no comparison: the image is dead or constant, the
        data were not looked at, or the image is bounded and has another size than the inputs, which moves the bound.

    Raises
    ------
    AnalysisError
        if a dimension is missing, or the sizes have different numbers of axes.
    """
    require_dims(group, ("layer_channel", "seed"))
    if len(size) != len(input_size):
        raise AnalysisError(
            f"images of {by(size, ' × ')} and inputs of {by(input_size, ' × ')} have different axes: give both alike"
        )
    status, final, most = group["status"], group["final"], group["data_max"]
    statuses = [_LIVE, _BOUNDED] if tuple(size) == tuple(input_size) else [_LIVE]
    compared = status.isin(statuses) & final.notnull() & most.notnull()
    found: xr.DataArray = (final > most).astype(np.float64).where(compared)
    return found.transpose("layer_channel", "seed").rename("above_data")


def share_above(group: xr.Dataset, *, size: Sequence[int], input_size: Sequence[int]) -> xr.Dataset:
    """How many channels of each layer there are of each status, and in how many the best image exceeds the data.

    Parameters
    ----------
    group
        as for :func:`above_data`, with the coordinate ``layer`` along ``layer_channel``.
    size, input_size
        as for :func:`above_data`.

    Returns
    -------
    xarray.Dataset
        Along ``layer``, in the order of the group: int64 ``channels`` and one variable a status of :data:`STATUSES`,
        ``compared``, the channels whose best image can be compared with the data, ``above``, those of them that exceed
        it, and float64 ``share``, the one by the other, NaN where none is compared.

    Raises
    ------
    AnalysisError
        as :func:`above_data`, if the coordinate is missing, or there is no channel.
    """
    if "layer" not in group.coords:
        raise AnalysisError("the group has no coordinate 'layer': assign it with assign_coords(layer=…)")
    if not group.sizes["layer_channel"]:
        raise AnalysisError("the group has no channel: none is committed yet")
    best = best_seed(group)
    status = channel_status(group)
    above = _at_seed(above_data(group, size=size, input_size=input_size), best.clip(min=0)).where(best >= 0)
    each = xr.Dataset({name: status == code for code, name in enumerate(STATUSES)})
    each = each.assign(channels=xr.ones_like(status), compared=above.notnull(), above=above.fillna(0))
    each = each.drop_vars([str(name) for name in each.coords])
    layers = group["layer"].values
    names = list(dict.fromkeys(layers.tolist()))
    each = each[["channels", *STATUSES, "compared", "above"]].astype(np.int64)
    counts = [each.isel(layer_channel=np.flatnonzero(layers == name)).sum("layer_channel") for name in names]
    found = xr.concat(counts, "layer").assign_coords(layer=names)
    return found.assign(share=found["above"] / found["compared"].where(found["compared"] > 0))


def _at_seed(values: xr.DataArray, seed: xr.DataArray) -> xr.DataArray:
    """``values`` (layer_channel, seed) at one position along ``seed`` for each channel; lazy where they are."""
    at = xr.DataArray(np.arange(values.sizes["seed"]), dims="seed")
    return values.drop_vars("seed", errors="ignore").where(at == seed, 0).sum("seed", skipna=False).astype(values.dtype)
