"""CLIP on frames with pooling: both forms of classes, both poolings, input checks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import clip_pooling
from jaxvid.nn.class_texts import unit

VIDEO = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3), dtype=np.float32)
IDS = np.array([[510, 7, 8, 511], [510, 9, 511, 511]], np.int32)
INPUTS = {"video": VIDEO, "text_ids": IDS}


def run(function, *args):
    """What is compiled runs once: quickly made is better than quick."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*args).compile(compiler_options=options)(*args)


def small(num_classes=0, **fields):
    return clip_pooling.build(num_classes, variant="test", **fields)


def start(model, inputs):
    made = run(lambda x: model.init(jax.random.key(0), x, train=False), inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype), made)


def outputs(model, variables, inputs):
    return run(lambda v, x: model.apply(v, x, train=False), variables, inputs)


@pytest.fixture(scope="module")
def texts():
    return start(small(pool="mean"), INPUTS)


def count(variant, num_classes, **fields):
    model = clip_pooling.build(num_classes, variant=variant, scan_layers=True, **fields)
    inputs = clip_pooling.example_inputs(variant)
    if not num_classes:
        inputs["text_ids"] = jax.ShapeDtypeStruct((1, 77), jnp.int32)
    init = lambda key, x: model.init(key, x, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), inputs)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    "variant, parameters",
    [("B/32", 151_277_313), ("B/16", 149_620_737), ("L/14", 427_616_513)],
)
def test_parameters_are_those_of_clip(variant, parameters):
    assert count(variant, 0) == parameters


def test_a_head_has_no_text_tower():
    # CLIP-B/16's image tower and projection, and the head.
    assert count("B/16", 2) == 85_799_424 + 768 * 512 + 512 * 2 + 2


def test_the_mean_is_that_of_the_frames_one_by_one(texts):
    model = small(pool="mean")
    encode = jax.jit(lambda x: model.apply(texts, x, method="encode_video")["clip"])
    each = np.stack([unit(encode(VIDEO[:, i : i + 1])) for i in range(4)])
    np.testing.assert_allclose(encode(VIDEO), each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(encode(VIDEO[:, ::-1]), encode(VIDEO), atol=1e-5)


def test_texts_are_compared_by_cosines(texts):
    model = small(pool="mean")
    got = outputs(model, texts, INPUTS)
    assert {n: x.shape for n, x in got.items()} == {
        "logits": (2, 2),
        "features": (2, 32),
        "video_embeds": (2, 32),
        "text_embeds": (2, 32),
        "tokens": (2, 4, 16, 48),
    }
    np.testing.assert_allclose(np.linalg.norm(got["text_embeds"], axis=-1), 1, atol=1e-5)
    scale = np.exp(texts["params"]["logit_scale"])
    wanted = scale * np.asarray(got["features"]) @ np.asarray(got["text_embeds"]).T
    np.testing.assert_allclose(got["logits"], wanted, atol=1e-5)
    closed = small(pool="mean", class_texts=IDS)
    again = outputs(closed, texts, {"video": VIDEO})
    np.testing.assert_allclose(again["logits"], got["logits"], atol=1e-6)


@pytest.mark.slow
def test_the_transformer_sees_the_order_of_frames():
    model = small(5)
    variables = start(model, {"video": VIDEO})
    assert set(variables["params"]) == {"visual", "visual_projection", "temporal", "head"}
    got = outputs(model, variables, {"video": VIDEO})
    assert got["logits"].shape == (2, 5) and got["features"].dtype == jnp.float32
    backwards = outputs(model, variables, {"video": VIDEO[:, ::-1]})
    assert np.abs(backwards["logits"] - got["logits"]).max() > 1e-3
    with pytest.raises(ValueError, match=".4,. places and the clip has .3,.: the number of frames"):
        jax.eval_shape(lambda: model.apply(variables, {"video": VIDEO[:, :3]}, train=False))

    def trained(key):
        model = small(5, head_dropout=0.5)
        outputs = model.apply(variables, {"video": VIDEO}, train=True, rngs={"dropout": key})
        return outputs["logits"]

    two = run(jax.vmap(trained), jax.random.split(jax.random.key(0)))
    assert (two[0] != two[1]).any()


@pytest.mark.parametrize("end_token, place", [(None, 3), (9, 1)])
def test_the_end_token_is_the_largest_or_a_given_one(texts, end_token, place):
    model = small(pool="mean", end_token=end_token)
    encode = jax.jit(lambda ids: model.apply(texts, ids, method="encode_text"))
    ids = np.array([[510, 9, 8, 511, 4]], np.int32)
    changed = []
    for i in range(1, 5):
        other = ids.copy()
        other[0, i] = 5 if ids[0, i] != (end_token or 511) else ids[0, i]
        changed.append(bool(np.abs(encode(other) - encode(ids)).max() > 0))
    expected = [i < place for i in range(1, 5)]
    assert changed == expected


@pytest.mark.parametrize("std, image, time", [(None, 48**-0.5, 0.02), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize(
    "name, over_time", [("clip_pooling", "temporal"), ("xclip", "integration")]
)
def test_positions_start_as_large_as_told(name, over_time, std, image, time):
    model = jaxvid.create_model(name, variant="test", num_classes=2, position_std=std)
    init = lambda key: model.init(key, {"video": jnp.asarray(VIDEO)}, train=False)["params"]

    def tables(key):
        params = init(key)
        return [params[part]["position_embedding"] for part in ("visual", over_time)]

    for table, expected in zip(run(tables, jax.random.key(0)), (image, time), strict=True):
        assert abs(float(jnp.std(table)) / expected - 1) < 0.15, table.shape


def test_what_does_not_fit(texts):
    with pytest.raises(UnknownNameError, match="unknown pool 'max'.*mean, transformer"):
        outputs(small(pool="max"), texts, INPUTS)
    with pytest.raises(ValueError, match="no texts to compare the video with"):
        outputs(small(pool="mean"), texts, {"video": VIDEO})
    with pytest.raises(ValueError, match="2 texts for 3 classes"):
        small(3, class_texts=IDS)
    with pytest.raises(UnknownNameError, match="'clip_pooling' has no variant 'XL'"):
        clip_pooling.build(variant="XL")
    assert jaxvid.create_model("clip_pooling", variant="B/16").num_classes == 0
