"""The classes of a closed set as texts: token ids that a module holds as a plain field.

((49406, 7681, 49407), (49406, 5083, 49407))     (texts, tokens), rectangular, hashable
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

TEXT_IDS = "text_ids"
Texts = tuple[tuple[int, ...], ...]


def symbols(num_classes: int, vocab_size: int) -> Texts:
    """Texts for classes that have no words: one token each, between a vocabulary's start and end.

    Token i for class i, so they mean nothing before training, and what a pretrained text tower knows is
    lost on them. Raises ValueError when the vocabulary is too small.
    """
    if num_classes > vocab_size - 2:
        raise ValueError(
            f"{num_classes} classes without texts need a vocabulary of {num_classes + 2} tokens, the "
            f"model has {vocab_size}: give class_texts, or a larger vocab_size"
        )
    return tuple((vocab_size - 2, i, vocab_size - 1) for i in range(num_classes))


def frozen(texts: Sequence[Sequence[int]] | np.ndarray, num_classes: int | None = None) -> Texts:
    """Token ids (texts, tokens) as tuples of int, fit for a field of a module.

    Raises ValueError when they are not rectangular, empty, or not as many as num_classes.
    """
    rows = tuple(tuple(int(token) for token in text) for text in texts)
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1 or not lengths[0]:
        raise ValueError(
            f"class_texts has {len(rows)} texts of {lengths} tokens, expected at least one and all of one "
            "length: pad them after their end token"
        )
    if num_classes is not None and len(rows) != num_classes:
        raise ValueError(f"class_texts has {len(rows)} texts for {num_classes} classes")
    return rows


def text_ids(inputs: Mapping[str, jax.Array], class_texts: Texts | None) -> jax.Array:
    """int32 (K, L): inputs["text_ids"], else the model's class_texts. Raises ValueError for neither."""
    if TEXT_IDS in inputs:
        return inputs[TEXT_IDS]
    if class_texts is None:
        raise ValueError(
            f"there are no texts to compare the video with: give inputs[{TEXT_IDS!r}], int (texts, "
            "tokens), or build the model with class_texts (or num_classes, for classes without words)"
        )
    return jnp.asarray(class_texts, jnp.int32)


def unit(x: jax.Array) -> jax.Array:
    """x over its length along the last axis, float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))
