"""The LSTM against torch's numbers: outputs, states and their order, both directions."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.convert import apply
from jaxvid.convert.cnn_lstm import lstm as lstm_rules
from jaxvid.nn.lstm import LSTM

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

CELL = {"hidden": 5, "num_layers": 2}
X = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)  # N, T, I


def converted(name):
    """(module, variables, the state dict's classifier) of a golden."""
    told, state = check.facts(name), check.weights(name)
    config = told["config"]
    module = LSTM(config["hidden_size"], config["num_layers"], config["bidirectional"])
    x = jnp.zeros((1, 2, config["input_size"]))
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))
    recurrent = {k: v for k, v in state.items() if k.startswith("lstm.")}
    rules = lstm_rules("lstm", "rnn")
    targets = {f"rnn/{path}": leaf for path, leaf in apply.flatten_variables(shapes).items()}
    filled, _ = apply.load(recurrent, targets, rules)
    assert apply.save(filled, rules).keys() == recurrent.keys()
    for key, value in apply.save(filled, rules).items():
        np.testing.assert_array_equal(value, recurrent[key])
    variables = {"params": apply.unflatten_variables(filled)["params"]["rnn"]}
    return module, variables, (state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("name", ["torch_lstm", "torch_bilstm"])
def test_torchs_numbers(name):
    module, variables, (weight, bias) = converted(name)
    run = jax.jit(lambda v, x: module.apply(v, x, train=False))
    outputs, (h_n, c_n) = run(variables, check.drawn(name))
    z, atol = check.stored(name), check.facts(name)["checks"]["suggested_atol"]
    np.testing.assert_allclose(outputs[:, -1] @ weight.T + bias, z["logits"], atol=atol)
    np.testing.assert_allclose(outputs[..., :16], z["sequence"], atol=atol)
    np.testing.assert_allclose(h_n, z["h_n"], atol=atol)
    np.testing.assert_allclose(c_n, z["c_n"], atol=atol)


def made(**options):
    module = LSTM(**CELL, **options)
    return module, module.init(jax.random.key(1), X, train=False)


def test_the_backward_state_has_seen_the_whole_clip_and_its_last_output_one_frame():
    module, variables = made(bidirectional=True)
    outputs, (h_n, _) = module.apply(variables, X, train=False)
    assert outputs.shape == (3, 7, 10) and h_n.shape == (4, 3, 5)
    np.testing.assert_allclose(h_n[-2], outputs[:, -1, :5], atol=1e-6)
    np.testing.assert_allclose(h_n[-1], outputs[:, 0, 5:], atol=1e-6)
    changed = X.copy()
    changed[:, 0] += 1.0
    _, (other, _) = module.apply(variables, changed, train=False)
    assert np.abs(other[-1] - h_n[-1]).max() > 1e-3


def test_one_product_of_matrices_for_the_inputs_of_all_steps():
    module, variables = made()
    jaxpr = jax.make_jaxpr(lambda v, x: module.apply(v, x, train=False))(variables, X)
    assert str(jaxpr).count("dot_general") == 4  # two layers: one outside of the scan, one inside
    scans = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
    assert [str(e.params["jaxpr"]).count("dot_general") for e in scans] == [1, 1]


def test_dropout_between_layers_in_training_alone():
    module, variables = made(dropout=0.5)
    plain, (_, _) = LSTM(**CELL).apply(variables, X, train=True)
    np.testing.assert_array_equal(module.apply(variables, X, train=False)[0], plain)
    dropped, (h_n, _) = module.apply(variables, X, train=True, rngs={"dropout": jax.random.key(0)})
    assert np.abs(dropped - plain).max() > 1e-3
    first = LSTM(5).apply({"params": {"layer_0": variables["params"]["layer_0"]}}, X, train=False)
    np.testing.assert_allclose(h_n[0], first[1][0][0], atol=1e-6)  # the first layer is untouched


def test_half_precision_keeps_its_states_in_float32():
    module, variables = made(dtype=jnp.bfloat16)
    outputs, (h_n, c_n) = module.apply(variables, X, train=False)
    assert outputs.dtype == jnp.bfloat16 and h_n.dtype == c_n.dtype == jnp.float32
    plain, _ = LSTM(**CELL).apply(variables, X, train=False)
    np.testing.assert_allclose(outputs.astype(jnp.float32), plain, atol=0.02)


def test_everything_starts_within_torchs_bound():
    _, variables = made()
    leaves = jax.tree.leaves(variables["params"])
    largest = [float(np.abs(x).max()) for x in leaves]
    assert len(leaves) == 8 and max(largest) <= 5**-0.5 and min(largest) > 0.3 * 5**-0.5
