"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from actstore.paths import given, is_url
from actstore.spec.precision import Precision


class GivenPath(click.Path):
    """A path whose leading ``~`` is the home folder; with ``url``, leaves a URL unchanged."""

    name = "path"

    def __init__(self, *, url: bool = False) -> None:
        super().__init__(path_type=Path)
        self.url = url

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if self.url and is_url(value) else given(value)


PATH = GivenPath()
LOCATION = GivenPath(url=True)
SPEC = click.argument("spec", type=PATH)
STORE = click.argument("store", type=LOCATION)
ELSEWHERE = click.option("--store", type=LOCATION, default=None, help="Instead of the spec's store.path.")
CLUSTER = click.option(
    "--cluster",
    default=None,
    help="inline, local, cuda, slurm, kubernetes, tcp://HOST:PORT, tls://HOST:PORT or a scheduler's JSON file; "
    "by default the spec's cluster.kind, itself local by default.",
)
WORKERS = click.option("--workers", type=click.IntRange(1), default=None)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
PRECISION = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default=None,
    help="Instead of the spec's run.precision; the store records it.",
)
