"""Positions, a class token, blocks and a norm."""

import functools

import jax
import numpy as np
import pytest

from jaxvid.nn.grid_encoder import GridEncoder
from jaxvid.nn.transformer import Block

X = np.random.default_rng(0).standard_normal((2, 3, 2, 8), dtype=np.float32)
BLOCK = functools.partial(Block, 2)


def start(encoder, x=X):
    return jax.jit(functools.partial(encoder.init, train=False))(jax.random.key(0), x)["params"]


@pytest.mark.slow
def test_parameters_and_their_start():
    params = start(GridEncoder(BLOCK, 2, class_token=True), np.zeros((1, 20, 20, 8)))
    tables = {"class_token", "class_position_embedding", "position_embedding"}
    assert params.keys() == {"block_0", "block_1", "norm", *tables}
    assert params["position_embedding"].shape == (20, 20, 8)
    assert params["class_position_embedding"].shape == params["class_token"].shape == (8,)
    assert float(params["position_embedding"].std()) == pytest.approx(0.02, rel=0.05)
    assert not params["class_token"].any() and params["class_position_embedding"].any()
    assert start(GridEncoder(BLOCK, 1)).keys() == {"block_0", "norm", "position_embedding"}
    assert "blocks" in start(GridEncoder(BLOCK, 2, scan_layers=True))


def test_without_blocks_it_is_a_norm_of_tokens_and_positions():
    encoder = GridEncoder(BLOCK, 0, class_token=True, norm_eps=0.5)
    params = jax.tree.map(
        lambda p: p + np.random.default_rng(1).normal(size=p.shape), start(encoder)
    )
    rows = (X + params["position_embedding"]).reshape(2, 6, 8)
    first = params["class_token"] + params["class_position_embedding"]
    rows = np.concatenate([np.broadcast_to(first, (2, 1, 8)), rows], axis=1)
    centred = rows - rows.mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.5)
    expected = unit * params["norm"]["scale"] + params["norm"]["bias"]
    got = encoder.apply({"params": params}, X, train=False)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_table_of_another_grid_is_named():
    encoder = GridEncoder(BLOCK, 0)
    params = start(encoder)
    words = r"position_embedding was made for a grid of \(3, 2\) patches, this input has \(2, 3\)"
    with pytest.raises(ValueError, match=words):
        encoder.apply({"params": params}, X.swapaxes(1, 2), train=False)


def test_dropout_acts_on_the_tokens():
    encoder = GridEncoder(BLOCK, 0, dropout=0.5)
    params = start(encoder)
    run = functools.partial(encoder.apply, {"params": params}, X)
    trained = [run(train=True, rngs={"dropout": jax.random.key(i)}) for i in (0, 1)]
    assert (trained[0] != trained[1]).any()
    np.testing.assert_array_equal(
        run(train=False), GridEncoder(BLOCK, 0).apply({"params": params}, X, train=False)
    )
