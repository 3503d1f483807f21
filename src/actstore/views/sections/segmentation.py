"""What was done to the images, and what the network made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from actstore.analysis.evidence import perturbations
from actstore.conditions import ORIGINAL
from actstore.summaries import case_summary, original_dice
from actstore.unchanged import nowhere, of_store
from actstore.units import counted
from actstore.views import images as pictures
from actstore.views import segmentation as figures
from actstore.views.page import Figure, Section, Study, Table, caution, cohort, number, percent, with_interval
from actstore.views.selection import paired_dice, target_of, typical_sample

_LINES = "Solid lines are the true outlines, dashed ones the prediction"


def images(study: Study) -> Section:
    """Inputs beside their perturbed twins."""
    store = study.store
    drawn = []
    for condition in study.conditions:
        sample = typical_sample(store, condition)
        row = store.samples.iloc[sample]
        target = target_of(store, condition)
        where = f"{row['patient']}, frame {row['frame']}, slice {row['slice']}"
        drawn.append(
            Figure(
                key=f"inputs-{_slug(condition)}",
                draw=lambda c=condition, s=sample: pictures.inputs(store, s, c),  # type: ignore[misc]
                caption=f"{_capital(study.deed(condition))}: {where}, the slice of median change in the Dice of "
                f"{target}. {_LINES}; {_colour_words(study)}. n = 1 slice.",
                alt=f"Original, perturbed image and their difference of {where}",
                data=_pixels(study, sample, condition),
            )
        )
    deeds = "; ".join(study.deed(condition) for condition in study.conditions)
    words = [
        "Each perturbation changes intensities inside the true outline of one class and nothing else; the image is "
        f"normalised afterwards, as the network expects. Shown one by one: {deeds}."
    ]
    used = store.applicable.isel(condition=perturbations(store.applicable)).any("sample")
    left_out = int(used.sum()) - len(study.conditions)
    if left_out > 0:
        words.append(
            f"Of each class and transform, the figures show the strength that lowers its Dice most; the tables have "
            f"{left_out} more."
        )
    if not study.conditions:
        words = words[:0]
    words += [f"{found}." for found in of_store(store)]
    unseen = [f"{name} applies to no slice: {why}." for name, why in nowhere(store)]
    return Section(
        "images", "What the network saw", words + unseen, drawn, missing=[] if study.conditions else [study.nothing]
    )


def segmentation(study: Study) -> Section:
    """Dice, original and perturbed."""
    store, shown = study.store, study.conditions
    paired = paired_dice(store)
    paired = paired[paired["condition"].isin(shown)].reset_index(drop=True)
    if paired.empty:
        return Section("segmentation", "Segmentation before and after", missing=[study.nothing])
    means = study.table("dice-mean")
    own = paired[paired["class_name"] == paired["target"]]
    n = own.groupby("condition").agg(samples=("slice", "size"), patients=("patient", "nunique"))
    said = cohort(n)
    cut = own.drop(columns="class_name")
    by_patient = cut.groupby(["condition", "target", "patient"], sort=False)[["original", "perturbed", "change"]]
    untouched = ", ".join(f"{row.class_name} {row.dice:.3f}" for row in original_dice(store).dropna().itertuples())
    drawn = [
        Figure(
            "dice",
            lambda: figures.dice(store, shown),
            "Dice of every class, original (hollow) against perturbed (filled). A dot is a slice that contains the "
            f"class; boxes are quartiles, thick lines medians. {said} (slices of the perturbed class).",
            "Boxes and dots of Dice per class, original beside perturbed, one plot a perturbation",
            paired,
        ),
        Figure(
            "dice-change",
            lambda: figures.dice_change(store, shown),
            f"Change in Dice of the perturbed class over slices; the dashed line is the mean. {said}.",
            "Histograms of the change in Dice, one a perturbation",
            cut,
        ),
        Figure(
            "dice-cumulative",
            lambda: figures.dice_cumulative(store, shown),
            f"Share of slices with a Dice up to a value; dashed: the original, solid: perturbed. {said}.",
            "Cumulative curves of Dice, original and perturbed, one plot a perturbation",
            cut,
        ),
        Figure(
            "dice-by-patient",
            lambda: figures.dice_by_patient(store, shown),
            f"Mean Dice of the perturbed class, a line a patient. {said}.",
            "Lines from the original to the perturbed mean Dice of each patient",
            by_patient.mean().reset_index(),
        ),
        Figure(
            "dice-by-position",
            lambda: figures.dice_by_position(store, shown),
            "Mean Dice of the perturbed class along the slices with foreground, from the end with more of it (base) to "
            f"the other (apex); dashed: the original; shaded: quartiles. {said}.",
            "Curves of Dice from base to apex, original and perturbed",
            cut,
        ),
    ]
    tables = [
        Table(
            "dice-mean",
            "Mean Dice over the same slices, those that contain the class, with 95 % intervals over patients where "
            "there are patients enough",
            pd.DataFrame(
                {
                    "class": means["class_name"],
                    "perturbation": means["condition"],
                    "slices": means["samples"],
                    "original": with_interval(means, "original"),
                    "perturbed": with_interval(means, "perturbed"),
                    "change": with_interval(means, "change"),
                }
            ),
            means,
        )
    ]
    tables += _further(study)
    words = [f"On untouched images the mean Dice is {untouched}, each over the slices that contain the class."]
    return Section(
        "segmentation",
        "Segmentation before and after",
        [*words, *caution(means)],
        drawn,
        tables,
        findings=[
            _fall(study, row)
            for condition in shown
            for _, row in means[(means["condition"] == condition) & (means["class_name"] == means["target"])].iterrows()
        ],
    )


def _fall(study: Study, row: pd.Series) -> str:
    """What one perturbation does to the Dice of its class, and no more than the numbers hold."""
    low, high = (float(row.get(f"change_{end}", np.nan)) for end in ("low", "high"))
    if np.isfinite(low):
        verb = "lowers" if high < 0 else "raises" if low > 0 else "does not measurably change"
        sure = f"; 95 % interval of the change {number(low)} to {number(high)}"
    else:
        verb, sure = "changes", f"; {row['note']}" if str(row.get("note", "")) else ""
    rests = counted(row["samples"], "slice") + (
        f" of {counted(row['patients'], 'patient')}" if "patients" in row else ""
    )
    what = f"the Dice of {row['class_name']}"
    values = f"from {number(row['original'])} to {number(row['perturbed'])}"
    if verb == "does not measurably change":
        values = f"({number(row['original'])} before, {number(row['perturbed'])} after)"
    return f"{_capital(study.deed(row['condition']))} {verb} {what} {values} (mean over {rests}{sure})."


def _further(study: Study) -> list[Table]:
    """Other measures and surface distances, before and after on the same slices that contain the class."""
    found: list[Table] = []
    missing: list[str] = []
    keys = ["patient", "frame", "slice", "class_name"]
    segmentation = study.ask("segmentation", missing)
    if segmentation is None or "slice" not in segmentation:
        return found
    # A class that a slice lacks has no sensitivity.
    present = segmentation.loc[segmentation["sensitivity"].notna(), [*keys, "condition"]]
    for name, caption, measures in (
        (
            "segmentation",
            "Other measures, original → perturbed, on the same slices that contain the class (slices where both have "
            "a value)",
            ("jaccard", "sensitivity", "specificity", "precision", "relative_volume_difference"),
        ),
        (
            "surface",
            "Distance of predicted from true surfaces in millimetres, original → perturbed (slices where both predict "
            f"the class: an empty prediction has no surface{_unmeasured(study)})",
            ("hd95", "assd"),
        ),
    ):
        table = study.ask(name, missing)
        if table is None:
            continue
        inside = table.merge(present, on=[*keys, "condition"])
        original = inside[inside["condition"] == ORIGINAL].set_index(keys)
        rows = []
        for (class_name, condition), own in inside.groupby(["class_name", "condition"], sort=False):
            if condition not in study.conditions:
                continue
            perturbed = own.set_index(keys)
            row: dict[str, Any] = {"class": class_name, "condition": condition}
            for measure in measures:
                before = original[measure].reindex(perturbed.index)
                both = before.notna() & perturbed[measure].notna()
                values = (float(side[both].mean()) if both.any() else np.nan for side in (before, perturbed[measure]))
                row[measure] = f"{' → '.join(number(value) for value in values)} ({int(both.sum())})"
            rows.append(row)
        if rows:
            found.append(Table(name, caption, pd.DataFrame(rows), table))
    return found


def _unmeasured(study: Study) -> str:
    """Of volumes whose headers state no voxel size, for a caption."""
    samples = study.store.samples
    axes = ["spacing_y", "spacing_x", *(["spacing_z"] if study.store.layout.space[2:] else [])]
    sizes = samples[axes].to_numpy(np.float64)
    known = (np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    unknown = samples.loc[~known, ["patient", "frame"]].drop_duplicates()
    if unknown.empty:
        return ""
    first = unknown.iloc[0]
    return (
        f"; without {len(unknown)} volumes of unknown voxel size, the first {first['patient']} frame {first['frame']}"
    )


def failures(study: Study) -> Section:
    """Kinds of failure."""
    store = study.store
    shares = case_summary(store)
    shares = shares[shares["condition"].isin(study.conditions)]
    if shares.empty:
        return Section("failures", "Kinds of failure", missing=[study.nothing])
    totals = shares.groupby("condition", sort=False)["samples"].sum()
    said = [f"{name}: {counted(n, 'slice')}" for name, n in totals.items()]
    drawn = [
        Figure(
            "cases",
            lambda: figures.cases(store, study.conditions),
            f"How many slices fall into each kind of failure. {'; '.join(said)}; "
            f"{counted(store.samples['patient'].nunique(), 'patient')}.",
            "Bars of the number of slices in each kind of failure, one plot a perturbation",
            shares,
        )
    ]
    table = study.table("cases")
    for condition in study.conditions:
        first: Any = shares[shares["condition"] == condition].head(3)
        for row in first.itertuples():
            cells = pictures.example_cells(store, str(row.case), condition, 4)
            chosen = store.samples.iloc[[s for s, _ in cells]]
            drawn.append(
                Figure(
                    f"gallery-{_slug(condition)}-{_slug(str(row.case))}",
                    lambda case=str(row.case), c=condition: pictures.gallery(store, case, c),  # type: ignore[misc]
                    f"“{row.case}” under {condition}: {len(cells)} of {counted(row.samples, 'slice')} "
                    f"({percent(row.share)}), of different patients where there are. {_LINES}.",
                    f"Perturbed images with outlines, examples of {row.case}",
                    chosen[["patient", "frame", "slice"]].assign(condition=condition, case=row.case),
                )
            )
    usual: Any = shares.drop_duplicates("condition")
    finding = "The most usual outcome is " + ", ".join(
        f"“{row.case}” under {row.condition} ({row.samples} of {counted(totals[row.condition], 'slice')})"
        for row in usual.itertuples()
    )
    return Section(
        "failures",
        "Kinds of failure",
        [
            "What the network made of each perturbed slice, decided from the confusion counts of its prediction. “T "
            "+ others”: the perturbed class T is still found; “T→x”: T is predicted as x, “extreme” where half of "
            "it is; “only T”: nothing else is predicted; “error”: none of the rules matched."
        ],
        drawn,
        [
            Table(
                "cases-slices",
                "How many slices fall into each kind of failure; the files name the kind of every slice",
                shares[["condition", "case", "samples", "patients"]].assign(
                    share=[percent(v) for v in shares["share"]]
                ),
                table,
            )
        ],
        findings=[finding + "."],
    )


def _pixels(study: Study, sample: int, condition: str) -> pd.DataFrame:
    """The pixels of a figure of inputs: ``y, x, original, perturbed, label, prediction`` of the whole image."""
    from actstore.views.selection import picture

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
    names = {"#0072B2": "blue", "#009E73": "green", "#D55E00": "orange", "#CC79A7": "pink", "#E69F00": "amber"}
    names |= {"#56B4E9": "light blue", "#F0E442": "yellow"}
    return ", ".join(f"{name} {names[colour]}" for name, colour in study.colours.items())


def _slug(text: str) -> str:
    """``text`` as part of a file's name."""
    plain = text.replace("→", "-to-").replace("+", "and")
    return "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in plain).split())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
