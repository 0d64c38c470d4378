"""What a prediction is asked for: the best classes, those of heads, actions."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.infer.predictor import FeatureReading, Prediction, fixed_classes, reading

CLIP = str(Path(__file__).parents[1] / "data" / "clips" / "arm_wrestling.mp4")
HEADS = {"verb": 3, "noun": 4}
TOLD = {"num_frames": 4, "size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}


def prediction(*probabilities):
    return Prediction("a.mp4", np.array(probabilities, np.float32))


def test_the_best_and_those_above_a_threshold():
    one = prediction(0.1, 0.7, 0.7, 0.5)
    assert [i for i, _ in one.top(2)] == [1, 2]
    assert [i for i, _ in one.top(None)] == [1, 2, 3, 0]
    assert [i for i, _ in one.top(None, 0.5)] == [1, 2, 3]
    assert [i for i, _ in one.top(1, 0.5)] == [1]
    assert one.top(5, 0.9) == []


def test_heads_and_the_actions_they_make_up():
    rng = np.random.default_rng(0)
    verb, noun = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))
    one = prediction(*verb, *noun)
    of_heads = one.top_of_heads(HEADS, 1)
    assert [ranked[0][0] for ranked in of_heads.values()] == [verb.argmax(), noun.argmax()]
    every = {(i, j): verb[i] * noun[j] for i, j in itertools.product(range(3), range(4))}
    expected = sorted(every, key=every.get, reverse=True)
    for k in (1, 3, 12, 20):
        found = one.top_actions(HEADS, k)
        assert [indices for indices, _ in found] == expected[:k]
        assert [p for _, p in found] == pytest.approx([every[i] for i in expected[:k]], rel=1e-5)


def test_what_preprocessing_tells_is_done():
    more = {"target_fps": 15.0, "decode_short_side": 20, "sampling": "dense", "stride_frames": 2}
    how = reading(TOLD | more, clips=2)
    assert (how.sampling.target_fps, how.decode_short_side, how.sampling.clips) == (15.0, 20, 2)
    assert how.log_mel is None and how.short_side == 16
    pytest.importorskip("librosa")
    heard = reading(TOLD | {"audio": {"rate": 8000, "frames": 32, "mels": 16}}).log_mel
    assert (heard.rate, heard.frames, heard.mels) == (8000, 32, 16)
    features = reading({"num_frames": 5, "feature_size": 7}, clips=3)
    assert features == FeatureReading(5, 7, 3)


def test_what_belongs_to_videos_is_refused_for_features():
    for option in ({"crops": 3}, {"flow": "dis"}, {"box": (0, 0, 1, 1)}):
        with pytest.raises(
            ConfigError, match="sees features, and crops, flow and boxes are of videos"
        ):
            reading({"num_frames": 5, "feature_size": 7}, **option)


def test_a_part_of_the_picture():
    cuts = ({"name": "box_crop", "margin": 0.0},)
    with pytest.raises(ConfigError, match=r"parts of the picture \(box_crop\).*--box X1,Y1,X2,Y2"):
        reading(TOLD | {"transforms": cuts})
    box = (0.1, 0.5, 0.4, 0.8)
    how = reading(TOLD | {"transforms": cuts}, box=box)
    assert how.transforms == cuts and how.box == box
    assert reading(TOLD, box=box).transforms == cuts  # of other models exactly what is asked
    clip, whole = (x.source([CLIP]).load(0, None)["video"] for x in (how, reading(TOLD)))
    assert clip.shape == whole.shape and not np.array_equal(clip, whole)


class Echo:
    """A model whose logits are the first numbers of its features."""

    def apply(self, variables, inputs, train):
        return {"logits": inputs["features"][:, 0]}


@pytest.mark.parametrize(
    "kind, heads, pooling, expected",
    [
        ("classify", {}, "mean", [0.5, 0.5]),
        ("multilabel", {}, "mean", [0.625, 0.625]),
        ("multilabel", {}, "max", [0.75, 0.75]),
        ("multihead", {"a": 1, "b": 1}, "mean", [1.0, 1.0]),
    ],
)
def test_probabilities_are_of_the_kind_and_views_pooled(kind, heads, pooling, expected):
    task = {"kind": kind, "heads": heads, "pooling": pooling}
    classify = fixed_classes(Echo(), {}, {"feature_size": 2}, task)
    features = np.log(np.array([[[[3.0, 1.0]], [[1.0, 3.0]]]], np.float32))  # (1, 2, 1, 2)
    np.testing.assert_allclose(classify({"features": features})[0], expected, atol=1e-6)


def test_a_checkpoint_of_masked_pretraining_has_no_probabilities():
    with pytest.raises(ConfigError, match="trained to fill in what is masked; fine-tune it first"):
        fixed_classes(Echo(), {}, TOLD, {"kind": "masked", "heads": {}, "pooling": "mean"})
