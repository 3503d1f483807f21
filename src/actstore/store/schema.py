"""What a store holds: its layers and the layout of every array that blocks fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from actstore.measures.names import ORIGINAL_STATISTICS, STATISTICS
from actstore.store.layout import ArrayLayout, SmallLayout, activation_layout, image_layout

#: Raised whenever a reader of the previous schema would misread a store.
SCHEMA_VERSION = 3
#: The oldest schema that is read. A store of schema 2 has no coordinate ``region``: it holds no controls.
OLDEST_SCHEMA = 2


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

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "space": list(self.space)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Layer:
        return cls(**{**content, "space": tuple(content["space"])})

    @property
    def label(self) -> str:
        """Module path, with ``[output]`` and ``#call`` where a module has several."""
        return self.module + (f"[{self.output}]" if self.output else "") + (f"#{self.call}" if self.call else "")


@dataclass(frozen=True)
class StoreLayout:
    """Every array of a store that blocks fill."""

    blocks: int
    slots: int
    conditions: int
    classes: int
    #: The network's input size, (y, x) or (z, y, x).
    space: tuple[int, ...]
    dtype: str
    layers: tuple[Layer, ...]

    @property
    def space_dims(self) -> tuple[str, ...]:
        return ("z", "y", "x")[-len(self.space) :]

    def _image(self, path: str, dtype: str, conditions: int | None) -> ArrayLayout:
        return image_layout(
            path,
            dtype=dtype,
            blocks=self.blocks,
            slots=self.slots,
            conditions=conditions,
            space=self.space,
            space_dims=self.space_dims,
        )

    @property
    def image(self) -> ArrayLayout:
        return self._image("inputs/image", "float32", self.conditions)

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
            space_dims=self.space_dims,
        )

    @property
    def images(self) -> tuple[ArrayLayout, ...]:
        """Inputs, labels and predictions."""
        return (self.image, self.label, self.prediction)

    @property
    def sharded(self) -> tuple[ArrayLayout, ...]:
        """Every array with pixels that is stored: `images`, then the kept layers in network order."""
        return (*self.images, *(self.activation(layer) for layer in self.layers if layer.kept))

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample while it is computed: images and the activations of all layers, kept or not."""
        arrays = (*self.images, *(self.activation(layer) for layer in self.layers))
        return sum(array.sample_stride for array in arrays)

    @property
    def keeps_all(self) -> bool:
        """Whether the tensors of every layer are stored, so that statistics can be taken again."""
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

    @property
    def source(self) -> SmallLayout:
        """SHA-256 of the files that a block was computed from."""
        return self._small("source", ("block", "byte"), "uint8", (1, 32))

    @property
    def committed(self) -> SmallLayout:
        """The commit record: the run fingerprint's first 8 bytes; 0 where the block is not done."""
        return self._small("committed", ("block",), "uint64", (1,))

    @property
    def reduced(self) -> SmallLayout:
        """The same record for the block's persisted statistics."""
        return self._small("statistics/committed", ("block",), "uint64", (1,))

    def statistic(self, layer: Layer, name: str) -> SmallLayout:
        conditions = () if name in ORIGINAL_STATISTICS else (self.conditions,)
        dims = ("sample", *(("condition",) if conditions else ()), "channel")
        chunk = (self.slots, *conditions, layer.channels)
        return self._small(f"statistics/{layer.name}/{name}", dims, "float64", chunk)

    @property
    def statistics(self) -> tuple[SmallLayout, ...]:
        return tuple(self.statistic(layer, name) for layer in self.layers for name in STATISTICS)

    def block_bytes(self, samples: int) -> int:
        """Bytes on disk of one committed block of ``samples`` samples."""
        sharded = sum(array.shard_bytes(samples) for array in self.sharded)
        small = (self.applicable, self.confusion, self.source, self.committed, self.reduced, *self.statistics)
        return sharded + sum(array.chunk_bytes for array in small)

    @property
    def block_objects(self) -> int:
        """Files of one committed block whose statistics are persisted."""
        return len(self.sharded) + 5 + len(self.statistics)
