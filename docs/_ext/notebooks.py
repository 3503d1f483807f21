"""Pages of `notebooks/`: the notebook of a page's name, as it lies beside its script, rendered without running it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = "notebooks/"
STYLE = "max-width:100%;height:auto;background:white"


def render(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the notebook's cells before what the page itself says."""
    if not docname.startswith(HERE):
        return
    path = Path(app.srcdir).parent / f"{docname}.ipynb"
    app.env.note_dependency(path)
    source[0] = markdown_of(json.loads(path.read_text(encoding="utf-8"))) + "\n\n" + source[0]


def markdown_of(notebook: dict[str, Any]) -> str:
    """A notebook as MyST: cells of text with links between pages, code, and what it showed."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(linked(text))
        elif text:
            parts += [fenced("python", text), *filter(None, map(shown, cell["outputs"]))]
    return "\n\n".join(parts)


def linked(text: str) -> str:
    """Links to notebooks and to pages lead to pages, from a page in ``notebooks/``."""
    text = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", text)
    return text.replace("](../", "](../../").replace("](../../docs/", "](../")


def fenced(language: str, text: str) -> str:
    """A block of ``text``, however many backticks that has."""
    return f"``````{language}\n{text.rstrip()}\n``````"


def shown(output: dict[str, Any]) -> str:
    """What a cell showed: a picture, a table as HTML, or text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return fenced("{raw} html", f'<p><img alt="" style="{STYLE}" src="data:image/png;base64,{picture}"></p>')
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return fenced("{raw} html", f'<div style="overflow-x:auto">{table}</div>')
    text = "".join(data.get("text/plain", ""))
    return fenced("text", text) if text.strip() else ""


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", render)
    return {"version": "1", "parallel_read_safe": True}
