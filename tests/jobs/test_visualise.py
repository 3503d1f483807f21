"""The job of activation maximisation: its group, its numbers, resumption, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import actstore
import processes
from actstore.cli.commands import main
from actstore.errors import ActstoreError, PlanError, SpecError, StoreError
from actstore.jobs.plan.visualise import plan_optima
from actstore.jobs.repair import repair
from actstore.jobs.visualise import VisualiseJob, boxes, visualise
from actstore.networks.model import build_model
from actstore.spec.spec import load_spec
from actstore.store.verify import verify
from conftest import Once, WriteSpec
from processes import kill_group, until
from stores import committed, files_of
from unshared import forbid_asking

LAYERS = ["down.0", "down.2", "bottom.0"]
SETTINGS: dict[str, Any] = {"layers": LAYERS, "steps": 6, "batch_size": 3, "repeats": 2}
GROUP = "features/optima"


def spec_with(folder: Path, write_spec: WriteSpec, store: Path, /, **settings: Any) -> Path:
    """The spec of ``tiny_store`` with a table `visualise`, of a store elsewhere."""
    return write_spec(folder, store__path=store, visualise={**SETTINGS, **settings})


@pytest.fixture(scope="session")
def maximised(once: Once, tiny_store: Path, write_spec: WriteSpec) -> Path:
    """The captured tiny store with the group of images. Not to be changed."""

    def fill(folder: Path) -> None:
        store = Path(shutil.copytree(tiny_store, folder / "tiny.zarr"))
        found = visualise(load_spec(spec_with(folder, write_spec, store)), cluster="inline", device="cpu")
        assert found.complete, found.failed
        assert (found.done, found.skipped, found.group) == (4, 0, GROUP)

    return once("maximised", fill) / "tiny.zarr"


@pytest.fixture
def copied(maximised: Path, tmp_path: Path) -> Path:
    """The store with images, once more, with its spec beside it."""
    shutil.copy(maximised.with_name("spec.toml"), tmp_path / "spec.toml")
    return Path(shutil.copytree(maximised, tmp_path / "tiny.zarr"))


def test_units_read_by_themselves(
    tiny_store: Path, tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_asking(monkeypatch)
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    for name, layers in (("kept", LAYERS[:1]), ("recorded", ["bottom.1"])):
        spec = spec_with(
            tmp_path, write_spec, store, layers=layers, steps=1, parameterization="maco", objective="neuron"
        )
        found = visualise(load_spec(spec), name=name, cluster="inline", device="cpu")
        assert found.complete, found.failed


def test_the_group_holds_what_it_says(maximised: Path) -> None:
    store = actstore.open(maximised)
    found = store.group(GROUP).load()
    assert found["image"].dims == ("layer_channel", "seed", "input_channel", "y", "x")
    assert found["curve"].dims == ("layer_channel", "seed", "step")
    assert found["layer"].values.tolist() == ["down.0"] * 2 + ["down.2"] * 2 + ["bottom.0"] * 4
    assert found["channel"].values.tolist() == [0, 1, 0, 1, 0, 1, 2, 3]
    assert found.sizes == {
        "layer_channel": 8,
        "seed": 2,
        "input_channel": 1,
        "y": 64,
        "x": 64,
        "step": 6,
        "rank": 9,
        "axis": 2,
    }
    assert (found["status"] == 0).all()
    assert float(found["image"].min()) >= 0
    assert float(found["image"].max()) <= 1
    assert np.isfinite(found["curve"]).all()
    settings = store.groups[GROUP].identity["visualise"]
    assert (settings["size"], settings["range"], settings["layers"]) == ([64, 64], [0.0, 1.0], LAYERS)
    assert verify(maximised).groups == ((GROUP, 4, 4), ("responses/optima", 4, 4))
    shown = CliRunner().invoke(main, ["status", str(maximised)]).stdout
    assert "features/optima: 4 of 4 units; responses/optima: 4 of 4 units" in shown


def test_start_and_final_are_the_networks_own_numbers(maximised: Path) -> None:
    """Of the images as they are stored, by a plain forward pass of the network."""
    found = actstore.open(maximised).group(GROUP).load()
    model = build_model(load_spec(maximised.with_name("spec.toml")))
    for i, layer in enumerate(found["layer"].values):
        seen: list[torch.Tensor] = []
        handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, output, seen=seen: seen.append(output))
        with torch.no_grad():
            model(torch.from_numpy(found["image"].values[i]))
        handle.remove()
        expected = seen[0][:, int(found["channel"][i])].mean((1, 2))
        np.testing.assert_allclose(found["final"][i], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["curve"][..., 0], found["start"], rtol=1e-5, atol=1e-6)
    assert (found["final"] > found["start"]).all()


def test_samples_are_those_of_the_data(maximised: Path) -> None:
    """Maximum, mean, deviation and the strongest nine, against every sample passed through the network at once."""
    store = actstore.open(maximised)
    found = store.group(GROUP).load()
    model = build_model(load_spec(maximised.with_name("spec.toml")))
    images = torch.from_numpy(store.image.isel(condition=0).values)
    with torch.no_grad():
        first = model.down[0](images)
        maps = {"down.0": first, "down.2": model.down[1:](first), "bottom.0": model.bottom[0](model.down[1:](first))}
    for i, layer in enumerate(found["layer"].values):
        own = maps[layer][:, int(found["channel"][i])].numpy().astype(np.float64)
        value = own.mean((1, 2))
        for name, expected in (("data_max", value.max()), ("data_mean", value.mean()), ("data_std", value.std())):
            np.testing.assert_allclose(found[name][i], expected, rtol=1e-4, atol=1e-6)
        top = found["top_sample"].values[i]
        np.testing.assert_allclose(value[top], np.sort(value)[::-1][:9], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found["top_value"][i], value[top], rtol=1e-5, atol=1e-7)
        for sample, position in zip(top, found["top_position"].values[i], strict=True):
            np.testing.assert_allclose(own[(sample, *position)], own[sample].max(), rtol=1e-5)
    start, stop = found["top_start"].values, found["top_stop"].values
    assert (start >= 0).all()
    assert (start < stop).all()
    assert (stop <= 64).all()
    # One position of a 3 × 3 convolution sees no more than its window.
    assert (stop - start)[found["layer"].values == "down.0"].max() <= 3


@pytest.mark.slow
def test_stored_tensors_and_a_pass_over_the_data_give_the_same(
    tiny_copy: Path, write_spec: WriteSpec, tmp_path: Path
) -> None:
    """L02 is in the store, ``bottom``, which is the same map, is not."""
    spec = load_spec(spec_with(tmp_path, write_spec, tiny_copy, layers=["bottom", "bottom.1"], objective="neuron"))
    visualise(spec, cluster="inline", device="cpu")
    found = actstore.open(tiny_copy).group(GROUP).load()
    stored, passed = (
        found.isel(layer_channel=found["layer"] == "L02"),
        found.isel(layer_channel=found["layer"] != "L02"),
    )
    assert set(passed["layer"].values) == {"bottom"}
    for name in ("data_max", "data_mean", "data_std", "top_value"):
        np.testing.assert_allclose(stored[name], passed[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(stored["top_sample"], passed["top_sample"])
    assert (found["top_position"] == 16).all(), "the centre is what is maximised"
    assert (found["status"] == 3).all(), "bounded: one position behind an instance norm"


@pytest.mark.slow
def test_images_are_the_same_bits_whoever_computes_them(copied: Path, maximised: Path) -> None:
    """Some units deleted, computed again by several threads."""
    shutil.rmtree(copied / "features")
    shutil.rmtree(copied / "responses")
    damage = verify(copied)
    assert not damage.whole
    repair(copied, damage.damage, cluster="inline", workers=2, device="cpu")
    assert files_of(copied) == files_of(maximised)


@pytest.mark.process
def test_workers_give_the_same_bits_after_a_kill(maximised: Path, tiny_store: Path, tmp_path: Path) -> None:
    """Two workers; killed once a unit is committed; continued in this process."""
    spec = tmp_path / "spec.toml"
    store = Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))
    text = maximised.with_name("spec.toml").read_text(encoding="utf-8")
    spec.write_text(text.replace(str(maximised), str(store)), encoding="utf-8")
    with processes.actstore("visualise", spec, "--workers", "2") as process:
        until(lambda: process.poll() is not None or committed(store / GROUP), "a unit is committed")
        kill_group(process)
    found = visualise(load_spec(spec), cluster="inline", device="cpu")
    assert found.complete
    assert found.skipped >= 1
    assert files_of(store) == files_of(maximised)


def test_a_finished_group_is_not_computed_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VisualiseJob, "open", lambda *_: pytest.fail("nothing is to be done"))
    text = (copied.parent / "spec.toml").read_text(encoding="utf-8")
    (copied.parent / "spec.toml").write_text(_at(text, copied), encoding="utf-8")
    result = CliRunner().invoke(
        main, ["visualise", str(copied.parent / "spec.toml"), "--cluster", "inline"], catch_exceptions=False
    )
    assert "0 done, 4 skipped, 0 failed" in result.output


def _at(spec: str, store: Path) -> str:
    """A spec of ``maximised``, with another store."""
    import re

    return re.sub(r'"path": "[^"]*"|"path" = "[^"]*"|path = "[^"]*"', f'"path" = "{store}"', spec)


def test_damage_is_found_and_repaired(copied: Path, maximised: Path) -> None:
    chunk = next((copied / GROUP / "image").glob("c.*"))
    raw = bytearray(chunk.read_bytes())
    raw[100] ^= 1
    chunk.write_bytes(raw)
    found = verify(copied)
    assert [damage.group for damage in found.damage] == [GROUP]
    repair(copied, found.damage, cluster="inline", device="cpu")
    assert files_of(copied) == files_of(maximised)


def test_repair_takes_the_spec_that_is_given(copied: Path, maximised: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where weights or data were moved, that in the store leads nowhere."""

    def moved(attributes: Any) -> Any:
        raise StoreError("the store's spec leads nowhere; give one that fits with --spec")

    monkeypatch.setattr("actstore.jobs.optima.spec_of", moved)
    next((copied / GROUP / "image").glob("c.*")).unlink()
    found = verify(copied)
    with pytest.raises(StoreError, match="leads nowhere"):
        repair(copied, found.damage, cluster="inline", device="cpu")
    spec = load_spec(maximised.with_name("spec.toml"))
    repair(copied, found.damage, spec=spec, cluster="inline", device="cpu")
    assert files_of(copied) == files_of(maximised)


@pytest.mark.slow
def test_other_settings_need_another_name(copied: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(spec_with(tmp_path, write_spec, copied, steps=7))
    with pytest.raises(
        StoreError, match=r"features/optima is of another job \(visualise.steps: 6 → 7\): give it another"
    ):
        visualise(spec, cluster="inline", device="cpu")
    fewer = load_spec(spec_with(tmp_path, write_spec, copied, layers=["bottom.0"]))
    with pytest.raises(StoreError, match=r"is of another job \(other targets; visualise.layers: \[.*\]\): give"):
        visualise(fewer, cluster="inline", device="cpu")
    found = visualise(spec, cluster="inline", device="cpu", name="long")
    assert found.group == "features/long"
    assert actstore.open(copied).group("features/long").sizes["step"] == 7


def test_settings_of_visualise_do_not_make_another_run(tiny_spec: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    plain = load_spec(tiny_spec)
    other = load_spec(spec_with(tmp_path, write_spec, tiny_spec.with_name("tiny.zarr")))
    assert plain.identity() == other.identity()
    assert "visualise" not in other.model_dump()


@pytest.mark.parametrize(
    ("changes", "settings", "error", "text"),
    [
        ({}, {"size": [32, 32, 32]}, SpecError, r"visualise.size = \[32, 32, 32\]: the network takes 2D inputs"),
        ({}, {"channels": [0, 2]}, SpecError, "visualise.channels: 'down.0' has no channel 2, only 0 to 1"),
        ({}, {"layers": ["type:InstanceNorm2d"]}, ActstoreError, "the mean of layer 'down.1' is .* for every image"),
        ({}, {"layers": ["nowhere"]}, ActstoreError, "pattern 'nowhere' matches no module .* correct visualise.layers"),
        ({}, {"layers": ["unused"]}, ActstoreError, "'unused' matches only modules that never run"),
        ({}, {"parameterization": "maco", "size": [32, 32]}, SpecError, '"maco" takes its magnitude from the run'),
        ({}, {"batch_size": 10**6}, PlanError, "would take .* of memory, .* use a smaller visualise.batch_size"),
        ({"model__arguments": {"seed": 1}}, {}, StoreError, "belongs to another run: other weights"),
        ({"model__layers": None}, {}, SpecError, "missing key 'model.layers'"),
    ],
)
def test_bad_input_gets_one_line(
    tiny_store: Path,
    write_spec: WriteSpec,
    tmp_path: Path,
    changes: dict[str, Any],
    settings: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    path = write_spec(tmp_path, store__path=tiny_store, visualise={**SETTINGS, **settings}, **changes)
    with pytest.raises(error, match=text) as caught:
        plan_optima(load_spec(path), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"range": [1.0, 0.0]}, r"visualise: range = \[1, 0\] is upside down"),
        ({"regularize": [{"kind": "wobble"}]}, r"visualise.regularize\[0\].kind = 'wobble'"),
        ({"regularize": [{"kind": "rotate", "range": [5.0, -5.0]}]}, r"range = \[5, -5\] is upside down"),
        ({"regularize": [{"kind": "l1", "range": [0.0, 1.0]}]}, "l1 has no range: only brightness, translate"),
        ({"regularize": [{"kind": "switching_bilateral", "apply": "forward"}]}, "applies to the image only"),
        ({"ball": 1.0, "parameterization": "pixel"}, "a ball does not go with Adam"),
        ({"objective": "direction"}, "go together"),
        ({"objective": "class"}, "take `layers` out"),
        ({"repeats": 1, "diversity": 1.0}, "give repeats of 2 or more"),
        ({"channels": [0, 0]}, "each once"),
        ({"regularize": [{"kind": "rotate", "every": 50}]}, r"regularize\[0\]: every = 50 is beyond the last of 6"),
    ],
)
def test_settings_are_checked_when_they_are_read(
    write_spec: WriteSpec, tmp_path: Path, settings: dict[str, Any], text: str
) -> None:
    path = write_spec(tmp_path, visualise={**SETTINGS, **settings})
    with pytest.raises(SpecError, match=text) as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)


def test_defaults_are_written_out_in_the_store(tiny_store: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    kinds = [{"kind": kind} for kind in ("rotate", "l1", "tv", "switching_bilateral", "brightness")]
    planned = plan_optima(load_spec(spec_with(tmp_path, write_spec, tiny_store, regularize=kinds)), device="cpu")
    stored = planned.of.identity()["visualise"]["regularize"]
    assert [{k: v for k, v in one.items() if v is not None} for one in stored] == [
        {"kind": "rotate", "range": [-5.0, 5.0], "mode": "bilinear", "every": 1, "apply": "forward"},
        {"kind": "l1", "weight": 10.0, "every": 1, "apply": "forward"},
        {"kind": "tv", "weight": 0.1, "every": 1, "apply": "image"},
        {"kind": "switching_bilateral", "every": 1, "apply": "image"},
        {"kind": "brightness", "range": [0.0, 2.0], "every": 1, "apply": "forward"},
    ]


def test_memory_counts_samples_at_their_own_size(tiny_store: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    """Small images do not make passes over the run's inputs small."""

    def predicted(**settings: Any) -> int:
        return plan_optima(
            load_spec(spec_with(tmp_path, write_spec, tiny_store, **settings)), device="cpu"
        ).workers.memory

    small, full = ({"layers": ["bottom.0"], "size": size} for size in ([16, 16], [64, 64]))
    assert predicted(**small, samples=False) < predicted(**small)
    image = 4 * 64 * 64
    assert predicted(**small) > predicted(**full) - 50 * image
    filtered = predicted(**full, regularize=[{"kind": "switching_bilateral"}])
    assert filtered > predicted(**full, regularize=[{"kind": "tv"}]) + 9 * image


def test_layers_of_the_command_do_not_go_with_classes(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, visualise={"objective": "class"})
    result = CliRunner().invoke(main, ["visualise", str(spec), "--layers", "*"])
    assert result.exit_code != 0
    assert "take --layers out" in result.output + str(result.exception)


def test_a_range_far_from_zero_keeps_its_span(
    tiny_store: Path, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = np.random.default_rng(0).uniform(1000.4, 1000.9, (4, 1, 64, 64)).astype(np.float32)
    monkeypatch.setattr("actstore.jobs.plan.visualise.examples", lambda _: inputs)
    settings = {"parameterization": "maco", "layers": ["down.0"]}
    planned = plan_optima(load_spec(spec_with(tmp_path, write_spec, tiny_store, **settings)), device="cpu")
    assert planned.of.bounds == pytest.approx((1000.4, 1000.9), abs=2e-3)


def test_a_store_that_is_not_whole_is_refused(copied: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
    shutil.rmtree(copied / "features")
    shutil.rmtree(copied / "responses")
    next((copied / "committed").glob("c.*")).unlink()
    spec = load_spec(spec_with(tmp_path, write_spec, copied))
    with pytest.raises(StoreError, match="lacks 1 volume, and jobs need all: run `actstore capture SPEC` first"):
        visualise(spec, cluster="inline", device="cpu")


def test_boxes_hold_most_of_the_mass() -> None:
    mass = np.zeros((3, 10, 12))
    mass[0, 4, 5] = 1
    mass[1, 2:6, 3:9] = 1
    start, stop = boxes(mass)
    assert (start[0].tolist(), stop[0].tolist()) == ([4, 5], [5, 6])
    assert (start[1].tolist(), stop[1].tolist()) == ([2, 3], [6, 9])
    assert (start[2].tolist(), stop[2].tolist()) == ([0, 0], [10, 12]), "no gradient: the whole image"
