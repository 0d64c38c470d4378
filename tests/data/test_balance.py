import numpy as np
import pytest

from jaxvid.core.errors import ConfigError, UnknownNameError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.balance import class_counts, class_weights, record_weights


def index(labels, classes=3, extras=None, **kind):
    extras = extras or [{}] * len(labels)
    records = (
        VideoRecord(f"{i}.mp4", str(i), lab, extra=extra)
        for i, (lab, extra) in enumerate(zip(labels, extras, strict=True))
    )
    return DatasetIndex(tuple(records), tuple("abcdefg"[:classes]), **kind)


def test_balanced_sampling_gives_each_class_the_same_share():
    labels = [(0,)] * 6 + [(1,)] * 3 + [(2,)]
    balanced = record_weights(index(labels), "balanced")
    shares = [balanced[[i for i, lab in enumerate(labels) if lab == (k,)]].sum() for k in range(3)]
    np.testing.assert_allclose(shares, 1.0)
    softer = record_weights(index(labels), "square_root")
    np.testing.assert_allclose(softer[[0, 6, 9]], [6**-0.5, 3**-0.5, 1.0])
    assert record_weights(index(labels), "natural") is None


def test_a_clip_of_several_labels_takes_their_mean_and_one_without_the_mean_of_all():
    labels = [(0, 1), (0,), (0,), ()]
    weights = record_weights(index(labels, 2, multilabel=True), "balanced")
    third = 1 / 3
    np.testing.assert_allclose(weights[:3], [(third + 1) / 2, third, third])
    assert weights[3] == pytest.approx(weights[:3].mean())


def test_heads_count_each_on_its_own():
    heads = index([(0, 1), (0, 0), (1, 1)], 5, heads={"verb": 2, "noun": 3})
    assert class_counts(heads).tolist() == [2, 1, 1, 2, 0]
    np.testing.assert_allclose(record_weights(heads, "balanced"), [0.5, 0.75, 0.75])
    np.testing.assert_allclose(class_weights(heads), [0.75, 1.5, 1.5, 0.75, 1.0])


def test_class_weights_are_those_of_scikit_learn():
    labels = [(0,)] * 6 + [(1,)] * 2
    np.testing.assert_allclose(class_weights(index(labels, 2)), [8 / (2 * 6), 8 / (2 * 2)])


def test_each_record_may_bring_its_weight():
    extras = [{"weight": 2}, {"weight": 0.5}]
    assert record_weights(index([(0,), (1,)], 2, extras), "weighted").tolist() == [2.0, 0.5]
    with pytest.raises(ConfigError, match="1 of 2 records bring no weight .*the first is 1.mp4"):
        record_weights(index([(0,), (1,)], 2, [{"weight": 2}, {}]), "weighted")


def test_what_cannot_be_balanced_is_said():
    with pytest.raises(UnknownNameError, match="unknown data.class_sampling 'balance'.*'balanced'"):
        record_weights(index([(0,)]), "balance")
    with pytest.raises(ConfigError, match="no clip has a label"):
        record_weights(index([()]), "balanced")
    with pytest.raises(ConfigError, match="this set is multi-label"):
        class_weights(index([(0, 1)], multilabel=True))
