"""Scaled dot-product attention, its form chosen for the platform that a program is compiled for.

    CUDA   cuDNN's flash attention where it is legal (16-bit floats, head size a multiple of 8 up to
           128, no bias) and compiles on this machine; else as in the last line
    CPU    a loop over heads and clips, some hundred queries at a time, so that scores stay in the cache
    else   jax.nn.dot_product_attention as XLA compiles it

Softmax is in float32 everywhere. The weights of long sequences are not kept for the gradient but
computed again. Gradients are reverse-mode only.
"""

import functools
import logging
import math
import threading

import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.nn.rows import division

log = logging.getLogger("jaxvid")

# Up to so many scores a head, one product over all heads is as fast on CPUs as the loop; up to so many
# where no gradient is taken.
SHORT, SHORT_FORWARD = 192 * 192, 256 * 256
CHUNK, MOST_CHUNKS = 392, 8  # queries of a head at a time; keys, for gradients
SCORES = 8 * CHUNK * CHUNK  # at a time, of several clips where those of one are fewer
CUDNN_DTYPES = ("bfloat16", "float16")


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    scale: float | None = None,
    bias: jax.Array | None = None,
    causal: bool = False,
) -> jax.Array:
    """softmax(query·keyᵀ·scale + bias)·value, head by head.

    query: (N, L, H, D); key, value: (N, S, H, D); all of one float dtype -> (N, L, H, D) of it.
    scale: 1/sqrt(D) when None. bias: float, (N, H, L, S) or 1 for any of them; has a gradient.
    causal: query i sees the keys 0 … i only. Raises ValueError when shapes or dtypes do not fit
    together.
    """
    _check(query, key, value, bias)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    length, size = query.shape[1], key.shape[1]
    short = length * size <= SHORT
    if bias is not None:
        bias = jnp.broadcast_to(bias, (*bias.shape[:2], length, size))
    arrays = (query, key, value) if bias is None else (query, key, value, bias)
    xla = functools.partial(_library, "xla", scale, causal)
    if short:
        cpu = functools.partial(_all_heads, scale, causal)
    elif not causal and (bias is None or bias.shape[:2] == (1, query.shape[2])):
        cpu = functools.partial(
            _head_by_head, scale, _clips_at_a_time(query.shape[0], length * size)
        )
    else:
        cpu = functools.partial(_derived_head_by_head, scale, causal)
    forms = {"cpu": cpu}
    if bias is None and _cudnn_takes(query.dtype, query.shape[-1]):
        forms["cuda"] = functools.partial(_library, "cudnn", scale, causal)
    default = xla if short else jax.checkpoint(xla)
    return jax.lax.platform_dependent(*arrays, default=default, **forms)


def attention_path(dtype, head_dim: int) -> str:
    """What attention runs as on the default devices: "cudnn", "cpu" or "xla"; for the log."""
    platform = jax.devices()[0].platform
    if platform == "gpu" and _cudnn_takes(dtype, head_dim):
        return "cudnn"
    return "cpu" if platform == "cpu" else "xla"


def _check(query, key, value, bias) -> None:
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if query.ndim != 4 or key.ndim != 4 or value.shape != key.shape:
        raise ValueError(f"attention got {shapes}; expected (N, L, H, D) and twice (N, S, H, D)")
    if query.shape[:1] + query.shape[2:] != key.shape[:1] + key.shape[2:]:
        raise ValueError(f"attention got {shapes}; all but the second axis must be equal")
    if not query.dtype == key.dtype == value.dtype:
        dtypes = f"{query.dtype}, {key.dtype}, {value.dtype}"
        raise ValueError(f"attention got {dtypes} for query, key, value; cast them to one dtype")
    if bias is not None:
        (n, length, heads, _), size = query.shape, key.shape[1]
        if bias.ndim != 4 or any(
            b not in (full, 1) for b, full in zip(bias.shape, (n, heads, length, size), strict=True)
        ):
            raise ValueError(
                f"attention got a bias of shape {bias.shape} with {shapes}; expected "
                f"({n}, {heads}, {length}, {size}) with 1 wherever it is the same for all"
            )


def _library(implementation: str, scale: float, causal: bool, query, key, value, bias=None):
    bias = None if bias is None else bias.astype(query.dtype)
    return jax.nn.dot_product_attention(
        query, key, value, bias, scale=scale, is_causal=causal, implementation=implementation
    )


# --- CPU ----------------------------------------------------------------------------------------
#
# Every product below is of two matrices as they lie in memory, with long rows on the right: XLA's
# take up to twice as long over transposed ones. What is small is transposed before (_transposed).


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _all_heads(scale: float, causal: bool, query, key, value, bias=None):
    """Without a gradient, weights are divided by their sums after the product: half the time."""
    q, k, v = (jnp.swapaxes(x.astype(jnp.float32), 1, 2) for x in (query, key, value))
    (keys,) = _transposed(k * scale)
    scores = _masked(q @ keys, causal, 0, bias)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    out = weights @ v / jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.swapaxes(out, 1, 2).astype(query.dtype)


def _all_heads_forward(scale: float, causal: bool, query, key, value, bias=None):
    def kept(query, key, value, bias):
        q, k, v = (jnp.swapaxes(x.astype(jnp.float32), 1, 2) for x in (query, key, value))
        return jnp.swapaxes(_plain(scale, causal, 0, q, k, v, bias), 1, 2).astype(query.dtype)

    return jax.vjp(kept, query, key, value, bias)


_all_heads.defvjp(_all_heads_forward, lambda scale, causal, pull, gradient: pull(gradient))


def _plain(scale: float, causal: bool, first: int, query, key, value, bias):
    """The formula itself for (…, L, D), in float32; `first`: which query of all the first one is."""
    scores = (query * scale) @ jnp.swapaxes(key, -1, -2)
    return jax.nn.softmax(_masked(scores, causal, first, bias), axis=-1) @ value


def _masked(scores, causal: bool, first: int, bias):
    if bias is not None:
        scores = scores + bias.astype(jnp.float32)
    if causal:
        rows = first + jnp.arange(scores.shape[-2])[:, None]
        scores = jnp.where(jnp.arange(scores.shape[-1]) <= rows, scores, -jnp.inf)
    return scores


def _derived_head_by_head(scale: float, causal: bool, query, key, value, bias=None):
    """For causal order and biases of other forms than `_head_by_head` takes, with JAX's own gradient;
    weights are computed again for it, a head at a time."""
    heads = [jnp.moveaxis(x.astype(jnp.float32), 2, 0) for x in (query, key, value)]
    own = bias is not None and bias.shape[1] > 1
    shared = None if bias is None or own else bias[:, 0]

    @jax.checkpoint
    def head(arrays):
        query, key, value, *rest = arrays
        added = rest[0] if rest else shared
        queries = _chunks(query)
        biases = [None] * len(queries) if added is None else _chunks(added)
        firsts = np.cumsum([0] + [q.shape[-2] for q in queries])[:-1].tolist()
        parts = [
            _plain(scale, causal, first, q, key, value, b)
            for first, q, b in zip(firsts, queries, biases, strict=True)
        ]
        return jnp.concatenate(parts, axis=-2)

    out = jax.lax.map(head, (*heads, jnp.moveaxis(bias, 1, 0)) if own else tuple(heads))
    return jnp.moveaxis(out, 0, 2).astype(query.dtype)


def _clips_at_a_time(clips: int, scores: int) -> int:
    """A divisor of `clips`, so many that the scores of their heads are `SCORES` together; all of them
    where they lie on several devices and would be gathered for a loop over them."""
    by = division()
    if by is not None and by.mesh.size > 1:
        return clips
    return max(
        n for n in range(1, clips + 1) if clips % n == 0 and (n == 1 or n * scores <= SCORES)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _head_by_head(scale: float, clips: int, query, key, value, bias=None):
    """clips: how many a turn of the loop takes a head of. bias: (1, H, L, S) or None."""
    if query.shape[1] * key.shape[1] <= SHORT_FORWARD:
        return _all_heads(scale, False, query, key, value, bias)
    return _head_by_head_forward(scale, clips, query, key, value, bias)[0]


def _head_by_head_forward(scale: float, clips: int, query, key, value, bias=None):
    def chunk(query, keys, value, bias):
        scores = query @ keys if bias is None else query @ keys + bias
        largest = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        return weights @ value / total, largest + jnp.log(total)

    def turn(arrays, bias):
        query, key, value = (x.astype(jnp.float32) for x in arrays)
        (keys,) = _transposed(key * scale)
        queries = _chunks(query)
        biases = [None] * len(queries) if bias is None else _chunks(bias)
        parts = [chunk(q, keys, value, b) for q, b in zip(queries, biases, strict=True)]
        return None, tuple(jnp.concatenate(x, axis=-2) for x in zip(*parts, strict=True))

    by_head = None if bias is None else bias[0].astype(jnp.float32)
    arrays = _heads_first(clips, query, key, value)
    over = arrays[0], arrays[0][..., :1].astype(jnp.float32)
    _, (out, log_total) = _each_head(turn, None, over, arrays, by_head)
    out = _heads_back(out, query.shape)
    return out, (query, key, value, bias, out, log_total)


def _head_by_head_backward(scale: float, clips: int, kept, gradient):
    """With the weights computed again from their log-sum-exp, some keys at a time: FlashAttention,
    Dao et al. 2022, B.2. Weights and scores are (S, L) here, keys down and queries across."""
    query, key, value, bias, out, log_total = kept

    def chunk(key, keys, value, bias, query, queries, gradient, gradients, log_total, own):
        scores = key @ queries if bias is None else key @ queries + bias
        weights = jnp.exp(scores - log_total)
        to_scores = weights * (value @ gradients - own)
        to_bias = None
        if bias is not None:  # clip by clip: XLA's sum is far slower
            to_bias = to_scores if to_scores.ndim == 2 else sum(to_scores)
        return keys @ to_scores, to_scores @ query, weights @ gradient, to_bias

    def turn(arrays, bias):
        query, key, value, gradient, log_total, own = (x.astype(jnp.float32) for x in arrays)
        query = query * scale
        keys, *rest = _transposed(key * scale, query, gradient, log_total, own)
        queries, gradients, log_total, own = rest
        some = _chunks(key)
        biases = [None] * len(some) if bias is None else _chunks(bias)
        by_key = zip(some, _chunks(keys, -1), _chunks(value), biases, strict=True)
        parts = [chunk(*k, query, queries, gradient, gradients, log_total, own) for k in by_key]
        to_queries, to_key, to_value, to_bias = zip(*parts, strict=True)
        return None if bias is None else jnp.concatenate(to_bias, axis=-2), (
            jnp.swapaxes(sum(to_queries), -1, -2),
            jnp.concatenate(to_key, axis=-2),
            jnp.concatenate(to_value, axis=-2),
        )

    rows = (-1, out.shape[2] * out.shape[3])  # as a linear layer takes `out`, or it is kept twice
    own = gradient.reshape(rows).astype(jnp.float32) * out.reshape(rows).astype(jnp.float32)
    own = jnp.sum(own.reshape(out.shape), axis=-1, keepdims=True)
    *arrays, gradient, own = _heads_first(clips, query, key, value, gradient, own)
    by_key = None if bias is None else _transposed(bias[0].astype(jnp.float32))[0]
    start = None if bias is None else jnp.zeros(by_key.shape[1:])
    room = [jnp.broadcast_to(gradient[..., :1, :], x.shape) for x in arrays]
    to_bias, grads = _each_head(turn, start, room, (*arrays, gradient, log_total, own), by_key)
    if bias is not None:
        to_bias = jnp.swapaxes(to_bias, -1, -2)[None].astype(bias.dtype)
    grads = (_heads_back(x, like.shape) for x, like in zip(grads, (query, key, value), strict=True))
    return (*grads, to_bias)


_head_by_head.defvjp(_head_by_head_forward, _head_by_head_backward)


def _each_head(turn, start, over, arrays, bias):
    """turn(arrays (clips, …), bias (…) or None) -> (summand, results), for arrays of `_heads_first` and
    bias (H, …): the sums over N / clips from `start` on, and the results, in arrays like those of
    `over`. Theirs is the room: XLA's CPU backend makes that of a loop's own results as soon as it can,
    that for the gradients of all layers before the first layer."""
    over, arrays = tuple(over), tuple(arrays)
    heads, times = arrays[0].shape[:2]
    if bias is None:  # one loop: two, one in the other, take a tenth longer
        over, arrays = _flat(over), _flat(arrays)

        def head(i, over):
            return _written(over, turn(_taken(arrays, i), None)[1], i)

        over = jax.lax.fori_loop(0, heads * times, head, over)
        return None, jax.tree.map(lambda x: x.reshape(heads, times, *x.shape[1:]), over)

    def biased_head(i, carry):
        def add(j, carry):
            total, over = carry
            summand, results = turn(_taken(arrays, (i, j)), bias[i])
            return jax.tree.map(jnp.add, total, summand), _written(over, results, (i, j))

        sums, over = carry
        total, over = jax.lax.fori_loop(0, times, add, (start, over))
        return _written(sums, total, i), over

    sums = None if start is None else bias
    return jax.lax.fori_loop(0, heads, biased_head, (sums, over))


def _flat(tree):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _taken(arrays, i):
    return jax.tree.map(lambda x: x[i], arrays)


def _written(arrays, values, i):
    return jax.tree.map(lambda x, y: x.at[i].set(y.astype(x.dtype)), arrays, values)


def _heads_first(clips: int, *arrays):
    """(N, L, H, D) each -> (H, N / clips, clips, L, D), or (H, N, L, D) of one clip at a time"""
    arrays = tuple(jnp.moveaxis(x, 2, 0) for x in arrays)
    if clips == 1:
        return arrays
    return tuple(x.reshape(x.shape[0], -1, clips, *x.shape[2:]) for x in arrays)


def _heads_back(x, shape):
    """The inverse; -> (N, L, H, D), the shape given"""
    n, length, heads, size = shape
    return jnp.moveaxis(x.reshape(heads, n, length, size), 0, 2)


def _transposed(*arrays):
    """Transposed in memory: without the barrier XLA makes the product after it one of a transpose."""
    return jax.lax.optimization_barrier(tuple(jnp.swapaxes(x, -1, -2) for x in arrays))


def _chunks(x, axis=-2):
    count = min(MOST_CHUNKS, -(-x.shape[axis] // CHUNK))
    return jnp.array_split(x, count, axis=axis)


# --- CUDA ---------------------------------------------------------------------------------------


def _cudnn_takes(dtype, head_dim: int) -> bool:
    legal = jnp.dtype(dtype).name in CUDNN_DTYPES and head_dim % 8 == 0 and head_dim <= 128
    return legal and _cudnn_compiles()


@functools.cache
def _cudnn_compiles() -> bool:
    """Whether cuDNN's attention and its gradient compile here; tried once a process."""
    found = []
    # In a thread of its own, where no trace, mesh or other context of the caller's is in force.
    thread = threading.Thread(target=lambda: found.append(_try_cudnn()))
    thread.start()
    thread.join()
    return found == [True]


def _try_cudnn() -> bool:
    try:
        device = jax.local_devices(backend="cuda")[0]
    except RuntimeError:  # there is no CUDA
        return False
    x = jax.ShapeDtypeStruct(
        (1, 64, 1, 64), jnp.bfloat16, sharding=jax.sharding.SingleDeviceSharding(device)
    )

    def total(query, key, value):
        return jnp.sum(_library("cudnn", 1.0, False, query, key, value).astype(jnp.float32))

    try:
        jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(x, x, x).compile()
    except (RuntimeError, ValueError) as error:
        log.warning("attention: cuDNN's does not compile here, XLA's is used: %s", error)
        return False
    return True
