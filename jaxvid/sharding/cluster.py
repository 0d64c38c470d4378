"""Which cluster started this process, read from the environment it left: SLURM, Open MPI, Kubernetes.

A TPU slice needs none of this: jax asks the machine itself.
"""

import dataclasses
import re
from collections.abc import Mapping

from jaxvid.core.errors import ConfigError

_FIRST_PORT, _PORTS = 61440, 4096  # the top of the ephemeral range


@dataclasses.dataclass(frozen=True)
class Job:
    """What a process must know to join the others; None is what nobody said.

    local_devices: indices of the GPUs that are this process's own; None: all it can see.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_devices: tuple[int, ...] | None = None

    def complete(self) -> bool:
        """Whether coordinator, number and id are all known."""
        return None not in (self.coordinator, self.num_processes, self.process_id)

    def or_else(self, other: "Job") -> "Job":
        """This job, with what it does not know taken from `other`."""
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Job(*(b if a is None else a for a, b in zip(mine, theirs, strict=True)))


def detect(environ: Mapping[str, str]) -> Job:
    """The job as the environment tells it; an empty Job where this is a single process.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID come first, then SLURM's (within
    `srun`), then Open MPI's (within `mpirun`). Raises ConfigError for a number that is none.
    """
    given = Job(
        environ.get("JAX_COORDINATOR_ADDRESS") or None,
        _number(environ, "JAX_NUM_PROCESSES"),
        _number(environ, "JAX_PROCESS_ID"),
    )
    return given.or_else(slurm(environ)).or_else(open_mpi(environ))


def slurm(environ: Mapping[str, str]) -> Job:
    """Of a task that `srun` started. The batch script itself, and steps of one task, are no such
    job."""
    nodes = environ.get("SLURM_STEP_NODELIST")
    count = _number(environ, "SLURM_STEP_NUM_TASKS") or _number(environ, "SLURM_NTASKS")
    job, process = _number(environ, "SLURM_JOB_ID"), _number(environ, "SLURM_PROCID")
    if not nodes or not count or count == 1 or job is None or process is None:
        return Job()
    several = count > (_number(environ, "SLURM_STEP_NUM_NODES") or 1)  # on one node
    local = _number(environ, "SLURM_LOCALID") if several else None
    port = _FIRST_PORT + (job + 97 * (_number(environ, "SLURM_STEP_ID") or 0)) % _PORTS
    return Job(f"{first_host(nodes)}:{port}", count, process, _own_device(environ, local))


def first_host(nodes: str) -> str:
    """The first name of SLURM's list: "node[007-015,20],other" -> "node007"."""
    prefix, number, suffix = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodes).groups("")
    return prefix + number + suffix


def open_mpi(environ: Mapping[str, str]) -> Job:
    """Of a process that `mpirun` started. Open MPI up to version 4 also says where it was started; from
    version 5 on the coordinator must be given (JAX_COORDINATOR_ADDRESS)."""
    count = _number(environ, "OMPI_COMM_WORLD_SIZE")
    process = _number(environ, "OMPI_COMM_WORLD_RANK")
    if not count or count == 1 or process is None:
        return Job()
    several = (_number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE") or 1) > 1
    local = _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK") if several else None
    return Job(_mpi_address(environ), count, process, _own_device(environ, local))


def _mpi_address(environ: Mapping[str, str]) -> str | None:
    # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911 — the job's number and the launcher's addresses
    uri = environ.get("OMPI_MCA_orte_hnp_uri", "")
    found = re.match(r"(\d+)\.\d+;tcp6?://\[?([^,:\]]+(?::[^,\]]+)*)(?=[,\]]|:\d+$)", uri)
    if not found:
        return None
    job, host = int(found[1]) // 4096, found[2]
    return f"{f'[{host}]' if ':' in host else host}:{_FIRST_PORT + job % _PORTS}"


def _own_device(environ: Mapping[str, str], local: int | None) -> tuple[int, ...] | None:
    """One GPU a process where several processes share a node, unless the launcher divided them."""
    divided = "JAX_LOCAL_DEVICE_IDS" in environ or environ.get("CUDA_VISIBLE_DEVICES", "").isdigit()
    return None if local is None or divided else (local,)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdigit():
        raise ConfigError(f"{name}={text!r} in the environment, expected a whole number from 0")
    return int(text)
