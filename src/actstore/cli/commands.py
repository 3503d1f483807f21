"""The command line: one thin function per command. Exit 0 done, 1 failed with one line on stderr, 2 usage."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from actstore import __version__
from actstore.cli import terminal
from actstore.cli.given import given_spec, opened, verified
from actstore.errors import ActstoreError, DataError, SpecError, StoreError, needing, one_line
from actstore.measures.names import METRICS, MOST, TOP
from actstore.paths import LOOPBACK, PORT, given, is_loopback, is_url
from actstore.spec.precision import Precision
from actstore.tables.catalogue import COMPARISONS, TABLES
from actstore.units import counted

if TYPE_CHECKING:
    import pandas as pd

    from actstore.store.files.base import Location


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


class Verb(click.Command):
    """A command that names the extra to install if a required library is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        with needing(str(self.name)):
            return super().invoke(ctx)


class Commands(click.Group):
    """Turns every failure into one line, unless ``--debug``."""

    command_class = Verb

    def main(self, *args: Any, **kwargs: Any) -> Any:
        terminal.prepare()
        sys.exit(terminal.finish(self._status(*args, **kwargs)))

    def _status(self, *args: Any, **kwargs: Any) -> int:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.Exit as error:
            code = error.exit_code
        except SystemExit as error:
            code = error.code
        except click.UsageError as error:
            error.show()
            code = 2
        except click.Abort:
            terminal.say("interrupted: run the same command again to continue", error=True)
            code = 1
        except click.ClickException as error:
            error.show()
            code = 1
        except Exception as error:
            if isinstance(error, BrokenPipeError) and terminal.reader_left():
                return 1
            if "--debug" in (kwargs.get("args") or sys.argv):
                raise
            hint = "" if isinstance(error, ActstoreError | OSError) else " (actstore --debug … shows where)"
            terminal.say(f"actstore: {one_line(error)}{hint}", error=True)
            code = 1
        return code if isinstance(code, int) else 0


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="actstore")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
def main(debug: bool) -> None:
    """Record what happens inside a segmentation network when one class of its input is perturbed."""
    if debug:
        import logging

        logging.basicConfig(level=logging.INFO)
        logging.getLogger("actstore").setLevel(logging.DEBUG)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--patients", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def phantom(folder: Path, patients: int, seed: int) -> None:
    """Write a synthetic short-axis cardiac data set in the ACDC layout to FOLDER."""
    from actstore.data.phantom import write_phantom

    written = write_phantom(folder, patients=patients, seed=seed)
    terminal.say(f"{counted(len(written), 'patient')} (seed {seed}) in {folder}")


@main.command()
@click.option("--folder", type=PATH, default=Path("actstore-demo"), show_default=True)
@click.option("--patients", type=click.IntRange(1), default=6, show_default=True)
@click.option("--cluster", default="local", show_default=True)
@WORKERS
def demo(folder: Path, patients: int, cluster: str, workers: int | None) -> None:
    """Phantom, capture, reduce and report, with nothing to prepare."""
    from actstore.cli.demo import run_demo

    run_demo(folder, patients=patients, cluster=cluster, workers=workers)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--data", type=PATH, default=None, help="Folder of the images, where FOLDER holds a network.")
@click.option("-o", "--output", type=PATH, default=Path("actstore.toml"), show_default=True)
def init(folder: Path, data: Path | None, output: Path) -> None:
    """Write a spec for FOLDER: a result folder of nnU-Net, a MONAI bundle, or a folder of images."""
    from actstore.cli import text
    from actstore.cli.drafts import write_draft

    text.say(write_draft(folder, data, output))


@main.command()
@SPEC
def layers(spec: Path) -> None:
    """Show the module tree of SPEC's network and what its layer patterns match."""
    from actstore.cli import text
    from actstore.inputs.adapters import pipeline_of
    from actstore.jobs.plan.data import find
    from actstore.jobs.plan.network import check_repeatable, inspect_model
    from actstore.spec.spec import load_spec

    loaded = load_spec(spec)
    with suppress(DataError):
        # Without its data set, a network can still be shown.
        loaded, _ = find(loaded)
    pipeline = pipeline_of(loaded)
    seen = inspect_model(loaded, pipeline)
    text.show_modules(seen.probe, loaded.store.dtype, len(loaded.conditions))
    check_repeatable(loaded, pipeline, seen)


@main.command()
@SPEC
@ELSEWHERE
@WORKERS
@DEVICE
@PRECISION
def plan(spec: Path, store: Location | None, workers: int | None, device: str, precision: Precision | None) -> None:
    """Say what a capture of SPEC will cost; refuse what cannot fit."""
    from actstore.cli import text
    from actstore.jobs.plan.plan import check_resources, make_plan
    from actstore.spec.spec import load_spec

    made = make_plan(load_spec(spec).with_precision(precision), store=store, workers=workers, device=device)
    text.show_plan(made)
    check_resources(made, made.bytes)


@main.command()
@SPEC
@ELSEWHERE
@CLUSTER
@WORKERS
@DEVICE
@PRECISION
def capture(spec: Path, store: Location | None, precision: Precision | None, **where: Any) -> None:
    """Perturb, infer, record and store; run again to continue."""
    from actstore.cli import text
    from actstore.jobs.capture import capture as run
    from actstore.spec.spec import load_spec

    loaded = load_spec(spec).with_precision(precision)
    with text.unit_progress("block") as progress:
        summary = run(
            loaded, store=store, progress=progress, stopping=text.say_stopping, warn=text.show_warning, **where
        )
    text.show_summary(summary)
    if not summary.complete:
        sys.exit(1)


@main.command()
@SPEC
@ELSEWHERE
@click.option("--name", default="optima", show_default=True, help="The images go into the group features/NAME.")
@click.option(
    "--layers", multiple=True, help="A layer pattern instead of the spec's visualise.layers; repeat for more."
)
@CLUSTER
@WORKERS
@DEVICE
def visualise(spec: Path, store: Location | None, layers: tuple[str, ...], **where: Any) -> None:
    """Find what each channel responds to most: images that maximise it; run again to continue."""
    from actstore.cli import text
    from actstore.jobs.visualise import visualise as run
    from actstore.spec.spec import load_spec

    loaded = load_spec(spec)
    if layers:
        if loaded.visualise.objective == "class":
            raise SpecError('--layers: visualise.objective = "class" is of the network\'s output: take --layers out')
        loaded = loaded.model_copy(update={"visualise": loaded.visualise.model_copy(update={"layers": layers})})
    with text.unit_progress() as progress:
        found = run(loaded, store=store, progress=progress, stopping=text.say_stopping, **where)
    text.show_filled(found, "unit")
    if not found.complete:
        sys.exit(1)


@main.command()
@SPEC
@click.option("--store", type=LOCATION, default=None, help="Instead of the spec's store.path.")
@click.option("--name", "names", multiple=True, help="One of the spec's explanations; repeat for more. By default all.")
@CLUSTER
@WORKERS
@DEVICE
def explain(spec: Path, store: Location | None, names: tuple[str, ...], **where: Any) -> None:
    """Find where in the image classes' scores come from, and what channels answer to; run again to continue."""
    from actstore.cli import text
    from actstore.jobs.explain import explain as run
    from actstore.spec.spec import load_spec

    loaded = load_spec(spec)
    with text.unit_progress("block") as progress:
        found = run(loaded, names=names, store=store, progress=progress, stopping=text.say_stopping, **where)
    for one in found:
        text.show_filled(one, "block")
    if not found[-1].complete:
        sys.exit(1)


@main.command()
@STORE
def status(store: Location) -> None:
    """Committed and missing blocks, size, layers and provenance of STORE."""
    from actstore.cli import text

    text.show_status(opened(store))


@main.command()
@STORE
@click.option("--repair", is_flag=True, help="Repair what is found: compute damaged and missing volumes again.")
@click.option("--spec", type=PATH, default=None, help="Another spec, if data or weights were moved; its [cluster].")
@CLUSTER
@WORKERS
@DEVICE
def verify(store: Location, repair: bool, spec: Path | None, **where: Any) -> None:
    """Check every file and checksum of STORE; exit 1 if anything is missing or damaged."""
    from actstore.cli import text

    loaded = given_spec(spec)
    found = verified(store)
    if found.whole or not repair:
        text.show_verification(found)
        sys.exit(0 if found.whole else 1)
    from actstore.jobs.repair import repair as mend

    text.show_damage(found)
    with text.unit_progress() as progress:
        mend(store, found.damage, spec=loaded, progress=progress, stopping=text.say_stopping, **where)
    again = verified(store)
    text.show_verification(again)
    sys.exit(0 if again.whole else 1)


@main.command()
@STORE
@click.option("--spec", type=PATH, default=None, help="A spec whose [cluster] says where; STORE does not hold it.")
@click.option("--cluster", default=None, help="As for capture; without --spec by default in this process.")
@WORKERS
def reduce(store: Location, spec: Path | None, cluster: str | None, workers: int | None) -> None:
    """Persist per-channel statistics of STORE, so that tables come back at once."""
    from actstore.cli import text
    from actstore.jobs.reduce import reduce_store, workers_of

    found = opened(store)
    where = workers_of(found, cluster, workers, given_spec(spec))
    with text.unit_progress("block") as progress:
        done = reduce_store(found, workers=where, progress=progress, stopping=text.say_stopping)
    terminal.say(
        f"statistics of {counted(done, 'block')} persisted in {store}" if done else f"{store}: all persisted already"
    )


@main.command()
@STORE
@click.argument("name", type=click.Choice(TABLES), metavar="NAME")
@click.option("--by", multiple=True, help="Group a frequency or a curve by case, patient or another coordinate.")
@click.option("--per", type=click.Choice(["slice", "volume", "patient"]), help="Row unit of segmentation or surface.")
@click.option("--over", type=click.Choice(["present", "all"]), help="Slices that a mean Dice includes.")
@click.option(
    "--of", metavar="NAME", help="Name of the optima, where STORE holds several, of one explanation or intervention."
)
@click.option("--metric", type=click.Choice(tuple(METRICS)), help="Metric that ranks channels, by default MAD.")
@click.option("--layer", metavar="LAYER", help="One layer of neighbours (or pixels) or projection, by default each.")
@click.option("--nearest", type=click.IntRange(1), help="Neighbours of each sample, by default 5.")
@click.option("--method", type=click.Choice(["pca", "tsne"]), help="Kind of projection, by default pca.")
@click.option("--perplexity", type=click.FloatRange(0, min_open=True), help="Of t-SNE, by default 30.")
@click.option("--top", type=click.IntRange(1), default=TOP, show_default=True, help="Top channels per layer.")
@click.option(
    "--most",
    type=click.IntRange(1),
    default=MOST,
    show_default=True,
    help="Number of most frequent channels per layer.",
)
@click.option("-o", "--output", type=PATH, default=None, help="A .csv or .parquet file.")
def table(store: Location, name: str, output: Path | None, **options: Any) -> None:
    """Write a table of STORE as CSV or Parquet; CSV to standard output without -o, always in UTF-8.

    \b
    NAME is one of
      segmentation   dice, segmentation, surface, dice-mean, cases
      classification accuracy
      curves         confusion, curves, roc, precision-recall, calibration
      channels       mad, top-channels, frequency, layers, relative, comparison, general-specific, regions,
                     optima
      likeness       similarity, neighbours, projection
      explanations   landmarks, deletion, randomisation
      interventions  effects, rankings, agreement, cumulative, areas
      certainty      certainty, stability, sensitivity, heterogeneity, leave-one-out
      comparison     controls, rescaling, noise, association
      dose-response  dose, dose-half, dose-channels, dose-cases
    """
    from actstore.tables.build import build_table
    from actstore.tables.catalogue import check_options

    try:
        check_options(name, **options)
    except StoreError as error:
        raise click.UsageError(str(error)) from error
    checked_output(output)
    written(build_table(opened(store), name, **options), output)


@main.command()
@click.argument("one", type=LOCATION, metavar="STORE")
@click.argument("other", type=LOCATION, metavar="STORE")
@click.option("--table", "name", type=click.Choice(COMPARISONS), help="A table instead of the page.")
@click.option("-o", "--output", type=PATH, help="An .html file, by default compare.html; of a table .csv or .parquet.")
def compare(one: Location, other: Location, name: str | None, output: Path | None) -> None:
    """Compare two runs on the same samples: a page side by side, or a table of likeness, Dice, accuracy or frequency.

    A table without -o goes to standard output as CSV.
    """
    if name is not None:
        checked_output(output)
    elif output is not None and output.suffix not in (".html", ".htm"):
        raise click.UsageError(f"{output} ends in {output.suffix!r}: name an .html file, or choose a --table")
    from actstore.tables.compare import Comparison

    found = Comparison(opened(one), opened(other))
    if name is None:
        from actstore.views.report.compare import write_comparison

        output = write_comparison(found, output or Path("compare.html"))
        terminal.say(f"comparison: {output}")
        return
    written(found.table(name), output)


def checked_output(output: Path | None) -> None:
    """Refuse a file that no table can be written to, before computing one."""
    from actstore.tables.build import require_parquet

    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise click.UsageError(f"{output} ends in {output.suffix!r}: name a .csv or .parquet file")
    if output is not None and output.suffix == ".parquet":
        require_parquet()


def written(made: pd.DataFrame, output: Path | None) -> None:
    """Write a table to a file, or to standard output."""
    from actstore.tables.build import write_table

    write_table(made, output if output is not None else terminal.binary_output())
    if output is not None:
        terminal.say(f"{counted(len(made), 'row')}: {output}")


@main.command()
@STORE
@click.option("-o", "--output", type=PATH, default=Path("report.html"), show_default=True)
def report(store: Location, output: Path) -> None:
    """Write one self-contained HTML page about STORE."""
    from actstore.views.report.write import write_report

    write_report(opened(store), output)
    terminal.say(f"report: {output}")


@main.command()
@STORE
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes any that is free."
)
@click.option("--address", default=LOOPBACK, show_default=True, help="Another lets others in: there is no login.")
@click.option("--origin", multiple=True, metavar="HOST:PORT", help="Another address of the page, as behind a tunnel.")
@click.option("--open/--no-open", "browser", default=True, help="Open the page in this machine's browser.")
def explore(store: Location, port: int, address: str, origin: tuple[str, ...], browser: bool) -> None:
    """Serve a page on which STORE is explored: samples, layers, channels, maps. Ctrl-C ends it."""
    from actstore.views.explorer.server import serve

    def ready(url: str) -> None:
        if not is_loopback(address):
            warning = f"{address} can be reached from other machines, and there is no login: they can look at {store}"
            terminal.say(f"actstore: {warning}", error=True)
        terminal.say(f"{url}   (Ctrl-C ends it)")
        if browser:
            click.launch(url)

    serve(store, port=port, address=address, origins=origin, ready=ready)
