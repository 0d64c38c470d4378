"""The small perceptron that the per-frame models put on a ResNet's pooled features."""

import flax.linen as nn
import jax

from jaxvid.nn.linear import Dense

# torch's start of linear layers: uniform within one over the root of the inputs.
TORCH_LINEAR = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class MlpHead(nn.Module):
    """`projection`, ReLU, `fc`, ReLU, dropout, `head`, all float32: 512 -> 512 -> 128 -> classes.

    Share its scope (nn.share_scope) to have the three layers at the top of a model's parameters.
    """

    num_classes: int
    projection_width: int
    hidden_width: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """(..., D) -> logits (..., num_classes) and what the head sees, (..., hidden_width)"""
        x = nn.relu(Dense(self.projection_width, kernel_init=TORCH_LINEAR, name="projection")(x))
        x = nn.relu(Dense(self.hidden_width, kernel_init=TORCH_LINEAR, name="fc")(x))
        dropped = nn.Dropout(self.dropout)(x, deterministic=not train)
        return Dense(self.num_classes, kernel_init=TORCH_LINEAR, name="head")(dropped), x
