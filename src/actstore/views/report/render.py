"""Rendering sections: text and markup for the page's template, and the files beside it."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pandas as pd

from actstore.errors import StoreError
from actstore.paths import LOOPBACK, PORT
from actstore.tables.build import write_csv, write_parquet
from actstore.views.html_tables import html_table
from actstore.views.report.picture import on_page, save_picture
from actstore.views.report.study import ROWS, Figure, Section, ShownTable, Study

#: Bytes of an SVG above which the page carries the PNG instead.
_LARGEST_SVG = 1_500_000


@dataclass(frozen=True)
class Rendered:
    """A section as text and markup, which another process can send."""

    key: str
    title: str
    words: Sequence[str]
    missing: Sequence[str]
    findings: Sequence[str]
    figures: Sequence[dict[str, Any]]
    tables: Sequence[dict[str, Any]]

    @property
    def answers(self) -> bool:
        """Whether it shows more than what the store lacks."""
        return bool(self.figures or self.tables or self.words or self.findings)


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
    png, svg = (folder / f"{figure.key}.{ending}" for ending in ("png", "svg"))
    spots = save_picture(figure.draw(), png, svg)
    save_data(figure.data, folder, figure.key)
    kind, content = "svg+xml", on_page(svg.read_text(encoding="utf-8")).encode()
    if len(content) > _LARGEST_SVG:
        kind, content = "png", png.read_bytes()
    return {
        "key": figure.key,
        "caption": figure.caption,
        "alt": figure.alt,
        "image": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "still": kind == "png",
        "explore": _address(figure.view),
        "spots": spots,
    }


def _address(view: Mapping[str, object]) -> str:
    """Where `actstore explore` shows the same, with its default port; "" of no view."""
    query = "&".join(f"{name}={quote(str(value), safe=',:().')}" for name, value in view.items())
    return f"http://{LOOPBACK}:{PORT}/?{query}" if query else ""


def _table(table: ShownTable, folder: Path) -> dict[str, Any]:
    save_data(table.data, folder, table.key)
    return {
        "key": table.key,
        "caption": table.caption,
        "html": html_table(table.shown.head(ROWS), table.key, labelled_by=f"caption-{table.key}"),
        "hidden": max(len(table.shown) - ROWS, 0),
    }


def save_data(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """Write the data of a figure or table as ``name.csv`` and ``name.parquet``.

    Raises
    ------
    StoreError
        if one cannot be written.
    """
    try:
        write_csv(frame, folder / f"{name}.csv")
        write_parquet(frame, folder / f"{name}.parquet")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}; choose another -o") from error


@contextlib.contextmanager
def rendering_aside(
    study: Study, folder: Path, keys: Sequence[str], made: Callable[[str], None]
) -> Iterator[Callable[[], dict[str, Rendered]]]:
    """Render the sections ``keys`` of the same store in another process; yields a function that waits for them.

    The process is a fresh interpreter: nothing of a notebook's or script's state runs in it. ``made`` gets the title of
    each section when it is there.

    Raises
    ------
    StoreError
        on collecting, if that process failed, with the last line of its stderr.
    """
    settings = {name: getattr(study.findings, name) for name in ("top", "most", "of", "resamples")}
    with tempfile.TemporaryDirectory() as scratch:
        result, errors = Path(scratch) / "sections.pickle", Path(scratch) / "stderr"
        task = {
            "store": str(study.store.path),
            "folder": str(folder.resolve()),
            "keys": list(keys),
            "settings": settings,
            "result": str(result),
        }
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "actstore.views.report.render", json.dumps(task)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                env={**os.environ, "PYTHONIOENCODING": "utf-8:replace"},
            )

        def listen() -> None:
            for title in process.stdout or ():
                made(title.rstrip("\n"))

        listener = Thread(target=listen, name="actstore-sections", daemon=True)
        listener.start()

        def collect() -> dict[str, Rendered]:
            status = process.wait()
            listener.join()
            if status != 0 or not result.exists():
                last = errors.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
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
            listener.join()
            if process.stdout is not None:
                process.stdout.close()


def main(task: dict[str, Any]) -> None:
    """Render in the other process."""
    from actstore.store.opening import MissingBlocksWarning, open_store
    from actstore.tables.findings import Findings
    from actstore.views.report.sections.order import SECTIONS

    with warnings.catch_warnings():
        # The first process has warned already.
        warnings.simplefilter("ignore", MissingBlocksWarning)
        store = open_store(task["store"])
    study = Study(store, Findings(store, **task["settings"]))
    done = {}
    for key in task["keys"]:
        done[key] = rendered(SECTIONS[key](study), Path(task["folder"]))
        print(done[key].title, flush=True)
    Path(task["result"]).write_bytes(pickle.dumps(done))


if __name__ == "__main__":
    # Through the module's name: objects of __main__ could not be unpickled elsewhere.
    from actstore.views.report import render

    render.main(json.loads(sys.argv[1]))
