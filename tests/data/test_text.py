"""Prompts and CLIP's tokens, with a tokenizer that the test writes."""

import builtins
import json

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data import text

tokenizers = pytest.importorskip("tokenizers")

LETTERS = [chr(c) for c in range(ord("!"), ord("~") + 1)]
MERGES = ["h u", "hu g", "hug s</w>", "f i", "fi g", "h t</w>", "fig ht</w>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """vocab.json and merges.txt in CLIP's form: letters, letters that end words, merges, start, end."""
    path = tmp_path_factory.mktemp("tokens")
    pieces = [*LETTERS, *(letter + text.WORD_END for letter in LETTERS)]
    pieces += [merge.replace(" ", "") for merge in MERGES] + [text.START, text.END]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    (path / text.VOCAB).write_text(json.dumps(vocabulary))
    (path / text.MERGES).write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return path


def ids_of(folder):
    return json.loads((folder / text.VOCAB).read_text())


def test_tokens(folder):
    known = ids_of(folder)
    tokenizer = text.load(folder, context_length=8)
    ids, mask = tokenizer(["fight", "  Hugs\n FIGHT ", "it's"])
    start, end = known[text.START], known[text.END]
    fight, hugs = known["fight</w>"], known["hugs</w>"]
    assert ids.dtype == np.int32 and ids.shape == mask.shape == (3, 8) and mask.dtype == bool
    assert ids[0].tolist() == [start, fight, end, end, end, end, end, end]
    assert ids[1].tolist() == [start, hugs, fight, end, end, end, end, end]
    pieces = [known[p] for p in ("i", "t</w>", "'", "s</w>")]
    assert ids[2].tolist() == [start, *pieces, end, end, end]
    assert mask.sum(axis=1).tolist() == [3, 4, 6]
    np.testing.assert_array_equal(text.trim(ids, mask), ids[:, :6])
    np.testing.assert_array_equal(text.trim(ids, mask, multiple=4), ids)
    np.testing.assert_array_equal(text.trim(ids, mask, multiple=5), ids)
    assert end == ids.max()  # as models that look for the largest id expect


def test_a_longer_text_is_cut_with_a_warning(folder, caplog):
    tokenizer = text.load(folder, context_length=5)
    ids, mask = tokenizer(["fight", "hugs hugs fight hugs hugs"])
    known = ids_of(folder)
    assert ids[1].tolist()[1:4] == [known["hugs</w>"], known["hugs</w>"], known["fight</w>"]]
    assert ids[1, 4] == known[text.END] and mask[1].all()
    assert [r.message for r in caplog.records] == [
        "'hugs hugs fight hugs hugs' has 7 tokens and is cut to 5"
    ]


def test_one_file_is_as_good_as_two(folder, tmp_path):
    two = text.load(folder)
    two.backend.save(str(tmp_path / text.TOKENIZER))
    settings = json.loads((tmp_path / text.TOKENIZER).read_text())
    # Settings of whoever saved it must not decide about length.
    one = tokenizers.Tokenizer.from_str(json.dumps(settings))
    one.enable_truncation(3)
    one.enable_padding(length=4)
    one.save(str(tmp_path / text.TOKENIZER))
    words = ["fight hugs, it's 2 fights", "", "naïve façade"]
    for a, b in zip(two(words), text.load(tmp_path)(words), strict=True):
        np.testing.assert_array_equal(a, b)
    assert two(words)[0].shape == (3, 77)


@pytest.mark.torch
def test_tokens_are_transformers(folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizerFast(
        str(folder / text.VOCAB), str(folder / text.MERGES), model_max_length=77
    )
    words = ["fight hugs", "It's 2 FIGHTS, isn't it?!", "", "a  b\tc"]
    wanted = theirs(words, padding="max_length", truncation=True, return_tensors="np")
    ids, mask = text.load(folder)(words)
    np.testing.assert_array_equal(ids, wanted["input_ids"])
    np.testing.assert_array_equal(mask, wanted["attention_mask"])


def test_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="tokenizer.json, or vocab.json and merges.txt.*no files"
    ):
        text.load(tmp_path)
    (tmp_path / text.VOCAB).write_text("{}")
    assert not text.has_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="there are: vocab.json"):
        text.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no tokenizer files"):
        text.load(tmp_path / "nowhere")


def test_files_that_are_no_tokenizer(folder, tmp_path):
    (tmp_path / text.TOKENIZER).write_text('{"model": 3}')
    with pytest.raises(DataError, match="tokenizer.json cannot be read as a tokenizer"):
        text.load(tmp_path)
    plain = tokenizers.Tokenizer(tokenizers.models.BPE())
    plain.save(str(tmp_path / text.TOKENIZER))
    with pytest.raises(DataError, match="0 tokens of an empty text, expected two"):
        text.load(tmp_path)
    (tmp_path / text.TOKENIZER).unlink()
    (tmp_path / text.VOCAB).write_text('{"a": 0}')
    (tmp_path / text.MERGES).write_text("")
    with pytest.raises(DataError, match=r"vocab.json lacks <\|startoftext\|> and <\|endoftext\|>"):
        text.load(tmp_path)


def test_without_the_package(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'jaxvid\[text\]'"):
        text.load(folder)


def test_prompts():
    assert text.prompts(["a", "b"]) == [["a"], ["b"]]
    assert text.prompts(["a {odd} one"], ["x {}.", "{}"]) == [["x a {odd} one.", "a {odd} one"]]
    assert len(text.KINETICS) == len(set(text.KINETICS)) == 28
    assert text.prompts(["surfing"], text.KINETICS)[0][1] == "a photo of a person surfing."


@pytest.mark.parametrize(
    "labels, templates, words",
    [
        ([], text.PLAIN, "no labels: give at least one"),
        (["a", " "], text.PLAIN, "label 1 of 2 is empty"),
        (["a", "b", "a"], text.PLAIN, "more than once: a"),
        (["a"], [], "no prompt templates"),
        (["a"], ["{}", "plain"], "template 'plain': expected {} once"),
        (["a"], ["{} {}"], "expected {} once"),
    ],
)
def test_prompts_that_make_no_sense(labels, templates, words):
    with pytest.raises(ConfigError, match=words):
        text.prompts(labels, templates)
