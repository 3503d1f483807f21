"""The tab on what a store was captured with, and how much of it is there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import param
from markupsafe import Markup

from actstore.units import by, counted, human_bytes
from actstore.views.explorer.html import html_pane, style_sheet
from actstore.views.explorer.part import Part, Session
from actstore.views.html_tables import html_table

#: Missing volumes that are named.
NAMED = 20
_STYLE = """
dl { display: grid; grid-template-columns: 9em minmax(0, 1fr); margin: 6px 0 1em; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 13px; margin: 1em 0 .3em; }
ul { margin: .3em 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--page); border-radius: 4px; padding: .6em .8em; overflow-x: auto; }
th, td { text-align: left; padding: .15em 1em .15em 0; border-bottom: 1px solid var(--faint); }
"""


class ProvenanceTab(Part):
    """Spec, digests, layers, sizes, and what is committed or missing: text that changes only with the store."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        #: One page of text and tables.
        self.view = html_pane(stylesheets=[style_sheet(), _STYLE])

    @param.depends()
    def _show(self) -> None:
        self.view.object = str(self._page())

    def _page(self) -> Markup:
        store = self.source.store
        attributes, layout = store.attributes, store.layout
        identity, fingerprint = attributes["identity"], attributes["fingerprint"]
        with_tensors = sum(layer.kept for layer in layout.layers)
        numbers = (
            f"{layout.dtype}, {counted(identity['mantissa_bits'], 'bit')} of mantissa"
            if identity.get("mantissa_bits")
            else ""
        )
        of_store = {
            "store": store.path,
            "volumes": f"{len(store.block_samples)} committed, {len(store.missing)} missing, {layout.blocks} in all",
            "samples": f"{len(store.samples)} of {counted(store.samples['patient'].nunique(), 'patient')}",
            "conditions": ", ".join(store.conditions.index),
            "size": f"{human_bytes(store.nbytes)} of volumes and their statistics, "
            f"{human_bytes(sum(int(n) for n in store.layers['bytes']))} of it tensors",
            "numbers": numbers or layout.dtype,
            "tensors": "of every layer"
            if layout.keeps_all
            else f"of {with_tensors} of {counted(len(layout.layers), 'layer')}",
            "statistics": "persisted"
            if store.reduced and store.block_samples
            else "not persisted: `actstore reduce` does it",
        }
        of_run = {
            "weights": f"sha256 {fingerprint['weights']}",
            "fingerprint": fingerprint["run"],
            "schema": attributes["schema"],
            "precision": identity.get("precision", "float32"),
            "inputs to a pass": attributes.get("batch_size", "not recorded"),
            "seed": identity.get("seed", "not recorded"),
            "spec's folder": attributes.get("folder", "not recorded"),
            "versions": ", ".join(f"{name} {version}" for name, version in attributes["versions"].items()),
        }
        parts = [_lines(of_store), _missing(store.missing), _lines(of_run), _folded("Spec", _json(attributes["spec"]))]
        if code := identity.get("code"):
            parts.append(_folded("Digests of code that is not installed", _json(code)))
        return Markup("").join([*parts, self._layers()])

    def _layers(self) -> Markup:
        source = self.source
        table = source.store.layers.reset_index()
        table["size"] = [by(size, " × ") for size in table["size"]]
        table["bytes"] = [human_bytes(n) for n in table["bytes"]]
        table["tensors kept"] = ["yes" if source.has_tensors[name] else "no" for name in table["layer"]]
        return Markup("<h3>Layers</h3>{}").format(html_table(table, "layers"))


def _lines(facts: Mapping[str, object]) -> Markup:
    rows = (Markup("<dt>{}</dt><dd>{}</dd>").format(name, value) for name, value in facts.items())
    return Markup("<dl>{}</dl>").format(Markup("").join(rows))


def _missing(names: Iterable[str]) -> Markup:
    names = list(names)
    if not names:
        return Markup("")
    items = [Markup("<li>{}</li>").format(name) for name in names[:NAMED]]
    if len(names) > NAMED:
        items.append(Markup("<li>and {} more</li>").format(len(names) - NAMED))
    heading = Markup("<h3>Missing volumes</h3><p>`actstore capture SPEC` computes them</p>")
    return heading + Markup("<ul>{}</ul>").format(Markup("").join(items))


def _folded(title: str, text: str) -> Markup:
    return Markup("<details><summary>{}</summary><pre>{}</pre></details>").format(title, text)


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
