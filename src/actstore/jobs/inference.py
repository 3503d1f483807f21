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

from actstore.errors import ModelError
from actstore.inputs.images import Inputs
from actstore.inputs.prepare import Prepared
from actstore.jobs.originals import Originals
from actstore.jobs.predictions import predictions_of
from actstore.jobs.scores import Scores
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
        self, device: torch.device, layout: StoreLayout, batch_size: int, spec: Spec, prepared: Inputs, head: Head
    ) -> None:
        self.device = device
        self.layout = layout
        self.conditions = spec.conditions
        self.batch_sizes = [condition.batch_size or batch_size for condition in self.conditions]
        self.prepared = prepared
        #: What counts pixels by their scores; ``None`` in a store without histograms.
        self.scores: Scores | None = None
        if layout.scored and isinstance(prepared, Prepared):
            on_host = device.type == "cpu"
            self.scores = Scores(prepared, head, spec.labels, stitched=layout.stitched, on_host=on_host)
        self.predictions = predictions_of(prepared, head, layout.classes, stitched=layout.stitched, scores=self.scores)
        #: Inputs that the network has to see: where overlapping patches are averaged, also those that are not recorded.
        self.needed = prepared.applicable
        if isinstance(prepared, Prepared) and self.predictions.stitched:
            self.needed = prepared.applicable | ~prepared.same
        self.forward_passes = 0
        self._head = head
        self._rounding = rounding(spec.store.mantissa_bits)

    def infer(
        self,
        first: int,
        images: Sequence[NDArray[Any]],
        activations: Sequence[Tensor | Originals],
        forward: Forward,
    ) -> Passes:
        """Fill ``images`` (inputs, label and, unless patches are averaged, prediction) and ``activations`` with samples
        ``first`` and following.

        Both are views of a ring's buffers, as `actstore.jobs.ring.Buffers.place` returns them. Does not wait for the
        device: `read` takes the results once they are on the host.
        """
        image, *of_pixels = images
        count = len(image)
        samples = slice(first, first + count)
        inputs = self.prepared.images(samples, self.needed)
        applicable = self.prepared.applicable[samples]
        _fill(image, inputs, applicable, len(self.layout.space))
        if isinstance(self.prepared, Prepared):
            of_pixels[0][...] = self.prepared.label[samples].reshape(of_pixels[0].shape)
        prediction = of_pixels[1] if len(of_pixels) > 1 else None
        if prediction is not None:
            prediction[...] = 0
        self._blank(activations, applicable)
        passes = Passes(first, prediction)
        with torch.inference_mode():
            for segments in batches(self.needed[samples], self.batch_sizes, applicable):
                batch = np.concatenate([inputs[r.start : r.stop, r.condition] for r in segments])
                output = forward(self._to_device(batch), partial(self.record, activations, segments, passes))
                self.forward_passes += 1
                logits = self._head.logits(output)
                passes.segments.append(segments)
                if self.scores is not None and self.scores.at_once:
                    passes.results += self.scores.count(logits, passes.cells(segments))
                    continue
                passes.results += [logits.isnan().flatten(1).any(1), self.predictions.sent(logits)]
                if self.scores is not None:
                    passes.scores += self.scores.sent(logits, passes.cells(segments))
        passes.results += [*passes.largest.values(), *passes.scores]
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
        found: dict[tuple[int, int], NDArray[Any]] = {}
        for i, segments in enumerate(passes.segments):
            self._check_output(results[2 * i], segments, passes.first)
            values = results[2 * i + 1].numpy()
            for segment in segments:
                for at in range(segment.stop - segment.start):
                    found[passes.first + segment.start + at, segment.condition] = values[segment.offset + at]
        self.predictions.add(found)
        if self.scores is not None and passes.scores:
            for segments, counted in zip(passes.segments, results[-len(passes.scores) :], strict=True):
                for cell, values in zip(passes.cells(segments), counted.numpy(), strict=True):
                    self.scores.add(cell, values)
        if passes.prediction is not None:
            view = _by_condition(passes.prediction, len(self.layout.space))
            for (sample, condition), classes in found.items():
                view[(sample - passes.first, *divmod(condition, view.shape[2]))] = classes
        for layer, largest in zip(passes.largest, results[2 * len(passes.segments) :], strict=False):
            self._check_range(layer, float(largest))

    def _to_device(self, batch: NDArray[np.float32]) -> Tensor:
        inputs = torch.from_numpy(batch)
        return inputs.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else inputs

    def _blank(self, activations: Sequence[Tensor | Originals], applicable: NDArray[np.bool_]) -> None:
        for sample, condition in np.argwhere(~applicable):
            for destination in activations:
                if isinstance(destination, Tensor):
                    chunk = destination.shape[2]
                    destination[sample, condition // chunk, condition % chunk] = torch.nan

    def record(
        self,
        activations: Sequence[Tensor | Originals],
        segments: Sequence[Segment],
        passes: Passes,
        layer: int,
        output: Tensor,
    ) -> None:
        """Copy a layer's output for the batch of ``segments`` to its place in the shard, or reduce it to statistics."""
        destination = activations[layer]
        batch = sum(segment.stop - segment.start for segment in segments)
        if len(output) != batch:
            found = self.layout.layers[layer]
            raise ModelError(
                f"layer {found.name} ({found.label}) returns {len(output)} samples for a batch of {batch}: "
                "leave it out of model.layers, or use run.batch_size = 1"
            )
        output = self._rounding(output)
        if self.layout.dtype == "float16":
            largest = output.abs().nan_to_num(nan=0.0, posinf=torch.inf).amax()
            before = passes.largest.get(layer)
            passes.largest[layer] = largest if before is None else torch.maximum(before, largest)
        for segment in segments:
            if not segment.recorded:
                continue
            part = output[segment.offset : segment.offset + segment.stop - segment.start]
            if isinstance(destination, Originals):
                destination.reduce(segment.condition, segment.start, part)
                continue
            channel_groups, channels = destination.shape[3:5]
            group, within = divmod(segment.condition, destination.shape[2])
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
                    f"the network returns NaN for {self.prepared.name_of(first + segment.start + int(bad[0]))} under "
                    f"{self.conditions[segment.condition].name}: correct the network, its weights or data.preprocess"
                )


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
    #: Whether its activations are stored; if not, only the prediction is needed.
    recorded: bool = True


@dataclass
class Passes:
    """Results of the forward passes over some samples, on the network's device."""

    first: int
    #: Destination of predictions: a shard view as `actstore.jobs.ring.Buffers.place` returns it. ``None`` where patches
    #: are averaged, so that predictions are known only at the end.
    prediction: NDArray[Any] | None
    segments: list[list[Segment]] = field(default_factory=list)
    #: Largest magnitude of each layer, if it is stored as float16.
    largest: dict[int, Tensor] = field(default_factory=dict)
    #: For every pass, counts of its scores that are on their way from the device; none where the host computes.
    scores: list[Tensor] = field(default_factory=list)
    #: For every pass: which inputs gave NaN, and what the predictions are made of; then the values of ``largest``, then
    #: ``scores``.
    results: list[Tensor] = field(default_factory=list)

    def cells(self, segments: Sequence[Segment]) -> list[tuple[int, int]]:
        """(sample, condition) of each input of the batch of ``segments``."""
        return [(self.first + i, part.condition) for part in segments for i in range(part.start, part.stop)]


def batches(
    needed: NDArray[np.bool_], sizes: Sequence[int], recorded: NDArray[np.bool_] | None = None
) -> Iterator[list[Segment]]:
    """Cut the needed (sample, condition) pairs into batches, condition by condition.

    ``sizes`` gives the largest batch for each condition; a batch mixes only conditions of equal size. ``recorded`` says
    which pairs are stored, by default all.
    """
    recorded = needed if recorded is None else recorded
    segments: list[Segment] = []
    filled = 0
    for condition, size in enumerate(sizes):
        if segments and size != sizes[segments[-1].condition]:
            yield segments
            segments, filled = [], 0
        position = 0
        wanted = np.flatnonzero(needed[:, condition])
        stored = recorded[wanted, condition]
        while position < len(wanted):
            start = int(wanted[position])
            length = 1
            while (
                position + length < len(wanted)
                and wanted[position + length] == start + length
                and stored[position + length] == stored[position]
                and filled + length < size
            ):
                length += 1
            segments.append(Segment(condition, start, start + length, filled, bool(stored[position])))
            filled += length
            position += length
            if filled == size:
                yield segments
                segments, filled = [], 0
    if segments:
        yield segments


def _fill(image: NDArray[Any], inputs: NDArray[np.float32], applicable: NDArray[np.bool_], dims: int) -> None:
    """Write inputs (sample, condition, channel, \\*space) to a shard view, NaN where not applicable."""
    groups, channels = image.shape[1:3]
    # Space is one chunk, and so is an input channel: (sample, group of conditions, channel, condition, *space).
    view = image.squeeze(axis=(*range(3, 3 + dims), 4 + dims))
    wanted = np.where(applicable.reshape(*applicable.shape, *[1] * (dims + 1)), inputs, np.float32(np.nan))
    view[...] = wanted.reshape(len(inputs), groups, -1, channels, *inputs.shape[3:]).swapaxes(2, 3)


def _by_condition(view: NDArray[Any], dims: int) -> NDArray[Any]:
    """A shard view of (sample, condition, \\*space) as (sample, condition group, condition in group, \\*space).

    Space has ``dims`` axes and is never split.
    """
    return view.squeeze(axis=tuple(range(2, 2 + dims)))
