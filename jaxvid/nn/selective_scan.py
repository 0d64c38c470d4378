"""The selective scan: a linear recurrence whose coefficients follow from the input.

Gu and Dao 2023, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, section 3: with a
zero state before the first step,

    h_t = exp(dt_t·A)·h_{t-1} + dt_t·B_t·x_t        y_t = C_t·h_t

It is an associative scan over time, parallel in about 2·log2(T) passes. A CPU has nothing to run the
passes on and is some 2 to 5 times faster step by step, forward and gradient (1024 channels of 16 states
over 16, 64 and 256 steps, measured): there it is lowered to a loop. States are float32 everywhere.
For the gradient they are computed again, not kept, as in section 3.3.2. On a CPU it is reverse-mode only.
"""

import functools

import jax
import jax.numpy as jnp

from jaxvid.nn.rows import division, map_rows


def selective_scan(
    x: jax.Array,
    dt: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    *,
    chunk: int | None = None,
) -> jax.Array:
    """y of the recurrence above, float32 (N, T, E), for E channels of S states each.

    x, dt: (N, T, E), dt positive; a: (E, S), negative; b, c: (N, T, S); any float dtypes. chunk: so
    many steps are scanned in parallel, the chunks one after the other: bounds the memory, which is
    otherwise that of several arrays (N, T, S, E) while this layer runs. Where steps are a loop anyway
    it changes nothing. Raises ValueError when the shapes do not fit together or chunk is below 1.
    """
    _check(x, dt, a, b, c, chunk)
    x, dt, a, b, c = (array.astype(jnp.float32) for array in (x, dt, a, b, c))
    scan = functools.partial(
        _lowered, chunk=None if chunk is None or chunk >= x.shape[1] else chunk
    )
    # The gradient of `a` is a sum over the batch in every step: over devices it is made once, after.
    return map_rows(scan, (x, dt, b, c), a, by=division())


# Under jit of its own, so that layers of the same shapes are traced once.
@functools.partial(jax.jit, static_argnames="chunk")
def _lowered(x, dt, b, c, a, *, chunk):
    arrays = x, dt, a, b, c
    parallel = _parallel if chunk is None else _chunked(chunk)
    return jax.lax.platform_dependent(*arrays, cpu=_stepwise, default=jax.checkpoint(parallel))


def _check(x, dt, a, b, c, chunk) -> None:
    n, steps, width = x.shape if x.ndim == 3 else (None,) * 3
    states = a.shape[-1]
    fits = dt.shape == x.shape and a.shape == (width, states)
    if not fits or b.shape != (n, steps, states) or c.shape != b.shape:
        raise ValueError(
            f"selective_scan got x {x.shape}, dt {dt.shape}, a {a.shape}, b {b.shape}, c {c.shape}; "
            "expected twice (N, T, E), then (E, S) and twice (N, T, S)"
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"selective_scan got chunk={chunk}; expected at least 1 step, or None")


# States are (…, S, E): channels last fill a vector unit, the few states would not.


def _coefficients(x, dt, a, b):
    """exp(dt·A) and dt·B·x as (…, S, E)"""
    decay = jnp.exp(dt[..., None, :] * a.T)
    return decay, (dt * x)[..., None, :] * b[..., :, None]


def _read(states, c):
    return jnp.sum(states * c[..., :, None], axis=-2)  # (…, S, E) -> (…, E)


def _parallel(x, dt, a, b, c):
    return _read(recurrence(*_coefficients(x, dt, a, b)), c)


@jax.custom_vjp
def recurrence(decay: jax.Array, inputs: jax.Array) -> jax.Array:
    """h_t = decay_t·h_{t-1} + inputs_t along axis 1, with h = 0 before; both (N, T, …) -> (N, T, …).

    An associative scan. Its gradient is one too, from the end: less to compile and to keep than
    what differentiating the passes one by one makes.
    """
    return _scan(decay, inputs)


def _scan(decay, inputs, reverse=False):
    def after(first, then):
        return first[0] * then[0], then[0] * first[1] + then[1]

    return jax.lax.associative_scan(after, (decay, inputs), reverse=reverse, axis=1)[1]


def _recurrence_forward(decay, inputs):
    states = _scan(decay, inputs)
    return states, (decay, states)


def _recurrence_backward(kept, gradient):
    decay, states = kept
    following = jnp.concatenate([decay[:, 1:], jnp.ones_like(decay[:, :1])], axis=1)
    to_inputs = _scan(following, gradient, reverse=True)
    before = jnp.concatenate([jnp.zeros_like(states[:, :1]), states[:, :-1]], axis=1)
    return to_inputs * before, to_inputs


recurrence.defvjp(_recurrence_forward, _recurrence_backward)


def _chunked(size: int):
    """_parallel over `size` steps at a time, the state handed on."""

    def scan(x, dt, a, b, c):
        n, steps, width = x.shape
        count = -(-steps // size)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def chunk(state, arrays):
            x, dt, b, c = arrays
            decay, inputs = _coefficients(x, dt, a, b)
            inputs = inputs.at[:, 0].add(decay[:, 0] * state)
            states = recurrence(decay, inputs)
            return states[:, -1], _read(states, c)

        def split(array):
            # Added steps have dt = 0, which leaves the state as it is.
            padded = jnp.pad(array, ((0, 0), (0, count * size - steps), (0, 0)))
            chunks = padded.reshape(n, count, size, -1)  # (N, T, F) -> (N, chunks, size, F)
            return jnp.moveaxis(chunks, 1, 0)

        start = jnp.zeros((n, a.shape[1], width), jnp.float32)
        _, y = jax.lax.scan(chunk, start, tuple(map(split, (x, dt, b, c))))
        return jnp.moveaxis(y, 0, 1).reshape(n, -1, width)[:, :steps]  # -> (N, T, E)

    return scan


STEPS = 64  # whose states are computed again, and kept, together


@jax.custom_vjp
def _stepwise(x, dt, a, b, c):
    """Not with a checkpoint, as the other: XLA's CPU backend makes room for what a loop keeps as soon as
    it can, for the states of all layers before the first layer."""
    return _stepwise_forward(x, dt, a, b, c)[0]


def _stepwise_forward(x, dt, a, b, c):
    arrays = tuple(_chunks_first(array) for array in (x, dt, b, c))
    count = len(arrays[0])

    def chunk(i, carry):
        state, states, y = carry
        after, read = _steps(state, tuple(array[i] for array in arrays), a)
        return after, states.at[i].set(state), y.at[i].set(read)

    start = jnp.zeros((x.shape[0], a.shape[1], a.shape[0]), jnp.float32)
    states = jnp.zeros((count, *start.shape), jnp.float32)
    _, states, y = jax.lax.fori_loop(0, count, chunk, (start, states, arrays[0]))
    return _chunks_back(y, x.shape), (arrays, a, states)


def _stepwise_backward(kept, gradient):
    arrays, a, states = kept
    shape, gradients = gradient.shape, _chunks_first(gradient)
    count = len(states)

    def chunk(j, carry):
        i = count - 1 - j
        to_state, to_a, grads = carry
        _, pull = jax.vjp(_steps, states[i], tuple(array[i] for array in arrays), a)
        to_state, some, more = pull((to_state, gradients[i]))
        grads = tuple(x.at[i].set(y) for x, y in zip(grads, some, strict=True))
        return to_state, to_a + more, grads

    states_like = gradients[..., : a.shape[1]]
    room = gradients, gradients, states_like, states_like
    start = jnp.zeros_like(states[0]), jnp.zeros_like(a), room
    _, to_a, grads = jax.lax.fori_loop(0, count, chunk, start)
    to_x, to_dt, to_b, to_c = (_chunks_back(x, (*shape[:2], x.shape[-1])) for x in grads)
    return to_x, to_dt, to_a, to_b, to_c


_stepwise.defvjp(_stepwise_forward, _stepwise_backward)


def _steps(state, arrays, a):
    """From one state (N, S, E) to the next but some: x, dt, b, c (steps, N, …) -> state, y"""

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(state, arrays):
        x, dt, b, c = arrays
        decay, inputs = _coefficients(x, dt, a, b)
        state = decay * state + inputs
        return state, _read(state, c)

    return jax.lax.scan(step, state, arrays)


def _chunks_first(array):
    """(N, T, F) -> (chunks, steps, N, F); added steps have dt = 0, which leaves the state as it is"""
    n, steps, features = array.shape
    size = min(STEPS, steps)
    padded = jnp.pad(array, ((0, 0), (0, -steps % size), (0, 0)))
    return jnp.moveaxis(padded, 0, 1).reshape(-1, size, n, features)


def _chunks_back(array, shape):
    """The inverse; shape: (N, T, F)"""
    n, steps, features = shape
    return jnp.moveaxis(array.reshape(-1, n, features), 0, 1)[:, :steps]
