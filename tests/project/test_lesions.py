"""The lesion experiment: its data, its statistic, its networks, and a small run of all of it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("nilearn", reason="nilearn is missing: pip install '.[test]'")

from lesions.data import (
    AMPLITUDE,
    GAP,
    SLICE,
    VOLUME,
    Clean,
    Kind,
    Lesion,
    Part,
    clean_slices,
    clean_volumes,
    planes_of,
    with_lesions,
)
from lesions.decision import decide, live
from lesions.experiment import FIRST_NET, SMALL, Net, Plan, nets_of, run
from lesions.networks import FILTERS, LAYERS, vgg_2d, vgg_3d
from lesions.statistic import SIZES, auc, axes, correlation, match, near_uniform, permutation_p

PARTS: tuple[Part, ...] = ("train", "validation", "test")
KINDS: tuple[Kind, ...] = ("gaussian", "square")


@pytest.fixture(scope="module")
def slices() -> Clean:
    return clean_slices("test", 6)


def test_slices_show_a_brain_and_differ(slices: Clean) -> None:
    assert slices.tissue.shape == (6, *SLICE)
    assert slices.tissue.dtype == np.float32
    assert slices.tissue.min() >= 0
    assert slices.tissue.max() <= 0.75
    assert ((slices.brain.mean((1, 2)) > 0.2) & (slices.brain.mean((1, 2)) < 0.8)).all()
    # The same plane of the template, another deformation.
    again = clean_slices("train", 49)
    assert again.planes[0] == again.planes[48]
    assert np.abs(again.tissue[0] - again.tissue[48]).mean() > 0.02
    np.testing.assert_array_equal(clean_slices("test", 2).tissue, slices.tissue[:2])


def test_slices_show_the_whole_brain() -> None:
    """A brain that is cut off would show the network where lesions cannot lie."""
    brain = clean_slices("train", 24).brain
    edge = np.ones(SLICE, bool)
    edge[1:-1, 1:-1] = False
    assert brain[:, edge].mean() < 0.01


def test_parts_share_neither_planes_nor_seeds() -> None:
    planes = {part: set(planes_of(part)) for part in PARTS}
    assert [len(planes[part]) for part in PARTS] == [48, 12, 12]
    owner = {z: part for part in PARTS for z in planes[part]}
    assert len(owner) == 72
    for low, high in pairwise(sorted(owner)):
        assert owner[low] == owner[high] or high - low > GAP
    seeds = {part: set(clean_slices(part, 4, step=16).seeds) for part in PARTS}
    assert not seeds["train"] & seeds["validation"]
    assert not seeds["train"] & seeds["test"]
    assert not seeds["validation"] & seeds["test"]
    plan = Plan()
    assert max(*plan.slices, *plan.volumes) < 1_000_000, "seeds of a part would reach into the next one's"


@pytest.mark.parametrize("kind", KINDS)
def test_lesions_lie_where_they_say(slices: Clean, kind: Kind) -> None:
    images, labels, lesions = with_lesions(slices, range(6), kind, np.random.default_rng(3))
    assert images.shape == (6, 1, *SLICE)
    assert images.min() >= 0
    assert images.max() <= 1
    assert labels.sum() == 3
    assert [lesion is not None for lesion in lesions] == labels.astype(bool).tolist()
    for index, lesion in enumerate(lesions):
        clean = slices.tissue[index] * slices.bias[index]
        added = images[index, 0] - clean
        if lesion is None:
            assert abs(added[slices.brain[index]].mean()) < 0.01
            continue
        assert slices.brain[index][lesion.centre]
        profile = lesion.profile(SLICE)
        assert added[profile > 0.9].mean() > AMPLITUDE[0] / 2
        assert abs(added[slices.brain[index] & (profile < 0.01)].mean()) < 0.01


def test_profiles_are_of_the_size_that_they_say() -> None:
    for size in range(8, 15):
        square = Lesion("square", (20, 24), size, 1.0).profile((40, 48))
        assert square.sum() == size**2
        rows, columns = np.nonzero(square)
        assert np.ptp(rows) == np.ptp(columns) == size - 1
        assert square[20, 24] == 1
        blob = Lesion("gaussian", (20, 24), size, 1.0).profile((40, 48))
        assert blob.argmax() == 20 * 48 + 24
        wide = blob[20] > 0.5
        assert abs(wide.sum() - size) <= 1
    cube = Lesion("square", (5, 6, 7), 4, 1.0).profile((12, 12, 14))
    assert cube.sum() == 64


def test_volumes_hold_the_whole_brain() -> None:
    volumes = clean_volumes("test", 2)
    assert volumes.tissue.shape == (2, *VOLUME)
    images, labels, lesions = with_lesions(volumes, range(2), "gaussian", np.random.default_rng(0))
    assert images.shape == (2, 1, *VOLUME)
    assert labels.sum() == 1
    (lesion,) = [lesion for lesion in lesions if lesion is not None]
    assert len(lesion.centre) == 3


@pytest.mark.parametrize("dims", [2, 3])
def test_networks_are_the_papers(dims: int) -> None:
    model = vgg_2d() if dims == 2 else vgg_3d()
    shapes = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda *parts, name=name: shapes.update({name: tuple(parts[2].shape)}))
    size = (36, 48) if dims == 2 else (16, 18, 20)
    assert model(torch.rand(2, 1, *size)).shape == (2, 2)
    assert tuple(shapes[layer][1] for layer in LAYERS) == FILTERS
    for layer in LAYERS:
        assert model.get_submodule(layer).weight.shape[2:] == (3,) * dims
    after_first = tuple(n - 2 for n in size)
    after_second = tuple((n - 3) // 2 + 1 for n in after_first)
    assert shapes["conv2"][2:] == shapes["pool1"][2:] == after_first
    assert shapes["conv3"][2:] == shapes["conv5"][2:] == after_second
    assert shapes["pool5"][2:] == tuple((n - 4) // 2 + 1 for n in after_second)


def test_the_fifth_convolution_sees_a_whole_lesion() -> None:
    model = vgg_2d()
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    model[: list(dict(model.named_children())).index("conv5") + 1](image)[0, :, 16, 16].abs().sum().backward()
    assert image.grad is not None
    rows = image.grad[0, 0].abs().sum(1).nonzero()
    assert 14 < int(rows.max() - rows.min()) + 1 <= 21


def drawn(kind: Kind, count: int, seed: int, *, sign: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    images = np.full((count, 64, 64), 0.5) + 0.03 * rng.standard_normal((count, 64, 64))
    for image in images:
        centre = (int(rng.integers(16, 48)), int(rng.integers(16, 48)))
        image += sign * 0.4 * Lesion(kind, centre, int(rng.choice(SIZES)), 1.0).profile((64, 64))
    return images


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["bright", "dark"])
def test_planted_squares_and_gaussians_are_told_apart(sign: float) -> None:
    square, gaussian = drawn("square", 12, 0, sign=sign), drawn("gaussian", 12, 1, sign=sign)
    for statistic in (match, axes):
        assert auc(statistic(square), statistic(gaussian)) == 1
    assert correlation(square, "square").min() > 0.85
    assert correlation(gaussian, "gaussian").min() > 0.85
    assert np.abs(axes(gaussian)).max() < 0.15


def test_equal_sets_are_not_told_apart() -> None:
    for statistic in (match, axes):
        a = [statistic(drawn("square", 8, seed)).mean() for seed in range(10)]
        assert permutation_p(a[:5], a[5:]) > 0.05


def test_a_shift_changes_nothing() -> None:
    image = np.full((1, 64, 64), 0.5)
    image[0, 20:29, 22:31] = 0.9
    moved = np.roll(image, (7, -5), (1, 2))
    np.testing.assert_allclose(match(image), match(moved), atol=1e-9)
    np.testing.assert_allclose(axes(image), axes(moved), atol=1e-9)


def test_edges_along_axes_and_diagonals() -> None:
    y, x = np.mgrid[:64, :64]
    images = np.stack([np.sin(x / 3.0), np.sin(y / 3.0), np.sin((x + y) / 4.0), np.sin(0.0 * x)])
    np.testing.assert_allclose(axes(images), [1, 1, -1, 0], atol=0.1)


def test_uniform_images_match_nothing() -> None:
    flat = np.full((2, 64, 64), 0.3) + 1e-3 * np.random.default_rng(0).standard_normal((2, 64, 64))
    assert near_uniform(flat).all()
    assert (correlation(flat, "square") == 0).all()
    assert not near_uniform(drawn("square", 2, 0)).any()


def test_p_is_exact() -> None:
    assert permutation_p([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == 1 / 252
    assert permutation_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 1
    assert permutation_p([6, 7, 8, 9, 5], [1, 2, 3, 4, 10]) > 1 / 252
    assert permutation_p([1.0] * 5, [1.0] * 5) == 1
    with pytest.raises(ValueError, match="a net has no number: none of its channels is live"):
        permutation_p([1, float("nan")], [1, 2])


def rows_of(values: dict[str, float], **changes: object) -> list[dict[str, object]]:
    shared = {"setting": "paper", "layer": "conv5", "status": "live", "near_uniform": False}
    return [
        {"net": net, "kind": net.partition("-")[0], "match": value, "axes": -value, **shared, **changes}
        for net, value in values.items()
    ]


def test_a_net_is_one_number_of_its_live_channels() -> None:
    values = {f"{kind}-{i}": i + 10.0 * (kind == "square") for kind in KINDS for i in range(5)} | {"untrained-0": 3.0}
    dead = rows_of(dict.fromkeys(values, 1e6), status="dead") + rows_of(dict.fromkeys(values, 1e6), near_uniform=True)
    found = decide([*rows_of(values), *dead, *rows_of(values, layer="conv4")], "paper")
    assert found["match"]["square"] == [10, 11, 12, 13, 14]
    assert found["match"]["untrained"] == 3
    assert found["match"]["p"] == 1 / 252
    assert found["match"]["differs"]
    assert found["axes"]["p"] == 1
    assert not found["axes"]["differs"]
    assert not any(live(row) for row in dead)
    none = decide([*rows_of({name: v for name, v in values.items() if name != "square-3"}), *dead], "paper")
    assert none["match"]["p"] is None
    assert not none["match"]["differs"]


def test_nets_of_the_experiment_have_seeds_of_their_own() -> None:
    nets = nets_of(Plan())
    assert len({net.seed for net in nets}) == len(nets) == 12
    assert not {105, 205} & {net.seed for net in nets}, "settings were chosen on those"
    assert Net("square", 2).seed == FIRST_NET["square"] + 2


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    results = run(SMALL, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == json.loads(json.dumps(results))
    assert [net["name"] for net in results["nets"]] == ["volume-0", "gaussian-0", "square-0", "untrained-0"]
    assert set(results["statistics"]) == {"paper", "centre"}
    lines = (tmp_path / "channels.csv").read_text(encoding="utf-8").splitlines()
    # conv1 and conv5 of three nets, conv5 once more; three filters of both of the volume net.
    assert len(lines) == 1 + 3 * (8 + 64 + 64) + 6
    page = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "| square-0 | 1 | 1 |" in page
    assert "| match | " in page
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures >= {"figure-1.png", "figure-2.png", "figure-3.png", "figure-4.png", "statistics.png"}
    with np.load(tmp_path / "square-0.npz") as held:
        assert held["paper/conv5"].shape == (64, SMALL.size, SMALL.size)
