"""Scaled dot-product attention, its form chosen for the platform that a program is compiled for.

    CUDA   cuDNN's flash attention where it is legal (16-bit floats, head size a multiple of 8 up to
           128, no bias) and compiles on this machine; else as in the last line
    CPU    a loop over heads, some hundred queries at a time, so that scores stay in the cache
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

# Up to so many scores a head, one product over all heads is as fast on CPUs as the loop.
SHORT = 192 * 192
# Up to so many, the loop takes a head of all clips at once; above, of one clip.
TOGETHER = 512 * 512
CHUNK, MOST_CHUNKS = 392, 8  # queries of a head at a time; keys, for gradients
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
    elif bias is None and not causal:
        together = length * size <= TOGETHER or not _one_device()
        cpu = functools.partial(_head_by_head, scale, together)
    else:
        cpu = functools.partial(_biased_head_by_head, scale, causal)
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


def _all_heads(scale: float, causal: bool, query, key, value, bias=None):
    q, k, v = (jnp.swapaxes(x.astype(jnp.float32), 1, 2) for x in (query, key, value))
    return jnp.swapaxes(_plain(scale, causal, 0, q, k, v, bias), 1, 2).astype(query.dtype)


def _plain(scale: float, causal: bool, first: int, query, key, value, bias):
    """The formula itself for (…, L, D), in float32; `first`: which query of all the first one is."""
    scores = (query * scale) @ jnp.swapaxes(key, -1, -2)
    if bias is not None:
        scores = scores + bias.astype(jnp.float32)
    if causal:
        rows = first + jnp.arange(scores.shape[-2])[:, None]
        scores = jnp.where(jnp.arange(scores.shape[-1]) <= rows, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ value


def _biased_head_by_head(scale: float, causal: bool, query, key, value, bias=None):
    """Weights are computed again for the gradient, a head at a time."""
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


def _one_device() -> bool:
    """Clips that lie on several devices would be gathered for a loop over them."""
    by = division()
    return by is None or by.mesh.size == 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _head_by_head(scale: float, together: bool, query, key, value):
    """together: whether a turn of the loop takes a head of all clips, or of one."""
    return _head_by_head_forward(scale, together, query, key, value)[0]


def _head_by_head_forward(scale: float, together: bool, query, key, value):
    def chunk(query, keys, value):
        scores = query @ keys
        largest = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        return weights @ value / total, largest + jnp.log(total)

    def head(arrays):
        query, key, value = (x.astype(jnp.float32) for x in arrays)
        (keys,) = _transposed(key * scale)
        parts = [chunk(q, keys, value) for q in _chunks(query)]
        return tuple(jnp.concatenate(x, axis=-2) for x in zip(*parts, strict=True))

    out, log_total = jax.lax.map(head, _heads_first(together, query, key, value))
    out = _heads_back(out, query)
    return out, (query, key, value, out, log_total)


def _head_by_head_backward(scale: float, together: bool, kept, gradient):
    """With the weights computed again from their log-sum-exp, some keys at a time: FlashAttention,
    Dao et al. 2022, B.2. Weights and scores are (S, L) here, keys down and queries across."""
    query, key, value, out, log_total = kept

    def chunk(key, keys, value, query, queries, gradient, gradients, log_total, own):
        weights = jnp.exp(key @ queries - log_total)
        to_scores = weights * (value @ gradients - own)
        return keys @ to_scores, to_scores @ query, weights @ gradient

    def head(arrays):
        *arrays, log_total = arrays
        query, key, value, out, gradient = (x.astype(jnp.float32) for x in arrays)
        query = query * scale
        own = jnp.sum(gradient * out, axis=-1, keepdims=True)
        keys, *rest = _transposed(key * scale, query, gradient, log_total, own)
        queries, gradients, log_total, own = rest
        by_key = zip(_chunks(key), _chunks(keys, -1), _chunks(value), strict=True)
        parts = [chunk(*k, query, queries, gradient, gradients, log_total, own) for k in by_key]
        to_queries, to_key, to_value = zip(*parts, strict=True)
        return (
            jnp.swapaxes(sum(to_queries), -1, -2),
            jnp.concatenate(to_key, axis=-2),
            jnp.concatenate(to_value, axis=-2),
        )

    arrays = (*_heads_first(together, query, key, value, out, gradient), log_total)
    grads = jax.lax.map(head, arrays)
    return tuple(map(_heads_back, grads, (query, key, value)))


_head_by_head.defvjp(_head_by_head_forward, _head_by_head_backward)


def _heads_first(together: bool, *arrays):
    """(N, L, H, D) each -> (H, N, L, D), or (H·N, L, D)"""
    arrays = tuple(jnp.moveaxis(x, 2, 0) for x in arrays)
    return arrays if together else tuple(x.reshape(-1, *x.shape[2:]) for x in arrays)


def _heads_back(x, like):
    """The inverse; -> the shape and dtype of `like`."""
    n, length, heads, size = like.shape
    return jnp.moveaxis(x.reshape(heads, n, length, size), 0, 2).astype(like.dtype)


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
