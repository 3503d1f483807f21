"""Finds commands in shell lines of pages and scripts, and the words of an HTML page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

#: Text before an actstore command on a line: an assignment, a shell word, or a program that runs it elsewhere.
BEFORE = re.compile(
    r"^(?:\w+=\S*|exec|docker compose .*? run --rm capture|kubectl exec \S+ --|\.venv/bin/(?=actstore))\s*",
    re.MULTILINE,
)


def in_shell(script: str) -> Iterator[list[str]]:
    """The project's commands in shell lines, as words."""
    script = re.sub(r"\\\n\s*", " ", script)
    for line in script.splitlines():
        for part in re.split(r"&&|\||;", line):
            command = part.strip()
            while (shorter := BEFORE.sub("", command)) != command:
                command = shorter
            # The script passes its arguments to actstore.
            command = re.sub(r"^sbatch .*capture\.sbatch", "actstore capture", command)
            if re.match(r"(actstore|dask)\s", command):
                yield shlex.split(command.replace('"$@"', "SPEC"), comments=True)


def plain(page: str) -> str:
    """The words of a page, without scripts, styles and tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", page)).split())
