"""How much each layer keeps for the gradient on the CPU, in arrays of its input's size: by what the compiler
plans for six of them more than for two, a fourth of it each. XLA decides it, so that a layer written another
way can cost twice the memory and be right in every number."""

import math

import jax
import jax.numpy as jnp

from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.selective_scan import selective_scan
from jaxvid.nn.transformer import Block


def kept_by_a_layer(layer, weights, shape):
    """layer(x, w) -> x; weights: those of one, shapes."""

    def planned(layers):
        def total(x, weights):
            for w in weights:
                x = layer(x, w)
            return jnp.sum(x * x)

        arguments = jax.ShapeDtypeStruct(shape, jnp.float32), [weights] * layers
        compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    return (planned(6) - planned(2)) / (4 * 4 * math.prod(shape))


def matrices(*shapes):
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def test_long_attention():
    def layer(x, w):
        return x + dot_product_attention(*(jnp.einsum("nlhd,de->nlhe", x, one) for one in w))

    # x, query, key, value and the output: no room for gradients before there are any
    assert kept_by_a_layer(layer, matrices(*[(32, 32)] * 3), (2, 784, 2, 32)) < 5.5


def test_selective_scan():
    def layer(x, w):
        dt, b = jax.nn.softplus(x), x @ w[0]
        return x + selective_scan(x, dt, -jnp.exp(w[1]), b, b)

    # x and dt, twice each, and parts: no states, which are 8 times as large
    assert kept_by_a_layer(layer, matrices((64, 8), (64, 8)), (2, 784, 64)) < 5.0


def test_block():
    block, shape = Block(num_heads=2), (8, 784, 64)
    weights = jax.eval_shape(
        lambda x: block.init(jax.random.key(0), x, train=True), *matrices(shape)
    )

    def layer(x, w):
        return block.apply(w, x, train=True)

    # Two norms' inputs and outputs, query, key, value, the attention's output; four before the
    # activation and none after: 12, and 13 on jaxlib 0.7.
    assert kept_by_a_layer(layer, weights, shape) < 13.5
