"""Workers in SLURM jobs, by dask-jobqueue, which itself neither reports a refused job nor replaces a lost one."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.core import Status

from actstore.errors import ClusterError, one_line
from actstore.spec.cluster import Cluster, Slurm

#: Seconds between two queries of the queue, which is a controller that all users of a cluster share.
LOOK = 15.0
#: Seconds to wait for its answer; without one, the next query is as good.
ANSWER = 30
#: Jobs per requested worker that may end before their worker connects: one may meet a broken node, and its replacement
#: another; more means that no job can work.
LOST_JOBS = 3
#: Seconds after which a worker without a scheduler ends, so that its job does not hold cores until the wall limit:
#: twice dask-jobqueue's default, for a client whose node is busy.
ORPHANED = 120
#: Seconds before the wall limit at which a worker ends, as early as cluster/slurm/capture.sbatch stops the client, and
#: seconds over which workers are spread so that not all end at once; of short jobs a fifth and a tenth.
FINISHING, SPREAD = 300, 120
#: Memory of a job by the predicted peak of its worker, since SLURM kills what exceeds it.
HEADROOM = 5 / 4


class SlurmJob(SLURMJob):
    """A job that sets its status on close; distributed asserts that status."""

    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed


def arguments(settings: Cluster, memory: int, *, threads: int, environment: Mapping[str, object]) -> dict[str, Any]:
    """Arguments of ``dask_jobqueue.SLURMCluster``: one worker per job, which ends before the job's wall limit.

    Raises
    ------
    ClusterError
        if the spec does not name the network on which the scheduler may listen.
    """
    slurm = settings.slurm
    if not settings.interface and not settings.host:
        raise ClusterError(
            "workers in SLURM jobs must reach the scheduler: set cluster.interface (`ip link` lists them) or "
            "cluster.host; it must be a network that only trusted users reach"
        )
    where = {"interface": settings.interface} if settings.interface else {"host": settings.host}
    seconds = Slurm.seconds_of(slurm.walltime)
    stagger = max(1, min(SPREAD, seconds // 10))
    lifetime = seconds - min(FINISHING, seconds // 5) - stagger
    exports = " ".join(f"{name}={value}" for name, value in environment.items())
    logs = slurm.log_folder or Path("slurm-logs").absolute()
    logs.mkdir(parents=True, exist_ok=True)
    return {
        "job_cls": SlurmJob,
        "cores": threads,
        "job_cpu": slurm.cores,
        "processes": 1,
        "memory": settings.memory or f"{int(memory * HEADROOM)}B",
        "walltime": slurm.walltime,
        "queue": slurm.partition,
        "account": slurm.account,
        "interface": settings.interface,
        "scheduler_options": {**where, "dashboard_address": settings.dashboard},
        "nanny": True,
        "python": shlex.quote(sys.executable),
        "job_name": "actstore",
        "death_timeout": ORPHANED,
        "worker_extra_args": ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"],
        # A requeued job would run beside its replacement. dask-jobqueue does not quote folders.
        "job_extra_directives": [
            "--no-requeue",
            f"-o {shlex.quote(str(logs / 'actstore-%J.out'))}",
            f"-e {shlex.quote(str(logs / 'actstore-%J.err'))}",
            *slurm.extra,
        ],
        "job_script_prologue": [*slurm.prologue, f"export {exports}"],
        "silence_logs": logging.ERROR,
    }


class Jobs:
    """A cluster of jobs, kept at the requested number."""

    def __init__(
        self, settings: Cluster, workers: int, memory: int, *, threads: int, environment: Mapping[str, object]
    ) -> None:
        self.workers = workers
        self.cluster = SLURMCluster(**arguments(settings, memory, threads=threads, environment=environment))
        self._looked = time.monotonic()
        self._lost = 0
        self._absent: set[Any] = set()
        try:
            # Wait for it: otherwise a refusal by sbatch goes unnoticed.
            self.cluster.sync(self._submit)
        except Exception as error:
            self.cluster.close()
            raise ClusterError(f"SLURM takes no job: {one_line(error)}; correct [cluster.slurm]") from error

    async def _submit(self) -> None:
        self.cluster.scale(jobs=self.workers)
        await self.cluster

    def keep_up(self) -> None:
        """Replace the jobs that ended.

        Raises
        ------
        ClusterError
            if jobs keep ending before their worker connects.
        """
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        queued = _queued()
        if queued is None:
            return
        gone = [name for name, job in self.cluster.workers.items() if getattr(job, "job_id", None) not in queued]
        known = {str(worker["name"]) for worker in self.cluster.scheduler_info["workers"].values()}
        # Absent in two queries: the scheduler lists a worker a little longer than SLURM lists its job.
        absent = {name for name in gone if str(name) not in known}
        never, self._absent = absent & self._absent, absent
        self._lost += len(never)
        if self._lost > LOST_JOBS * self.workers:
            raise ClusterError(
                f"{self._lost} SLURM jobs ended before their worker came: look at the logs in "
                "cluster.slurm.log_folder; what is committed is kept, run again to continue"
            )
        for name in never:
            self.cluster.workers.pop(name, None)
            self.cluster.worker_spec.pop(name, None)
        self.cluster.scale(jobs=self.workers)


def _queued() -> set[str] | None:
    """Ids of the user's pending and running jobs; ``None`` if SLURM does not answer."""
    try:
        found = subprocess.run(
            ["squeue", "--noheader", "--format=%i", "--me"], capture_output=True, text=True, timeout=ANSWER, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(found.stdout.split()) if found.returncode == 0 else None
