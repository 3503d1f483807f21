"""Whether channels matter: what edits of them do to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from actstore.tables.catalogue import Unanswerable
from actstore.tables.passes import INTERVENTIONS
from actstore.views.figures import interventions as figures
from actstore.views.figures import orders
from actstore.views.report.sentences import interventions as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import notes_of, rests_on, slug, with_interval

if TYPE_CHECKING:
    from actstore.store.store import Store

TITLE = "Does it matter"
#: Figures of curves, one an intervention, condition and class.
MOST_CURVES = 3


@dataclass(frozen=True)
class _Part:
    """What one kind of table gives the section."""

    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[ShownTable] = ()
    findings: Sequence[str] = ()


def has_interventions(store: Store) -> bool:
    """Whether a store has what the section shows."""
    return bool(INTERVENTIONS.names(store))


def interventions(study: Study) -> Section:
    """Edits of channels, and whether those that change most are those that matter."""
    try:
        found = INTERVENTIONS.all(study.store, study.findings.of)
    except Unanswerable as error:
        return Section("interventions", TITLE, missing=[str(error)])
    parts = [_effects(study), _orders(study), _agreement(study)]
    return Section(
        "interventions",
        TITLE,
        [*(on.made(one.name, one.settings) for one in found), *(word for part in parts for word in part.words)],
        [figure for part in parts for figure in part.figures],
        [table for part in parts for table in part.tables],
        [sentence for part in parts for sentence in part.findings],
    )


def _effects(study: Study) -> _Part:
    """What each channel does alone."""
    if (table := study.ask("effects", [])) is None:
        return _Part()
    own = figures.of_targets(table)
    alone = figures.alone(table)
    words = [
        *on.layers(own, _measure(study)),
        *notes_of(alone, "effects of channels", ["intervention", "condition", "class_name"]),
    ]
    if alone.empty:
        return _Part(words)
    ranked = alone.sort_values("effect", ascending=False, kind="stable", ignore_index=True)
    shown = ranked[["intervention", "layer", "channel", "quantity", "condition", "class_name", "samples"]].assign(
        effect=with_interval(ranked, "effect", "low", "high", "error"), q=ranked["q"], tests=ranked["tests"]
    )
    measure = _measure(study)
    return _Part(
        words,
        [
            Figure(
                "effects",
                lambda: figures.effects(table),
                f"Effect of editing each channel alone: red is {measure} that is lost (necessity, transmission), comes "
                "back (restoration) or is gained (change), blue the opposite; of restoration and transmission a share "
                f"of what the perturbation costs. Dots, counted above: {on.larger(alone)}. {rests_on(alone)}.",
                "Layer by channel maps of the effect, one an intervention, condition and class",
                alone,
            )
        ],
        [ShownTable("effects-largest", "Channels with the largest effects", shown, ranked)],
        on.largest(alone, measure),
    )


def _orders(study: Study) -> _Part:
    """Growing sets of channels."""
    table, areas = study.ask("cumulative", []), study.ask("areas", [])
    if table is None:
        return _Part()
    measure = _measure(study)
    drawn = [_curves(own, measure) for own in _groups(table)[:MOST_CURVES]]
    if areas is None:
        return _Part(figures=drawn)
    own = figures.of_targets(areas)
    drawn.append(
        Figure(
            "areas",
            lambda: orders.areas(areas),
            "Area between the curve of each order and that of random sets, in the mean over the logarithm of the "
            "number of channels, with 95 % intervals over patients: right of the line, the order finds what matters "
            f'before chance; "all" is the mean over layers. {rests_on(own)}.',
            "Dots with intervals by layer, one colour an order",
            own,
        )
    )
    return _Part(
        notes_of(own, "areas between curves", ["intervention", "condition", "class_name"]),
        drawn,
        findings=on.orders(own, measure),
    )


def _groups(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of each intervention, condition and class."""
    return [own for _, own in figures.of_targets(table).groupby(figures.PLOT, sort=False)]


def _curves(own: pd.DataFrame, measure: str) -> Figure:
    first = own.iloc[0]
    data = orders.curves_of(own)
    return Figure(
        slug(f"cumulative-{first['intervention']}-{first['condition']}-{first['class_name']}"),
        lambda: orders.cumulative(own),
        f"Mean {measure} of {first['class_name']} against the number of channels that are edited together "
        f"({first['intervention']}, {first['condition']}), in several orders and at random (dashed), with 95 % "
        f"intervals over patients; {data['layer'].nunique()} of {own['layer'].nunique()} layers, evenly spread. "
        f"{rests_on(data)}.",
        f"Curves of {measure} against the number of channels, one plot a layer",
        data,
    )


def _agreement(study: Study) -> _Part:
    """Rankings by MAD and by effect."""
    table, ranked, effects = (study.ask(name, []) for name in ("agreement", "rankings", "effects"))
    if table is None or ranked is None or effects is None:
        return _Part()
    most = study.findings.most
    return _Part(
        figures=[
            Figure(
                "rankings",
                lambda: figures.rankings(ranked, most),
                "Effect of each channel on the perturbed class, against its rank by frequency in its layer. Filled: "
                f"among the {most} most frequent (left of the line) and the {most} with the largest effects. "
                f"{rests_on(table)}.",
                "Dots of effect against rank by frequency, one a channel",
                ranked,
            ),
            Figure(
                "agreement",
                lambda: figures.agreement(table),
                "Rank correlation, over the channels of each layer, of the effect with frequency (filled) and with "
                f"mean MAD (hollow), with 95 % intervals over patients, which lean towards 0. {rests_on(table)}.",
                "Dots of rank correlation with intervals, by layer",
                table,
            ),
        ],
        words=on.responsible(table),
        findings=on.published(figures.alone(effects), ranked, most),
    )


def _measure(study: Study) -> str:
    """What effects are differences of."""
    return "accuracy" if study.store.classified else "Dice"
