"""What factories return: recorded as it is, or refused in one clear line before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import actstore
from actstore.cli.commands import main
from actstore.errors import ModelError
from actstore.jobs.capture import capture
from actstore.networks.model import build_model
from actstore.networks.recording import probe, recording
from actstore.spec.spec import load_spec
from conftest import WriteSpec

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """Two convolutions, the first of them recorded as ``a``, and something between them."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.a = nn.Conv2d(1, 8, 3, padding=1)
            self.b = nn.Conv2d(8, 4, 1)
        self.between = nn.Identity() if between is None else between

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.b(self.between(self.a(x)))
        return result


class Silent(Net):
    def eval(self) -> Any:
        super().eval()


class Stubborn(Net):
    def train(self, mode: bool = True) -> Any:
        raise NotImplementedError("always in training")


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x)


class Spectral(Net):
    """Uses the real part of a recorded complex layer."""

    def __init__(self) -> None:
        super().__init__(Spectrum())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.b(self.between(self.a(x)).real)
        return result


class State(Net):
    def get_extra_state(self) -> Any:
        return {"epoch": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result


def quietly(make: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """What torch deprecates and people still use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*arguments, **more)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Conv2d(1, 4, 1))


def quantised() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net(Rows())
    quantize: Any = torch.ao.quantization.quantize_dynamic
    return quietly(quantize, model, {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-any-return]


class Fixed(Net):
    """Quantised throughout, with or without modules that convert inputs and outputs."""

    def __init__(self, converts: bool) -> None:
        super().__init__()
        self.q = torch.ao.quantization.QuantStub() if converts else nn.Identity()
        self.d = torch.ao.quantization.DeQuantStub() if converts else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.d(super().forward(self.q(x)))
        return result


def fixed(converts: bool) -> nn.Module:
    quantization: Any = torch.ao.quantization
    engine = next(name for name in ("x86", "fbgemm", "qnnpack") if name in torch.backends.quantized.supported_engines)
    torch.backends.quantized.engine = engine
    model: Any = Fixed(converts).eval()
    model.qconfig = quantization.get_default_qconfig(engine)
    prepared = quietly(quantization.prepare, model)
    prepared(torch.rand(1, 1, 64, 64))
    return quietly(quantization.convert, prepared)  # type: ignore[no-any-return]


def stop() -> None:
    raise SystemExit(2)


def inplace_compiled() -> nn.Module:
    model = Net()
    model.compile(backend="eager")
    return model


def compiled_forward() -> nn.Module:
    """Made when it is asked for: torch takes seconds to load its compiler."""

    class CompiledForward(Net):
        @torch.compile(backend="eager")
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    return CompiledForward()


def normed() -> nn.Module:
    model = Net()
    parametrizations.weight_norm(model.a)
    return model


#: Returned by ``made``, which specs name.
FACTORIES: dict[str, Callable[[], Any]] = {
    "class": lambda: Net,
    "function": lambda: lambda x: x,
    "tuple": lambda: (Net(), {"epoch": 3}),
    "nothing": lambda: None,
    "state": lambda: Net().state_dict(),
    "exit": stop,
    "lazy": lambda: nn.Sequential(nn.LazyConv2d(8, 3, padding=1), nn.Conv2d(8, 4, 1)),
    "meta": on_meta,
    "scripted": lambda: quietly(torch.jit.script, Net()),
    "traced": lambda: quietly(torch.jit.trace, Net().eval(), torch.zeros(1, 1, 64, 64)),
    "scripted part": lambda: Net(quietly(torch.jit.script, nn.ReLU())),
    "silent": Silent,
    "stubborn": Stubborn,
    "double": lambda: Net().double(),
    "half": lambda: Net().half(),
    "spectral": Spectral,
    "complex": lambda: nn.Sequential(Net(), Spectrum()),
    "quantised": quantised,
    "fixed": lambda: fixed(converts=True),
    "fixed inside": lambda: fixed(converts=False),
    "state of its own": State,
    "compiled": lambda: torch.compile(Net(), backend="eager"),
    "compiled part": lambda: Net(torch.compile(nn.ReLU(), backend="eager")),  # type: ignore[arg-type]
    "compiled in place": inplace_compiled,
    "compiled forward": compiled_forward,
    "parallel": lambda: nn.DataParallel(Net()),
    "normed": normed,
}


def made(name: str) -> Any:
    return FACTORIES[name]()


def spec_of(folder: Path, write_spec: WriteSpec, name: str, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "data__patients": ["patient001"],
        "model__factory": "test_models:made",
        "model__arguments": {"name": name},
        "model__layers": ["*a"],
    }
    return write_spec(folder, **(settings | changes))


F = "model.factory 'test_models:made'"


@pytest.mark.parametrize(
    ("name", "words", "layers"),
    [
        ("class", f"{F} returned the class Net, not an instance of it: return Net(…)", "*"),
        ("function", f"{F} returned a function: it must return a torch.nn.Module; wrap it in a module", "*"),
        ("tuple", f"{F} returned a tuple with a network at 0: return the network alone", "*"),
        ("nothing", f"{F} returned nothing: it must return a torch.nn.Module, take a look at its `return`", "*"),
        ("state", f"{F} returned a state dict: it must return a torch.nn.Module; name the file of the weights in", "*"),
        ("exit", f"{F} failed with SystemExit: 2; correct it or model.arguments", "*"),
        ("lazy", "before the first input (0.weight, 0.bias): run the network in the factory once on zeros", "*"),
        ("meta", "parameters on the meta device, which hold no values (0.weight, 0.bias): make the network on", "*"),
        ("scripted", f"{F} returned TorchScript (Net), whose modules take no hooks: return the Python network", "*"),
        ("traced", f"{F} returned TorchScript (Net), whose modules take no hooks: return the Python network", "a"),
        (
            "scripted part",
            "module 'between' is TorchScript, which takes no hooks and cannot be recorded: leave it",
            "*",
        ),
        ("stubborn", "does not go into evaluation mode on the CPU: NotImplementedError: always in training; corr", "*"),
        (
            "double",
            "its weights are not float32 as inputs are (4 of 4 float64): return network.float() from the fac",
            "*",
        ),
        (
            "half",
            "its weights are not float32 as inputs are (4 of 4 float16): return network.float() from the factory",
            "*",
        ),
        (
            "spectral",
            "module 'between' (Spectrum) returns complex64, of which only the real part would be kept: rec",
            "*",
        ),
        (
            "fixed",
            "module 'a' (Conv2d) returns a quantised tensor (quint8): record the module that dequantises it",
            "a",
        ),
        (
            "fixed inside",
            "modules such as a (Conv2d) take quantised inputs: return the network from before quantisation, or put Qua",
            "a",
        ),
        (
            "complex",
            "the network (Sequential) returns complex64, of which only the real part would be kept: record",
            "0.a",
        ),
    ],
)
def test_refused_in_one_line(tmp_path: Path, write_spec: WriteSpec, name: str, words: str, layers: str) -> None:
    path = spec_of(tmp_path, write_spec, name, model__layers=[layers])
    shown = CliRunner().invoke(main, ["layers", str(path)])
    assert shown.exit_code == 1
    (line,) = shown.stderr.splitlines()
    assert words in line
    with pytest.raises(ModelError) as caught:
        capture(load_spec(path), cluster="inline", device="cpu")
    assert line == f"actstore: {caught.value}"
    assert not (tmp_path / "tiny.zarr").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("scripted part", "silent", "spectral", "state of its own"),
        *("compiled", "compiled part", "compiled in place", "compiled forward", "parallel", "normed"),
    ],
)
def test_recorded_as_the_network_inside(tmp_path: Path, write_spec: WriteSpec, name: str) -> None:
    spec = load_spec(spec_of(tmp_path, write_spec, name))
    summary = capture(spec, cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    store = actstore.open(summary.store)
    assert store.layers["module"].tolist() == ["module.a" if name == "parallel" else "a"]
    model = build_model(spec)
    convolution = next(module for path, module in model.named_modules() if path.endswith("a"))
    with torch.no_grad():
        expected = convolution(torch.from_numpy(store.image.values[:2, 0])).numpy()
    np.testing.assert_allclose(store["L01"].values[:2, 0], expected, rtol=1e-5, atol=1e-6)


def test_dynamic_quantisation_takes_one_input_a_pass(tmp_path: Path, write_spec: WriteSpec) -> None:
    with pytest.raises(
        ModelError, match=r"in a batch with another gives other outputs from L02 \(b\) .*run.batch_size"
    ):
        capture(load_spec(spec_of(tmp_path, write_spec, "quantised", model__layers=["a", "b"])), cluster="inline")
    path = spec_of(tmp_path, write_spec, "quantised", model__layers=["a", "b"], run__batch_size=1)
    assert capture(load_spec(path), cluster="inline", device="cpu").complete


class Converting(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.part = Part(function)

    def forward(self, x: Tensor) -> Tensor:
        self.part(x)
        return x


class Part(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x.cfloat(), "'part' (Part) returns complex64, of which only the real part would be kept"),
        (lambda x: x.double(), "returns float64, which float32 would round: return network.float() from the factory"),
        (lambda x: x.to(torch.float8_e5m2), "returns float8_e5m2, which float32 would round: let it return .float()"),
        (lambda x: x.to_sparse(), "returns a sparse tensor (float32): let it return a dense one, or leave it out"),
        (
            lambda x: quietly(torch.quantize_per_tensor, x, 0.1, 0, torch.qint8),
            "returns a quantised tensor (qint8): record the module that dequantises it, or leave it out of model.",
        ),
    ],
)
def test_layers_that_float32_does_not_hold(function: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        probe(Converting(function), (1, 8, 8), ["part"])
    assert words in str(caught.value)
    assert "model.layers" in str(caught.value)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64]
)
def test_layers_that_float32_holds(dtype: torch.dtype) -> None:
    model = Converting(lambda x: (x * 3).to(dtype))
    layers = probe(model, (1, 8, 8), ["part"]).layers
    seen: list[Tensor] = []
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    with recording(model, layers) as forward:
        forward(image, lambda _i, tensor: seen.append(tensor.float()))
    assert torch.equal(seen[0], (image * 3).to(dtype).float())


def test_whole_numbers_that_float32_does_not_hold() -> None:
    model = Converting(lambda x: x.long() + 2**24)
    layers = probe(model, (1, 8, 8), ["part"]).layers
    with recording(model, layers) as forward:
        forward(torch.zeros(1, 1, 8, 8), lambda _i, _t: None)
        with pytest.raises(ModelError, match="'part' returns whole numbers beyond 16777216, which float32 would round"):
            forward(torch.ones(1, 1, 8, 8), lambda _i, _t: None)
