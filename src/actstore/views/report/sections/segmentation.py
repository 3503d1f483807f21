"""What was done to the images, and what the network made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from actstore.analysis.evidence import perturbations
from actstore.conditions import ORIGINAL
from actstore.store.attributes import trained_of, window_of
from actstore.tables.rows import sample_columns
from actstore.tables.summaries import case_summary, original_dice
from actstore.tables.unchanged import nowhere, of_store
from actstore.units import counted, plural_of
from actstore.views.figures import images as pictures
from actstore.views.figures import segmentation as figures
from actstore.views.figures.selection import paired_dice, picture, place_label, target_of, typical_sample
from actstore.views.figures.theme import COLOUR_NAMES
from actstore.views.report.sentences import failures as on_failures
from actstore.views.report.sentences import segmentation as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import notes_of, number, percent, rests_on, slug, with_interval


def images(study: Study) -> Section:
    """Inputs beside their perturbed versions."""
    store = study.store
    drawn = []
    for condition in study.conditions:
        sample = typical_sample(store, condition)
        where = place_label(store, sample)
        drawn.append(
            Figure(
                key=f"inputs-{slug(condition)}",
                draw=lambda c=condition, s=sample: pictures.inputs(store, s, c),  # type: ignore[misc]
                caption=on.pictured(
                    study.action(condition), where, target_of(store, condition), _colour_words(study), study.noun
                ),
                alt=f"Original, perturbed image and their difference of {where}",
                data=_pixels(study, sample, condition),
                view=study.view(sample, condition),
            )
        )
    identity = store.attributes["identity"]
    words = on.perturbations(
        study.conditions,
        study.every,
        identity["preprocess"]["normalize"],
        window_of(identity),
        trained_of(identity),
    )
    words += [f"{found}." for found in of_store(store)]
    words += [f"{name} applies to no {study.noun}: {why}." for name, why in nowhere(store)]
    missing = [] if study.conditions else [study.nothing]
    return Section("images", "What the network saw", words, drawn, missing=missing)


def segmentation(study: Study) -> Section:
    """Dice, original and perturbed."""
    store, shown = study.store, study.conditions
    paired = paired_dice(store)
    paired = paired[paired["condition"].isin(shown)].reset_index(drop=True)
    if not len(perturbations(store.applicable)):
        return Section("segmentation", "Segmentation", on.untouched(original_dice(store), study.noun))
    if paired.empty:
        return Section("segmentation", "Segmentation before and after", missing=[study.nothing])
    means = study.table("dice-mean")
    own = paired[paired["class_name"] == paired["target"]]
    many = plural_of(study.noun)
    rests = rests_on(own.groupby("condition").agg(samples=("slice", "size"), patients=("patient", "nunique")))
    slices = own.drop(columns="class_name")
    by_patient = slices.groupby(["condition", "target", "patient"], sort=False)[["original", "perturbed", "change"]]
    drawn = [
        Figure(
            "dice",
            lambda: figures.dice(store, shown),
            f"Dice of every class, original (hollow) against perturbed (filled). A dot is a {study.noun} that contains "
            f"the class; boxes are quartiles, thick lines medians. {rests} ({many} of the perturbed class).",
            "Boxes and dots of Dice per class, original beside perturbed, one plot a perturbation",
            paired,
        ),
        Figure(
            "dice-change",
            lambda: figures.dice_change(store, shown),
            f"Change in Dice of the perturbed class over {many}; the dashed line is the mean. {rests}.",
            "Histograms of the change in Dice, one a perturbation",
            slices,
        ),
        Figure(
            "dice-cumulative",
            lambda: figures.dice_cumulative(store, shown),
            f"Share of {many} with a Dice up to a value; dashed: the original, solid: perturbed. {rests}.",
            "Cumulative curves of Dice, original and perturbed, one plot a perturbation",
            slices,
        ),
        Figure(
            "dice-by-patient",
            lambda: figures.dice_by_patient(store, shown),
            f"Mean Dice of the perturbed class, a line a patient. {rests}.",
            "Lines from the original to the perturbed mean Dice of each patient",
            by_patient.mean().reset_index(),
        ),
    ]
    # A volume has no position along itself.
    if len(store.layout.space) == 2:
        drawn.append(
            Figure(
                "dice-by-position",
                lambda: figures.dice_by_position(store, shown),
                "Mean Dice of the perturbed class along the slices with foreground, from the end with more of it "
                f"(base) to the other (apex); dashed: the original; shaded: quartiles. {rests}.",
                "Curves of Dice from base to apex, original and perturbed",
                figures.along_the_heart(slices),
            )
        )
    tables = [
        ShownTable(
            "dice-mean",
            f"Mean Dice over the same {many}, those that contain the class, with 95 % intervals over patients where "
            "there are patients enough",
            pd.DataFrame(
                {
                    "class": means["class_name"],
                    "perturbation": means["condition"],
                    plural_of(study.noun): means["samples"],
                    "original": with_interval(means, "original"),
                    "perturbed": with_interval(means, "perturbed"),
                    "change": with_interval(means, "change"),
                }
            ),
            means,
        )
    ]
    return Section(
        "segmentation",
        "Segmentation before and after",
        [*on.untouched(original_dice(store), study.noun), *notes_of(means, "mean Dice")],
        drawn,
        tables + _further(study),
        findings=on.changes(means, shown, store.conditions, study.noun),
    )


def _further(study: Study) -> list[ShownTable]:
    """Other measures and surface distances, before and after, on the same slices that contain the class."""
    found: list[ShownTable] = []
    missing: list[str] = []
    many = plural_of(study.noun)
    keys = [*sample_columns(study.store.samples), "class_name"]
    segmentation = study.ask("segmentation", missing)
    if segmentation is None or "slice" not in segmentation:
        return found
    # A class that a slice lacks has no sensitivity.
    present = segmentation.loc[segmentation["sensitivity"].notna(), [*keys, "condition"]]
    for name, caption, measures in (
        (
            "segmentation",
            f"Other measures, original → perturbed, on the same {many} that contain the class ({many} where both have "
            "a value)",
            ("jaccard", "sensitivity", "specificity", "precision", "relative_volume_difference"),
        ),
        (
            "surface",
            "Distance of predicted from true surfaces in millimetres, original → perturbed "
            f"({many} where both predict the class: an empty prediction has no surface{_unmeasured(study)})",
            ("hd95", "assd"),
        ),
    ):
        table = study.ask(name, missing)
        if table is None:
            continue
        inside = table.merge(present, on=[*keys, "condition"])
        original = inside[inside["condition"] == ORIGINAL].set_index(keys)
        rows, values = [], []
        for (class_name, condition), own in inside.groupby(["class_name", "condition"], sort=False):
            if condition not in study.conditions:
                continue
            perturbed = own.set_index(keys)
            row: dict[str, Any] = {"class": class_name, "condition": condition}
            value = dict(row)
            for measure in measures:
                before = original[measure].reindex(perturbed.index)
                both = before.notna() & perturbed[measure].notna()
                ends = [float(side[both].mean()) if both.any() else np.nan for side in (before, perturbed[measure])]
                row[measure] = f"{' → '.join(map(number, ends))} ({int(both.sum())})"
                value |= {f"{measure}_original": ends[0], f"{measure}_perturbed": ends[1]}
                value[f"{measure}_samples"] = int(both.sum())
            rows.append(row)
            values.append(value)
        if rows:
            found.append(ShownTable(name, caption, pd.DataFrame(rows), pd.DataFrame(values)))
    return found


def _unmeasured(study: Study) -> str:
    """A clause on volumes whose headers state no voxel size, for a caption."""
    samples = study.store.samples
    axes = ["spacing_y", "spacing_x", *(["spacing_z"] if study.store.layout.space[2:] else [])]
    sizes = samples[axes].to_numpy(np.float64)
    known = (np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    unknown = samples.loc[~known, ["patient", "frame"]].drop_duplicates()
    if unknown.empty:
        return ""
    first = unknown.iloc[0]
    volumes = counted(len(unknown), "volume")
    return f"; without {volumes} of unknown voxel size, the first {first['patient']} frame {first['frame']}"


def failures(study: Study) -> Section:
    """Kinds of failure."""
    store = study.store
    shares = case_summary(store)
    shares = shares[shares["condition"].isin(study.conditions)].reset_index(drop=True)
    if shares.empty:
        return Section("failures", "Kinds of failure", missing=[study.nothing])
    totals = shares.groupby("condition", sort=False)["samples"].sum()
    drawn = [
        Figure(
            "cases",
            lambda: figures.cases(store, study.conditions),
            on_failures.bars(totals, store.samples["patient"].nunique(), study.noun),
            f"Bars of the number of {plural_of(study.noun)} in each kind of failure, one plot a perturbation",
            shares,
        )
    ]
    for condition in study.conditions:
        first: Any = shares[shares["condition"] == condition].head(3)
        for row in first.itertuples():
            cells = pictures.example_cells(store, str(row.case), condition, 4)
            examples = store.samples.iloc[[s for s, _ in cells]]
            drawn.append(
                Figure(
                    f"gallery-{slug(condition)}-{slug(str(row.case))}",
                    lambda case=str(row.case), c=condition: pictures.gallery(store, case, c),  # type: ignore[misc]
                    on_failures.gallery(
                        *(str(row.case), condition, int(row.samples), int(totals[condition]), len(cells), on.LINES),
                        study.noun,
                    ),
                    f"Perturbed images with outlines, examples of {row.case}",
                    examples[sample_columns(examples)].assign(condition=condition, case=row.case),
                )
            )
    return Section(
        "failures",
        "Kinds of failure",
        on_failures.legend(shares, store.case_rules, store.class_names, store.members, study.noun),
        drawn,
        [
            ShownTable(
                "cases-slices",
                f"How many {plural_of(study.noun)} fall into each kind of failure",
                shares[["condition", "case", "samples", "patients"]].assign(
                    share=[percent(v) for v in shares["share"]]
                ),
                shares,
            )
        ],
        findings=[on_failures.usual(shares, study.noun)],
    )


def _pixels(study: Study, sample: int, condition: str) -> pd.DataFrame:
    """The pixels of a figure of inputs: ``y, x, original, perturbed, label, prediction`` of the whole image."""
    found = picture(study.store, sample, [0, list(study.store.conditions.index).index(condition)])
    y, x = np.indices(found["label"].shape)
    columns = {
        "y": y,
        "x": x,
        "original": found["image"][0],
        "perturbed": found["image"][1],
        "label": found["label"],
        "prediction_original": found["prediction"][0],
        "prediction_perturbed": found["prediction"][1],
    }
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})


def _colour_words(study: Study) -> str:
    return ", ".join(f"{name} {COLOUR_NAMES[colour]}" for name, colour in study.colours.items())
