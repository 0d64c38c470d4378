"""Queries of one sequence, keys and values of another."""

import jax
import numpy as np
import pytest

from jaxvid.nn.cross_attention import CrossAttention
from jaxvid.nn.transformer import Attention

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 8)).astype(np.float32)
MEMORY = RNG.standard_normal((2, 7, 6)).astype(np.float32)


def test_the_formula():
    model = CrossAttention(2, qkv_bias=False)
    variables = model.init(jax.random.key(0), X, MEMORY)
    params = variables["params"]
    assert params["key"]["kernel"].shape == (6, 2, 4) and "bias" not in params["query"]
    query = np.einsum("nli,ihd->nhld", X, params["query"]["kernel"])
    key = np.einsum("nli,ihd->nhld", MEMORY, params["key"]["kernel"])
    value = np.einsum("nli,ihd->nhld", MEMORY, params["value"]["kernel"])
    scores = np.exp(np.einsum("nhld,nhsd->nhls", query, key) / 2)
    seen = np.einsum("nhls,nhsd->nlhd", scores / scores.sum(-1, keepdims=True), value)
    wanted = np.einsum("nlhd,hdo->nlo", seen, params["out"]["kernel"]) + params["out"]["bias"]
    np.testing.assert_allclose(model.apply(variables, X, MEMORY), wanted, atol=1e-5)


def test_of_itself_it_is_self_attention_with_the_same_parameters():
    model = Attention(2)
    variables = model.init(jax.random.key(0), X, train=False)
    wanted = model.apply(variables, X, train=False)
    np.testing.assert_allclose(CrossAttention(2).apply(variables, X, X), wanted, atol=1e-6)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="width 8 is not a multiple of num_heads=3"):
        CrossAttention(3).init(jax.random.key(0), X, MEMORY)
