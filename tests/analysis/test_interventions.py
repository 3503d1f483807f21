"""Effects of edited channels: against plain sums, against other channels of the layer, and in order."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.interventions.against_random import against_random
from actstore.analysis.interventions.agreement import agreement, rankings
from actstore.analysis.interventions.cumulative import EVERY_LAYER, areas, over_repeats
from actstore.analysis.interventions.effects import (
    CHANGE,
    NECESSITY,
    RESTORATION,
    TRANSMISSION,
    differences,
    effects,
    quantity_of,
)
from actstore.analysis.uncertainty.bootstrap import bootstrap_mean, bootstrap_ratio
from actstore.analysis.uncertainty.resamples import patient_draws

WIDTHS = {"L01": 4, "L02": 16, "L03": 8}


def edits(values: np.ndarray, patients: int, layers: dict[str, int] | None = None) -> xr.DataArray:
    """(sample, condition, channel, class_name) of (sample, channel), samples of patients in turn."""
    layer = np.repeat(list(layers or WIDTHS), list((layers or WIDTHS).values()))
    return xr.DataArray(
        values[:, None, :, None],
        dims=("sample", "condition", "channel", "class_name"),
        coords={
            "patient": ("sample", [f"p{i % patients}" for i in range(len(values))]),
            "layer": ("channel", layer),
            "class_name": ["LV"],
        },
    )


def null_study(seed: int, patients: int, samples: int = 4) -> xr.DataArray:
    """Effects that say nothing of channels: of each patient another mean, spread and kind of noise in each layer."""
    rng = np.random.default_rng(seed)
    parts = []
    for width in WIDTHS.values():
        scale = np.exp(rng.standard_normal((1, patients, 1)))
        own = scale * (rng.standard_normal((samples, patients, width)) + rng.standard_t(3, (1, patients, width)))
        parts.append(own + 2 * rng.standard_normal((samples, patients, 1)))
    return edits(np.concatenate(parts, axis=-1).reshape(samples * patients, -1), patients)


@pytest.mark.parametrize("patients", [6, 12])
def test_a_null_network_has_hardly_ever_a_channel_that_matters(patients: int) -> None:
    found = [float(against_random(null_study(i, patients), resamples=999)["q"].min()) for i in range(200)]
    # 5 %, and what 999 of 1000 binomial counts stay below.
    assert sum(q < 0.05 for q in found) <= stats.binom.ppf(0.999, 200, 0.05)
    assert min(found) < 0.5, "q can be small"


def test_a_channel_that_matters_is_found_and_others_are_not() -> None:
    study = null_study(0, 12)
    scale = study.groupby("patient").map(lambda own: own.std() * xr.ones_like(own))
    study[:, 0, 7] += 4 * scale[:, 0, 7]
    study[:, 0, 9] += 2 * scale[:, 0, 9]
    q = against_random(study, resamples=1999)["q"].values.ravel()
    assert np.flatnonzero(q < 0.05).tolist() == [7, 9], "the weaker one among the others"
    assert against_random(-study, resamples=1999)["q"].min() > 0.05, "one-sided: smaller is not larger"


def test_p_counts_permutations_in_which_any_channel_is_as_large() -> None:
    """Two channels and 5 patients: all 32 ways to swap them, each equally likely."""
    values = np.array([[1.0, 0], [2, 0], [3, 0], [4, 0], [0, 1]])
    gap = values[:, 0] - values[:, 1]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    exact = np.mean(np.abs(gap @ signs) >= gap.sum())
    found = against_random(edits(values, 5, {"L01": 2}), resamples=20_000)
    assert float(found["p"][0, 0, 0]) == pytest.approx(exact, abs=0.01)
    assert float(found["p"][0, 1, 0]) == 1.0
    assert found["note"].values.ravel().tolist() == ["5 patients: q cannot fall below 0.062"] * 2


def test_equal_channels_are_no_evidence_whatever_the_rounding() -> None:
    values = np.full((6, 28), 0.1) + 0.3 * np.arange(6)[:, None]
    assert (against_random(edits(values, 6))["p"] == 1).all()


def test_what_cannot_be_tested_says_why() -> None:
    few = against_random(null_study(0, 4))
    assert few["p"].isnull().all()
    assert (few["note"] == "4 patients: too few for a test").all()
    assert int(few["tests"]) == 0
    one = against_random(edits(np.random.default_rng(0).random((8, 3)), 8, {"L01": 1, "L02": 2}))
    assert np.isfinite(one["p"].values.ravel()).tolist() == [False, True, True]
    assert one["note"].values.ravel()[0] == "1 channel: no other of its layer to compare with"
    assert int(one["tests"]) == 1
    gaps = null_study(1, 6)
    gaps[gaps["patient"].values == "p0"] = np.nan
    left, without = (against_random(own, resamples=2000) for own in (gaps, gaps[gaps["patient"].values != "p0"]))
    np.testing.assert_allclose(left["p"], without["p"], atol=0.05, err_msg="a patient that is left out changes nothing")


@pytest.mark.parametrize(
    ("edit", "into", "donor", "expected"),
    [
        ("zero", "original", None, NECESSITY),
        ("mean", "blur(LV, 2)", None, CHANGE),
        ("patch", "blur(LV, 2)", "original", RESTORATION),
        ("patch", "original", "blur(LV, 2)", TRANSMISSION),
        ("patch", "original", "repeat", CHANGE),
        ("patch", "repeat", "original", CHANGE),
        ("patch", "blur(LV, 2)", "blur(LV, 4)", CHANGE),
    ],
)
def test_what_an_effect_is(edit: str, into: str, donor: str | None, expected: str) -> None:
    assert quantity_of(edit, into, donor, {"blur(LV, 2)", "blur(LV, 4)"}) == expected


def passes(dice: np.ndarray, names: list[str]) -> xr.DataArray:
    """(sample, condition, class_name), two samples a patient."""
    coords = {"patient": ("sample", np.repeat(range(len(dice) // 2), 2)), "condition": names, "class_name": ["LV"]}
    return xr.DataArray(dice[..., None], dims=("sample", "condition", "class_name"), coords=coords)


def test_shares_are_ratios_of_sums() -> None:
    rng = np.random.default_rng(0)
    original, perturbed = 0.9 + 0.02 * rng.random(16), 0.5 + 0.3 * rng.random(16)
    edited = perturbed[:, None] + rng.random((16, 3)) * (original - perturbed)[:, None]
    edited[3] = np.nan
    back = passes(edited, ["a", "b", "c"]).rename(condition="edit").expand_dims(condition=["blur"], axis=1)
    before = passes(original[:, None], ["original"]).isel(condition=0)
    made = differences(back, passes(perturbed[:, None], ["blur"]), before, [RESTORATION])
    found = effects(made)
    there = np.arange(16) != 3
    gained, lost = (edited - perturbed[:, None])[there], (original - perturbed)[there]
    np.testing.assert_allclose(found["effect"].values.ravel(), gained.sum(0) / lost.sum())
    assert (found["samples"] == 15).all()
    assert ((found["low"] < found["effect"]) & (found["effect"] < found["high"])).all()
    away = differences(
        back, passes(original[:, None], ["original"]), passes(perturbed[:, None], ["x"])[:, 0], [TRANSMISSION]
    )
    np.testing.assert_allclose(
        effects(away)["effect"].values.ravel(), (original[:, None] - edited)[there].sum(0) / lost.sum()
    )
    plain = effects(differences(back, passes(original[:, None], ["original"]), None, [NECESSITY]))
    np.testing.assert_allclose(plain["effect"].values.ravel(), (original[:, None] - edited)[there].mean(0))
    with pytest.raises(AnalysisError, match="restoration is a share of what the donor loses"):
        differences(back, passes(perturbed[:, None], ["blur"]), None, [RESTORATION])


def test_a_ratio_to_one_is_a_mean_and_its_interval_is_of_ratios() -> None:
    rng = np.random.default_rng(1)
    part = passes(rng.random((12, 2)), ["a", "b"])
    whole = passes(1 + rng.random((12, 1)), ["a"]).isel(condition=0)
    mean, ratio = bootstrap_mean(part), bootstrap_ratio(part, xr.ones_like(part))
    for name in ("low", "high", "error", "samples"):
        np.testing.assert_allclose(ratio[name], mean[name])
    found = bootstrap_ratio(part, whole)
    draws = patient_draws(6)
    sums = [draws.sums(values.reshape(6, 2).sum(1)) for values in (part.values[:, 0, 0], whole.values[:, 0])]
    low = np.sort(sums[0] / sums[1])
    assert float(found["low"][0, 0]) in low
    assert float(found["ratio"][0, 0]) == pytest.approx(part.values[:, 0].sum() / whole.values.sum())
    lazy = bootstrap_ratio(part.chunk(condition=1), whole.chunk())
    assert lazy["ratio"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), found)


def test_a_whole_that_is_not_there_has_no_share() -> None:
    part = passes(np.random.default_rng(0).random((12, 3)), ["none", "little", "much"])
    lost = np.stack([np.zeros(12), np.where(np.arange(12) < 10, -0.01, 0.2), np.full(12, 0.4)], axis=1)
    found = bootstrap_ratio(part, passes(lost, ["none", "little", "much"]).rename("loss of Dice"))
    assert np.isfinite(found["ratio"].values.ravel()).tolist() == [False, True, True]
    assert np.isfinite(found["low"].values.ravel()).tolist() == [False, False, True]
    assert found["note"].values.ravel().tolist() == [
        "loss of Dice not above 0: no share of it",
        "loss of Dice not above 0 in some resamples: no interval",
        "",
    ]


def curves(counts: tuple[int, ...] = (1, 2, 4, 8)) -> xr.DataArray:
    """Effects (sample, condition, edit, class_name) of one layer: of 8 channels only the first matters."""
    names, order, count, repeat, value = [], [], [], [], []
    for number in counts:
        for kind, r, found in (("frequency", 0, 1.0), ("random", 0, 0.0), ("random", 1, number / 4)):
            names.append(f"L01:{kind}:{number}#{r}")
            order.append(kind)
            count.append(number)
            repeat.append(r)
            value.append(found)
    along = {
        "order": order,
        "count": count,
        "repeat": repeat,
        "layer": ["L01"] * len(names),
        "module": ["m"] * len(names),
    }
    return xr.DataArray(
        np.tile(value, (10, 1))[:, None, :, None],
        dims=("sample", "condition", "edit", "class_name"),
        coords={
            **{name: ("edit", values) for name, values in along.items()},
            "edit": names,
            "patient": ("sample", np.arange(10) // 2),
            "class_name": ["LV"],
        },
    )


def test_the_area_is_the_mean_over_doublings() -> None:
    part = over_repeats(curves())
    assert part["repeats"].values.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    np.testing.assert_allclose(part.values[0, 0, :, 0], [1, 1, 1, 1, 1 / 8, 1 / 4, 1 / 2, 1])
    found = areas(part, xr.ones_like(part).isel(edit=0, drop=True))
    expected = (7 / 8 + 2 * 3 / 4 + 2 * 1 / 2 + 0) / 2 / 3
    np.testing.assert_allclose(found["area"].values.ravel(), [expected, expected])
    assert found["layer"].values.tolist() == ["L01", EVERY_LAYER]
    with pytest.raises(AnalysisError, match="no area: random sets of two sizes"):
        areas(over_repeats(curves((3,))), xr.ones_like(part).isel(edit=0, drop=True))
    with pytest.raises(AnalysisError, match="no growing sets of channels among the edits"):
        over_repeats(curves().assign_coords(order=("edit", ["each"] * 12)))


def test_rankings_that_agree_and_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    patients, channels = 8, 12
    level = np.arange(channels)[::-1] / channels
    mad = level + 0.02 * rng.standard_normal((patients * 2, 1, channels))
    coords = {
        "patient": ("sample", np.repeat(np.arange(patients), 2)),
        "condition": ["blur(LV, 2)"],
        "layer": ("channel", ["L01"] * channels),
        "channel": np.arange(channels),
    }
    changed = xr.DataArray(mad, dims=("sample", "condition", "channel"), coords=coords)
    member = changed.copy(data=stats.rankdata(mad, axis=-1) > channels - 3)
    same = changed + 0.02 * rng.standard_normal(mad.shape)
    found = agreement(member, changed, same, 3, resamples=200).isel(condition=0, layer=0)
    assert (int(found["frequent"]), int(found["large"]), int(found["shared"])) == (3, 3, 3)
    assert float(found["expected"]) == 3 * 3 / 12
    assert float(found["p"]) == pytest.approx(1 / 220), "1 of 12 over 3"
    assert float(found["spearman_mad_low"]) > 0.8
    against = agreement(member, changed, 1 - same, 3, resamples=200).isel(condition=0, layer=0)
    assert int(against["shared"]) == 0
    assert float(against["p"]) == 1
    assert float(against["spearman_mad_high"]) < -0.8
    half = same[same["patient"].values < 5].isel(sample=slice(None, None, 2))
    fewer = agreement(member, changed, half, 3, resamples=200).isel(condition=0, layer=0)
    assert (int(fewer["samples"]), int(fewer["patients"])) == (5, 5)
    every = agreement(member, changed, same, 12).isel(condition=0, layer=0)
    assert str(every["note"].values) == "a set holds every channel of the layer: nothing to test"
    ranked = rankings(member, changed, same.mean("sample")).isel(condition=0)
    assert ranked["mad_rank"].values.tolist() == list(range(1, 13))
    assert ranked["frequency_rank"].values[:3].tolist() == [1, 2, 3]
