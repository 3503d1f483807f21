"""What channels look for: their optima, and the samples that activate them most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from actstore.analysis.optima import STATUSES, share_above
from actstore.tables.catalogue import Unanswerable
from actstore.tables.optima import Optima, open_optima, optima_names, optima_table
from actstore.units import counted, plural_of
from actstore.views.figures.optima import BLANK, best_of, plane_of
from actstore.views.figures.optima import optima as sheet
from actstore.views.figures.optimum import optimum
from actstore.views.report.sections.network import responding
from actstore.views.report.sentences import optima as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import capital, slug

if TYPE_CHECKING:
    from actstore.store.store import Store

TITLE = "What channels look for"
#: Contact sheets, single channels, and samples of each, at most.
MOST_LAYERS, MOST_CHANNELS, MOST_SAMPLES = 3, 4, 5


def has_optima(store: Store) -> bool:
    """Whether a store has what the section shows."""
    return bool(optima_names(store))


def optima(study: Study) -> Section:
    """Optima of the channels, compared with the data."""
    store = study.store
    names = optima_names(store)
    name = study.findings.of or ("optima" if "optima" in names else next(iter(names), None))
    try:
        found = open_optima(store, name)
    except Unanswerable as error:
        return Section("optima", TITLE, missing=[str(error)])
    table = optima_table(found)
    layers = layers_table(found)
    z = plane_of(found, None)
    looked_at = bool(table["data_max"].notna().any())
    samples = len(store.samples)
    rests = f" n = {counted(samples, study.noun)}." if looked_at else ""
    words = [
        on.images(found.settings),
        on.made(found.settings),
        *on.statuses(layers, found.noun),
        *on.not_compared(layers),
    ]
    words += on.others(found.name, names)
    if not found.samples_known:
        words.append("The strongest samples are left out: they are counted among those of the whole run.")
    modules = dict(zip(found.small["layer"].values, found.small["module"].values, strict=True))
    drawn = []
    for layer in _spread(found.layers):
        own = table[table["layer"] == layer].reset_index(drop=True)
        drawn.append(
            Figure(
                f"optima-{slug(layer)}",
                lambda layer=layer: sheet(store, layer, of=found.name),  # type: ignore[misc]
                on.sheet(layer, str(modules[layer]), z, found.noun) + rests,
                f"Contact sheet of the optima of {counted(own['channel'].nunique(), found.noun)} of {layer}",
                own,
            )
        )
    for layer, channel, why in _shown(study, found):
        drawn.append(
            Figure(
                f"optimum-{slug(layer)}-{channel}",
                lambda a=(layer, channel): optimum(store, *a, of=found.name, most=MOST_SAMPLES),  # type: ignore[misc]
                on.one(layer, channel, why, z, found.noun, placed=layer in store.grids) + rests,
                f"Optimum of {found.noun} {channel} of {layer}, its objective over the steps and beside the data, and "
                "the samples that activate it most",
                numbers(found, layer, channel),
            )
        )
    best = _best_rows(found, table)
    shown = best[["layer", "channel", "status", "final", "data_max", "data_mean", "data_std", "above_data"]]
    tables = [
        ShownTable(
            "optima-layers",
            f"{capital(plural_of(found.noun))} of each layer by status, and those above the data",
            layers,
            layers,
        ),
        ShownTable("optima", f"The best image of each {found.noun}", shown, best),
    ]
    return Section("optima", TITLE, words, drawn, tables, on.above(layers, samples, study.noun, found.noun))


def layers_table(optima: Optima) -> pd.DataFrame:
    """Columns ``layer, channels, live, dead, constant, bounded, compared, above, share``."""
    shares = share_above(optima.small, size=optima.size, input_size=optima.input_size)
    return shares.to_dataframe().reset_index()[["layer", "channels", *STATUSES, "compared", "above", "share"]]


def numbers(optima: Optima, layer: str, channel: int) -> pd.DataFrame:
    """What a figure of one channel shows: ``what, seed, step, rank, sample, value``, each where it has one."""
    own = optima.small.isel(layer_channel=optima.channel(layer, channel))
    rows: list[dict[str, Any]] = []
    for k, seed in enumerate(own["seed"].values):
        rows += [{"what": name, "seed": seed, "value": own[name].values[k]} for name in ("start", "final")]
        curve = own["curve"].transpose("seed", "step").values[k]
        rows += [{"what": "curve", "seed": seed, "step": step, "value": value} for step, value in enumerate(curve)]
    rows += [{"what": name, "value": float(own[name])} for name in ("data_max", "data_mean", "data_std")]
    for rank, (sample, value) in enumerate(zip(own["top_sample"].values, own["top_value"].values, strict=True)):
        if sample >= 0:
            rows.append({"what": "sample", "rank": rank, "sample": sample, "value": value})
    whole = ["seed", "step", "rank", "sample"]
    found = pd.DataFrame(rows, columns=["what", *whole, "value"])
    return found.astype(dict.fromkeys(whole, "Int64") | {"value": "float64"})


def _best_rows(optima: Optima, table: pd.DataFrame) -> pd.DataFrame:
    """The row of each channel's best seed, the first where there is none."""
    at = list(range(optima.small.sizes["layer_channel"]))
    seeds = np.array([seed for seed, _ in best_of(optima, at)])
    found: pd.DataFrame = table.iloc[np.array(at) * optima.small.sizes["seed"] + seeds]
    return found.reset_index(drop=True)


def _spread(layers: list[str]) -> list[str]:
    """Up to :data:`MOST_LAYERS`, from the first to the last."""
    at = np.linspace(0, len(layers) - 1, min(MOST_LAYERS, len(layers))).round().astype(int)
    return [layers[i] for i in at]


def _shown(study: Study, optima: Optima) -> list[tuple[str, int, str]]:
    """(layer, channel, why) of the channels that respond most to a perturbation; of other layers, the strongest."""
    found: dict[tuple[str, int], str] = {}
    recorded = [layer for layer in optima.layers if layer in study.layers and optima.noun == "channel"]
    if recorded and study.conditions:
        for layer, channel, condition in responding(study, recorded, study.conditions):
            at = optima.channels(layer).get(channel)
            if at is not None and best_of(optima, [at])[0][1] not in BLANK:
                found.setdefault((layer, channel), f"which responds most often to {condition} among layers of its size")
    if not found:
        for layer in _spread(optima.layers):
            channels = optima.channels(layer)
            best = best_of(optima, list(channels.values()))
            final = {
                channel: float(optima.small["final"].values[at, seed])
                for (channel, at), (seed, status) in zip(channels.items(), best, strict=True)
                if status not in BLANK
            }
            if final:
                found[layer, max(final, key=lambda c: final[c])] = "the highest final value of its layer"
    return [(layer, channel, why) for (layer, channel), why in found.items()][:MOST_CHANNELS]
