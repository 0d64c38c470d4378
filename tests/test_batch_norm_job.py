"""Batch normalisation from the command line: statistics measured anew, a frozen backbone."""

import json

import jax
import numpy as np
import pytest

from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.main import main

RECIPE = """
from jaxvid.config import default

def get_config():
    c = default()
    c.run.steps = 4
    c.run.log_every_steps = 1
    c.run.tensorboard = c.run.compilation_cache = False
    c.data.dataset = "synthetic"
    c.data.options.clips_per_class = {"train": 4, "val": 2}
    c.data.options.size = 40
    c.data.batch_size = 8
    c.data.num_frames = 8
    c.data.size = 32
    c.model.name, c.model.variant = "r3d", "test"
    c.optim.learning_rate = 1e-2
    c.optim.weight_decay = 0.1
    c.checkpoint.every_steps = 2
    c.eval.every_steps = 4
    return c
"""
FROZEN = "--config.optim.frozen=('backbone/',)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Words that start this recipe; it has been trained with a frozen backbone."""
    home = tmp_path_factory.mktemp("batch_norm")
    recipe = home / "recipe.py"
    recipe.write_text(RECIPE)
    words = ["--config", str(recipe), "--workdir", str(home / "work"), FROZEN]
    words.append(f"--config.data.root={home / 'data'}")
    assert main(words) == 0
    return words, home / "work"


@pytest.mark.slow
def test_what_is_frozen_gets_no_update_and_no_decay(trained):
    _, workdir = trained
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        early, late = (checkpoints.restore_weights(step) for step in (2, 4))
    for name in ("params", "batch_stats"):
        same = jax.tree.map(np.array_equal, early[name]["backbone"], late[name]["backbone"])
        # Weights stay; running statistics of a backbone that is not frozen_bn go on.
        assert set(jax.tree.leaves(same)) == {name == "params"}
    assert not np.array_equal(early["params"]["head"]["kernel"], late["params"]["head"]["kernel"])


@pytest.mark.slow
def test_statistics_are_measured_anew_before_evaluation(trained):
    words, workdir = trained
    losses = []
    for batches in (0, 2, 2):
        more = [] if batches == 0 else [f"--config.eval.precise_bn_batches={batches}"]
        assert main([*words, "--mode", "eval", *more]) == 0
        losses.append(json.loads((workdir / "eval" / "val.json").read_text())["metrics"]["loss"])
    assert losses[1] == losses[2] and abs(losses[1] - losses[0]) > 1e-4
