"""The identity of a run: everything that decides its stored numbers, and the fingerprint of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actstore.code.digests import code_digests
from actstore.data.volume import VolumeFile
from actstore.networks.heads import Head
from actstore.spec.spec import Spec
from actstore.store.fingerprint import Fingerprint
from actstore.store.schema import Layer


def identify(
    spec: Spec, weights: str, head: Head, layers: Sequence[Layer], files: Sequence[VolumeFile]
) -> tuple[dict[str, Any], Fingerprint]:
    """`Spec.identity` with digests of the code next to the spec, which must be loaded; and the run's fingerprint.

    A plain head is left out, so that stores from before there were others can be continued.
    """
    identity = {**spec.identity(), "code": code_digests()}
    if not head.is_plain:
        identity["head"] = head.as_json()
    return identity, Fingerprint.of(weights, identity, layers, [str(file.key) for file in files])
