"""Handles standard output and error in any state: any encoding, closed, or a pipe whose reader left."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import shutil
import sys
from pathlib import Path
from typing import IO, BinaryIO

from actstore.errors import StoreError

#: Name of the error handler that `prepare` sets for both streams.
READABLE = "actstore-readable"

#: Replacements for actstore's own characters if the encoding lacks them.
_PLAIN = str.maketrans(
    {"→": "->", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": "-", "±": "+/-", "≤": "<=", "≥": ">="}
    | {"“": '"', "”": '"', "‘": "'", "’": "'"}
)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace the first character that cannot be encoded with ASCII.

    Escapes characters of names as Python does (``\\u0141``): with question marks, two patients could look the same. A
    surrogate that stands for an undecodable byte of a file name becomes that byte again.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), end
    plain = character.translate(_PLAIN)
    return plain if plain != character else character.encode("ascii", "backslashreplace").decode("ascii"), end


codecs.register_error(READABLE, _readable)


def prepare() -> None:
    """Keep characters from failing a command, and files of a store from taking the place of closed standard streams."""
    # The next opened file gets the lowest free descriptor, so that a library could print into it.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(spare, True)
    os.close(spare)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def held(text: str, stream: IO[str] | None = None) -> str:
    """``text`` as ``stream`` (default standard output) will show it, to measure columns."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, READABLE).decode(encoding, "surrogateescape")


def say(message: str, *, error: bool = False) -> None:
    """Print a line on standard output or error; do nothing if that is closed."""
    stream = sys.stderr if error else sys.stdout
    if stream is not None:
        # At once: who reads the page's address from a pipe or a file waits for it.
        print(message, file=stream, flush=True)


def program() -> str:
    """What to type for this command: ``actstore`` where a shell finds it, else the path by which it was started."""
    given, found = Path(sys.argv[0]), shutil.which("actstore")
    if given.name != "actstore" or not given.exists() or (found and Path(found).samefile(given)):
        return "actstore"
    return str(given)


def say_made(title: str) -> None:
    """Name a part of a page that is made, on standard error."""
    say(f"made: {title}", error=True)


def binary_output() -> BinaryIO:
    """Standard output as a binary file.

    Raises
    ------
    StoreError
        if it is closed.
    """
    if sys.stdout is None:
        raise StoreError("standard output is closed: name a file with -o")
    sys.stdout.flush()
    return sys.stdout.buffer


def is_terminal() -> bool:
    """Whether a person sees standard output at once."""
    return sys.stdout is not None and sys.stdout.isatty()


def reader_left() -> bool:
    """Whether standard output or error is a pipe whose reader has left, as after ``| head -1``."""
    return any(_is_broken(stream) for stream in (sys.stdout, sys.stderr))


def _is_broken(stream: IO[str] | None) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno() if stream else -1, select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # not a system file, or closed
        return False


def finish(code: int) -> int:
    """Flush standard output and error.

    Returns
    -------
    the exit status: ``code``, or 1 if it was 0 and something could not be written. A reader that left is not reported.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        if stream.closed:
            # By a library whose reader left.
            code = code or 1
            continue
        try:
            stream.flush()
        except OSError as error:
            if error.errno != errno.EPIPE and code == 0 and stream is sys.stdout:
                say(f"actstore: standard output cannot be written: {error.strerror}", error=True)
            code = code or 1
            # Python flushes again at exit and would report the error.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
    return code
