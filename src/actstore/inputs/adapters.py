"""Which preprocessing and patches a spec asks for."""

from __future__ import annotations

from pathlib import Path

from actstore.errors import DataError
from actstore.inputs.bundle import BundlePipeline
from actstore.inputs.nnunet import NnUNetPipeline
from actstore.inputs.pipeline import Pipeline
from actstore.inputs.plain import Plain
from actstore.spec.nnunet_results import ResultFolder, channel_names
from actstore.spec.spec import Spec
from actstore.spec.trained_json import read_json
from actstore.units import shown


def pipeline_of(spec: Spec) -> Pipeline:
    """The pipeline of the spec's trained network, or that of ``data.preprocess``."""
    if spec.trained is None:
        return Plain(spec)
    if isinstance(spec.trained, ResultFolder):
        return NnUNetPipeline(spec.trained, spec.data.geometry)
    return BundlePipeline(spec.trained, spec.data.geometry)


def check_dataset(spec: Spec) -> None:
    """Compare the ``dataset.json`` of ``data.root``, if there is one, with that of the network's training.

    Raises
    ------
    DataError
        if its channels or labels are others.
    """
    path = Path(spec.data.root) / "dataset.json"
    if not isinstance(spec.trained, ResultFolder) or spec.data.format != "nnunet" or not path.exists():
        return
    theirs = read_json(path, "nnU-Net's raw data set")
    for what, mine, other in (
        ("channels", channel_names(spec.trained.dataset), channel_names(theirs)),
        ("labels", spec.trained.dataset.get("labels"), theirs.get("labels")),
    ):
        if mine != other:
            raise DataError(
                f"{shown(path)}: its {what} are {other}, the network of {shown(spec.trained.path)} was trained with "
                f"{mine}; name the data set of that training in data.root"
            )
