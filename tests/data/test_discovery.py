"""Names around both layouts: each file is taken, refused by name, or listed as left out; nothing vanishes."""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actstore.data.discovery import discover
from actstore.data.info import Info, read_info
from actstore.data.pairing import Discovery
from actstore.errors import DataError
from actstore.spec.toml_tables import Data

ACDC, NNUNET = "acdc", "nnunet"


def look(format: str, root: Path, *patients: str) -> Discovery:
    return discover(
        Data.model_validate({"format": format, "root": root, "classes": {"LV": 3}, "patients": patients or None})
    )


def refused(*words: str) -> Any:
    """One line that holds all of ``words``."""
    pattern = "".join(f"(?=.*{word})" for word in words)
    return pytest.raises(DataError, match=rf"^{pattern}[^\n]*$")


def touch(root: Path, *names: str) -> None:
    """Files with nothing in them: finding volumes reads names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def acdc(root: Path, *patients: str, frames: tuple[int, ...] = (1, 12)) -> Path:
    for patient in patients:
        for frame in frames:
            touch(root / patient, *(f"{patient}_frame{frame:02d}{mask}.nii.gz" for mask in ("", "_gt")))
        (root / patient / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\n")
    return root


def nnunet(root: Path, *cases: str) -> Path:
    for case in cases:
        touch(root, f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz")
    return root


def keys(found: Discovery) -> list[str]:
    return [str(file.key) for file in found.volumes]


def test_nnunets_layout_read_as_acdcs_is_named(tmp_path: Path) -> None:
    nnunet(tmp_path, "patient001_frame01", "patient002_frame01")
    with refused('imagesTr and labelsTr are of nnU-Net\'s layout; set data.format = "nnunet"'):
        look(ACDC, tmp_path)
    acdc(tmp_path, "patient003")
    with refused("Tr"):
        look(ACDC, tmp_path)


class TestLinks:
    def test_to_nothing(self, tmp_path: Path) -> None:
        source = acdc(tmp_path / "source", "patient001", "patient002")
        root = tmp_path / "root"
        for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            (root / folder).mkdir(parents=True)
            for patient in ("patient001", "patient002"):
                mask = "_gt" if folder == "labelsTr" else ""
                link = root / folder / f"{patient}_frame01{ending}"
                link.symlink_to(source / patient / f"{patient}_frame01{mask}.nii.gz")
        assert keys(look(NNUNET, root)) == ["patient001 frame 01", "patient002 frame 01"]
        (source / "patient002").rename(source / "moved")
        gone = str(source / "patient002/patient002_frame01.nii.gz")
        with refused(
            rf"imagesTr/patient002_frame01_0000\.nii\.gz: a link to nothing, {gone} is not there; fetch the file",
            r"git annex get.* mount its disk, or remove the link \(and 1 more: patient002_frame01\.nii\.gz\)",
        ):
            look(NNUNET, root)
        assert keys(look(NNUNET, root, "patient001")) == ["patient001 frame 01"]
        with refused("a link to nothing"):
            look(NNUNET, root, "patient002")

    @pytest.mark.parametrize("name", ["patient002", "odd name", "training", "testing"])
    def test_in_place_of_a_folder_of_patients(self, tmp_path: Path, name: str) -> None:
        (acdc(tmp_path, "patient001") / name).symlink_to("../unmounted")
        with refused(f"{name}: a link to nothing, .*unmounted is not there"):
            look(ACDC, tmp_path)
        assert len(look(ACDC, tmp_path, "patient001").volumes) == 2

    @pytest.mark.parametrize("name", ["imagesTr", "labelsTr"])
    def test_in_place_of_a_folder_of_the_layout(self, tmp_path: Path, name: str) -> None:
        nnunet(tmp_path, "a")
        (tmp_path / name).rename(tmp_path / "elsewhere")
        (tmp_path / name).symlink_to("nowhere")
        with refused(f"{name}: a link to nothing, .*nowhere is not there"):
            look(NNUNET, tmp_path)

    def test_in_place_of_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "root").symlink_to(tmp_path / "nowhere")
        with refused("root: a link to nothing, .*nowhere is not there"):
            look(ACDC, tmp_path / "root")

    @pytest.mark.parametrize("target", ["patient001_frame13.nii.gz", "loop"])
    def test_in_a_circle(self, tmp_path: Path, target: str) -> None:
        folder = acdc(tmp_path, "patient001") / "patient001"
        (folder / "loop").symlink_to("patient001_frame13.nii.gz")
        (folder / "patient001_frame13.nii.gz").symlink_to(target)
        with refused("patient001_frame13.* a link that leads back to itself"):
            look(ACDC, tmp_path)

    def test_to_nothing_of_an_info_loses_no_phase(self, tmp_path: Path) -> None:
        info = acdc(tmp_path, "patient001", "patient002") / "patient002/Info.cfg"
        info.unlink()
        info.symlink_to("annexed")
        with refused("patient002/Info.cfg: a link to nothing"):
            look(ACDC, tmp_path)
        assert [v.phase for v in look(ACDC, tmp_path, "patient001").volumes] == ["ED", "ES"]

    def test_of_a_companion_to_nothing_is_no_news(self, tmp_path: Path) -> None:
        (acdc(tmp_path, "patient001") / "patient001/notes.txt").symlink_to("nowhere")
        (tmp_path / "MANDATORY_CITATION.md").symlink_to("nowhere")
        assert look(ACDC, tmp_path).left_out == ()

    def test_to_the_folder_above_is_searched_once(self, tmp_path: Path) -> None:
        (acdc(tmp_path, "patient001") / "patient001/again").symlink_to("..")
        found = look(ACDC, tmp_path)
        assert len(found.volumes) == 2
        assert all("again" in name for name in found.left_out)


class Denied:
    """An entry of a folder that may be listed, but not reached."""

    def __init__(self, name: str) -> None:
        self.name = name

    def is_dir(self) -> bool:
        raise PermissionError(13, "Permission denied")


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path, *, entry: str | None = None) -> None:
    """``folder`` cannot be listed; or it can, but its ``entry`` cannot be reached."""
    real: Callable[..., Any] = os.scandir

    @contextmanager
    def scandir(path: Path) -> Iterator[Iterator[Any]]:
        if Path(path) == folder and entry is None:
            raise PermissionError(13, "Permission denied")
        with real(path) as entries:
            hidden = Path(path) == folder
            yield (Denied(e.name) if hidden and e.name == entry else e for e in entries)

    monkeypatch.setattr("actstore.data.folders.os.scandir", scandir)


class TestAccess:
    def test_folder_of_a_patient(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        acdc(tmp_path, "patient001", "patient002")
        deny(monkeypatch, tmp_path / "patient002")
        with refused("patient002: cannot be listed: Permission denied; check its permissions"):
            look(ACDC, tmp_path)
        assert len(look(ACDC, tmp_path, "patient001").volumes) == 2

    def test_folder_of_a_split(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        acdc(tmp_path / "training", "patient001")
        acdc(tmp_path / "testing", "patient101")
        deny(monkeypatch, tmp_path / "testing")
        with refused("testing: cannot be listed"):
            look(ACDC, tmp_path)
        assert len(look(ACDC, tmp_path, "patient001").volumes) == 2

    @pytest.mark.parametrize("format", [ACDC, NNUNET])
    def test_one_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
        _ = acdc(tmp_path, "patient001") if format == ACDC else nnunet(tmp_path, "patient001_frame01")
        folder, name = {
            ACDC: (tmp_path / "patient001", "patient001_frame12.nii.gz"),
            NNUNET: (tmp_path / "imagesTr", "patient001_frame01_0000.nii.gz"),
        }[format]
        deny(monkeypatch, folder, entry=name)
        with refused(f"{name}: cannot be reached: Permission denied; check permissions"):
            look(format, tmp_path)

    def test_folders_of_the_file_system_are_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (acdc(tmp_path, "patient001") / "lost+found").mkdir()
        deny(monkeypatch, tmp_path / "lost+found")
        assert look(ACDC, tmp_path).left_out == ()

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(acdc(tmp_path, "patient001") / "patient001/patient001_frame13.nii.gz")
        with refused("frame13.* neither a file nor a folder"):
            look(ACDC, tmp_path)


class TestNearACDC:
    @pytest.mark.parametrize(
        ("name", "mend"),
        [
            ("patient001_Frame05.nii.gz", "rename it to patient001_frame05.nii.gz"),
            ("patient001_frame05_GT.nii.gz", "rename it to patient001_frame05_gt.nii.gz"),
            ("patient001_frame05 gt.nii.gz", "rename it to patient001_frame05_gt.nii.gz"),
            ("patient001-frame05-seg.nii", "rename it to patient001_frame05_gt.nii.gz"),
            ("patient001_frame05 (1).nii.gz", "rename it to patient001_frame05.nii.gz"),
            ("patient001_frame０5.nii.gz", "rename it to patient001_frame05.nii.gz"),
            ("frame05.nii.gz", "rename it to patient001_frame05.nii.gz"),
            ("patient001_frame05.nii.gz.part", "unfinished, .* fetch or rename it to patient001_frame05.nii.gz"),
            ("patient001_frame05.nii.gz~", "unfinished"),
            ("patient001_frame05.nii.gz ", "unfinished"),
            ("patient001_frame05.nii.bz2", "unpack it to patient001_frame05.nii.gz"),
            ("patient001_frame05.nii.zst", "unpack it"),
            ("patient001_frame05.zip", "unpack it"),
            ("patient001_frame05_gt.mha", "convert it to patient001_frame05_gt.nii.gz"),
            ("patient001_frame05.nrrd", "only .nii and .nii.gz are read: convert it"),
            ("patient001_frame05.img", "convert it"),
            ("patient001_frame05.hdr.gz", "convert it"),
            ("patient001_frame05_nii_gz", "make it patient001_frame05.nii.gz"),
            ("patient001_frame05", "make it patient001_frame05.nii.gz"),
        ],
    )
    def test_a_frame_that_would_vanish_is_refused(self, tmp_path: Path, name: str, mend: str) -> None:
        touch(acdc(tmp_path, "patient001", "patient002") / "patient001", name)
        with refused(mend):
            look(ACDC, tmp_path)
        assert len(look(ACDC, tmp_path, "patient002").volumes) == 2

    @pytest.mark.parametrize("name", ["patient001_frame01.nii.gz.part", "patient001_frame01.mha", "mean.nii.gz"])
    def test_beside_the_frame_itself_it_is_listed(self, tmp_path: Path, name: str) -> None:
        touch(acdc(tmp_path, "patient001", "patient002") / "patient001", name)
        found = look(ACDC, tmp_path)
        assert len(found.volumes) == 4
        assert found.left_out == (f"patient001/{name}",)
        assert look(ACDC, tmp_path, "patient002").left_out == ()

    @pytest.mark.parametrize("suffix", [".NII.GZ", ".Nii", ".nii.GZ"])
    def test_a_suffix_in_another_case_is_read(self, tmp_path: Path, suffix: str) -> None:
        touch(acdc(tmp_path, "patient001") / "patient001", *(f"patient001_frame5{m}{suffix}" for m in ("", "_gt")))
        assert keys(look(ACDC, tmp_path))[1] == "patient001 frame 05"
        touch(tmp_path / "patient001", "patient001_frame05.nii.gz")
        with refused("frame 05: 2 files for one image"):
            look(ACDC, tmp_path)

    def test_companions_are_no_news(self, tmp_path: Path) -> None:
        root = acdc(tmp_path / "training", "patient001").parent
        touch(root, "MANDATORY_CITATION.md", "README", "training/._patient001", "training/.DS_Store", "data.json")
        touch(root / "training/patient001", "patient001_4d.nii.gz", "._patient001_frame01.nii.gz", "notes.txt")
        touch(root / "training/patient001", "patient001_frame01.nii.gz.md5", "patient001_frame01.json", "Info.cfg.bak")
        found = look(ACDC, root)
        assert (len(found.volumes), found.left_out, found.lacking) == (2, (), ())

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (
                ["patient007_frame01.nii.gz", "patient007_frame01_gt.nii.gz"],
                "lies beside the patients' folders; move it",
            ),
            (["patient007.zip"], "patient007.zip: a file, where the patients are folders; unpack it"),
            (["patient007"], "patient007: a file, where the patients are folders"),
            (["patient007/Info.cfg"], r"patient007: no frame of this patient \(Info.cfg\)"),
            (["patient007/patient007_4d.nii.gz"], r"patient007: no frame of this patient \(patient007_4d.nii.gz\)"),
            (["patient007/image.nii.gz", "patient007/mask.nii.gz"], r"no frame of this patient \(image.nii.gz, mask"),
            (["patient007/notes.txt"], "no frame of this patient .* or leave the patient out of data.patients"),
            (["patient007/patient007_Frame01.nii.gz"], "rename it to patient007_frame01.nii.gz"),
            (
                ["more/patient007/patient007_frame01.nii.gz", "more/patient007/patient007_frame01_gt.nii.gz"],
                "lies too deep, .* move its folder up, correct data.root",
            ),
            (
                ["Training/patient007/patient007_frame01.nii", "Training/patient007/patient007_frame01_gt.nii"],
                "lies too deep",
            ),
            (["patient007/patient007_frame01.nii.gz/image.nii"], "a folder, not a file; move the image in it up"),
        ],
    )
    def test_a_patient_that_would_vanish_is_refused(self, tmp_path: Path, names: list[str], words: str) -> None:
        touch(acdc(tmp_path, "patient001"), *names)
        with refused(words):
            look(ACDC, tmp_path)
        assert len(look(ACDC, tmp_path, "patient001").volumes) == 2

    def test_an_empty_folder_of_a_patient(self, tmp_path: Path) -> None:
        (acdc(tmp_path, "patient001") / "patient002").mkdir()
        (tmp_path / "scripts").mkdir()
        with refused(r"patient002: no frame of this patient \(no file\)"):
            look(ACDC, tmp_path)

    def test_elsewhere_it_is_listed(self, tmp_path: Path) -> None:
        touch(acdc(tmp_path, "patient001"), "results/a.nii.gz", "patient001/raw/patient001_frame02.nii.gz", "atlas.nii")
        touch(
            tmp_path,
            "old/b.nii.gz",
            "old/more/c.mha",
            "patient001.zip",
            "run.zarr/zarr.json",
            "run.zarr/a.nii.gz",
            ".git/a.nii.gz",
            "scripts/a.py",
        )
        assert look(ACDC, tmp_path).left_out == (
            "atlas.nii",
            "old (2 images)",
            "patient001/raw/patient001_frame02.nii.gz",
            "patient001.zip",
            "results/a.nii.gz",
        )

    def test_patients_that_differ_in_case(self, tmp_path: Path) -> None:
        acdc(tmp_path, "patient001", frames=(1,))
        acdc(tmp_path, "Patient001", frames=(12,))
        if len(list(tmp_path.iterdir())) == 1:
            pytest.skip("this file system knows no case")
        with refused("the patients 'Patient001' and 'patient001' differ in case or spaces alone"):
            look(ACDC, tmp_path)
        assert keys(look(ACDC, tmp_path, "patient001")) == ["patient001 frame 01"]


class TestNearNNUNet:
    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["imagesTr/b_0000.nrrd", "labelsTr/b.nrrd"], "b_0000.nrrd: only .* convert it to b_0000.nii.gz"),
            (["imagesTr/b_0000.png", "labelsTr/b.png"], "b_0000.png: only .nii and .nii.gz are read"),
            (["imagesTr/b_0000.nii.gz.part", "labelsTr/b.nii.gz.part"], "b_0000.nii.gz.part: unfinished"),
            (["imagesTr/b_0000.nii.gz/b.nii.gz"], "b_0000.nii.gz: a folder, not a file"),
            (["imagesTr/new/b_0000.nii.gz", "labelsTr/new/b.nii.gz"], "lies too deep, the layout is imagesTr"),
            (["b_0000.nii.gz"], "lies beside imagesTr and labelsTr"),
            (["imagesTr/b_0000.nii.gz", "labelsTr/b.mha"], "b.mha: only .nii and .nii.gz are read"),
        ],
    )
    def test_a_case_that_would_vanish_is_refused(self, tmp_path: Path, names: list[str], words: str) -> None:
        touch(nnunet(tmp_path, "a"), *names)
        with refused(words):
            look(NNUNET, tmp_path)
        with refused(words.partition(":")[2] or words):
            look(NNUNET, tmp_path, "b")
        assert keys(look(NNUNET, tmp_path, "a")) == ["a"]

    def test_what_lies_beside_is_listed(self, tmp_path: Path) -> None:
        touch(
            nnunet(tmp_path, "a"),
            "imagesTs/z_0000.nii.gz",
            "imagesTs/y_0000.nii.gz",
            "labelsTs/z.nii.gz",
        )
        (tmp_path / "dataset.json").write_text("{}")
        touch(tmp_path, "imagesTr/a_0000.nrrd", "imagesTr/.a_0000.nii.gz.x7", "imagesTr/._a_0000.nii.gz", "code/a.py")
        assert look(NNUNET, tmp_path).left_out == (
            "imagesTr/.a_0000.nii.gz.x7",
            "imagesTr/a_0000.nrrd",
            "imagesTs (2 images)",
            "labelsTs (1 image)",
        )

    def test_a_folder_of_the_layout_in_another_case(self, tmp_path: Path) -> None:
        nnunet(tmp_path, "a")
        (tmp_path / "imagesTr").rename(tmp_path / "ImagesTr")
        with refused("ImagesTr: nearly a name of the layout; rename it to imagesTr"):
            look(NNUNET, tmp_path)
        nnunet(tmp_path, "b")
        with refused("ImagesTr/a_0000.nii.gz: lies in ImagesTr beside imagesTr; move it into imagesTr"):
            look(NNUNET, tmp_path)

    def test_plain_and_packed_make_a_pair(self, tmp_path: Path) -> None:
        touch(tmp_path, "imagesTr/a_0000.nii", "labelsTr/a.NII.GZ")
        assert keys(look(NNUNET, tmp_path)) == ["a"]

    def test_unicode_forms_of_one_name(self, tmp_path: Path) -> None:
        one, other = (unicodedata.normalize(form, "Ren\u00e9") for form in ("NFC", "NFD"))
        touch(tmp_path, f"imagesTr/{one}_frame01_0000.nii.gz", f"labelsTr/{other}_frame01.nii.gz")
        touch(tmp_path, f"imagesTr/{other}_frame12_0000.nii.gz", f"labelsTr/{one}_frame12.nii.gz")
        found = look(NNUNET, tmp_path)
        assert [v.key.frame for v in found.volumes] == [1, 12]
        assert len({v.key.patient for v in found.volumes}) == found.patients == 1

    def test_cases_that_dataset_json_has_more(self, tmp_path: Path) -> None:
        (nnunet(tmp_path, "a") / "dataset.json").write_text('\ufeff{"numTraining": 3}', encoding="utf-8")
        lacking = ("dataset.json names 3 training cases (numTraining), imagesTr holds 1",)
        assert look(NNUNET, tmp_path).lacking == lacking


#: What a name goes through on its way from one disk to another.
CHANGES: list[Callable[[str], str]] = [
    str,
    str.upper,
    str.swapcase,
    str.title,
    lambda name: name.replace(".gz", ""),
    lambda name: name.replace(".nii.gz", ".nii.bz2"),
    lambda name: name.replace(".nii.gz", ".img"),
    lambda name: name.replace(".nii.gz", ""),
    lambda name: name + ".part",
    lambda name: name + " ",
    lambda name: " " + name,
    lambda name: "\ufeff" + name,
    lambda name: name.replace("_", " "),
    lambda name: name.replace("_", "-"),
    lambda name: name.replace("frame0", "frame"),
    lambda name: name.replace(".nii", " (1).nii"),
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: unicodedata.normalize("NFC", name),
]


class TestNothingVanishes:
    @settings(max_examples=120, deadline=None)
    @given(
        format=st.sampled_from([ACDC, NNUNET]),
        patients=st.lists(st.sampled_from(["patient001", "patient002", "Ren\u00e9", "case"]), min_size=1, unique=True),
        changes=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(CHANGES)), max_size=3),
    )
    @example(format=ACDC, patients=["patient001"], changes=[(0, str.upper), (1, str.upper)])
    def test_each_file_is_taken_refused_or_listed(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        format: str,
        patients: list[str],
        changes: list[tuple[int, Callable[[str], str]]],
    ) -> None:
        root = tmp_path_factory.mktemp("names")
        if format == ACDC:
            acdc(root, *patients)
        else:
            nnunet(root, *(f"{patient}_frame01" for patient in patients))
        files = sorted(path for path in root.rglob("*.nii.gz"))
        for index, change in changes:
            path = files[index % len(files)]
            if path.exists():
                path.rename(path.with_name(change(path.name)))
        there = {path for path in root.rglob("*") if path.is_file() and path.name != "Info.cfg"}
        try:
            found = look(format, root)
        except DataError as error:
            assert "\n" not in str(error)
            assert str(root) in str(error) or "files for one" in str(error)
            return
        taken = {path for file in found.volumes for path in (*file.images, file.label)}
        listed = {root / name for name in found.left_out}
        assert taken | listed == there
        assert not taken & listed


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"]


class TestInfo:
    @settings(max_examples=200, deadline=None)
    @given(
        encoding=st.sampled_from(ENCODINGS),
        mark=st.booleans(),
        separator=st.sampled_from([": ", ":", " = ", "=", " : ", "\t", " "]),
        newline=st.sampled_from(["\n", "\r\n", "\r"]),
        case=st.sampled_from([str, str.lower, str.upper]),
        indent=st.sampled_from(["", " ", "\t"]),
        frames=st.tuples(st.integers(1, 9), st.integers(10, 99)),
        more=st.sampled_from([[], ["Height: 169.0", "NbFrame: 30", "Weight: 70"], ["Name: Ren\u00e9"], ["# ACDC", ""]]),
    )
    def test_ed_and_es_outlive_encodings_and_spelling(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        encoding: str,
        mark: bool,
        separator: str,
        newline: str,
        case: Callable[[str], str],
        indent: str,
        frames: tuple[int, int],
        more: list[str],
    ) -> None:
        ed, es = frames
        lines = [*more, *(f"{indent}{case(k)}{separator}{v}" for k, v in (("ED", ed), ("ES", es), ("Group", "DCM")))]
        text = newline.join([*lines, ""])
        path = tmp_path_factory.mktemp("info") / "Info.cfg"
        marked = mark and encoding.endswith(("-le", "-be"))
        path.write_bytes((("\ufeff" if marked else "") + text).encode(encoding))
        assert read_info(path) == Info(ed, es, "DCM")

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=40))
    @example(b"")
    @example(codecs.BOM_UTF16_LE + b"E")
    @example(b"ED: 1\nED: 2\n")
    def test_any_bytes_are_read_or_refused_by_name(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes
    ) -> None:
        path = tmp_path_factory.mktemp("bytes") / "Info.cfg"
        path.write_bytes(content)
        try:
            read_info(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "Info.cfg: is empty; write a line for each, such as 'ED: 1', or remove the file"),
            ("frames: 1, 12\n", "holds none of ED, ES, Group, Height, NbFrame, Weight"),
            ('{"ED": 1, "ES": 12}', "holds none of ED"),
            ("ED: 1\nED: 2\n", "ED is '1' and '2'; keep one of them"),
            ("ED: 1\nES: 1\n", "ED and ES are both frame 1"),
            ("ED: 1.5\n", "ED = '1.5' is not a frame number"),
        ],
    )
    def test_what_says_nothing_is_refused(self, tmp_path: Path, content: str, words: str) -> None:
        (acdc(tmp_path, "patient001") / "patient001/Info.cfg").write_text(content)
        with refused(words):
            look(ACDC, tmp_path)

    @pytest.mark.parametrize("name", ["info.cfg", "INFO.CFG", "Info.Cfg"])
    def test_a_name_in_another_case_is_read(self, tmp_path: Path, name: str) -> None:
        folder = acdc(tmp_path, "patient001") / "patient001"
        (folder / "Info.cfg").rename(folder / name)
        assert [(v.phase, v.group) for v in look(ACDC, tmp_path).volumes] == [("ED", "DCM"), ("ES", "DCM")]

    @pytest.mark.parametrize("name", ["Info.cfg.txt", "Info (1).cfg", "info.txt", "Info.cfg~"])
    def test_a_name_that_resembles_it_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = acdc(tmp_path, "patient001") / "patient001"
        (folder / "Info.cfg").rename(folder / name)
        with refused("nearly a name of the layout; rename it to Info.cfg"):
            look(ACDC, tmp_path)

    def test_two_of_them(self, tmp_path: Path) -> None:
        touch(acdc(tmp_path, "patient001") / "patient001", "info.cfg")
        with refused("2 files for one Info.cfg"):
            look(ACDC, tmp_path)

    def test_what_it_says_and_is_not_there(self, tmp_path: Path) -> None:
        acdc(tmp_path, "patient001", "patient002", "patient003", "patient004")
        (tmp_path / "patient001/Info.cfg").write_text("ED: 1\nES: 9\n")
        (tmp_path / "patient002/Info.cfg").write_text("Group: NOR\nES: 12\n")
        (tmp_path / "patient003/Info.cfg").unlink()
        assert look(ACDC, tmp_path).lacking == (
            "patient001/Info.cfg names frame 09 as ES, which is not there",
            "patient002/Info.cfg says no ED",
            "no Info.cfg of patient003: no phase, no group",
        )
        assert look(ACDC, tmp_path, "patient003").lacking == ()
