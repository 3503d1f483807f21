"""A store's root attributes: how it was captured, and what it therefore holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from actstore.conditions import ONE_CHANNEL, REPEATS
from actstore.errors import StoreError
from actstore.store import metadata
from actstore.store.files.base import Storage
from actstore.store.fingerprint import Fingerprint, token_from
from actstore.store.schema import OLDEST_SCHEMA, SCHEMA_VERSION, Layer, StoreLayout
from actstore.units import first_few

#: Root attributes required to read a store, besides its schema and fingerprint.
REQUIRED = ("spec", "identity", "layers", "classes", "blocks", "slots")
#: How to repair damaged metadata; ends messages about it.
REPAIR = "`actstore verify STORE --repair` restores it"


def read_attributes(storage: Storage) -> dict[str, Any]:
    """Root attributes of the store in ``storage``.

    Raises
    ------
    StoreError
        if there is no actstore store, or it has an unsupported schema or damaged metadata.
    """
    try:
        content = storage.read("zarr.json")
    except (NotADirectoryError, IsADirectoryError):
        content = None
    except OSError as error:
        raise StoreError(f"{storage} cannot be read: {error.strerror}; check its permissions and disk") from error
    if content is None:
        if storage.exists(metadata.KEY):
            raise StoreError(f"{storage} is damaged: its zarr.json is missing; {REPAIR}")
        if storage.is_empty():
            raise StoreError(f"{storage} does not exist or is empty: give the path of an actstore store")
        raise StoreError(f"{storage} is not an actstore store, and not empty: choose another path")
    try:
        attributes: dict[str, Any] = json.loads(content)["attributes"]
        schema = attributes["schema"]
        attributes["fingerprint"]["run"]
    except (ValueError, KeyError, TypeError) as error:
        if storage.exists(metadata.KEY):
            raise StoreError(f"{storage} is damaged: its zarr.json cannot be read; {REPAIR}") from error
        raise StoreError(f"{storage} is not an actstore store, and not empty: choose another path") from error
    if type(schema) is not int:
        raise StoreError(f"{storage} has schema {schema!r}, which is no number: its zarr.json is damaged; {REPAIR}")
    reads = f"{storage} has schema {schema}, this actstore reads {OLDEST_SCHEMA} to {SCHEMA_VERSION}"
    if schema > SCHEMA_VERSION:
        raise StoreError(f"{reads}: install a newer actstore")
    if schema < OLDEST_SCHEMA:
        raise StoreError(f"{reads}: capture it again at another path")
    if gone := [key for key in REQUIRED if key not in attributes]:
        raise StoreError(f"{storage} is damaged: its zarr.json has no {', '.join(gone)}; {REPAIR}")
    if not fits_fingerprint(attributes):
        raise StoreError(f"{storage} is damaged: its zarr.json does not fit the fingerprint in it; {REPAIR}")
    return attributes


def fits_fingerprint(attributes: Mapping[str, Any]) -> bool:
    """Whether the attributes that decide the stored numbers match the fingerprint stored with them."""
    stored = attributes["fingerprint"]
    try:
        layers = [Layer.from_json(layer) for layer in attributes["layers"]]
        made = Fingerprint.of(
            stored["weights"], attributes["identity"], layers, attributes["blocks"], attributes["schema"]
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return False
    return bool(made.as_json() == stored)


def layout_of(attributes: Mapping[str, Any]) -> StoreLayout:
    """The arrays of the store with these root attributes."""
    identity = attributes["identity"]
    perturbed = sum(len(p["targets"]) * len(p["strengths"]) for p in identity["perturb"])
    controls = identity.get("controls", {})  # None in schema 2.
    return StoreLayout(
        blocks=len(attributes["blocks"]),
        slots=attributes["slots"],
        conditions=1
        + perturbed * (2 if controls.get("region") else 1)
        + (len(REPEATS) if controls.get("noise") else 0),
        classes=len(attributes["classes"]),
        space=tuple(identity["preprocess"]["size"]),
        dtype=identity["dtype"],
        layers=tuple(Layer.from_json(layer) for layer in attributes["layers"]),
        input_channels=tuple(attributes.get("input_channels", ONE_CHANNEL)),
        version=attributes["schema"],
        classified=is_classified(attributes),
        scored=scored_of(attributes),
    )


def is_classified(attributes: Mapping[str, Any]) -> bool:
    """Whether the network of a run classifies whole samples."""
    return "images" in attributes["identity"]


def scored_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """What the histograms of scores of a run are of; nothing in a store without them."""
    return tuple(attributes.get("histogram", {}).get("classes", ()))


def regions_of(attributes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The regions of a run and the indices of their classes; none where every class is one label."""
    return {name: tuple(indices) for name, indices in attributes.get("regions", {}).items()}


def members_of(attributes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """What results of a run are of, each with the indices of its classes; without regions, all foreground classes.

    Of a classifier all classes: images have no background.
    """
    regions, classes = regions_of(attributes), attributes["classes"]
    names = attributes["targets"] if regions else classes[0 if is_classified(attributes) else 1 :]
    return {name: regions.get(name) or (classes.index(name),) for name in names}


def names_channels(attributes: Mapping[str, Any]) -> bool:
    """Whether a condition of a run changes chosen input channels only: it then has the coordinate ``channels``."""
    return any(perturbation.get("channels") for perturbation in attributes["identity"]["perturb"])


def window_of(identity: Mapping[str, Any]) -> str:
    """The image that each condition's normalisation was computed from: ``data.preprocess.window`` of this run.

    Runs by the published rule do not store it, nor do runs from before there was a choice.
    """
    return str(identity["preprocess"].get("window", "perturbed"))


#: Names of what brings its own preprocessing, by its key in the identity of a run.
_TRAINED = {"nnunet": "nnU-Net", "bundle": "the bundle"}


def trained_of(identity: Mapping[str, Any]) -> str:
    """What brought the preprocessing of a run, for messages; "" if that was the spec's ``data.preprocess``."""
    return next((name for key, name in _TRAINED.items() if key in identity), "")


def token_of(attributes: Mapping[str, Any]) -> int:
    """The value of this run's commit records."""
    return token_from(attributes["fingerprint"]["run"])


def unrepeatable(found: Mapping[str, Any]) -> str:
    """Why the network is not repeatable according to the attribute ``repeatable``; "" if it is."""
    if names := found["changed"]:
        return f"forward passes change its weights ({first_few(names)})"
    # Older stores do not hold "after_another".
    if not found["again"] or found.get("after_another") is False or found["in_a_batch"] is False:
        largest = found["difference"]
        much = (
            "none at all, or NaN"
            if largest is None
            else f"by up to {100 * largest:.2g} % of that layer's largest value"
        )
        since = f"from {found['layer']} on ({much})"
        if found["again"] and found.get("after_another") is False:
            return f"what it saw before changes what it returns {since}"
        when = "the same input again" if not found["again"] else "the same input in a batch with another"
        return f"{when} gives other outputs {since}"
    if found["draws"]:
        return f"its forward pass draws random numbers ({', '.join(found['draws'])})"
    return ""
