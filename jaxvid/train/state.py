"""What a run is between two steps: arrays only, exactly what a checkpoint holds."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxvid.sharding.rules import tree_shardings


@flax.struct.dataclass
class TrainState:
    """step int32 (); params, batch_stats: nested dicts of arrays; ema: the moving average of both,
    {"params", "batch_stats"}, or {} when off; opt_state: optax's; rng uint32: the key data every step
    folds its number into."""

    step: jax.Array
    params: Any
    opt_state: Any
    batch_stats: Any
    ema: Any
    rng: jax.Array

    def eval_variables(self) -> dict:
        """The variables to evaluate with: the moving average where one is kept."""
        return self.ema or averaged(self.params, self.batch_stats)


def averaged(params, batch_stats) -> dict:
    """What the moving average is of. The statistics too: those of the latest weights are not those of
    weights that lag behind them."""
    return {"params": params, "batch_stats": batch_stats}


def make_init(
    init_variables: Callable[[jax.Array], Any], tx: optax.GradientTransformation, *, ema: bool
) -> Callable[[jax.Array], TrainState]:
    """A pure function rng -> TrainState at step 0. `init_variables`: rng -> {"params": …, …}."""

    def init(rng: jax.Array) -> TrainState:
        init_rng, run_rng = jax.random.split(rng)
        variables = init_variables(init_rng)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=tx.init(params),
            batch_stats=batch_stats,
            ema=jax.tree.map(jnp.copy, averaged(params, batch_stats)) if ema else {},
            rng=jax.random.key_data(run_rng),
        )

    return init


def create(init: Callable, seed: int, shardings: TrainState) -> TrainState:
    """A new state; each device makes its own part."""
    return jax.jit(init, out_shardings=shardings)(jax.random.key(seed))


def abstract(init: Callable, mesh: Mesh, rules=()) -> TrainState:
    """ShapeDtypeStructs with the shardings of this mesh: what a checkpoint is restored into."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        tree_shardings(shapes, mesh, rules),
    )


def with_weights(state: TrainState, variables, shardings: TrainState) -> TrainState:
    """The state with other weights and statistics ({"params", "batch_stats"}, host or device arrays)
    in its own shardings; the moving average starts from them too."""
    params = jax.device_put(variables["params"], shardings.params)
    batch_stats = jax.device_put(variables["batch_stats"], shardings.batch_stats)
    ema = jax.tree.map(jnp.copy, averaged(params, batch_stats)) if state.ema else {}
    return state.replace(params=params, batch_stats=batch_stats, ema=ema)
