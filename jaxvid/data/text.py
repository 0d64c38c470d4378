"""Class names -> prompts -> CLIP's tokens, by the tokenizer files of the checkpoint's own folder.

tokenizer = text.load(folder)                         # needs the extra `text`
ids, mask = tokenizer(text.prompts(["fighting", "hugging"], text.KINETICS)[0])
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvid.core.errors import ConfigError, DataError

log = logging.getLogger("jaxvid")

CONTEXT_LENGTH = 77  # tokens of a text, start and end included
TOKENIZER, VOCAB, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
# What CLIP's byte pairs are merged within: contractions, runs of letters, single digits, the rest.
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""

# The class name alone: how X-CLIP was trained and is evaluated.
PLAIN = ("{}",)
# CLIP's 28 for Kinetics (Radford et al. 2021; data/prompts.md of its repository).
KINETICS = tuple(
    f"a {medium} of {what}."
    for medium in ("photo", "video", "example", "demonstration")
    for what in (
        "{}",
        "a person {}",
        "a person using {}",
        "a person doing {}",
        "a person during {}",
        "a person performing {}",
        "a person practicing {}",
    )
)


def prompts(labels: Sequence[str], templates: Sequence[str] = PLAIN) -> list[list[str]]:
    """For each label its prompts, one a template: the template with the label in place of {}.

    Raises ConfigError for no labels, empty or repeated ones, no templates, or one without {}.
    """
    labels, templates = list(labels), list(templates)
    if not labels:
        raise ConfigError("there are no labels: give at least one class name")
    if blank := [i for i, label in enumerate(labels) if not label.strip()]:
        raise ConfigError(f"label {blank[0]} of {len(labels)} is empty; the labels are {labels}")
    if len(set(labels)) < len(labels):
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        raise ConfigError(f"labels are given more than once: {', '.join(repeated)}")
    if not templates:
        raise ConfigError(f"there are no prompt templates; {PLAIN} is the class name alone")
    if wrong := [t for t in templates if t.count("{}") != 1]:
        raise ConfigError(f"prompt template {wrong[0]!r}: expected {{}} once, where the class goes")
    return [[template.replace("{}", label) for template in templates] for label in labels]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """CLIP's tokens of texts. `backend`: a tokenizers.Tokenizer that adds start and end; end: the id of
    the end token, with which texts are padded. where: for messages."""

    backend: Any
    end: int
    context_length: int
    where: str

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """-> ids int32 (K, context_length), padded on the right, and mask bool, False on padding.

        A longer text is cut, its end token kept, with a warning that names it.
        """
        ids = np.full((len(texts), self.context_length), self.end, np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, encoded in enumerate(self.backend.encode_batch(list(texts))):
            tokens = encoded.ids
            if len(tokens) > self.context_length:
                log.warning(
                    "%r has %d tokens and is cut to %d",
                    *(texts[row], len(tokens), self.context_length),
                )
                tokens = [*tokens[: self.context_length - 1], self.end]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask


def trim(ids: np.ndarray, mask: np.ndarray, multiple: int = 1) -> np.ndarray:
    """ids (K, L) without the columns that are padding in all texts, but for a number of columns that is
    a multiple of `multiple` (or all): what texts are computed for is what they have."""
    longest = max(int(mask.sum(axis=1).max()), 1)
    return ids[:, : min(ids.shape[1], -(-longest // multiple) * multiple)]


def has_tokenizer(folder: str | Path) -> bool:
    """Whether the folder has the files that `load` reads."""
    folder = Path(folder)
    return (folder / TOKENIZER).is_file() or all((folder / n).is_file() for n in (VOCAB, MERGES))


def files(folder: str | Path) -> list[Path]:
    """Those of a folder's files that belong to its tokenizer; none where it has no tokenizer."""
    if not has_tokenizer(folder):
        return []
    names = (TOKENIZER, VOCAB, MERGES, "tokenizer_config.json", "special_tokens_map.json")
    return [path for name in names if (path := Path(folder) / name).is_file()]


def load(folder: str | Path, *, context_length: int = CONTEXT_LENGTH) -> Tokenizer:
    """The tokenizer of a checkpoint's folder: tokenizer.json, else vocab.json and merges.txt.

    Raises ConfigError when the package tokenizers is missing, FileNotFoundError when the files are,
    DataError when they are no tokenizer of CLIP's kind.
    """
    folder = Path(folder)
    library = _library()
    if not has_tokenizer(folder):
        there = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        raise FileNotFoundError(
            f"{folder}: no tokenizer files: expected {TOKENIZER}, or {VOCAB} and {MERGES}, as they lie "
            f"beside the weights on the Hugging Face hub; there are: {', '.join(there) or 'no files'}"
        )
    whole = (folder / TOKENIZER).is_file()
    try:
        if whole:
            backend = library.Tokenizer.from_file(str(folder / TOKENIZER))
        else:
            backend = _from_vocabulary(library, folder)
    except Exception as error:  # the library raises bare Exception
        name = TOKENIZER if whole else f"{VOCAB} and {MERGES}"
        raise DataError(f"{folder}: {name} cannot be read as a tokenizer: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    empty = backend.encode("").ids
    if len(empty) != 2:
        raise DataError(
            f"{folder}: this tokenizer makes {len(empty)} tokens of an empty text, expected two, a start "
            "and an end, as CLIP's does"
        )
    return Tokenizer(backend, empty[1], context_length, str(folder))


def _from_vocabulary(library, folder: Path):
    """CLIP's byte-level pair encoding, from its two files."""
    vocabulary = json.loads((folder / VOCAB).read_text(encoding="utf-8"))
    if absent := [token for token in (START, END) if token not in vocabulary]:
        raise DataError(f"{VOCAB} lacks {' and '.join(absent)}")
    lines = (folder / MERGES).read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    backend = library.Tokenizer(
        library.models.BPE(
            vocab=vocabulary,
            merges=pairs,
            continuing_subword_prefix="",
            end_of_word_suffix=WORD_END,
            unk_token=END,
        )
    )
    normalise, split = library.normalizers, library.pre_tokenizers
    backend.normalizer = normalise.Sequence(
        [
            normalise.NFC(),
            normalise.Replace(library.Regex(r"\s+"), " "),
            normalise.Lowercase(),
        ]
    )
    backend.pre_tokenizer = split.Sequence(
        [
            split.Split(library.Regex(WORDS), behavior="removed", invert=True),
            split.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.post_processor = library.processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, vocabulary[token]) for token in (START, END)],
    )
    return backend


def _library():
    try:
        import tokenizers
    except ImportError as error:
        raise ConfigError(
            "texts need the package tokenizers: pip install 'jaxvid[text]', that is tokenizers"
        ) from error
    return tokenizers
