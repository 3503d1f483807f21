"""What every worker must share with its client: versions, and the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from actstore.cluster.versions import versions
from actstore.errors import ClusterError
from actstore.store.files.base import Storage


def _as_compared(package: str, version: str) -> str:
    """Drop Python's patch version, which affects neither pickles nor packages: 3.12.4 becomes 3.12."""
    return version.rpartition(".")[0] if package == "python" else version


class SameAsClient(WorkerPlugin):
    """Refuses a worker that has other package versions or does not see the store.

    Workers that join later are checked as well.
    """

    name = "actstore-same-as-client"

    def __init__(self, wanted: Mapping[str, str], storage: Storage, metadata: bytes) -> None:
        self.wanted = dict(wanted)
        self.storage = storage
        self.metadata = metadata

    def setup(self, worker: Any) -> None:
        address = worker.address if worker.status.name != "init" else "a worker"
        found = versions()
        for package, version in self.wanted.items():
            mine = found.get(package, "none")
            if _as_compared(package, mine) != _as_compared(package, version):
                raise ClusterError(
                    f"{address} has {package} {mine}, this process has {version}: install the same versions on both "
                    "(constraints.txt pins a tested set)"
                )
        try:
            seen = self.storage.read("zarr.json")
        except OSError as error:
            seen = None
            why = f" ({error.strerror})"
        else:
            why = ""
        if seen != self.metadata:
            raise ClusterError(
                f"{address} does not see the store at {self.storage}{why}: use a folder that all machines share, or "
                "s3://bucket/run.zarr"
            )
