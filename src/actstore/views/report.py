"""One self-contained HTML page about a store."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from actstore.errors import StoreError
from actstore.summaries import case_summary, dice_summary, frequency_summary, original_dice
from actstore.units import human_bytes
from actstore.views.figures import frequency_map, save_png

if TYPE_CHECKING:
    from actstore.store import Store


def write_report(store: Store, output: Path) -> Path:
    """Write summary, Dice, kinds of failure, channel frequencies and provenance of ``store`` to ``output``.

    The page holds its style and figures itself and asks nothing of any network.

    Raises
    ------
    StoreError
        if the store has no committed block, or ``output`` cannot be written.
    """
    if not store.parts:
        raise StoreError(f"{store.path} has no committed block yet: `actstore capture SPEC` computes them")
    environment = Environment(loader=PackageLoader("actstore.views"), autoescape=select_autoescape())
    layers = store.layers.reset_index()
    layers["size"] = ["×".join(map(str, size)) for size in layers["size"]]
    layers["bytes"] = [human_bytes(n) for n in layers["bytes"]]
    page = environment.get_template("report.html.j2").render(
        store=store,
        patients=store.samples["patient"].nunique(),
        size=human_bytes(store.nbytes),
        original=_table(original_dice(store)),
        dice=_table(dice_summary(store)),
        cases=_table(case_summary(store)),
        frequency=_table(frequency_summary(store)),
        layers=_table(layers),
        figure=_embedded(store),
        fingerprint=store.attributes["fingerprint"],
        versions=store.attributes["versions"],
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}; choose another -o") from error
    return output


def _table(frame: pd.DataFrame) -> Markup:
    return Markup(frame.to_html(index=False, border=0, float_format=lambda x: f"{x:.3f}", na_rep="–"))


def _embedded(store: Store) -> str:
    with tempfile.TemporaryDirectory() as folder:
        png = save_png(frequency_map(store), Path(folder) / "frequency.png")
        return base64.b64encode(png.read_bytes()).decode()
