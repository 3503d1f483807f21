"""The report: what it says against the store, its files, and the demo that ends with it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import analysis
from actstore.cli import demo
from actstore.cli.demo import run_demo
from actstore.errors import ActstoreError, StoreError
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.store.opening import MissingBlocksWarning
from actstore.store.store import Store
from actstore.tables.findings import Findings
from actstore.tables.summaries import case_summary, dice_summary, frequency_summary, original_dice
from actstore.views.html_tables import html_table
from actstore.views.report.sections.order import SECTIONS, sections_of
from actstore.views.report.study import Section, Study
from actstore.views.report.write import write_report
from actstore.views.wording import number, percent, with_interval
from conftest import WriteSpec
from reports import REPORTED, undrawn, undrawn_report
from texts import plain

pytestmark = pytest.mark.slow

#: Where links into the explorer lead: to this machine.
EXPLORER = r"http://127\.0\.0\.1:5006/\?patient="


@pytest.fixture(scope="module")
def unfinished(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three of four volumes of two patients, without controls, repeats or doses."""
    copy = Path(shutil.copytree(tiny_store, tmp_path_factory.mktemp("unfinished") / "tiny.zarr"))
    next((copy / "committed").glob("c.*")).unlink()
    with pytest.warns(MissingBlocksWarning):
        return actstore.open(copy)


@pytest.fixture(scope="module")
def report(unfinished: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undrawn_report(unfinished, tmp_path_factory.mktemp("report") / "report.html")


def test_dice_compares_the_same_slices(tiny_store: Path) -> None:
    store = actstore.open(tiny_store)
    dice = analysis.dice(store.confusion, applicable=store.applicable).compute()
    present = (store.confusion.isel(condition=0).sum("predicted_class") > 0).compute()
    for row in dice_summary(store).itertuples():
        both = present.sel(true_class=row.class_name) & store.applicable.sel(condition=row.condition)
        values = dice.sel(class_name=row.class_name).isel(sample=np.flatnonzero(both.values))
        assert row.samples == values.sizes["sample"]
        assert row.original == pytest.approx(float(values.isel(condition=0).mean()))
        assert row.perturbed == pytest.approx(float(values.sel(condition=row.condition).mean()))


def test_a_report_holds_everything_itself(study_report: Path) -> None:
    page = study_report.read_text(encoding="utf-8")
    own = re.sub(r"(?s)<script>.*?</script>", "", page)
    assert not re.findall(r"\ssrc=\"(?!data:)", own)
    assert not [
        href
        for href in re.findall(r"href=\"([^\"]*)\"", own)
        if not re.match(rf"#|data:|report_data/|{EXPLORER}", href)
    ]
    assert "url(" not in own
    assert "@import" not in own
    assert "https://cdn" not in own


def test_numbers_of_the_page_are_those_of_the_store(report: Path, unfinished: Store) -> None:
    store = unfinished
    words = plain(report.read_text(encoding="utf-8"))
    for dice in original_dice(store).itertuples():
        assert f"{dice.class_name} {dice.dice:.3f}" in words
    means = dice_summary(store)
    for row in means[means["samples"] > 0].itertuples():
        assert number(row.original) in words
        assert number(row.perturbed) in words
    for case in case_summary(store).itertuples():
        assert f"“{case.case}” under {case.condition}" in words
    assert f"{len(store.samples)} samples" in words
    assert f"{len(store.layers)} layers" in words
    assert list(frequency_summary(store)["layer"]) == list(store.layers.index)
    assert "too few for intervals" in words, "two patients"


@pytest.mark.parametrize("of", ["report", "study_report"])
def test_every_figure_lies_beside_the_page_with_its_data(of: str, request: pytest.FixtureRequest) -> None:
    report: Path = request.getfixturevalue(of)
    page = report.read_text(encoding="utf-8")
    keys = re.findall(r"<figure id=\"figure-([^\"]*)\"", page)
    assert len(keys) == len(set(keys)) >= 10
    folder = report.with_name("report_data")
    for key in keys:
        assert all((folder / f"{key}.{ending}").stat().st_size for ending in ("png", "svg", "csv", "parquet"))
        table = pd.read_parquet(folder / f"{key}.parquet")
        assert list(table.columns) == pd.read_csv(folder / f"{key}.csv", nrows=0).columns.tolist()
        assert len(table) == (folder / f"{key}.csv").read_text(encoding="utf-8").count("\n") - 1
    for part in re.findall(r"(?s)<figure.*?</figure>", page):
        assert re.search(r"alt=\"[^\"]{10,}\"", part)
        assert re.search(r"<b>Figure \d+\.</b> .{20,}", part)
        # Where every question has its figures, one shows nothing but counts of slices.
        if of == "report":
            assert re.search(r"n = |n above|: \d+ slices|of \d+ slices", part), "on how much it rests"
        json.loads(re.search(r"(?s)application/json\">(.*?)</script>", part)[1])  # type: ignore[index]


def test_the_report_draws_what_is_tested_with_bokeh_alone(study_report: Path) -> None:
    found = [path.stem for path in study_report.with_name("report_data").glob("*.svg")]
    assert [name for name, key in REPORTED.items() if not any(one.startswith(key) for one in found)] == []


def test_a_question_without_an_answer_is_one_line(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    for key in ("controls", "dose"):
        section = re.search(rf"(?s)<section id=\"{key}\">(.*?)</section>", page)
        assert section is not None
        assert "<figure" not in section[1]
        assert section[1].count("Not in this store: ") >= 1


def test_a_store_that_answers_all_has_figures_in_every_section(study_report: Path, study_store: Path) -> None:
    page = study_report.read_text(encoding="utf-8")
    assert "Not in this store" not in page
    for key in sections_of(actstore.open(study_store)):
        section = re.search(rf"(?s)<section id=\"{key}\">(.*?)</section>", page)
        assert section is not None, key
        assert "<figure" in section[1] or "no association with the loss of Dice can be tested" in section[1], key
    assert len(page) < 15_000_000
    words = plain(page)
    table = Findings(actstore.open(study_store)).table
    sensitive = table("controls").groupby("condition")["sensitive"].sum()
    shown = [name for name in sensitive.index if f"of {len(table('controls')) // len(sensitive)} to {name}" in words]
    assert shown
    for name in shown:
        assert f"{sensitive[name]} of {len(table('controls')) // len(sensitive)} to {name}" in words
    half = table("dose-half").query("class_name == target and half_below == half_below")
    assert all(f"{row.target} at {number(row.half_below)}" in words for row in half.itertuples())


def test_numbers_are_written_for_readers() -> None:
    assert [number(v) for v in (0.0, -0.123, 0.004, np.nan, 12345.0, 2e-6)] == [
        "0.00", "−0.12", "0.004", "–", "1.234e+04", "2e−06",
    ]  # fmt: skip
    assert percent(0.256) == "26 %"
    frame = pd.DataFrame({"a": [1.0, 2.0], "a_low": [0.5, np.nan], "a_high": [1.5, np.nan]})
    assert with_interval(frame, "a") == ["1.00 (0.50 to 1.50)", "2.00"]
    html = html_table(pd.DataFrame({"name": ["<b>"], "some_number": [3]}), "numbers")
    assert "&lt;b&gt;" in html
    assert 'class="col_heading level0 col1" >some number</th>' in html
    assert "#T_numbers .col1 {" in html, "numbers are aligned right"
    assert "#T_numbers .col0 {" not in html


def test_statistics_alone_leave_out_the_maps(write_spec: WriteSpec, tmp_path: Path) -> None:
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    spec = write_spec(tmp_path, store__keep="statistics", data__patients=["patient001"])
    store = actstore.open(capture(load_spec(spec), cluster="inline", device="cpu").store)
    section = SECTIONS["activations"](Study(store))
    assert not section.figures
    assert 'store.keep = "statistics"' in section.missing[0]


def test_an_unfinished_store_says_what_is_missing(report: Path) -> None:
    assert "1 of 4 volumes are missing" in report.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_says_so(tiny_store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another -o"):
        write_report(actstore.open(tiny_store), tmp_path / "file" / "report.html")


def test_the_process_beside_says_why_it_failed(tiny_copy: Path, tmp_path: Path) -> None:
    from actstore.views.report.render import rendering_aside

    study = Study(actstore.open(tiny_copy))
    shutil.rmtree(tiny_copy)
    with (
        rendering_aside(study, tmp_path, ["images"], lambda _: None) as collect,
        pytest.raises(StoreError, match=r"were not drawn: .*tiny\.zarr"),
    ):
        collect()


def test_the_demo_ends_with_tables_figure_report_and_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With images of a few steps only, and without the phantom's margins."""
    for own, smaller in (("steps = 48\n", "steps = 4\n"), ("size = [256, 256]\n", "size = [128, 128]\n")):
        assert own in demo.SPEC
        monkeypatch.setattr(demo, "SPEC", demo.SPEC.replace(own, smaller))
    with undrawn():
        run_demo(tmp_path / "demo", patients=1, cluster="inline")
    shown = capsys.readouterr().out
    for name in ("frequency.png", "report.html", "phantom.zarr"):
        assert (tmp_path / "demo" / name).exists()
        assert f"demo/{name}" in shown
    dice = original_dice(actstore.open(tmp_path / "demo" / "phantom.zarr")).set_index("class_name")["dice"]
    assert dice["LV"] >= 0.85
    assert dice["RV"] >= 0.75
    assert dice["MYO"] >= 0.75
    with pytest.raises(ActstoreError, match="is of another demo"):
        run_demo(tmp_path / "demo", patients=2, cluster="inline")


def test_names_cannot_write_the_page(tiny_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = actstore.open(tiny_copy)
    evil = Section("images", "<script>alert(1)</script>", words=["a < b & c"], findings=["<b>bold</b>"])
    monkeypatch.setattr("actstore.views.report.write.sections_of", lambda _: {"images": lambda _: evil})
    monkeypatch.setattr("actstore.views.report.write.OF_THE_STORE", ())
    page = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &lt; b &amp; c" in page
    assert "<b>bold</b>" not in page


def test_where_nothing_applies_the_report_says_so(tmp_path: Path, write_spec: WriteSpec, phantom_copy: Path) -> None:
    for path in phantom_copy.rglob("*_gt.nii*"):
        image: Any = nibabel.load(path)
        label = np.asarray(image.dataobj).copy()
        label[label == 3] = 0
        nibabel.save(nibabel.Nifti1Image(label.astype(np.uint8), image.affine), path)
    perturb = [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}]
    spec = write_spec(tmp_path, data__root=phantom_copy, data__patients=["patient001"], perturb=perturb)
    store = actstore.open(capture(load_spec(spec), cluster="inline", device="cpu").store)
    words = plain(undrawn_report(store, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "No slice contains a perturbed class." in words
    assert not re.search(r"\bnan\b", words)
