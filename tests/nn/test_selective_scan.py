"""Every form of the scan against a loop in float64, and which form a platform gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.nn import selective_scan as module
from jaxvid.nn.selective_scan import recurrence, selective_scan

pytestmark = pytest.mark.usefixtures("quickly_made")

FORMS = {
    "parallel": module._parallel,
    "stepwise": module._stepwise,
    "chunks of 4": module._chunked(4),
    "chunks of 1": module._chunked(1),
    "public": selective_scan,
    "public, chunked": lambda *arrays: selective_scan(*arrays, chunk=4),
}
LONG = 2 * module.STEPS + 5  # what the gradient of the stepwise form takes in three pieces


def arrays(steps, n=2, width=5, states=3, dtype=np.float32):
    rng = np.random.default_rng(steps)
    normal = [rng.standard_normal(s) for s in ((n, steps, width), (n, steps, width))]
    x, dt = normal[0], np.log1p(np.exp(normal[1]))
    a = -np.exp(0.5 * rng.standard_normal((width, states)))
    b, c = (rng.standard_normal((n, steps, states)) for _ in range(2))
    return [np.asarray(array, dtype) for array in (x, dt, a, b, c)]


def loop(x, dt, a, b, c):
    """The paper's equations as they stand, in the dtype of the arrays."""
    h, outputs = np.zeros((x.shape[0], *a.shape), x.dtype), []
    for t in range(x.shape[1]):
        decay = np.exp(dt[:, t, :, None] * a)
        h = decay * h + (dt[:, t] * x[:, t])[..., None] * b[:, t, None, :]
        outputs.append((h * c[:, t, None, :]).sum(-1))
    return np.stack(outputs, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [1, 2, 9, 16, LONG])
def test_every_form_is_the_loop(form, steps):
    expected = loop(*arrays(steps, dtype=np.float64))
    got = jax.jit(FORMS[form])(*arrays(steps))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-5)


def gradients(form, inputs, gradient):
    return jax.jit(lambda g, *inputs: jax.vjp(form, *inputs)[1](g))(gradient, *inputs)


@pytest.mark.parametrize("steps", [1, 9, LONG])
def test_the_gradient_of_every_form_is_the_sequential_ones(steps):
    inputs = arrays(steps)
    gradient = np.random.default_rng(0).standard_normal((2, steps, 5), dtype=np.float32)
    expected = gradients(module._stepwise, inputs, gradient)
    for name, form in FORMS.items():
        for got, want in zip(gradients(form, inputs, gradient), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5, err_msg=name)


def test_the_sequential_gradient_is_the_loops():
    """By differences of the float64 loop in a random direction, of each argument in turn."""
    inputs, rng = arrays(7, dtype=np.float64), np.random.default_rng(1)
    gradient = rng.standard_normal((2, 7, 5))
    single = [array.astype(np.float32) for array in inputs]
    got = gradients(module._stepwise, single, gradient.astype(np.float32))
    for i, array in enumerate(inputs):
        direction = rng.standard_normal(array.shape)
        ahead, behind = (
            loop(*inputs[:i], array + sign * 1e-5 * direction, *inputs[i + 1 :]) for sign in (1, -1)
        )
        slope = ((ahead - behind) * gradient).sum() / 2e-5
        np.testing.assert_allclose((got[i] * direction).sum(), slope, rtol=1e-4, atol=1e-4)


def test_the_state_of_sixteen_bit_inputs_is_float32():
    # A thousand small steps: in bfloat16 a state of 1/4 stands still at additions of 1/1000.
    ones = jnp.ones((1, 1000, 1), jnp.bfloat16)
    inputs = (ones, ones / 1000, jnp.full((1, 1), -1e-6, jnp.bfloat16), ones, ones)
    y = jax.jit(selective_scan)(*inputs)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y[0, -1, 0], 1.0, rtol=5e-3)  # 1/1000 itself is rounded
    traced = str(jax.make_jaxpr(selective_scan)(*inputs))  # all forms are in it
    assert "bf16[1,1000,1,1]" not in traced and "f32[1,1000,1,1]" in traced


def test_a_recurrence_starts_from_zero():
    decay, inputs = jnp.full((1, 3), 0.5), jnp.asarray([[4.0, 2.0, 1.0]])
    np.testing.assert_allclose(recurrence(decay, inputs), [[4.0, 4.0, 3.0]])
    # h_2 = d_2·(d_1·4 + 2) + 1; the gradient of its gradient's sum 4·d_2 + 4·d_1 + 2:
    second = jax.grad(lambda d: jax.grad(lambda d: recurrence(d, inputs)[0, 2])(d).sum())(decay)
    np.testing.assert_allclose(second, [[0.0, 4.0, 4.0]])


def lowered(steps, platform, **options):
    def run(*inputs):
        return selective_scan(*inputs, **options)

    traced = jax.jit(run).trace(*arrays(steps))
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_accelerators_scan_in_parallel_and_cpus_step_by_step():
    assert "stablehlo.while" in lowered(16, "cpu")
    for platform in ("tpu", "cuda"):
        assert "stablehlo.while" not in lowered(16, platform)
        assert "stablehlo.while" in lowered(16, platform, chunk=4)
        assert "stablehlo.while" not in lowered(16, platform, chunk=16)


def test_programs_do_not_grow_with_the_number_of_steps():
    def lines(steps, platform):
        return lowered(steps, platform).count("\n")

    assert lines(1024, "cpu") == lines(128, "cpu")
    # 8 instead of 4 halvings of the sequence
    assert lines(256, "tpu") < 2.2 * lines(16, "tpu")


def test_what_does_not_fit_is_said():
    x, dt, a, b, c = arrays(4)
    for wrong in ((x, dt[:, :3], a, b, c), (x, dt, a.T, b, c), (x, dt, a, b[..., :2], c)):
        with pytest.raises(
            ValueError, match=r"selective_scan got x \(2, 4, 5\), .* twice \(N, T, E"
        ):
            selective_scan(*wrong)
    with pytest.raises(ValueError, match="chunk=0; expected at least 1 step, or None"):
        selective_scan(x, dt, a, b, c, chunk=0)
