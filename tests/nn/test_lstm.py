"""The LSTM against torch's numbers: outputs, states and their order, both directions."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.convert import apply
from jaxvid.convert.cnn_lstm import lstm as lstm_rules
from jaxvid.nn.lstm import LSTM, Recurrence

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
    assert products(jaxpr.jaxpr) == [4, 2]  # two layers: one outside of the scan, one inside


def products(jaxpr, looped=False):
    """How many products of matrices there are, and how many of them in scans."""
    counts = np.zeros(2, int)
    for equation in jaxpr.eqns:
        counts += (equation.primitive.name == "dot_general") * np.array([1, looped])
        inside = looped or equation.primitive.name == "scan"
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                counts += products(inner, inside)
    return counts.tolist()


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
def test_gradients_are_those_of_the_plain_loop(reverse):
    layer = Recurrence(5, reverse)
    x = jnp.swapaxes(X, 0, 1)  # (T, N, I)
    variables = layer.init(jax.random.key(1), x)

    def plain(variables, x):
        p = variables["params"]
        h = c = jnp.zeros((x.shape[1], 5))
        outputs = [None] * len(x)
        for t in sorted(range(len(x)), reverse=reverse):
            sums = x[t] @ p["input_kernel"] + p["input_bias"] + p["hidden_bias"]
            i, f, g, o = jnp.split(sums + h @ p["hidden_kernel"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            outputs[t] = h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return jnp.stack(outputs), h, c

    def gradients(function):
        def run(variables, x):
            results, back = jax.vjp(function, variables, x)
            return back(
                jax.tree.map(lambda y: jnp.cos(jnp.arange(y.size)).reshape(y.shape), results)
            )

        return jax.jit(run)(variables, x)

    jaxpr = jax.make_jaxpr(lambda v, x: jax.vjp(layer.apply, v, x)[1](layer.apply(v, x)))(
        variables, x
    )
    assert products(jaxpr.jaxpr)[1] == 3, "a gradient of weights in the loop"
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(gradients(layer.apply)),
        jax.tree.leaves(gradients(plain)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, atol=2e-6, err_msg=jax.tree_util.keystr(path))


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
