"""Images with one class each: where they lie, how they are read, and which split they belong to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from actstore.data.discovery import digest_block, discover
from actstore.data.images import ImageGroup
from actstore.data.pictures import Picture, Reading, picture_header, read_picture
from actstore.errors import DataError, SpecError
from actstore.spec.spec import load_spec
from classifiers import CLASSES, images, spec_tables, write_images
from conftest import WriteSpec

GREY = Reading(2, 1)


@pytest.fixture
def find(write_spec: WriteSpec, tmp_path: Path) -> Callable[..., Any]:
    """What a spec of images at ``root`` finds."""

    def found(root: Path, **data: Any) -> Any:
        return discover(load_spec(write_spec(tmp_path, **spec_tables(root, **data))).data)

    return found


def pictures(found: Any) -> list[Picture]:
    return [picture for group in found.volumes for picture in group.pictures]


def write_dicom(path: Path, pixels: NDArray[np.uint16], patient: str, interpretation: str = "MONOCHROME2") -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.PatientID, found.PhotometricInterpretation = patient, interpretation
    found.Rows, found.Columns = pixels.shape
    found.SamplesPerPixel, found.BitsAllocated, found.BitsStored, found.HighBit = 1, 16, 16, 15
    found.PixelRepresentation, found.RescaleSlope, found.RescaleIntercept = 0, 2, -1024
    found.PixelData = pixels.tobytes()
    found.save_as(path, enforce_file_format=True)


def test_a_folder_a_class(find: Callable[..., Any], tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 3)
    (root / "readme.txt").write_text("about\n", encoding="utf-8")
    (root / "ring" / "notes.pdf").write_bytes(b"%PDF")
    (root / "ring" / "odd.bmp").write_bytes(b"BM")
    found = find(root, images={"group": 4})
    assert [len(group.pictures) for group in found.volumes] == [4, 4, 1]
    assert found.channels == ("image",)
    assert found.left_out == ("ring/odd.bmp",)
    assert {(p.name.partition("/")[0], p.label) for p in pictures(found)} == set(CLASSES.items())
    header = picture_header(pictures(found)[0], GREY)
    assert header.shape == (1, 24, 24)
    expected = np.asarray(Image.open(pictures(found)[0].path), np.float32)
    volume = read_picture(pictures(found)[0], GREY)
    np.testing.assert_array_equal(volume.image, expected[None, None])
    assert (volume.label == pictures(found)[0].label).all()


def test_a_block_of_other_images_is_another_block(find: Callable[..., Any], tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 2)
    first = find(root).volumes[0]
    (root / "ring" / "000.png").rename(root / "ring" / "zero.png")
    second = find(root).volumes[0]
    assert isinstance(second, ImageGroup)
    assert second.key != first.key
    before = digest_block(second)
    assert digest_block(find(root).volumes[0]) == before
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(root / "ring" / "zero.png")
    third = find(root).volumes[0]
    assert third.key == second.key
    assert digest_block(third) != before


def test_dicom_says_patients_and_intensities(find: Callable[..., Any], tmp_path: Path) -> None:
    found, _ = images(1)
    for name, label in CLASSES.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        write_dicom(tmp_path / "images" / name / "1.dcm", found[label].astype(np.uint16), f"P{label % 2}")
    found_there = find(tmp_path / "images")
    assert [group.key.patient for group in found_there.volumes] == ["P0", "P1"]
    picture = pictures(found_there)[0]
    volume = read_picture(picture, GREY)
    np.testing.assert_array_equal(volume.image[0, 0], found[picture.label].astype(float) * 2 - 1024)
    assert pydicom.dcmread(picture.path).PatientID == "P0"
    write_dicom(picture.path, found[0].astype(np.uint16), "P0", "MONOCHROME1")
    with pytest.raises(DataError, match="photometric interpretation MONOCHROME1: convert it"):
        read_picture(picture, GREY)


@pytest.mark.parametrize("kind", ["png", "tiff", "jpg", "npz"])
def test_every_kind_is_read_as_it_is_written(tmp_path: Path, kind: str) -> None:
    values = images(1)[0][0]
    path = tmp_path / f"one.{kind}"
    if kind == "npz":
        np.savez(path, image=values)
    else:
        Image.fromarray(values).save(path)
    read = read_picture(Picture("one", path, 1), GREY).image[0, 0]
    expected = values if kind != "jpg" else np.asarray(Image.open(path))
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.float32


def test_sixteen_bits_and_palettes(tmp_path: Path) -> None:
    deep = (images(1)[0][0].astype(np.uint16) * 200).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    read = read_picture(Picture("deep", tmp_path / "deep.png", 0), GREY)
    np.testing.assert_array_equal(read.image[0, 0], deep)
    colour = np.stack([images(1)[0][0], images(1, seed=1)[0][0], images(1, seed=2)[0][0]], -1)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    three = read_picture(Picture("c", tmp_path / "colour.png", 0), Reading(2, 3))
    np.testing.assert_array_equal(three.image[:, 0], np.moveaxis(colour, -1, 0))
    one = read_picture(Picture("c", tmp_path / "colour.png", 0), Reading(2, 1, "grey"))
    np.testing.assert_array_equal(one.image[0, 0], np.asarray(Image.fromarray(colour).convert("L")))
    Image.fromarray(colour).quantize(16).save(tmp_path / "palette.png")
    assert read_picture(Picture("p", tmp_path / "palette.png", 0), Reading(2, 3)).image.shape == (3, 1, 24, 24)


def _alpha(path: Path) -> None:
    values = np.full((24, 24, 4), 200, np.uint8)
    Image.fromarray(values).save(path)


def _turned(path: Path) -> None:
    image = Image.fromarray(images(1)[0][0])
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)


def _frames(path: Path) -> None:
    first = Image.fromarray(images(1)[0][0])
    first.save(path, save_all=True, append_images=[first])


def _colour(path: Path) -> None:
    Image.fromarray(np.stack([images(1)[0][0]] * 3, -1)).save(path)


def _cut(path: Path) -> None:
    Image.fromarray(images(1)[0][0]).save(path)
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (_alpha, "a.png", "alpha channel that hides pixels: save it without"),
        (_turned, "a.jpg", "EXIF orientation 6, which some readers do and others do not"),
        (_frames, "a.tiff", "holds 2 frames; write one image a file"),
        (_colour, "a.png", 'a colour image, where the run.s input has 1: set data.images.colour = "grey"'),
        (_cut, "a.png", "cannot be decoded"),
        (lambda path: None, "a.png", "the file is gone"),
        (lambda path: path.write_bytes(b"x"), "a.xyz", "not PNG, JPEG, TIFF, DICOM, NPZ or NIfTI"),
    ],
)
def test_what_is_in_doubt_is_refused(tmp_path: Path, write: Callable[[Path], object], name: str, message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as refused:
        read_picture(Picture("a", tmp_path / name, 0), GREY)
    assert "\n" not in str(refused.value)


def test_splits(find: Callable[..., Any], tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 5)
    every = [p.name for p in pictures(find(root))]
    test = pictures(find(root, split={"share": 0.4, "seed": 1}))
    train = pictures(find(root, split={"share": 0.4, "seed": 1, "use": "train"}))
    assert sorted([*(p.name for p in test), *(p.name for p in train)]) == sorted(every)
    assert [sum(p.label == label for p in test) for label in range(3)] == [2, 2, 2]
    assert {p.split for p in test} == {"test"}
    again = pictures(find(root, split={"share": 0.4, "seed": 1}))
    other = pictures(find(root, split={"share": 0.4, "seed": 2}))
    assert again == test
    assert other != test
    named = pictures(find(root, split={"test": ["ring/000", "disc/010"]}))
    assert [p.name for p in named] == ["disc/010", "ring/000"]
    whole = pictures(find(root, split={"test": ["ring/000"], "use": "all"}))
    assert len(whole) == 15
    assert [p.name for p in whole if p.split == "test"] == ["ring/000"]


def write_list(folder: Path, *rows: str) -> Path:
    write_images(folder, 2)
    (folder / "list.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "list.csv"


@pytest.mark.parametrize(
    ("rows", "data", "message"),
    [
        (["path,label", "ring/000.png,ring", "ring/../ring/000.png,disc"], {}, "line 3: names the image of line 2"),
        (["path;label", "ring/000.png;ring"], {}, "no column 'path'.*: separate columns by commas, not ';'"),
        (["path,label,Patient", "ring/000.png,ring,anna"], {}, "column 'Patient': write 'patient'"),
        (["path,label,label", "ring/000.png,ring,disc"], {}, "2 columns 'label': keep one"),
        (["path,label", "", "ring\\000.png,ring"], {}, "line 3: .*: separate its folders by /"),
        (["path,label", "ring/000.png,²"], {}, "label '²' is none of"),
        (["path,label", "ring/000.png,square"], {}, r"line 2: label 'square' is none of data.classes \(ring"),
        (["path,label", "ring/009.png,ring"], {}, "line 2: no file .*ring/009.png: correct its path"),
        (["path,kind", "ring/000.png,ring"], {}, "no column 'label'; there are path and kind|no column 'label'"),
        (["path,label", "ring/000.png"], {}, "line 2: not 2 values as the first line"),
        (
            ["path,label,patient,part", "ring/000.png,ring,anna,test", "ring/001.png,ring,anna,train"],
            {"split": {"column": "part"}},
            "patient 'anna' is in the splits test and train: nobody of the test split may be trained on",
        ),
        (["path,label", "ring/000.png,ring"], {"patients": ["bert"]}, "no patient bert"),
        (
            ["path,label", "ring/000.png,ring"],
            {"split": {"test": ["x"]}},
            "data.split.test names x, which is not there",
        ),
        (["path,label"], {}, "no image of ring"),
    ],
)
def test_bad_lists(
    find: Callable[..., Any], tmp_path: Path, rows: list[str], data: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        find(write_list(tmp_path / "images", *rows), **data)
    assert "\n" not in str(refused.value)


def test_bad_folders(find: Callable[..., Any], tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", 1)
    (root / "ring" / "000.jpg").write_bytes((root / "ring" / "000.png").read_bytes())
    with pytest.raises(DataError, match="2 images have the name 'ring/000'"):
        find(root)
    (root / "ring" / "000.jpg").unlink()
    (root / "square").mkdir()
    find(root)
    (root / "square" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 image of 'square', which data\.classes does not have"):
        find(root)
    (root / "square" / "1.png").unlink()
    (root / "ring" / "again").symlink_to(root / "disc")
    with pytest.raises(DataError, match=r"is the folder .* once more, by a link: its images would count"):
        find(root)
    (root / "ring" / "again").unlink()
    with pytest.raises(DataError, match="no folder oval: each class has a folder"):
        find(root, classes={**CLASSES, "oval": 3})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"classes": {"a": 0, "b": 2}}, r"have the numbers \[0, 2\]: give those of the network's outputs, 0 to 1"),
        ({"classes": {"a": 0}}, "'a' is the only class: a classifier needs at least two"),
        ({"classes": {"a": [0, 1], "b": 2}}, "a class of images is one number"),
        ({"split": {"share": 0.2, "test": ["x"]}}, "gives test and share: give one of test, column and share"),
        ({"split": {"use": "all"}}, "says of no image whether it is of the test split"),
    ],
)
def test_specs_that_contradict_themselves(
    write_spec: WriteSpec, tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(write_spec(tmp_path, **spec_tables(tmp_path, **data)))
    with pytest.raises(SpecError, match="has a split, which is of format"):
        load_spec(write_spec(tmp_path, data__split={"share": 0.5}))
    with pytest.raises(SpecError, match=r"controls\.region is of segmentations"):
        load_spec(write_spec(tmp_path, **spec_tables(tmp_path), controls={"region": True}))
