"""How numbers, counts and lists are written for readers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from actstore.units import counted

#: Below which q a result is counted and marked.
SIGNIFICANT = 0.05
#: Share of resamples from which on a finding counts as found again.
SURE = 0.95
#: Notes of a table that are spelled out.
NOTES = 3
#: Names of a list that are spelled out.
NAMES = 4


def number(value: float, error: float = 0.0) -> str:
    """Two decimals, or what a small number needs, but no more than ``error`` allows; an en dash for none.

    A digit is written where half of its unit is at least ``error``.
    """
    if not np.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return _minus(f"{value:.4g}")
    decimals = _decimals(value)
    if error > 0:
        decimals = min(decimals, max(int(np.floor(-np.log10(2 * error))), 0))
    return _fixed(value, decimals)


def interval(value: float, low: float, high: float, error: float = 0.0) -> tuple[str, str]:
    """Both ends of an interval as :func:`number` writes them, with more digits where fewer would say something else.

    That is where the rounded ends would meet, leave out ``value``, or reach 0 where the interval does not.
    """
    plain = number(low, error), number(high, error)
    most = max(_decimals(low), _decimals(high))
    for decimals in range(max(len(end.partition(".")[2]) for end in plain), most + 1):
        ends = [round(end, decimals) + 0.0 for end in (low, high)]
        if (
            (ends[0] < ends[1] or low == high)
            and ends[0] <= round(value, most) <= ends[1]
            and (ends[0] > 0) == (low > 0)
            and (ends[1] < 0) == (high < 0)
        ):
            return _fixed(low, decimals), _fixed(high, decimals)
    return number(low), number(high)


def percent(share: float) -> str:
    """A share as whole per cent; 0 % and 100 % only for none and all."""
    if not np.isfinite(share):
        return "–"
    whole = f"{share * 100:.0f}"
    if share > 0 and whole == "0":
        return "< 1 %"
    if share < 1 and whole == "100":
        return "> 99 %"
    return f"{whole} %"


def part(count: int, whole: int, what: str, plural: str = "") -> str:
    """ "58 of 80 slices (72 %)": a count, what it is of, and the share."""
    return f"{count} of {counted(whole, what, plural)} ({percent(count / whole) if whole else '–'})"


def listed(names: Sequence[str], most: int = NAMES) -> str:
    """ "L01, L02 and L03", or the first ``most`` "and 5 more"."""
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def span(low: float, high: float) -> str:
    """ "58" or "58 to 80": whole numbers."""
    return f"{int(low)}" if low == high else f"{int(low)} to {int(high)}"


def slug(text: str) -> str:
    """``text`` as part of a file's name."""
    plain = text.replace("→", "-to-").replace("+", "and")
    return "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in plain).split())


def capital(text: str) -> str:
    """``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]


def rests_on(table: pd.DataFrame) -> str:
    """On how much a table rests, for a caption: "n = 73 to 88 samples, 6 patients"."""
    parts = []
    for name in ("samples", "patients"):
        if name in table and len(table):
            low, high = int(table[name].min()), int(table[name].max())
            parts.append(counted(low, name.removesuffix("s")) if low == high else f"{low} to {high} {name}")
    return f"n = {', '.join(parts)}" if parts else ""


def notes_of(table: pd.DataFrame, about: str, of: Sequence[str] = ("condition",)) -> list[str]:
    """What the column ``note`` of a table says ``about`` its numbers, each note once; beyond :data:`NOTES`, how many.

    A note that is not of all rows is said with the values of the columns ``of`` that it is of.
    """
    if "note" not in table:
        return []
    noted = table[table["note"].fillna("").astype(str) != ""]
    columns = [name for name in of if name in table]
    written = []
    notes = list(dict.fromkeys(noted["note"]))
    for note in notes[:NOTES]:
        own = noted[noted["note"] == note]
        where = ""
        if columns and len(own) < len(table):
            cells = [", ".join(map(str, row)) for row in own[columns].drop_duplicates().itertuples(index=False)]
            where = f" ({listed(cells, 2)})"
        written.append(f"On {about}{where}: {note}.")
    if len(notes) > NOTES:
        written.append(f"On {about}, the column note of the table has {len(notes) - NOTES} more.")
    return written


def families(table: pd.DataFrame) -> str:
    """ "528 tests of each transform, class and source": what q is corrected over, by ``q`` and ``tests``."""
    tests = table.loc[table["q"].notna(), "tests"]
    return f"{span(tests.min(), tests.max())} tests of each {family(table)}"


def family(table: pd.DataFrame) -> str:
    """ "transform, class and source", with the choice of input channels where perturbations make one."""
    more = ", source and choice of input channels" if "channels" in table else " and source"
    return f"transform, class{more}"


def corrected(table: pd.DataFrame) -> str:
    """ "q < 0.05, corrected over 528 tests of each transform, class and source"."""
    return f"q < {SIGNIFICANT:g}, corrected over {families(table)}"


def filled(table: pd.DataFrame) -> str:
    """What filled dots of a figure mean, and that there are none where nothing was tested: of columns ``q, tests``."""
    if table["q"].isna().all():
        return "nothing is filled, since nothing could be tested"
    return f"filled: {corrected(table)}"


def with_interval(
    table: pd.DataFrame, name: str, low: str | None = None, high: str | None = None, error: str | None = None
) -> list[str]:
    """The cells "0.05 (0.01 to 0.10)" of a column and its interval; without an interval, the number alone.

    Ends have the digits that their Monte-Carlo error allows, of the column ``error``; none where that is infinite.
    """
    low, high, error = low or f"{name}_low", high or f"{name}_high", error or f"{name}_error"
    if low not in table:
        return [number(v) for v in table[name]]
    errors = table[error].fillna(0) if error in table else np.zeros(len(table))
    cells = zip(table[name], table[low], table[high], errors, strict=True)
    return [
        f"{number(v)} ({' to '.join(interval(v, a, b, e))})" if np.isfinite([a, b, e]).all() else number(v)
        for v, a, b, e in cells
    ]


def _decimals(value: float) -> int:
    """Two, or what a smaller number needs."""
    size = abs(value)
    return 2 if size >= 0.01 or size == 0 else int(-np.floor(np.log10(size)))


def _fixed(value: float, decimals: int) -> str:
    if decimals > 4:
        return _minus(f"{value:.1g}")
    written = f"{value:.{decimals}f}"
    return _minus(written if float(written) else f"{0:.{decimals}f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
