"""Networks that give one input other numbers, again or in a batch: refused by name, or allowed and recorded."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from monai.networks import nets
from torch import Tensor, nn
from torch.nn import functional

import actstore
from actstore.cli.commands import main
from actstore.errors import ModelError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.networks.differences import ROUNDING, relative_difference
from actstore.networks.model import weights_checksums
from actstore.networks.recording import probe
from actstore.networks.repeatable import Repeatability, examine, random_inputs, refuse
from actstore.spec.spec import load_spec
from actstore.store.attributes import unrepeatable
from conftest import WriteSpec


class Plain(nn.Module):
    """Two recorded convolutions with something between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor] | nn.Module = lambda _, x: x) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.a = nn.Conv2d(1, 8, 3, padding=1)
            self.b = nn.Conv2d(8, 4, 1)
        self.between = between
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0
        self.kept = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.between(x) if isinstance(self.between, nn.Module) else self.between(self, x)
        result: Tensor = self.b(x)
        return result


class Trained(nn.BatchNorm2d):
    """Goes back into training mode by itself."""

    def train(self, mode: bool = True) -> Trained:
        return super().train(True)


class Sometimes(nn.Module):
    """Drops its whole path, once in a million times."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(()) > 1e-6)


def counted(network: Any, x: Tensor) -> Tensor:
    network.calls += 1
    return x + network.calls


def broken_later(network: Any, x: Tensor) -> Tensor:
    network.calls += 1
    return x * (torch.nan if network.calls > 2 else 1)


def remembered(network: Any, x: Tensor) -> Tensor:
    network.count = 0.9 * network.count + x.mean()
    return x


def first_spread(network: Any, x: Tensor) -> Tensor:
    network.kept = network.kept or float(x.std())
    return x / (network.kept or 1)


def largest_so_far(network: Any, x: Tensor) -> Tensor:
    network.kept = max(network.kept, float(x.max()))
    return x / network.kept


def lazy_spread(network: Any, x: Tensor) -> Tensor:
    if not hasattr(network, "spread"):
        network.register_buffer("spread", 1 + x.std())
    return x / network.spread


def lazy_positions(network: Any, x: Tensor) -> Tensor:
    if not hasattr(network, "positions"):
        network.register_buffer("positions", torch.linspace(0, 1, x.shape[-1]), persistent=False)
    return x + network.positions


def lazy_mean(network: Any, x: Tensor) -> Tensor:
    if not hasattr(network, "mean"):
        network.register_buffer("mean", torch.zeros(()))
    network.mean = 0.9 * network.mean + x.mean()
    return x


class Constant(nn.Module):
    """Looks at the rest of the batch, beside a large constant channel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x[:, :1], 1e5), (x - 0.1 * x.mean())[:, 1:]], 1)


class Masked(nn.Module):
    """Looks at the rest of the batch, with half of its output masked."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.1 * x.mean()).masked_fill(torch.arange(x.shape[-1]) % 2 == 0, -1e9)


def seeded(_network: Any, x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return x + torch.rand(x.shape[1:], generator=generator)


def examined(between: Any, *, batched: bool = True, normalize: str = "minmax-slice") -> Repeatability:
    model, fresh = Plain(between).eval(), Plain(copy.deepcopy(between)).eval()
    before = weights_checksums(model)
    layers = probe(model, (1, 16, 16), ["?", "between"] if isinstance(between, Constant | Masked) else ["?"]).layers
    inputs = random_inputs((16, 16), normalize)
    return examine(model, fresh, layers, inputs, before, batched=batched)


def said(between: Any) -> str:
    with pytest.raises(ModelError) as caught:
        refuse(examined(between), "nets:Net")
    return str(caught.value)


ALLOW = 'set model.unrepeatable = "allow" in the spec, which the store records'
RANDOM = "functional dropout needs training=self.training (eval() does not reach it)"


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (
            lambda _, x: functional.dropout(x, 0.5),
            ["the same input again gives other outputs from L02 (b) on (by up to ", "in forward() of the net", RANDOM],
        ),
        (lambda _, x: x + random.random(), ["again gives other outputs from L02 (b) on", RANDOM]),
        (lambda _, x: x + np.random.normal(), ["again gives other outputs from L02 (b) on", RANDOM]),  # noqa: NPY002
        (Sometimes(), ["its forward pass draws random numbers (torch). ", RANDOM]),
        (counted, ["the same input again gives other outputs from L02 (b) on", "kept from one pass to the next"]),
        (remembered, ["forward passes change its weights (count). Nothing may be updated in forward() once eval()"]),
        (
            nn.BatchNorm2d(8, track_running_stats=False),
            [
                "the same input in a batch with another gives other outputs from L02 (b) on (by up to ",
                "It begins in 'between' (BatchNorm2d): batch normalisation needs running statistics",
                "Correct that, use run.batch_size = 1, or set",
            ],
        ),
        (lambda _, x: x - x.mean(), ["in a batch with another gives other outputs from L02 (b)", "forward() of the"]),
        (
            Trained(8),
            [
                "change its weights (between.num_batches_tracked, between.running_mean, between.running_var). ",
                "Training mode is on despite eval() in 'between' (Trained): train(), eval() and forward() must leave",
            ],
        ),
        (Constant(), ["batch with another gives other outputs from L02 (between)", "begins in 'between' (Constant)"]),
        (Masked(), ["in a batch with another gives other outputs from L02 (between)", "begins in 'between' (Masked)"]),
        (lazy_mean, ["forward passes change its weights (mean)"]),
        (broken_later, ["other outputs from L02 (b) on (none at all, or NaN)"]),
    ],
    ids=[
        "dropout",
        "random",
        "numpy",
        "rarely",
        "counter",
        "buffer",
        "batch norm",
        "batch mean",
        "trained",
        "constant",
        "masked",
        "lazy",
        "nan",
    ],
)
def test_no_function_of_one_input(between: Any, words: list[str]) -> None:
    message = said(between)
    assert message.startswith("'nets:Net' is not a function of its input alone: ")
    assert message.endswith(ALLOW)
    for part in words:
        assert part in message, message


@pytest.mark.parametrize(
    "between",
    [
        lambda _, x: x,
        seeded,
        lazy_positions,
        nn.BatchNorm2d(8),
        nn.Dropout(0.5),
        nn.InstanceNorm2d(8),
        nn.ReLU(inplace=True),
    ],
)
def test_functions_of_one_input(between: Any) -> None:
    found = examined(between)
    assert found.holds
    assert found.difference <= ROUNDING / 10
    refuse(found, "nets:Net")
    assert unrepeatable(found.as_json()) == ""


@pytest.mark.parametrize("normalize", ["minmax-slice", "zscore-slice", "none"])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("between", [first_spread, largest_so_far, lazy_spread])
def test_what_the_first_input_leaves_behind(between: Any, batched: bool, normalize: str) -> None:
    found = examined(between, batched=batched, normalize=normalize)
    assert (found.again, found.after_another, found.as_json()["after_another"]) == (True, False, False)
    with pytest.raises(ModelError) as caught:
        refuse(found, "nets:Net")
    message = str(caught.value)
    start = "'nets:Net' is not a function of its input alone: what it saw before changes what it returns from L02 (b)"
    assert message.startswith(start), message
    assert "It begins in forward() of the network (Plain): nothing that forward() sees may be kept" in message
    assert "run.batch_size" not in message


def test_statistics_of_a_batch_of_one_are_of_one_input() -> None:
    found = examined(nn.BatchNorm2d(8, track_running_stats=False), batched=False)
    assert found.holds
    assert found.in_a_batch is None


def test_random_numbers_are_left_as_they_were() -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), random.getstate(), pickle.dumps(np.random.get_state())]  # noqa: NPY002

    model = Plain(lambda _, x: x + random.random() + np.random.normal() + torch.rand(())).eval()  # noqa: NPY002
    layers, inputs = probe(model, (1, 16, 16), ["?"]).layers, random_inputs((16, 16), "none")
    before = states()
    found = examine(model, copy.deepcopy(model), layers, inputs, weights_checksums(model), batched=True)
    assert found.draws == ("numpy", "random", "torch")
    assert states() == before


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (lambda _, x: x.reshape(1, *x.shape[1:]), "fails on a batch of two inputs: RuntimeError: shape"),
        (lambda _, x: x[:1], r"module 'b' returns \(1, 4, 16, 16\) for a batch of 2: leave it out of model.layers, or"),
    ],
)
def test_networks_that_take_no_batch(between: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        examined(between)
    assert "use run.batch_size = 1" in str(caught.value)
    assert examined(between, batched=False).holds


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_rounding_of_real_networks_is_far_below_what_is_refused(dims: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nets.SegResNet(dims, init_filters=8, in_channels=1, out_channels=4, blocks_down=(1, 1), blocks_up=(1,))
    size = (16,) * dims
    layers = probe(model.eval(), (1, *size), ["type:GroupNorm", "*.conv"]).layers
    for normalize in ("minmax-slice", "zscore-slice", "none"):
        inputs = random_inputs(size, normalize)
        found = examine(model, copy.deepcopy(model), layers, inputs, weights_checksums(model), batched=True)
        assert found.holds
        assert found.difference < ROUNDING / 10


def test_relative_difference() -> None:
    a = torch.tensor([1.0, -4.0, torch.nan, torch.inf])
    assert relative_difference(a, a.clone()) == 0
    assert relative_difference(a, a + torch.tensor([0.5, 0, 0, 0])) == pytest.approx(0.125)
    assert relative_difference(a, torch.tensor([1.0, -4.0, torch.nan, -torch.inf])) == float("inf")
    assert relative_difference(a, torch.tensor([torch.nan, -4.0, torch.nan, torch.inf])) == float("inf")
    assert relative_difference(torch.zeros(2), torch.tensor([0.0, 1e-30])) == pytest.approx(1)
    assert relative_difference(torch.zeros(2), torch.zeros(3)) == float("inf")
    assert relative_difference(torch.tensor([True, False]), torch.tensor([True, True])) == 1


def test_constants_do_not_hide_a_difference() -> None:
    values = torch.randn(256, 16, 16, generator=torch.Generator().manual_seed(0))
    values[0] = 1e5
    other = values.clone()
    other[1:] += 1e-3
    assert 1e-4 < relative_difference(values, other) < 1e-3
    values[1], other[1] = -1e9, -1e9
    assert 1e-4 < relative_difference(values, other) < 1e-3
    # What differs is no constant, however often it occurs.
    other[0] += 1
    assert relative_difference(values, other) == pytest.approx(1e-5, rel=1e-3)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 64),
    st.sampled_from([1, 4, 16]),
    st.floats(1e-6, 1e6),
    st.sampled_from(["as it is", "relu", "relu6", "sigmoid", "upsampled", "constant", "mask"]),
)
@example(0, 1, 1, 1.0, "relu")
def test_rounding_of_any_layer_is_no_difference(seed: int, channels: int, size: int, scale: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    layer = torch.from_numpy(rng.normal(size=(channels, size, size)).astype(np.float32))
    noisy = layer * (1 + 1e-7 * torch.from_numpy(rng.normal(size=layer.shape).astype(np.float32)))
    after = {
        "relu": functional.relu,
        "relu6": lambda x: (4 * x).clamp(0, 6),
        "sigmoid": lambda x: (8 * x).sigmoid(),
        "upsampled": lambda x: x.repeat_interleave(4, 1).repeat_interleave(4, 2),
        "constant": lambda x: torch.cat([x, torch.full_like(x[:1], 1e5)]),
        "mask": lambda x: x.masked_fill(torch.arange(size) % 3 == 0, -1e9),
    }.get(kind, lambda x: x)
    assert relative_difference(scale * after(layer), scale * after(noisy)) <= ROUNDING / 10


NETWORK = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(functional.dropout(self.a(x), 0.5))
"""


@pytest.mark.slow
def test_it_is_refused_before_anything_is_written_or_allowed_and_recorded(
    tmp_path: Path, write_spec: WriteSpec
) -> None:
    (tmp_path / "dropping.py").write_text(NETWORK)
    changes: dict[str, Any] = {
        "data__patients": ["patient001"],
        "model__factory": "dropping:Net",
        "model__layers": ["a", "b"],
    }
    path = write_spec(tmp_path, **changes)
    for command in ("layers", "plan", "capture"):
        shown = CliRunner().invoke(main, [command, str(path)])
        assert shown.exit_code == 1
        assert (
            "'dropping:Net' is not a function of its input alone: the same input again gives other outputs from L02 (b)"
            in (shown.stderr)
        )
        assert ("2 layers recorded of 2 modules" in shown.stdout) == (command == "layers")
    assert not (tmp_path / "tiny.zarr").exists()

    path = write_spec(tmp_path, model__unrepeatable="allow", **changes)
    line = "not a function of its input alone, as the spec allows: the same input again gives other outputs from L02"
    assert line in CliRunner().invoke(main, ["plan", str(path)]).stdout
    summary = capture(load_spec(path), cluster="inline", device="cpu")
    assert summary.complete
    store = actstore.open(summary.store)
    assert store.attributes["identity"]["unrepeatable"] == "allow"
    found = store.attributes["repeatable"]
    assert (found["again"], found["layer"], found["draws"]) == (False, "L02 (b)", ["torch"])
    assert found["difference"] > 0.1
    assert line in CliRunner().invoke(main, ["status", str(summary.store)]).stdout
    with pytest.raises(ModelError, match="not a function of its input alone"):
        capture(load_spec(write_spec(tmp_path, **changes)), cluster="inline", device="cpu")


def test_what_is_found_belongs_to_the_store_and_not_to_the_run(tiny_spec: Path, tiny_store: Path) -> None:
    attributes = actstore.open(tiny_store).attributes
    found = attributes["repeatable"]
    assert (found["again"], found["after_another"], found["in_a_batch"]) == (True, True, True)
    assert (found["draws"], found["changed"]) == ([], [])
    assert "unrepeatable" not in attributes["identity"]
    assert "no function" not in CliRunner().invoke(main, ["status", str(tiny_store)]).stdout
    allowed = load_spec(tiny_spec)
    allowed = allowed.model_copy(update={"model": allowed.model.model_copy(update={"unrepeatable": "allow"})})
    assert make_plan(allowed, timing=False).identity["unrepeatable"] == "allow"
    with pytest.raises(StoreError, match='another spec \\(unrepeatable: null → "allow"\\)'):
        capture(allowed, cluster="inline", device="cpu")


def test_status_of_a_store_from_before(tiny_copy: Path) -> None:
    from stores import edit_attributes

    edit_attributes(tiny_copy, lambda attributes: attributes["repeatable"].pop("after_another"))
    assert CliRunner().invoke(main, ["status", str(tiny_copy)]).exit_code == 0
    edit_attributes(tiny_copy, lambda attributes: attributes.pop("repeatable"))
    shown = CliRunner().invoke(main, ["status", str(tiny_copy)])
    assert shown.exit_code == 0, shown.output
    assert "no function" not in shown.stdout
