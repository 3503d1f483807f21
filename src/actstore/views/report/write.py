"""One self-contained HTML page about a store, and a folder of its data and figures beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from actstore.analysis.evidence import FEWEST_PATIENTS
from actstore.errors import StoreError
from actstore.paths import given
from actstore.tables.findings import Findings
from actstore.units import by, human_bytes, plural_of
from actstore.views.html_tables import html_table
from actstore.views.report.render import Rendered, rendered, rendering_aside
from actstore.views.report.sections.order import BRIEF, LEAD, LEADING, OF_THE_STORE, sections_of
from actstore.views.report.study import ROWS, Study

if TYPE_CHECKING:
    from actstore.store.store import Store


def write_report(
    store: Store, output: str | Path, findings: Findings | None = None, *, made: Callable[[str], None] = lambda _: None
) -> Path:
    """Write what ``store`` answers to ``output``, and the data and figures to the folder ``<name>_data`` beside it.

    The page is self-contained: style, script and figures are inside, and it loads nothing. Where the store cannot
    answer a question, the page says what its spec would need. On more than one core, a second process renders part of
    it meanwhile.

    Parameters
    ----------
    findings
        of ``store``, where some are computed already.
    made
        called with the title of each section when it is drawn, in any order.

    Raises
    ------
    StoreError
        if the store has no committed block, or ``output`` cannot be written.
    """
    output, folder = place_of(output)
    study = Study(store, findings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done: dict[str, Rendered] = {}
        with contextlib.ExitStack() as stack:
            sections = sections_of(store)
            keys = list(sections)
            aside = {*OF_THE_STORE} & {*keys} if (os.cpu_count() or 1) > 1 else set()
            there = sorted(aside, key=keys.index)
            collect = stack.enter_context(rendering_aside(study, folder, there, made)) if aside else dict
            for key in keys:
                if key not in aside:
                    done[key] = rendered(sections[key](study), folder)
                    made(done[key].title)
            done |= collect()
        output.write_text(_page(study, [done[key] for key in keys], folder), encoding="utf-8")
    except OSError as error:
        what = error.filename or output
        raise StoreError(f"{what} cannot be written: {error.strerror or error}; choose another -o") from error
    return output


def place_of(output: str | Path, name: str = "report.html") -> tuple[Path, Path]:
    """Where a page goes, and the folder of its files.

    Raises
    ------
    StoreError
        if ``output`` is a folder, naming a file such as ``name`` in it.
    """
    output = given(output)
    if output.is_dir():
        raise StoreError(f"{output} is a folder: name a file for -o, such as {output / name}")
    return output, output.with_name(f"{output.stem}_data")


def _page(study: Study, sections: list[Rendered], folder: Path) -> str:
    store = study.store
    layers = store.layers.reset_index()
    layers["size"] = [by(size) for size in layers["size"]]
    layers["bytes"] = [human_bytes(n) for n in layers["bytes"]]
    patients = store.samples["patient"].nunique()
    return page(
        "report.html.j2",
        sections,
        folder,
        store=store,
        name=str(store.path).rstrip("/").rpartition("/")[2],
        patients=patients,
        many=plural_of(study.noun),
        size=human_bytes(store.nbytes),
        fewest=FEWEST_PATIENTS,
        layers=html_table(layers, "recorded", labelled_by="caption-recorded"),
        fingerprint=store.attributes["fingerprint"],
        versions=store.attributes["versions"],
    )


def page(template: str, sections: Sequence[Rendered], folder: Path, **content: Any) -> str:
    """A self-contained page of ``sections``, whose files lie in ``folder``, and of what else the ``template`` shows."""
    environment = Environment(loader=PackageLoader("actstore.views.report"), autoescape=True, trim_blocks=True)
    source = environment.loader
    assert source is not None
    sections = sorted(sections, key=lambda section: not section.answers)
    lead = [section.figures[0] for section in sections if section.key in LEAD and section.figures]
    leading = sorted(
        sections, key=lambda section: LEADING.index(section.key) if section.key in LEADING else len(LEADING)
    )
    summary = [section.findings[0] for section in leading if section.findings][:BRIEF]
    numbers = [*lead, *(drawn for section in sections for drawn in section.figures if drawn not in lead)]
    style, script = (Markup(source.get_source(environment, f"report.{kind}")[0]) for kind in ("css", "js"))
    return environment.get_template(template).render(
        sections=sections,
        lead=lead,
        summary=summary,
        others=[sentence for section in sections for sentence in section.findings if sentence not in summary],
        numbers={drawn["key"]: i for i, drawn in enumerate(numbers, start=1)},
        folder=folder.name,
        rows=ROWS,
        style=style,
        script=script,
        **content,
    )
