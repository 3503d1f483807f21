"""The tables of a run spec, each validated on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from actstore.conditions import IDENTITY_STRENGTH, Condition, without_effect
from actstore.errors import SpecError
from actstore.spec.labels import Labels
from actstore.spec.precision import Precision
from actstore.spec.values import (
    LabelValues,
    LocalPath,
    Positive,
    SpatialSize,
    StoreLocation,
    Strength,
    Text,
    TomlTable,
    without_none,
)

Normalization = Literal[
    "minmax-slice",
    "minmax-volume",
    "zscore-slice",
    "zscore-volume",
    "percentile-slice",
    "percentile-volume",
    "none",
]
DataFormat = Literal["nnunet", "acdc", "phantom", "images"]
NormalizationWindow = Literal["perturbed", "original"]
GeometryCheck = Literal["check", "ignore"]
Axes = Literal["nibabel", "simpleitk", "monai"]


class Preprocess(TomlTable):
    """How raw intensities become the network's input: normalise, then centre-pad or centre-crop."""

    #: Scaling of intensities after a perturbation: to [0, 1], to mean 0 and variance 1, or from the 1st to the 99th
    #: percentile to [0, 1]; for each slice or for the volume.
    normalize: Normalization = "minmax-slice"
    #: Image that defines a condition's origin, scale and clipping limits: "perturbed", as in the published study, or
    #: "original", so that no other pixel changes but values may leave the range. By default "original" in a run with
    #: ``controls.region``, else "perturbed".
    window: NormalizationWindow | None = None
    #: (y, x) of a 2D network's input or (z, y, x) of a 3D one's, in pixels. Never a resize.
    size: SpatialSize = (256, 256)


class Phantom(TomlTable):
    """The synthetic data set that ``format = "phantom"`` generates if its root does not exist yet."""

    #: Number of patients to generate, two volumes each.
    patients: Positive = 4
    #: Seed of the patients.
    seed: Annotated[StrictInt, Field(ge=0)] = 0


class Images(TomlTable):
    """How ``format = "images"`` reads its images."""

    #: Images in one block where patients are unknown; else a block is a patient.
    group: Positive = 64
    #: "keep" refuses a colour image for a grey network; "grey" takes the luminance of colour images.
    colour: Literal["keep", "grey"] = "keep"


class Split(TomlTable):
    """Which images of ``format = "images"`` are of the test split, and which split the run captures."""

    #: What to capture: images of the test split, those of the others, or all.
    use: Literal["test", "train", "all"] = "test"
    #: Patients of the test split; where patients are unknown, images, by their names below the root.
    test: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    #: The column of the CSV, or the array of the NPZ, that says "test" or another split of each image.
    column: Text | None = None
    #: The part of each class's patients (or images) that is of the test split, drawn with ``seed``.
    share: Annotated[StrictFloat, Field(gt=0, lt=1)] | None = None
    #: Seed of ``share``.
    seed: Annotated[StrictInt, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_rule(self) -> Split:
        given = [name for name in ("test", "column", "share") if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"gives {' and '.join(given)}" if given else "says of no image whether it is of the test split"
            raise ValueError(f"{what}: give one of test, column and share")
        return self


class Data(TomlTable):
    """Where the volumes are and what their labels mean."""

    #: Layout of the data set: nnU-Net's raw folders, ACDC's own, the synthetic one, or images of one class each.
    format: DataFormat
    #: Folder of the data set, relative to the spec's folder. Of images: a folder with one folder a class, a CSV with
    #: the columns path, label and, if known, patient, or an NPZ with the arrays image and label.
    root: LocalPath
    #: Names as in the file names; by default all.
    patients: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    #: Names of the input channels in the order of their files (``CASE_0000``, ``CASE_0001``, …) or along the last axis
    #: of one file. By default those of ``dataset.json`` if there are several, or "image". Names that ``dataset.json``
    #: has choose channels, in the order in which the network takes them.
    channels: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    #: Order in which the network's arrays have a file's axes i, j and k. "nibabel" and "monai": slices (i, j) along k
    #: in 2D, volumes (i, j, k) in 3D. "simpleitk", as nnU-Net has it: slices (j, i) along k, volumes (k, j, i). By
    #: default "nibabel" for a 2D network; a 3D one needs it.
    axes: Axes | None = None
    #: "check" refuses a volume whose headers are contradictory or whose image and mask do not lie on one grid.
    #: "ignore" accepts it with a note in `plan`: for headers without information, and arrays that are known to match.
    geometry: GeometryCheck = "check"
    #: Conversion of a volume to the network's input.
    preprocess: Preprocess = Preprocess()
    #: Class name to label value, or to the list of labels of a region. Label 0 is the background. Of images: class name
    #: to its number among the network's outputs, from 0.
    classes: dict[Text, LabelValues] = Field(min_length=1)
    #: For networks with one sigmoid for each of ``classes``: the label that each writes, later ones over earlier ones,
    #: as in nnU-Net. By default the smallest label that no later region holds. Empty for exclusive output channels.
    regions_class_order: tuple[StrictInt, ...] | None = None
    #: Settings of the synthetic data set.
    phantom: Phantom = Phantom()
    #: How images are read.
    images: Images = Images()
    #: Which images to capture; by default all.
    split: Split | None = None

    @field_validator("channels")
    @classmethod
    def _named_once(cls, channels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _without_repeats(channels)

    @field_validator("classes")
    @classmethod
    def _distinct(
        cls, classes: dict[str, int | tuple[int, ...]], info: ValidationInfo
    ) -> dict[str, int | tuple[int, ...]]:
        try:
            _labels(info.data.get("format"), classes)
        except SpecError as error:
            raise ValueError(str(error)) from error
        return classes

    @property
    def labels(self) -> Labels:
        """The exclusive classes, and what each of ``classes`` is made of."""
        return _labels(self.format, self.classes)

    @property
    def classified(self) -> bool:
        """Whether a sample has one class as a whole, which the network predicts, not one a pixel."""
        return self.format == "images"

    @model_validator(mode="after")
    def _of_images(self) -> Data:
        if self.classified:
            if self.regions_class_order is not None:
                raise ValueError("has regions_class_order, which is of segmentations: take it out")
        elif self.split is not None:
            raise ValueError(f'has a split, which is of format = "images", not {self.format!r}: name data.patients')
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Data:
        if self.regions_class_order:
            try:
                self.labels.order(self.regions_class_order)
            except SpecError as error:
                raise ValueError(str(error)) from error
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dump = without_none(handler(self), "regions_class_order", "split")
        return {name: value for name, value in dump.items() if name != "images" or self.classified}


def _labels(form: object, classes: Mapping[str, int | tuple[int, ...]]) -> Labels:
    return Labels.of_images(classes) if form == "images" else Labels.of(classes)


def _without_repeats(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for name, count in Counter(names or ()).items():
        if count > 1:
            raise ValueError(f"names {name!r} {count} times: give each channel a name of its own")
    return names


def _entry(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value is not None and not number and not (isinstance(value, str) and value):
        raise ValueError("must be the index of an entry of a tuple, from 0, or the key of an entry of a dict")
    return value


class Model(TomlTable):
    """The network, its weights and the layers to record."""

    #: A callable ``module:callable`` that returns a `torch.nn.Module`. Either this, ``nnunet`` or ``bundle`` is given.
    factory: Text | None = None
    #: An nnU-Net v2 result folder ``TRAINER__PLANS__CONFIGURATION``: network, weights, preprocessing and classes.
    nnunet: LocalPath | None = None
    #: The fold of ``nnunet``: a number, or "all". By default 0.
    fold: Annotated[StrictInt, Field(ge=0)] | Literal["all"] | None = None
    #: The checkpoint's file in the fold's folder. By default ``checkpoint_final.pth``.
    checkpoint: Text | None = None
    #: A MONAI bundle: network, weights, preprocessing and classes. Its configuration runs code, as a factory does.
    bundle: LocalPath | None = None
    #: Keyword arguments of the factory.
    arguments: dict[str, Any] = Field(default={})
    #: safetensors or a torch checkpoint; ``None`` if the factory returns a trained network.
    weights: LocalPath | None = None
    #: Glob patterns over module paths (``*.adn.N``) or module types (``type:InstanceNorm2d``).
    layers: Annotated[tuple[Text, ...], Field(min_length=1)]
    #: Which entry of what the network returns holds its logits: an index of a tuple or list, or a key of a dict.
    output: Annotated[int | str | None, BeforeValidator(_entry)] = None
    #: Patterns like those of ``layers``, for recorded modules that return (batch, [z,] y, x, channel) as Swin blocks
    #: do. The store has their channels first.
    channels_last: tuple[Text, ...] = ()
    #: What to do with a network whose output for an input changes with repetition or with the batch: "refuse", or
    #: "allow" and record it in the store.
    unrepeatable: Literal["refuse", "allow"] = "refuse"

    @field_validator("factory")
    @classmethod
    def _callable(cls, factory: str | None) -> str | None:
        return None if factory is None else _module_callable(factory)

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        given = [name for name in ("factory", "nnunet", "bundle") if getattr(self, name) is not None]
        if not given:
            raise ValueError("names no network: give one of factory, nnunet and bundle")
        if len(given) > 1:
            raise ValueError(f"names several networks ({', '.join(given)}): keep one of them")
        for name in ("fold", "checkpoint"):
            if self.nnunet is None and getattr(self, name) is not None:
                raise ValueError(f"has {name}, which is of nnU-Net's result folders: take it out, or give nnunet")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dump = {name: value for name, value in handler(self).items() if name != "channels_last" or value}
        return without_none(dump, "output", "factory", "nnunet", "bundle", "fold", "checkpoint")

    @property
    def source(self) -> str:
        """What the network comes from, for messages."""
        return self.factory or str(self.nnunet or self.bundle)


def _module_callable(name: str) -> str:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise ValueError("must read 'module:callable', for example 'actstore.models:unet_heart_8_4_4'")
    return name


class Perturbation(TomlTable):
    """One transform, applied to each target class at each strength."""

    #: A built-in transform, or your own ``module:callable``.
    transform: Text
    #: Classes of data.classes to perturb, one at a time.
    targets: Annotated[tuple[Text, ...], Field(min_length=1)]
    #: Strengths; each gives a separate condition.
    strengths: Annotated[tuple[Strength, ...], Field(min_length=1)]
    #: The class whose mean ``fill`` writes.
    source: Text | None = None
    #: Names of the input channels to perturb, all at once; by default all of the network's.
    channels: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None

    @field_validator("channels")
    @classmethod
    def _named_once(cls, channels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _without_repeats(channels)

    @field_validator("transform")
    @classmethod
    def _known(cls, transform: str) -> str:
        if ":" in transform:
            return _module_callable(transform)
        if transform not in IDENTITY_STRENGTH:
            raise ValueError(
                f"unknown transform: use {', '.join(IDENTITY_STRENGTH)}, or 'module:callable' for one of your own"
            )
        return transform

    @model_validator(mode="after")
    def _changes_something(self) -> Perturbation:
        for strength in self.strengths:
            if why := without_effect(self.transform, strength):
                raise ValueError(why)
        if self.transform == "fill" and self.source is None:
            raise ValueError("transform 'fill' needs source = \"CLASS\", the class whose mean is written")
        if self.transform != "fill" and self.transform in IDENTITY_STRENGTH and self.source is not None:
            raise ValueError(f"transform {self.transform!r} takes no source: only 'fill' does")
        return self

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(
            Condition(self.transform, target, strength, self.source, channels=self.channels or ())
            for target in self.targets
            for strength in self.strengths
        )


class Controls(TomlTable):
    """What perturbations are compared with."""

    #: Repeat each perturbation on a region of equal size and shape elsewhere in the body.
    region: StrictBool = False
    #: Repeat the original in the run's batches, and one sample at a time.
    noise: StrictBool = False


def _keep(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    if value not in ("all", "statistics"):
        raise ValueError("must be 'all', 'statistics', or a list of patterns like those of model.layers")
    return value


#: Bits of the mantissa of each dtype.
MANTISSA_BITS: Mapping[str, int] = {"float32": 23, "float16": 10}


class StoreTable(TomlTable):
    """Where and how activations are stored."""

    #: A path, or ``s3://bucket/run.zarr``.
    path: StoreLocation
    #: Dtype of stored activations.
    dtype: Literal["float32", "float16"] = "float32"
    #: Bits of the mantissa to keep; the others are rounded away, so that files compress better. By default all.
    mantissa_bits: Annotated[StrictInt, Field(gt=0)] | None = None
    #: Layers whose tensors are stored: "all", none with "statistics", or glob patterns and module types as in
    #: model.layers. Statistics are stored for every layer.
    keep: Annotated[Literal["all", "statistics"] | tuple[str, ...], BeforeValidator(_keep)] = "all"
    #: Whether pixels are counted by the scores of every class, for curves: 35 kB a sample, condition and four classes.
    histogram: StrictBool = True
    #: Flush every file to disk before its block is committed: survives power loss but costs time.
    fsync: bool = False

    @model_validator(mode="after")
    def _fewer_bits(self) -> StoreTable:
        most = MANTISSA_BITS[self.dtype]
        if self.mantissa_bits is not None and self.mantissa_bits >= most:
            raise ValueError(
                f"mantissa_bits = {self.mantissa_bits} rounds nothing, {self.dtype} has {most}: use fewer, or none"
            )
        return self


class Run(TomlTable):
    """How to compute. Only seed and precision change stored numbers beyond floating-point rounding."""

    #: Seed of transforms that draw random numbers.
    seed: Annotated[StrictInt, Field(ge=0)] = 0
    #: Arithmetic of the network: exact float32, TF32 in a GPU's products, or bfloat16 by automatic mixed precision.
    precision: Precision = "float32"
    #: Inputs in one forward pass; by default chosen by the device's memory or cache.
    batch_size: Positive | None = None
    #: Torch's threads, and threads that compute checksums and write, per worker.
    threads: Positive | None = None
    writers: Positive | None = None
    #: Worker processes; by default chosen by cores and memory.
    workers: Positive | None = None
    #: "warn" predicts one labelled volume first, and warns if that hardly agrees with its label; "off" does not.
    check: Literal["warn", "off"] = "warn"
    #: How often a failed block is tried again.
    retries: Annotated[StrictInt, Field(ge=0)] = 1
