"""Where blocks are computed: this process, or Dask workers. Nothing outside imports distributed."""

from actstore.cluster.executors import IN_FLIGHT, LostWorker
from actstore.cluster.launch import connect
from actstore.cluster.main_guard import refuse_in_worker
from actstore.spec.cluster import Cluster

__all__ = ["IN_FLIGHT", "Cluster", "LostWorker", "connect", "refuse_in_worker"]
