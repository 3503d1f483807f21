"""Commands on finished stores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actstore.cli import terminal
from actstore.cli.given import given_spec, opened, verified
from actstore.cli.group import Verb
from actstore.cli.options import CLUSTER, DEVICE, LOCATION, PATH, STORE, WORKERS
from actstore.cli.tables import checked_output, written
from actstore.errors import StoreError
from actstore.measures.names import METRICS, MOST, TOP
from actstore.paths import LOOPBACK, PORT, free_port, is_loopback
from actstore.tables.catalogue import COMPARISONS, TABLES
from actstore.units import counted, unit_of

if TYPE_CHECKING:
    from actstore.store.files.base import Location


@click.command(cls=Verb)
@STORE
def status(store: Location) -> None:
    """Volumes there and missing, size, layers, versions and provenance of STORE."""
    from actstore.cli import text

    text.show_status(opened(store))


@click.command(cls=Verb)
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


@click.command(cls=Verb)
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
    noun = unit_of(found.classified)
    with text.unit_progress(noun) as progress:
        done = reduce_store(found, workers=where, progress=progress, stopping=text.say_stopping)
    terminal.say(
        f"statistics of {counted(done, noun)} persisted in {store}" if done else f"{store}: all persisted already"
    )


@click.command(cls=Verb)
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
@click.option("--top", type=click.IntRange(1), help=f"Top channels per layer, by default {TOP}.")
@click.option("--most", type=click.IntRange(1), help=f"Most frequent channels per layer, by default {MOST}.")
@click.option("-o", "--output", type=PATH, default=None, help="A .csv or .parquet file.")
@click.option("--json", "as_json", is_flag=True, help="A list of records on standard output; null for no value.")
def table(store: Location, name: str, output: Path | None, as_json: bool, **options: Any) -> None:
    """Show a table of STORE: rounded on a terminal, in a pipe as CSV, always in UTF-8; or write it to a file.

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
    checked_output(output, as_json=as_json)
    written(build_table(opened(store), name, **options), output, as_json=as_json)


@click.command(cls=Verb)
@click.argument("one", type=LOCATION, metavar="STORE")
@click.argument("other", type=LOCATION, metavar="STORE")
@click.option("--table", "name", type=click.Choice(COMPARISONS), help="A table instead of the page.")
@click.option("-o", "--output", type=PATH, help="An .html file, by default compare.html; of a table .csv or .parquet.")
def compare(one: Location, other: Location, name: str | None, output: Path | None) -> None:
    """Compare two runs on the same samples: a page side by side, or a table of likeness, Dice, accuracy or frequency.

    A table without -o goes to standard output, in a pipe as CSV.
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


@click.command(cls=Verb)
@STORE
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("report.html"),
    show_default=True,
    help="The page; its data lie beside it.",
)
def report(store: Location, output: Path) -> None:
    """Write one self-contained HTML page about STORE."""
    from actstore.views.report.write import write_report

    write_report(opened(store), output, made=terminal.say_made)
    terminal.say(f"report: {output}")


@click.command(cls=Verb)
@STORE
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes any that is free."
)
@click.option("--address", default=LOOPBACK, show_default=True, help="Another lets others in: there is no login.")
@click.option("--origin", multiple=True, metavar="HOST:PORT", help="Another address of the page, as behind a tunnel.")
@click.option("--open/--no-open", "browser", default=True, help="Open the page in this machine's browser.")
def explore(store: Location, port: int, address: str, origin: tuple[str, ...], browser: bool) -> None:
    """Serve a page on which STORE is explored: samples, layers, channels, maps. Ctrl-C ends it."""
    from actstore.store.store import Store

    # What can be refused is, before seconds of imports.
    free_port(address, port)
    Store(store)
    from actstore.views.explorer.server import serve

    def ready(url: str) -> None:
        if not is_loopback(address):
            warning = f"{address} can be reached from other machines, and there is no login: they can look at {store}"
            terminal.say(f"actstore: {warning}", error=True)
        terminal.say(f"{url}   (Ctrl-C ends it)")
        if browser:
            click.launch(url)

    serve(store, port=port, address=address, origins=origin, ready=ready)
