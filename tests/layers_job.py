"""Steps of a small network of layers that are loops on CPUs, by one or several processes.

python tests/layers_job.py RESULT [HOST:PORT COUNT NUMBER]: process 0 writes the losses to RESULT, JSON.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn import conv_kernel_gradient
from jaxvid.nn.conv import conv
from jaxvid.nn.lstm import LSTM
from jaxvid.nn.rows import rows_divided
from jaxvid.sharding import hosts
from jaxvid.sharding.mesh import batch_sharding, make_mesh, replicated

STEPS, RATE, ROWS, WIDTH = 20, 0.02, 8, 16
RECURRENT = LSTM(2 * WIDTH)
QUICK = {"xla_backend_optimization_level": 0}  # quickly made


def parameters() -> dict:
    rng = np.random.default_rng(0)
    shapes = {f"conv_{i}": (3, 3, 3, WIDTH, WIDTH) for i in range(2)}
    shapes |= {"head": (2 * WIDTH, 4)}
    made = {k: 0.1 * rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    start = RECURRENT.init(jax.random.key(0), jnp.zeros((1, 2, WIDTH)), train=False)
    return made | {"lstm": jax.device_get(start["params"])}


def loss(params, x, labels):
    for i in range(2):
        x = x + jax.nn.relu(conv(x, params[f"conv_{i}"]))
        x = x * jax.lax.rsqrt(1.0 + jnp.mean(jnp.square(x), (0, 1, 2, 3)))  # over the whole batch
    x, _ = RECURRENT.apply({"params": params["lstm"]}, jnp.max(x, (2, 3)), train=True)
    scores = jax.nn.log_softmax(x[:, -1] @ (10 * params["head"]))
    return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))


def main(result: str, *job: str) -> None:
    if job:
        hosts.initialize(job[0], int(job[1]), int(job[2]))
    conv_kernel_gradient.PIECE_BYTES = 20_000  # as if the arrays were large: many pieces
    mesh = make_mesh()
    rows = batch_sharding(mesh)

    def step(params, x, labels):
        with rows_divided(rows):
            value, gradients = jax.value_and_grad(loss)(params, x, labels)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradients), value

    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 4, 8, 8, WIDTH)).astype(np.float32)
    labels = rng.integers(0, 4, ROWS).astype(np.int32)
    x, labels = (
        jax.make_array_from_callback(a.shape, rows, lambda place, a=a: a[place])
        for a in (x, labels)
    )
    params = jax.jit(lambda p: p, out_shardings=replicated(mesh))(parameters())
    step = jax.jit(step, out_shardings=replicated(mesh), compiler_options=QUICK)
    values = []
    for _ in range(STEPS):
        params, value = step(params, x, labels)
        values.append(float(value))
    if hosts.is_main():
        Path(result).write_text(json.dumps(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
