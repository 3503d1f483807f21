"""What the reference takes from the code: ``command-line``, ``spec-table`` for a table of a spec, and docstrings."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from typing import Any

import click
from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

#: Of a page's code blocks, in characters.
WIDTH = 84


class CommandLine(SphinxDirective):
    """The help of every command of ``module:group``, a section each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].partition(":")
        group: click.Group = getattr(import_module(module), name)
        program = module.partition(".")[0]
        sections = [literal(help_of(group, program))]
        for command in group.commands.values():
            title = f"{program} {command.name}"
            section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
            section += nodes.title(title, "", nodes.literal(title, title))
            section += literal(help_of(command, title))
            sections.append(section)
        return sections


def help_of(command: click.Command, name: str) -> str:
    """What ``--help`` says, without what it says of itself."""
    # As the command line has them: a command remembers those of its first context.
    names = ["-h", "--help"]
    context = click.Context(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=names
    )
    said = re.sub(r"\n +-h, --help +Show this message and exit\.", "", command.get_help(context))
    return said.strip().removesuffix("Options:").strip()


def literal(text: str) -> nodes.Node:
    return nodes.literal_block(text, text, language="text")


class SpecTable(SphinxDirective):
    """Keys, values, defaults and meaning of ``module:Model``, from its fields and their ``#:`` comments."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].partition(":")
        model: type[BaseModel] = getattr(import_module(module), name)
        comments = ModuleAnalyzer.for_module(module).find_attr_docs()
        rows = ["| key | value | default | |", "|---|---|---|---|"]
        schema = model.model_json_schema()
        for key, field in model.model_fields.items():
            if field.exclude and key == "folder":
                continue
            meaning = " ".join(comments.get((name, key), [])).strip().replace("``", "`")
            value = shown(schema["properties"][key], schema.get("$defs", {}))
            rows.append(" | ".join(("| `" + key + "`", value, default_of(field), meaning.replace("|", "\\|"))) + " |")
        intro = inspect.getdoc(model) or ""
        return self.parse_text_to_nodes("\n".join([intro.replace("``", "`"), "", *rows]))


def default_of(field: Any) -> str:
    """The default as TOML would write it."""
    if field.is_required():
        return "*required*"
    value = field.default
    if value is None:
        return "–"
    if isinstance(value, BaseModel):
        return "its own"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def shown(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        found = known[schema["$ref"].rpartition("/")[2]]
        return "table" if found.get("type") == "object" else shown(found, known)
    if "anyOf" in schema:
        parts = [shown(part, known) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {plural(shown(schema.get('items', {}), known))}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"table of {plural(shown(inner, known))}" if isinstance(inner, dict) else "table"
    name = {"string": "path" if schema.get("format") == "path" else "text", "boolean": "true or false"}.get(kind, kind)
    for bound, sign in (("exclusiveMinimum", ">"), ("minimum", "≥")):
        if bound in schema:
            name += f" {sign} {schema[bound]:g}"
    return name


def plural(name: str) -> str:
    """Only the kinds of value that lists hold: a text, a path, a number."""
    kind, _, bound = name.partition(" ")
    return f"{kind}s {bound}".strip() if kind in ("text", "path", "number", "integer") else name


#: Docstrings of properties and attributes as they are in the code, by name.
_PLAIN: dict[str, list[str]] = {}


def keep_plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Napoleon reads all before a colon in a property's docstring as its type; ours are sentences."""
    if what in ("attribute", "data", "property") and not any(line.startswith("---") for line in lines):
        _PLAIN[name] = list(lines)


def restore_plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = [escape_bars(line) for line in _PLAIN.pop(name, lines)]


def escape_bars(line: str) -> str:
    """Bars are sizes of sets and absolute values in our docstrings, never reST's substitutions."""
    parts = re.split(r"(``.*?``)", line)
    return "".join(part if part.startswith("``") else re.sub(r"(?<!\\)\|", r"\|", part) for part in parts)


def without_link(app: Sphinx, env: object, node: nodes.Element, contnode: nodes.Element) -> nodes.Element | None:
    """Plain text for a name that exists in the code and has no page here: a helper of ours, or another package's.

    Links to other packages would need their inventories from the network. A name that is nowhere stays a warning.
    """
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    docstring = re.search(r"docstring of ([\w.]+)", get_node_source(node) or "")
    homes = [docstring[1].rpartition(".")[0] if docstring else None, node.get("py:module")]
    names = [target, *(f"{home}.{target}" for home in homes if home)]
    return contnode if any(map(exists, names)) else None


def get_node_source(node: nodes.Node | None) -> str | None:
    """Where the nearest enclosing node that knows it comes from."""
    while node is not None and not getattr(node, "source", None):
        node = node.parent
    return getattr(node, "source", None)


def exists(name: str) -> bool:
    """Whether a dotted name can be imported."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:size]))
        except (ImportError, ValueError):
            continue
        for part in parts[size:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", without_link)
    # Napoleon runs at 500.
    app.connect("autodoc-process-docstring", keep_plain, priority=400)
    app.connect("autodoc-process-docstring", restore_plain, priority=600)
    app.add_directive("command-line", CommandLine)
    app.add_directive("spec-table", SpecTable)
    return {"version": "1", "parallel_read_safe": True}
