"""Translates validation errors of a spec into TOML's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

#: Messages in TOML's terms, by pydantic's error type.
_WORDS: Mapping[str, str] = {
    "model_type": "must be a table, [like.this]",
    "dict_type": "must be a table, [like.this]",
    "tuple_type": "must be a list: [in, brackets], or [[in.two]] for tables",
    "too_short": "must not be empty",
    "string_type": "must be text, in quotes",
    "string_too_short": "must not be empty",
}


def problems(error: ValidationError) -> str:
    """One message per offending key, without repeats by the list or table around it."""
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
        # A URL may hold a secret, so show only the message.
        return f"{where}: {message}"
    return f"{where} = {error['input']!r}: {message}"
