"""The phantom: deterministic, in ACDC's layout, and heart-shaped."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actstore.data import phantom
from actstore.data.discovery import discover
from actstore.data.nifti import read_volume
from actstore.data.phantom import MARKER, PhantomPatient, generate, write_phantom
from actstore.data.phantom.channels import CHANNELS, write_channels
from actstore.data.phantom.patient import GROUPS, draw_patient
from actstore.errors import DataError
from actstore.inputs.preprocess import fit, normalize
from actstore.models import unet_heart_8_4_4
from actstore.networks.weights import load_weights
from actstore.spec.toml_tables import Data

pytestmark = pytest.mark.slow

SEED = 7
WEIGHTS = "unet_heart_8_4_4_phantom.safetensors"
RV, MYO, LV = 1, 2, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(root, patients=2, seed=SEED)
    return root


@pytest.fixture(scope="module")
def patients() -> list[PhantomPatient]:
    return [generate(index, seed=SEED) for index in range(1, 6)]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _runs(present: NDArray[np.bool_]) -> int:
    """How many unbroken runs of True."""
    return int(np.count_nonzero(np.diff(present.astype(int), prepend=0) == 1))


def test_the_same_seed_writes_the_same_bytes(root: Path, tmp_path: Path) -> None:
    (folder,) = write_phantom(tmp_path / "again", patients=1, seed=SEED)
    assert _bytes(folder) == _bytes(root / "patient001")


def test_a_patient_depends_on_its_number_and_the_seed_alone(root: Path, patients: list[PhantomPatient]) -> None:
    for made in patients[:2]:
        for frame in made.frames:
            path = root / made.patient.name / f"{made.patient.name}_frame{frame.frame:02d}.nii.gz"
            assert np.array_equal(np.asanyarray(nibabel.load(path).dataobj).transpose(2, 0, 1), frame.image)


def test_another_seed_makes_another_patient(patients: list[PhantomPatient]) -> None:
    other = generate(1, seed=SEED + 1)
    assert other.patient != patients[0].patient
    middle = (-1, slice(100, 110), slice(100, 110))
    assert not np.array_equal(other.frames[0].image[middle], patients[0].frames[0].image[middle])


def test_files_lie_and_read_as_in_acdc(root: Path, patients: list[PhantomPatient]) -> None:
    assert sorted(p.name for p in root.iterdir()) == ["patient001", "patient002", MARKER]
    for made in patients[:2]:
        patient, folder = made.patient, root / made.patient.name
        es = patient.es_frame
        stems = [f"{patient.name}_frame01", f"{patient.name}_frame{es:02d}"]
        expected = {"Info.cfg", *(f"{stem}{tail}.nii.gz" for stem in stems for tail in ("", "_gt"))}
        assert {path.name for path in folder.iterdir()} == expected
        info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text(encoding="utf-8").splitlines())
        assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert (info["ED"], info["ES"]) == ("1", str(es))
        assert info["Group"] in GROUPS
        assert 1 < es <= int(info["NbFrame"])
        for stem in stems:
            image, mask = (nibabel.load(folder / f"{stem}{tail}.nii.gz") for tail in ("", "_gt"))
            assert (image.get_data_dtype(), mask.get_data_dtype()) == (np.int16, np.uint8)
            assert image.shape == mask.shape == (*patient.matrix, patient.slices)
            assert image.header.get_zooms() == pytest.approx((patient.pixel, patient.pixel, patient.spacing))
            assert image.get_fdata().min() >= 0


def test_patients_differ_in_group_size_and_slice_count(patients: list[PhantomPatient]) -> None:
    assert {made.patient.group for made in patients} == set(GROUPS)
    drawn = [draw_patient(n, np.random.default_rng([SEED, n])) for n in range(1, 60)]
    assert {patient.slices for patient in drawn} == set(range(6, 13))
    sides = {side for patient in drawn for side in patient.matrix}
    assert min(sides) < 256 < max(sides)
    assert len({patient.spacing for patient in drawn}) > 3
    assert len({patient.pixel for patient in drawn}) == len(drawn)


def test_labels_run_from_base_to_apex(patients: list[PhantomPatient]) -> None:
    for made in patients:
        for frame in made.frames:
            assert frame.label.dtype == np.uint8
            areas = {label: np.count_nonzero(frame.label == label, axis=(1, 2)) for label in (RV, MYO, LV)}
            assert set(np.unique(frame.label)) == {0, RV, MYO, LV}
            for label, area in areas.items():
                assert _runs(area > 0) == 1, (made.patient.name, frame.phase, label)
            assert not np.any((areas[LV] > 0) & (areas[MYO] == 0))
            last_rv, last_myo = (int(np.flatnonzero(areas[label])[-1]) for label in (RV, MYO))
            assert last_rv <= last_myo
            assert areas[RV][last_rv] < 0.5 * areas[RV].max()
            assert areas[LV][last_myo] < 0.7 * areas[LV].max()
    assert any(not (made.frames[0].label[-1] == RV).any() for made in patients)


def test_the_heart_contracts(patients: list[PhantomPatient]) -> None:
    for made in patients:
        ed, es = (frame.label for frame in made.frames)
        for label in (LV, RV):
            assert np.count_nonzero(es == label) < 0.95 * np.count_nonzero(ed == label)
        middle = np.argmax(np.count_nonzero(es == LV, axis=(1, 2)))
        assert np.count_nonzero(es[middle] == MYO) > np.count_nonzero(ed[middle] == MYO)


def test_groups_look_like_their_names(patients: list[PhantomPatient]) -> None:
    def ratio(group: str, above: int, below: int) -> float:
        made = next(made for made in patients if made.patient.group == group)
        ed = made.frames[0].label
        return np.count_nonzero(ed == above) / np.count_nonzero(ed == below)

    assert ratio("DCM", LV, MYO) > ratio("NOR", LV, MYO) > ratio("HCM", LV, MYO)
    assert ratio("RV", RV, LV) > ratio("NOR", RV, LV)


def test_blood_is_bright_and_muscle_dark(patients: list[PhantomPatient]) -> None:
    for made in patients:
        for frame in made.frames:
            means = {label: frame.image[frame.label == label].mean() for label in (RV, MYO, LV)}
            assert min(means[RV], means[LV]) > 1.5 * means[MYO]
            fat = np.percentile(frame.image, 99.5)
            assert fat > means[LV]


def test_the_phantom_is_the_one_that_the_shipped_weights_were_trained_on() -> None:
    """A change here asks for a new ``VERSION`` and new weights."""
    made = generate(1, seed=0)
    ed = made.frames[0]
    assert phantom.VERSION == 1
    assert (made.patient.slices, made.patient.matrix) == (6, (256, 256))
    assert [np.count_nonzero(ed.label == label) for label in (RV, MYO, LV)] == pytest.approx([2391, 2835, 3556], abs=5)
    assert float(ed.image.mean()) == pytest.approx(105.22, rel=1e-3)


def test_a_phantom_that_is_there_already_is_left_alone(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_phantom(root, patients=2, seed=SEED) == [root / "patient001", root / "patient002"]
    assert write_phantom(root, patients=1, seed=SEED) == [root / "patient001"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_empty_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: list[PhantomPatient]
) -> None:
    monkeypatch.setattr(phantom, "generate", lambda index, *, seed: patients[index - 1])
    assert write_phantom(tmp_path, patients=1, seed=SEED) == [tmp_path / "patient001"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["patient001", MARKER]


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(DataError, match="not empty and not a phantom: name an empty or new folder"):
        write_phantom(tmp_path, patients=1, seed=SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phantom"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="is a file: name a folder"):
        write_phantom(path, patients=1, seed=SEED)


def test_another_or_a_smaller_phantom_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"holds another phantom.*'seed': 7.*'seed': 8.*delete it or name a new folder"):
        write_phantom(root, patients=1, seed=SEED + 1)
    with pytest.raises(DataError, match="holds 2 patients of this phantom, not 3"):
        write_phantom(root, patients=3, seed=SEED)


def test_a_phantom_with_files_missing_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    next((tmp_path / "copy" / "patient002").glob("*_gt.nii.gz")).unlink()
    with pytest.raises(DataError, match="patient002: files of this phantom are missing: delete"):
        write_phantom(tmp_path / "copy", patients=2, seed=SEED)


def test_a_failure_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: list[PhantomPatient]
) -> None:
    def full_disk(index: int, *, seed: int) -> PhantomPatient:
        if index == 2:
            raise OSError(28, "No space left on device")
        return patients[0]

    monkeypatch.setattr(phantom, "generate", full_disk)
    with pytest.raises(
        DataError, match=r"cannot write the phantom here.*No space left.*make room or name another folder"
    ):
        write_phantom(tmp_path / "phantom", patients=2, seed=SEED)
    assert list(tmp_path.iterdir()) == []


def test_the_loser_of_a_race_accepts_the_winner(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patients: list[PhantomPatient]
) -> None:
    target = tmp_path / "phantom"

    def overtaken(index: int, *, seed: int) -> PhantomPatient:
        shutil.copytree(root, target)
        return patients[index - 1]

    monkeypatch.setattr(phantom, "generate", overtaken)
    assert write_phantom(target, patients=1, seed=SEED) == [target / "patient001"]
    assert _bytes(target) == _bytes(root)
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]


@pytest.mark.parametrize(
    ("patients", "seed", "message"), [(0, 0, "number of patients 0"), (1, -1, "seed -1 is negative")]
)
def test_impossible_requests_are_refused(tmp_path: Path, patients: int, seed: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_phantom(tmp_path / "phantom", patients=patients, seed=seed)
    with pytest.raises(DataError, match="patient number 0 is too small"):
        generate(0, seed=0)


def test_the_shipped_weights_segment_the_phantom(patients: list[PhantomPatient]) -> None:
    network = unet_heart_8_4_4()
    load_weights(network, Path(str(files("actstore").joinpath("weights", WEIGHTS))))
    scores: dict[int, list[float]] = {RV: [], MYO: [], LV: []}
    for frame in patients[0].frames:
        image = torch.from_numpy(fit(normalize(frame.image, "minmax-slice"), (256, 256)))
        with torch.inference_mode():
            predicted = network.eval()(image[:, None]).argmax(1).numpy()
        true = fit(frame.label, (256, 256))
        for label, dice in scores.items():
            for one, other in zip(true == label, predicted == label, strict=True):
                if one.any():
                    dice.append(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))
    assert np.mean(scores[LV]) > 0.88
    assert np.mean(scores[RV]) > 0.80
    assert np.mean(scores[MYO]) > 0.78


def test_two_channels(tmp_path: Path) -> None:
    root = tmp_path / "two"
    write_channels(root, patients=1, seed=7)
    found = discover(Data.model_validate({"format": "nnunet", "root": root, "classes": {"RV": 1, "MYO": 2, "LV": 3}}))
    assert found.channels == CHANNELS
    assert (found.left_out, found.lacking) == ((), ())
    made = generate(1, seed=7)
    for file, frame in zip(found.volumes, made.frames, strict=True):
        volume = read_volume(file, {"RV": 1, "MYO": 2, "LV": 3}, sliced=True, channels=2)
        np.testing.assert_array_equal(volume.image[0], frame.image)
        np.testing.assert_array_equal(volume.label, frame.label)
        means = [[channel[volume.label == label].mean() for label in (RV, MYO, LV)] for channel in volume.image]
        assert means[1][0] - means[1][1] > 60, "RV is brighter than the wall"
        assert np.corrcoef(*volume.image.reshape(2, -1))[0, 1] < 0.98
    with pytest.raises(DataError, match="is there already; name a new folder"):
        write_channels(root, patients=1, seed=7)
