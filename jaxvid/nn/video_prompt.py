"""Video-specific prompts: each class's text reads the clip before it is compared with it.

Ni et al. 2022 (X-CLIP), section 3.3: blocks of cross-attention from texts to the clip's patches, whose
result, scaled by a learned `alpha`, is added to the text.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.activation import quick_gelu
from jaxvid.nn.cross_attention import CrossAttention
from jaxvid.nn.linear import Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Mlp

NORMAL = nn.initializers.normal(0.02)


class PromptLayer(nn.Module):
    """x + attention(norm1(x), memory), then x + mlp(norm2(x)); the three projections have no bias."""

    num_heads: int
    norm_eps: float
    dtype: jnp.dtype
    kernel_init: Initializer = NORMAL

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array, *, train: bool) -> jax.Array:
        """x: (N, K, I), memory: (N, S, I) -> (N, K, I)"""
        attention = CrossAttention(
            self.num_heads, False, self.dtype, self.kernel_init, name="attention"
        )
        x = x + attention(LayerNorm(self.norm_eps, self.dtype, name="norm1")(x), memory)
        mlp = Mlp(4 * x.shape[-1], quick_gelu, 0.0, self.dtype, self.kernel_init, name="mlp")
        return x + mlp(LayerNorm(self.norm_eps, self.dtype, name="norm2")(x), train=train)


class VideoPrompt(nn.Module):
    """What is added to each text for one clip.

    norm_eps: of the layers; patch_norm_eps: of the norm of the patches. alpha_init: where the (I,)
    factors `alpha` start.
    """

    depth: int
    num_heads: int
    norm_eps: float = 1e-5
    patch_norm_eps: float = 1e-5
    alpha_init: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, texts: jax.Array, patches: jax.Array, *, train: bool) -> jax.Array:
        """texts: (K, I); patches: (N, S, I) of the clips -> float32 (N, K, I)"""
        x = jnp.broadcast_to(texts.astype(self.dtype), (patches.shape[0], *texts.shape))
        memory = LayerNorm(self.patch_norm_eps, self.dtype, name="norm")(patches)
        for i in range(self.depth):
            layer = PromptLayer(self.num_heads, self.norm_eps, self.dtype, name=f"layer_{i}")
            x = layer(x, memory, train=train)
        start = nn.initializers.constant(self.alpha_init)
        alpha = self.param("alpha", start, texts.shape[-1:], jnp.float32)
        return alpha * x.astype(jnp.float32)
