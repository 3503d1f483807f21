"""Tables of interventions: their rows against the counts of the groups, on studies whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

import actstore
from actstore import Findings
from actstore.analysis.interventions.effects import overlaps
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.tables.catalogue import Unanswerable
from intervened import GROW, LV, REMOVE, RESTORE, TRANSMIT, Intervened


@pytest.fixture(scope="module")
def study() -> Intervened:
    return Intervened(louder=4.0)


@pytest.fixture(scope="module")
def findings(study: Intervened) -> Findings:
    return Findings(study, resamples=50)  # type: ignore[arg-type]


def lv_dice(confusion: np.ndarray) -> np.ndarray:
    lv = 3
    both = confusion[..., lv, :].sum(-1) + confusion[..., lv].sum(-1)
    return 2 * confusion[..., lv, lv] / np.where(both > 0, both, np.nan)


def test_effects_are_those_of_the_counts(study: Intervened, findings: Findings) -> None:
    table = findings.table("effects")
    assert table["intervention"].unique().tolist() == ["remove", "restore", "transmit"]
    original, perturbed = (lv_dice(study.confusion.sel(condition=c).values) for c in ("original", LV))
    for name, quantity, into in (
        ("restore", "restoration", perturbed),
        ("transmit", "transmission", original),
        ("remove", "necessity", original),
    ):
        group = study.group(f"interventions/{name}")
        used = group["edited"].values[:, 0]
        edited = lv_dice(group["confusion"].sel(edit="L02:3").values[:, 0])
        (row,) = table.query("intervention == @name and edit == 'L02:3' and class_name == 'LV'").itertuples()
        change = (edited - into)[used].sum() * (1 if name == "restore" else -1)
        lost = (original - perturbed)[used].sum() if name != "remove" else used.sum()
        assert row.quantity == quantity
        assert row.effect == pytest.approx(change / lost)
        assert row.samples == used.sum()
        assert (row.unedited, row.edited) == pytest.approx((into[used].mean(), edited[used].mean()))
        assert row.channel == 3
        assert (row.target, row.low < row.effect < row.high) == ("" if name == "remove" else "LV", True)
        assert np.isnan(row.loss) if name == "remove" else row.loss == pytest.approx(lost / used.sum())


def test_the_channel_that_carries_it_is_found_and_no_other(findings: Findings) -> None:
    table = findings.table("effects")
    for name in ("restore", "transmit", "remove"):
        found = table[(table["q"] < 0.05) & (table["intervention"] == name) & (table["class_name"] == "LV")]
        assert found["edit"].tolist() == ["L02:3"]
    assert table.loc[table["order"] == "layer", "q"].isna().all()
    assert (table.loc[table["order"] == "layer", "chosen"] == "all").all()
    assert table.loc[table["order"] == "layer", "channel"].isna().all()
    first = table.query("intervention == 'restore'").groupby("edit", sort=False)["class_name"].first()
    assert (first == "LV").all(), "the perturbed class comes first"


def test_the_order_that_knows_it_is_above_chance(findings: Findings) -> None:
    areas = findings.table("areas").query("class_name == 'LV' and order == 'mad'").set_index("layer")
    assert areas.index.tolist() == ["L01", "L02", "L03", "all"]
    assert areas.loc["L02", "low"] > 0
    assert areas.loc["L02", "area"] > 0.2
    assert areas.loc["all", "area"] == pytest.approx(areas.loc[["L01", "L02", "L03"], "area"].mean())
    curves = findings.table("cumulative").query("class_name == 'LV' and layer == 'L02'")
    assert curves.query("order == 'mad'")["effect"].min() > 0.5
    assert curves.query("order == 'random' and count < 16")["repeats"].tolist() == [2, 2, 2]
    alike = curves.query("order == 'random' and count == 16")["effect"].iloc[0]
    assert alike == pytest.approx(curves.query("order == 'mad' and count == 16")["effect"].iloc[0], abs=0.1)


def test_rankings_are_those_of_other_tables(study: Intervened, findings: Findings) -> None:
    table = findings.table("rankings")
    own = table.query("intervention == 'restore' and layer == 'L02'").set_index("channel")
    assert own.loc[3, ["mad_rank", "effect_rank"]].tolist() == [1, 1]
    frequency = findings.table("certainty").query("condition == @LV and layer == 'L02'").set_index("channel")
    np.testing.assert_allclose(own["frequency"], frequency.loc[own.index, "frequency"])
    relative = findings.table("relative").query("condition == @LV and layer == 'L02'").set_index("channel")
    np.testing.assert_allclose(own["mad"], relative.loc[own.index, "mad"])
    effects = findings.table("effects").query("intervention == 'restore' and class_name == 'LV' and layer == 'L02'")
    np.testing.assert_allclose(own["effect"], effects.dropna(subset="channel").set_index("channel")["effect"])
    necessity = table.query("intervention == 'remove'")
    assert necessity["condition"].unique().tolist() == list(study.conditions.index[1:]), "each perturbation's MAD"
    agreement = findings.table("agreement").query("intervention == 'restore'").set_index("layer")
    both = own[(own["effect_rank"] <= 7) & (own["effect"] > 0)].index
    often = findings.table("frequency").query("condition == @LV and layer == 'L02'")["channel"]
    assert agreement.loc["L02", "shared"] == len({*both} & {*often})
    assert agreement.loc["L02", "frequent"] == 7


def test_of_some_layers_rankings_are_those_of_their_channels(study: Intervened, findings: Findings) -> None:
    whole = study.group("interventions/restore")
    some = whole.isel(edit=np.flatnonzero(whole["layer"].values != "L01"))
    fewer = Intervened(louder=4.0, interventions=[RESTORE])
    fewer._made["restore"] = some
    for name, keys in (("rankings", ["layer", "channel"]), ("agreement", ["layer"])):
        every = findings.table(name).query("intervention == 'restore' and layer != 'L01'").set_index(keys)
        found = Findings(fewer, resamples=50).table(name).set_index(keys)  # type: ignore[arg-type]
        assert found.index.tolist() == every.index.tolist()
        names = [n for n in found if n not in ("q", "tests")]
        pd.testing.assert_frame_equal(found[names], every[names])


def test_where_nothing_is_lost_no_channel_has_a_large_share() -> None:
    study = Intervened(interventions=[RESTORE])
    study.confusion.loc[{"condition": LV}] = study.confusion.sel(condition="original").values
    findings = Findings(study, resamples=50)  # type: ignore[arg-type]
    effects = findings.table("effects").query("class_name == 'LV'")
    assert effects["effect"].isna().all()
    assert (effects["note"] == "loss not above 0: no share of it").all()
    assert findings.table("rankings")["effect"].isna().all()
    agreement = findings.table("agreement")
    assert (agreement["large"] == 0).all()
    assert (agreement["note"] == "loss not above 0: no share of it").all()
    assert agreement[["p", "spearman_frequency", "spearman_mad"]].isna().all(axis=None)


def test_of_some_samples_and_of_what_is_done_so_far() -> None:
    study = Intervened(chosen=3, committed=9, interventions=[RESTORE])
    table = Findings(study, resamples=50).table("effects")  # type: ignore[arg-type]
    group = study.group("interventions/restore")
    assert table["samples"].max() == int(group["edited"].sum())
    assert table["patients"].unique().tolist() == [5]
    rows = study.samples["block"].to_numpy() < 9
    original, perturbed = (lv_dice(study.confusion.sel(condition=c).values[rows]) for c in ("original", LV))
    used = group["edited"].values[:, 0]
    (row,) = table.query("edit == 'L02:3' and class_name == 'LV'").itertuples()
    assert row.loss == pytest.approx((original - perturbed)[used].mean())


def test_edits_of_whole_layers_alone_have_effects_and_are_not_tested() -> None:
    study = Intervened(interventions=[RESTORE])
    group = study.group("interventions/restore")
    study._made["restore"] = group.isel(edit=np.flatnonzero(group["order"].values == "layer"))
    table = Findings(study, resamples=50).table("effects").query("class_name == 'LV'")  # type: ignore[arg-type]
    assert table["edit"].tolist() == ["L01", "L02", "L03"]
    assert table["effect"].notna().all()
    assert table[["p", "q", "channel"]].isna().all(axis=None)
    assert (table["note"] == "").all()


def test_of_few_patients_there_is_neither_interval_nor_p() -> None:
    findings = Findings(Intervened(patients=3), resamples=50)  # type: ignore[arg-type]
    effects = findings.table("effects").query("class_name == 'LV'")
    assert effects[["low", "high", "p", "q"]].isna().all(axis=None)
    assert (effects["note"] == "3 patients: too few for an interval").all()
    assert findings.table("areas").query("class_name == 'LV'")["area"].notna().all()
    agreement = findings.table("agreement")
    assert agreement.filter(regex="_low|_high").isna().all(axis=None)
    assert agreement["spearman_mad"].notna().any()


def test_what_was_not_asked_for_is_said(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    for name in ("effects", "rankings", "agreement", "cumulative", "areas"):
        with pytest.raises(
            Unanswerable, match="the store holds no interventions: `actstore intervene SPEC` makes them"
        ):
            Findings(store).table(name)
    with pytest.raises(StoreError, match="no intervention 'other': there are remove, restore"):
        Findings(Intervened(interventions=[REMOVE, RESTORE]), of="other").table("effects")  # type: ignore[arg-type]
    with pytest.raises(Unanswerable, match='grow: made without channels = "each"; set it below'):
        Findings(Intervened(interventions=[GROW])).table("effects")  # type: ignore[arg-type]
    with pytest.raises(Unanswerable, match='transmit: made without channels = "cumulative"; set it below'):
        Findings(Intervened(interventions=[TRANSMIT])).table("areas")  # type: ignore[arg-type]
    failed = CliRunner().invoke(main, ["table", str(tiny_store), "effects", "--of", "one"])
    assert failed.exit_code == 1
    assert "the store holds no interventions" in failed.output


def test_of_classifiers_effects_are_of_accuracy() -> None:
    right = np.array([[1, 0], [1, 1], [0, 1]])
    counts = np.zeros((3, 2, 2, 2), dtype=np.int64)
    label = [0, 1, 1]
    for s in range(3):
        for c in range(2):
            counts[s, c, label[s], label[s] if right[s, c] else 1 - label[s]] = 1
    names = ["disc", "ring"]
    confusion = xr.DataArray(
        counts,
        dims=("sample", "condition", "true_class", "predicted_class"),
        coords={"true_class": names, "predicted_class": names},
    )
    there = xr.DataArray([[True, True], [True, True], [True, False]], dims=("sample", "condition"))
    found = overlaps(confusion, applicable=there, classified=True).mean("sample")
    assert found["class_name"].values.tolist() == ["all", "disc", "ring"]
    np.testing.assert_allclose(found.values, [[2 / 3, 1, 1 / 2], [1 / 2, 0, 1]])
