"""Numbers, names and lists as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Items of a list that a message names.
_LISTED = 8
_BYTES = ("B", "kB", "MB", "GB", "TB")


def human_bytes(n: float) -> str:
    """``n`` bytes in the (decimal) unit that a person would choose."""
    power = next((i for i in range(len(_BYTES)) if n < 1000 ** (i + 1)), len(_BYTES) - 1)
    return f"{n / 1000**power:.{0 if power < 2 else 2}f} {_BYTES[power]}"


def counted(n: int, thing: str, plural: str = "") -> str:
    """``1 volume``, ``2 volumes``: ``plural`` where :func:`plural_of` does not make it.

    >>> counted(1, "patient"), counted(0, "slice"), counted(2, "child", "children")
    ('1 patient', '0 slices', '2 children')
    """
    return f"{n} {thing if n == 1 else plural or plural_of(thing)}"


def plural_of(thing: str) -> str:
    """Several of a ``thing``.

    >>> plural_of("slice"), plural_of("patch")
    ('slices', 'patches')
    """
    return f"{thing}es" if thing.endswith(("ch", "ss")) else f"{thing}s"


def unit_of(classified: bool) -> str:
    """What a run computes as a whole: a volume, or of a classifier a group of images."""
    return "group" if classified else "volume"


def human_seconds(seconds: float) -> str:
    """``12 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def clock(seconds: float) -> str:
    """As a clock shows it.

    >>> clock(17.4), clock(203), clock(7384)
    ('0:17', '3:23', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shown(text: object) -> str:
    """``text`` for a message: as it is where printable, escaped where not."""
    plain = str(text)
    return plain if plain.isprintable() else repr(plain)


def by(sizes: Iterable[object], times: str = "×") -> str:
    """Sizes along several axes.

    >>> by((9, 40, 50))
    '9×40×50'
    """
    return times.join(map(str, sizes))


def first_few(items: Sequence[object], most: int = 3, *, separator: str = ", ", count: bool = False) -> str:
    """The first ``most`` of ``items``, "…" where there are more, and with ``count`` how many.

    >>> first_few(["a", "b", "c"]), first_few("abcd"), first_few("abcd", 2, count=True)
    ('a, b, c', 'a, b, c, …', 'a, b, … (2 more)')
    """
    shortened = separator.join(map(str, items[:most]))
    if len(items) <= most:
        return shortened
    return f"{shortened}{separator}…" + (f" ({len(items) - most} more)" if count else "")


def listed(items: Iterable[object], count: int | None = None) -> str:
    """The first few ``items`` joined by commas, and how many more there are: of ``count``, where it is not theirs."""
    texts = [shown(item) for item in items]
    rest = (len(texts) if count is None else count) - _LISTED
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(texts[:_LISTED]) + more
