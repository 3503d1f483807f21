"""``dataset.json`` of nnU-Net: the names of input channels, labels and regions, and the ending of its files."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from actstore.conditions import BACKGROUND
from actstore.errors import DataError
from actstore.spec.nnunet_results import IGNORE, unlike
from actstore.units import counted, listed, shown

NAME = "dataset.json"


@dataclass(frozen=True)
class DatasetJson:
    """What a ``dataset.json`` says, in the spelling of nnU-Net v2 or v1. Labels are checked when they are asked for."""

    path: Path
    #: Names of the input channels in the order of the files' numbers, no two alike; empty if the file has none.
    channels: tuple[str, ...] = ()
    #: With its dot, for example ``.nrrd``; empty if the file does not say.
    file_ending: str = ""
    #: How many training cases the file announces (``numTraining``).
    training: int | None = None
    labels: Any = None
    order: Any = None

    @cached_property
    def classes(self) -> Mapping[str, int | tuple[int, ...]]:
        """Label value of each class, or label values of each region, in the file's order, without the background.

        Raises
        ------
        DataError
            if the file names no class; if background is not label 0; if a value is no whole number from 1 to 255, or no
            list of such numbers.
        """
        if not isinstance(self.labels, dict) or not self.labels:
            raise self._error(f"labels = {self.labels!r} names no class", 'write {"background": 0, "LV": 1}')
        named = self._swapped() if _is_old(self.labels) else dict(self.labels)
        if (value := named.pop(BACKGROUND, None)) != 0 or isinstance(value, bool):
            said = f"{BACKGROUND} = {value!r}" if value is not None else "labels without a background"
            raise self._error(said, f'add "{BACKGROUND}": 0')
        named.pop(IGNORE, None)
        found = {str(name): self._values(name, value) for name, value in named.items()}
        if not found:
            raise self._error("labels name the background alone", "add the classes")
        alike: defaultdict[frozenset[int], list[str]] = defaultdict(list)
        for name, value in found.items():
            alike[frozenset(value if isinstance(value, tuple) else (value,))].append(name)
        for names in alike.values():
            if len(names) > 1:
                raise self._error(f"{listed(names)} have the same label", "give each class labels of its own")
        return found

    @property
    def has_regions(self) -> bool:
        """Whether a class is a list of several labels."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.classes.values())

    @property
    def regions_class_order(self) -> tuple[int, ...]:
        """The label that each region of `classes` writes into the label map, later ones over earlier ones; or empty.

        Raises
        ------
        DataError
            if there are regions and no order; if the order is no list of one label for each of `classes`, or a label
            does not belong to its region.
        """
        if self.order is None:
            if self.has_regions:
                raise self._error("labels hold regions, and there is no regions_class_order", "add it")
            return ()
        said = f"regions_class_order = {self.order!r}"
        if not isinstance(self.order, list) or not all(_is_label(value) for value in self.order):
            raise self._error(f"{said} is no list of labels", "write the label that each region gives")
        if len(self.order) != len(self.classes):
            count = counted(len(self.classes), "region")
            raise self._error(f"{said} has {len(self.order)} for {count} ({listed(self.classes)})", "give one each")
        for value, (name, members) in zip(self.order, self.classes.items(), strict=True):
            if value not in (members if isinstance(members, tuple) else (members,)):
                raise self._error(f"{said} gives {value} to {name!r}, which is {members}", "use a label of the region")
        return tuple(self.order)

    def _swapped(self) -> dict[str, Any]:
        """Labels of v1 ({"0": "background"}) in the spelling of v2."""
        for name, count in Counter(self.labels.values()).items():
            if count > 1:
                raise self._error(f"labels name {name!r} {count} times", "give each label a name of its own")
        return {name: int(value) for value, name in self.labels.items()}

    def _values(self, name: str, value: Any) -> int | tuple[int, ...]:
        values = value if isinstance(value, list) else [value]
        if not values or not all(map(_is_label, values)) or len({*values}) < len(values):
            what = "a whole number from 1 to 255, or a list of such numbers without repeats"
            raise self._error(f"label {name!r} = {value!r}", f"use {what}")
        return tuple(values) if isinstance(value, list) else int(value)

    def _error(self, what: str, mend: str) -> DataError:
        return DataError(f"{shown(self.path)}: {what}; {mend}")


def read_dataset_json(root: Path) -> DatasetJson:
    """Read the ``dataset.json`` of the data set or result folder ``root``. A missing file says nothing.

    Raises
    ------
    DataError
        if the file cannot be read or is damaged; if its channels are not numbered 0, 1, … or have no names; if its file
        ending is none.
    """
    path = root / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return DatasetJson(path)
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror}; check its permissions") from error
    except ValueError as error:
        raise DataError(f"{shown(path)}: no JSON ({error}); correct it, or move it away") from error
    if not isinstance(content, dict):
        raise DataError(f"{shown(path)}: holds no table ({{…}}); correct it, or move it away")
    ending = content.get("file_ending", "")
    if not isinstance(ending, str) or (ending and (not ending.startswith(".") or len(ending) < 2 or "/" in ending)):
        raise DataError(f"{shown(path)}: file_ending = {ending!r} is none; write one with its dot, such as .nii.gz")
    training = content.get("numTraining")
    return DatasetJson(
        path,
        _channels(content, path),
        ending,
        training if isinstance(training, int) else None,
        content.get("labels"),
        content.get("regions_class_order"),
    )


def _channels(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names in ``channel_names`` of v2, or in ``modality`` of v1."""
    key = next((name for name in ("channel_names", "modality") if name in content), None)
    if key is None:
        return ()
    names = content[key]
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) and n.strip() for n in names.values()):
        raise DataError(f'{shown(path)}: {key} = {names!r} names no channels; write {{"0": "T1", "1": "T2"}}')
    numbers = [str(i) for i in range(len(names))]
    if {*names} != {*numbers}:
        raise DataError(
            f"{shown(path)}: {key} numbers {counted(len(names), 'channel')} {listed(names)}; number them from 0 to "
            f"{len(names) - 1}"
        )
    return unlike([names[number].strip() for number in numbers])


def _is_old(labels: Mapping[str, Any]) -> bool:
    return all(name.isdecimal() and isinstance(value, str) for name, value in labels.items())


def _is_label(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 256
