"""One channel over all samples: where it responds most, in whom, and to how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.conditions import ORIGINAL
from actstore.errors import StoreError
from actstore.tables.rows import sample_columns
from actstore.views.figures import marks, pixels
from actstore.views.figures.images import covers, frame_of
from actstore.views.figures.pixels import border, place_of
from actstore.views.figures.scales import around_zero, ink
from actstore.views.figures.selection import chosen, numbers, place_label, samples_of, target_of
from actstore.views.figures.spread import HALF, PatientColumns, patient_ticks
from actstore.views.figures.sweeps import DoseCurve, sweep_of, sweep_title, with_unchanged
from actstore.views.figures.theme import DIVERGING, INK, WIDTH, colours_of, grid, panel, styled
from actstore.views.wording import number

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Maps in a row.
_COLUMNS = 4


def strongest(
    store: Store, layer: str, channel: int, condition: str | None = None, *, most: int = 8, size: int = 200
) -> hv.Layout:
    """Maps of the change, perturbed - original, in the samples in which a channel responds most, the strongest first.

    All share one colour scale around 0. x and y are pixels of the input, and the perturbed class is outlined as in
    :func:`activation`; of volumes the slice with most of it is shown. Only these maps are read.

    Parameters
    ----------
    condition
        as in :func:`inputs`.
    most
        how many samples at most, by MAD.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if there is no such condition or channel, the perturbation applies to no sample or changes the channel in none,
        ``most`` is not positive, or the layer's tensors were not kept.
    KeyError
        naming the layers that there are.

    Examples
    --------
    >>> figure = views.strongest(store, "L02", 1, most=2)
    """
    if most < 1:
        raise StoreError(f"most = {most}: ask for one sample at least")
    c, _ = _condition(store, condition)
    mad = _mad(store, layer, channel, [c])[:, 0]
    used = np.flatnonzero(samples_of(store, c) & (mad > 0))
    if len(used) == 0:
        raise StoreError(
            f"channel {channel} of {layer} does not change under {store.conditions.index[c]}: take another"
        )
    order = used[np.argsort(-mad[used], kind="stable")][:most]
    shown = []
    for s in map(int, order):
        original, perturbed = (store.map(layer, s, i, channel).astype(np.float32) for i in (ORIGINAL, c))
        label = store.picture("label", s)
        at, cover = covers(store, layer, label, c)
        change = perturbed - original
        shown.append((s, change if at is None else change[at], cover))
    limits = around_zero(np.stack([change for _, change, _ in shown]))
    place = place_of(store.grids[layer])
    within = frame_of(*map(slice, store.layout.space[-2:]))
    panels = []
    for i, (s, change, cover) in enumerate(shown):
        bar = (i + 1) % _COLUMNS == 0 or i == len(shown) - 1
        panels.append(
            panel(
                [
                    pixels.image(change, DIVERGING, limits, place=place, colorbar=bar),
                    *border([(mask, ink(DIVERGING)) for mask in cover], width=1.2, place=place),
                ],
                (size, size),
                title=f"{place_label(store, s, ' · ', short=True)} · {number(mad[s])}",
                bokeh={"fontsize": {"title": "12px"}},
                matplotlib={"fontsize": {"title": 7}},
                **within,
            )
        )
    return grid(panels, _COLUMNS, (size, size), hspace=0.1, vspace=0.15)


def mad_by_patient(store: Store, layer: str, channel: int, condition: str | None = None) -> hv.Overlay:
    """MAD of one channel by patient: a dot a sample, a line the patient's median.

    Of more than 40 patients, sorted by median, a dot is the median and a line runs from quartile to quartile.

    Parameters
    ----------
    condition
        as in :func:`inputs`.

    Raises
    ------
    StoreError
        if there is no such condition or channel, or the perturbation applies to no sample.
    KeyError
        naming the layers that there are.

    Examples
    --------
    >>> figure = views.mad_by_patient(store, "L02", 1)
    """
    c, name = _condition(store, condition)
    mad = _mad(store, layer, channel, [c])[:, 0]
    used = np.flatnonzero(samples_of(store, c))
    samples = store.samples.iloc[used]
    columns = PatientColumns(used, samples["patient"].to_numpy(), mad[used])
    colour = colours_of(store).get(target_of(store, name), INK)
    middle = np.arange(len(columns.patients), dtype=float)
    low, median, high = columns.quartiles
    if columns.many:
        dots = pd.DataFrame({"x": middle, "MAD": median.round(5), "patient": columns.patients})
        lines = list(zip(middle, low, middle, high, strict=True))
    else:
        dots = samples[sample_columns(samples)].assign(x=columns.x, MAD=columns.mad)
        lines = list(zip(middle - HALF, median, middle + HALF, median, strict=True))
    along, up = columns.limits
    width = int(np.clip(60 * len(middle), 320, WIDTH - 150))
    return panel(
        [
            marks.dots(dots, "x", "MAD", colour),
            styled(
                hv.Segments(lines, ["x", "y", "x1", "y1"]),
                color=colour if columns.many else INK,
                bokeh={"line_width": 2},
                matplotlib={"linewidth": 1.4},
            ),
        ],
        (width, 260),
        title=f"{layer}, channel {channel} · {name} · n = {len(used)}",
        xticks=[(-9, "")] if columns.many else list(patient_ticks(columns.patients, room=width // 9).items()),
        xlim=along,
        ylim=up,
        xlabel=columns.xlabel,
        ylabel="MAD",
    )


def channel_dose(store: Store, layer: str, channel: int, condition: str | None = None) -> hv.Overlay:
    """MAD of one channel against the strength of a perturbation: median and quartiles over samples.

    The dashed line marks the strength of ``condition``. Where a transform changes nothing MAD is 0.

    Parameters
    ----------
    condition
        one of the strengths, as in :func:`inputs`; the curve covers all that differ from it in strength only.

    Raises
    ------
    StoreError
        if there is no such condition or channel, the perturbation applies to no sample, or has fewer than three
        strengths.
    KeyError
        naming the layers that there are.

    Examples
    --------
    >>> figure = views.channel_dose(store, "L02", 1, condition="brightness(LV, 0.1)")
    """
    c, name = _condition(store, condition)
    sweep = sweep_of(store.conditions, name)
    here = sweep.strengths[sweep.conditions.index(c)]
    at = list(sweep.conditions)
    applies = store.applicable.transpose("sample", "condition").values[:, at]
    curve = DoseCurve(sweep, with_unchanged(_mad(store, layer, channel, at), applies))
    quartiles = dict(zip(("lower quartile", "median", "upper quartile"), curve.quartiles, strict=True))
    hover = pd.DataFrame({"strength": sweep.strengths, **quartiles}).round(5)
    x, (low, median, high) = curve.whole
    along, up = curve.limits
    target = target_of(store, name)
    colour = colours_of(store).get(target, INK)
    what = sweep_title(sweep.transform, target, sweep.channels)
    return panel(
        [
            marks.band(x, low, high, colour),
            marks.line(x, median, colour),
            marks.dots(hover, "strength", "median", colour, size=7),
            marks.rule(x=here),
        ],
        (480, 260),
        title=f"{layer}, channel {channel} · {what} · n = {curve.samples}",
        xlim=along,
        ylim=up,
        xlabel=f"strength of {sweep.transform}",
        ylabel="MAD (median, quartiles)",
    )


def _condition(store: Store, condition: str | None) -> tuple[int, str]:
    _, c = chosen(store, None, condition)
    return c, str(store.conditions.index[c])


def _mad(store: Store, layer: str, channel: int, conditions: list[int]) -> NDArray[np.float64]:
    """MAD of one channel: (sample, condition), NaN where not applicable."""
    found = store.statistics(layer, ["mad"])["mad"]
    [at] = numbers([channel], found.sizes["channel"], f"channel of {layer}")
    own = found.isel(channel=at, condition=conditions).transpose("sample", "condition")
    return np.asarray(own.values, np.float64)
