"""Several input channels, the order of axes, and what ``dataset.json`` says of both."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from actstore.data.dataset_json import DatasetJson, read_dataset_json
from actstore.data.discovery import discover
from actstore.data.geometry import Order
from actstore.data.nifti import digest_files, read_header, read_volume
from actstore.data.pairing import Discovery
from actstore.data.volume import VolumeFile, VolumeKey
from actstore.errors import DataError
from actstore.spec.toml_tables import Data

REFERENCE = os.environ.get("ACTSTORE_REFERENCE")
CLASSES = {"RV": 1, "MYO": 2, "LV": 3}
SHAPE = (5, 6, 3)
ORDERS: list[Order] = [(2, 0, 1), (2, 1, 0), (0, 1, 2)]


def refused(words: str) -> Any:
    return pytest.raises(DataError, match=rf"^[^\n]*{words}[^\n]*$")


def pixels(channel: int) -> NDArray[np.int16]:
    return np.random.default_rng(channel).integers(0, 999, SHAPE).astype(np.int16)


MASK = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4).astype(np.uint8)


def write(path: Path, values: NDArray[Any], sizes: tuple[float, float, float] = (1.5, 2.5, 10.0)) -> Path:
    nifti: Any = nibabel
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.save(nifti.Nifti1Image(values, np.diag([*sizes, 1.0])), path)
    return path


def data_set(root: Path, *cases: str, channels: int = 2, ending: str = ".nii.gz", **content: Any) -> Path:
    for case in cases:
        for channel in range(channels):
            path = root / "imagesTr" / f"{case}_{channel:04d}{ending}"
            write(path, pixels(channel)) if ending == ".nii.gz" else _touch(path)
        mask = root / "labelsTr" / f"{case}{ending}"
        write(mask, MASK) if ending == ".nii.gz" else _touch(mask)
    if content:
        (root / "dataset.json").write_text(json.dumps(content))
    return root


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def look(root: Path, format: str = "nnunet", **more: Any) -> Discovery:
    return discover(Data.model_validate({"format": format, "root": root, "classes": CLASSES, **more}))


def names(found: Discovery) -> list[list[str]]:
    return [[path.name for path in file.images] for file in found.volumes]


TWO = {"0": "MRI", "1": "CT"}


class TestFind:
    def test_names_of_dataset_json(self, tmp_path: Path) -> None:
        found = look(data_set(tmp_path, "b", "a", channel_names=TWO))
        assert found.channels == ("MRI", "CT")
        assert names(found) == [["a_0000.nii.gz", "a_0001.nii.gz"], ["b_0000.nii.gz", "b_0001.nii.gz"]]
        assert found.left_out == ()

    def test_names_of_the_old_spelling(self, tmp_path: Path) -> None:
        assert look(data_set(tmp_path, "a", modality=TWO)).channels == ("MRI", "CT")

    def test_names_of_the_spec(self, tmp_path: Path) -> None:
        found = look(data_set(tmp_path, "a"), channels=["T1", "T2"])
        assert found.channels == ("T1", "T2")
        assert names(found) == [["a_0000.nii.gz", "a_0001.nii.gz"]]
        data_set(tmp_path, channel_names=TWO)
        assert look(tmp_path, channels=["T1", "T2"]).channels == ("T1", "T2"), "other names for the same files"

    def test_one_channel_is_called_image(self, tmp_path: Path) -> None:
        found = look(data_set(tmp_path, "a", channels=1, channel_names={"0": "MRI"}))
        assert found.channels == ("image",)
        assert look(tmp_path, channels=["T1"]).channels == ("T1",)

    def test_names_of_dataset_json_choose(self, tmp_path: Path) -> None:
        data_set(tmp_path, "a", channels=3, channel_names={"0": "T1", "1": "T2", "2": "FLAIR"})
        found = look(tmp_path, channels=["FLAIR", "T1"])
        assert found.channels == ("FLAIR", "T1")
        assert names(found) == [["a_0002.nii.gz", "a_0000.nii.gz"]]
        assert found.left_out == ("imagesTr/a_0001.nii.gz (channel T2, not in data.channels)",)

    def test_names_that_repeat_get_their_number(self, tmp_path: Path) -> None:
        data_set(tmp_path, "a", channel_names={"0": "noNorm", "1": "noNorm"})
        assert look(tmp_path).channels == ("noNorm_0", "noNorm_1")

    def test_a_channel_that_nothing_names(self, tmp_path: Path) -> None:
        with refused(r'a_0001.nii.gz: a further input channel, .* data.channels = \["NAME 0", "NAME 1"\], or move'):
            look(data_set(tmp_path, "a"))
        with refused(r"input channel number 1, and dataset.json names 1 \(MRI\): name it there, or move this file out"):
            look(data_set(tmp_path, channel_names={"0": "MRI"}))
        with refused(r"a_0001.nii.gz: input channel number 1, and data.channels names 1 \(MRI\): name it there"):
            look(tmp_path, channels=["MRI"])
        (tmp_path / "dataset.json").unlink()
        with refused(r"a_0001.nii.gz: input channel number 1, and data.channels names 1 \(T1\): name it there"):
            look(tmp_path, channels=["T1"])

    def test_another_number_of_names(self, tmp_path: Path) -> None:
        data_set(tmp_path, "a", channel_names=TWO)
        with refused(r"dataset.json: names 2 channels \(MRI, CT\), data.channels 3 \(A, B, C\): choose from the names"):
            look(tmp_path, channels=["A", "B", "C"])

    def test_names_that_contradict_dataset_json(self, tmp_path: Path) -> None:
        """One misspelled name must not make a new order out of the old one."""
        root = data_set(tmp_path / "set", "a", channels=3, channel_names={"0": "MRI", "1": "CT", "2": "PET"})
        with refused(
            r"dataset.json: names its channels MRI, CT, PET, data.channels CT, MRI, Pet: 'CT' is channel 1 there and 0 "
            r"here, and not all names are known there; use its names, in any order, or names of your own for all"
        ):
            look(root, channels=["CT", "MRI", "Pet"])
        assert look(root, channels=["MRI", "CT", "Pet"]).channels == ("MRI", "CT", "Pet")

    @pytest.mark.parametrize(("gone", "name"), [(0, "MRI"), (1, "CT")])
    def test_a_missing_file(self, tmp_path: Path, gone: int, name: str) -> None:
        data_set(tmp_path, "a", "b", channel_names=TWO)
        (tmp_path / "imagesTr" / f"b_000{gone}.nii.gz").unlink()
        words = rf"b: no file of the input channel {name} \(_000{gone}\) beside imagesTr/b_000{1 - gone}.nii.gz; add"
        with refused(words):
            look(tmp_path)
        assert names(look(tmp_path, patients=["a"])) == [["a_0000.nii.gz", "a_0001.nii.gz"]]

    def test_two_files_for_one_channel(self, tmp_path: Path) -> None:
        write(data_set(tmp_path, "a", channel_names=TWO) / "imagesTr" / "a_0001.nii", pixels(1))
        with refused("a: 2 files for one image: .*a_0001.nii, .*a_0001.nii.gz; keep one of them"):
            look(tmp_path)

    def test_one_file_for_all(self, tmp_path: Path) -> None:
        data_set(tmp_path, "a", channels=1, channel_names=TWO)
        found = look(tmp_path)
        assert (found.channels, names(found)) == (("MRI", "CT"), [["a_0000.nii.gz"]])
        with refused("a_0000.nii.gz: one file for all input channels, of which data.channels chooses CT, MRI: write"):
            look(tmp_path, channels=["CT", "MRI"])

    @pytest.mark.parametrize("ending", [".nrrd", ".mha", ".tif", ".png", ".bmp", ".gipl"])
    def test_other_endings(self, tmp_path: Path, ending: str) -> None:
        root = data_set(tmp_path, "a", ending=ending, channel_names=TWO, file_ending=ending)
        found = look(root)
        assert names(found) == [[f"a_0000{ending}", f"a_0001{ending}"]]
        assert found.volumes[0].label.name == f"a{ending}"
        words = (
            rf"a_0000{ending}: only .nii and .nii.gz are read without the trained network's own reader: name an nnU-Net"
        )
        for read in (lambda: read_header(found.volumes[0]), lambda: read_volume(found.volumes[0], CLASSES)):
            with refused(words):
                read()
        _touch(root / "imagesTr" / "b_0000.nii.gz")
        _touch(root / "labelsTr" / "b.nii.gz")
        with refused(rf"files end in {ending} \(dataset.json\): convert it to b_0000{ending}, or move it away"):
            look(root)

    def test_an_ending_that_dataset_json_does_not_name(self, tmp_path: Path) -> None:
        with refused("no volume found"):
            look(data_set(tmp_path, "a", ending=".nrrd", channel_names=TWO))


class TestRead:
    def file(self, root: Path, *images: NDArray[Any]) -> VolumeFile:
        paths = tuple(write(root / f"a_{i:04d}.nii.gz", image) for i, image in enumerate(images))
        return VolumeFile(VolumeKey("a", 0), paths, write(root / "a.nii.gz", MASK))

    @pytest.mark.parametrize("order", ORDERS)
    def test_files_and_one_file_are_read_alike(self, tmp_path: Path, order: Order) -> None:
        values = [pixels(i) for i in range(3)]
        several = self.file(tmp_path / "several", *values)
        one = self.file(tmp_path / "one", np.stack(values, axis=-1))
        expected = np.stack([v.transpose(order) for v in values])
        sizes = tuple((1.5, 2.5, 10.0)[axis] for axis in order)
        for file in (several, one):
            volume = read_volume(file, CLASSES, order=order, channels=3)
            np.testing.assert_array_equal(volume.image, expected)
            assert volume.image.dtype == np.float32
            assert volume.image.flags.c_contiguous
            np.testing.assert_array_equal(volume.label, MASK.transpose(order))
            assert volume.spacing == sizes
            header = read_header(file, order=order, channels=3)
            assert (header.shape, header.spacing) == (volume.label.shape, sizes)
            content = b"".join(path.read_bytes() for path in (*file.images, file.label))
            assert volume.digest == digest_files(file) == hashlib.sha256(content).digest()

    def test_slices_of_several_channels(self, tmp_path: Path) -> None:
        flat = pixels(0)[:, :, :1]
        file = self.file(tmp_path, np.stack([flat, flat + 1], axis=-1))
        write(file.label, MASK[:, :, :1])
        volume = read_volume(file, CLASSES, sliced=True, channels=2)
        np.testing.assert_array_equal(volume.image[1], (flat + 1).transpose(2, 0, 1))

    def test_mixed_types_are_exact(self, tmp_path: Path) -> None:
        large = pixels(1).astype(np.int32) + 2**24 + 1
        volume = read_volume(self.file(tmp_path, pixels(0), large), CLASSES, channels=2)
        np.testing.assert_array_equal(volume.image[1], large.transpose(2, 0, 1))
        np.testing.assert_array_equal(volume.image[0], pixels(0).transpose(2, 0, 1))

    def test_another_number_of_channels(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, np.stack([pixels(0), pixels(1)], axis=-1))
        with refused(
            r"4D of shape \(5, 6, 3, 2\); .* if the last axis holds input channels, name them in data.channels"
        ):
            read_header(file)
        with refused(
            r"4D of shape \(5, 6, 3, 2\); one file of 3 input channels has them along its fourth and last axis"
        ):
            read_header(file, channels=3)
        flat = self.file(tmp_path / "flat", pixels(0))
        with refused(r"3D of shape \(5, 6, 3\); one file of 2 input channels .*: add the file of each further channel"):
            read_volume(flat, CLASSES, channels=2)

    def test_channels_of_another_size_or_grid(self, tmp_path: Path) -> None:
        file = self.file(tmp_path, pixels(0), pixels(1)[:, :, :2])
        with refused(r"a: the image is \(3, 5, 6\) and a_0001.nii.gz \(2, 5, 6\) .*a_0001.nii.gz belongs to another"):
            read_header(file, channels=2)
        write(file.images[1], pixels(1), (1.5, 2.5, 9.0))
        with refused(r"a_0000.nii.gz .* and .*a_0001.nii.gz .* do not lie on one grid"):
            read_volume(file, CLASSES, channels=2)

    def test_errors_name_the_file_and_the_place(self, tmp_path: Path) -> None:
        broken = pixels(1).astype(np.float32)
        broken[4, 1, 2] = np.nan
        file = self.file(tmp_path, pixels(0), broken)
        for order in ORDERS:
            with refused(
                r"a_0001.nii.gz: 1 pixels are NaN or infinite, the first at \(2, 4, 1\) \(slice, row, column\)"
            ):
                read_volume(file, CLASSES, order=order, channels=2)
        constant = self.file(tmp_path / "constant", pixels(0), np.full(SHAPE, 7, np.int16))
        with refused("a_0001.nii.gz: constant, every pixel is 7"):
            read_volume(constant, CLASSES, channels=2)


class TestDatasetJson:
    def read(self, root: Path, content: Any) -> DatasetJson:
        (root / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return read_dataset_json(root)

    def test_both_spellings(self, tmp_path: Path) -> None:
        new = {"channel_names": TWO, "labels": {"background": 0, "RV": 1, "LV": 3}, "file_ending": ".nrrd"}
        old = {"modality": TWO, "labels": {"0": "background", "1": "RV", "3": "LV"}, "numTraining": 5}
        first, second = self.read(tmp_path, new), self.read(tmp_path, old)
        assert first.channels == second.channels == ("MRI", "CT")
        assert first.classes == second.classes == {"RV": 1, "LV": 3}
        assert (first.file_ending, second.file_ending, second.training) == (".nrrd", "", 5)
        assert not first.has_regions
        assert first.regions_class_order == ()

    def test_no_file_says_nothing(self, tmp_path: Path) -> None:
        found = read_dataset_json(tmp_path)
        assert (found.channels, found.file_ending) == ((), "")
        with refused(r"dataset.json: labels = None names no class; write"):
            found.classes  # noqa: B018

    def test_regions(self, tmp_path: Path) -> None:
        labels = {"background": 0, "heart": [1, 2, 3], "left": [2, 3], "LV": 3, "ignore": 4}
        found = self.read(tmp_path, {"labels": labels, "regions_class_order": [1, 2, 3]})
        assert found.classes == {"heart": (1, 2, 3), "left": (2, 3), "LV": 3}
        assert (found.regions_class_order, found.has_regions) == ((1, 2, 3), True)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("{", "dataset.json: no JSON .*; correct it, or move it away"),
            ("[]", "dataset.json: holds no table"),
            (
                {"channel_names": {"0": "MRI", "2": "CT"}},
                "channel_names numbers 2 channels 0, 2; number them from 0",
            ),
            ({"channel_names": {"1": "MRI"}}, "channel_names numbers 1 channel 1; number them from 0 to 0"),
            ({"channel_names": ["MRI"]}, r"channel_names = \['MRI'\] names no channels; write"),
            ({"modality": {"0": ""}}, "modality = .* names no channels"),
            ({"file_ending": "nrrd"}, "file_ending = 'nrrd' is none; write one with its dot"),
        ],
    )
    def test_damaged(self, tmp_path: Path, content: Any, words: str) -> None:
        with refused(words):
            self.read(tmp_path, content)

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            ({}, "labels = {} names no class"),
            ({"LV": 1}, 'labels without a background; add "background": 0'),
            ({"background": 1, "LV": 2}, "background = 1; add"),
            ({"background": 0}, "labels name the background alone; add the classes"),
            ({"background": 0, "LV": "1"}, "label 'LV' = '1'; use a whole number from 1 to 255, or a list"),
            ({"background": 0, "LV": 1.5}, "label 'LV' = 1.5; use a whole number"),
            ({"background": 0, "LV": True}, "label 'LV' = True; use"),
            ({"background": 0, "LV": 256}, "label 'LV' = 256; use"),
            ({"background": 0, "LV": []}, r"label 'LV' = \[\]; use"),
            ({"background": 0, "LV": [1, 1]}, r"label 'LV' = \[1, 1\]; use .* without repeats"),
            ({"background": 0, "LV": [1, 2], "RV": [2, 1]}, "LV, RV have the same label; give each"),
            ({"0": "background", "1": "LV", "2": "LV"}, "labels name 'LV' 2 times; give"),
        ],
    )
    def test_damaged_labels(self, tmp_path: Path, labels: Any, words: str) -> None:
        found = self.read(tmp_path, {"labels": labels})
        with refused(words):
            found.classes  # noqa: B018

    @pytest.mark.parametrize(
        ("order", "words"),
        [
            (None, "labels hold regions, and there is no regions_class_order; add it"),
            (3, "regions_class_order = 3 is no list of labels"),
            ([1, "2"], "is no list of labels"),
            ([1], r"regions_class_order = \[1\] has 1 for 2 regions \(heart, LV\); give one each"),
            ([1, 2], r"regions_class_order = \[1, 2\] gives 2 to 'LV', which is 3; use a label of the region"),
        ],
    )
    def test_damaged_orders(self, tmp_path: Path, order: Any, words: str) -> None:
        content = {"labels": {"background": 0, "heart": [1, 2, 3], "LV": 3}, "regions_class_order": order}
        found = self.read(tmp_path, content)
        with refused(words):
            found.regions_class_order  # noqa: B018


@pytest.mark.skipif(REFERENCE is None, reason="ACTSTORE_REFERENCE is not set")
def test_a_real_data_set_of_two_channels() -> None:
    root = Path(REFERENCE or "", "nnunet_v2/raw/Dataset002_Regions")
    found = look(root)
    assert found.channels == ("MRI", "CT")
    said = read_dataset_json(root)
    assert said.classes == {"heart": (1, 2, 3), "left": (2, 3), "LV": 3}
    assert said.regions_class_order == (1, 2, 3)
    for file in found.volumes:
        volume = read_volume(file, CLASSES, order=(2, 1, 0), channels=2)
        nifti: Any = nibabel
        for image, path in zip(volume.image, file.images, strict=True):
            np.testing.assert_array_equal(image, nifti.load(path).get_fdata().transpose(2, 1, 0))
