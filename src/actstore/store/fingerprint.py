"""The fingerprint of a run (weights, spec, layers and volumes), and how two runs differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from actstore.store.schema import SCHEMA_VERSION, Layer


@dataclass(frozen=True)
class Fingerprint:
    """Digests (SHA-256, hexadecimal) of the parts of a run that decide its stored numbers."""

    weights: str
    spec: str
    layers: str
    #: Digest of the volumes' names in order. The digest of each volume's content is stored with its block.
    data: str
    schema: int = SCHEMA_VERSION

    @classmethod
    def of(
        cls,
        weights: str,
        identity: Mapping[str, Any],
        layers: Sequence[Layer],
        volumes: Sequence[str],
        schema: int = SCHEMA_VERSION,
    ) -> Fingerprint:
        tables = [layer.as_json() for layer in layers]
        return cls(weights, digest_of(identity), digest_of(tables), digest_of(list(volumes)), schema)

    @property
    def run(self) -> str:
        return digest_of(asdict(self))

    @property
    def token(self) -> int:
        """The value of the run's commit records."""
        return token_from(self.run)

    def as_json(self) -> dict[str, str]:
        """The digests without the schema, which is a separate attribute."""
        return {"run": self.run, "weights": self.weights, "spec": self.spec, "layers": self.layers, "data": self.data}


def token_from(digest: str) -> int:
    """The value of a commit record: the first 8 bytes of a hexadecimal ``digest``, never 0, which is no record."""
    return int(digest[:16], 16) or 1


def digest_of(content: Any) -> str:
    """SHA-256 of JSON content, hexadecimal, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(stored: Mapping[str, Any], mine: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Each leaf in which two JSON trees differ, as ``key: stored → mine``."""
    for key in sorted(stored.keys() | mine.keys()):
        here = f"{path}.{key}" if path else key
        a, b = stored.get(key), mine.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differences(a, b, here)
        elif path == "code" and a != b:
            # Digests of code by module, or by a path that begins with "./".
            yield f"code.{key.removeprefix('./')}: {_change(a, b)}"
        elif a != b:
            yield f"{here}: {json.dumps(a, ensure_ascii=False)} → {json.dumps(b, ensure_ascii=False)}"


def _change(stored: str | None, mine: str | None) -> str:
    if stored is None:
        return f"not recorded when the store was made, now sha256 {str(mine)[:12]}"
    return f"sha256 {stored[:12]} → {'no longer imported or opened' if mine is None else mine[:12]}"
