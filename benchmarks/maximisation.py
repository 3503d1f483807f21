"""Compares activation maximisation with the loop that people write, and with Lucent, on one core.

The loop takes one channel at a time, runs the whole network at every step, and leaves the gradients of the weights on.
All three change the pixels of images of the same size with Adam, for UNetHeart 8-4-4 with the shipped weights.

Lucent 0.1.8 needs torchvision, of which nothing is used here: a stand-in is enough. Without its other dependencies:
pip install --no-deps torch-lucent==0.1.8 kornia kornia_rs decorator tqdm scikit-learn threadpoolctl joblib
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from collections.abc import Callable

import torch
from common import interleave, show
from torch import Tensor, nn

from actstore.maximisation.ascent import Canvas
from actstore.maximisation.maximise import ascend_batch
from actstore.maximisation.targets import Target, find_targets, reached
from actstore.networks.model import build_model
from actstore.spec.spec import Spec
from actstore.spec.visualise import Visualise

CHANNELS = 16
#: With 16 channels or more: of the second block, the bottleneck and the decoder.
LAYERS = {
    "second": "model.1.submodule.0.conv.unit0.conv",
    "bottleneck": "model.1.submodule.1.submodule.1.submodule.conv.unit1.conv",
    "decoder": "model.1.submodule.1.submodule.2.1.conv.unit0.conv",
}


def network() -> nn.Module:
    content = {
        "data": {"format": "phantom", "root": ".", "classes": {"RV": 1, "MYO": 2, "LV": 3}},
        "model": {
            "factory": "actstore.models:unet_heart_8_4_4",
            "weights": "package:unet_heart_8_4_4_phantom.safetensors",
            "layers": ["*.conv"],
        },
        "perturb": [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}],
        "store": {"path": "unused.zarr"},
    }
    return build_model(Spec.from_mapping(content))


def ours(model: nn.Module, target: Target, settings: Visualise, canvas: Canvas) -> Callable[[], object]:
    def run() -> object:
        with reached(model, target, None) as reach:
            return ascend_batch(reach, target, 0, settings, canvas, torch.device("cpu"))

    return run


def loop(model: nn.Module, layer: str, size: tuple[int, ...], steps: int) -> Callable[[], object]:
    """As written in notebooks, a channel at a time."""

    def run() -> object:
        found: list[Tensor] = []
        handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, output: found.append(output))
        model.requires_grad_(True)
        images = []
        for channel in range(CHANNELS):
            image = (0.5 + 0.1 * torch.randn(1, 1, *size)).requires_grad_()
            optimizer = torch.optim.Adam([image], lr=0.05)
            for _ in range(steps):
                found.clear()
                optimizer.zero_grad()
                model(image)
                (-found[0][0, channel].mean()).backward()
                optimizer.step()
                with torch.no_grad():
                    image.clamp_(0, 1)
            images.append(image.detach())
        handle.remove()
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        return images

    return run


def lucent(model: nn.Module, layer: str, size: tuple[int, ...], steps: int) -> Callable[[], object] | None:
    if importlib.util.find_spec("lucent") is None:
        return None
    stand_in = types.ModuleType("torchvision.transforms")
    stand_in.Normalize = object  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": types.ModuleType("torchvision"), "torchvision.transforms": stand_in}
    from lucent.optvis import render

    def parameters() -> tuple[list[Tensor], Callable[[], Tensor]]:
        image = (0.1 * torch.randn(1, 1, *size)).requires_grad_()
        return [image], lambda: image.sigmoid()

    def run() -> object:
        model.requires_grad_(True)
        for channel in range(CHANNELS):
            render.render_vis(
                model,
                f"{layer.replace('.', '_')}:{channel}",
                parameters,
                transforms=[],
                preprocess=False,
                thresholds=(steps,),
                progress=False,
                show_image=False,
                fixed_image_size=size[0],
            )
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        return None

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 256])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for side in options.sizes:
        for what, layer in LAYERS.items():
            model, size = network(), (side, side)
            settings = Visualise(
                layers=(layer,), channels=tuple(range(CHANNELS)), batch_size=CHANNELS, steps=options.steps,
                parameterization="pixel",
            )  # fmt: skip
            canvas = Canvas(1, size, (0.0, 1.0))
            (target,) = find_targets(model, settings, canvas, [layer])
            ways = {
                "actstore": ours(model, target, settings, canvas),
                "loop": loop(model, layer, size, options.steps),
                "Lucent": lucent(model, layer, size, options.steps),
            }
            seconds = interleave({name: way for name, way in ways.items() if way is not None}, runs=options.runs)
            title = f"{CHANNELS} channels of the {what} layer at {side}², {options.steps} steps, one core"
            show(title, seconds, base="actstore")
    if importlib.util.find_spec("lucent") is None:
        print("\nLucent is not installed: without its row")


if __name__ == "__main__":
    main()
