"""A transformer that sees and hears: tokens of video and of a log-mel spectrogram, fused in three ways.

Nagrani et al. 2021, Attention Bottlenecks for Multimodal Fusion (MBT), section 3; here the video comes
in tubelets and streams are averages of tokens, as VideoMAE's, whose weights can start them. Audio is a
log-mel spectrogram, in the paper 128 mel bins, 100 frames a second.

    model = jaxvid.create_model("audio_visual", variant="B", num_classes=400)
    inputs = {"video": x, "audio": a}  # float (N, 16, 224, 224, 3), float (N, 800, 128)
    variables = model.init(rng, inputs, train=False)
    logits = model.apply(variables, inputs, train=False)["logits"]  # (N, 400)
    logits = model.apply(variables, {"video": x}, train=False)["logits"]  # deaf: the same weights
    logits = model.apply(variables, {"audio": a}, train=False)["logits"]  # blind: the same weights

fusion     "late"        two encoders; their pooled features are concatenated for the head
           "mid"         from layer fusion_layer on, one encoder over the tokens of both (section 3.2,
                         vanilla attention with shared weights)
           "bottleneck"  from layer fusion_layer on, both share a few tokens through which alone they
                         learn of each other: each encoder updates them, then they are averaged
                         (section 3.2, equations 8 and 9)

After "mid" and "bottleneck" the head sees the mean of both pooled features, which for a linear head is
the mean of both streams' logits. Positions are fixed sines and cosines: clips may have any number of
frames and any size the patches divide, spectrograms any number of frames and mel bins: the last ones
are repeated to whole patches.
"""

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core import lookup
from jaxvid.core.errors import unknown
from jaxvid.models.videomae import cut
from jaxvid.nn.attention import dot_product_attention
from jaxvid.nn.drop import check_rate
from jaxvid.nn.embed import Patch, TubeletEmbed, patchify, sincos_table
from jaxvid.nn.linear import Dense
from jaxvid.nn.norm import LayerNorm
from jaxvid.nn.rows import keep_rows
from jaxvid.nn.transformer import Block

VARIANTS = {
    "test": {
        "width": 64,
        "depth": 4,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "audio_patch_size": 8,
        "fusion_layer": 2,
    },
    "S": {"width": 384, "depth": 12, "num_heads": 6},
    "B": {"width": 768, "depth": 12, "num_heads": 12},
    "L": {"width": 1024, "depth": 24, "num_heads": 16, "fusion_layer": 16},
}
FUSIONS = ("late", "mid", "bottleneck")
AUDIO = {"test": (32, 16)}  # frames, mel bins
PAPERS_AUDIO = (800, 128)  # eight seconds
NORMAL = nn.initializers.normal(0.02)
HIDDEN = -1e9  # added to the scores of tokens that shall not be seen


class Stream(nn.Module):
    """One modality's patch_embed, block_0, …, norm, to be called one after the other.

    layers: how many blocks are its own. block: makes one.
    """

    width: int
    patch: Patch
    channels: int
    layers: int
    block: Callable[[], nn.Module]
    norm_eps: float
    dropout: float
    dtype: jnp.dtype
    remat: bool

    def setup(self):
        self.patch_embed = TubeletEmbed(self.width, self.patch, self.channels, self.dtype)
        self.embed_dropout = nn.Dropout(self.dropout)
        for i in range(self.layers):
            setattr(self, f"block_{i}", self.block())
        self.norm = LayerNorm(self.norm_eps)

    def embed(self, patches: jax.Array, positions: np.ndarray, *, train: bool) -> jax.Array:
        """(N, L, numbers), (L, width) -> tokens (N, L, width) in `dtype`"""
        x = self.patch_embed(patches) + jnp.asarray(positions, self.dtype)
        return self.embed_dropout(x, deterministic=not train)

    def layer(self, i: int, x: jax.Array, rate: float, *, train: bool) -> jax.Array:
        """(N, L, width) -> (N, L, width); rate: of drop path"""
        return _run(getattr(self, f"block_{i}"), x, rate, train, self.remat)

    def pooled(self, x: jax.Array) -> jax.Array:
        """(N, L, width) -> float32 (N, width)"""
        return self.norm(jnp.mean(x.astype(jnp.float32), axis=1))


class Joint(nn.Module):
    """The layers from fusion_layer on that see the tokens of both, under the numbers of their
    layers."""

    first: int
    block: Callable[..., nn.Module]
    remat: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, hidden: jax.Array | None, rates: np.ndarray, *, train: bool
    ) -> jax.Array:
        """(N, L, width) -> (N, L, width); hidden: bool (N, L), tokens that nobody sees, or None"""
        options = {}
        if hidden is not None:
            n, length = hidden.shape
            bias = jnp.where(hidden, HIDDEN, 0.0)[:, None, None, :]
            bias = jnp.broadcast_to(bias, (n, 1, length, length))
            options["attend"] = functools.partial(dot_product_attention, bias=bias)
        for i in range(self.first, len(rates)):
            block = self.block(**options, name=f"block_{i}")
            x = _run(block, x, float(rates[i]), train, self.remat)
        return x


def _run(block: nn.Module, x: jax.Array, rate: float, train: bool, remat: bool) -> jax.Array:
    """The block on x, computed again for the gradient if asked for."""

    def run(block, x):
        return keep_rows(block(keep_rows(x), rate, train=train))

    return (nn.remat(run) if remat else run)(block, x)


class AudioVisual(nn.Module):
    """The classifier.

    fusion: see above; fusion_layer: the first layer that fuses, of "mid" and "bottleneck".
    num_bottlenecks: tokens of "bottleneck". audio_patch_size: frames and mel bins of an audio token.
    modality_dropout: the share of training clips that lose one of the two, either as often, drawn
    from the rng stream "dropout"; such a clip comes out as if that input were absent. With "mid" this
    masks scores, which cuDNN's attention does not take.
    """

    num_classes: int
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    tubelet_size: int = 2
    channels: int = 3
    audio_patch_size: int = 16
    fusion: str = "bottleneck"
    fusion_layer: int = 8
    num_bottlenecks: int = 4
    qkv_bias: str = "qv"
    norm_eps: float = 1e-6
    layer_scale: float | None = None
    dropout: float = 0.0
    head_dropout: float = 0.0
    drop_path_rate: float = 0.0
    modality_dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
        """inputs["video"]: float (N, T, H, W, C), normalised; inputs["audio"]: log-mel, float (N,
        F, M), F frames in time that cover the clip, M mel bins. Either may be missing.

        -> logits float32 (N, num_classes); features float32 (N, width), of "late" (N, 2·width) with
        zeros for what is missing; tokens (N, L, width): those of the video, then those of the audio.
        Parameters are the same whatever the model was initialised with. Raises ValueError when both
        are missing or one has another form.
        """
        self._check_fields()
        video, audio = inputs.get("video"), inputs.get("audio")
        present = [name for name, x in (("video", video), ("audio", audio)) if x is not None]
        if not present:
            there = ", ".join(inputs) or "nothing"
            raise ValueError(f"the inputs have neither 'video' nor 'audio', but {there}")
        keep = self._keep(present, len(inputs[present[0]]), train)
        if self.is_initializing():  # the parameters of what is missing shall be there too
            video, audio = self._made_up(video, audio, len(inputs[present[0]]))
        patches = {}
        if video is not None:
            x = cut(video, self)
            patches["video"] = x, sincos_table(x.shape[1], self.width)
        if audio is not None:
            patches["audio"] = self._audio_patches(audio, len(keep["audio"]))
        streams = {name: self._stream(name) for name in patches}
        tokens = {name: streams[name].embed(*x, train=train) for name, x in patches.items()}
        tokens = self._encoded(streams, tokens, keep, train)
        features = self._features({n: streams[n].pooled(x) for n, x in tokens.items()}, keep)
        x = nn.Dropout(self.head_dropout, deterministic=not train)(features)
        logits = Dense(self.num_classes, kernel_init=NORMAL, name="head")(x)
        seen = [tokens[name] for name in present]
        return {"logits": logits, "features": features, "tokens": jnp.concatenate(seen, axis=1)}

    # --- what comes in ----------------------------------------------------------------------------

    def _check_fields(self) -> None:
        if self.fusion not in FUSIONS:
            raise unknown("fusion", self.fusion, FUSIONS)
        check_rate("modality dropout", self.modality_dropout)
        if self.fusion != "late" and not 0 <= self.fusion_layer < self.depth:
            raise ValueError(
                f"fusion_layer={self.fusion_layer} of a model of {self.depth} layers: expected 0 to "
                f"{self.depth - 1}, the first layer that fuses; or fusion='late'"
            )

    def _keep(self, present: list[str], clips: int, train: bool) -> dict[str, jax.Array]:
        """{"video", "audio"}: float32 (N,), 1 where a clip has it, 0 where it is missing or dropped."""
        keep = {name: jnp.full(clips, float(name in present)) for name in ("video", "audio")}
        if self._drops(present, train):
            draw = jax.random.uniform(self.make_rng("dropout"), (clips,))
            lost = jnp.floor(2 * draw / self.modality_dropout)  # 0: video, 1: audio, more: neither
            keep = {"video": (lost != 0).astype(jnp.float32), "audio": (lost != 1) * 1.0}
        return keep

    def _drops(self, present, train: bool) -> bool:
        return train and len(present) == 2 and self.modality_dropout > 0

    def _made_up(self, video, audio, clips: int) -> tuple[jax.Array, jax.Array]:
        side = self.patch_size
        if video is None:
            video = jnp.zeros((clips, self.tubelet_size, side, side, self.channels))
        if audio is None:
            audio = jnp.zeros((clips, self.audio_patch_size, self.audio_patch_size))
        return video, audio

    def _audio_patches(self, audio: jax.Array, clips: int) -> tuple[jax.Array, np.ndarray]:
        """(N, F, M) -> patches (N, L, side²), positions (L, width)"""
        if audio.ndim != 3 or len(audio) != clips or 0 in audio.shape:
            raise ValueError(
                f"inputs['audio'] has shape {audio.shape}: expected ({clips}, F, M), a log-mel "
                "spectrogram of F frames and M mel bins for each clip; leave it out where there is none"
            )
        side = self.audio_patch_size
        missing = [(0, -size % side) for size in audio.shape[1:]]
        audio = jnp.pad(audio, [(0, 0), *missing], mode="edge")
        patches = patchify(audio[:, None, :, :, None], (1, side, side))
        frames, bins = (size // side for size in audio.shape[1:])
        return patches, plane_positions(frames, bins, self.width)

    # --- layers -----------------------------------------------------------------------------------

    def _block(self) -> Callable[..., Block]:
        """What makes a block, inside the module that shall have it."""
        return functools.partial(
            Block,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            qkv_bias=self.qkv_bias,
            norm_eps=self.norm_eps,
            layer_scale=self.layer_scale,
            dropout=self.dropout,
            dtype=self.dtype,
            kernel_init=NORMAL,
        )

    def _stream(self, name: str) -> Stream:
        if name == "video":
            patch = (self.tubelet_size, self.patch_size, self.patch_size)
        else:
            patch = (1, self.audio_patch_size, self.audio_patch_size)
        return Stream(
            width=self.width,
            patch=patch,
            channels=self.channels if name == "video" else 1,
            layers=self.fusion_layer if self.fusion == "mid" else self.depth,
            block=self._block(),
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            dtype=self.dtype,
            remat=self.remat,
            name=name,
        )

    def _encoded(self, streams: dict, tokens: dict, keep: dict, train: bool) -> dict:
        """{name: tokens (N, L, width)} through all layers."""
        rates = np.linspace(0.0, self.drop_path_rate, self.depth)
        alone = self.depth if self.fusion == "late" else self.fusion_layer
        for i in range(alone):
            tokens = {n: streams[n].layer(i, x, rates[i], train=train) for n, x in tokens.items()}
        if self.fusion == "mid":
            return self._jointly(tokens, keep, rates, train)
        if self.fusion == "bottleneck":
            return self._through_bottlenecks(streams, tokens, keep, rates, train)
        return tokens

    def _jointly(self, tokens: dict, keep: dict, rates: np.ndarray, train: bool) -> dict:
        names, lengths = list(tokens), [x.shape[1] for x in tokens.values()]
        hidden = None
        if self._drops(names, train):
            lost = [
                jnp.repeat(keep[n][:, None] == 0, k, 1) for n, k in zip(names, lengths, strict=True)
            ]
            hidden = jnp.concatenate(lost, axis=1)  # (N, L + L')
        joint = Joint(self.fusion_layer, self._block(), self.remat, name="joint")
        x = joint(jnp.concatenate(list(tokens.values()), axis=1), hidden, rates, train=train)
        return dict(zip(names, jnp.split(x, np.cumsum(lengths)[:-1], axis=1), strict=True))

    def _through_bottlenecks(self, streams, tokens, keep, rates, train: bool) -> dict:
        n, count = len(keep["video"]), self.num_bottlenecks
        shape = (count, self.width)
        shared = self.param("bottleneck_token", NORMAL, shape, jnp.float32).astype(self.dtype)
        shared = jnp.broadcast_to(shared, (n, *shape))
        for i in range(self.fusion_layer, self.depth):
            after = {
                name: streams[name].layer(
                    i, jnp.concatenate([x, shared], axis=1), rates[i], train=train
                )
                for name, x in tokens.items()
            }
            tokens = {name: x[:, :-count] for name, x in after.items()}
            shared = self._mean({name: x[:, -count:] for name, x in after.items()}, keep)
        return tokens

    def _mean(self, values: dict[str, jax.Array], keep: dict[str, jax.Array]) -> jax.Array:
        """The mean over the modalities that a clip has, of arrays (N, …)"""
        if len(values) == 1:
            return next(iter(values.values()))
        total = sum(keep[name] for name in values)
        shares = {name: (keep[name] / total).astype(x.dtype) for name, x in values.items()}
        return sum(x * shares[n].reshape(-1, *[1] * (x.ndim - 1)) for n, x in values.items())

    def _features(self, pooled: dict[str, jax.Array], keep: dict[str, jax.Array]) -> jax.Array:
        if self.fusion != "late":
            return self._mean(pooled, keep)
        zeros = jnp.zeros((len(keep["video"]), self.width))
        both = [pooled.get(name, zeros) * keep[name][:, None] for name in ("video", "audio")]
        return jnp.concatenate(both, axis=-1)


def plane_positions(frames: int, bins: int, width: int) -> np.ndarray:
    """Fixed positions of audio tokens, float32 (frames·bins, width) in raster order: the first half of
    the channels tells the time, the second the frequency, each as `sincos_table`."""
    time, frequency = sincos_table(frames, width // 2), sincos_table(bins, width - width // 2)
    return np.concatenate([np.repeat(time, bins, axis=0), np.tile(frequency, (frames, 1))], axis=1)


MODULE = AudioVisual


def build(num_classes: int, *, variant: str = "B", **overrides) -> AudioVisual:
    """A row of VARIANTS as a module; overrides: any of its fields."""
    fields = lookup.variant("audio_visual", VARIANTS, variant) | overrides
    return AudioVisual(num_classes, **fields)


def example_inputs(variant: str = "B") -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs the variant was made for, one clip."""
    frames, size = (8, 32) if variant == "test" else (16, 224)
    return {
        "video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32),
        "audio": jax.ShapeDtypeStruct((1, *AUDIO.get(variant, PAPERS_AUDIO)), jnp.float32),
    }
