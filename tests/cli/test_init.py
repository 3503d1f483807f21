"""`actstore init`: the specs that it writes load, and hold nothing that the trained folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actstore.cli.drafts import write_draft
from actstore.data.phantom.channels import write_channels
from actstore.errors import ActstoreError
from actstore.jobs.plan.plan import make_plan
from actstore.spec.bundle_folder import BundleFolder
from actstore.spec.spec import load_spec
from bundles import made_bundle, save_weights
from nnunet_folders import made_results

REGIONS = {"background": 0, "heart": [1, 2, 3], "left": [2, 3], "LV": 3}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)


def raw(folder: Path) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    (folder / "imagesTr" / "case_0000.nii.gz").touch()
    (folder / "labelsTr" / "case.nii.gz").touch()
    return folder


def test_for_a_result_folder_with_its_data_beside_it(tmp_path: Path) -> None:
    data = raw(tmp_path / "nnUNet_raw" / "Dataset009_Made")
    results = tmp_path / "nnUNet_results" / "Dataset009_Made"
    path = made_results(
        results, configuration="3d_fullres", labels=REGIONS, order=[1, 2, 3], folds={"all": ("checkpoint_best.pth",)}
    )
    written = tmp_path / "specs" / "mine.toml"
    assert write_draft(path, None, written) == f"{written}\nnext  actstore plan {written}"
    spec = load_spec(written)
    assert spec.data.root == data
    assert spec.model.nnunet == path
    assert (spec.model.fold, spec.model.checkpoint) == ("all", "checkpoint_best.pth")
    assert spec.model.layers == ("encoder.stages.*.norm",)
    assert spec.perturb[0].targets == ("LV",)
    lines = [line for line in written.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 14
    with pytest.raises(ActstoreError, match=r"mine\.toml: is there already; give another --output, or move it away"):
        write_draft(path, None, written)


def test_links_stay_as_they_are_named(tmp_path: Path) -> None:
    """The data set lies beside the link, not beside what it leads to."""
    path = made_results(tmp_path / "elsewhere" / "Dataset009_Made")
    results = tmp_path / "nnUNet_results" / "Dataset009_Made"
    results.parent.mkdir()
    results.symlink_to(path.parent, target_is_directory=True)
    data = raw(tmp_path / "nnUNet_raw" / "Dataset009_Made")
    write_draft(results / path.name, None, tmp_path / "mine.toml")
    assert load_spec(tmp_path / "mine.toml").data.root == data
    assert f'nnunet = "{results / path.name}"' in (tmp_path / "mine.toml").read_text(encoding="utf-8")


def test_for_a_bundle(tmp_path: Path) -> None:
    bundle = made_bundle(tmp_path / "bundle")
    save_weights(BundleFolder.read(bundle))
    data, written = raw(tmp_path / "data"), tmp_path / "mine.toml"
    write_draft(bundle, data, written)
    spec = load_spec(written)
    assert (spec.model.bundle, spec.data.root) == (bundle, data)
    assert spec.model.layers == ("type:InstanceNorm3d",)


@pytest.mark.parametrize("described", [True, False])
def test_for_a_data_set(tmp_path: Path, described: bool) -> None:
    data, written = raw(tmp_path / "data"), tmp_path / "mine.toml"
    if described:
        labels = {"background": 0, "whole tumour": [1, 2], "core": 2}
        content = {
            "channel_names": {"0": "T1"},
            "labels": labels,
            "regions_class_order": [1, 2],
            "file_ending": ".nii.gz",
        }
        (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    write_draft(data, None, written)
    spec = load_spec(written)
    assert spec.data.root == data
    assert list(spec.data.classes) == (["whole tumour", "core"] if described else ["RV", "MYO", "LV"])


def test_for_a_data_set_of_several_channels_the_example_takes_one(tmp_path: Path) -> None:
    write_channels(tmp_path / "two", patients=1, seed=7)
    written = tmp_path / "mine.toml"
    write_draft(tmp_path / "two", None, written)
    assert 'channels = ["MRI"]    # of MRI, CT\n\n' in written.read_text(encoding="utf-8")
    plan = make_plan(load_spec(written), device="cpu", timing=False)
    assert plan.spec.input_channels == ("MRI",)


def test_for_acdc(tmp_path: Path, phantom_root: Path) -> None:
    write_draft(phantom_root, None, tmp_path / "mine.toml")
    assert load_spec(tmp_path / "mine.toml").data.format == "acdc"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    written = tmp_path / "mine.toml"
    with pytest.raises(ActstoreError, match=r"holds neither plans.json \(a result folder of nnU-Net\), configs"):
        write_draft(tmp_path, None, written)
    path = made_results(tmp_path / "Dataset009_Made")
    with pytest.raises(ActstoreError, match=r"its data set Dataset009_Made is not found in nnUNet_raw"):
        write_draft(path, None, written)
    with pytest.raises(ActstoreError, match=r"a bundle does not say where images are; give their folder with --data"):
        write_draft(made_bundle(tmp_path / "bundle"), None, written)
    assert not written.exists()
