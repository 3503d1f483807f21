"""The window of normalisation: what rescales the rest of an image is counted, named, and left out of the test."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import actstore
from actstore import analysis, views
from actstore.analysis import AnalysisError
from actstore.analysis.maps.equality import stretch
from actstore.cli import text
from actstore.data.volume import Volume, VolumeKey
from actstore.errors import StoreError
from actstore.inputs.perturb import apply
from actstore.inputs.placement import control_regions
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import Prepared, prepare
from actstore.inputs.preprocess import normalize, scalings
from actstore.jobs.capture import Summary, capture
from actstore.jobs.creation import attributes
from actstore.spec.spec import Spec, load_spec
from actstore.spec.toml_tables import Normalization
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.tables.findings import Findings
from actstore.tables.rescaled import Rescaled
from actstore.views.explorer.navigator import load, missing, values_of
from actstore.views.explorer.source import Source
from conftest import WriteSpec
from helpers import raise_if_dask_computes

NAMES = ("background", "RV", "MYO", "LV")
KEY = VolumeKey("patient001", 1)
METHODS = ["minmax-slice", "minmax-volume", "zscore-slice", "zscore-volume", "percentile-slice", "percentile-volume"]
MEND = 'data.preprocess.window = "original"'


def spec_of(write_spec: WriteSpec, folder: Path, **changes: Any) -> Spec:
    return load_spec(write_spec(folder, **{"controls": {"region": True}, **changes}))


def by_hand(image: NDArray[Any], method: str, like: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """One slice or volume normalised as another one is."""
    like = (image if like is None else like).astype(np.float64)
    image = image.astype(np.float64)
    if method.startswith("zscore"):
        return np.asarray((image - like.mean()) / like.std())
    if method.startswith("percentile"):
        low, high = np.percentile(like, [1, 99])
        like, image = np.clip(like, low, high), np.clip(image, low, high)
    return np.asarray((image - like.min()) / (like.max() - like.min()))


class TestWindow:
    """What normalisation takes from an image, and what it is applied to."""

    image = np.random.default_rng(2).gamma(3.0, 50.0, (4, 30, 36))
    changed = np.where(np.indices((4, 30, 36))[1] < 9, 1.7, 1.0) * image

    @pytest.mark.parametrize("method", METHODS)
    def test_is_found_in_one_image_and_applied_to_another(self, method: Normalization) -> None:
        found = scalings(self.image, method)
        assert len(found) == (4 if method.endswith("slice") else 1)
        for seen, like in (
            (normalize(self.changed, method), self.changed),
            (normalize(self.changed, method, found), self.image),
        ):
            parts = [slice(None)] if method.endswith("volume") else range(4)
            for part in parts:
                expected = by_hand(self.changed[part], method, like[part]).astype(np.float32)
                np.testing.assert_array_equal(seen[part], expected)
        untouched = self.changed == self.image
        np.testing.assert_array_equal(
            normalize(self.changed, method, found)[untouched], normalize(self.image, method)[untouched]
        )

    def test_values_leave_the_range_unless_clipped(self) -> None:
        for method in ("minmax-slice", "percentile-slice"):
            seen = normalize(self.changed, method, scalings(self.image, method))
            assert (seen.max() > 1.2) == (method == "minmax-slice")
            assert seen.min() == 0

    def test_a_constant_has_nothing_to_scale_by(self) -> None:
        flat = np.full((1, 4, 4), 0.1)
        found = scalings(flat, "zscore-slice")
        assert found[0].scale == 0
        assert not normalize(self.image[:1, :4, :4], "zscore-slice", found).any()

    def test_without_normalisation_there_is_none(self) -> None:
        seen = normalize(self.changed, "none", scalings(self.image, "none"))
        np.testing.assert_array_equal(seen, self.changed.astype(np.float32))


class TestSpec:
    @pytest.mark.parametrize(
        ("region", "normalization", "given_window", "effective"),
        [
            (False, "minmax-slice", None, "perturbed"),
            (True, "minmax-slice", None, "original"),
            (True, "minmax-slice", "perturbed", "perturbed"),
            (False, "minmax-slice", "original", "original"),
            (True, "none", None, "perturbed"),
        ],
    )
    def test_is_resolved_on_load(
        self,
        write_spec: WriteSpec,
        tmp_path: Path,
        region: bool,
        normalization: str,
        given_window: str | None,
        effective: str,
    ) -> None:
        preprocess = {"normalize": normalization, "size": [64, 64]}
        preprocess |= {"window": given_window} if given_window else {}
        spec = spec_of(write_spec, tmp_path, controls={"region": region}, data__preprocess=preprocess)
        assert spec.data.preprocess.window == spec.window == effective
        again = Spec.from_mapping(spec.model_dump(mode="json"))
        assert again.window == effective
        assert again.identity() == spec.identity()
        named = spec.identity()["preprocess"].get("window")
        assert named == (None if effective == "perturbed" else "original")

    def test_no_window_is_another_run_without_normalisation(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        identities = [
            spec_of(write_spec, tmp_path, data__preprocess={"normalize": "none", "size": [64, 64], **window}).identity()
            for window in ({}, {"window": "original"}, {"window": "perturbed"})
        ]
        assert identities[0] == identities[1] == identities[2]

    def test_identities_of_before_are_unchanged(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        """SHA-256 of what the version before there was a window made of these specs."""
        before = {
            False: "396deccbe7ebb02fae297a48c76ec693151449a49e6aae2ad394abb73155f512",
            True: "293684bd2fa416e7f127ba25a7629e5f7b8c4c04191787e4856e12a4af29ff0d",
        }
        for region, digest in before.items():
            window = {"data__preprocess__window": "perturbed"} if region else {}
            spec = spec_of(write_spec, tmp_path, controls={"region": region}, **window)
            content = json.dumps(spec.identity(), sort_keys=True, separators=(",", ":"))
            assert hashlib.sha256(content.encode()).hexdigest() == digest


def phantom(seed: int, kind: str = "gamma") -> Volume:
    """Six slices with LV in 1-4 and RV in 2; slice 5 holds a single pixel of LV."""
    rng = np.random.default_rng(seed)
    shape = (6, 30, 36)
    image = rng.gamma(3.0, 50.0, shape) if kind == "gamma" else rng.choice([0.0, 1.0, 5.0], shape)
    label = np.zeros(shape, np.uint8)
    label[1:5, 10:16, 12:18] = 3
    label[2, 20:25, 20:25] = 1
    label[5, 9, 9] = 3
    return Volume(KEY, image[None].astype(np.float32), label, b"")


TRANSFORMS = [("brightness", 0.1), ("brightness", 1.3), ("brightness", 40.0), ("contrast", 0.2), ("noise", 2.0)]


def as_arrays(spec: Spec, seen: Prepared, shape: tuple[int, ...]) -> tuple[xr.DataArray, xr.DataArray]:
    """What a store has of one volume."""
    space = ("z", "y", "x")[-(seen.label.ndim - 1) :]
    sizes = dict(zip(("depth", "height", "width"), shape, strict=True))
    coords: dict[str, Any] = {name: ("sample", np.full(len(seen.label), n)) for name, n in sizes.items()}
    coords |= {
        "condition": [c.name for c in spec.conditions],
        "target": ("condition", [c.target for c in spec.conditions]),
        "region": ("condition", [c.region for c in spec.conditions]),
    }
    image = xr.DataArray(seen.inputs[:, :, 0], dims=("sample", "condition", *space), coords=coords)
    return image, xr.DataArray(seen.label, dims=("sample", *space))


def rescaled_by_hand(spec: Spec, volume: Volume, method: str, crop: tuple[slice, slice]) -> NDArray[np.float64]:
    """Ratio of scales of each slice and condition, 1 where nothing outside of the perturbed region changed."""
    regions = control_regions(volume.image, volume.label, [(1,), (3,)], spec.data.preprocess.size)
    found = np.ones((len(volume.label), len(spec.conditions)))
    for c, condition in enumerate(spec.conditions):
        if condition.is_untouched:
            continue
        target = NAMES.index(condition.target)
        region = regions[target,] if condition.is_control else None
        raw = apply(condition, volume.image, volume.label, NAMES, seed=0, key=KEY, region=region)[0]
        touched = region if region is not None else volume.label == target
        for s in range(len(raw)):
            part = s if method.endswith("slice") else slice(None)
            pair = volume.image[0][part].astype(np.float64), raw[part]
            ends = [1, 99] if method.startswith("percentile") else [0, 100]
            scales = [x.std() if method.startswith("zscore") else np.ptp(np.percentile(x, ends)) for x in pair]
            both = [by_hand(x, method).astype(np.float32) for x in pair]
            a, b = (x if method.endswith("slice") else x[s] for x in both)
            outside = ~touched[s][crop]
            if not np.allclose(a[crop][outside], b[crop][outside], rtol=3e-7, atol=0):
                found[s, c] = scales[0] / scales[1]
    return found


def by_hand_image() -> xr.DataArray:
    """An original and a perturbation of RV that is the same."""
    values = np.random.default_rng(0).uniform(0.1, 0.9, (1, 1, 8, 8)).astype(np.float32)
    coords = {"condition": ["original", "brightness(RV, 0.5)"], "target": ("condition", ["", NAMES[1]])}
    return xr.DataArray(values.repeat(2, axis=1), dims=("sample", "condition", "y", "x"), coords=coords)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [[40, 40], [24, 20]], ids=["padded", "cropped"])
def test_factors_are_ratios_of_scales(write_spec: WriteSpec, tmp_path: Path, method: str, size: list[int]) -> None:
    volume = phantom(3)
    perturb = [{"transform": t, "targets": ["LV", "RV"], "strengths": [s]} for t, s in TRANSFORMS[:3]]
    preprocess = {"normalize": method, "size": size, "window": "perturbed"}
    spec = spec_of(write_spec, tmp_path, data__preprocess=preprocess, perturb=perturb)
    seen = prepare(spec, Plain(spec), volume)
    crop = (slice(None), slice(None)) if size[0] > 30 else (slice(3, 27), slice(8, 28))
    expected = np.where(seen.applicable, rescaled_by_hand(spec, volume, method, crop), np.nan)
    assert (expected != 1).sum() > 5
    np.testing.assert_allclose(seen.stretched, expected, rtol=1e-5)
    image, label = as_arrays(spec, seen, volume.label.shape)
    found = analysis.rescaling(image, label, NAMES)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    several = image.expand_dims(input_channel=["T1"], axis=2)
    np.testing.assert_array_equal(analysis.rescaling(several, label, NAMES), found)


def test_the_pixels_of_all_input_channels_are_taken_together() -> None:
    image, label = by_hand_image(), xr.DataArray(np.zeros((1, 8, 8), np.uint8), dims=("sample", "y", "x"))
    label[0, 2:4, 2:4] = 1
    both = xr.concat([image, image.where(image.condition == "original", 3 * image)], "input_channel")
    changed = both.where((label == 0) | (both.condition == "original"), 0.5)
    assert analysis.rescaling(changed.isel(input_channel=0), label, NAMES).values[0, 1] == 1
    np.testing.assert_allclose(
        analysis.rescaling(changed.isel(input_channel=1), label, NAMES).values[0, 1], 3, rtol=1e-5
    )
    together = analysis.rescaling(changed.transpose("sample", "condition", "input_channel", "y", "x"), label, NAMES)
    assert 1 < together.values[0, 1] < 3
    assert together.dims == ("sample", "condition")
    lazy = analysis.rescaling(changed.chunk(input_channel=1, x=4), label.chunk(x=4), NAMES)
    np.testing.assert_array_equal(lazy, together)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["clipped target", "target of half of the body", "whole numbers"])
@pytest.mark.parametrize("transform", ["brightness", "noise", "contrast"])
def test_controls_of_hard_images(write_spec: WriteSpec, tmp_path: Path, method: str, kind: str, transform: str) -> None:
    """Bright targets, all but clipped, or large ones in a body on a background of 0; found exactly, or not at all."""
    rng = np.random.default_rng(5)
    image, label = rng.gamma(3.0, 50.0, (4, 30, 36)), np.zeros((4, 30, 36), np.uint8)
    label[:, 4:8, 5:9] = 1
    if kind == "clipped target":
        image[label == 1] += 2000
    elif kind == "target of half of the body":
        label[:, 4:24, 5:14] = 1
        image[:, :, 26:] = image[:, :3] = image[:, 25:] = 0
    else:
        image = np.round(image / 10)
    volume = Volume(KEY, image[None].astype(np.float32), label, b"")
    perturb = [{"transform": transform, "targets": ["RV"], "strengths": [2.0]}]
    volumetric = method.endswith("volume") and transform == "noise"
    preprocess = {"normalize": method, "size": [4, 32, 40] if volumetric else [32, 40], "window": "perturbed"}
    spec = spec_of(write_spec, tmp_path, data__preprocess=preprocess, perturb=perturb)
    seen = prepare(spec, Plain(spec), volume)
    found = analysis.rescaling(*as_arrays(spec, seen, image.shape), NAMES).values
    controls = [c for c, condition in enumerate(spec.conditions) if condition.is_control]
    region = control_regions(volume.image, label, [(1,)], spec.data.preprocess.size)[1,]
    for c in controls:
        raw = apply(
            spec.conditions[c], volume.image, label, NAMES, seed=0, key=KEY, volumetric=volumetric, region=region
        )[0]
        before, after = scalings(volume.image[0], method), scalings(raw, method)
        true = np.array([a.scale / b.scale for a, b in zip(before, after, strict=True)])
        true = np.broadcast_to(true, len(found))
        known = np.isfinite(found[:, c])
        assert (known == seen.applicable[:, c]).all()
        np.testing.assert_allclose(found[known, c], true[known], rtol=1e-5)
        np.testing.assert_allclose(seen.stretched[known, c], found[known, c], rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from([*METHODS, "none"]),
    size=st.sampled_from([(40, 40), (24, 20), (6, 40, 40), (4, 24, 24)]),
    transform=st.sampled_from(TRANSFORMS),
    kind=st.sampled_from(["gamma", "three values"]),
    seed=st.integers(0, 99),
    window=st.sampled_from(["perturbed", "original"]),
)
def test_what_is_counted_is_found_again_in_the_inputs(
    spec_for_any: Spec,
    method: str,
    size: tuple[int, ...],
    transform: tuple[str, float],
    kind: str,
    seed: int,
    window: str,
) -> None:
    content = spec_for_any.model_dump(mode="json")
    content["data"]["preprocess"] = {"normalize": method, "size": size, "window": window}
    content["data"]["axes"] = "simpleitk"
    content["perturb"] = [{"transform": transform[0], "targets": ["LV", "RV"], "strengths": [transform[1]]}]
    spec = Spec.from_mapping(content)
    volume = phantom(seed, kind)
    seen = prepare(spec, Plain(spec), volume)
    factor = analysis.rescaling(*as_arrays(spec, seen, volume.label.shape), NAMES).values
    assert np.isnan(factor[~seen.applicable]).all()
    counted = seen.applicable & (seen.stretched != 1)
    np.testing.assert_array_equal(seen.applicable & (factor != 1), counted)
    if window == "original" or method == "none":
        assert not counted.any()
    known = np.isfinite(factor) & np.isfinite(seen.stretched)
    if not (len(size) == 3 and method.endswith("slice")):  # one factor for each slice
        np.testing.assert_allclose(factor[known], seen.stretched[known], rtol=1e-5)


@pytest.fixture(scope="module")
def spec_for_any(write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory) -> Spec:
    controls = {"region": True, "noise": True}
    return spec_of(write_spec, tmp_path_factory.mktemp("any"), controls=controls)


class TestStretch:
    before = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    every = np.ones(4, bool)

    def test_slope(self) -> None:
        assert stretch(self.before, 0.5 * self.before + 0.25, self.every) == 0.5

    def test_a_shift_is_not_1(self) -> None:
        found = stretch(self.before, self.before + 0.25, self.every)
        assert found != 1
        assert found == pytest.approx(1, abs=1e-15)

    def test_what_is_clipped_does_not_count(self) -> None:
        before = np.array([0, 0, 0.25, 0.5, 0.75, 1, 1], np.float32)
        after = np.clip(0.5 * before + 0.375, 0.45, 0.8).astype(np.float32)
        assert stretch(before, after, np.ones(7, bool)) == pytest.approx(0.5)

    def test_no_contrast(self) -> None:
        assert np.isnan(stretch(self.before, self.before[::-1].copy(), np.arange(4) == 1))
        assert np.isnan(stretch(self.before, np.float32(0.5) * self.every, self.every))


class TestRescaling:
    def image(self) -> tuple[xr.DataArray, xr.DataArray]:
        """A control that lies elsewhere, in an image whose target is constant at 0, which minmax keeps."""
        rng = np.random.default_rng(0)
        values = np.repeat(rng.random((2, 1, 12, 12), dtype=np.float32), 3, axis=1)
        label = np.zeros((2, 12, 12), np.uint8)
        label[:, 2:5, 2:5] = 1
        values[:, :, 2:5, 2:5] = 0
        values[:, 2, 8:11, 8:11] = 0.125
        values[1, 2] *= np.float32(0.5)
        coords = {
            "condition": ["original", "brightness(RV, 0.1)", "brightness(RV, 0.1, control)"],
            "target": ("condition", ["", "RV", "RV"]),
            "region": ("condition", ["", "target", "control"]),
            "patient": ("sample", ["a", "b"]),
        }
        return xr.DataArray(values, dims=("sample", "condition", "y", "x"), coords=coords), xr.DataArray(
            label, dims=("sample", "y", "x")
        )

    def test_a_target_that_cannot_show_it(self) -> None:
        image, label = self.image()
        found = analysis.rescaling(image, label, ["background", "RV"])
        np.testing.assert_allclose(found.values, [[1, 1, 1], [1, 1, 0.5]], rtol=1e-7)

    def test_pixels_on_no_common_line_are_unknown(self) -> None:
        image, label = self.image()
        image[1, 2, :6] *= np.float32(0.75)
        found = analysis.rescaling(image, label, ["background", "RV"])
        np.testing.assert_array_equal(found.values, [[1, 1, 1], [1, 1, np.nan]])
        image[1, 2] = np.random.default_rng(1).random((12, 12), dtype=np.float32)
        assert np.isnan(analysis.rescaling(image, label, ["background", "RV"])[1, 2])

    def test_is_lazy_and_keeps_labels(self) -> None:
        image, label = self.image()
        lazy = image.copy(data=image.variable.chunk({"sample": 1, "y": 5, "condition": 2}).data)
        with raise_if_dask_computes():
            found = analysis.rescaling(lazy, label, ["background", "RV"])
        assert found.coords["patient"].values.tolist() == ["a", "b"]
        assert found.dims == ("sample", "condition")
        assert found.dtype == np.float64
        xr.testing.assert_identical(found.compute(), analysis.rescaling(image, label, ["background", "RV"]))

    def test_errors(self) -> None:
        image, label = self.image()
        with pytest.raises(AnalysisError, match="image has 2 of sample, label 1: select the same of both"):
            analysis.rescaling(image, label[:1], ["background", "RV"])
        with pytest.raises(AnalysisError, match="target 'RV' is no foreground class: class_names has LV"):
            analysis.rescaling(image, label, ["background", "LV"])
        with pytest.raises(AnalysisError, match="the first condition is"):
            analysis.rescaling(image[:, 1:], label, ["background", "RV"])


# What a test against controls makes of it


BRIGHT = 1.3


def patients(bright: str, seed: int = 0) -> list[Volume]:
    """Eight patients of six slices: LV, a disc that looks like it, and in slices 0-2 the maximum in one of the two.

    In slices 3-5 the maximum is elsewhere, and too large to be exceeded.
    """
    rng = np.random.default_rng(seed)
    found = []
    y, x = np.mgrid[:48, :48]
    own, other = (np.hypot(y - at, x - at) < 4.3 for at in (14, 32))
    for p in range(8):
        image = 40 + rng.normal(0, 2, (6, 48, 48))
        image[:, 7:22, 7:22] = 150 + rng.normal(0, 5, (6, 15, 15))
        image[:, own | other] = 200 + rng.normal(0, 3, (6, int((own | other).sum())))
        at = 14 if bright == "LV" else 32
        image[:3, at, at] = rng.uniform(290, 310, 3)
        image[3:, 44, 4] = rng.uniform(410, 440, 3)
        label = np.zeros(image.shape, np.uint8)
        label[:, own] = 3
        found.append(Volume(VolumeKey(f"patient{p:03d}", 1), image[None].astype(np.float32), label, b""))
    return found


#: Channels by where they look: around the class, everywhere, and where neither the class nor its control lies.
CHANNELS = ["at the class", "anywhere", "elsewhere"]


def study(write_spec: WriteSpec, folder: Path, bright: str, window: str) -> tuple[xr.DataArray, xr.DataArray]:
    """MAD (sample, condition, channel) of a network that multiplies its input by masks; factors (sample, condition)."""
    masks = np.zeros((3, 48, 48))
    masks[0, 7:22, 7:22] = masks[1] = masks[2, 25:40, 7:22] = 1
    spec = spec_of(
        write_spec,
        folder,
        data__preprocess={"size": [48, 48], "window": window},
        perturb=[{"transform": "brightness", "targets": ["LV"], "strengths": [BRIGHT]}],
    )
    scores, factors = [], []
    for volume in patients(bright):
        seen = prepare(spec, Plain(spec), volume)
        assert seen.applicable.all()
        maps = seen.inputs * masks
        mad = np.abs(maps - maps[:, :1]).mean(axis=(-2, -1))
        coords = {
            "condition": [c.name for c in spec.conditions],
            "patient": ("sample", [volume.key.patient] * len(mad)),
            "channel": CHANNELS,
            **{
                name: ("condition", [getattr(c, name) for c in spec.conditions])
                for name in ("transform", "target", "strength", "region")
            },
        }
        scores.append(xr.DataArray(mad, dims=("sample", "condition", "channel"), coords=coords))
        factors.append(analysis.rescaling(*as_arrays(spec, seen, volume.label.shape), NAMES))
    return xr.concat(scores, "sample"), xr.concat(factors, "sample")


class TestPlanted:
    def test_a_control_that_holds_the_maximum_hides_a_channel_of_the_class(
        self, write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        score, factor = study(write_spec, tmp_path, "control", "perturbed")
        assert (factor[:, 1] == 1).all()
        assert ((factor[:, 2] != 1).values.reshape(8, 6) == [True] * 3 + [False] * 3).all()
        np.testing.assert_allclose(factor[:, 2].values.reshape(8, 6)[:, :3], 1 / BRIGHT, rtol=0.06)
        misread = analysis.class_sensitivity(score).isel(condition=0)
        assert not misread["sensitive"].sel(channel="at the class")
        assert misread["rescaled"] == 0
        found = analysis.class_sensitivity(score, rescaled=factor != 1).isel(condition=0)
        assert found["sensitive"].values.tolist() == [True, False, False]
        assert (found["rescaled"], found["samples"][0], found["patients"][0]) == (24, 24, 8)
        assert found["note"].values.tolist() == [""] * 3
        score, factor = study(write_spec, tmp_path, "control", "original")
        assert (factor == 1).all()
        found = analysis.class_sensitivity(score, rescaled=factor != 1).isel(condition=0)
        assert found["sensitive"].values.tolist() == [True, False, False]
        assert (found["rescaled"], found["samples"][0]) == (0, 48)

    def test_a_target_that_holds_the_maximum_makes_any_channel_look_like_the_class_own(
        self, write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        score, factor = study(write_spec, tmp_path, "LV", "perturbed")
        misread = analysis.class_sensitivity(score).isel(condition=0)
        assert misread["sensitive"].sel(channel="elsewhere")
        assert misread["sensitive"].sel(channel="anywhere")
        right = [
            analysis.class_sensitivity(score, rescaled=factor != 1),
            analysis.class_sensitivity(study(write_spec, tmp_path, "LV", "original")[0].isel(sample=_calm())),
        ]
        for found in right:
            assert found["sensitive"].values[0].tolist()[::2] == [True, False]
            assert found["mad"].sel(channel="elsewhere") == 0

    def test_numbers_are_those_of_the_pairs_that_are_left(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        score, factor = study(write_spec, tmp_path, "control", "perturbed")
        # Of one side alone, and of other samples for the perturbation.
        factor[9, 1] = 0.5
        factor[10, 1] = np.nan
        found = analysis.class_sensitivity(score, rescaled=factor != 1)
        kept = ((factor[:, 1] == 1) & (factor[:, 2] == 1)).values
        assert found["rescaled"] == (~kept).sum() == 26
        expected = analysis.class_sensitivity(score.isel(sample=kept))
        for name in expected.data_vars:
            if name not in ("rescaled", "note"):
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=str(name))

    def test_without_rescaled_pairs_nothing_changes(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        score, factor = study(write_spec, tmp_path, "control", "original")
        xr.testing.assert_identical(
            analysis.class_sensitivity(score), analysis.class_sensitivity(score, rescaled=factor != 1)
        )

    def test_a_pair_to_which_one_side_does_not_apply_is_not_counted(
        self, write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        score, factor = study(write_spec, tmp_path, "control", "perturbed")
        score[0, 1] = np.nan
        assert analysis.class_sensitivity(score, rescaled=factor != 1)["rescaled"] == 23

    def test_too_few_patients_are_named(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        score, factor = study(write_spec, tmp_path, "control", "perturbed")
        rescaled = (factor != 1) | (score["patient"] > "patient003").values[:, None]
        found = analysis.class_sensitivity(score, rescaled=rescaled).isel(condition=0)
        words = f"4 patients: too few for a test; 36 of 48 samples were rescaled by normalisation: set {MEND}"
        assert set(found["note"].values.tolist()) == {words}
        assert found["p"].isnull().all()
        assert found["effect"].isnull().all()
        assert not found["sensitive"].any()
        assert found["difference"].notnull().all()
        few = analysis.class_sensitivity(score[:18], rescaled=(factor != 1)[:18])
        assert set(few["note"].values.ravel().tolist()) == {"3 patients: too few for a test"}, "not for this reason"
        assert few["rescaled"] == 9

    def test_is_lazy_and_has_the_same_numbers(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        score, factor = study(write_spec, tmp_path, "control", "perturbed")
        lazy = [x.copy(data=x.variable.chunk({"sample": 7}).data) for x in (score, factor)]
        with raise_if_dask_computes():
            found = analysis.class_sensitivity(lazy[0], rescaled=lazy[1] != 1)
        xr.testing.assert_allclose(found.compute(), analysis.class_sensitivity(score, rescaled=factor != 1))

    def test_of_other_samples_or_conditions_is_refused(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        score, factor = study(write_spec, tmp_path, "control", "perturbed")
        for other in (factor[1:], factor[:, :2], factor[:, [0, 2, 1]]):
            with pytest.raises(
                AnalysisError, match=r"rescaled has \d+ of (sample|condition), .* select the same of both"
            ):
                analysis.class_sensitivity(score, rescaled=other != 1)
        with pytest.raises(AnalysisError, match="factor has no dimension 'condition'"):
            analysis.class_sensitivity(score, rescaled=factor[:, 0])


def _calm() -> list[int]:
    return [s for s in range(48) if s % 6 > 2]


# Whole stores


CAPTURES = {
    "minmax-slice": ("minmax-slice", [64, 64], "networks:tiny_unet", "type:InstanceNorm2d"),
    "zscore-slice": ("zscore-slice", [64, 64], "networks:tiny_unet", "type:InstanceNorm2d"),
    "percentile-slice": ("percentile-slice", [40, 64], "networks:tiny_unet", "type:InstanceNorm2d"),
    "minmax-volume": ("minmax-volume", [64, 64], "networks:tiny_unet", "type:InstanceNorm2d"),
    "volumes": ("minmax-volume", [8, 32, 32], "networks:Volumes", "type:InstanceNorm3d"),
    "volumes by slice": ("minmax-slice", [8, 32, 32], "networks:Volumes", "type:InstanceNorm3d"),
}


def spec_file(write_spec: WriteSpec, folder: Path, kind: str = "minmax-slice", **changes: Any) -> Path:
    method, size, factory, layers = CAPTURES[kind]
    return write_spec(
        folder,
        **{
            "data__preprocess": {"normalize": method, "size": size, "window": "perturbed"},
            "model": {"factory": factory, "layers": [layers]},
            "perturb": [{"transform": "brightness", "targets": ["LV", "RV"], "strengths": [0.1, 8.0]}],
            "controls": {"region": True, "noise": True},
            **changes,
        },
    )


def captured(path: Path) -> Summary:
    summary = capture(load_spec(path), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return summary


@pytest.fixture(scope="module")
def perturbed(write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A store with controls, each condition normalised by itself. Not to be changed."""
    return captured(spec_file(write_spec, tmp_path_factory.mktemp("perturbed")))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAPTURES)
def test_capture_counts_what_the_stored_inputs_show(
    write_spec: WriteSpec, tmp_path: Path, perturbed: Summary, kind: str
) -> None:
    summary = perturbed if kind == "minmax-slice" else captured(spec_file(write_spec, tmp_path, kind))
    store = actstore.open(summary.store)
    factor, applicable = store.rescaling.values, store.applicable.values
    assert (factor[:, 0] == 1).all()
    assert (factor[applicable & (store.conditions["target"] == "").to_numpy()] == 1).all()
    rescaled = (factor != 1) & applicable
    assert rescaled.any()
    found = {one.condition: one for one in summary.rescaled}
    assert list(found) == [
        name for name, some in zip(store.conditions.index, rescaled.any(axis=0), strict=True) if some
    ]
    for c, name in enumerate(store.conditions.index):
        if name in found:
            one = found[name]
            assert (one.samples, one.applicable) == (rescaled[:, c].sum(), applicable[:, c].sum())
            assert one.compared
            known = factor[rescaled[:, c] & np.isfinite(factor[:, c]), c]
            if known.size == one.samples and kind != "volumes by slice":
                np.testing.assert_allclose([one.low, one.high], [known.min(), known.max()], rtol=1e-3)


@pytest.mark.slow
def test_with_the_originals_window_nothing_is_rescaled(write_spec: WriteSpec, tmp_path: Path) -> None:
    summary = captured(spec_file(write_spec, tmp_path, data__preprocess={"size": [64, 64]}))
    assert summary.rescaled == ()
    store = actstore.open(summary.store)
    assert store.attributes["spec"]["data"]["preprocess"]["window"] == "original"
    read = analysis.rescaling(store.image, store.label, store.class_names)
    np.testing.assert_array_equal(read.values, np.where(store.applicable.values, 1, np.nan))
    xr.testing.assert_equal(read.compute(), store.rescaling.compute())
    assert float(store.image.max()) > 1.2, "values leave the range"
    table = Findings(store).table("controls")
    assert (table["rescaled"] == 0).all()


def test_tables_list_and_leave_out_rescaled_pairs(perturbed: Summary) -> None:
    store = actstore.open(perturbed.store)
    findings = Findings(store)
    factor, applicable = findings.rescaling.values, store.applicable.values
    table = findings.table("rescaling")
    assert list(table) == ["patient", "frame", "slice", "condition", "target", "region", "factor"]
    changed = (store.conditions["target"] != "").to_numpy()
    s, c = np.nonzero(applicable & changed)
    assert table["condition"].tolist() == store.conditions.index[c].tolist()
    assert table["slice"].tolist() == store.samples["slice"].to_numpy()[s].tolist()
    assert table["region"].tolist() == store.conditions["region"].to_numpy()[c].tolist()
    np.testing.assert_array_equal(table["factor"].to_numpy(), factor[s, c])
    names = list(store.conditions.index)
    controls = findings.table("controls").groupby("condition", sort=False)["rescaled"].first()
    assert controls.sum() > 0
    for name, left_out in controls.items():
        a, b = names.index(str(name)), names.index(f"{str(name)[:-1]}, control)")
        both = applicable[:, a] & applicable[:, b]
        assert left_out == (both & ((factor[:, a] != 1) | (factor[:, b] != 1))).sum()


def test_capture_says_it(perturbed: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    text.show_summary(perturbed)
    told = capsys.readouterr().err.splitlines()
    one = next(one for one in perturbed.rescaled if one.condition == "brightness(LV, 8, control)")
    line = (
        f"rescaled: {one.condition}, {one.samples} of {one.applicable} samples "
        f"(untouched contrast × {one.low:.3g} to {one.high:.3g}); the test against controls leaves them out, with "
        f"{MEND} there are none"
    )
    assert line in told
    assert len([line for line in told if line.startswith("rescaled: ")]) == len(perturbed.rescaled)


def test_in_words() -> None:
    def say(**changes: Any) -> str:
        told = {"condition": "noise(LV, 1)", "compared": False, "samples": 1, "applicable": 1, "low": 0.5, "high": 0.5}
        return str(Rescaled(**{**told, **changes}))

    assert say() == "noise(LV, 1), 1 of 1 sample (untouched contrast × 0.5)"
    assert say(low=0.99996, high=1.0002).endswith("(untouched contrast × 0.99996 to 1.0002)")
    assert say(low=np.nan, high=np.nan).endswith("(untouched contrast by an unknown factor)")


@pytest.mark.slow
def test_targets_of_runs_without_controls_are_counted_too(
    write_spec: WriteSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = captured(spec_file(write_spec, tmp_path, "zscore-slice", controls={}))
    assert {one.condition for one in summary.rescaled} == set(actstore.open(summary.store).conditions.index[1:])
    text.show_summary(summary)
    told = capsys.readouterr().err
    assert "rescaled: brightness(LV, 0.1), " in told
    assert "controls" not in told


def test_plan_and_status_say_which_window(perturbed: Summary, capsys: pytest.CaptureFixture[str]) -> None:
    text.show_status(actstore.open(perturbed.store))
    assert re.search(r"^normalised +minmax-slice, each condition by itself$", capsys.readouterr().out, re.MULTILINE)


def test_maps_coloured_by_the_effect_leave_them_out(perturbed: Summary) -> None:
    store, condition = actstore.open(perturbed.store), "brightness(LV, 8)"
    table = Findings(store).table("controls").query("condition == @condition")
    n = int(table["rescaled"].iloc[0])
    assert n > 1
    words = rf"needs 5 patients with both \({n} samples rescaled by normalisation left out\): select more"
    with pytest.raises(StoreError, match=words):
        views.network(store, condition=condition, colour="control")
    source = Source(store)
    assert not source.has("rescaled")
    state = source.first_state(condition=condition).copy(colour="control")
    assert missing(source, state)[-1] == "rescaled"
    load(source, missing(source, state), lambda done, all_: None)
    assert missing(source, state) == []
    with pytest.raises(StoreError, match=words):
        values_of(source, state, np.ones(len(store.samples), bool))
    np.testing.assert_array_equal(source.whole("rescaled"), store.rescaling.values != 1)


# Stores of before


@pytest.fixture
def older(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, perturbed: Summary
) -> tuple[Path, Path]:
    """A spec without the key, and its store as the version before made it, one of its blocks not committed."""

    def before(plan: Any) -> dict[str, Any]:
        made: dict[str, Any] = dict(attributes(plan))
        del made["spec"]["data"]["preprocess"]["window"]
        return made

    with monkeypatch.context() as patched:
        patched.setattr("actstore.jobs.creation.attributes", before)
        summary = captured(spec_file(write_spec, tmp_path))
    store = actstore.open(summary.store)
    assert "window" not in json.dumps(store.attributes["spec"]["data"])
    assert "window" not in json.dumps(store.attributes["identity"])
    (Path(summary.store) / store.layout.capture.record.key(1)).unlink()
    return spec_file(write_spec, tmp_path, data__preprocess={"size": [64, 64]}), Path(summary.store)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::actstore.store.opening.MissingBlocksWarning")
class TestOlderStore:
    def test_is_not_continued_by_another_rule(self, older: tuple[Path, Path]) -> None:
        spec, path = older
        words = (
            f'{path} belongs to another run: another spec (preprocess.window: "perturbed" → "original"); '
            'set data.preprocess.window = "perturbed" to continue it as it was begun, or choose another store path'
        )
        with pytest.raises(StoreError, match=f"^{re.escape(words)}$"):
            capture(load_spec(spec), cluster="inline", device="cpu")

    def test_is_continued_by_its_own(
        self, older: tuple[Path, Path], write_spec: WriteSpec, tmp_path: Path, perturbed: Summary
    ) -> None:
        assert len(actstore.open(older[1]).missing) == 1
        again = captured(spec_file(write_spec, tmp_path))
        assert (again.done, again.skipped) == (1, 3)
        found, whole = (actstore.open(path) for path in (older[1], perturbed.store))
        np.testing.assert_array_equal(found.image.values, whole.image.values)
        np.testing.assert_array_equal(found.rescaling.values, whole.rescaling.values)
        assert found.attributes["fingerprint"] == whole.attributes["fingerprint"]

    def test_is_read_and_repaired_by_its_own(self, older: tuple[Path, Path], perturbed: Summary) -> None:
        from actstore.jobs.repair import repair

        shard = older[1] / Store(older[1]).layout.image.key(0)
        shard.write_bytes(shard.read_bytes()[:-1000])
        repair(older[1], verify(older[1]).damage, cluster="inline", device="cpu")
        assert verify(older[1]).whole
        whole = actstore.open(perturbed.store)
        np.testing.assert_array_equal(actstore.open(older[1]).image.values, whole.image.values)

    def test_says_each_condition_by_itself(self, older: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        store = actstore.open(older[1])
        text.show_status(store)
        assert "minmax-slice, each condition by itself" in capsys.readouterr().out
        assert (Findings(store).table("controls")["rescaled"] > 0).any()


@pytest.mark.slow
def test_a_store_by_the_originals_window_is_not_continued_by_another(write_spec: WriteSpec, tmp_path: Path) -> None:
    captured(spec_file(write_spec, tmp_path, data__preprocess={"size": [64, 64]}))
    with pytest.raises(StoreError, match=r'"original" → "perturbed"\); set data.preprocess.window = "original" to'):
        capture(load_spec(spec_file(write_spec, tmp_path)), cluster="inline", device="cpu")


@pytest.mark.slow
def test_a_continued_capture_says_that_it_counts_this_run(
    perturbed: Summary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(perturbed.store, tmp_path / "copy.zarr"))
    (copy / actstore.open(copy).layout.capture.record.key(0)).unlink()
    spec = load_spec(Path(perturbed.store).parent / "spec.toml")
    text.show_summary(capture(spec, store=copy, cluster="inline", device="cpu"))
    told = capsys.readouterr().err
    assert f"rescaled counts the 1 volume of this run: `actstore table {copy} rescaling` lists all" in told


def test_controls_lie_off_their_target() -> None:
    """What :func:`actstore.analysis.rescaling` rests on."""
    for seed in range(3):
        volume = phantom(seed)
        for (target,), region in control_regions(volume.image, volume.label, [(1,), (3,)], (24, 20)).items():
            assert not (region & (volume.label == target)).any()
            assert region.any()
