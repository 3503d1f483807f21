"""Channels are stored first, wherever a module has them, or the module is refused: never one axis for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from monai.networks import nets
from torch import Tensor, nn

import actstore
from actstore.cli.commands import main
from actstore.errors import ModelError, SpecError
from actstore.jobs.capture import capture
from actstore.networks.grids import layer_grids
from actstore.networks.recording import forward_hooks, probe, recording
from actstore.spec.spec import load_spec
from actstore.store.schema import Layer
from conftest import WriteSpec

CUBE = (1, 64, 32, 32)
SQUARE = (1, 64, 64)


@pytest.fixture(scope="module")
def swin() -> nn.Module:
    pytest.importorskip("einops")
    torch.manual_seed(0)
    return nets.SwinUNETR(1, 4, depths=(1, 1, 1, 1), feature_size=12, spatial_dims=3).eval()


@pytest.fixture(scope="module")
def flat_swin() -> nn.Module:
    pytest.importorskip("einops")
    torch.manual_seed(0)
    return nets.SwinUNETR(1, 4, depths=(2, 1, 1, 1), feature_size=12, spatial_dims=2, use_v2=True).eval()


@pytest.fixture(scope="module")
def unetr() -> nn.Module:
    pytest.importorskip("einops")
    torch.manual_seed(0)
    small: dict[str, Any] = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 4}
    return nets.UNETR(1, 4, (32, 32, 32), **small).eval()


@pytest.mark.slow
def test_blocks_of_swin_unetr_are_refused_until_the_spec_says_where_their_channels_are(swin: nn.Module) -> None:
    path = "swinViT.layers1.0.blocks.0"
    with pytest.raises(ModelError) as caught:
        probe(swin, CUBE, [path])
    assert str(caught.value) == (
        "layer L01, module 'swinViT.layers1.0.blocks.0' (SwinTransformerBlock), returns (1, 32, 16, 16, 12) for a "
        "batch of one, with its channels last, not (batch, channel, z, y, x): add it to model.channels_last = "
        '["swinViT.layers1.0.blocks.0"] to store 12 channels of 32 x 16 x 16, or leave it out of model.layers'
    )
    [layer] = probe(swin, CUBE, [path], ["type:SwinTransformerBlock"]).layers
    assert layer == Layer("L01", path, "SwinTransformerBlock", 0, "", 12, (32, 16, 16), channels_last=True)


@pytest.mark.slow
def test_swin_unetr_s_blocks_are_recorded_as_they_are(flat_swin: nn.Module) -> None:
    patterns = ["swinViT.layers1.0.blocks.1", "swinViT.layers1.0", "swinViT.patch_embed.proj", "encoder2.layer"]
    layers = probe(flat_swin, SQUARE, patterns, ["*.blocks.*"]).layers
    assert [(layer.channels, layer.space, layer.channels_last) for layer in layers] == [
        (12, (32, 32), False),
        (12, (32, 32), True),
        (24, (16, 16), False),
        (12, (32, 32), False),
    ]
    image = torch.randn(SQUARE, generator=torch.Generator().manual_seed(0))[None]
    plain: dict[str, Tensor] = {}
    with torch.inference_mode():
        with forward_hooks(flat_swin, patterns, lambda path, output: plain.setdefault(path, output.clone())):
            flat_swin(image)
        seen: list[Tensor] = []
        with recording(flat_swin, layers) as forward:
            forward(image, lambda _i, tensor: seen.append(tensor.clone()))
    for layer, tensor in zip(layers, seen, strict=True):
        expected = plain[layer.module]
        if layer.channels_last:
            expected = torch.stack([expected[..., i] for i in range(layer.channels)], 1)
        assert torch.equal(tensor, expected)
        assert tensor.shape[1:] == (layer.channels, *layer.space)
    grids = layer_grids(flat_swin, layers, SQUARE[1:])
    assert grids[1] == grids[0], "a block lies where the patches lie that it sees"


@pytest.mark.slow
def test_parts_of_swin_blocks_are_refused(flat_swin: nn.Module) -> None:
    for kind in ("SwinTransformerBlock", "LayerNorm", "MLPBlock", "PatchMerging", "GELU"):
        with pytest.raises(ModelError, match=r"with its channels last, not \(batch, channel, y, x\)"):
            probe(flat_swin, SQUARE, [f"type:{kind}"])
    for path in ("swinViT.layers1.0.blocks.0.attn", "swinViT.layers4.0.blocks.0.attn"):
        with pytest.raises(ModelError, match=r"returns .* for a batch of one: a recorded output must be"):
            probe(flat_swin, SQUARE, [path])
    whole = ["swinViT.layers?.?", "swinViT.layers?c.?", "encoder*", "decoder*", "out"]
    assert not any(layer.channels_last for layer in probe(flat_swin, SQUARE, whole).layers)


@pytest.mark.slow
def test_what_comes_first_cannot_be_called_last(flat_swin: nn.Module) -> None:
    with pytest.raises(ModelError) as caught:
        probe(flat_swin, SQUARE, ["encoder2"], ["encoder*"])
    assert str(caught.value) == (
        "model.channels_last pattern 'encoder*' matches module 'encoder2' (UnetrBasicBlock), which returns "
        "(1, 12, 32, 32) with its channels in axis 1, not last: write a pattern that leaves it out"
    )
    with pytest.raises(
        ModelError, match=r"pattern 'nothing' matches no module of SwinUNETR .* correct model.channels_l"
    ):
        probe(flat_swin, SQUARE, ["encoder2"], ["nothing"])
    with pytest.raises(ModelError, match=r"pattern '\*.attn' matches no recorded module .*add one to model.layers"):
        probe(flat_swin, SQUARE, ["encoder2"], ["*.attn"])


@pytest.mark.slow
def test_tokens_are_refused(unetr: nn.Module) -> None:
    size = (1, 32, 32, 32)
    for path in ("vit.blocks.0", "vit.norm", "vit.patch_embedding", "vit.blocks.3.mlp"):
        with pytest.raises(ModelError) as caught:
            probe(unetr, size, [path])
        assert str(caught.value) == (
            f"module {path!r} returns (1, 8, 24) for a batch of one: a recorded output must be (batch, channel, z, y, "
            "x); tokens (batch, token, feature) have no rows and columns; leave it out of model.layers"
        )
        with pytest.raises(ModelError, match=r"tokens .* have no rows"):
            probe(unetr, size, [path], [path])
    layers = probe(unetr, size, ["vit.patch_embedding.patch_embeddings", "encoder?", "decoder?", "out"]).layers
    assert [layer.channels for layer in layers] == [24, 4, 8, 16, 32, 32, 16, 8, 4, 4]


@pytest.mark.slow
def test_weights_of_attention_are_no_maps() -> None:
    pytest.importorskip("einops")
    size = (1, 128, 128)
    model = nets.UNETR(1, 4, size[1:], feature_size=4, hidden_size=24, mlp_dim=48, num_heads=4, spatial_dims=2).eval()
    with pytest.raises(ModelError, match=r"'vit.blocks.0.attn.drop_weights' \(Dropout\), returns \(1, 4, 64, 64\)"):
        probe(model, size, ["vit.blocks.0.attn.drop_weights"])


def convolutional() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    flat, deep = (1, 32, 32), (1, 32, 32, 32)
    return {
        "UNet": (lambda: nets.UNet(2, 1, 4, channels=(4, 8, 16), strides=(2, 2), num_res_units=2), flat),
        "UNet-3D": (lambda: nets.UNet(3, 1, 4, channels=(32, 32), strides=(1,), norm="batch"), deep),
        "AttentionUnet": (lambda: nets.AttentionUnet(2, 1, 4, channels=(4, 8, 16), strides=(2, 2)), flat),
        "BasicUNet": (lambda: nets.BasicUNet(2, 1, 4, features=(4, 4, 4, 8, 8, 4)), flat),
        "SegResNet": (lambda: nets.SegResNet(3, 8, 1, 4, blocks_down=(1, 1), blocks_up=(1,)), deep),
        "DynUNet": (
            lambda: nets.DynUNet(2, 1, 4, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 16], res_block=True),
            flat,
        ),
        "VNet": (lambda: nets.VNet(3, 1, 4), deep),
        "HighResNet": (lambda: nets.HighResNet(2, 1, 4), flat),
        "FlexibleUNet": (lambda: nets.FlexibleUNet(1, 4, "efficientnet-b0", spatial_dims=2), flat),
        "MedNeXt": (lambda: nets.MedNeXt(spatial_dims=2, init_filters=8, in_channels=1, out_channels=4), flat),
        "PlainConvUNet": (lambda: nnunet("PlainConvUNet", "n_conv_per_stage"), flat),
        "ResidualEncoderUNet": (lambda: nnunet("ResidualEncoderUNet", "n_blocks_per_stage"), flat),
    }


def nnunet(kind: str, blocks: str) -> nn.Module:
    """A network as nnU-Net makes it."""
    unets = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    settings: dict[str, Any] = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 32],
        "conv_op": nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1, 2, 2],
        "num_classes": 4,
        "n_conv_per_stage_decoder": [1, 1],
        "norm_op": nn.InstanceNorm2d,
        "norm_op_kwargs": {"affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        blocks: [1, 1, 1],
    }
    made: nn.Module = getattr(unets, kind)(1, **settings)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", convolutional())
def test_no_module_of_a_convolutional_network_is_refused(name: str) -> None:
    make, size = convolutional()[name]
    model = make().eval()
    whole: dict[tuple[str, int], tuple[int, ...]] = {}

    def note(path: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == len(size) + 1:
            whole[path, sum(key[0] == path for key in whole)] = tuple(output.shape[1:])

    with torch.inference_mode(), forward_hooks(model, [path for path, _ in model.named_modules() if path], note):
        model(torch.zeros(1, *size))
    layers = probe(model, size, sorted({path for path, _ in whole})).layers
    assert {(x.module, x.call): (x.channels, *x.space) for x in layers if not x.output} == whole
    assert not any(layer.channels_last for layer in layers)


class Through(nn.Module):
    """A convolution to 8 channels, a function, and a head that takes whatever that returns."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.part = Part(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.first(x))


class Part(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Opaque(torch.autograd.Function):
    """A function that bypasses those of torch."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy().copy())


def opaque(x: Tensor) -> Tensor:
    result: Tensor = Opaque.apply(x)
    return result


def block(x: Tensor) -> Tensor:
    """A Swin block by hand: windows, a linear map, windows put together again, and what it began with."""
    x = x.permute(0, 2, 3, 1)
    windows = nn.functional.layer_norm(x, (8,)).view(1, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
    mixed = windows @ torch.eye(8)
    return x + mixed.view(1, 2, 2, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(1, 8, 8, 8)


FIRST: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "there and back": lambda x: (x.permute(0, 2, 3, 1) + 1).permute(0, 3, 1, 2),
    "channels-last memory": lambda x: x.contiguous(memory_format=torch.channels_last) * 2,
    "mirrored": lambda x: x.transpose(2, 3).flip(2),
    "tokens and back": lambda x: (
        nn.functional.layer_norm(x.flatten(2).transpose(1, 2), (8,)).transpose(1, 2).view(x.shape)
    ),
    "linear and back": lambda x: nn.functional.linear(x.movedim(1, -1), torch.eye(8)).movedim(-1, 1),
    "norm by hand": lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
    "layer norm over all": lambda x: nn.functional.layer_norm(x, x.shape[1:]),
    "parts": lambda x: torch.cat([part.relu() for part in x.chunk(2, 1)], 1),
    "attention over pixels": lambda x: x + (x.flatten(2) @ torch.eye(64)).view(x.shape),
    "mixed positions": lambda x: nn.functional.linear(x.flatten(2), torch.eye(64)).view(x.shape),
    "block and back": lambda x: block(x).permute(0, 3, 1, 2),
}
LAST: dict[str, Callable[[Tensor], Tensor]] = {
    "permuted": lambda x: x.permute(0, 2, 3, 1),
    "moved": lambda x: torch.movedim(x, 1, -1).relu(),
    "transposed twice": lambda x: x.transpose(1, 2).transpose(2, 3).contiguous(),
    "layer norm": lambda x: nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)),
    "tokens on a grid": lambda x: x.flatten(2).transpose(1, 2).reshape(1, 8, 8, 8),
    "opaque, then normalised": lambda x: nn.functional.layer_norm(opaque(x.permute(0, 2, 3, 1)), (8,)),
    "block": block,
}
DOUBTFUL: dict[str, Callable[[Tensor], Tensor]] = {
    "opaque": opaque,
    "layer norm over columns": lambda x: nn.functional.layer_norm(x, (8,)),
    "two meanings": lambda x: x + x.permute(0, 2, 3, 1),
    "in the middle": lambda x: x.transpose(1, 2),
    "attention": lambda x: (x @ x.transpose(2, 3)).softmax(-1),
}


@pytest.mark.parametrize("name", FIRST)
def test_channels_that_are_first_where_all_sizes_are_equal(name: str) -> None:
    [layer] = probe(Through(FIRST[name]), (1, 8, 8), ["part"]).layers
    assert (layer.channels, layer.space, layer.channels_last) == (8, (8, 8), False)
    with pytest.raises(
        ModelError, match=r"pattern 'p\*' matches module 'part' \(Part\), which returns \(1, 8, 8, 8\) w"
    ):
        probe(Through(FIRST[name]), (1, 8, 8), ["part"], ["p*"])


@pytest.mark.parametrize("name", LAST)
def test_channels_that_are_last_where_all_sizes_are_equal(name: str) -> None:
    with pytest.raises(ModelError, match=r"layer L01, module 'part' .* channels last, .*channels_last = \[\"part\"\]"):
        probe(Through(LAST[name]), (1, 8, 8), ["part"])
    [layer] = probe(Through(LAST[name]), (1, 8, 8), ["part"], ["type:Part"]).layers
    assert layer.channels_last


@pytest.mark.parametrize("name", DOUBTFUL)
def test_channels_that_may_be_anywhere(name: str) -> None:
    with pytest.raises(
        ModelError, match=r"layer L01, module 'part' \(Part\), returns \(1, 8, 8, 8\) .* may be axis 1 or"
    ):
        probe(Through(DOUBTFUL[name]), (1, 8, 8), ["part"])


def test_what_takes_an_output_shows_its_channels() -> None:
    for follower in (nn.Conv2d(8, 4, 1), nn.BatchNorm2d(8), nn.InstanceNorm2d(8), nn.GroupNorm(2, 8), nn.MaxPool2d(2)):
        [layer] = probe(nn.Sequential(Through(opaque), follower).eval(), (1, 8, 8), ["0.part"]).layers
        assert not layer.channels_last
    for norm in (nn.LayerNorm(8), nn.Linear(8, 4)):
        with pytest.raises(ModelError, match="with its channels last"):
            probe(nn.Sequential(Through(lambda x: opaque(x.permute(0, 2, 3, 1))), norm), (1, 8, 8), ["0.part"])


def test_sizes_decide_where_nothing_else_does() -> None:
    [layer] = probe(Through(opaque, 3), (1, 8, 8), ["part"]).layers
    assert (layer.channels, layer.space) == (3, (8, 8))
    with pytest.raises(ModelError, match=r"if they come last, add it to model.channels_last = .* 3 channels of 8 x 8;"):
        probe(Through(lambda x: opaque(x.permute(0, 2, 3, 1)), 3), (1, 8, 8), ["part"])


class Last(nn.Module):
    """Convolution, LayerNorm over the last axis, convolution."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(1, 8, 8, stride=8)
            self.norm = nn.LayerNorm(8)
            self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        result: Tensor = nn.functional.interpolate(self.last(y), x.shape[2:])
        return result


@pytest.mark.slow
def test_a_store_has_them_first(tmp_path: Path, write_spec: WriteSpec) -> None:
    settings: dict[str, Any] = {"data__patients": ["patient001"], "model__factory": "test_channels_last:Last"}
    path = write_spec(tmp_path, **settings, model__layers=["first", "norm"])
    shown = CliRunner().invoke(main, ["plan", str(path)])
    assert shown.exit_code == 1
    assert "layer L02, module 'norm' (LayerNorm), returns (1, 8, 8, 8)" in shown.stderr
    path = write_spec(tmp_path, **settings, model__layers=["first", "norm"], model__channels_last=["norm"])
    listed = CliRunner().invoke(main, ["layers", str(path)])
    assert "8x8x8, channels last" in listed.stdout
    spec = load_spec(path)
    assert spec.identity()["channels_last"] == ["norm"]
    summary = capture(spec, cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    store = actstore.open(summary.store)
    assert [layer.get("channels_last") for layer in store.attributes["layers"]] == [None, True]
    assert store.grids["L02"] == store.grids["L01"]
    model = Last()
    with torch.no_grad():
        expected = model.norm(torch.from_numpy(store["L01"].values[0, 0]).permute(1, 2, 0)).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(store["L02"].values[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_layers_of_other_stores_stay_as_they_were(tmp_path: Path, write_spec: WriteSpec) -> None:
    layer = Layer("L01", "a", "Conv2d", 0, "", 3, (4, 5))
    assert "channels_last" not in layer.as_json()
    last = Layer("L01", "a", "LayerNorm", 0, "", 3, (4, 5), channels_last=True)
    assert Layer.from_json(last.as_json()) == last
    assert "channels_last" not in load_spec(write_spec(tmp_path)).identity()
    with pytest.raises(SpecError, match=r"model.channels_last"):
        load_spec(write_spec(tmp_path, model__channels_last="norm"))
