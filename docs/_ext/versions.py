"""The versions whose pages lie beside those being built, in ``versions.js`` of the folder that holds them all.

Pages of every version load it, so that old ones name new ones too.
"""

from __future__ import annotations

import json
from pathlib import Path

from packaging.version import InvalidVersion, Version
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write_versions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_versions(app: Sphinx, error: Exception | None) -> None:
    """Only for HTML in a folder named by the version."""
    out = Path(app.outdir)
    if error is None and app.builder.name == "html" and out.name == app.config.release:
        names = [page.parent.name for page in out.parent.glob("*/index.html") if is_version(page.parent.name)]
        names.sort(key=Version, reverse=True)
        text = f"window.ACTSTORE_VERSIONS = {json.dumps(names)};\n"
        (out.parent / "versions.js").write_text(text, encoding="utf-8")


def is_version(name: str) -> bool:
    try:
        Version(name)
    except InvalidVersion:
        return False
    return True
