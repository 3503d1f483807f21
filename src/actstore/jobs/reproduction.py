"""Refuses a network that no longer predicts what the store holds, since what it gives would be of another run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.analysis.patches import owned_boxes
from actstore.errors import BlockError
from actstore.inputs.adapters import pipeline_of
from actstore.inputs.windows import Stitched, Windows
from actstore.jobs.of_run import OfRun, Opened
from actstore.jobs.reading import inputs_of, read
from actstore.store.store import Store

#: Share of pixels that may be predicted otherwise, as where two classes are equal but for the last bits of a device.
SHARE = 1e-4


def require_reproduced(of: OfRun, opened: Opened, store: Store, samples: NDArray[np.int64], volume: str) -> None:
    """Compare new predictions of the originals of one volume's ``samples`` with those of the store.

    Raises
    ------
    BlockError
        if more than `SHARE` of the pixels are of another class.
    """
    stored = store.prediction.isel(sample=samples, condition=0)
    boxes = owned_boxes(stored, of.spec.spatial_dims)
    depth, height, width = store.samples.loc[samples[0], ["depth", "height", "width"]].astype(int)
    windows = pipeline_of(of.spec).windows((depth, height, width))
    logits = _logits(of, opened, store, samples)
    found = _stitched(of, windows, logits) if windows.overlap else _single(of, logits)
    differing = pixels = 0
    for own, old, new in zip(boxes, read(stored), found, strict=True):
        box = tuple(slice(start, stop) for start, stop in own)
        # A classifier's class is that of every pixel.
        differing += int((old[box] != (new[box] if new.ndim else new)).sum())
        pixels += old[box].size
    if differing > SHARE * pixels:
        raise BlockError(
            volume,
            f"{differing} of {pixels} pixels are predicted otherwise than when the run was captured: compute on the "
            "same device and with the same versions, or capture again",
        )


def _single(of: OfRun, logits: Iterable[Tensor]) -> NDArray[np.uint8]:
    """Class of each pixel of each sample."""
    return np.concatenate([of.head.classes(some).cpu().numpy() for some in logits])


def _stitched(of: OfRun, windows: Windows, logits: Iterable[Tensor]) -> NDArray[np.uint8]:
    """As `_single`, of the mean over overlapping patches."""
    whole = Stitched(windows, of.head.channels)
    for patch, one in enumerate(chain.from_iterable(some.float().cpu().numpy() for some in logits)):
        whole.add(patch, one.reshape(len(one), *windows.size))
    classes = of.head.classes(torch.from_numpy(whole.logits)[None])[0].numpy()
    return np.stack([windows.cut(classes, patch).reshape(of.layout.space) for patch in range(len(windows))])


@torch.inference_mode()
def _logits(of: OfRun, opened: Opened, store: Store, samples: NDArray[np.int64]) -> Iterator[Tensor]:
    """Of the originals, (element, channel, \\*space), batch by batch."""
    for first in range(0, len(samples), of.batch_size):
        images = inputs_of(store, samples[first : first + of.batch_size], 0)
        yield of.head.logits(opened.model(torch.from_numpy(images).to(opened.device)))
