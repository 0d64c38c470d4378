import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.metrics import sums


def test_weighted_mean_over_batches_is_the_mean_over_all_rows():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(3, 5)), rng.random((3, 5)) < 0.6
    batches = [
        {"loss": sums.weighted_sum(jnp.asarray(v), jnp.asarray(w))}
        for v, w in zip(values, weights, strict=True)
    ]
    whole = sums.finish(sums.total(batches))
    assert whole["loss"] == pytest.approx(values[weights].mean(), abs=1e-6)
    added = sums.add(sums.add({}, batches[0]), sums.add(batches[1], batches[2]))
    assert sums.finish(added)["loss"] == pytest.approx(whole["loss"], abs=1e-6)


def test_rows_of_weight_0_count_nothing_even_nan():
    got = sums.weighted_sum(jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, False, True]))
    assert [float(x) for x in got] == [4.0, 2.0]
    assert [float(x) for x in sums.weighted_sum(jnp.array([1.0, 3.0]))] == [4.0, 2.0]


def test_fractional_weights_and_narrow_dtypes_are_summed_in_float32():
    got = sums.weighted_sum(jnp.full(1000, 1.0, jnp.bfloat16), jnp.full(1000, 0.5))
    assert got[0].dtype == jnp.float32 and [float(x) for x in got] == [500.0, 500.0]
    assert float(sums.weighted_sum(jnp.array([True, True, False]))[0]) == 2.0


def test_add_works_inside_jit_and_keeps_names_of_both():
    one = {"a": (jnp.float32(1), jnp.float32(2)), "b": (jnp.float32(3), jnp.float32(4))}
    other = {"b": (jnp.float32(10), jnp.float32(20)), "c": (jnp.float32(5), jnp.float32(6))}
    got = jax.jit(sums.add)(one, other)
    assert {k: (float(s), float(w)) for k, (s, w) in got.items()} == {
        "a": (1.0, 2.0),
        "b": (13.0, 24.0),
        "c": (5.0, 6.0),
    }


def test_what_was_never_measured_is_absent():
    got = sums.finish({"top1": (jnp.float32(3), jnp.float32(4)), "val": (0.0, 0.0)})
    assert got == {"top1": 0.75} and isinstance(got["top1"], float)


def test_total_is_exact_where_float32_is_not():
    many = [{"n": (np.float32(1.0), np.float32(1.0))}] * 3
    many.append({"n": (np.float32(2**24), np.float32(1.0))})
    assert sums.total(many) == {"n": (2.0**24 + 3, 4.0)}
