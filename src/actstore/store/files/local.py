"""A store in a folder of a local or shared file system, written with direct I/O where the file system supports it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.paths import given
from actstore.store.files.base import TEMPORARY, Location

PAGE = 4096
_DIRECT = getattr(os, "O_DIRECT", 0)

log = logging.getLogger(__name__)


class _Flock:
    """A lock that the kernel releases when the process ends, and not before."""

    held = True


@dataclass(frozen=True)
class LocalStorage:
    """Files below ``root``."""

    root: Path
    threads = 1
    piece_bytes = 2 * 2**20
    held_bytes = 0

    @classmethod
    def at_path(cls, path: Location) -> LocalStorage:
        """The storage in the folder ``path``, which need not exist; a leading ``~`` is the home folder.

        Raises
        ------
        StoreError
            if that home folder is unknown.
        """
        return cls(given(path).resolve())

    def __str__(self) -> str:
        return str(self.root)

    @property
    def location(self) -> Path:
        return self.root

    def check_writable(self) -> None:
        return None

    def at(self, key: str) -> str:
        return f"{self.root}/{key}"

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fill(self, key: str, content: bytearray) -> int | None:
        try:
            file = os.open(self.at(key), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(file).st_size
            return os.readv(file, [content]) if size == len(content) else size
        finally:
            os.close(file)

    def open(self, key: str) -> LocalFile:
        return LocalFile(self.at(key))

    def write(self, key: str, content: bytes, *, fsync: bool = False) -> None:
        path = self.root / key
        partial = _partial(path)
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                if fsync:
                    os.fsync(file.fileno())
            os.replace(partial, path)
            if fsync:
                _sync(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def sink(self, key: str, size: int, *, fsync: bool = False) -> LocalSink:
        return LocalSink(self.root / key, size, fsync=fsync)

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def written(self, key: str) -> tuple[int, int] | None:
        try:
            found = (self.root / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_mtime_ns, found.st_ino

    def lacking(self, keys: Iterable[str]) -> str:
        return next((key for key in keys if not self.exists(key)), "")

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self.root / key).unlink(missing_ok=True)

    def files(self) -> Iterator[tuple[str, int]]:
        folders, seen = [""], set()
        while folders:
            folder = folders.pop()
            status = os.stat(self.root / folder)
            # Layers may lie on another disk behind a link, and links may form a cycle.
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    key = f"{folder}{entry.name}"
                    if entry.is_dir():
                        folders.append(f"{key}/")
                        continue
                    try:
                        yield key, entry.stat().st_size
                    except FileNotFoundError:  # renamed meanwhile
                        continue

    def is_empty(self) -> bool:
        return not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir()))

    def create(self, files: Mapping[str, bytes], *, fsync: bool = False) -> None:
        path = self.root
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # `tempfile.mkdtemp` would make a private folder; umask, group and default ACL should apply.
            building = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.new")
            building.mkdir()
        except OSError as error:
            raise StoreError(
                f"no store can be made at {path}: {error.strerror} ({error.filename}); choose a folder you may write"
            ) from error
        try:
            for folder in {(building / key).parent for key in files}:
                folder.mkdir(parents=True, exist_ok=True)
            for key, content in files.items():
                (building / key).write_bytes(content)
            if fsync:
                for each in (*building.rglob("*"), building):
                    _sync(each)
            os.rename(building, path)
            if fsync:
                _sync(path.parent)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise StoreError(f"{path} appeared while the store was made: run again to continue it") from error
            raise StoreError(
                f"no store can be made at {path}: {error.strerror}; check the folder and its disk"
            ) from error
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    def creating(self) -> AbstractContextManager[object]:
        return nullcontext()

    @contextmanager
    def locked(self) -> Iterator[_Flock]:
        folder = os.open(self.root, os.O_RDONLY)
        try:
            if not os.access(self.root, os.W_OK):
                raise StoreError(f"{self.root} cannot be written to: see to its permissions, or copy it")
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError(
                    f"another job is writing to {self.root}: wait for it to end, then run again"
                ) from error
            except OSError:
                log.warning("%s: this file system has no locks; see that no second capture writes to it", self.root)
            yield _Flock()
        finally:
            os.close(folder)

    def free_bytes(self) -> int:
        return shutil.disk_usage(next(p for p in (self.root, *self.root.parents) if p.exists())).free

    def zarr(self) -> Path:
        return self.root


class LocalFile:
    """A file read with ``preadv``."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size

    def read_into(self, view: memoryview, offset: int) -> int:
        done = 0
        while done < len(view):
            got = os.preadv(self._fd, [view[done:]], offset + done)
            if not got:
                break
            done += got
        return done

    def close(self) -> None:
        os.close(self._fd)


class LocalSink:
    """A file written in whole pages from the caller's memory, bypassing the page cache, and renamed once complete."""

    def __init__(self, path: Path, size: int, *, fsync: bool) -> None:
        self.path = path
        self.size = size
        self._fsync = fsync
        self._partial = _partial(path)
        #: Content of the incomplete last page, written again together with what follows.
        self._tail = b""
        self._position = 0
        self._named = False
        self._fd, self._direct = _open(self._partial)

    def append(self, memory: NDArray[np.uint8], start: int, stop: int, *, last: bool) -> None:
        memory[:start] = np.frombuffer(self._tail, dtype=np.uint8)
        end = -(-stop // PAGE) * PAGE if last else stop // PAGE * PAGE
        self._write(memory[:end], self._position - start)
        self._tail = memory[end:stop].tobytes()
        self._position += stop - start

    def _write(self, content: NDArray[np.uint8], offset: int) -> None:
        view = content.data
        while len(view):
            try:
                written = os.pwrite(self._fd, view, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                refused, self._fd = self._fd, os.open(self._partial, os.O_WRONLY)
                self._direct = False
                os.close(refused)
                continue
            view, offset = view[written:], offset + written

    def close(self) -> None:
        os.ftruncate(self._fd, self.size)
        if self._fsync:
            os.fsync(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)
        os.replace(self._partial, self.path)
        if self._fsync:
            _sync(self.path.parent)
        self._named = True

    def abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not self._named:
            self._partial.unlink(missing_ok=True)


def _open(path: Path) -> tuple[int, bool]:
    """A new file for writing, and whether it supports direct I/O."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    if _DIRECT:
        try:
            return os.open(path, flags | _DIRECT, 0o666), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return os.open(path, flags, 0o666), False


def _sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _partial(path: Path) -> Path:
    """A unique temporary name next to ``path``, so that two attempts at one block never write the same file."""
    return path.with_name(f"{path.name}{TEMPORARY}{uuid.uuid4().hex[:12]}")
