"""How well scores tell classes apart, whether probabilities are what they say, and which class is taken for which."""

from __future__ import annotations

from functools import partial

import pandas as pd

from actstore.analysis.curves.calibrated import CALIBRATION_BINS
from actstore.conditions import ORIGINAL
from actstore.views.figures import curves as figures
from actstore.views.report.sentences import curves as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import notes_of, rests_on, with_interval


def curves(study: Study) -> Section:
    """Curves over thresholds, calibration and confusion."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    shown = [ORIGINAL, *study.conditions]
    table = study.ask("curves", missing)
    if table is not None:
        table = table[table["condition"].isin(shown)].reset_index(drop=True)
        counts_of = "images" if study.store.classified else "pixels"
        words += [on.SCORED if study.store.classified else on.COUNTED, *on.untouched(table)]
        words += on.perturbed(table, {name: study.action(name) for name in study.conditions})
        words += notes_of(table, "areas under curves")
        findings += on.untouched(table)[:1]
        cells = table[["condition", "class_name", "samples", "patients"]].assign(
            auc=on.shares(table, "auc"),
            average_precision=on.shares(table, "average_precision"),
            ece=with_interval(table, "ece"),
        )
        tables.append(
            ShownTable(
                "curves",
                "Area under the ROC curve, average precision and expected calibration error, with 95 % intervals from "
                "resampling patients; F1 at p = 0.5, the highest F1, and the threshold that gives it",
                cells.assign(f1=table["f1"].round(3), f1_best=table["f1_best"].round(3), threshold=table["threshold"]),
                table,
            )
        )
        for key, draw, caption, alt in (
            (
                "roc",
                figures.roc,
                "True against false positive rate over all thresholds; dashed: scores that say nothing.",
                "ROC curve of each class, one plot a condition",
            ),
            (
                "precision-recall",
                figures.precision_recall,
                "Precision against recall over all thresholds.",
                "Precision-recall curve of each class, one plot a condition",
            ),
            (
                "calibration",
                figures.calibration,
                f"Share of {counts_of} that is of the class by mean probability, in {CALIBRATION_BINS} bins; dashed: "
                f"probabilities that are what they say. Below, the number of {counts_of} in each bin.",
                "Reliability diagram of each class, one plot a condition, with counts",
            ),
        ):
            points = study.ask(key, missing)
            if points is None:
                continue
            points = points[points["condition"].isin(shown)].reset_index(drop=True)
            drawn.append(
                Figure(key, partial(draw, points, study.colours), f"{caption} {rests_on(table)}.", alt, points)
            )
    counts = study.ask("confusion", missing)
    if counts is not None:
        counts = counts[counts["condition"].isin(shown)].reset_index(drop=True)
        words += on.confused(counts, study.conditions)
        drawn.append(
            Figure(
                "confusion",
                lambda: figures.confusion(counts),
                "Per cent of each true class that is predicted as each class, over all samples that a condition "
                f"applies to. {_rests(study, counts['condition'].unique().tolist())}.",
                "Matrix of true by predicted class, one plot a condition",
                counts,
            )
        )
    return Section("curves", "Scores and confusion", words, drawn, tables, findings, missing)


def _rests(study: Study, conditions: list[str]) -> str:
    """How many samples and patients the conditions apply to."""
    applies = study.store.applicable.sel(condition=conditions).values
    patients = study.store.samples["patient"].to_numpy()
    rows = [{"samples": int(own.sum()), "patients": len({*patients[own]})} for own in applies.T]
    return rests_on(pd.DataFrame(rows))
