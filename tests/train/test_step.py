"""The step on a linear model, where everything can be said in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvid.objectives import classify
from jaxvid.train.optim import make_optimizer
from jaxvid.train.state import make_init
from jaxvid.train.step import make_train_step

X = np.linspace(-1, 1, 8 * 4, dtype=np.float32).reshape(8, 4)
Y = np.eye(3, dtype=np.float32)[np.arange(8) % 3]


def prepare(rng, batch):
    return {"video": batch["x"]}, {
        "target": batch["y"],
        "weight": batch["mask"].astype(jnp.float32),
    }


def apply(variables, inputs, rng):
    return {"logits": inputs["video"] @ variables["params"]["w"]}, variables["batch_stats"]


def batch(**changes):
    return {"x": jnp.asarray(X), "y": jnp.asarray(Y), "mask": jnp.ones(8, bool), **changes}


def start(tx, ema=False):
    w = jnp.asarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3))
    return make_init(lambda rng: {"params": {"w": w}}, tx, ema=ema)(jax.random.key(0))


def step_of(tx, **options):
    return jax.jit(make_train_step(apply, classify.build(), tx, prepare, lambda s: 0.5, **options))


def gradient(w, rows):
    logits = X[rows] @ w
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return X[rows].T @ (p - Y[rows]) / len(rows)


def test_one_sgd_step_by_hand():
    tx = optax.with_extra_args_support(optax.identity())
    state = start(tx)
    new, sums = step_of(tx)(state, batch())
    want = state.params["w"] - 0.5 * gradient(np.asarray(state.params["w"]), np.arange(8))
    np.testing.assert_allclose(new.params["w"], want, atol=1e-6)
    assert int(new.step) == 1 and float(sums["nonfinite"][0]) == 0
    assert float(sums["learning_rate"][0]) == 0.5


def test_masked_rows_teach_nothing_even_when_they_are_nan():
    tx = optax.with_extra_args_support(optax.identity())
    state = start(tx)
    mask = jnp.arange(8) < 5
    x = jnp.asarray(X).at[6].set(jnp.nan)
    new, sums = step_of(tx)(state, batch(mask=mask))
    want = state.params["w"] - 0.5 * gradient(np.asarray(state.params["w"]), np.arange(5))
    np.testing.assert_allclose(new.params["w"], want, atol=1e-6)
    assert float(sums["loss"][1]) == 5
    assert np.isfinite(float(step_of(tx)(state, batch(mask=mask, x=x))[1]["loss"][0]))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_gives_the_whole_batch_also_with_uneven_masks(parts):
    tx = make_optimizer(weight_decay=0.0)
    mask = jnp.asarray([True, True, False, True, False, False, True, True])
    whole, sums = step_of(tx)(start(tx), batch(mask=mask))
    divided, part_sums = step_of(tx, accumulate=parts)(start(tx), batch(mask=mask))
    np.testing.assert_allclose(divided.params["w"], whole.params["w"], atol=1e-6)
    np.testing.assert_allclose(sums["loss"], part_sums["loss"], rtol=1e-6)


def test_a_nonfinite_step_changes_nothing_but_the_count():
    tx = make_optimizer(weight_decay=0.0)
    state = start(tx, ema=True)
    new, sums = step_of(tx, ema_decay=0.9)(state, batch(x=jnp.full((8, 4), jnp.inf)))
    assert float(sums["nonfinite"][0]) == 1 and float(sums["loss"][1]) == 0
    assert int(new.step) == 1
    for a, b in zip(
        jax.tree.leaves((new.params, new.opt_state, new.ema)),
        jax.tree.leaves((state.params, state.opt_state, state.ema)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_batch_without_rows_changes_nothing_not_even_by_momentum():
    tx = make_optimizer(weight_decay=0.0)
    step = step_of(tx)
    state, _ = step(start(tx), batch())
    new, sums = step(state, batch(mask=jnp.zeros(8, bool)))
    np.testing.assert_array_equal(new.params["w"], state.params["w"])
    assert float(sums["nonfinite"][0]) == 0


def test_ema_by_hand():
    tx = optax.with_extra_args_support(optax.identity())
    state = start(tx, ema=True)
    new, _ = step_of(tx, ema_decay=0.75)(state, batch())
    want = 0.1 * state.params["w"] + 0.9 * new.params["w"]  # at step 0 (1 + 0) / (10 + 0) remain
    np.testing.assert_allclose(new.ema["params"]["w"], want, atol=1e-6)
    assert new.eval_variables() is new.ema
    later = state.replace(step=jnp.asarray(1000))
    new, _ = step_of(tx, ema_decay=0.75)(later, batch())
    want = 0.75 * state.params["w"] + 0.25 * new.params["w"]
    np.testing.assert_allclose(new.ema["params"]["w"], want, atol=1e-6)


def test_statistics_are_averaged_like_the_weights_they_are_of():
    def apply_and_measure(variables, inputs, rng):
        outputs, _ = apply(variables, inputs, rng)
        return outputs, {"norm": {"mean": jnp.full(2, 3.0), "var": jnp.full(2, 5.0)}}

    def init(rng):
        weights = start(optax.identity()).params
        return {
            "params": weights,
            "batch_stats": {"norm": {"mean": jnp.zeros(2), "var": jnp.ones(2)}},
        }

    tx = optax.with_extra_args_support(optax.identity())
    state = make_init(init, tx, ema=True)(jax.random.key(0)).replace(step=jnp.asarray(1000))
    parts = (apply_and_measure, classify.build(), tx, prepare, lambda s: 0.5)
    new, _ = jax.jit(make_train_step(*parts, ema_decay=0.75))(state, batch())
    found = new.eval_variables()["batch_stats"]["norm"]
    np.testing.assert_allclose(found["mean"], [0.75, 0.75])
    np.testing.assert_allclose(found["var"], [2.0, 2.0])
    np.testing.assert_allclose(new.batch_stats["norm"]["mean"], [3.0, 3.0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_frozen_costs_nothing_and_is_no_part_of_the_norm(accumulate):
    tx = make_optimizer("adamw", frozen=("body/",))
    head = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    kernels = {"body": {"w": jnp.eye(4)}, "head": {"w": jnp.asarray(head)}}
    state = make_init(lambda rng: {"params": kernels}, tx, ema=False)(jax.random.key(0))
    taken = []

    @jax.custom_vjp
    def product(x, w):
        return x @ w

    def backward(kept, gradient):
        taken.append(True)  # when it is traced
        x, w = kept
        return gradient @ w.T, x.T @ gradient

    product.defvjp(lambda x, w: (x @ w, (x, w)), backward)

    def two_layers(variables, inputs, rng):
        body, head = (variables["params"][name]["w"] for name in ("body", "head"))
        return {"logits": product(inputs["video"], body) @ head}, variables["batch_stats"]

    def step_with(**options):
        return jax.jit(
            make_train_step(
                two_layers,
                classify.build(),
                tx,
                prepare,
                lambda s: 0.5,
                accumulate=accumulate,
                **options,
            )
        )

    assert sum(x.size for x in jax.tree.leaves(state.opt_state)) < 2 * 12 + 4
    new, sums = step_with(frozen=("body/",))(state, batch())
    assert not taken
    np.testing.assert_array_equal(new.params["body"]["w"], kernels["body"]["w"])
    want = np.linalg.norm(gradient(head, np.arange(8)))
    np.testing.assert_allclose(sums["grad_norm"][0], want, rtol=1e-5)
    other, more = step_with()(state, batch())
    assert taken and more["grad_norm"][0] > sums["grad_norm"][0]
    np.testing.assert_allclose(new.params["head"]["w"], other.params["head"]["w"], rtol=1e-6)


def test_randomness_follows_seed_and_step_only():
    tx = optax.with_extra_args_support(optax.identity())
    seen = []

    def noisy(rng, batch):
        seen.append(rng)
        inputs, targets = prepare(rng, batch)
        return {"video": inputs["video"] + jax.random.normal(rng, (8, 4))}, targets

    step = jax.jit(make_train_step(apply, classify.build(), tx, noisy, lambda s: 0.0))
    state = start(tx)
    _, first = step(state, batch())
    second_state, again = step(state, batch())
    _, other = step(second_state, batch())
    assert float(first["loss"][0]) == float(again["loss"][0]) != float(other["loss"][0])
