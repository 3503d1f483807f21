"""One self-contained HTML page about two stores of the same samples, and a folder of its data beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from actstore.analysis.evidence import perturbations
from actstore.errors import StoreError
from actstore.tables.compare import SIDES, Comparison
from actstore.tables.unchanged import no_sample
from actstore.views.figures import likeness
from actstore.views.figures.channels import frequency
from actstore.views.html_tables import html_table
from actstore.views.report.render import rendered
from actstore.views.report.sentences import likeness as on
from actstore.views.report.study import Figure, Section, ShownTable
from actstore.views.report.write import page, place_of
from actstore.views.wording import notes_of, rests_on, with_interval

if TYPE_CHECKING:
    from actstore.store.store import Store


def write_comparison(comparison: Comparison, output: str | Path) -> Path:
    """Write how two networks compare to ``output``, and the data and figures to the folder ``<name>_data`` beside it.

    Raises
    ------
    StoreError
        if ``output`` cannot be written.
    """
    output, folder = place_of(output, "compare.html")
    one, other = comparison.stores
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = [rendered(section(comparison), folder) for section in _sections(comparison)]
        text = page(
            "compare.html.j2",
            made,
            folder,
            version=one.attributes["versions"].get("actstore", ""),
            names=[str(store.path) for store in (one, other)],
            patients=one.samples["patient"].nunique(),
            samples=len(one.samples),
            conditions=len(comparison.conditions),
            runs=html_table(_runs(one, other), "runs"),
        )
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}; choose another -o") from error
    return output


def _sections(comparison: Comparison) -> list[Callable[[Comparison], Section]]:
    """Those that two runs can have."""
    found: list[Callable[[Comparison], Section]] = [
        _similarity,
        _accuracy if comparison.stores[0].classified else _dice,
    ]
    if all(len(perturbations(store.applicable)) for store in comparison.stores):
        found.append(_frequency)
    return found


def _runs(*stores: Store) -> pd.DataFrame:
    """What the two runs are: a row each."""
    rows = []
    for side, store in zip(SIDES, stores, strict=True):
        fingerprint = store.attributes["fingerprint"]
        rows.append(
            {
                "run": side,
                "store": str(store.path).rstrip("/").rpartition("/")[2],
                "weights": fingerprint["weights"][:12],
                "data": fingerprint["data"][:12],
                "layers": len(store.layers),
                "channels": int(store.layers["channels"].sum()),
                "conditions": len(store.conditions),
                "missing volumes": len(store.missing),
            }
        )
    return pd.DataFrame(rows)


def _similarity(comparison: Comparison) -> Section:
    table = comparison.similarity
    best = table[table["cka"].notna()].sort_values("cka", ascending=False, kind="stable")
    best = best.drop_duplicates("layer_a").sort_index().reset_index(drop=True)
    drawn = Figure(
        "similarity",
        lambda: likeness.similarity(table),
        "Linear CKA of every layer of a with every layer of b on the original; a layer in which all samples are one is "
        f"like nothing, and grey. {rests_on(table)}.",
        "Map of layers of one network by layers of the other",
        table,
    )
    shown = ShownTable("similarity-best", "The layer of b that is most like each layer of a", best, best)
    words = [on.CKA, "Permuting patients of one network gives p, which is of patients' mean points."]
    words += notes_of(table, "similarity")
    return Section("similarity", "Which layers match", words, [drawn], [shown], on.networks(table))


def _dice(comparison: Comparison) -> Section:
    one, other = comparison.stores
    missing = []
    if not set(one.members) & set(other.members):
        missing.append(f"The runs have no class in common: {', '.join(one.members)} and {', '.join(other.members)}.")
        return Section("dice", "Which predicts better", missing=missing)
    table = comparison.dice_mean
    shown = table[["condition", "class_name", "samples", "patients", "dice_a", "dice_b"]].assign(
        difference=with_interval(table, "difference", "low", "high", "error")
    )
    words = [
        "Mean Dice of samples whose truth holds the class, in the conditions that both runs have; the difference is b "
        "less a, sample by sample, with a 95 % interval from resampling patients.",
        *notes_of(table, "Dice"),
    ]
    tables = [ShownTable("dice-mean", "Mean Dice of either network", shown, table)]
    return Section("dice", "Which predicts better", words, (), tables, on.dice_differs(table), missing)


def _accuracy(comparison: Comparison) -> Section:
    table = comparison.accuracy
    shown = table.assign(**{name: table[name].round(3) for name in ("accuracy_a", "accuracy_b", "difference")})
    shown["p"] = [f"{p:.2g}" for p in table["p"]]
    words = [
        "The part of the same images that either network classifies right, in the conditions that both runs have, and "
        "the images that one alone does. p flips the sign of each patient's difference; where each image is of another "
        "patient, that is McNemar's exact test."
    ]
    tables = [ShownTable("accuracy", "Images classified right by either network", shown, table)]
    return Section("accuracy", "Which is right more often", words, (), tables, on.accuracy_differs(table))


def _frequency(comparison: Comparison) -> Section:
    missing, drawn = [], []
    for side, store, found in zip(SIDES, comparison.stores, comparison.findings, strict=True):
        table = found.table("frequency")
        if table.empty:
            missing.append(f"In {side}: {no_sample(store)}")
            continue
        drawn.append(
            Figure(
                f"frequency-{side}",
                lambda store=store: frequency(store),  # type: ignore[misc]
                f"{side}: how often each channel is among the three of its layer that change most, over perturbations.",
                "Map of layers by channels, coloured by frequency",
                table,
            )
        )
    words = ["Channels of two networks are not the same: numbers compare within a network, patterns between them."]
    return Section("frequency", "Which channels are on top", words, drawn, (), (), missing)
