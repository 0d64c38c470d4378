"""Which cluster started this process, read from the environment it left: SLURM, Open MPI, Kubernetes.

A TPU slice needs none of this: jax asks the machine itself.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping

from jaxvid.core.errors import ConfigError

log = logging.getLogger("jaxvid")

_FIRST_PORT, _PORTS = 61440, 4096  # the top of the ephemeral range

_NUMBERS = r"\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\]"  # [007-015,20]
_NODES = rf"(?:[^\s,\[\]]|{_NUMBERS})+"  # rack[1-2]node[03-05]


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


def detect(environ: Mapping[str, str], said: Job = Job()) -> Job:
    """The job as `said`, then as the environment tells it; an empty Job is a single process.

    In the environment JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID come first. All
    that they leave open is Open MPI's within `mpirun`, else SLURM's within `srun`, and never a
    mixture: an mpirun in a SLURM job hands down the variables of the step that started its own
    helpers, which count other processes. Raises ConfigError for a number that is none, and for
    SLURM's list of nodes where the coordinator must be read from it and cannot.
    """
    known = said.or_else(
        Job(
            environ.get("JAX_COORDINATOR_ADDRESS") or None,
            _number(environ, "JAX_NUM_PROCESSES"),
            _number(environ, "JAX_PROCESS_ID"),
        )
    )
    if environ.get("OMPI_COMM_WORLD_SIZE"):
        return known.or_else(open_mpi(environ))
    return known.or_else(slurm(environ, known.coordinator))


def slurm(environ: Mapping[str, str], coordinator: str | None = None) -> Job:
    """Of a task that `srun` started. The batch script itself, and steps of one task, are no such
    job. coordinator: where it is known already; None: the first node of the step."""
    nodes = environ.get("SLURM_STEP_NODELIST")
    count = _number(environ, "SLURM_STEP_NUM_TASKS") or _number(environ, "SLURM_NTASKS")
    job, process = _number(environ, "SLURM_JOB_ID"), _number(environ, "SLURM_PROCID")
    if not nodes or not count or count == 1 or job is None or process is None:
        return Job()
    port = _FIRST_PORT + (job + 97 * (_number(environ, "SLURM_STEP_ID") or 0)) % _PORTS
    coordinator = coordinator or f"{first_host(nodes)}:{port}"
    return Job(coordinator, count, process, _task_devices(environ, count))


def _task_devices(environ: Mapping[str, str], count: int) -> tuple[int, ...] | None:
    hosts = _number(environ, "SLURM_STEP_NUM_NODES") or 1
    if count <= hosts or environ.get("SLURM_GPUS_PER_TASK"):  # SLURM shows each task its own
        return None
    here = _tasks_here(environ) or -(-count // hosts)
    return _own_device(environ, _number(environ, "SLURM_LOCALID"), here)


def _tasks_here(environ: Mapping[str, str]) -> int | None:
    """Tasks on this node: the second of "4(x2),3" is 4."""
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    each = [int(tasks) for tasks, times in parts for _ in range(int(times or 1))]
    node = _number(environ, "SLURM_NODEID") or 0
    return each[node] if node < len(each) else None


def first_host(nodes: str) -> str:
    """The first name of SLURM's list: "node[007-015,20],other" -> "node007", and of
    "rack[1-2]node[03-05]" "rack1node03". Raises ConfigError for what is no such list."""
    if not re.fullmatch(f"{_NODES}(?:,{_NODES})*", nodes):
        raise ConfigError(
            f"SLURM_STEP_NODELIST={nodes!r} in the environment, expected names such as "
            "node[007-015],other; give --coordinator HOST:PORT, or JAX_COORDINATOR_ADDRESS"
        )
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", re.match(_NODES, nodes)[0])


def open_mpi(environ: Mapping[str, str]) -> Job:
    """Of a process that `mpirun` started. Open MPI up to version 4 also says where it was started; from
    version 5 on the coordinator must be given (JAX_COORDINATOR_ADDRESS)."""
    count = _number(environ, "OMPI_COMM_WORLD_SIZE")
    process = _number(environ, "OMPI_COMM_WORLD_RANK")
    if not count or count == 1 or process is None:
        return Job()
    here = _number(environ, "OMPI_COMM_WORLD_LOCAL_SIZE") or 1
    local = _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK") if here > 1 else None
    return Job(_mpi_address(environ), count, process, _own_device(environ, local, here))


def _mpi_address(environ: Mapping[str, str]) -> str | None:
    # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911 — the job's number and the launcher's addresses
    uri = environ.get("OMPI_MCA_orte_hnp_uri", "")
    found = re.match(r"(\d+)\.\d+;tcp6?://\[?([^,:\]]+(?::[^,\]]+)*)(?=[,\]]|:\d+$)", uri)
    if not found:
        return None
    job, host = int(found[1]) // 4096, found[2]
    return f"{f'[{host}]' if ':' in host else host}:{_FIRST_PORT + job % _PORTS}"


def _own_device(environ: Mapping[str, str], local: int | None, here: int) -> tuple[int, ...] | None:
    """One GPU a process where several (`here`) share a node, unless the launcher divided them: then
    a process sees one, by its index or its name (GPU-…, MIG-…)."""
    visible = [gpu for gpu in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu.strip()]
    if local is None or "JAX_LOCAL_DEVICE_IDS" in environ or len(visible) == 1:
        return None
    if local == 0 and here < len(visible):  # one line a node
        log.warning(
            "%d processes on this node take one GPU each: %s of CUDA_VISIBLE_DEVICES stay unused; "
            "start one process a node, which takes all, or as many as there are GPUs",
            here,
            ",".join(visible[here:]),
        )
    return (local,)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdigit():
        raise ConfigError(f"{name}={text!r} in the environment, expected a whole number from 0")
    return int(text)
