"""CLIP on every frame, pooled over the clip: by the mean, or by a small transformer over time.

Radford et al. 2021 (CLIP) for the towers; the mean and the transformer over frames as CLIP4Clip (Luo et
al. 2021, section 3.3, meanP and seqTransf) and ActionCLIP (Wang et al. 2021) compare them.

Classes are texts, as in models/xclip.py, or, with num_classes, the outputs of a linear head:

    model = jaxvid.create_model("clip_pooling", variant="B/16")  # texts
    outputs = model.apply(variables, {"video": x, "text_ids": ids}, train=False)
    model = jaxvid.create_model("clip_pooling", variant="B/16", num_classes=2)  # a head, no text tower
    outputs = model.apply(variables, {"video": x}, train=False)

It expects pixels normalised with CLIP's mean and standard deviation ("clip" in ops/pixels.py). The
mean takes any number of frames and does not see their order; the transformer has a position for each.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.nn.activation import gelu, quick_gelu
from jaxvid.nn.class_texts import Texts, frozen, text_ids, unit
from jaxvid.nn.clip_towers import ImageTower, TextTower
from jaxvid.nn.integration import Integration
from jaxvid.nn.linear import Dense

POOLS = ("mean", "transformer")
ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}
_B = {"width": 768, "depth": 12, "num_heads": 12}
VARIANTS = {
    "test": {
        "width": 48,
        "depth": 2,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "text_width": 32,
        "text_depth": 1,
        "text_num_heads": 2,
        "vocab_size": 512,
        "context_length": 16,
        "features": 32,
        "pool": "transformer",
        "temporal_depth": 2,
    },
    "B/32": {**_B, "patch_size": 32},
    "B/16": {**_B, "patch_size": 16},
    "L/14": {
        "width": 1024,
        "depth": 24,
        "num_heads": 16,
        "patch_size": 14,
        "text_width": 768,
        "text_num_heads": 12,
        "features": 768,
    },
}


class ClipPooling(nn.Module):
    """The model. width … scan_layers: of the frames' tower; text_…: of the texts'; features: the
    width both are projected to. pool: "mean" of the frames' features, or "transformer" over them,
    of temporal_depth blocks made as the text tower's. position_std: as in models/xclip.py.
    num_classes: of the head; 0 for classes that are texts. class_texts: token ids (K, tokens) of a
    closed set, or None. end_token: as in nn/clip_towers.py's TextTower. activation, text_activation: of
    the two towers, "quick_gelu" as OpenAI's CLIP or "gelu" (erf) as OpenCLIP's; the transformer over
    frames has the texts'.
    """

    num_classes: int = 0
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    channels: int = 3
    text_width: int = 512
    text_depth: int = 12
    text_num_heads: int = 8
    text_mlp_ratio: float = 4.0
    vocab_size: int = 49408
    context_length: int = 77
    end_token: int | None = None
    features: int = 512
    pool: str = "mean"
    temporal_depth: int = 4
    logit_scale_init: float = 2.6592
    position_std: float | None = None
    norm_eps: float = 1e-5
    text_norm_eps: float = 1e-5
    activation: str = "quick_gelu"
    text_activation: str = "quick_gelu"
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    class_texts: Texts | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    tubelet_size = 1  # frames that a token covers

    def setup(self):
        named = {"pool": POOLS, "activation": ACTIVATIONS, "text_activation": ACTIVATIONS}
        for name, known in named.items():
            if (value := getattr(self, name)) not in known:
                raise unknown(name, value, known)
        of_texts = ACTIVATIONS[self.text_activation]
        layers = {"dtype": self.dtype, "remat": self.remat, "scan_layers": self.scan_layers}
        self.visual = ImageTower(
            self.width,
            self.depth,
            self.num_heads,
            self.mlp_ratio,
            self.patch_size,
            self.channels,
            self.norm_eps,
            self.drop_path_rate,
            position_std=self.position_std,
            activation=ACTIVATIONS[self.activation],
            **layers,
        )
        start = nn.initializers.normal(self.width**-0.5)
        self.visual_projection = Dense(self.features, False, kernel_init=start)
        if self.pool == "transformer":
            self.temporal = Integration(
                self.temporal_depth,
                self.text_num_heads,
                self.text_mlp_ratio,
                self.text_norm_eps,
                self.position_std,
                activation=of_texts,
                **layers,
            )
        if self.num_classes:
            self.feature_dropout = nn.Dropout(self.head_dropout)
            self.head = Dense(self.num_classes, kernel_init=nn.initializers.normal(0.02))
            return
        self.text = TextTower(
            self.text_width,
            self.text_depth,
            self.text_num_heads,
            self.text_mlp_ratio,
            self.vocab_size,
            self.context_length,
            self.text_norm_eps,
            self.end_token,
            of_texts,
            **layers,
        )
        text_start = nn.initializers.normal(self.text_width**-0.5)
        self.text_projection = Dense(self.features, False, kernel_init=text_start)
        scale = nn.initializers.constant(self.logit_scale_init)
        self.logit_scale = self.param("logit_scale", scale, (), jnp.float32)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised; without a head inputs["text_ids"]:
        int (K, tokens), padded after their end token, or absent where the model has class_texts.

        -> what `classify` gives; with a head logits float32 (N, num_classes), features float32 (N,
        features), the pooled ones, and tokens (N, T, h·w, width). Raises ValueError when there are no
        texts or an input does not fit.
        """
        if not self.num_classes:
            ids = text_ids(inputs, self.class_texts)
            video = self.encode_video(inputs["video"], train=train)
            return self.classify(video, self.encode_text(ids, train=train), train=train)
        video = self.encode_video(inputs["video"], train=train)
        clip = video["clip"]
        logits = self.head(self.feature_dropout(clip, deterministic=not train))
        return {"logits": logits, "features": clip, "tokens": video["tokens"]}

    def encode_text(self, ids: jax.Array, *, train: bool = False) -> jax.Array:
        """int (K, tokens) -> float32 (K, features), not normalised. Not with a head."""
        return self.text_projection(self.text(ids, train=train))

    def encode_video(self, video: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """float (N, T, H, W, C) -> "clip" float32 (N, features), not normalised; "tokens" (N, T, h·w,
        width) in `dtype`."""
        frames, tokens = self.visual(video, train=train)
        frames = self.visual_projection(frames)
        if self.pool == "mean":
            # Of unit vectors, as CLIP compares them: a frame does not count more for being longer.
            clip = jnp.mean(unit(frames), axis=1)
        else:
            clip = self.temporal(frames, train=train)
        return {"clip": clip, "tokens": tokens}

    def classify(
        self, video: Mapping[str, jax.Array], texts: jax.Array, *, train: bool = False
    ) -> dict[str, jax.Array]:
        """Of `encode_video` and float32 (K, features) of `encode_text`:

        -> logits float32 (N, K), cosines times the scale; features float32 (N, features), the clip's
        unit vector, also as video_embeds; text_embeds float32 (K, features), the texts'; tokens.
        """
        clip, texts = unit(video["clip"]), unit(texts)
        logits = jnp.exp(self.logit_scale) * clip @ texts.T
        named = {"features": clip, "video_embeds": clip, "text_embeds": texts}
        return {"logits": logits, **named, "tokens": video["tokens"]}


MODULE = ClipPooling


def build(
    num_classes: int = 0,
    *,
    variant: str = "B/16",
    class_texts: Sequence[Sequence[int]] | None = None,
    **overrides,
) -> ClipPooling:
    """A row of VARIANTS as a module; overrides: any of its fields.

    class_texts: token ids of the classes' texts, (K, tokens). num_classes alone: a head. Neither: texts
    come with every input. Raises ValueError when the two disagree.
    """
    fields = lookup.variant("clip_pooling", VARIANTS, variant) | overrides
    if class_texts is not None:
        return ClipPooling(class_texts=frozen(class_texts, num_classes or None), **fields)
    return ClipPooling(num_classes or 0, **fields)


def example_inputs(variant: str = "B/16") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    size = 32 if variant == "test" else 224
    return {"video": jax.ShapeDtypeStruct((1, 8, size, size, 3), jnp.float32)}
