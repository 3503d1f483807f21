"""Where a file's voxels lie, as its NIfTI header says it, and what to do where the header contradicts itself.

A header states voxel sizes once in ``pixdim`` and once more in its sform, a matrix, while its qform, a rotation, takes
them from ``pixdim``. Both have a code, 0 where they say nothing. As in nibabel, the sform counts before the qform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

#: Relative difference of voxel sizes that counts as rounding: headers written with three decimals agree within it.
SIZE_TOLERANCE = 1e-3
#: How far a corner of the voxel grid may be displaced, as a share of the smallest voxel size: far less than the half
#: voxel by which conventions of resampling differ, far more than float32 rounds in an affine (1e-4 of a voxel).
GRID_TOLERANCE = 0.1
#: A qform keeps three of four components of its quaternion, in float32. Near a rotation by 180°, as in every LPS image,
#: the fourth is off by up to 6e-4 and the rotation by 1.2e-3 (measured: 1 mm at the far corner of 512 × 512 × 300 mm).
QFORM_ROUNDING = 1.5e-3
#: Cosine between two axes of the grid beyond which they are not at right angles: 0.6°.
SHEAR = 1e-2
#: Volume of the cell of three unit vectors along the axes, below which they lie in one plane.
SINGULAR = 1e-3
#: Voxel sizes in millimetres beyond which a header is doubted.
PLAUSIBLE = (1e-3, 100.0)
#: Length of the spatial unit in mm, by the lowest three bits of ``xyzt_units``: none stated, metre, millimetre,
#: micrometre. The standard (nifti1.h, NIFTI_UNITS_*) knows no others; files that state none mean mm in practice.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_MICROMETRE = 3

_CORRECT = "correct the header"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Remark:
    """One thing in a header that is not as it should be."""

    #: The same for all headers with this fault, whatever their values.
    kind: str
    #: What is wrong, with its values, and what counts instead.
    text: str
    #: How to mend it, where no sound value is left to go by; empty where there is one.
    mend: str = ""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of one file lie."""

    #: Voxels along i, j and k.
    shape: tuple[int, int, int]
    #: Distance of voxels along i, j and k in millimetres; NaN where nothing sound states it.
    spacing: tuple[float, float, float]
    #: Voxel indices to millimetres, float64 (4, 4); ``None`` where the header says nothing sound of it.
    affine: Floats | None
    #: Where the affine is from: "sform", "qform", or "".
    source: str
    remarks: tuple[Remark, ...] = ()

    @property
    def orientation(self) -> str:
        """Where i, j and k lead, for example "LPS": to the left, to the back, up; "unknown" without an affine."""
        return "unknown" if self.affine is None else orientation(self.affine)


def geometry_of(header: Any, pixdim: NDArray[np.floating], dims: tuple[int, ...]) -> Geometry:
    """Interpret a header.

    Parameters
    ----------
    header
        nibabel's, after its repairs.
    pixdim
        of the file, (8,), as it was before these repairs: they turn 0 into 1.
    dims
        voxels along the file's axes, 2 or 3 of them.
    """
    with np.errstate(all="ignore"):
        return _geometry(header, np.asarray(pixdim, np.float64), dims)


def _geometry(header: Any, pixdim: Floats, dims: tuple[int, ...]) -> Geometry:
    rows, columns, slices = (*dims, 1)[:3]
    shape = (rows, columns, slices)
    remarks: list[Remark] = []
    unit = _unit(header, remarks)
    stated = pixdim[1:4] * unit
    if len(dims) == 2:
        stated[2] = 1.0  # A 2D image has no thickness: as if 1 mm, so that areas can be had from volumes.
    if (stated < 0).any():
        remarks.append(Remark("negative", f"pixdim is negative ({sizes_text(stated)}): its magnitudes are used"))
    sizes = np.where(np.isfinite(stated) & (stated != 0), np.abs(stated), np.nan)
    sform = _sform(header, unit, shape) if header["sform_code"] else None
    qform = _qform(header, pixdim[0], sizes, unit, remarks) if header["qform_code"] else None
    _check_forms(header, sform, qform, sizes, remarks)
    spacing = sizes.copy()
    if sform is not None:
        spacing = _reconciled(stated, sizes, _lengths(sform), unit, shape, remarks)
        _check_shear(sform, shape, remarks)
    if shape[2] == 1 and np.isnan(spacing[2]):
        spacing[2] = 1.0
        remarks.append(
            Remark("thickness", f"the thickness of its one slice is {stated[2]:g}: 1 mm is used where volumes need it")
        )
    if np.isnan(spacing).any() and not any(remark.mend for remark in remarks):
        text = f"voxel sizes are unknown: pixdim is {sizes_text(stated)}, and no sform states them"
        remarks.append(Remark("unknown", text, "write them into the header"))
    if sform is not None and qform is not None:
        _check_both(header, sform, qform, shape, remarks)
    _check_plausible(header, spacing, remarks)
    affine, source = (sform, "sform") if sform is not None else (qform, "qform" if qform is not None else "")
    i, j, k = map(float, spacing)
    return Geometry(shape, (i, j, k), affine, source, tuple(remarks))


def sizes_text(sizes: Any) -> str:
    """Voxel sizes for a message."""
    return " × ".join(map(length_text, sizes)) + " mm"


def length_text(length: float) -> str:
    return f"{length:.0f}" if 1e3 <= abs(length) < 1e6 else f"{length:.4g}"


def orientation(affine: Floats) -> str:
    return "".join(str(code) for code in nibabel.orientations.aff2axcodes(affine))  # type: ignore[no-untyped-call]


def displacement(a: Floats, b: Floats, shape: tuple[int, int, int]) -> tuple[Floats, Floats]:
    """Of the eight corners of a grid: how far ``a`` and ``b`` place them apart, and how far from voxel (0, 0, 0).

    Both float64 (8,), in millimetres.
    """
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(shape)[:, None] - 1)
    matrix, offset = (a - b)[:3, :3], (a - b)[:3, 3:]
    return np.linalg.norm(matrix @ corners + offset, axis=0), np.linalg.norm(a[:3, :3] @ corners, axis=0)


def apart(a: Geometry, b: Geometry) -> tuple[float, float] | None:
    """The displacement of the worst corner and what is allowed there, in mm.

    ``None`` where the two grids are one, as far as there are affines to say.
    """
    if a.affine is None or b.affine is None:
        return None
    # Sizes that differ by rounding alone add up along an axis; whether they differ by more is another question.
    ratio = _lengths(a.affine) / _lengths(b.affine)
    same = np.where(np.abs(ratio - 1) <= SIZE_TOLERANCE, ratio, 1.0)
    rescaled = b.affine.copy()
    rescaled[:3, :3] *= same
    return _apart(a.affine, rescaled, a.shape, rounded="qform" in (a.source, b.source))


def _apart(a: Floats, b: Floats, shape: tuple[int, int, int], *, rounded: bool) -> tuple[float, float] | None:
    moved, radius = displacement(a, b, shape)
    smallest = min(_lengths(form)[:2].min() if shape[2] == 1 else _lengths(form).min() for form in (a, b))
    allowed = GRID_TOLERANCE * smallest + QFORM_ROUNDING * radius * rounded
    worst = int(np.argmax(moved - allowed))
    return (float(moved[worst]), float(allowed[worst])) if moved[worst] > allowed[worst] else None


def _lengths(affine: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths


def _unit(header: Any, remarks: list[Remark]) -> float:
    code = int(header["xyzt_units"]) & 7
    if code not in _MILLIMETRES:
        remarks.append(Remark("unit", f"xyzt_units holds {code}, no unit of length: millimetres are taken"))
    return _MILLIMETRES.get(code, 1.0)


def _sound(affine: Floats) -> bool:
    """Whether all is finite and the three axes span space."""
    lengths = _lengths(affine)
    if not (np.isfinite(affine).all() and np.isfinite(lengths).all() and lengths.min() > 0):
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > SINGULAR)


def _sform(header: Any, unit: float, shape: tuple[int, ...]) -> Floats | None:
    affine = np.asarray(header.get_sform(), np.float64)
    affine[:3] *= unit
    third = affine[:3, 2]
    if shape[2] == 1 and not (np.isfinite(third).all() and third.any()):
        # One slice lies where two axes say; writers of 2D images leave the third one empty.
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / np.linalg.norm(normal)
    return affine if _sound(affine) else None


def _qform(header: Any, qfac: float, sizes: Floats, unit: float, remarks: list[Remark]) -> Floats | None:
    affine = np.eye(4)
    try:
        rotation = nibabel.quaternions.quat2mat(header.get_qform_quaternion())  # type: ignore[no-untyped-call]
    except (HeaderDataError, ValueError):
        return None
    affine[:3, :3] = rotation * sizes * [1, 1, -1 if qfac == -1 else 1]
    affine[:3, 3] = [float(header[f"qoffset_{axis}"]) * unit for axis in "xyz"]
    if not _sound(affine):
        return None
    if qfac not in (-1, 0, 1) and not header["sform_code"]:
        remarks.append(Remark("qfac", f"pixdim[0] is {qfac:g}, neither 1 nor -1: 1 is used, so that k is not mirrored"))
    return affine


def _check_forms(header: Any, sform: Floats | None, qform: Floats | None, sizes: Floats, remarks: list[Remark]) -> None:
    """Of the sform and the qform, which are said to be there and cannot be used."""
    broken = "is no affine (NaN, infinite or singular)"
    if header["sform_code"] and sform is None:
        if qform is None:
            remarks.append(Remark("sform", f"its sform {broken}, and there is no sound qform", _CORRECT))
        else:
            remarks.append(Remark("sform", f"its sform {broken}: the qform is used"))
    elif header["qform_code"] and qform is None and not np.isnan(sizes).any():
        if sform is None:
            remarks.append(Remark("qform", f"its qform {broken}, and there is no sform", _CORRECT))
        else:
            remarks.append(Remark("qform", f"its qform {broken}: the sform is used"))


def _reconciled(
    stated: Floats,
    sizes: Floats,
    of_sform: Floats,
    unit: float,
    shape: tuple[int, ...],
    remarks: list[Remark],
) -> Floats:
    """The voxel sizes that count, (3,) in mm, of those in pixdim (NaN where not sound) and those of the sform."""
    used = slice(2 if shape[2] == 1 else 3)
    mine, theirs = sizes[used], of_sform[used]
    broken = np.isnan(mine)
    differ = np.abs(mine - theirs) > SIZE_TOLERANCE * theirs
    both = f"pixdim states voxels of {sizes_text(stated[used])}, the sform {sizes_text(theirs)}"
    chosen = sizes.copy()
    if not differ.any():
        if broken.any():
            remarks.append(Remark("pixdim", f"{both}: the sform's are used"))
            chosen[used] = theirs
    elif not broken.any() and _is_one(theirs / unit):
        # ACDC's own headers: a matrix that only says which way the axes run.
        remarks.append(Remark("sizes", f"{both}, which only gives directions: those of pixdim are used"))
    elif not broken.any() and _is_one(mine / unit):
        remarks.append(Remark("default", f"{both}: the sform's are used, since 1 is what pixdim holds by default"))
        chosen[used] = theirs
    else:
        remarks.append(Remark("sizes", both, f"{_CORRECT} so that both agree"))
    return chosen


def _is_one(sizes: Floats) -> bool:
    return bool(np.allclose(sizes, 1.0, rtol=SIZE_TOLERANCE, atol=0))


def _check_shear(sform: Floats, shape: tuple[int, ...], remarks: list[Remark]) -> None:
    axes = sform[:3, : 2 if shape[2] == 1 else 3] / _lengths(sform)[: 2 if shape[2] == 1 else 3]
    cosines = np.abs(axes.T @ axes - np.eye(axes.shape[1]))
    if cosines.max() > SHEAR:
        i, j = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
        degrees = np.degrees(np.arccos(np.clip(cosines[i, j], 0, 1)))
        text = f"axes {'ijk'[i]} and {'ijk'[j]} of its sform meet at {degrees:.1f}°"
        remarks.append(Remark("shear", f"{text}: distances and volumes are measured as if at right angles"))


def _check_both(header: Any, sform: Floats, qform: Floats, shape: tuple[int, int, int], remarks: list[Remark]) -> None:
    """Sform against qform. With different codes they may lead to different spaces; the axes still run one way."""
    names = orientation(sform), orientation(qform)
    if any(a != b for a, b, n in zip(*names, shape, strict=True) if n > 1):
        text = (
            f"its sform (code {int(header['sform_code'])}) is {names[0]}, its qform (code {int(header['qform_code'])}) "
        )
        remarks.append(Remark("forms", f"{text}{names[1]}", f"{_CORRECT}: set both to the true one, or one code to 0"))
        return
    if any(remark.kind in ("sizes", "default", "pixdim") for remark in remarks):
        return
    far = _apart(sform, qform, shape, rounded=True)
    if far is None:
        return
    text = f"its sform and its qform place a corner of the grid {length_text(far[0])} mm apart"
    if header["sform_code"] == header["qform_code"]:
        text += f", both as code {int(header['sform_code'])}"
        remarks.append(Remark("forms", text, f"{_CORRECT}: set both to the true one, or one code to 0"))
    else:
        codes = f"codes {int(header['sform_code'])} and {int(header['qform_code'])}"
        remarks.append(Remark("spaces", f"{text} ({codes}): the sform is used"))


def _check_plausible(header: Any, spacing: Floats, remarks: list[Remark]) -> None:
    low, high = PLAUSIBLE
    unit = int(header["xyzt_units"]) & 7
    text = f"voxels of {sizes_text(spacing)} (xyzt_units {unit})"
    if unit == _MICROMETRE:
        remarks.append(Remark("micrometre", f"{text}, since its unit is the micrometre"))
    elif (spacing < low).any() or (spacing > high).any():
        remarks.append(Remark("implausible", f"{text}: are its sizes and its unit right?"))
