"""A store as a notebook shows it: what is in it, in HTML without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from actstore.units import by, counted, human_bytes, listed

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Rows of a section; the rest is counted.
MOST_ROWS = 100
_STYLE = (
    "<style>.actstore-repr{line-height:1.5}.actstore-repr summary{cursor:pointer}"
    ".actstore-repr table{margin:.2em 0 .6em 1.2em;border-collapse:collapse}"
    ".actstore-repr td,.actstore-repr th{text-align:left;padding:.1em .8em .1em 0;background:none}"
    ".actstore-repr p{margin:.2em 0 .6em 1.2em}.actstore-repr .quiet{opacity:.65}</style>"
)


def html_of(store: Store) -> str:
    """Size, missing volumes, patients, conditions, layers and groups of a store, a section each that folds."""
    done, blocks = len(store.block_samples), store.layout.blocks
    head = (
        f"<b>actstore.Store</b> <code>{escape(str(store.path))}</code> "
        f'<span class="quiet">{human_bytes(store.nbytes)}, schema {store.layout.version}</span>'
    )
    parts = [
        _section(f"{done} of {counted(blocks, 'volume')} committed", _missing(store), shown=done < blocks),
        _section(_patients_title(store), _patients(store.samples)),
        _section(counted(store.layout.conditions, "condition"), _conditions(store.conditions)),
        _section(counted(len(store.layers), "layer"), _layers(store), shown=True),
        *([_section(counted(len(store.groups), "group"), _groups(store))] if store.groups else []),
    ]
    return f'{_STYLE}<div class="actstore-repr">{head}{"".join(parts)}</div>'


def _section(title: str, body: str, *, shown: bool = False) -> str:
    return f"<details{' open' if shown else ''}><summary>{escape(title)}</summary>{body}</details>"


def _missing(store: Store) -> str:
    if not store.missing:
        return "<p>No volume is missing.</p>"
    return f"<p><b>{len(store.missing)} missing</b>: {escape(listed(store.missing))}</p>"


def _patients_title(store: Store) -> str:
    samples = store.samples
    kind = "patch" if store.patched else "sample"
    return f"{counted(samples['patient'].nunique(), 'patient')}, {counted(len(samples), kind)}"


def _patients(samples: pd.DataFrame) -> str:
    rows = [
        (patient, ", ".join(map(str, sorted(of["frame"].unique()))), len(of))
        for patient, of in samples.groupby("patient", sort=False)
    ]
    return _table(("patient", "frames", "samples"), rows)


def _conditions(conditions: pd.DataFrame) -> str:
    columns = [name for name in ("transform", "target", "strength", "region") if name in conditions]
    rows = [
        (name, *("" if pd.isna(row[column]) else row[column] for column in columns))
        for name, row in conditions.iterrows()
    ]
    return _table(("condition", *columns), rows)


def _layers(store: Store) -> str:
    rows = [
        (
            name,
            row["module"],
            row["type"],
            row["channels"],
            by(row["size"]),
            human_bytes(row["bytes"]) if row["bytes"] else "statistics only",
        )
        for name, row in store.layers.iterrows()
    ]
    return _table(("layer", "module", "type", "channels", "size", "stored"), rows)


def _groups(store: Store) -> str:
    rows = [
        (name, f"{int(store.group_committed(name).sum())} of {len(group.units)} committed")
        for name, group in store.groups.items()
    ]
    return _table(("group", "units"), rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in row)}</tr>" for row in rows[:MOST_ROWS])
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
