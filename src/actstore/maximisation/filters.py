"""Filters of the image itself, between steps of the optimiser; no gradient flows through them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

#: Of the switching bilateral filter: pixels on either side of the one in the middle of its window.
RADIUS = 2
#: Its numbers for images of 8 bits. From what difference between medians on there is an edge; the paper names 25 to 40.
EDGE = 35.0
#: From what difference to the reference median on a pixel is an impulse, and from what on it has Gaussian noise:
#: without and with an edge or texture in its window.
THRESHOLDS = ((25.0, 5.0), (30.0, 15.0))
#: Widths of the bilateral filter: in pixels without and with an edge or texture, and in intensities of 8 bits.
SIGMA_SPACE = (1.0, 3.0)
SIGMA_RANGE = 40.0


@dataclass(frozen=True)
class TotalVariation:
    """Denoise each image by total variation: scikit-image's ``denoise_tv_chambolle``, each input channel by itself.

    ``weight`` is in units of intensity: an image ten times as bright needs ten times the weight for the same effect.
    """

    weight: float
    numbers: int = 0

    def __call__(self, images: Tensor, uniform: Tensor) -> Tensor:
        from skimage.restoration import denoise_tv_chambolle

        # Each by itself: the algorithm stops by a mean over what it is given.
        smooth = [
            torch.from_numpy(denoise_tv_chambolle(image, weight=self.weight, channel_axis=0))
            for image in images.detach().cpu().numpy()
        ]
        return torch.stack(smooth).to(images)


@dataclass(frozen=True)
class SwitchingBilateral:
    """The switching bilateral filter of Lin, Tsai and Chiu (IEEE Transactions on Image Processing 19, 2010).

    A window of 5 × 5 pixels has four quadrants of 3 × 3 that share its middle row and column. Their medians in
    ascending order, SM1 to SM4, say what the window shows:

    - no edge (SM4 − SM1 below 35) or a weak one (SM3 − SM2 below 35): the pixel's reference is (SM2 + SM3) / 2;
    - a strong edge or texture: the reference is SM2 if the mean of four pixels along the edge lies with SM1 and SM2,
      or SM3 if with SM3 and SM4. The two quadrants below the gap say where the edge runs: along y, x or a diagonal.

    A pixel that differs from its reference by at least 25 is an impulse, by at least 5 noisy, else clean; by 30 and 15
    where there is an edge or texture. Clean ones stay. The others become a mean over the window, weighted by the
    distance in space and by the distance in intensity to the reference (impulse) or to the pixel itself (noise), both
    Gaussian. All intensities are on the scale of 8 bits here; they are multiplied by (highest − lowest) / 255.

    Definition and numbers are those that a public re-implementation documents
    (github.com/fachambe/ECE313_Project_ImageProcessing). Chosen by us where it leaves a choice: the threshold 35
    between 25 and 40; weak edges count as edges for thresholds and widths; on a diagonal, all four diagonal neighbours
    are averaged, since the medians do not say which diagonal goes through the pixel; a mean between SM2 and SM3 belongs
    to the nearer one; the border of the image is repeated outwards; each input channel is filtered by itself; without
    bounds, lowest and highest are those of the image in that channel.

    3D is our own extension: 5 × 5 × 5 voxels and eight octants of 3 × 3 × 3. The gap is the one between the fourth and
    the fifth median. An edge is a plane across one axis, in which the eight voxels at distances 1 and 2 along the other
    axes are averaged, or it is oblique, and the eight diagonal neighbours are averaged.

    Fewer than half of the quadrants or octants count as outvoted: a block loses the pixels at its corners, in 3D also
    those at its rims.
    """

    bounds: tuple[float, float] | None
    numbers: int = 0

    @torch.no_grad()
    def __call__(self, images: Tensor, uniform: Tensor) -> Tensor:
        # One map at a time: what is computed along the way is many times as large as the image.
        return torch.stack([torch.stack([self._filtered(map_) for map_ in image]) for image in images])

    def _filtered(self, image: Tensor) -> Tensor:
        """One input channel of one element ([z,] y, x)."""
        lowest, highest = self.bounds or (float(image.min()), float(image.max()))
        unit = (highest - lowest) / 255
        if unit <= torch.finfo(image.dtype).tiny:
            return image.clone()
        window = _Window(image)
        reference, edge = _reference(window, EDGE * unit)
        difference = (image - reference).abs()
        impulse, noise = (
            difference >= unit * torch.where(edge, with_edge, without)
            for without, with_edge in zip(*THRESHOLDS, strict=True)
        )
        about = torch.where(impulse, reference, image)
        squares = torch.where(edge, 2 * SIGMA_SPACE[1] ** 2, 2 * SIGMA_SPACE[0] ** 2).to(image)
        total, weights = torch.zeros_like(image), torch.zeros_like(image)
        for shift in product(range(-RADIUS, RADIUS + 1), repeat=image.ndim):
            value = window.at(shift)
            distance = sum(step**2 for step in shift) / squares + ((value - about) / (SIGMA_RANGE * unit)).square() / 2
            weight = (-distance).exp()
            total, weights = total + weight * value, weights + weight
        # Never 0 / 0: some pixel of the window is at most half an edge away from its reference.
        return torch.where(noise, total / weights, image)


class _Window:
    """What surrounds each pixel of an image ([z,] y, x) whose border is repeated outwards."""

    def __init__(self, image: Tensor) -> None:
        self.size = image.shape
        self.padded = pad(image[None, None], [RADIUS] * (2 * image.ndim), mode="replicate")[0, 0]

    def at(self, shift: tuple[int, ...]) -> Tensor:
        """For each pixel, the one that lies ``shift`` further."""
        return self.padded[
            tuple(slice(RADIUS + step, RADIUS + step + length) for step, length in zip(shift, self.size, strict=True))
        ]

    def medians(self) -> Tensor:
        """Of each quadrant or octant (quadrant, [z,] y, x), in the order of ``product`` of low and high sides."""
        blocks = self.padded
        for axis in range(len(self.size)):
            blocks = blocks.unfold(axis, RADIUS + 1, 1)
        middles = blocks.flatten(len(self.size)).median(-1).values
        corners = product((0, RADIUS), repeat=len(self.size))
        return torch.stack(
            [
                middles[tuple(slice(start, start + length) for start, length in zip(corner, self.size, strict=True))]
                for corner in corners
            ]
        )


def _reference(window: _Window, threshold: float) -> tuple[Tensor, Tensor]:
    """The reference of each pixel, and whether there is an edge or texture in its window."""
    medians = window.medians()
    ordered = medians.sort(0).values
    below, above = ordered[len(ordered) // 2 - 1], ordered[len(ordered) // 2]
    edge = ordered[-1] - ordered[0] >= threshold
    strong = above - below >= threshold
    along = _along(window, medians <= below)
    nearer = torch.where((along - below).abs() <= (along - above).abs(), below, above)
    return torch.where(strong, nearer, (below + above) / 2), edge


def _along(window: _Window, low: Tensor) -> Tensor:
    """The mean of neighbours along the edge between quadrants that are ``low`` and those that are not."""
    dims = len(window.size)
    steps = [step for step in range(-RADIUS, RADIUS + 1) if step]
    diagonal = [window.at(shift) for shift in product((-1, 1), repeat=dims)]
    result = torch.stack(diagonal).mean(0)
    sides = torch.tensor(list(product((False, True), repeat=dims)), device=low.device)
    for axis in range(dims):
        high = sides[:, axis].reshape(-1, *[1] * dims)
        across = (low == high).all(0) | (low != high).all(0)
        shifts = [
            tuple(step if other == along else 0 for other in range(dims))
            for along in range(dims)
            if along != axis
            for step in steps
        ]
        result = torch.where(across, torch.stack([window.at(shift) for shift in shifts]).mean(0), result)
    return result
