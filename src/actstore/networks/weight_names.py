"""Names of weights in a checkpoint, led to a network's own where wrappers or renamings alone part them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: What wrappers (DataParallel, Lightning modules and those of people's own) put before every name.
WRAPPERS = ("module", "model", "net", "network")
#: What torch puts into names wherever a module is compiled, sharded or checkpointed; no network has them for its own.
_INVISIBLE = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: Older MONAI UNets call the bottleneck ``submodule.0``, newer ones ``submodule``.
_BOTTLENECK = re.compile(r"(?<![^.])submodule\.(?:0\.)+")
#: Weight normalisation as a parametrisation, and as it was called before.
_NORMED = re.compile(r"(?<![^.])parametrizations\.(\w+)\.original([01])$")
_LEADING = re.compile(rf"(?:(?:{'|'.join(WRAPPERS)})\.)+")

#: Name to what it reads as; equal readings are one weight.
Reading = dict[str, str]


def match_names(state: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``state`` under the names of ``own``, a network's state dict.

    Names match where they differ by nothing but wrapper prefixes (`WRAPPERS`, in any order, on either side), the name
    of the one child of a network that wraps another, what torch inserts for compiled modules, and the old names of
    MONAI's bottleneck and of weight normalisation. Every way to match all names is tried; where two of them differ,
    none is taken.

    Returns
    -------
    the renamed state; names that match nothing, or not surely, stay as they are
    names of ``own`` that several names of ``state`` could stand for, with these
    """
    if state.keys() == own.keys():
        return dict(state), []
    whole: list[dict[str, str]] = []
    for spelling in (_visible, _as_today, _undressed):
        theirs, mine = ({name: spelling(name) for name in names} for names in (state, own))
        for way in (_by_prefix, _by_ending):
            found = way(theirs, mine)
            if found is not None and found not in whole:
                whole.append(found)
    if len(whole) == 1:
        return {whole[0][name]: value for name, value in state.items()}, []
    if whole:
        doubts = [
            f"{name} could be {' or '.join(sorted(options))}"
            for name in sorted(own)
            if len(options := {mine for way in whole for mine in [_origin(way, name)]}) > 1
        ]
        return dict(state), doubts
    return _partly(state, own)


def _origin(way: Mapping[str, str], name: str) -> str:
    return next(theirs for theirs, mine in way.items() if mine == name)


def _visible(name: str) -> str:
    return _INVISIBLE.sub("", name)


def _as_today(name: str) -> str:
    name = _NORMED.sub(lambda found: f"{found[1]}_{'gv'[int(found[2])]}", _visible(name))
    return _BOTTLENECK.sub("submodule.", name)


def _undressed(name: str) -> str:
    """Without DataParallel around any module."""
    return re.sub(r"(?<![^.])module\.", "", _as_today(name))


def _bare(name: str) -> str:
    return _LEADING.sub("", name, count=1) if _LEADING.match(name) else name


def _by_prefix(theirs: Reading, mine: Reading) -> dict[str, str] | None:
    """Names whose readings differ by one prefix, the same for all: made of wrappers, or of an only child's name.

    There is at most one such way, since all names of a side begin alike.
    """
    if not theirs or not mine:
        return None
    before, after = _common(theirs.values()), _common(mine.values())
    p, q = list(before), list(after)
    while p and q and p[-1] == q[-1]:
        del p[-1], q[-1]
    p, q = ([part for part in parts if part not in WRAPPERS] for parts in (p, q))
    if (p and q) or not all(part.isidentifier() for part in (*p, *q)):
        return None
    return _paired(theirs, mine, lambda name: _without(name, before), lambda name: _without(name, after))


def _by_ending(theirs: Reading, mine: Reading) -> dict[str, str] | None:
    """Names whose readings agree without the wrappers before each."""
    return _paired(theirs, mine, _bare, _bare)


def _paired(
    theirs: Reading, mine: Reading, bare_theirs: Callable[[str], str], bare_mine: Callable[[str], str]
) -> dict[str, str] | None:
    """Each name of ``theirs`` to one of ``mine``; ``None`` unless that pairs all names, one to one."""
    ends = {bare_mine(read): name for name, read in mine.items()}
    starts = {bare_theirs(read): name for name, read in theirs.items()}
    if len(ends) < len(mine) or len(starts) < len(theirs) or starts.keys() != ends.keys():
        return None
    return {name: ends[bare] for bare, name in starts.items()}


def _common(names: Iterable[str]) -> tuple[str, ...]:
    """Components that all names begin with, but for their last."""
    split = [name.split(".")[:-1] for name in names]
    shortest, longest = min(split), max(split)
    same = 0
    while same < min(len(shortest), len(longest)) and shortest[same] == longest[same]:
        same += 1
    return tuple(shortest[:same])


def _without(name: str, prefix: tuple[str, ...]) -> str:
    return ".".join(name.split(".")[len(prefix) :])


def _partly(state: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As many names as have one match, for messages about the others."""
    starts: dict[str, list[str]] = defaultdict(list)
    ends: dict[str, list[str]] = defaultdict(list)
    for name in state:
        starts[_bare(_as_today(name))].append(name)
    for name in own:
        ends[_bare(_as_today(name))].append(name)
    renamed = {}
    for bare, names in starts.items():
        for name in names:
            single = len(names) == 1 and len(ends.get(bare, ())) == 1
            renamed[name if name in own or not single else ends[bare][0]] = state[name]
    doubts = [
        f"{' and '.join(ends[bare])} could be {' or '.join(sorted(names))}"
        for bare, names in starts.items()
        if bare in ends and max(len(names), len(ends[bare])) > 1 and not {*names} <= own.keys()
    ]
    return renamed, doubts
