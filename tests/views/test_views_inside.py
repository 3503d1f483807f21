"""What a study looks like from inside of a notebook: the network, Dice in pairs, and a channel over all samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import holoviews as hv
import numpy as np
import pytest
from test_views import expect_axes_kept, expect_drawn, sample_with

import actstore
from actstore import analysis, views
from actstore.errors import StoreError
from actstore.store.store import Store
from actstore.views.figures.selection import channel_suffix, chosen, samples_of
from drawn import title_of

DARK_LV = "brightness(LV, 0.1)"


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return actstore.open(tiny_store)


@pytest.fixture(scope="module")
def study(study_store: Path) -> Store:
    return actstore.open(study_store)


def cells_of(figure: hv.Overlay) -> Any:
    """(layer, channel, value) of the coloured cells, in the order of the network."""
    return figure.get(1).dframe().sort_values(["layer", "channel"], ignore_index=True)


def statistics_of(store: Store, name: str = "mad") -> list[Any]:
    return [store.statistics(layer)[name].values for layer in store.layers.index]


def test_the_map_of_a_sample_shows_its_mad(store: Store) -> None:
    sample = sample_with(store, DARK_LV)
    figure = views.network(store, sample, DARK_LV)
    expected = np.concatenate(
        [mad[sample, list(store.conditions.index).index(DARK_LV)] for mad in statistics_of(store)]
    )
    shown = cells_of(figure)
    np.testing.assert_allclose(shown["value"], expected, rtol=1e-6)
    marked = figure.get(2).array().astype(int).tolist()
    for row, layer in enumerate(store.layers.index):
        own = shown[shown["layer"] == layer].sort_values("value", ascending=False, kind="stable")
        assert [channel for channel, y in marked if y == row] == own["channel"].tolist()[:3]
    row = store.samples.iloc[sample]
    assert title_of(figure) == f"{DARK_LV} · {row['patient']} · frame {row['frame']} · slice {row['slice']}"


def test_the_map_of_a_sample_shows_it_in_standard_deviations(store: Store) -> None:
    sample = sample_with(store, DARK_LV)
    mean = np.concatenate(statistics_of(store, "mean"), axis=2)[:, 0]
    std = np.concatenate(statistics_of(store, "std"), axis=1)
    pooled = np.sqrt((std**2).mean(axis=0) + mean.var(axis=0))
    raw = cells_of(views.network(store, sample, DARK_LV))["value"]
    shown = cells_of(views.network(store, sample, DARK_LV, colour="standardised"))["value"]
    np.testing.assert_allclose(shown, raw / pooled, rtol=1e-5)


def test_the_map_of_samples_shows_how_often_a_channel_is_in_the_top(store: Store) -> None:
    c = list(store.conditions.index).index(DARK_LV)
    used = np.flatnonzero(store.applicable.values[:, c])
    some = used[::2]
    mask = np.isin(np.arange(len(store.samples)), some)
    for samples, of in ((None, used), (some, some), (mask, some), ([int(s) for s in some], some)):
        figure = views.network(store, condition=DARK_LV, colour="frequency", samples=samples)
        expected = []
        for mad in statistics_of(store):
            top = np.argsort(-mad[of, c], axis=1, kind="stable")[:, :3]
            expected += [(top == channel).any(axis=1).mean() for channel in range(mad.shape[2])]
        np.testing.assert_allclose(cells_of(figure)["value"], expected)
        assert title_of(figure) == f"{DARK_LV} · n = {len(of)}"


def test_the_map_of_samples_shows_the_effect_against_control(study: Store) -> None:
    shown = cells_of(views.network(study, condition=DARK_LV, colour="control"))
    layer = study.layers.index[-1]
    sensitive = analysis.class_sensitivity(study.statistics(layer)["mad"].compute())
    expected = sensitive["effect"].sel(condition=DARK_LV).values
    np.testing.assert_allclose(shown[shown["layer"] == layer]["value"], expected, rtol=1e-6)


def test_pairs_of_dice_are_those_of_the_store(store: Store) -> None:
    figure = views.dice_paired(store, DARK_LV)
    dice = analysis.dice(store.confusion, applicable=store.applicable).compute()
    for panel, name in zip(figure, store.class_names[1:], strict=True):
        present = (store.label == store.classes[name]).any(["y", "x"]).values & store.applicable.sel(condition=DARK_LV)
        own = dice.sel(class_name=name).isel(sample=np.flatnonzero(present))
        frame = panel.get(1).dframe()
        np.testing.assert_array_equal(frame["original"], own.isel(condition=0))
        np.testing.assert_array_equal(frame["perturbed"], own.sel(condition=DARK_LV))
        assert frame["slice"].tolist() == own["slice"].values.tolist()
        assert title_of(panel) == f"{name} · n = {len(own)}"


def test_pairs_of_dice_are_of_controls_and_repeats_too(study: Store) -> None:
    for name in ("repeat", "brightness(LV, 0.1, control)"):
        lv = list(views.dice_paired(study, name))[-1].get(1).dframe()
        both = study.applicable.sel(condition=name).values & (study.label == study.classes["LV"]).any(["y", "x"]).values
        assert len(lv) == both.sum() > 0


def test_mad_by_layer_is_of_all_samples_and_of_one(store: Store) -> None:
    sample = sample_with(store, DARK_LV)
    band, median, one, dots = views.mad_by_layer(store, sample, DARK_LV)
    c = list(store.conditions.index).index(DARK_LV)
    mean = np.stack([mad[:, c].mean(axis=1) for mad in statistics_of(store)], axis=1)
    low, middle, high = np.quantile(mean[np.isfinite(mean[:, 0])], [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(median["y"], middle, rtol=1e-6)
    np.testing.assert_allclose([band["y"], band["y2"]], [low, high], rtol=1e-6)
    np.testing.assert_allclose(one["y"], mean[sample], rtol=1e-6)
    assert dots["layer"].tolist() == list(store.layers.index)


def test_the_strongest_maps_come_first_on_one_scale(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    c = list(store.conditions.index).index(DARK_LV)
    mad = store.statistics("L02")["mad"].values[:, c, 1]
    order = [s for s in np.argsort(-mad, kind="stable") if np.isfinite(mad[s])][:3]
    read: list[int] = []
    own = Store.map
    monkeypatch.setattr(
        Store, "map", lambda self, layer, s, i, channel: read.append(s) or own(self, layer, s, i, channel)
    )
    panels = list(views.strongest(store, "L02", 1, DARK_LV, most=3))
    assert read == [s for s in order for _ in range(2)], "only the maps that are shown"
    changes = store["L02"].isel(sample=order, channel=1)
    changes = (changes.sel(condition=DARK_LV) - changes.isel(condition=0)).values
    most = np.abs(changes).max()
    for panel, s, change in zip(panels, order, changes, strict=True):
        image, outline = panel.get(0), panel.get(1)
        np.testing.assert_allclose(image.dimension_values("value", flat=False), change, atol=1e-6)
        assert hv.Store.lookup_options("bokeh", image, "plot").kwargs["clim"] == pytest.approx((-most, most))
        assert isinstance(outline, hv.Contours)
        row = store.samples.iloc[s]
        assert title_of(panel) == f"{row['patient']} · f{row['frame']} · s{row['slice']} · {mad[s]:.2f}"


def test_a_channel_by_patient_shows_every_sample_and_the_medians(study: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mad = study.statistics("L02")["mad"].sel(condition=DARK_LV, channel=2).compute()
    known = mad.isel(sample=np.flatnonzero(np.isfinite(mad)))
    by_patient = known.groupby("patient")
    dots, lines = views.mad_by_patient(study, "L02", 2, DARK_LV)
    np.testing.assert_array_equal(np.sort(dots["MAD"]), np.sort(known))
    np.testing.assert_allclose(np.sort(lines["y"]), np.sort(by_patient.median()))
    assert set(dots["patient"]) == set(known["patient"].values)
    monkeypatch.setattr("actstore.views.figures.spread.MOST_PATIENTS", 2)
    dots, lines = views.mad_by_patient(study, "L02", 2, DARK_LV)
    np.testing.assert_allclose(dots["MAD"], np.sort(by_patient.median()), atol=1e-5)
    np.testing.assert_allclose(np.sort(lines["y"]), np.sort(by_patient.quantile(0.25)))
    np.testing.assert_allclose(np.sort(lines["y1"]), np.sort(by_patient.quantile(0.75)))


def test_a_channel_rises_with_the_strength(study: Store) -> None:
    names = ["brightness(LV, 0.1)", "brightness(LV, 0.5)", "brightness(LV, 1.5)"]
    mad = study.statistics("L02")["mad"].sel(condition=names, channel=2)
    quartiles = np.nanquantile(mad, [0.25, 0.5, 0.75], axis=0)
    band, line, dots, here = views.channel_dose(study, "L02", 2, names[1])
    np.testing.assert_allclose(dots["strength"], [0.1, 0.5, 1.5])
    np.testing.assert_allclose(dots["median"], quartiles[1], atol=1e-5)
    # Brightness 1 changes nothing.
    np.testing.assert_allclose(line["x"], [0.1, 0.5, 1, 1.5])
    np.testing.assert_allclose(line["y"], np.insert(quartiles[1], 2, 0), rtol=1e-6)
    np.testing.assert_allclose([band["y"], band["y2"]], np.insert(quartiles[::2], 2, 0, axis=1), rtol=1e-6)
    assert here.data == 0.5


def test_a_sample_and_a_condition_are_chosen_without_being_named(store: Store) -> None:
    s, c = chosen(store)
    row = store.samples.iloc[s]
    assert title_of(views.network(store)).endswith(f"{row['patient']} · frame {row['frame']} · slice {row['slice']}")
    n = int(store.applicable.values[:, c].sum())
    for figure in (views.mad_by_layer(store), views.mad_by_patient(store, "L02", 0)):
        assert title_of(figure).endswith(f"{store.conditions.index[c]} · n = {n}")


def test_a_curve_of_strengths_is_drawn_by_both_backends_and_composes(study: Store, tmp_path: Path) -> None:
    figure = views.channel_dose(study, "L02", 1)
    expect_drawn(figure, tmp_path)
    expect_axes_kept(figure)


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda s: views.network(s, colour="mae"), "colour = 'mae': choose mad, standardised, frequency, control"),
        (
            lambda s: views.network(s, colour="maximum"),
            "colour = 'maximum': choose mad, standardised, frequency, control",
        ),
        (lambda s: views.network(s, 10**6), "sample 1000000 is outside 0.."),
        (lambda s: views.network(s, condition="blur"), "no perturbation 'blur': there are brightness(LV, 0.1)"),
        (
            lambda s: views.network(s, condition=DARK_LV, colour="control"),
            "brightness(LV, 0.1) has no control: set `region = true` below [controls] in the spec",
        ),
        (
            lambda s: views.network(s, colour="frequency", samples=[True, False]),
            "samples = a mask of 2: the store has",
        ),
        (lambda s: views.network(s, colour="frequency", samples=[-1]), "sample -1 is outside 0.."),
        (
            lambda s: views.network(s, colour="frequency", samples=[], condition=DARK_LV),
            "'brightness(LV, 0.1)' applies to none of the 0 samples: choose others",
        ),
        (
            lambda s: views.network(s, None, DARK_LV, colour="frequency", samples=[sample_with(s, DARK_LV, False)]),
            "'brightness(LV, 0.1)' applies to no chosen sample: choose others",
        ),
        (lambda s: views.dice_paired(s, "original"), "no perturbation 'original': there are"),
        (
            lambda s: views.mad_by_layer(s, sample_with(s, DARK_LV, False), DARK_LV),
            "'brightness(LV, 0.1)' does not apply to sample",
        ),
        (lambda s: views.strongest(s, "L02", 4), "no channel of L02 4: there are 0..3"),
        (lambda s: views.strongest(s, "L02", 1, most=0), "most = 0: ask for one sample at least"),
        (lambda s: views.mad_by_patient(s, "L02", -1), "no channel of L02 -1: there are 0..3"),
        (
            lambda s: views.channel_dose(s, "L02", 0),
            "brightness of LV has 1 strength; list 3 or more as `strengths` below [[perturb]] in the spec",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(store: Store, draw: Callable[[Store], Any], text: str) -> None:
    with pytest.raises(StoreError) as caught:
        draw(store)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_effect_needs_patients(study: Store) -> None:
    one = (study.samples["patient"] == study.samples["patient"].iloc[0]).to_numpy()
    with pytest.raises(StoreError, match="an effect against control needs 5 patients with both: select more samples"):
        views.network(study, condition=DARK_LV, colour="control", samples=one)


def test_samples_are_named_by_numbers_places_and_masks(store: Store) -> None:
    c = list(store.conditions.index).index(DARK_LV)
    s = sample_with(store, DARK_LV)
    row = store.samples.iloc[s]
    place = (row["patient"], int(row["frame"]), int(row["slice"]))
    for samples in ([s], [place], np.array([s]), np.arange(len(store.samples)) == s):
        assert np.flatnonzero(samples_of(store, c, samples)).tolist() == [s]


# Several input channels, and statistics of every condition


@pytest.mark.parametrize(("channels", "shown"), [(["T1", "T2"], " · T1"), (["T1"], "")])
def test_pictures_name_their_input_channel_where_there_are_several(channels: list[str], shown: str) -> None:
    made_up: Any = SimpleNamespace(layout=SimpleNamespace(input_channels=channels))
    assert channel_suffix(made_up) == shown


def test_pictures_of_a_store_without_input_channels_name_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert channel_suffix(store) == ""
    monkeypatch.setattr("actstore.views.figures.images.channel_suffix", lambda *_: " · T1")
    assert title_of(next(iter(views.inputs(store)))) == "original · T1"
