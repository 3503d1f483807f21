"""Takes classes, channels and windows of a spec from the trained network that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actstore.errors import SpecError
from actstore.paths import expanded
from actstore.spec.bundle_folder import BundleFolder
from actstore.spec.nnunet_results import DEFAULT_CHECKPOINT, ResultFolder
from actstore.spec.values import resolved

Trained = ResultFolder | BundleFolder

#: Keys that a trained network supplies, by table.
SUPPLIED: Mapping[str, tuple[str, ...]] = {
    "model": ("factory", "arguments", "weights"),
    "data": ("preprocess", "classes", "regions_class_order", "axes", "channels"),
}


def with_trained(
    content: Mapping[str, Any], folder: Path, *, name: str, stored: bool = False
) -> tuple[Mapping[str, Any], Trained | None]:
    """``content`` of a spec with what the network of ``model.nnunet`` or ``model.bundle`` says, and that network.

    Content that names none is returned as it is.

    Raises
    ------
    SpecError
        if ``content`` names two networks, or has a key that the network supplies; a ``stored`` spec has them all.
    ModelError
        if the result folder or bundle is incomplete.
    """
    model, data = content.get("model"), content.get("data")
    if not isinstance(model, Mapping) or not isinstance(data, Mapping):
        return content, None
    given = [key for key in ("nnunet", "bundle") if isinstance(model.get(key), str | Path) and model[key]]
    if len(given) > 1:
        raise SpecError(f"{name}: model: names several networks ({', '.join(given)}): keep one of them")
    if not given:
        return content, None
    source = given[0]
    tables = {"model": dict(model), "data": dict(data)}
    for table, keys in SUPPLIED.items():
        for key in keys:
            if tables[table].pop(key, None) is not None and not stored:
                raise SpecError(
                    f"{name}: {table}.{key} beside model.{source}, which says it itself: take it out, or name the "
                    "network by model.factory"
                )
    trained = _read(source, resolved(folder, expanded(model[source], SpecError)), model)
    tables["data"] |= {
        "classes": trained.classes,
        "preprocess": {"normalize": "none", "size": list(trained.window)},
        "channels": trained.channels,
        "axes": trained.axes,
    }
    if trained.regions_class_order is not None:
        tables["data"]["regions_class_order"] = trained.regions_class_order
    return {**content, **tables}, trained


def _read(source: str, path: Path, model: Mapping[str, Any]) -> Trained:
    if source == "bundle":
        return BundleFolder.read(path)
    fold, checkpoint = model.get("fold"), model.get("checkpoint")
    return ResultFolder.read(path, fold=0 if fold is None else fold, checkpoint=checkpoint or DEFAULT_CHECKPOINT)
