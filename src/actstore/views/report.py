"""One self-contained HTML page about a store, and a folder of its data and figures beside it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from actstore.analysis.evidence import FEWEST_PATIENTS
from actstore.errors import StoreError
from actstore.findings import Findings
from actstore.units import human_bytes
from actstore.views import export
from actstore.views.page import ROWS, Figure, Section, Study, Table, as_html
from actstore.views.sections import SECTIONS

if TYPE_CHECKING:
    from actstore.store import Store

#: A drawing of more bytes goes onto paper as pixels.
_LARGEST_SVG = 160_000


def write_report(store: Store, output: Path, findings: Findings | None = None) -> Path:
    """Write what ``store`` answers to ``output``, and the data and figures to the folder ``<name>_data`` beside it.

    The page holds its style, its script and its figures itself and asks nothing of any network. A question that the
    store was not captured for is named with what its spec would need.

    Parameters
    ----------
    findings
        Those of ``store``, where some are computed already.

    Raises
    ------
    StoreError
        if the store has no committed block, or ``output`` cannot be written.
    """
    study = Study(store, findings)
    folder = output.with_name(f"{output.stem}_data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sections = [make(study) for make in SECTIONS]
        parts = [_rendered(section, folder) for section in sections]
        output.write_text(_page(study, sections, parts, folder), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}; choose another -o") from error
    return output


def _rendered(section: Section, folder: Path) -> dict[str, Any]:
    """What the template needs of a section; its files are written on the way."""
    return {
        "section": section,
        "figures": [_figure(figure, folder) for figure in section.figures],
        "tables": [_table(table, folder) for table in section.tables],
    }


def _figure(figure: Figure, folder: Path) -> dict[str, Any]:
    drawn = figure.draw()
    png, svg = (folder / f"{figure.key}.{ending}" for ending in ("png", "svg"))
    export.save_images(drawn, png, svg)
    export.save_frame(figure.data, folder, figure.key)
    vector = svg.stat().st_size <= _LARGEST_SVG
    kind, content = ("svg+xml", svg.read_bytes()) if vector else ("png", png.read_bytes())
    return {
        "figure": figure,
        "image": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "item": Markup(export.page_item(drawn, f"plot-{figure.key}")),
        "rows": len(figure.data),
    }


def _table(table: Table, folder: Path) -> dict[str, Any]:
    export.save_frame(table.data, folder, table.key)
    return {"table": table, "html": as_html(table.shown.head(ROWS)), "hidden": max(len(table.shown) - ROWS, 0)}


def _page(study: Study, sections: list[Section], parts: list[dict[str, Any]], folder: Path) -> str:
    store = study.store
    layers = store.layers.reset_index()
    layers["size"] = ["×".join(map(str, size)) for size in layers["size"]]
    layers["bytes"] = [human_bytes(n) for n in layers["bytes"]]
    environment = Environment(loader=PackageLoader("actstore.views"), autoescape=select_autoescape(), trim_blocks=True)
    source = environment.loader
    assert source is not None
    style, script = (Markup(source.get_source(environment, f"report.{kind}")[0]) for kind in ("css", "js"))
    patients = store.samples["patient"].nunique()
    return environment.get_template("report.html.j2").render(
        store=store,
        name=str(store.path).rstrip("/").rpartition("/")[2],
        patients=patients,
        size=human_bytes(store.nbytes),
        summary=[sentence for section in sections for sentence in section.findings],
        fewest=FEWEST_PATIENTS,
        numbers={drawn["figure"].key: i for i, drawn in enumerate((f for p in parts for f in p["figures"]), start=1)},
        parts=parts,
        folder=folder.name,
        rows=ROWS,
        layers=as_html(layers),
        fingerprint=store.attributes["fingerprint"],
        versions=store.attributes["versions"],
        style=style,
        script=script,
        bokeh=Markup(export.bokeh_script()),
    )
