"""Controls and the noise floor: where a control goes, what is captured, and what is not mixed with perturbations."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import actstore
from actstore import analysis
from actstore.analysis.evidence import perturbations
from actstore.conditions import CONTROL, Condition
from actstore.data.volume import Volume, VolumeKey
from actstore.errors import StoreError
from actstore.inputs import placement
from actstore.inputs.perturb import apply
from actstore.inputs.placement import DECIMALS, NUDGE, body_of, control_regions, place
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import prepare
from actstore.inputs.preprocess import fit
from actstore.jobs.capture import Summary, capture
from actstore.jobs.inference import batches
from actstore.jobs.plan import budget
from actstore.jobs.plan.plan import make_plan
from actstore.spec.spec import Spec, load_spec
from actstore.store.attributes import layout_of
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.tables.build import build_table
from actstore.tables.summaries import case_summary, dice_summary, frequency_summary
from actstore.views.figures.channels import frequency_cells
from conftest import WriteSpec
from helpers import label_coords
from networks import TinyUNet

Mask = NDArray[np.bool_]
NAMES = ("background", "RV", "MYO", "LV")
KEY = VolumeKey("patient001", 1)
CONDITIONS = [
    "original",
    "brightness(LV, 0.1)",
    "brightness(RV, 0.1)",
    "brightness(LV, 0.1, control)",
    "brightness(RV, 0.1, control)",
    "repeat",
    "repeat(batch=1)",
]
BATCH = 3


def corner(mask: Mask) -> tuple[int, ...]:
    """The first position along each axis that ``mask`` reaches."""
    return tuple(int(i) for i in np.argwhere(mask).min(axis=0))


def brute_force(image: NDArray[Any], target: Mask, others: Mask, body: Mask) -> Mask | None:
    """`place` by trying every translation."""
    pixels = np.argwhere(target)
    best: tuple[Any, ...] | None = None
    spread = float(np.ptp(image)) or 1.0
    low, high = -pixels.min(axis=0), image.shape - pixels.max(axis=0)
    for shift in itertools.product(*(range(a, b) for a, b in zip(low, high, strict=True))):
        moved = tuple((pixels + shift).T)
        if target[moved].any():
            continue
        difference = np.round(abs(image[moved].mean() - image[target].mean()) / spread + NUDGE, DECIMALS)
        key = (np.count_nonzero(others[moved]), np.count_nonzero(~body[moved]), difference, shift)
        if best is None or key < best[:4]:
            best = (*key, moved)
    if best is None:
        return None
    region = np.zeros_like(target)
    region[best[4]] = True
    return region


class TestPlace:
    """A target of 3 x 4 pixels at (8, 8) in an image of 20 x 24."""

    image = np.full((20, 24), 100.0)
    target = np.zeros((20, 24), bool)
    target[8:11, 8:12] = True
    target[8, 8] = False
    nothing = np.zeros((20, 24), bool)

    def place(self, **changes: Any) -> Mask | None:
        arguments: dict[str, Any] = {
            "image": self.image,
            "target": self.target,
            "others": self.nothing,
            "body": ~self.nothing,
        }
        arguments |= changes
        arguments["image"] = arguments["image"][None]
        return place(**arguments)

    def corner(self, **changes: Any) -> tuple[int, ...]:
        found = self.place(**changes)
        assert found is not None
        assert np.array_equal(found[_box(found)], self.target[_box(self.target)]), "the target's own shape"
        assert not (found & self.target).any()
        return corner(found)

    def test_first_in_raster_order_where_all_are_equal(self) -> None:
        assert self.corner() == (0, 0)

    def test_closest_mean(self) -> None:
        image = self.image.copy()
        image[self.target] = 40
        image[13:16, 17:21] = 41
        image[13, 17] = 100
        assert self.corner(image=image) == (13, 17)

    def test_means_that_hardly_differ_are_equal(self) -> None:
        image = self.image.copy()
        image[self.target] = 0
        image[2:5, 1:5] = 100 * 4e-5
        image[13:16, 17:21] = 0
        assert self.corner(image=image) == (2, 1)
        image[2:5, 1:5] = 100 * 6e-5
        assert self.corner(image=image) == (13, 17)

    def test_body_before_mean(self) -> None:
        image, body = self.image.copy(), self.nothing.copy()
        image[self.target] = 40
        image[13:16, 17:21] = 40
        body[2:6, 1:6] = True
        assert self.corner(image=image, body=body) == (2, 1)

    def test_other_classes_before_body(self) -> None:
        body, others = self.nothing.copy(), ~self.nothing
        body[2:6, 1:6] = True
        others[13:16, 17:21] = False
        assert self.corner(body=body, others=others) == (13, 17)
        others[13, 18] = True
        assert self.corner(body=body, others=others) == (13, 17), "one pixel of another class is fewer than eleven"

    def test_no_place(self) -> None:
        assert self.place(target=self.nothing) is None, "no target"
        assert self.place(target=~self.nothing) is None, "nothing but the target"
        half = self.nothing.copy()
        half[:11] = True
        assert self.place(target=half) is None, "more than half of the image"
        half[10] = False
        found = self.place(target=half)
        assert found is not None
        assert np.array_equal(found, ~half), "the other half"

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6), dims=st.sampled_from([2, 3]))
    def test_is_what_trying_every_place_finds(self, seed: int, dims: int) -> None:
        rng = np.random.default_rng(seed)
        shape = tuple(int(n) for n in rng.integers(3, 9, dims))
        image = rng.integers(0, 4, shape) * rng.choice([1.0, 1000.0])
        label = rng.choice(3, shape, p=[0.8, 0.1, 0.1])
        body = rng.random(shape) < 0.7
        target = label == 1
        if not target.any():
            return
        found, expected = place(image[None], target, label == 2, body), brute_force(image, target, label == 2, body)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert np.array_equal(found, expected)

    def test_brightness_counts_in_every_channel(self) -> None:
        plain, other = self.image.copy(), self.image.copy()
        plain[self.target] = other[self.target] = 40
        for image, rows in ((plain, (0, 13)), (other, (13,))):
            for row in rows:
                image[row : row + 3, 17:21] = 41
        found = place(np.stack([plain, 1000 * other]), self.target, self.nothing, ~self.nothing)
        assert found is not None
        assert corner(found) == (13, 17)

    @pytest.mark.parametrize("seed", range(3))
    def test_places_that_are_equal_stay_so_however_sums_are_rounded(
        self, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        """One bright pixel in a target of 32: all else differs from it by 1/32, half-way between two of 4 decimals."""
        rng = np.random.default_rng(seed)
        summing = placement._summing

        def rounded_otherwise(*arguments: Any) -> Any:
            total = summing(*arguments)

            def noisy(field: Any) -> Any:
                sums = total(field)
                return sums + rng.uniform(-1e-11, 1e-11, sums.shape)

            return noisy

        monkeypatch.setattr(placement, "_summing", rounded_otherwise)
        image, target = np.zeros((20, 24)), np.zeros((20, 24), bool)
        target[8:12, 8:16] = True
        image[9, 9] = 3
        found = self.place(image=image, target=target)
        assert found is not None
        assert corner(found) == (0, 0)

    def test_the_size_of_intensities_does_not_matter(self) -> None:
        rng = np.random.default_rng(3)
        image = rng.gamma(2.0, 50.0, self.image.shape)
        places = {self.corner(image=image * scale + shift) for scale, shift in ((1, 0), (1e-6, 0), (1e5, 0), (8, 4096))}
        assert len(places) == 1


def _box(mask: Mask) -> tuple[slice, ...]:
    found = np.argwhere(mask)
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(found.min(axis=0), found.max(axis=0), strict=True))


def test_body_is_bright_and_has_no_holes() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :50]
    distance = np.hypot(y - 20, x - 25)
    image = np.where((distance < 16) & (distance > 6), 200.0, 10.0) + rng.normal(0, 3, (2, 40, 50))
    image[1] = 7.0
    body = body_of(image)
    assert body[0][distance < 16].all()
    assert not body[0][distance > 21].any(), "smoothing reaches two of its widths"
    assert not body[1].any(), "a constant slice has none"


@pytest.fixture
def volume() -> Volume:
    """Six slices with LV in 1-4; in slice 4 it is too large to lie anywhere else."""
    rng = np.random.default_rng(5)
    image = rng.gamma(3.0, 50.0, (6, 30, 36)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[1:4, 12:18, 14:20] = 3
    label[2, 12, 14] = 0
    label[1:4, 10:12, 14:20] = 2
    label[4, 3:28, 4:32] = 3
    return Volume(KEY, image[None], label, b"")


def spec_of(write_spec: WriteSpec, folder: Path, **changes: Any) -> Spec:
    return load_spec(write_spec(folder, **{"controls": {"region": True, "noise": True}, **changes}))


def prepared(spec: Spec, volume: Volume) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Inputs (sample, condition, \\*space) of the only channel, labels, and where conditions apply."""
    found = prepare(spec, Plain(spec), volume)
    return found.inputs[:, :, 0], found.label, found.applicable


class TestPrepare:
    """What the network sees, and where a condition applies."""

    @pytest.mark.parametrize("size", [[40, 40], [24, 20]], ids=["padded", "cropped"])
    def test_slices(self, write_spec: WriteSpec, tmp_path: Path, volume: Volume, size: list[int]) -> None:
        normalize = {"data__preprocess__normalize": "none", "data__preprocess__size": size}
        inputs, label, applicable = prepared(spec_of(write_spec, tmp_path, **normalize), volume)
        assert applicable[:, CONDITIONS.index("brightness(LV, 0.1)")].tolist() == [False, True, True, True, True, False]
        assert applicable[:, CONDITIONS.index("brightness(LV, 0.1, control)")].tolist() == [
            False,
            *[True] * 3,
            False,
            False,
        ]
        assert not applicable[:, [2, 4]].any(), "no RV in the volume"
        assert applicable[:, [0, 5, 6]].all()
        assert np.array_equal(inputs[:, 5], inputs[:, 0])
        assert np.array_equal(inputs[:, 6], inputs[:, 0])
        assert np.isnan(inputs[~applicable]).all()
        for s in (1, 2, 3):
            changed, target = inputs[s, 3] != inputs[s, 0], label[s] == 3
            assert np.array_equal(changed[_box(changed)], target[_box(target)]), "all of it is seen"
            assert changed.sum() == 36 - (s == 2)
            assert not label[s][changed].any(), "there is room beside all classes"
            np.testing.assert_allclose(inputs[s, 3][changed], 0.1 * inputs[s, 0][changed], rtol=1e-6)

    def test_a_target_that_is_seen_in_part(self, write_spec: WriteSpec, tmp_path: Path, volume: Volume) -> None:
        size = {"data__preprocess__normalize": "none", "data__preprocess__size": [30, 20]}
        shifted = Volume(KEY, volume.image, np.roll(volume.label, -8, axis=2), b"")
        inputs, label, applicable = prepared(spec_of(write_spec, tmp_path, **size), shifted)
        assert applicable[1:4, 3].all()
        for s in (1, 3):
            changed, target = inputs[s, 3] != inputs[s, 0], label[s] == 3
            assert target.sum() == 6 * 4, "two columns of six are cut off"
            assert np.array_equal(changed[_box(changed)], target[_box(target)])

    def test_a_volume(self, write_spec: WriteSpec, tmp_path: Path, volume: Volume) -> None:
        label = np.where(volume.label == 3, 0, volume.label)
        label[1:4, 12:18, 14:20] = 3
        whole = Volume(KEY, volume.image, label, b"")
        sizes = {"data__preprocess__normalize": "none", "data__preprocess__size": [4, 24, 24]}
        inputs, seen, applicable = prepared(spec_of(write_spec, tmp_path, **sizes), whole)
        assert applicable.tolist() == [[True, True, False, True, False, True, True]]
        changed, target = inputs[0, 3] != inputs[0, 0], seen[0] == 3
        assert np.array_equal(changed[_box(changed)], target[_box(target)])
        assert not seen[0][changed].any()
        tall = np.where(label == 0, np.uint8(3), label)
        _, _, applicable = prepared(spec_of(write_spec, tmp_path, **sizes), Volume(KEY, volume.image, tall, b""))
        assert applicable[0].tolist() == [True, True, False, False, False, True, True], "no place beside the target"

    def test_repeats_exactly(self, write_spec: WriteSpec, tmp_path: Path, volume: Volume) -> None:
        spec = spec_of(write_spec, tmp_path)
        first, second = prepared(spec, volume), prepared(spec, volume)
        assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("transform", ["brightness", "contrast", "noise", "blur", "fill", "shuffle"])
def test_a_control_changes_its_region_alone(volume: Volume, transform: str) -> None:
    source = "MYO" if transform == "fill" else None
    condition = Condition(transform, "LV", 0.4, source)
    regions = control_regions(volume.image, volume.label, [(3,)], (30, 36))[3,]
    (image,) = volume.image
    (changed,) = apply(condition.control, volume.image, volume.label, NAMES, seed=0, key=KEY, region=regions)
    assert np.array_equal(changed[~regions], image[~regions])
    assert (changed[regions] != image[regions]).mean() > 0.3
    if transform == "fill":
        mean = image[1][volume.label[1] == 2].mean(dtype=np.float64)
        expected = 0.6 * image[1][regions[1]] + 0.4 * mean
        np.testing.assert_allclose(changed[1][regions[1]], expected, rtol=1e-6)
    if transform == "noise":
        (perturbed,) = apply(condition, volume.image, volume.label, NAMES, seed=0, key=KEY)
        drawn = (changed - image)[1][regions[1]]
        np.testing.assert_allclose((perturbed - image)[1][volume.label[1] == 3], drawn, rtol=1e-9)


def test_a_control_needs_its_region(volume: Volume) -> None:
    condition = Condition("brightness", "LV", 0.1)
    arguments: dict[str, Any] = {"seed": 0, "key": KEY}
    words = r"brightness\(LV, 0.1, control\): a control has a region, and nothing else has"
    with pytest.raises(ValueError, match=words):
        apply(condition.control, volume.image, volume.label, NAMES, **arguments)
    with pytest.raises(ValueError, match=r"brightness\(LV, 0.1\): a control has a region"):
        apply(condition, volume.image, volume.label, NAMES, region=volume.label == 1, **arguments)


def test_the_body_is_looked_for_in_slices_along_any_axis(volume: Volume) -> None:
    turned = np.moveaxis(volume.image, 1, 3), np.moveaxis(volume.label, 0, 2)
    expected = control_regions(volume.image, volume.label, [(2,)], (6, 30, 36))[2,]
    found = control_regions(*turned, [(2,)], (30, 36, 6), slices=2)[2,]
    assert expected.any()
    assert np.count_nonzero(found) == np.count_nonzero(expected)


def test_batches_of_one_hold_one() -> None:
    applicable = np.ones((5, 4), bool)
    applicable[2, 1] = False
    cut = [[(r.condition, r.start, r.stop, r.offset) for r in runs] for runs in batches(applicable, [4, 4, 4, 1])]
    assert cut[:4] == [
        [(0, 0, 4, 0)],
        [(0, 4, 5, 0), (1, 0, 2, 1), (1, 3, 4, 3)],
        [(1, 4, 5, 0), (2, 0, 3, 1)],
        [(2, 3, 5, 0)],
    ]
    assert cut[4:] == [[(3, s, s + 1, 0)] for s in range(5)]


class Crowded(TinyUNet):
    """Adds a pattern that grows with the number of inputs in a batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pattern = torch.linspace(0, 1, x.shape[-1], device=x.device) * (len(x) - 1)
        result: torch.Tensor = super().forward(x + pattern * x.any())
        return result


def crowded() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Crowded()


@pytest.fixture(scope="module")
def captured(write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A tiny store with controls and noise."""
    spec = spec_of(write_spec, tmp_path_factory.mktemp("controls"), run__batch_size=BATCH)
    summary = capture(spec, cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return summary


@pytest.fixture(scope="module")
def store(captured: Summary) -> Store:
    return actstore.open(captured.store)


class TestStore:
    """What a store with controls and noise holds, and what its readers make of it."""

    def test_conditions(self, store: Store) -> None:
        assert store.conditions.index.tolist() == CONDITIONS
        assert store.conditions["region"].tolist() == ["", "target", "target", CONTROL, CONTROL, "", ""]
        assert store.conditions["target"].tolist() == ["", "LV", "RV", "LV", "RV", "", ""]
        assert store.conditions["transform"].tolist()[-2:] == ["repeat", "repeat"]
        assert store.conditions["strength"].tolist()[1:5] == [0.1] * 4
        with xr.open_zarr(store.path, chunks=None) as plain:
            assert plain["region"].values.tolist() == store.conditions["region"].tolist()
            assert plain["region"].dims == ("condition",)
        assert perturbations(store.confusion).tolist() == [1, 2]
        assert verify(store.path).whole

    def test_controls_apply_where_their_target_does(self, store: Store) -> None:
        applicable = store.applicable.values
        assert applicable[:, [0, 5, 6]].all()
        assert applicable[:, 3:5].any(axis=0).all()
        assert not (applicable[:, 3:5] & ~applicable[:, 1:3]).any()

    def test_controls_lie_beside_their_target(self, store: Store) -> None:
        regions = _regions(store)
        image, label = store.image.values, store.label.values
        for c, target in ((3, 3), (4, 1)):
            for s in np.flatnonzero(store.applicable.values[:, c]):
                region, mask = regions[target][s], label[s] == target
                assert not (region & mask).any()
                assert np.array_equal(region[_box(region)], mask[_box(mask)])
                assert image[s, c, 0][region].mean() < image[s, 0, 0][region].mean()

    def test_a_repeat_differs_by_rounding(self, store: Store) -> None:
        for layer in store.layers.index:
            found = store.statistics(layer).compute()
            noise = (found["mad"].isel(condition=[5, 6]) / found["std"]).values
            assert (noise < 1e-4).all()
            assert np.isfinite(noise).all()
            perturbed = found["mad"].isel(condition=[1, 2, 3, 4])
            assert float((perturbed / found["std"]).mean()) > 1e-2
        # Two classes that are as likely may change places where logits are rounded otherwise.
        prediction = store.prediction.values
        assert (prediction[:, 5] != prediction[:, 0]).mean() < 1e-4
        assert (prediction[:, 6] != prediction[:, 0]).mean() < 1e-4

    def test_forward_passes(self, store: Store, captured: Summary) -> None:
        applicable, block = store.applicable.values, store.samples["block"].to_numpy()
        together = [int(applicable[block == b, :6].sum()) for b in np.unique(block)]
        assert captured.forward_passes == sum(-(-n // BATCH) for n in together) + len(applicable)
        assert captured.inferred == int(applicable.sum())

    def test_noise_is_seen_where_there_is_some(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        factory = {
            "model__factory": "test_captured_controls:crowded",
            "model__unrepeatable": "allow",
            "run__batch_size": 2,
        }
        summary = capture(spec_of(write_spec, tmp_path, **factory), cluster="inline", device="cpu")
        mad = actstore.open(summary.store).statistics("L01")["mad"].values
        assert (mad[:, 6].max(axis=-1) > 1e-3).mean() > 0.9, "one at a time; the last of a block was alone already"
        like = (mad[:, 5] < 1e-5).all(axis=-1)
        assert like.mean() > 0.7, "in batches like the original's, but for the last of a block"

    def test_tables_have_a_row_for_every_applicable_condition_and_ranks_for_what_changed(self, store: Store) -> None:
        number = dict(zip(CONDITIONS, store.applicable.sum("sample").values.tolist(), strict=True))
        classes = len(store.class_names) - 1
        assert build_table(store, "dice")["condition"].value_counts().to_dict() == {
            c: classes * n for c, n in number.items()
        }
        top = build_table(store, "top-channels", top=1)
        channels = build_table(store, "mad")
        wanted = {c: len(store.layers) * n for c, n in number.items() if c != "original"}
        changed = dict.fromkeys(wanted, 0)
        for layer in store.layers.index:
            moved = (store.statistics(layer)["mad"].values > 0).any(axis=2).sum(axis=0)
            changed = {c: n + int(moved[CONDITIONS.index(c)]) for c, n in changed.items()}
        assert {c: changed[c] for c in CONDITIONS[1:5]} == {c: wanted[c] for c in CONDITIONS[1:5]}
        changed = {c: n for c, n in changed.items() if n}
        assert top["condition"].value_counts().to_dict() == changed
        assert channels["condition"].astype(str).value_counts().to_dict() == {
            c: n // len(store.layers) * int(store.layers["channels"].sum()) for c, n in wanted.items()
        }
        frequency = build_table(store, "frequency", top=1)
        assert frequency.groupby("condition")["count"].sum().to_dict() == changed
        targets = frequency.groupby("condition")["target"].unique().map(list).to_dict()
        of = dict(zip(CONDITIONS[1:], [["LV"], ["RV"], ["LV"], ["RV"], [""], [""]], strict=True))
        assert targets == {c: of[c] for c in changed}

    def test_only_perturbations_have_a_case(self, store: Store) -> None:
        cases = store.cases.values
        assert (cases[:, [0, 3, 4, 5, 6]] == "").all()
        assert np.array_equal(cases[:, 1:3] != "", store.applicable.values[:, 1:3])
        assert set(build_table(store, "cases")["condition"]) == set(CONDITIONS[1:3])
        by_case = build_table(store, "frequency", by=["case"], top=1)
        assert set(by_case["condition"]) == set(CONDITIONS[1:3])

    def test_summaries_and_map_show_perturbations(self, store: Store) -> None:
        assert set(dice_summary(store)["condition"]) == set(CONDITIONS[1:3])
        assert set(case_summary(store)["condition"]) == set(CONDITIONS[1:3])
        assert frequency_summary(store).columns.tolist() == ["layer", *CONDITIONS[1:3]]
        assert frequency_cells(store, "condition")["group"].unique().tolist() == CONDITIONS[1:3]


def _regions(store: Store) -> dict[int, Mask]:
    """The control's regions of every sample in the network's input, found again from the data."""
    from actstore.data.discovery import find_volumes
    from actstore.data.nifti import read_volume

    spec = Spec.from_mapping(store.attributes["spec"])
    size = spec.data.preprocess.size
    found: dict[tuple[int, ...], list[Mask]] = {(1,): [], (3,): []}
    for file in find_volumes(spec.data):
        volume = read_volume(file, spec.data.classes)
        for target, region in control_regions(volume.image, volume.label, found, size).items():
            found[target].append(fit(region, size))
    return {target: np.concatenate(parts) for (target,), parts in found.items()}


def test_pooled_conditions_are_perturbations() -> None:
    """Channel 0 is on top under perturbations, 1 under controls, 2 in repeats."""
    coords = label_coords(4, ["LV", "RV", "LV", "RV"])
    coords["condition"] = CONDITIONS[:-1]
    coords["transform"] = ("condition", ["original", *["brightness"] * 4, "repeat"])
    coords["target"] = ("condition", ["", "LV", "RV", "LV", "RV", ""])
    coords["strength"] = ("condition", [np.nan, 0.1, 0.1, 0.1, 0.1, np.nan])
    coords["region"] = ("condition", ["", "target", "target", CONTROL, CONTROL, ""])
    coords.pop("source")
    score = np.zeros((4, 6, 3))
    for channel, where in enumerate(([1, 2], [3, 4], [5])):
        score[:, where, channel] = 1
    top = analysis.top_channels(xr.DataArray(score, dims=("sample", "condition", "channel"), coords=coords), 1)

    def counts(by: str | list[str]) -> dict[Any, list[int]]:
        found = analysis.channel_frequency(top, by)["count"]
        keys = [d for d in found.dims if d != "channel"]
        stacked = found.stack(group=keys).transpose("group", "channel")
        return {
            g if len(g) > 1 else g[0]: v.tolist() for g, v in zip(stacked["group"].values, stacked.values, strict=True)
        }

    assert counts("target") == {"LV": [4, 0, 0], "RV": [4, 0, 0]}
    assert counts("strength") == {0.1: [8, 0, 0]}
    assert counts("transform") == {"brightness": [8, 0, 0]}
    assert counts("region") == {"target": [8, 0, 0], CONTROL: [0, 8, 0], "": [0, 0, 4]}
    both = counts(["region", "target"])
    assert both["target", "LV"] == [4, 0, 0]
    assert both[CONTROL, "LV"] == [0, 4, 0]
    assert both["", ""] == [0, 0, 4]
    each = counts("condition")
    assert [each[name] for name in CONDITIONS[1:-1]] == [[4, 0, 0]] * 2 + [[0, 4, 0]] * 2 + [[0, 0, 4]]


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("noise", [False, True])
def test_plan_and_store_count_the_same_conditions(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: bool, noise: bool
) -> None:
    monkeypatch.setattr(budget, "_time_forward", lambda _model, _spec, size, _device: 10.0 if size == 1 else 1.0)
    spec = load_spec(write_spec(tmp_path, controls={"region": region, "noise": noise}))
    made = make_plan(spec, workers=1, device="cpu")
    assert made.layout.conditions == len(spec.conditions) == 3 + 2 * region + 2 * noise
    attributes = {
        "schema": SCHEMA_VERSION,
        "identity": made.identity,
        "blocks": [block.name for block in made.blocks],
        "slots": made.layout.slots,
        "classes": spec.class_names,
        "layers": [layer.as_json() for layer in made.layout.layers],
        "histogram": {"classes": list(spec.class_names)},
    }
    assert layout_of(attributes) == made.layout
    assert made.seconds_per_sample == pytest.approx(3 + 2 * region + (1 + 10) * noise)


class TestOtherSchemas:
    """What older schemas hold is shown by the golden stores."""

    def test_what_does_not_fit_its_fingerprint_is_damage(self, tiny_copy: Path) -> None:
        content = json.loads((tiny_copy / "zarr.json").read_text())
        content["attributes"]["schema"] = 3
        (tiny_copy / "zarr.json").write_text(json.dumps(content))
        with pytest.raises(StoreError, match="does not fit the fingerprint in it"):
            actstore.open(tiny_copy)

    def test_schema_1_is_refused(self, tiny_copy: Path) -> None:
        content = json.loads((tiny_copy / "zarr.json").read_text())
        content["attributes"]["schema"] = 1
        (tiny_copy / "zarr.json").write_text(json.dumps(content))
        words = f"{tiny_copy} has schema 1, this actstore reads 2 to 4: capture it again at another path"
        with pytest.raises(StoreError, match=re.escape(words)):
            actstore.open(tiny_copy)
