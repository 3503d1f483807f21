"""Captures whose perturbations differ in nothing but their input channels: each told apart, against plain NumPy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import actstore
from actstore import analysis, views
from actstore.analysis.evidence import families
from actstore.conditions import CONTROL
from actstore.data.phantom.channels import CHANNELS, write_channels
from actstore.errors import StoreError
from actstore.jobs.blocks import condition_coordinates
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.tables.catalogue import TABLES
from actstore.tables.findings import Findings
from actstore.views.explorer.sidebar import Sidebar, sorts
from actstore.views.explorer.source import Source
from actstore.views.figures.doses import with_half_lost
from actstore.views.figures.network_colours import control_of
from actstore.views.figures.selection import picture, shown_conditions
from actstore.views.figures.sweeps import sweep_of
from actstore.views.report.sections.order import sections_of
from actstore.views.report.study import Study
from conftest import Once, WriteSpec

pytestmark = pytest.mark.slow

PATIENTS = 5
STRENGTHS = [0.1, 0.4, 0.7]
MRI, CT, BOTH = choices = ("MRI", "CT", "")
CHOSEN: dict[str, list[list[str] | None]] = {MRI: [["MRI"]], "plain": [None], "every": [["MRI"], ["CT"], None]}
#: Tables that take conditions together, whatever tells them apart, or have none.
POOLED = ("comparison", "projection", "neighbours")
#: All but of what other jobs add to a store, and of classifiers.
OTHERS = {"optima", "explanations", "interventions", "classes"}
ANSWERED = [name for name, table in TABLES.items() if name not in POOLED and not OTHERS & {*table.needs}]


@pytest.fixture(scope="module")
def root(once: Once) -> Path:
    """Of each patient the first frame alone."""

    def fill(folder: Path) -> None:
        write_channels(folder / "data", patients=PATIENTS, seed=3)
        for file in (folder / "data").rglob("*_frame*"):
            if "_frame01" not in file.name:
                file.unlink()

    return once("channels_data", fill) / "data"


@pytest.fixture(scope="module")
def stores(once: Once, root: Path, write_spec: WriteSpec) -> Callable[[str], Store]:
    """Opens one store of all choices of input channels, or of one choice; captured when first asked for."""

    def fill(folder: Path, chosen: list[list[str] | None]) -> None:
        perturb = [
            {"transform": "brightness", "targets": ["LV"], "strengths": STRENGTHS}
            | ({"channels": names} if names else {})
            for names in chosen
        ]
        spec = write_spec(
            folder,
            data__format="nnunet",
            data__root=str(root),
            model__arguments={"inputs": 2},
            controls={"region": True, "noise": True},
            perturb=perturb,
        )
        assert capture(load_spec(spec), cluster="inline", device="cpu").complete

    @cache
    def opened(name: str) -> Store:
        return actstore.open(once(f"channels_{name}", lambda folder: fill(folder, CHOSEN[name])) / "tiny.zarr")

    return opened


@pytest.fixture(scope="module")
def store(stores: Callable[[str], Store]) -> Store:
    return stores("every")


@pytest.fixture(scope="module")
def findings(store: Store) -> Findings:
    return Findings(store, resamples=100)


@pytest.fixture(scope="module")
def study(store: Store, findings: Findings) -> Study:
    return Study(store, findings)


def of(store: Store, channels: str, region: str = "target") -> list[int]:
    """The numbers of the perturbations of those input channels, by strength."""
    conditions = store.conditions.reset_index()
    own = conditions[(conditions["channels"] == channels) & (conditions["region"] == region)]
    return own.sort_values("strength").index.tolist()


def title_of(element: Any) -> str:
    return str(element.opts.get("plot", backend="matplotlib").kwargs["title"])


class TestStore:
    def test_conditions_name_their_channels(self, store: Store) -> None:
        conditions = store.conditions
        assert conditions.columns.tolist() == [
            *("transform", "target", "strength", "perturbation_source", "region", "channels")
        ]
        assert {choice: len(of(store, choice)) for choice in choices} == dict.fromkeys(choices, 3)
        assert conditions.loc["brightness(LV, 0.1, channels=CT)", "channels"] == "CT"
        assert conditions.loc["brightness(LV, 0.1, channels=CT, control)", "channels"] == "CT"
        assert conditions.loc[["original", "brightness(LV, 0.1)", "repeat"], "channels"].tolist() == ["", "", ""]
        assert store.confusion.coords["channels"].dims == ("condition",)

    @pytest.mark.slow
    def test_only_where_they_are_chosen(self, stores: Callable[[str], Store]) -> None:
        plain = stores("plain")
        assert "channels" not in plain.conditions
        assert "channels" not in plain.confusion.coords
        assert not (Path(str(plain.path)) / "channels").exists()
        assert set(stores(MRI).conditions["channels"]) == {"", "MRI"}

    def test_verified_and_needed(self, store: Store, tmp_path: Path) -> None:
        assert not verify(store.path).damage
        copy = Path(shutil.copytree(str(store.path), tmp_path / "copy.zarr"))
        (chunk,) = (copy / "channels").glob("c.*")
        chunk.unlink()
        assert [damage.key for damage in verify(copy).damage] == [chunk.relative_to(copy).as_posix()]
        with pytest.raises(
            StoreError, match=r"its coordinates cannot be read \(FileNotFoundError: no chunk of channels\)"
        ):
            actstore.open(copy)

    def test_channels_lie_in_the_order_of_the_network(self, root: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
        three = ("T1", "T2", "FLAIR")
        written = [["FLAIR", "T1"], ["T1", "FLAIR"]]
        for i, names in enumerate(written):
            spec = load_spec(
                write_spec(
                    tmp_path,
                    data__format="nnunet",
                    data__root=str(root),
                    data__channels=list(three),
                    perturb=[{"transform": "blur", "targets": ["LV"], "strengths": [1.0 + i], "channels": names}],
                )
            )
            assert condition_coordinates(spec.conditions, three)["channels"].tolist() == ["", "T1+FLAIR"]


class TestInputs:
    def test_differ_in_the_chosen_channel_alone(self, store: Store) -> None:
        image, label, applicable = store.image.values, store.label.values, store.applicable.values
        there = label == store.classes["LV"]
        compared = 0
        for choice, changed in ((MRI, [0]), (CT, [1]), (BOTH, [0, 1])):
            for c in of(store, choice):
                np.testing.assert_array_equal(applicable[:, c], there.any(axis=(1, 2)))
                for s in np.flatnonzero(applicable[:, c]):
                    differs = image[s, c] != image[s, 0]
                    assert [k for k in range(len(CHANNELS)) if differs[k].any()] == changed
                    compared += 1
        assert compared > 9 * PATIENTS

    def test_both_is_each_beside_the_other(self, store: Store) -> None:
        image, applicable = store.image.values, store.applicable.values
        for mri, ct, both in zip(*(of(store, choice) for choice in choices), strict=True):
            used = applicable[:, both]
            np.testing.assert_array_equal(image[used, both, 0], image[used, mri, 0])
            np.testing.assert_array_equal(image[used, both, 1], image[used, ct, 1])


@pytest.mark.slow
class TestTables:
    @pytest.mark.parametrize("name", ANSWERED)
    @pytest.mark.parametrize("choice", [MRI, BOTH])
    def test_rows_are_those_of_a_store_of_one_choice(
        self, stores: Callable[[str], Store], findings: Findings, name: str, choice: str
    ) -> None:
        alone = Findings(stores(choice or "plain"), resamples=100)
        expected = alone.table(name)
        table = findings.table(name)
        if name == "noise":
            pd.testing.assert_frame_equal(table, expected)
            return
        assert ("channels" in expected) == (choice == MRI)
        before = "strength" if "strength" in table else "target"
        assert table.columns[table.columns.get_loc(before) + 1] == "channels"
        assert set(table["channels"]) >= set(choices) - ({""} if name == "dose-cases" else set())
        found = table[table["channels"] == choice]
        if choice == MRI:
            # The original and its repeats name no channel.
            expected = expected[expected["channels"] == MRI]
        else:
            found = found.drop(columns="channels")
        assert len(found)
        for frame in (found, expected):
            for text in frame.select_dtypes("category"):
                frame.isetitem(frame.columns.get_loc(text), frame[text].astype(str))
        # A column of ranks is of integers only while no condition is untested.
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True), expected.reset_index(drop=True), rtol=1e-12, check_dtype=False
        )

    def test_dice_curves(self, store: Store, findings: Findings) -> None:
        """Three curves, each the mean over slices that contain the class."""
        table = findings.table("dose")
        counts = store.confusion.values
        k = store.classes["LV"]
        hits, true, predicted = counts[..., k, k], counts[..., k, :].sum(-1), counts[..., k].sum(-1)
        with np.errstate(invalid="ignore"):
            dice = 2 * hits / (true + predicted)
        used = store.applicable.values[:, of(store, BOTH)].any(axis=1)
        curves: dict[str, NDArray[np.float64]] = {}
        for choice in choices:
            own = table[(table["channels"] == choice) & (table["class_name"] == "LV")].sort_values("strength")
            assert own["strength"].tolist() == [*STRENGTHS, 1.0]
            np.testing.assert_allclose(own["dice"], dice[np.ix_(used, [*of(store, choice), 0])].mean(axis=0))
            curves[choice] = own["dice"].to_numpy()
        assert not np.array_equal(curves[MRI], curves[CT])
        assert not np.array_equal(curves[MRI], curves[BOTH])

    def test_mad(self, store: Store, findings: Findings) -> None:
        layer = store.layers.index[-1]
        maps = store[layer].values.astype(np.float64)
        mad = np.abs(maps - maps[:, :1]).mean(axis=(-2, -1))
        relative = findings.table("relative")
        for choice in choices:
            for c in of(store, choice):
                own = relative[(relative["layer"] == layer) & (relative["condition"] == store.conditions.index[c])]
                assert set(own["channels"]) == {choice}
                used = store.applicable.values[:, c]
                np.testing.assert_allclose(own["mad"], mad[used, c].mean(axis=0), rtol=1e-5)

    def test_controls_are_of_the_same_channels(self, store: Store, findings: Findings) -> None:
        table = findings.table("controls")
        layer = store.layers.index[-1]
        mad = store.statistics(layer)["mad"].values
        patients, applicable = store.samples["patient"].to_numpy(), store.applicable.values
        for choice in choices:
            for c, against in zip(of(store, choice), of(store, choice, CONTROL), strict=True):
                assert control_of(store.conditions, c) == [against]
                own = table[(table["layer"] == layer) & (table["condition"] == store.conditions.index[c])]
                used = applicable[:, c] & applicable[:, against]
                gap = mad[:, c] - mad[:, against]
                means = [gap[used & (patients == name)].mean(axis=0) for name in np.unique(patients[used])]
                np.testing.assert_allclose(own["difference"], np.mean(means, axis=0), rtol=1e-9)
        # Tests of each choice are corrected for their own number.
        number = families(store.confusion)
        assert len({number[c] for choice in choices for c in of(store, choice)}) == 3
        assert len({number[c] for c in of(store, MRI)}) == 1

    def test_frequency_by_channels(self, store: Store) -> None:
        table = Findings(store, by=["channels"]).table("frequency")
        assert table.columns.tolist() == ["layer", "condition", "target", "channels", "channel", "count", "rank"]
        layer = store.layers.index[0]
        top = analysis.top_channels(store.statistics(layer)["mad"], 1, applicable=store.applicable)
        pooled = analysis.channel_frequency(top, "channels")
        mad = store.statistics(layer)["mad"].values
        for choice in choices:
            first = np.concatenate([mad[store.applicable.values[:, c], c].argmax(-1) for c in of(store, choice)])
            expected = np.bincount(first, minlength=mad.shape[-1])
            np.testing.assert_array_equal(pooled["count"].sel(channels=choice), expected)
        described = analysis.channel_frequency(top)
        assert described["channels"].values.tolist() == store.conditions["channels"].tolist()[1:]

    def test_doses_are_told_apart(self, store: Store) -> None:
        dice = analysis.dice(store.confusion, applicable=store.applicable)
        assert analysis.doses(dice) == [("brightness", "LV", "", choice) for choice in choices]
        curve = analysis.by_strength(dice, "brightness", "LV", channels="CT")
        assert curve["channels"].item() == "CT"
        with pytest.raises(analysis.AnalysisError, match=r"no condition brightness\(LV, channels=PET\) that changes"):
            analysis.by_strength(dice, "brightness", "LV", channels="PET")


class TestViews:
    @pytest.mark.slow
    def test_report_names_the_channels(self, study: Study) -> None:
        assert len(shown_conditions(study.store)) == 3
        texts = {}
        for name, section in sections_of(study.store).items():
            made = section(study)
            texts[name] = " ".join(map(str, [*made.words, *made.findings]))
            for figure in made.figures:
                figure.draw()
        for channel in CHANNELS:
            assert any(f"% in {channel}" in text for text in texts.values())
            assert f"in {channel}; " in texts["dose"]
        assert "of each transform, class, source and choice of input channels" in " ".join(texts.values())

    @pytest.mark.slow
    def test_pictures_show_a_channel_that_changes(self, study: Study) -> None:
        store = study.store
        for choice, k in ((MRI, 0), (CT, 1), (BOTH, 0)):
            c = of(store, choice)[0]
            s = int(np.flatnonzero(store.applicable.values[:, c])[0])
            found = picture(store, s, [0, c])["image"]
            np.testing.assert_array_equal(found, store.image.values[s, [0, c], k])
            assert (found[0] != found[1]).any()
            plot = next(iter(views.inputs(store, s, store.conditions.index[c])))
            assert title_of(plot) == f"original · {CHANNELS[k]}"
        case = str(store.cases.values[s, of(store, CT)[0]])
        assert " · CT" in title_of(next(iter(views.gallery(store, case, store.conditions.index[of(store, CT)[0]]))))

    def test_dose_figures(self, findings: Findings) -> None:
        dose, half = findings.table("dose"), findings.table("dose-half")
        colours = {"RV": "#0072B2", "MYO": "#009E73", "LV": "#D55E00"}
        titles = [title_of(plot) for plot in views.dose(dose, half, colours)]
        assert titles == ["brightness(LV, channels=MRI)", "brightness(LV, channels=CT)", "brightness(LV)"]
        merged = with_half_lost(dose, half)
        assert len(merged) == len(dose)
        channels = views.dose_channels(findings.table("dose-channels"), list(findings.store.layers.index))
        assert [title_of(plot) for plot in channels][:2] == [
            "brightness(LV, channels=MRI), below 1",
            "brightness(LV, channels=CT), below 1",
        ]

    def test_lines_of_one_class_differ_in_colour(self, findings: Findings) -> None:
        plot = next(iter(views.layers(findings.table("layers"))))
        lines = {line.label: line for line in plot if isinstance(line, hv.Curve)}
        colours = [lines[f"brightness(LV, 0.1{end})"] for end in (", channels=MRI", ", channels=CT", "")]
        assert len({line.opts.get("style", backend="matplotlib").kwargs["color"] for line in colours}) == 3

    def test_curve_of_a_channel(self, store: Store) -> None:
        name = "brightness(LV, 0.4, channels=CT)"
        sweep = sweep_of(store.conditions, name)
        assert list(sweep.conditions) == of(store, "CT")
        assert "brightness(LV, channels=CT)" in title_of(
            views.channel_dose(store, store.layers.index[0], 0, condition=name)
        )

    def test_menus_of_the_explorer(self, store: Store) -> None:
        menu = sorts(store.conditions)
        assert not menu.duplicated().any()
        assert list(dict.fromkeys(menu["sort"])) == [
            *("brightness in MRI", "brightness in CT", "brightness"),
            *(f"brightness{end}, control region" for end in (" in MRI", " in CT", "")),
            *("repeat", "repeat(batch=1)"),
        ]

    def test_a_choice_in_the_menus_leads_to_its_condition(self, store: Store) -> None:
        gone: list[dict[str, Any]] = []
        source = Source(store)
        session: Any = SimpleNamespace(
            source=source, state=source.first_state("brightness(LV, 0.4)"), go=lambda **to: gone.append(to)
        )
        # Pictures show a channel that the condition changes, until another is chosen.
        assert source.input_channel(session.state) == 0
        assert source.input_channel(source.first_state("brightness(LV, 0.4, channels=CT)")) == 1
        assert source.input_channel(source.first_state("brightness(LV, 0.4, channels=CT, control)")) == 1
        chosen = source.first_state("brightness(LV, 0.4, channels=CT)").copy(input_channel=0)
        assert source.input_channel(chosen) == 0
        assert "input_channel=0" in chosen.query()
        sidebar = Sidebar(session)
        sidebar.update()
        assert (sidebar.sort.value, sidebar.strength.value) == ("brightness", "0.4")
        gone.clear()
        sidebar.sort.value = "brightness in CT"
        assert gone == [{"condition": "brightness(LV, 0.4, channels=CT)"}]
