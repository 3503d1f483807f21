"""The settings of explanations as they fit a network, and what explanations cost in passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from actstore.attribution.occlusion import Windows
from actstore.attribution.randomisation import Layers, weighted_layers
from actstore.errors import SpecError
from actstore.jobs.map_checks import DELETED, ORDERS
from actstore.maximisation.targets import module_outputs
from actstore.networks.recording import match_modules
from actstore.spec.explain import BACKWARD, OCCLUSION, Explain
from actstore.spec.spec import Spec
from actstore.store.schema import Layer, StoreLayout
from actstore.units import counted, human_seconds

#: Tiles along each side of the input.
TILES = 16
#: What a way back takes, in passes forward (measured).
WAY_BACK = 1.2


def weighted_of(model: nn.Module, layout: StoreLayout, layers: Sequence[Layer]) -> tuple[Layers, ...]:
    """The network's parameters by layers from its output backwards, or those from each of ``layers`` backwards."""
    ended = [(path, call) for path, call, _ in module_outputs(model, (len(layout.input_channels), *layout.space))]
    ends: list[int | None] = [ended.index((layer.module, layer.call)) + 1 for layer in layers]
    return tuple(weighted_layers(model, [path for path, _ in ended], end) for end in ends or [None])


def resolved(settings: Explain, space: Sequence[int], weighted: Sequence[Layers]) -> Explain:
    """The settings of the checks of an explanation, fitted to the input and the network."""
    update: dict[str, Any] = {}
    if settings.deletion is None:
        update["deletion"] = tuple(max(1, n // TILES) for n in space)
    elif settings.deletion is not False:
        Windows.of(space, settings.deletion, settings.deletion, name="deletion")
    most = max(map(len, weighted))
    if settings.randomisation is None:
        every = (*(2**k for k in range(most.bit_length())), most)
        update["randomisation"] = tuple(sorted({*every} - {0})) if settings.method in BACKWARD else ()
    elif settings.randomisation and settings.randomisation[-1] > most:
        raise SpecError(
            f"explain {settings.name!r}: randomisation = {list(settings.randomisation)}, and "
            f"{counted(most, 'layer')} of weights lie behind what is explained: give numbers up to that"
        )
    return settings.model_copy(update=update)


@dataclass(frozen=True)
class Cost:
    """What one explanation takes of one sample in one condition, at most."""

    name: str
    #: Windows of an occlusion, else 0.
    windows: int
    #: In passes forward; NaN of a method of the user's own.
    passes: float
    conditions: int

    def text(self, seconds: float, noun: str = "sample") -> str:
        """In words; ``seconds`` is what a pass of all samples takes on all workers."""
        if math.isnan(self.passes):
            return "as long as its method takes"
        what = f"{counted(self.windows, 'window')}, " if self.windows else ""
        passes = f"{what}{counted(round(self.passes), 'pass')} a {noun} and condition"
        least = "at most " if self.windows else ""
        return f"{least}{passes}, about {human_seconds(self.passes * self.conditions * seconds)}"


def costs(spec: Spec, model: nn.Module, layout: StoreLayout) -> tuple[Cost, ...]:
    """What each explanation of a spec costs.

    Raises
    ------
    ActstoreError
        if settings do not fit the network or its input.
    """
    if not spec.explain:
        return ()
    weighted = weighted_of(model, layout, ())
    return tuple(_cost(spec, settings, model, layout, weighted) for settings in spec.explain)


def _cost(spec: Spec, settings: Explain, model: nn.Module, layout: StoreLayout, weighted: Sequence[Layers]) -> Cost:
    fitted = resolved(settings, layout.space, weighted)
    windows = 0
    if settings.layers is not None:
        matched = match_modules(model, settings.layers, key=f"explain {settings.name!r}: layers")
        own = len(set().union(*matched.values())) * (1 + WAY_BACK * settings.top)
    else:
        classes = len(settings.targets or spec.labels.members)
        if settings.method == OCCLUSION:
            windows = math.prod(Windows.of(layout.space, settings.window, settings.stride).grid)
            own = windows + 1.0
        else:
            own = 1 + WAY_BACK * classes if settings.method in BACKWARD else math.nan
    passes = 1 + own * (1 + len(fitted.randomisation or ()))
    if settings.layers is None and fitted.deletion:
        passes += len(DELETED) * (1 + (len(ORDERS) - 1) * classes)
    return Cost(settings.name, windows, passes, len(settings.conditions))
