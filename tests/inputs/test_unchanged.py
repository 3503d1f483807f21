"""A perturbation that changes nothing that the network sees does not apply, is said, and leads to no rank."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import actstore
from actstore import conditions, views
from actstore.analysis.maps.equality import differs
from actstore.cli import text
from actstore.conditions import IDENTITY_STRENGTH
from actstore.data.phantom import write_phantom
from actstore.data.volume import Volume, VolumeKey
from actstore.errors import SpecError, StoreError
from actstore.inputs import perturb
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import prepare
from actstore.jobs.capture import Summary, capture
from actstore.jobs.creation import attributes, ensure_store
from actstore.jobs.plan.plan import make_plan
from actstore.spec.spec import Spec, load_spec
from actstore.store.store import Store
from actstore.tables.catalogue import TABLES
from actstore.tables.findings import Findings
from actstore.tables.unchanged import Unchanged, nowhere, of_blocks, of_store
from actstore.views.report.sections.order import sections_of
from actstore.views.report.study import Study
from conftest import WriteSpec
from reports import undrawn_report
from texts import plain

pytestmark = pytest.mark.slow

KEY = VolumeKey("patient001", 1)
#: Slice 0 holds LV, slice 1 a single pixel of it, slice 2 none, and slice 3 is LV from edge to edge.
SLICES = 4


def volume_of(image: Any = None) -> Volume:
    values = np.random.default_rng(5).gamma(3.0, 50.0, (SLICES, 16, 16)) + 1
    label = np.zeros(values.shape, np.uint8)
    label[0, 4:10, 4:10] = 3
    label[0, 2, 2:4] = 2
    label[1, 5, 5] = 3
    label[1, 2, 2:4] = 2
    label[3] = 3
    return Volume(KEY, np.asarray(values if image is None else image, np.float32)[None], label, b"")


def spec_of(write_spec: WriteSpec, folder: Path, perturbation: dict[str, Any], **changes: Any) -> Spec:
    table = {"targets": ["LV"], "strengths": [0.5], **perturbation}
    size = {"data__preprocess__size": [16, 16], "data__preprocess__normalize": "none"}
    return load_spec(write_spec(folder, **{"perturb": [table], **size, **changes}))


def flat(value: float) -> NDArray[np.float32]:
    return np.full((SLICES, 16, 16), value, np.float32)


def two_valued() -> NDArray[np.float32]:
    return np.indices((SLICES, 16, 16)).sum(axis=0).astype(np.float32) % 2


MINMAX = {"data__preprocess__normalize": "minmax-slice"}
ZSCORE = {"data__preprocess__normalize": "zscore-slice"}


@pytest.mark.parametrize(
    ("perturbation", "image", "changes", "applies"),
    [
        ({}, None, {}, [True, True, False, True]),
        ({}, flat(0.0), {}, [False] * 4),
        ({"transform": "contrast"}, flat(7.0), {}, [False] * 4),
        ({"transform": "contrast"}, two_valued(), {}, [False] * 4),
        ({"transform": "noise"}, flat(7.0), {}, [False] * 4),
        ({"transform": "noise"}, None, {}, [True, True, False, True]),
        ({"transform": "blur"}, flat(7.0), {}, [False] * 4),
        ({"transform": "blur", "strengths": [0.2]}, None, {}, [True, True, False, True]),
        ({"transform": "fill", "source": "MYO"}, flat(7.0), {}, [False] * 4),
        ({"transform": "shuffle"}, None, {}, [True, False, False, True]),
        ({"transform": "shuffle"}, flat(7.0), {}, [False] * 4),
        ({"transform": "shuffle", "strengths": [0.04]}, None, {}, [False, False, False, True]),
        ({"transform": "networks:unchanged"}, None, {}, [False] * 4),
        ({"transform": "networks:large_only", "strengths": [30.0]}, None, {}, [True, False, False, True]),
        # A factor on all of a slice is undone by what scales the slice.
        ({}, None, MINMAX, [True, True, False, False]),
        ({}, None, ZSCORE, [True, True, False, False]),
        ({}, np.where(np.indices((SLICES, 16, 16))[0] == 0, 0.0, 9.0), MINMAX, [False, True, False, False]),
        # A few of the smallest parts of a number that float32 holds.
        ({"strengths": [1 - 0.9 * 2.0**-20]}, flat(1.5), {}, "refused"),
        ({"strengths": [1 - 1.1 * 2.0**-20]}, flat(1.0), {}, [True, True, False, True]),
        ({"strengths": [1 + 1.1 * 2.0**-20]}, flat(1.9), {}, [True, True, False, True]),
    ],
)
def test_what_changes_the_input_applies(
    write_spec: WriteSpec,
    tmp_path: Path,
    perturbation: dict[str, Any],
    image: Any,
    changes: dict[str, Any],
    applies: Any,
) -> None:
    perturbation = {"transform": "brightness", **perturbation}
    if applies == "refused":
        with pytest.raises(
            SpecError, match="changes nothing that float32 can hold: use a strength at least 1e-06 away"
        ):
            spec_of(write_spec, tmp_path, perturbation, **changes)
        return
    spec = spec_of(write_spec, tmp_path, perturbation, controls={"noise": True}, **changes)
    seen = prepare(spec, Plain(spec), volume_of(image))
    held = np.array([True, True, False, True])
    assert seen.applicable[:, 1].tolist() == applies
    assert seen.unchanged[:, 1].tolist() == (held & ~np.array(applies)).tolist()
    assert seen.applicable[:, [0, 2, 3]].all(), "repeats are meant to be equal"
    assert not seen.unchanged[:, [0, 2, 3]].any()
    assert np.isnan(seen.inputs[~seen.applicable]).all()
    assert np.isfinite(seen.inputs[seen.applicable]).all()


def test_a_volume_applies_where_any_of_its_slices_changed(write_spec: WriteSpec, tmp_path: Path) -> None:
    size = {"data__preprocess__size": [4, 16, 16]}
    spec = spec_of(write_spec, tmp_path, {"transform": "networks:large_only", "strengths": [100.0]}, **size)
    assert prepare(spec, Plain(spec), volume_of()).applicable.tolist() == [[True, True]]
    spec = spec_of(write_spec, tmp_path, {"transform": "networks:large_only", "strengths": [1000.0]}, **size)
    assert prepare(spec, Plain(spec), volume_of()).applicable.tolist() == [[True, False]]


def test_a_control_region_that_stays_as_it_was_is_counted(write_spec: WriteSpec, tmp_path: Path) -> None:
    image = flat(0.0)
    image[:, 4:10, 4:10] = 5.0
    spec = spec_of(write_spec, tmp_path, {"transform": "brightness"}, controls={"region": True})
    seen = prepare(spec, Plain(spec), volume_of(image))
    assert seen.applicable.tolist()[0] == [True, True, False]
    assert seen.unchanged.tolist()[0] == [False, False, True]
    assert seen.unchanged.tolist()[3] == [False, False, False], "no place for a control is no change that failed"


@settings(max_examples=60, deadline=None)
@given(
    transform=st.sampled_from(sorted(IDENTITY_STRENGTH)),
    strength=st.floats(0, 2) | st.floats(1 - 1e-6, 1 + 1e-6) | st.floats(0, 1e-6),
    values=st.sampled_from([(0.0,), (3.0,), (0.0, 1.0), (2.0, 5.0, 11.0), tuple(range(64))]),
    normalize=st.sampled_from(["none", "minmax-slice", "zscore-slice", "minmax-volume", "percentile-slice"]),
    seed=st.integers(0, 99),
)
def test_a_condition_applies_where_the_input_differs(
    spec_for_any: Spec, transform: str, strength: float, values: tuple[float, ...], normalize: str, seed: int
) -> None:
    if transform in ("fill", "shuffle"):
        strength = min(strength, 1.0)
    rng = np.random.default_rng(seed)
    volume = volume_of(rng.choice(values, (SLICES, 16, 16)))
    source = "MYO" if transform == "fill" else None
    content = spec_for_any.model_dump(mode="json")
    content["data"]["preprocess"]["normalize"] = normalize
    content["perturb"] = [{"transform": transform, "targets": ["LV"], "strengths": [strength], "source": source}]
    why = conditions.without_effect(transform, strength)
    if why:
        with pytest.raises(SpecError, match=re.escape(why)):
            Spec.from_mapping(content)
        with pytest.raises(SpecError, match=re.escape(why)):
            perturb.check(conditions.Condition(transform, "LV", strength, source))
        return
    spec = Spec.from_mapping(content)
    seen = prepare(spec, Plain(spec), volume)
    held = (seen.label == 3).any(axis=(1, 2))
    assert (seen.applicable[:, 1] | seen.unchanged[:, 1]).tolist() == held.tolist()
    assert not (seen.applicable & seen.unchanged).any()
    for s in np.flatnonzero(seen.applicable[:, 1]):
        assert (seen.inputs[s, 1] != seen.inputs[s, 0]).any()
    # By hand: a slice that stays as it was before it is normalised is no more different after.
    raw = perturb.apply(
        conditions.Condition(transform, "LV", strength, source),
        volume.image, volume.label, ("background", "RV", "MYO", "LV"), seed=0, key=KEY,
    )  # fmt: skip
    if normalize.endswith("slice"):
        same = (raw == volume.image).all(axis=(0, 2, 3))
        assert not seen.applicable[same, 1].any()


@pytest.fixture(scope="module")
def spec_for_any(write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return spec_of(write_spec, tmp_path_factory.mktemp("any"), {"transform": "brightness"})


@pytest.mark.parametrize(
    ("transform", "strength", "words"),
    [
        (
            "blur",
            0.1,
            "strength 0.1 of 'blur' changes nothing: a Gaussian this narrow covers a single pixel; use 0.2",
        ),
        ("blur", 0.1999999999, "strength 0.1999999999 of 'blur' changes nothing: a Gaussian"),
        ("blur", 0.0, "strength 0 of 'blur' changes nothing: leave it out, the original is a condition"),
        ("brightness", 1 + 1e-9, "strength 1.000000001 of 'brightness' changes nothing that float32 can hold"),
        ("contrast", 1 - 1e-8, "strength 0.99999999 of 'contrast' changes nothing that float32 can hold"),
        ("noise", 1e-12, "strength 1e-12 of 'noise' changes nothing that float32 can hold: use a strength at least"),
        ("fill", 1e-8, "strength 1e-08 of 'fill' changes nothing that float32 can hold"),
    ],
)
def test_strengths_that_can_do_nothing_are_refused(
    write_spec: WriteSpec, tmp_path: Path, transform: str, strength: float, words: str
) -> None:
    table = {"transform": transform, "strengths": [0.5, strength]} | ({"source": "RV"} if transform == "fill" else {})
    with pytest.raises(SpecError, match=re.escape(f"perturb[0]: {words}")) as caught:
        spec_of(write_spec, tmp_path, table)
    assert len(str(caught.value).splitlines()) == 1


def test_a_blur_is_refused_where_it_changes_no_more_than_rounding() -> None:
    from scipy import ndimage

    image = np.random.default_rng(0).uniform(1, 2, size=(9, 9))
    for sigma in (0.01, 0.1, 0.125, 0.17, 0.2, 0.25, 1.0):
        blurred = ndimage.gaussian_filter(image, sigma)
        assert bool(conditions.without_effect("blur", float(sigma))) == bool(np.abs(blurred - image).max() < 1e-6), (
            sigma
        )
    assert np.array_equal(ndimage.gaussian_filter(image, 0.1249), image)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e5, 1e30])
def test_rounding_is_no_change_and_anything_more_is(scale: float) -> None:
    one = np.float32(scale) * np.random.default_rng(1).uniform(0.5, 1, (16, 16)).astype(np.float32)
    one[:4] = 0
    rounded = np.nextafter(one, np.float32(np.inf))
    rounded[:4] = -0.0
    assert not differs(rounded, one)
    other = one.copy()
    other[9, 9] *= np.float32(1 + 1e-6)
    assert differs(other, one)
    other = one.copy()
    other[0, 0] = scale * 1e-6
    assert differs(other, one)


def test_an_older_store_keeps_its_rule(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = spec_of(write_spec, tmp_path, {"transform": "networks:unchanged"})
    seen = prepare(spec, Plain(spec), volume_of(None), applies="present")
    assert seen.applicable[:, 1].tolist() == [True, True, False, True]
    assert not seen.unchanged.any()


@pytest.mark.parametrize("strength", [1e-9, 0.01, 0.5])
def test_a_share_of_pixels_or_code_of_ones_own_is_not_known_before(strength: float) -> None:
    assert not conditions.without_effect("shuffle", strength)
    assert not conditions.without_effect("mine:blur", 0.0)


# A whole store


#: In the order of the store: nowhere, in some slices, in all; and RV.
SHUFFLES = ["shuffle(LV, 0.0005)", "shuffle(LV, 0.005)", "shuffle(LV, 1)"]
DARK = "brightness(RV, 0.1)"


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Summary:
    """Five patients; of three shuffles one changes nothing, one only large masks; one layer is 0 everywhere."""
    folder = tmp_path_factory.mktemp("unchanged")
    write_phantom(folder / "data", patients=5, seed=3)
    spec = write_spec(
        folder,
        data__root=folder / "data",
        model={"factory": "networks:dead", "layers": ["type:InstanceNorm2d", "dead"]},
        perturb=[
            {"transform": "shuffle", "targets": ["LV"], "strengths": [0.0005, 0.005, 1.0]},
            {"transform": "brightness", "targets": ["RV"], "strengths": [0.1]},
        ],
        controls={"region": True, "noise": True},
    )
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return summary


@pytest.fixture(scope="module")
def store(captured: Summary) -> Store:
    return actstore.open(captured.store)


@pytest.fixture(scope="module")
def findings(store: Store) -> Findings:
    return Findings(store, resamples=200)


def held_by(store: Store, target: str) -> NDArray[np.bool_]:
    return np.asarray((store.label == store.classes[target]).any(("y", "x")).values)


def test_applicable_is_where_the_stored_inputs_differ(store: Store) -> None:
    images, applicable = store.image.values, store.applicable.values
    for c, (name, row) in enumerate(store.conditions.iterrows()):
        if not row["target"]:
            assert applicable[:, c].all()
            continue
        for s in np.flatnonzero(applicable[:, c]):
            assert (images[s, c] != images[s, 0]).any(), name
    assert np.isnan(images[~applicable]).all()
    counts = dict(zip(store.conditions.index, applicable.sum(axis=0).tolist(), strict=True))
    lv = int(held_by(store, "LV").sum())
    assert counts[SHUFFLES[0]] == counts["shuffle(LV, 0.0005, control)"] == 0
    assert 0 < counts[SHUFFLES[1]] < counts[SHUFFLES[2]] <= lv
    assert counts[DARK] == held_by(store, "RV").sum()


def test_no_pass_is_made_for_what_does_not_apply(captured: Summary, store: Store) -> None:
    assert captured.inferred == store.applicable.values.sum()
    confusion = store.confusion.values
    assert (confusion.sum(axis=(2, 3)) > 0).tolist() == store.applicable.values.tolist()


def test_the_summary_counts_what_stayed_the_same(captured: Summary, store: Store) -> None:
    lv, applies = held_by(store, "LV"), store.applicable.values
    found = {one.condition: one for one in captured.unchanged}
    for c, name in enumerate(SHUFFLES[:2], start=1):
        assert found[name] == Unchanged(name, "LV", False, int((lv & ~applies[:, c]).sum()), int(lv.sum()))
    assert DARK not in found
    control = found["shuffle(LV, 0.0005, control)"]
    assert control.is_control
    assert control.samples == control.held <= lv.sum()
    assert [one for one in captured.unchanged if not one.is_control] == list(of_store(store))


def test_reports_of_nothing_count_nothing() -> None:
    assert of_blocks((), []) == ()


def test_capture_and_status_say_it(captured: Summary, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    text.show_summary(captured)
    told = capsys.readouterr().err
    n = int(held_by(store, "LV").sum())
    line = f"unchanged: shuffle(LV, 0.0005) changed no pixel in {n} of {n} samples with LV: not applicable there"
    assert line in told.splitlines()
    assert "unchanged: shuffle(LV, 0.0005, control) changed no pixel in" in told
    assert "samples with a control region of LV: not applicable there" in told
    assert "of this run" not in told
    text.show_status(store)
    told = capsys.readouterr().out
    assert line in told.splitlines()
    assert "nowhere: shuffle(LV, 0.0005) applies to no sample: the perturbation changed no pixel of any" in told
    assert "nowhere: shuffle(LV, 0.0005, control) applies to no sample: they have no place for a control of LV" in told


def test_a_continued_capture_counts_this_run_alone(
    captured: Summary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(captured.store, tmp_path / "copy.zarr"))
    first = actstore.open(copy)
    lost = copy / first.layout.capture.record.key(first.layout.blocks - 1)
    lost.unlink()
    spec = load_spec(Path(captured.store).parent / "spec.toml")
    again = capture(spec, store=copy, cluster="inline", device="cpu")
    assert again.done == 1
    of = first.samples["block"].to_numpy() == first.layout.blocks - 1
    assert {one.condition: one.held for one in again.unchanged}[SHUFFLES[0]] == (held_by(first, "LV") & of).sum()
    text.show_summary(again)
    told = capsys.readouterr().err
    assert f"unchanged counts the 1 volume of this run: `actstore status {copy}` counts all" in told
    assert actstore.open(copy).applicable.values.tolist() == first.applicable.values.tolist()
    nothing = capture(spec, store=copy, cluster="inline", device="cpu")
    assert nothing.unchanged == ()


#: Of the store's conditions, those that are applicable nowhere.
GONE = (SHUFFLES[0], "shuffle(LV, 0.0005, control)")
DEAD = "L01"
#: Tables but for those of what other jobs add, and of classifiers.
OF_A_CAPTURE = [
    name
    for name, table in TABLES.items()
    if not {"optima", "explanations", "interventions", "classes"} & {*table.needs}
]


def test_the_dead_layer_is_one(store: Store) -> None:
    assert store.layers.loc[DEAD, "module"] == "dead"
    assert not store[DEAD].isel(condition=0).any()


@pytest.mark.parametrize("metric", ["mad", "cosine"])
@pytest.mark.parametrize("name", OF_A_CAPTURE)
def test_no_table_ranks_what_did_not_change(store: Store, findings: Findings, name: str, metric: str) -> None:
    if metric != "mad":
        if name not in ("top-channels", "frequency", "certainty", "stability", "heterogeneity", "leave-one-out"):
            return
        findings = Findings(store, resamples=50, metric=metric)
    table = findings.table(name)
    assert len(table)
    if "condition" in table and name not in ("certainty", "stability", "sensitivity", "heterogeneity", "layers"):
        rows = table[table["condition"].isin(GONE)]
        numbers = rows.select_dtypes("number").drop(columns=["channel", "strength"], errors="ignore")
        assert not numbers.fillna(0).to_numpy().any() or name in (
            "mad",
            "regions",
            "relative",
            "controls",
            "association",
        )
    dead = table[table["layer"] == DEAD] if "layer" in table else table.head(0)
    if name in ("top-channels", "frequency", "comparison"):
        assert dead.empty
        assert not table["condition"].isin(GONE).any() if "condition" in table else True
    for column in ("count", "frequency"):
        if column in dead:
            assert not dead[column].fillna(0).any()
    if name == "top-channels":
        assert (table["mad"] > 0).all()
        repeats = table[table["condition"].str.startswith("repeat")]
        assert (repeats["mad"] > 0).all()
    if name == "certainty":
        alive = table[(table["layer"] != DEAD) & (table["condition"] == SHUFFLES[1])]
        applies = int(store.applicable.sel(condition=SHUFFLES[1]).sum())
        assert (alive["samples"] == applies).all(), "n stays the number of applicable samples"
        assert (dead.loc[dead["condition"] == SHUFFLES[2], "samples"] > 0).all()
    if name == "stability":
        assert dead["overlap"].isna().all()
        few = "0 patients: too few for an interval"
        assert set(dead["note"]) == {few, "no channel is ever among the top"}
        assert (dead.loc[dead["note"] == few, "condition"] == SHUFFLES[0]).all()
    if name == "association":
        assert dead["frequency_rank"].isna().all()


def test_a_sample_in_which_no_channel_changed_is_still_counted(store: Store, findings: Findings) -> None:
    top = findings.table("top-channels")
    rows = top[top["condition"] == DARK].groupby(["patient", "frame", "slice", "layer"], observed=True).size()
    assert set(rows.index.get_level_values("layer")) == set(store.layers.index) - {DEAD}
    shared = actstore.analysis.shared_channels(findings.member, applicable=findings.applicable)
    assert int(shared["samples"].sel(target="RV")) == held_by(store, "RV").sum()


def test_a_curve_keeps_its_samples_where_a_strength_changed_nothing(store: Store, findings: Findings) -> None:
    dose = findings.table("dose")
    own = dose[dose["class_name"] == "LV"].set_index("strength")
    assert own["samples"].nunique() == 1
    assert own.loc[0.0005, "dice"] == pytest.approx(own.loc[0.0, "dice"], rel=1e-12)
    curve = actstore.analysis.by_strength(findings.network["mad"], "shuffle", "LV", applicable=findings.applicable)
    assert (curve.sel(strength=0.0005).dropna("sample") == 0).all()
    bare = actstore.analysis.by_strength(findings.network["mad"], "shuffle", "LV")
    assert bare.sel(strength=0.0005).isnull().all()


def test_the_report_says_what_changed_nothing(store: Store, findings: Findings) -> None:
    study = Study(store, findings)
    sections = {key: make(study) for key, make in sections_of(store).items()}
    n = int(held_by(store, "LV").sum())
    said = f"{SHUFFLES[0]} changed no pixel in {n} of {n} samples with LV: not applicable there."
    assert said in sections["images"].words
    assert f"{SHUFFLES[0]} applies to no slice: the perturbation changed no pixel of any." in sections["images"].words
    quiet, *others = sections["channels"].findings
    assert quiet.startswith(f"In {DEAD}, no channel changed under any perturbation")
    assert not any(f"of {DEAD}" in finding for finding in others)
    for key in ("channels", "certainty", "association", "layers", "patients"):
        for figure in sections[key].figures:
            assert figure.draw() is not None
    for section in sections.values():
        assert section.figures or section.missing
        assert not re.search(r"\bnan\b", " ".join([*section.words, *section.findings, *section.missing]))


def test_views_say_why_a_condition_does_not_apply(store: Store) -> None:
    sample = int(np.flatnonzero(held_by(store, "LV"))[0])
    with pytest.raises(StoreError, match=r"does not apply to sample .*: the perturbation changed no pixel; there are"):
        views.inputs(store, sample, SHUFFLES[0])
    with pytest.raises(StoreError, match=r"applies to no sample: the perturbation changed no pixel of any; there are"):
        views.inputs(store, condition=SHUFFLES[0])
    with pytest.raises(StoreError, match=rf"channel 0 of {DEAD} does not change under {re.escape(DARK)}"):
        views.strongest(store, DEAD, 0, DARK)
    for figure in (
        views.network(store, condition=DARK),
        views.network(store, condition=DARK, colour="frequency"),
        views.mad_by_patient(store, DEAD, 0, DARK),
        views.channel_dose(store, DEAD, 0, SHUFFLES[2]),
        views.frequency(store, by="condition"),
    ):
        assert figure is not None


def test_nothing_that_applies_anywhere(
    tmp_path: Path, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    perturb_ = [{"transform": "networks:unchanged", "targets": ["LV"], "strengths": [0.5]}]
    path = write_spec(tmp_path, data__patients=["patient001"], perturb=perturb_)
    summary = capture(load_spec(path), cluster="inline", device="cpu")
    assert summary.complete
    assert summary.inferred == summary.samples
    store = actstore.open(summary.store)
    assert nowhere(store) == [("networks:unchanged(LV, 0.5)", "the perturbation changed no pixel of any")]
    findings = Findings(store, resamples=50)
    assert findings.table("frequency").empty
    assert findings.table("top-channels").empty
    words = plain(undrawn_report(store, tmp_path / "report.html", findings, built=True).read_text(encoding="utf-8"))
    assert "No perturbation changed what the network sees of a slice with its class." in words
    assert "responds most steadily" not in words
    assert not re.search(r"\bnan\b", words)
    assert isinstance(findings.table("dice"), pd.DataFrame)


def test_a_store_that_an_older_version_began_is_continued_under_its_rule(
    tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    perturb_ = [{"transform": "networks:unchanged", "targets": ["LV"], "strengths": [0.5]}]
    spec = load_spec(
        write_spec(tmp_path, data__patients=["patient001"], perturb=perturb_, store={"path": "a", "keep": "statistics"})
    )
    with monkeypatch.context() as patched:
        older = {k: v for k, v in attributes(make_plan(spec, device="cpu", timing=False)).items() if k != "applies"}
        patched.setattr("actstore.jobs.creation.attributes", lambda plan: older)
        ensure_store(make_plan(spec, device="cpu", timing=False))
    summary = capture(spec, cluster="inline", device="cpu")
    assert summary.complete
    assert summary.unchanged == ()
    store = actstore.open(summary.store)
    there = store.confusion.isel(condition=0).sel(true_class="LV").sum("predicted_class").values > 0
    assert there.any()
    np.testing.assert_array_equal(store.applicable.values[:, 1], there)
    assert Findings(store, resamples=50).table("top-channels").empty, "no rank, though it applies"
    text.show_status(store)
    assert "applicable: wherever the class is, as an older version had it" in capsys.readouterr().out
