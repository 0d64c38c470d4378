"""Several processes: who reads which part of a batch, and how the parts become one global array."""

import os
import re
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvid.core.batch import check_batch
from jaxvid.core.errors import ConfigError
from jaxvid.sharding import goodbye
from jaxvid.sharding.cluster import Job, detect
from jaxvid.sharding.mesh import batch_sharding, batch_shards

# A host from which nothing is heard for so long counts as dead, and jax ends all others.
HEARTBEAT_SECONDS = 60
JOIN_SECONDS = 300


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the processes of a multi-host run; must be called before jax touches a device.

    coordinator: "host:port" of process 0, reachable from all. What is None is taken from the
    environment (sharding/cluster.py); where that says nothing either, a TPU slice is asked, and
    anything else is one process alone. Raises ConfigError when only part is known or the others do
    not come.
    """
    job = detect(os.environ, Job(coordinator, num_processes, process_id))
    if job == Job():
        if "TPU_ML_PLATFORM" in os.environ:  # jax sets it on machines with a TPU
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
            goodbye.watch()
        return
    _check(job)
    where = f"process {job.process_id} of {job.num_processes}, coordinator {job.coordinator}"
    advice = (
        f"start all within {JOIN_SECONDS:g} s of each other, and let every host reach that address"
    )
    with goodbye.deadline(JOIN_SECONDS, f"{where}: the others did not come; {advice}"):
        try:
            jax.distributed.initialize(
                job.coordinator,
                job.num_processes,
                job.process_id,
                local_device_ids=job.local_devices,
                cluster_detection_method="deactivate",
                initialization_timeout=2 * JOIN_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"{where}: could not join the others ({reason}); {advice}") from error
    goodbye.watch()


def _check(job: Job) -> None:
    if not job.complete():
        raise ConfigError(
            "--coordinator, --num_processes and --process_id belong together (in the environment: "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID); got coordinator="
            f"{job.coordinator}, num_processes={job.num_processes}, process_id={job.process_id}"
        )
    port = re.fullmatch(r".+:(\d+)", job.coordinator)
    if not port or not 1 <= int(port[1]) <= 65535:
        raise ConfigError(
            f"the coordinator is {job.coordinator!r}, expected HOST:PORT of process 0, the port from "
            "1 to 65535, such as node1:12345"
        )
    if job.num_processes < 1:
        raise ConfigError(f"num_processes={job.num_processes}: expected a number from 1")
    if not 0 <= job.process_id < job.num_processes:
        raise ConfigError(
            f"process_id={job.process_id} of num_processes={job.num_processes}: expected 0 to "
            f"{job.num_processes - 1}"
        )


def is_main() -> bool:
    """True on the one process that writes logs and reports."""
    return jax.process_index() == 0


def data_host(mesh: Mesh) -> tuple[int, int]:
    """(index, count): which of `count` equal, contiguous parts of each global batch this process reads.

    Processes that hold replicas of the same part (a tensor axis over hosts) get the same index.
    """
    shards = batch_shards(mesh)
    where = batch_sharding(mesh).devices_indices_map((shards,))
    mine = sorted(
        {
            index[0].start or 0
            for device, index in where.items()
            if device.process_index == jax.process_index()
        }
    )
    contiguous = mine == list(range(mine[0], mine[0] + len(mine)))
    if not contiguous or shards % len(mine) or mine[0] % len(mine):
        raise ConfigError(
            f"process {jax.process_index()} would hold the parts {mine} of {shards} of a batch, which "
            "is not an equal contiguous share; choose mesh.fsdp and mesh.tensor that divide the "
            "devices of one host, or are multiples of them"
        )
    return mine[0] // len(mine), shards // len(mine)


def to_global(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The gate between host and device: this process's rows in, arrays of the global batch out.

    The first axis is divided over (data, fsdp). Raises BatchError (core/batch.py) on a broken batch.
    """
    check_batch(batch)
    sharding = batch_sharding(mesh)
    _, count = data_host(mesh)
    return {
        name: jax.make_array_from_process_local_data(
            sharding, array, (array.shape[0] * count, *array.shape[1:])
        )
        for name, array in batch.items()
    }
