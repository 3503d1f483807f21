"""Text output of the command line: tables, progress and summaries."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from actstore.cli import progress
from actstore.cli.terminal import held
from actstore.conditions import ONE_CHANNEL
from actstore.store.attributes import trained_of, unrepeatable, window_of
from actstore.tables.unchanged import nowhere, of_store
from actstore.units import counted, human_bytes, human_seconds, listed, unit_of

if TYPE_CHECKING:
    from actstore.jobs.capture import Summary
    from actstore.jobs.filled import Filled
    from actstore.jobs.job import Report
    from actstore.jobs.plan.plan import Plan
    from actstore.networks.recording import Probe
    from actstore.store.schema import StoreLayout
    from actstore.store.store import Store
    from actstore.store.verify import Verification

#: Width of output that is not a terminal, so that lines are not cut to 80 columns.
PIPED_WIDTH = 200
console = Console(highlight=False, markup=False, width=None if sys.stdout and sys.stdout.isatty() else PIPED_WIDTH)
errors = Console(stderr=True, highlight=False, markup=False)


def unit_progress(noun: str = "unit") -> AbstractContextManager[progress.Shown]:
    """Progress on standard error; ``noun`` says what is counted."""
    return progress.unit_progress(errors, noun)


def say_stopping() -> None:
    errors.print("stopping: what is in flight is finished and committed; Ctrl-C again stops now", soft_wrap=True)


def say(message: str) -> None:
    """Print a line on standard output."""
    console.print(message, soft_wrap=True)


def show_frame(frame: pd.DataFrame, title: str) -> None:
    """Show a data frame as a table without its index."""
    say(f"\n{title}")
    table = Table()
    for name in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(held(str(name)), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else held(str(value))


def show_modules(found: Probe, dtype: str, conditions: int) -> None:
    """Show the module tree with matches, shapes and bytes."""
    by_module: dict[str, list[str]] = {}
    moved = {}
    for layer in found.layers:
        by_module.setdefault(layer.module, []).append(layer.name)
        if layer.channels_last:
            moved[layer.module] = f"{'x'.join(map(str, (layer.channels, *layer.space)))}, channels last"
    itemsize = 2 if dtype == "float16" else 4
    rows = []
    for row in found.modules:
        size = math.prod(row.shape) * itemsize if row.shape else 0
        rows.append(
            {
                "layer": " ".join(by_module.get(row.module, [])) or ("never runs" if row.matched else ""),
                "module": row.module,
                "type": row.type,
                "calls": row.calls,
                "output": moved.get(row.module) or ("x".join(map(str, row.shape)) if row.shape else ""),
                "bytes": human_bytes(size) if row.module in by_module else "",
            }
        )
    show_frame(
        pd.DataFrame(rows), f"{counted(len(found.layers), 'layer')} recorded of {counted(len(found.modules), 'module')}"
    )
    total = sum(layer.channels * math.prod(layer.space) for layer in found.layers) * itemsize
    console.print(f"{human_bytes(total)} a sample and condition, {human_bytes(total * conditions)} with all conditions")


def show_plan(plan: Plan) -> None:
    layout = plan.layout
    lines = {
        **(_of_images(plan) if layout.classified else _of_volumes(plan)),
        "conditions": f"{layout.conditions}: {', '.join(c.name for c in plan.spec.conditions)}",
        **({} if plan.spec.trained is None else {"network": plan.spec.trained.description}),
        **({} if layout.classified and plan.spec.sliced else {"axes": _axes(plan.spec.axes, plan.spec.sliced)}),
        **({"channels": ", ".join(layout.input_channels)} if plan.spec.input_channels != ONE_CHANNEL else {}),
        "normalised": _normalised(plan.identity),
        **_outputs(plan),
        "layers": f"{_layers(layout, plan.identity)}",
        "bytes": f"{human_bytes(plan.bytes)} in {counted(plan.objects, 'object')} at {plan.store}",
        "workers": f"{plan.workers} on {plan.device}, {counted(plan.threads, 'thread')} and "
        f"{counted(plan.writers, 'writer')} each, {counted(plan.batch_size, 'input')} a pass, "
        f"{plan.spec.run.precision}",
        "memory": f"{human_bytes(plan.worker_memory)} a worker at its peak",
        "time": f"about {human_seconds(plan.seconds)} once the workers are up, which takes some 10 s",
        **{f"explain {one.name}": one.text(plan.pass_seconds) for one in plan.explanations},
        **{f"intervene {one.name}": one.text(plan.pass_seconds) for one in plan.interventions},
        **_unrepeatable(plan.repeatable.as_json()),
        **({"check": plan.check.text()} if plan.check else {}),
        "fingerprint": plan.fingerprint.run[:16],
    }
    _show_lines(lines | _beside(plan.discovery.as_json()))
    _show_caveats(plan.caveats)
    if plan.check and (warning := plan.check.warning()):
        show_warning(warning)
    for name, why in plan.unreadable:
        errors.print(f"will fail: {name}: {why}", style="red", soft_wrap=True)


def _of_volumes(plan: Plan) -> dict[str, str]:
    patients = len({block.file.key.patient for block in plan.blocks})
    every = plan.discovery.patients if plan.spec.data.patients else None
    return {
        "volumes": f"{counted(len(plan.blocks), 'volume')}, {counted(plan.samples, 'sample')}, "
        f"at most {plan.layout.slots} each",
        "patients": f"{patients}" if every is None else f"{patients} of {every}, by data.patients",
    }


def _of_images(plan: Plan) -> dict[str, str]:
    """How many images there are of each class, and whether their patients are known."""
    pictures = [picture for block in plan.blocks for picture in getattr(block.file, "pictures", ())]
    each = Counter(plan.spec.class_names[picture.label] for picture in pictures)
    patients = {picture.patient for picture in pictures} - {""}
    unknown = sum(not picture.patient for picture in pictures)
    known = "unknown: each image counts as a patient" if not patients else f"{len(patients)}"
    if patients and unknown:
        known += f" and {counted(unknown, 'image')} of unknown ones, each counted as one"
    split = plan.spec.data.split
    which = f" of the split {split.use!r}" if split is not None and split.use != "all" else ""
    return {
        "groups": f"{counted(len(plan.blocks), 'group')}, {counted(len(pictures), 'image')}{which}, "
        f"at most {plan.layout.slots} each",
        "classes": ", ".join(f"{name} {each[name]}" for name in plan.spec.class_names),
        "patients": f"{known}, of {plan.discovery.patients} in all" if which else known,
    }


def _outputs(plan: Plan) -> dict[str, str]:
    """A line about how outputs become classes, unless it is the largest logit of the only output."""
    return {} if plan.head.is_plain else {"outputs": plan.head.described_for(plan.spec.labels)}


def _beside(discovery: Mapping[str, Any]) -> dict[str, str]:
    """Lines about left-out and missing parts of a data set; empty if there are none."""
    lines = {}
    for name in ("left out", "lacking"):
        found = discovery.get(name.replace(" ", "_"), {"count": 0})
        if found["count"]:
            lines[name] = f"{found['count']}: {listed(found['first'], found['count'])}"
    return lines


def _show_caveats(caveats: Iterable[tuple[str, str]]) -> None:
    for volumes, what in caveats:
        errors.print(f"taken with care: {volumes}: {what}", style="yellow", soft_wrap=True)


def show_warning(message: str) -> None:
    errors.print(f"warning: {message}", style="yellow", soft_wrap=True)


def _unrepeatable(found: Mapping[str, Any] | None) -> dict[str, str]:
    """A line about a network that is not a function of its input alone, if the spec allows that."""
    words = unrepeatable(found) if found else ""  # None in older stores.
    return {"network": f"not a function of its input alone, as the spec allows: {words}"} if words else {}


def _normalised(identity: Mapping[str, Any]) -> str:
    """The method of normalisation, and the image that defines origin and scale."""
    if trained := trained_of(identity):
        return f"as {trained} does it, each condition by itself"
    method = identity["preprocess"]["normalize"]
    whose = {"perturbed": "each condition by itself", "original": "every condition as its original"}
    return method if method == "none" else f"{method}, {whose[window_of(identity)]}"


def _axes(axes: str, sliced: bool) -> str:
    """What the network sees of a file's axes."""
    if sliced:
        return f"{axes}: slices ({'j, i' if axes == 'simpleitk' else 'i, j'}) along k"
    return f"{axes}: volumes ({'k, j, i' if axes == 'simpleitk' else 'i, j, k'})"


def _layers(layout: StoreLayout, identity: Mapping[str, Any]) -> str:
    parts = [str(len(layout.layers)), layout.dtype]
    if not layout.keeps_all:
        parts.append(f"tensors kept of {sum(layer.kept for layer in layout.layers) or 'none'}")
    if bits := identity.get("mantissa_bits"):
        parts.append(f"{counted(bits, 'bit')} of mantissa")
    return ", ".join(parts)


def _samples(store: Store) -> str:
    """How many, and where a sample is a patch, of how many slices or volumes."""
    count = str(len(store.samples))
    if not store.patched:
        return count
    whole = "slice" if len(store.layout.space) == 2 else "volume"
    names = ["patient", "frame", *(["slice"] if whole == "slice" else [])]
    each = store.samples.groupby(names, sort=False).size()
    most = int(each.max()) if len(each) else 0
    return f"{count}, the patches of {counted(len(each), whole)}, at most {most} each"


def _input_channels(names: Sequence[str]) -> dict[str, str]:
    """A line about the channels of the input, where there are several."""
    return {"input": f"{len(names)} channels: {', '.join(names)}"} if len(names) > 1 else {}


def _job(store: Store, name: str) -> str:
    done = store.group_committed(name)
    return f"{name}: {int(done.sum())} of {counted(len(done), 'unit')}"


def show_status(store: Store) -> None:
    layout, attributes = store.layout, store.attributes
    missing = store.missing
    lines = {
        "store": str(store.path),
        f"{unit_of(layout.classified)}s": f"{len(store.block_samples)} committed, {len(missing)} missing, "
        f"{layout.blocks} in all",
        "samples": _samples(store),
        **_input_channels(layout.input_channels),
        "conditions": ", ".join(store.conditions.index),
        "normalised": _normalised(attributes["identity"]),
        "layers": f"{_layers(layout, attributes['identity'])}, {human_bytes(store.nbytes)}",
        **_unrepeatable(attributes.get("repeatable")),
        "precision": attributes["identity"].get("precision", "float32"),
        "statistics": "persisted"
        if store.reduced and store.block_samples
        else "not persisted: `actstore reduce` does it",
        **({"jobs": "; ".join(_job(store, name) for name in store.groups)} if store.groups else {}),
        "fingerprint": attributes["fingerprint"]["run"][:16],
        "weights": f"sha256 {attributes['fingerprint']['weights'][:16]}",
        "schema": str(layout.version),
        "versions": ", ".join(f"{k} {v}" for k, v in attributes["versions"].items()),
    }
    _show_lines(lines | _beside(attributes.get("discovery", {})))
    _show_caveats(attributes.get("caveats", []))
    for name in missing:
        say(f"missing: {name}")
    if attributes.get("applies", "present") == "present":
        say("applicable: wherever the class is, as an older version had it, also where a condition changed nothing")
    for found in of_store(store):
        say(f"unchanged: {found}")
    for name, why in nowhere(store):
        say(f"nowhere: {name} applies to no sample: {why}")
    table = store.layers.reset_index()
    table["size"] = ["x".join(map(str, size)) for size in table["size"]]
    table["bytes"] = [human_bytes(n) for n in table["bytes"]]
    show_frame(table, "layers")


#: Number of damaged files to list one by one.
LISTED = 100


def show_damage(found: Verification) -> None:
    for damage in found.damage[:LISTED]:
        say(str(damage))
    if len(found.damage) > LISTED:
        say(f"… and {counted(len(found.damage) - LISTED, 'more file')}")


def show_verification(found: Verification) -> None:
    """Show damage, then how much was checked; print how to repair it on standard error."""
    show_damage(found)
    rate = human_bytes(round(found.bytes / max(found.seconds, 1e-9)))
    say(
        f"{found.committed} of {counted(found.blocks, 'volume')} committed, {counted(found.files, 'file')}, "
        f"{human_bytes(found.bytes)} checked in {human_seconds(found.seconds)} ({rate}/s): "
        + ("whole" if found.whole else f"{counted(len(found.damage), 'file')} missing or damaged")
    )
    if not found.whole:
        errors.print("not whole: `actstore verify STORE --repair` mends exactly that", style="red", soft_wrap=True)


def show_summary(summary: Summary, noun: str = "volume") -> None:
    """Show what a capture did; ``noun`` says what it counts."""
    written = (
        f"nothing: every {noun} is there" if not summary.done and not summary.failed else human_bytes(summary.bytes)
    )
    _show_lines(
        {
            f"{noun}s": f"{summary.done} done, {summary.skipped} skipped, {len(summary.failed)} failed",
            "inferred": f"{counted(summary.inferred, 'input')} of {counted(summary.samples, 'sample')} "
            f"in {counted(summary.forward_passes, 'forward pass', 'forward passes')}",
            "written": f"{written}, {human_seconds(summary.seconds)} with start-up",
            "store": str(summary.store),
        }
    )
    _show_caveats(summary.caveats)
    _show_failed(summary.failed)
    _show_counts(summary, noun, "unchanged", summary.unchanged, f"`actstore status {summary.store}` counts all")
    _show_counts(summary, noun, "rescaled", summary.rescaled, f"`actstore table {summary.store} rescaling` lists all")
    _show_left(summary.left, noun)


def show_filled(found: Filled, noun: str) -> None:
    """Show how many units of a job were computed, and what failed."""
    _show_lines(
        {
            f"{noun}s": f"{found.done} done, {found.skipped} skipped, {len(found.failed)} failed",
            "group": found.group,
            "store": str(found.store),
        }
    )
    _show_failed(found.failed)
    _show_left(found.left, noun)


def _show_failed(reports: Iterable[Report]) -> None:
    for report in reports:
        tried = f" (tried {report.attempts} times)" if report.attempts > 1 else ""
        errors.print(f"failed: {report.name}: {report.error}{tried}", style="red", soft_wrap=True)


def _show_left(left: int, noun: str) -> None:
    if left:
        what = counted(left, f"{noun} is", f"{noun}s are")
        errors.print(f"stopped: {what} left; the same command continues", soft_wrap=True)


def _show_counts(summary: Summary, noun: str, what: str, counts: Sequence[object], every: str) -> None:
    """Show this run's counts, one line per condition; if it skipped some, say how to see ``every`` count."""
    for count in counts:
        errors.print(f"{what}: {count}", style="yellow", soft_wrap=True)
    if counts and summary.skipped:
        done = counted(summary.done, noun)
        errors.print(f"{what} counts the {done} of this run: {every}", soft_wrap=True)


def _show_lines(lines: dict[str, str]) -> None:
    width = max(map(len, lines))
    for name, value in lines.items():
        say(f"{name:<{width}}  {value}")
