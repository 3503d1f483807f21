"""Writes a first spec for a trained network or a data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

from actstore.data import acdc, nnunet
from actstore.data.dataset_json import read_dataset_json
from actstore.errors import ActstoreError, SpecError
from actstore.networks.adapters import build_trained
from actstore.spec.bundle_folder import BundleFolder
from actstore.spec.nnunet_results import DEFAULT_CHECKPOINT, ResultFolder
from actstore.spec.spec import load_spec
from actstore.units import by, shown

#: Where data sets of nnU-Net may lie, from the folder above its results.
_RAW = ("nnUNet_raw", "nnunet_raw", "raw")
#: The environment variable in which nnU-Net looks up its raw data.
_VARIABLE = "nnUNet_raw"
_PERTURB = """\
[[perturb]]
transform = "brightness"     # of the raw intensities inside a class
targets = {targets}
strengths = [0.1]            # darkened to 10 %

[store]
path = "runs/{name}.zarr"
"""
_DATA = """\
[data]
format = "{format}"
root = {root}
"""


def write_draft(folder: Path, data: Path | None, output: Path) -> str:
    """Write a spec for ``folder`` to ``output``, and load it; what to do next is returned.

    Raises
    ------
    ActstoreError
        if the folder is neither a result folder, a bundle nor a data set, its images are not found, or ``output`` is
        there already.
    """
    if output.exists():
        raise SpecError(f"{shown(output)}: is there already; give another --output, or move it away")
    # As it was named: a link may lead to where the data set does not lie beside the results.
    content = _draft(Path(os.path.abspath(folder)), data and Path(os.path.abspath(data)))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(content, encoding="utf-8")
    try:
        load_spec(output)
    except ActstoreError:
        output.unlink()
        raise
    return f"{output}\nnext  actstore plan {output}"


def _draft(folder: Path, data: Path | None) -> str:
    if (folder / "plans.json").exists():
        return _of_results(folder, data)
    if (folder / "configs").is_dir():
        return _of_bundle(folder, data)
    for format_, module in (("nnunet", nnunet), ("acdc", acdc)):
        if format_ == "nnunet" and not (folder / "imagesTr").is_dir():
            continue
        if format_ == "acdc" and not any(folder.glob("*/*_gt.nii*")):
            continue
        module.find(folder, None)
        return _of_data(folder, format_)
    raise SpecError(
        f"{shown(folder)}: holds neither plans.json (a result folder of nnU-Net), configs (a MONAI bundle), imagesTr "
        "(a data set of nnU-Net) nor patient folders with _gt.nii.gz (ACDC); name one of these"
    )


def _of_results(folder: Path, data: Path | None) -> str:
    folds = sorted(entry.name.removeprefix("fold_") for entry in folder.glob("fold_*") if any(entry.glob("*.pth")))
    fold = "0" if "0" in folds or not folds else folds[0]
    files = sorted(entry.name for entry in (folder / f"fold_{fold}").glob("*.pth"))
    checkpoint = DEFAULT_CHECKPOINT if DEFAULT_CHECKPOINT in files or not files else files[0]
    results = ResultFolder.read(folder, fold=int(fold) if fold.isdecimal() else fold, checkpoint=checkpoint)
    root = data or _raw_of(folder)
    architecture = (results.settings.get("architecture") or {}).get("network_class_name", "PlainConvUNet")
    plain = architecture.endswith("PlainConvUNet")
    layers = "encoder.stages.*.norm" if plain else f"type:InstanceNorm{len(results.window)}d"
    lines = [
        f"# {folder.name}: {len(results.window)}D, patches of {by(results.window)} voxels; classes, channels,",
        "# preprocessing and patches are those of its training.",
        _DATA.format(format="nnunet", root=json.dumps(str(root))),
        "[model]",
        f"nnunet = {json.dumps(str(folder))}",
        f"fold = {fold if fold.isdecimal() else json.dumps(fold)}" + f"{' ' * 21}# trained: {', '.join(folds)}",
        *([f'checkpoint = "{checkpoint}"'] if checkpoint != DEFAULT_CHECKPOINT else []),
        f'layers = ["{layers}"]    # `actstore layers` shows all modules',
        "",
        _PERTURB.format(targets=json.dumps(list(results.classes)[-1:]), name=folder.parent.name or folder.name),
    ]
    return "\n".join(lines)


def _raw_of(folder: Path) -> Path:
    """The data set that a result folder was trained on, where nnU-Net's folders lie side by side."""
    name = folder.parent.name
    stated = os.environ.get(_VARIABLE)
    bases = [Path(stated)] if stated else []
    bases += [above / raw for above in list(folder.parents)[2:4] for raw in _RAW]
    found = next((base / name for base in bases if (base / name / "imagesTr").is_dir()), None)
    if found is None:
        raise SpecError(
            f"{shown(folder)}: its data set {name} is not found in {', '.join(_RAW)} beside the results, nor in "
            f"${_VARIABLE}; give its folder with --data"
        )
    return found


def _of_bundle(folder: Path, data: Path | None) -> str:
    bundle = BundleFolder.read(folder)
    if data is None:
        raise SpecError(f"{shown(folder)}: a bundle does not say where images are; give their folder with --data")
    format_ = "nnunet" if (data / "imagesTr").is_dir() else "acdc"
    kinds = [type(module).__name__ for module in build_trained(bundle).modules()]
    norms = sorted({kind for kind in kinds if "Norm" in kind}, key=kinds.count)
    lines = [
        f"# {folder.name}: a MONAI bundle, windows of {by(bundle.window)} voxels; classes, channels, preprocessing",
        "# and windows are its own. Its configuration runs code: only use bundles that you trust.",
        _DATA.format(format=format_, root=json.dumps(str(data))),
        "[model]",
        f"bundle = {json.dumps(str(folder))}",
        f'layers = ["type:{norms[-1] if norms else "Conv3d"}"]    # `actstore layers` shows all modules',
        "",
        _PERTURB.format(targets=json.dumps(list(bundle.classes)[-1:]), name=folder.name),
    ]
    return "\n".join(lines)


def _of_data(folder: Path, format_: str) -> str:
    described = read_dataset_json(folder) if (folder / "dataset.json").exists() else None
    classes = dict(described.classes) if described and described.classes else {"RV": 1, "MYO": 2, "LV": 3}
    channels = described.channels if described else ()
    lines = [
        f"# {folder.name}: put your own network into [model]; until then, an example that was trained on a phantom.",
        _DATA.format(format=format_, root=json.dumps(str(folder)))
        # The example's network has one input channel.
        + (f"channels = {json.dumps(list(channels[:1]))}    # of {', '.join(channels)}\n" if channels[1:] else ""),
        "[data.preprocess]",
        'normalize = "minmax-slice"   # as in the network\'s training',
        "size = [256, 256]            # of its input; three numbers for a 3D network",
        "",
        "[data.classes]               # as the masks have them",
        *(f"{_key(name)} = {json.dumps(value)}" for name, value in classes.items()),
        "",
        "[model]",
        'factory = "actstore.models:unet_heart_8_4_4"',
        'weights = "package:unet_heart_8_4_4_phantom.safetensors"',
        'layers = ["*.adn.N"]         # `actstore layers` shows all modules',
        "",
        _PERTURB.format(targets=json.dumps(list(classes)[-1:]), name=folder.name),
    ]
    return "\n".join(lines)


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
