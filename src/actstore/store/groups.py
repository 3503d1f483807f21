"""Groups that jobs add to a store: the attributes that describe them, and the value of their records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from actstore.errors import StoreError
from actstore.store import commits
from actstore.store.attributes import read_attributes
from actstore.store.coordinates import plain
from actstore.store.files import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.schema import Schema

if TYPE_CHECKING:
    import xarray as xr

    from actstore.store.lazy import BlockSamples

#: Attribute of a group that describes the job that made it.
JOB = "job"


@dataclass(frozen=True)
class Group:
    """A job's group in a store."""

    schema: Schema
    #: The class that computes it, as ``module:Class``, and the settings that decide its numbers.
    made_by: str
    identity: Mapping[str, Any]
    #: Value of the record of a committed block.
    token: int
    #: A readable name of each block: a volume, a layer.
    units: tuple[str, ...]

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
                "units": list(self.units),
                "schema": self.schema.as_json(),
            }
        }


def group_token(run: str, identity: Mapping[str, Any]) -> int:
    """Hash of a run's fingerprint and a job's identity; the run's own token if the job's identity is empty."""
    if not identity:
        return int(run[:16], 16) or 1
    text = json.dumps([run, identity], sort_keys=True, ensure_ascii=False)
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) or 1


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
            yield Group(schema, job["made_by"], job["identity"], int(job["token"], 16), tuple(job["units"]))
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"group {name} does not describe itself: `actstore verify STORE --repair`") from error


def read_groups(storage: Storage) -> tuple[Group, ...]:
    """The groups of jobs of a store."""
    return tuple(groups_of(json.loads(storage.read("zarr.json") or b"{}")))


def new_group(
    storage: Storage, schema: Schema, made_by: str, identity: Mapping[str, Any], units: Sequence[str]
) -> Group:
    """The description of a job's new group."""
    run = read_attributes(storage)["fingerprint"]["run"]
    return Group(schema, made_by, identity, group_token(run, identity), tuple(units))


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
    found: dict[str, Any] = {
        name: (node[name].metadata.dimension_names, node[name][...]) for name in schema.coordinates
    }
    whole: dict[str, Any] = {}
    for array in schema.arrays:
        of_samples = array.dims[0] == "sample"
        size = array.slots if isinstance(array, ArrayLayout) else array.chunk[0]
        units = (
            [(b, n) for b, n in captured if done[b]] if of_samples else [(int(b), size) for b in np.flatnonzero(done)]
        )
        blocks = lazy.BlockSamples(tuple(units))
        if isinstance(array, ArrayLayout):
            data = lazy.sharded(storage, array, blocks)
        else:
            data = lazy.small(storage, array, blocks)
        whole[array.path.removeprefix(f"{group.name}/")] = (array.dims, data)
        if not of_samples:
            there = np.repeat(done, size)
            for name, (dims, values) in found.items():
                if dims[0] == array.dims[0] and len(values) == len(there):
                    found[name] = (dims, values[there])
    coords = {name: (dims, plain(values)) for name, (dims, values) in found.items()}
    if any(array.dims[0] == "sample" for array in schema.arrays):
        kept = np.concatenate([np.full(n, done[b]) for b, n in captured]) if len(captured) else np.zeros(0, bool)
        coords |= {str(name): ("sample", values.values[kept]) for name, values in sample.items()}
    return xr.Dataset(whole, coords=coords)
