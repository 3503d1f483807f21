"""Standard output and error as they are found: of any encoding, closed, or a pipe whose reader left."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import IO, BinaryIO

from actstore.errors import StoreError

#: Name of the error handler that `prepare` gives both streams.
READABLE = "actstore-readable"

#: What stands for characters of actstore's own where an encoding lacks them.
_PLAIN = str.maketrans(
    {"→": "->", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": "-", "±": "+/-", "≤": "<=", "≥": ">="}
    | {"“": '"', "”": '"', "‘": "'", "’": "'"}
)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """The first character that cannot be encoded, in ASCII.

    Characters of names are escaped as Python does it (``\\u0141``): with a question mark, two patients would look the
    same. What stands for a byte of a file name that was no text becomes that byte again.
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
    """Let no character end a command, and keep closed standard streams from becoming files of a store."""
    # The system gives the lowest free number to the next file that is opened: what a library prints would land in it.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(spare, True)
    os.close(spare)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def held(text: str, stream: IO[str] | None = None) -> str:
    """``text`` as ``stream``, standard output unless given, will show it, so that columns can be measured."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, READABLE).decode(encoding, "surrogateescape")


def say(message: str, *, error: bool = False) -> None:
    """A line on standard output or error; nothing where that is closed."""
    stream = sys.stderr if error else sys.stdout
    if stream is not None:
        print(message, file=stream)


def binary_output() -> BinaryIO:
    """Standard output as a file of bytes.

    Raises
    ------
    StoreError
        if it is closed.
    """
    if sys.stdout is None:
        raise StoreError("standard output is closed: name a file with -o")
    sys.stdout.flush()
    return sys.stdout.buffer


def reader_left() -> bool:
    """Whether standard output or error is a pipe that nobody reads any more, as after ``| head -1``."""
    return any(_is_broken(stream) for stream in (sys.stdout, sys.stderr))


def _is_broken(stream: IO[str] | None) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno() if stream else -1, select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file of the system, or closed
        return False


def finish(code: int) -> int:
    """Write out what standard output and error still hold.

    Returns
    -------
    the exit status: ``code``, or 1 where it was 0 and something could not be written. Of a reader that left nothing is
    said.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            if error.errno != errno.EPIPE and code == 0 and stream is sys.stdout:
                say(f"actstore: standard output cannot be written: {error.strerror}", error=True)
            code = code or 1
            # Python flushes once more as it ends, and would report that.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
    return code
