"""Classes named in words: class names -> prompts -> tokens -> text features -> a classifier of clips.

    model, variables, info = jaxvid.from_pretrained(folder)  # X-CLIP, or CLIP with pooling over frames
    zero_shot = ZeroShot(model, variables, text.load(folder))
    probabilities = zero_shot.classifier(["fighting", "hugging"])(video)  # (N, T, H, W, C) -> (N, 2)

Text features are computed once for labels and templates and kept. A handful of labelled clips
adapts the classifier (infer/few_shot.py):

    adapted = zero_shot.few_shot(labels, clips, [0, 0, 1, 1])
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvid.core.errors import ConfigError
from jaxvid.data.text import PLAIN, Tokenizer, prompts, trim
from jaxvid.infer import few_shot

Classifier = Callable[[jax.Array], np.ndarray]
TEXTS_AT_ONCE = 64


class ZeroShot:
    """model: one with encode_text, encode_video and classify (models/xclip.py, models/clip_pooling.py)
    and its variables; tokenizer: texts -> ids int32 (K, L), mask bool (K, L), as data/text.py's.

    Raises ConfigError for a model that compares with no texts.
    """

    def __init__(self, model: nn.Module, variables: dict, tokenizer: Tokenizer | Callable):
        if not hasattr(model, "encode_text") or getattr(model, "num_classes", 0):
            raise ConfigError(
                f"{type(model).__name__} has a fixed list of classes: labels need a model of texts, "
                "such as X-CLIP, or clip_pooling without num_classes"
            )
        self.model, self.variables, self.tokenizer = model, variables, tokenizer
        self._features: dict[tuple, jax.Array] = {}

        def encode(variables, ids):
            return model.apply(variables, ids, method="encode_text")

        def classify(variables, video, texts):
            encoded = model.apply(variables, video, train=False, method="encode_video")
            outputs = model.apply(variables, encoded, texts, train=False, method="classify")
            return outputs["logits"], outputs["features"]

        self._encode, self._classify = jax.jit(encode), jax.jit(classify)

    def text_features(self, labels: Sequence[str], templates: Sequence[str] = PLAIN) -> jax.Array:
        """float32 (K, D), computed once for the same labels and templates.

        The mean over a label's prompts of their unit vectors, brought to their mean length, which
        X-CLIP minds and CLIP does not. Raises ConfigError as data/text.py's `prompts`.
        """
        key = (tuple(labels), tuple(templates))
        if key not in self._features:
            asked = prompts(*key)
            each = self._encode_all([prompt for row in asked for prompt in row])
            each = each.reshape(len(asked), -1, each.shape[-1])  # (K, templates, D)
            self._features[key] = jnp.asarray(_average(each))
        return self._features[key]

    def classifier(
        self,
        labels: Sequence[str],
        templates: Sequence[str] = PLAIN,
        *,
        correction: few_shot.Correction | None = None,
    ) -> Classifier:
        """-> video, float (N, T, H, W, C), normalised -> probabilities, float32 (N, K).

        correction: of `few_shot.fit`. The first call for a shape of video and a number of labels
        compiles.
        """
        texts = self.text_features(labels, templates)

        def probabilities(video):
            logits, features = self._classify(self.variables, video, texts)
            if correction is not None:
                logits = correction(logits, features)
            return np.asarray(jax.nn.softmax(logits))

        return probabilities

    def few_shot(
        self,
        labels: Sequence[str],
        clips: Sequence[np.ndarray],
        targets: Sequence[int],
        templates: Sequence[str] = PLAIN,
        *,
        penalty: float = 0.01,
    ) -> Classifier:
        """The classifier of these labels, adapted to labelled clips.

        clips: float (T, H, W, C) each, normalised, of one shape, worked through one at a time;
        targets: for each the index of its label. Raises ValueError as `few_shot.fit`.
        """
        texts = self.text_features(labels, templates)
        seen = [self._classify(self.variables, np.asarray(clip)[None], texts) for clip in clips]
        if not seen:
            raise ValueError(
                "there are no labelled clips to adapt to; use classifier() without any"
            )
        logits, features = (np.concatenate([np.asarray(x[i]) for x in seen]) for i in (0, 1))
        found = few_shot.fit(logits, features, np.asarray(targets), penalty=penalty)
        return self.classifier(labels, templates, correction=found)

    def _encode_all(self, texts: list[str]) -> np.ndarray:
        """float32 (texts, D), so many at a time."""
        ids = trim(*self.tokenizer(texts), multiple=8)  # few lengths, few compilations
        parts = [ids[i : i + TEXTS_AT_ONCE] for i in range(0, len(ids), TEXTS_AT_ONCE)]
        return np.concatenate([np.asarray(self._encode(self.variables, part)) for part in parts])


def _average(each: np.ndarray) -> np.ndarray:
    """(K, templates, D) -> (K, D); of one template that template's own vector, untouched."""
    if each.shape[1] == 1:
        return each[:, 0]
    lengths = np.linalg.norm(each, axis=-1, keepdims=True)
    mean = (each / lengths).mean(axis=1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True) * lengths.mean(axis=1)
