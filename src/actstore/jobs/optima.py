"""What the jobs of activation maximisation share: the run, the settings, the targets, and the network on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actstore.code.digests import known_code
from actstore.jobs.reading import inputs_of
from actstore.jobs.stored_spec import spec_of
from actstore.maximisation.ascent import Canvas
from actstore.maximisation.parameterizations import mean_magnitude
from actstore.maximisation.target import Reach
from actstore.maximisation.targets import Target, reached
from actstore.networks.arithmetic import arithmetic, torch_threads
from actstore.networks.heads import Head
from actstore.networks.model import planned_model
from actstore.spec.spec import Spec
from actstore.spec.visualise import Visualise
from actstore.store.attributes import layout_of, read_attributes
from actstore.store.files.base import Storage
from actstore.store.schema import Layer, StoreLayout
from actstore.store.store import Store

#: Inputs of a run that its range of intensities and its mean spectrum are taken from, evenly spaced among all.
EXAMPLES = 64
#: Samples of one forward pass over the run's inputs.
SAMPLES = 4
#: Torch's threads: another number would change the last bits, and with them where 256 steps lead.
THREADS = 1


@dataclass(frozen=True)
class OpenedNetwork:
    """The network of a run in this process."""

    model: nn.Module
    device: torch.device
    #: A pass that ends at a target.
    reach: Callable[[Target], AbstractContextManager[Reach]]
    canvas: Canvas
    #: Held by the unit that uses the network, since hooks are of one pass at a time.
    lock: Lock


@dataclass(frozen=True)
class Optimising:
    """Which channels of a run's network are maximised, and how."""

    storage: Storage
    #: Last part of the names of its groups.
    name: str
    spec: Spec
    layout: StoreLayout
    #: Digest that the network's weights must have, and those of code beside the spec.
    weights: str
    code: Mapping[str, str]
    #: With layers, size and range as they were found.
    settings: Visualise
    targets: tuple[Target, ...]
    head: Head

    @property
    def features(self) -> str:
        """The group of the images."""
        return f"features/{self.name}"

    @property
    def responses(self) -> str:
        """The group of what the run's samples give."""
        return f"responses/{self.name}"

    @property
    def bounds(self) -> tuple[float, float] | None:
        return self.settings.range if isinstance(self.settings.range, tuple) else None

    @property
    def size(self) -> tuple[int, ...]:
        return self.settings.size or self.layout.space

    def identity(self) -> dict[str, Any]:
        """All that decides the images."""
        return {
            "visualise": self.settings.model_dump(mode="json"),
            "targets": [_target_as_json(target) for target in self.targets],
            "head": self.head.whole_json(),
        }

    def objective_identity(self) -> dict[str, Any]:
        """All that decides what samples give: not how images are made."""
        content = self.identity()
        settings = {name: content["visualise"][name] for name in ("objective", "directions", "layers")}
        return {**content, "visualise": settings}

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None) -> Self:
        """From the identity of a group, and the run's spec if not the stored one: where data and weights are now."""
        attributes = read_attributes(storage)
        layout = layout_of(attributes)
        return cls(
            storage,
            identity["name"],
            (spec or spec_of(attributes)).with_channels(layout.input_channels),
            layout,
            attributes["fingerprint"]["weights"],
            attributes["identity"]["code"],
            Visualise.model_validate(identity["visualise"]),
            tuple(_target_from_json(target) for target in identity["targets"]),
            Head.from_json(identity["head"]),
        )

    @contextmanager
    def opened(self, device: str) -> Iterator[OpenedNetwork]:
        """Load the network, and what images are made of.

        Raises
        ------
        ModelError
            if its weights are not those of the run.
        """
        folder, on = self.spec.folder, torch.device(device)
        model = planned_model(self.spec, self.code, self.weights)
        model.to(on)
        channels = len(self.layout.input_channels)
        magnitude = None
        if self.settings.parameterization == "maco":
            magnitude = mean_magnitude(examples(Store(self.storage.location)), len(self.size))
        canvas = Canvas(channels, self.size, self.bounds, magnitude)

        @contextmanager
        def reach(target: Target) -> Iterator[Reach]:
            with (
                known_code(folder, self.code),
                torch_threads(THREADS),
                arithmetic("float32", on),
                reached(model, target, self.head) as forward,
            ):
                yield forward

        yield OpenedNetwork(model, on, reach, canvas, Lock())


def examples(store: Store) -> NDArray[np.float32]:
    """Original inputs of a run, evenly spaced among its samples: (sample, input_channel, [z,] y, x)."""
    count = len(store.samples)
    chosen = np.unique(np.linspace(0, count - 1, min(count, EXAMPLES)).round().astype(int))
    return inputs_of(store, chosen, 0)


def _target_as_json(target: Target) -> dict[str, Any]:
    # What it costs decides no number.
    content = {name: value for name, value in asdict(target).items() if name != "bytes"}
    return {
        **content,
        "layer": target.layer and target.layer.as_json(),
        "channels": list(target.channels),
        "constant": list(target.constant),
    }


def _target_from_json(content: Mapping[str, Any]) -> Target:
    layer = content["layer"] and Layer.from_json(content["layer"])
    lists = {name: tuple(content[name]) for name in ("channels", "constant")}
    return Target(**{**content, "layer": layer, **lists})
