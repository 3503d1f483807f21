"""``error-texts``: what the errors of some rooms say, read from where they are raised, so that no text can go stale."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE = Path(__file__).parents[2] / "src" / "actstore"
#: What stands where a message has a value.
VALUE = "…"
#: Of pydantic's, the text is the second argument.
SECOND = "PydanticCustomError"


class ErrorTexts(SphinxDirective):
    """The messages of the rooms that the arguments name, in the order of the alphabet."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        found: dict[str, str] = {}
        for room in self.arguments[0].split():
            for path in sorted((PACKAGE / room).rglob("*.py")):
                self.env.note_dependency(path)
                for text in messages(ast.parse(path.read_text(encoding="utf-8"))):
                    found.setdefault(text, path.relative_to(PACKAGE.parent).as_posix())
        if not found:
            raise self.error(f"no error is raised in {self.arguments[0]}")
        items = nodes.bullet_list()
        for text, home in sorted(found.items(), key=lambda item: item[0].lstrip(VALUE + " '\"").lower()):
            line = nodes.paragraph("", "", nodes.literal(text, text), nodes.Text(f" ({home})"))
            items += nodes.list_item("", line)
        return [items]


def messages(module: ast.Module) -> Iterator[str]:
    """Texts of errors that a module raises, as far as they stand in the function that raises them."""
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef):
            continue
        named = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                text = tidied(text_of(argument(node.exc), named))
                if re.search(r"[a-z]{3}.*[a-z]{3}", text):
                    yield text


def argument(call: ast.Call) -> ast.expr | None:
    """The argument of an error that is its message."""
    at = 1 if isinstance(call.func, ast.Name) and call.func.id == SECOND else 0
    return call.args[at] if len(call.args) > at else None


def text_of(node: ast.expr | None, named: dict[str, ast.expr]) -> str:
    """What an expression is as text, with :data:`VALUE` for what only running it shows."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value, named) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left, named) + text_of(right, named)
        case ast.Name(id=name) if name in named:
            return text_of(named[name], {other: value for other, value in named.items() if other != name})
        case ast.FormattedValue(value=ast.Name(id=name)) if isinstance(named.get(name), ast.Constant | ast.JoinedStr):
            return text_of(named[name], {})
    return VALUE


def tidied(text: str) -> str:
    """On one line, one mark for values that follow each other."""
    return re.sub(rf"{VALUE}(\s*{VALUE})+", VALUE, " ".join(text.split()))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("error-texts", ErrorTexts)
    return {"version": "1", "parallel_read_safe": True}
