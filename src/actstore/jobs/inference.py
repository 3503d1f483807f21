"""Forward passes over a volume, recorded straight into shard buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.conditions import Applies
from actstore.data.volume import Volume
from actstore.errors import ModelError
from actstore.geometry import image_window
from actstore.inputs.prepare import prepare
from actstore.networks.heads import Head
from actstore.networks.recording import Forward
from actstore.spec.spec import Spec
from actstore.spec.toml_tables import MANTISSA_BITS
from actstore.store.schema import StoreLayout

#: The largest finite float16.
HALF_RANGE = 65504.0


class Inference:
    """Forward passes over one volume, recorded into the slots of a ring."""

    def __init__(
        self,
        device: torch.device,
        layout: StoreLayout,
        batch_size: int,
        spec: Spec,
        volume: Volume,
        head: Head,
        applies: Applies = "changed",
    ) -> None:
        self.device = device
        self.layout = layout
        self.head = head
        self.conditions = spec.conditions
        self.batch_sizes = [condition.batch_size or batch_size for condition in self.conditions]
        prepared = prepare(spec, volume, applies=applies)
        self.inputs, self.label, self.applicable, self.unchanged, self.stretched = prepared
        self.window = image_window(volume.label.shape, spec.data.preprocess.size)
        #: (sample, condition, true class, predicted class), inside the image only.
        self.confusion = np.zeros((*self.applicable.shape, layout.classes, layout.classes), dtype=np.int64)
        self.forward_passes = 0
        self._rounding = rounding(spec.store.mantissa_bits)

    def infer(
        self,
        first: int,
        images: Sequence[NDArray[Any]],
        activations: Sequence[Tensor],
        forward: Forward,
    ) -> Passes:
        """Fill ``images`` (inputs, label) and ``activations`` with samples ``first`` and following.

        Both are views of a ring's buffers, as `actstore.jobs.ring.Buffers.place` returns them. Does not wait for the
        device: `read` takes the results once they are on the host.
        """
        image, label, prediction = images
        samples = slice(first, first + len(image))
        dims = len(self.layout.space)
        _by_condition(image, dims)[...] = _grouped(self.inputs[samples], self.layout.image.chunk[0])
        label[...] = self.label[samples].reshape(label.shape)
        prediction[...] = 0
        self._blank(activations, samples)
        passes = Passes(first, prediction)
        with torch.inference_mode():
            for segments in batches(self.applicable[samples], self.batch_sizes):
                batch = np.concatenate([self.inputs[first + r.start : first + r.stop, r.condition] for r in segments])
                output = forward(self._to_device(batch), partial(self.record, activations, segments, passes))
                logits = self.head.logits(output)
                self.forward_passes += 1
                passes.segments.append(segments)
                passes.results += [logits.isnan().flatten(1).any(1), self.head.classes(logits)]
        passes.results += passes.largest.values()
        return passes

    def read(self, passes: Passes, results: Sequence[Tensor]) -> None:
        """Check the results of ``passes``, fill in predictions and count them.

        Parameters
        ----------
        results
            ``passes.results`` in host memory.

        Raises
        ------
        ModelError
            if the network returned NaN, or a layer does not fit float16.
        """
        predicted = _by_condition(passes.prediction, len(self.layout.space))
        for i, segments in enumerate(passes.segments):
            self._check_output(results[2 * i], segments, passes.first)
            self._predict(predicted, segments, passes.first, results[2 * i + 1].numpy())
        for layer, largest in zip(passes.largest, results[2 * len(passes.segments) :], strict=True):
            self._check_range(layer, float(largest))

    def _to_device(self, batch: NDArray[np.float32]) -> Tensor:
        inputs = torch.from_numpy(batch).unsqueeze(1)
        return inputs.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else inputs

    def _predict(
        self, predicted: NDArray[Any], segments: Sequence[Segment], first: int, classes: NDArray[np.uint8]
    ) -> None:
        chunk = self.layout.prediction.chunk[0]
        for segment in segments:
            group, within = divmod(segment.condition, chunk)
            found = classes[segment.offset : segment.offset + segment.stop - segment.start]
            predicted[segment.start : segment.stop, group, within] = found
            for i, sample in enumerate(range(first + segment.start, first + segment.stop)):
                self.confusion[sample, segment.condition] = self._confusion(self.label[sample], found[i])

    def _blank(self, activations: Sequence[Tensor], samples: slice) -> None:
        for sample, condition in np.argwhere(~self.applicable[samples]):
            for destination in activations:
                chunk = destination.shape[2]
                destination[sample, condition // chunk, condition % chunk] = torch.nan

    def record(
        self, activations: Sequence[Tensor], segments: Sequence[Segment], passes: Passes, layer: int, output: Tensor
    ) -> None:
        """Copy a layer's output for the batch of ``segments`` to its place in the shard."""
        destination = activations[layer]
        batch = sum(segment.stop - segment.start for segment in segments)
        if len(output) != batch:
            found = self.layout.layers[layer]
            raise ModelError(
                f"layer {found.name} ({found.label}) returns {len(output)} samples for a batch of {batch}: "
                "leave it out of model.layers, or use run.batch_size = 1"
            )
        chunk = destination.shape[2]
        channel_groups, channels = destination.shape[3:5]
        output = self._rounding(output)
        if destination.dtype == torch.float16:
            largest = output.abs().nan_to_num(nan=0.0, posinf=torch.inf).amax()
            before = passes.largest.get(layer)
            passes.largest[layer] = largest if before is None else torch.maximum(before, largest)
        for segment in segments:
            group, within = divmod(segment.condition, chunk)
            part = output[segment.offset : segment.offset + segment.stop - segment.start]
            destination[segment.start : segment.stop, group, within].copy_(
                part.reshape(len(part), channel_groups, channels, *part.shape[2:])
            )

    def _check_range(self, layer: int, largest: float) -> None:
        if largest > HALF_RANGE:
            raise ModelError(
                f"layer {self.layout.layers[layer].name} reaches {largest:g}, float16 ends at {HALF_RANGE:g}: "
                "use store.dtype = 'float32'"
            )

    def _check_output(self, broken: Tensor, segments: Sequence[Segment], first: int) -> None:
        for segment in segments:
            bad = broken[segment.offset : segment.offset + segment.stop - segment.start].nonzero()
            if len(bad):
                raise ModelError(
                    f"the network returns NaN for slice {first + segment.start + int(bad[0])} under "
                    f"{self.conditions[segment.condition].name}: correct the network, its weights or data.preprocess"
                )

    def _confusion(self, label: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
        classes = self.layout.classes
        pairs = label[self.window].astype(np.intp).ravel() * classes + predicted[self.window].ravel()
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def rounding(bits: int | None) -> Callable[[Tensor], Tensor]:
    """A function that rounds float32 to ``bits`` of mantissa, to even; identity if ``bits`` is ``None``.

    As the bit rounding of numcodecs (Klöwer et al. 2021, doi:10.1038/s43588-021-00156-2). Values that are not finite,
    or would not be after rounding, are left alone.
    """
    if bits is None:
        return lambda values: values
    dropped = MANTISSA_BITS["float32"] - bits
    half, mask = (1 << (dropped - 1)) - 1, -(1 << dropped)

    def rounded(values: Tensor) -> Tensor:
        values = values.float()
        raw = values.view(torch.int32)
        result = ((raw + ((raw >> dropped) & 1) + half) & mask).view(torch.float32)
        return torch.where(values.isfinite() & result.isfinite(), result, values)

    return rounded


@dataclass(frozen=True)
class Segment:
    """Consecutive samples of one condition inside one forward batch."""

    condition: int
    start: int
    stop: int
    #: Where the segment begins in the batch.
    offset: int


@dataclass
class Passes:
    """Results of the forward passes over some samples, on the network's device."""

    first: int
    #: Destination of predictions: a shard view as `actstore.jobs.ring.Buffers.place` returns it.
    prediction: NDArray[Any]
    segments: list[list[Segment]] = field(default_factory=list)
    #: Largest magnitude of each layer, if it is stored as float16.
    largest: dict[int, Tensor] = field(default_factory=dict)
    #: For every pass: which inputs gave NaN, and the class of each pixel; then the values of ``largest``.
    results: list[Tensor] = field(default_factory=list)


def batches(applicable: NDArray[np.bool_], sizes: Sequence[int]) -> Iterator[list[Segment]]:
    """Cut the applicable (sample, condition) pairs into batches, condition by condition.

    ``sizes`` gives the largest batch for each condition; a batch mixes only conditions of equal size.
    """
    segments: list[Segment] = []
    filled = 0
    for condition, size in enumerate(sizes):
        if segments and size != sizes[segments[-1].condition]:
            yield segments
            segments, filled = [], 0
        position = 0
        wanted = np.flatnonzero(applicable[:, condition])
        while position < len(wanted):
            start = int(wanted[position])
            length = 1
            while (
                position + length < len(wanted)
                and wanted[position + length] == start + length
                and filled + length < size
            ):
                length += 1
            segments.append(Segment(condition, start, start + length, filled))
            filled += length
            position += length
            if filled == size:
                yield segments
                segments, filled = [], 0
    if segments:
        yield segments


def _grouped(values: NDArray[Any], chunk: int) -> NDArray[Any]:
    """(sample, condition, …) as (sample, condition group, condition in group, …)."""
    return values.reshape(len(values), -1, chunk, *values.shape[2:])


def _by_condition(view: NDArray[Any], dims: int) -> NDArray[Any]:
    """A shard view of (sample, condition[, input_channel], \\*space) as (sample, condition group, condition in group,
    \\*space). Space has ``dims`` axes and is never split; there is one input channel."""
    n = (view.ndim - 1) // 2
    return view.squeeze(axis=(*range(2, 1 + n), *range(n + 2, view.ndim - dims)))
