"""CNN-Mamba: its size beside the course's, pooling, order of frames, a frozen CNN."""

import jax
import numpy as np
import per_frame
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import cnn_mamba


def test_sizes():
    assert per_frame.count("cnn_mamba", "18") == 16_526_402  # the course's: 16.4M
    assert 30_000 < per_frame.count("cnn_mamba", "test") < 400_000


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_what_is_classified(pool):
    model, variables, _, _ = per_frame.made("cnn_mamba")
    evaluate = jax.jit(lambda v, x: model.clone(pool=pool).apply(v, {"video": x}, train=False))
    outputs = evaluate(variables, per_frame.VIDEO)
    tokens = np.asarray(outputs["tokens"])
    assert tokens.shape == (3, 4, 64) and tokens.dtype == np.float32
    pooled = tokens.mean(1) if pool == "mean" else tokens[:, -1]
    np.testing.assert_allclose(outputs["features"], pooled, atol=1e-6)
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    logits = pooled @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)
    backwards = evaluate(variables, per_frame.VIDEO[:, ::-1])["logits"]
    assert np.abs(outputs["logits"] - backwards).max(1).min() > 1e-3


@pytest.mark.parametrize("overrides", [{}, {"bidirectional": True}], ids=str)
def test_the_order_of_frames_makes_a_difference(overrides):
    assert per_frame.reordering_changes_logits_by("cnn_mamba", **overrides) > 1e-3


@pytest.mark.parametrize("bidirectional", [False, True])
def test_any_number_of_frames(bidirectional):
    model, variables, _, _ = per_frame.made("cnn_mamba", bidirectional=bidirectional)
    assert ("backward" in variables["params"]["mamba"]["block_0"]["mixer"]) == bidirectional
    for frames in (1, 7):
        video = np.zeros((1, frames, 8, 8, 3), np.float32)
        outputs = jax.eval_shape(lambda x: model.apply(variables, {"video": x}, train=False), video)
        assert outputs["tokens"].shape == (1, frames, 64)


def test_outputs():
    per_frame.check_outputs("cnn_mamba", 64)


def test_training():
    per_frame.check_training("cnn_mamba", num_layers=1)


def test_a_frozen_cnn_stays_and_all_else_learns():
    _, variables, _, step = per_frame.made("cnn_mamba", num_layers=1, freeze_cnn=True)
    grads, stats, outputs = step(variables, per_frame.BATCH, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    for name, part in grads.items():
        learns = [bool(np.abs(g).max() > 0) for g in jax.tree.leaves(part)]
        assert not any(learns) if name == "backbone" else all(learns), name
    _, _, evaluate, _ = per_frame.made("cnn_mamba", num_layers=1)
    plain = evaluate(variables, per_frame.BATCH)
    np.testing.assert_allclose(outputs["logits"], plain["logits"], atol=1e-5)


def test_options():
    per_frame.check_options("cnn_mamba", num_layers=1)


def test_stochastic_depth():
    model, variables, _, _ = per_frame.made("cnn_mamba")
    model = model.clone(drop_path_rate=0.5, frozen_bn=True)

    @jax.jit
    def features(key):
        return model.apply(
            variables, {"video": per_frame.VIDEO}, train=True, rngs={"dropout": key}
        )["features"]

    drawn = [features(jax.random.key(i)) for i in range(4)]
    assert max(np.abs(x - drawn[0]).max() for x in drawn) > 1e-4


def test_wrong_clips():
    per_frame.check_wrong_clips("cnn_mamba")


def test_unknown_words():
    with pytest.raises(UnknownNameError, match="'cnn_mamba' has no variant 'B'"):
        cnn_mamba.build(2, variant="B")
    with pytest.raises(UnknownNameError, match="unknown pool 'max'.*last, mean"):
        per_frame.made("cnn_mamba", pool="max")
