"""Slices and volumes made from the ICBM 152 template, clean and with lesions.

Every clean image has its own deformation, tissue contrast and bias field, all drawn from its seed. Lesions and noise
are drawn when images are asked for, so that each epoch of training sees others. Intensities lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, zoom

Kind = Literal["gaussian", "square"]
Part = Literal["train", "validation", "test"]
Array = NDArray[np.float32]

#: Pixels of 1 mm of a slice: left to right, posterior to anterior.
SLICE = (144, 192)
#: Voxels of 4 mm of a volume: the brain takes 36 × 46 × 39 of them.
VOLUME = (40, 48, 40)
#: Where the template's brain lies: x, y, z of its corner and its size in voxels of 1 mm.
CORNER, EXTENT = (26, 21, 0), (144, 192, 160)

#: Planes of the template that slices come from, in blocks, each used by one part only.
PLANES = range(30, 126)
BLOCK = 8
#: Planes at a block's end that nothing uses, so that parts are never neighbours.
GAP = 2
PATTERN: tuple[Part, ...] = ("train", "train", "validation", "train", "train", "test")
#: Seeds of clean images: of each part from here on.
FIRST_SEED: dict[Part, int] = {"train": 0, "validation": 1_000_000, "test": 3_000_000}

#: Side of a square in pixels, and full width at half maximum of a Gaussian: of a slice, of a volume.
LESION_SIZES = {2: (8, 14), 3: (5, 9)}
AMPLITUDE = (0.5, 0.7)
#: Intensities of cerebrospinal fluid, grey and white matter.
TISSUE = ((0.1, 0.25), (0.3, 0.4), (0.45, 0.55))
NOISE = 0.03


@dataclass(frozen=True)
class Lesion:
    """A bright lesion: a Gaussian blob, or a square (in 3D a cube) with sides along the axes."""

    kind: Kind
    #: ([z,] y, x) of its centre, in pixels.
    centre: tuple[int, ...]
    #: Side, or full width at half maximum, in pixels.
    size: int
    amplitude: float

    def profile(self, shape: Sequence[int]) -> Array:
        """([z,] y, x) float32 in [0, 1]: the lesion without its amplitude."""
        axes = [np.arange(n, dtype=np.float32) - c for n, c in zip(shape, self.centre, strict=True)]
        if self.kind == "gaussian":
            sigma = self.size / (2 * np.sqrt(2 * np.log(2)))
            lines = [np.exp(-0.5 * (axis / sigma) ** 2) for axis in axes]
        else:
            first = -(self.size // 2)
            lines = [((axis >= first) & (axis < first + self.size)).astype(np.float32) for axis in axes]
        product = lines[0]
        for line in lines[1:]:
            product = product[..., None] * line
        return np.asarray(product, np.float32)


@dataclass(frozen=True)
class Clean:
    """Images without lesions and without noise."""

    #: (image, [z,] y, x) float32
    tissue: Array
    #: (image, [z,] y, x) float32: a factor about 1.
    bias: Array
    #: (image, [z,] y, x): where lesions may have their centre.
    brain: NDArray[np.bool_]
    #: (image)
    seeds: tuple[int, ...]
    #: (image): the template's plane; -1 for volumes.
    planes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tissue)


@cache
def template() -> Array:
    """Probabilities of cerebrospinal fluid, grey and white matter: (tissue, x, y, z) float32, voxels of 1 mm."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    box = tuple(slice(first, first + n) for first, n in zip(CORNER, EXTENT, strict=True))
    t1, gm, wm = (
        np.asarray(load(resolution=1).dataobj, np.float32)[box]
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    gm, wm = gm / max(1.0, gm.max()), wm / max(1.0, wm.max())
    csf = np.where(t1 > 0, np.clip(1 - gm - wm, 0, 1), 0)
    return np.stack([csf, gm, wm]).astype(np.float32)


def planes_of(part: Part) -> tuple[int, ...]:
    """Planes of the template that slices of ``part`` come from."""
    blocks = [PLANES[i : i + BLOCK] for i in range(0, len(PLANES), BLOCK)]
    return tuple(z for i, block in enumerate(blocks) if PATTERN[i % len(PATTERN)] == part for z in block[:-GAP])


def clean_slices(part: Part, count: int, *, step: int = 1) -> Clean:
    """``count`` slices of a part: its planes in turn, each slice with a seed of its own.

    ``step`` > 1 keeps every so many pixels only: for tests.
    """
    planes = planes_of(part)
    chosen = [planes[i % len(planes)] for i in range(count)]
    seeds = range(FIRST_SEED[part], FIRST_SEED[part] + count)
    sources = (template()[:, ::step, ::step, z] for z in chosen)
    return _clean(sources, seeds, chosen)


def clean_volumes(part: Part, count: int, *, step: int = 4) -> Clean:
    """``count`` volumes, in voxels of ``step`` mm: held out by the seed of their deformation alone."""
    coarse = _coarse(step)
    seeds = range(FIRST_SEED[part], FIRST_SEED[part] + count)
    return _clean((coarse for _ in seeds), seeds, [-1] * count)


@cache
def _coarse(step: int) -> Array:
    """The template in cubes of ``step`` voxels, with a margin of air."""
    whole = template()
    blocks = [n // step for n in whole.shape[1:]]
    cut = whole[:, : blocks[0] * step, : blocks[1] * step, : blocks[2] * step]
    shape = (3, *(n for block in blocks for n in (block, step)))
    means = cut.reshape(shape).mean((2, 4, 6))
    wanted = [max(n, round(4 * size / step)) for n, size in zip(blocks, VOLUME, strict=True)]
    margins = [((w - n) // 2, w - n - (w - n) // 2) for n, w in zip(blocks, wanted, strict=True)]
    return np.pad(means, [(0, 0), *margins])


def _clean(sources: Iterator[Array], seeds: Sequence[int], planes: Sequence[int]) -> Clean:
    made = [_deformed(source, np.random.default_rng(seed)) for source, seed in zip(sources, seeds, strict=True)]
    tissue, bias, brain = (np.stack(parts) for parts in zip(*made, strict=True))
    return Clean(tissue, bias, brain, tuple(seeds), tuple(planes))


def _deformed(tissues: Array, rng: np.random.Generator) -> tuple[Array, Array, NDArray[np.bool_]]:
    """An image of (tissue, \\*size) probabilities, its bias field, and where the brain is."""
    size = tissues.shape[1:]
    dims = len(size)
    middle = (np.array(size) - 1) / 2
    matrix = np.eye(dims) * rng.uniform(0.98, 1.14, dims) + rng.normal(0, 0.04, (dims, dims))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij")).reshape(dims, -1)
    places = matrix @ (grid - middle[:, None]) + middle[:, None] + rng.normal(0, 1, (dims, 1))
    # Displacements of up to some 3 % of the longest side.
    bend = np.stack([smooth(rng, size, 5) for _ in range(dims)]).reshape(dims, -1)
    places += 0.015 * max(size) * bend
    moved = np.stack([map_coordinates(tissue, places, order=1).reshape(size) for tissue in tissues])
    contrast = [rng.uniform(*span) for span in TISSUE]
    tissue = np.tensordot(contrast, moved, 1)
    bias = 1 + 0.06 * smooth(rng, size, 3)
    return tissue.astype(np.float32), bias.astype(np.float32), moved.sum(0) > 0.5


def smooth(rng: np.random.Generator, size: Sequence[int], knots: int) -> NDArray[np.float64]:
    """A smooth random field with values of about 1, from ``knots`` along each axis."""
    coarse = rng.normal(0, 1, (knots,) * len(size))
    return np.asarray(zoom(coarse, [n / knots for n in size], order=3, grid_mode=True, mode="nearest"))


def draw_lesion(kind: Kind, brain: NDArray[np.bool_], rng: np.random.Generator, sizes: tuple[int, int]) -> Lesion:
    """A lesion with its centre in the brain."""
    while True:
        centre = tuple(int(rng.integers(n)) for n in brain.shape)
        if brain[centre]:
            return Lesion(kind, centre, int(rng.integers(sizes[0], sizes[1] + 1)), float(rng.uniform(*AMPLITUDE)))


def with_lesions(
    clean: Clean,
    chosen: Sequence[int],
    kind: Kind,
    rng: np.random.Generator,
    sizes: tuple[int, int] | None = None,
) -> tuple[Array, NDArray[np.int64], list[Lesion | None]]:
    """Images (image, 1, [z,] y, x) float32 in [0, 1] of ``chosen``, half of them with a lesion; labels; the lesions."""
    diseased = np.zeros(len(chosen), bool)
    diseased[rng.permutation(len(chosen))[: len(chosen) // 2]] = True
    shape = clean.tissue.shape[1:]
    images = np.empty((len(chosen), 1, *shape), np.float32)
    lesions: list[Lesion | None] = []
    for row, (index, ill) in enumerate(zip(chosen, diseased, strict=True)):
        image = clean.tissue[index]
        lesion = draw_lesion(kind, clean.brain[index], rng, sizes or LESION_SIZES[len(shape)]) if ill else None
        if lesion is not None:
            image = image + lesion.amplitude * lesion.profile(shape)
        noise = NOISE * rng.standard_normal(shape, np.float32)
        images[row, 0] = np.clip(image * clean.bias[index] + noise, 0, 1)
        lesions.append(lesion)
    return images, diseased.astype(np.int64), lesions
