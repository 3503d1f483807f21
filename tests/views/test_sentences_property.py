"""Made-up studies of every kind: each sentence of their report is known, and each of its numbers stands in a table."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from math import factorial

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from actstore import Findings
from actstore.tables.catalogue import Unanswerable
from actstore.views.report.sections.order import SECTIONS
from actstore.views.report.study import Section, Study
from actstore.views.wording import NAMES
from studies import MadeUp

pytestmark = pytest.mark.slow

TOP, MOST = 3, 7
#: Sections that need neither pixels nor tensors.
KEYS = ("segmentation", "failures", "channels", "layers", "specific", "certainty", "patients", "controls", "dose",
        "association")  # fmt: skip


@st.composite
def made_up(draw: st.DrawFn) -> MadeUp:
    targets = draw(st.sampled_from([("LV",), ("RV", "LV"), ("LV", "RV", "MYO")]))
    return MadeUp(
        patients=draw(st.sampled_from([1, 2, 5, 6, 8])),
        slices=draw(st.sampled_from([2, 5])),
        widths=draw(st.sampled_from([(4, 8), (16,), (4, 16, 18)])),
        targets=targets,
        strengths=draw(st.sampled_from([(0.1,), (0.1, 0.5, 1.5), (0.1, 0.2, 0.3, 0.5, 1.5, 1.8)])),
        controls=draw(st.booleans()),
        floor=draw(st.sampled_from(["", "LV", "RV"])),
        steps=draw(st.sampled_from([0, 1, 2])),
        missing=draw(st.sampled_from([0.0, 0.3])),
        frames=draw(st.sampled_from([(1,), (1, 12)])),
        seed=draw(st.integers(0, 2**16)),
    )


class Read:
    """The tables of a study, and what a test recomputes from them."""

    def __init__(self, store: MadeUp) -> None:
        self.store = store
        self.study = Study(store, Findings(store, resamples=400))  # type: ignore[arg-type]
        self.shown = self.study.conditions
        self.every = self.study.every.index.tolist()

    def table(self, name: str, *, shown: bool = True) -> pd.DataFrame:
        found = self.study.findings.table(name)
        keep = self.shown if shown else self.every
        return found[found["condition"].isin(keep)] if "condition" in found else found

    @property
    def frequency(self) -> pd.DataFrame:
        """How often each channel is on top: layer, channel, condition, count, samples."""
        table = self.table("certainty", shown=False)
        return table[["layer", "channel", "condition", "count", "samples"]]

    def wide(self, of: int) -> list[str]:
        return [name for name, n in self.store.layers["channels"].items() if n >= 2 * of]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def near(text: str, value: float) -> None:
    """``text`` is ``value`` as far as its digits go."""
    digits = len(text.partition(".")[2]) if "e" not in text else 12
    assert abs(number(text) - value) <= 0.5000001 * 10.0**-digits + 1e-9 * abs(value), (text, value)


def share(text: str, value: float) -> None:
    if text.startswith("<"):
        assert 0 < value < 0.01
    elif text.startswith(">"):
        assert 0.99 < value < 1
    else:
        assert abs(int(text.removesuffix(" %")) - 100 * value) <= 0.5000001
        assert text not in ("0 %", "100 %") or value in (0, 1)


def corrected(text: str, name: str, read: Read) -> None:
    """The numbers of tests are those of the families: all p of one target, whatever the strength."""
    low, _, high = text.partition(" to ")
    every, shown = read.table(name, shown=False), read.table(name)
    family = every.assign(p=every["p"].notna()).groupby("target")["p"].sum()
    found = [int(family[target]) for target in shown.loc[shown["q"].notna(), "target"].unique()]
    assert (int(low), int(high or low)) == (min(found), max(found))


PERCENT = r"(?:[<>] )?\d+ %"
CORRECTED = r"q < 0\.05, corrected over (?P<tests>\d+(?: to \d+)?) tests of each transform, class and source"
RESTS = r"n = [\d, a-z]+"
APART = r"(?: (?P<apart>L.*?) (?:is|are) left out: (?:it has|they have) fewer than (?P<narrow>\d+) channels\.)?"
AMONG = r"(?: of the (?P<few>\d+) of (?P<all>\d+) perturbations that the figures show)?"


def apart(m: re.Match[str], read: Read, of: int) -> None:
    narrow = read.store.layers.loc[lambda f: f["channels"] < 2 * of, "channels"]
    assert (m["apart"] is None) == narrow.empty
    if m["apart"]:
        assert int(m["narrow"]) == 2 * of
        assert re.findall(r"L\d+", m["apart"]) == list(narrow.index[:NAMES])


def among(m: re.Match[str], read: Read) -> None:
    assert (m["few"] is None) == (len(read.shown) == len(read.every))
    if m["few"]:
        assert (int(m["few"]), int(m["all"])) == (len(read.shown), len(read.every))


def steadiest(m: re.Match[str], read: Read) -> None:
    counts = read.frequency[read.frequency["layer"].isin(read.wide(TOP))].groupby(["layer", "channel"])
    total, pairs = counts["count"].sum(), counts["samples"].sum()
    best = total[total == total.max()]
    assert int(m["count"]) == total.max()
    assert int(m["pairs"]) == pairs[best.index[0]]
    share(m["share"], total.max() / pairs[best.index[0]])
    applies = read.store.applicable.sel(condition=read.every)
    assert (int(m["slices"]), int(m["over"])) == (int(applies.any("condition").sum()), len(read.every))
    names = set(re.findall(r"[Cc]hannel (\d+) of (L\d+)", m[0]))
    assert names <= {(str(c), layer) for layer, c in best.index}
    assert len(names) == min(len(best), NAMES)
    if m["ties"]:
        assert int(m["ties"]) == len(best) > 1
    apart(m, read, TOP)


def throughout(m: re.Match[str], read: Read) -> None:
    own = read.frequency[read.frequency["layer"].isin(read.wide(TOP))]
    least = (own["count"] / own["samples"]).groupby([own["layer"], own["channel"]]).min()
    assert (int(m["count"]), int(m["whole"])) == ((least >= 0.5).sum(), len(least))
    share(m["share"], (least >= 0.5).mean())
    assert (m["groups"] or "1") == str(len(read.every))


def layers(m: re.Match[str], read: Read) -> None:
    own = read.table("layers").query("condition == @m['condition']")
    assert m["raw"].split(" and ")[0].split(", ")[0] == own.loc[own["mad"].idxmax(), "layer"]
    near(m["mad"], own["mad"].max())
    near(m["standard"], own["standardised"].max())


def specific(m: re.Match[str], read: Read) -> None:
    table = read.table("comparison")
    table = table[table["layer"].isin(read.wide(MOST))]
    only = table[table["number"] == 1]
    assert (int(m["count"]), int(m["whole"])) == (len(only), len(table))
    share(m["share"], len(only) / len(table))
    if m["each"]:
        found = {name: int(n) for name, n in re.findall(r"(\w+) (\d+)", m["each"])}
        assert found == only["targets"].value_counts().to_dict()
    classes = read.study.every["target"].nunique()
    assert int(m["classes"] or 2) == classes
    assert int(m["everywhere"]) == (table["number"] == classes).sum()
    if m["sure"]:
        assert int(m["sure"]) == (only["specific_share"] >= 0.95).sum()
    else:
        assert only["specific_share"].isna().all()
    apart(m, read, MOST)


def certain(m: re.Match[str], read: Read) -> None:
    table = read.table("certainty")
    table = table[table["layer"].isin(read.wide(MOST)) & (table["frequency"] > 0)]
    first = table.sort_values(["frequency", "channel"], ascending=[False, True]).groupby(["condition", "layer"])
    every = first.head(MOST)
    chosen = every[every["patients"] >= 5]
    assert (m["enough"] is None) == (len(chosen) == len(every))
    assert (int(m["count"]), int(m["whole"])) == ((chosen["selected"] >= 0.95).sum(), len(chosen))
    near(m["width"], (chosen["high"] - chosen["low"]).median())
    apart(m, read, MOST)
    among(m, read)


def heterogeneous(m: re.Match[str], read: Read) -> None:
    table = read.table("heterogeneity")
    assert (int(m["count"]), int(m["whole"])) == ((table["q"] < 0.05).sum(), table["q"].notna().sum())
    corrected(m["tests"], "heterogeneity", read)
    tested = table[table["q"].notna()]
    orders = factorial(tested["patients"].max()) ** (len(read.store.frames) - 1)
    assert bool(m["reach"]) == (tested["tests"].min() / orders >= 0.05)
    among(m, read)


def left_out(m: re.Match[str], read: Read) -> None:
    table = read.table("leave-one-out")
    table = table[table["layer"].isin(read.wide(MOST))]
    whole = table["shared"] + [len(re.findall(r"\d+", str(lost))) for lost in table["lost"]]
    kept = (table["shared"] / whole)[whole > 0]
    share(m["mean"], kept.mean())
    share(m["worst"], kept.min())
    among(m, read)


def controls(m: re.Match[str], read: Read) -> None:
    table = read.table("controls")
    found = re.findall(r"(\d+) of (\d+) to (brightness\([^)]*\))", m[0])
    assert found
    for sensitive, tested, condition in found:
        own = table[(table["condition"] == condition) & table["q"].notna()]
        assert (int(sensitive), int(tested)) == (own["sensitive"].sum(), len(own))
    corrected(m["tests"], "controls", read)


def half(m: re.Match[str], read: Read) -> None:
    table = read.table("dose-half").set_index(["target", "class_name"])
    found = re.findall(
        r"(RV|LV|MYO) (at [^(]*?|at no strength that was run) \(brightness; (\d+) slices? of (\d+) patients?\)", m[0]
    )
    assert found
    for target, ends, slices, patients in found:
        row = table.loc[(target, target)]
        values = [v for v in (row["half_below"], row["half_above"]) if np.isfinite(v)]
        for text, value in zip(re.findall(r"at ([\d.]+)", ends), values, strict=True):
            near(text, value)
        for low, high in re.findall(r"between ([\d.]+) and ([\d.]+)", ends):
            run = sorted({*read.store.strengths, 1.0})
            assert run.index(float(high)) - run.index(float(low)) == 1
            assert any(float(low) < value < float(high) for value in values)
        assert (int(slices), int(patients)) == (row["samples"], row["patients"])


def unreachable(m: re.Match[str], read: Read) -> None:
    tested = read.table("association").query("q == q")
    assert tested["patients"].max() == int(m["patients"]) <= 5
    near(m["least"], 2.0 ** (1 - int(m["patients"])))


def associated(m: re.Match[str], read: Read) -> None:
    table = read.table("association")
    tested = table[table["q"].notna()]
    rising = tested[(tested["q"] < 0.05) & (tested["correlation"] > 0)]
    assert (int(m["count"]), int(m["whole"])) == (len(rising), len(tested))
    assert int(m["falls"] or 0) == ((tested["q"] < 0.05) & (tested["correlation"] < 0)).sum()
    often = tested["frequency_rank"] <= TOP
    assert (int(m["both"]), int(m["often"])) == (len(rising[rising["frequency_rank"] <= TOP]), often.sum())
    corrected(m["tests"], "association", read)
    assert bool(m["reach"]) == (2.0 ** (1 - tested["patients"].max()) * tested["tests"].min() >= 0.05)
    among(m, read)


def beside_size(m: re.Match[str], read: Read) -> None:
    table = read.table("association")
    for value, condition in re.findall(r"(−?[\d.]+) under (brightness\([^)]*\))", m[0]):
        [baseline] = table.loc[(table["condition"] == condition) & table["q"].notna(), "size_baseline"].unique()
        near(value, baseline)
    rising = table[(table["q"] < 0.05) & (table["correlation"] > 0)]
    assert (m["of"] is None) == rising.empty
    if m["of"]:
        assert int(m["over"]) == (rising["correlation"] > rising["size_baseline"].abs()).sum()
        assert int(m["of"]) == len(rising)


def untested(m: re.Match[str], read: Read) -> None:
    own = read.table("association").query("condition == @m['condition']")
    assert own["q"].isna().all()
    assert own["correlation"].isna().all() or own["patients"].max() < 5
    assert m["why"] is None or m["why"] in {note.removesuffix(": no association") for note in own["note"]}


def usual(m: re.Match[str], read: Read) -> None:
    counts = read.table("cases").groupby("condition")["case"].value_counts()
    for condition in read.shown:
        own = counts[condition]
        found = re.search(rf"(“[^;]*) under {re.escape(condition)} \((\d+) of (\d+) slices?( each)?\)", m[0])
        assert found is not None
        assert set(re.findall("“([^”]*)”", found[1].rpartition(";")[2])) == set(own.index[own == own.max()])
        assert (int(found[2]), int(found[3])) == (own.max(), own.sum())


def dice(m: re.Match[str], read: Read) -> None:
    at = read.study.every
    acts = {read.study.action(name): name for name in at.index}
    condition = acts[m["act"][0].lower() + m["act"][1:]]
    target = at.loc[condition, "target"]
    raw = read.table("dice", shown=False)
    every = read.study.findings.table("dice")
    before = every[(every["condition"] == "original") & (every["class_name"] == target)]
    after = raw[(raw["condition"] == condition) & (raw["class_name"] == target)]
    both = after.merge(before, on=["patient", "frame", "slice"], suffixes=("", "_before"))
    assert (int(m["slices"]), int(m["patients"])) == (len(both), both["patient"].nunique())
    near(m["after"], both["dice"].mean())
    if m["before"]:
        near(m["before"], both["dice_before"].mean())
    row = read.table("dice-mean").query("condition == @condition and class_name == @target").iloc[0]
    if m["low"]:
        assert abs(number(m["low"]) - row["change_low"]) <= max(0.0051, 5 * row["change_error"])
        assert abs(number(m["high"]) - row["change_high"]) <= max(0.0051, 5 * row["change_error"])
        sign = {"lowers": row["change_high"] < 0, "raises": row["change_low"] > 0}
        assert sign.get(m["verb"], row["change_low"] <= 0 <= row["change_high"])
    else:
        assert m["verb"] in ("changes", "leaves")


def untouched(m: re.Match[str], read: Read) -> None:
    raw = read.study.findings.table("dice").query("condition == 'original'")
    for name, value, slices in re.findall(r"(\w+) ([\d.]+) \((\d+) slices?\)", m[0]):
        own = raw[raw["class_name"] == name]
        near(value, own["dice"].mean())
        assert int(slices) == len(own)


def noted(m: re.Match[str], read: Read) -> None:
    notes: set[str] = set()
    for name in ("dice-mean", "layers", "certainty", "heterogeneity", "general-specific", "controls", "dose",
                 "dose-half", "association"):  # fmt: skip
        try:
            notes |= set(read.study.findings.table(name)["note"])
        except Unanswerable:
            continue
    assert m["note"] in notes


def fine(m: re.Match[str], read: Read) -> None:
    """Words without numbers of the study."""


def caption(m: re.Match[str], read: Read) -> None:
    """Counts of samples and patients are of a table."""
    patients = read.store.patients
    assert int(m["patients"]) <= patients
    if m["low"]:
        assert 0 <= int(m["low"]) <= int(m["samples"]) <= len(read.store.samples) * len(read.every)


#: What a sentence looks like, and what checks its numbers.
SENTENCES: list[tuple[str, Callable[[re.Match[str], Read], None]]] = [
    (
        rf"(?:Channel \d+ of L\d+ responds|(?P<ties>\d+) channels respond) most steadily.* in (?P<count>\d+) of "
        rf"(?P<pairs>\d+) perturbed images? \((?P<share>{PERCENT})\), of (?P<slices>\d+) slices? under (?P<over>\d+) "
        rf"perturbations?(?:: channel .*?)?\.{APART}",
        steadiest,
    ),
    (
        rf"(?P<count>\d+) of (?P<whole>\d+) channels? \((?P<share>{PERCENT})\) in layers of at least 6 channels are "
        rf"among "
        r"the top 3 in at least half of the slices under (?:each of (?P<groups>\d+) perturbations|the only "
        r"perturbation)\.",
        throughout,
    ),
    (
        r"(?P<condition>brightness\([^)]*\)): the raw change is largest in (?P<raw>.*?) \(mean MAD (?P<mad>[\d.]+)\), "
        r"relative to how much channels vary on the original in .*? \((?P<standard>[\d.]+) standard deviations\)\.",
        layers,
    ),
    (
        rf"(?P<count>\d+) of (?P<whole>\d+) channels? \((?P<share>{PERCENT})\) among the 7 most frequent of their "
        rf"layer "
        r"are so for one class only(?: \((?P<each>[^)]*)\))?, (?P<everywhere>\d+) for (?:both|all (?P<classes>\d+)) "
        r"classes; "
        r"all perturbations of a class count together\.(?: Of those of one class only, (?P<sure>\d+) are among the 7 "
        r"of "
        r"this class and of no other in at least 95 % of resamples of the patients(?:, and \d+ of these also respond "
        r"to "
        rf"the class more than to its control \({CORRECTED}\))?\.)?{APART}",
        specific,
    ),
    (
        rf"(?P<count>\d+) of (?P<whole>\d+) most frequent channels? \({PERCENT}\) \(up to 7 of each layer and "
        rf"perturbation{AMONG}(?P<enough> with at least 5 patients)?\) are found again in at least 95 % of resamples "
        rf"of the patients; the 95 % interval of "
        rf"their frequency is (?P<width>[\d.]+) wide \(median\)\.{APART}",
        certain,
    ),
    (
        rf"(?P<count>\d+) of (?P<whole>\d+) frequenc(?:y|ies) \({PERCENT}\) of a channel under a perturbation{AMONG} "
        rf"(?:is|are) found to differ between patients, more than volumes exchanged between them do by chance "
        rf"\({CORRECTED}\)\.(?P<reach> With \d+ patients of \d volumes, p cannot fall below [\de.−]+: .*)?",
        heterogeneous,
    ),
    (
        rf"Leaving one patient out keeps (?P<mean>{PERCENT}) of the up to 7 most frequent channels of a layer on "
        rf"average, at "
        rf"worst "
        rf"(?P<worst>{PERCENT})(?: \(.*\))?; in layers of at least 14 channels(?:,{AMONG})?\.",
        left_out,
    ),
    (
        r"Channels that respond more to the class than to the same perturbation elsewhere in the body: .* "
        rf"\({CORRECTED}; {RESTS}\)\.",
        controls,
    ),
    (
        r"With (?P<patients>\d+) patients, p cannot fall below (?P<least>[\d.]+): whether MAD rises with the loss of "
        r"Dice "
        r"cannot be found\.",
        unreachable,
    ),
    (r"Strength at which half of the Dice is lost, on straight lines between strengths: .*\.", half),
    (
        rf"For (?P<count>\d+) of (?P<whole>\d+) pairs? \({PERCENT}\) of channel and perturbation{AMONG}, MAD is found "
        r"to rise with the loss of Dice over the slices of a volume(?: \(to fall for (?P<falls>\d+)\))?; so it is for "
        r"(?P<both>\d+) of the (?P<often>\d+) among the 3 most frequent of their layer "
        rf"\({CORRECTED}; {RESTS}\)\."
        r"(?P<reach> With \d+ patients, p cannot fall below [\de.−]+: a single channel that does could not be "
        r"found\.)?",
        associated,
    ),
    (
        r"The size of the class alone correlates with the loss of Dice by .*?"
        r"(?:: (?P<over>\d+) of these (?P<of>\d+) correlations exceed it)?\.",
        beside_size,
    ),
    (
        r"Under (?P<condition>brightness\([^)]*\)), no association with the loss of Dice can be tested(?:: "
        r"(?P<why>.*))?\.",
        untested,
    ),
    (r"The most usual outcome is .*\.", usual),
    (
        r"(?P<act>(?:Dark|Bright)ening \w+ to [\d.]+ %) (?P<verb>lowers|raises|changes|leaves|does not measurably "
        r"change) "
        r"the Dice of \w+ (?:from (?P<before>[\d.]+) to |at |\([\d.]+ before, )(?P<after>[\d.]+)(?: after\))? \(mean "
        r"over "
        r"(?P<slices>\d+) slices? of (?P<patients>\d+) patients? that contain it(?:; 95 % interval of the change "
        r"(?P<low>−?[\d.]+) to (?P<high>−?[\d.]+)|; [^)]*)?\)\.",
        dice,
    ),
    (r"On untouched images the mean Dice over the slices that contain the class is .*\.", untouched),
    (r"On [^:]*?(?: \([^:]*\))?: (?P<note>.*)\.", noted),
    (r"On .*, the column note of the table has \d+ more\.", fine),
    (r"The noise floor, the original once more: repeat: bit for bit the same\.", fine),
    (r"(?:LV|RV|MYO) perturbed: “.*\.", fine),
    (r"The confusion counts of its prediction alone decide .*\.", fine),
    (r"MAD is the mean absolute difference .*", fine),
    (r"Layers differ in the range of their activations.*", fine),
    (r"One class was perturbed: there is no other to compare with\.", fine),
    (r"The test exchanges whole volumes between patients.*", fine),
    (r"Association is no cause: .*", fine),
    (r"No slice changes its kind of failure between two neighbouring strengths\.", fine),
]


def sections_of(read: Read, monkeypatch: pytest.MonkeyPatch) -> dict[str, Section]:
    """The sections that need no pixels; surface distances, which do, are left out."""
    module = importlib.import_module("actstore.views.report.sections.segmentation")
    monkeypatch.setattr(module, "_further", lambda study: [])
    return {key: SECTIONS[key](read.study) for key in KEYS}


def known(sentence: str, read: Read) -> None:
    """One pattern fits the sentence, and its numbers are of the tables."""
    matches = [(m, check) for pattern, check in SENTENCES if (m := re.fullmatch(pattern, sentence))]
    assert len(matches) == 1, sentence
    m, check = matches[0]
    check(m, read)


def expected(said: str, store: MadeUp, read: Read) -> None:
    """What must stand there does, and what must not does not."""
    few, wide = store.patients < 5, bool(read.wide(MOST))
    floors = {name for name in read.shown if read.study.every.loc[name, "target"] == store.floor}
    assert ("most steadily" in said) == bool(read.wide(TOP))
    assert ("are so for one class only" in said) == (len(store.targets) > 1 and wide)
    certainty = read.table("certainty").query("frequency > 0")
    sure = certainty["layer"].isin(read.wide(MOST)) & certainty["selected"].notna()
    assert ("found again in at least 95 %" in said) == sure.any() <= (not few and wide)
    assert ("Leaving one patient out keeps" in said) == (store.patients > 1 and wide)
    assert ("between patients, more than volumes" in said) <= (not few and len(store.frames) > 1)
    tested = store.controls and bool(read.table("controls")["q"].notna().any())
    assert ("respond more to the class than" in said) == tested <= (not few)
    assert ("half of the Dice is lost" in said) == (len(store.strengths) >= 3)
    for name in floors:
        assert f"Under {name}, no association with the loss of Dice can be tested" in said
    found = "MAD is found to rise" in said or "whether MAD rises" in said
    assert found == bool(read.table("association")["q"].notna().any()) <= (not few and len(floors) < len(read.shown))
    assert said.count(" the Dice of ") == len(read.shown)
    assert "nan" not in said


def same_rows(section: Section) -> None:
    """The rows on the page are those of the file, sorted alike."""
    for table in section.tables:
        shared = [name for name in table.shown if name in table.data and table.shown[name].dtype.kind in "if"]
        pd.testing.assert_frame_equal(table.shown[shared], table.data[shared])


def expect_known(store: MadeUp) -> None:
    """Every sentence of the report of ``store`` is known, and its numbers are of the tables."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        read = Read(store)
        made = sections_of(read, monkeypatch)
    sentences = [text for section in made.values() for text in (*section.words, *section.findings)]
    for sentence in sentences:
        known(sentence, read)
    expected(" ".join(sentences), store, read)
    for section in made.values():
        same_rows(section)


@settings(max_examples=10, phases=[Phase.explicit, Phase.generate])
@given(store=made_up())
def test_every_sentence_is_known_and_its_numbers_are_of_the_tables(store: MadeUp) -> None:
    expect_known(store)


@pytest.mark.faults
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(store=made_up())
def test_sentences_of_more_studies_are_known(store: MadeUp) -> None:
    expect_known(store)


def test_captions_count_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MadeUp(targets=("LV", "RV", "MYO"), strengths=(0.1, 0.5, 1.5), controls=True)
    read = Read(store)
    for section in sections_of(read, monkeypatch).values():
        for figure in section.figures:
            if re.search(r"\bq\b", figure.caption):
                assert re.search(r"corrected over \d+ (to \d+ )?tests of each", figure.caption), figure.caption
            counts = re.search(
                r"n = (?:(?P<low>\d+) to )?(?P<samples>\d+) (?:slices?|samples?)(?: of|,) (?:\d+ to "
                r")?(?P<patients>\d+) "
                r"patients?",
                figure.caption,
            )
            if counts is None:
                assert re.search(r"\d+ slices|changes in all|: \d+ of \d+ slices", figure.caption), figure.caption
            else:
                caption(counts, read)
