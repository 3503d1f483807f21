"""Prints the lowest versions in pyproject.toml as constraints for pip: ``name==bound``, one per line.

Covers the dependencies and every extra except those for development. Pip chooses indirect dependencies.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Extras that are not needed at run time.
DEVELOPMENT = ("dev", "docs", "test")


def lowest(pyproject: Path = PYPROJECT) -> dict[str, str]:
    """The lower bound of each distribution that actstore itself names, sorted by name.

    Raises
    ------
    ValueError
        naming a requirement without a lower bound, or one with two different ones.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    requirements = project["dependencies"] + [one for name, some in extras if name not in DEVELOPMENT for one in some]
    bounds: dict[str, str] = {}
    for requirement in requirements:
        if requirement.startswith("actstore["):
            continue
        matched = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", requirement)
        if matched is None:
            raise ValueError(f"{requirement!r} has no lower bound: write it as name>=version")
        name, bound = matched.groups()
        if bounds.setdefault(name, bound) != bound:
            raise ValueError(f"{name} has two lower bounds, {bounds[name]} and {bound}: write one")
    return dict(sorted(bounds.items()))


if __name__ == "__main__":
    print(*(f"{name}=={bound}" for name, bound in lowest().items()), sep="\n")
