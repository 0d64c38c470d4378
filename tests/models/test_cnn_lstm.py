"""CNN-LSTM: the course's size, the last state, two directions, a frozen CNN."""

import jax
import numpy as np
import per_frame
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import cnn_lstm


def test_the_courses_size():
    assert per_frame.count("cnn_lstm", "18") == 15_272_376  # 15.3M


def test_the_last_state_is_classified():
    _, variables, evaluate, _ = per_frame.made("cnn_lstm")
    outputs = evaluate(variables, per_frame.VIDEO)
    np.testing.assert_array_equal(outputs["features"], outputs["tokens"][:, -1])
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    logits = outputs["features"] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-5)


def test_two_directions_are_classified_by_the_last_states_of_both():
    _, variables, evaluate, _ = per_frame.made("cnn_lstm", bidirectional=True, num_layers=2)
    outputs = evaluate(variables, per_frame.VIDEO)
    tokens = outputs["tokens"]
    assert outputs["features"].shape == (3, 128)
    np.testing.assert_array_equal(outputs["features"][:, :64], tokens[:, -1, :64])
    np.testing.assert_array_equal(outputs["features"][:, 64:], tokens[:, 0, 64:])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_order_of_frames_makes_a_difference(bidirectional):
    overrides = {"bidirectional": True, "num_layers": 2} if bidirectional else {}
    assert per_frame.reordering_changes_logits_by("cnn_lstm", **overrides) > 1e-3


def test_any_number_of_frames():
    model, variables, _, _ = per_frame.made("cnn_lstm")
    for frames in (1, 7):
        video = np.zeros((1, frames, 8, 8, 3), np.float32)
        outputs = jax.eval_shape(lambda x: model.apply(variables, {"video": x}, train=False), video)
        assert outputs["tokens"].shape == (1, frames, 64)


def test_outputs():
    per_frame.check_outputs("cnn_lstm", 64)


def test_training():
    per_frame.check_training("cnn_lstm")


def test_a_frozen_cnn_stays_and_all_else_learns():
    model, variables, _, step = per_frame.made("cnn_lstm", freeze_cnn=True)
    assert model.frozen_paths == ("^backbone/",)  # weight decay included
    assert model.clone(freeze_cnn=False).frozen_paths == ()
    grads, stats, outputs = step(variables, per_frame.BATCH, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    for name, part in grads.items():
        learns = [bool(np.abs(g).max() > 0) for g in jax.tree.leaves(part)]
        assert not any(learns) if name == "backbone" else all(learns), name
    _, _, evaluate, _ = per_frame.made("cnn_lstm")
    plain = evaluate(variables, per_frame.BATCH)
    np.testing.assert_allclose(outputs["logits"], plain["logits"], atol=1e-5)


def test_options():
    per_frame.check_options("cnn_lstm")


def test_dropout_between_the_layers_of_the_lstm():
    model, variables, _, _ = per_frame.made("cnn_lstm", num_layers=2, bidirectional=True)
    model = model.clone(lstm_dropout=0.5, frozen_bn=True)

    @jax.jit
    def features(key):
        return model.apply(
            variables, {"video": per_frame.VIDEO}, train=True, rngs={"dropout": key}
        )["features"]

    assert np.abs(features(jax.random.key(0)) - features(jax.random.key(1))).max() > 1e-4


def test_wrong_clips():
    per_frame.check_wrong_clips("cnn_lstm")


def test_unknown_variant():
    with pytest.raises(UnknownNameError, match="'cnn_lstm' has no variant 'B'"):
        cnn_lstm.build(2, variant="B")
