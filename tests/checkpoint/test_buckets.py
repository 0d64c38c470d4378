"""Checkpoints in buckets, through the libraries that talk to real ones and servers on this machine."""

import importlib.util
import os
import subprocess
import sys
import textwrap

import bucket as buckets
import pytest
from bucket_s3 import S3Bucket, S3Handler

KINDS = {
    "gs": ("gcsfs", buckets.Bucket, buckets.Handler),
    "s3": ("s3fs", S3Bucket, S3Handler),
}


@pytest.fixture(params=["gs", pytest.param("s3", marks=pytest.mark.slow)])
def bucket(request):
    library, bucket, handler = KINDS[request.param]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}: pip install 'jaxvid[cloud]'")
    with buckets.serve(bucket(), handler) as served:
        yield served


PROGRAM = textwrap.dedent(
    """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from jaxvid.checkpoint.manager import Checkpoints
    from jaxvid.core.places import place
    from jaxvid.train.state import TrainState

    def state(i):
        return TrainState(
            step=jnp.int32(i),
            params={"a": {"kernel": jnp.arange(6000.0).reshape(20, 300) * i}},
            opt_state=(jnp.ones(3) * i,),
            batch_stats={},
            ema={},
            rng=jnp.zeros(2, jnp.uint32),
        )

    def abstract(s):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), s)

    folder = place(sys.argv[1])
    if sys.argv[2] == "save":
        with Checkpoints(folder, keep_last=2, keep_best=1) as checkpoints:
            for i, top1 in [(1, 0.5), (2, 0.9), (3, 0.1), (4, None), (5, 0.3)]:
                metrics = None if top1 is None else {"top1": top1}
                checkpoints.save(i, state(i), {"next": i}, metrics)
    with Checkpoints(folder, read_only=sys.argv[2] == "read") as checkpoints:
        last = checkpoints.which("last")
        print("steps", checkpoints.steps(), "best", checkpoints.which("best"), flush=True)
        restored, extra = checkpoints.restore(last, abstract(state(0)))
        jax.tree.map(np.testing.assert_array_equal, restored, state(last))
        weights = checkpoints.restore_weights(last)
        np.testing.assert_array_equal(weights["params"]["a"]["kernel"], state(last).params["a"]["kernel"])
        print("extra", extra)
        if sys.argv[2] == "go on":
            checkpoints.save(5, state(5), {"next": 5}, {"top1": 0.3})
            checkpoints.wait()
            print("then", checkpoints.steps())
    """
)


def start(bucket, what):
    address = f"{bucket.scheme}://{buckets.NAME}/run/checkpoints"
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, address, what],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **bucket.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_checkpoints_of_a_bucket_survive_a_kill_while_saving(bucket):
    bucket.broken = "checkpoints/5/state/manifest.ocdbt"
    killed = start(bucket, "save")
    assert bucket.reached.wait(120), "step 5 was never saved"
    killed.kill()
    killed.communicate()
    folder = "run/checkpoints/5/"
    written = [n.removeprefix(folder) for n in bucket.objects if n.startswith(folder)]
    assert any(n.startswith("state/ocdbt.process_0/d/") for n in written), sorted(bucket.objects)

    bucket.broken = ""
    said, stderr = start(bucket, "go on").communicate(timeout=120)
    assert said.splitlines() == [
        "steps [2, 3, 4] best 2",
        "extra {'next': 4}",
        "then [2, 4, 5]",
    ], stderr[-3000:]
    assert f"{folder}commit_success.txt" in bucket.objects
    steps = {n.split("/")[2] for n in bucket.objects}
    assert steps == {"2", "4", "5"}
