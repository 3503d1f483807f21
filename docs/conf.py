"""Sphinx settings. `make docs` builds with every warning an error."""

from __future__ import annotations

import sys
from pathlib import Path

from actstore import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "actstore"
author = "the actstore developers"
project_copyright = "the actstore developers, Apache-2.0"
release = version = __version__
language = "en-GB"

extensions = [
    *("myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"),
    *("from_source", "notebooks", "error_texts", "versions"),
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
# Types of other packages by the names that modules import them under, `Sample` of the views and `BlockFiles`; whole
# names are looked up (see `from_source`).
nitpick_ignore_regex = [("py:class", r"(np|pd|xr|hv)\..*|NDArray|Path|Sample|BlockFiles")]

myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_sidebars = {
    "**": [
        *("sidebar/brand.html", "sidebar/versions.html", "sidebar/search.html"),
        *("sidebar/scroll-start.html", "sidebar/navigation.html", "sidebar/scroll-end.html"),
    ]
}
html_title = f"actstore {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
# Nothing is asked of another server: Furo has no web fonts, and formulas are plain text.
html_theme_options = {"navigation_with_keys": True}

linkcheck_timeout = 20
linkcheck_retries = 2
