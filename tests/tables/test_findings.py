"""Every table of a store by name, on a study with controls, repeats and doses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from scipy import stats

import actstore
from actstore import Findings, analysis
from actstore.cli import finished
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.measures.names import METRICS
from actstore.spec.spec import load_spec
from actstore.store.store import Store
from actstore.tables.build import build_table
from actstore.tables.catalogue import TABLES, Unanswerable
from conftest import PATIENTS, WriteSpec
from helpers import CLASSES, make_activation

DOCS = Path(__file__).parents[2] / "docs" / "tables.md"
#: Tables with rows of controls and repeats too.
OF_EVERY_CONDITION = ("top-channels", "frequency", "dice", "mad", "segmentation", "surface", "noise", "rescaling")
CONDITION = "brightness(LV, 0.1)"


@pytest.fixture(scope="module")
def study(study_store: Path) -> Store:
    return actstore.open(study_store)


@pytest.fixture(scope="module")
def findings(study: Store) -> Findings:
    return Findings(study, resamples=200)


def documented() -> dict[str, list[str]]:
    """The columns that the documentation lists, without units and options; tables of two stores come later."""
    found = {}
    for name, columns in re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|$", DOCS.read_text("utf-8"), re.MULTILINE):
        plain = re.sub(r" \([^)]*\)", "", columns)
        found.setdefault(name, [c.strip() for c in plain.split(",") if not re.search(r"`--|what ", c)])
    return found


def test_every_table_is_documented_and_known_to_the_command_line() -> None:
    assert set(documented()) == set(TABLES) == set(finished.TABLES)
    shown = CliRunner().invoke(main, ["table", "--help"]).output
    listed = re.findall(r"[a-z-]+", shown.partition("NAME is one of")[2].partition("Options")[0])
    assert set(TABLES) <= set(listed)
    assert set(finished.METRICS) == set(METRICS)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_columns_that_are_documented(findings: Findings, classified_store: Path, name: str) -> None:
    if "classes" in TABLES[name].needs:
        findings = Findings(actstore.open(classified_store), resamples=200)
    table = findings.table(name)
    assert list(table.columns) == documented()[name]
    assert len(table)
    assert findings.table(name) is table, "kept"
    if "condition" in table and name not in (
        "top-channels",
        "frequency",
        "dice",
        "mad",
        "segmentation",
        "surface",
        "noise",
        "rescaling",
        *("landmarks", "deletion", "randomisation", "accuracy"),
        *("confusion", "curves", "roc", "precision-recall", "calibration"),
        *("similarity", "projection", "effects"),
    ):
        assert not table["condition"].str.contains("control|repeat|original").any(), "perturbations only"
    if "patients" in table and "classes" not in TABLES[name].needs:
        assert (table["patients"] <= PATIENTS).all()


class Asked(Findings):
    """Notes which options are read."""

    options: ClassVar[set[str]] = {"top", "most", "by", "per", "over", "of", "layer", "nearest", "method", "perplexity"}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.asked: set[str] = set()
        super().__init__(*arguments, **options)
        self.asked.clear()

    def __getattribute__(self, name: str) -> Any:
        if name in Asked.options:
            self.asked.add(name)
        return super().__getattribute__(name)


@pytest.mark.slow
def test_the_options_of_a_table_are_those_that_it_reads(study: Store, tiny_store: Path, classified_store: Path) -> None:
    """One that it does not read would be taken without a word and change nothing."""
    for name, table in TABLES.items():
        findings = Asked(actstore.open(classified_store if "classes" in table.needs else tiny_store), resamples=2)
        try:
            findings.table(name)
        except Unanswerable:
            findings = Asked(study, resamples=2)
            findings.table(name)
        assert findings.asked == {*table.options} & Asked.options, name


def test_means_and_ranks_are_those_of_the_mad_table(findings: Findings) -> None:
    mad = findings.table("mad").query("condition == @CONDITION")
    by_channel = mad.groupby(["layer", "channel"], observed=True)[["mad", "standardised"]].mean()
    relative = findings.table("relative").query("condition == @CONDITION").set_index(["layer", "channel"])
    np.testing.assert_allclose(relative[["mad", "standardised"]], by_channel.loc[relative.index])
    expected = (by_channel["mad"].rank() - 1) / (len(by_channel) - 1)
    np.testing.assert_allclose(relative["network_rank"], expected.loc[relative.index])
    assert (relative["low"] <= relative["mad"]).all()
    assert (relative["mad"] <= relative["high"]).all()
    one = mad[(mad["patient"] == mad["patient"].iloc[0]) & (mad["frame"] == 1)]
    one = one[one["slice"] == one["slice"].iloc[0]]
    np.testing.assert_allclose(one["sample_rank"], (one["mad"].rank() - 1) / (len(one) - 1))


def test_rankings_of_the_only_layer_that_is_edited_are_of_its_channels(findings: Findings) -> None:
    rankings = findings.table("rankings").query("intervention == 'remove' and condition == @CONDITION")
    rankings = rankings.set_index("channel")
    assert rankings["layer"].unique().tolist() == ["L02"]
    for table, column in (("relative", "mad"), ("certainty", "frequency")):
        own = findings.table(table).query("condition == @CONDITION and layer == 'L02'").set_index("channel")
        np.testing.assert_allclose(rankings[column], own.loc[rankings.index, column])
    agreement = findings.table("agreement").query("intervention == 'remove' and condition == @CONDITION")
    assert agreement["layer"].tolist() == ["L02"]
    assert agreement["frequent"].tolist() == [int((rankings["frequency"] > 0).sum())]
    assert agreement["spearman_mad"].tolist() == pytest.approx([rankings["mad"].corr(rankings["effect"], "spearman")])


def test_dice_before_and_after_is_over_the_same_slices(findings: Findings, study: Store) -> None:
    dice = findings.table("dice").set_index(["patient", "frame", "slice", "class_name"])
    truth = study.confusion.isel(condition=0).sum("predicted_class").compute()
    for row in findings.table("dice-mean").itertuples():
        present = study.samples[truth.sel(true_class=row.class_name).values > 0]
        keys = [(r.patient, r.frame, r.slice, row.class_name) for r in present.itertuples()]
        perturbed = dice[dice["condition"] == row.condition]["dice"]
        perturbed = perturbed[perturbed.index.isin(keys)]
        original = dice[dice["condition"] == "original"]["dice"].loc[perturbed.index]
        assert row.samples == len(perturbed)
        assert (row.original, row.perturbed) == pytest.approx((original.mean(), perturbed.mean()))
        assert row.change == pytest.approx(row.perturbed - row.original)


def test_controls_compare_with_the_same_condition_elsewhere(findings: Findings) -> None:
    table = findings.table("controls").query("condition == @CONDITION").set_index(["layer", "channel"])
    mad = findings.table("mad").set_index(["layer", "channel", "patient", "frame", "slice"])["mad"]
    conditions = findings.table("mad")["condition"].to_numpy()
    target, control = mad[conditions == CONDITION], mad[conditions == "brightness(LV, 0.1, control)"]
    both = (target - control).dropna()
    patients = both.groupby(["layer", "channel", "patient"], observed=True).mean()
    expected = patients.groupby(["layer", "channel"], observed=True).mean()
    np.testing.assert_allclose(table["difference"], expected.loc[table.index], rtol=1e-9)


def test_the_size_of_the_class_stands_beside_the_association(findings: Findings, study: Store) -> None:
    weaker = "brightness(LV, 0.5)"  # Strength 0.1 leaves hardly any Dice.
    table = findings.table("association").query("condition == @weaker").set_index(["layer", "channel"])
    confusion = study.confusion.compute()
    names = confusion["true_class"].values.tolist()
    counts, lv = confusion.transpose("sample", "condition", "true_class", "predicted_class").values, names.index("LV")
    true = counts[:, 0, lv].sum(axis=-1)
    data = study.samples[["patient", "frame"]].assign(size=true)
    for name, condition in (("before", 0), ("after", confusion["condition"].values.tolist().index(weaker))):
        pixels = counts[:, condition]
        both = pixels[:, lv].sum(axis=-1) + pixels[:, :, lv].sum(axis=-1)
        data[name] = 2 * pixels[:, lv, lv] / np.maximum(both, 1)
    mad = findings.table("mad").query("condition == @weaker and layer == 'L02' and channel == 1")
    data["mad"] = mad.set_index(["patient", "frame", "slice"])["mad"].reindex(
        [(row.patient, row.frame, row.slice) for row in study.samples.itertuples()]
    ).to_numpy()  # fmt: skip
    data = data[data["mad"].notna()].assign(loss=data["before"] - data["after"])

    def typical(first: str, second: str) -> float:
        patients = []
        for _, own in data.groupby("patient"):
            volumes = [volume for _, volume in own.groupby("frame") if len(volume) > 3]
            r = [np.clip(stats.spearmanr(v[first], v[second]).statistic, -_nearest(v), _nearest(v)) for v in volumes]
            patients.append(np.average(np.arctanh(r), weights=[len(v) - 3 for v in volumes]))
        return float(np.tanh(np.mean(patients)))

    row = table.loc[("L02", 1)]
    assert row[["correlation", "size_correlation", "size_baseline"]].tolist() == pytest.approx(
        [typical("mad", "loss"), typical("mad", "size"), typical("size", "loss")]
    )
    assert (row["patients"], row["left_out"]) == (PATIENTS, 0)
    assert row["note"] == "5 patients: p cannot fall below 0.06"


def _nearest(volume: pd.DataFrame) -> float:
    return 1 - 6 / (len(volume) * (len(volume) ** 2 - 1))


def test_the_noise_of_this_computer_is_small(findings: Findings) -> None:
    noise = findings.table("noise")
    assert set(noise["condition"]) == {"repeat", "repeat(batch=1)"}
    smallest = findings.table("relative").groupby(["layer", "condition"])["mad"].max().min()
    assert noise["largest"].max() < smallest


def test_regions_make_up_the_whole(findings: Findings) -> None:
    table = findings.table("regions")
    shares = table[["inside_share", "rim_share", "outside_share"]].sum(axis=1)
    np.testing.assert_allclose(shares[table["mad"] > 0], 1)
    relative = findings.table("relative")
    np.testing.assert_allclose(table["mad"], relative["mad"], rtol=1e-5, err_msg="areas times MAD is the MAD")


def test_ranking_by_another_metric(study: Store) -> None:
    by_ssim = build_table(study, "top-channels", metric="ssim", top=2)
    lowest = analysis.ssim(study["L02"]).compute()
    row = by_ssim[(by_ssim["layer"] == "L02") & (by_ssim["condition"] == CONDITION)].iloc[0]
    sample = study.samples.query("patient == @row.patient and frame == @row.frame and slice == @row.slice").index[0]
    values = lowest.isel(sample=sample).sel(condition=CONDITION).values
    assert row["channel"] == values.argmin()
    assert row["ssim"] == pytest.approx(values.min())


@pytest.mark.parametrize(("per", "rows"), [("volume", 2 * PATIENTS), ("patient", PATIENTS)])
def test_segmentation_of_volumes_and_patients(study: Store, per: str, rows: int) -> None:
    table = build_table(study, "segmentation", per=per)
    assert len(table.query("condition == 'original' and class_name == 'LV'")) == rows


def test_what_a_store_was_not_captured_for_is_said(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    for name, text in {
        "controls": r"the store has no control conditions: set `region = true` below \[controls\] in the spec",
        "noise": r"the store has no repeated inputs: set `noise = true` below \[controls\] in the spec",
        "dose": r"no transform and target has three strengths: give `strengths` below \[\[perturb\]\] more values",
        "dose-cases": r"no transform and target has three strengths",
    }.items():
        with pytest.raises(Unanswerable, match=text):
            Findings(store).table(name)
    with pytest.raises(Unanswerable, match="surface distances are of a slice or a volume: a patient has several"):
        build_table(store, "surface", per="patient")
    with pytest.raises(StoreError, match="--per does not go with dice, only with segmentation, surface"):
        build_table(store, "dice", per="volume")
    with pytest.raises(StoreError, match="--most does not go with top-channels, only with frequency, comparison"):
        build_table(store, "top-channels", most=3)
    with pytest.raises(StoreError, match="--metric does not go with dice, only with top-channels"):
        build_table(store, "dice", metric="ssim")
    with pytest.raises(KeyError, match="no table 'nothing': there are dice, segmentation"):
        Findings(store).table("nothing")
    few = Findings(store).table("dice-mean")
    assert few["low" if "low" in few else "change_low"].isna().all()
    assert (few["note"] == "2 patients: too few for an interval").all()


def test_where_tensors_were_not_kept_regions_are_not_known(tmp_path: Path, write_spec: WriteSpec) -> None:
    changes: dict[str, Any] = {"store__keep": "statistics", "data__patients": ["patient001"]}
    summary = capture(load_spec(write_spec(tmp_path, **changes)), cluster="inline", device="cpu")
    findings = Findings(actstore.open(summary.store))
    with pytest.raises(Unanswerable, match="where a map changes needs the tensors of L01, L02: capture with"):
        findings.table("regions")
    assert len(findings.table("layers"))


def test_a_table_of_layers_is_not_grouped_by_layer(tiny_store: Path) -> None:
    with pytest.raises(StoreError, match="by = 'layer' groups no samples or conditions: use case, patient, frame"):
        build_table(actstore.open(tiny_store), "frequency", by=["layer"])


def test_a_map_with_nan_has_no_region_mean() -> None:
    rng = np.random.default_rng(0)
    activation = make_activation(rng.standard_normal((3, 2, 2, 8, 8)), targets=["LV"])
    activation.values[0, 1, 1, 0, 0] = np.nan
    label = xr.DataArray(np.full((3, 16, 16), 3, np.uint8), dims=("sample", "y", "x"))
    label[:, :6] = 0
    found = analysis.mean_regions(analysis.regional_mad(activation, label, class_names=CLASSES))
    expected = analysis.mad(activation).isel(condition=1).mean("sample")
    np.testing.assert_allclose(found["mad"].isel(condition=1), expected)
    assert found["samples"].isel(condition=1).values.tolist() == [3, 2]


def test_dose_and_dice_mean_count_the_same_slices(study: Store) -> None:
    """At the strength that changes nothing stands the Dice of the original over the slices that contain the class."""
    for over in ("present", "all"):
        findings = Findings(study, resamples=50, over=over)  # type: ignore[arg-type]
        dose, half = findings.table("dose"), findings.table("dose-half").set_index(["target", "class_name"])
        means = findings.table("dice-mean")
        untouched = dose[dose["strength"] == 1.0]
        assert len(untouched)
        for row in untouched[untouched["target"] == untouched["class_name"]].itertuples():
            same = means[(means["target"] == row.target) & (means["class_name"] == row.target)]
            np.testing.assert_allclose(same["original"], row.dice)
            assert (same["samples"] == row.samples).all()
            assert half.loc[(row.target, row.target), "baseline"] == pytest.approx(row.dice)


@pytest.mark.slow
def test_no_table_has_a_negative_zero(findings: Findings) -> None:
    for name in (name for name, table in TABLES.items() if "classes" not in table.needs):
        table = findings.table(name)
        for column in table.select_dtypes("number"):
            values = table[column].to_numpy(float)
            assert not (np.signbit(values) & (values == 0)).any(), (name, column)
