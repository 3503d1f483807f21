"""What a job of explanations works with: the run, the settings, the layers, and the network on a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actstore.attribution.randomisation import Layers, permuted_weights
from actstore.code.digests import known_code
from actstore.jobs.stored_spec import spec_of
from actstore.networks.arithmetic import arithmetic, torch_threads
from actstore.networks.heads import Head
from actstore.networks.model import planned_model
from actstore.spec.explain import Explain
from actstore.spec.spec import Spec
from actstore.store.attributes import layout_of, read_attributes
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.schema import Layer, StoreLayout

#: Numbers of samples in the store, and what one sample has in each array.
Samples = NDArray[np.int64]
Found = dict[str, NDArray[Any]]
#: Torch's threads: another number would change the last bits.
THREADS = 1


@dataclass(frozen=True)
class Explaining:
    """Which explanation of a run's samples is made, and how."""

    storage: Storage
    spec: Spec
    layout: StoreLayout
    #: Digest that the network's weights must have, and those of code beside the spec.
    weights: str
    code: Mapping[str, str]
    #: With what depends on the network as it was found.
    settings: Explain
    #: Whose channels are projected back; none where classes are explained.
    layers: tuple[Layer, ...]
    #: Whose weights are permuted: of each of ``layers``, those up to it; else those of the network.
    weighted: tuple[Layers, ...]
    head: Head
    #: Inputs of one pass.
    batch_size: int

    @property
    def group(self) -> str:
        return f"explain/{self.settings.name}"

    @property
    def targets(self) -> tuple[str, ...]:
        """The classes that are explained."""
        return self.settings.targets or tuple(self.spec.labels.members)

    @property
    def conditions(self) -> tuple[int, ...]:
        """Indices, among the run's, of the conditions that are explained."""
        names = [condition.name for condition in self.spec.conditions]
        return tuple(names.index(name) for name in self.settings.conditions)

    def maps(self, name: str, leading: tuple[str, ...], shape: tuple[int, ...]) -> ArrayLayout:
        """The layout of maps over the input, (sample, \\*leading, [z,] y, x) float32."""
        layout, ones = self.layout, (1,) * len(shape)
        dims = ("sample", *leading, *self.spec.spatial_dims)
        whole, chunk = (*shape, *layout.space), (*ones, *layout.space)
        return ArrayLayout(f"{self.group}/{name}", dims, "float32", layout.blocks, layout.slots, whole, chunk)

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers."""
        return {
            "explain": self.settings.as_json(),
            "layers": [layer.as_json() for layer in self.layers],
            "weighted": self.weighted,
            "head": self.head.whole_json(),
            "batch_size": self.batch_size,
            "code": dict(self.code),
        }

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None) -> Self:
        """From the identity of a group, and the run's spec if not the stored one: where the weights are now."""
        attributes = read_attributes(storage)
        layout = layout_of(attributes)
        return cls(
            storage,
            (spec or spec_of(attributes)).with_channels(layout.input_channels),
            layout,
            attributes["fingerprint"]["weights"],
            identity["code"],
            Explain.model_validate(identity["explain"]),
            tuple(Layer.from_json(layer) for layer in identity["layers"]),
            tuple(tuple(tuple(names) for names in layers) for layers in identity["weighted"]),
            Head.from_json(identity["head"]),
            identity["batch_size"],
        )

    @contextmanager
    def opened(self, device: str) -> Iterator[Opened]:
        """Load the network, under the arithmetic of the capture.

        Raises
        ------
        ModelError
            if its weights are not those of the run.
        """
        model, on = planned_model(self.spec, self.code, self.weights), torch.device(device)
        model.to(on)
        yield Opened(model, on, self, Lock())


@dataclass(frozen=True)
class Opened:
    """The network of a run in this process."""

    model: nn.Module
    device: torch.device
    of: Explaining
    #: Held by the unit that uses the network, since hooks and modes are of one pass at a time.
    lock: Lock

    @cached_property
    def permuted(self) -> dict[str, Tensor]:
        """The values of each of the network's parameters in a random order."""
        return permuted_weights(self.model)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """A copy of the network's weights and buffers."""
        return {name: values.clone() for name, values in self.model.state_dict().items()}

    @property
    def versions(self) -> tuple[int, ...]:
        """Of each weight and buffer how often it was written to."""
        return tuple(values._version for values in (*self.model.parameters(), *self.model.buffers()))

    @contextmanager
    def lent(self) -> Iterator[list[str]]:
        """Code of the user's has the network inside. Yields a list: what it left changed is named there and undone."""
        before, changed, state = self.versions, list[str](), self.state
        try:
            yield changed
        finally:
            changed += self._restored(state, self.versions != before)

    def _restored(self, state: Mapping[str, Tensor], written: bool) -> Iterator[str]:
        if written:
            with torch.no_grad():
                for name, values in self.model.state_dict().items():
                    values.copy_(state[name])
            yield "weights"
        if any(module.training for module in self.model.modules()):
            self.model.eval()
            yield "mode"
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        for hooks in [hooks for module in self.model.modules() for kind in kinds if (hooks := getattr(module, kind))]:
            hooks.clear()
            yield "hooks"

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The network is used by nobody else, with one thread, the code of the plan and the capture's precision."""
        spec = self.of.spec
        with (
            self.lock,
            torch_threads(THREADS),
            arithmetic(spec.run.precision, self.device),
            known_code(spec.folder, self.of.code),
        ):
            yield
