"""One training step, a pure function of (state, batch). It knows no model, no dataset, no config.

It is made of four parts, and whatever is trained differs only in them:
    prepare(rng, batch) -> (inputs, targets)       pixels, augmentation, masks: on the device
    apply(variables, inputs, rng) -> (outputs, batch_stats)      the model in training mode
    objective(outputs, targets) -> {name: (sum, weight)}         "loss" is differentiated
    tx, schedule                                   optax; learning rate against state.step. tx takes `use`
                                                   and keeps its state where it is False (train/moments.py)
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from jaxvid.metrics.sums import add
from jaxvid.nn.rows import rows_divided
from jaxvid.train.moments import chosen
from jaxvid.train.optim import learning_mask
from jaxvid.train.state import TrainState, averaged


def make_train_step(
    apply: Callable,
    objective: Callable,
    tx: optax.GradientTransformation,
    prepare: Callable,
    schedule: Callable,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    frozen: Sequence[str] = (),
    rows: jax.sharding.Sharding | None = None,
) -> Callable:
    """-> train_step(state, batch) -> (state, {name: (sum, weight)}).

    The loss is sum / weight over the whole global batch, however it is accumulated in `accumulate`
    parts. A step whose loss or gradient is not finite leaves everything but `step` as it was, and
    says so in "nonfinite" (sum 1.0). ema_decay: what stays of the moving average at a step once it has
    seen many; min(ema_decay, (1 + step) / (10 + step)), so that short runs do not evaluate their start
    (as TensorFlow's num_updates). frozen: regular expressions of the paths of parameters without
    gradient, those of the optimiser (train/optim.py); nothing is computed for them, and "grad_norm" is
    that of the rest. rows: how a batch is divided over devices, which activations keep
    to (nn/rows.py); None leaves that to the compiler.
    """

    def sums_of(learning, params, batch_stats, rng, batch):
        prepare_rng, apply_rng = jax.random.split(rng)
        inputs, targets = prepare(prepare_rng, batch)
        params = jax.tree.map(lambda p, learnt: p if learnt is None else learnt, params, learning)
        variables = {"params": params, "batch_stats": batch_stats}
        with rows_divided(rows):
            outputs, batch_stats = apply(variables, inputs, apply_rng)
        sums = objective(outputs, targets)
        return sums["loss"][0], (sums, batch_stats)

    grad = jax.grad(sums_of, has_aux=True)

    def all_parts(state: TrainState, rng, batch):
        """(gradients, None where frozen; sums; batch_stats)"""
        mask = learning_mask(state.params, frozen)

        def learning_of(params):
            return jax.tree.map(lambda p, learns: p if learns else None, params, mask)

        learning = learning_of(state.params)
        if accumulate == 1:
            grads, (sums, batch_stats) = grad(learning, state.params, state.batch_stats, rng, batch)
            return grads, sums, batch_stats

        def one(carry, part):
            grads, sums, batch_stats = carry
            index, batch = part
            part_rng = jax.random.fold_in(rng, index)
            # Always so, which no compiler knows: else XLA, on CPUs, gathers weights divided over fsdp
            # before the loop, once, and keeps all of them to its end.
            here = state.step + index >= 0
            params = jax.tree.map(lambda p: jnp.where(here, p, jnp.zeros_like(p)), state.params)
            new, (new_sums, batch_stats) = grad(
                learning_of(params), params, batch_stats, part_rng, batch
            )
            return (jax.tree.map(jnp.add, grads, new), add(sums, new_sums), batch_stats), None

        # Every accumulate-th row, so that each device keeps its own rows and nothing moves.
        parts = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), batch
        )
        shapes = jax.eval_shape(
            grad,
            learning,
            state.params,
            state.batch_stats,
            rng,
            jax.tree.map(lambda x: x[0], parts),
        )
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], shapes[1][0]))
        carry = (*zeros, state.batch_stats)
        return jax.lax.scan(one, carry, (jnp.arange(accumulate), parts))[0]

    def train_step(state: TrainState, batch) -> tuple[TrainState, dict]:
        rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
        grads, sums, batch_stats = all_parts(state, rng, batch)
        total, weight = sums["loss"]
        divisor = jnp.where(weight > 0, weight, 1.0)
        grads = jax.tree.map(lambda g: g / divisor.astype(g.dtype), grads)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))
        grads = jax.tree.map(
            lambda p, g: jnp.zeros_like(p) if g is None else g, state.params, grads
        )
        # A batch whose every row is masked has nothing to teach: the weights stay as they are.
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        use = finite & (weight > 0)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, use=use)
        rate = schedule(state.step)
        params = jax.tree.map(lambda p, u: p - (rate * u).astype(p.dtype), state.params, updates)
        # Chosen before the average is made of them, as moments are (train/moments.py).
        old = state.params, state.batch_stats
        params, batch_stats = chosen(use, (params, batch_stats), old)
        ema = state.ema
        if ema_decay:
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema = optax.incremental_update(averaged(params, batch_stats), ema, 1.0 - decay)
            ema = chosen(use, ema, state.ema)
        one = jnp.ones((), jnp.float32)
        bad = 1.0 - finite.astype(jnp.float32)
        # A skipped step counts in "nonfinite" alone: one NaN must not spoil a window's averages.
        sums = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), sums)
        sums["grad_norm"] = (jnp.where(finite, norm, 0.0), one - bad)
        sums["learning_rate"] = (rate * one, one)
        sums["nonfinite"] = (bad, one)
        state = TrainState(state.step + 1, params, opt_state, batch_stats, ema, state.rng)
        return state, sums

    return train_step
