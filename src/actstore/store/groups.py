"""Groups that jobs add to a store: the attributes that describe them, and the value of their records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from actstore.errors import StoreError
from actstore.store import commits
from actstore.store.coordinates import plain
from actstore.store.files.base import Storage
from actstore.store.fingerprint import token_from
from actstore.store.layout import ArrayLayout
from actstore.store.schema import FILTERS, Schema

if TYPE_CHECKING:
    import xarray as xr

    from actstore.store.lazy import BlockSamples

#: Attribute of a group that describes the job that made it.
JOB = "job"
#: Groups that a capture makes.
CAPTURED = ("inputs", "outputs", "layers", "statistics", FILTERS)
NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class Group:
    """A job's group in a store."""

    schema: Schema
    #: The class that computes it, as ``module:Class``, and the settings that decide its numbers.
    made_by: str
    identity: Mapping[str, Any]
    #: Value of the record of a committed block.
    token: int
    #: Of each unit, a readable name (a volume, a layer) and the number of entries of the leading dim that it fills.
    units: tuple[tuple[str, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.units)

    @property
    def name(self) -> str:
        return self.schema.group

    def as_attributes(self) -> dict[str, Any]:
        """The group's attributes in its ``zarr.json``."""
        return {
            JOB: {
                "made_by": self.made_by,
                "identity": dict(self.identity),
                "token": f"{self.token:016x}",
                "units": [list(unit) for unit in self.units],
                "schema": self.schema.as_json(),
            }
        }


def group_token(run: str, identity: Mapping[str, Any]) -> int:
    """Hash of a run's fingerprint and of a job's identity."""
    text = json.dumps([run, identity], sort_keys=True, ensure_ascii=False)
    return token_from(hashlib.sha256(text.encode()).hexdigest())


def check_name(name: str, root: Mapping[str, Any]) -> None:
    """Refuse a name of a new group that is no path, or that belongs to the capture or to another group.

    Parameters
    ----------
    root
        the root's ``zarr.json``.

    Raises
    ------
    StoreError
        naming what is in the way.
    """
    if not NAME.fullmatch(name):
        raise StoreError(f"group {name!r}: use letters, digits, _ and -, and / between the parts of a path")
    entries = root.get("consolidated_metadata", {}).get("metadata", {})
    above = ["/".join(name.split("/")[:depth]) for depth in range(1, name.count("/") + 2)]
    below = [path for path in entries if path.startswith(f"{name}/")]
    taken = [path for path in above if path in entries and (path == name or not _holds_groups(path, entries))]
    if taken or below or above[0] in CAPTURED:
        raise StoreError(f"group {name}: {(taken or below or above)[0]} exists already: choose another name")


def _holds_groups(path: str, entries: Mapping[str, Any]) -> bool:
    """Whether ``path`` is a group of groups: not an array, and not the group of a job."""
    return entries[path].get("node_type") == "group" and JOB not in entries[path].get("attributes", {})


def groups_of(root: Mapping[str, Any]) -> Iterator[Group]:
    """The groups of jobs that a root's ``zarr.json`` lists, in the order of their names.

    Raises
    ------
    StoreError
        if a group has no valid description.
    """
    entries = root.get("consolidated_metadata", {}).get("metadata", {})
    for name in sorted(entries):
        job = entries[name].get("attributes", {}).get(JOB)
        if entries[name].get("node_type") != "group" or job is None:
            continue
        try:
            schema = Schema.from_json(name, job["schema"])
            units = tuple((unit, samples) for unit, samples in job["units"])
            yield Group(schema, job["made_by"], job["identity"], int(job["token"], 16), units)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"group {name} does not describe itself: `actstore verify STORE --repair`") from error


def read_groups(storage: Storage) -> tuple[Group, ...]:
    """The groups of jobs of a store."""
    return tuple(groups_of(json.loads(storage.read("zarr.json") or b"{}")))


def find_group(storage: Storage, name: str) -> Group:
    """A job's group by its path.

    Raises
    ------
    KeyError
        naming the groups that there are.
    """
    groups = {group.name: group for group in read_groups(storage)}
    if name not in groups:
        raise KeyError(f"no group {name!r}: there are {', '.join(groups) or 'none'}")
    return groups[name]


def open_group(storage: Storage, group: Group, captured: BlockSamples, sample: xr.Coordinates) -> xr.Dataset:
    """The group's arrays, lazy, with committed units only.

    Parameters
    ----------
    captured
        the committed blocks of the capture, with the samples of each, which arrays along ``sample`` follow.
    sample
        coordinates of all samples of ``captured``.
    """
    import xarray as xr
    import zarr

    from actstore.store import lazy

    schema = group.schema
    done = commits.committed(storage, schema, group.token, mending=True)
    node: Any = zarr.open_group(storage.zarr(), mode="r")[group.name]
    stored: dict[str, Any] = {n: (node[n].metadata.dimension_names, plain(node[n][...])) for n in schema.coordinates}
    own = tuple((int(unit), group.units[unit][1]) for unit in np.flatnonzero(done))
    along_samples = {array.path for array in schema.arrays if array.dims[0] == "sample"}
    of_capture = tuple((block, samples) for block, samples in captured if along_samples and done[block])
    arrays: dict[str, Any] = {}
    coords = dict(stored)
    for array in schema.arrays:
        blocks = lazy.BlockSamples(of_capture if array.path in along_samples else own)
        if isinstance(array, ArrayLayout):
            data, size = lazy.sharded(storage, array, blocks), array.slots
        else:
            data, size = lazy.small(storage, array, blocks), array.chunk[0]
        arrays[array.path.removeprefix(f"{group.name}/")] = (array.dims, data)
        if array.path not in along_samples:
            filled = np.zeros((schema.blocks, size), bool)
            for unit, count in own:
                filled[unit, :count] = True
            coords |= {n: (d, v[filled.reshape(-1)]) for n, (d, v) in stored.items() if d[0] == array.dims[0]}
    if along_samples:
        shown = np.concatenate([np.zeros(0, bool), *(np.full(n, done[block]) for block, n in captured)])
        coords |= {str(name): ("sample", values.values[shown]) for name, values in sample.items()}
    return xr.Dataset(arrays, coords=coords)
