"""AVSlowFast: SlowFast with a third, faster pathway that hears.

Xiao et al. 2020, Audiovisual SlowFast Networks for Video Recognition, sections 3.1 to 3.3 and table 1;
details that the paper leaves open as in PyTorchVideo's create_audio_visual_slowfast. Audio is a
log-mel spectrogram, in the paper 128 frames of 80 mel bins over the 2 seconds of a clip. R50_4x16 has
41.6M parameters for 400 classes: SlowFast's 34.5M, 5.8M that hear, 0.9M of lateral connections, 0.4M
of the head's for what they hear.

    model = jaxvid.create_model("avslowfast", variant="R50_4x16", num_classes=400)
    inputs = {"video": x, "audio": a}  # float (N, 32, 224, 224, 3), float (N, 128, 80)
    variables = model.init(rng, inputs, train=False)
    logits = model.apply(variables, inputs, train=False)["logits"]  # (N, 400)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # deaf: the same weights

The video as for SlowFast; audio of any number of frames and mel bins: its frames are taken as spread
over the clip. The self-supervised loss of section 3.4 is not here.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.models import slowfast
from jaxvid.nn.conv import Conv
from jaxvid.nn.drop import check_rate
from jaxvid.nn.linear import Dense
from jaxvid.nn.pool import global_mean
from jaxvid.nn.resnet3d import EXPANSION, HEAD_INIT, Norm

VARIANTS = {
    "test": {
        **slowfast.VARIANTS["test"],
        "audio_fusion_width": 16,
        "audio_factored_stages": 1,
        "drop_pathway_rate": 0.0,  # a step of two clips shall reach every parameter
    },
    "R50_4x16": slowfast.VARIANTS["R50_4x16"],
    "R50_8x8": slowfast.VARIANTS["R50_8x8"],
    "R101_8x8": slowfast.VARIANTS["R101_8x8"],
}
CLIPS = {name: slowfast.CLIPS[name] for name in VARIANTS}
AUDIO = {"test": (32, 16)}  # frames, mel bins
PAPERS_AUDIO = (128, 80)
AUDIO_STEM_KERNEL = 9


class Separated(nn.Module):
    """`time` k×1 and `frequency` 1×k beside each other, summed: early on the two are unrelated.

    norm: of each before the sum, followed by ReLU; None for a plain sum.
    """

    width: int
    kernel: int
    stride: int
    norm: Norm | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, F, M, C) -> (N, F / stride, M / stride, width)"""
        total = 0
        for name, window in (("time", (self.kernel, 1)), ("frequency", (1, self.kernel))):
            y = Conv(self.width, window, self.stride, dtype=self.dtype, name=name)(x)
            if self.norm is not None:
                y = nn.relu(self.norm(name=f"{name}_norm")(y, train=train))
            total = total + y
        return total


class AudioStem(nn.Module):
    """Separated 9×1 and 1×9, normalisation, ReLU."""

    width: int
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, F, M, 1) -> (N, F, M, width)"""
        conv = Separated(self.width, AUDIO_STEM_KERNEL, 1, None, self.dtype, name="conv")
        return nn.relu(self.norm(name="norm")(conv(x, train=train), train=train))


class AudioBlock(nn.Module):
    """A bottleneck over time and frequency; `factored` separates the two in its 3×3 convolution."""

    width: int
    stride: int
    factored: bool
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, F, M, C) -> (N, F / stride, M / stride, 4 · width)"""

        def conv(x: jax.Array, features: int, kernel: int, stride: int, name: str) -> jax.Array:
            return Conv(features, (kernel, kernel), stride, dtype=self.dtype, name=name)(x)

        def normed(x: jax.Array, name: str, **start) -> jax.Array:
            return self.norm(name=name, **start)(x, train=train)

        last, stride = EXPANSION * self.width, self.stride
        y = nn.relu(normed(conv(x, self.width, 1, 1, "conv_1"), "norm_1"))
        if self.factored:
            separated = Separated(self.width, 3, stride, self.norm, self.dtype, name="conv_2")
            y = separated(y, train=train)
        else:
            y = nn.relu(normed(conv(y, self.width, 3, stride, "conv_2"), "norm_2"))
        zero = {"scale_init": nn.initializers.zeros}  # the block starts as an identity
        y = normed(conv(y, last, 1, 1, "conv_3"), "norm_3", **zero)
        if x.shape[-1] != last or stride != 1:
            x = normed(conv(x, last, 1, stride, "shortcut"), "shortcut_norm")
        return nn.relu(x + y)


class AudioStage(nn.Module):
    """block_0, block_1, …; the first one strides."""

    size: int
    width: int
    stride: int
    factored: bool
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, F, M, C) -> (N, F / stride, M / stride, 4 · width)"""
        for i in range(self.size):
            stride = self.stride if i == 0 else 1
            block = AudioBlock(
                self.width, stride, self.factored, self.norm, self.dtype, name=f"block_{i}"
            )
            x = block(x, train=train)
        return x


class AudioPathway(nn.Module):
    """stem, stage_1, stage_2, …, to be called one after the other; all but stage 1 halve both axes.

    factored_stages: the first so many separate time and frequency.
    """

    stage_sizes: Sequence[int]
    width: int
    factored_stages: int
    norm: Norm
    dtype: jnp.dtype

    def setup(self):
        self.stem = AudioStem(self.width, self.norm, self.dtype)
        for i, size in enumerate(self.stage_sizes):
            factored, stride = i < self.factored_stages, 2 if i else 1
            stage = AudioStage(size, self.width * 2**i, stride, factored, self.norm, self.dtype)
            setattr(self, f"stage_{i + 1}", stage)

    def step(self, i: int, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, F, M, C) -> (N, F', M', C'); i: 0 for the stem, or the number of a stage."""
        return (getattr(self, f"stage_{i}") if i else self.stem)(x, train=train)


class AudioLateral(nn.Module):
    """What the slow pathway gets of the audio: the mean over frequency, then two convolutions over
    time, the second one at as many places as there are slow frames."""

    width: int
    inner: int
    kernel: int
    norm: Norm
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, audio: jax.Array, frames: int, *, train: bool) -> jax.Array:
        """(N, F, M, C) -> (N, frames, 1, 1, width)"""
        window = (self.kernel, 1)
        x = jnp.mean(audio.astype(jnp.float32), axis=2, keepdims=True)  # (N, F, 1, C)
        x = Conv(self.inner, window, dtype=self.dtype, name="conv_1")(x)
        x = nn.relu(self.norm(name="norm_1")(x, train=train))
        x = Conv(self.width, window, dtype=self.dtype, name="conv_2")(x)
        # A stride of F / frames, for any F.
        x = x[:, np.arange(frames) * x.shape[1] // frames]
        x = nn.relu(self.norm(name="norm_2")(x, train=train))
        return x[:, :, :, None, :]  # (N, frames, 1, C) -> (N, frames, 1, 1, C)


class Backbone(slowfast.Backbone):
    """SlowFast's pathways, audio, and audio_fusion_1, … after the stages of audio_fusions.

    The further fields are those of `AVSlowFast`.
    """

    audio_reduction: int = 2
    audio_factored_stages: int = 2
    audio_fusions: Sequence[int] = ()
    audio_fusion_width: int = 64
    audio_fusion_kernel: int = 5

    def setup(self):
        super().setup()
        self.audio = AudioPathway(
            self.stage_sizes,
            self.width // self.audio_reduction,
            self.audio_factored_stages,
            self.norm,
            self.dtype,
        )
        for i in self.audio_fusions:
            slow = self.width * (EXPANSION * 2 ** (i - 1) if i else 1)
            lateral = AudioLateral(
                slow + self.fusion_ratio * (slow // self.channel_reduction),
                self.audio_fusion_width,
                self.audio_fusion_kernel,
                self.norm,
                self.dtype,
            )
            setattr(self, f"audio_fusion_{i}", lateral)

    def __call__(
        self, video: jax.Array, audio: jax.Array | None, keep: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """video (N, T, H, W, C), audio (N, F, M) or None for none, keep float (N,): 0 where the slow
        pathway shall not hear it -> maps of slow, fast and audio (N, F', M', C') in `dtype`"""
        slow, fast = self.shared_out(video)
        x = None if audio is None else audio[..., None]  # (N, F, M) -> (N, F, M, 1)
        for i in range(len(self.stage_sizes) + 1):
            slow, fast = self.step(i, slow, fast, train=train)
            if x is None:
                continue
            x = self.audio.step(i, x, train=train)
            if i in self.audio_fusions:
                lateral = getattr(self, f"audio_fusion_{i}")(x, slow.shape[1], train=train)
                slow = slow + lateral * keep[:, None, None, None, None].astype(self.dtype)
        return slow, fast, x


class AVSlowFast(slowfast.SlowFast):
    """The classifier. Fields of `SlowFast`, and:

    audio_reduction: the audio pathway has an audio_reduction-th of the slow one's channels.
    audio_factored_stages: the first so many separate time and frequency. audio_fusions: the stages (0
    for the stem, not the last one) after which the slow pathway hears, None for the two before the
    last; audio_fusion_width, audio_fusion_kernel: inner channels of such a connection, frames its
    convolutions cover.
    drop_pathway_rate: the share of training clips that are seen without being heard (DropPathway,
    section 3.3), drawn from the rng stream "dropout": nothing is added to the slow pathway then, and
    the head gets zeros, as when there is no audio. Nothing is rescaled for it.
    """

    audio_reduction: int = 2
    audio_factored_stages: int = 2
    audio_fusions: Sequence[int] | None = None
    audio_fusion_width: int = 64
    audio_fusion_kernel: int = 5
    drop_pathway_rate: float = 0.8

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: as for `SlowFast`. inputs["audio"], which may be missing: log-mel, float
        (N, F, M), F frames in time that cover the clip, M mel bins.

        -> logits float32 (N, num_classes), features float32 (N, D): slow, fast, audio. Parameters
        are the same whether or not the model was initialised with audio. Raises ValueError for clips
        that `slowfast.check_video` refuses and audio of another form.
        """
        video, audio, fields = inputs["video"], inputs.get("audio"), self._backbone_fields()
        slowfast.check_video(self, video)
        self._check_audio(video, audio)
        keep = jnp.ones(len(video), jnp.float32)
        if train and audio is not None and self.drop_pathway_rate > 0:
            key = self.make_rng("dropout")
            keep = jax.random.bernoulli(key, 1 - self.drop_pathway_rate, keep.shape) * keep
        if audio is None and self.is_initializing():
            audio, keep = jnp.zeros((len(video), 8, 8)), 0 * keep
        maps = Backbone(**fields, name="backbone")(video, audio, keep, train=train)
        *seen, heard = maps
        width = EXPANSION * self.width // self.audio_reduction * 2 ** (len(self.stage_sizes) - 1)
        heard = jnp.zeros((len(video), width)) if heard is None else global_mean(heard)
        features = [slowfast.pooled(seen, self.head_pools), heard * keep[:, None]]
        features = jnp.concatenate(features, axis=-1)
        x = nn.Dropout(self.head_dropout)(features, deterministic=not train)
        logits = Dense(self.num_classes, kernel_init=HEAD_INIT, name="head")(x)
        return {"logits": logits, "features": features}

    def _backbone_fields(self) -> dict:
        own = Backbone.__dataclass_fields__.keys() - slowfast.Backbone.__dataclass_fields__.keys()
        fields = {**slowfast.fields_of(self), **{name: getattr(self, name) for name in own}}
        return {**fields, "audio_fusions": self._fusions()}

    def _fusions(self) -> tuple[int, ...]:
        stages = tuple(range(len(self.stage_sizes)))
        fusions = stages[-2:] if self.audio_fusions is None else tuple(self.audio_fusions)
        if not set(fusions) <= set(stages):
            raise ValueError(
                f"audio_fusions={fusions}: expected some of {stages}, the stages (0 for the stem) "
                "after which another one follows"
            )
        return fusions

    def _check_audio(self, video: jax.Array, audio: jax.Array | None) -> None:
        check_rate("drop pathway", self.drop_pathway_rate)
        if audio is not None and (audio.ndim != 3 or len(audio) != len(video) or 0 in audio.shape):
            raise ValueError(
                f"inputs['audio'] has shape {audio.shape}: expected ({len(video)}, F, M), a log-mel "
                "spectrogram of F frames and M mel bins for each clip; leave it out where there is none"
            )


MODULE = AVSlowFast


def build(num_classes: int, *, variant: str = "R50_4x16", **overrides) -> AVSlowFast:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    return AVSlowFast(num_classes, **(lookup.variant("avslowfast", VARIANTS, variant) | overrides))


def example_inputs(variant: str = "R50_4x16") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = CLIPS[variant]
    return {
        "video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32),
        "audio": jax.ShapeDtypeStruct((1, *AUDIO.get(variant, PAPERS_AUDIO)), jnp.float32),
    }
