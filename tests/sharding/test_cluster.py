"""What the environments of clusters mean. The variables are those that each really sets."""

import os
import re
import subprocess
import sys

import jax
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.sharding import goodbye, hosts
from jaxvid.sharding.cluster import Job, detect, first_host

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_STEP_NODELIST": "node[007-010]",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}


def test_nothing_is_one_process():
    assert detect({"PATH": "/bin", "JAX_COORDINATOR_ADDRESS": ""}) == Job()


@pytest.mark.parametrize(
    "nodes, first",
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-015],host2", "node001"),
        ("node[007,009-015]", "node007"),
        ("rack[3-4]-gpu,other", "rack3-gpu"),
        ("a.b-c,d[1-2]", "a.b-c"),
        ("[1-3]", "1"),
        ("rack[1-2]node[03-05]", "rack1node03"),
        ("rack[1,4]node[03-05,07]-ib,other[1-2]", "rack1node03-ib"),
    ],
)
def test_the_first_of_slurms_nodes(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize("nodes", ["node[1-3", "node[]", "node1]", ",node1", "n[a-c]", "n[[1]]"])
def test_a_list_of_nodes_that_is_none(nodes):
    words = f"SLURM_STEP_NODELIST={nodes!r} in the environment, expected names such as node[007-01"
    with pytest.raises(ConfigError, match=re.escape(words)):
        detect(SLURM | {"SLURM_STEP_NODELIST": nodes})
    job = detect(SLURM | {"SLURM_STEP_NODELIST": nodes}, Job("node1:1234"))  # as the error advises
    assert job == Job("node1:1234", 4, 2)


def test_slurm_one_process_a_node_sees_all_its_gpus():
    job = detect(SLURM)
    assert (job.num_processes, job.process_id, job.local_devices) == (4, 2, None)
    host, port = job.coordinator.split(":")
    assert host == "node007" and 61440 <= int(port) <= 65535
    others = [detect(SLURM | {"SLURM_PROCID": str(i)}).coordinator for i in range(4)]
    assert set(others) == {job.coordinator}
    # Two steps of one job, two jobs of one node: other ports.
    assert detect(SLURM | {"SLURM_STEP_ID": "1"}).coordinator != job.coordinator
    assert detect(SLURM | {"SLURM_JOB_ID": "4712"}).coordinator != job.coordinator


def test_slurm_several_processes_a_node_take_a_gpu_each_unless_they_are_divided_already():
    several = SLURM | {"SLURM_STEP_NUM_NODES": "1", "SLURM_LOCALID": "3"}
    assert detect(several).local_devices == (3,)
    assert detect(several | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}).local_devices == (3,)
    for one in ("3", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-1c5f", "NoDevFiles"):
        assert detect(several | {"CUDA_VISIBLE_DEVICES": one}).local_devices is None
    assert detect(several | {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}).local_devices == (3,)
    assert detect(several | {"JAX_LOCAL_DEVICE_IDS": "6,7"}).local_devices is None
    own = several | {"SLURM_GPUS_PER_TASK": "2", "CUDA_VISIBLE_DEVICES": "6,7"}
    assert detect(own).local_devices is None


UNUSED = (
    "%s processes on this node take one GPU each: %s of CUDA_VISIBLE_DEVICES stay unused; start one "
    "process a node, which takes all, or as many as there are GPUs"
)


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, ["2", "2,3"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c"}, ["2", "GPU-c"]),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_LOCALID": "1"}, None),  # once a node
        ({}, None),
        (  # the third of nodes with 1, 1 and 3 tasks
            {
                "CUDA_VISIBLE_DEVICES": "0,1,2,3",
                "SLURM_STEP_NUM_TASKS": "5",
                "SLURM_STEP_NUM_NODES": "3",
                "SLURM_STEP_TASKS_PER_NODE": "1(x2),3",
                "SLURM_NODEID": "2",
            },
            ["3", "3"],
        ),
    ],
)
def test_gpus_that_nobody_takes_are_said_once_a_node(environment, said, caplog):
    two_each = SLURM | {"SLURM_STEP_NUM_NODES": "2", "SLURM_LOCALID": "0"}
    job = detect(two_each | environment)
    assert job.local_devices == (int(environment.get("SLURM_LOCALID", 0)),)
    assert [r.getMessage() for r in caplog.records] == ([UNUSED % tuple(said)] if said else [])


def test_open_mpi_says_too_which_gpus_nobody_takes(caplog):
    first = OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4"}
    assert detect(first).local_devices == (0,)
    assert [r.getMessage() for r in caplog.records] == [UNUSED % (4, "4")]


def test_slurms_batch_script_and_steps_of_one_task_are_single_processes():
    batch = {k: v for k, v in SLURM.items() if not k.startswith("SLURM_STEP")}
    assert detect(batch) == Job()
    assert detect(SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) == Job()


def test_open_mpi_4_says_everything():
    job = detect(OPEN_MPI)
    assert (job.num_processes, job.process_id, job.local_devices) == (8, 5, (1,))
    host, port = job.coordinator.split(":")
    assert host == "10.96.0.1" and 61440 <= int(port) <= 65535
    six = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b,2620:10d::2]:43370"}
    assert detect(six).coordinator.startswith("[fe80::b9b]:")


def test_open_mpi_5_needs_the_address():
    five = {k: v for k, v in OPEN_MPI.items() if "orte" not in k}
    assert not detect(five).complete()
    job = detect(five | {"JAX_COORDINATOR_ADDRESS": "node1:1234"})
    assert job.complete() and job.coordinator == "node1:1234" and job.process_id == 5
    assert detect({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}) == Job()


def test_open_mpi_wins_over_the_slurm_job_that_it_runs_in():
    """mpirun starts its helpers with srun, and they hand SLURM's variables of that step down."""
    inherited = SLURM | {"SLURM_STEP_NUM_NODES": "1", "SLURM_LOCALID": "3"}
    assert detect(inherited | OPEN_MPI) == detect(OPEN_MPI)
    five = {k: v for k, v in (inherited | OPEN_MPI).items() if "orte" not in k}
    assert detect(five) == Job(None, 8, 5, (1,))  # no coordinator of SLURM's step
    assert detect(five, Job("node1:1234")) == Job("node1:1234", 8, 5, (1,))
    alone = {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}
    assert detect(inherited | alone) == Job()


def test_what_is_said_openly_wins():
    own = {
        "JAX_COORDINATOR_ADDRESS": "jaxvid-workers-0-0.jaxvid:8482",
        "JAX_NUM_PROCESSES": "16",
        "JAX_PROCESS_ID": "0",
    }
    assert detect(own) == Job("jaxvid-workers-0-0.jaxvid:8482", 16, 0)
    assert detect(SLURM | own).num_processes == 16
    assert detect(own, Job(process_id=3)).process_id == 3


def test_a_number_that_is_none():
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID='two' in the environment, expected a wh"):
        detect({"JAX_PROCESS_ID": "two"})


@pytest.mark.parametrize(
    "given, message",
    [
        (("node1:12", 2, None), "belong together.*process_id=None"),
        (("node1", 2, 0), "the coordinator is 'node1', expected HOST:PORT"),
        (("node1:0", 2, 0), "is 'node1:0', expected HOST:PORT of process 0, the port from 1 to 65"),
        (("node1:65536", 2, 0), "the coordinator is 'node1:65536', expected HOST:PORT"),
        (("node1:12", 0, 0), "num_processes=0: expected a number from 1$"),
        (("node1:12", 2, 2), "process_id=2 of num_processes=2: expected 0 to 1"),
    ],
)
def test_wrong_arguments(given, message):
    with pytest.raises(ConfigError, match=message):
        hosts.initialize(*given)


def test_the_environment_reaches_jax(monkeypatch):
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(goodbye, "watch", lambda: called.append("watch"))
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    hosts.initialize(None, None, None)
    (place, how), watch = called
    assert place[1:] == (4, 2) and place[0].startswith("node007:") and watch == "watch"
    assert how["heartbeat_timeout_seconds"] == hosts.HEARTBEAT_SECONDS
    assert how["cluster_detection_method"] == "deactivate"


def test_a_tpu_slice_is_asked_by_jax_itself(monkeypatch):
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: called.append((a, k)))
    monkeypatch.setattr(goodbye, "watch", lambda: None)
    monkeypatch.setenv("TPU_ML_PLATFORM", "JAX")
    hosts.initialize(None, None, None)
    assert called == [((), {"heartbeat_timeout_seconds": hosts.HEARTBEAT_SECONDS})]


def test_others_that_never_come(monkeypatch):
    def nobody(*args, **kwargs):
        raise RuntimeError("DEADLINE_EXCEEDED: nobody there\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", nobody)
    with pytest.raises(
        ConfigError, match=r"process 1 of 2, coordinator n:1: could not join .*\(DEAD.*; st"
    ):
        hosts.initialize("n:1", 2, 1)


def test_others_that_do_not_come_in_time_are_waited_for_no_longer():
    program = (
        "from jaxvid.sharding import hosts\n"
        "hosts.JOIN_SECONDS = 2\n"
        "hosts.initialize('127.0.0.1:1', 2, 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "error: process 1 of 2, coordinator 127.0.0.1:1: the others did not come" in done.stderr
    assert "start all within 2 s of each other" in done.stderr and "stack trace" not in done.stderr


def test_alone_there_is_nobody_to_say_goodbye_to():
    goodbye.end_all("nothing")
    goodbye.end_all_unexpectedly(KeyError("nothing"))
    assert goodbye.here().startswith("host 0 of 1 (")


def test_an_unexpected_error_reaches_the_others_with_its_traceback_here():
    """Two processes without devices: one fails, the other only waits."""
    program = (
        "import sys, time\n"
        "from jaxvid.sharding import goodbye, hosts\n"
        "number = int(sys.argv[2])\n"
        "hosts.initialize('127.0.0.1:' + sys.argv[1], 2, number)\n"
        "try:\n"
        "    if number == 0: raise KeyError('a bug')\n"
        "    time.sleep(60)\n"
        "except Exception as error:\n"
        "    goodbye.end_all_unexpectedly(error)\n"
    )
    port = str(21000 + os.getpid() % 20000)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, port, str(i)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]
    failed, other = (p.communicate(timeout=50)[1] for p in both)
    assert [p.returncode for p in both] == [1, 1]
    assert "Traceback" in failed and "KeyError: 'a bug'" in failed
    assert "error: host 0 of 2 (" in other and "ended: KeyError: 'a bug'" in other
    assert "host 1 of 2 (" in other and "the same command goes on" in other
