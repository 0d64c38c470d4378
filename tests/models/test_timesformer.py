"""TimeSformer: the references' numbers in all forms of attention, sizes, tables, options."""

import functools
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.models import timesformer
from jaxvid.nn.transformer import stack_layers

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

TYPES = timesformer.ATTENTION_TYPES
# What is compiled runs once or twice here: quickly made is better than quick.
QUICKLY = {"xla_backend_optimization_level": 0}


def same(x):
    return x


def frames_folded(x):
    """(N, T·S, D) or (N, T, L, D) -> (N·T, S, D), four frames a clip."""
    return x.reshape(-1, x.shape[-2] if x.ndim == 4 else x.shape[1] // 4, x.shape[-1])


ORIGINAL = {
    "model.patch_embed": ("encoder/patch_embed", frames_folded),
    "model.blocks.0": ("encoder/block_0", same),
    "model.blocks.1": ("encoder/block_1", same),
    "model.norm": ("encoder/norm", same),
}


@pytest.mark.parametrize("attention", TYPES)
def test_the_authors_numbers(attention):
    check.check_golden(f"orig_timesformer_{attention}", "timesformer/timesformer", ORIGINAL)


@pytest.mark.parametrize("attention", TYPES[:2])
def test_hugging_faces_numbers(attention):
    probes = {
        "timesformer.encoder.layer.0": ("encoder/block_0", same),
        "timesformer.layernorm": ("encoder/norm", same),
    }
    check.check_golden(f"hf_timesformer_{attention}", "hf/timesformer", probes)


def test_hugging_faces_space_only_gives_logits_of_frames_and_we_their_mean():
    name = "hf_timesformer_space_only"
    told, stored = check.facts(name), check.stored(name)
    model, variables, _ = jaxvid.from_state_dict(
        check.weights(name), arch="hf/timesformer", config=told["config"]
    )
    assert model.frame_mean == "logits"
    apply = jax.jit(functools.partial(model.apply, train=False))
    outputs = apply(variables, {"video": check.clip(name)})
    atol = told["checks"]["suggested_atol"]
    np.testing.assert_allclose(outputs["logits"], stored["logits_frame_mean"], atol=atol)
    np.testing.assert_allclose(
        stored["logits"].reshape(2, 4, 10).mean(1), outputs["logits"], atol=atol
    )
    tokens = frames_folded(np.asarray(outputs["tokens"]))
    np.testing.assert_allclose(tokens, stored["last_hidden_state"], atol=atol)
    other = model.clone(frame_mean="tokens").apply(
        variables, {"video": check.clip(name)}, train=False
    )
    assert np.abs(other["logits"] - outputs["logits"]).max() > 1e-2


# --- tables of other sizes --------------------------------------------------------------------------

RESIZED = "orig_timesformer_resized_pos"


def test_a_larger_clip_than_the_tables_were_made_for():
    probes = {"model.blocks.0": ("encoder/block_0", same), "model.norm": ("encoder/norm", same)}
    check.check_golden(RESIZED, "timesformer/timesformer", probes)


def test_tables_resized_when_loaded_give_the_same():
    told, stored = check.facts(RESIZED), check.stored(RESIZED)
    model, variables, _ = jaxvid.from_state_dict(
        check.weights(RESIZED),
        arch="timesformer/timesformer",
        config=told["config"],
        num_frames=8,
        image_size=48,
    )
    encoder = variables["params"]["encoder"]
    assert encoder["position_embedding"].shape == (6, 6, 64)
    assert encoder["time_position_embedding"].shape == (8, 64)
    apply = jax.jit(functools.partial(model.apply, train=False))
    logits = apply(variables, {"video": check.clip(RESIZED)})["logits"]
    np.testing.assert_allclose(logits, stored["logits"], atol=told["checks"]["suggested_atol"])


def shapes(model, video):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), {"video": video})["params"]


def test_tables_have_the_size_of_the_first_clip_or_the_one_asked_for():
    clip = jax.ShapeDtypeStruct((1, 6, 16, 40, 3), jnp.float32)
    encoder = shapes(small(), clip)["encoder"]
    assert encoder["position_embedding"].shape == (2, 5, 64)
    assert encoder["time_position_embedding"].shape == (6, 64)
    encoder = shapes(small(num_frames=4, image_size=24), clip)["encoder"]
    assert encoder["position_embedding"].shape == (3, 3, 64)
    assert encoder["time_position_embedding"].shape == (4, 64)
    with pytest.raises(ValueError, match="image_size=20 is not a multiple of patch_size=8"):
        shapes(small(image_size=20), clip)


# --- sizes ------------------------------------------------------------------------------------------


def traced(variant, **fields):
    """(shapes of the parameters, multiply-adds of one clip); scanned, which is quickly traced"""
    model = timesformer.build(400, variant=variant, scan_layers=True, **fields)
    inputs = timesformer.example_inputs(variant)
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), inputs
    )
    count = multiply_adds(functools.partial(model.apply, train=False), variables, inputs)
    return variables["params"], count


@pytest.mark.parametrize(
    "variant, parameters, billions",
    [
        ("B", 121_566_352, 196),  # the paper's 0.59 TFLOPs are of three crops
        ("HR", 121_566_352 + (8 + 28**2 - 14**2) * 768, 1703),
        ("L", 121_566_352 + 88 * 768, 2380),
    ],
)
def test_published_sizes(variant, parameters, billions):
    params, count = traced(variant)
    leaves = jax.tree.leaves(params)
    assert sum(math.prod(x.shape) for x in leaves) == parameters
    assert {x.dtype for x in leaves} == {jnp.dtype(jnp.float32)}
    assert count / 1e9 == pytest.approx(billions, rel=0.005)


def test_what_the_other_attentions_leave_out():
    divided, joint, space = (traced("B", attention_type=name)[0]["encoder"] for name in TYPES)
    along_time = {"temporal_norm", "temporal_attention", "temporal_fc"}
    assert along_time <= divided["blocks"].keys()
    assert not along_time & joint["blocks"].keys() and joint["blocks"] == space["blocks"]
    assert divided.keys() == joint.keys() == space.keys() | {"time_position_embedding"}


# --- the small one ----------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 4, 16, 16, 3), dtype=np.float32)


def small(**fields):
    return timesformer.build(5, **({"variant": "test", "depth": 2} | fields))


@functools.cache
def noisy(attention=TYPES[0]):
    """Variables in which nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(0)
    params = shapes(small(attention_type=attention), jnp.asarray(VIDEO))
    return {"params": jax.tree.map(lambda x: _draw(rng, x.shape), params)}


def _draw(rng, shape):
    scale = 0.5 if len(shape) == 1 else 2 / math.sqrt(math.prod(shape[:-1]))
    return scale * rng.standard_normal(shape, dtype=np.float32)


def run(model, variables, video=VIDEO, **options):
    apply = functools.partial(model.apply, **({"train": False} | options))
    apply = jax.jit(apply, compiler_options=QUICKLY)
    return apply(variables, {"video": video})


@pytest.mark.parametrize("attention", TYPES)
def test_order_of_frames(attention):
    model, variables = small(attention_type=attention), noisy(attention)
    forwards, backwards = (run(model, variables, x)["logits"] for x in (VIDEO, VIDEO[:, ::-1]))
    difference = np.abs(forwards - backwards).max() / np.abs(forwards).max()
    assert difference < 1e-5 if attention == "space_only" else difference > 1e-3


def test_outputs_and_16_bit_computation():
    exact = run(small(), noisy())
    found = {name: (x.shape, x.dtype.name) for name, x in exact.items()}
    assert found == {
        "logits": ((2, 5), "float32"),
        "features": ((2, 64), "float32"),
        "tokens": ((2, 1 + 4 * 4, 64), "float32"),
    }
    half = run(small(dtype=jnp.bfloat16), noisy())
    assert half["tokens"].dtype == jnp.bfloat16 and half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["features"], exact["features"], atol=0.1)


def test_layers_in_one_loop_are_the_same_function():
    variables, expected = noisy(), run(small(), noisy())["logits"]
    for fields in ({"scan_layers": True}, {"scan_layers": True, "remat": True}, {"remat": True}):
        given = stack_layers(variables) if fields.get("scan_layers") else variables
        assert jax.tree.map(jnp.shape, given["params"]) == jax.tree.map(
            jnp.shape, shapes(small(**fields), jnp.asarray(VIDEO))
        )
        np.testing.assert_allclose(run(small(**fields), given)["logits"], expected, atol=1e-5)


def test_the_start_is_the_authors():
    model = small(width=128, position_init_std=0.02, time_init_std=0.0)
    init = jax.jit(functools.partial(model.init, train=False))
    params = init(jax.random.key(0), {"video": VIDEO})["params"]
    encoder, block = params["encoder"], params["encoder"]["block_1"]
    kernels = [block["temporal_attention"]["query"]["kernel"], block["mlp"]["fc1"]["kernel"]]
    kernels += [encoder["block_0"]["temporal_fc"]["kernel"], params["head"]["kernel"]]
    for kernel in [*kernels, encoder["position_embedding"], encoder["class_token"]]:
        assert float(kernel.std()) == pytest.approx(0.02, rel=0.25)
    assert not block["temporal_fc"]["kernel"].any()
    assert not encoder["time_position_embedding"].any() and not params["head"]["bias"].any()


@pytest.mark.slow
def test_dropout_and_stochastic_depth_are_of_training_only():
    plain = run(small(), noisy())["logits"]
    for fields in ({"dropout": 0.3}, {"head_dropout": 0.3}, {"drop_path_rate": 0.5}):
        model = small(**fields)

        @functools.partial(jax.jit, compiler_options=QUICKLY)
        def train(key, model=model):
            rngs = {"dropout": key}
            return model.apply(noisy(), {"video": VIDEO}, train=True, rngs=rngs)["logits"]

        trained = [train(jax.random.key(i)) for i in (0, 1)]
        assert (trained[0] != trained[1]).any(), fields
        np.testing.assert_allclose(run(model, noisy())["logits"], plain, atol=1e-6)


@pytest.mark.slow
def test_the_epsilon_reaches_the_norms():
    for attention in TYPES:
        model = small(attention_type=attention)
        one, other = (
            run(m, noisy(attention))["tokens"] for m in (model, model.clone(norm_eps=1.0))
        )
        assert np.abs(one - other).max() > 1e-2


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 4, 30, 32, 3), r"\(4, 30, 32\), expected multiples of the patch \(1, 8, 8\)"),
        ((1, 4, 32, 32, 1), "1 channels in the last axis, expected 3"),
        ((4, 32, 32, 3), r"shape \(4, 32, 32, 3\), expected \(N, T, H, W, C\)"),
    ],
)
def test_videos_that_do_not_fit(shape, words):
    with pytest.raises(ValueError, match=words):
        shapes(small(), jnp.zeros(shape))


def test_unknown_names():
    for fields, words in (
        ({"attention_type": "divided"}, "unknown attention_type 'divided'"),
        ({"frame_mean": "mean"}, "unknown frame_mean 'mean'.*logits, tokens"),
    ):
        with pytest.raises(UnknownNameError, match=words):
            shapes(small(**fields), jnp.asarray(VIDEO))
    with pytest.raises(UnknownNameError, match="'timesformer' has no variant 'XL'"):
        timesformer.build(2, variant="XL")
