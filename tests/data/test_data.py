"""Readers: what is found, what is read, and what is refused in which words."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.data.discovery import find_volumes
from actstore.data.nifti import LABEL_TOLERANCE, class_indices, digest_files, read_header, read_volume
from actstore.data.nnunet import key_of
from actstore.data.volume import VolumeFile, VolumeKey
from actstore.errors import DataError
from actstore.spec.toml_tables import Data

CLASSES = {"RV": 1, "MYO": 2, "LV": 3}
REFERENCE = os.environ.get("ACTSTORE_REFERENCE")
Edit = Callable[[Any], None]


def write(path: Path, pixels: NDArray[Any], edit: Edit | None = None) -> Path:
    """A NIfTI file holding ``pixels`` (row, column, slice) as stored; ``edit`` changes its header."""
    nifti: Any = nibabel
    image = nifti.Nifti1Image(pixels, np.diag([1.5, 2.5, 10.0, 1.0]), dtype=pixels.dtype)
    content = bytearray(image.to_bytes())
    header = nifti.Nifti1Header(bytes(content[:348]), check=False)
    if edit:
        edit(header)
    content[:348] = header.binaryblock
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def image_pixels(shape: tuple[int, ...] = (5, 6, 3), dtype: str = "int16") -> NDArray[Any]:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def mask_pixels(shape: tuple[int, ...] = (5, 6, 3)) -> NDArray[np.uint8]:
    return (np.arange(np.prod(shape)).reshape(shape) % 4).astype(np.uint8)


def volume_file(
    folder: Path, image: NDArray[Any] | None = None, mask: NDArray[Any] | None = None, edit: Edit | None = None
) -> VolumeFile:
    return VolumeFile(
        VolumeKey("p", 1),
        (write(folder / "image.nii.gz", image_pixels() if image is None else image, edit),),
        write(folder / "mask.nii.gz", mask_pixels() if mask is None else mask),
    )


def acdc_root(root: Path, *frames: tuple[str, int]) -> Path:
    for patient, frame in frames:
        write(root / patient / f"{patient}_frame{frame:02d}.nii.gz", image_pixels())
        write(root / patient / f"{patient}_frame{frame:02d}_gt.nii.gz", mask_pixels())
    return root


def nnunet_root(root: Path, *cases: str) -> Path:
    for case in cases:
        write(root / "imagesTr" / f"{case}_0000.nii.gz", image_pixels())
        write(root / "labelsTr" / f"{case}.nii.gz", mask_pixels())
    return root


def data(format: str, root: Path, **more: Any) -> Data:
    return Data.model_validate({"format": format, "root": root, "classes": CLASSES, **more})


def refused(words: str) -> Any:
    return pytest.raises(DataError, match=words)


class TestFind:
    def test_nnunet_cases_become_sorted_keys(self, tmp_path: Path) -> None:
        nnunet_root(tmp_path, "patient002_frame12", "patient002_frame01", "la_007")
        (tmp_path / "imagesTr" / "._la_007_0000.nii.gz").write_bytes(b"finder")
        (tmp_path / "imagesTr" / "readme.txt").write_text("text")
        found = find_volumes(data("nnunet", tmp_path))
        assert [str(f.key) for f in found] == ["la_007", "patient002 frame 01", "patient002 frame 12"]
        assert found[0].images[0].name == "la_007_0000.nii.gz"
        assert found[0].label.name == "la_007.nii.gz"
        assert (found[1].phase, found[1].group) == ("", "")

    @pytest.mark.parametrize(
        ("case", "key"),
        [
            ("patient001_frame01", VolumeKey("patient001", 1)),
            ("patient001_frame123", VolumeKey("patient001", 123)),
            ("patient001", VolumeKey("patient001", 0)),
            ("_frame01", VolumeKey("_frame01", 0)),
            ("a_frame", VolumeKey("a_frame", 0)),
        ],
    )
    def test_key_of_case(self, case: str, key: VolumeKey) -> None:
        assert key_of(case) == key

    def test_acdc_phase_group_and_splits(self, tmp_path: Path) -> None:
        acdc_root(tmp_path / "training", ("patient002", 1), ("patient002", 14), ("patient002", 20))
        acdc_root(tmp_path / "testing", ("patient101", 1))
        acdc_root(tmp_path, ("patient000", 3))
        write(tmp_path / "training/patient002/patient002_4d.nii.gz", image_pixels((2, 2, 2, 2)))
        (tmp_path / "training/patient002/Info.cfg").write_text("ED: 1\nES: 14\nGroup: DCM\nHeight: 169.0\n")
        found = find_volumes(data("acdc", tmp_path))
        assert [(f.key.patient, f.key.frame, f.phase, f.group) for f in found] == [
            ("patient000", 3, "", ""),
            ("patient002", 1, "ED", "DCM"),
            ("patient002", 14, "ES", "DCM"),
            ("patient002", 20, "", "DCM"),
            ("patient101", 1, "", ""),
        ]

    def test_info_without_frame_numbers_is_refused(self, tmp_path: Path) -> None:
        acdc_root(tmp_path, ("patient001", 1))
        (tmp_path / "patient001/Info.cfg").write_text("ED: soon\n")
        with refused(r"Info\.cfg: ED = 'soon' is not a frame number"):
            find_volumes(data("acdc", tmp_path))

    def test_patients_filter(self, tmp_path: Path) -> None:
        acdc_root(tmp_path, ("patient001", 1), ("patient002", 1), ("patient003", 1))
        found = find_volumes(data("acdc", tmp_path, patients=["patient003", "patient001"]))
        assert [f.key.patient for f in found] == ["patient001", "patient003"]

    def test_unknown_patient_is_named_with_those_there(self, tmp_path: Path) -> None:
        acdc_root(tmp_path, *((f"patient{n:03d}", 1) for n in range(1, 12)))
        with refused(
            r"no patient patient099; there are 11 \(patient001, .*, patient008 and 3 more\): correct data\.pat"
        ):
            find_volumes(data("acdc", tmp_path, patients=["patient001", "patient099"]))

    @pytest.mark.parametrize("format", ["nnunet", "acdc"])
    def test_missing_root(self, tmp_path: Path, format: str) -> None:
        with refused(r"nowhere: no such folder, .*; correct data\.root"):
            find_volumes(data(format, tmp_path / "nowhere"))

    @pytest.mark.parametrize("format", ["nnunet", "acdc"])
    def test_root_that_is_a_file(self, tmp_path: Path, format: str) -> None:
        path = tmp_path / "file"
        path.write_text("")
        with refused("not a folder"):
            find_volumes(data(format, path))

    def test_nothing_found(self, tmp_path: Path) -> None:
        with refused(r"no volume found; expected patientXXX/patientXXX_frameYY\.nii\.gz"):
            find_volumes(data("acdc", tmp_path))
        with refused("imagesTr: no such folder"):
            find_volumes(data("nnunet", tmp_path))

    def test_every_lone_file_is_listed_at_once(self, tmp_path: Path) -> None:
        acdc_root(tmp_path, ("patient001", 1), ("patient002", 1), ("patient003", 1), ("patient004", 1))
        (tmp_path / "patient002/patient002_frame01_gt.nii.gz").unlink()
        (tmp_path / "patient003/patient003_frame01_gt.nii.gz").unlink()
        (tmp_path / "patient004/patient004_frame01.nii.gz").unlink()
        with refused(
            r"2 image\(s\) without a mask: patient002/patient002_frame01\.nii\.gz, "
            r"patient003/patient003_frame01\.nii\.gz; "
            r"1 mask\(s\) without an image: patient004/patient004_frame01_gt\.nii\.gz; add"
        ):
            find_volumes(data("acdc", tmp_path))
        assert len(find_volumes(data("acdc", tmp_path, patients=["patient001"]))) == 1

    def test_two_files_for_one_image(self, tmp_path: Path) -> None:
        acdc_root(tmp_path, ("patient001", 1))
        write(tmp_path / "patient001/patient001_frame01.nii", image_pixels())
        with refused(r"patient001 frame 01: 2 files for one image: .*frame01\.nii, .*frame01\.nii\.gz; keep one"):
            find_volumes(data("acdc", tmp_path))

    def test_patient_in_both_splits(self, tmp_path: Path) -> None:
        for split in ("training", "testing"):
            acdc_root(tmp_path / split, ("patient001", 1))
        with refused("2 files for one image: .*testing.*training"):
            find_volumes(data("acdc", tmp_path))

    def test_misplaced_file(self, tmp_path: Path) -> None:
        acdc_root(tmp_path, ("patient001", 1))
        write(tmp_path / "patient001/patient002_frame01.nii.gz", image_pixels())
        with refused("lies in the folder patient001; move it to patient002"):
            find_volumes(data("acdc", tmp_path))

    @pytest.mark.parametrize("keep", [True, False])
    def test_a_channel_without_a_name(self, tmp_path: Path, keep: bool) -> None:
        nnunet_root(tmp_path, "a")
        first = tmp_path / "imagesTr/a_0000.nii.gz"
        write(tmp_path / "imagesTr/a_0001.nii.gz", image_pixels())
        if not keep:
            first.unlink()
        words = r'name them all in the order of their numbers, data.channels = \["NAME 0", "NAME 1"\], or move'
        with refused(rf"a_0001\.nii\.gz: a further input channel, and nothing names the channels: {words}"):
            find_volumes(data("nnunet", tmp_path))

    def test_nnunet_image_without_channel_number(self, tmp_path: Path) -> None:
        nnunet_root(tmp_path, "a")
        write(tmp_path / "imagesTr/b.nii.gz", image_pixels())
        with refused(r"b\.nii\.gz: the name of an image ends in _0000"):
            find_volumes(data("nnunet", tmp_path))

    @pytest.mark.parametrize("patient", ["pa\ntient", "pa\x1b[31m", "x..", "a..b", "a\\b", " "])
    def test_refused_names_are_escaped(self, tmp_path: Path, patient: str) -> None:
        nnunet_root(tmp_path, "ok", f"{patient}_frame01")
        with refused("the patient name .* rename its files") as caught:
            find_volumes(data("nnunet", tmp_path))
        assert str(caught.value).isprintable()
        assert [f.key.patient for f in find_volumes(data("nnunet", tmp_path, patients=["ok"]))] == ["ok"]

    def test_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"p\xff")
        try:
            nnunet_root(tmp_path, name)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        with refused("bytes that are not UTF-8"):
            find_volumes(data("nnunet", tmp_path))

    def test_other_alphabets_are_kept_and_matched_in_any_composition(self, tmp_path: Path) -> None:
        nnunet_root(tmp_path, "Rene\u0301_frame01", "患者七")
        assert [f.key.patient for f in find_volumes(data("nnunet", tmp_path))] == ["Rene\u0301", "患者七"]
        assert len(find_volumes(data("nnunet", tmp_path, patients=["Ren\u00e9"]))) == 1


def test_phantom_is_generated_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def write_phantom(root: Path, *, patients: int, seed: int) -> None:
        calls.append((patients, seed))
        acdc_root(root, *((f"patient{n:03d}", 1) for n in range(1, patients + 1)))

    module = types.ModuleType("actstore.data.phantom")
    module.write_phantom = write_phantom  # type: ignore[attr-defined]
    module.check_seed = lambda root, seed: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "actstore.data.phantom", module)
    wanted = data("phantom", tmp_path / "phantom", phantom={"patients": 3, "seed": 5})
    first, second = find_volumes(wanted), find_volumes(wanted)
    assert [f.key.patient for f in first] == ["patient001", "patient002", "patient003"]
    assert first == second
    assert calls == [(3, 5)]


class TestRead:
    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            ("uint8", "float32"),
            ("int16", "float32"),
            ("uint16", "float32"),
            (">i2", "float32"),
            ("float32", "float32"),
            (">f4", "float32"),
            ("int32", "float64"),
            ("float64", "float64"),
        ],
    )
    def test_equals_get_fdata(self, tmp_path: Path, dtype: str, expected: str) -> None:
        file = volume_file(tmp_path, image_pixels(dtype=dtype))
        volume = read_volume(file, CLASSES)
        nifti: Any = nibabel
        np.testing.assert_array_equal(volume.image[0], nifti.load(file.images[0]).get_fdata().transpose(2, 0, 1))
        assert volume.image.dtype == expected
        assert volume.image.flags.c_contiguous
        np.testing.assert_array_equal(volume.label, mask_pixels().transpose(2, 0, 1))
        assert volume.label.dtype == np.uint8
        assert volume.key == file.key

    @pytest.mark.parametrize(("slope", "inter"), [(0.1, -3.25), (2.0, 0.0), (1.0, 7.0), (0.0, 5.0), (np.nan, np.nan)])
    def test_scaling(self, tmp_path: Path, slope: float, inter: float) -> None:
        def edit(header: Any) -> None:
            header["scl_slope"], header["scl_inter"] = slope, inter

        file = volume_file(tmp_path, edit=edit)
        volume = read_volume(file, CLASSES)
        nifti: Any = nibabel
        np.testing.assert_array_equal(volume.image[0], nifti.load(file.images[0]).get_fdata().transpose(2, 0, 1))
        assert volume.image.dtype == ("float64" if slope in (0.1, 2.0, 1.0) else "float32")

    def test_header(self, tmp_path: Path) -> None:
        header = read_header(volume_file(tmp_path))
        assert header.shape == (3, 5, 6)
        assert header.spacing == (10.0, 1.5, 2.5)

    @pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (7, 1), (2 + 8, 1)])
    def test_header_unit_is_turned_to_millimetres(self, tmp_path: Path, code: int, factor: float) -> None:
        def edit(header: Any) -> None:
            header["xyzt_units"] = code

        file = volume_file(tmp_path, edit=edit)
        write(file.label, mask_pixels(), edit)
        header = read_header(file)
        assert header.spacing == pytest.approx((10 * factor, 1.5 * factor, 2.5 * factor))
        kinds = {0: [], 1: ["implausible"], 2: [], 3: ["micrometre"], 7: ["unit"], 2 + 8: []}
        assert [caveat.kind for caveat in header.caveats] == kinds[code]

    def test_two_axes_are_one_slice(self, tmp_path: Path) -> None:
        file = volume_file(tmp_path, image_pixels((5, 6)), mask_pixels((5, 6)))
        assert read_header(file).shape == (1, 5, 6)
        np.testing.assert_array_equal(read_volume(file, CLASSES).image[0], image_pixels((5, 6))[np.newaxis])

    def test_nifti2_and_plain(self, tmp_path: Path) -> None:
        nifti: Any = nibabel
        image = tmp_path / "image.nii"
        image.write_bytes(nifti.Nifti2Image(image_pixels(), np.diag([1.5, 2.5, 10, 1]), dtype="int16").to_bytes())
        file = VolumeFile(VolumeKey("p", 0), (image,), write(tmp_path / "mask.nii", mask_pixels()))
        assert read_header(file).shape == (3, 5, 6)
        np.testing.assert_array_equal(read_volume(file, CLASSES).image[0], image_pixels().transpose(2, 0, 1))

    def test_digest(self, tmp_path: Path) -> None:
        file = volume_file(tmp_path)
        expected = hashlib.sha256(file.images[0].read_bytes() + file.label.read_bytes()).digest()
        assert read_volume(file, CLASSES).digest == digest_files(file) == expected

    def test_labels_become_indices_by_rising_value(self, tmp_path: Path) -> None:
        mask = np.array([0, 40, 7, 200], np.uint8)[mask_pixels()]
        label = read_volume(volume_file(tmp_path, mask=mask.astype(np.float32)), {"C": 200, "A": 7, "B": 40}).label
        expected = np.array([0, 2, 1, 3], np.uint8)[mask_pixels()]
        np.testing.assert_array_equal(label, expected.transpose(2, 0, 1))

    @pytest.mark.parametrize("step", [3, 7, 10, 85])
    def test_labels_that_a_slope_moves_off_whole_numbers(self, tmp_path: Path, step: int) -> None:
        def edit(header: Any) -> None:
            header["scl_slope"] = 1 / step

        file = volume_file(tmp_path)
        write(file.label, mask_pixels() * np.uint8(step), edit)
        nifti: Any = nibabel
        assert set(nifti.load(file.label).get_fdata().flat) != {0, 1, 2, 3}
        np.testing.assert_array_equal(read_volume(file, CLASSES).label, mask_pixels().transpose(2, 0, 1))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.floats(-0.5, 0.5)), min_size=1, max_size=8), st.booleans())
    def test_a_label_is_the_whole_number_it_is_within_a_thousandth_of(
        self, labels: list[tuple[int, float]], double: bool
    ) -> None:
        raw = np.array([[[label + off for label, off in labels]]], np.float64 if double else np.float32)
        distance = np.abs(raw - np.rint(raw)).max()
        if distance <= LABEL_TOLERANCE:
            assert class_indices(raw, CLASSES, Path("mask.nii")).tolist() == np.rint(raw).astype(int).tolist()
        else:
            with refused("is not a whole number"):
                class_indices(raw, CLASSES, Path("mask.nii"))

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (2.99, r"label value 2\.99 \(1 pixel\) is not a whole number: resampled with interpolation, or prob"),
            (0.0010001, r"label value 0\.0010001 \(1 pixel\) is not a whole number"),
            (4.0000001, r"label value 4 \(1 pixel\) is none of background = 0"),
            (-1.0, r"label value -1 \(1 pixel\) is none of"),
            (1e30, r"label value 1e\+30 \(1 pixel\) is none of"),
            (np.inf, r"label value inf \(1 pixel\) is no number; correct the mask"),
            (np.nan, r"label value nan \(1 pixel\) is no number"),
        ],
    )
    def test_labels_are_shown_with_all_their_digits(self, value: float, words: str) -> None:
        with refused(words):
            class_indices(np.array([[[0.0, 3.0, value]]]), CLASSES, Path("mask.nii"))

    def test_a_negative_zero_is_background(self) -> None:
        assert class_indices(np.array([[[-0.0, -1e-9, 3.0]]]), CLASSES, Path("mask.nii")).tolist() == [[[0, 0, 3]]]

    def test_a_repaired_header_prints_nothing(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        def edit(header: Any) -> None:
            header["pixdim"][0:2] = 7, -1.5

        assert read_header(volume_file(tmp_path, edit=edit)).spacing == (10.0, 1.5, 2.5)
        assert capfd.readouterr() == ("", "")


class TestRefuse:
    def both(self, file: VolumeFile, words: str) -> None:
        with refused(words):
            read_header(file)
        self.volume(file, words)

    def volume(self, file: VolumeFile, words: str) -> None:
        with refused(words) as caught:
            read_volume(file, CLASSES)
        assert "\n" not in str(caught.value)

    def test_shapes_differ(self, tmp_path: Path) -> None:
        file = volume_file(tmp_path, mask=mask_pixels((5, 6, 4)))
        self.both(file, r"p frame 01: the image is \(3, 5, 6\) and mask\.nii\.gz \(4, 5, 6\) \(slice, row, column\)")

    @pytest.mark.parametrize("shape", [(5,), (5, 6, 3, 2), (5, 6, 3, 1, 2), (5, 6, 1, 2)])
    def test_other_dimensions(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        self.both(volume_file(tmp_path, image_pixels(shape)), rf"image\.nii\.gz: {len(shape)}D of shape")

    def test_complex_pixels(self, tmp_path: Path) -> None:
        self.both(volume_file(tmp_path, image_pixels(dtype="complex64")), "pixels of type complex64")

    def test_unexpected_labels_are_counted(self, tmp_path: Path) -> None:
        mask = mask_pixels().astype(np.float32)
        mask[0, 0, :2] = 9
        mask[1, 1, 1] = 1.5
        mask[2, 2, 2] = np.nan
        self.volume(
            volume_file(tmp_path, mask=mask),
            r"mask\.nii\.gz: label value 1\.5 \(1 pixel\) is not a whole number: resampled with interpolation, .*; "
            r"label value nan \(1 pixel\) is no number; correct the mask; label value 9 \(2 pixels\) is none of "
            r"background = 0, RV = 1, MYO = 2, LV = 3; add it to data\.classes",
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_pixels_that_are_no_numbers(self, tmp_path: Path, value: float) -> None:
        image = image_pixels(dtype="float32")
        image[1, 2, 0] = image[0, 0, 2] = value
        self.volume(volume_file(tmp_path, image), r"2 pixels are NaN or infinite, the first at \(0, 1, 2\)")

    def test_constant_image(self, tmp_path: Path) -> None:
        self.volume(volume_file(tmp_path, np.full((5, 6, 3), 7, np.int16)), "constant, every pixel is 7")

    def test_constant_slice_is_no_reason(self, tmp_path: Path) -> None:
        image = image_pixels()
        image[:, :, 1] = 7
        assert np.ptp(read_volume(volume_file(tmp_path, image), CLASSES).image[0, 1]) == 0

    def test_truncated_gzip(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 9999, (50, 60, 3)).astype("int16")
        file = volume_file(tmp_path, noise, mask_pixels((50, 60, 3)))
        file.images[0].write_bytes(file.images[0].read_bytes()[:-500])
        self.volume(file, r"image\.nii\.gz: truncated, the compressed data end early; restore")
        file.images[0].write_bytes(file.images[0].read_bytes()[:20])
        self.both(file, r"image\.nii\.gz: truncated")

    def test_truncated_plain(self, tmp_path: Path) -> None:
        image = write(tmp_path / "image.nii", image_pixels())
        image.write_bytes(image.read_bytes()[:-10])
        file = VolumeFile(VolumeKey("p", 1), (image,), write(tmp_path / "mask.nii", mask_pixels()))
        self.volume(file, r"truncated, 170 of 180 bytes of pixels")

    def test_flipped_bit(self, tmp_path: Path) -> None:
        file = volume_file(tmp_path)
        content = bytearray(file.images[0].read_bytes())
        content[-6] ^= 1
        file.images[0].write_bytes(content)
        self.volume(file, r"damaged, cannot be unpacked \(CRC check failed")

    @pytest.mark.parametrize("content", [b"", b"P5", b"x" * 1000, gzip.compress(b"x" * 1000, mtime=0)])
    def test_other_files(self, tmp_path: Path, content: bytes) -> None:
        file = volume_file(tmp_path)
        file.images[0].write_bytes(content)
        self.both(file, r"image\.nii\.gz: not a NIfTI file")

    def test_pair_of_files(self, tmp_path: Path) -> None:
        def edit(header: Any) -> None:
            header["magic"] = b"ni1"

        self.both(volume_file(tmp_path, edit=edit), "not a single-file NIfTI")

    def test_vanished(self, tmp_path: Path) -> None:
        file = volume_file(tmp_path)
        file.label.unlink()
        self.both(file, r"mask\.nii\.gz: the file is gone")
        with refused("the file is gone"):
            digest_files(file)

    def test_folder_in_place_of_a_file(self, tmp_path: Path) -> None:
        file = VolumeFile(VolumeKey("p", 1), (tmp_path,), write(tmp_path / "mask.nii", mask_pixels()))
        with refused("Is a directory"):
            read_volume(file, CLASSES)

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def test_a_damaged_header_reads_or_is_refused(
        self, tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("damaged")
        image = write(folder / "image.nii", image_pixels())
        content = bytearray(image.read_bytes())
        for _ in range(draw.draw(st.integers(1, 4))):
            content[draw.draw(st.integers(0, 351))] = draw.draw(st.integers(0, 255))
        image.write_bytes(content)
        file = VolumeFile(VolumeKey("p", 1), (image,), write(folder / "mask.nii", mask_pixels()))
        for read in (lambda: read_header(file), lambda: read_volume(file, CLASSES)):
            try:
                read()
            except DataError as error:
                assert re.fullmatch(r"[^\n]+", str(error))


@pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE is not set")
@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("acdc", ["patient101 ED DCM", "patient101 ES DCM", "patient102 ED NOR", "patient102 ES NOR"]),
        ("nnunet", ["patient001", "patient001", "patient002", "patient002"]),
    ],
)
def test_real_volumes(format: str, expected: list[str]) -> None:
    files = find_volumes(data(format, Path(REFERENCE or "") / format))
    assert [f"{f.key.patient} {f.phase} {f.group}".strip() for f in files] == expected
    nifti: Any = nibabel
    for file in files:
        volume = read_volume(file, CLASSES)
        assert volume.image.shape[1:] == volume.label.shape == read_header(file).shape
        assert volume.image.dtype == np.float32
        assert np.unique(volume.label).tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(volume.image[0], nifti.load(file.images[0]).get_fdata().transpose(2, 0, 1))
        np.testing.assert_array_equal(volume.label, nifti.load(file.label).get_fdata().transpose(2, 0, 1))
