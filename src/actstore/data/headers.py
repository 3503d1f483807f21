"""Reads the position of a file's voxels from its NIfTI header, and resolves contradictions in it.

A header states voxel sizes in ``pixdim`` and again in its sform, a matrix. Its qform, a rotation, takes them from
``pixdim``. Both forms have a code, 0 if unset. As in nibabel, the sform takes precedence over the qform.
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
#: Largest displacement of a corner of the voxel grid, as a share of the smallest voxel size: far less than the half
#: voxel by which resampling conventions differ, far more than float32 rounding in an affine (1e-4 of a voxel).
GRID_TOLERANCE = 0.1
#: A qform stores three of the four components of its quaternion, in float32. Near a rotation by 180°, as in every LPS
#: image, the fourth is off by up to 6e-4 and the rotation by 1.2e-3 (measured: 1 mm at the far corner of
#: 512 × 512 × 300 mm).
QFORM_ROUNDING = 1.5e-3
#: Largest cosine between two axes of the grid that count as perpendicular: 0.6°.
SHEAR = 1e-2
#: Smallest volume spanned by unit vectors along the axes; below it they lie in one plane.
SINGULAR = 1e-3
#: Range of plausible voxel sizes in millimetres.
PLAUSIBLE = (1e-3, 100.0)
#: Length of the spatial unit in mm, by the lowest three bits of ``xyzt_units``: none stated, metre, millimetre,
#: micrometre. The standard (nifti1.h, NIFTI_UNITS_*) defines no others; in practice, files without a unit mean mm.
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_MICROMETRE = 3

_CORRECT = "correct the header"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Remark:
    """One fault in a header."""

    #: Identifies the fault; independent of the values.
    kind: str
    #: What is wrong, with the values, and what is used instead.
    text: str
    #: How to correct it if no valid value remains; else empty.
    mend: str = ""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Position of the voxels of one file."""

    #: Number of voxels along i, j and k.
    shape: tuple[int, int, int]
    #: Distance between voxels along i, j and k in millimetres; NaN if the header holds no valid value.
    spacing: tuple[float, float, float]
    #: Voxel indices to millimetres, float64 (4, 4); ``None`` if the header holds no valid affine.
    affine: Floats | None
    #: Source of the affine: "sform", "qform", or "".
    source: str
    remarks: tuple[Remark, ...] = ()

    @property
    def orientation(self) -> str:
        """Directions of i, j and k, for example "LPS": left, posterior, superior; "unknown" without an affine."""
        return "unknown" if self.affine is None else orientation(self.affine)


def geometry_of(header: Any, pixdim: NDArray[np.floating], dims: tuple[int, ...]) -> Geometry:
    """Interpret a header.

    Parameters
    ----------
    header
        nibabel's header, after its repairs.
    pixdim
        of the file, (8,), before these repairs, which turn 0 into 1.
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
        stated[2] = 1.0  # A 2D image has no thickness. Use 1 mm, so that volumes equal areas.
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
    """Distances between the corners of a grid under ``a`` and ``b``, and distances of the corners from voxel (0, 0, 0).

    Both are float64 (8,), in millimetres.
    """
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(shape)[:, None] - 1)
    matrix, offset = (a - b)[:3, :3], (a - b)[:3, 3:]
    return np.linalg.norm(matrix @ corners + offset, axis=0), np.linalg.norm(a[:3, :3] @ corners, axis=0)


def apart(a: Geometry, b: Geometry) -> tuple[float, float] | None:
    """The largest displacement of a corner and the tolerance there, in mm.

    ``None`` if the grids agree, or an affine is missing.
    """
    if a.affine is None or b.affine is None:
        return None
    # Rounded sizes add up along an axis, so that small differences of sizes must not count as displacement.
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
    """Whether all values are finite and the three axes span space."""
    lengths = _lengths(affine)
    if not (np.isfinite(affine).all() and np.isfinite(lengths).all() and lengths.min() > 0):
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > SINGULAR)


def _sform(header: Any, unit: float, shape: tuple[int, ...]) -> Floats | None:
    affine = np.asarray(header.get_sform(), np.float64)
    affine[:3] *= unit
    third = affine[:3, 2]
    if shape[2] == 1 and not (np.isfinite(third).all() and third.any()):
        # Two axes suffice for one slice; writers of 2D images leave the third axis empty.
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
    """Add a remark for an sform or qform that is set but unusable."""
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
    """The voxel sizes to use, (3,) in mm, given those in pixdim (NaN if invalid) and in the sform."""
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
        # In ACDC's headers the matrix only gives the directions of the axes.
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
    """Compare sform and qform. With different codes they may describe different spaces, but not different axes."""
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
