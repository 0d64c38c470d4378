"""Against counts by hand, and the numbers that papers and torchvision state of whole models."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxvid.core import lookup
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.conv import conv
from jaxvid.nn.linear import Dense


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


SQUARE = shape(4, 4)
PRODUCT = 4**3


def test_products():
    assert multiply_adds(jnp.dot, shape(3, 5), shape(5, 7)) == 3 * 5 * 7
    batched = functools.partial(jnp.einsum, "nqhd,nkhd->nhqk")
    assert multiply_adds(batched, shape(2, 5, 3, 8), shape(2, 7, 3, 8)) == 2 * 3 * 5 * 7 * 8
    two_axes = functools.partial(jnp.einsum, "abc,abd->cd")
    assert multiply_adds(two_axes, shape(2, 3, 5), shape(2, 3, 7)) == 2 * 3 * 5 * 7
    assert multiply_adds(lambda x: jnp.sum(x * x) + jnp.tanh(x), SQUARE) == 0


def test_a_dense_layer_with_its_parameters():
    layer = Dense(7)
    params = jax.eval_shape(layer.init, jax.random.key(0), shape(2, 3, 5))
    assert multiply_adds(layer.apply, params, shape(2, 3, 5)) == 2 * 3 * 5 * 7


@pytest.mark.parametrize(
    "x, kernel, options, expected",
    [
        ((2, 8, 8, 3), (3, 3, 3, 5), {}, 2 * 8 * 8 * 5 * 9 * 3),
        ((2, 8, 8, 3), (3, 3, 3, 5), {"strides": 2}, 2 * 4 * 4 * 5 * 9 * 3),
        ((2, 8, 8, 3), (3, 3, 3, 5), {"padding": "VALID"}, 2 * 6 * 6 * 5 * 9 * 3),
        ((1, 4, 8, 8, 3), (3, 5, 5, 3, 7), {"strides": (1, 2, 2)}, 4 * 4 * 4 * 7 * 75 * 3),
        ((1, 4, 8, 8, 6), (3, 3, 3, 2, 9), {"groups": 3}, 4 * 8 * 8 * 9 * 27 * 2),
        ((1, 4, 8, 8, 6), (3, 3, 3, 1, 6), {"groups": 6}, 4 * 8 * 8 * 6 * 27),
        ((1, 8, 8, 8, 2), (3, 1, 1, 2, 4), {"dilation": (2, 1, 1)}, 8 * 8 * 8 * 4 * 3 * 2),
    ],
)
def test_convolutions(x, kernel, options, expected):
    run = functools.partial(conv, **options)
    assert multiply_adds(run, shape(*x), shape(*kernel)) == expected


def test_other_layouts_of_convolutions():
    run = functools.partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
    assert (
        multiply_adds(run, shape(1, 3, 8, 8), shape(5, 3, 3, 3)) == 8 * 8 * 5 * 9 * 3
    )  # NCHW, OIHW


@pytest.mark.parametrize("length", [16, 400])  # the short form and the long one
def test_attention(length):
    q, k = shape(2, length, 3, 8), shape(2, 7 * length, 3, 8)
    expected = 2 * (2 * 3 * length * 7 * length * 8)
    assert multiply_adds(dot_product_attention, q, k, k) == expected


@jax.custom_vjp
def with_gradient(x):
    return x @ x


with_gradient.defvjp(lambda x: (x @ x @ x, x), lambda x, gradient: (gradient @ x @ x @ x @ x,))


@jax.custom_jvp
def with_tangent(x):
    return x @ x


with_tangent.defjvp(lambda x, t: (x[0] @ x[0], t[0]))


@pytest.mark.parametrize(
    "call",
    [jax.jit, jax.checkpoint, jax.vmap, lambda f: lambda x: f(f(x))],
    ids=lambda f: f.__name__,
)
def test_calls_of_all_kinds(call):
    x = shape(1, 4, 4) if call is jax.vmap else SQUARE
    times = 2 if call.__name__ == "<lambda>" else 1
    for function in (lambda x: x @ x, with_gradient, with_tangent, jax.jit(with_gradient)):
        assert multiply_adds(call(function), x) == times * PRODUCT


def test_a_gradient_is_counted_by_its_rule():
    assert multiply_adds(jax.grad(lambda x: with_gradient(x).sum()), SQUARE) == 6 * PRODUCT


def test_loops_of_known_length():
    def scan(x):
        return lax.scan(lambda h, _: (h @ x, h @ x @ x), x, length=5)

    assert multiply_adds(scan, SQUARE) == 5 * 3 * PRODUCT
    assert multiply_adds(lambda x: lax.map(lambda row: x @ row, x), SQUARE) == PRODUCT
    assert (
        multiply_adds(lambda x: lax.fori_loop(0, 3, lambda i, h: h @ x, x), SQUARE) == 3 * PRODUCT
    )


def test_compiled_loops_over_layers_count_as_many_layers():
    plain, looped, checkpointed = (
        of_model("videomae", "test", depth=3, **layout)
        for layout in ({}, {"scan_layers": True}, {"remat": True})
    )
    assert plain == looped == checkpointed


@pytest.mark.parametrize("axes", [("data",), ("data", "tensor")])
def test_parts_of_devices_add_up_to_the_whole(axes):
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    rows = PartitionSpec(axes)
    divided = jax.shard_map(jnp.dot, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert multiply_adds(divided, shape(8, 4), SQUARE) == 2 * PRODUCT


def test_loops_of_unknown_length():
    def steps(x, n):
        return lax.fori_loop(0, n, lambda i, h: h @ x, x)

    with pytest.raises(ValueError, match="products inside a `while` loop, .* use jax.lax.scan"):
        multiply_adds(steps, SQUARE, 3)
    harmless = functools.partial(lax.while_loop, lambda x: x[0, 0] < 3, lambda x: x + 1)
    assert multiply_adds(lambda x: harmless(x) @ x, SQUARE) == PRODUCT


def test_what_is_not_known_is_said_and_not_left_out():
    def solve(x):
        return lax.custom_linear_solve(lambda y: x @ y, x, lambda product, y: product(y))

    message = "products inside 'custom_linear_solve', which is not known here"
    with pytest.raises(ValueError, match=message):
        multiply_adds(solve, SQUARE)


def test_the_branch_of_most_work_counts():
    branches = [lambda x: x, lambda x: x @ x @ x, lambda x: x @ x]
    assert multiply_adds(lambda x, n: lax.switch(n, branches, x), SQUARE, 0) == 2 * PRODUCT
    either = functools.partial(lax.cond, true_fun=lambda x: x @ x, false_fun=lambda x: x)
    assert multiply_adds(lambda x: either(x[0, 0] > 0, operand=x), SQUARE) == PRODUCT


def power(n):
    return lambda x: x if n == 1 else x @ power(n - 1)(x)


@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint, jax.vmap])
def test_the_default_counts_where_the_platform_decides(around):
    def forms(**given):
        function = around(lambda x: lax.platform_dependent(x, **given))
        x = shape(1, 4, 4) if around is jax.vmap else SQUARE
        return multiply_adds(function, x) // PRODUCT

    assert forms(cpu=power(4), default=power(2)) == 1
    assert forms(cpu=power(1), default=power(3)) == 2
    assert forms(cpu=power(4), cuda=power(5), default=power(2)) == 1
    assert forms(cpu=power(4), tpu=power(3)) == 2
    assert forms(cpu=power(4)) == 3


def test_the_gradient_of_the_default_counts_too():
    def loss(x):
        return lax.platform_dependent(x, cpu=power(5), default=power(2)).sum()

    assert multiply_adds(jax.grad(loss), SQUARE) == 3 * PRODUCT


def of_model(name, variant, **overrides):
    """Of one clip as the variant was made for."""
    module = lookup.module("model", name)
    model, inputs = module.build(1000, variant=variant, **overrides), module.example_inputs(variant)
    init, evaluate = (functools.partial(f, train=False) for f in (model.init, model.apply))
    return multiply_adds(evaluate, jax.eval_shape(init, jax.random.key(0), inputs), inputs)


@pytest.mark.parametrize(
    "name, variant, published",
    [
        ("videomae", "B", 180),  # 16×224²: Tong et al. 2022, table of Kinetics-400
        ("videomae", "L", 597),
        ("resnet", "18", 1.814),  # 224²: torchvision's documentation
        ("resnet", "50", 4.089),
    ],
)
def test_published_numbers(name, variant, published):
    assert of_model(name, variant) / 1e9 == pytest.approx(published, rel=3e-3)
