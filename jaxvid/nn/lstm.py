"""Long short-term memory with torch's equations, gate order and outputs.

Hochreiter and Schmidhuber 1997, Long Short-Term Memory; with forget gates, Gers et al. 2000. The
inputs of all steps meet their weights in one product of matrices; only what depends on the step
before is scanned over.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.linear import dense


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
        kernel, recurrent, bias = self._parameters(x.shape[-1])
        gates = dense(x, kernel, bias, self.dtype)
        recurrent = recurrent.astype(self.dtype)

        def step(carry, gates_of_input):
            h, c = carry
            sums = gates_of_input + jnp.dot(h.astype(self.dtype), recurrent)
            i, f, g, o = jnp.split(sums.astype(jnp.float32), 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h.astype(self.dtype)

        zeros = jnp.zeros((x.shape[1], self.hidden), jnp.float32)
        (h, c), outputs = jax.lax.scan(step, (zeros, zeros), gates, reverse=self.reverse)
        return outputs, h, c

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
