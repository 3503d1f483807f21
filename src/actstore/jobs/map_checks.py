"""Checks that are made beside maps: whether what they call important is, and whether they depend on the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.attribution.deletion import delete, tile_distances, tile_means
from actstore.attribution.occlusion import Box, Windows, filling
from actstore.attribution.randomisation import Layers, rank_correlation, replaced
from actstore.attribution.scores import Score
from actstore.jobs.explaining import Explaining
from actstore.jobs.of_run import Opened
from actstore.store.layout import SmallLayout
from actstore.store.schema import Coordinate

#: In what order tiles are deleted: as the map says; those nearest to the middle of the class first; at random.
ORDERS = ("map", "distance", "random")
#: Share of the body's tiles that are deleted.
DELETED = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
#: What is compared with the map of the permuted network: the map, or how large its values are.
SIGNS = ("map", "magnitude")
SEED = 0


@dataclass(frozen=True)
class Deletion:
    """How each class's probability falls as tiles of the input are filled."""

    of: Explaining

    @property
    def tiles(self) -> Windows:
        side = self.of.settings.deletion
        assert isinstance(side, int | tuple)
        return Windows.of(self.of.layout.space, side, side)

    @property
    def array(self) -> SmallLayout:
        of, layout = self.of, self.of.layout
        shape = (layout.slots, len(of.conditions), len(of.targets), len(ORDERS), len(DELETED))
        dims = ("sample", "condition", "class_name", "order", "deleted")
        return SmallLayout(f"{of.group}/deletion", dims, "float32", layout.blocks, shape)

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (
            Coordinate("order", ("order",), np.asarray(ORDERS)),
            Coordinate("deleted", ("deleted",), np.asarray(DELETED)),
        )

    def of_sample(
        self,
        opened: Opened,
        score: Score,
        image: NDArray[np.float32],
        maps: NDArray[np.floating],
        masks: NDArray[np.bool_],
        *,
        area: Box,
        body: Box,
        sample: int,
    ) -> NDArray[np.floating]:
        """What is left of each class's probability: (class_name, order, deleted).

        NaN where the class is not predicted, where a share is less than half of a tile, and in the map's order where it
        calls all tiles equally important.

        Parameters
        ----------
        score
            the probability of each class.
        image, maps, masks
            the input (input_channel, \\*space), and of each class its map and where it is predicted.
        area, body
            the image without its padding, whose mean may fill tiles; where tiles lie.
        sample
            number in the store, which decides the random order.
        """
        settings, tiles = self.of.settings, self.tiles
        chosen = np.flatnonzero(tiles.touching(body))
        found = np.full((len(masks), len(ORDERS), len(DELETED)), np.nan)
        classes = [k for k, mask in enumerate(masks) if mask.any()]
        if not len(chosen) or not classes:
            return found
        # Ties are at random.
        chosen = np.random.default_rng((SEED, sample)).permutation(chosen)
        orders = [chosen]
        says: list[bool] = []
        for k in classes:
            importance = tile_means(maps[k], tiles).ravel()[chosen]
            distance = tile_distances(masks[k], tiles).ravel()[chosen]
            # Where the map says nothing comes last.
            ranked = np.nan_to_num(importance, nan=-np.inf)
            says.append(bool((ranked != ranked[0]).any()))
            orders.append(chosen[np.argsort(-ranked, kind="stable")])
            orders.append(chosen[np.argsort(distance, kind="stable")])
        counts = [round(share * len(chosen)) for share in DELETED]
        filled = torch.from_numpy(filling(image, settings.fill, tiles.window, area)).to(opened.device)
        given = torch.from_numpy(image).to(opened.device)

        def predicted(seen: Tensor) -> Tensor:
            return score(self.of.head.logits(opened.model(seen)))

        left = delete(predicted, given, filled, tiles, orders, counts, batch_size=self.of.batch_size)
        for position, (k, known) in enumerate(zip(classes, says, strict=True)):
            by_map = left[2 * position + 1, :, k] if known else np.nan
            found[k, 0], found[k, 1], found[k, 2] = by_map, left[2 * position + 2, :, k], left[0, :, k]
        found[:, :, [count == 0 and share > 0 for count, share in zip(counts, DELETED, strict=True)]] = np.nan
        return found


@dataclass(frozen=True)
class Randomisation:
    """How much maps keep when weights are permuted, layer after layer from the output, or from the layer, backwards."""

    of: Explaining

    @property
    def levels(self) -> tuple[int, ...]:
        """How many layers are permuted."""
        found = self.of.settings.randomisation
        assert found is not None
        return found

    def array(self, leading: Sequence[str], shape: Sequence[int]) -> SmallLayout:
        layout = self.of.layout
        dims = ("sample", *leading, "permuted", "sign")
        whole = (layout.slots, *shape, len(self.levels), len(SIGNS))
        return SmallLayout(f"{self.of.group}/randomisation", dims, "float32", layout.blocks, whole)

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (
            Coordinate("permuted", ("permuted",), np.asarray(self.levels)),
            Coordinate("sign", ("sign",), np.asarray(SIGNS)),
        )

    def compared(
        self,
        opened: Opened,
        layers: Layers,
        maps: NDArray[np.floating],
        areas: Sequence[Any],
        again: Callable[[], NDArray[np.floating]],
    ) -> NDArray[np.float64]:
        """Spearman's correlation of maps (element, …, \\*space) with those that ``again`` makes of a permuted network.

        Returns (element, …, permuted, sign), over the pixels of ``areas``, each element's box without padding. NaN
        where the network has fewer ``layers``.
        """
        dims = len(self.of.layout.space)
        found = np.full((*maps.shape[: maps.ndim - dims], len(self.levels), len(SIGNS)), np.nan)
        for number, level in enumerate(self.levels):
            if level > len(layers):
                continue
            with replaced(opened.model, opened.permuted, [name for layer in layers[:level] for name in layer]):
                others = again()
            for own, one, other, area in zip(found, maps, others, areas, strict=True):
                inside = (..., *(slice(*ends) for ends in area))
                flat = (values[inside].reshape(*values.shape[: values.ndim - dims], -1) for values in (one, other))
                own[..., number, :] = rank_correlation(*flat)
        return found
