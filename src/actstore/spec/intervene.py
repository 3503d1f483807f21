"""The spec's tables of interventions: which channels of which layers are edited, in which passes, and how."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from actstore.conditions import ORIGINAL, Condition
from actstore.spec.values import GroupName, Positive, Text, TomlTable, check_known, check_names

Edit = Literal["patch", "zero", "mean", "shuffle"]
Region = Literal["all", "inside", "outside"]
#: By what channels of a layer are put in order, the first of which are edited together: by how often they are among the
#: top ones, by mean MAD, by the effect of each alone, or at random.
Order = Literal["frequency", "mad", "effect", "random"]
#: The kinds of ``channels`` besides lists.
EACH, LAYER, CUMULATIVE = "each", "layer", "cumulative"
_TOP = re.compile(r"top:([1-9][0-9]*)")


def _channels(value: Any) -> Any:
    if value in (EACH, LAYER, CUMULATIVE) or (isinstance(value, str) and _TOP.fullmatch(value)):
        return value
    sets = value if isinstance(value, list | tuple) else ()
    if sets and not any(isinstance(one, list | tuple) for one in sets):
        sets = (value,)
    if not sets or not all(map(_is_set, sets)):
        raise ValueError(
            'must be "each", "layer", "top:3" or "cumulative", a list of channels that are edited together, or a list '
            "of such lists: numbers from 0, each once"
        )
    if twice := next((one for i, one in enumerate(sets) if {*one} in map(set, sets[:i])), None):
        raise ValueError(f"the set {list(twice)} is there twice: take one out")
    return tuple(tuple(one) for one in sets)


def _is_set(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in value)
        and len(set(value)) == len(value)
    )


def _rising(value: Any) -> Any:
    if value is not None and (not _is_set(value) or 0 in value or sorted(value) != list(value)):
        raise ValueError("must be numbers of channels from 1 on, rising")
    return value if value is None else tuple(value)


Channels = Annotated[str | tuple[tuple[int, ...], ...], BeforeValidator(_channels)]
Counts = Annotated[tuple[int, ...] | None, BeforeValidator(_rising)]


class Intervene(TomlTable):
    """One intervention: channels are edited in passes of the run's network, and predictions are counted again."""

    #: Of its group in the store, ``interventions/NAME``.
    name: GroupName
    #: What replaces a channel's map: the donor's map, 0, the channel's mean over the originals, or its own values at
    #: other places.
    edit: Edit
    #: Conditions whose passes are edited.
    into: Annotated[tuple[Text, ...], Field(min_length=1)] = (ORIGINAL,)
    #: Of "patch": the condition whose maps are put in.
    donor: Text | None = None
    #: As in ``model.layers``, which they are by default.
    layers: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    #: Of each layer: each channel alone, all together, those most often on top together, growing sets in some order, or
    #: sets that are given.
    channels: Channels = EACH
    #: Where maps are edited: everywhere, or inside or outside the perturbed class.
    region: Region = "all"
    #: The class of ``region``, by default the one that the condition perturbs.
    target: Text | None = None
    #: Samples of each patient, or volumes where these are put together from overlapping patches; by default all.
    samples: Positive | None = None
    #: Of what is drawn: samples, random sets, places of a shuffle.
    seed: Annotated[StrictInt, Field(ge=0)] = 0
    #: Of "cumulative": in which orders channels are added.
    orders: Annotated[tuple[Order, ...], Field(min_length=1)] = ("frequency", "mad", "random")
    #: Name of the intervention with channels = "each" whose effects give the order "effect".
    effect_of: Text | None = None
    #: Of "cumulative": how many channels are edited together, by default 1, 2, 3, 4, 6, 8, 12, …; and always all.
    counts: Counts = None
    #: Of "cumulative": random orders.
    repeats: Positive = 3
    #: How many channels of a layer count as top, for orders by frequency.
    top: Positive = 3

    @field_validator("into", "orders")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice!r} is there twice: take one out")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Intervene:
        for names, fits, what in self._kinds:
            if not fits and (given := [name for name in names if name in self.model_fields_set]):
                raise ValueError(f"{self.name}: {given[0]} is of {what}: take it out")
        if self.edit == "patch" and self.from_condition in self.into:
            raise ValueError(
                f"{self.name}: patches {self.from_condition} into itself, which changes nothing: name another donor, "
                "or other conditions in into"
            )
        if ("effect" in self.orders) != (self.effect_of is not None):
            raise ValueError(
                f'{self.name}: the order "effect" and effect_of go together: name the intervention with '
                f'channels = "{EACH}" in effect_of'
            )
        return self

    @property
    def _kinds(self) -> tuple[tuple[tuple[str, ...], bool, str], ...]:
        """Settings that only some interventions have, whether this one does, and which do."""
        return (
            (("donor",), self.edit == "patch", 'edit = "patch"'),
            (("target",), self.region != "all", 'region = "inside" or "outside"'),
            (
                ("orders", "effect_of", "counts", "repeats"),
                self.channels == CUMULATIVE,
                f'channels = "{CUMULATIVE}"',
            ),
            (("top",), self.ranked, f'channels = "{CUMULATIVE}" or "top:3"'),
        )

    @property
    def from_condition(self) -> str:
        """The condition whose maps are put in."""
        return self.donor or ORIGINAL

    @property
    def most(self) -> int:
        """Of "top:3" the number, else 0."""
        found = _TOP.fullmatch(self.channels) if isinstance(self.channels, str) else None
        return int(found[1]) if found else 0

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Those that are given, if any."""
        return () if isinstance(self.channels, str) else self.channels

    @property
    def ranked(self) -> bool:
        """Whether channels are chosen by what the store says of them."""
        return self.channels == CUMULATIVE or self.most > 0

    def as_json(self) -> dict[str, Any]:
        """Its settings, with defaults, without those of other interventions."""
        others = {name for names, fits, _ in self._kinds if not fits for name in names}
        dump = {name: value for name, value in self.model_dump(mode="json").items() if name not in others}
        return dump | ({"donor": self.from_condition} if self.edit == "patch" else {})


def check_interventions(
    interventions: Sequence[Intervene], conditions: Sequence[Condition], classes: Collection[str], *, classified: bool
) -> None:
    """Refuse interventions that do not fit a run's conditions and classes, or each other.

    Raises
    ------
    ValueError
        naming what does not fit.
    """
    check_names("intervene", (one.name for one in interventions))
    named, known = {one.name: one for one in interventions}, {one.name: one for one in conditions}
    for one in interventions:
        where = f"intervene {one.name!r}"
        check_known(where, (*one.into, one.from_condition), list(known), "condition", "the run has")
        check_known(where, [one.target] if one.target else (), list(classes), "class", "data.classes has")
        if one.region != "all":
            _check_region(where, one, known, classified=classified)
        if one.effect_of is not None:
            _check_effect(where, one, named)


def _check_region(where: str, one: Intervene, conditions: dict[str, Condition], *, classified: bool) -> None:
    if classified:
        raise ValueError(f"{where} has region = {one.region!r}: a class of images is the whole image, take it out")
    for name in one.into:
        perturbing = [conditions[c] for c in (name, one.from_condition) if not conditions[c].is_untouched]
        if one.target is None and not perturbing:
            raise ValueError(f"{where} has region = {one.region!r}, and {name} perturbs no class: name one in target")
        if one.target is None and any(condition.is_control for condition in perturbing):
            raise ValueError(
                f"{where} has region = {one.region!r}, and {name} or its donor perturbs a control region, which is no "
                "class: name a class in target"
            )


def _check_effect(where: str, one: Intervene, named: dict[str, Intervene]) -> None:
    other = named.get(one.effect_of or "")
    if other is None:
        raise ValueError(f"{where} has effect_of = {one.effect_of!r}: the spec has no intervention of that name")
    same = [getattr(one, name) == getattr(other, name) for name in ("edit", "from_condition", "region", "target")]
    if not all(same) or other.channels != EACH or not {*one.into} <= {*other.into}:
        raise ValueError(
            f"{where} has effect_of = {one.effect_of!r}, which has another edit, donor, region or into, or edits "
            f'no channel alone: name an intervention with channels = "{EACH}" that is otherwise the same'
        )
