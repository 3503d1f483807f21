"""The layers of a network whose channels are maximised, each examined before any step is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from actstore.errors import ActstoreError, ModelError, SpecError, one_line
from actstore.maximisation.ascent import Canvas
from actstore.maximisation.examination import Examined, examine, example_images
from actstore.maximisation.objectives import Goal
from actstore.maximisation.target import Reach, predicting, reaching
from actstore.networks.heads import Head
from actstore.networks.recording import forward_hooks, hookable, match_modules, probe, tensors
from actstore.spec.visualise import Visualise
from actstore.store.schema import Layer

#: How far a layer to visualise instead is looked for.
NEIGHBOURS = 6
#: What is alive at once in a pass with gradients: of all that modules return, outputs and what is saved for the way
#: back; of the largest that one returns, its gradient and the copies and scratch memory of a convolution (measured).
LIVE, SCRATCH = 2, 4
#: Name of the network's output where the logits of classes are maximised.
OUTPUT = "output"


@dataclass(frozen=True)
class Target:
    """One layer, the channels of it that are maximised, and what is known of them."""

    #: L07 where the store records the layer, else its label; `OUTPUT` for logits.
    name: str
    #: ``None`` for the network's logits.
    layer: Layer | None
    #: Channels, classes or directions.
    channels: tuple[int, ...]
    #: Whether the objective of each of ``channels`` is the same for every image.
    constant: tuple[bool, ...]
    #: Whether one position is bounded by the number of positions alone.
    bounded: bool
    #: Whether it ends with a ReLU.
    rectified: bool
    #: Bytes that are alive in a pass with gradients up to it for one image; 0 of a target that a store names.
    bytes: int = 0

    @property
    def label(self) -> str:
        return OUTPUT if self.layer is None else self.layer.label


def find_targets(
    model: nn.Module,
    settings: Visualise,
    canvas: Canvas,
    patterns: Sequence[str],
    *,
    channels_last: Sequence[str] = (),
    head: Head | None = None,
    recorded: Sequence[Layer] = (),
) -> tuple[Target, ...]:
    """The targets of ``settings``, in execution order.

    Parameters
    ----------
    model
        in evaluation mode, without gradients of its weights.
    patterns
        of the layers, as in ``model.layers``.
    head
        which of the network's outputs holds the logits, for the objective "class".
    recorded
        layers of a store, whose names are taken for the same layers.

    Raises
    ------
    ModelError
        if a pattern matches no layer, the network refuses the size, no image changes the objective, or maps of an image
        depend on the rest of its batch or on chance.
    SpecError
        if a layer has no such channel, or directions of another length.
    """
    if settings.objective == "class" and head is None:
        raise SpecError('objective = "class" needs `head`, which says where the logits are in what the network returns')
    shape = (canvas.channels, *canvas.size)
    key = "visualise.layers" if settings.layers else "model.layers"
    chosen = set().union(*match_modules(model, patterns, key=key).values())
    said = match_modules(model, channels_last, key="model.channels_last")
    last = [pattern for pattern, modules in said.items() if modules & chosen]
    try:
        found = probe(model, shape, patterns, last, key=key)
    except ActstoreError:
        raise
    except Exception as error:
        raise ModelError(
            f"visualise.size = {list(canvas.size)}: the network refuses images of ({', '.join(map(str, shape))}): "
            f"{one_line(error)}; use the size of its input"
        ) from error
    before = module_outputs(model, shape)
    images = example_images(canvas.channels, canvas.size, canvas.bounds)
    if settings.objective == "class":
        assert head is not None
        return (_examined(model, settings, None, head, images, OUTPUT, alive_bytes(before)),)
    names = {(layer.module, layer.call, layer.output): layer.name for layer in recorded}
    targets = []
    for layer in found.layers:
        name = names.get((layer.module, layer.call, layer.output), layer.label)
        position = next((i for i, (path, call, _) in enumerate(before) if _is_last(path, call, layer)), len(before))
        size = alive_bytes(before[: position + 1])
        target = _examined(model, settings, layer, head, images, name, size, [path for path, *_ in before])
        targets.append(target)
    return tuple(targets)


def alive_bytes(outputs: Sequence[tuple[str, int, int]]) -> int:
    """Bytes of a pass with gradients through modules that return ``outputs``, as `module_outputs` lists them."""
    sizes = [size for *_, size in outputs]
    return LIVE * sum(sizes) + SCRATCH * max(sizes, default=0)


def _is_last(path: str, call: int, layer: Layer) -> bool:
    return path == layer.module and call == layer.call


def module_outputs(model: nn.Module, shape: Sequence[int]) -> list[tuple[str, int, int]]:
    """Path, call and bytes of everything that a module returns for one image, in the order in which modules end."""
    seen: list[tuple[str, int, int]] = []
    calls: dict[str, int] = {}
    leaves = {path for path, module in model.named_modules() if not any(True for _ in module.children())}

    def note(path: str, output: object) -> None:
        size = sum(t.numel() * t.element_size() for _, t in tensors(output)) if path in leaves else 0
        seen.append((path, calls.get(path, 0), size))
        calls[path] = calls.get(path, 0) + 1

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.inference_mode(), forward_hooks(model, hookable(model), note):
        model(torch.zeros(1, *shape, device=device))
    return seen


def _examined(
    model: nn.Module,
    settings: Visualise,
    layer: Layer | None,
    head: Head | None,
    images: torch.Tensor,
    name: str,
    size: int,
    order: Sequence[str] = (),
) -> Target:
    width = head.channels if layer is None and head is not None else layer.channels if layer is not None else 0
    label = OUTPUT if layer is None else layer.label
    channels = _channels(settings, width, label)
    goal = Goal.of(settings.objective, channels, settings.directions, torch.device("cpu"))
    with _reached(model, layer, head, follow=True) as reach:
        found = examine(reach, goal, images)
    if found.unsteady:
        raise ModelError(
            f"maps of layer {label!r} change by up to {found.unsteady:.2g} of their largest value with the other "
            "images of a batch, or from pass to pass, as in training mode, behind batch normalisation without running "
            "statistics, or behind dropout that stays on: no image would be of one channel alone. Use model.eval(), "
            "correct the network, or visualise a layer before that"
        )
    if layer is None and found.constant.all():
        raise ModelError(
            f"the mean logit of every class is the same for every image (of the first {found.value[0]:.4g}), as behind "
            "a norm that gives each map the same mean: its gradient is rounding error. Visualise layers instead"
        )
    if layer is not None and found.constant.all():
        raise ModelError(_constant(model, settings, layer, found, images, order))
    return Target(name, layer, channels, tuple(found.constant.tolist()), found.bounded, found.rectified, size)


def _constant(
    model: nn.Module, settings: Visualise, layer: Layer, found: Examined, images: torch.Tensor, order: Sequence[str]
) -> str:
    """Why a layer whose objective no image changes is refused, and which would do instead."""
    leaves = [path for path in order if not any(True for _ in model.get_submodule(path).children())]
    own = [i for i, path in enumerate(leaves) if path == layer.module or path.startswith(f"{layer.module}.")]
    before, after = (leaves[: own[0]][::-1], leaves[own[-1] + 1 :]) if own else ([], [])
    others = [
        f"{path} {where} it"
        for where, paths in (("before", before), ("after", after))
        for path in [next((path for path in paths[:NEIGHBOURS] if _varies(model, path, images)), "")]
        if path
    ]
    others += ['the objective "neuron"'] if settings.objective in ("mean", "direction") else []
    what = "centre" if settings.objective == "neuron" else "mean"
    return (
        f"the {what} of layer {layer.label!r} is {found.value[0]:.4g} for every image, as behind a norm that gives "
        "each map the same mean: its gradient is rounding error, and an image of it would be noise. Visualise "
        f"{' or '.join(others) or 'another layer'}"
    )


def _varies(model: nn.Module, path: str, images: torch.Tensor) -> bool:
    """Whether images change the mean of a module's maps."""
    try:
        layer = probe(model, images.shape[1:], [path]).layers[0]
    except ActstoreError:
        return False
    goal = Goal.of("mean", range(layer.channels), None, torch.device("cpu"))
    with reaching(model, layer) as reach:
        return not examine(reach, goal, images).constant.all()


def _channels(settings: Visualise, width: int, label: str) -> tuple[int, ...]:
    if settings.directions is not None:
        for i, direction in enumerate(settings.directions):
            if len(direction) != width:
                raise SpecError(
                    f"visualise.directions[{i}] has {len(direction)} weights, layer {label!r} has {width} channels: "
                    "give one weight for each"
                )
        width = len(settings.directions)
    if settings.channels == "all":
        return tuple(range(width))
    for channel in settings.channels:
        if channel >= width:
            what = "direction" if settings.directions else "class" if settings.objective == "class" else "channel"
            raise SpecError(f"visualise.channels: {label!r} has no {what} {channel}, only 0 to {width - 1}")
    return tuple(settings.channels)


@contextmanager
def reached(model: nn.Module, target: Target, head: Head | None) -> Iterator[Reach]:
    """A forward pass that ends at ``target``."""
    with _reached(model, target.layer, head, follow=target.rectified) as reach:
        yield reach


@contextmanager
def _reached(model: nn.Module, layer: Layer | None, head: Head | None, *, follow: bool) -> Iterator[Reach]:
    if layer is not None:
        with reaching(model, layer, follow=follow) as reach:
            yield reach
        return
    assert head is not None
    with predicting(model, head) as reach:
        yield reach
