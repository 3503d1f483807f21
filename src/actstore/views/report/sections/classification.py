"""How well a network classifies whole images, and what a perturbation makes of their classes."""

from __future__ import annotations

from actstore.analysis.classification import EVERY
from actstore.conditions import ORIGINAL
from actstore.views.figures import classification as figures
from actstore.views.report.sentences import classification as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import notes_of, rests_on, slug, with_interval


def classification(study: Study) -> Section:
    """Accuracy of all images and of each class, and the images that are least sure."""
    store, title = study.store, "Classification"
    table = study.table("accuracy")
    shown = [ORIGINAL, *study.conditions]
    table = table[table["condition"].isin(shown)].reset_index(drop=True)
    whole = table[table["class_name"] == EVERY].reset_index(drop=True)
    drawn = [
        Figure(
            "accuracy",
            lambda: figures.accuracy(table),
            "Part of the images that is classified right, of all and of each class, with 95 % intervals over patients "
            f"where these are known, else over images. {rests_on(whole)}.",
            "Dots with intervals, one a class, one plot a condition",
            table,
        )
    ]
    for condition in shown:
        examples = figures.examples(store, condition)
        drawn.append(
            Figure(
                f"classified-{slug(condition)}",
                lambda c=condition: figures.classified(store, c),  # type: ignore[misc]
                f"Of each class the image whose own class has the least probability, under {condition}: label, "
                "what it is taken for where that is another class (with a thick frame), and the probability of that.",
                f"Images with label, prediction and probability under {condition}",
                examples,
            )
        )
    rows = table[["condition", "class_name", "samples", "patients"]].assign(
        accuracy=with_interval(table, "accuracy", "low", "high")
    )
    tables = [ShownTable("accuracy-classes", "Part classified right, with 95 % intervals", rows, table)]
    return Section("classification", title, notes_of(table, "intervals of accuracy"), drawn, tables, on.accuracy(table))
