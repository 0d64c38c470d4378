"""Checkpoints of Flax and Orbax, written here as those libraries write them, and damaged ones."""

import flax.serialization
import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxvid.convert import flax_file, reading, weights_file
from jaxvid.core.errors import ConversionError

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 4)).astype(np.float32)
BIAS = RNG.normal(size=(4,)).astype(np.float32)
PARAMS = {"head": {"kernel": KERNEL, "bias": BIAS}}
FLAT = {"head/kernel": KERNEL, "head/bias": BIAS}
PLACES = {
    "params": {"params": PARAMS, "step": np.array(3, np.int32)},
    "params_in_params": {"params": {"params": PARAMS}},
    "model_params": {"model_params": PARAMS, "rng": np.zeros(2, np.uint32)},
    "optimizer_target": {"optimizer": {"target": PARAMS, "state": {"step": 3}}, "global_step": 3},
    "optimizer_target_params": {"optimizer": {"target": {"params": PARAMS}}},
    "bare": PARAMS,
}


def same(state, expected):
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert state[key].dtype == value.dtype
        np.testing.assert_array_equal(state[key], value)


def write(path, tree):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(flax.serialization.to_bytes(tree))
    return path


@pytest.mark.parametrize("place", PLACES)
def test_parameters_are_found_where_they_stand(tmp_path, place):
    path = write(tmp_path / "model.msgpack", PLACES[place])
    state, beside = flax_file.read(path)
    same(state, FLAT)
    assert beside == {}
    same(weights_file.read(path)[0], FLAT)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_1000", "model.msgpack"])
def test_names_of_files(tmp_path, name):
    assert flax_file.is_file(tmp_path / name)
    same(weights_file.read(write(tmp_path / name, PLACES["params"]))[0], FLAT)
    assert not flax_file.is_file("checkpoints") and not flax_file.is_file("checkpoint_last")


def test_statistics_come_along_under_their_own_name(tmp_path):
    stats = {"norm": {"mean": BIAS}}
    for number, tree in enumerate(
        (
            {"params": PARAMS, "batch_stats": stats},
            {"model_state": {"batch_stats": stats}, **PLACES["params"]},
        )
    ):
        state, _ = flax_file.read(write(tmp_path / f"{number}.msgpack", tree))
        same(state, {**FLAT, "batch_stats/norm/mean": BIAS})
    empty = {"params": PARAMS, "model_state": None}
    same(flax_file.read(write(tmp_path / "empty.msgpack", empty))[0], FLAT)


def test_16_bit_floats(tmp_path):
    half = {"kernel": KERNEL.astype(ml_dtypes.bfloat16)}
    state, _ = flax_file.read(write(tmp_path / "a.msgpack", {"params": half}))
    same(state, half)


def test_npz_with_paths_for_names(tmp_path):
    for number, prefix in enumerate(("", "params/", "opt/target/")):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **{prefix + key: value for key, value in FLAT.items()})
        same(weights_file.read(path)[0], FLAT)
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConversionError, match="damaged.npz: not an npz file of arrays, or cut off"):
        flax_file.read(damaged)


# --- folders ----------------------------------------------------------------------------------------


def save_tree(path, tree):
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


@pytest.mark.parametrize("place", ["params", "optimizer_target", "bare"])
def test_an_orbax_tree(tmp_path, place):
    path = save_tree(tmp_path / "tree", PLACES[place])
    assert flax_file.is_folder(path)
    same(flax_file.read(path)[0], FLAT)
    same(weights_file.read(path)[0], FLAT)


def test_the_last_step_of_a_manager(tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (9, 10):
            params = jax.tree.map(lambda x, step=step: x * step, PARAMS)
            tree = {"params": params, "batch_stats": {"mean": BIAS}, "opt_state": [KERNEL]}
            manager.save(step, args=ocp.args.StandardSave(tree))
        manager.wait_until_finished()
    expected = {key: x * 10 for key, x in FLAT.items()} | {"batch_stats/mean": BIAS}
    same(flax_file.read(tmp_path / "run")[0], expected)
    same(flax_file.read(tmp_path / "run" / "10" / "default")[0], expected)


def test_a_manager_of_several_items(tmp_path):
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(PLACES["params"]), other=ocp.args.StandardSave({"a": BIAS})
    )
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(1, args=items)
        manager.wait_until_finished()
    same(flax_file.read(tmp_path / "run")[0], FLAT)


def test_folders_of_files(tmp_path):
    write(tmp_path / "checkpoint_9", {"params": {"head": {"kernel": KERNEL * 0}}})
    write(tmp_path / "checkpoint_100", PLACES["params"])
    same(flax_file.read(tmp_path)[0], FLAT)
    write(tmp_path / "other" / "checkpoint", PLACES["optimizer_target"])
    same(flax_file.read(tmp_path / "other")[0], FLAT)


def test_other_folders_are_none(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "frame.jpg").write_bytes(b"x")
    assert not flax_file.is_folder(tmp_path) and not flax_file.is_folder(tmp_path / "no")
    with pytest.raises(FileNotFoundError, match="no checkpoint of Flax or Orbax"):
        flax_file.read(tmp_path)
    with pytest.raises(ConversionError, match="neither a Hugging Face folder .*, nor of Flax"):
        reading.from_path(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint of Flax or Orbax"):
        flax_file.read(tmp_path / "checkpoint")


# --- what is wrong ----------------------------------------------------------------------------------


def test_a_file_cut_off_and_others(tmp_path):
    whole = write(tmp_path / "checkpoint", PLACES["params"]).read_bytes()
    for content in (whole[:-20], whole[:30], b"", b"not msgpack at all"):
        (tmp_path / "checkpoint").write_bytes(content)
        with pytest.raises(
            ConversionError, match=rf"checkpoint: .*cut off \({len(content)} bytes\)"
        ):
            flax_file.read(tmp_path / "checkpoint")
    (tmp_path / "checkpoint").write_bytes(b"\x07")
    with pytest.raises(ConversionError, match="it holds int, expected a tree"):
        flax_file.read(tmp_path / "checkpoint")


def test_a_checkpoint_without_parameters(tmp_path):
    path = write(tmp_path / "checkpoint", {"step": np.int32(1), "rng": BIAS})
    with pytest.raises(ConversionError, match="no parameters .*optimizer/target.*: step, rng"):
        flax_file.read(path)
    folder = save_tree(tmp_path / "tree", {"step": np.int32(1)})
    with pytest.raises(
        ConversionError, match="no parameters in this checkpoint; .* there are: step"
    ):
        flax_file.read(folder)


def test_parameters_that_are_no_arrays(tmp_path):
    path = write(tmp_path / "checkpoint", {"params": {"kernel": "PLACEHOLDER://kernel"}})
    with pytest.raises(ConversionError, match="1 of 1 parameters are not arrays, .*'PLACEHOLDER"):
        flax_file.read(path)


def test_a_damaged_orbax_tree(tmp_path):
    path = save_tree(tmp_path / "tree", PLACES["params"])
    for file in path.rglob("d/*"):
        file.write_bytes(b"x")
    with pytest.raises(ConversionError, match="checkpoint of Orbax cannot be read .*damaged"):
        flax_file.read(path)
    (path / "_METADATA").write_text("{}")
    with pytest.raises(ConversionError, match="checkpoint of Orbax cannot be read .*damaged"):
        flax_file.read(path)
