"""A network with known channel responses, and images whose first row controls them.

Of the channels of its only layer, 0 responds only to LV, 1 to any brightness, 2 to any brightness in one patient only,
and 3 makes the network lose LV: it predicts LV only where 3 is 0. The others respond to any brightness with a random
gain per slice. The first row of the image, outside the body, holds the parameters of each slice as intensities relative
to the slice's maximum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIZE, PATIENTS, SLICES = 48, 12, 6
CLASS, ANY, ONE_PATIENT, CAUSE = range(4)
CHANNELS = 8
#: The patient in which channel 2 responds.
ALONE = "patient007"
LV, RV, TWIN = (14, 14), (34, 16), (24, 34)
#: Half the width of the square that holds only LV.
ZONE = 8
#: Fractions of a slice's maximum: darkest and brightest LV, and the range of thresholds below which LV is lost.
DARK, BRIGHT, LOST = 0.18, 0.6, (0.10, 0.17)
#: Largest intensity in the first row.
SCALE = 0.2


class Planted(nn.Module):
    """(batch, 1, y, x) in [0, 1] to (batch, class, y, x), by one layer of eight channels."""

    def __init__(self) -> None:
        super().__init__()
        zone = torch.zeros(2, SIZE, SIZE)
        for mask, (y, x) in zip(zone, (LV, RV), strict=True):
            mask[y - ZONE : y + ZONE, x - ZONE : x + ZONE] = 1
        self.register_buffer("zone", zone)
        self.features = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        x, row = image[:, 0], image[:, 0, 0] / SCALE
        low, high = LOST
        threshold = (low + (high - low) * row[:, 0])[:, None, None]
        lv, rv = self.zone
        alone = (row[:, 1] > 0.5).float()[:, None, None]
        others = [0.4 * row[:, k, None, None] * x for k in range(4, CHANNELS)]
        cause = torch.relu(threshold - x) * lv
        found: Tensor = self.features(torch.stack([1.5 * x * lv, x, 3 * x * alone, cause, *others], dim=1))
        is_lv, is_rv = lv * (found[:, CAUSE] == 0), rv * (x > 0.3)
        return torch.stack([torch.full_like(x, 0.5), is_rv, torch.zeros_like(x), is_lv], dim=1)


def disc(centre: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    y, x = np.ogrid[:SIZE, :SIZE]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def cavity(centre: tuple[int, int], radius: float) -> NDArray[np.float64]:
    """Bright in the middle and darker towards the edge, as a share of the slice's maximum."""
    y, x = np.ogrid[:SIZE, :SIZE]
    inward = np.clip(1 - np.hypot(y - centre[0], x - centre[1]) / (radius + 1), 0, 1)
    return DARK + (BRIGHT - DARK) * inward


def slice_of(rng: np.random.Generator, alone: bool) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """One image in fractions of its maximum, and its labels.

    The twin of LV, the place of its control, is at least as bright, so that it contains a place with LV's mean. One
    slice in four has no bright bar, so that its maximum lies in the twin.
    """
    image = np.where(disc((24, 24), 22), rng.uniform(0.06, 0.08, (SIZE, SIZE)), 0.0)
    image[LV[0] - ZONE : LV[0] + ZONE, LV[1] - ZONE : LV[1] + ZONE] = 0.05
    label = np.zeros((SIZE, SIZE), dtype=np.uint8)
    radius = rng.uniform(5, 6.5)
    for centre, name, factor in ((LV, 3, 1.0), (TWIN, 0, rng.uniform(1.0, 1.2)), (RV, 1, 1.0)):
        seen = disc(centre, radius)
        image[seen] = np.clip(cavity(centre, radius)[seen] * factor, DARK, None)
        # Imitate an outline drawn by hand, which misses the edge of the cavity slightly.
        label[disc(centre, radius - rng.uniform(0, 1)) & (name > 0)] = name
    if rng.random() < 0.75:
        image[44:46, 20:28] = 1.0
    maximum = image.max()
    image[0, 0] = SCALE * maximum * rng.random()
    image[0, 1] = SCALE * maximum * alone
    image[0, 4:CHANNELS] = SCALE * maximum * rng.random(CHANNELS - 4)
    return image, label


def write_world(root: Path, seed: int = 0) -> None:
    """Two volumes of each patient in ACDC's layout."""
    rng, nifti = np.random.default_rng(seed), nibabel
    for p in range(PATIENTS):
        patient = f"patient{p + 1:03d}"
        folder = root / patient
        folder.mkdir(parents=True)
        for frame in (1, 9):
            pairs = [slice_of(rng, patient == ALONE) for _ in range(SLICES)]
            image, label = (np.stack(side) for side in zip(*pairs, strict=True))
            for name, values in (("", (300 * image).astype(np.float32)), ("_gt", label)):
                made: Any = nifti.Nifti1Image(values.transpose(1, 2, 0), np.diag([-1.5, -1.5, 8.0, 1.0]))  # type: ignore[no-untyped-call]
                nifti.save(made, folder / f"{patient}_frame{frame:02d}{name}.nii.gz")  # type: ignore[attr-defined]
