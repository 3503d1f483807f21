"""Maps names of weights in a checkpoint to a network's own names if only wrappers or renamings differ."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Prefixes that wrappers (DataParallel, Lightning modules, users' own) put before every name.
WRAPPERS = ("module", "model", "net", "network")
#: Parts that torch inserts into names of compiled, sharded or checkpointed modules; no network uses them itself.
_INVISIBLE = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: Older MONAI UNets name the bottleneck ``submodule.0``, newer ones ``submodule``.
_BOTTLENECK = re.compile(r"(?<![^.])submodule\.(?:0\.)+")
#: Names of weight normalisation as a parametrisation; older torch used others.
_NORMED = re.compile(r"(?<![^.])parametrizations\.(\w+)\.original([01])$")
_LEADING = re.compile(rf"(?:(?:{'|'.join(WRAPPERS)})\.)+")

#: Name to its simplified form; names with equal forms denote the same weight.
Reading = dict[str, str]


def match_names(state: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``state`` under the names of ``own``, a network's state dict.

    Names match if they differ only by wrapper prefixes (`WRAPPERS`, in any order, on either side), the name of the only
    child of a wrapping network, parts that torch inserts for compiled modules, and the old names of MONAI's bottleneck
    and of weight normalisation. Tries every way to match all names; if two ways differ, uses neither.

    Returns
    -------
    the renamed state; names without a unique match stay unchanged
    names of ``own`` that several names of ``state`` could match, with these
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
    """The name without DataParallel around any module."""
    return re.sub(r"(?<![^.])module\.", "", _as_today(name))


def _bare(name: str) -> str:
    return _LEADING.sub("", name, count=1) if _LEADING.match(name) else name


def _by_prefix(theirs: Reading, mine: Reading) -> dict[str, str] | None:
    """Pair names that differ by one common prefix, made of wrappers or of an only child's name.

    At most one such way exists, since all names of a side begin alike.
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
    """Pair names that agree without their wrapper prefixes."""
    return _paired(theirs, mine, _bare, _bare)


def _paired(
    theirs: Reading, mine: Reading, bare_theirs: Callable[[str], str], bare_mine: Callable[[str], str]
) -> dict[str, str] | None:
    """Map each name of ``theirs`` to one of ``mine``; ``None`` unless this pairs all names one to one."""
    ends = {bare_mine(read): name for name, read in mine.items()}
    starts = {bare_theirs(read): name for name, read in theirs.items()}
    if len(ends) < len(mine) or len(starts) < len(theirs) or starts.keys() != ends.keys():
        return None
    return {name: ends[bare] for bare, name in starts.items()}


def _common(names: Iterable[str]) -> tuple[str, ...]:
    """Leading components that all names share, without the last component."""
    split = [name.split(".")[:-1] for name in names]
    shortest, longest = min(split), max(split)
    same = 0
    while same < min(len(shortest), len(longest)) and shortest[same] == longest[same]:
        same += 1
    return tuple(shortest[:same])


def _without(name: str, prefix: tuple[str, ...]) -> str:
    return ".".join(name.split(".")[len(prefix) :])


def _partly(state: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Match only names with a unique match, for messages about the others."""
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
