import pickle

import numpy as np
import pytest

from jaxvid.core.errors import ConfigError
from jaxvid.data.order import Order


def test_positions_walk_through_the_epochs():
    order = Order(7, seed=3)
    rows = [order.row(p) for p in range(21)]
    for epoch in range(3):
        assert rows[7 * epoch : 7 * epoch + 7] == order.epoch(epoch).tolist()
        assert sorted(order.epoch(epoch)) == list(range(7))
    assert pickle.loads(pickle.dumps(order)).row(12) == rows[12]


def test_weights_show_each_row_as_often_as_they_say_and_keep_the_epoch_s_length():
    weights = np.array([0.0, 1.0, 2.0, 0.5, 6.5])
    order = Order(5, seed=0, weights=weights)
    counts = np.array([np.bincount(order.epoch(e), minlength=5) for e in range(2000)])
    expected = 5 * weights / weights.sum()
    assert (counts.sum(axis=1) == 5).all()
    assert (np.abs(counts - expected) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.04)
    assert (order.epoch(0) != order.epoch(1)).any() or (order.epoch(0) != order.epoch(2)).any()
    np.testing.assert_array_equal(order.epoch(4), Order(5, seed=0, weights=weights).epoch(4))


def test_equal_weights_are_a_permutation():
    assert sorted(Order(1001, seed=1, weights=np.ones(1001)).epoch(0)) == list(range(1001))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"shape \(3,\), expected one for each of 4 rows"),
        (np.array([1, -1, 1, 1]), "expected finite numbers from 0"),
        (np.array([1, np.nan, 1, 1]), "expected finite numbers from 0"),
        (np.zeros(4), "not all 0"),
    ],
)
def test_what_weighs_nothing_is_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        Order(4, seed=0, weights=weights)


def test_weights_need_shuffling():
    with pytest.raises(ConfigError, match="which shuffle=False forbids"):
        Order(4, seed=0, shuffle=False, weights=np.ones(4))
