"""Findings of a world in which it is known what each channel answers to, and of 96 in which nothing is the case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import actstore
from actstore import Findings, analysis
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.views.report.sections.order import SECTIONS
from actstore.views.report.study import Study
from conftest import WriteSpec
from planted import ALONE, ANY, CAUSE, CLASS, ONE_PATIENT, SIZE, write_world
from studies import MadeUp

STRENGTHS = (0.1, 0.4, 1.3)
LEVEL = 0.05


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world") / "data"
    write_world(root)
    return root


@pytest.fixture(scope="module", params=["perturbed", pytest.param("original", marks=pytest.mark.slow)])
def findings(
    request: pytest.FixtureRequest, world: Path, write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory
) -> Findings:
    spec = write_spec(
        tmp_path_factory.mktemp(request.param),
        data__root=world,
        data__preprocess={"size": [SIZE, SIZE], "window": request.param},
        model={"factory": "planted:Planted", "layers": ["features"]},
        perturb=[{"transform": "brightness", "targets": ["LV", "RV"], "strengths": list(STRENGTHS)}],
        controls={"region": True, "noise": False},
    )
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return Findings(actstore.open(summary.store), resamples=200)


def sensitive(findings: Findings, condition: str) -> set[int]:
    table = findings.table("controls")
    return set(table.loc[(table["condition"] == condition) & table["sensitive"], "channel"])


def test_controls_tell_a_class_from_any_brightness(findings: Findings) -> None:
    for strength in STRENGTHS:
        found = sensitive(findings, f"brightness(LV, {strength:g})")
        assert CLASS in found
        # Silent above its threshold: brightening cannot reach it.
        assert found <= {CLASS, CAUSE}, strength
        assert (CAUSE in found) == (strength < 1)
        assert sensitive(findings, f"brightness(RV, {strength:g})") == set()


def test_rescaled_pairs_are_left_out(findings: Findings) -> None:
    """A class's own channel does not answer to the control, but rescaled slices would make it."""
    table = findings.table("controls")
    table = table[(table["target"] == "LV") & (table["channel"] == CLASS)]
    assert (table["control"] == 0).all()
    raw = analysis.class_sensitivity(findings.network["mad"])
    own = raw.isel(condition=np.flatnonzero(raw["target"].values == "LV"), channel=CLASS)
    if findings.store.attributes["spec"]["data"]["preprocess"]["window"] == "original":
        assert (table["rescaled"] == 0).all()
        assert (own["control"] == 0).all()
    else:
        assert (table["rescaled"] > 20).all()
        assert (own["control"] > 0).all()


def test_the_channel_that_causes_the_loss_is_found_and_alone(findings: Findings) -> None:
    table = findings.table("association")
    own = table[table["target"] == "LV"]
    found = own[(own["q"] < LEVEL) & (own["correlation"] > 0)]
    assert set(zip(found["condition"], found["channel"], strict=True)) == {("brightness(LV, 0.4)", CAUSE)}
    assert (found["correlation"] > found["size_baseline"]).all()
    # All of LV is lost at a tenth, and none when brightened.
    for condition, why in (("brightness(LV, 0.1)", "Dice of LV is 0"), ("brightness(LV, 1.3)", "without variation")):
        floor = own[own["condition"] == condition]
        assert floor["q"].isna().all()
        assert floor["note"].str.contains(why).all()


def test_the_channel_of_one_patient_is_shown_and_not_claimed(findings: Findings) -> None:
    table = findings.table("heterogeneity")
    table = table[table["channel"] == ONE_PATIENT]
    assert set(table["highest"]) == {ALONE}
    assert (table["share"] == 1).all()
    # The two volumes of one of twelve patients fall together by chance in one of twelve studies.
    assert (table["p"] > LEVEL).all()
    assert (findings.table("heterogeneity")["q"].dropna() > LEVEL).all()


def test_the_channel_of_any_brightness_responds_most_steadily(findings: Findings) -> None:
    section = SECTIONS["channels"](Study(findings.store, findings))
    assert any(said.startswith(f"Channel {ANY} of L01 responds most steadily") for said in section.findings)


def null_studies(smooth: float, seeds: int) -> dict[str, list[float]]:
    """The smallest q of each family, by table: three classes a seed, each a study in which nothing is the case."""
    found: dict[str, list[float]] = {"controls": [], "association": [], "heterogeneity": []}
    for seed in range(seeds):
        store = MadeUp(10, 6, (6,), ("RV", "MYO", "LV"), controls=True, smooth=smooth, seed=seed)
        study = Findings(store)  # type: ignore[arg-type]
        for name, smallest in found.items():
            table = study.table(name)
            own = table[table["class_name"] == table["target"]] if "class_name" in table else table
            smallest += own.groupby("target")["q"].min().dropna().tolist()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("smooth", [0.0, 0.95])
def test_null_studies_find_no_more_than_the_stated_rate(smooth: float) -> None:
    for name, smallest in null_studies(smooth, 16).items():
        assert len(smallest) == 48
        false = int((np.array(smallest) < LEVEL).sum())
        assert false <= stats.binom.ppf(0.999, len(smallest), LEVEL), (name, false, len(smallest))
