"""Classifiers of features instead of pixels: pooling over frames, then one or several experts a class.

Abu-El-Haija et al. 2016, YouTube-8M, section 4 (logistic regression, mixture of experts); Arandjelović
et al. 2016, NetVLAD, section 3.1; Miech et al. 2017, Learnable pooling with context gating, section 3,
here without batch normalisation.

    model = jaxvid.create_model("feature_head", variant="moe", num_classes=3862)
    variables = model.init(rng, {"features": x}, train=False)  # x: float (N, T, 1152), T from 1
    logits = model.apply(variables, {"features": x}, train=False)["logits"]  # (N, 3862)

Features as they come, of YouTube-8M those of image and sound side by side; each frame's is divided by
its length first, as the publisher's code does. Their order in time makes no difference.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.linear import Dense

POOLINGS = ("mean", "attention", "netvlad")
VARIANTS = {
    "test": {"pooling": "netvlad", "clusters": 4, "hidden_width": 16, "num_experts": 2},
    "logistic": {},
    "moe": {"num_experts": 2},
    "attention": {"pooling": "attention", "clusters": 8, "hidden_width": 1024, "num_experts": 2},
    "netvlad": {"pooling": "netvlad", "clusters": 64, "hidden_width": 1024, "num_experts": 2},
}
SHAPES = {"test": (8, 24), "attention": (60, 1152), "netvlad": (60, 1152)}  # frames, numbers
WHOLE_VIDEO = (1, 1152)
KERNEL_INIT = nn.initializers.lecun_normal()


class AttentionPool(nn.Module):
    """Several weighted means over the frames; who weighs, learns."""

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, D) -> (N, heads · D)"""
        scores = Dense(self.heads, dtype=self.dtype, kernel_init=KERNEL_INIT, name="score")(x)
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=1)  # over the frames
        return jnp.einsum("nth,ntd->nhd", weights, x).reshape(len(x), -1)


class NetVlad(nn.Module):
    """What remains of the frames beside the centres they are assigned to, softly."""

    clusters: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, T, D) -> (N, clusters · D), the part of a cluster of length 1, then the whole"""
        width = x.shape[-1]
        centre_init = nn.initializers.normal(width**-0.5)
        centres = self.param("centre", centre_init, (self.clusters, width), jnp.float32)
        scores = Dense(self.clusters, dtype=self.dtype, kernel_init=KERNEL_INIT, name="assign")(x)
        shares = jax.nn.softmax(scores.astype(jnp.float32), axis=-1)  # (N, T, K)
        total = jnp.sum(shares, axis=1)[..., None]  # (N, K, 1)
        rest = jnp.einsum("ntk,ntd->nkd", shares, x) - total * centres
        return unit_length(unit_length(rest).reshape(len(x), -1))


class FeatureHead(nn.Module):
    """The classifier.

    pooling: over the frames, "mean", "attention" (clusters weighted means) or "netvlad". clusters: of
    the last two. hidden_width: of a layer behind the pooling, with context gating; 0 for none.
    num_experts: logistic experts a class, mixed by a gate that also has the choice "no"; 0 for plain
    logistic regression. unit_features: each frame's features are divided by their length.
    """

    num_classes: int
    pooling: str = "mean"
    clusters: int = 64
    hidden_width: int = 0
    num_experts: int = 0
    unit_features: bool = True
    head_dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["features"]: float (N, T, D).

        -> logits float32 (N, num_classes), features float32 (N, D'): what the classes are told from.
        With experts too the logits are those of the probabilities, for a loss of one sigmoid a class.
        Raises UnknownNameError for another pooling, ValueError for inputs of another form.
        """
        x = _checked(inputs)
        if self.unit_features:
            x = unit_length(x)
        x = self._pooled(x)
        if self.hidden_width:
            x = self._dense(self.hidden_width, "hidden")(x)
            x = x * jax.nn.sigmoid(self._dense(self.hidden_width, "gating")(x))
        features = x.astype(jnp.float32)
        x = nn.Dropout(self.head_dropout, deterministic=not train)(features)
        if not self.num_experts:
            logits = self._dense(self.num_classes, "head")(x).astype(jnp.float32)
            return {"logits": logits, "features": features}
        gates = self._dense(self.num_classes * (self.num_experts + 1), "gate", bias=False)(x)
        experts = self._dense(self.num_classes * self.num_experts, "expert")(x)
        gates, experts = (y.reshape(len(x), self.num_classes, -1) for y in (gates, experts))
        return {"logits": mixture_logits(gates, experts), "features": features}

    def _pooled(self, x: jax.Array) -> jax.Array:
        """(N, T, D) -> (N, D')"""
        if self.pooling == "mean":
            return jnp.mean(x, axis=1)
        if self.pooling == "attention":
            return AttentionPool(self.clusters, self.dtype, name="pool")(x)
        if self.pooling == "netvlad":
            return NetVlad(self.clusters, self.dtype, name="pool")(x)
        raise unknown("pooling of feature_head", self.pooling, POOLINGS)

    def _dense(self, width: int, name: str, *, bias: bool = True) -> Dense:
        return Dense(width, use_bias=bias, dtype=self.dtype, kernel_init=KERNEL_INIT, name=name)


def mixture_logits(gates: jax.Array, experts: jax.Array) -> jax.Array:
    """The logits of sum_m softmax(gates)_m · sigmoid(experts_m): float32 (N, K).

    gates (N, K, M + 1), the last one for an expert that always says no; experts (N, K, M). In
    logarithms throughout, so that probabilities near 0 and 1 keep their gradients.
    """
    gates = jax.nn.log_softmax(gates.astype(jnp.float32), axis=-1)
    experts = experts.astype(jnp.float32)
    choices, none = gates[..., :-1], gates[..., -1:]
    yes = jax.nn.logsumexp(choices + jax.nn.log_sigmoid(experts), axis=-1)
    no = jnp.concatenate([choices + jax.nn.log_sigmoid(-experts), none], axis=-1)
    return yes - jax.nn.logsumexp(no, axis=-1)


def unit_length(x: jax.Array) -> jax.Array:
    """float32 (…, D) of Euclidean length 1 along the last axis; zeros stay zeros."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def _checked(inputs: Mapping[str, jax.Array]) -> jax.Array:
    x = inputs.get("features")
    if x is None:
        raise ValueError(
            f"feature_head is told {', '.join(inputs) or 'nothing'} and expects 'features', float "
            "(N, T, D): it knows no pixels; use it with a set of features such as youtube8m"
        )
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(
            f"inputs['features'] has shape {x.shape}, expected (N, T, D): D numbers for each of T frames"
        )
    return x


MODULE = FeatureHead


def build(num_classes: int, *, variant: str = "moe", **overrides) -> FeatureHead:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    fields = lookup.variant("feature_head", VARIANTS, variant)
    return FeatureHead(num_classes, **(fields | overrides))


def example_inputs(variant: str = "moe") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one video."""
    shape = SHAPES.get(variant, WHOLE_VIDEO)
    return {"features": jax.ShapeDtypeStruct((1, *shape), jnp.float32)}
