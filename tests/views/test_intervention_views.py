"""Figures of interventions, and what the report says of them: on studies whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pytest

from actstore import Findings, views
from actstore.views.figures import interventions as figures
from actstore.views.figures import orders
from actstore.views.report.sections.interventions import interventions as section_of
from actstore.views.report.sections.order import SECTIONS, has_section
from actstore.views.report.sections.questions import association
from actstore.views.report.sentences import interventions as on
from actstore.views.report.study import Section, Study
from actstore.views.report.write import write_report
from drawn import title_of
from intervened import GROW, LV, RESTORE, Intervened
from reports import REPORTED
from studies import MadeUp


def study_of(store: Any) -> Study:
    return Study(store, Findings(store, resamples=50))


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of(Intervened(louder=4.0))


@pytest.fixture(scope="module")
def section(study: Study) -> Section:
    return section_of(study)


def test_a_cell_a_channel_and_a_mark_where_it_matters(study: Study) -> None:
    table = study.findings.table("effects")
    figure = list(views.effects(table))
    titles = [title_of(one) for one in figure]
    assert titles[-2] == f"restore: {LV}, LV · 1 of 28"
    cells, marked = figure[-2].traverse(lambda e: e, [hv.Rectangles, hv.Points])
    own = table.query("intervention == 'restore' and class_name == 'LV' and order == 'each'")
    np.testing.assert_allclose(np.sort(cells.dimension_values("effect")), np.sort(own["effect"].round(4)))
    assert marked.dframe()[["layer", "channel"]].values.tolist() == [["L02", 3]]
    assert [title_of(one).split(" · ")[0] for one in figure[:3]] == [
        f"remove: original, {c}" for c in ("RV", "MYO", "LV")
    ]


def test_curves_and_areas_are_those_of_the_tables(study: Study) -> None:
    table = study.findings.table("cumulative")
    assert orders.curves_of(table, 2)["layer"].unique().tolist() == ["L01", "L03"], "evenly spread"
    second = list(views.cumulative(table))[1]
    assert title_of(second) == "L02"
    curves = {curve.label: curve for curve in second.traverse(lambda e: e, [hv.Curve]) if curve.label}
    assert sorted(curves) == ["MAD", "frequency", "random"]
    for order, own in table.query("class_name == 'LV' and layer == 'L02'").groupby("order"):
        curve = curves["MAD" if order == "mad" else order]
        np.testing.assert_allclose(curve.dimension_values("y"), own["dice"])
        np.testing.assert_allclose(curve.dimension_values("x"), np.log2(own["count"]))
    areas = study.findings.table("areas")
    (plot,) = views.areas(areas)
    drawn = np.concatenate([e.dimension_values("x") for e in plot.traverse(lambda e: e, [hv.Points]) if len(e) > 1])
    np.testing.assert_allclose(np.sort(drawn), np.sort(areas.query("class_name == 'LV'")["area"].round(4)))


@pytest.mark.parametrize("name", ["effects", "rankings", "agreement", "cumulative", "areas"])
def test_both_backends_draw_them(study: Study, name: str) -> None:
    """Matplotlib in the report."""
    assert name in REPORTED
    assert hv.render(getattr(views, name)(study.findings.table(name)), backend="bokeh").references()


def test_the_report_says_what_matters(section: Section, study: Study) -> None:
    said = " ".join(section.findings)
    (row,) = (
        study.findings.table("effects")
        .query("edit == 'L02:3' and intervention == 'restore' and class_name == 'LV'")
        .itertuples()
    )
    assert f"restore: with the map of the original in channel 3 of L02, a share of {row.effect:.2f} (" in said
    assert "1 of 28 channels has a larger effect than random channels of the same layer: L02:3 (q < 0.05" in said
    assert (
        f"restore, LV under {LV}: of the 18 channels that are among the 7 most frequent of their layer, 1 has" in said
    )
    (area,) = (
        study.findings.table("areas").query("class_name == 'LV' and layer == 'all' and order == 'mad'").itertuples()
    )
    assert f"in order of mean MAD, the restoration of channels is larger by {area.area:.2f} (" in said
    assert "the order finds what matters before chance" in said
    words = " ".join(section.words)
    assert f"grow: in passes of {LV}, a channel's map is replaced by the original's map." in words
    assert "Rank correlation with the effect: of frequency" in words
    assert [figure.key for figure in section.figures] == [
        "effects", "cumulative-grow-brightness-LV-0.1--LV", "areas", "rankings", "agreement",
    ]  # fmt: skip
    assert [table.key for table in section.tables] == ["effects-largest"]


def test_what_does_not_matter_is_said_as_plainly() -> None:
    said = " ".join(section_of(study_of(Intervened(carried={}, interventions=[RESTORE, GROW]))).findings)
    assert "No channel has a larger effect than random channels of the same layer (q < 0.05" in said
    assert "none of the 18 channels that are among the 7 most frequent of their layer has a larger effect" in said
    assert "it finds what matters no sooner than chance" in said
    few = " ".join(section_of(study_of(Intervened(patients=3, interventions=[RESTORE]))).findings)
    assert "cannot be tested: 3 patients are too few." in few
    alone = study_of(Intervened(patients=6, widths=(2, 2), carried={}, interventions=[RESTORE])).findings.table(
        "effects"
    )
    assert "With 6 patients, no q can fall below 0.05" in " ".join(on.largest(figures.alone(alone)))


def test_it_is_the_first_thing_said_of_channels(study: Study) -> None:
    keys = list(SECTIONS)
    assert keys.index("interventions") < min(keys.index(key) for key in ("channels", "layers", "association"))
    correlated = association(study)
    assert correlated.title == "What goes with a worse prediction"
    assert not correlated.findings
    plain = MadeUp()
    assert not has_section(plain, "interventions")  # type: ignore[arg-type]
    assert association(study_of(plain)).title == "Does it matter"


def test_its_findings_begin_the_summary(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "segmentation": lambda _: Section("segmentation", "How well", findings=["second"]),
        "interventions": lambda _: Section("interventions", "Does it matter", findings=["first"]),
    }
    monkeypatch.setattr("actstore.views.report.write.sections_of", lambda _: parts)
    monkeypatch.setattr("actstore.views.report.write._page", lambda _, sections, folder: page_of(sections, folder))
    from actstore.views.report.write import page

    def page_of(sections: Any, folder: Path) -> str:
        made: list[str] = []
        monkeypatch.setattr(
            "jinja2.Template.render", lambda _, **content: made.extend(content["summary"]) or ",".join(made)
        )
        return page("report.html.j2", sections, folder)

    assert write_report(study.store, tmp_path / "report.html").read_text("utf-8") == "first,second"


def test_the_region_is_that_of_the_class_that_was_named() -> None:
    said = on.made("near", {**RESTORE, "region": "inside", "target": "MYO"})
    assert said.endswith("a channel's map is replaced by the original's map inside MYO.")
    assert on.made("far", {**RESTORE, "region": "outside"}).endswith("the original's map outside the perturbed class.")
    assert on.made("restore", RESTORE).endswith("replaced by the original's map.")


def test_rankings_of_a_perturbation_without_a_loss_are_not_compared(study: Study) -> None:
    own = study.findings.table("agreement").query("intervention == 'restore'")
    without = own.assign(samples=0, note="loss not above 0: no share of it")
    said = f"restore, LV under {LV}: rankings cannot be compared: loss not above 0: no share of it."
    assert on.responsible(without) == [said]


def test_one_layer_is_no_range_of_layers(study: Study) -> None:
    own = study.findings.table("agreement").query("intervention == 'restore'").iloc[:1]
    assert own["samples"].all()
    known = own.assign(q=0.5, tests=1, spearman_frequency=0.77, spearman_frequency_low=0.5, spearman_frequency_high=0.9)
    (said,) = on.responsible(known)
    assert "there are not more than by chance" in said
    assert "of frequency 0.77 (0.50 to 0.90) in its one layer" in said
    (more,) = on.responsible(known.assign(q=0.01))
    assert "; there are more than by chance" in more
