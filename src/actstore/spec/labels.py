"""What the label values of a run mean: exclusive classes, and the classes and regions made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actstore.conditions import BACKGROUND
from actstore.errors import SpecError

#: Label values are stored as uint8.
LARGEST_LABEL = 255


@dataclass(frozen=True)
class Labels:
    """Exclusive classes by rising label value, and the classes and regions of ``data.classes`` as sets of them.

    Every label value is one exclusive class, so that masks, predictions and confusion counts hold each pixel once. A
    label that no region holds alone is named after the smallest region around it: with heart = [1, 2, 3], left =
    [2, 3] and LV = 3, the exclusive classes are background, "heart only", "left only" and "LV".
    """

    #: Names of the exclusive classes, background first; of images, which have none, the network's outputs.
    names: tuple[str, ...]
    #: Label value of each exclusive class in the masks, 0 first.
    values: tuple[int, ...]
    #: Classes and regions as ``data.classes`` lists them, each with the exclusive classes that it is made of, as
    #: indices into ``names``.
    members: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, classes: Mapping[str, int | Sequence[int]]) -> Labels:
        """The labels of ``classes``, which gives each class its label value and each region a list of them.

        Raises
        ------
        SpecError
            if a region is empty or holds label 0, a label is not 1 to 255, two names have the same labels, or a name is
            that of an exclusive class made up here.
        """
        if BACKGROUND in classes:
            raise SpecError(f"{BACKGROUND!r} is label 0 already and cannot be named")
        sets = {name: _labels(name, value) for name, value in classes.items()}
        for labels, count in Counter(sets.values()).items():
            if count > 1 and len(labels) == 1:
                raise SpecError(f"label {labels[0]} is given to {count} classes: give each class a label of its own")
            if count > 1:
                same = " and ".join(repr(name) for name, own in sets.items() if own == labels)
                raise SpecError(f"{same} hold the same labels {list(labels)}: keep one of them")
        values = sorted({label for labels in sets.values() for label in labels})
        for label in values:
            if label > LARGEST_LABEL:
                raise SpecError(f"label {label} is too large: labels are 1 to {LARGEST_LABEL}")
        names = _exclusive_names(sets, values)
        members = {name: tuple(1 + values.index(label) for label in labels) for name, labels in sets.items()}
        return cls((BACKGROUND, *names), (0, *values), members)

    @classmethod
    def of_images(cls, classes: Mapping[str, int | Sequence[int]]) -> Labels:
        """The classes of whole images, which give each its number among a classifier's outputs.

        Raises
        ------
        SpecError
            if one is a list, or the numbers are not those from 0 on, each once.
        """
        for name, value in classes.items():
            if not isinstance(value, int):
                raise SpecError(f"{name!r} = {list(value)}: a class of images is one number, its place in the outputs")
        numbers = sorted(value for value in classes.values() if isinstance(value, int))
        if numbers != list(range(len(numbers))):
            raise SpecError(
                f"classes of images have the numbers {numbers}: give those of the network's outputs, 0 to "
                f"{len(numbers) - 1}, each once"
            )
        if len(numbers) < 2:
            raise SpecError(f"{next(iter(classes))!r} is the only class: a classifier needs at least two")
        if numbers[-1] > LARGEST_LABEL:
            raise SpecError(f"{len(numbers)} classes are too many: 2 to {LARGEST_LABEL + 1} are possible")
        by_number = {value: name for name, value in classes.items() if isinstance(value, int)}
        names = tuple(by_number[number] for number in numbers)
        return cls(names, tuple(numbers), {name: (number,) for number, name in enumerate(names)})

    @property
    def exclusive(self) -> dict[str, int]:
        """Label value of each exclusive class but the background, as readers of masks take it."""
        return dict(zip(self.names[1:], self.values[1:], strict=True))

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """The ``members`` that are more than one exclusive class."""
        return {name: indices for name, indices in self.members.items() if len(indices) > 1}

    def order(self, given: Sequence[int] | None = None) -> tuple[int, ...]:
        """For each of ``members``, the exclusive class that a pixel gets where its sigmoid is on.

        A later region overwrites an earlier one, as nnU-Net's ``regions_class_order`` says.

        Parameters
        ----------
        given
            a label value for each of ``members``. By default the smallest label of a region that no later region holds,
            or its smallest label.

        Raises
        ------
        SpecError
            if the length of ``given`` differs, a value of it is no label, or a region holds none of its values; without
            ``given``, if a region holds all of an earlier one, which it would overwrite.
        """
        sets = {name: tuple(self.values[i] for i in indices) for name, indices in self.members.items()}
        names = list(sets)
        if given is None:
            return tuple(self.values.index(self._written(sets, names, i)) for i in range(len(names)))
        order = list(given)
        if len(order) != len(names):
            raise SpecError(
                f"regions_class_order = {order} has {len(order)} labels for {len(names)} classes ({', '.join(names)}): "
                "give each the label that it writes, in the order of the network's output channels"
            )
        for label in order:
            if label not in self.values[1:]:
                raise SpecError(
                    f"regions_class_order = {order} names label {label}, which no class holds: "
                    f"there are {', '.join(map(str, self.values[1:]))}"
                )
        for name, labels in sets.items():
            if not set(labels) & set(order):
                raise SpecError(
                    f"{name!r} = {list(labels)} holds none of regions_class_order = {order}, so that no prediction "
                    "could hold it: correct one of the two"
                )
        return tuple(self.values.index(label) for label in order)

    @staticmethod
    def _written(sets: Mapping[str, Sequence[int]], names: Sequence[str], i: int) -> int:
        own, later = set(sets[names[i]]), names[i + 1 :]
        for name in later:
            if own <= set(sets[name]):
                raise SpecError(
                    f"{name!r} holds all labels of {names[i]!r}, which stands before it and which it would overwrite: "
                    "list larger regions first in data.classes, as the network's output channels are, or give "
                    "data.regions_class_order"
                )
            if own & set(sets[name]) and not set(sets[name]) <= own:
                raise SpecError(
                    f"{names[i]!r} and {name!r} share labels and neither holds the other, so that a label could "
                    "never be predicted: give data.regions_class_order, the label that each writes"
                )
        rest = own.difference(*(sets[name] for name in later))
        return min(rest or own)


def _labels(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """The labels of one class or region, rising."""
    if isinstance(value, int):
        return (value,)
    if not value:
        raise SpecError(f"{name!r} is an empty list: give the labels that the region holds")
    for label, count in Counter(value).items():
        if count > 1:
            raise SpecError(f"{name!r} lists label {label} {count} times: list it once")
        if label < 1:
            what = "the background" if label == 0 else "no label"
            raise SpecError(f"{name!r} holds {label}, which is {what}: regions hold labels from 1 to {LARGEST_LABEL}")
    return tuple(sorted(value))


def _exclusive_names(sets: Mapping[str, tuple[int, ...]], values: Sequence[int]) -> list[str]:
    """A name for each label value: that of the class that is this label alone, or of the smallest regions around it."""
    alone = {labels[0]: name for name, labels in sets.items() if len(labels) == 1}
    made: dict[int, str] = {}
    for label in values:
        around = [(len(labels), name) for name, labels in sets.items() if label in labels]
        smallest = [name for size, name in around if size == min(around)[0]]
        made[label] = f"{smallest[0]} only" if len(smallest) == 1 else " and ".join(smallest)
    made = {label: name for label, name in made.items() if label not in alone}
    repeated = {name for name, count in Counter(made.values()).items() if count > 1}
    made = {label: f"{name} ({label})" if name in repeated else name for label, name in made.items()}
    for label, name in made.items():
        if name in sets:
            raise SpecError(
                f"{name!r} is what label {label} is called, which lies in a region and has no name of its own: choose "
                "another name"
            )
    return [alone.get(label) or made[label] for label in values]
