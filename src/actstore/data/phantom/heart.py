"""The phantom's ventricles, and the atria above them: signal and mask of one slice in one phase."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actstore.data.phantom.patient import Contrast, Heart, Patient
from actstore.data.phantom.shapes import Field, Grid, paint, smooth_field

RV, MYO, LV = 1, 2, 3

#: The whole heart lies within this distance of its centre, in mm.
_HALF_WINDOW: Final = 96.0
#: Depths within a slice, in units of its thickness; averaging over them gives through-plane partial volume.
_THROUGH_PLANE: Final = (-0.3, 0.0, 0.3)
#: Cavities thinner than this are not drawn, in mm.
_THINNEST: Final = 1.5
_RV_WALL: Final = 2.5
_ATRIAL_WALL: Final = 1.8
_ANGLES: Final = 721
_HARMONICS: Final = (2, 3, 4, 5, 7)


@dataclass(frozen=True)
class Shape:
    """A patient's individual outline of the heart, equal in both phases."""

    #: (harmonic, 2): cosine and sine amplitude of the endocardium's outline, relative to the radius.
    outline: NDArray[np.float64]
    #: Angle (radians), distance from the axis and size of each papillary muscle relative to the cavity.
    papillaries: NDArray[np.float64]
    #: Movement of the axis in mm per mm of depth, (x, y).
    drift: tuple[float, float]
    #: Direction of the right ventricle at its base and at its end, radians in (x, y).
    rv_direction: tuple[float, float]
    #: Fat around the heart lies where this field (row, column) is high.
    fat: Field


def draw_shape(patient: Patient, rng: np.random.Generator) -> Shape:
    """Draw the outline of ``patient``'s heart from ``rng``."""
    falling = 1.0 / np.sqrt(np.array(_HARMONICS, dtype=np.float64))[:, None]
    papillaries = np.stack(
        [
            np.radians(rng.uniform((15.0, 125.0), (65.0, 175.0))),
            rng.uniform(0.58, 0.72, 2),
            rng.uniform(0.14, 0.22, 2),
        ],
        axis=1,
    )
    return Shape(
        outline=0.035 * falling * rng.standard_normal((len(_HARMONICS), 2)),
        papillaries=papillaries,
        drift=(rng.uniform(-0.12, 0.12), rng.uniform(-0.10, 0.14)),
        rv_direction=(math.radians(rng.uniform(-75.0, -58.0)), math.radians(rng.uniform(-55.0, -35.0))),
        fat=smooth_field(rng, patient.matrix, 14),
    )


def paint_heart(
    patient: Patient, shape: Shape, heart: Heart, grid: Grid, image: Field, depth: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint the heart at ``depth`` mm over ``image`` (row, column) in place; return the mask (row, column), uint8.

    ``rng`` draws the texture of the blood only.
    """
    rows, columns = patient.matrix
    reach = math.ceil(_HALF_WINDOW / patient.pixel)
    row = round(rows / 2 + patient.offset[0] / patient.pixel)
    column = round(columns / 2 + patient.offset[1] / patient.pixel)
    window = (slice(max(row - reach, 0), row + reach), slice(max(column - reach, 0), column + reach))
    near = grid.window(*window)
    texture = smooth_field(rng, patient.matrix, 40)[window]
    under = image[window].copy()
    sections = [_Section(heart, shape, near, depth + part * patient.spacing) for part in _THROUGH_PLANE]
    painted = np.zeros_like(under)
    for section in sections:
        layer = under.copy()
        section.paint(layer, patient.contrast, texture, shape.fat[window])
        painted += layer
    image[window] = painted / len(sections)
    mask = np.zeros(patient.matrix, dtype=np.uint8)
    mask[window] = sections[_THROUGH_PLANE.index(0.0)].mask()
    return mask


class _Section:
    """Signed distances in mm to the heart's surfaces in one plane; ``None`` where the plane misses a chamber."""

    def __init__(self, heart: Heart, shape: Shape, grid: Grid, depth: float) -> None:
        self.grid, self.shape = grid, shape
        self.above_lv, self.above_rv = depth < heart.base, depth < heart.rv_base
        self.cx, self.cy = shape.drift[0] * depth, shape.drift[1] * depth
        along = (depth - heart.base) / (heart.apex - heart.base)
        self.trabeculae = min(max(along, 0.0), 1.0)
        epicardium = heart.epicardium * _taper(along)
        cavity = heart.cavity * _taper((depth - heart.base) / (heart.cavity_end - heart.base))
        self.cavity_radius = cavity
        self.epi = grid.disc(self.cx, self.cy, epicardium) if epicardium > _THINNEST else None
        self.endo = self._endocardium(heart, epicardium, cavity) if cavity > _THINNEST else None
        self.rv = self._right_ventricle(heart, shape, epicardium, depth)

    def _endocardium(self, heart: Heart, epicardium: float, cavity: float) -> Field:
        # The outline depends only on the angle; a table costs a tenth of evaluating the formula at every pixel.
        angle = np.linspace(-math.pi, math.pi, _ANGLES)
        radius = np.full(_ANGLES, cavity)
        # Towards the apex, trabeculae make it less smooth.
        rough = 0.7 + 0.9 * self.trabeculae
        for harmonic, (cosine, sine) in zip(_HARMONICS, self.shape.outline, strict=True):
            radius += rough * cavity * (cosine * np.cos(harmonic * angle) + sine * np.sin(harmonic * angle))
        off = np.angle(np.exp(1j * (angle - heart.sector)))
        radius -= (epicardium - cavity) * heart.sector_change * np.exp(-0.5 * (off / 0.6) ** 2)
        x, y = self.grid.x - self.cx, self.grid.y - self.cy
        outline = np.interp(np.arctan2(y, x), angle, np.minimum(radius, epicardium - 2.0))
        distance: Field = np.sqrt(x * x + y * y) - outline
        return distance

    def _right_ventricle(self, heart: Heart, shape: Shape, epicardium: float, depth: float) -> Field | None:
        along = (depth - heart.rv_base) / (heart.rv_end - heart.rv_base)
        if not 0.0 <= along < 1.0 or self.epi is None:
            return None
        share = (1.0 - along**1.7) ** 0.7
        direction = shape.rv_direction[0] + along * (shape.rv_direction[1] - shape.rv_direction[0])
        reach = heart.rv_reach * share
        if reach < _THINNEST:
            return None
        # The crescent is the part of an ellipse outside the epicardium: from 0.35 of its radius to ``reach`` beyond it.
        centre, radial = (1.35 * epicardium + reach) / 2.0, (0.65 * epicardium + reach) / 2.0
        tangential = epicardium * (0.55 + (heart.rv_breadth - 0.55) * share)
        x, y = self.cx + centre * math.cos(direction), self.cy + centre * math.sin(direction)
        return self.grid.ellipse(x, y, radial, tangential, direction)

    def mask(self) -> NDArray[np.uint8]:
        """The labels (row, column); papillary muscles belong to the cavity, as in ACDC."""
        labels = np.zeros(self.grid.x.shape, dtype=np.uint8)
        for distance, label in ((self.rv, RV), (self.epi, MYO), (self.endo, LV)):
            if distance is not None:
                labels[distance < 0.0] = label
        return labels

    def paint(self, image: Field, tissue: Contrast, texture: Field, fat: Field) -> None:
        """Lay the section over ``image`` (row, column) in place."""
        grid = self.grid
        surfaces = [d for d in (self.epi, self.rv) if d is not None]
        if self.above_lv or self.above_rv:
            self._paint_atria(image, tissue, texture)
        if surfaces:
            hull = np.minimum.reduce(surfaces)
            patches = np.clip(0.9 * fat + 0.1, 0.0, 1.0)
            paint(image, grid.cover(hull - 5.0, 3.0) * patches, 0.7 * tissue.fat)
        if self.rv is not None:
            paint(image, grid.cover(self.rv - _RV_WALL), tissue.muscle)
            streaks = 1.0 - np.clip(0.05 + 0.10 * texture * (0.6 + 1.6 * self.trabeculae), -0.1, 0.6)
            paint(image, grid.cover(self.rv), tissue.rv_blood * streaks)
        if self.epi is not None:
            paint(image, grid.cover(self.epi), tissue.muscle * (1.0 + 0.05 * texture))
        if self.endo is not None:
            cavity = grid.cover(self.endo)
            paint(image, cavity, tissue.blood * (1.0 + 0.05 * texture))
            self._paint_papillaries(image, tissue, cavity)

    def _paint_papillaries(self, image: Field, tissue: Contrast, cavity: Field) -> None:
        # Papillary muscles rise from the middle third of the wall towards the valve and end below it.
        presence = math.sin(math.pi * min(max((self.trabeculae - 0.2) / 0.65, 0.0), 1.0))
        radius = self.cavity_radius
        for angle, distance, size in self.shape.papillaries:
            semi_axis = size * radius * presence
            if semi_axis < 0.5 * self.grid.pixel:
                continue
            x = self.cx + distance * radius * math.cos(angle)
            y = self.cy + distance * radius * math.sin(angle)
            muscle = self.grid.ellipse(x, y, 1.3 * semi_axis, 0.9 * semi_axis, angle)
            paint(image, cavity * self.grid.cover(muscle), 1.1 * tissue.muscle)

    def _paint_atria(self, image: Field, tissue: Contrast, texture: Field) -> None:
        """Chambers above the valves: bright blood in thin walls, never labelled."""
        grid, cx, cy = self.grid, self.cx, self.cy
        right = [grid.ellipse(cx + 46.0, cy - 14.0, 20.0, 26.0, 0.4), grid.ellipse(cx + 10.0, cy - 42.0, 21.0, 12.0)]
        left = [grid.ellipse(cx - 2.0, cy + 19.0, 31.0, 19.0, 0.15), grid.disc(cx + 6.0, cy - 14.0, 15.0)]
        chambers = (right if self.above_rv else []) + (left if self.above_lv else [])
        hull = np.minimum.reduce(chambers)
        paint(image, grid.cover(hull - 7.0, 3.0), 0.55 * tissue.fat)
        for chamber in chambers:
            paint(image, grid.cover(chamber - _ATRIAL_WALL), 0.8 * tissue.muscle)
        for chamber in chambers:
            paint(image, grid.cover(chamber), 0.95 * tissue.rv_blood * (1.0 + 0.08 * texture))


def _taper(along: float) -> float:
    """Radius relative to the widest, from the base (0) to the tip (1); 0 outside."""
    if not 0.0 <= along < 1.0:
        return 0.0
    return math.sqrt(1.0 - along**2.6) * (1.0 - 0.08 * (1.0 - along) ** 3)
