"""Cross-frame attention: frames tell each other what they saw through one message token each.

Ni et al. 2022, Expanding Language-Image Pretrained Models for General Video Recognition (X-CLIP),
section 3.2. Of each frame's class token a linear layer makes a message; the messages of a clip attend
to each other; then every frame's tokens attend to themselves and to the frame's own message.

    m = message(x[class]);  m = m + attention_over_frames(message_norm(m))
    x = x + attention(norm1(x), memory=norm1([x; m]));  x = x + mlp(norm2(x))
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.nn.activation import quick_gelu
from jaxvid.nn.cross_attention import CrossAttention
from jaxvid.nn.drop import DropPath
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Attention, Mlp


class CrossFrameBlock(nn.Module):
    """One block over the frames of clips of `num_frames`; stochastic depth drops a whole clip's branch.

    Parameters besides those of nn/transformer.py's Block: message {kernel, bias}, message_norm and
    message_attention.
    """

    num_heads: int
    num_frames: int
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    qkv_init: Initializer | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, drop_path: float | jax.Array = 0.0, *, train: bool
    ) -> jax.Array:
        """x: (N·T, L, I), a frame's class token first -> the same, in `dtype`."""
        x = x.astype(self.dtype)
        frames, _, width = x.shape

        def norm(name: str) -> LayerNorm:
            return LayerNorm(self.norm_eps, self.dtype, name=name)

        def dropped(y: jax.Array, name: str) -> jax.Array:
            clips = y.reshape(frames // self.num_frames, -1, width)  # (N·T, L, I) -> (N, T·L, I)
            return DropPath(name=name)(clips, drop_path, train=train).reshape(y.shape)

        inits = {"kernel_init": self.kernel_init, "qkv_init": self.qkv_init, "dtype": self.dtype}
        message = Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, name="message")(
            x[:, 0]
        )
        message = message.reshape(-1, self.num_frames, width)  # (N·T, I) -> (N, T, I)
        heard = Attention(self.num_heads, name="message_attention", **inits)(
            norm("message_norm")(message), train=train
        )
        message = message + dropped(heard, "drop_path0")

        # The message is seen by the frame's tokens; what it would see itself is not used.
        memory = jnp.concatenate([x, message.reshape(frames, 1, width)], axis=1)
        memory = norm("norm1")(memory)
        attention = CrossAttention(self.num_heads, name="attention", **inits)
        x = x + dropped(attention(memory[:, :-1], memory), "drop_path1")

        hidden = round(width * self.mlp_ratio)
        mlp = Mlp(hidden, quick_gelu, 0.0, self.dtype, self.kernel_init, name="mlp")
        return x + dropped(mlp(norm("norm2")(x), train=train), "drop_path2")
