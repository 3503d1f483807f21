"""Paints the surroundings of the phantom's heart, equal in both phases: chest wall, lungs, liver, spine, vessels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actstore.data.phantom.patient import Patient
from actstore.data.phantom.shapes import Field, Grid, paint, smooth_field

_AIR = 0.01
_LUNG_VESSELS = 130
_LIVER_VESSELS = 30
_BOWEL_LOOPS = 9
_RIBS = 16
#: Practical limit of the warp in mm: three standard deviations near the apex, where it is strongest.
_WARP_REACH = 24.0


@dataclass(frozen=True)
class Body:
    """Positions of a patient's organs, drawn once so that they continue from slice to slice. Lengths in mm."""

    centre: tuple[float, float]
    half_width: float
    half_height: float
    tilt: float
    #: Columns x, y, depth, radius, signal.
    lung_vessels: NDArray[np.float64]
    liver_vessels: NDArray[np.float64]
    #: Columns x, y, depth, semi-axis a, semi-axis b, angle, signal.
    bowel: NDArray[np.float64]
    #: Columns angle along the chest wall, semi-axis, signal of the marrow.
    ribs: NDArray[np.float64]
    liver_edge: float
    spine: tuple[float, float]
    #: Smooth displacement of everything (row, column) in mm: its value at depth 0 and its change with depth.
    warp_x: tuple[Field, Field]
    warp_y: tuple[Field, Field]


def draw_body(patient: Patient, rng: np.random.Generator) -> Body:
    """Draw the body of ``patient`` from ``rng``."""
    size, shape = patient.size, patient.matrix

    def table(n: int, *spans: tuple[float, float]) -> NDArray[np.float64]:
        return np.stack([rng.uniform(low, high, n) for low, high in spans], axis=1)

    def warp(amplitude: float) -> tuple[Field, Field]:
        return amplitude * smooth_field(rng, shape, 4), 0.3 * amplitude * smooth_field(rng, shape, 4)

    return Body(
        centre=(rng.uniform(-5.0, 20.0), rng.uniform(8.0, 24.0)),
        half_width=rng.uniform(195.0, 225.0) * size,
        half_height=rng.uniform(110.0, 130.0) * size,
        tilt=math.radians(rng.uniform(-9.0, 9.0)),
        lung_vessels=table(
            _LUNG_VESSELS, (-160 * size, 10.0), (-70 * size, 105 * size), (-15, 110), (0.9, 3.2), (0.3, 0.95)
        ),
        liver_vessels=table(_LIVER_VESSELS, (55, 150), (-60, 60), (-10, 110), (1.5, 4.0), (0.45, 0.75)),
        bowel=table(_BOWEL_LOOPS, (-80, 70), (40, 100), (30, 120), (8, 22), (7, 14), (-math.pi, math.pi), (0.12, 0.85)),
        ribs=table(_RIBS, (-math.pi, math.pi), (4.5, 8.0), (0.25, 0.75)),
        liver_edge=rng.uniform(48.0, 66.0) * size,
        spine=(rng.uniform(35.0, 70.0), rng.uniform(88.0, 98.0) * size),
        warp_x=warp(2.4),
        warp_y=warp(2.4),
    )


def slice_grid(patient: Patient, body: Body, depth: float) -> Grid:
    """Body coordinates of every pixel (row, column) of the slice at ``depth`` mm."""
    rows, columns = patient.matrix
    y = (np.arange(rows)[:, None] + 0.5 - rows / 2) * patient.pixel - patient.offset[0]
    x = (np.arange(columns)[None, :] + 0.5 - columns / 2) * patient.pixel - patient.offset[1]
    c, s = math.cos(patient.rotation), math.sin(patient.rotation)
    along = depth / 50.0
    # Bodies vary more in outline than hearts.
    strength = np.minimum(0.5 + np.hypot(x, y) / 90.0, 2.5)
    return Grid(
        x=c * x + s * y + strength * (body.warp_x[0] + along * body.warp_x[1]),
        y=c * y - s * x + strength * (body.warp_y[0] + along * body.warp_y[1]),
        pixel=patient.pixel,
    )


def paint_body(patient: Patient, body: Body, grid: Grid, depth: float, rng: np.random.Generator) -> Field:
    """Signal (row, column) of the slice at ``depth`` mm without the heart; ``rng`` draws its textures only."""
    tissue = patient.contrast
    shape = grid.x.shape
    fine = smooth_field(rng, (shape[0], shape[1]), 56)
    coarse = smooth_field(rng, (shape[0], shape[1]), 20)
    image = np.full(shape, _AIR)

    cx, cy = body.centre[0], body.centre[1] + 0.12 * depth
    a, b = body.half_width, body.half_height + 0.08 * depth
    skin = grid.ellipse(cx, cy, a, b, body.tilt)
    paint(image, grid.cover(skin), tissue.fat * (1.0 + 0.04 * coarse))

    thickness = patient.fat * (1.0 + 0.25 * coarse) + 0.06 * max(depth, 0.0)
    chest = grid.cover(skin + thickness)
    streaks = np.clip(2.5 * (fine - 1.1), 0.0, 1.0)
    muscle = tissue.skeletal * (1.0 + 0.10 * fine)
    paint(image, chest, muscle + streaks * (0.8 * tissue.fat - muscle))

    wall = patient.fat + 13.0 * patient.size
    cavity_a, cavity_b = a - 1.5 * wall, b - wall
    cavity = grid.cover(grid.ellipse(cx, cy, cavity_a, cavity_b, body.tilt))
    paint(image, cavity, tissue.lung * (1.0 + 0.20 * fine))
    _paint_vessels(patient, body.lung_vessels, grid, depth, image, cavity)
    for angle, radius, signal in body.ribs:
        x = cx + (cavity_a + 7.0) * math.cos(angle)
        y = cy + (cavity_b + 6.0) * math.sin(angle)
        along = math.atan2(cavity_b * math.cos(angle), -cavity_a * math.sin(angle))
        window = _around(patient, x, y, 2.0 * radius)
        near, part = grid.window(*window), image[window]
        rib = near.ellipse(x, y, 1.8 * radius, 0.7 * radius, along)
        paint(part, near.cover(rib - 1.5), 0.08)
        paint(part, near.cover(rib), signal)

    _paint_abdomen(patient, body, grid, depth, image, cavity, fine)
    _paint_spine(patient, body, grid, image, chest)
    return image


def _around(patient: Patient, x: float, y: float, reach: float) -> tuple[slice, slice]:
    """The (rows, columns) that hold everything within ``reach`` mm of (x, y), wherever the warp has moved it."""
    c, s = math.cos(patient.rotation), math.sin(patient.rotation)
    row = (s * x + c * y + patient.offset[0]) / patient.pixel + patient.matrix[0] / 2
    column = (c * x - s * y + patient.offset[1]) / patient.pixel + patient.matrix[1] / 2
    far = (reach + _WARP_REACH) / patient.pixel
    rows, columns = (slice(max(int(at - far), 0), max(int(at + far) + 1, 0)) for at in (row, column))
    return rows, columns


def _paint_vessels(
    patient: Patient, vessels: NDArray[np.float64], grid: Grid, depth: float, image: Field, organ: Field
) -> None:
    for x, y, level, radius, signal in vessels:
        if abs(depth - level) < 5.0 * radius:
            window = _around(patient, x, y, radius)
            near = grid.window(*window)
            paint(image[window], organ[window] * near.cover(near.disc(x, y, radius)), signal)


def _paint_abdomen(
    patient: Patient, body: Body, grid: Grid, depth: float, image: Field, cavity: Field, fine: Field
) -> None:
    """Liver on the image's right, then bowel and spleen from below, increasing towards the apex."""
    tissue = patient.contrast
    floor = grid.ellipse(0.35 * body.liver_edge, 150.0 - 0.62 * depth, 150.0, 62.0)
    paint(image, cavity * grid.cover(floor), 0.7 * tissue.fat * (1.0 + 0.15 * fine))
    for x, y, level, a, b, angle, signal in body.bowel:
        if abs(depth - level) < 30.0:
            loop = grid.ellipse(x, y, a, b, angle)
            paint(image, cavity * grid.cover(loop - 2.0), 0.18)
            paint(image, cavity * grid.cover(loop), signal * (1.0 + 0.10 * fine))

    liver = grid.ellipse(body.liver_edge + 62.0 - 0.25 * depth, -8.0 + 0.15 * depth, 68.0, 72.0 + 0.1 * depth, 0.3)
    inside = cavity * grid.cover(liver)
    paint(image, cavity * grid.cover(liver - 2.5), 0.6 * tissue.fat)
    paint(image, inside, tissue.liver * (1.0 + 0.06 * fine))
    _paint_vessels(patient, body.liver_vessels, grid, depth, image, inside)


def _paint_spine(patient: Patient, body: Body, grid: Grid, image: Field, chest: Field) -> None:
    """Vertebra with its canal, the muscles beside it, and the descending aorta in front."""
    tissue, (x, y) = patient.contrast, body.spine
    for side in (-1.0, 1.0):
        muscle = grid.ellipse(x + side * 30.0, y + 12.0, 24.0, 15.0, side * 0.3)
        paint(image, chest * grid.cover(muscle), tissue.skeletal)
    vertebra = grid.ellipse(x, y, 22.0, 17.0)
    paint(image, grid.cover(vertebra - 2.0), 0.12)
    paint(image, grid.cover(vertebra), 0.42)
    paint(image, chest * grid.cover(grid.disc(x, y + 20.0, 7.0)), 0.85)
    paint(image, chest * grid.cover(grid.disc(x, y + 20.0, 4.0)), 0.40)
    aorta = grid.disc(x - 30.0, y - 18.0, 11.0 * patient.size)
    paint(image, grid.cover(aorta - 2.0), 0.20)
    paint(image, grid.cover(aorta), tissue.blood)
