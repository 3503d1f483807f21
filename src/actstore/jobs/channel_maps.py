"""Channels projected back into the input: the maps of one explanation, for some samples at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.analysis.patches import image_boxes
from actstore.attribution.projection import Projections, project, strongest
from actstore.attribution.rules import Method
from actstore.jobs.explaining import Explaining, Found, Samples
from actstore.jobs.map_checks import Randomisation
from actstore.jobs.of_run import Opened
from actstore.jobs.reading import inputs_of, read
from actstore.maximisation.target import reaching
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.schema import Coordinate
from actstore.store.store import Store


@dataclass(frozen=True)
class ChannelMaps:
    """What the strongest channels of layers answer to in each sample."""

    of: Explaining
    name = "projection"

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(self.of.conditions), len(self.of.layers), self.of.settings.top

    @property
    def arrays(self) -> tuple[ArrayLayout | SmallLayout, ...]:
        layout, leading = self.of.layout, ("condition", "layer", "rank")

        def small(name: str, dtype: str, along: tuple[str, ...] = (), *more: int) -> SmallLayout:
            chunk = (layout.slots, *self._shape, *more)
            return SmallLayout(f"{self.of.group}/{name}", ("sample", *leading, *along), dtype, layout.blocks, chunk)

        found: tuple[ArrayLayout | SmallLayout, ...] = (
            self.of.maps(self.name, leading, self._shape),
            small("channel", "int64"),
            small("response", "float32"),
            small("position", "int32", ("axis",), len(layout.space)),
        )
        if self._randomisation is not None:
            found += (self._randomisation.array(leading, self._shape),)
        return found

    @property
    def _randomisation(self) -> Randomisation | None:
        return Randomisation(self.of) if self.of.settings.randomisation else None

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (
            Coordinate("layer", ("layer",), np.asarray([layer.name for layer in self.of.layers])),
            Coordinate("module", ("layer",), np.asarray([layer.label for layer in self.of.layers])),
            Coordinate("rank", ("rank",), np.arange(self.of.settings.top)),
            Coordinate("axis", ("axis",), np.asarray(self.of.spec.spatial_dims)),
            *(self._randomisation.coordinates if self._randomisation is not None else ()),
        )

    def of_samples(self, opened: Opened, store: Store, samples: Samples) -> Iterator[Found]:
        """What each of some samples has in each array."""
        space = self.of.layout.space
        found: Found = {
            "projection": np.full((len(samples), *self._shape, *space), np.nan, np.float32),
            "channel": np.full((len(samples), *self._shape), -1, np.int64),
            "response": np.full((len(samples), *self._shape), np.nan, np.float32),
            "position": np.full((len(samples), *self._shape, len(space)), -1, np.int32),
        }
        if self._randomisation is not None:
            array = self._randomisation.array((), self._shape)
            found["randomisation"] = np.full((len(samples), *array.chunk[1:]), np.nan, np.float32)
        for position, condition in enumerate(self.of.conditions):
            there = np.flatnonzero(read(store.applicable.isel(sample=samples, condition=condition)))
            if not len(there):
                continue
            inputs = torch.from_numpy(inputs_of(store, samples[there], condition))
            for number in range(len(self.of.layers)):
                values = self._projected(opened, store, samples[there], condition, number, inputs.to(opened.device))
                for name, value in values.items():
                    found[name][there, position, number, : value.shape[1]] = value
        for sample in range(len(samples)):
            yield {name: values[sample] for name, values in found.items()}

    def _projected(
        self, opened: Opened, store: Store, samples: Samples, condition: int, number: int, inputs: Tensor
    ) -> Found:
        settings, layer = self.of.settings, self.of.layers[number]
        if settings.by == "mad":
            mad = read(store.statistics(layer.name, ["mad"])["mad"].isel(sample=samples, condition=condition))
            order = torch.from_numpy(np.argsort(-mad, axis=1, kind="stable")[:, : settings.top]).to(inputs.device)

        def strong(maps: Tensor) -> Tensor:
            return order if settings.by == "mad" else strongest(settings.top, settings.by)(maps)

        found = self._sent_back(opened, number, inputs, strong)
        maps = found.maps.sum(2).float().cpu().numpy()
        values: Found = {
            "projection": maps,
            "channel": found.channels.cpu().numpy(),
            "response": found.peaks.float().cpu().numpy(),
            "position": found.places.cpu().numpy().astype(np.int32),
        }
        if (randomisation := self._randomisation) is not None:

            def again() -> NDArray[np.floating]:
                return (
                    self._sent_back(opened, number, inputs, lambda _: found.channels).maps.sum(2).float().cpu().numpy()
                )

            areas = image_boxes(store.prediction.isel(sample=samples, condition=0), self.of.spec.spatial_dims)
            weighted = self.of.weighted[number]
            values["randomisation"] = randomisation.compared(opened, weighted, maps, areas.tolist(), again)
        return values

    def _sent_back(
        self, opened: Opened, number: int, inputs: Tensor, channels: Callable[[Tensor], Tensor]
    ) -> Projections:
        settings = self.of.settings
        with reaching(opened.model, self.of.layers[number], follow=False) as reach:
            return project(
                lambda seen: reach(seen).values,
                inputs,
                channels,
                cast(Method, settings.method),
                start=settings.start,
                norm=settings.norm,
            )
