"""Weights load under any names that wrappers give them, as exactly the tensors of the file, or not at all."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks import nets
from safetensors.torch import save_file
from torch import Tensor, nn

from actstore.errors import ModelError
from actstore.networks.checkpoints import read_checkpoint
from actstore.networks.model import weights_digest
from actstore.networks.weight_names import match_names
from actstore.networks.weights import load_weights, read_state

WRAPPERS = ("module", "model", "net", "network", "_orig_mod")
#: Children that a network may have, among them those that are called as wrappers are.
CHILDREN = ("0", "1", "conv", "encoder", "submodule", "module", "model", "net", "adn")

paths = st.lists(st.sampled_from(CHILDREN), max_size=4).map(lambda parts: ".".join([*parts, "weight"]))
networks = st.sets(paths, min_size=1, max_size=8)
prefixes = st.lists(st.sampled_from(WRAPPERS), max_size=4).map(lambda parts: "".join(f"{part}." for part in parts))


def numbered(names: Any, prefix: str = "") -> dict[str, int]:
    return {prefix + name: i for i, name in enumerate(sorted(names))}


@given(networks, prefixes, prefixes)
def test_any_nesting_of_wrappers_on_either_side(names: set[str], theirs: str, mine: str) -> None:
    found, doubts = match_names(numbered(names, theirs), numbered(names, mine))
    if doubts:
        # What looks like wrappers may belong to the network, so that names fit in two ways: then neither is taken.
        assert found == numbered(names, theirs)
    else:
        assert found == numbered(names, mine)


@given(st.sets(paths.map(lambda path: f"in.{path}"), min_size=1, max_size=8), prefixes, prefixes)
def test_wrappers_before_other_names_leave_no_doubt(names: set[str], theirs: str, mine: str) -> None:
    assert match_names(numbered(names, theirs), numbered(names, mine)) == (numbered(names, mine), [])


@given(networks, networks, prefixes)
def test_a_match_is_one_to_one(theirs: set[str], mine: set[str], prefix: str) -> None:
    state, own = numbered(theirs, prefix), numbered(mine)
    found, _ = match_names(state, own)
    assert sorted(found.values()) == sorted(state.values())
    if state.keys() & own.keys():
        unmoved = [name for name in state.keys() & own.keys() if found.get(name) != state[name]]
        assert not unmoved or found.keys() == own.keys()


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        ("module._orig_mod.net.a", "a"),
        ("model.module.a", "a"),
        ("net.model.module._orig_mod.a", "network.a"),
        ("a", "unet.a"),
        ("unet.a", "a"),
        ("module.unet.a", "net.a"),
        ("net.net.a", "net.a"),
        ("_fsdp_wrapped_module.a", "a"),
    ],
)
def test_wrappers_of_whole_networks(theirs: str, mine: str) -> None:
    def named(name: str) -> dict[str, int]:
        return {name[:-1] + part: i for i, part in enumerate(["0.weight", "0.bias", "conv.weight"])}

    assert match_names(named(theirs), named(mine)) == (named(mine), [])


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        ("encoder._orig_mod.conv.weight", "encoder.conv.weight"),
        ("encoder.module.conv.weight", "encoder.conv.weight"),
        ("model.1.submodule.0.conv.weight", "model.1.submodule.conv.weight"),
        ("module.model.1.submodule.0.submodule.0.a", "net.model.1.submodule.submodule.a"),
        ("1.submodule.1.submodule.0.a", "model.1.submodule.1.submodule.a"),
        ("conv.weight_g", "conv.parametrizations.weight.original0"),
        ("module.conv.weight_v", "conv.parametrizations.weight.original1"),
    ],
)
def test_names_inside(theirs: str, mine: str) -> None:
    others = {"head.weight": 1}
    expected = {mine: 0, **others}
    prefix = "module." if theirs.startswith("module.") else ""
    state = {theirs: 0, **{prefix + name: value for name, value in others.items()}}
    assert match_names(state, expected) == (expected, [])
    assert match_names({theirs: 0}, {mine: 0})[0] == {mine: 0}


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (["1.weight", "1.bias"], ["0.weight", "0.bias"]),
        (["1.weight", "1.bias"], ["weight", "bias"]),
        (["encoder.weight", "encoder.bias"], ["decoder.weight", "decoder.bias"]),
        (["net.a", "model.a"], ["a"]),
        (["student.a", "teacher.a"], ["a"]),
        (["a", "model.a"], ["net.a", "network.a"]),
    ],
)
def test_names_of_another_network_stay(theirs: list[str], mine: list[str]) -> None:
    state = dict.fromkeys(theirs, 0)
    assert match_names(state, dict.fromkeys(mine, 0))[0] == state


def test_doubtful_names_are_shown() -> None:
    _, doubts = match_names({"net.a": 0, "model.a": 1, "b": 2}, {"a": 0, "b": 1})
    assert doubts == ["a could be model.a or net.a"]


class Wrapper(nn.Module):
    def __init__(self, network: nn.Module, child: str) -> None:
        super().__init__()
        self.add_module(child, network)


def unet(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nets.UNet(2, 1, 4, channels=(2, 4, 8), strides=(2, 2), num_res_units=1)


def values(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


@pytest.mark.parametrize("kind", ["w.pt", "w.safetensors"])
def test_bare_and_wrapped_networks_take_each_other_s_weights(tmp_path: Path, kind: str) -> None:
    def dressed(network: nn.Module) -> list[nn.Module]:
        wrapped = [Wrapper(network, "net"), nn.DataParallel(network), Wrapper(nn.DataParallel(network), "backbone")]
        return [network, *wrapped, torch.compile(Wrapper(network, "model"), backend="eager")]  # type: ignore[list-item]

    path = tmp_path / kind
    for trained in dressed(unet(1)):
        state = trained.state_dict()
        save_file(state, path) if path.suffix == ".safetensors" else torch.save({"state_dict": state}, path)
        for network in dressed(unet(2)):
            load_weights(network, path)
            assert all(torch.equal(a, b) for a, b in zip(values(network), values(trained), strict=True))


def test_another_bottleneck_s_names(tmp_path: Path) -> None:
    state = unet(1).state_dict()
    renamed = {re.sub(r"^(model\.1\.submodule\.1\.submodule)\.", r"\1.0.", key): state[key] for key in state}
    assert renamed.keys() != state.keys()
    torch.save(renamed, tmp_path / "w.pt")
    network = unet(2)
    load_weights(network, tmp_path / "w.pt")
    assert weights_digest(network) == weights_digest(unet(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight


def test_tied_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"b.weight": torch.eye(2)}, path)
    network = Tied()
    load_weights(network, path)
    assert torch.equal(network.a.weight, torch.eye(2))
    torch.save({"a.weight": torch.zeros(2, 2), "b.weight": torch.eye(2)}, path)
    with pytest.raises(
        ModelError, match=r"two values for one tensor, .* under two names: a\.weight and b\.weight; name"
    ):
        load_weights(network, path)


def test_weights_of_another_dtype_are_never_rounded(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    exact = {"weight": torch.tensor([[0.5, -3.0]]), "bias": torch.tensor([2.0])}
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        torch.save({key: value.to(dtype) for key, value in exact.items()}, path)
        network = nn.Linear(2, 1)
        load_weights(network, path)
        assert all(torch.equal(value, exact[key]) for key, value in network.state_dict().items())
    torch.save({**exact, "weight": torch.tensor([[0.1, -3.0]], dtype=torch.float64)}, path)
    words = r"rounded to fit Linear, 1 of 2 tensors: weight \(float64 to float32\); convert them yourself and save"
    with pytest.raises(ModelError, match=words):
        load_weights(nn.Linear(2, 1), path)
    torch.save({"weight": torch.tensor([[0.1, 1]]), "bias": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"weight \(float32 to float16\)"):
        load_weights(nn.Linear(2, 1).half(), path)
    torch.save({"weight": torch.ones(1, 2, dtype=torch.complex64), "bias": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"weight \(complex64 to float32\)"):
        load_weights(nn.Linear(2, 1), path)


class Stateful(nn.Linear):
    def __init__(self, state: Any) -> None:
        super().__init__(2, 1)
        self.state = state

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        if state == "broken":
            raise ValueError("no such state")
        self.state = state


def test_extra_state(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    trained = nn.Sequential(Stateful({"epoch": 3, "rate": [0.1, None]}))
    torch.save(trained.state_dict(), path)
    network = nn.Sequential(Stateful({}))
    load_weights(network, path)
    assert network[0].get_extra_state() == {"epoch": 3, "rate": [0.1, None]}
    assert weights_digest(network) == weights_digest(trained)
    digests = {
        weights_digest(nn.Sequential(Stateful(state)).apply(lambda m: [nn.init.zeros_(p) for p in m.parameters()]))
        for state in (None, 1, True, 1.0, "1", b"1", [1], (1,), {"1": 1}, {1: 1}, torch.ones(1), torch.ones(1).numpy())
    }
    assert len(digests) == 12
    with pytest.raises(ModelError, match=r"state '_extra_state' holds a object, of which no digest can be made"):
        weights_digest(Stateful(object()))
    torch.save(Stateful("broken").state_dict(), path)
    with pytest.raises(ModelError, match="cannot be loaded into Stateful: ValueError: no such state; name the factory"):
        load_weights(Stateful(1), path)


def test_a_digest_does_not_depend_on_the_order_of_a_state() -> None:
    one, two = (nn.Sequential(Stateful(state)) for state in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    two.load_state_dict(one.state_dict())
    two[0].state = {"b": 2, "a": 1}
    assert weights_digest(one) == weights_digest(two)


def nnunet_checkpoint(model: nn.Module) -> dict[str, Any]:
    """Entries as nnU-Net v2 saves them: NumPy's scalars in the log and the optimiser."""
    return {
        "network_weights": model.state_dict(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": np.float64(0.01), "nesterov": np.bool_(True)}]},
        "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.75)], "epoch": np.int64(3), "name": np.str_("a")},
        "_best_ema": np.float64(0.6),
        "init_args": {"configuration": "2d", "fold": 0},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


def rename_in_pickle(path: Path, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert any(old in content for name, content in files.items() if name.endswith("data.pkl"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_checkpoints_of_nnunet(tmp_path: Path, module: str) -> None:
    trained, path = unet(1), tmp_path / "checkpoint_final.pth"
    torch.save(nnunet_checkpoint(trained), path)
    written = next(
        name for name in ("numpy._core.multiarray", "numpy.core.multiarray") if name.encode() in path.read_bytes()
    )
    rename_in_pickle(path, written.encode(), module.encode())
    before = torch.serialization.get_safe_globals()
    found = read_checkpoint(path)
    assert found["inference_allowed_mirroring_axes"] == (0, 1)
    assert found["trainer_name"] == "nnUNetTrainer"
    assert found["_best_ema"] == 0.6
    assert found["logging"]["mean_fg_dice"] == [np.float32(0.5), 0.75]
    assert {*torch.serialization.get_safe_globals()} <= {*before}, "nothing more is allowed for other files"
    loaded = unet(0)
    load_weights(loaded, path)
    assert weights_digest(loaded) == weights_digest(trained)


class Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda path: Runs(os.system, f"touch {path}"), f"{os.system.__module__}.system"),
        (lambda path: Runs(Path.touch, path), "getattr"),
        (lambda path: np.arange(3), "multiarray._reconstruct"),
        (lambda path: Namespace(lr=0.1), "argparse.Namespace"),
        (lambda path: np.dtype(object), "numpy.dtypes.ObjectDType"),
        (lambda path: np.random.default_rng, "default_rng"),
    ],
    ids=["system", "touch", "array", "namespace", "objects", "function"],
)
def test_any_other_global_is_refused_by_name(tmp_path: Path, content: Any, named: str) -> None:
    path, seen = tmp_path / "checkpoint.pth", tmp_path / "seen"
    torch.save(nnunet_checkpoint(unet()) | {"logging": content(seen)}, path)
    for read in (read_checkpoint, lambda path: load_weights(unet(), path)):
        with pytest.raises(ModelError) as caught:
            read(path)
        assert f"{named}) that would run code, and are not loaded: save a plain state dict" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not seen.exists()


def test_a_checkpoint_is_a_dict(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="hold a list instead of a dict of entries: save a plain state dict"):
        read_checkpoint(tmp_path / "list.pth")
    with pytest.raises(ModelError, match="do not exist: give the path of"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "network.", "model.module.", "model._orig_mod."])
def test_checkpoints_of_lightning(tmp_path: Path, prefix: str) -> None:
    trained, path = unet(1), tmp_path / "epoch=3.ckpt"
    content = {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {prefix + name: value for name, value in trained.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "features": (4, 8)},
    }
    torch.save(content, path)
    loaded = unet(0)
    load_weights(loaded, path)
    assert weights_digest(loaded) == weights_digest(trained)
    content["state_dict"]["criterion.weight"] = torch.ones(4)  # type: ignore[index]
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"1 unexpected: criterion\.weight"):
        load_weights(unet(0), path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.ts", "model.pt"])
def test_weights_in_torchscript(tmp_path: Path, name: str) -> None:
    trained = unet(1).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(trained, torch.zeros(1, 1, 32, 32))
        torch.jit.save(script, tmp_path / name)
        torch.jit.save(torch.jit.freeze(script), tmp_path / "frozen.ts")
    loaded = unet(0)
    load_weights(loaded, tmp_path / name)
    assert weights_digest(loaded) == weights_digest(trained)
    assert not any(isinstance(module, torch.jit.ScriptModule) for module in loaded.modules())
    with pytest.raises(ModelError, match=r"frozen.ts are TorchScript without named weights, as torch.jit.freeze"):
        load_weights(loaded, tmp_path / "frozen.ts")
    (tmp_path / "damaged.ts").write_bytes((tmp_path / name).read_bytes()[:2000])
    with pytest.raises(
        ModelError, match=r"damaged.ts are not readable TorchScript \(RuntimeError: .*\): fetch the file"
    ):
        load_weights(loaded, tmp_path / "damaged.ts")
    with pytest.raises(ModelError, match=r"do not fit Tied: 2 missing: a.weight, b.weight; 26 unexpected: "):
        load_weights(Tied(), tmp_path / name)


def test_weights_of_a_quantised_network(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[attr-defined]
    torch.save(quantised.state_dict(), tmp_path / "quantised.pt")
    with pytest.raises(ModelError) as caught:
        load_weights(network(), tmp_path / "quantised.pt")
    assert "are those of a quantised network (0._packed_params.dtype" in str(caught.value)
    assert "Sequential is none: name the checkpoint from before quantisation" in str(caught.value)


@pytest.mark.skipif("ACTSTORE_REFERENCE" not in os.environ, reason="ACTSTORE_REFERENCE names no folder with real data")
def test_real_checkpoints() -> None:
    reference = Path(os.environ["ACTSTORE_REFERENCE"])
    found = sorted((reference / "nnunet_v2" / "results").glob("*/*/fold_*/checkpoint_final.pth"))
    assert len(found) == 2
    for path in found:
        assert {"network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes"} <= {
            *read_checkpoint(path)
        }
        assert all(isinstance(value, Tensor) for value in read_state(path).values())
    models = reference / "bundle" / "models"
    plain, script = read_state(models / "model.pt"), read_state(models / "model.ts")
    assert plain.keys() == script.keys()
    assert all(torch.equal(plain[name], script[name]) for name in plain)
