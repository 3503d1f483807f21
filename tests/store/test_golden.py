"""Stores of older schemas open, and give the tables, arrays and figures that they gave to the code of their day.

``tests/golden/make.py`` says which commits wrote and read them. What is expected of the store of schema 2 is what
commit 474ee7e, the last that wrote schema 3, read from it: the code of schema 2 knew five tables only, with fewer
columns.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import views
from actstore.errors import DamageError, StoreError
from actstore.jobs.reduce import reduce_store
from actstore.store.opening import MissingBlocksWarning
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.tables.build import write_csv
from actstore.tables.catalogue import Unanswerable
from actstore.tables.findings import Findings
from actstore.views.figures.groups import patient_shares
from actstore.views.figures.theme import class_colours
from golden import make
from stores import files_of

ARCHIVES = Path(make.__file__).parent
SCHEMAS = {"schema2": 2, "schema3": 3}
#: Tables that a store cannot have.
UNANSWERED = {
    "schema2": {"controls", "noise", "dose", "dose-half", "dose-channels", "dose-cases"},
    "schema3": set[str](),
}
DARK_LV = {"schema2": "brightness(LV, 0.1)", "schema3": "brightness(LV, 0.4)"}


def opened(path: Path) -> Store:
    """The store; what is missing is asserted elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingBlocksWarning)
        return actstore.open(path)


@dataclass(frozen=True)
class Golden:
    """An unpacked archive. Not to be changed: ``copy`` is."""

    name: str
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "store.zarr"

    @cached_property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "facts.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def tables(self) -> dict[str, str]:
        """The text of each table by its name."""
        paths = sorted((self.folder / "tables").iterdir())
        return {path.stem: path.read_text(encoding="utf-8") for path in paths}

    @cached_property
    def store(self) -> Store:
        return opened(self.path)

    @cached_property
    def findings(self) -> Findings:
        return Findings(self.store)

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.path, folder / self.path.name))


def unpacked(name: str, folder: Path) -> Golden:
    with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
        # Python 3.11.4 brought filters.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return Golden(name, folder)


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Golden]:
    return {name: unpacked(name, tmp_path_factory.mktemp(name)) for name in SCHEMAS}


@pytest.fixture(params=SCHEMAS)
def golden(request: pytest.FixtureRequest, every: dict[str, Golden]) -> Golden:
    return every[request.param]


def test_a_store_says_of_itself_what_it_said(golden: Golden) -> None:
    found = json.loads(json.dumps(make.facts(golden.store)))
    expected = {key: value for key, value in golden.facts.items() if key != "refused"}
    assert found.pop("arrays") == expected.pop("arrays")
    assert found == expected
    assert found["schema"] == SCHEMAS[golden.name]


def test_a_volume_that_was_never_committed_is_missing(every: dict[str, Golden]) -> None:
    with pytest.warns(MissingBlocksWarning, match=r"1 of 6 volumes are missing \(patient003 frame 11\)"):
        store = actstore.open(every["schema2"].path)
    assert store.missing == ["patient003 frame 11"]


#: Tables made of tensors.
OF_TENSORS = {"regions"}


def difference(name: str, found: pd.DataFrame, expected: str) -> str:
    """The first cell in which the table ``name`` differs from an older one's text, "" for none.

    Floats may differ in their last digits, in which processors do too; those of `OF_TENSORS` are sums in float32, which
    each release of a library orders in its own way.
    """
    relative = 1e-6 if name in OF_TENSORS else 1e-12
    written = io.BytesIO()
    write_csv(found, written)
    mine, theirs = (list(csv.reader(io.StringIO(text))) for text in (written.getvalue().decode(), expected))
    if mine[0] != theirs[0]:
        return f"columns {mine[0]} instead of {theirs[0]}"
    if len(mine) != len(theirs):
        return f"{len(mine) - 1} rows instead of {len(theirs) - 1}"
    floats = [pd.api.types.is_float_dtype(found[column]) for column in mine[0]]
    for i, (row, other) in enumerate(zip(mine, theirs, strict=True)):
        for column, is_float, a, b in zip(mine[0], floats, row, other, strict=True):
            if a != b and not (is_float and a and b and np.isclose(float(a), float(b), rtol=relative, atol=1e-14)):
                return f"{column} of row {i - 1}: {a} instead of {b}"
    return ""


def test_tables_are_the_same(golden: Golden) -> None:
    assert len(golden.tables) == 26 - len(UNANSWERED[golden.name])
    found = {name: difference(name, golden.findings.table(name), text) for name, text in golden.tables.items()}
    assert {name: text for name, text in found.items() if text} == {}


@pytest.mark.slow
def test_tables_need_only_the_statistics_that_old_stores_persisted(golden: Golden) -> None:
    """As of a store that keeps no tensors: what these schemas did not persist could not be had."""
    store = opened(golden.path)
    layers = tuple(replace(layer, kept=False) for layer in store.layout.layers)
    store.layout = replace(store.layout, layers=layers)
    wanted = golden.tables.keys() - OF_TENSORS - {"layers"}  # which counts bytes of tensors
    findings = Findings(store)
    found = {name: difference(name, findings.table(name), golden.tables[name]) for name in wanted}
    assert {name: text for name, text in found.items() if text} == {}


def test_what_could_not_be_answered_cannot_be_answered(golden: Golden) -> None:
    assert {*golden.facts["refused"]} == UNANSWERED[golden.name]
    for name, why in golden.facts["refused"].items():
        with pytest.raises(Unanswerable) as refused:
            golden.findings.table(name)
        assert str(refused.value) == why


def test_an_altered_cell_is_seen() -> None:
    table = pd.DataFrame({"layer": ["L01", "L02"], "rank": [1, 2], "mad": [0.1, np.nan]})
    text = "layer,rank,mad\nL01,1,0.1\nL02,2,\n"
    assert difference("mad", table, text) == ""
    assert difference("mad", table, text.replace("0.1", "0.10000000000000002")) == ""
    assert difference("mad", table, text.replace("0.1", "0.1000000001")) == "mad of row 0: 0.1 instead of 0.1000000001"
    assert difference("mad", table, text.replace("L02,2,", "L02,2,0.0")) == "mad of row 1:  instead of 0.0"
    assert difference("mad", table, text.replace("1,0", "3,0")) == "rank of row 0: 1 instead of 3"


Draw = Callable[[Store, str, Mapping[str, pd.DataFrame]], Any]
#: Every figure, of a store, a condition and tables by name, with the tables that it needs.
FIGURES: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "activation": (lambda s, c, t: views.activation(s, "L02", 1, condition=c), ()),
    "association": (lambda s, c, t: views.association(t["association"]), ("association",)),
    "confusion": (lambda s, c, t: views.confusion(t["confusion"]), ("confusion",)),
    "cases": (lambda s, c, t: views.cases(s), ()),
    "certainty": (lambda s, c, t: views.certainty(t["certainty"]), ("certainty",)),
    "channel_dose": (lambda s, c, t: views.channel_dose(s, "L02", 1, c), ("dose",)),
    "comparison": (
        lambda s, c, t: views.comparison(t["comparison"], class_colours(s.class_names), dict(s.layers["channels"])),
        ("comparison",),
    ),
    "controls": (lambda s, c, t: views.controls(t["controls"]), ("controls",)),
    "cube": (
        lambda s, c, t: views.cube(s, "L02", samples=[1], conditions=[c], channels=[0, 1], dynamic=False),
        (),
    ),
    "dice": (lambda s, c, t: views.dice(s), ()),
    "dice_by_patient": (lambda s, c, t: views.dice_by_patient(s), ()),
    "dice_by_position": (lambda s, c, t: views.dice_by_position(s), ()),
    "dice_change": (lambda s, c, t: views.dice_change(s), ()),
    "dice_cumulative": (lambda s, c, t: views.dice_cumulative(s), ()),
    "dice_paired": (lambda s, c, t: views.dice_paired(s, c), ()),
    "dose": (
        lambda s, c, t: views.dose(t["dose"], t["dose-half"], class_colours(s.class_names)),
        ("dose", "dose-half"),
    ),
    "dose_cases": (lambda s, c, t: views.dose_cases(t["dose-cases"], class_colours(s.class_names)), ("dose-cases",)),
    "dose_channels": (
        lambda s, c, t: views.dose_channels(t["dose-channels"], list(s.layers.index)),
        ("dose-channels",),
    ),
    "frequency": (lambda s, c, t: views.frequency(s), ()),
    "gallery": (lambda s, c, t: views.gallery(s, str(s.cases.values[s.cases.values != ""][0]), examples=1), ()),
    "general_specific": (lambda s, c, t: views.general_specific(t["general-specific"]), ("general-specific",)),
    "heterogeneity": (
        lambda s, c, t: views.heterogeneity(t["heterogeneity"], patient_shares(s, t["heterogeneity"])),
        ("heterogeneity",),
    ),
    "inputs": (lambda s, c, t: views.inputs(s, condition=c), ()),
    "layers": (lambda s, c, t: views.layers(t["layers"]), ("layers",)),
    "leave_one_out": (lambda s, c, t: views.leave_one_out(t["leave-one-out"]), ("leave-one-out",)),
    "mad_by_layer": (lambda s, c, t: views.mad_by_layer(s), ()),
    "mad_by_patient": (lambda s, c, t: views.mad_by_patient(s, "L02", 1, c), ()),
    "network": (lambda s, c, t: views.network(s), ()),
    "neighbours": (lambda s, c, t: views.neighbours(s, "L02", [0], nearest=1), ()),
    "noise": (lambda s, c, t: views.noise(t["noise"], t["layers"]), ("noise", "layers")),
    "projection": (lambda s, c, t: views.projection(t["projection"]), ("projection",)),
    "regions": (lambda s, c, t: views.regions(t["regions"], class_colours(s.class_names)), ("regions",)),
    "sensitivity": (lambda s, c, t: views.sensitivity(t["sensitivity"]), ("sensitivity",)),
    "similarity": (lambda s, c, t: views.similarity(t["similarity"]), ("similarity",)),
    "stability": (lambda s, c, t: views.stability(t["stability"]), ("stability",)),
    "strongest": (lambda s, c, t: views.strongest(s, "L02", 1, c, most=2), ()),
}


#: Figures of what further jobs add, of later captures, and of histograms of scores, which these stores have not.
OF_GROUPS = ("optima", "optimum", "explanation", "projections", "focus", "deletion", "randomisation", "filters",
             "effects", "rankings", "agreement", "cumulative", "areas")  # fmt: skip
#: Of classifiers, which came later too.
OF_CLASSES = ("accuracy", "classified")
OF_SCORES = ("roc", "precision_recall", "calibration")


def test_every_figure_is_among_them() -> None:
    later = {"save", *OF_GROUPS, *OF_CLASSES, *OF_SCORES}
    assert {*FIGURES} == {*views.__all__} - later, "of a group that came later"


@pytest.mark.parametrize("table", ["curves", "roc", "precision-recall", "calibration"])
def test_curves_say_what_is_missing(golden: Golden, table: str) -> None:
    with pytest.raises(Unanswerable, match=r"has no histograms of scores, .*: it was begun before there were any"):
        golden.findings.table(table)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figure"),
    [(name, figure) for name in SCHEMAS for figure in FIGURES if not {*FIGURES[figure][1]} & UNANSWERED[name]],
)
def test_a_figure_is_built(name: str, figure: str, every: dict[str, Golden]) -> None:
    golden, (draw, needed) = every[name], FIGURES[figure]
    tables = {table: golden.findings.table(table) for table in needed}
    assert draw(golden.store, DARK_LV[name], tables).traverse(lambda part: part, [hv.Element])


def expected_of(golden: Golden, table: str, **cells: str | int) -> pd.DataFrame:
    """Rows of an expected table that have these cells."""
    rows = pd.read_csv(io.StringIO(golden.tables[table]))
    for column, value in cells.items():
        rows = rows[rows[column] == value]
    return rows


def points(figure: Any) -> list[pd.DataFrame]:
    """What each scatter of a figure shows."""
    return [element.dframe() for element in figure.traverse(lambda part: part, [hv.Points])]


SLICE = ["patient", "frame", "slice"]


def test_a_figure_of_dice_shows_the_expected_table(golden: Golden) -> None:
    condition = DARK_LV[golden.name]
    shown = points(views.dice_paired(golden.store, condition))
    for name, dots in zip(golden.store.class_names[1:], shown, strict=True):
        for column, where in (("original", "original"), ("perturbed", condition)):
            expected = expected_of(golden, "dice", condition=where, class_name=name).set_index(SLICE)["dice"]
            found = dots.set_index(SLICE)[column]
            assert len(found)
            np.testing.assert_allclose(found, expected.loc[found.index], rtol=1e-12)


def test_a_figure_of_one_channel_shows_the_expected_table(golden: Golden) -> None:
    condition = DARK_LV[golden.name]
    (dots,) = points(views.mad_by_patient(golden.store, "L02", 5, condition))
    rows = expected_of(golden, "mad", layer="L02", channel=5, condition=condition)
    expected, found = (table.set_index(SLICE).sort_index() for table in (rows, dots))
    assert found.index.equals(expected.index)
    np.testing.assert_allclose(found["MAD"], expected["mad"], rtol=1e-12)


def test_a_figure_of_layers_shows_the_expected_table(golden: Golden) -> None:
    condition = DARK_LV[golden.name]
    curves = views.layers(golden.findings.table("layers")).traverse(lambda part: part, [hv.Curve])
    (shown,) = (curve.dframe()["y"] for curve in curves[:1] if curve.label == condition)
    expected = expected_of(golden, "layers", condition=condition)["mad"]
    np.testing.assert_allclose(shown, expected, rtol=1e-12)


def test_a_map_shows_what_the_store_holds(golden: Golden) -> None:
    condition, store = DARK_LV[golden.name], golden.store
    panels = views.activation(store, "L02", 3, 1, condition)
    for where, panel in zip(("original", condition), panels, strict=False):
        expected = store.map("L02", 1, where, 3)
        assert np.array_equal(expected, store["L02"].isel(sample=1, channel=3).sel(condition=where).values)
        assert np.array_equal(panel.get(0).dimension_values("value", flat=False), expected)


def test_nothing_is_damaged(golden: Golden) -> None:
    found = verify(golden.path)
    assert [str(damage) for damage in found.damage] == [
        f"{volume}: committed/c.5: is missing: the volume is not committed" for volume in golden.facts["missing"]
    ]
    assert found.whole is (golden.name == "schema3")


def test_a_flipped_bit_of_an_activation_is_found(golden: Golden, tmp_path: Path) -> None:
    root, key = golden.copy(tmp_path), "layers/L01/activation/c.0.0.0.0.0"
    content = bytearray((root / key).read_bytes())
    content[10] ^= 1
    (root / key).write_bytes(content)
    assert key in {damage.key for damage in verify(root).damage}
    with pytest.raises(DamageError, match="wrong checksum"):
        opened(root).map("L01", 0, 0, 0)


def test_a_missing_statistic_is_found(golden: Golden, tmp_path: Path) -> None:
    root, key = golden.copy(tmp_path), "statistics/L02/mad/c.1.0.0"
    (root / key).unlink()
    (damage,) = (found for found in verify(root).damage if found.block == 1)
    assert (damage.kind, damage.key) == ("statistics", key)


def test_statistics_are_restored(golden: Golden, tmp_path: Path) -> None:
    """To the last bits in which processors differ, and bit by bit where the same one takes them again."""
    root = golden.copy(tmp_path)
    before = files_of(root)
    statistics = {key for key in before if key.startswith("statistics/")}
    for key in statistics:
        (root / key).unlink()
    assert reduce_store(opened(root)) == golden.store.samples["block"].nunique()
    after = files_of(root)
    assert after.keys() == before.keys()
    assert {key for key in before if after[key] != before[key]} <= statistics
    store = opened(root)
    for layer in store.layers.index:
        found = store.statistics(layer, persisted=True).compute()
        for name, expected in golden.store.statistics(layer, persisted=True).compute().items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7, err_msg=f"{layer} {name}")
    (root / "statistics/L01/mse/c.2.0.0").unlink()
    assert reduce_store(opened(root)) == 1
    assert files_of(root) == after


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if schema != SCHEMA_VERSION])
def test_a_store_of_an_older_schema_is_not_continued(name: str, every: dict[str, Golden], tmp_path: Path) -> None:
    root = every[name].copy(tmp_path)
    before = files_of(root)
    spec = actstore.load_spec(make.write_spec(name, tmp_path / "run"))
    with pytest.raises(StoreError, match=f"has schema {SCHEMAS[name]}, .*choose another store path"):
        actstore.capture(spec, store=root, cluster="inline", device="cpu")
    assert files_of(root) == before
