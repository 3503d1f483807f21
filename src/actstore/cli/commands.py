"""The command line: one thin function per command. Exit 0 done, 1 failed with one line on stderr, 2 usage.

Commands that compute are here, those on finished stores in `finished`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actstore.cli import finished, terminal
from actstore.cli.group import Commands
from actstore.cli.options import CLUSTER, DEVICE, ELSEWHERE, PATH, PRECISION, SPEC, WORKERS, show_versions
from actstore.errors import DataError, SpecError
from actstore.units import counted, unit_of

if TYPE_CHECKING:
    from actstore.jobs.filled import Filled
    from actstore.spec.precision import Precision
    from actstore.store.files.base import Location


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_versions, help="Show versions and exit."
)
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
def main(debug: bool) -> None:
    """Record what happens inside a segmentation network when one class of its input is perturbed."""
    if debug:
        import logging

        logging.basicConfig(level=logging.INFO)
        logging.getLogger("actstore").setLevel(logging.DEBUG)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--patients", type=click.IntRange(1), default=4, show_default=True, help="Number of patients to make.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed makes the same images."
)
def phantom(folder: Path, patients: int, seed: int) -> None:
    """Write a synthetic short-axis cardiac data set in the ACDC layout to FOLDER."""
    from actstore.data.phantom import write_phantom

    written = write_phantom(folder, patients=patients, seed=seed)
    terminal.say(f"{counted(len(written), 'patient')} (seed {seed}) in {folder}")


@main.command()
@click.option("--folder", type=PATH, default=Path("actstore-demo"), show_default=True, help="Everything goes there.")
@click.option("--patients", type=click.IntRange(1), default=6, show_default=True, help="Patients of the phantom.")
@click.option("--cluster", default="local", show_default=True, help="Where the capture runs: local or inline.")
@WORKERS
def demo(folder: Path, patients: int, cluster: str, workers: int | None) -> None:
    """Phantom, capture, reduce and report, with nothing to prepare."""
    from actstore.cli.demo import run_demo

    run_demo(folder, patients=patients, cluster=cluster, workers=workers)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--data", type=PATH, default=None, help="Folder of the images, where FOLDER holds a network.")
@click.option(
    "-o", "--output", type=PATH, default=Path("actstore.toml"), show_default=True, help="The spec; none is overwritten."
)
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
    from actstore.cli.results import show_original
    from actstore.jobs.capture import capture as run
    from actstore.spec.spec import load_spec

    loaded = load_spec(spec).with_precision(precision)
    noun = unit_of(loaded.data.format == "images")
    with text.unit_progress(noun) as progress:
        summary = run(
            loaded, store=store, progress=progress, stopping=text.say_stopping, warn=text.show_warning, **where
        )
    text.show_summary(summary, noun)
    show_original(summary.store, doubt=loaded.run.check != "off")
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
@ELSEWHERE
@click.option("--name", "names", multiple=True, help="One of the spec's explanations; repeat for more. By default all.")
@CLUSTER
@WORKERS
@DEVICE
def explain(spec: Path, **where: Any) -> None:
    """Find where in the image classes' scores come from, and what channels answer to; run again to continue."""
    from actstore.jobs.explain import explain as run

    _fill_each(run, spec, **where)


@main.command()
@SPEC
@ELSEWHERE
@click.option(
    "--name", "names", multiple=True, help="One of the spec's interventions; repeat for more. By default all."
)
@CLUSTER
@WORKERS
@DEVICE
def intervene(spec: Path, **where: Any) -> None:
    """Switch channels off or patch them, and count predictions again; run again to continue."""
    from actstore.jobs.intervene import intervene as run

    _fill_each(run, spec, say=terminal.say, **where)


def _fill_each(run: Callable[..., tuple[Filled, ...]], spec: Path, **where: Any) -> None:
    """Run a job that fills a group for each of a spec's tables, by volumes."""
    from actstore.cli import text
    from actstore.spec.spec import load_spec

    loaded = load_spec(spec)
    noun = unit_of(loaded.data.format == "images")
    with text.unit_progress(noun) as progress:
        found = run(loaded, progress=progress, stopping=text.say_stopping, **where)
    for one in found:
        text.show_filled(one, noun)
    if not found[-1].complete:
        sys.exit(1)


for command in (
    finished.status,
    finished.verify,
    finished.reduce,
    finished.table,
    finished.compare,
    finished.report,
    finished.explore,
):
    main.add_command(command)
