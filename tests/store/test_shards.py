"""Shard files: what is assembled in place comes back bit for bit, and what is damaged is named."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.store.files import LocalStorage
from actstore.store.files.local import PAGE
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.reader import Piece, ShardReader, read_map, read_pieces, read_small
from actstore.store.shards import ShardBuffer, ShardWriter, write_small
from actstore.store.template import CODECS
from shards import random_bits, write_shard

DTYPES = ("float32", "float16", "uint8")


def make_layout(
    grid: tuple[int, ...] = (1, 2, 1, 1),
    chunk: tuple[int, ...] = (2, 3, 17, 13),
    *,
    dtype: str = "float32",
    blocks: int = 3,
    slots: int = 5,
) -> ArrayLayout:
    dims = (
        ("sample", "condition", "channel", *("z", "y", "x")[-(len(grid) - 2) :]) if len(grid) > 2 else ("sample", "x")
    )
    return ArrayLayout("a", dims, dtype, blocks, slots, tuple(g * c for g, c in zip(grid, chunk, strict=True)), chunk)


def as_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def make_store(root: Path, layout: ArrayLayout) -> Path:
    zarr.create_group(root).create_array(
        layout.path,
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=layout.chunk_shape,
        shards=layout.shard_shape,
        fill_value=0,
        **CODECS,
    )
    return root


def read_samples(
    path: Path,
    layout: ArrayLayout,
    valid: int,
    *,
    first: int = 0,
    count: int | None = None,
    channels: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """`read_pieces` of two pieces of one shard."""
    count = valid - first if count is None else count
    half = count // 2
    pieces = [Piece(path.name, valid, first, half), Piece(path.name, valid, first + half, count - half)]
    return read_pieces(LocalStorage(path.parent), layout, [piece for piece in pieces if piece.count], channels=channels)


def read_everywhere(root: Path, layout: ArrayLayout, block: int, samples: int) -> dict[str, NDArray[Any]]:
    first = block * layout.slots
    array: Any = zarr.open_array(root / layout.path, mode="r")
    store = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(root / layout.path)}}
    ).result()
    return {
        "zarr": array[first : first + samples],
        "tensorstore": store[first : first + samples].read().result(),
        "actstore": read_samples(root / layout.key(block), layout, samples),
    }


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


@st.composite
def shard_cases(draw: st.DrawFn) -> tuple[ArrayLayout, list[int], int]:
    grid = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), 1, 1)
    chunk = (draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    layout = make_layout(grid, chunk, dtype=draw(st.sampled_from(DTYPES)), slots=draw(st.integers(1, 7)))
    samples = draw(st.integers(1, layout.slots))
    steps: list[int] = []
    while sum(steps) < samples:
        steps.append(draw(st.integers(1, samples - sum(steps))))
    return layout, steps, draw(st.integers(1, 3))


@given(case=shard_cases(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_shard_reads_back_bit_for_bit(case: tuple[ArrayLayout, list[int], int], seed: int) -> None:
    layout, steps, ring = case
    samples = sum(steps)
    values = random_bits(np.random.default_rng(seed), (samples, *layout.sample_shape), layout.dtype)
    with scratch() as root:
        make_store(root, layout)
        size = write_shard(root / layout.key(1), layout, values, steps, ring)
        assert size == (root / layout.key(1)).stat().st_size == layout.file_bytes(samples)
        for name, found in read_everywhere(root, layout, 1, samples).items():
            assert found.dtype == values.dtype
            assert np.array_equal(as_bits(found), as_bits(values)), name
        names = {"zarr.json", Path(layout.key(1)).name}
        assert set(os.listdir((root / layout.key(1)).parent)) == names, "nothing but the shard"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 5], ids=["1d", "3d-network"])
def test_other_ranks_read_back(tmp_path: Path, dtype: str, ndim: int) -> None:
    layout = (
        make_layout((3,), (700,), dtype=dtype)
        if ndim == 1
        else make_layout((1, 2, 1, 1, 1), (2, 2, 3, 5, 7), dtype=dtype)
    )
    values = random_bits(np.random.default_rng(0), (4, *layout.sample_shape), dtype)
    make_store(tmp_path, layout)
    write_shard(tmp_path / layout.key(0), layout, values, [1, 3])
    for found in read_everywhere(tmp_path, layout, 0, 4).values():
        assert np.array_equal(as_bits(found), as_bits(values))


def test_chunks_larger_than_a_page_keep_their_phase(tmp_path: Path) -> None:
    layout = make_layout((1, 3, 1, 1), (4, 2, 33, 31), slots=6)
    assert layout.sample_stride > PAGE
    assert layout.sample_stride % PAGE
    values = random_bits(np.random.default_rng(1), (6, *layout.sample_shape), layout.dtype)
    make_store(tmp_path, layout)
    write_shard(tmp_path / layout.key(2), layout, values, [2, 1, 3], ring=2)
    for found in read_everywhere(tmp_path, layout, 2, 6).values():
        assert np.array_equal(as_bits(found), as_bits(values))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_part_is_the_slice_of_the_whole(data: st.DataObject) -> None:
    split = data.draw(st.booleans())
    layout = make_layout((2, 4, 1, 1) if split else (1, 4, 1, 1), (1 if split else 2, 3, 5, 7), slots=6)
    values = random_bits(np.random.default_rng(2), (6, *layout.sample_shape), layout.dtype)
    first = data.draw(st.integers(0, 5))
    count = data.draw(st.integers(1, 6 - first))
    start = data.draw(st.integers(0, 3))
    stop = data.draw(st.integers(start + 1, 4))
    with scratch() as root:
        path = root / layout.key(0)
        write_shard(path, layout, values, [6])
        found = read_samples(path, layout, 6, first=first, count=count, channels=(3 * start, 3 * stop))
    assert np.array_equal(as_bits(found), as_bits(values[first : first + count, :, 3 * start : 3 * stop]))


def test_one_map_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_layout((2, 4, 1, 1), (2, 3, 5, 7), slots=3)
    values = random_bits(np.random.default_rng(4), (3, *layout.sample_shape), layout.dtype)
    path = tmp_path / "0"
    write_shard(path, layout, values, [3])
    filled: list[int] = []
    plain = ShardReader.fill
    monkeypatch.setattr(
        ShardReader, "fill", lambda self, raw, first, start: (filled.append(raw.nbytes), plain(self, raw, first, start))
    )
    for sample, condition, channel in [(0, 0, 0), (2, 3, 11), (1, 2, 5)]:
        found = read_map(LocalStorage(path.parent), layout, Piece(path.name, 3, sample, 1), (condition, channel))
        assert np.array_equal(as_bits(found), as_bits(values[sample, condition, channel]))
    assert filled == [layout.chunk_stride] * 3


@pytest.mark.parametrize("channels", [(1, 6), (0, 4)])
def test_channels_must_be_whole_inner_chunks(tmp_path: Path, channels: tuple[int, int]) -> None:
    layout = make_layout((1, 4, 1, 1), (2, 3, 5, 7))
    write_shard(
        tmp_path / "0", layout, random_bits(np.random.default_rng(0), (1, *layout.sample_shape), "float32"), [1]
    )
    with pytest.raises(ValueError, match="are not whole inner chunks"):
        read_samples(tmp_path / "0", layout, 1, channels=channels)


@pytest.mark.parametrize("value", [0.0, np.nan, -0.0], ids=["zeros", "nan", "minus zero"])
def test_constant_activations_are_data(tmp_path: Path, value: float) -> None:
    layout = make_layout()
    values = np.full((3, *layout.sample_shape), value, dtype="float32")
    make_store(tmp_path, layout)
    write_shard(tmp_path / layout.key(0), layout, values, [2, 1])
    assert (tmp_path / layout.key(0)).stat().st_size == layout.file_bytes(3)
    for found in read_everywhere(tmp_path, layout, 0, 3).values():
        assert np.array_equal(as_bits(found), as_bits(values))


Pwrite = Callable[[int, Any, int], int]


def opened_below(folder: Path) -> list[str]:
    """Files of ``folder``, deleted ones too, that this process has open. Other threads open and close theirs."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in found if name.startswith(str(folder.resolve()))]


def refuse_direct_open(patch: pytest.MonkeyPatch) -> None:
    plain = os.open

    def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument", str(path))
        return plain(path, flags, *args, **kwargs)

    patch.setattr(os, "open", open_)


def refuse_direct_write(patch: pytest.MonkeyPatch) -> None:
    """As file systems do that accept O_DIRECT at open and refuse it at the first write."""
    import fcntl

    plain: Pwrite = os.pwrite

    def pwrite(fd: int, content: Any, offset: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(fd, content, offset)

    patch.setattr(os, "pwrite", pwrite)


def write_short(patch: pytest.MonkeyPatch) -> None:
    plain: Pwrite = os.pwrite

    def pwrite(fd: int, content: Any, offset: int) -> int:
        return plain(fd, content[: max(PAGE, len(content) // 3 // PAGE * PAGE)], offset)

    patch.setattr(os, "pwrite", pwrite)


def write_shorter(patch: pytest.MonkeyPatch) -> None:
    """Writes that end anywhere: the rest is no longer aligned, which direct I/O refuses."""
    plain: Pwrite = os.pwrite

    def pwrite(fd: int, content: Any, offset: int) -> int:
        piece = bytes(content[:1777]) if len(content) > 1777 and offset % PAGE == 0 else content
        if isinstance(piece, bytes):
            with open(f"/proc/self/fd/{fd}", "r+b", buffering=0) as plain_file:
                plain_file.seek(offset)
                return plain_file.write(piece)
        return plain(fd, content, offset)

    patch.setattr(os, "pwrite", pwrite)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="the platform has no direct I/O")
@pytest.mark.parametrize("fault", [refuse_direct_open, refuse_direct_write, write_short, write_shorter])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fallbacks_write_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], dtype: str
) -> None:
    layout = make_layout(chunk=(2, 3, 41, 37), dtype=dtype)
    values = random_bits(np.random.default_rng(3), (5, *layout.sample_shape), dtype)
    write_shard(tmp_path / "plain", layout, values, [2, 2, 1])
    with monkeypatch.context() as patch:
        fault(patch)
        write_shard(tmp_path / "fault", layout, values, [2, 2, 1])
    assert (tmp_path / "fault").read_bytes() == (tmp_path / "plain").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["fault", "plain"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no tmpfs at /dev/shm")
def test_a_memory_file_system_takes_shards() -> None:
    layout = make_layout()
    values = random_bits(np.random.default_rng(4), (5, *layout.sample_shape), "float32")
    with scratch(Path("/dev/shm")) as root:
        make_store(root, layout)
        write_shard(root / layout.key(0), layout, values, [2, 3])
        for found in read_everywhere(root, layout, 0, 5).values():
            assert np.array_equal(as_bits(found), as_bits(values))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINVAL, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("at", [1, 2])
def test_a_failing_write_raises_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, at: int
) -> None:
    layout = make_layout(chunk=(2, 3, 41, 37))
    values = random_bits(np.random.default_rng(5), (4, *layout.sample_shape), "float32")
    plain: Pwrite = os.pwrite
    calls = 0

    def pwrite(fd: int, content: Any, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise OSError(code, os.strerror(code))
        return plain(fd, content, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match=os.strerror(code)):
        write_shard(tmp_path / "0", layout, values, [1, 1, 1, 1])
    assert os.listdir(tmp_path) == []
    assert opened_below(tmp_path) == [], "no descriptor is left open"


@pytest.mark.parametrize("call", ["ftruncate", "fsync", "replace"])
def test_a_failing_close_raises_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    layout = make_layout()

    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    buffer = ShardBuffer(layout, 1)

    def run() -> None:
        with ShardWriter(LocalStorage(tmp_path), "0", layout, 1, fsync=True) as writer:
            buffer.place(0, 1)
            writer.write(buffer)
            writer.close()

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            run()
    assert os.listdir(tmp_path) == []
    assert opened_below(tmp_path) == []


def test_leaving_a_writer_unfinished_leaves_no_file(tmp_path: Path) -> None:
    layout = make_layout()
    buffer = ShardBuffer(layout, 2)
    with ShardWriter(LocalStorage(tmp_path), "0", layout, 3) as writer:
        buffer.place(0, 2)
        writer.write(buffer)
        with pytest.raises(ValueError, match="2 of 3 samples were written"):
            writer.close()
    assert os.listdir(tmp_path) == []


def test_samples_out_of_order_are_refused(tmp_path: Path) -> None:
    layout = make_layout()
    buffer = ShardBuffer(layout, 2)
    with ShardWriter(LocalStorage(tmp_path), "0", layout, 3) as writer:
        buffer.place(1, 2)
        with pytest.raises(ValueError, match=r"samples 1\.\.3 do not follow 0"):
            writer.write(buffer)
    with pytest.raises(ValueError, match="3 samples do not fit a buffer of 2"):
        buffer.place(0, 3)


def test_writers_of_several_blocks_do_not_disturb_each_other(tmp_path: Path) -> None:
    layout = make_layout(blocks=6, slots=4)
    rng = np.random.default_rng(6)
    contents = [random_bits(rng, (1 + b % 4, *layout.sample_shape), "float32") for b in range(6)]
    make_store(tmp_path, layout)

    def write(block: int) -> None:
        values = contents[block]
        write_shard(tmp_path / layout.key(block), layout, values, [1] * len(values))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    for block, values in enumerate(contents):
        for found in read_everywhere(tmp_path, layout, block, len(values)).values():
            assert np.array_equal(as_bits(found), as_bits(values))


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, ArrayLayout]:
    layout = make_layout()
    values = random_bits(np.random.default_rng(7), (3, *layout.sample_shape), "float32")
    write_shard(tmp_path / "shard", layout, values, [3])
    return tmp_path / "shard", layout


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_is_never_silent(shard: tuple[Path, ArrayLayout], seed: int) -> None:
    path, layout = shard
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    payload = 3 * layout.sample_stride
    position = int(rng.integers(0, payload)) if seed % 2 else int(rng.integers(payload, len(content)))
    content[position] ^= 1 << int(rng.integers(0, 8))
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"shard.*(wrong checksum of slot|damaged shard index)") as error:
        read_samples(path, layout, 3)
    assert str(path) in str(error.value)
    if seed % 2:
        slot, inner = divmod(position // layout.chunk_stride, layout.chunks_per_sample)
        assert f"slot {slot}, inner chunk {inner}" in str(error.value)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_truncated_or_longer_file_is_named(shard: tuple[Path, ArrayLayout], cut: int) -> None:
    path, layout = shard
    content = path.read_bytes()
    path.write_bytes(content[:cut] if cut >= 0 else content + b"\0")
    with pytest.raises(StoreError, match=r"shard has \d+ bytes instead of \d+: `actstore verify"):
        read_samples(path, layout, 3)


def test_a_missing_file_is_named(shard: tuple[Path, ArrayLayout]) -> None:
    path, layout = shard
    path.unlink()
    with pytest.raises(StoreError, match="shard is missing from a committed block"):
        read_samples(path, layout, 3)


def test_a_shard_of_other_samples_is_refused(shard: tuple[Path, ArrayLayout]) -> None:
    path, layout = shard
    with pytest.raises(StoreError, match="bytes instead of"):
        ShardReader(LocalStorage(path.parent), path.name, layout, 2)


def test_a_file_that_shrinks_while_it_is_read(shard: tuple[Path, ArrayLayout]) -> None:
    path, layout = shard
    with ShardReader(LocalStorage(path.parent), path.name, layout, 3) as reader:
        os.truncate(path, layout.chunk_stride)
        with pytest.raises(StoreError, match="ends too early"):
            reader.read(0, 3, 0, layout.chunks_per_sample)


def test_no_descriptor_outlives_a_refused_shard(shard: tuple[Path, ArrayLayout]) -> None:
    path, layout = shard
    path.write_bytes(b"short")
    for _ in range(3):
        with pytest.raises(StoreError):
            read_samples(path, layout, 3)
    assert opened_below(path.parent) == []


@given(data=st.data(), dtype=st.sampled_from(["bool", "int64", "uint64", "float64", "uint8"]))
@settings(max_examples=25, deadline=None)
def test_small_chunks_read_back(data: st.DataObject, dtype: str) -> None:
    chunk = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    layout = SmallLayout("a", tuple(f"d{i}" for i in range(len(chunk))), dtype, 3, chunk)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.integers(0, 2, chunk).astype(dtype) if dtype == "bool" else random_bits(rng, chunk, dtype)
    with scratch() as root:
        zarr.create_group(root).create_array("a", shape=layout.shape, dtype=dtype, chunks=chunk, fill_value=0, **CODECS)
        path = root / layout.key(1)
        assert write_small(LocalStorage(root), layout, 1, values) == path.stat().st_size == layout.file_bytes()
        mine = read_small(LocalStorage(root), layout, 1)
        array: Any = zarr.open_array(root / "a", mode="r")
        assert mine is not None
        for found in (mine, array[chunk[0] : 2 * chunk[0]]):
            assert np.array_equal(as_bits(found), as_bits(values))
        assert set(os.listdir(path.parent)) == {"zarr.json", path.name}


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "longer"])
def test_a_damaged_small_chunk_is_named(tmp_path: Path, damage: str) -> None:
    layout = SmallLayout("chunk", ("d0",), "int64", 3, (4,))
    path = tmp_path / layout.key(1)
    path.parent.mkdir()
    write_small(LocalStorage(tmp_path), layout, 1, np.arange(4))
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes({"flip": bytes(content), "truncate": content[:-3], "empty": b"", "longer": content + b"x"}[damage])
    with pytest.raises(StoreError, match=r"chunk/c\.1 is damaged"):
        read_small(LocalStorage(tmp_path), layout, 1)
    assert read_small(LocalStorage(tmp_path), layout, 2) is None


def test_a_small_chunk_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = SmallLayout("chunk", ("d0",), "int64", 3, (4,))
    path = tmp_path / layout.key(0)
    write_small(LocalStorage(tmp_path), layout, 0, np.arange(4))
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_small(LocalStorage(tmp_path), layout, 0, np.arange(4, 8))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["c.0"]
