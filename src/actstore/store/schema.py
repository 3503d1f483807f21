"""The arrays of each group and of a capture, described as data, by schema version."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.conditions import ONE_CHANNEL
from actstore.measures.bins import BINS, PROBABILITY_BINS, TOTALS, edges, probability_edges
from actstore.measures.names import PER_CONDITION, STATISTICS
from actstore.store.layout import ArrayLayout, SmallLayout, activation_layout, image_layout, inner_chunk

#: Increased whenever a reader of the previous schema would misread a store.
SCHEMA_VERSION = 4
#: The oldest readable schema. Schema 2 has no controls and therefore no coordinate ``region``. Schemas 2 and 3 have no
#: input channels and no patches, and one small array per layer for each of the four `OLDER_STATISTICS`.
OLDEST_SCHEMA = 2
#: Group and array of the first convolution's weight, and the root attribute that says where it comes from: None for a
#: network without a convolution, absent in stores from before it was stored. Written once, when a store is made.
FILTERS, WEIGHT = "filters", "weight"
#: Statistics persisted in schemas 2 and 3; the mean is of the original only.
OLDER_STATISTICS = ("mad", "mse", "mean", "std")


@dataclass(frozen=True)
class Layer:
    """One recorded output of one call of one module."""

    name: str
    #: Module path below the network, as ``named_modules`` spells it.
    module: str
    type: str
    #: Which call of the module within one forward pass, from 0.
    call: int
    #: Position in the module's output where that is a tuple, list or mapping, as text; "" where it is a tensor.
    output: str
    channels: int
    #: (y, x) or (z, y, x)
    space: tuple[int, ...]
    #: Whether its tensors are stored, not only its statistics.
    kept: bool = True
    #: Whether the module returns (batch, [z,] y, x, channel). The store has channels first in any case.
    channels_last: bool = False

    def as_json(self) -> dict[str, Any]:
        content = {**asdict(self), "space": list(self.space)}
        if not self.channels_last:
            # As in stores from before this field existed, which runs continue.
            del content["channels_last"]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Layer:
        return cls(**{**content, "space": tuple(content["space"])})

    @property
    def label(self) -> str:
        """Module path, with ``[output]`` and ``#call`` where a module has several."""
        return self.module + (f"[{self.output}]" if self.output else "") + (f"#{self.call}" if self.call else "")


@dataclass(frozen=True, eq=False)
class Coordinate:
    """Values along the dims of a group's arrays, stored in one chunk when the group is made."""

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    #: Of the array in its ``zarr.json``.
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Schema:
    """The arrays of one group, in each of which every block owns one file, and the record that marks a block as done.

    All code that creates, writes, commits, sweeps, checks or counts files of blocks iterates over this.
    """

    #: Path of the group below the store's root, "" for the root itself.
    group: str
    #: (block,) uint64: the token of the group's identity if the block is committed, else 0.
    record: SmallLayout
    arrays: tuple[ArrayLayout | SmallLayout, ...]
    #: Names of the coordinates along the arrays' dims.
    coordinates: tuple[str, ...] = ()
    #: Groups that the same block fills and commits before this one.
    subgroups: tuple[Schema, ...] = ()
    #: Whether the group can be computed again from the rest of the store.
    derived: bool = False

    @property
    def blocks(self) -> int:
        return self.record.blocks

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """Subgroups in the order in which they are committed, then this one."""
        return (*self.subgroups, self)

    @property
    def needed(self) -> tuple[Schema, ...]:
        """The `schemas` that a block needs to count as done."""
        return tuple(schema for schema in self.schemas if schema is self or not schema.derived)

    @property
    def layouts(self) -> Iterator[ArrayLayout | SmallLayout]:
        """Every array in which a block owns a file: records first, and this group's record before all others."""
        for schema in reversed(self.schemas):
            yield schema.record
        for schema in reversed(self.schemas):
            yield from schema.arrays

    @cached_property
    def sharded(self) -> tuple[ArrayLayout, ...]:
        """The group's own arrays of samples in shards."""
        return tuple(array for array in self.arrays if isinstance(array, ArrayLayout))

    @cached_property
    def small(self) -> tuple[SmallLayout, ...]:
        """The group's own arrays with one small file per block."""
        return tuple(array for array in self.arrays if isinstance(array, SmallLayout))

    def files(self, block: int) -> Iterator[str]:
        """Every file that ``block`` owns below the store's root, its commit records first."""
        return (layout.key(block) for layout in self.layouts)

    def sizes(self, block: int, samples: int) -> dict[str, int]:
        """Bytes of every file of ``block``, which holds ``samples`` samples, by key."""
        return {layout.key(block): layout.file_bytes(samples) for layout in self.layouts}

    def block_bytes(self, samples: int) -> int:
        """Bytes on disk of one committed block of ``samples`` samples."""
        return sum(layout.file_bytes(samples) for layout in self.layouts)

    @property
    def block_objects(self) -> int:
        """Files of one committed block."""
        return sum(1 for _ in self.layouts)

    def as_json(self) -> dict[str, Any]:
        """For a group's attributes; without `subgroups`, which only the capture has."""
        return {
            "arrays": [{"kind": _KINDS[type(array)], **_listed(asdict(array))} for array in self.arrays],
            "blocks": self.blocks,
            "coordinates": list(self.coordinates),
            "derived": self.derived,
        }

    @classmethod
    def from_json(cls, group: str, content: Mapping[str, Any]) -> Schema:
        kinds = {name: kind for kind, name in _KINDS.items()}
        arrays = tuple(
            kinds[array["kind"]](**{k: tuple(v) if isinstance(v, list) else v for k, v in array.items() if k != "kind"})
            for array in content["arrays"]
        )
        record = record_of(group, content["blocks"])
        return cls(group, record, arrays, tuple(content["coordinates"]), derived=content["derived"])


_KINDS: Mapping[type[Any], str] = {ArrayLayout: "sharded", SmallLayout: "small"}


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def record_of(group: str, blocks: int) -> SmallLayout:
    """Layout of a group's commit record."""
    return SmallLayout(f"{group}/committed" if group else "committed", ("block",), "uint64", blocks, (1,))


@dataclass(frozen=True)
class StoreLayout:
    """Every array that a capture fills."""

    blocks: int
    slots: int
    conditions: int
    classes: int
    #: The network's input size, (y, x) or (z, y, x).
    space: tuple[int, ...]
    dtype: str
    layers: tuple[Layer, ...]
    #: Names of the input's channels.
    input_channels: tuple[str, ...] = ONE_CHANNEL
    version: int = SCHEMA_VERSION
    #: Whether predictions are averaged over overlapping samples, so that a block's are known only at its end.
    stitched: bool = False
    #: Whether the network gives one score a class for a whole sample, not for each of its pixels.
    classified: bool = False
    #: What the histograms of scores are of; empty in a store without them.
    scored: tuple[str, ...] = ()

    @property
    def space_dims(self) -> tuple[str, ...]:
        return ("z", "y", "x")[-len(self.space) :]

    def _image(self, path: str, dtype: str, conditions: int | None, input_channels: int | None = None) -> ArrayLayout:
        return image_layout(
            path,
            dtype=dtype,
            blocks=self.blocks,
            slots=self.slots,
            conditions=conditions,
            input_channels=input_channels,
            space=self.space,
            space_dims=self.space_dims,
        )

    @property
    def image(self) -> ArrayLayout:
        channels = len(self.input_channels) if self.version > 3 else None
        return self._image("inputs/image", "float32", self.conditions, channels)

    @property
    def label(self) -> ArrayLayout:
        return self._image("inputs/label", "uint8", None)

    @property
    def prediction(self) -> ArrayLayout:
        return self._image("outputs/prediction", "uint8", self.conditions)

    def activation(self, layer: Layer) -> ArrayLayout:
        return activation_layout(
            f"layers/{layer.name}/activation",
            dtype=self.dtype,
            blocks=self.blocks,
            slots=self.slots,
            conditions=self.conditions,
            channels=layer.channels,
            space=layer.space,
            space_dims=self.space_dims if layer.space else (),
        )

    @property
    def images(self) -> tuple[ArrayLayout, ...]:
        """Inputs, labels and predictions; of a classifier inputs alone."""
        return (self.image,) if self.classified else (self.image, self.label, self.prediction)

    @cached_property
    def streamed(self) -> tuple[ArrayLayout, ...]:
        """Arrays of samples that a capture writes as soon as a sample is computed."""
        late = (*self.scores, *((self.prediction,) if self.stitched else ()))
        return tuple(a for a in self.capture.sharded if a not in late)

    @property
    def activations(self) -> tuple[ArrayLayout, ...]:
        """Activations of every layer, stored or not."""
        return tuple(self.activation(layer) for layer in self.layers)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in memory during a capture: images and the activations of all layers, kept or not."""
        return sum(array.sample_stride for array in (*self.images, *self.activations))

    @property
    def keeps_all(self) -> bool:
        """Whether the tensors of every layer are stored, so that statistics can be computed again."""
        return all(layer.kept for layer in self.layers)

    def _small(self, path: str, dims: tuple[str, ...], dtype: str, chunk: tuple[int, ...]) -> SmallLayout:
        return SmallLayout(path, dims, dtype, self.blocks, chunk)

    @property
    def applicable(self) -> SmallLayout:
        return self._small("applicable", ("sample", "condition"), "bool", (self.slots, self.conditions))

    @property
    def confusion(self) -> SmallLayout:
        dims = ("sample", "condition", "true_class", "predicted_class")
        return self._small("confusion", dims, "int64", (self.slots, self.conditions, self.classes, self.classes))

    def _scores(self, path: str, dims: tuple[str, ...], dtype: str, shape: tuple[int, ...]) -> ArrayLayout:
        conditions, _ = inner_chunk(self.conditions, 1, math.prod(shape) * np.dtype(dtype).itemsize)
        return ArrayLayout(
            path=path,
            dims=("sample", "condition", "class_name", *dims),
            dtype=dtype,
            blocks=self.blocks,
            slots=self.slots,
            sample_shape=(self.conditions, *shape),
            chunk=(conditions, *shape),
        )

    @property
    def histogram(self) -> ArrayLayout:
        """Pixels by their score, those of a class apart from others; 0 where not applicable."""
        shape = (len(self.scored), 2, BINS)
        return self._scores("outputs/histogram", ("truth", "bin"), "uint32", shape)

    @property
    def calibration(self) -> ArrayLayout:
        """Pixels, those of the class and the sum of their probabilities, by probability; 0 where not applicable."""
        shape = (len(self.scored), PROBABILITY_BINS, len(TOTALS))
        return self._scores("outputs/calibration", ("probability_bin", "total"), "float64", shape)

    @property
    def scores(self) -> tuple[ArrayLayout, ...]:
        """Counts of scores, if the store has them."""
        return (self.histogram, self.calibration) if self.scored else ()

    def score_coordinates(self) -> tuple[Coordinate, ...]:
        """Coordinates along the axes of `scores`; of bins their lower edges."""
        if not self.scored:
            return ()
        return (
            Coordinate("class_name", ("class_name",), np.asarray(self.scored)),
            Coordinate("truth", ("truth",), np.arange(2)),
            Coordinate("bin", ("bin",), edges()),
            Coordinate("probability_bin", ("probability_bin",), probability_edges()),
            Coordinate("total", ("total",), np.asarray(TOTALS)),
        )

    @property
    def score(self) -> SmallLayout:
        """A classifier's logits, NaN where not applicable."""
        dims = ("sample", "condition", "class_name")
        return self._small("outputs/score", dims, "float32", (self.slots, self.conditions, self.classes))

    @property
    def source(self) -> SmallLayout:
        """SHA-256 of a block's source files."""
        return self._small("source", ("block", "byte"), "uint8", (1, 32))

    @property
    def channels(self) -> int:
        """Channels of all layers together."""
        return sum(layer.channels for layer in self.layers)

    def channels_of(self, layer: Layer) -> slice:
        """Range of a layer's channels among the channels of all layers."""
        before = [other.name for other in self.layers].index(layer.name)
        first = sum(other.channels for other in self.layers[:before])
        return slice(first, first + layer.channels)

    @property
    def statistic_names(self) -> tuple[str, ...]:
        """Statistics persisted per channel, in the order of the axis ``statistic``."""
        return STATISTICS if self.version > 3 else OLDER_STATISTICS

    @property
    def statistic(self) -> SmallLayout:
        """Statistics of the channels of all layers; NaN outside the original for statistics of the original only.

        Each section of a block's file holds one statistic of all its samples.
        """
        dims = ("sample", "statistic", "condition", "layer_channel")
        chunk = (self.slots, len(self.statistic_names), self.conditions, self.channels)
        return SmallLayout("statistics/value", dims, "float64", self.blocks, chunk, sectioned=True)

    def older_statistic(self, layer: Layer, name: str) -> SmallLayout:
        """The array of a layer's statistic in schemas 2 and 3."""
        conditions = (self.conditions,) if name in PER_CONDITION and name != "mean" else ()
        dims = ("sample", *(("condition",) if conditions else ()), "channel")
        chunk = (self.slots, *conditions, layer.channels)
        return self._small(f"statistics/{layer.name}/{name}", dims, "float64", chunk)

    @cached_property
    def statistics(self) -> Schema:
        """The group of persisted statistics."""
        arrays: tuple[SmallLayout, ...] = (self.statistic,)
        if self.version < 4:
            arrays = tuple(self.older_statistic(layer, name) for layer in self.layers for name in OLDER_STATISTICS)
        return Schema("statistics", record_of("statistics", self.blocks), arrays, derived=self.keeps_all)

    @cached_property
    def capture(self) -> Schema:
        """Everything that a capture writes: the root's arrays, with the statistics as a subgroup."""
        small = (self.source, self.applicable, self.confusion, *((self.score,) if self.classified else ()))
        kept = tuple(self.activation(layer) for layer in self.layers if layer.kept)
        return Schema(
            "", record_of("", self.blocks), (*small, *self.images, *self.scores, *kept), subgroups=(self.statistics,)
        )

    def statistic_coordinates(self) -> tuple[Coordinate, ...]:
        """Coordinates along the axes of `statistic`."""
        layers = [layer for layer in self.layers for _ in range(layer.channels)]
        channels = np.concatenate([np.arange(layer.channels) for layer in self.layers])
        return (
            Coordinate("statistic", ("statistic",), np.asarray(self.statistic_names)),
            Coordinate("layer", ("layer_channel",), np.asarray([layer.name for layer in layers])),
            Coordinate("channel", ("layer_channel",), channels.astype(np.int64)),
        )
