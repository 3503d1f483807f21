"""The run spec: what it resolves, what it refuses and in which words, and that it survives JSON."""

from __future__ import annotations

import codecs
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actstore.conditions import ORIGINAL_CONDITION, Condition
from actstore.errors import SpecError
from actstore.spec.spec import Spec, load_spec
from conftest import WriteSpec

JOBS = Path(__file__).parents[2] / "jobs"

FULL: dict[str, Any] = {
    "data": {
        "format": "nnunet",
        "root": "data",
        "patients": ["patient001", "patient002"],
        "channels": ["T1", "T2"],
        "axes": "simpleitk",
        "geometry": "ignore",
        "preprocess": {"normalize": "zscore-volume", "size": [96, 80]},
        "classes": {"LV": 3, "RV": 1},
        "phantom": {"patients": 2, "seed": 5},
    },
    "model": {
        "factory": "networks:tiny_unet",
        "arguments": {"seed": 3, "width": 2},
        "weights": "w.pt",
        "layers": ["*.adn.N", "type:InstanceNorm2d"],
        "channels_last": ["*.norm"],
        "unrepeatable": "allow",
    },
    "perturb": [
        {"transform": "brightness", "targets": ["LV", "RV"], "strengths": [0.1, 0.5]},
        {"transform": "fill", "targets": ["LV"], "strengths": [1.0], "source": "RV", "channels": ["T2"]},
    ],
    "controls": {"region": True, "noise": True},
    "store": {
        "path": "runs/a.zarr",
        "dtype": "float16",
        "mantissa_bits": 6,
        "keep": ["*.N"],
        "histogram": False,
        "fsync": True,
    },
    "run": {
        "seed": 4,
        "precision": "bf16",
        "batch_size": 2,
        "threads": 1,
        "writers": 2,
        "workers": 3,
        "check": "off",
        "retries": 2,
    },
    "cases": {"empty_below": 20},
}


def test_every_key_survives_json(tmp_path: Path) -> None:
    spec = Spec.from_mapping(FULL, folder=tmp_path)
    again = Spec.from_mapping(json.loads(spec.model_dump_json()), folder=tmp_path)
    assert again == spec
    assert again.identity() == spec.identity()
    dumped = json.loads(spec.model_dump_json())
    for table in ("data", "model", "controls", "store", "run", "cases"):
        assert dumped[table].keys() == FULL[table].keys(), table
    assert dumped["run"] == FULL["run"]
    assert dumped["controls"] == FULL["controls"]
    assert dumped["cases"] == FULL["cases"]
    assert dumped["perturb"] == [{"source": None, "channels": None, **p} for p in FULL["perturb"]]


def test_defaults_survive_json_wherever_it_is_read(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path))
    again = Spec.from_mapping(json.loads(spec.model_dump_json()))
    assert again.model_dump() == spec.model_dump()


def test_a_spec_pickles(tmp_path: Path) -> None:
    spec = Spec.from_mapping(FULL, folder=tmp_path)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_spec_is_frozen(tmp_path: Path) -> None:
    spec = Spec.from_mapping(FULL, folder=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        spec.store.dtype = "float32"  # type: ignore[misc]


def test_paths_are_relative_to_the_specs_folder(
    write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    write_spec(tmp_path / "runs", data__root="../data", model__weights="w.pt", store__path="out/a.zarr")
    spec = load_spec("runs/spec.toml")
    assert spec.data.root == tmp_path / "data"
    assert spec.model.weights == tmp_path / "runs" / "w.pt"
    assert spec.store.path == tmp_path / "runs" / "out" / "a.zarr"
    assert spec.folder == tmp_path / "runs"


def test_home_and_absolute_paths(write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spec = load_spec(write_spec(tmp_path, data__root="~/acdc", store__path=tmp_path / "elsewhere.zarr"))
    assert spec.data.root == tmp_path / "home" / "acdc"
    assert spec.store.path == tmp_path / "elsewhere.zarr"


def test_weights_that_ship_with_the_package(write_spec: WriteSpec, tmp_path: Path) -> None:
    import actstore

    spec = load_spec(write_spec(tmp_path, model__weights="package:some.safetensors"))
    assert spec.model.weights == Path(actstore.__file__).parent / "weights" / "some.safetensors"


def test_conditions_and_classes_in_order(tmp_path: Path) -> None:
    spec = Spec.from_mapping(FULL, folder=tmp_path)
    assert spec.conditions[0] == ORIGINAL_CONDITION
    perturbations = [
        "brightness(LV, 0.1)",
        "brightness(LV, 0.5)",
        "brightness(RV, 0.1)",
        "brightness(RV, 0.5)",
        "fill(LV, 1, source=RV, channels=T2)",
    ]
    controls = [f"{name[:-1]}, control)" for name in perturbations]
    names = ["original", *perturbations, *controls, "repeat", "repeat(batch=1)"]
    assert [c.name for c in spec.conditions] == names
    assert [c.region for c in spec.conditions] == ["", *["target"] * 5, *["control"] * 5, "", ""]
    assert [(c.transform, c.target, c.strength, c.source) for c in spec.conditions[6:11]] == [
        (c.transform, c.target, c.strength, c.source) for c in spec.conditions[1:6]
    ]
    assert [(c.transform, c.target, c.batch_size) for c in spec.conditions[11:]] == [
        ("repeat", "", None),
        ("repeat", "", 1),
    ]
    assert np.isnan([c.strength for c in spec.conditions[11:]]).all()
    assert spec.class_names == ("background", "RV", "LV")
    assert spec.spatial_dims == ("y", "x")


@pytest.mark.parametrize(
    ("controls", "names"),
    [
        ({}, []),
        ({"region": True}, ["brightness(LV, 0.1, control)", "brightness(RV, 0.1, control)"]),
        ({"noise": True}, ["repeat", "repeat(batch=1)"]),
    ],
)
def test_controls_are_asked_for(
    write_spec: WriteSpec, tmp_path: Path, controls: dict[str, bool], names: list[str]
) -> None:
    spec = load_spec(write_spec(tmp_path, controls=controls))
    assert [c.name for c in spec.conditions[3:]] == names
    plain = load_spec(write_spec(tmp_path))
    assert (spec.identity() == plain.identity()) == (not controls)


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.toml")), ids=lambda path: path.name)
def test_jobs_are_specs(path: Path) -> None:
    spec = load_spec(path)
    assert {c.target for c in spec.conditions} == {"", "LV", "RV", "MYO"}
    assert spec.controls.region == spec.controls.noise == (path.stem == "controls")
    assert (len({p for table in spec.perturb for p in table.strengths}) > 1) == (path.stem == "dose")


@pytest.mark.parametrize(
    ("strength", "name"),
    [(0.1, "brightness(LV, 0.1)"), (1 / 3, f"brightness(LV, {1 / 3!r})"), (2.0, "brightness(LV, 2)")],
)
def test_a_conditions_name_keeps_every_digit(strength: float, name: str) -> None:
    assert Condition("brightness", "LV", strength).name == name


def test_location_and_how_to_compute_are_no_identity(tmp_path: Path) -> None:
    here = Spec.from_mapping(FULL, folder=tmp_path)
    moved = {
        **FULL,
        "run": {"seed": 4, "precision": "bf16"},
        "store": {"path": "b.zarr", "dtype": "float16", "mantissa_bits": 6, "keep": ["*.N"]},
        "cases": {"empty_below": 3},
        "data": {**FULL["data"], "root": "other", "format": "acdc", "patients": ["patient009"]},
        "model": {**FULL["model"], "weights": "same-content.pt"},
    }
    assert Spec.from_mapping(moved, folder=tmp_path / "there").identity() == here.identity()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data__colour": 1}, "unknown key 'data.colour': take it out or correct its spelling"),
        ({"stroe": {"path": "x"}}, "unknown key 'stroe': take it out"),
        ({"folder": "elsewhere"}, "unknown key 'folder': take it out"),
        ({"data__root": None}, "missing key 'data.root': add it"),
        ({"model": None}, "missing key 'model': add it"),
        ({"data__root": 5}, "data.root = 5: input is not a valid path"),
        ({"data__root": ""}, "data.root = '': must be the path of a file or folder"),
        ({"data__root": "a\0b"}, "data.root = 'a\\x00b': must be the path of a file or folder"),
        ({"store__path": "~nobody-here-of-that-name/a"}, "store.path = '~nobody-here-of-that-name/a': must not start"),
        ({"store__keep": "some"}, "store.keep = 'some': must be 'all', 'statistics', or a list of patterns"),
        ({"store__keep": []}, "store.keep = []: must be 'all', 'statistics', or a list of patterns"),
        ({"store__mantissa_bits": 23}, "mantissa_bits = 23 rounds nothing, float32 has 23: use fewer, or none"),
        ({"store__mantissa_bits": 0}, "store.mantissa_bits = 0: input should be greater than 0"),
        ({"run__precision": "fp8"}, "run.precision = 'fp8': input should be 'float32', 'tf32' or 'bf16'"),
        ({"data": 5}, "data = 5: must be a table"),
        ({"data__format": "dicom"}, "data.format = 'dicom': input should be 'nnunet', 'acdc', 'phantom' or 'images'"),
        ({"data__patients": "patient001"}, "data.patients = 'patient001': must be a list"),
        ({"data__patients": []}, "data.patients = []: must not be empty"),
        ({"data__patients": [1]}, "data.patients[0] = 1: must be text, in quotes"),
        ({"data__axes": "itk"}, "data.axes = 'itk': input should be 'nibabel', 'simpleitk' or 'monai'"),
        ({"data__channels": []}, "data.channels = []: must not be empty"),
        ({"data__channels": ["T1", "T1"]}, "names 'T1' 2 times: give each channel a name of its own"),
        ({"data__preprocess__size": [256]}, "data.preprocess.size = [256]: must hold 2 numbers (y, x)"),
        ({"data__preprocess__size": [0, 64]}, "data.preprocess.size[0] = 0: input should be greater than 0"),
        ({"data__preprocess__size": [64.0, 64]}, "data.preprocess.size[0] = 64.0: input should be a valid integer"),
        ({"data__preprocess__normalize": "max"}, "data.preprocess.normalize = 'max': input should be 'minmax-slice'"),
        ({"data__classes": {}}, "data.classes: must not be empty"),
        ({"data__classes": {"RV": 1, "LV": 1}}, "data.classes: label 1 is given to 2 classes: give each class a label"),
        ({"data__classes": {"LV": 300}}, "data.classes: label 300 is too large: labels are 1 to 255"),
        ({"data__classes": {"LV": 0}}, "data.classes.LV = 0: input should be greater than 0"),
        ({"data__classes": {"LV": True}}, "data.classes.LV = True: input should be a valid integer"),
        ({"data__classes": {"background": 1}}, "data.classes: 'background' is label 0 already"),
        ({"model__factory": "unet"}, "model.factory = 'unet': must read 'module:callable', for example"),
        ({"model__layers": []}, "model.layers = []: must not be empty"),
        ({"model__layers": [""]}, "model.layers[0] = '': must not be empty"),
        ({"perturb": {"transform": "blur"}}, "perturb: must be a list: [in, brackets], or [[in.two]] for tables"),
        ({"controls": True}, "controls = True: must be a table, [like.this]"),
        ({"controls": {"regions": True}}, "unknown key 'controls.regions': take it out or correct its spelling"),
        ({"controls": {"region": 1}}, "controls.region = 1: input should be a valid boolean"),
        ({"controls": {"noise": "yes"}}, "controls.noise = 'yes': input should be a valid boolean"),
        ({"store__dtype": "float64"}, "store.dtype = 'float64': input should be 'float32' or 'float16'"),
        ({"run__batch_size": 0}, "run.batch_size = 0: input should be greater than 0"),
        ({"run__workers": "2"}, "run.workers = '2': input should be a valid integer"),
        ({"run__seed": -1}, "run.seed = -1: input should be greater than or equal to 0"),
        ({"cases": {"empty": 3}}, "cases: unknown threshold 'empty': there are empty_below, "),
        ({"cases": {"extreme_share": 2}}, "extreme_share = 2: give a share from 0 to 1"),
    ],
)
def test_refused(write_spec: WriteSpec, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_spec(tmp_path, **change)
    with pytest.raises(SpecError, match=re.escape(words)) as caught:
        load_spec(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"transform": "darken"},
            "perturb[0].transform = 'darken': unknown transform: use brightness, contrast, noise",
        ),
        ({"transform": "mine:"}, "perturb[0].transform = 'mine:': must read 'module:callable'"),
        ({"targets": "LV"}, "perturb[0].targets = 'LV': must be a list"),
        ({"targets": []}, "perturb[0].targets = []: must not be empty"),
        ({"targets": ["LA"]}, "perturb[0] names the class 'LA': data.classes has RV, MYO, LV"),
        ({"targets": ["LV", "LV"]}, "condition brightness(LV, 0.1) is listed 2 times: keep one"),
        ({"strengths": [0.1, 0.1]}, "condition brightness(LV, 0.1) is listed 2 times: keep one"),
        ({"strengths": []}, "perturb[0].strengths = []: must not be empty"),
        ({"strengths": 0.1}, "perturb[0].strengths = 0.1: must be a list"),
        ({"strengths": ["0.1"]}, "perturb[0].strengths[0] = '0.1': input should be a valid number"),
        ({"strengths": [True]}, "perturb[0].strengths[0] = True: input should be a valid number"),
        ({"strengths": [0.1, -0.5]}, "perturb[0].strengths[1] = -0.5: input should be greater than or equal to 0"),
        ({"strengths": [math.nan]}, "perturb[0].strengths[0] = nan: "),
        ({"strengths": [math.inf]}, "perturb[0].strengths[0] = inf: must be a finite number"),
        ({"strengths": [0.5, 1]}, "perturb[0]: strength 1 of 'brightness' changes nothing: leave it out"),
        ({"transform": "blur", "strengths": [0]}, "perturb[0]: strength 0 of 'blur' changes nothing"),
        ({"source": "RV"}, "perturb[0]: transform 'brightness' takes no source: only 'fill' does"),
        ({"transform": "fill"}, "perturb[0]: transform 'fill' needs source = \"CLASS\""),
        ({"transform": "fill", "source": "LA"}, "perturb[0] names the class 'LA'"),
        ({"transform": "fill", "source": "LV"}, "perturb[0] fills 'LV' with itself: choose another source"),
        ({"strength": 0.1}, "unknown key 'perturb[0].strength'"),
    ],
)
def test_refused_perturbation(write_spec: WriteSpec, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    table = {"transform": "brightness", "targets": ["LV"], "strengths": [0.1], **change}
    with pytest.raises(SpecError, match=re.escape(words)) as caught:
        load_spec(write_spec(tmp_path, perturb=[table]))
    assert len(str(caught.value).splitlines()) == 1


def test_every_problem_is_named_once(write_spec: WriteSpec, tmp_path: Path) -> None:
    path = write_spec(tmp_path, data__format="x", run__threads=0, perturb=[{"transform": "no"}])
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    problems = str(caught.value).removeprefix(f"{path}: ").split("; ")
    assert [p.split(" = ")[0].split(": ")[0] for p in problems] == [
        "data.format",
        "perturb[0].transform",
        "missing key 'perturb[0].targets'",
        "missing key 'perturb[0].strengths'",
        "run.threads",
    ]


def test_no_such_spec(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "file" / "spec.toml"):
        with pytest.raises(SpecError, match=re.escape(f"{path}: no such spec file; give the path of a TOML run spec")):
            load_spec(path)


def test_a_spec_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SpecError, match=r"a\.toml: cannot be read: Permission denied; check"):
        load_spec(tmp_path / "a.toml")


def test_a_byte_order_mark_is_no_content(write_spec: WriteSpec, tmp_path: Path) -> None:
    path = write_spec(tmp_path)
    plain = load_spec(path)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load_spec(path) == plain


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_another_encoding(write_spec: WriteSpec, tmp_path: Path, encoding: str) -> None:
    path = write_spec(tmp_path)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    words = rf"spec\.toml: is encoded as {encoding[:6].upper()}, TOML is UTF-8; save it as UTF-8"
    with pytest.raises(SpecError, match=words):
        load_spec(path)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(b"[data]\nroot = 'Ren\xe9'\n")
    with pytest.raises(SpecError, match=r"not valid TOML: line 2 holds bytes that are not UTF-8; save it as UTF-8"):
        load_spec(path)


@pytest.mark.parametrize("content", [b"data = [", b"a = 1\na = 2"])
def test_not_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"spec\.toml: not valid TOML: .*; correct it there"):
        load_spec(path)


BRIGHTNESS = {"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}


class TestAxes:
    def test_a_3d_network_needs_them(self) -> None:
        data = {**FULL["data"], "axes": None, "preprocess": {"size": [8, 96, 80]}}
        words = (
            "spec: data.axes is missing, which a 3D network needs: it has to see the axes in the order of its "
            'training, and runs in any other without an error. Set data.axes = "nibabel" or "monai" if it was trained '
            'on arrays (i, j, k), as these two read a file, or "simpleitk" if on (k, j, i), as SimpleITK and nnU-Net '
            "read it"
        )
        with pytest.raises(SpecError) as caught:
            Spec.from_mapping({**FULL, "data": data})
        assert str(caught.value) == words

    @pytest.mark.parametrize(
        ("axes", "size", "order", "slices", "named"),
        [
            (None, [96, 80], (2, 0, 1), 0, None),
            ("nibabel", [96, 80], (2, 0, 1), 0, None),
            ("monai", [96, 80], (2, 0, 1), 0, None),
            ("simpleitk", [96, 80], (2, 1, 0), 0, "simpleitk"),
            ("nibabel", [96, 80, 8], (0, 1, 2), 2, "nibabel"),
            ("monai", [96, 80, 8], (0, 1, 2), 2, "nibabel"),
            ("simpleitk", [8, 80, 96], (2, 1, 0), 0, "simpleitk"),
        ],
    )
    def test_order(self, axes: str | None, size: list[int], order: Any, slices: int, named: str | None) -> None:
        data = {**FULL["data"], "axes": axes, "preprocess": {"size": size}}
        spec = Spec.from_mapping({**FULL, "data": data})
        assert (spec.axis_order, spec.slice_axis) == (order, slices)
        assert spec.identity().get("axes") == named, "what is read otherwise is another run, and nothing else"


class TestChannels:
    def of(self, *perturbed: list[str], **data: Any) -> Spec:
        perturb = [{**BRIGHTNESS, "channels": names} for names in perturbed] or [BRIGHTNESS]
        return Spec.from_mapping({**FULL, "data": {**FULL["data"], "channels": None, **data}, "perturb": perturb})

    def test_names_of_the_data_set(self) -> None:
        spec = self.of(["CT"])
        assert spec.input_channels == ("image",)
        assert "'channels'" not in str(self.of().identity()), "as in stores from before there were several"
        found = spec.with_channels(("MRI", "CT"))
        assert found.input_channels == ("MRI", "CT")
        assert found.identity()["channels"] == ["MRI", "CT"]
        assert [c.name for c in found.conditions[1:2]] == ["brightness(LV, 0.1, channels=CT)"]
        with pytest.raises(SpecError, match=r"perturb\[0\] names the input channel 'CT': the data set has MRI, PET"):
            spec.with_channels(("MRI", "PET"))

    def test_names_that_are_known(self) -> None:
        self.of(["T1"], channels=["T1", "T2"])
        with pytest.raises(SpecError, match=r"perturb\[0\] names the input channel 'T3': the data set has T1, T2"):
            self.of(["T1", "T3"], channels=["T1", "T2"])
        with pytest.raises(SpecError, match="names the input channel 'T1': the data set has image"):
            self.of(["T1"], format="acdc")

    def test_what_differs_in_channels_alone(self) -> None:
        spec = self.of(["T1"], ["T2"], channels=["T1", "T2"])
        assert [c.name for c in spec.conditions if c.region == "target"] == [
            "brightness(LV, 0.1, channels=T1)",
            "brightness(LV, 0.1, channels=T2)",
        ]

    def test_the_same_twice(self) -> None:
        with pytest.raises(SpecError, match=r"condition brightness\(LV, 0.1, channels=T1\+T2\) is listed 2 times"):
            self.of(["T1", "T2"], ["T2", "T1"], channels=["T1", "T2"])

    def test_all_channels_by_name_and_by_default(self) -> None:
        every = {"channels": None, **BRIGHTNESS}
        content = {**FULL, "perturb": [every, {**every, "channels": ["T2", "T1"]}]}
        words = r"brightness\(LV, 0.1\) and brightness\(LV, 0.1, channels=T2\+T1\) change the same input channels"
        with pytest.raises(SpecError, match=rf"{words}, which are all that the data set has: keep one"):
            Spec.from_mapping(content)
        content["data"] = {**FULL["data"], "channels": ["T1", "T2", "T3"]}
        Spec.from_mapping(content)

    def test_names_that_look_like_two(self) -> None:
        words = (
            r"two perturbations name other input channels, and both are called 'T1\+C' in a store: give 'T1\+C' a name"
        )
        with pytest.raises(SpecError, match=rf"{words} without '\+' in data.channels"):
            self.of(["T1+C"], ["C", "T1"], channels=["T1", "T1+C", "C"])
        self.of(["T1+C"], ["T1"], channels=["T1", "T1+C"])
