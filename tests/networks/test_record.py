"""What is stored is what a plain forward pass computes, whatever the network does to its tensors afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

import actstore
from actstore import analysis
from actstore.errors import ModelError
from actstore.jobs.capture import Summary, capture
from actstore.jobs.plan import budget
from actstore.jobs.plan.plan import make_plan
from actstore.networks.recording import forward_hooks, match_modules, probe, recording
from actstore.spec.spec import load_spec
from actstore.store import layout
from actstore.store.schema import Layer
from actstore.store.store import Store
from conftest import WriteSpec

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Plain forward passes with the one thread that the captures here use: the number of threads changes bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


#: Constructor and layer patterns; each catches normalisation layers whose output is changed in place afterwards.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "UNet": (
        lambda: nets.UNet(2, 1, 4, channels=(4, 8, 16), strides=(2, 2), num_res_units=2),
        ["*.adn.N", "*.adn.A"],
    ),
    "AttentionUnet": (
        lambda: nets.AttentionUnet(2, 1, 4, channels=(4, 8, 16), strides=(2, 2)),
        ["type:BatchNorm2d", "type:AttentionBlock", "type:Sigmoid"],
    ),
    "BasicUNet": (lambda: nets.BasicUNet(2, 1, 4, features=(4, 4, 4, 8, 8, 4)), ["type:InstanceNorm2d"]),
    "SegResNet": (
        lambda: nets.SegResNet(2, init_filters=8, in_channels=1, out_channels=4, blocks_down=(1, 1), blocks_up=(1,)),
        ["type:GroupNorm", "*.act", "*.conv2.conv"],
    ),
    "DynUNet": (
        lambda: nets.DynUNet(2, 1, 4, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16]),
        ["*.norm?", "*.lrelu"],
    ),
    "UNet-3D": (
        lambda: nets.UNet(3, 1, 4, channels=(4, 8), strides=(2,), num_res_units=1),
        ["type:InstanceNorm3d"],
    ),
}


class Tricky(nn.Module):
    """A shared module run twice, a tuple, a mapping, an output in another memory order, in-place changes of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.shared = nn.InstanceNorm2d(3)
        self.alias = self.shared
        self.pair = Pair()
        self.named = Named()
        self.turned = Turned()
        self.last = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(x))
        x.mul_(2)
        x = self.alias(x.relu_())
        x.add_(1)
        left, [right] = self.pair(x)
        parts = self.named(left + right)
        left.zero_()
        x = self.turned(parts["low"] + parts["high"]["part"])
        parts["low"].fill_(torch.nan)
        result: Tensor = self.last(x.neg_())
        return result


class Pair(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x * 0.5, [x**2]


class Named(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"low": x - 1, "high": {"part": x + 1}}


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + 0.25).transpose(2, 3).contiguous().transpose(2, 3)


NETWORKS["Tricky"] = (Tricky, ["shared", "pair", "named", "turned"])


def network(name: str) -> nn.Module:
    """A factory for specs: untrained weights, other than those that a spec's file holds."""
    return NETWORKS[name][0]()


def save_weights(name: str, path: Path) -> Path:
    torch.manual_seed(20)
    state = network(name).state_dict()
    # Normalisations that start as the identity would not tell one channel from another. Tensors that a network has
    # under two names change once.
    once = {v.data_ptr(): v + 0.1 * torch.rand_like(v) for v in state.values() if v.is_floating_point()}
    save_file({key: once.get(v.data_ptr(), v).clone() for key, v in state.items()}, path)
    return path


def spec_path(folder: Path, write_spec: WriteSpec, name: str, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_spec(
        folder,
        data__patients=["patient001"],
        data__preprocess__size=[8, 32, 32] if name.endswith("3D") else [32, 32],
        model__factory="test_record:network",
        model__arguments={"name": name},
        model__weights=save_weights(name, folder / "weights.safetensors"),
        model__layers=NETWORKS[name][1],
        **changes,
    )


def record_store(folder: Path, write_spec: WriteSpec, name: str, **changes: Any) -> tuple[Store, Summary]:
    summary = capture(load_spec(spec_path(folder, write_spec, name, **changes)), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return actstore.open(summary.store), summary


def trained(name: str, weights: Path) -> nn.Module:
    from safetensors.torch import load_file

    model = network(name)
    model.load_state_dict(load_file(weights))
    return model.eval()


def plain_forward(model: nn.Module, patterns: list[str], batch: Tensor) -> tuple[list[tuple[str, Tensor]], Tensor]:
    """(module path, a clone of its output) in execution order, by hooks of this test's own; and the logits."""
    seen: list[tuple[str, Tensor]] = []

    def keep(path: str, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((path, output.clone()))
        else:
            for part in output.values() if isinstance(output, dict) else output:
                keep(path, part)

    handles = []
    for path, module in model.named_modules():
        for pattern in patterns:
            kind = pattern.removeprefix("type:")
            if type(module).__name__ == kind if kind != pattern else fnmatch(path, pattern):
                handles.append(module.register_forward_hook(lambda _m, _a, output, path=path: keep(path, output)))
                break
    with torch.no_grad():
        logits = model(batch)
    for handle in handles:
        handle.remove()
    return seen, logits


def compositions(applicable: NDArray[np.bool_], size: int, ring: int) -> Iterator[list[tuple[int, int]]]:
    """The (sample, condition) pairs of each forward pass: of ``ring`` samples, by condition, at most ``size``."""
    for first in range(0, len(applicable), ring):
        part = applicable[first : first + ring]
        pairs = [(first + int(s), c) for c in range(part.shape[1]) for s in np.flatnonzero(part[:, c])]
        for start in range(0, len(pairs), size):
            yield pairs[start : start + size]


def expect_equal(
    store: Store, name: str, weights: Path, batch_size: int, dtype: str = "float32", ring: int = 1000
) -> int:
    """Compare every stored activation and prediction with plain forward passes over the same batches; their count."""
    model = trained(name, weights)
    block = store.samples["block"].to_numpy()
    image, prediction, applicable = store.image.values, store.prediction.values, store.applicable.values
    stored = {layer: store[layer].values for layer in store.layers.index}
    passes = 0
    for b in np.unique(block):
        own = np.flatnonzero(block == b)
        for pairs in compositions(applicable[own], batch_size, ring):
            # In torch's own memory: libraries of matrix products round by how their input is aligned.
            batch = torch.from_numpy(np.stack([image[own[s], c] for s, c in pairs])).clone()
            seen, logits = plain_forward(model, NETWORKS[name][1], batch)
            with torch.no_grad():
                assert torch.equal(logits, model(batch)), "hooks change nothing"
            passes += 1
            assert [path for path, _ in seen] == [layer.module for layer in store.layout.layers], "network order"
            for layer, (_, output) in zip(stored, seen, strict=True):
                expected = output.numpy().astype(dtype)
                for i, (s, c) in enumerate(pairs):
                    assert np.array_equal(stored[layer][own[s], c], expected[i], equal_nan=True), (layer, s, c)
            for i, (s, c) in enumerate(pairs):
                assert np.array_equal(prediction[own[s], c], logits[i].argmax(0).numpy())
    for layer in stored:
        assert np.isnan(stored[layer][~applicable]).all(), "nothing is inferred where the class is absent"
    assert not prediction[~applicable].any()
    return passes


@pytest.mark.parametrize("name", NETWORKS)
def test_stored_is_what_a_plain_forward_pass_computes(tmp_path: Path, write_spec: WriteSpec, name: str) -> None:
    store, summary = record_store(tmp_path, write_spec, name)
    assert not store.applicable.values.all() or name.endswith("3D"), "some slice lacks a class"
    assert expect_equal(store, name, tmp_path / "weights.safetensors", 8) == summary.forward_passes
    assert summary.inferred == int(store.applicable.sum())


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_any_batch_size_stores_its_own_batches(tmp_path: Path, write_spec: WriteSpec, batch_size: int) -> None:
    store, summary = record_store(tmp_path, write_spec, "BasicUNet", run__batch_size=batch_size)
    assert expect_equal(store, "BasicUNet", tmp_path / "weights.safetensors", batch_size) == summary.forward_passes


@pytest.mark.parametrize("target", [1, 10**9], ids=["every map", "whole samples"])
@pytest.mark.parametrize("ring", [1, 3])
def test_any_cut_into_chunks_and_buffers_stores_the_same(
    tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch, target: int, ring: int
) -> None:
    monkeypatch.setattr(layout, "inner_chunk", partial(layout.inner_chunk, target=target))
    three = [{"transform": "brightness", "targets": ["LV", "RV", "MYO"], "strengths": [0.1]}]
    changes: dict[str, Any] = {"perturb": three, "run__batch_size": 4}
    spec = load_spec(spec_path(tmp_path, write_spec, "Tricky", **changes))
    sample = make_plan(spec, timing=False).layout.sample_bytes
    monkeypatch.setattr(budget, "RING_BYTES", ring * sample + 1)
    assert make_plan(spec, timing=False).ring_samples == ring
    store, summary = record_store(tmp_path, write_spec, "Tricky", **changes)
    grids = {store.layout.activation(layer).grid[:2] for layer in store.layout.layers}
    assert grids == {1: {(4, 3)}, 10**9: {(1, 1)}}[target]
    passes = expect_equal(store, "Tricky", tmp_path / "weights.safetensors", 4, ring=ring)
    assert passes == summary.forward_passes
    assert store.reduced
    mad = analysis.mad(store["L03"]).values
    np.testing.assert_allclose(store.statistics("L03")["mad"].values, mad, rtol=1e-12, atol=1e-15)


def test_batch_sizes_agree_to_rounding(tmp_path: Path, write_spec: WriteSpec) -> None:
    one, _ = record_store(tmp_path / "one", write_spec, "UNet", run__batch_size=1)
    many, _ = record_store(tmp_path / "many", write_spec, "UNet", run__batch_size=6)
    # Of values with a deviation of about 1, by normalisations that enlarge rounding where a map is nearly constant.
    for layer in one.layers.index:
        np.testing.assert_allclose(one[layer].values, many[layer].values, atol=1e-3)


def test_a_second_capture_in_one_process_obeys_its_own_spec(tmp_path: Path, write_spec: WriteSpec) -> None:
    """Nothing that a process keeps from an earlier run may leak into the next at the same path."""
    first, summary = record_store(tmp_path, write_spec, "UNet", run__batch_size=8)
    shutil.rmtree(first.path)
    _, again = record_store(tmp_path, write_spec, "UNet", run__batch_size=2)
    assert summary.inferred == again.inferred
    assert again.forward_passes > summary.forward_passes


def test_float16_is_the_rounded_float32(tmp_path: Path, write_spec: WriteSpec) -> None:
    store, _ = record_store(tmp_path, write_spec, "DynUNet", store__dtype="float16")
    assert store["L01"].dtype == np.float16
    assert store.image.dtype == np.float32
    expect_equal(store, "DynUNet", tmp_path / "weights.safetensors", 8, "float16")


def test_calls_outputs_and_aliases_are_layers_of_their_own(tmp_path: Path, write_spec: WriteSpec) -> None:
    store, _ = record_store(tmp_path, write_spec, "Tricky")
    expected = ["shared", "shared#1", "pair[0]", "pair[1.0]", "named[low]", "named[high.part]", "turned"]
    assert store.layers["module"].tolist() == expected
    assert str(store["L02"].coords["module"].values) == "shared#1"


def test_confusion_counts_the_image_without_its_padding(tmp_path: Path, write_spec: WriteSpec) -> None:
    store, _ = record_store(tmp_path, write_spec, "UNet")
    label, prediction = store.label.values, store.prediction.values
    for s, c in np.argwhere(store.applicable.values):
        expected = np.zeros((4, 4), dtype=int)
        np.add.at(expected, (label[s].ravel(), prediction[s, c].ravel()), 1)
        assert np.array_equal(store.confusion.values[s, c], expected)
    assert not store.confusion.values[~store.applicable.values].any()


def no_hooks(model: nn.Module) -> bool:
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2), nn.ReLU(inplace=True)).eval()


def test_a_later_in_place_activation_does_not_reach_the_copy() -> None:
    model = small_network()
    layers = probe(model, (1, 8, 8), ["1"]).layers
    copies: list[Tensor] = []
    with torch.inference_mode(), recording(model, layers) as forward:
        output = forward(torch.randn(2, 1, 8, 8), lambda _i, t: copies.append(t.clone()))
    assert (copies[0] < 0).any()
    assert not (output < 0).any()
    assert torch.equal(copies[0].relu(), output)


def test_hooks_are_gone_after_a_recording() -> None:
    model = small_network()
    layers = probe(model, (1, 8, 8), ["*"]).layers
    assert no_hooks(model), "after a probe"
    with recording(model, layers):
        assert not no_hooks(model)
    assert no_hooks(model)


def test_hooks_are_gone_after_a_failure_half_way_through_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no more hooks")

    monkeypatch.setattr(model[1], "register_forward_hook", fail)
    with pytest.raises(RuntimeError, match="no more hooks"), forward_hooks(model, ["0", "1", "2"], lambda _p, _o: None):
        pytest.fail("the body must not run")
    assert no_hooks(model)


@pytest.mark.parametrize("where", ["forward", "sink", "body"])
def test_hooks_are_gone_after_an_exception(where: str) -> None:
    model = small_network()
    layers = probe(model, (1, 8, 8), ["*"]).layers

    def sink(_index: int, _tensor: Tensor) -> None:
        if where == "sink":
            raise LookupError("sink")

    def run() -> None:
        with torch.inference_mode(), recording(model, layers) as forward:
            forward(torch.zeros(1, 7 if where == "forward" else 1, 8, 8), sink)
            raise LookupError("body")

    with pytest.raises((RuntimeError, LookupError), match="channels" if where == "forward" else where):
        run()
    assert no_hooks(model)


def test_a_run_leaves_no_hooks(tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[nn.Module] = []
    make = NETWORKS["UNet"][0]

    def remember() -> nn.Module:
        built.append(make())
        return built[-1]

    monkeypatch.setitem(NETWORKS, "UNet", (remember, NETWORKS["UNet"][1]))
    record_store(tmp_path, write_spec, "UNet")
    assert built
    assert all(map(no_hooks, built))


class Branching(nn.Module):
    """Other control flow on images than on zeros."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.a = nn.InstanceNorm2d(1)
        self.b = nn.InstanceNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        image = bool(x.any())
        x = self.a(x)
        if self.how == "more" and image:
            x = self.a(x)
        if self.how == "less" and image:
            return x
        if self.how == "shape" and image:
            self.b(x[..., ::2, ::2])
            return x
        result: Tensor = self.b(x)
        return result


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("more", r"module 'a' ran call 1 .* control flow depends on its input"),
        ("less", r"ran 1 of 2 recorded layers: the network's control flow depends on its input"),
        ("shape", r"module 'b' returned \(batch, 1, 4, 4\), \(batch, 1, 8, 8\) in the trial pass"),
    ],
)
def test_control_flow_that_depends_on_the_input_is_refused(how: str, message: str) -> None:
    model = Branching(how).eval()
    layers = probe(model, (1, 8, 8), ["?"]).layers

    def run() -> None:
        with recording(model, layers) as forward:
            forward(torch.ones(1, 1, 8, 8), lambda _i, _t: None)

    with pytest.raises(ModelError, match=message):
        run()
    assert no_hooks(model)


def test_control_flow_fails_the_block_and_commits_nothing(tmp_path: Path, write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(tmp_path, model__factory="networks:moody", data__patients=["patient001"]))
    summary = capture(spec, cluster="inline", device="cpu")
    assert len(summary.failed) == 2
    assert all("control flow depends on its input" in report.error for report in summary.failed)
    with pytest.warns(UserWarning, match="2 of 2 volumes are missing"):
        assert actstore.open(summary.store).block_samples.counts == ()


def test_call_counts_begin_again_in_every_pass() -> None:
    model = Branching("same").eval()
    seen: list[int] = []
    with recording(model, probe(model, (1, 8, 8), ["?"]).layers) as forward:
        for _ in range(3):
            forward(torch.ones(2, 1, 8, 8), lambda i, _t: seen.append(i))
    assert seen == [0, 1] * 3


def test_type_patterns_match_a_class_and_its_bases() -> None:
    model = NETWORKS["UNet"][0]()
    norms = match_modules(model, ["type:InstanceNorm2d"])["type:InstanceNorm2d"]
    assert norms == {path for path, module in model.named_modules() if isinstance(module, nn.InstanceNorm2d)}
    assert match_modules(model, ["type:_InstanceNorm"])["type:_InstanceNorm"] == norms


def test_a_shared_module_is_found_by_each_of_its_names() -> None:
    model = Tricky()
    assert match_modules(model, ["alias", "shared"]) == {"alias": {"shared"}, "shared": {"shared"}}
    assert [layer.module for layer in probe(model, (1, 8, 8), ["alias"]).layers] == ["shared", "shared"]


class Odd(nn.Module):
    def __init__(self, part: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.part = Part(part)
        self.idle = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.part(x)
        return x


class Part(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("part", "pattern", "message"),
    [
        (lambda x: x, "nothing*", r"pattern 'nothing\*' matches no module of Odd .*module types: Identity, Odd, Part"),
        (lambda x: x, "idle", "matches only modules that never run in a forward pass"),
        (lambda x: None, "part", "matches only modules that return no tensor"),
        (
            lambda x: x.flatten(2),
            "part",
            r"'part' returns \(1, 1, 64\) for a batch of one: a recorded output must",
        ),
        (lambda x: x.reshape(4, 1, 4, 4), "part", r"returns \(4, 1, 4, 4\) for a batch of one"),
        (lambda x: (x, x[0]), "part", r"returns \(1, 8, 8\) for a batch of one"),
    ],
    ids=["no module", "never run", "no tensor", "sequence", "windows", "one of a tuple"],
)
def test_what_cannot_be_recorded_is_named(part: Callable[[Tensor], Any], pattern: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        probe(Odd(part), (1, 8, 8), [pattern])


def test_a_probe_lists_every_module_and_the_network_in_order() -> None:
    model = NETWORKS["UNet"][0]().eval()
    found = probe(model, (1, 32, 32), ["*.adn.N"])
    assert [layer.name for layer in found.layers] == [f"L{i + 1:02d}" for i in range(len(found.layers))]
    assert found.output.shape == (1, 4, 32, 32)
    assert {row.module for row in found.modules} == {path for path, _ in model.named_modules() if path}
    assert {row.module for row in found.modules if row.matched} == {layer.module for layer in found.layers}
    assert found.layers[0] == Layer("L01", "model.0.conv.unit0.adn.N", "InstanceNorm2d", 0, "", 4, (16, 16))
    largest = max(4 * row.shape[0] * row.shape[1] * row.shape[2] for row in found.modules if row.shape)
    assert found.largest_output_bytes == largest


def test_many_layers_are_numbered_so_that_names_sort_in_order() -> None:
    model = nn.Sequential(*(nn.Identity() for _ in range(120)))
    names = [layer.name for layer in probe(model, (1, 4, 4), ["*"]).layers]
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("L001", "L120")
