"""The image model on frames."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.models import vit

VIDEO = np.random.default_rng(0).standard_normal((2, 3, 32, 32, 3), dtype=np.float32)


def small(**fields):
    return vit.build(5, variant="test", **fields)


@functools.cache
def started():
    init = functools.partial(small().init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), {"video": VIDEO})
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), shapes)


def run(video=VIDEO, **fields):
    return small(**fields).apply(started(), {"video": video}, train=False)


@pytest.mark.parametrize(
    "variant, count", [("Ti", 5_717_416), ("S", 22_050_664), ("B", 86_567_656), ("L", 304_326_632)]
)
def test_parameters_are_as_many_as_published(variant, count):
    model = vit.build(1000, variant=variant, scan_layers=True)
    init = functools.partial(model.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), vit.example_inputs(variant))["params"]
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == count


def test_logits_are_the_mean_of_the_frames():
    outputs = run()
    assert outputs["tokens"].shape == (2, 3, 17, 48) and outputs["features"].shape == (2, 48)
    frames = run(VIDEO.reshape(6, 1, 32, 32, 3))["logits"].reshape(2, 3, 5)
    np.testing.assert_allclose(outputs["logits"], frames.mean(1), atol=1e-5)


def test_fields_reach_what_they_are_for():
    plain = run()["logits"]
    for fields in ({"norm_eps": 1.0}, {"activation": "gelu_tanh"}):
        assert np.abs(run(**fields)["logits"] - plain).max() > 1e-6
    half = run(dtype=jnp.bfloat16)
    assert half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["logits"], plain, atol=0.1)


def test_what_does_not_fit():
    for shape, words in (
        ((1, 1, 36, 32, 3), "expected multiples of the patch"),
        ((1, 1, 32, 40, 3), r"made for a grid of \(4, 4\) patches, this input has \(4, 5\)"),
        ((1, 1, 32, 32, 4), "4 channels in the last axis"),
    ):
        with pytest.raises(ValueError, match=words):
            run(jnp.zeros(shape))
    for field in ("pool", "activation"):
        with pytest.raises(UnknownNameError, match=f"unknown {field} 'x'"):
            run(**{field: "x"})
    with pytest.raises(UnknownNameError, match="'vit' has no variant 'XL'"):
        vit.build(2, variant="XL")
