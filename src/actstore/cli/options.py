"""Arguments and options that several commands take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

from actstore.cli import terminal
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


class Device(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A device by the name that torch knows it by, or ``auto``."""

    name = "device"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "[auto|cpu|cuda|cuda:N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(value)):
            self.fail(f"{str(value)!r} is not one of auto, cpu, cuda, cuda:N", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


def show_versions(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print versions of what computes and reads stores, and end."""
    if not asked or ctx.resilient_parsing:
        return
    from actstore import __version__
    from actstore.cluster.versions import versions
    from actstore.store.schema import OLDEST_SCHEMA, SCHEMA_VERSION

    terminal.say(f"actstore {__version__}, writes stores of schema {SCHEMA_VERSION}, reads {OLDEST_SCHEMA} and newer")
    terminal.say(", ".join(f"{name} {version}" for name, version in versions().items() if name != "actstore"))
    ctx.exit()


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
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=None,
    help="Processes, by default the spec's run.workers, or what fits.",
)
DEVICE = click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    help="Where networks run; auto: a GPU if there is one.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default=None,
    help="Instead of the spec's run.precision; the store records it.",
)
