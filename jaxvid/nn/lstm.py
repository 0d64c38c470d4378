"""Long short-term memory with torch's equations, gate order and outputs.

Hochreiter and Schmidhuber 1997, Long Short-Term Memory; with forget gates, Gers et al. 2000. The
inputs of all steps meet their weights in one product of matrices; only what depends on the step
before is scanned over. So it is for the gradients: those of both weights are one product each over all
steps, and a batch that is divided over devices is summed over once, not in every step.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.linear import dense
from jaxvid.nn.rows import division, map_rows


class Recurrence(nn.Module):
    """One layer in one direction.

    Parameters, the four gates side by side in the order input, forget, cell, output: input_kernel
    (I, 4·hidden), hidden_kernel (hidden, 4·hidden), input_bias and hidden_bias (4·hidden,), which
    are added up: torch has both. All start uniform within one over the root of `hidden`.
    """

    hidden: int
    reverse: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x (T, N, I) -> outputs (T, N, hidden) in `dtype`; h and c (N, hidden) float32 after the
        last step, which is the first frame in reverse."""

        def run(x, kernel, recurrent, bias):
            gates = dense(x, kernel, bias, self.dtype)
            outputs, h, c = _recurrence(gates, recurrent.astype(self.dtype), self.reverse)
            return outputs, h[None], c[None]

        weights = self._parameters(x.shape[-1])
        outputs, h, c = map_rows(run, (x,), *weights, by=division(), axis=1)
        return outputs, h[0], c[0]

    def _parameters(self, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        bound = self.hidden**-0.5

        def param(name: str, *shape: int) -> jax.Array:
            def uniform(rng):
                return jax.random.uniform(rng, shape, jnp.float32, -bound, bound)

            return self.param(name, uniform)

        gates = 4 * self.hidden
        kernel, recurrent = (
            param("input_kernel", width, gates),
            param("hidden_kernel", self.hidden, gates),
        )
        return kernel, recurrent, param("input_bias", gates) + param("hidden_bias", gates)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _recurrence(gates, recurrent, reverse):
    """gates: what the inputs of the steps add to them (T, N, 4·hidden), recurrent: (hidden, 4·hidden)"""
    return _recurrence_forward(gates, recurrent, reverse)[0]


def _recurrence_forward(gates, recurrent, reverse):
    def step(state, gates_of_input):
        h, c = state
        sums = gates_of_input + jnp.dot(h.astype(gates.dtype), recurrent)
        h, c = _cell(sums, c)
        return (h, c), (h.astype(gates.dtype), c, sums)

    zeros = jnp.zeros((gates.shape[1], recurrent.shape[0]), jnp.float32)
    (h, c), (outputs, cells, sums) = jax.lax.scan(step, (zeros, zeros), gates, reverse=reverse)
    return (outputs, h, c), (recurrent, outputs, cells, sums)


def _cell(sums, c):
    """The four gates (N, 4·hidden) and c before -> h and c (N, hidden) float32"""
    i, f, g, o = jnp.split(sums.astype(jnp.float32), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _recurrence_backward(reverse, kept, gradients):
    recurrent, outputs, cells, sums = kept
    to_outputs, *to_state = gradients

    def before(x):
        parts = (x[1:], jnp.zeros_like(x[:1])) if reverse else (jnp.zeros_like(x[:1]), x[:-1])
        return jnp.concatenate(parts)

    def step(to_state, arrays):
        sums, c_before, to_output = arrays
        to_h, to_c = to_state
        back = jax.vjp(_cell, sums, c_before)[1]
        to_sums, to_c = back((to_h + to_output.astype(jnp.float32), to_c))
        to_h = jax.lax.dot_general(to_sums, recurrent, (((1,), (1,)), ((), ())))
        return (to_h.astype(jnp.float32), to_c), to_sums

    of_steps = (sums, before(cells), to_outputs)
    _, to_gates = jax.lax.scan(step, tuple(to_state), of_steps, reverse=not reverse)
    over_rows = (((0, 1), (0, 1)), ((), ()))  # of all steps
    return to_gates, jax.lax.dot_general(before(outputs), to_gates, over_rows)


_recurrence.defvjp(_recurrence_forward, _recurrence_backward)


class LSTM(nn.Module):
    """Layers of recurrences: layer_0/forward and, bidirectional, layer_0/backward, and so on.

    dropout: on the outputs of every layer but the last, in training; "dropout" stream.
    """

    hidden: int
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """x (N, T, I) -> outputs (N, T, D) in `dtype`, (h_n, c_n), each (layers·directions, N, hidden).

        D: `hidden`, twice that for two directions, forward first. h_n and c_n are float32, the states
        after each direction's last step, in torch's order: layer 0 forward, layer 0 backward, layer 1
        forward, … At the last frame the backward outputs have seen that frame alone; use h_n for
        what a direction made of the whole clip.
        """
        x = jnp.swapaxes(x, 0, 1)  # (N, T, I) -> (T, N, I)
        states = []
        for i in range(self.num_layers):
            if i > 0:
                x = nn.Dropout(self.dropout)(x, deterministic=not train)
            layer = _Layer(self.hidden, self.bidirectional, self.dtype, name=f"layer_{i}")
            x, of_layer = layer(x)
            states += of_layer
        h_n, c_n = (jnp.stack(each) for each in zip(*states, strict=True))
        return jnp.swapaxes(x, 0, 1), (h_n, c_n)


class _Layer(nn.Module):
    hidden: int
    bidirectional: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        results = [
            Recurrence(self.hidden, name == "backward", self.dtype, name=name)(x)
            for name in directions
        ]
        outputs = jnp.concatenate([outputs for outputs, _, _ in results], axis=-1)
        return outputs, [(h, c) for _, h, c in results]
