"""A zero-shot classifier adapted to a handful of labelled clips: a correction of its logits.

    logits = zero_shot_logits + features · weight + bias

`weight` and `bias` are the multinomial logistic regression that starts from, and is drawn to, no
correction: the mean cross-entropy of the labelled clips plus penalty/2·(|weight|² + |bias|²). For
CLIP it is a linear probe held at the text features, the adaptation that Silva-Rodríguez et al. 2024
(A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models, section 4) find the most
reliable without a validation set; here the zero-shot logits may also depend on the clip, as
X-CLIP's do. The problem is convex, and as the penalty of no correction is 0, the labelled clips'
cross-entropy cannot rise.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Correction:
    """weight: float32 (D, K), bias: float32 (K,)."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, logits: jax.Array, features: jax.Array) -> jax.Array:
        """logits (N, K) and unit features (N, D) -> corrected logits float32 (N, K)"""
        return logits + features @ self.weight + self.bias


def fit(
    logits: np.ndarray, features: np.ndarray, labels: np.ndarray, *, penalty: float = 0.01
) -> Correction:
    """The correction that n labelled clips ask for.

    logits: (n, K) of the zero-shot classifier; features: (n, D), unit vectors; labels: int (n,). A
    class without clips gets none of its own, but loses to others. penalty: larger trusts the texts
    more, smaller the clips. Raises ValueError when shapes, labels or the penalty do not fit.
    """
    logits, features = (np.asarray(x, np.float32) for x in (logits, features))
    labels = np.asarray(labels)
    _check(logits, features, labels, penalty)
    inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    target = np.eye(logits.shape[1], dtype=np.float32)[labels]
    found, before, after = jax.device_get(_minimise(logits, inputs, target, np.float32(penalty)))
    if not after <= before:  # of rounding alone: clips that need no correction
        found = np.zeros_like(found)
    return Correction(found[:-1], found[-1])


def _check(logits, features, labels, penalty) -> None:
    shapes = f"logits {logits.shape}, features {features.shape}, labels {labels.shape}"
    if logits.ndim != 2 or features.ndim != 2 or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"few-shot clips have {shapes}; expected (n, K), (n, D) and (n,), n above 0"
        )
    if not len(logits) == len(features) == len(labels):
        raise ValueError(f"few-shot clips have {shapes}: not the same number of clips")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"few-shot labels are {labels.dtype} from {labels.min()} to {labels.max()}; expected "
            f"indices of {logits.shape[1]} classes"
        )
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}, expected a number above 0")


@functools.partial(jax.jit)
def _minimise(logits, inputs, target, penalty):
    """Nesterov's accelerated gradient for a strongly convex function, with the step that its
    curvature allows: the softmax's is at most 1/2, and rows of inputs have length at most √2 or so."""

    def loss(matrix):
        scores = jax.nn.log_softmax(logits + inputs @ matrix)
        return -jnp.mean(jnp.sum(target * scores, axis=1)) + penalty / 2 * jnp.sum(matrix**2)

    steepest = 0.5 * jnp.max(jnp.sum(inputs**2, axis=1)) + penalty
    ratio = jnp.sqrt(penalty / steepest)
    momentum = (1.0 - ratio) / (1.0 + ratio)

    def step(_, pair):
        matrix, ahead = pair
        new = ahead - jax.grad(loss)(ahead) / steepest
        return new, new + momentum * (new - matrix)

    start = jnp.zeros((inputs.shape[1], logits.shape[1]), jnp.float32)
    found, _ = jax.lax.fori_loop(0, STEPS, step, (start, start))
    return found, loss(start), loss(found)
