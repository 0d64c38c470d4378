"""Pre-norm transformer blocks, and stacks of them in two layouts.

    x = x + drop_path(gamma_1 · attention(norm1(x)))
    x = x + drop_path(gamma_2 · mlp(norm2(x)))

Parameters of a block: norm1, norm2 {scale, bias}; attention {query, key, value {kernel (I, H, D)[,
bias (H, D)]}, out {kernel (H, D, I), bias}}; mlp {fc1, fc2 {kernel, bias}}; with layer scale
gamma_1 and gamma_2 (I,).
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core.errors import unknown
from jaxvid.nn.activation import gelu
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.drop import DropPath, check_rate
from jaxvid.nn.linear import Dense, HeadMerge, HeadSplit, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.rows import keep_rows

BIASED = {"none": (), "qv": ("query", "value"), "all": ("query", "key", "value")}
MOST_COSINE_SCALE = 4.6052  # log 100, as published models round it


class Attention(nn.Module):
    """Multi-head self-attention.

    qkv_bias: "none", "qv" (VideoMAE, BEiT: none on the key) or "all". scale: of the logits,
    1/sqrt(D) when None. head_dim: width / num_heads when None. dropout acts on the output. attend:
    which tokens see which, a function as dot_product_attention, (query, key, value, scale=…). cosine:
    logits are cosines times a number of each head, exp(logit_scale (H,)), 10 at the start and 100 at
    most (Liu et al. 2022, Swin Transformer V2, section 3.3, as VideoMAE V2 has it).
    """

    num_heads: int
    head_dim: int | None = None
    qkv_bias: str = "all"
    scale: float | None = None
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    qkv_init: Initializer | None = None  # kernel_init when None
    attend: Callable[..., jax.Array] = dot_product_attention
    cosine: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, L, I) -> (N, L, I) in `dtype`."""
        if self.qkv_bias not in BIASED:
            raise unknown("qkv_bias", self.qkv_bias, BIASED)
        size = self._head_dim(x.shape[-1])
        # Three products: one over the three kernels put together measured no faster.
        query, key, value = (
            HeadSplit(
                self.num_heads,
                size,
                name in BIASED[self.qkv_bias],
                self.dtype,
                self.qkv_init or self.kernel_init,
                name=name,
            )(x)
            for name in ("query", "key", "value")
        )
        scale = self.scale
        if self.cosine:
            query, key, scale = self._cosine(query), _unit(key).astype(self.dtype), 1.0
        y = self.attend(query, key, value, scale=scale)
        y = HeadMerge(x.shape[-1], self.dtype, self.kernel_init, name="out")(y)
        return nn.Dropout(self.dropout, deterministic=not train)(y)

    def _cosine(self, query: jax.Array) -> jax.Array:
        """(N, L, H, D) -> the same in `dtype`, each of the length that its head's cosines are
        scaled by"""
        start = nn.initializers.constant(math.log(10.0))
        scale = self.param("logit_scale", start, (self.num_heads,), jnp.float32)
        length = jnp.exp(jnp.minimum(scale, MOST_COSINE_SCALE))
        return (_unit(query) * length[:, None]).astype(self.dtype)

    def _head_dim(self, width: int) -> int:
        if self.head_dim is None and width % self.num_heads:
            raise ValueError(
                f"width {width} is not a multiple of num_heads={self.num_heads}; "
                "choose another number of heads or give head_dim"
            )
        return self.head_dim or width // self.num_heads


def _unit(x: jax.Array) -> jax.Array:
    """Vectors along the last axis made 1 long, in float32; 0 stays 0, also in the gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


class Mlp(nn.Module):
    """Two linear layers with an activation between; dropout acts on the output.

    features: the width of the output, that of the input when None. hidden_dropout acts between the
    layers, after the activation.
    """

    hidden: int
    activation: Callable[[jax.Array], jax.Array] = gelu
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    features: int | None = None
    hidden_dropout: float = 0.0
    bias_init: Initializer = nn.initializers.zeros
    out_init: Initializer | None = None  # of fc2; kernel_init when None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, L, I) -> (N, L, features) in `dtype`."""
        width = self.features or x.shape[-1]
        how = {"dtype": self.dtype, "bias_init": self.bias_init}
        y = Dense(self.hidden, kernel_init=self.kernel_init, name="fc1", **how)(x)
        how |= {"kernel_init": self.out_init or self.kernel_init, "name": "fc2"}
        if train and self.hidden_dropout:
            dropout = nn.Dropout(self.hidden_dropout, deterministic=False, name="inner_dropout")
            y = Dense(width, **how)(dropout(self.activation(y)))
        else:
            y = Dense(width, activation=self.activation, **how)(y)
        return nn.Dropout(self.dropout, deterministic=not train)(y)


class Block(nn.Module):
    """One pre-norm block. layer_scale: the number gamma_1 and gamma_2 start at; None for none.

    attend, cosine: of `Attention`. out_init: of the last layer of either branch; kernel_init when None.
    """

    num_heads: int
    mlp_ratio: float = 4.0
    head_dim: int | None = None
    qkv_bias: str = "all"
    scale: float | None = None
    norm_eps: float = 1e-6
    layer_scale: float | None = None
    dropout: float = 0.0
    activation: Callable[[jax.Array], jax.Array] = gelu
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    qkv_init: Initializer | None = None
    attend: Callable[..., jax.Array] = dot_product_attention
    cosine: bool = False
    out_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, drop_path: float | jax.Array = 0.0, *, train: bool
    ) -> jax.Array:
        """(N, L, I) -> (N, L, I) in `dtype`; drop_path: the rate of stochastic depth here."""
        x = x.astype(self.dtype)
        attention = Attention(
            self.num_heads,
            self.head_dim,
            self.qkv_bias,
            self.scale,
            self.dropout,
            self.dtype,
            self.out_init or self.kernel_init,
            self.qkv_init or self.kernel_init,
            self.attend,
            self.cosine,
            name="attention",
        )
        mlp = Mlp(
            round(x.shape[-1] * self.mlp_ratio),
            self.activation,
            self.dropout,
            self.dtype,
            self.kernel_init,
            out_init=self.out_init,
            name="mlp",
        )
        for branch, i in ((attention, 1), (mlp, 2)):
            y = branch(LayerNorm(self.norm_eps, self.dtype, name=f"norm{i}")(x), train=train)
            if self.layer_scale is not None:
                start = nn.initializers.constant(self.layer_scale)
                gamma = self.param(f"gamma_{i}", start, x.shape[-1:], jnp.float32)
                y = y * gamma.astype(self.dtype)
            x = x + DropPath(name=f"drop_path{i}")(y, drop_path, train=train)
        return x


class Stack(nn.Module):
    """`depth` blocks in a row; the drop-path rate rises linearly from 0 to drop_path_rate.

    block: makes one, given its name; it is called with (x, drop-path rate, train=…), without the
    rate where all are zero. remat: activations inside a block are computed again for the
    gradient (less memory, about a third more work). scan_layers: the blocks are one compiled loop
    over stacked parameters, "blocks" instead of "block_0", … (compile time independent of depth).
    """

    block: Callable[..., nn.Module]
    depth: int
    drop_path_rate: float = 0.0
    remat: bool = False
    scan_layers: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, L, I) -> (N, L, I)"""
        check_rate("drop path", self.drop_path_rate)
        rates = np.linspace(0.0, self.drop_path_rate, self.depth)
        if not self.scan_layers:
            for i, rate in enumerate(rates):
                x = self._layer(train, float(rate))(self.block(name=f"block_{i}"), x)
            return x
        layer = self._layer(train)
        scanned = nn.scan(
            lambda block, x, *rate: (layer(block, x, *rate), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.depth,
        )
        # Rates known to be zero stay out of the program: a traced one draws random numbers.
        varying = [jnp.asarray(rates, jnp.float32)] if self.drop_path_rate else []
        return scanned(self.block(name="blocks"), x, *varying)[0]

    def _layer(self, train: bool, *fixed_rate: float):
        """(block, x, *rate) -> x, computed again for the gradient if asked for."""

        def layer(block, x, *rate):
            return keep_rows(block(keep_rows(x), *fixed_rate, *rate, train=train))

        return nn.remat(layer, prevent_cse=not self.scan_layers) if self.remat else layer


def stack_layers(params):
    """Every {"block_0": …, "block_1": …} of a tree becomes {"blocks": …} with a leading layer axis.

    Works at any depth, inside dicts, lists and (named) tuples, on numpy or jax arrays. Raises
    ValueError where numbers are missing.
    """

    def convert(node: dict) -> dict:
        layers = {k: v for k, v in node.items() if k.startswith("block_") and k[6:].isdigit()}
        if not layers:
            return node
        names = [f"block_{i}" for i in range(len(layers))]
        if set(names) != set(layers):
            raise ValueError(f"expected {names[0]} to {names[-1]}, there are {', '.join(layers)}")
        rest = {k: v for k, v in node.items() if k not in layers}
        return rest | {"blocks": jax.tree.map(_stacked, *(layers[name] for name in names))}

    return _map_dicts(convert, params)


def unstack_layers(params):
    """The way back from `stack_layers`."""

    def convert(node: dict) -> dict:
        if "blocks" not in node:
            return node
        rest = {k: v for k, v in node.items() if k != "blocks"}
        depths = {leaf.shape[0] for leaf in jax.tree.leaves(node["blocks"])}
        if len(depths) != 1:
            raise ValueError(
                f"stacked layers have leading axes {sorted(depths)}, expected one size"
            )
        for i in range(depths.pop()):
            rest[f"block_{i}"] = jax.tree.map(lambda leaf, i=i: leaf[i], node["blocks"])
        return rest

    return _map_dicts(convert, params)


def _stacked(*leaves):
    return np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves)


def _map_dicts(convert, node):
    if isinstance(node, dict):
        return convert({k: _map_dicts(convert, v) for k, v in node.items()})
    if isinstance(node, tuple | list):
        inner = [_map_dicts(convert, v) for v in node]
        return type(node)(*inner) if hasattr(node, "_fields") else type(node)(inner)
    return node
