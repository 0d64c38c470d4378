"""The reconstruction loss against numpy, and the pictures made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.metrics.sums import finish
from jaxvid.nn.embed import patchify
from jaxvid.objectives import mae

PATCH = (2, 4, 4)
GRID = (2, 2, 3)
RNG = np.random.default_rng(0)
VIDEO = RNG.random((3, 4, 8, 12, 3), dtype=np.float32)
MASK = np.zeros((3, 12), bool)
for row in MASK:
    row[RNG.permutation(12)[:7]] = True
PAINTED = RNG.standard_normal((3, 7, 2 * 4 * 4 * 3), dtype=np.float32)


def targets(weight=(1.0, 1.0, 1.0), video=VIDEO, mask=MASK):
    return {
        "video": jnp.asarray(video),
        "tube_mask": jnp.asarray(mask),
        "weight": jnp.asarray(weight, jnp.float32),
    }


def true_patches(normalised):
    """(3, 7, 96) in float64, patch by patch."""
    patches = np.asarray(patchify(VIDEO, PATCH), np.float64)
    found = np.stack([patches[i, MASK[i]] for i in range(3)]).reshape(3, 7, 32, 3)
    if normalised:
        spread = np.sqrt(found.var(axis=2, ddof=1, keepdims=True)) + 1e-6
        found = (found - found.mean(axis=2, keepdims=True)) / spread
    return found.reshape(3, 7, 96)


@pytest.mark.parametrize("normalise_target", [True, False])
def test_loss(normalise_target):
    objective = jax.jit(mae.build(patch=PATCH, normalise_target=normalise_target))
    sums = objective({"logits": PAINTED}, targets())
    error = (PAINTED - true_patches(normalise_target)) ** 2
    assert finish(sums)["loss"] == pytest.approx(error.mean(), rel=1e-5)
    assert float(sums["loss"][1]) == 3.0


def test_rows_that_do_not_count():
    video = VIDEO.copy()
    video[1] = np.nan
    objective = mae.build(patch=PATCH)
    sums = objective({"logits": PAINTED}, targets((1.0, 0.0, 1.0), video))
    error = ((PAINTED - true_patches(True)) ** 2).mean(axis=(1, 2))
    assert finish(sums)["loss"] == pytest.approx((error[0] + error[2]) / 2, rel=1e-5)

    def loss(painted):
        total, weight = objective({"logits": painted}, targets((1.0, 0.0, 1.0)))["loss"]
        return total / weight

    gradient = jax.grad(loss)(jnp.asarray(PAINTED))
    assert (gradient[1] == 0).all() and (gradient[0] != 0).any()


def test_flat_patches_do_not_divide_by_zero():
    flat = np.full_like(VIDEO, 0.5)
    sums = mae.build(patch=PATCH)({"logits": np.zeros_like(PAINTED)}, targets(video=flat))
    assert finish(sums)["loss"] == 0.0


def test_16_bit_outputs_are_compared_in_float32():
    half = jnp.asarray(PAINTED, jnp.bfloat16)
    sums = mae.build(patch=PATCH)({"logits": half}, targets())
    error = (np.asarray(half, np.float64) - true_patches(True)) ** 2
    assert finish(sums)["loss"] == pytest.approx(error.mean(), rel=1e-5)


@pytest.mark.parametrize("normalise_target", [True, False])
def test_a_perfect_model_paints_the_clip(normalise_target):
    outputs = {"logits": jnp.asarray(true_patches(normalise_target), jnp.float32)}
    painted = mae.reconstruct(outputs, targets(), patch=PATCH, normalise_target=normalise_target)
    np.testing.assert_allclose(painted, VIDEO, atol=1e-6)


def test_only_masked_patches_are_painted_and_pictures_stay_in_range():
    outputs = {"logits": jnp.full_like(PAINTED, 5.0)}
    painted = mae.reconstruct(outputs, targets(), patch=PATCH, normalise_target=False)
    patches = np.asarray(patchify(painted, PATCH))
    assert painted.shape == VIDEO.shape and painted.dtype == jnp.float32
    assert (patches[MASK] == 1.0).all()
    np.testing.assert_array_equal(patches[~MASK], np.asarray(patchify(VIDEO, PATCH))[~MASK])


@pytest.mark.parametrize(
    "painted, given",
    [
        (PAINTED[..., :48], targets()),
        (PAINTED[:2], targets()),
        (PAINTED, targets(mask=MASK[:, :6])),
    ],
)
def test_outputs_that_are_not_of_these_targets(painted, given):
    for function in (mae.build(patch=PATCH), lambda *a: mae.reconstruct(*a, patch=PATCH)):
        with pytest.raises(
            ValueError, match=r"makes patches \(3, 12, 96\).*objective.options.patch"
        ):
            function({"logits": painted}, given)
