"""Which preprocessing and patches a spec asks for."""

from __future__ import annotations

from pathlib import Path

from actstore.conditions import Applies
from actstore.data.images import BlockFiles, GroupHeader, ImageGroup
from actstore.data.volume import Volume, VolumeFile, VolumeHeader
from actstore.errors import DataError
from actstore.inputs.bundle import BundlePipeline
from actstore.inputs.images import ImagePipeline, ImageSet, Inputs
from actstore.inputs.nnunet import NnUNetPipeline
from actstore.inputs.pipeline import Pipeline
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import prepare
from actstore.inputs.windows import Windows
from actstore.spec.nnunet_results import ResultFolder, channel_names
from actstore.spec.spec import Spec
from actstore.spec.trained_json import read_json
from actstore.units import shown

#: What reads and preprocesses the blocks of a run.
AnyPipeline = Pipeline | ImagePipeline


def pipeline_of(spec: Spec) -> AnyPipeline:
    """The pipeline of the spec's trained network, or that of ``data.preprocess``."""
    if spec.data.classified:
        return ImagePipeline(spec)
    if spec.trained is None:
        return Plain(spec)
    if isinstance(spec.trained, ResultFolder):
        return NnUNetPipeline(spec.trained, spec.data.geometry)
    return BundlePipeline(spec.trained, spec.data.geometry)


def grid_of(pipeline: AnyPipeline, file: BlockFiles) -> VolumeHeader:
    """Shape and spacing (mm) of a block's preprocessed volume or images."""
    if isinstance(pipeline, ImagePipeline):
        assert isinstance(file, ImageGroup)
        return pipeline.grid(file)
    assert isinstance(file, VolumeFile)
    return pipeline.grid(file)


def read_block(pipeline: AnyPipeline, file: BlockFiles) -> Volume | ImageSet:
    """A block's raw volume, or its images."""
    if isinstance(pipeline, ImagePipeline):
        assert isinstance(file, ImageGroup)
        return pipeline.read(file)
    assert isinstance(file, VolumeFile)
    return pipeline.read(file)


def covered(header: VolumeHeader, pipeline: AnyPipeline) -> list[Windows]:
    """How patches cover a block: a volume, or each of its images."""
    if isinstance(header, GroupHeader):
        # Of the images of one size once: there may be tens of thousands.
        made = {size: pipeline.windows(size) for size in set(header.sizes)}
        return [made[size] for size in header.sizes]
    return [pipeline.windows(header.shape)]


def prepared(spec: Spec, pipeline: AnyPipeline, volume: Volume | ImageSet, *, applies: Applies = "changed") -> Inputs:
    """The network's inputs of what ``pipeline`` read, under every condition of ``spec``."""
    if isinstance(pipeline, ImagePipeline):
        assert isinstance(volume, ImageSet)
        return ImagePipeline(spec).prepare(volume, applies=applies)
    assert isinstance(volume, Volume)
    return prepare(spec, pipeline, volume, applies=applies)


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
