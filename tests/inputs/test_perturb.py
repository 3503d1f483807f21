"""Perturbations: what changes, what does not, and what is said of a transform that breaks its promises."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import types
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.conditions import IDENTITY_STRENGTH, ORIGINAL_CONDITION, Condition
from actstore.data.volume import VolumeKey
from actstore.errors import DataError, SpecError
from actstore.inputs import perturb
from actstore.inputs.placement import control_regions

NAMES = ("background", "RV", "MYO", "LV")
KEY = VolumeKey("patient001", 1)
MODULE = "actstore_test_transforms"
STRENGTHS = {"brightness": 0.1, "contrast": 2.0, "noise": 0.5, "blur": 2.0, "fill": 1.0, "shuffle": 1.0}


@pytest.fixture
def image() -> NDArray[np.float32]:
    return np.random.default_rng(1).gamma(3.0, 50.0, (4, 24, 20)).astype(np.float32)


@pytest.fixture
def label() -> NDArray[np.uint8]:
    """RV left, MYO in the middle, LV right; slice 2 has no RV, slice 3 nothing."""
    label = np.zeros((4, 24, 20), np.uint8)
    for value, columns in ((1, slice(1, 6)), (2, slice(7, 12)), (3, slice(13, 19))):
        label[:3, 4:20, columns] = value
    label[2][label[2] == 1] = 0
    return label


def condition(
    transform: str, strength: float | None = None, target: str = "LV", source: str | None = None
) -> Condition:
    source = "MYO" if transform == "fill" and source is None else source
    return Condition(transform, target, STRENGTHS[transform] if strength is None else strength, source)


def run(c: Condition, image: NDArray[Any], label: NDArray[np.uint8], **more: Any) -> NDArray[np.float64]:
    return perturb.apply(c, image[None], label, NAMES, **{"seed": 0, "key": KEY, **more})[0]


def test_registry_is_what_specs_know() -> None:
    assert perturb.TRANSFORMS.keys() == IDENTITY_STRENGTH.keys() == STRENGTHS.keys()
    assert all(perturb.resolve(name) is transform for name, transform in perturb.TRANSFORMS.items())


def test_original_is_a_copy(image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
    result = run(ORIGINAL_CONDITION, image, label)
    np.testing.assert_array_equal(result, image)
    assert result.dtype == np.float64


@pytest.mark.parametrize("volumetric", [False, True])
@pytest.mark.parametrize("transform", STRENGTHS)
class TestEveryTransform:
    def test_identity_changes_nothing_and_is_refused(
        self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str, volumetric: bool
    ) -> None:
        c = condition(transform, IDENTITY_STRENGTH[transform])
        with pytest.raises(SpecError, match=f"of '{transform}' changes nothing: leave it out, the original is"):
            run(c, image, label, volumetric=volumetric)
        direct = perturb.TRANSFORMS[transform](
            image[0].astype(np.float64),
            label[0] == 3,
            strength=c.strength,
            label=label[0],
            class_names=NAMES,
            source=c.source,
            rng=np.random.default_rng(0),
        )
        np.testing.assert_allclose(direct, image[0], rtol=1e-12)

    def test_changes_the_target_alone(
        self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str, volumetric: bool
    ) -> None:
        before = image.copy(), label.copy()
        result = run(condition(transform), image, label, volumetric=volumetric)
        np.testing.assert_array_equal(result[label != 3], image[label != 3])
        assert np.count_nonzero(result[label == 3] != image[label == 3]) > 0.9 * np.count_nonzero(label == 3)
        np.testing.assert_array_equal(image, before[0])
        np.testing.assert_array_equal(label, before[1])

    def test_repeats(
        self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str, volumetric: bool
    ) -> None:
        first, second = (run(condition(transform), image, label, volumetric=volumetric) for _ in range(2))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("transform", STRENGTHS)
def test_a_slice_without_the_target_stays(image: NDArray[np.float32], label: NDArray[np.uint8], transform: str) -> None:
    result = run(condition(transform, target="RV"), image, label)
    np.testing.assert_array_equal(result[2:], image[2:])


@pytest.mark.parametrize("transform", ["noise", "shuffle"])
class TestRandomness:
    def test_depends_on_everything_that_names_the_sample(
        self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str
    ) -> None:
        c = condition(transform)
        results = [
            run(c, image, label),
            run(c, image, label, seed=1),
            run(c, image, label, key=VolumeKey("patient002", 1)),
            run(c, image, label, key=VolumeKey("patient001", 2)),
            run(condition(transform, 0.99 * c.strength), image, label),
        ]
        assert len({r.tobytes() for r in results}) == len(results)

    def test_slices_draw_their_own(self, label: NDArray[np.uint8], transform: str) -> None:
        same = np.broadcast_to(np.random.default_rng(0).random((24, 20)), label.shape)
        result = run(condition(transform), same, label)
        assert (result[0] != result[1]).any()

    def test_other_slices_do_not_matter(
        self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str
    ) -> None:
        emptied = label.copy()
        emptied[0] = 0
        whole, part = (run(condition(transform), image, mask) for mask in (label, emptied))
        np.testing.assert_array_equal(whole[1], part[1])

    @pytest.mark.process
    def test_another_process_draws_the_same(self, transform: str) -> None:
        code = (
            "import numpy as np, hashlib; from actstore.inputs import perturb;"
            "from actstore.conditions import Condition;"
            "from actstore.data.volume import VolumeKey;"
            "i = np.arange(64.0).reshape(1, 1, 8, 8); m = np.ones((1, 8, 8), np.uint8);"
            f"r = perturb.apply(Condition({transform!r}, 'A', 0.5), i, m, ('background', 'A'), seed=3,"
            "key=VolumeKey('é', 2)); print(hashlib.sha256(r.tobytes()).hexdigest())"
        )
        image, label = np.arange(64.0).reshape(1, 1, 8, 8), np.ones((1, 8, 8), np.uint8)
        c = Condition(transform, "A", 0.5)
        here = perturb.apply(c, image, label, ("background", "A"), seed=3, key=VolumeKey("é", 2))
        there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert there.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()


class TestBuiltIns:
    def test_brightness(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        expected = np.where(label == 3, image.astype(np.float64) * 0.1, image)
        np.testing.assert_array_equal(run(condition("brightness"), image, label), expected)

    def test_contrast_uses_the_range_of_the_slice(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        result = run(condition("contrast", 2.0), image, label)
        for raw, mask, got in zip(image.astype(np.float64), label == 3, result, strict=True):
            low, high = raw.min(), raw.max()
            expected = low + ((raw - low) / (high - low)) ** 2 * (high - low)
            np.testing.assert_allclose(got[mask], expected[mask])

    def test_contrast_of_a_constant_slice(self, label: NDArray[np.uint8]) -> None:
        flat = np.full(label.shape, 5.0)
        np.testing.assert_array_equal(run(condition("contrast"), flat, label), flat)

    def test_noise_statistics(self) -> None:
        image = np.random.default_rng(0).normal(300, 40, (1, 200, 200))
        label = np.full(image.shape, 3, np.uint8)
        added = run(condition("noise", 0.5), image, label) - image
        assert abs(added.mean()) < 0.5
        assert added.std() == pytest.approx(0.5 * image.std(), rel=0.02)

    def test_blur(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        from scipy import ndimage

        result = run(condition("blur", 1.5), image, label)
        expected = ndimage.gaussian_filter(image[1].astype(np.float64), 1.5)
        np.testing.assert_allclose(result[1][label[1] == 3], expected[label[1] == 3], rtol=1e-12)
        assert result[1][label[1] == 3].std() < image[1][label[1] == 3].std()

    def test_blur_in_3d_crosses_slices(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        flat, solid = (run(condition("blur"), image, label, volumetric=v) for v in (False, True))
        assert (flat[1] != solid[1]).any()

    def test_blur_wider_than_the_image(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        with pytest.raises(SpecError, match=r"strength 1e\+12 of 'blur' is wider than the image of \(24, 20\)"):
            run(condition("blur", 1e12), image, label)

    def test_fill_with_the_mean_of_the_slice(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        result = run(condition("fill", 1.0), image, label)
        half = run(condition("fill", 0.5), image, label)
        for i in range(3):
            mean = image[i][label[i] == 2].mean(dtype=np.float64)
            inside = label[i] == 3
            np.testing.assert_allclose(result[i][inside], mean, rtol=1e-12)
            np.testing.assert_allclose(half[i][inside], (image[i][inside].astype(np.float64) + mean) / 2, rtol=1e-12)

    def test_fill_falls_back_to_the_volume(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        result = run(condition("fill", source="RV"), image, label)
        np.testing.assert_allclose(result[2][label[2] == 3], image[label == 1].mean(dtype=np.float64), rtol=1e-12)

    def test_fill_without_any_source(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        label[label == 1] = 0
        with pytest.raises(DataError, match=r"patient001 frame 01: fill\(LV, 1, source=RV\) needs the mean of RV, and"):
            run(condition("fill", source="RV"), image, label)
        label[label == 3] = 0
        np.testing.assert_array_equal(run(condition("fill", source="RV"), image, label), image)

    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.01, 1), st.integers(2, 60), st.integers(0, 99))
    def test_shuffle_moves_exactly_its_fraction(self, strength: float, count: int, seed: int) -> None:
        image = np.arange(64.0).reshape(1, 8, 8)
        label = (image < count).astype(np.uint8) * 3
        result = run(condition("shuffle", strength), image, label, seed=seed)
        np.testing.assert_array_equal(np.sort(result, axis=None), np.sort(image, axis=None))
        chosen = round(strength * count)
        assert np.count_nonzero(result != image) == (chosen if chosen > 1 else 0)

    @pytest.mark.parametrize("transform", ["shuffle", "fill"])
    def test_fractions_end_at_one(self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str) -> None:
        with pytest.raises(SpecError, match=rf"strength 1\.5 of '{transform}' is a fraction: use at most 1"):
            run(condition(transform, 1.5), image, label)

    def test_overflow_names_the_volume(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        with pytest.raises(
            DataError, match=r"'brightness' made 96 pixels NaN or infinite on patient001 frame 01 slice 0"
        ):
            run(condition("brightness", 1e308), image, label)

    def test_unknown_target(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        with pytest.raises(SpecError, match=r"names the class 'LA': there are background, RV, MYO, LV"):
            run(condition("brightness", target="LA"), image, label)

    @pytest.mark.process
    def test_scipy_ndimage_is_loaded_for_blur_alone(self) -> None:
        code = "import sys, actstore.inputs.perturb; sys.exit('scipy.ndimage' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("transform", STRENGTHS)
def test_a_region_is_perturbed_like_one_class_of_its_union(
    transform: str, image: NDArray[np.float32], label: NDArray[np.uint8]
) -> None:
    """Regions may overlap, and the random numbers of a condition follow its name."""
    members = {"heart": (1, 2, 3), "left": (2, 3), "LV": (3,)}
    together = np.where(label > 1, 2, label).astype(np.uint8)
    alone = {"RV": (1,), "left": (2,)}
    source = "LV" if transform == "fill" else None
    c = condition(transform, target="left", source=source)
    found = run(c, image, label, members=members)
    if transform == "fill":
        for i in range(3):
            assert found[i][label[i] > 1] == pytest.approx(image[i][label[i] == 3].mean(dtype=np.float64))
    else:
        np.testing.assert_array_equal(found, run(c, image, together, members=alone))
    np.testing.assert_array_equal(found[label < 2], image[label < 2])


def test_fill_takes_the_mean_of_a_region(image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
    found = run(condition("fill", target="RV", source="left"), image, label, members={"RV": (1,), "left": (2, 3)})
    for i in range(2):
        assert found[i][label[i] == 1] == pytest.approx(image[i][label[i] > 1].mean(dtype=np.float64))


def test_a_control_of_a_region_has_the_shape_of_its_union(image: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
    label[:, :, 12:] = 0  # room for RV and MYO to move to
    together = np.where(label > 0, 1, label).astype(np.uint8)
    found = control_regions(image[None], label, [(1, 2), (1,)], (24, 20))
    assert found.keys() == {(1, 2), (1,)}
    np.testing.assert_array_equal(found[1, 2], control_regions(image[None], together, [(1,)], (24, 20))[1,])
    assert found[1, 2][0].sum() in (0, (label[0] > 0).sum())


class TestUserTransforms:
    @pytest.fixture
    def module(self, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
        module = types.ModuleType(MODULE)
        monkeypatch.setitem(sys.modules, MODULE, module)
        return module

    def use(self, module: types.ModuleType, function: Any) -> Condition:
        module.function = function  # type: ignore[attr-defined]
        return Condition(f"{MODULE}:function", "LV", 0.5, "RV")

    def test_sees_everything_and_may_write_its_copies(
        self, module: types.ModuleType, image: NDArray[np.float32], label: NDArray[np.uint8]
    ) -> None:
        seen = []

        def function(image: Any, mask: Any, **more: Any) -> Any:
            seen.append((image.shape, image.dtype, mask.dtype, more))
            image[mask] *= more["strength"]
            more["label"][:] = 0
            mask_out = image.copy()
            mask[:] = True
            return mask_out

        before = image.copy(), label.copy()
        result = run(self.use(module, function), image, label)
        np.testing.assert_array_equal(result, np.where(before[1] == 3, before[0] * 0.5, before[0]))
        np.testing.assert_array_equal(image, before[0])
        np.testing.assert_array_equal(label, before[1])
        assert len(seen) == 3
        shape, image_dtype, mask_dtype, more = seen[0]
        assert (shape, image_dtype, mask_dtype) == ((24, 20), np.float64, np.bool_)
        assert more.keys() == {"strength", "label", "class_names", "source", "rng"}
        assert (more["strength"], more["class_names"], more["source"]) == (0.5, NAMES, "RV")

    def test_volumetric_sees_the_volume(
        self, module: types.ModuleType, image: NDArray[np.float32], label: NDArray[np.uint8]
    ) -> None:
        shapes = []

        def function(image: Any, mask: Any, **_: Any) -> Any:
            shapes.append((image.shape, mask.shape))
            return image

        run(self.use(module, function), image, label, volumetric=True)
        assert shapes == [(image.shape, image.shape)]

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (
                lambda i, m, **_: i * 2,
                r"changed 384 pixels outside of LV on patient001 frame 01 slice 0, the first at \(0",
            ),
            (lambda i, m, **_: i[1:], r"returned the shape \(23, 20\) on .* return the image's, \(24, 20\)"),
            (lambda i, m, **_: None, r"returned NoneType of object on .*; return real numbers"),
            (lambda i, m, **_: i + 1j, r"returned ndarray of complex128 on .*; return real numbers"),
            (
                lambda i, m, **_: np.where(m, np.nan, i),
                r"made 96 pixels NaN or infinite on patient001 frame 01 slice 0",
            ),
            (lambda i, m: i, r"failed on patient001 frame 01 slice 0, .*: TypeError: .*; correct the transform"),
            (lambda i, m, **_: 1 / 0, r"failed on .*: ZeroDivisionError: division by zero; correct the transform"),
        ],
    )
    def test_broken_promises(
        self,
        module: types.ModuleType,
        image: NDArray[np.float32],
        label: NDArray[np.uint8],
        function: Any,
        words: str,
    ) -> None:
        with pytest.raises(SpecError, match=rf"transform '{MODULE}:function' {words}") as caught:
            run(self.use(module, function), image, label)
        assert "\n" not in str(caught.value)

    def test_unresolved(self, module: types.ModuleType) -> None:
        module.number = 3  # type: ignore[attr-defined]
        for name, words in {
            "sparkle": "'sparkle' is unknown: use brightness, contrast, noise, blur, fill, shuffle, or 'module:",
            "no_such_module:f": r"cannot import 'no_such_module' \(ModuleNotFoundError: .*put it beside the spec",
            f"{MODULE}:absent": rf"'{MODULE}' has no 'absent'; correct the name",
            f"{MODULE}:number": "is a int, not callable; name a function",
        }.items():
            with pytest.raises(SpecError, match=words):
                perturb.resolve(name)

    def test_check_is_resolve_and_limits(self) -> None:
        perturb.check(ORIGINAL_CONDITION)
        perturb.check(condition("fill", 1.0))
        with pytest.raises(SpecError, match="is a fraction"):
            perturb.check(condition("fill", 1.01))
        with pytest.raises(SpecError, match="cannot import"):
            perturb.check(Condition("no_such_module:f", "LV", 1.0))


class TestChannels:
    """Three input channels; the first is the image of every other test."""

    names = ("T1", "T1ce", "FLAIR")

    @pytest.fixture
    def channels(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        rng = np.random.default_rng(7)
        return np.stack([image, *rng.gamma(2.0, 90.0, (2, *image.shape)).astype(np.float32)])

    @pytest.mark.parametrize("volumetric", [False, True])
    @pytest.mark.parametrize("transform", ["brightness", "contrast", "blur", "fill"])
    def test_each_is_perturbed_by_its_own_values(
        self, channels: NDArray[np.float32], label: NDArray[np.uint8], transform: str, volumetric: bool
    ) -> None:
        c = condition(transform)
        result = perturb.apply(c, channels, label, NAMES, seed=0, key=KEY, volumetric=volumetric)
        for before, after in zip(channels, result, strict=True):
            np.testing.assert_array_equal(after, run(c, before, label, volumetric=volumetric))

    @pytest.mark.parametrize("transform", ["noise", "shuffle"])
    def test_the_first_draws_as_a_single_one_and_others_draw_their_own(
        self, image: NDArray[np.float32], label: NDArray[np.uint8], transform: str
    ) -> None:
        c = condition(transform)
        result = perturb.apply(c, np.stack([image] * 3), label, NAMES, seed=0, key=KEY)
        np.testing.assert_array_equal(result[0], run(c, image, label))
        assert len({channel.tobytes() for channel in result}) == 3

    @pytest.mark.parametrize("transform", STRENGTHS)
    def test_a_chosen_one_changes_as_among_all(
        self, channels: NDArray[np.float32], label: NDArray[np.uint8], transform: str
    ) -> None:
        c = condition(transform)
        every = perturb.apply(c, channels, label, NAMES, seed=0, key=KEY, input_channels=self.names)
        chosen = replace(c, channels=("FLAIR", "T1"))
        result = perturb.apply(chosen, channels, label, NAMES, seed=0, key=KEY, input_channels=self.names)
        np.testing.assert_array_equal(result[[0, 2]], every[[0, 2]])
        np.testing.assert_array_equal(result[1], channels[1])

    def test_errors_name_the_channel(self, channels: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        arguments: dict[str, Any] = {"seed": 0, "key": KEY, "input_channels": self.names}
        with pytest.raises(SpecError, match=r"channels=T2\) names the channel 'T2': there are T1, T1ce, FLAIR"):
            perturb.apply(replace(condition("brightness"), channels=("T2",)), channels, label, NAMES, **arguments)
        large = condition("brightness", 1e308)
        with pytest.raises(DataError, match="on patient001 frame 01 slice 0 channel T1ce, brightness"):
            perturb.apply(replace(large, channels=("T1ce",)), channels, label, NAMES, **arguments)

    def test_names_of_conditions(self) -> None:
        c = Condition("fill", "LV", 1.0, "MYO", channels=("T1", "FLAIR"))
        assert c.name == "fill(LV, 1, source=MYO, channels=T1+FLAIR)"
        assert c.control.name == "fill(LV, 1, source=MYO, channels=T1+FLAIR, control)"
