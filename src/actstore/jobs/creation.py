"""Creates a capture's store, or checks that the existing one belongs to the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from actstore.cluster.versions import versions
from actstore.errors import StoreError
from actstore.inputs.adapters import covered
from actstore.jobs.blocks import root_coordinates
from actstore.jobs.plan.budget import ring_samples
from actstore.jobs.plan.identity import changed_settings, other_spec, other_weights
from actstore.jobs.plan.plan import Plan, check_resources
from actstore.jobs.scores import activation_of
from actstore.spec.labels import Labels
from actstore.store.attributes import read_attributes, scored_of, window_of
from actstore.store.schema import FILTERS, SCHEMA_VERSION, WEIGHT, Coordinate
from actstore.store.template import coordinate_files, files_of, update_coordinates
from actstore.units import counted, first_few


def ensure_store(plan: Plan) -> Plan:
    """Create the plan's store, or check that the existing one belongs to the same run.

    Returns
    -------
    the plan with the store's number of slots, its rule of where conditions apply and, if the spec sets none, its batch
    size.

    Raises
    ------
    StoreError
        if the path holds something else, another run, or another schema.
    PlanError
        if the run does not fit the disk or memory.
    """
    if not plan.store.is_empty():
        stored = check_same_run(plan)
        # A store that was begun without histograms goes on without.
        layout = replace(plan.layout, slots=int(stored["slots"]), scored=scored_of(stored))
        # Another batch size would change the last bits of the remaining blocks.
        batch_size = plan.spec.run.batch_size or int(stored.get("batch_size", plan.batch_size))
        return replace(
            plan,
            layout=layout,
            ring_samples=ring_samples(layout, plan.device),
            batch_size=batch_size,
            applies=stored.get("applies", "present"),
        )
    check_resources(plan, plan.bytes)
    files = files_of(plan.layout.capture, coordinates(plan), attributes(plan))
    plan.store.create(files, fsync=plan.spec.store.fsync)
    return plan


def coordinates(plan: Plan) -> dict[str, tuple[Coordinate, ...]]:
    """Coordinates of the arrays of each group."""
    spec = plan.spec
    return {
        "": root_coordinates(
            plan.layout, plan.blocks, spec.conditions, spec.class_names, partial(covered, pipeline=plan.pipeline)
        ),
        "statistics": plan.layout.statistic_coordinates(),
        **_filters(plan),
        "outputs": plan.layout.score_coordinates(),
    }


def _filters(plan: Plan) -> dict[str, tuple[Coordinate, ...]]:
    """The group of the first convolution's weight, if the network has one."""
    found = plan.filters
    if found is None:
        return {}
    about = {"module": found.module, "groups": found.groups}
    return {FILTERS: (Coordinate(WEIGHT, found.dims, found.weight, about),)}


def mend_coordinates(plan: Plan) -> None:
    """Update all coordinates: files of uncommitted blocks may have been replaced, or a chunk damaged.

    A store from before filters were stored stays without.
    """
    groups = coordinates(plan)
    if FILTERS not in read_attributes(plan.store):
        groups.pop(FILTERS, None)
    for group, found in groups.items():
        update_coordinates(plan.store, coordinate_files(found, group), fsync=plan.spec.store.fsync)


def attributes(plan: Plan) -> dict[str, object]:
    """The store's root attributes: schema, spec, fingerprint, layers, classes, findings about data and network."""
    labels = plan.spec.labels
    return {
        "schema": SCHEMA_VERSION,
        "spec": plan.spec.model_dump(mode="json"),
        "folder": str(plan.spec.folder),
        "identity": plan.identity,
        "fingerprint": plan.fingerprint.as_json(),
        "layers": [layer.as_json() for layer in plan.layout.layers],
        "grid": [grid.as_json() for grid in plan.grids],
        FILTERS: plan.filters and {"module": plan.filters.module, "groups": plan.filters.groups},
        "input_channels": list(plan.layout.input_channels),
        "classes": list(labels.names),
        **_regions(labels),
        **_histogram(plan),
        "blocks": [block.name for block in plan.blocks],
        "discovery": plan.discovery.as_json(),
        "caveats": [list(caveat) for caveat in plan.caveats],
        "slots": plan.layout.slots,
        "batch_size": plan.batch_size,
        "repeatable": plan.repeatable.as_json(),
        "check": plan.check and plan.check.as_json(),
        "applies": plan.applies,
        "versions": versions(),
    }


def _regions(labels: Labels) -> dict[str, Any]:
    """Which classes form regions, and what results are of; nothing where every class is one label."""
    if not labels.regions:
        return {}
    return {"regions": {name: list(of) for name, of in labels.regions.items()}, "targets": list(labels.members)}


def _histogram(plan: Plan) -> dict[str, Any]:
    """What the histograms of scores are of; nothing in a store without them."""
    if not plan.layout.scored:
        return {}
    return {"histogram": {"classes": list(plan.layout.scored), "activation": activation_of(plan.head)}}


def check_same_run(plan: Plan) -> dict[str, Any]:
    """Attributes of the plan's store.

    Raises
    ------
    StoreError
        if it belongs to another run (the message lists the differences), or has an older schema.
    """
    stored = read_attributes(plan.store)
    if stored["schema"] != SCHEMA_VERSION:
        raise StoreError(
            f"{plan.store} has schema {stored['schema']}, which this actstore reads and does not continue (it writes "
            f"{SCHEMA_VERSION}): choose another store path"
        )
    theirs, mine = stored["fingerprint"], plan.fingerprint.as_json()
    if theirs["run"] == mine["run"]:
        if stored["slots"] < plan.layout.slots:
            largest = max(plan.blocks, key=lambda block: block.samples)
            raise StoreError(
                f"{plan.store} has room for {counted(stored['slots'], 'sample')} a volume, {largest.name} has "
                f"{largest.samples} now: choose another store path"
            )
        return stored
    changes: list[str] = []
    reasons = other_weights(theirs["weights"], mine["weights"])
    if theirs["data"] != mine["data"]:
        reasons.append(f"other data ({_list_changes(stored['blocks'], [b.name for b in plan.blocks])})")
    if theirs["spec"] != mine["spec"]:
        changes = changed_settings(stored["identity"], plan.identity)
        reasons += other_spec(changes)
    elif theirs["layers"] != mine["layers"]:
        reasons.append("other layers (the network's structure changed)")
    begun = any(plan.store.exists(plan.layout.capture.record.key(i)) for i in range(len(stored["blocks"])))
    mend = "choose another store path" if begun else "it holds no volume yet: delete it, or choose another store path"
    if len(reasons) == len(changes) == 1 and changes[0].startswith("preprocess.window: "):
        mend = (
            f'set data.preprocess.window = "{window_of(stored["identity"])}" to continue it as it was begun, or {mend}'
        )
    raise StoreError(f"{plan.store} belongs to another run: {', '.join(reasons)}; {mend}")


def _list_changes(stored: Sequence[str], mine: Sequence[str]) -> str:
    changes = [
        f"{len(names)} {kind}: {first_few(names)}"
        for kind, names in (("new", sorted({*mine} - {*stored})), ("gone", sorted({*stored} - {*mine})))
        if names
    ]
    return "; ".join(changes)
