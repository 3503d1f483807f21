"""What a job that runs the network of a finished run again works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from actstore.attribution.randomisation import permuted_weights
from actstore.code.digests import known_code
from actstore.jobs.stored_spec import spec_of
from actstore.networks.arithmetic import arithmetic, torch_threads
from actstore.networks.heads import Head
from actstore.networks.model import planned_model
from actstore.spec.spec import Spec
from actstore.store.attributes import layout_of, read_attributes
from actstore.store.files.base import Storage
from actstore.store.schema import StoreLayout

#: Torch's threads: another number would change the last bits.
THREADS = 1


@dataclass(frozen=True)
class OfRun:
    """A run whose network is used again."""

    storage: Storage
    spec: Spec
    layout: StoreLayout
    #: Digest that the network's weights must have, and those of code beside the spec.
    weights: str
    code: Mapping[str, str]
    head: Head
    #: Inputs of one pass.
    batch_size: int

    def network_identity(self) -> dict[str, Any]:
        """What decides the network's numbers, besides the run."""
        return {"head": self.head.whole_json(), "batch_size": self.batch_size, "code": dict(self.code)}

    @staticmethod
    def again_of(storage: Storage, identity: Mapping[str, Any], spec: Spec | None) -> dict[str, Any]:
        """The fields, from the identity of a group and the run's spec if not the stored one: where weights are now."""
        attributes = read_attributes(storage)
        layout = layout_of(attributes)
        return {
            "storage": storage,
            "spec": (spec or spec_of(attributes)).with_channels(layout.input_channels),
            "layout": layout,
            "weights": attributes["fingerprint"]["weights"],
            "code": identity["code"],
            "head": Head.from_json(identity["head"]),
            "batch_size": identity["batch_size"],
        }

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
    of: OfRun
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
