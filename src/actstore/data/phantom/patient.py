"""Draws the parameters of a phantom patient: size, pose, heart, contrast and scan. No pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

#: Diagnosis groups as ACDC names them, assigned in turn so that five consecutive patients cover all.
GROUPS: Final = ("NOR", "DCM", "HCM", "MINF", "RV")

#: (rows, columns) of the acquired matrix, below and above 256 on either axis.
_MATRICES: Final = ((216, 256), (232, 256), (208, 256), (256, 256), (232, 288), (264, 320))

_NORMAL: Final = {
    "cavity": (21.0, 25.5),
    "wall": (7.5, 9.5),
    "shortening": (0.62, 0.72),
    "descent": (9.0, 14.0),
    "rv_reach": (22.0, 28.0),
    "rv_breadth": (0.98, 1.10),
    "rv_shortening": (0.60, 0.72),
}
#: Ranges in which a group differs from normal; lengths in mm, shortening as ES divided by ED.
_GROUP_RANGES: Final = {
    "NOR": {},
    "DCM": {"cavity": (29.0, 34.0), "wall": (6.0, 7.5), "shortening": (0.82, 0.90), "descent": (4.0, 7.0)},
    "HCM": {"cavity": (18.5, 22.0), "wall": (12.5, 16.0), "shortening": (0.56, 0.64)},
    "MINF": {"cavity": (24.0, 29.0), "shortening": (0.76, 0.84), "descent": (6.0, 9.0)},
    "RV": {"rv_reach": (32.0, 40.0), "rv_breadth": (1.20, 1.35), "rv_shortening": (0.75, 0.85)},
}


@dataclass(frozen=True)
class Heart:
    """The ventricles in one phase. Lengths in mm; depths run from the end-diastolic base (0) towards the apex."""

    cavity: float
    epicardium: float
    base: float
    cavity_end: float
    apex: float
    rv_base: float
    rv_end: float
    #: Extent of the right ventricle beyond the left one's epicardium.
    rv_reach: float
    #: Half-length of the right ventricle's crescent, as a multiple of the epicardial radius.
    rv_breadth: float
    #: Wall thickness in the direction ``sector`` (radians), relative to the rest: > 0 thicker, < 0 thinner.
    sector: float
    sector_change: float


@dataclass(frozen=True)
class Contrast:
    """Signal of each tissue before the coil's bias field; left ventricular blood is about 0.85."""

    blood: float
    rv_blood: float
    muscle: float
    fat: float
    lung: float
    liver: float
    skeletal: float


@dataclass(frozen=True)
class Patient:
    """All parameters of a phantom patient except textures and noise."""

    number: int
    group: str
    height_cm: float
    weight_kg: float
    frames: int
    es_frame: int
    #: (rows, columns)
    matrix: tuple[int, int]
    #: In-plane pixel side, and distance between slices, in mm.
    pixel: float
    spacing: float
    slices: int
    #: Depth of slice 0 in mm; negative lies above the base.
    first_depth: float
    #: Rotation of the body in the image (radians) and the heart's position off the centre, (row, column) in mm.
    rotation: float
    offset: tuple[float, float]
    #: Scale of the whole body, fat thickness in mm.
    size: float
    fat: float
    ed: Heart
    es: Heart
    contrast: Contrast
    #: Raw intensity per unit signal, and the noise's standard deviation in units of signal.
    gain: float
    noise: float

    @property
    def name(self) -> str:
        return patient_name(self.number)


def patient_name(number: int) -> str:
    """``patient001`` for 1, as ACDC names its folders."""
    return f"patient{number:03d}"


def draw_patient(number: int, rng: np.random.Generator) -> Patient:
    """Draw patient ``number`` (from 1) from ``rng``.

    Sizes by group follow the idea of ACDC's inclusion criteria (Bernard et al., IEEE TMI 37(11), 2018, table 1): a
    dilated left ventricle for DCM, a thick wall for HCM, a dilated right ventricle for RV, a thin sector for MINF.
    """
    group = GROUPS[(number - 1) % len(GROUPS)]
    size = rng.uniform(0.92, 1.08)
    length = rng.uniform(78.0, 96.0) * size
    ed, es = _draw_hearts(group, length, size, rng)

    slices = int(rng.integers(6, 13))
    above, below = rng.uniform(-3.0, 9.0), rng.uniform(-4.0, 10.0)
    spacing = min(max(round((length + above + below) / slices * 2) / 2, 7.0), 13.0)
    matrix = _MATRICES[int(rng.integers(len(_MATRICES)))]
    return Patient(
        number=number,
        group=group,
        height_cm=float(round(168 * size + rng.uniform(-6, 6))),
        weight_kg=float(round(75 * size**2 + rng.uniform(-14, 18))),
        frames=int(rng.integers(20, 31)),
        es_frame=int(rng.integers(8, 15)),
        matrix=matrix,
        pixel=round(rng.uniform(345.0, 400.0) / matrix[1], 4),
        spacing=spacing,
        slices=slices,
        first_depth=-above,
        rotation=math.radians(rng.uniform(-14.0, 14.0)),
        offset=(rng.uniform(-18.0, 14.0), rng.uniform(-16.0, 16.0)),
        size=size,
        fat=rng.uniform(8.0, 22.0),
        ed=ed,
        es=es,
        contrast=Contrast(
            blood=rng.uniform(0.78, 0.92),
            rv_blood=rng.uniform(0.70, 0.88),
            muscle=rng.uniform(0.22, 0.34),
            fat=rng.uniform(0.90, 1.10),
            lung=rng.uniform(0.07, 0.13),
            liver=rng.uniform(0.28, 0.42),
            skeletal=rng.uniform(0.18, 0.28),
        ),
        gain=rng.uniform(150.0, 340.0),
        noise=rng.uniform(0.012, 0.028),
    )


def _draw_hearts(group: str, length: float, size: float, rng: np.random.Generator) -> tuple[Heart, Heart]:
    """End diastole and end systole. The wall's volume stays constant, so that a smaller cavity has a thicker wall."""
    drawn = {name: rng.uniform(*span) for name, span in {**_NORMAL, **_GROUP_RANGES[group]}.items()}
    cavity, wall, reach = drawn["cavity"] * size, drawn["wall"] * size, drawn["rv_reach"] * size
    sector = rng.uniform(-math.pi, math.pi) if group == "MINF" else math.radians(rng.uniform(-65.0, -45.0))
    change = {"HCM": rng.uniform(0.15, 0.35), "MINF": rng.uniform(-0.45, -0.25)}.get(group, 0.0)
    rv_end, rv_lag = rng.uniform(0.76, 0.90) * length, rng.uniform(0.0, 3.0)
    ed = Heart(
        cavity=cavity,
        epicardium=cavity + wall,
        base=0.0,
        cavity_end=length - 0.75 * wall,
        apex=length,
        rv_base=rv_lag,
        rv_end=rv_end,
        rv_reach=reach,
        rv_breadth=drawn["rv_breadth"],
        sector=sector,
        sector_change=change,
    )
    descent = drawn["descent"]
    cavity_es = cavity * drawn["shortening"]
    epicardium_es = math.sqrt(cavity_es**2 + (ed.epicardium**2 - cavity**2) * length / (length - descent))
    es = Heart(
        cavity=cavity_es,
        epicardium=epicardium_es,
        base=descent,
        cavity_end=length - 1.1 * (epicardium_es - cavity_es),
        apex=length,
        rv_base=descent + rv_lag + rng.uniform(1.0, 5.0),
        rv_end=rv_end - rng.uniform(2.0, 6.0),
        rv_reach=reach * drawn["rv_shortening"],
        rv_breadth=drawn["rv_breadth"] * 0.94,
        sector=sector,
        sector_change=1.3 * change if group == "MINF" else change,
    )
    return ed, es
