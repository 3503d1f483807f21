"""Slots, shards, chunks and bytes: arithmetic alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actstore.measures.names import STATISTICS
from actstore.store.layout import (
    CHECKSUM_BYTES,
    CHUNK_BYTES,
    ArrayLayout,
    SmallLayout,
    activation_layout,
    c_strides,
    image_layout,
    inner_chunk,
    largest_divisor,
)
from actstore.store.schema import Layer, StoreLayout

sizes = st.integers(1, 400)
small = st.integers(1, 6)


@st.composite
def array_layouts(draw: st.DrawFn) -> ArrayLayout:
    grid = draw(st.lists(small, min_size=1, max_size=4))
    chunk = draw(st.lists(small, min_size=len(grid), max_size=len(grid)))
    return ArrayLayout(
        path=draw(st.sampled_from(["layers/L01/activation", "inputs/image"])),
        dims=("sample", *(f"d{i}" for i in range(len(grid)))),
        dtype=draw(st.sampled_from(["float32", "float16", "uint8"])),
        blocks=draw(st.integers(1, 12)),
        slots=draw(st.integers(1, 9)),
        sample_shape=tuple(g * c for g, c in zip(grid, chunk, strict=True)),
        chunk=tuple(chunk),
    )


@st.composite
def store_layouts(draw: st.DrawFn) -> StoreLayout:
    dims = draw(st.sampled_from([2, 3]))
    space = tuple(draw(st.lists(st.integers(1, 300), min_size=dims, max_size=dims)))
    layers = tuple(
        Layer(f"L{i + 1:02d}", f"net.{i}.norm", "InstanceNorm2d", 0, "", draw(sizes), tuple(n // 2 + 1 for n in space))
        for i in range(draw(st.integers(1, 4)))
    )
    return StoreLayout(
        blocks=draw(st.integers(1, 9)),
        slots=1 if dims == 3 else draw(st.integers(1, 20)),
        conditions=draw(st.integers(1, 12)),
        classes=draw(st.integers(2, 5)),
        space=space,
        dtype=draw(st.sampled_from(["float32", "float16"])),
        layers=layers,
    )


@given(n=st.integers(1, 5000), at_most=st.integers(1, 6000))
def test_largest_divisor_is_the_largest(n: int, at_most: int) -> None:
    assert largest_divisor(n, at_most) == max(d for d in range(1, n + 1) if n % d == 0 and d <= at_most)


@given(conditions=sizes, channels=sizes, map_bytes=st.integers(1, 10**8), target=st.integers(1, 10**8))
def test_an_inner_chunk_divides_and_keeps_to_its_target(
    conditions: int, channels: int, map_bytes: int, target: int
) -> None:
    chunk_conditions, chunk_channels = inner_chunk(conditions, channels, map_bytes, target)
    assert conditions % chunk_conditions == 0
    assert channels % chunk_channels == 0
    size = chunk_conditions * chunk_channels * map_bytes
    assert size <= target or (chunk_conditions, chunk_channels) == (1, 1)
    assert chunk_conditions == conditions or chunk_channels == 1, "conditions are split only below one channel"
    if chunk_conditions == conditions:
        larger = [n for n in range(chunk_channels + 1, channels + 1) if channels % n == 0]
        assert all(conditions * n * map_bytes > target for n in larger), "as many channels as fit"
    else:
        assert chunk_conditions == 1, "one condition or all"
        assert conditions * map_bytes > target


@pytest.mark.parametrize(
    ("channels", "space", "expected"),
    [(8, (128, 128), (4, 8)), (16, (64, 64), (4, 16)), (64, (32, 32), (4, 64)), (64, (256, 256), (4, 2))],
)
def test_inner_chunks_of_the_worked_example(channels: int, space: tuple[int, int], expected: tuple[int, int]) -> None:
    assert inner_chunk(4, channels, math.prod(space) * 4) == expected
    assert math.prod(expected) * math.prod(space) * 4 <= CHUNK_BYTES


@given(layout=array_layouts(), data=st.data())
def test_chunks_of_a_shard_tile_it_without_gap_or_overlap(layout: ArrayLayout, data: st.DataObject) -> None:
    samples = data.draw(st.integers(0, layout.slots))
    offsets = [layout.chunk_offset(s, c) for s in range(samples) for c in range(layout.chunks_per_sample)]
    assert offsets == [i * layout.chunk_stride for i in range(samples * layout.chunks_per_sample)]
    assert layout.file_bytes(samples) == len(offsets) * layout.chunk_stride + layout.index_bytes
    assert layout.chunk_stride == math.prod(layout.chunk) * np.dtype(layout.dtype).itemsize + CHECKSUM_BYTES
    assert math.prod(layout.grid) * math.prod(layout.chunk) == math.prod(layout.sample_shape)


@given(layout=array_layouts(), data=st.data())
def test_a_shard_index_lists_what_is_stored_and_nothing_else(layout: ArrayLayout, data: st.DataObject) -> None:
    samples = data.draw(st.integers(0, layout.slots))
    index = layout.index(samples)
    assert index.shape == (layout.slots, layout.chunks_per_sample, 2)
    assert index.nbytes + CHECKSUM_BYTES == layout.index_bytes
    assert (index[samples:] == np.iinfo(np.uint64).max).all()
    for s in range(samples):
        for c in range(layout.chunks_per_sample):
            assert index[s, c].tolist() == [layout.chunk_offset(s, c), layout.chunk_stride]


@given(layout=array_layouts())
def test_blocks_own_whole_shards_that_cover_the_sample_axis(layout: ArrayLayout) -> None:
    assert layout.shard_shape == (layout.slots, *layout.sample_shape)
    assert layout.shape == (layout.blocks * layout.slots, *layout.sample_shape)
    assert all(n % c == 0 for n, c in zip(layout.shard_shape, layout.chunk_shape, strict=True))
    owned = [range(b * layout.slots, (b + 1) * layout.slots) for b in range(layout.blocks)]
    assert [s for slots in owned for s in slots] == list(range(layout.shape[0]))
    assert all(slots.start % layout.shard_shape[0] == 0 for slots in owned), "shard-aligned"


@given(layout=store_layouts())
def test_two_blocks_never_share_a_file(layout: StoreLayout) -> None:
    files = [list(layout.capture.files(block)) for block in range(layout.blocks)]
    flat = [name for names in files for name in names]
    assert len(flat) == len(set(flat)) == layout.blocks * layout.capture.block_objects
    assert all(names[0] == layout.capture.record.key(b) for b, names in enumerate(files)), "the record goes first"


@given(layout=store_layouts(), data=st.data())
def test_bytes_of_a_block_are_those_of_its_files(layout: StoreLayout, data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, layout.slots))
    small_arrays: list[SmallLayout] = [layout.applicable, layout.confusion, layout.source, layout.capture.record]
    small_arrays += [layout.statistics.record, *layout.statistics.arrays]
    expected = sum(a.file_bytes(samples) for a in [*layout.capture.sharded, *small_arrays])
    assert layout.capture.block_bytes(samples) == expected
    assert len(layout.capture.sharded) == 3 + len(layout.layers)
    paths = {array.path for array in [*layout.capture.sharded, *small_arrays]}
    assert len(paths) == layout.capture.block_objects


@given(layout=store_layouts())
def test_every_array_of_a_store_has_one_shard_a_block(layout: StoreLayout) -> None:
    for array in layout.capture.sharded:
        assert (array.blocks, array.slots) == (layout.blocks, layout.slots)
        assert array.shape[0] == layout.blocks * layout.slots
        assert array.dims == ("sample", *array.dims[1:])
        assert array.sample_shape[-len(layout.space) :] == array.chunk[-len(layout.space) :], "space is never split"
    for layer in layout.layers:
        assert layout.activation(layer).sample_shape == (layout.conditions, layer.channels, *layer.space)
    found = layout.statistic
    assert found.shape == (layout.blocks * layout.slots, len(STATISTICS), layout.conditions, layout.channels)
    owned = [list(range(layout.channels))[layout.channels_of(layer)] for layer in layout.layers]
    assert [channel for channels in owned for channel in channels] == list(range(layout.channels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": ("sample", "x")}, r"dims \('sample', 'x'\) do not fit"),
        ({"chunk": (2, 3)}, r"chunk \(2, 3\) does not divide sample shape \(4, 8\)"),
        ({"chunk": (2,)}, "does not divide"),
        ({"blocks": 0}, "0 blocks of 3 slots"),
        ({"slots": 0}, "2 blocks of 0 slots"),
    ],
)
def test_an_impossible_layout_is_refused(changes: dict[str, object], message: str) -> None:
    layout = ArrayLayout("a", ("sample", "y", "x"), "float32", 2, 3, (4, 8), (2, 8))
    with pytest.raises(ValueError, match=message):
        replace(layout, **changes)  # type: ignore[arg-type]


def test_a_3d_network_has_z() -> None:
    common = {"dtype": "float32", "blocks": 2, "slots": 1, "space": (4, 6, 8), "space_dims": ("z", "y", "x")}
    activation = activation_layout("a", conditions=2, channels=3, **common)  # type: ignore[arg-type]
    image = image_layout("i", conditions=2, **common)  # type: ignore[arg-type]
    label = image_layout("l", conditions=None, **common)  # type: ignore[arg-type]
    assert activation.dims == ("sample", "condition", "channel", "z", "y", "x")
    assert image.dims == ("sample", "condition", "z", "y", "x")
    assert label.dims == ("sample", "z", "y", "x")
    assert label.key(1) == "l/c.1.0.0.0"


@given(shape=st.lists(small, min_size=1, max_size=5))
def test_c_strides_are_those_of_numpy(shape: list[int]) -> None:
    assert c_strides(tuple(shape), 4) == np.empty(shape, np.float32).strides


def test_a_layer_survives_json() -> None:
    layer = Layer("L01", "a.b", "Conv2d", 2, "0.x", 3, (4, 5))
    assert Layer.from_json(layer.as_json()) == layer
    assert layer.label == "a.b[0.x]#2"
