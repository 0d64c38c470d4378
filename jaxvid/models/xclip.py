"""X-CLIP: CLIP's towers for video, whose classes are texts.

Ni et al. 2022, Expanding Language-Image Pretrained Models for General Video Recognition. Frames
exchange message tokens (section 3.2, nn/cross_frame.py), a small transformer integrates them into one
feature of the clip (section 3.2), and texts read the clip before they are compared with it (section
3.3, nn/video_prompt.py).

    model = jaxvid.create_model("xclip", variant="B/16")
    outputs = model.apply(variables, {"video": x, "text_ids": ids}, train=False)
    outputs["logits"]  # (N, K): x float (N, 8, 224, 224, 3), ids int (K, tokens)

No parameter depends on the number of classes, so there is no field num_classes and any texts can be
given. For a closed set, as in training, they are a field: `class_texts`, token ids; then the video is
the only input. `build(num_classes)` without texts makes each class a word of its own that means nothing
yet (nn/class_texts.py), which is for training from scratch.

Texts need not be computed for every clip:

    texts = model.apply(variables, ids, method="encode_text")  # once
    video = model.apply(variables, x, train=False, method="encode_video")
    outputs = model.apply(variables, video, texts, train=False, method="classify")

It expects pixels normalised with ImageNet's mean and standard deviation, and CLIP's tokens
(data/text.py). Frames and size are those of the weights; tables are resized at load.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvid.core import lookup
from jaxvid.nn.class_texts import Texts, frozen, symbols, text_ids, unit
from jaxvid.nn.clip_towers import ImageTower, TextTower
from jaxvid.nn.integration import Integration
from jaxvid.nn.linear import Dense
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.video_prompt import VideoPrompt

_B = {"width": 768, "depth": 12, "num_heads": 12}
_L = {
    "width": 1024,
    "depth": 24,
    "num_heads": 16,
    "patch_size": 14,
    "text_width": 768,
    "text_num_heads": 12,
    "features": 768,
}
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
        "integration_num_heads": 4,
        "prompt_depth": 1,
        "prompt_num_heads": 4,
    },
    "B/32": {**_B, "patch_size": 32},
    "B/16": {**_B, "patch_size": 16},
    "L/14": _L,
    "B/32-16f": {**_B, "patch_size": 32},
    "B/16-16f": {**_B, "patch_size": 16},
    "L/14-336-16f": _L,
}


class XCLIP(nn.Module):
    """The model. width … scan_layers: of the frames' tower; text_…: of the texts'; features: the
    width both are projected to; integration_…: of the transformer over frames; prompt_…: of the
    layers in which texts read the clip, prompt_alpha where their factors start. logit_scale_init:
    the logarithm of what similarities start multiplied by (CLIP ends its training at 4.6).
    position_std: how large positions in the image and in time start, the standard deviation of a
    normal; None: as published, width^-1/2 and 0.02, so little beside what a narrow model adds them to
    that training from scratch hardly finds them. class_texts: token ids (K, tokens) of a closed set of
    classes, or None.
    """

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
    features: int = 512
    integration_depth: int = 1
    integration_num_heads: int = 8
    integration_mlp_ratio: float = 4.0
    prompt_depth: int = 2
    prompt_num_heads: int = 8
    prompt_alpha: float = 0.1
    logit_scale_init: float = 2.6592
    position_std: float | None = None
    norm_eps: float = 1e-5
    text_norm_eps: float = 1e-5
    drop_path_rate: float = 0.0
    class_texts: Texts | None = None
    dtype: jnp.dtype = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    tubelet_size = 1  # frames that a token covers

    def setup(self):
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
            cross_frame=True,
            position_std=self.position_std,
            **layers,
        )
        self.text = TextTower(
            self.text_width,
            self.text_depth,
            self.text_num_heads,
            self.text_mlp_ratio,
            self.vocab_size,
            self.context_length,
            self.text_norm_eps,
            **layers,
        )
        self.integration = Integration(
            self.integration_depth,
            self.integration_num_heads,
            self.integration_mlp_ratio,
            self.norm_eps,
            self.position_std,
            **layers,
        )
        start = nn.initializers.normal(self.width**-0.5)
        self.visual_projection = Dense(self.features, False, kernel_init=start)
        self.prompt_norm = LayerNorm(self.norm_eps)
        self.prompt_projection = Dense(self.features, False, kernel_init=start)
        text_start = nn.initializers.normal(self.text_width**-0.5)
        self.text_projection = Dense(self.features, False, kernel_init=text_start)
        self.prompt = VideoPrompt(
            self.prompt_depth,
            self.prompt_num_heads,
            self.text_norm_eps,
            self.norm_eps,
            self.prompt_alpha,
            self.dtype,
        )
        scale = nn.initializers.constant(self.logit_scale_init)
        self.logit_scale = self.param("logit_scale", scale, (), jnp.float32)

    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised; inputs["text_ids"]: int (K, tokens), the
        texts' tokens, padded after their end token, or absent where the model has class_texts.

        -> what `classify` gives. Raises ValueError when there are no texts or an input does not fit.
        """
        ids = text_ids(inputs, self.class_texts)
        video = self.encode_video(inputs["video"], train=train)
        return self.classify(video, self.encode_text(ids, train=train), train=train)

    def encode_text(self, ids: jax.Array, *, train: bool = False) -> jax.Array:
        """int (K, tokens) -> float32 (K, features), not normalised."""
        return self.text_projection(self.text(ids, train=train))

    def encode_video(self, video: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
        """float (N, T, H, W, C) -> what `classify` needs of it: "clip" float32 (N, features), not
        normalised, and "patches" float32 (N, h·w, features), their means over the frames; besides
        "tokens" (N, T, h·w, width) in `dtype`."""
        frames, tokens = self.visual(video, train=train)
        clip = self.integration(self.visual_projection(frames), train=train)
        # The reference projects every frame's patches and takes their mean: the same, T times the work.
        mean = jnp.mean(self.prompt_norm(tokens.astype(jnp.float32)), axis=1)
        return {"clip": clip, "patches": self.prompt_projection(mean), "tokens": tokens}

    def classify(
        self, video: Mapping[str, jax.Array], texts: jax.Array, *, train: bool = False
    ) -> dict[str, jax.Array]:
        """Of `encode_video` and float32 (K, features) of `encode_text`:

        -> logits float32 (N, K), cosines times the scale; features float32 (N, features), the clip's
        unit vector, also as video_embeds; text_embeds float32 (N, K, features), the unit vectors of
        the texts after they have read each clip; tokens.
        """
        clip = unit(video["clip"])
        read = unit(texts + self.prompt(texts, video["patches"], train=train))
        logits = jnp.exp(self.logit_scale) * jnp.einsum("nd,nkd->nk", clip, read)
        named = {"features": clip, "video_embeds": clip, "text_embeds": read}
        return {"logits": logits, **named, "tokens": video["tokens"]}


MODULE = XCLIP


def build(
    num_classes: int | None = None,
    *,
    variant: str = "B/16",
    class_texts: Sequence[Sequence[int]] | None = None,
    **overrides,
) -> XCLIP:
    """A row of VARIANTS as a module; overrides: any of its fields.

    class_texts: token ids of the classes' texts, (K, tokens). num_classes alone: K classes without
    words. Neither: texts come with every input. Raises ValueError when the two disagree.
    """
    model = XCLIP(**(lookup.variant("xclip", VARIANTS, variant) | overrides))
    if class_texts is not None:
        return model.clone(class_texts=frozen(class_texts, num_classes))
    if num_classes is not None:
        return model.clone(class_texts=symbols(num_classes, model.vocab_size))
    return model


def example_inputs(variant: str = "B/16") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames = 16 if variant.endswith("-16f") else 8
    size = {"test": 32, "L/14-336-16f": 336}.get(variant, 224)
    return {"video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)}
