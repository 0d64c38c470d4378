"""Every form of attention against jax.nn's, and the choice between them."""

import functools
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvid.nn import attention
from jaxvid.nn.attention import attention_path, dot_product_attention

# N, L, S, H, D: short ones, in one piece on the CPU; then long ones, head by head
SHORT = [(2, 8, 8, 3, 16), (1, 1, 1, 1, 8), (2, 7, 13, 2, 5), (1, 1, 33, 2, 8)]
LONG = [(1, 193, 193, 2, 8), (2, 75, 541, 1, 8), (1, 1, 36865, 1, 4), (1, 1031, 37, 1, 8)]


def arrays(n, length, source, heads, size, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = ((n, length, heads, size), (n, source, heads, size), (n, source, heads, size))
    drawn = [rng.standard_normal(s, dtype=np.float32) for s in (*shapes, shapes[0])]
    return [jnp.asarray(x, dtype) for x in drawn]


def output_and_gradients(function, query, key, value, gradient):
    out, pull = jax.vjp(function, query, key, value)
    return out, *pull(gradient)


def assert_close(got, expected, atol=1e-5):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("shape", SHORT + LONG, ids=str)
def test_forward_and_gradient_are_those_of_jax_nn(shape):
    assert (shape[1] * shape[2] <= attention.SHORT) == (shape in SHORT)
    run = jax.jit(functools.partial(output_and_gradients, dot_product_attention))
    reference = jax.jit(functools.partial(output_and_gradients, jax.nn.dot_product_attention))
    inputs = arrays(*shape)
    assert_close(run(*inputs), reference(*inputs))


@pytest.fixture(params=["a head of several clips", "a head of one clip"])
def looped(monkeypatch, request):
    """The long form for tiny shapes: chunks of at most 4 queries, or keys."""
    monkeypatch.setattr(attention, "SHORT", 0)
    monkeypatch.setattr(attention, "SHORT_FORWARD", 0)
    if request.param == "a head of one clip":
        monkeypatch.setattr(attention, "SCORES", 0)
    monkeypatch.setattr(attention, "CHUNK", 4)


def test_without_a_gradient_longer_ones_are_in_one_piece():
    query, key, value, _ = arrays(2, 197, 197, 2, 8)
    run = jax.jit(dot_product_attention)
    assert "while" not in run.lower(query, key, value).compile().as_text()
    assert_close(run(query, key, value), jax.nn.dot_product_attention(query, key, value))


def test_the_scale_can_be_given(looped):
    query, key, value, _ = arrays(2, 6, 9, 2, 8)
    got = dot_product_attention(query, key, value, scale=0.9)
    assert_close(got, jax.nn.dot_product_attention(query, key, value, scale=0.9))


def test_large_scores_do_not_overflow(looped):
    query, key, value, gradient = arrays(1, 6, 6, 1, 8)
    got = output_and_gradients(dot_product_attention, 300 * query, 300 * key, value, gradient)
    assert all(bool(jnp.isfinite(x).all()) for x in got)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [None, (4, 3, 9, 11), (1, 3, 9, 11), (4, 1, 9, 11), (1, 1, 1, 11)])
@pytest.mark.parametrize(
    "clips", [None, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))]
)
def test_bias_and_causal_order_are_those_of_jax_nn(monkeypatch, clips, bias, causal):
    """clips: None: the short form; else how many a turn of the loop takes."""
    if clips:
        monkeypatch.setattr(attention, "SHORT", 0)
        monkeypatch.setattr(attention, "SHORT_FORWARD", 0)
        monkeypatch.setattr(attention, "CHUNK", 4)
        monkeypatch.setattr(attention, "SCORES", clips * 99)
        assert attention._clips_at_a_time(4, 99) == clips
    *inputs, gradient = arrays(4, 9, 11, 3, 8)
    if bias:
        inputs.append(jnp.asarray(np.random.default_rng(1).standard_normal(bias, np.float32)))

    def run(attend, *inputs):
        def call(query, key, value, bias=None):
            if bias is not None and attend is jax.nn.dot_product_attention:
                bias = jnp.broadcast_to(bias, (*bias.shape[:2], 9, 11))
            causality = "causal" if attend is dot_product_attention else "is_causal"
            return attend(query, key, value, bias=bias, **{causality: causal})

        out, pull = jax.vjp(call, *inputs)
        return out, *pull(gradient)

    got = jax.jit(functools.partial(run, dot_product_attention))(*inputs)
    assert_close(got, run(jax.nn.dot_product_attention, *inputs))


def test_clips_at_a_time_divide_them():
    few, many = attention.SCORES // 3, attention.SCORES // 50
    assert [attention._clips_at_a_time(n, few) for n in (1, 2, 4, 7, 9)] == [1, 2, 2, 1, 3]
    assert [attention._clips_at_a_time(n, many) for n in (49, 64, 53)] == [49, 32, 1]
    assert attention._clips_at_a_time(6, 2 * attention.SCORES) == 1


def test_a_bias_keeps_a_float32_softmax_and_the_dtype():
    inputs = [x.astype(jnp.bfloat16) for x in arrays(1, 6, 6, 2, 8)[:3]]
    bias = jnp.linspace(-2.0, 2.0, 36).reshape(1, 1, 6, 6)
    got = dot_product_attention(*inputs, bias=bias)
    wide = [x.astype(jnp.float32) for x in inputs]
    expected = jax.nn.dot_product_attention(*wide, bias=bias)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(np.float32), expected, atol=0.01, rtol=0.02)


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 4, 5), (2, 2, 4, 4)])
def test_a_bias_of_another_shape(shape):
    query, key, value, _ = arrays(2, 4, 5, 2, 8)
    with pytest.raises(ValueError, match=r"bias of shape .*expected \(2, 2, 4, 5\) with 1"):
        dot_product_attention(query, key, value, bias=jnp.zeros(shape))


def test_under_vmap_scan_and_remat(looped):
    query, key, value, gradient = arrays(3, 6, 6, 2, 8)

    def through(attend, q, k, v):
        def body(x, _):
            return jax.checkpoint(attend)(x, k, v), None

        return jax.lax.scan(body, q, length=2)[0]

    def run(attend, q, k, v, g):
        batched = jax.vmap(functools.partial(through, attend))
        return output_and_gradients(batched, *(x[:, None] for x in (q, k, v, g)))

    got = jax.jit(functools.partial(run, dot_product_attention))(query, key, value, gradient)
    assert_close(got, run(jax.nn.dot_product_attention, query, key, value, gradient))


@pytest.mark.parametrize("spec", [("data",), ("data", None, "tensor"), (None, None, "tensor")])
def test_sharded_inputs_give_the_same_numbers(looped, spec):
    inputs = arrays(4, 10, 10, 2, 8)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "tensor"))
    placed = [jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))) for x in inputs]
    run = jax.jit(functools.partial(output_and_gradients, dot_product_attention))
    assert_close(run(*placed), run(*inputs), atol=1e-6)


def test_clips_divided_over_devices_are_not_gathered():
    inputs = arrays(4, 200, 200, 2, 8)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    placed = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))) for x in inputs]
    run = jax.jit(functools.partial(output_and_gradients, dot_product_attention))
    program = run.lower(*placed).compile().as_text()
    assert "while" in program and "all-gather" not in program and "all-reduce" not in program


@pytest.mark.parametrize("length", [12, 200])
def test_16_bit_floats_return_as_such_with_a_float32_softmax(length):
    inputs = arrays(1, length, length, 2, 8, jnp.bfloat16)
    got = output_and_gradients(dot_product_attention, *inputs)
    assert {x.dtype for x in got} == {jnp.dtype(jnp.bfloat16)}
    wide = [x.astype(jnp.float32) for x in inputs]
    expected = output_and_gradients(jax.nn.dot_product_attention, *wide)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one.astype(np.float32), other, atol=0.01, rtol=0.02)


def test_long_weights_are_never_kept_for_the_gradient():
    query = jnp.ones((1, 256, 2, 8))

    def loss(x):
        return dot_product_attention(x, x, x).sum()

    traced = jax.jit(jax.grad(loss)).trace(query)
    for platform in ("cpu", "tpu", "cuda"):  # one program for each, made without the machine
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.while" in text) == (platform == "cpu")
    kept = jax.tree.leaves(jax.eval_shape(lambda x: jax.vjp(loss, x)[1], query))
    assert kept and max(x.size for x in kept) < 256 * 256


def test_the_path_for_the_log(monkeypatch):
    assert attention_path(jnp.float32, 64) == attention_path(jnp.bfloat16, 64) == "cpu"
    monkeypatch.setattr(attention, "_cudnn_compiles", lambda: True)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    paths = [attention_path(jnp.bfloat16, size) for size in (64, 80, 88, 128, 60, 136)]
    assert paths == ["cudnn"] * 4 + ["xla"] * 2
    assert attention_path(jnp.float16, 64) == "cudnn"
    assert attention_path(jnp.float32, 64) == "xla"
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="tpu")])
    assert attention_path(jnp.bfloat16, 64) == "xla"


def test_without_cuda_cudnn_is_quietly_out(caplog):
    assert attention._cudnn_compiles() is False and not caplog.records


def test_cudnn_that_does_not_compile_is_said_aloud(monkeypatch, caplog):
    device = jax.devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda backend: [device])
    with caplog.at_level(logging.WARNING):
        assert attention._try_cudnn() is False
    assert "cuDNN's does not compile here, XLA's is used" in caplog.text


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda q, k, v: (q[0], k, v), r"expected \(N, L, H, D\)"),
        (lambda q, k, v: (q, k, v[:, :3]), r"expected \(N, L, H, D\) and twice \(N, S, H, D\)"),
        (lambda q, k, v: (q, k[:, :, :1], v[:, :, :1]), "all but the second axis must be equal"),
        (lambda q, k, v: (q, k.astype(jnp.bfloat16), v), "float32, bfloat16, float32.*one dtype"),
    ],
)
def test_what_does_not_fit_together(change, words):
    with pytest.raises(ValueError, match=words):
        dot_product_attention(*change(*arrays(1, 4, 5, 2, 8)[:3]))
