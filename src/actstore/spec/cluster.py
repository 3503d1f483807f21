"""The spec's ``[cluster]`` table: where workers come from. It does not affect stored numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationError, field_validator, model_validator

from actstore.errors import ClusterError, SpecError
from actstore.paths import LOOPBACK, expanded
from actstore.spec.problems import problems
from actstore.spec.values import LocalPath, Positive, Text, TomlTable, resolved

KINDS = ("inline", "local", "cuda", "slurm", "kubernetes")
#: Settings without a default, by kind or by what an address begins with.
NEEDED = {
    "slurm": "cluster.interface or cluster.host",
    "kubernetes": "cluster.kubernetes.manifest",
    "tls": "cluster.tls_ca, tls_cert and tls_key",
}
_ADDRESS = re.compile(r"(tcp|tls)://[^\s/]+:\d+")
_BYTES = re.compile(r"\d+(\.\d+)?\s*([kMGT]i?B|B)", re.IGNORECASE)
_WALLTIME = re.compile(r"(\d+-)?\d{1,2}:\d{2}:\d{2}")


def _bytes(value: str) -> str:
    if not _BYTES.fullmatch(value):
        raise ValueError("must be a size like '4 GiB'")
    return value


Size = Annotated[Text, AfterValidator(_bytes)]


class Slurm(TomlTable):
    """SLURM jobs for workers, one job per worker."""

    #: Partition of the jobs.
    partition: Text | None = None
    #: Account to charge.
    account: Text | None = None
    #: Wall time of one job in SLURM's format, [days-]hours:minutes:seconds. Workers stop one after another before it
    #: ends, and their jobs are replaced.
    walltime: Text = "01:00:00"
    #: Cores of a job.
    cores: Positive = 1
    #: Further ``#SBATCH`` lines.
    extra: tuple[Text, ...] = ()
    #: Shell lines to run before the worker starts.
    prologue: tuple[Text, ...] = ()
    #: Folder for the jobs' logs.
    log_folder: LocalPath | None = None

    @field_validator("walltime")
    @classmethod
    def _time(cls, value: str) -> str:
        if not _WALLTIME.fullmatch(value) or not cls.seconds_of(value):
            raise ValueError("must be a time like '01:00:00' or '2-00:00:00'")
        return value

    @staticmethod
    def seconds_of(walltime: str) -> int:
        days, _, clock = walltime.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


class Kubernetes(TomlTable):
    """Pods that the operator of dask-kubernetes starts."""

    #: A ``DaskCluster`` manifest; its replicas are the workers.
    manifest: LocalPath | None = None
    #: Namespace of the cluster's pods.
    namespace: Text = "default"


class Cluster(TomlTable):
    """Where workers come from, and how they reach the scheduler."""

    #: inline, local, cuda, slurm, kubernetes, ``tcp://host:port``, ``tls://host:port``, or a scheduler's JSON file.
    kind: Text = "local"
    #: Network interface on which a scheduler started by actstore listens for workers on other machines.
    interface: Text | None = None
    #: Address on which that scheduler listens, instead of an interface.
    host: Text | None = None
    #: Address of the dashboard; by default a free port of the loopback address.
    dashboard: Text = f"{LOOPBACK}:0"
    #: Seconds without a heartbeat after which a worker counts as lost.
    worker_timeout: Positive = 300
    #: Seconds to wait for the first worker, and for a new one after all were lost.
    startup_timeout: Positive = 600
    #: Memory limit of a worker.
    memory: Size | None = None
    #: Certificate of the authority (PEM) for a scheduler at ``tls://``.
    tls_ca: LocalPath | None = None
    #: Certificate of client and workers (PEM).
    tls_cert: LocalPath | None = None
    #: Its key (PEM).
    tls_key: LocalPath | None = None
    #: Settings for kind "slurm".
    slurm: Slurm = Slurm()
    #: Settings for kind "kubernetes".
    kubernetes: Kubernetes = Kubernetes()

    @property
    def starts(self) -> bool:
        """Whether workers are started, by actstore or at its request, and not those of an existing scheduler."""
        return self.kind in KINDS and self.kind != "inline"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind in KINDS or kind.endswith(".json") or _ADDRESS.fullmatch(kind):
            # Expand only a leading ``~``: the text keeps the ``./`` of ``./~`` when `of_kind` validates it again.
            return str(expanded(kind, ClusterError)) if kind.startswith("~") else kind
        raise ValueError(
            f"is unknown: use {', '.join(KINDS)}, an address like tcp://host:8786, or a scheduler file (.json)"
        )

    @model_validator(mode="after")
    def _whole(self) -> Cluster:
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not all(files):
            raise ValueError("TLS needs all of tls_ca, tls_cert and tls_key")
        if self.kind.startswith("tls://") and not all(files):
            raise ValueError("a scheduler at tls:// needs tls_ca, tls_cert and tls_key")
        if self.interface and self.host:
            raise ValueError("interface and host both say where the scheduler listens: keep one")
        return self

    @property
    def is_here(self) -> bool:
        """Whether the workers share this machine's memory."""
        return self.kind in ("inline", "local", "cuda")

    def of_kind(self, kind: str | None) -> Cluster:
        """These settings with another kind, validated again; unchanged for ``None``."""
        return self if kind is None else Cluster.model_validate({**self.model_dump(), "kind": kind})

    def below(self, folder: Path) -> Cluster:
        """These settings with paths resolved against ``folder``."""
        paths = {name: getattr(self, name) for name in ("tls_ca", "tls_cert", "tls_key")}
        slurm, kubernetes = self.slurm, self.kubernetes
        if slurm.log_folder:
            slurm = slurm.model_copy(update={"log_folder": resolved(folder, slurm.log_folder)})
        if kubernetes.manifest:
            kubernetes = kubernetes.model_copy(update={"manifest": resolved(folder, kubernetes.manifest)})
        kind = str(resolved(folder, Path(self.kind))) if self.kind.endswith(".json") else self.kind
        update = {name: resolved(folder, path) for name, path in paths.items() if path}
        return self.model_copy(update={**update, "slurm": slurm, "kubernetes": kubernetes, "kind": kind})


def cluster_of_kind(settings: Cluster, kind: str | None) -> Cluster:
    """``settings`` for workers of another kind; unchanged for ``None``.

    Raises
    ------
    SpecError
        if the kind is unknown, or needs settings that are missing.
    """
    try:
        return settings.of_kind(kind)
    except ValidationError as error:
        why = problems(error).removeprefix(f"kind = {kind!r}: ")
        raise SpecError(f"cluster {kind!r}{' ' if why.startswith('is ') else ': '}{why}") from error


def cluster_without_spec(kind: str) -> Cluster:
    """Workers of ``kind`` with all other settings at their defaults: a store holds nothing of a spec's ``[cluster]``.

    Raises
    ------
    SpecError
        if the kind is unknown, or has settings without a default.
    """
    if needed := NEEDED.get(kind.partition(":")[0]):
        raise SpecError(
            f"cluster {kind!r} needs {needed}, and stores hold no [cluster]: name a spec that has it with --spec"
        )
    return cluster_of_kind(Cluster(), kind)
