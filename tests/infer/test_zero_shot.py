"""Words to probabilities, with small models and a tokenizer of letters."""

import jax
import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.infer.zero_shot import ZeroShot
from jaxvid.models import clip_pooling, xclip

pytestmark = pytest.mark.usefixtures("quickly_made")

VIDEO = np.random.default_rng(0).standard_normal((3, 4, 32, 32, 3), dtype=np.float32)
LABELS = ["fight", "hug"]
TEMPLATES = ("{}", "a {}!", "my {}")


class Letters:
    """A token a letter, between start (510) and end (511); counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked += texts
        ids, mask = np.full((len(texts), 16), 511, np.int32), np.zeros((len(texts), 16), bool)
        for row, text in enumerate(texts):
            tokens = [510, *map(ord, text), 511]
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
        return ids, mask


def made(module, **fields):
    model = module.build(variant="test", **fields)
    inputs = {"video": VIDEO, "text_ids": np.zeros((1, 2), np.int32)}
    variables = jax.jit(lambda: model.init(jax.random.key(0), inputs, train=False))()
    rng = np.random.default_rng(1)
    noisy = [x + 0.1 * rng.standard_normal(x.shape) for x in jax.tree.leaves(variables)]
    return model, jax.tree.unflatten(jax.tree.structure(variables), noisy)


@pytest.fixture(scope="module", params=[(xclip, {}), (clip_pooling, {"pool": "mean"})])
def model(request):
    module, fields = request.param
    return made(module, **fields)


def softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def test_probabilities_are_those_of_the_model(model):
    tokens = Letters()
    zero_shot = ZeroShot(*model, tokens)
    got = zero_shot.classifier(LABELS)(VIDEO)
    inputs = {"video": VIDEO, "text_ids": Letters()(LABELS)[0]}
    logits = jax.jit(lambda v, x: model[0].apply(v, x, train=False)["logits"])(model[1], inputs)
    np.testing.assert_allclose(got, softmax(np.asarray(logits)), atol=1e-5)
    assert got.dtype == np.float32 and np.ptp(got) > 1e-3
    zero_shot.classifier(LABELS)(VIDEO[:1])
    assert tokens.asked == LABELS  # once
    other = zero_shot.classifier(LABELS[::-1])(VIDEO)
    np.testing.assert_allclose(other, got[:, ::-1], atol=1e-5)
    assert len(tokens.asked) == 4


def test_templates_are_averaged_as_unit_vectors(model):
    tokens = Letters()
    zero_shot = ZeroShot(*model, tokens)
    got = np.asarray(zero_shot.text_features(LABELS, TEMPLATES))
    assert tokens.asked == ["fight", "a fight!", "my fight", "hug", "a hug!", "my hug"]
    each = np.stack([zero_shot.text_features([t.format(x) for x in LABELS]) for t in TEMPLATES])
    lengths = np.linalg.norm(each, axis=-1, keepdims=True)
    mean = (each / lengths).mean(axis=0)
    cosine = (mean * got).sum(-1) / np.linalg.norm(mean, axis=-1) / np.linalg.norm(got, axis=-1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), lengths.mean(axis=0)[:, 0], rtol=1e-5)
    assert zero_shot.text_features(LABELS, TEMPLATES) is zero_shot.text_features(LABELS, TEMPLATES)


def test_a_few_clips_adapt_it(model):
    zero_shot = ZeroShot(*model, Letters())
    plain = zero_shot.classifier(LABELS)(VIDEO)
    targets = 1 - plain.argmax(axis=1)  # whatever it says, it is told the contrary
    adapted = zero_shot.few_shot(LABELS, list(VIDEO), targets, penalty=1e-4)(VIDEO)
    rows = np.arange(len(VIDEO))
    assert (adapted[rows, targets] > plain[rows, targets]).all()
    with pytest.raises(ValueError, match="no labelled clips to adapt to"):
        zero_shot.few_shot(LABELS, [], [])


def test_no_labels(model):
    with pytest.raises(ConfigError, match="there are no labels"):
        ZeroShot(*model, Letters()).classifier([])


def test_a_model_of_fixed_classes_is_refused():
    model = clip_pooling.build(3, variant="test")
    with pytest.raises(ConfigError, match="ClipPooling has a fixed list of classes: labels need"):
        ZeroShot(model, {}, Letters())
