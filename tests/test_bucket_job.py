"""A workdir in a bucket, by the libraries that talk to real ones and servers on this machine."""

import importlib.util
import json
import subprocess
import sys

import bucket as buckets
import pytest
from bucket_s3 import S3Bucket, S3Handler
from jobs import ROOT, arguments, finish, losses, main_process, make_data, make_environment, start

pytestmark = pytest.mark.slow
HOME = "runs/first/"
STEPS = "--config.run.steps=6"
KINDS = {
    "gs": ("gcsfs", buckets.Bucket, buckets.Handler),
    "s3": ("s3fs", S3Bucket, S3Handler),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return make_data(tmp_path_factory.mktemp("rwf"), write_video)


@pytest.fixture(scope="module", params=KINDS)
def bucket(request):
    library, bucket, handler = KINDS[request.param]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}: pip install 'jaxvid[cloud]'")
    with buckets.serve(bucket(), handler) as served:
        yield served


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def environment(cache, bucket):
    return make_environment(cache, devices=1, **bucket.environment())


@pytest.fixture(scope="module")
def folder(data, cache, tmp_path_factory):
    """The same run in a folder."""
    workdir = tmp_path_factory.mktemp("folder") / "run"
    code, stderr = finish(begin(data, workdir, make_environment(cache, devices=1)))
    assert code == 0, stderr[-3000:]
    return workdir


def begin(data, workdir, environment, *more):
    return main_process(data, workdir, environment, "--config.eval.every_steps=3", STEPS, *more)


def address(bucket, run="first"):
    return f"{bucket.scheme}://{buckets.NAME}/runs/{run}"


def rows(bucket, split, home=HOME):
    lines = bucket.objects[f"{home}metrics.jsonl"][1].decode().splitlines()
    return {r["step"]: r["loss"] for r in map(json.loads, lines) if r["split"] == split}


def test_a_killed_run_in_a_bucket_goes_on_and_is_the_run_in_a_folder(
    data, environment, bucket, folder
):
    tensorboard = "--config.run.tensorboard=true"
    bucket.broken = f"{HOME}checkpoints/6/state/manifest.ocdbt"
    process = begin(data, address(bucket), environment, tensorboard)
    reached = bucket.reached.wait(300)
    process.kill()
    _, stderr = process.communicate()
    assert reached, stderr[-3000:]
    assert any(n.startswith(f"{HOME}checkpoints/6/state/ocdbt.process_0") for n in bucket.objects)

    bucket.broken = ""
    code, stderr = finish(begin(data, address(bucket), environment, tensorboard))
    assert code == 0, stderr[-3000:]
    assert "resumed from the checkpoint of step 3" in stderr
    assert f"--workdir {address(bucket)} --mode eval" in stderr
    for split in ("train", "val"):
        assert rows(bucket, split) == losses(folder, split)
    prefix = f"{HOME}checkpoints/"
    inside = {n.removeprefix(prefix) for n in bucket.objects if n.startswith(prefix)}
    assert {n.partition("/")[0] for n in inside} == {"3", "6"}
    assert {"3/commit_success.txt", "6/commit_success.txt"} <= inside
    log = bucket.objects[f"{HOME}log.txt"][1].decode()
    assert "resumed from the checkpoint of step 3" in log
    assert "--workdir NEW" in log.splitlines()[-1]

    names = {n.removeprefix(HOME) for n in bucket.objects}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")}
    outside = {n for n in there if not n.startswith("checkpoints/") and "profile" not in n}
    outside -= {"run.lock"}  # of folders alone: buckets know no locks
    assert outside and outside <= names
    events = [n for n in bucket.objects if n.startswith(f"{HOME}tensorboard/events")]
    assert events and any(b"train/loss" in bucket.objects[n][1] for n in events)


def test_what_lies_in_a_bucket_is_evaluated_and_loaded(data, environment, bucket):
    before = bucket.objects.pop(f"{HOME}eval/val.json")
    workdir = address(bucket)
    words = [sys.executable, "-m", "jaxvid.main", *arguments(data, workdir, "--mode", "eval")]
    code, stderr = finish(start(words, environment, stdout=subprocess.DEVNULL))
    assert code == 0, stderr[-3000:]
    after = json.loads(bucket.objects[f"{HOME}eval/val.json"][1])
    assert after == json.loads(before[1])
    program = (
        "import sys, jaxvid.pretrained as p\n"
        "print(p.from_pretrained(sys.argv[1])[2]['class_names'])"
    )
    command = [sys.executable, "-c", program, workdir]
    said = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert "['NonFight', 'Fight']" in said.stdout, said.stderr[-3000:]


def test_two_hosts_write_their_parts_into_a_bucket_and_one_goes_on(
    data, environment, bucket, folder
):
    workdir = address(bucket, "hosts")
    more = ("--config.eval.every_steps=3", "--config.mesh.fsdp=2")
    words = ["launch/local.sh", *arguments(data, workdir, *more, steps=6)]
    code, stderr = finish(start(words, environment, stdout=subprocess.DEVNULL))
    assert code == 0, stderr[-3000:]
    state = "runs/hosts/checkpoints/3/state/"
    for host in (0, 1):
        assert any(n.startswith(f"{state}ocdbt.process_{host}/d/") for n in bucket.objects)

    del bucket.objects["runs/hosts/checkpoints/6/commit_success.txt"]
    code, stderr = finish(begin(data, workdir, environment))
    assert code == 0, stderr[-3000:]
    assert "resumed from the checkpoint of step 3" in stderr
    found, wanted = rows(bucket, "train", "runs/hosts/"), losses(folder)
    assert found == pytest.approx(wanted, abs=1e-5) and len(wanted) == 6


def test_a_bucket_that_may_not_be_written_is_said(data, environment, bucket):
    bucket.denied = True
    try:
        code, stderr = finish(begin(data, address(bucket), environment))
    finally:
        bucket.denied = False
    assert code == 1, stderr[-3000:]
    said = f"error: --workdir {address(bucket)} cannot be written ("
    assert said in stderr and ("denied" in stderr or "Forbidden" in stderr)
