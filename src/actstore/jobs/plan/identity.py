"""The identity of a run: everything that decides its stored numbers; its fingerprint, and how two runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actstore.code.digests import code_digests, load_code
from actstore.data.images import BlockFiles
from actstore.inputs.perturb import check
from actstore.networks.heads import Head
from actstore.spec.spec import Spec
from actstore.store.attributes import window_of
from actstore.store.fingerprint import Fingerprint, differences
from actstore.store.schema import Layer
from actstore.units import first_few


def load_named(spec: Spec) -> None:
    """Load the code that a spec names, and check that its conditions can be computed with it.

    Raises
    ------
    SpecError
        if a module cannot be used, or a condition does not fit its transform.
    """
    named = [*filter(None, [spec.model.factory]), *(p.transform for p in spec.perturb)]
    load_code(spec.folder, named, spec.model.arguments)
    for condition in spec.conditions:
        check(condition)


def identify(
    spec: Spec, weights: str, head: Head, layers: Sequence[Layer], files: Sequence[BlockFiles]
) -> tuple[dict[str, Any], Fingerprint]:
    """The run's `identity_of` and its fingerprint."""
    identity = identity_of(spec, head)
    return identity, Fingerprint.of(weights, identity, layers, [str(file.key) for file in files])


def identity_of(spec: Spec, head: Head) -> dict[str, Any]:
    """`Spec.identity` with digests of the code next to the spec, which must be loaded.

    A plain head is left out, so that stores from before there were others can be continued.
    """
    identity = {**spec.identity(), "code": code_digests()}
    return identity if head.is_plain else {**identity, "head": head.as_json()}


def changed_settings(stored: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Each setting in which the identities of two runs differ, as `differences` words it."""
    return list(differences(_with_window(stored), _with_window(mine)))


def _with_window(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {**identity, "preprocess": {**identity["preprocess"], "window": window_of(identity)}}


def other_weights(stored: str, mine: str) -> list[str]:
    """A reason why a store belongs to another run than a network with the digest ``mine``; none if it does not."""
    return [f"other weights (sha256 {stored[:12]} → {mine[:12]})"] if stored != mine else []


def other_spec(changes: Sequence[str]) -> list[str]:
    """The reason that `changed_settings` give, if there are any."""
    return [f"another spec ({first_few(changes, separator='; ')})"] if changes else []
