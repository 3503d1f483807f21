"""Image and mask lie on one grid, headers agree with themselves, and slices along the third axis, or it is said."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.cli.commands import main
from actstore.data.geometry import volume_header
from actstore.data.headers import GRID_TOLERANCE, Geometry, geometry_of
from actstore.data.nifti import read_header, read_volume
from actstore.data.volume import VolumeFile, VolumeHeader, VolumeKey
from actstore.errors import DataError, SpecError
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import make_plan
from actstore.spec.spec import Spec, load_spec
from actstore.views.report.sections.segmentation import _unmeasured
from conftest import WriteSpec

nifti: Any = nibabel
REFERENCE = os.environ.get("ACTSTORE_REFERENCE")
SHAPE = (40, 30, 6)
SIZES = (1.5, 2.5, 10.0)
KEY = VolumeKey("p", 1)
IMAGE, MASK = Path("image.nii.gz"), Path("mask.nii.gz")
Edit = Callable[[Any], None]
#: Every way in which three axes can run: a permutation and a sign of each.
ORIENTATIONS = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def header(
    affine: NDArray[Any] | None = None, shape: tuple[int, ...] = SHAPE, edit: Edit | None = None, qform: bool = False
) -> Geometry:
    """What is made of a header with ``affine`` as its sform, or its qform, of LPS voxels of ``SIZES`` by default."""
    found = nifti.Nifti1Header()
    found.set_data_shape(shape)
    affine = np.diag([-SIZES[0], -SIZES[1], SIZES[2], 1.0]) if affine is None else affine
    found["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    if qform:
        found.set_qform(affine, 1)
    else:
        found.set_sform(affine, 2)
    if edit:
        edit(found)
    pixdim = found["pixdim"].copy()
    found.check_fix(logger=nifti.imageglobals.logger.__class__("silent"), error_level=40)
    return geometry_of(found, pixdim, shape)


def silent(found: Any) -> None:
    found["sform_code"] = found["qform_code"] = 0


def pixdim(*sizes: float) -> Edit:
    def edit(found: Any) -> None:
        found["pixdim"][1:4] = sizes

    return edit


def both(image: Geometry, mask: Geometry, **options: Any) -> VolumeHeader:
    return volume_header(KEY, [(IMAGE, image), (MASK, mask)], **options)


def alone(image: Geometry, **options: Any) -> VolumeHeader:
    return both(image, image, **options)


def kinds(found: VolumeHeader) -> list[str]:
    return [caveat.kind for caveat in found.caveats]


def refused(words: str) -> Any:
    return pytest.raises(DataError, match=words)


def turned(axes: tuple[int, ...], signs: tuple[int, ...], sizes: Any, offset: Any = (0, 0, 0)) -> NDArray[np.float64]:
    """An affine whose array axes run along the axes of space ``axes``, in the directions ``signs``."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign * sizes[column]
    affine[:3, 3] = offset
    return affine


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = nifti.eulerangles.euler2mat(*angles)
    return matrix


orientations = st.sampled_from(ORIENTATIONS)
sizes = st.tuples(*[st.floats(0.05, 20)] * 3)
offsets = st.tuples(*[st.floats(-500, 500)] * 3)
#: Scans are oblique; half a turn is where a qform rounds most.
angles = st.tuples(*[st.one_of(st.just(0.0), st.just(np.pi), st.floats(-np.pi, np.pi))] * 3)
shapes = st.tuples(*[st.integers(2, 512)] * 3)


class TestOneGrid:
    @settings(max_examples=60, deadline=None)
    @given(orientations, sizes, offsets, angles, shapes, st.tuples(st.booleans(), st.booleans()), st.integers(0, 99))
    def test_sound_headers_of_one_grid_are_taken(
        self, way: Any, sizes: Any, offset: Any, angles: Any, shape: Any, qforms: Any, seed: int
    ) -> None:
        """Whatever its orientation, if the mask's affine is rounded as float32, or kept as a quaternion."""
        affine = rotation(angles) @ turned(*way, sizes, offset)
        noisy = affine + np.random.default_rng(seed).uniform(-1, 1, (4, 4)) * 1e-7 * np.abs(affine)
        image, mask = (header(a, shape, qform=q) for a, q in zip((affine, noisy), qforms, strict=True))
        found = both(image, mask)
        assert found.shape == (shape[2], shape[0], shape[1])
        assert found.spacing == pytest.approx((sizes[2], sizes[0], sizes[1]), rel=1e-5)
        assert set(kinds(found)) <= {"implausible"}

    def test_sizes_that_are_rounded_add_up_to_no_displacement(self) -> None:
        fine, rounded = (np.diag([-size, -size, 8.0, 1]) for size in (0.6875, 0.688))
        shape = (512, 512, 10)
        assert both(header(fine, shape), header(rounded, shape)).caveats == ()
        with refused("do not lie on one grid"):
            both(header(fine, shape), header(np.diag([-0.69, -0.69, 8.0, 1]), shape))

    def test_the_thickness_of_one_slice_says_nothing_about_its_pixels(self) -> None:
        thick, thin = (header(np.diag([-1.5, -2.5, size, 1]), (12, 14, 1)) for size in (8.0, 1.0))
        assert both(thick, thin).spacing == (8.0, 1.5, 2.5)

    @settings(max_examples=50, deadline=None)
    @given(orientations, orientations, sizes, angles)
    def test_another_orientation_is_refused_by_name(self, way: Any, other: Any, sizes: Any, angles: Any) -> None:
        """What tools that reorient do: the same place in space, another order or direction of array axes."""
        shape = (12, 12, 12)
        turn = rotation(angles)
        image = header(turn @ turned(*way, sizes), shape)
        mask = header(turn @ turned(*other, [sizes[way[0].index(axis)] for axis in other[0]]), shape)
        if way == other:
            assert both(image, mask).caveats == ()
            return
        with refused(r"image\.nii\.gz \([LRAPIS]{3}\) and mask\.nii\.gz \([LRAPIS]{3}\) do not lie on one grid") as e:
            both(image, mask)
        assert f"({image.orientation})" in str(e.value)
        assert f"({mask.orientation})" in str(e.value)
        assert kinds(both(image, mask, geometry="ignore")) == ["grid"]

    @settings(max_examples=50, deadline=None)
    @given(orientations, sizes, st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 3))
    def test_displacement_beyond_a_tenth_of_a_voxel(self, way: Any, sizes: Any, direction: Any, far: float) -> None:
        length = np.linalg.norm(direction)
        step = np.array(direction) / length if length > 1e-3 else np.array([1.0, 0, 0])
        moved = far * GRID_TOLERANCE * min(sizes) * step
        image, mask = header(turned(*way, sizes)), header(turned(*way, sizes, moved))
        if far < 0.99:
            assert both(image, mask).spacing == both(image, image).spacing
        elif far > 1.01:
            with refused(r"do not lie on one grid: their corners are \S+ mm apart \(tolerance \S+ mm\); if the"):
                both(image, mask)

    def test_a_shift_by_one_voxel_is_no_rounding_of_a_qform(self) -> None:
        oblique = rotation((np.pi, 0.3, np.pi - 1e-4)) @ np.diag([0.7, 0.7, 3, 1])
        moved = oblique.copy()
        moved[:3, 3] += oblique[:3, 0]
        shape = (512, 512, 100)
        both(header(oblique, shape), header(oblique, shape, qform=True))
        with refused(r"their corners are 0\.\d+ mm apart"):
            both(header(oblique, shape), header(moved, shape, qform=True))

    def test_the_words_for_a_mask_in_ras(self) -> None:
        with pytest.raises(DataError) as caught:
            both(header(), header(np.diag([1.5, 2.5, 10, 1])))
        assert str(caught.value) == (
            "image.nii.gz (LPS) and mask.nii.gz (RAS) do not lie on one grid: their corners are 186.3 mm apart "
            "(tolerance 0.15 mm); if the headers are right, reorient or resample mask.nii.gz onto the grid of the "
            'image; else correct the wrong one, or accept it as it is with data.geometry = "ignore"'
        )

    def test_other_voxel_sizes(self) -> None:
        with refused(r"their voxels are of 1\.5 × 2\.5 × 10 mm and 1\.5 × 2\.5 × 8 mm, their corners are 10 mm apart"):
            both(header(), header(np.diag([-1.5, -2.5, 8, 1])))
        with refused(r"their voxels are of 1\.64 × 1\.64 × 10 mm and 1 × 1 × 1 mm"):
            both(header(np.diag([-1, -1, 1, 1]), edit=pixdim(1.64, 1.64, 10)), header(np.diag([-1, -1, 1, 1])))

    def test_every_further_file_is_compared_with_the_first(self) -> None:
        files = [(IMAGE, header()), (Path("t2.nii.gz"), header()), (MASK, header(np.diag([1.5, 2.5, 10, 1])))]
        with refused(r"image\.nii\.gz \(LPS\) and mask\.nii\.gz \(RAS\)"):
            volume_header(KEY, files)
        with refused(r"image\.nii\.gz \(LPS\) and t2\.nii\.gz \(RAS\)"):
            volume_header(KEY, [files[0], (Path("t2.nii.gz"), files[2][1]), files[0]])

    def test_headers_that_say_nothing(self) -> None:
        mute = header(edit=silent)
        assert mute.orientation == "unknown"
        assert both(mute, mute) == VolumeHeader((6, 40, 30), (10.0, 1.5, 2.5))
        words = r"mask\.nii\.gz states no orientation .*, image\.nii\.gz does \(LPS\); give it the affine"
        with refused(words):
            both(header(), mute)
        with refused(r"image\.nii\.gz states no orientation .*, mask\.nii\.gz does \(LPS\); give it the affine"):
            both(mute, header())
        assert kinds(both(header(), mute, geometry="ignore")) == ["silent"]
        with refused("their voxels are of 1.5 × 2.5 × 10 mm and 1 × 1 × 1 mm"):
            both(mute, header(np.eye(4), edit=silent))

    def test_images_of_two_axes(self) -> None:
        flat = np.diag([-1.5, -2.5, 0, 1.0])
        for affine in (flat, np.diag([-1.5, -2.5, 1, 1.0]), np.diag([-1.5, -2.5, -7, 1.0])):
            mask = header(affine, (40, 30), edit=pixdim(1.5, 2.5, 0))
            assert both(header(flat, (40, 30)), mask) == VolumeHeader((1, 40, 30), (1.0, 1.5, 2.5))
        with refused(r"do not lie on one grid"):
            both(header(flat, (40, 30)), header(np.diag([1.5, -2.5, 1, 1.0]), (40, 30)))
        one = header(flat, (40, 30, 1), edit=pixdim(1.5, 2.5, 0))
        assert kinds(alone(one)) == ["thickness"]
        assert alone(one).spacing == (1.0, 1.5, 2.5)

    def test_shapes_have_to_match_whatever_is_ignored(self) -> None:
        with refused(r"the image is \(6, 40, 30\) and mask\.nii\.gz \(5, 40, 30\)"):
            both(header(), header(shape=(40, 30, 5)), geometry="ignore")


def unequal_forms(code: int, *, affine: NDArray[Any] | None = None) -> Edit:
    def edit(found: Any) -> None:
        found.set_qform(np.diag([-1.5, -2.5, 10, 1]) if affine is None else affine, code)

    return edit


def field(name: str, value: Any) -> Edit:
    def edit(found: Any) -> None:
        found[name] = value

    return edit


def qform_only(edit: Edit) -> Edit:
    def both_edits(found: Any) -> None:
        found.set_qform(found.get_sform(), 1)
        found["sform_code"] = 0
        edit(found)

    return both_edits


SHIFTED = np.diag([-1.5, -2.5, 10, 1.0])
SHIFTED[0, 3] = 12.0


class TestContradictions:
    """What one header says of itself."""

    @pytest.mark.parametrize(
        ("edit", "kind", "spacing", "words"),
        [
            (
                pixdim(np.nan, np.nan, 10),
                "pixdim",
                (10, 1.5, 2.5),
                r"states voxels of nan × nan × 10 mm, the sform 1\.5",
            ),
            (pixdim(0, 0, 0), "pixdim", (10, 1.5, 2.5), r"states voxels of 0 × 0 × 0 mm.*: the sform's are used"),
            (pixdim(1.5, np.inf, 10), "pixdim", (10, 1.5, 2.5), "1.5 × inf × 10"),
            (pixdim(-1.5, 2.5, 10), "negative", (10, 1.5, 2.5), r"-1\.5 × 2\.5 × 10 mm\): its magnitudes"),
            (
                pixdim(1, 1, 1),
                "default",
                (10, 1.5, 2.5),
                "the sform's are used, since 1 is what pixdim holds by default",
            ),
            (
                field("srow_x", [np.nan] * 4),
                None,
                None,
                r"its sform is no affine .*, and there is no sound qform; correct",
            ),
            (field("srow_x", [0, -2.5, 0, 0]), None, None, "its sform is no affine"),
            (
                pixdim(1.5, 2.5, 8),
                None,
                None,
                r"pixdim states voxels of 1\.5 × 2\.5 × 8 mm, the sform 1\.5 × 2\.5 × 10 mm;",
            ),
            (pixdim(np.nan, 2.5, 8), None, None, r"pixdim states voxels of nan × 2\.5 × 8 mm, the sform"),
            (unequal_forms(2, affine=SHIFTED), None, None, r"corner of the grid 12 mm apart, both as code 2; correct"),
            (
                unequal_forms(1, affine=SHIFTED),
                "spaces",
                (10, 1.5, 2.5),
                r"12 mm apart \(codes 2 and 1\): the sform is",
            ),
            (
                unequal_forms(1, affine=np.diag([1.5, 2.5, 10, 1])),
                None,
                None,
                r"its sform \(code 2\) is LPS, its qform \(code 1\) RAS; correct the header: set both to the true one",
            ),
            (field("srow_x", [-1.5, 0.5, 0, 0]), None, None, "pixdim states voxels of"),
            (field("xyzt_units", 5), "unit", (10, 1.5, 2.5), "xyzt_units holds 5, no unit of length: millimetres"),
            (field("xyzt_units", 3), "micrometre", (0.01, 0.0015, 0.0025), "since its unit is the micrometre"),
            (field("xyzt_units", 1), "implausible", (10000, 1500, 2500), r"1500 × 2500 × 10000 mm \(xyzt_units 1\)"),
            (qform_only(field("quatern_b", 3.0)), None, None, "its qform is no affine .*, and there is no sform"),
            (qform_only(field("qoffset_x", np.inf)), None, None, "its qform is no affine"),
            (qform_only(pixdim(np.nan, 2.5, 10)), None, None, "voxel sizes are unknown: pixdim is nan × 2.5 × 10 mm"),
            (qform_only(lambda h: h["pixdim"].__setitem__(0, 7)), "qfac", (10, 1.5, 2.5), r"pixdim\[0\] is 7, neither"),
        ],
    )
    def test_is_decided_or_refused(self, edit: Edit, kind: str | None, spacing: Any, words: str) -> None:
        found = header(edit=edit)
        if kind is None:
            with refused(rf"^image\.nii\.gz: .*{words}.*, or accept it as it is with data\.geometry = \"ignore\"$"):
                alone(found)
            assert re.search(words.partition(";")[0], alone(found, geometry="ignore").caveats[0].text)
            return
        taken = alone(found)
        assert kinds(taken) == [kind]
        assert re.search(words, taken.caveats[0].text)
        assert taken.caveats[0].text.startswith("image.nii.gz: ")
        assert taken.spacing == pytest.approx(spacing)

    def test_a_broken_sform_leaves_the_qform(self) -> None:
        def edit(found: Any) -> None:
            found.set_qform(np.diag([-1.5, -2.5, 10, 1]), 1)
            found["srow_y"] = np.inf

        found = header(edit=edit)
        assert (found.source, found.orientation) == ("qform", "LPS")
        assert kinds(alone(found)) == ["sform"]

    def test_a_matrix_of_directions_leaves_the_sizes_of_pixdim(self) -> None:
        """ACDC's own headers."""
        found = alone(header(np.diag([-1, -1, 1, 1]), edit=pixdim(1.5625, 1.5625, 10)))
        assert found.spacing == (10, 1.5625, 1.5625)
        assert [caveat.text for caveat in found.caveats] == [
            "image.nii.gz: pixdim states voxels of 1.562 × 1.562 × 10 mm, the sform 1 × 1 × 1 mm, which only gives "
            "directions: those of pixdim are used"
        ]

    def test_axes_that_are_not_at_right_angles(self) -> None:
        sheared = np.diag([-1.5, -2.5, 10, 1.0])
        sheared[1, 2] = 4.0
        found = alone(header(sheared))
        assert kinds(found) == ["shear"]
        assert "axes j and k of its sform meet at 68.2°" in found.caveats[0].text

    def test_sizes_are_unknown_where_nothing_states_them_and_one_insists(self) -> None:
        def edit(found: Any) -> None:
            silent(found)
            found["pixdim"][1:4] = 0, 2.5, 10

        mute = header(edit=edit)
        with refused(r"voxel sizes are unknown: pixdim is 0 × 2\.5 × 10 mm, and no sform states them; write them into"):
            alone(mute)
        np.testing.assert_array_equal(alone(mute, geometry="ignore").spacing, [10, np.nan, 2.5])

    numbers = st.one_of(
        st.floats(-1e3, 1e3, width=32), st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf])
    )

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_any_header_is_taken_or_refused_in_one_line(self, data: st.DataObject) -> None:
        def edit(found: Any) -> None:
            for name in data.draw(st.lists(st.sampled_from(fields), max_size=4)):
                found[name] = (
                    [data.draw(self.numbers) for _ in range(found[name].size)]
                    if found[name].ndim
                    else data.draw(st.integers(-1, 8) if found[name].dtype.kind == "i" else self.numbers)
                )
            if data.draw(st.booleans()):
                found["xyzt_units"] = data.draw(st.integers(0, 255))

        fields = ["pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"]
        fields += ["qform_code", "sform_code"]
        shape = data.draw(st.sampled_from([SHAPE, (40, 30), (40, 30, 1), (4, 30, 40)]))
        image, mask = header(shape=shape, edit=edit), header(shape=shape, edit=edit)
        for sliced in (False, True):
            assert both(image, mask, geometry="ignore", sliced=sliced).shape == (*shape, 1)[2:3] + shape[:2]
            try:
                found = both(image, mask, sliced=sliced)
            except DataError as error:
                assert re.fullmatch(
                    r"[^\n]+; [^\n]+, or accept it as it is with data\.geometry = \"ignore\"", str(error)
                )
            else:
                assert np.isfinite(found.spacing).all()
                assert min(found.spacing) > 0


class TestSliceAxis:
    def stacked(self, shape: tuple[int, int, int], sizes: tuple[float, float, float], **options: Any) -> VolumeHeader:
        return alone(header(np.diag([*sizes, 1.0]), shape), sliced=True, **options)

    @pytest.mark.parametrize(
        ("shape", "sizes", "words"),
        [
            (
                (11, 208, 256),
                (10, 1.5, 1.5),
                r"256 slices of 11 × 208 pixels, with voxels of 10 × 1\.5 × 1\.5 mm along i",
            ),
            ((208, 11, 256), (1.5, 10, 1.5), r"they seem to be stacked along j; make j the third axis \(k\)"),
            ((1, 208, 256), (1, 1, 1), r"256 slices of 1 × 208 pixels.*; make i the third axis"),
        ],
    )
    def test_is_refused_where_shape_and_sizes_say_so(self, shape: Any, sizes: Any, words: str) -> None:
        with refused(words):
            self.stacked(shape, sizes)
        assert kinds(self.stacked(shape, sizes, geometry="ignore")) == ["slices"]
        assert kinds(alone(header(np.diag([*sizes, 1.0]), shape))) == [], "a network of volumes does not mind"

    @pytest.mark.parametrize(
        ("shape", "sizes"),
        [((11, 208, 256), (1, 1, 1)), ((11, 208, 256), (1.5, 1.5, 10)), ((100, 256, 256), (3, 1, 1))],
    )
    def test_is_doubted_where_one_of_them_does(self, shape: Any, sizes: Any) -> None:
        found = self.stacked(shape, sizes)
        assert kinds(found) == ["slices"]
        assert found.caveats[0].text.endswith("are slices stacked along its third axis?")

    @pytest.mark.parametrize(
        ("shape", "sizes"),
        [
            ((208, 256, 11), (1.5, 1.5, 10)),
            ((160, 256, 256), (1, 1, 1)),
            ((35, 51, 35), (1, 1, 1)),
            ((256, 160, 220), (1, 1.2, 1)),
            ((512, 512, 900), (0.7, 0.7, 0.6)),
            ((208, 256, 1), (1.5, 4, 10)),
        ],
    )
    def test_usual_volumes_are_not_bothered(self, shape: Any, sizes: Any) -> None:
        assert self.stacked(shape, sizes).caveats == ()


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    pixels = np.arange(5 * 6 * 3, dtype=np.int16).reshape(5, 6, 3)
    mask = (pixels % 4).astype(np.uint8)
    expected = None
    for extra in ((), (1,), (1, 1), (1, 1, 1, 1)):
        file = VolumeFile(KEY, (tmp_path / f"{len(extra)}.nii.gz",), tmp_path / f"{len(extra)}_gt.nii")
        for path, array in ((file.images[0], pixels), (file.label, mask)):
            nifti.save(nifti.Nifti1Image(array.reshape(5, 6, 3, *extra), np.diag([-1, -2, 3, 1])), path)
        assert read_header(file) == VolumeHeader((3, 5, 6), (3, 1, 2))
        volume = read_volume(file, {"RV": 1, "MYO": 2, "LV": 3})
        expected = volume if expected is None else expected
        np.testing.assert_array_equal(volume.image, expected.image)
        np.testing.assert_array_equal(volume.label, expected.label)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((5, 6, 3, 30), r"4D of shape \(5, 6, 3, 30\); .*: split a series into one file a frame"),
        ((5, 6, 1, 11), r"if axis 4 holds slices, make it the third one; if it holds frames, split the series"),
        ((5, 6, 1, 1, 3), r"if axis 5 holds slices"),
        ((5, 6, 1, 2, 3), r"5D of shape .*: split a series into one file a frame"),
    ],
)
def test_series_are_refused(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    file = VolumeFile(KEY, (tmp_path / "image.nii",), tmp_path / "image.nii")
    nifti.save(nifti.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), file.images[0])
    with refused(words):
        read_header(file)


class TestRun:
    """A whole data set: what plan and capture say."""

    @pytest.fixture
    def flipped(self, phantom_copy: Path) -> Path:
        """One mask of four in another orientation; the same anatomy."""
        path = phantom_copy / "patient001/patient001_frame01_gt.nii.gz"
        nifti.save(nifti.as_closest_canonical(nifti.load(path)), path)
        return phantom_copy

    def test_a_flipped_mask_fails_by_itself(self, flipped: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
        spec = load_spec(write_spec(tmp_path, data__root=flipped, data__patients=["patient001"]))
        plan = make_plan(spec, timing=False)
        assert [name for name, _ in plan.unreadable] == ["patient001 frame 01"]
        summary = capture(spec, cluster="inline", device="cpu")
        assert summary.done == 1
        assert [report.error for report in summary.failed] == [why for _, why in plan.unreadable]
        assert "(LPS)" in summary.failed[0].error
        assert "(RAS)" in summary.failed[0].error

    def test_insisting_is_another_run_and_is_said(self, flipped: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
        path = write_spec(tmp_path, data__root=flipped, data__geometry="ignore")
        done = CliRunner().invoke(main, ["plan", str(path)])
        assert done.exit_code == 0
        assert "taken with care: patient001 frame 01: " in done.stderr
        assert "do not lie on one grid" in done.stderr
        assert "will fail" not in done.stderr
        assert load_spec(path).identity()["geometry"] == "ignore"

    def test_a_caveat_of_many_volumes_is_one_line(
        self, phantom_copy: Path, tmp_path: Path, write_spec: WriteSpec
    ) -> None:
        for file in phantom_copy.glob("*/*.nii.gz"):
            image = nifti.load(file)
            image.header.set_sform(np.diag([-1, -1, 1, 1]), 2)
            nifti.save(nifti.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), file)
        spec = load_spec(write_spec(tmp_path, data__root=phantom_copy))
        plan = make_plan(spec, timing=False)
        assert [volumes for volumes, _ in plan.caveats] == ["patient001 frame 01 and 3 more"]

    def test_stores_made_before_there_was_a_choice_can_be_continued(self, tiny_spec: Path) -> None:
        assert "geometry" not in load_spec(tiny_spec).identity()

    def test_other_words_are_refused(self, tiny_spec: Path) -> None:
        content = load_spec(tiny_spec).model_dump(mode="json", exclude={"cluster", "folder"})
        content["data"]["geometry"] = "never"
        with pytest.raises(SpecError, match=r"data\.geometry = 'never'"):
            Spec.from_mapping(content)


def test_the_report_says_which_volumes_have_no_size() -> None:
    samples = pd.DataFrame({"patient": ["a", "a", "b", "c"], "frame": [1, 1, 2, 1], "spacing_z": np.nan})
    samples = samples.assign(spacing_y=[1.5, 1.5, np.nan, 0.0], spacing_x=1.5)
    study: Any = SimpleNamespace(store=SimpleNamespace(samples=samples, layout=SimpleNamespace(space=(8, 8))))
    assert _unmeasured(study) == "; without 2 volumes of unknown voxel size, the first b frame 2"
    study.store.samples = samples.iloc[:2]
    assert _unmeasured(study) == ""


@pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE is not set")
@pytest.mark.parametrize(
    ("images", "kind"),
    [("nnunet/imagesTr", ["sizes"]), ("acdc", ["sizes"]), ("nnunet_v2/raw/Dataset001_Heart/imagesTr", [])],
)
def test_real_headers_are_taken(images: str, kind: list[str]) -> None:
    found = sorted(Path(REFERENCE or "", images).rglob("*.nii.gz"))
    pairs = [(path, path.parents[1] / "labelsTr" / path.name.replace("_0000", "")) for path in found]
    if images == "acdc":
        pairs = [
            (path, path.with_name(path.name.replace(".nii", "_gt.nii"))) for path in found if "_gt" not in path.name
        ]
    assert len(pairs) == 4
    for image, label in pairs:
        taken = read_header(VolumeFile(KEY, (image,), label), sliced=True)
        assert kinds(taken) == kind
        assert taken.spacing[0] >= 8.5
        assert 1.3 < taken.spacing[1] == taken.spacing[2] < 1.7


@pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE is not set")
def test_real_channels_lie_on_one_grid() -> None:
    folder = Path(REFERENCE or "", "nnunet_v2/raw/Dataset002_Regions")
    for second in folder.glob("imagesTr/*_0001.nii.gz"):
        first = second.with_name(second.name.replace("_0001", "_0000"))
        label = folder / "labelsTr" / second.name.replace("_0001", "")
        read_header(VolumeFile(KEY, (first,), label))
        read_header(VolumeFile(KEY, (first,), second))
