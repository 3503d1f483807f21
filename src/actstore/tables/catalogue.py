"""Every table of a store: the question that it answers, what makes it, its own options, and what it needs.

Data only, so that the command line lists tables without loading pandas or xarray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from actstore.errors import StoreError

#: What a store must hold: predictions of pixels or of whole samples, a perturbation, the tensors of every layer, the
#: conditions of `[controls]`, a sweep of strengths, any prediction that failed, the means and maxima that points of
#: samples are made of, scores, or what activation maximisation, explanations or interventions found.
Need = Literal[
    "pixels",
    "classes",
    "perturbation",
    "tensors",
    "control",
    "repeat",
    "dose",
    "failure",
    "points",
    "scores",
    "optima",
    "explanations",
    "interventions",
]


class Unanswerable(StoreError):
    """A question that this store was not captured for; the message says what the run's spec would need."""


@dataclass(frozen=True)
class Table:
    """A table of a store."""

    group: str
    question: str
    #: Name of the function of :mod:`actstore.tables.builders` that makes it.
    builder: str
    #: Options that mean something to this table.
    options: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()


_RANKED = ("metric",)
_TOP = ("top", *_RANKED)
_MOST = ("most", *_TOP)
_PIXELS: tuple[Need, ...] = ("pixels",)
_CHANGED: tuple[Need, ...] = ("perturbation",)
_OF_EDITS = ("of", "over")
_EDITED: tuple[Need, ...] = ("interventions",)
_EDITED_CHANGED: tuple[Need, ...] = ("interventions", "perturbation")
_CHANGED_PIXELS: tuple[Need, ...] = ("pixels", "perturbation")

TABLES: dict[str, Table] = {
    "dice": Table("segmentation", "How well does a prediction overlap the truth?", "dice", needs=_PIXELS),
    "segmentation": Table(
        "segmentation", "What are a prediction's rates and volumes?", "overlap_and_volumes", ("per",), _PIXELS
    ),
    "surface": Table(
        "segmentation", "How far is the predicted surface from the true one?", "surface", ("per",), _PIXELS
    ),
    "dice-mean": Table(
        "segmentation", "How much does Dice change on average?", "dice_mean", ("over",), _CHANGED_PIXELS
    ),
    "cases": Table("segmentation", "How does a prediction fail?", "cases", needs=_CHANGED),
    "accuracy": Table("classification", "How often is a sample classified right?", "accuracy", needs=("classes",)),
    "confusion": Table("curves", "Which class is taken for which?", "confusion", ("by",)),
    "curves": Table("curves", "How well do scores tell classes apart?", "curves", ("by",), ("scores",)),
    "roc": Table("curves", "Which rates does each threshold give?", "roc", ("by",), ("scores",)),
    "precision-recall": Table(
        "curves", "Which precision does each threshold give?", "precision_recall", ("by",), ("scores",)
    ),
    "calibration": Table("curves", "Are probabilities what they say?", "calibration", ("by",), ("scores",)),
    "mad": Table("channels", "How much does each channel change?", "mad", needs=_CHANGED),
    "top-channels": Table("channels", "Which channels change most?", "top_channels", _TOP, _CHANGED),
    "frequency": Table("channels", "Which channels are most often on top?", "frequency", ("by", *_MOST), _CHANGED),
    "layers": Table("channels", "How much does each layer change?", "layers", needs=_CHANGED),
    "relative": Table("channels", "Which channels change most relative to their scale?", "relative", needs=_CHANGED),
    "comparison": Table("channels", "Which channels do classes share?", "comparison", _MOST, _CHANGED),
    "general-specific": Table(
        "channels",
        "Do other channels respond in a kind of failure?",
        "general_specific",
        _MOST,
        (*_CHANGED, "failure"),
    ),
    "regions": Table(
        "channels", "Where in its map does a channel change?", "regions", needs=(*_CHANGED_PIXELS, "tensors")
    ),
    "optima": Table("channels", "What does each channel look for?", "optima", ("of",), ("optima",)),
    "similarity": Table(
        "likeness", "Which layers see samples alike, and what does a perturbation change?", "similar", needs=("points",)
    ),
    "neighbours": Table(
        "likeness", "Which other patients are most alike?", "nearest", ("layer", "nearest"), ("points",)
    ),
    "projection": Table(
        "likeness",
        "Where does a perturbation move a patient?",
        "projected",
        ("layer", "method", "perplexity"),
        ("points",),
    ),
    "landmarks": Table(
        "explanations", "Where do maps lie, by class?", "landmarks", ("of",), (*_PIXELS, "explanations")
    ),
    "deletion": Table("explanations", "Is what maps call important so?", "deletion", ("of",), ("explanations",)),
    "randomisation": Table(
        "explanations", "Do maps depend on the weights?", "randomisation", ("of",), ("explanations",)
    ),
    "effects": Table("interventions", "What does editing a channel do?", "effects", _OF_EDITS, _EDITED),
    "rankings": Table(
        "interventions",
        "Where does each channel stand by MAD and by effect?",
        "rankings",
        ("top", *_OF_EDITS),
        _EDITED_CHANGED,
    ),
    "agreement": Table(
        "interventions",
        "Are the channels that change most those that matter?",
        "agreement",
        ("top", "most", *_OF_EDITS),
        _EDITED_CHANGED,
    ),
    "cumulative": Table(
        "interventions", "What do growing sets of channels do, in each order?", "cumulative", _OF_EDITS, _EDITED
    ),
    "areas": Table("interventions", "Does an order find what matters before chance?", "areas", _OF_EDITS, _EDITED),
    "certainty": Table("certainty", "How sure is a channel's frequency?", "certain_frequency", _MOST, _CHANGED),
    "stability": Table("certainty", "Do other patients have the same channels on top?", "stability", _MOST, _CHANGED),
    "sensitivity": Table("certainty", "How do the most frequent channels depend on k?", "sensitivity", _MOST, _CHANGED),
    "heterogeneity": Table(
        "certainty", "Do patients differ in which channels respond?", "heterogeneity", _TOP, _CHANGED
    ),
    "leave-one-out": Table(
        "certainty", "Which channels are on top without a patient?", "leave_one_out", _MOST, _CHANGED
    ),
    "controls": Table("comparison", "Does a channel respond to the class?", "against_controls", needs=("control",)),
    "rescaling": Table("comparison", "Which inputs did normalisation rescale?", "rescaling", needs=_PIXELS),
    "noise": Table("comparison", "How large is the noise of computing?", "noise", needs=("repeat",)),
    "association": Table(
        "comparison", "Which channels go with a worse prediction?", "association", _TOP, _CHANGED_PIXELS
    ),
    "dose": Table("dose-response", "How does Dice fall with the strength?", "dose", ("over",), (*_PIXELS, "dose")),
    "dose-half": Table(
        "dose-response", "At which strength is half of Dice lost?", "dose_half", ("over",), (*_PIXELS, "dose")
    ),
    "dose-channels": Table("dose-response", "How does MAD grow with the strength?", "dose_channels", needs=("dose",)),
    "dose-cases": Table("dose-response", "At which strength does a failure change?", "dose_cases", needs=("dose",)),
}

#: Tables of two stores, and the question of each.
COMPARISONS = {
    "similarity": "Which layers of two networks see samples alike?",
    "dice": "How do two networks' predictions overlap the truth?",
    "accuracy": "Which of two classifiers is right more often?",
    "frequency": "Which channels are most often on top in either?",
}


def check_options(name: str, **options: object) -> None:
    """Refuse an option that means nothing to the table ``name``.

    Raises
    ------
    StoreError
        naming the option and the tables that it goes with.
    """
    for option in (option for option, value in options.items() if value and option not in TABLES[name].options):
        if tables := [other for other, table in TABLES.items() if option in table.options]:
            raise StoreError(f"--{option} does not go with {name}, only with {', '.join(tables)}")
