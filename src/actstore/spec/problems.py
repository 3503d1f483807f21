"""What is wrong with a spec, in the words of the TOML file that its user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

#: What TOML calls that which pydantic calls otherwise, by the kind of error.
_WORDS: Mapping[str, str] = {
    "model_type": "must be a table, [like.this]",
    "dict_type": "must be a table, [like.this]",
    "tuple_type": "must be a list: [in, brackets], or [[in.two]] for tables",
    "too_short": "must not be empty",
    "string_type": "must be text, in quotes",
    "string_too_short": "must not be empty",
}


def problems(error: ValidationError) -> str:
    """Each offending key once: what a list or table repeats of a fault inside it is left out."""
    errors = error.errors(include_url=False)
    places = [e["loc"] for e in errors]
    inner = [e for e in errors if not any(len(p) > len(e["loc"]) and p[: len(e["loc"])] == e["loc"] for p in places)]
    return "; ".join(_problem(e) for e in inner)


def _problem(error: Any) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".")
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}: take it out or correct its spelling"
    if error["type"] == "missing":
        return f"missing key {where!r}: add it"
    message: str = _WORDS.get(error["type"], error["msg"].removeprefix("Value error, "))
    message = message[:1].lower() + message[1:]
    if not where:
        return message
    if isinstance(error["input"], dict):
        return f"{where}: {message}"
    if "://" in str(error["input"]):
        # A URL may hold a secret; the message says what of it matters.
        return f"{where}: {message}"
    return f"{where} = {error['input']!r}: {message}"
