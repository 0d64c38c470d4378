"""VideoMamba: the reference's numbers, sizes, order of tokens, tables of other sizes, options."""

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
from jaxvid.models import videomamba
from jaxvid.nn.transformer import stack_layers

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

GOLDEN, ARCH = "orig_videomamba", "videomamba/videomamba"
# What is compiled runs once or twice here: quickly made is better than quick.
QUICKLY = {"xla_backend_optimization_level": 0}


def test_the_authors_numbers():
    def channels_first(patches):
        """(N, t·h·w, D) -> (N, D, t, h, w)"""
        return patches.reshape(2, 4, 4, 4, 48).transpose(0, 4, 1, 2, 3)

    probes = {
        "patch_embed": ("encoder/patch_embed", channels_first),
        "layers.0.mixer": ("encoder/block_0/mixer", lambda x: x),
        "layers.1.mixer": ("encoder/block_1/mixer", lambda x: x),
    }
    assert probes.keys() == check.facts(GOLDEN)["probes"].keys()
    check.check_golden(GOLDEN, ARCH, probes)


def test_the_norms_epsilon_is_the_references():
    assert set(check.facts(GOLDEN)["module_facts"]["norms"]) == {"RMSNorm eps=1e-05"}
    model, _, _ = jaxvid.from_state_dict(
        check.weights(GOLDEN), arch=ARCH, config=check.facts(GOLDEN)["config"]
    )
    assert model.norm_eps == 1e-5 == videomamba.build(2).norm_eps


# --- sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant, parameters, millions, papers",
    # The paper's table of Kinetics-400: millions, and GFLOPs of one crop of 16 frames.
    [
        ("tiny", 7_035_280, 7, 17),
        ("small", 25_571_728, 26, 68),
        ("middle", 73_880_464, 74, 202),
    ],
)
def test_published_sizes(variant, parameters, millions, papers):
    model = videomamba.build(400, variant=variant, scan_layers=True)  # quickly traced
    inputs = videomamba.example_inputs(variant)
    assert inputs["video"].shape == (1, 16, 224, 224, 3)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), inputs)
    found = sum(math.prod(x.shape) for x in jax.tree.leaves(variables))
    assert found == parameters and round(found / 1e6) == millions
    count = multiply_adds(functools.partial(model.apply, train=False), variables, inputs)
    # The paper's tool does not see into the scan's kernel, where x_proj and dt_proj are.
    width, tokens = model.width, 1 + 16 * 14 * 14
    rank = math.ceil(width / 16)
    inside = 2 * (2 * width) * (2 * rank + 2 * model.d_state) * tokens * model.depth
    assert (count - inside) / 1e9 == pytest.approx(papers, rel=0.01)


# --- the small one ----------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 4, 16, 24, 3), dtype=np.float32)
TOKENS = 1 + 2 * 2 * 3  # tubelets of 2 × 8 × 8


def small(**fields):
    return videomamba.build(5, **({"variant": "test", "depth": 2} | fields))


def shapes(model, video=VIDEO):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), {"video": jnp.asarray(video)})["params"]


@functools.cache
def noisy():
    """Variables in which nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(0)

    def draw(path, x):
        scale = 0.5 if x.ndim == 1 else 2 / math.sqrt(math.prod(x.shape[:-1]))
        noise = scale * rng.standard_normal(x.shape, dtype=np.float32)
        return noise + (path[-1].key == "scale")

    return {"params": jax.tree_util.tree_map_with_path(draw, shapes(small()))}


@functools.cache
def compiled(model, shape, train=False):
    def apply(variables, video, key):
        rngs = {"dropout": key} if train else None
        return model.apply(variables, {"video": video}, train=train, rngs=rngs)

    return jax.jit(apply, compiler_options=QUICKLY)


def run(model, variables=None, video=VIDEO, *, train=False, key=0):
    variables = noisy() if variables is None else variables
    return compiled(model, video.shape, train)(variables, video, jax.random.key(key))


def test_outputs_and_16_bit_computation():
    exact = run(small())
    found = {name: (x.shape, x.dtype.name) for name, x in exact.items()}
    assert found == {
        "logits": ((2, 5), "float32"),
        "features": ((2, 64), "float32"),
        "tokens": ((2, TOKENS, 64), "float32"),
    }
    np.testing.assert_array_equal(exact["features"], exact["tokens"][:, 0])
    head = noisy()["params"]["head"]
    logits = exact["features"] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(exact["logits"], logits, atol=1e-4)
    half = run(small(dtype=jnp.bfloat16))
    assert half["logits"].dtype == half["tokens"].dtype == jnp.float32
    largest = float(np.abs(exact["features"]).max())
    assert 0 < np.abs(half["features"] - exact["features"]).max() < 0.1 * largest


def test_tokens_come_frame_by_frame_and_row_by_row():
    """With blocks that add nothing, a token is its own patch and place."""
    params = noisy()["params"]
    encoder = dict(params["encoder"])
    for name in ("block_0", "block_1"):
        block = dict(encoder[name])
        zero = jax.tree.map(np.zeros_like, block["mixer"]["out_proj"])
        encoder[name] = {**block, "mixer": {**block["mixer"], "out_proj": zero}}
    encoder["patch_embed"] = jax.tree.map(np.zeros_like, encoder["patch_embed"])
    encoder["norm"] = {"scale": np.ones(64, np.float32)}
    tokens = run(small(), {"params": {**params, "encoder": encoder}})["tokens"][0]
    spatial, temporal = (encoder[f"{n}_position_embedding"] for n in ("spatial", "temporal"))
    expected = [encoder["class_token"] + encoder["class_position_embedding"]]
    for t in range(2):
        expected += [spatial[i, j] + temporal[t] for i in range(2) for j in range(3)]
    expected = np.stack(expected)
    expected /= np.sqrt(np.mean(expected**2, axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(tokens, expected, atol=1e-5)


def test_the_class_token_sees_the_last_frame_and_order_matters():
    # As they start, states last long enough for it.
    init = jax.jit(functools.partial(small().init, train=False), compiler_options=QUICKLY)
    variables = init(jax.random.key(0), {"video": VIDEO})
    ahead = run(small(), variables)["features"]
    last = VIDEO.copy()
    last[:, -1, -8:, -8:] += 1.0
    assert np.abs(run(small(), variables, last)["features"] - ahead).max() > 1e-5
    ahead = run(small())["features"]
    back = run(small(), video=VIDEO[:, ::-1].copy())["features"]
    assert np.abs(back - ahead).max() > 1e-2


def test_layers_in_one_loop_chunks_and_remat_are_the_same_function():
    expected = run(small())["logits"]
    for fields in ({"scan_layers": True, "remat": True}, {"remat": True}, {"chunk": None}):
        given = stack_layers(noisy()) if "scan_layers" in fields else noisy()
        model = small(**fields)
        assert jax.tree.map(jnp.shape, given["params"]) == jax.tree.map(jnp.shape, shapes(model))
        np.testing.assert_allclose(run(model, given)["logits"], expected, atol=1e-4)


def lowered(**fields):
    """The program of a gradient for an accelerator, in words."""
    model = small(**fields)

    def loss(variables):
        return jnp.sum(model.apply(variables, {"video": VIDEO}, train=True)["logits"])

    traced = jax.jit(jax.grad(loss)).trace(noisy())
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_chunks_bound_what_an_accelerator_holds():
    every, chunks = lowered(chunk=None), lowered(chunk=4)
    states = f"2x{TOKENS}x8x128xf32"  # (N, L, S, E) of the whole sequence
    assert states in every and states not in chunks
    assert "2x4x8x128xf32" in chunks and "stablehlo.while" not in every


@pytest.mark.slow
def test_the_start_is_the_authors_or_mambas():
    def started(**fields):
        model = small(width=128, **fields)
        init = jax.jit(functools.partial(model.init, train=False), compiler_options=QUICKLY)
        return init(jax.random.key(0), {"video": VIDEO})["params"]

    params = started(start="videomamba", position_init_std=0.02, time_init_std=0.0)
    encoder, way = params["encoder"], params["encoder"]["block_1"]["mixer"]["backward"]
    kernels = [encoder["block_0"]["mixer"]["in_proj"]["kernel"], way["x_proj"]["kernel"]]
    kernels += [way["dt_proj"]["kernel"], params["head"]["kernel"]]
    for kernel in [*kernels, encoder["spatial_position_embedding"]]:
        assert float(kernel.std()) == pytest.approx(0.02, rel=0.25)
    for zeros in ("class_token", "temporal_position_embedding"):
        assert not encoder[zeros].any()
    assert not way["dt_proj"]["bias"].any() and not params["head"]["bias"].any()
    out = encoder["block_1"]["mixer"]["out_proj"]["kernel"]
    assert float(np.abs(out).max()) == pytest.approx((256 * 2) ** -0.5, rel=0.05)  # 2 blocks
    way = started()["encoder"]["block_1"]["mixer"]["backward"]
    steps = np.asarray(jax.nn.softplus(way["dt_proj"]["bias"]))
    assert 1e-3 < steps.min() * 1.001 and steps.max() < 0.1001
    assert float(way["dt_proj"]["kernel"].std()) == pytest.approx((3 * 8) ** -0.5, rel=0.1)


def test_published_sizes_start_as_the_authors():
    for variant in ("tiny", "small", "middle"):
        model = videomamba.build(2, variant=variant)
        assert (model.start, model.position_init_std, model.time_init_std) == (
            "videomamba",
            0.02,
            0.0,
        )


@pytest.mark.slow
def test_dropout_and_stochastic_depth_are_of_training_only():
    plain = run(small())["logits"]
    for fields in ({"dropout": 0.3}, {"head_dropout": 0.3}, {"drop_path_rate": 0.5}):
        model = small(**fields)
        one, *others = (run(model, train=True, key=i)["logits"] for i in range(5))
        assert max(np.abs(one - other).max() for other in others) > 1e-3, fields
        np.testing.assert_allclose(run(model)["logits"], plain, atol=1e-5)


def test_the_epsilon_reaches_the_norms():
    one, other = (run(small(norm_eps=eps))["tokens"] for eps in (1e-5, 1.0))
    assert np.abs(one - other).max() > 1e-2


@pytest.mark.parametrize("field", [{"d_state": 3}, {"d_conv": 2}, {"expand": 3}, {"dt_rank": 5}])
def test_sizes_of_the_scan_can_be_chosen(field):
    assert jax.tree.map(jnp.shape, shapes(small(**field))) != jax.tree.map(
        jnp.shape, shapes(small())
    )


# --- tables of other sizes --------------------------------------------------------------------------


def test_tables_have_the_size_of_the_first_clip_or_the_one_asked_for():
    clip = jax.ShapeDtypeStruct((1, 6, 16, 40, 3), jnp.float32)
    init = functools.partial(small().init, train=False)
    encoder = jax.eval_shape(init, jax.random.key(0), {"video": clip})["params"]["encoder"]
    assert encoder["spatial_position_embedding"].shape == (2, 5, 64)
    assert encoder["temporal_position_embedding"].shape == (3, 64)
    encoder = shapes(small(num_frames=8, image_size=24))["encoder"]
    assert encoder["spatial_position_embedding"].shape == (3, 3, 64)
    assert encoder["temporal_position_embedding"].shape == (4, 64)


def test_a_larger_clip_than_the_tables_were_made_for():
    """The same as with tables resized beforehand."""
    clip = np.random.default_rng(1).standard_normal((1, 6, 24, 16, 3), dtype=np.float32)
    encoder = dict(noisy()["params"]["encoder"])
    spatial, temporal = (encoder[f"{n}_position_embedding"] for n in ("spatial", "temporal"))
    encoder["spatial_position_embedding"] = videomamba.resize_places(spatial, (3, 2))
    encoder["temporal_position_embedding"] = videomamba.resize_times(temporal, (3,))
    resized = {"params": {**noisy()["params"], "encoder": encoder}}
    expected = run(small(), resized, clip)["logits"]
    np.testing.assert_allclose(run(small(), video=clip)["logits"], expected, atol=1e-4)


# --- wrong input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 4, 30, 32, 3), r"\(4, 30, 32\), expected multiples of the patch \(2, 8, 8\)"),
        ((1, 3, 32, 32, 3), r"\(3, 32, 32\), expected multiples of the patch \(2, 8, 8\)"),
        ((1, 4, 32, 32, 1), "1 channels in the last axis, expected 3"),
        ((4, 32, 32, 3), r"shape \(4, 32, 32, 3\), expected \(N, T, H, W, C\)"),
    ],
)
def test_videos_that_do_not_fit(shape, words):
    with pytest.raises(ValueError, match=words):
        shapes(small(), np.zeros(shape, np.float32))


def test_wrong_fields():
    for fields, words in (
        ({"num_frames": 5}, "num_frames=5 is not a multiple of tubelet_size=2"),
        ({"image_size": 20}, "image_size=20 is not a multiple of patch_size=8"),
        ({"chunk": 0}, "chunk=0; expected at least 1 step"),
        ({"drop_path_rate": 1.0}, "drop path rate is 1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            shapes(small(**fields))
    with pytest.raises(UnknownNameError, match="unknown start 'vim'.*mamba, videomamba"):
        shapes(small(start="vim"))
    with pytest.raises(UnknownNameError, match="'videomamba' has no variant 'B'"):
        videomamba.build(2, variant="B")
