"""Sections drawn: what the page's template needs of each, and the files that are written on the way."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actstore.errors import StoreError
from actstore.views import export
from actstore.views.page import ROWS, Figure, Section, Study, Table, as_html

#: A drawing of more bytes goes onto paper as pixels.
_LARGEST_SVG = 160_000


@dataclass(frozen=True)
class Rendered:
    """A section as text and markup, which another process may have made."""

    key: str
    title: str
    words: Sequence[str]
    missing: Sequence[str]
    findings: Sequence[str]
    figures: Sequence[dict[str, Any]]
    tables: Sequence[dict[str, Any]]


def rendered(section: Section, folder: Path) -> Rendered:
    """``section`` with its figures and tables drawn and their files written to ``folder``."""
    return Rendered(
        section.key,
        section.title,
        section.words,
        section.missing,
        section.findings,
        [_figure(figure, folder) for figure in section.figures],
        [_table(table, folder) for table in section.tables],
    )


def _figure(figure: Figure, folder: Path) -> dict[str, Any]:
    drawn = figure.draw()
    png, svg = (folder / f"{figure.key}.{ending}" for ending in ("png", "svg"))
    export.save_images(drawn, png, svg)
    export.save_frame(figure.data, folder, figure.key)
    kind, content = ("svg+xml", svg.read_bytes())
    if len(content) > _LARGEST_SVG:
        kind, content = ("png", png.read_bytes())
    return {
        "key": figure.key,
        "caption": figure.caption,
        "alt": figure.alt,
        "image": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "item": export.page_item(drawn, f"plot-{figure.key}"),
    }


def _table(table: Table, folder: Path) -> dict[str, Any]:
    export.save_frame(table.data, folder, table.key)
    return {
        "key": table.key,
        "caption": table.caption,
        "html": as_html(table.shown.head(ROWS)),
        "hidden": max(len(table.shown) - ROWS, 0),
    }


@contextlib.contextmanager
def drawing_aside(study: Study, folder: Path, keys: Sequence[str]) -> Iterator[Callable[[], dict[str, Rendered]]]:
    """Another process renders the sections ``keys`` of the same store; calling what is given waits for them.

    It starts as a fresh interpreter: nothing of a notebook's or a script's own state runs in it.

    Raises
    ------
    StoreError
        on collecting, if that process failed, with its last words.
    """
    settings = {name: getattr(study.findings, name) for name in ("top", "most", "resamples")}
    with tempfile.TemporaryDirectory() as scratch:
        result, said = Path(scratch) / "sections.pickle", Path(scratch) / "stderr"
        task = {
            "store": str(study.store.path),
            "folder": str(folder.resolve()),
            "keys": list(keys),
            "settings": settings,
            "result": str(result),
        }
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "actstore.views.render", json.dumps(task)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "PYTHONIOENCODING": "utf-8:replace"},
            )

        def collect() -> dict[str, Rendered]:
            if process.wait() != 0 or not result.exists():
                last = said.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                raise StoreError(
                    f"the figures of {study.store.path} were not drawn: {last or 'the process was killed'}"
                )
            found: dict[str, Rendered] = pickle.loads(result.read_bytes())
            return found

        try:
            yield collect
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def main(task: dict[str, Any]) -> None:
    """What the other process does."""
    from actstore.store.store import MissingBlocksWarning, open_store
    from actstore.tables.findings import Findings
    from actstore.views.sections import SECTIONS

    with warnings.catch_warnings():
        # Said already where the store was opened first.
        warnings.simplefilter("ignore", MissingBlocksWarning)
        store = open_store(task["store"])
    study = Study(store, Findings(store, **task["settings"]))
    done = {key: rendered(SECTIONS[key](study), Path(task["folder"])) for key in task["keys"]}
    Path(task["result"]).write_bytes(pickle.dumps(done))


if __name__ == "__main__":
    # As the module that the other process imports, not as __main__, which it could not unpickle.
    from actstore.views import render

    render.main(json.loads(sys.argv[1]))
