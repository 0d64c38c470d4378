"""Several processes: who reads which part of a batch, and how the parts become one global array."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvid.core.batch import check_batch
from jaxvid.core.errors import ConfigError
from jaxvid.sharding.mesh import batch_sharding, batch_shards


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the processes of a multi-host run; must be called before jax touches a device.

    coordinator: "host:port" of process 0, reachable from all. All three or none must be given.
    """
    given = (coordinator, num_processes, process_id)
    if all(value is None for value in given):
        return
    if any(value is None for value in given):
        raise ConfigError(
            "--coordinator, --num_processes and --process_id belong together; "
            f"got coordinator={coordinator}, num_processes={num_processes}, process_id={process_id}"
        )
    jax.distributed.initialize(coordinator, num_processes, process_id)


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
