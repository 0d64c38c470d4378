import jax
import pytest

from jaxvid.ops.chance import chosen


def test_share_and_key():
    first = chosen(jax.random.key(0), 5000, 0.2)
    assert 0.17 < float(first.mean()) < 0.23
    assert (first == chosen(jax.random.key(0), 5000, 0.2)).all()
    assert chosen(jax.random.key(0), 9, 1).all() and not chosen(jax.random.key(0), 9, 0).any()


@pytest.mark.parametrize("probability", [-0.1, 1.01, float("nan")])
def test_probability_is_checked(probability):
    with pytest.raises(ValueError, match=r"the probability is .*expected a number in \[0, 1\]"):
        chosen(jax.random.key(0), 3, probability)
