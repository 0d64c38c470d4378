"""How a ResNet starts CNN-LSTM; the rules of a torch LSTM are tested with it, in test_lstm.py."""

import backbones
import numpy as np

from jaxvid.convert import apply, cnn_lstm


def test_a_resnet_starts_it(tmp_path):
    fresh = {"projection", "lstm", "head"}
    options = {"projection_width": 8, "hidden_width": 6, "num_layers": 2, "bidirectional": True}
    model, _, (ours, theirs) = backbones.check_start(
        tmp_path / "resnet", "cnn_lstm", fresh, **options
    )
    np.testing.assert_array_equal(ours, theirs)
    assert model.bidirectional and model.hidden_width == 6


def test_gates_biases_and_directions_keep_their_places():
    rng = np.random.default_rng(0)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    shapes = ((8, 3), (8, 2), (8,), (8,))
    state = {
        f"rnn.{name}_l1{ending}": rng.normal(size=shape)
        for name, shape in zip(names, shapes, strict=True)
        for ending in ("", "_reverse")
    }
    paths = {
        f"a/layer_1/{direction}/{leaf}": apply.ShapeOnly(shape[::-1], np.dtype("float64"))
        for direction in ("forward", "backward")
        for leaf, shape in zip(
            ("input_kernel", "hidden_kernel", "input_bias", "hidden_bias"), shapes, strict=True
        )
    }
    filled, _ = apply.load(state, paths, cnn_lstm.lstm("rnn", "a"))
    backward = filled["a/layer_1/backward/hidden_kernel"]
    np.testing.assert_array_equal(backward, state["rnn.weight_hh_l1_reverse"].T)
    np.testing.assert_array_equal(filled["a/layer_1/forward/input_bias"], state["rnn.bias_ih_l1"])
