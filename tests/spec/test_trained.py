"""Specs whose network is a result folder or a bundle: what it supplies, and what is refused beside it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actstore.errors import DataError, ModelError, SpecError
from actstore.inputs.adapters import check_dataset, pipeline_of
from actstore.inputs.bundle import BundlePipeline
from actstore.inputs.nnunet import NnUNetPipeline
from actstore.spec.spec import Spec, load_spec
from bundles import made_bundle
from nnunet_folders import made_results

REGIONS = {"background": 0, "heart": [1, 2, 3], "left": [2, 3], "LV": 3}
#: What a spec of a trained network needs.
LINES = """\
[data]
format = "nnunet"
root = "raw"
[model]
{source}
layers = ["*"]
[[perturb]]
transform = "brightness"
targets = ["LV"]
strengths = [0.1]
[store]
path = "run.zarr"
"""


def written(folder: Path, source: str) -> Path:
    (folder / "raw").mkdir(exist_ok=True)
    path = folder / "spec.toml"
    path.write_text(LINES.format(source=source), encoding="utf-8")
    return path


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """A spec of a 3D result folder with two channels and three regions."""
    folder = tmp_path / "results"
    made_results(folder, configuration="3d_fullres", channels=("MRI", "CT"), labels=REGIONS, order=[1, 2, 3])
    return written(tmp_path, 'nnunet = "results/nnUNetTrainer__nnUNetPlans__3d_fullres"')


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made_bundle(tmp_path / "bundle")
    return written(tmp_path, 'bundle = "bundle"')


def test_twelve_lines_are_a_spec_of_a_result_folder(nnunet: Path) -> None:
    assert len(nnunet.read_text(encoding="utf-8").splitlines()) == 12
    spec = load_spec(nnunet)
    assert spec.class_names == ("background", "heart only", "left only", "LV")
    assert spec.labels.members == {"heart": (1, 2, 3), "left": (2, 3), "LV": (3,)}
    assert spec.data.regions_class_order == (1, 2, 3)
    assert spec.spatial_dims == ("z", "y", "x")
    pipeline = pipeline_of(spec)
    assert isinstance(pipeline, NnUNetPipeline)
    assert pipeline.window == spec.data.preprocess.size == (8, 32, 48)
    assert pipeline.channels == ("MRI", "CT")
    assert spec.trained is not None
    assert spec.trained.description == (
        "nnU-Net 3d_fullres, fold 0, checkpoint_final.pth: its own preprocessing, patches of 8×32×48 without "
        "mirroring, which nnU-Net's predictor adds by default"
    )


def test_twelve_lines_are_a_spec_of_a_bundle(bundle: Path) -> None:
    spec = load_spec(bundle)
    assert spec.class_names == ("background", "RV", "MYO", "LV")
    pipeline = pipeline_of(spec)
    assert isinstance(pipeline, BundlePipeline)
    assert pipeline.window == spec.data.preprocess.size == (48, 48, 8)


@pytest.mark.parametrize("source", ["nnunet", "bundle"])
def test_the_identity_holds_digests_in_place_of_a_factory(source: str, request: pytest.FixtureRequest) -> None:
    spec = load_spec(request.getfixturevalue(source))
    identity = spec.identity()
    assert spec.trained is not None
    assert identity[source] == spec.trained.identity
    assert not {"factory", "arguments", "nnunet", "bundle", "fold"} & (identity.keys() - {source})
    json.dumps(identity)
    stored = json.loads(spec.model_dump_json())
    assert "trained" not in stored
    again = Spec.from_mapping(stored, folder=spec.folder, stored=True)
    assert again.identity() == identity
    assert pickle.loads(pickle.dumps(spec)).identity() == identity
    assert again.model.source == str(spec.folder / {"bundle": "bundle"}.get(source, again.model.source))


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("model", "factory", '"a:b"'),
        ("model", "weights", '"w.pt"'),
        ("model", "arguments", "{ a = 1 }"),
        ("data", "preprocess", "{ size = [8, 8] }"),
        ("data", "classes", "{ LV = 3 }"),
        ("data", "regions_class_order", "[1]"),
        ("data", "axes", '"monai"'),
        ("data", "channels", '["T1"]'),
    ],
)
@pytest.mark.parametrize("source", ["nnunet", "bundle"])
def test_keys_that_it_supplies_are_refused(
    source: str, table: str, key: str, value: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(source)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"[{table}]\n", f"[{table}]\n{key} = {value}\n"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    words = (
        f"{table}.{key} beside model.{source}, which says it itself: take it out, or name the network by model.factory"
    )
    assert words in str(caught.value)


PLAIN: dict[str, Any] = {
    "data": {"format": "nnunet", "root": ".", "classes": {"LV": 3}},
    "model": {"factory": "a:b", "layers": ["*"]},
    "perturb": [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}],
    "store": {"path": "run.zarr"},
}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "model: names no network: give one of factory, nnunet and bundle"),
        ({"nnunet": "a", "bundle": "b"}, "model: names several networks (nnunet, bundle): keep one of them"),
        ({"factory": "a:b", "fold": 1}, "model: has fold, which is of nnU-Net's result folders: take it out, or give"),
        ({"factory": "a:b", "checkpoint": "c"}, "model: has checkpoint, which is of nnU-Net's result folders: take it"),
    ],
)
def test_one_source_is_named(model: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.from_mapping({**PLAIN, "model": {"layers": ["*"], **model}})
    assert message in str(caught.value)


def test_of_two_sources_neither_is_asked_for_its_classes() -> None:
    content = {**PLAIN, "data": {"format": "nnunet", "root": "."}, "model": {"nnunet": "a", "bundle": "b"}}
    with pytest.raises(SpecError) as caught:
        Spec.from_mapping(content)
    assert str(caught.value) == "spec: model: names several networks (nnunet, bundle): keep one of them"


def test_a_folder_without_plans_is_no_result_folder(tmp_path: Path) -> None:
    for key, words in (
        ("nnunet", "is not an nnU-Net v2 result folder, which holds plans.json, dataset.json and fold_…"),
        ("bundle", "is not a MONAI bundle, which holds configs/inference.json"),
    ):
        with pytest.raises(ModelError) as caught:
            Spec.from_mapping({**PLAIN, "data": {"format": "nnunet", "root": "."}, "model": {key: str(tmp_path)}})
        assert str(caught.value) == f"{tmp_path}: {words}; correct model.{key}"


def test_what_is_read_cannot_be_given() -> None:
    with pytest.raises(SpecError, match="unknown key 'trained': take it out, it is read"):
        Spec.from_mapping({**PLAIN, "trained": {}})


def test_fold_and_checkpoint_are_asked_for(nnunet: Path) -> None:
    text = nnunet.read_text(encoding="utf-8")
    nnunet.write_text(text.replace("layers", 'fold = "all"\nlayers'), encoding="utf-8")
    with pytest.raises(ModelError, match=r"no fold all, there are 0; choose another with model.fold"):
        load_spec(nnunet)
    nnunet.write_text(text.replace("layers", 'checkpoint = "checkpoint_best.pth"\nlayers'), encoding="utf-8")
    with pytest.raises(ModelError, match=r"no checkpoint_best.pth, there are checkpoint_final.pth; choose another"):
        load_spec(nnunet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"channel_names": {"0": "MRI"}},
            r"its channels are \['MRI'\], the network of \S+ was trained with",
        ),
        ({"labels": {"background": 0, "LV": 1}}, r"its labels are {'background': 0, 'LV': 1}, the network of \S+ was"),
    ],
)
def test_a_data_set_of_another_training_is_refused(nnunet: Path, change: dict[str, Any], message: str) -> None:
    spec = load_spec(nnunet)
    check_dataset(spec)
    assert spec.trained is not None
    path = nnunet.parent / "raw" / "dataset.json"
    path.write_text(json.dumps(spec.trained.dataset), encoding="utf-8")
    check_dataset(spec)
    path.write_text(json.dumps({**spec.trained.dataset, **change}), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        check_dataset(spec)


@pytest.mark.process
def test_reading_such_a_spec_imports_no_network(nnunet: Path) -> None:
    code = (
        "import sys; from actstore.spec.spec import load_spec; load_spec(sys.argv[1]); "
        "sys.exit(', '.join({'torch', 'monai', 'nnunetv2', 'yaml'} & sys.modules.keys()) or 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(nnunet)], check=True)
