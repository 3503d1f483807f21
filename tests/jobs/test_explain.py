"""The job of explanations: its groups, its numbers, resumption, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients  # type: ignore[import-untyped]
from click.testing import CliRunner
from scipy.stats import spearmanr
from torch import nn

import actstore
import processes
from actstore.attribution.randomisation import permuted_weights, replaced
from actstore.attribution.saliency import saliency
from actstore.attribution.scores import ClassScores
from actstore.cli.commands import main
from actstore.errors import ActstoreError, SpecError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.explain import explain
from actstore.jobs.plan.explain import refuse_script
from actstore.jobs.repair import repair
from actstore.networks.heads import Head
from actstore.networks.model import build_model
from actstore.spec.explain import Explain
from actstore.spec.spec import load_spec
from actstore.store.verify import verify
from conftest import WriteSpec
from explanations import CONDITION, EXPLANATIONS
from processes import kill_group, until
from stores import committed, files_of
from unshared import forbid_asking

PAGE = Path(__file__).parents[2] / "docs/howto/explain.md"


def spec_with(
    folder: Path, write_spec: WriteSpec, store: Path, explanations: list[dict[str, Any]], **more: Any
) -> Path:
    """The spec of ``tiny_store`` with explanations, of a store elsewhere."""
    return write_spec(folder, store__path=store, explain=explanations, **more)


@pytest.fixture
def copied(explained: Path, tmp_path: Path) -> Path:
    shutil.copy(explained.with_name("spec.toml"), tmp_path / "spec.toml")
    return Path(shutil.copytree(explained, tmp_path / "tiny.zarr"))


def test_groups_hold_what_they_say(explained: Path) -> None:
    store = actstore.open(explained)
    samples = len(store.samples)
    hidden = store.group("explain/hidden").load()
    assert hidden["map"].dims == ("sample", "condition", "class_name", "y", "x")
    assert hidden["drop"].dims == ("sample", "condition", "class_name", "window_y", "window_x")
    assert hidden["window_y"].values.tolist() == [0, 20, 40]
    assert hidden["class_name"].values.tolist() == ["RV", "MYO", "LV"]
    assert hidden["condition"].values.tolist() == ["original", CONDITION]
    assert hidden.sizes["sample"] == samples
    slope = store.group("explain/slope").load()
    assert slope["class_name"].values.tolist() == ["LV", "RV"]
    assert slope["map"].shape == (samples, 1, 2, 64, 64)
    top = store.group("explain/top").load()
    assert top["projection"].dims == ("sample", "condition", "layer", "rank", "y", "x")
    assert top["layer"].values.tolist() == ["L02", "up"], "recorded layers have the store's names"
    assert top["module"].values.tolist() == ["bottom.1", "up"]
    assert top["channel"].shape == (samples, 1, 2, 3)


def network_of(explained: Path) -> torch.nn.Module:
    return build_model(load_spec(explained.with_name("spec.toml")))


def test_maps_are_those_of_the_method_in_memory(explained: Path) -> None:
    store = actstore.open(explained)
    model, scores = network_of(explained), ClassScores(Head("argmax", 4, 2), ((3,), (1,)), (2, 0), "logit")
    slope = store.group("explain/slope").load()
    predicted = store.prediction.isel(condition=0)
    for sample in range(0, len(store.samples), 5):
        images = torch.from_numpy(store.image.isel(sample=[sample], condition=0).values)
        classes = predicted.isel(sample=sample).values
        masks = torch.from_numpy(np.stack([classes == 3, classes == 1])[None])
        maps, score = saliency(model, images, scores.within(masks))
        pixels = slope["pixels"].isel(sample=sample).values
        assert pixels.tolist() == masks.sum((2, 3))[0].tolist()
        np.testing.assert_allclose(slope["score"][sample, 0], score[0], rtol=1e-4)
        there = np.flatnonzero(pixels)
        np.testing.assert_allclose(slope["map"].values[sample, 0, there], maps[0, there, 0], rtol=1e-3, atol=1e-7)


def test_a_condition_is_explained_where_it_applies(explained: Path) -> None:
    store = actstore.open(explained)
    hidden = store.group("explain/hidden").load()
    applicable = store.applicable.sel(condition=CONDITION).values
    found = np.isfinite(hidden["drop"].sel(condition=CONDITION).values).any((1, 2, 3))
    predicted = (hidden["pixels"].values > 0).any(1)
    assert applicable.any()
    assert not applicable.all()
    assert (found == (applicable & predicted)).all()


def test_drops_are_of_windows_that_were_hidden(explained: Path) -> None:
    store = actstore.open(explained)
    hidden = store.group("explain/hidden").load()
    model, members = network_of(explained), ((1,), (2,), (3,))
    sample = int((hidden["pixels"].values > 0).all(1).argmax())
    image = torch.from_numpy(store.image.isel(sample=sample, condition=0).values)
    classes = store.prediction.isel(sample=sample, condition=0).values
    masks = torch.from_numpy(np.stack([classes == own[0] for own in members])[None])
    score = ClassScores(Head("argmax", 4, 2), members, (0, 1, 2), "probability").within(masks)
    other = image.clone()
    other[:, 20:44, 40:64] = image.mean()
    with torch.inference_mode():
        expected = score(model(image[None]))[0] - score(model(other[None]))[0]
    np.testing.assert_allclose(hidden["drop"].values[sample, 0, :, 1, 2], expected, rtol=1e-3, atol=1e-6)


def test_deletion_follows_the_map(explained: Path) -> None:
    store = actstore.open(explained)
    slope = store.group("explain/slope").load()
    left = slope["deletion"]
    assert left.dims == ("sample", "condition", "class_name", "order", "deleted")
    assert left["order"].values.tolist() == ["map", "distance", "random"]
    predicted = slope["pixels"].values > 0
    assert (np.isfinite(left.sel(deleted=[0, 0.1, 0.5]).values).all((1, 3, 4)) == predicted).all()
    sample = int(predicted.all(1).argmax())
    image = store.image.isel(sample=sample, condition=0).values
    classes = store.prediction.isel(sample=sample, condition=0).values
    bright = image[0] > image.min() + 0.1 * (np.percentile(image, 99) - image.min())
    rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
    tiles = [
        (slice(y, y + 8), slice(x, x + 8))
        for y in range(0, 64, 8)
        for x in range(0, 64, 8)
        if y <= rows[-1] and y + 8 > rows[0] and x <= columns[-1] and x + 8 > columns[0]
    ]
    # Of equals the first is chosen at random.
    tiles = [tiles[i] for i in np.random.default_rng((0, sample)).permutation(len(tiles))]
    model, masks = network_of(explained), torch.from_numpy((classes == 3)[None, None])
    score = ClassScores(Head("argmax", 4, 2), ((3,),), (2,), "probability").within(masks)
    centre = np.argwhere(classes == 3).mean(0)
    ranked = {
        "map": sorted(tiles, key=lambda tile: -slope["map"].values[sample, 0, 0][tile].mean()),
        "distance": sorted(tiles, key=lambda tile: np.hypot(*(np.array([t.start + 3.5 for t in tile]) - centre))),
    }
    for order, places in (ranked | {"random": tiles}).items():
        for deleted in left["deleted"].values:
            found = left.isel(sample=sample, condition=0).sel(class_name="LV", order=order, deleted=deleted)
            if deleted and round(deleted * len(tiles)) == 0:
                assert np.isnan(found), "less than half of a tile"
                continue
            other = torch.from_numpy(image.copy())
            for place in places[: round(deleted * len(tiles))]:
                other[(slice(None), *place)] = float(image.mean())
            with torch.inference_mode():
                expected = float(score(model(other[None])))
            assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_randomisation_compares_with_permuted_weights(explained: Path) -> None:
    store = actstore.open(explained)
    slope, top = (store.group(f"explain/{name}").load() for name in ("slope", "top"))
    levels = slope["permuted"].values.tolist()
    assert levels[:2] == [1, 2]
    model = network_of(explained)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert levels[-1] == len(layers), "all"
    sample = int((slope["pixels"].values > 0).all(1).argmax())
    images = torch.from_numpy(store.image.isel(sample=[sample], condition=0).values)
    classes = store.prediction.isel(sample=sample, condition=0).values
    masks = torch.from_numpy(np.stack([classes == 3, classes == 1])[None])
    score = ClassScores(Head("argmax", 4, 2), ((3,), (1,)), (2, 0), "logit").within(masks)
    permuted = permuted_weights(model)
    with replaced(model, permuted, list(permuted)):
        maps, _ = saliency(model, images, score)
    expected = spearmanr(slope["map"].values[sample, 0, 0].ravel(), maps[0, 0, 0].numpy().ravel()).statistic
    found = slope["randomisation"].isel(sample=sample, condition=0, class_name=0)
    assert float(found.sel(permuted=levels[-1], sign="map")) == pytest.approx(expected, abs=1e-3)
    assert (np.abs(slope["randomisation"].fillna(0)) <= 1 + 1e-6).all()
    # Fewer layers lie behind the middle of the network than behind its end.
    own = top["randomisation"].isel(sample=sample, condition=0, rank=0)
    assert np.isnan(own.sel(layer="L02", permuted=top["permuted"][-1])).all()
    assert np.isfinite(own.sel(layer="up", permuted=1)).all()


def test_the_strongest_channels_are_those_of_the_stored_tensors(explained: Path) -> None:
    store = actstore.open(explained)
    top = store.group("explain/top").load()
    largest = store["L02"].isel(condition=0).max(("y", "x")).values
    order = np.argsort(-largest, axis=1, kind="stable")[:, :3]
    assert (top["channel"].sel(layer="L02").values[:, 0] == order).all()
    np.testing.assert_allclose(
        top["response"].sel(layer="L02").values[:, 0], np.take_along_axis(largest, order, 1), rtol=1e-5
    )
    assert np.isfinite(top["projection"]).all()


def test_run_again_it_computes_nothing_and_repairs_what_is_damaged(copied: Path) -> None:
    spec = load_spec(copied.with_name("spec.toml"))
    before = files_of(copied)
    found = explain(spec, store=copied, cluster="inline", device="cpu")
    assert [(one.done, one.skipped) for one in found] == [(0, 4)] * 4
    assert files_of(copied) == before
    victim = next(copied.glob("explain/top/projection/c.1.*"))
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    damage = verify(copied).damage
    assert damage
    repair(copied, damage)
    assert files_of(copied) == before


@pytest.mark.process
def test_killed_and_continued_without_the_data_set_the_files_are_the_same(
    explained: Path, tiny_store: Path, tmp_path: Path, write_spec: WriteSpec
) -> None:
    """Two workers; killed once a block is committed; continued in this process."""
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    spec = spec_with(tmp_path, write_spec, store, EXPLANATIONS, data__root=tmp_path / "gone")
    with processes.actstore("explain", spec, "--workers", "2", "--device", "cpu") as process:
        until(lambda: process.poll() is not None or committed(store / "explain/hidden"), "a block is committed")
        kill_group(process)
    found = explain(load_spec(spec), cluster="inline", device="cpu")
    assert all(one.complete for one in found)
    assert found[0].skipped >= 1
    assert files_of(store) == files_of(explained)


def test_units_read_by_themselves(
    tiny_store: Path, tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_asking(monkeypatch)
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    changed = {"name": "changed", "method": "gradient", "layers": ["bottom.1"], "by": "mad", "conditions": [CONDITION]}
    short = [one | {"randomisation": []} | ({} if "layers" in one else {"deletion": False}) for one in EXPLANATIONS]
    spec = load_spec(spec_with(tmp_path, write_spec, store, [*short, changed]))
    for found in explain(spec, cluster="inline", device="cpu"):
        assert found.complete, found.failed
    changes = actstore.open(store).statistics("L02", ["mad"])["mad"].sel(condition=CONDITION).values
    channel = actstore.open(store).group("explain/changed")["channel"].values[:, 0, 0]
    there = np.isfinite(changes).all(1)
    assert there.any()
    assert (channel[there, :4] == np.argsort(-changes[there], axis=1, kind="stable")).all()
    assert (channel[~there] == -1).all()


@pytest.fixture
def refused(tiny_store: Path, tmp_path: Path, write_spec: WriteSpec) -> Any:
    """The error of one explanation."""

    def of(error: type[ActstoreError] = SpecError, **settings: Any) -> str:
        explanation = {"name": "one", "method": "gradient", **settings}
        with pytest.raises(error) as failed:
            explain(
                load_spec(spec_with(tmp_path, write_spec, tiny_store, [explanation])), cluster="inline", device="cpu"
            )
        message = str(failed.value)
        assert "\n" not in message
        return message

    return of


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lime"}, "'lime' is unknown: use 'occlusion', 'gradient', 'guided', 'deconvnet', or 'module:call"),
        ({"targets": ["aorta"]}, "explain 'one' names the class 'aorta': data.classes has RV, MYO, LV"),
        ({"conditions": ["noise"]}, "explain 'one' names the condition 'noise': the run has original, brightness(LV,"),
        ({"method": "occlusion", "window": 80}, "window = [80, 80] is larger than the input of [64, 64]"),
        ({"method": "occlusion", "stride": 0}, "must be a number of pixels from 1 on"),
        ({"method": "occlusion", "window": 4, "stride": 6}, "stride = 6 is longer than window = 4"),
        ({"method": "occlusion", "window": [4, 4, 4], "stride": 2}, "has window = [4, 4, 4]: give one number, or 2"),
        ({"window": 8}, 'window is of method = "occlusion": take it out'),
        ({"top": 3}, "top is of channels, with layers: take it out"),
        ({"method": "occlusion", "layers": ["up"]}, "occlusion has no layers"),
        ({"method": "occlusion", "norm": "frozen"}, "norm is of methods that go back"),
        ({"layers": ["up"], "score": "logit"}, "score is of classes, without layers"),
        ({"layers": ["nowhere"]}, "'nowhere'"),
        ({"layers": ["up"], "by": "mad"}, 'by = "mad" ranks by the change from the original'),
        ({"layers": ["up"], "by": "mad", "conditions": [CONDITION]}, "'up' is none of its layers"),
        ({"deletion": 80}, "deletion = [80, 80] is larger than the input of [64, 64]: give a side that fits into it"),
        ({"deletion": [8]}, "has deletion = [8]: give one number, or 2"),
        ({"deletion": 0}, "must be a number of pixels from 1 on"),
        ({"layers": ["up"], "deletion": 8}, "deletion is of classes, without layers"),
        ({"randomisation": [2, 1]}, "must be numbers of layers from 1 on, rising, or [] for none"),
        ({"randomisation": [99]}, "layers of weights lie behind what is explained: give numbers up to that"),
        ({"name": "a/b"}, "'a/b' is no name of a group"),
        ({"fill": float("nan"), "method": "occlusion"}, "must be an intensity as the network sees it"),
        ({"method": "occlusion", "window": [4, 16]}, "stride = 8 is longer than window = (4, 16)"),
        ({"targets": ["LV", "RV", "LV"]}, "targets has 'LV' twice: take one out"),
        ({"fill": "noise", "method": "occlusion"}, 'must be an intensity as the network sees it, "mean" or "blur"'),
    ],
)  # fmt: skip
def test_bad_settings_are_named(refused: Any, settings: dict[str, Any], message: str) -> None:
    assert message in refused(ActstoreError, **settings)


def test_two_of_one_name_and_none_of_a_name(tmp_path: Path, tiny_store: Path, write_spec: WriteSpec) -> None:
    twice = spec_with(tmp_path, write_spec, tiny_store, [EXPLANATIONS[1]] * 2)
    with pytest.raises(SpecError, match="2 tables of explain have the name 'slope': give each its own"):
        load_spec(twice)
    spec = load_spec(spec_with(tmp_path, write_spec, tiny_store, EXPLANATIONS))
    with pytest.raises(SpecError, match="--name other: the spec has no explanation of that name, only hidden, slope"):
        explain(spec, names=["other"], cluster="inline")
    with pytest.raises(SpecError, match=r"the spec has no explanations: add a table \[\[explain\]\]"):
        explain(spec.model_copy(update={"explain": ()}), cluster="inline")


def test_other_weights_are_refused(tiny_store: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    spec = spec_with(tmp_path, write_spec, tiny_store, EXPLANATIONS[:1], model__arguments={"seed": 5})
    with pytest.raises(StoreError, match="belongs to another run: other weights"):
        explain(load_spec(spec), cluster="inline", device="cpu")


def test_a_prediction_that_is_not_reproduced_is_refused(
    tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actstore.jobs import reproduction

    spec = load_spec(spec_with(tmp_path, write_spec, tiny_copy, EXPLANATIONS[1:2]))
    whole = reproduction._single
    monkeypatch.setattr(reproduction, "_single", lambda *arguments: np.roll(whole(*arguments), 7, axis=1))
    (found,) = explain(spec, cluster="inline", device="cpu")
    assert len(found.failed) == 4
    assert "pixels are predicted otherwise than when the run was captured" in found.failed[0].error


OWN = """
import torch

def absolute(model, image, score):
    image.requires_grad_()
    (found,) = torch.autograd.grad(score(model(image)).sum(), image)
    return found.abs()

def wrong(model, image, score):
    return image.mean()

def batched(model, image, score):
    inputs = torch.cat([image * share for share in (0.25, 0.5, 1.0)]).requires_grad_()
    (found,) = torch.autograd.grad(score(model(inputs)).sum(), inputs)
    return found[-1:].abs()

def spoiling(model, image, score):
    next(model.parameters()).data.mul_(2)
    next(model.parameters()).add_(1)
    return image[0]

def constant(model, image, score):
    return torch.ones_like(image)
"""


@pytest.mark.slow
def test_a_method_of_ones_own(tiny_store: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    (tmp_path / "own_method.py").write_text(OWN)
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    shared = {"score": "logit", "targets": ["LV", "RV"]}
    own = [{"name": "own", "method": "own_method:absolute", "deletion": False, **shared},
           {"name": "batched", "method": "own_method:batched", "deletion": False, "randomisation": [], **shared},
           {"name": "plain", "method": "gradient", "norm": "autograd", "randomisation": [], **shared},
           {"name": "constant", "method": "own_method:constant", "randomisation": [], **shared},
           {"name": "wrong", "method": "own_method:wrong"}]  # fmt: skip
    spec = load_spec(spec_with(tmp_path, write_spec, store, own))
    found = explain(spec, cluster="inline", device="cpu")
    assert [one.complete for one in found] == [True, True, True, True, False], found[-1].failed[:1]
    assert "own_method:wrong returned a map of () for an input of (1, 64, 64)" in found[4].failed[0].error
    opened = actstore.open(store)
    maps = {name: opened.group(f"explain/{name}")["map"].values for name in ("own", "batched", "plain")}
    np.testing.assert_allclose(maps["own"], np.abs(maps["plain"]), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(maps["batched"], np.abs(maps["plain"]), rtol=1e-3, atol=1e-7)
    left = opened.group("explain/constant")["deletion"]
    assert np.isnan(left.sel(order="map")).all(), "an order of equals is none"
    assert np.isfinite(left.sel(order="distance")).any()
    damaged = next(store.glob("explain/own/map/c.1.*"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    before = maps["own"]
    repair(store, [one for one in verify(store).damage if one.group == "explain/own"], spec=spec)
    np.testing.assert_array_equal(actstore.open(store).group("explain/own")["map"].values, before)


def test_a_method_that_was_edited_is_another(tiny_store: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    (tmp_path / "edited_method.py").write_text(OWN)
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    own = [{"name": "own", "method": "edited_method:constant", "deletion": False}]
    spec = load_spec(spec_with(tmp_path, write_spec, store, own))
    (found,) = explain(spec, cluster="inline", device="cpu")
    assert found.complete
    (tmp_path / "edited_method.py").write_text(OWN.replace("ones_like", "zeros_like"))
    with pytest.raises(ActstoreError, match="explain/own"):
        explain(spec, cluster="inline", device="cpu")


def test_a_network_that_a_method_changes_is_restored(tiny_store: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    (tmp_path / "spoiling_method.py").write_text(OWN)
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    own = [{"name": "own", "method": "spoiling_method:spoiling", "deletion": False}]
    (found,) = explain(load_spec(spec_with(tmp_path, write_spec, store, own)), cluster="inline", device="cpu")
    assert len(found.failed) == 4
    for one in found.failed:
        assert "spoiling_method:spoiling leaves the network's weights changed: let it work on a copy" in one.error


@pytest.mark.slow
def test_the_method_of_the_page(tiny_store: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    """Integrated gradients by Captum, as docs/howto/explain.md has them."""
    (code,) = re.findall(r"```python\n# own\.py\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "own_captum.py").write_text(code)
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    own = {"name": "own", "method": "own_captum:integrated", "targets": ["LV"], "score": "logit", "deletion": False}
    spec = load_spec(spec_with(tmp_path, write_spec, store, [own]))
    (found,) = explain(spec, cluster="inline", device="cpu")
    assert found.complete, found.failed
    opened = actstore.open(store)
    group, model = opened.group("explain/own").load(), build_model(spec)
    sample = int((group["pixels"].values[:, 0] > 0).argmax())
    masks = torch.from_numpy(opened.prediction.isel(sample=sample, condition=0).values == 3)[None, None]
    score = ClassScores(Head("argmax", 4, 2), ((3,),), (2,), "logit").within(masks)
    image = torch.from_numpy(opened.image.isel(sample=[sample], condition=0).values)
    expected = IntegratedGradients(lambda x: score(model(x))[:, 0]).attribute(image)
    np.testing.assert_allclose(group["map"].values[sample, 0, 0], expected[0, 0].numpy(), rtol=1e-3, atol=1e-6)


def test_the_command(explained: Path, tmp_path: Path, tiny_store: Path, write_spec: WriteSpec) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    spec = spec_with(tmp_path, write_spec, store, EXPLANATIONS)
    ran = CliRunner().invoke(main, ["explain", str(spec), "--name", "slope", "--cluster", "inline", "--device", "cpu"])
    assert ran.exit_code == 0, ran.output
    assert "4 done, 0 skipped, 0 failed" in ran.output
    assert "explain/slope" in ran.output
    assert sorted(os.listdir(store / "explain")) == ["slope", "zarr.json"] or os.listdir(store / "explain") == ["slope"]


def test_plan_says_what_they_cost(tmp_path: Path, write_spec: WriteSpec) -> None:
    given = [{"name": "hidden", "method": "occlusion", "deletion": False}, {"name": "slope", "method": "gradient"},
             {"name": "own", "method": "own:absolute"}]  # fmt: skip
    spec = write_spec(tmp_path, data__preprocess__size=[256, 256], explain=given)
    said = CliRunner().invoke(main, ["plan", str(spec), "--device", "cpu", "--workers", "1"]).output
    assert re.search(r"explain hidden +at most 961 windows, 963 passes a sample and condition, about \d", said)
    # One to compare predictions; one and three ways back, for the network and for three permuted ones; deletions.
    expected = 1 + (1 + 3 * 1.2) * 4 + 7 * 7
    assert re.search(rf"explain slope +{round(expected)} passes a sample and condition, about \d", said)
    assert re.search("explain own +as long as its method takes", said)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_way_back_through_torchscript_is_refused() -> None:
    scripted = nn.Sequential(torch.jit.trace(nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8)), nn.ReLU())
    for settings in ({"method": "guided"}, {"method": "gradient"}, {"method": "occlusion", "randomisation": [1]}):
        with pytest.raises(SpecError, match="explain 'one': 0 is TorchScript, in which activations, norms and single"):
            refuse_script(Explain.model_validate({"name": "one", **settings}), scripted)
    plain = {"name": "one", "method": "gradient", "norm": "autograd", "randomisation": []}
    for settings in (plain, {"name": "one", "method": "occlusion"}):
        refuse_script(Explain.model_validate(settings), scripted)


@pytest.mark.slow
def test_in_bf16(tmp_path: Path, write_spec: WriteSpec) -> None:
    made = [{"name": "slope", "method": "gradient", "randomisation": [1]},
            {"name": "top", "method": "guided", "layers": ["bottom.1"], "top": 2, "randomisation": []}]  # fmt: skip
    more = {"store__path": tmp_path / "tiny.zarr", "run": {"threads": 1, "precision": "bf16"}}
    spec = load_spec(write_spec(tmp_path, explain=made, data__patients=["patient001"], **more))
    assert capture(spec, cluster="inline", device="cpu").complete
    for one in explain(spec, cluster="inline", device="cpu"):
        assert one.complete, one.failed[:1]
    assert np.isfinite(actstore.open(tmp_path / "tiny.zarr").group("explain/top")["projection"]).all()
