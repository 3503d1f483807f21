"""Every figure on both backends, and what it shows against the store that it is made of."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

import actstore
from actstore import analysis, views
from actstore.errors import StoreError
from actstore.store.store import Store
from actstore.tables.findings import Findings
from actstore.views.figures import images, saving
from actstore.views.figures.channels import frequency_cells
from actstore.views.figures.groups import patient_shares, uneven
from actstore.views.figures.marks import swarm
from actstore.views.figures.pixels import contours
from actstore.views.figures.scales import of_inputs, of_maps
from actstore.views.figures.selection import chosen, paired_dice, shown_conditions, typical_sample
from actstore.views.figures.theme import PALETTE, class_colours, tint
from frames import made_up_tables
from reports import REPORTED

pytestmark = pytest.mark.slow

LAYERS = {"L01": 4, "L02": 9}
CLASSES = ("background", "RV", "MYO", "LV")
COLOURS = class_colours(CLASSES)
DARK_LV = "brightness(LV, 0.1)"


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return actstore.open(tiny_store)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return made_up_tables(LAYERS, ("LV", "RV"), CLASSES[1:], [f"patient{i:03d}" for i in range(1, 7)])


def sample_with(store: Store, condition: str, applies: bool = True) -> int:
    return int(np.flatnonzero(store.applicable.sel(condition=condition).values == applies)[0])


def expect_drawn(figure: Any, folder: Path) -> None:
    """Both backends draw the figure, and no setting stays behind."""
    current = hv.Store.current_backend
    expect_shown(figure)
    saving.save_images(figure, folder / "figure.png", folder / "figure.svg", dpi=50)
    assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (folder / "figure.svg").read_text()
    assert hv.Store.current_backend == current
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()


def expect_shown(figure: Any) -> None:
    """Bokeh draws the figure, and no setting stays behind."""
    current = hv.Store.current_backend
    assert hv.render(figure, backend="bokeh").references()
    assert hv.Store.current_backend == current


#: Those of `OF_A_STORE` that draw a table of it.
OF_ITS_TABLES = {"roc", "precision_recall", "calibration", "confusion"}
OF_A_STORE: dict[str, Callable[[Store], Any]] = {
    "inputs": views.inputs,
    "activation": lambda s: views.activation(s, s.layers.index[-1], 0, condition=DARK_LV),
    "cube": lambda s: views.cube(s, "L02", samples=[1], conditions=[DARK_LV], channels=[0, 1]),
    "cube at once": lambda s: views.cube(
        s, "L02", samples=[1], conditions=[DARK_LV], channels=[0, 1], show="change", dynamic=False
    ),
    "gallery": lambda s: views.gallery(s, str(s.cases.values[s.cases.values != ""][0]), examples=1),
    "dice": views.dice,
    "dice_change": lambda s: views.dice_change(s, [DARK_LV]),
    "dice_cumulative": lambda s: views.dice_cumulative(s, [DARK_LV]),
    "dice_by_patient": lambda s: views.dice_by_patient(s, [DARK_LV]),
    "dice_by_position": lambda s: views.dice_by_position(s, [DARK_LV]),
    "cases": views.cases,
    "roc": lambda s: views.roc(Findings(s).table("roc"), COLOURS),
    "precision_recall": lambda s: views.precision_recall(Findings(s).table("precision-recall")),
    "calibration": lambda s: views.calibration(Findings(s).table("calibration"), COLOURS),
    "confusion": lambda s: views.confusion(Findings(s).table("confusion")),
    "frequency": views.frequency,
    "frequency by case": lambda s: views.frequency(s, "case", most=2, groups=[s.cases.values[s.cases.values != ""][0]]),
    "network": lambda s: views.network(s, colour="frequency"),
    "mad_by_layer": views.mad_by_layer,
    "dice_paired": views.dice_paired,
    "strongest": lambda s: views.strongest(s, "L02", 1, most=2),
    "mad_by_patient": lambda s: views.mad_by_patient(s, "L02", 1),
    "neighbours": lambda s: views.neighbours(
        s, "L02", [(*s.samples.iloc[3][["patient", "frame", "slice"]],)], nearest=2
    ),
    "filters": views.filters,
}
OF_TABLES: dict[str, Callable[[dict[str, pd.DataFrame]], Any]] = {
    "layers": lambda t: views.layers(t["layers"], COLOURS),
    "comparison": lambda t: views.comparison(t["comparison"], COLOURS, LAYERS),
    "general_specific": lambda t: views.general_specific(t["general-specific"]),
    "certainty": lambda t: views.certainty(t["certainty"], COLOURS),
    "stability": lambda t: views.stability(t["stability"]),
    "sensitivity": lambda t: views.sensitivity(t["sensitivity"]),
    "leave_one_out": lambda t: views.leave_one_out(t["leave-one-out"]),
    "regions": lambda t: views.regions(t["regions"], COLOURS),
    "controls": lambda t: views.controls(t["controls"]),
    "noise": lambda t: views.noise(t["noise"], t["layers"]),
    "dose": lambda t: views.dose(t["dose"], t["dose-half"], COLOURS),
    "dose_channels": lambda t: views.dose_channels(t["dose-channels"], list(LAYERS)),
    "dose_cases": lambda t: views.dose_cases(t["dose-cases"], COLOURS),
    "association": lambda t: views.association(t["association"], COLOURS),
    "similarity": lambda t: views.similarity(t["similarity"], COLOURS, by="rsa"),
    "projection": lambda t: views.projection(t["projection"], COLOURS),
}


@pytest.mark.parametrize("name", OF_A_STORE)
def test_a_figure_of_a_store_is_drawn_by_both_backends_and_composes(name: str, store: Store, tmp_path: Path) -> None:
    """By Matplotlib in the report, where that has it."""
    figure = OF_A_STORE[name](store)
    if name in REPORTED:
        expect_shown(figure)
    else:
        expect_drawn(figure, tmp_path)
    beside, over = figure + hv.Curve([1, 2, 1]), figure * hv.HLine(0.5)
    for composed in (beside, over):
        assert isinstance(composed, (hv.Layout, hv.Overlay, hv.DynamicMap, hv.HoloMap))
        dynamic = isinstance(composed, hv.DynamicMap)
        frame = composed[tuple(dim.values[0] for dim in composed.kdims)] if dynamic else composed
        assert frame.traverse(lambda x: x, [hv.HLine if composed is over else hv.Curve])
    expect_axes_kept(figure[tuple(dim.values[0] for dim in figure.kdims)] if name == "cube" else figure)


@pytest.mark.parametrize("name", OF_TABLES)
def test_a_figure_of_a_table_is_drawn_by_both_backends(
    name: str, tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    """By Matplotlib in the report, where that has it."""
    if name in REPORTED:
        expect_shown(OF_TABLES[name](tables))
    else:
        expect_drawn(OF_TABLES[name](tables), tmp_path)


def test_without_intervals_a_figure_is_drawn_too(tmp_path: Path) -> None:
    few = made_up_tables({"L01": 4}, ("LV",), ("LV",), ["patient001", "patient002"])
    for name in ("layers", "certainty", "dose"):
        few[name][["low", "high"]] = np.nan
    few["dose-half"][["half_below", "half_above"]] = np.nan
    for name in ("layers", "certainty", "dose"):
        expect_drawn(OF_TABLES[name](few), tmp_path)


def expect_axes_kept(figure: Any) -> None:
    """Each plot of ``figure`` with a line over it still has its title, ticks, limits and direction."""
    own = {
        "bokeh": ("title", "xticks", "yticks", "xlim", "ylim", "invert_yaxis", "frame_width", "xlabel"),
        "matplotlib": ("title", "xticks", "yticks", "xlim", "ylim", "invert_yaxis", "aspect", "xlabel"),
    }
    for panel in figure.traverse(lambda x: x, [hv.Overlay])[:1]:
        over = panel * hv.HLine(0.5)
        for backend, names in own.items():
            before, after = (hv.Store.lookup_options(backend, x, "plot").kwargs for x in (panel, over.get(0)))
            assert {n: before[n] for n in names if n in before} == {n: after[n] for n in names if n in before}


def test_what_is_drawn_over_keeps_the_axes(store: Store) -> None:
    """As they are drawn, and not only as they are asked for."""
    plain = next(iter(views.cases(store)))
    drawn = []
    for figure in (plain, plain * hv.VLine(0.5)):
        plot = hv.Store.renderers["bokeh"].get_plot(figure).state
        paper = hv.Store.renderers["matplotlib"].get_plot(figure)
        axis = paper.handles["axis"]
        drawn.append(
            [
                (plot.y_range.start, plot.y_range.end, plot.x_range.start, plot.x_range.end, plot.title.text),
                (plot.yaxis[0].major_label_overrides, plot.frame_width, plot.frame_height),
                (axis.get_xlim(), axis.get_ylim(), axis.get_title(), axis.get_ylabel()),
                [text.get_text() for text in (*axis.get_xticklabels(), *axis.get_yticklabels())],
            ]
        )
        import matplotlib.pyplot as plt

        plt.close(paper.state)
    assert drawn[0] == drawn[1]


def test_figures_of_a_store_are_saved_offline(store: Store, tmp_path: Path) -> None:
    beside = OF_A_STORE["cube"](store) + views.mad_by_layer(store)
    for suffix in ("html", "png", "svg"):
        views.save(beside, tmp_path / f"beside.{suffix}")
    page = (tmp_path / "beside.html").read_text(encoding="utf-8")
    head, *scripts = re.split(r"<script[^>]*>", page)
    marked = [head, *(script.split("</script>", 1)[-1] for script in scripts)]
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^\"' >]*", "".join(marked))
    assert not re.findall(r'<script[^>]+src="[^"]*"', page)
    links = re.findall(r'"url":"(data|https?):', page)
    assert set(links) == {"data"}, "styles are carried"


def test_every_public_function_of_a_store_is_drawn_here() -> None:
    """So that those to come are tested as these are."""
    takes = {
        name for name in views.__all__ if next(iter(inspect.signature(getattr(views, name)).parameters)) == "store"
    }
    # Of a study of several strengths, in the module of what is seen from inside; of a store with
    # optima, explanations or classes, in theirs.
    assert takes == ({name.split()[0] for name in OF_A_STORE} - OF_ITS_TABLES) | {
        "channel_dose",
        "optima",
        "optimum",
        "explanation",
        "projections",
        "focus",
        "classified",
    }


def test_a_figure_of_hundreds_of_patients_stays_readable(tmp_path: Path) -> None:
    patients = [f"patient{i:03d}" for i in range(1, 301)]
    many = made_up_tables({"L01": 4}, ("LV",), CLASSES[1:], patients)
    figure = views.leave_one_out(many["leave-one-out"])
    ticks = hv.Store.lookup_options("bokeh", next(iter(figure)), "plot").kwargs["xticks"]
    assert len(ticks) <= 30
    expect_drawn(figure, tmp_path)


def test_row_0_lies_on_top_and_pixels_are_square(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = slice(9, 50), slice(14, 55)
    monkeypatch.setattr(images, "window", lambda masks: (rows, columns))
    sample = sample_with(store, DARK_LV)
    panel = next(iter(views.inputs(store, sample, DARK_LV)))
    image = panel.get(0)
    expected = store.image[sample, 0, 0].values[rows, columns]
    assert np.array_equal(image.dimension_values("value", flat=False)[::-1], expected[::-1]) or np.array_equal(
        image.dimension_values("value", flat=False), expected
    )
    # Pixels keep the numbers that they have in the whole input.
    assert float(image["value"][image["y"] == rows.start].mean()) == pytest.approx(float(expected[0].mean()))
    assert (image["x"].min(), image["x"].max()) == (columns.start, columns.stop - 1)
    for backend in ("bokeh", "matplotlib"):
        assert hv.Store.lookup_options(backend, panel, "plot").kwargs["invert_yaxis"]
    size = hv.Store.lookup_options("bokeh", panel, "plot").kwargs
    assert size["frame_width"] == size["frame_height"]


def test_contours_run_along_the_border_of_the_mask() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0:2, 0:3] = True
    (line,) = contours(mask)
    assert np.array_equal(line[0], line[-1]), "closed though it meets the border of the image"
    assert (line[:, 0].min(), line[:, 0].max()) == (-0.5, 1.5)
    assert (line[:, 1].min(), line[:, 1].max()) == (-0.5, 2.5)
    assert list(contours(np.zeros((3, 3), bool))) == []


def test_a_noisy_prediction_is_one_path_a_class(store: Store) -> None:
    panel = next(iter(views.inputs(store, condition=DARK_LV)))
    drawn = [element for element in panel if isinstance(element, hv.Contours)]
    assert all(len(element.split()) <= len(CLASSES) - 1 for element in drawn), "hundreds of paths take seconds each"


def test_an_activation_shows_what_the_store_holds(store: Store) -> None:
    layer = store.layers.index[-1]
    sample = sample_with(store, DARK_LV)
    original, perturbed, difference = (
        panel.get(0).dimension_values("value", flat=False)
        for panel in views.activation(store, layer, 1, sample, DARK_LV)
    )
    expected = store[layer].isel(sample=sample, channel=1).sel(condition=["original", DARK_LV]).values
    np.testing.assert_allclose(original, expected[0], rtol=1e-6)
    np.testing.assert_allclose(perturbed, expected[1], rtol=1e-6)
    np.testing.assert_allclose(difference, expected[1] - expected[0], rtol=1e-5, atol=1e-6)
    most = max(np.abs(values).max() for values in (*expected, expected[1] - expected[0]))
    alike = [(-most, most)] * 3
    own = [(values.min(), values.max()) for values in expected]
    for scale, limits in (("shared", alike), ("own", own)):
        drawn = views.activation(store, layer, 1, sample, DARK_LV, scale=scale)
        shown = [hv.Store.lookup_options("bokeh", panel.get(0), "plot").kwargs["clim"] for panel in drawn]
        np.testing.assert_allclose(shown[: len(limits)], limits, rtol=1e-6)
        assert shown[2][0] == -shown[2][1], "the difference is centred on 0"


def test_what_stands_between_braces_in_a_title_is_kept(store: Store, tmp_path: Path) -> None:
    from actstore.views.figures.theme import panel

    drawn = panel([hv.Curve([(0, 0), (1, 1)])], (80, 80), title="M{Y}O")
    assert hv.render(drawn, backend="bokeh").title.text == "M{Y}O"
    expect_drawn(drawn, tmp_path)


def test_scales_are_shared_or_own() -> None:
    original, perturbed = np.array([[0.0, 2.0]]), np.array([[-3.0, 1.0]])
    nothing = np.full((1, 2), np.nan)
    row = [original, perturbed, perturbed - original]
    assert of_maps(row, "shared") == [("RdBu_r", (-3, 3))] * 3
    assert of_maps(row, "own") == [("viridis", (0, 2)), ("viridis", (-3, 1)), ("RdBu_r", (-3, 3))]
    assert of_inputs(row, "shared") == [("gray", (-3, 2)), ("gray", (-3, 2)), ("RdBu_r", (-3, 3))]
    assert of_inputs(row, "own") == [("gray", (0, 2)), ("gray", (-3, 1)), ("RdBu_r", (-3, 3))]
    assert of_maps([original, nothing, nothing], "shared") == [("RdBu_r", (-2, 2))] * 3
    assert of_maps([nothing] * 3, "own") == [("viridis", (0, 1)), ("viridis", (0, 1)), ("RdBu_r", (-1, 1))]


def test_inputs_and_activations_lie_on_the_same_pixels(store: Store) -> None:
    sample = sample_with(store, DARK_LV)
    both = views.inputs(store, sample, DARK_LV) + views.activation(store, "L02", 0, sample, DARK_LV)
    centres = []
    for panel in (both.Overlay.III, both.Overlay.VI):
        (outline,) = [e for e in panel if isinstance(e, hv.Contours)]
        lines = outline.split()
        own = [e for e in lines if (e["colour"] == COLOURS["LV"]).all()] or lines
        centres.append([(np.nanmin(own[0][name]) + np.nanmax(own[0][name])) / 2 for name in "xy"])
    np.testing.assert_allclose(*centres, atol=2)


def test_samples_and_conditions_are_chosen(store: Store) -> None:
    names = list(store.conditions.index)
    for condition in names[1:]:
        c = names.index(condition)
        assert chosen(store, None, condition) == (typical_sample(store, condition), c)
        sample = sample_with(store, condition)
        row = store.samples.iloc[sample]
        assert chosen(store, (row["patient"], row["frame"], row["slice"]), condition) == (sample, c)
        assert chosen(store, np.int64(sample), condition) == (sample, c)
    applies = store.applicable.values
    assert chosen(store) == (typical_sample(store, names[1]), 1)
    for sample in np.flatnonzero(applies[:, 1:].any(axis=1)):
        assert chosen(store, int(sample)) == (sample, 1 + int(applies[sample, 1:].argmax()))


def test_a_control_and_a_repeat_are_shown_too(study_store: Path) -> None:
    store = actstore.open(study_store)
    for name in ("repeat", "brightness(LV, 0.1, control)"):
        shown = next(iter(views.inputs(store, condition=name) + views.activation(store, "L02", 0, condition=name)))
        assert np.isfinite(shown.get(0).dimension_values("value")).all()
    expect_shown(views.activation(store, "L02", 0, condition="repeat"))
    assert store.conditions.index[chosen(store)[1]] == DARK_LV


def test_a_map_shows_the_share_of_samples(store: Store) -> None:
    cells = frequency_cells(store, "condition", top=1)
    for condition in store.conditions.index[1:]:
        n = int(store.applicable.sel(condition=condition).sum())
        own = cells[cells["group"] == condition]
        assert set(own["samples"]) == {n}
        np.testing.assert_allclose(own.groupby("layer")["share"].sum(), 1.0, err_msg="one top channel a sample")
    titles = [panel.opts.get("plot", backend="bokeh").kwargs["title"] for panel in views.frequency(store, "condition")]
    assert titles[0].endswith(f"n = {int(store.applicable.isel(condition=1).sum())}")


def test_frequencies_are_those_of_the_analysis(store: Store) -> None:
    layer = store.layers.index[0]
    top = analysis.top_channels(store.statistics(layer)["mad"], 3, applicable=store.applicable)
    expected = analysis.channel_frequency(top, by=store.cases).compute()
    found = frequency_cells(store, "case")
    for case in expected["case"].values:
        own = found[(found["layer"] == layer) & (found["group"] == case)].sort_values("channel")
        assert own["count"].tolist() == expected["count"].sel(case=case).sum("condition").values.tolist()
        assert set(own["samples"]) == {int(expected["n"].sel(case=case).sum("condition"))}


def test_paired_dice_is_of_slices_that_contain_the_class(store: Store) -> None:
    paired = paired_dice(store)
    dice = analysis.dice(store.confusion, applicable=store.applicable).compute()
    present = (store.confusion.isel(condition=0).sum("predicted_class") > 0).compute()
    for (condition, name), own in paired.groupby(["condition", "class_name"]):
        both = (present.sel(true_class=name) & store.applicable.sel(condition=condition)).values
        expected = dice.sel(class_name=name).isel(sample=np.flatnonzero(both))
        np.testing.assert_array_equal(own["original"], expected.isel(condition=0))
        np.testing.assert_array_equal(own["perturbed"], expected.sel(condition=condition))
    assert paired["position"].between(0, 1).all()


def test_patients_shares_add_up_to_the_frequency(store: Store) -> None:
    layer = store.layers.index[0]
    chosen = pd.DataFrame({"layer": [layer] * 2, "condition": [DARK_LV] * 2, "channel": [0, 1]})
    shares = patient_shares(store, chosen)
    cells = frequency_cells(store, "condition")
    cells = cells[(cells["layer"] == layer) & (cells["group"] == DARK_LV)].set_index("channel")
    summed = shares.groupby("channel")[["count", "samples"]].sum()
    assert summed["count"].tolist() == cells.loc[[0, 1], "count"].tolist()
    assert set(summed["samples"]) == set(cells["samples"])


def test_the_most_uneven_channels_are_drawn(store: Store) -> None:
    layers = store.layers["channels"].to_dict()
    patients = sorted(store.samples["patient"].unique())
    table = made_up_tables(layers, ("LV", "RV"), CLASSES[1:], patients)["heterogeneity"]
    chosen = uneven(table, most=3)
    assert (chosen.groupby("condition").size() == 3).all()
    assert chosen["q"].max() <= table.groupby("condition")["q"].nsmallest(3).max()
    assert "heterogeneity" in REPORTED
    expect_shown(views.heterogeneity(chosen, patient_shares(store, chosen)))


def test_every_class_has_one_colour_of_its_own() -> None:
    assert class_colours(CLASSES) == dict(zip(CLASSES[1:], PALETTE, strict=False))
    assert "background" not in class_colours(CLASSES)
    assert tint("#000000", 1.0) == "#ffffff"


def test_a_swarm_lays_equal_values_beside_each_other() -> None:
    offsets = swarm(np.array([0.5, 0.5, 0.5, 0.9]), 0.2, span=(0, 1))
    assert len(set(offsets[:3])) == 3
    assert offsets[3] == 0
    assert np.abs(offsets).max() <= 0.2


def test_conditions_are_shown_by_transform_and_class(store: Store) -> None:
    assert shown_conditions(store) == list(store.conditions.index[1:])


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda s: views.inputs(s, condition="blur(LV, 2)"), "no perturbation 'blur(LV, 2)': there are brightness"),
        (lambda s: views.gallery(s, "nonsense"), "no prediction is of case 'nonsense': there are"),
        (lambda s: views.frequency(s, "colour"), "by = 'colour' groups nothing: choose one of condition, case"),
        (
            lambda s: views.inputs(s, sample_with(s, DARK_LV, applies=False), DARK_LV),
            "'brightness(LV, 0.1)' does not apply to sample",
        ),
        (lambda s: views.inputs(s, sample_with(s, DARK_LV, applies=False), DARK_LV), "): it has no LV; "),
        (lambda s: views.inputs(s, len(s.samples)), "is outside 0.."),
        (lambda s: views.inputs(s, True), "sample = True: give its number, or (patient, frame, slice)"),
        (lambda s: views.inputs(s, ("patient001", 1)), "sample = ('patient001', 1): give its number"),
        (lambda s: views.inputs(s, ("patient009", 1, 0)), "no patient patient009: there are patient001, patient002"),
        (lambda s: views.inputs(s, ("patient001", 99, 0)), "no patient patient001, frame 99: there are 1, "),
        (lambda s: views.inputs(s, ("patient001", 1, 99)), "no patient patient001, frame 1, slice 99: there are 0, 1"),
        (lambda s: views.inputs(s, z=2), "z = 2: the inputs are slices, not volumes; leave it out"),
        (lambda s: views.activation(s, "L02", 0, scale="log"), "scale = 'log': choose shared or own"),
        (lambda s: views.inputs(s, scale="log"), "scale = 'log': choose shared or own"),
    ],
)
def test_what_cannot_be_drawn_is_named(store: Store, draw: Callable[[Store], Any], text: str) -> None:
    with pytest.raises(StoreError) as caught:
        draw(store)
    assert text in str(caught.value)


def test_importing_actstore_loads_no_figures_and_views_leave_the_backend_as_it_was() -> None:
    code = (
        "import actstore, sys; assert not {'holoviews', 'bokeh', 'matplotlib'} & set(sys.modules); "
        "import holoviews as hv; hv.extension('bokeh'); import actstore.views; "
        "assert hv.Store.current_backend == 'bokeh', hv.Store.current_backend"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=600, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_drawing_warns_of_nothing(store: Store, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expect_drawn(views.dice_by_position(store), tmp_path)
