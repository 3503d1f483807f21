"""What an nnU-Net v2 result folder says of its network, from its JSON files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from actstore.conditions import BACKGROUND
from actstore.errors import ModelError
from actstore.spec.trained_json import read_json
from actstore.store.fingerprint import digest_of
from actstore.units import by, first_few, shown

#: Label that nnU-Net leaves out of its loss: there is no truth where it stands.
IGNORE = "ignore"
DEFAULT_CHECKPOINT = "checkpoint_final.pth"

_WHAT = "an nnU-Net v2 result folder"


@dataclass(frozen=True)
class ResultFolder:
    """A folder ``TRAINER__PLANS__CONFIGURATION`` as nnU-Net v2 writes it, with one fold chosen. Picklable."""

    kind: ClassVar[str] = "nnunet"
    #: ``data.axes`` of its arrays.
    axes: ClassVar[str] = "simpleitk"
    path: Path
    #: For example "2d" or "3d_fullres".
    configuration: str
    #: The number of a fold, or "all".
    fold: int | str
    #: Name of the checkpoint's file.
    checkpoint: str
    #: Contents of ``plans.json`` and ``dataset.json``.
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, *, fold: object = 0, checkpoint: str = DEFAULT_CHECKPOINT) -> ResultFolder:
        """Read and check the folder's JSON files.

        Raises
        ------
        ModelError
            if files or the fold are missing, the plans lack the configuration that the folder's name states, it is the
            second stage of a cascade, or ``fold`` names several.
        """
        if not (path / "plans.json").exists():
            raise ModelError(_no_results(path))
        trainer, _, rest = path.name.partition("__")
        plans_name, _, configuration = rest.partition("__")
        if not (trainer and plans_name and configuration):
            raise ModelError(
                f"{shown(path)}: its name does not read TRAINER__PLANS__CONFIGURATION, from which the configuration is "
                "taken; give the folder the name that nnU-Net gave it"
            )
        plans = read_json(path / "plans.json", _WHAT)
        dataset = read_json(path / "dataset.json", _WHAT)
        if isinstance(fold, list | tuple):
            raise ModelError(
                f"model.fold = {list(fold)}: several folds are an ensemble of networks, and activations belong to one; "
                "choose one fold"
            )
        folder = cls(path, configuration, _fold(fold), checkpoint, plans, dataset)
        folder._check()
        return folder

    def _check(self) -> None:
        where = shown(self.path)
        configurations = self.plans.get("configurations") or {}
        if self.configuration not in configurations:
            raise ModelError(
                f"{where}: its plans have no configuration {self.configuration!r}, which the folder's name states; "
                f"they have {', '.join(configurations) or 'none'}: restore the plans.json that it was trained with"
            )
        if previous := self.settings.get("previous_stage"):
            raise ModelError(
                f"{where}: {self.configuration} is the second stage of a cascade, whose input holds the segmentation "
                f"of {previous}; capture {previous} or 3d_fullres instead"
            )
        for key in ("patch_size", "spacing", "preprocessor_name", "normalization_schemes"):
            if key not in self.settings:
                raise ModelError(f"{where}: its plans lack {key!r} in {self.configuration}; restore plans.json")
        schemes = self.settings["normalization_schemes"]
        if len(schemes) != len(self.channels):
            raise ModelError(
                f"{where}: dataset.json names {len(self.channels)} channels ({', '.join(self.channels)}), plans.json "
                f"normalises {len(schemes)}; restore both from one training"
            )
        self._check_labels(where)
        if not self.weights.exists():
            raise ModelError(self._no_weights())

    def _check_labels(self, where: str) -> None:
        labels = self.dataset.get("labels")
        if not isinstance(labels, Mapping) or labels.get(BACKGROUND) != 0:
            raise ModelError(f"{where}: dataset.json has no label 'background' = 0; restore it")
        regions = [name for name, value in self.classes.items() if isinstance(value, list)]
        order = self.regions_class_order
        if regions and (order is None or len(order) != len(self.classes)):
            raise ModelError(
                f"{where}: dataset.json has regions ({', '.join(regions)}) and regions_class_order = {order}; it needs "
                f"one label for each of {', '.join(self.classes)}"
            )
        values = sorted(value for value in self.classes.values() if isinstance(value, int))
        if not regions and values != list(range(1, len(values) + 1)):
            raise ModelError(
                f"{where}: labels are {values}, nnU-Net needs consecutive ones from 1; restore dataset.json"
            )

    def _no_weights(self) -> str:
        folds = sorted(entry.name.removeprefix("fold_") for entry in self.path.glob("fold_*") if entry.is_dir())
        folder = self.weights.parent
        if not folder.is_dir():
            there = f"there are {', '.join(folds)}" if folds else "there is none"
            return f"{shown(self.path)}: no fold {self.fold}, {there}; choose another with model.fold"
        files = sorted(entry.name for entry in folder.glob("*.pth"))
        there = f"there are {', '.join(files)}" if files else "there is no other"
        return f"{shown(folder)}: no {self.checkpoint}, {there}; choose another with model.checkpoint"

    @property
    def weights(self) -> Path:
        """The checkpoint's file."""
        return self.path / f"fold_{self.fold}" / self.checkpoint

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The configuration's entries of the plans, with those that it inherits."""
        return _resolved(self.plans["configurations"], self.configuration, ())

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels in order, no two alike."""
        return unlike([name.strip() for name in channel_names(self.dataset)])

    @property
    def classes(self) -> dict[str, int | list[int]]:
        """Label value of each class, or those of each region, in the order of ``dataset.json``; no background."""
        found: dict[str, int | list[int]] = {}
        for name, value in self.dataset["labels"].items():
            if name == IGNORE or value == 0:
                continue
            values = [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]
            found[str(name)] = values[0] if len(values) == 1 else values
        return found

    @property
    def regions_class_order(self) -> list[int] | None:
        """The label that each region's channel writes, or ``None`` without regions."""
        if not any(isinstance(value, list) for value in self.classes.values()):
            return None
        order = self.dataset.get("regions_class_order")
        return None if order is None else [int(label) for label in order]

    @property
    def ignored(self) -> int | None:
        """The value of the label "ignore", or ``None``."""
        value = self.dataset["labels"].get(IGNORE)
        return None if value is None else int(value)

    @property
    def outputs(self) -> int:
        """The network's output channels: regions, or classes and the background."""
        return len(self.classes) + (self.regions_class_order is None)

    @property
    def file_ending(self) -> str:
        return str(self.dataset.get("file_ending", ".nii.gz"))

    @property
    def reader(self) -> str:
        """nnU-Net's name of the class that reads images."""
        return str(self.plans["image_reader_writer"])

    @property
    def window(self) -> tuple[int, ...]:
        """The network's input in voxels: (y, x) or (z, y, x)."""
        return tuple(int(n) for n in self.settings["patch_size"])

    @property
    def identity(self) -> dict[str, str]:
        """What decides the network's input and its labels, as JSON: digests of ``plans.json`` and ``dataset.json``."""
        return {
            "configuration": self.configuration,
            "plans": digest_of(self.plans),
            "dataset": digest_of(self.dataset),
        }

    @property
    def description(self) -> str:
        """One line for `plan`."""
        return (
            f"nnU-Net {self.configuration}, fold {self.fold}, {self.checkpoint}: its own preprocessing, patches of "
            f"{by(self.window)} without mirroring, which nnU-Net's predictor adds by default"
        )

    def mutable_plans(self) -> dict[str, Any]:
        """A copy of the plans that nnunetv2 may change, as it does with old ones."""
        return deepcopy(dict(self.plans))


def channel_names(dataset: Mapping[str, Any]) -> list[str]:
    """The names of input channels in a ``dataset.json``, in order."""
    # "modality" in data sets that were converted from nnU-Net v1.
    names = dataset.get("channel_names") or dataset.get("modality") or {}
    return [str(names[key]) for key in sorted(names, key=int)]


def unlike(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` of channels, numbered where several are alike: nnU-Net chooses a normalisation by the name."""
    return tuple(f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names))


def _fold(fold: object) -> int | str:
    if fold == "all" or (isinstance(fold, int) and not isinstance(fold, bool) and fold >= 0):
        return fold
    raise ModelError(f"model.fold = {fold!r}: give the number of a fold, or 'all'")


def _resolved(configurations: Mapping[str, Any], name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name not in configurations or name in seen:
        raise ModelError(f"plans.json: {seen[-1] if seen else name!r} inherits from {name!r}, which cannot be resolved")
    own = dict(configurations[name])
    if parent := own.get("inherits_from"):
        return {**_resolved(configurations, parent, (*seen, name)), **own}
    return own


def _no_results(path: Path) -> str:
    if not path.is_dir():
        return f"{shown(path)}: no such folder; correct model.nnunet"
    if (path / "plans.pkl").exists():
        return f"{shown(path)}: a result folder of nnU-Net v1, of which only v2 can be read; train with v2"
    inside = sorted(
        {found.parent.relative_to(path) for found in [*path.glob("*/plans.json"), *path.glob("*/*/plans.json")]}
    )
    if (path.parent / "plans.json").exists():
        return f"{shown(path)}: a fold; name the folder above it in model.nnunet, and the fold in model.fold"
    if inside:
        there = first_few(inside)
        return (
            f"{shown(path)}: is not {_WHAT}, which holds plans.json; there is {there} in it: name that in model.nnunet"
        )
    return f"{shown(path)}: is not {_WHAT}, which holds plans.json, dataset.json and fold_…; correct model.nnunet"
