import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.core.errors import CheckpointError
from jaxvid.train.state import TrainState


def state(i, ema=False):
    params = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3) * i}}
    batch_stats = {"norm": {"mean": jnp.ones(2) * i}}
    average = jax.tree.map(jnp.negative, {"params": params, "batch_stats": batch_stats})
    return TrainState(
        step=jnp.int32(i),
        params=params,
        opt_state=(jnp.ones(3) * i, {"mu": jnp.zeros(2)}),
        batch_stats=batch_stats,
        ema=average if ema else {},
        rng=jnp.zeros(2, jnp.uint32),
    )


def abstract(s):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), s)


@pytest.fixture
def filled(tmp_path):
    with Checkpoints(tmp_path / "c", keep_last=2, keep_best=1) as checkpoints:
        for i, top1 in [(1, 0.5), (2, 0.9), (3, 0.1), (4, None), (5, 0.3)]:
            metrics = None if top1 is None else {"top1": top1}
            checkpoints.save(i, state(i), {"iterator": {"next_batch": i}}, metrics)
        checkpoints.wait()
    return tmp_path / "c"


def test_keeps_the_last_ones_and_the_best(filled):
    with Checkpoints(filled, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        assert [checkpoints.which(n) for n in ("last", "best", "4")] == [5, 2, 4]


def test_lowest_is_best_in_mode_min(tmp_path):
    with Checkpoints(tmp_path, keep_last=1, metric="loss", mode="min") as checkpoints:
        for i, loss in [(1, 0.5), (2, 0.1), (3, 0.9)]:
            checkpoints.save(i, state(i), {}, {"loss": loss})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3] and checkpoints.which("best") == 2


def test_restores_state_and_extra(filled):
    with Checkpoints(filled, read_only=True) as checkpoints:
        restored, extra = checkpoints.restore(5, abstract(state(0)))
    assert extra == {"iterator": {"next_batch": 5}}
    jax.tree.map(np.testing.assert_array_equal, restored, state(5))


def test_weights_alone_come_as_numpy_the_average_first(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3, ema=True), {})
        checkpoints.wait()
        weights = checkpoints.restore_weights(3)
    kernel = weights["params"]["a"]["kernel"]
    assert isinstance(kernel, np.ndarray)
    np.testing.assert_array_equal(kernel, -3 * np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(weights["batch_stats"]["norm"]["mean"], [-3, -3])


def test_names_that_are_not_there(filled, tmp_path):
    with (
        Checkpoints(filled, read_only=True) as checkpoints,
        pytest.raises(CheckpointError, match=r"no checkpoint '7'; there are \[2, 4, 5\]"),
    ):
        checkpoints.which("7")
    with Checkpoints(tmp_path / "empty") as checkpoints:
        with pytest.raises(CheckpointError, match="no whole checkpoint here; train first"):
            checkpoints.which("last")
        checkpoints.save(1, state(1), {})
        checkpoints.wait()
        with pytest.raises(CheckpointError, match="none is best"):
            checkpoints.which("best")


def test_another_architecture_is_refused_with_all_differences(filled):
    other = state(0).replace(
        params={"a": {"kernel": jnp.zeros((2, 4))}, "b": jnp.zeros(1)},
    )
    with (
        Checkpoints(filled, read_only=True) as checkpoints,
        pytest.raises(CheckpointError, match="another architecture; 2 parameters differ") as e,
    ):
        checkpoints.restore(5, abstract(other))
    assert "params/a/kernel: (2, 3) in the checkpoint, (2, 4) here" in str(e.value)
    assert "params/b: absent in the checkpoint, (1,) here" in str(e.value)


def test_a_half_written_checkpoint_is_dropped_with_a_warning(filled, caplog):
    shutil.copytree(filled / "5", filled / "6.orbax-checkpoint-tmp-123")
    with caplog.at_level(logging.WARNING, logger="jaxvid"), Checkpoints(filled) as checkpoints:
        assert checkpoints.which("last") == 5
    assert "6.orbax-checkpoint-tmp-123 was never finished" in caplog.text
    assert sorted(p.name for p in filled.iterdir()) == ["2", "4", "5"]


@pytest.mark.parametrize("part", ["_METADATA", "manifest.ocdbt", "d"])
def test_a_damaged_checkpoint_says_so(filled, part):
    victim = filled / "5" / "state" / part
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    with (
        Checkpoints(filled, read_only=True) as checkpoints,
        pytest.raises(CheckpointError, match=r"5 cannot be read.*there are \[2, 4\]"),
    ):
        checkpoints.restore(5, abstract(state(0)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("reader", ["restore", "restore_weights"])
def test_a_truncated_file_says_which_checkpoint_it_is_of(tmp_path, share, reader):
    noise = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    saved = state(1).replace(params={"a": {"kernel": jnp.asarray(noise)}})
    with Checkpoints(tmp_path) as checkpoints:
        for i in (1, 2):
            checkpoints.save(i, saved, {})
        checkpoints.wait()
        files = [p for p in (tmp_path / "2").rglob("*") if p.is_file()]
        victim = max(files, key=lambda p: p.stat().st_size)
        os.truncate(victim, int(victim.stat().st_size * share))
        arguments = (2, abstract(saved)) if reader == "restore" else (2,)
        with pytest.raises(CheckpointError, match=r"2 cannot be read.*damaged.*there are \[1\]"):
            getattr(checkpoints, reader)(*arguments)
        restored, _ = checkpoints.restore(1, abstract(saved))
    np.testing.assert_array_equal(restored.params["a"]["kernel"], noise)


def test_too_little_room_is_said_before_anything_is_written(filled, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with Checkpoints(filled) as checkpoints:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
        with pytest.raises(
            CheckpointError, match=r"needs about .* Earlier checkpoints \[2, 4, 5\]"
        ):
            checkpoints.save(6, state(6), {})


def test_a_disk_that_fills_up_while_saving_loses_nothing(tmp_path):
    """The real thing: the process may not write files of more than 64 KiB."""
    program = textwrap.dedent(
        """
        import resource, sys
        import jax.numpy as jnp
        import numpy as np
        from jaxvid.checkpoint.manager import Checkpoints
        from jaxvid.core.errors import CheckpointError
        noise = np.random.default_rng(0).normal(size=1_000_000)  # does not compress
        big = {"params": {"w": jnp.asarray(noise)}, "batch_stats": {}}
        with Checkpoints(sys.argv[1], keep_last=1) as checkpoints:
            checkpoints.save(1, big, {})
            checkpoints.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
            try:
                checkpoints.save(2, big, {})
                checkpoints.wait()
                print("no error")
            except CheckpointError as error:
                print("refused:", error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        """
    )
    folder = tmp_path / "c"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "refused:" in done.stdout and "Earlier checkpoints [1]" in done.stdout, (
        done.stdout + done.stderr[-2000:]
    )
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [1]
        noise = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
        np.testing.assert_array_equal(checkpoints.restore_weights(1)["params"]["w"], noise)


@pytest.mark.parametrize("reader", ["restore", "restore_weights"])
def test_a_flipped_byte_is_an_error_and_not_other_weights(tmp_path, reader):
    noise = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    saved = state(1).replace(params={"a": {"kernel": jnp.asarray(noise)}})
    with Checkpoints(tmp_path) as checkpoints:
        for i in (1, 2, 3):
            checkpoints.save(i, saved, {})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
        files = [p for p in (tmp_path / "3").rglob("*") if p.is_file()]
        victim = max(files, key=lambda p: p.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        arguments = (3, abstract(saved)) if reader == "restore" else (3,)
        with pytest.raises(CheckpointError, match=r"3 cannot be read.*does not hold what") as error:
            getattr(checkpoints, reader)(*arguments)
        assert victim.name in str(error.value) and "there are [2]" in str(error.value)
        restored, _ = checkpoints.restore(2, abstract(saved))
    np.testing.assert_array_equal(restored.params["a"]["kernel"], noise)


def test_a_checkpoint_without_checksums_is_read_as_it_is(filled):
    (filled / "5" / "checksums.json").unlink()
    with Checkpoints(filled, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore(5, abstract(state(0)))
    jax.tree.map(np.testing.assert_array_equal, restored, state(5))


def test_every_checkpoint_has_checksums_of_its_own_files(filled):
    for folder in filled.iterdir():
        table = json.loads((folder / "checksums.json").read_text())
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        later = {"checksums.json", "_CHECKPOINT_METADATA", "commit_success.txt"}
        assert {"state/manifest.ocdbt", "extra/metadata"} <= set(table) and files - set(
            table
        ) <= later
