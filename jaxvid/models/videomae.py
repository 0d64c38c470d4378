"""VideoMAE's video classifier: a plain ViT over tubelets, all tokens attending to all.

Tong et al. 2022, VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training. The module of its fine-tuning; models/videomae_pretrain.py has the same "encoder".

    model = jaxvid.create_model("videomae", variant="B", num_classes=400)
    variables = model.init(rng, {"video": x}, train=False)      # x: float (N, 16, 224, 224, 3)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]            # (N, 400)

Pixels come in normalised as at pretraining (ImageNet mean and standard deviation). Frames and size are
read from the input: any multiples of tubelet_size and patch_size.
"""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.attention import dot_product_attention  # noqa: F401  (see attention_path)
from jaxvid.nn.embed import TubeletEmbed, patchify, sincos_table
from jaxvid.nn.linear import Dense, Initializer
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.transformer import Block, Stack
