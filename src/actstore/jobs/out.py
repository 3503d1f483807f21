"""Writes the arrays of one unit: each file appears once it is whole, the commit records last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.store import commits
from actstore.store.fence import Fence
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.schema import Schema
from actstore.store.shards import ShardBuffer, ShardWriter, write_small


class Out:
    """The files of one unit of a group, behind a fence that stops attempts that were considered lost."""

    def __init__(
        self, storage: Storage, schema: Schema, unit: int, samples: int, token: int, *, fsync: bool = False
    ) -> None:
        self.storage, self.schema, self.token = storage, schema, token
        self.unit, self.samples = unit, samples
        self._fence = Fence(storage, schema, unit, token)
        self._fsync = fsync
        #: Bytes written so far, and the paths of the arrays written.
        self.bytes = 0
        self._written: set[str] = set()
        prefix = f"{schema.group}/" if schema.group else ""
        self._arrays = {array.path.removeprefix(prefix): array for group in schema.schemas for array in group.arrays}

    def check(self) -> None:
        """Raise `Superseded` if another attempt has committed the unit."""
        self._fence.check()

    def put(self, name: str, values: NDArray[Any]) -> None:
        """Write one whole array of the unit.

        Parameters
        ----------
        name
            path of the array below the group.
        values
            with the array's dims, and as many entries along the leading one as the unit has samples; the remaining
            slots hold 0 or NaN.

        Raises
        ------
        ValueError
            if the group has no such array, or it has another shape or dtype.
        """
        if name not in self._arrays:
            raise ValueError(f"{self.schema.group or 'the store'} has no array {name!r}: {', '.join(self._arrays)}")
        array = self._arrays[name]
        if isinstance(array, ArrayLayout):
            self._put_shard(array, values)
            return
        entries = min(self.samples, array.chunk[0]) if array.dims[0] != "block" else 1
        content = np.full(array.chunk, np.nan if np.dtype(array.dtype).kind == "f" else 0, dtype=array.dtype)
        content[:entries] = _fitted(array, values, (entries, *array.chunk[1:]))
        self.check()
        self.bytes += write_small(self.storage, array, self.unit, content, fsync=self._fsync)
        self._written.add(array.path)

    def _put_shard(self, array: ArrayLayout, values: NDArray[Any]) -> None:
        buffer = ShardBuffer(array, self.samples)
        buffer.put(0, _fitted(array, values, (self.samples, *array.sample_shape)))
        with self.shards([array]) as (writer,):
            writer.write(buffer)

    @contextmanager
    def one_by_one(self, name: str) -> Iterator[Callable[[NDArray[Any]], None]]:
        """Write an array of shards sample by sample. Yields a function that takes the next, without its leading dim.

        Raises
        ------
        ValueError
            as `put`, and if the number of samples is another.
        """
        array = self._arrays[name]
        assert isinstance(array, ArrayLayout)
        buffer, position = ShardBuffer(array, 1), count()
        with self.shards([array]) as (writer,):

            def append(values: NDArray[Any]) -> None:
                buffer.put(next(position), _fitted(array, values[None], (1, *array.sample_shape)))
                writer.write(buffer)

            yield append

    @contextmanager
    def shards(self, arrays: Sequence[ArrayLayout]) -> Iterator[list[ShardWriter]]:
        """Writers of the unit's shards, which get their names when the context exits without an error."""
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    ShardWriter(self.storage, array.key(self.unit), array, self.samples, fsync=self._fsync)
                )
                for array in arrays
            ]
            yield writers
            for writer in writers:
                self.check()
                self.bytes += writer.close()
            self._written |= {array.path for array in arrays}

    def commit(self) -> None:
        """Mark the unit as done: write the records of the subgroups, then its own.

        Raises
        ------
        ValueError
            if the job did not put one of its arrays.
        StoreError
            if one of its files is missing.
        """
        if lacking := [name for name, array in self._arrays.items() if array.path not in self._written]:
            raise ValueError(f"{self.schema.group or 'the store'}: unit {self.unit} put no {lacking[0]}")
        for subgroup in self.schema.subgroups:
            self.check()
            self.bytes += commits.write_record(self.storage, subgroup.record, self.unit, self.token, fsync=self._fsync)
        self.check()
        commits.commit(self.storage, self.schema, self.unit, self.token, fsync=self._fsync)


def _fitted(array: ArrayLayout | SmallLayout, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``values`` in the array's dtype, which must hold each of them: whole numbers exactly, floats rounded."""
    if values.shape != shape or not np.can_cast(values.dtype, array.dtype, "same_kind"):
        raise ValueError(f"{array.path}: {values.dtype} {values.shape} does not fit {array.dtype} {shape}")
    with np.errstate(over="ignore"):
        fitted = values.astype(array.dtype)
    lost = np.isinf(fitted) & np.isfinite(values) if fitted.dtype.kind == "f" else fitted != values
    if lost.any():
        raise ValueError(f"{array.path}: {array.dtype} does not hold {values[lost].flat[0]}")
    return fitted
