"""A workdir in a bucket, by the libraries that talk to real ones and a server on this machine."""

import importlib.util
import json
import subprocess
import sys

import bucket as buckets
import pytest
from jobs import ROOT, arguments, finish, losses, main_process, make_data, make_environment, start

WORKDIR = f"gs://{buckets.NAME}/runs/first"
HOME = "runs/first/"
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("gcsfs") is None, reason="needs gcsfs: pip install 'jaxvid[cloud]'"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return make_data(tmp_path_factory.mktemp("rwf"), write_video)


@pytest.fixture(scope="module")
def bucket():
    with buckets.serve() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def environment(tmp_path_factory, bucket):
    cache = tmp_path_factory.mktemp("cache")
    return make_environment(cache, devices=1, **bucket.environment())


def train(data, workdir, environment, *more):
    process = main_process(data, workdir, environment, "--config.eval.every_steps=3", *more)
    code, stderr = finish(process)
    return code, stderr


STEPS = "--config.run.steps=6"


def steps_of(bucket):
    prefix = f"{HOME}checkpoints/"
    return {n.removeprefix(prefix).partition("/")[0] for n in bucket.objects if prefix in n}


def rows(text, split):
    lines = [json.loads(line) for line in text.splitlines()]
    return {r["step"]: r["loss"] for r in lines if r["split"] == split}


@needs_library
def test_a_run_in_a_bucket_is_the_run_in_a_folder_and_goes_on(data, environment, bucket, tmp_path):
    code, stderr = train(data, tmp_path / "run", environment, STEPS)
    assert code == 0, stderr[-3000:]
    tensorboard = "--config.run.tensorboard=true"
    code, stderr = train(data, WORKDIR, environment, STEPS, tensorboard)
    assert code == 0, stderr[-3000:]
    assert f"--workdir {WORKDIR} --mode eval" in stderr
    assert steps_of(bucket) == {"3", "6"}
    names = {n.removeprefix(HOME) for n in bucket.objects}
    there = {p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*.*")}
    outside = {n for n in there if not n.startswith("checkpoints/") and "profile" not in n}
    assert outside and outside <= names
    assert any(n.startswith("tensorboard/events") for n in names)

    def same():
        text = bucket.objects[f"{HOME}metrics.jsonl"][1].decode()
        assert rows(text, "train") == losses(tmp_path / "run")
        assert rows(text, "val") == losses(tmp_path / "run", "val")

    same()
    # Killed after step 3, with half of the next checkpoint written and its lines in the log.
    for name in [n for n in bucket.objects if n.startswith(f"{HOME}checkpoints/6/")]:
        if name.endswith("commit_success.txt"):
            del bucket.objects[name]
    code, stderr = train(data, WORKDIR, environment, STEPS)
    assert code == 0, stderr[-3000:]
    assert "resumed from the checkpoint of step 3" in stderr
    same()
    assert f"{HOME}checkpoints/6/commit_success.txt" in bucket.objects
    log = bucket.objects[f"{HOME}log.txt"][1].decode()
    assert log.count("the first one compiles") == 2


@needs_library
def test_what_lies_in_a_bucket_is_evaluated_and_loaded(data, environment, bucket):
    before = bucket.objects.pop(f"{HOME}eval/val.json")
    words = [sys.executable, "-m", "jaxvid.main", *arguments(data, WORKDIR, "--mode", "eval")]
    code, stderr = finish(start(words, environment, stdout=subprocess.DEVNULL))
    assert code == 0, stderr[-3000:]
    after = json.loads(bucket.objects[f"{HOME}eval/val.json"][1])
    assert after == json.loads(before[1])
    program = (
        "import sys, jaxvid.pretrained as p\n"
        "print(p.from_pretrained(sys.argv[1])[2]['class_names'])"
    )
    command = [sys.executable, "-c", program, WORKDIR]
    said = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert "['NonFight', 'Fight']" in said.stdout, said.stderr[-3000:]


@needs_library
def test_a_bucket_that_may_not_be_written_is_said(data, environment, bucket):
    bucket.denied = True
    try:
        code, stderr = train(data, WORKDIR, environment, STEPS)
    finally:
        bucket.denied = False
    assert code == 1, stderr[-3000:]
    assert f"error: --workdir {WORKDIR} cannot be written (" in stderr and "denied" in stderr
