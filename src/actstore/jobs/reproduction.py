"""Whether a network still predicts what a store holds: else what it is asked now is about another network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.analysis.patches import owned_boxes
from actstore.errors import BlockError
from actstore.inputs.adapters import pipeline_of
from actstore.inputs.windows import Stitched
from actstore.jobs.explaining import Explaining, Opened
from actstore.store.store import Store

#: Share of pixels that may be predicted otherwise, as where two classes are equal but for the last bits of a device.
SHARE = 1e-4


def require_reproduced(of: Explaining, opened: Opened, store: Store, samples: NDArray[np.int64], volume: str) -> None:
    """Compare new predictions of the originals of one volume's ``samples`` with those of the store.

    Raises
    ------
    BlockError
        if more than `SHARE` of the pixels are of another class.
    """
    stored = store.prediction.isel(sample=samples, condition=0)
    boxes = owned_boxes(stored, of.spec.spatial_dims)
    found = _stitched(of, opened, store, samples) if of.layout.stitched else _single(of, opened, store, samples)
    differing = pixels = 0
    for own, old, new in zip(boxes, stored.values, found, strict=True):
        box = tuple(slice(start, stop) for start, stop in own)
        differing += int((old[box] != new[box]).sum())
        pixels += old[box].size
    if differing > SHARE * pixels:
        raise BlockError(
            volume,
            f"{differing} of {pixels} pixels are predicted otherwise than when the run was captured: explain it on the "
            "same device and with the same versions, or capture again",
        )


@torch.inference_mode()
def _single(of: Explaining, opened: Opened, store: Store, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Class of each pixel of each sample."""
    return np.concatenate([of.head.classes(logits).cpu().numpy() for logits in _logits(of, opened, store, samples)])


@torch.inference_mode()
def _stitched(of: Explaining, opened: Opened, store: Store, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
    """As `_single`, of the mean over overlapping patches."""
    depth, height, width = store.samples.loc[samples[0], ["depth", "height", "width"]].astype(int)
    windows = pipeline_of(of.spec).windows((depth, height, width))
    whole = Stitched(windows, of.head.channels)
    patch = 0
    for logits in _logits(of, opened, store, samples):
        for one in logits.float().cpu().numpy():
            whole.add(patch, one.reshape(len(one), *windows.size))
            patch += 1
    classes = of.head.classes(torch.from_numpy(whole.logits)[None])[0].numpy()
    space = of.layout.space
    return np.stack([windows.cut(classes, patch).reshape(space) for patch in range(len(windows))])


def _logits(of: Explaining, opened: Opened, store: Store, samples: NDArray[np.int64]) -> list[Tensor]:
    found = []
    for first in range(0, len(samples), of.batch_size):
        images = store.image.isel(sample=samples[first : first + of.batch_size], condition=0).values
        found.append(of.head.logits(opened.model(torch.from_numpy(images).to(opened.device))))
    return found
