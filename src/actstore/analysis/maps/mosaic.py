"""Whole volumes put together from the boxes of voxels that their patches own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_dims
from actstore.analysis.grouping import PARTS, VOLUME, grouped
from actstore.analysis.patches import ORIGIN, START, STOP, along_axes, volume_sizes
from actstore.geometry import Grid

_AXES = ("z", "y", "x")

#: Start and stop along one axis of the volume.
Span = tuple[int, int]


def mosaic(values: xr.DataArray, *, grid: Grid | None = None) -> xr.DataArray:
    """One volume's maps in its own voxels, each voxel from the patch that owns it; lazy.

    Patches are never blended: instance normalisation makes each patch's activations its own, so that a mosaic of them
    has edges where one patch ends and the next begins.

    Parameters
    ----------
    values
        (sample, …, [z,] y, x), all patches of one volume, with the coordinates ``depth``, ``height``, ``width``,
        ``origin_z`` … ``owned_stop_x`` along sample, as arrays of a store with patches have them. Slices of a 2D
        network are put at their ``origin_z``.
    grid
        where the pixels of a layer lie on its input, as ``store.grids`` lists it; each voxel then takes the pixel that
        holds its centre. Without it, ``values`` have a pixel for each voxel.

    Returns
    -------
    xarray.DataArray
        (…, z, y, x) in the dtype of ``values``, in voxels of the preprocessed volume, with the coordinates that all
        patches share. NaN where a condition was not recorded for the patch that owns the voxel. Voxels that no patch
        owns hold NaN, or 0 in arrays of integers. A Dask chunk is one patch's box, and reads those chunks of ``values``
        that hold the patch.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, ``values`` hold samples of several volumes, or the boxes do not fit.

    Examples
    --------
    >>> first = (store.samples["block"] == 0).values
    >>> places = {name: ("sample", store.patches[name]) for name in store.patches.columns[1:]}
    >>> volume = store["L01"].assign_coords(places).isel(sample=first)
    >>> analysis.mosaic(volume).dims
    ('condition', 'channel', 'z', 'y', 'x')
    """
    require_dims(values, ["sample", "y", "x"])
    space = [axis for axis in _AXES if axis in values.dims]
    others = [dim for dim in values.dims if dim not in ("sample", *space)]
    ordered = one_chunk(values.transpose("sample", *others, *space), space)
    boxes = _Boxes.of(values)
    cells = {place: boxes.cell(sample, space, ordered, grid) for place, sample in boxes.owners.items()}
    make = _lazy if isinstance(ordered.data, da.Array) else _now
    data = make(ordered.data, len(space), cells, boxes.spans)
    coords = {str(name): coord for name, coord in values.coords.items() if "sample" not in coord.dims}
    # Coordinates along an axis of a patch would count its pixels, not the volume's.
    coords = {name: coord for name, coord in coords.items() if not {*coord.dims} & {*space}}
    return xr.DataArray(
        data, dims=(*others, *_AXES), coords={**coords, **boxes.shared}, name=values.name, attrs=values.attrs
    )


@dataclass(frozen=True, eq=False)
class _Boxes:
    """The owned boxes of one volume, as cells of a grid."""

    origin: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    #: Along each axis the spans that the volume is cut into, those that no patch owns among them.
    spans: tuple[list[Span], list[Span], list[Span]]
    #: Cell of the grid to the sample that owns it.
    owners: dict[tuple[int, ...], int]
    #: Coordinates that all patches share.
    shared: dict[str, Any]

    @classmethod
    def of(cls, values: xr.DataArray) -> _Boxes:
        origin, start, stop = (along_axes(values, name) for name in (ORIGIN, START, STOP))
        sizes = volume_sizes(values)
        names = [name for name in VOLUME if name in values.coords]
        if not len(sizes):
            raise AnalysisError(f"{values.name or 'the array'} has no sample: select those of one patient and frame")
        if len(np.unique(sizes, axis=0)) > 1 or (names and len(np.unique(grouped(values, names)[0])) > 1):
            raise AnalysisError(
                f"{values.name or 'the array'} has samples of several volumes: select those of one patient and frame"
            )
        owning = np.flatnonzero((stop > start).all(axis=1))
        cuts = [_spans(start[owning, axis], stop[owning, axis], int(sizes[0, axis])) for axis in range(3)]
        places = [{span[0]: i for i, span in enumerate(cut)} for cut in cuts]
        owners: dict[tuple[int, ...], int] = {}
        for sample in owning.tolist():
            place = tuple(places[axis][int(start[sample, axis])] for axis in range(3))
            if place in owners:
                raise AnalysisError(
                    f"samples {owners[place]} and {sample} own the same voxels: select each patch of one volume once"
                )
            owners[place] = sample
        shared = {
            str(name): coord.values[0]
            for name, coord in values.coords.items()
            if coord.dims == ("sample",) and not str(name).startswith(PARTS) and _constant(coord.values)
        }
        return cls(origin, start, stop, (cuts[0], cuts[1], cuts[2]), owners, shared)

    def cell(self, sample: int, space: Sequence[str], values: xr.DataArray, grid: Grid | None) -> _Cell:
        """What of a sample fills its box: one index of pixels for each axis of ``space``."""
        index = []
        for number, name in enumerate(space):
            axis, size = _AXES.index(name), values.sizes[name]
            inside = np.arange(self.start[sample, axis], self.stop[sample, axis]) - self.origin[sample, axis]
            if grid is not None:
                inside = np.array([grid.pixel_at(int(voxel), number, size) for voxel in inside])
            if inside.min() < 0 or inside.max() >= size:
                raise AnalysisError(
                    f"patch {sample} owns voxels {inside.min()}..{inside.max()} of its {name}, which has {size}: "
                    "give the `grid` of the layer, or arrays of the input's size"
                )
            index.append(inside)
        depth = int(self.stop[sample, 0] - self.start[sample, 0])
        if len(space) == 2 and depth != 1:
            raise AnalysisError(f"sample {sample} is a slice but owns {depth} slices: take the store's own coordinates")
        return _Cell(sample, tuple(index))


def _spans(start: NDArray[np.int64], stop: NDArray[np.int64], size: int) -> list[Span]:
    """``size`` voxels of an axis cut at the boxes' ends: the spans of the boxes, and what lies between them."""
    found: list[Span] = []
    at = 0
    for a, b in sorted({*zip(start.tolist(), stop.tolist(), strict=True)}):
        if a < at or b > size:
            raise AnalysisError(
                f"boxes of voxels overlap, or leave the volume, at {a}..{b} of {size}: select the patches of one volume"
            )
        found += [(at, a), (a, b)] if a > at else [(a, b)]
        at = b
    return [*found, (at, size)] if at < size else found


def _constant(values: NDArray[Any]) -> bool:
    return bool(((values == values[0]) | ((values != values) & (values[0] != values[0]))).all())


@dataclass(frozen=True, eq=False)
class _Cell:
    """One sample's pixels for the box that it owns."""

    sample: int
    #: Pixels along each axis of a sample, ([z,] y, x).
    index: tuple[NDArray[np.int64], ...]

    def take(self, values: NDArray[Any], number: int) -> NDArray[Any]:
        """Of ``values`` (sample, …, [z,] y, x) the box of sample ``number``: (…, z, y, x)."""
        box: NDArray[Any] = values[number][(..., *np.ix_(*self.index))]
        return box if len(self.index) == 3 else box[..., None, :, :]

    def __dask_tokenize__(self) -> object:
        return "cell", self.sample, [along.tolist() for along in self.index]


Cells = Mapping[tuple[int, ...], _Cell]


def _fill(dtype: np.dtype[Any]) -> Any:
    return np.nan if dtype.kind == "f" else 0


def _now(values: NDArray[Any], axes: int, cells: Cells, spans: Sequence[Sequence[Span]]) -> NDArray[Any]:
    shape = [along[-1][1] for along in spans]
    found = np.full((*values.shape[1 : values.ndim - axes], *shape), _fill(values.dtype), values.dtype)
    for place, cell in cells.items():
        z, y, x = (slice(*spans[axis][i]) for axis, i in enumerate(place))
        found[..., z, y, x] = cell.take(values, cell.sample)
    return found


def _lazy(values: da.Array, axes: int, cells: Cells, spans: Sequence[Sequence[Span]]) -> da.Array:
    """One task for each cell and each chunk of the dims before space."""
    name = f"mosaic-{tokenize(values.name, list(cells.items()), spans)}"
    first = np.cumsum([0, *values.chunks[0]])
    before = values.chunks[1 : values.ndim - axes]
    cut = tuple(tuple(stop - start for start, stop in along) for along in spans)
    graph: dict[Any, Any] = {}
    for place in product(*(range(len(along)) for along in spans)):
        cell = cells.get(place)
        lengths = tuple(along[i] for along, i in zip(cut, place, strict=True))
        for group in product(*(range(len(chunks)) for chunks in before)):
            key = (name, *group, *place)
            if cell is None:
                shape = (*(chunks[i] for chunks, i in zip(before, group, strict=True)), *lengths)
                graph[key] = (np.full, shape, _fill(values.dtype), values.dtype)
            else:
                chunk = int(np.searchsorted(first, cell.sample, side="right")) - 1
                source = (values.name, chunk, *group, *(0,) * axes)
                graph[key] = (cell.take, source, cell.sample - int(first[chunk]))
    made = HighLevelGraph(
        {**values.dask.layers, name: MaterializedLayer(graph)}, {**values.dask.dependencies, name: {values.name}}
    )
    chunks = (*before, *cut)
    return da.Array(made, name, chunks, meta=np.empty((0,) * len(chunks), dtype=values.dtype))
