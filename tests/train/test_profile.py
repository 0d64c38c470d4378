"""Steps traced into files that TensorBoard's profiler reads."""

import logging

import jax
import jax.numpy as jnp
import pytest

from jaxvid.train import profile as module
from jaxvid.train.profile import Profile

STEP = jax.jit(lambda x: x @ x)


def run(profile, numbers):
    x = jnp.ones((8, 8))
    for number in numbers:
        with profile.step(number):
            x = STEP(x)
        profile.after(number, x)


def traces(folder):
    return sorted(folder.rglob("plugins/profile/*/*.xplane.pb"))


def test_the_steps_asked_for_and_no_others(tmp_path, caplog):
    profile = Profile(tmp_path, start=3, count=2)
    run(profile, (1, 2))
    assert not list(tmp_path.iterdir())
    with caplog.at_level(logging.INFO, logger="jaxvid"):
        run(profile, (3, 4, 5, 6))
        profile.close()
    assert len(traces(tmp_path)) == 1
    said = f"profile of steps 3 to 4: tensorboard --logdir {tmp_path} (needs xprof)"
    assert [r.getMessage() for r in caplog.records] == [said]
    written = traces(tmp_path)[0].read_bytes()
    assert written.count(b"step_num") and len(written) > 1000
    if jax.profiler.ProfileData is None:
        pytest.skip("this jaxlib reads no profiles")
    data = jax.profiler.ProfileData.from_serialized_xspace(written)
    named = [e for plane in data.planes for line in plane.lines for e in line.events]
    steps = [dict(e.stats).get("step_num") for e in named if e.name == "train"]
    assert sorted(map(int, steps)) == [3, 4]


@pytest.mark.parametrize("numbers", [(3, 4), (4, 5)])
def test_a_run_that_ends_or_begins_within_them(tmp_path, numbers):
    profile = Profile(tmp_path, start=3, count=3)
    run(profile, numbers)
    profile.close()
    assert len(traces(tmp_path)) == 1
    run(Profile(tmp_path / "more", start=3, count=3), (6, 7))
    assert not (tmp_path / "more").exists()


def test_nothing_is_traced_unless_asked(tmp_path):
    profile = Profile(tmp_path)
    run(profile, (0, 1, 2))
    profile.close()
    assert not list(tmp_path.iterdir())


def test_into_a_bucket_it_is_copied_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "is_remote", lambda path: True)
    traced = []
    start = jax.profiler.start_trace
    monkeypatch.setattr(
        module.jax.profiler, "start_trace", lambda folder: (traced.append(folder), start(folder))
    )
    run(Profile(tmp_path / "bucket", start=1, count=1), (1,))
    assert len(traces(tmp_path / "bucket")) == 1 and tmp_path not in traced[0].parents
