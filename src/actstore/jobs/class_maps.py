"""Where the scores of classes come from: the maps of one explanation, for some samples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.analysis.patches import image_boxes, owned_boxes
from actstore.attribution.occlusion import Box, Windows, filling, occlude
from actstore.attribution.rules import Method
from actstore.attribution.saliency import saliency
from actstore.attribution.scores import ClassScores, Score
from actstore.code.imports import resolve_callable
from actstore.errors import ModelError, one_line
from actstore.jobs.explaining import Explaining, Found, Samples
from actstore.jobs.map_checks import Deletion, Randomisation
from actstore.jobs.of_run import Opened
from actstore.jobs.reading import inputs_of, read
from actstore.spec.explain import BACKWARD, OCCLUSION
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.schema import Coordinate
from actstore.store.store import Store

#: A pixel belongs to the body if it is brighter than this share of the way from the sample's minimum to its 99th
#: percentile.
BODY = 0.1


@dataclass(frozen=True)
class ClassMaps:
    """Where each class's score comes from."""

    of: Explaining
    #: The array of maps.
    name = "map"

    @property
    def windows(self) -> Windows:
        settings = self.of.settings
        return Windows.of(self.of.layout.space, settings.window, settings.stride)

    @property
    def _window_dims(self) -> tuple[str, ...]:
        return tuple(f"window_{axis}" for axis in self.of.spec.spatial_dims)

    @property
    def arrays(self) -> tuple[ArrayLayout | SmallLayout, ...]:
        layout, group = self.of.layout, self.of.group
        leading = ("condition", "class_name")
        shape = (len(self.of.conditions), len(self.of.targets))
        small: tuple[SmallLayout, ...] = (
            SmallLayout(f"{group}/score", ("sample", *leading), "float32", layout.blocks, (layout.slots, *shape)),
            SmallLayout(f"{group}/pixels", ("sample", "class_name"), "int64", layout.blocks, (layout.slots, shape[1])),
        )
        if self.of.settings.method == OCCLUSION:
            dims = ("sample", *leading, *self._window_dims)
            chunk = (layout.slots, *shape, *self.windows.grid)
            small += (SmallLayout(f"{group}/drop", dims, "float32", layout.blocks, chunk),)
        if self._deletion is not None:
            small += (self._deletion.array,)
        if self._randomisation is not None:
            small += (self._randomisation.array(leading, shape),)
        return (self.of.maps(self.name, leading, shape), *small)

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        found = [Coordinate("class_name", ("class_name",), np.asarray(self.of.targets))]
        if self.of.settings.method == OCCLUSION:
            along = zip(self._window_dims, self.windows.starts, strict=True)
            found += [Coordinate(name, (name,), np.asarray(starts, np.int64)) for name, starts in along]
        for check in (self._deletion, self._randomisation):
            found += check.coordinates if check is not None else ()
        return tuple(found)

    @property
    def _deletion(self) -> Deletion | None:
        return Deletion(self.of) if self.of.settings.deletion else None

    @property
    def _randomisation(self) -> Randomisation | None:
        return Randomisation(self.of) if self.of.settings.randomisation else None

    def of_samples(self, opened: Opened, store: Store, samples: Samples) -> Iterator[Found]:
        """What each of some samples has in each array."""
        masks = self._masks(store, samples)
        areas = image_boxes(store.prediction.isel(sample=samples, condition=0), self.of.spec.spatial_dims)
        found: list[Found] = [
            {name: np.full(shape, np.nan, np.float32) for name, shape in self._shapes.items()} for _ in samples
        ]
        for own, mask in zip(found, masks, strict=True):
            own["pixels"] = mask.reshape(len(mask), -1).sum(1).astype(np.int64)
        for position, condition in enumerate(self.of.conditions):
            there = np.flatnonzero(read(store.applicable.isel(sample=samples, condition=condition)))
            if not len(there):
                continue
            images = inputs_of(store, samples[there], condition)
            given = _Given(opened, samples[there], images, masks[there], areas[there].tolist())
            for at, values in zip(there, self._mapped(given), strict=True):
                for name, value in values.items():
                    found[at][name][position] = value
        yield from found

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each array of floats, what one sample has."""
        group = f"{self.of.group}/"
        return {
            array.path.removeprefix(group): array.sample_shape if isinstance(array, ArrayLayout) else array.chunk[1:]
            for array in self.arrays
            if array.dtype == "float32"
        }

    def _masks(self, store: Store, samples: Samples) -> NDArray[np.bool_]:
        """Where the original is predicted as each class, of what a sample owns: (sample, class_name, \\*space)."""
        predicted = store.prediction.isel(sample=samples, condition=0)
        owned = np.zeros(predicted.shape, bool)
        for one, box in zip(owned, owned_boxes(predicted, self.of.spec.spatial_dims), strict=True):
            one[tuple(slice(*ends) for ends in box)] = True
        classes, members = read(predicted), self.of.spec.labels.members
        return np.stack([np.isin(classes, members[name]) & owned for name in self.of.targets], 1)

    @property
    def _scores(self) -> ClassScores:
        members = self.of.spec.labels.members
        numbers = tuple(list(members).index(name) for name in self.of.targets)
        chosen = tuple(members[name] for name in self.of.targets)
        return ClassScores(self.of.head, chosen, numbers, self.of.settings.score)

    def _mapped(self, given: _Given) -> list[Found]:
        """What each input has in each array but ``pixels``."""
        made = list(self._made(given))
        if (deletion := self._deletion) is not None:
            scores = replace(self._scores, kind="probability")
            for one, image, mask, area, sample in zip(made, *given.each, given.samples, strict=True):
                one["deletion"] = deletion.of_sample(
                    given.opened,
                    scores.within(torch.from_numpy(mask)[None].to(given.opened.device)),
                    image,
                    one["map"],
                    mask,
                    area=area,
                    body=_body(image, area),
                    sample=int(sample),
                )
        if (randomisation := self._randomisation) is not None:
            maps = np.stack([one["map"] for one in made])

            def again() -> NDArray[np.floating]:
                return np.stack([one["map"] for one in self._made(given)])

            (layers,) = self.of.weighted
            found = randomisation.compared(given.opened, layers, maps, given.areas, again)
            for one, values in zip(made, found, strict=True):
                one["randomisation"] = values
        return made

    def _made(self, given: _Given) -> Iterator[Found]:
        """The map of each input, its scores and, of occlusion, its drops."""
        return self._occluded(given) if self.of.settings.method == OCCLUSION else self._explained(given)

    def _explained(self, given: _Given) -> Iterator[Found]:
        opened, masks = given.opened, given.masks
        inputs, within = torch.from_numpy(given.images).to(opened.device), torch.from_numpy(masks).to(opened.device)
        score = self._scores.within(within)
        empty = np.asarray(~masks.reshape(*masks.shape[:2], -1).any(2))

        def network(seen: Tensor) -> Tensor:
            return self.of.head.logits(opened.model(seen))

        settings = self.of.settings
        if settings.method in BACKWARD:
            maps, scores = saliency(network, inputs, score, cast(Method, settings.method), norm=settings.norm)
            # The derivative by what is added to every input channel.
            whole = maps.sum(2).cpu().numpy()
        else:
            whole, scores = self._own(opened, inputs, within, empty)
        for one, values, none in zip(whole, scores.cpu().numpy(), empty, strict=True):
            yield {"map": np.where(none.reshape(-1, *[1] * (one.ndim - 1)), np.nan, one), "score": values}

    def _own(
        self, opened: Opened, inputs: Tensor, masks: Tensor, empty: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], Tensor]:
        """Maps of the user's method, one input and class at a time."""
        method = resolve_callable(self.of.settings.method, f"explain {self.of.settings.name!r}: method")
        with torch.no_grad():
            scores = self._scores.within(masks)(self.of.head.logits(opened.model(inputs)))
        maps = np.full((*scores.shape, *inputs.shape[2:]), np.nan, np.float32)
        for (element, number), none in np.ndenumerate(empty):
            if not none:
                one = slice(element, element + 1)
                maps[element, number] = self._one(method, opened, inputs[one].clone(), masks[one], number)
        return maps, scores

    def _one(self, method: Any, opened: Opened, image: Tensor, mask: Tensor, number: int) -> NDArray[np.float32]:
        name, size = self.of.settings.method, tuple(image.shape[2:])

        def score(output: Any) -> Tensor:
            logits = self.of.head.logits(output)
            return self._scores.within(mask.expand(len(logits), *mask.shape[1:]))(logits)[:, number]

        try:
            with opened.lent() as changed:
                found = method(opened.model, image, score)
        except Exception as error:
            raise ModelError(f"{name} failed with {one_line(error)}: correct it") from error
        if changed:
            raise ModelError(f"{name} leaves the network's {changed[0]} changed: let it work on a copy")
        values = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found, np.float32)
        if values.shape == (1, len(self.of.layout.input_channels), *size):
            values = values[0].sum(0)
        if values.shape != size:
            raise ModelError(
                f"{name} returned a map of {values.shape} for an input of {tuple(image.shape[1:])}: return one of its "
                "shape, or of its space"
            )
        return values

    def _occluded(self, given: _Given) -> Iterator[Found]:
        settings, windows, opened = self.of.settings, self.windows, given.opened
        for image, mask, area in zip(*given.each, strict=True):
            filled = torch.from_numpy(filling(image, settings.fill, windows.window, area)).to(opened.device)
            score = self._scores.within(torch.from_numpy(mask)[None].to(opened.device))

            def predicted(seen: Tensor, score: Score = score) -> Tensor:
                return score(self.of.head.logits(opened.model(seen)))

            chosen = windows.touching(self._box(image, mask, area))
            seen = torch.from_numpy(image).to(opened.device)
            drops, whole = occlude(predicted, seen, filled, windows, chosen=chosen, batch_size=self.of.batch_size)
            yield {"map": windows.spread(drops), "drop": drops, "score": whole}

    def _box(self, image: NDArray[np.float32], masks: NDArray[np.bool_], area: Box) -> Box:
        """Where windows lie, as the setting ``box`` says; inside ``area``."""
        if self.of.settings.box == "image":
            return area
        if self.of.settings.box == "body":
            return _body(image, area)
        there = np.asarray(masks.any(0))[tuple(slice(*ends) for ends in area)]
        return _around(there, area, self.windows.window)


@dataclass(frozen=True)
class _Given:
    """Some inputs of one condition, and what is known of them."""

    opened: Opened
    #: Their numbers in the store.
    samples: Samples
    #: (element, input_channel, \\*space)
    images: NDArray[np.float32]
    #: (element, class_name, \\*space): where the original is predicted as each class.
    masks: NDArray[np.bool_]
    #: Of each the box of the image without its padding.
    areas: Sequence[Box]

    @property
    def each(self) -> tuple[NDArray[np.float32], NDArray[np.bool_], Sequence[Box]]:
        return self.images, self.masks, self.areas


def _body(image: NDArray[np.float32], area: Box) -> Box:
    """The box of what is brighter than the background, in ``area``."""
    bright = image.mean(0)[tuple(slice(*ends) for ends in area)]
    low, high = bright.min(), np.percentile(bright, 99)
    return _around(bright > low + BODY * (high - low), area, [0] * len(area))


def _around(there: NDArray[np.bool_], area: Box, grown: Sequence[int]) -> Box:
    """The box around what is true in ``area``, grown inside it."""
    if not there.any():
        return [(0, 0)] * len(area)
    box = []
    for axis, ((first, last), more) in enumerate(zip(area, grown, strict=True)):
        along = np.flatnonzero(there.any(tuple(other for other in range(there.ndim) if other != axis)))
        box.append((max(first, first + int(along[0]) - more), min(last, first + int(along[-1]) + 1 + more)))
    return box
