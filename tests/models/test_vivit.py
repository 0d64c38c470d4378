"""ViViT's four models: the references' numbers, the paper's counts, input checks, options."""

import functools
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.models import vivit
from jaxvid.nn.transformer import stack_layers

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import check

pytestmark = pytest.mark.usefixtures("quickly_made")

# --- references -----------------------------------------------------------------------------------


def as_is(x):
    return x


def folded(*shape):
    """A layout with the reference's axes: ours are rows of tokens."""
    return lambda x: x.reshape(2, *shape, x.shape[-1])


def time_space(x):
    return x.reshape(2, 4, 16, -1)


def one_encoder(blocks=as_is):
    return {
        "embedding": ("patch_embed", folded(4, 4, 4)),
        "Transformer/posembed_input": ("encoder/embed_dropout", as_is),
        "Transformer/encoderblock_0": ("encoder/block_0", blocks),
        "Transformer/encoderblock_1": ("encoder/block_1", blocks),
        "Transformer/encoder_norm": ("encoder/norm", as_is),
        "Transformer": ("encoder/norm", as_is),
        "pre_logits": ("feature_dropout", as_is),
    }


TWO_ENCODERS = {
    "embedding": ("patch_embed", folded(4, 4, 4)),
    "TemporalTransformer/posembed_input": ("temporal_encoder/embed_dropout", as_is),
    "TemporalTransformer/encoderblock_0": ("temporal_encoder/block_0", as_is),
    "TemporalTransformer/encoder_norm": ("temporal_encoder/norm", as_is),
    "TemporalTransformer": ("temporal_encoder/norm", as_is),
    "pre_logits": ("feature_dropout", as_is),
}
PROBES = {
    "hf_vivit": {
        "vivit.embeddings": ("encoder/embed_dropout", as_is),
        "vivit.encoder.layer.0": ("encoder/block_0", as_is),
        "vivit.layernorm": ("encoder/norm", as_is),
    },
    "scenic_vivit_spacetime": one_encoder(),
    "scenic_vivit_fact_encoder_token": TWO_ENCODERS,
    "scenic_vivit_fact_encoder_gap": TWO_ENCODERS,
    "scenic_vivit_fact_self_attention": one_encoder(),
    "scenic_vivit_fact_dot_product": one_encoder(time_space),
}


@pytest.mark.parametrize("name", PROBES)
def test_the_references_numbers(name):
    arch = "hf/vivit" if name.startswith("hf") else "scenic/vivit"
    assert set(PROBES[name]) == set(check.facts(name)["probes"])
    error = check.check_golden(name, arch, PROBES[name])
    assert error < 1e-5


def test_the_epsilon_of_the_norms_is_the_references():
    facts = json.loads((GOLDENS / "hf_vivit.json").read_text())["module_facts"]
    assert list(facts["norms"]) == ["LayerNorm eps=1e-06"]
    assert vivit.build(2).norm_eps == 1e-6


# --- the paper's table ------------------------------------------------------------------------------

# Parameters in millions, multiply-adds of products in billions, the paper's GFLOPs (table 1).
PAPER = {
    "B": (88.9, 451.52, 455.2),
    "B-fact-encoder": (115.1, 283.34, 284.4),
    "B-fact-self-attention": (117.3, 371.09, 372.3),
    "B-fact-dot-product": (88.9, 276.18, 277.1),
}


def measured(model, inputs):
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), inputs)
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
    return count, multiply_adds(functools.partial(model.apply, train=False), variables, inputs)


@pytest.mark.parametrize("variant", PAPER)
def test_parameters_and_work_are_the_papers(variant):
    inputs = vivit.example_inputs(variant)
    assert inputs["video"].shape == (1, 32, 224, 224, 3)
    count, work = measured(vivit.build(400, variant=variant), inputs)
    millions, products, published = PAPER[variant]
    assert abs(count / 1e6 - millions) < 0.06
    assert round(work / 1e9, 2) == products
    # The paper counts all that is element by element too, at half a multiply-add: under 1 %.
    assert 0.99 < work / 1e9 / published < 1.0


def test_other_counts():
    assert measured(vivit.build(400), vivit.example_inputs())[0] == 88_954_000  # Hugging Face's
    # The scan counts each of its layers; the published FE-L has 24 of them over time.
    inputs = vivit.example_inputs("L-fact-encoder")
    count, _ = measured(vivit.build(400, variant="L-fact-encoder", scan_layers=True), inputs)
    assert count == 606_827_920


# --- the small ones ---------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 8, 32, 32, 3), dtype=np.float32)
FORMS = {
    "spacetime": {"pool": "token"},
    "factorised_encoder": {"pool": "token", "temporal_depth": 1},
    "factorised_self_attention": {},
    "factorised_dot_product": {},
}


def small(attention="spacetime", **fields):
    return vivit.build(5, variant="test", attention=attention, **FORMS[attention] | fields)


def compiled(function, *args):
    """What is compiled runs once or twice here: quickly made is better than quick."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*args).compile(compiler_options=options)


def quickly(function, *args):
    return compiled(function, *args)(*args)


def initial(model, video=VIDEO):
    init = functools.partial(model.init, train=False)
    return quickly(init, jax.random.key(0), {"video": video})["params"]


@functools.cache
def started(attention="spacetime"):
    """Random numbers everywhere: at the start the head, the class token and biases are zero."""
    init = functools.partial(small(attention).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), {"video": VIDEO})
    rng = np.random.default_rng(1)

    def number(path, x):
        noise = rng.normal(size=x.shape).astype("float32")
        if path[-1].key == "kernel":
            return noise / np.sqrt(192 if x.ndim == 5 else 48, dtype="float32")
        return (path[-1].key == "scale") + np.float32(0.2) * noise

    return jax.tree_util.tree_map_with_path(number, shapes)


@functools.cache
def forward(attention="spacetime", **fields):
    model = small(attention, **fields)
    run = functools.partial(model.apply, train=False)
    return compiled(run, started(attention), {"video": VIDEO})


def logits(attention="spacetime", video=VIDEO, **fields):
    run = forward(attention, **fields)
    return np.asarray(run(started(attention), {"video": video})["logits"])


@pytest.mark.parametrize(
    "attention, tokens",
    [
        ("spacetime", 65),
        ("factorised_encoder", 5),
        ("factorised_self_attention", 64),
        ("factorised_dot_product", 64),
    ],
)
def test_outputs(attention, tokens):
    outputs = forward(attention)(started(attention), {"video": VIDEO})
    assert {name: (x.shape, x.dtype.name) for name, x in outputs.items()} == {
        "logits": ((2, 5), "float32"),
        "features": ((2, 48), "float32"),
        "tokens": ((2, tokens, 48), "float32"),
    }


@pytest.mark.parametrize("attention", FORMS)
def test_a_step_reaches_every_parameter(attention):
    def loss(variables):
        model = small(attention, drop_path_rate=0.1, dropout=0.1)
        rngs = {"dropout": jax.random.key(3)}
        outputs = model.apply(variables, {"video": VIDEO}, train=True, rngs=rngs)
        return jnp.sum(jnp.square(outputs["logits"] - 1.0))

    grads = quickly(jax.grad(loss), started(attention))
    flat = jax.tree_util.tree_leaves_with_path(grads)
    still = [jax.tree_util.keystr(path) for path, g in flat if not np.any(g)]
    assert not still and all(np.isfinite(g).all() for _, g in flat)


@pytest.mark.parametrize("attention", FORMS)
def test_16_bit_computation_is_close(attention):
    half = forward(attention, dtype=jnp.bfloat16)(started(attention), {"video": VIDEO})
    assert half["tokens"].dtype == jnp.bfloat16 and half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["logits"], logits(attention), atol=0.15)


@pytest.mark.parametrize("attention", FORMS)
def test_loops_over_layers_and_recomputation_change_nothing(attention):
    model = small(attention, scan_layers=True, remat=True)
    stacked = stack_layers(started(attention))
    got = quickly(functools.partial(model.apply, train=False), stacked, {"video": VIDEO})
    np.testing.assert_allclose(got["logits"], logits(attention), atol=1e-5)


@pytest.mark.parametrize("attention", FORMS)
def test_order_of_frames_matters(attention):
    assert np.abs(logits(attention) - logits(attention, VIDEO[:, ::-1])).max() > 1e-3


def test_the_factorised_see_time_and_space_as_they_say():
    """Without positions: what a frame's own tokens see of another frame."""
    other = VIDEO.copy()
    other[:, 4:, 16:, 16:] += 3.0  # the places of the last quadrant, of the second half

    def changed(attention):
        """Which (t, h, w) of the tokens after one block are others."""
        model = small(attention, pool="mean", depth=1)
        variables = jax.tree.map(lambda x: x, started(attention))
        variables["params"]["encoder"] = {
            name: x for name, x in variables["params"]["encoder"].items() if "class" not in name
        }
        del variables["params"]["encoder"]["block_1"]
        run = compiled(lambda x: model.apply(variables, {"video": x}, train=False)["tokens"], VIDEO)
        return np.any(run(VIDEO) != run(other), axis=(0, 2)).reshape(4, 4, 4)

    assert changed("spacetime").all()
    # Over time first, then within every frame that time has changed: all.
    assert changed("factorised_self_attention").all()
    crossed = changed("factorised_dot_product")
    assert crossed[2:].all() and crossed[:2, 2:, 2:].all()
    assert not crossed[:2, :2].any() and not crossed[:2, :, :2].any()


def test_orders_of_attention():
    one = logits("factorised_self_attention")
    other = logits("factorised_self_attention", attention_order="space_time")
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(UnknownNameError, match="unknown attention order 'time'"):
        logits("factorised_self_attention", attention_order="time")


def test_the_block_of_model_3_can_start_as_one_of_images():
    model = small("factorised_self_attention", temporal_init="zeros", depth=1)
    params = initial(model)
    attention = params["encoder"]["block_0"]["temporal_attention"]
    assert not attention["out"]["kernel"].any() and attention["value"]["kernel"].any()
    assert params["encoder"]["block_0"]["attention"]["out"]["kernel"].any()


@pytest.mark.parametrize(
    "how, frames",
    [("full", [True, True]), ("central_frame", [False, True]), ("filter_inflation", [True, True])],
)
def test_starts_of_the_tubelets(how, frames):
    model = small(embed_init=how, depth=0)
    kernel = np.asarray(initial(model)["patch_embed"]["kernel"])
    assert kernel.shape == (2, 8, 8, 3, 48)
    assert [bool(k.any()) for k in kernel] == frames
    assert (kernel[0] == kernel[1]).all() == (how == "filter_inflation")
    if how != "full":  # a still clip gives what its frame gives a kernel of 8·8·3 inputs
        assert kernel.sum(0).std() == pytest.approx(1 / math.sqrt(192), rel=0.03)


def test_uniform_frame_sampling():
    fields = {"tubelet_size": 1, "sampled_frames": 4}
    model = small(**fields, depth=0)
    params = initial(model)
    assert params["patch_embed"]["kernel"].shape == (1, 8, 8, 3, 48)
    assert params["encoder"]["position_embedding"].shape == (4, 4, 4, 48)
    run = lambda x: model.apply({"params": params}, {"video": x}, train=False)["tokens"]
    np.testing.assert_array_equal(run(VIDEO), run(VIDEO[:, ::2]))
    np.testing.assert_array_equal(run(VIDEO[:, :6]), run(VIDEO[:, [0, 1, 3, 4]]))
    with pytest.raises(ValueError, match="3 frames, fewer than sampled_frames=4"):
        run(VIDEO[:, :3])


@pytest.mark.parametrize(
    "fields",
    [{"norm_eps": 1.0}, {"activation": "gelu"}, {"qkv_bias": "qv"}],
    ids=str,
)
def test_fields_reach_what_they_are_for(fields):
    model = small(**fields)
    run = functools.partial(model.apply, train=False)
    variables = jax.tree.map(lambda x: x, started())
    if "qkv_bias" in fields:
        for block in ("block_0", "block_1"):
            del variables["params"]["encoder"][block]["attention"]["key"]["bias"]
        other = quickly(run, variables, {"video": VIDEO})["logits"]
        np.testing.assert_allclose(other, logits(), atol=1e-5)  # a key's bias cancels
    else:
        other = quickly(run, variables, {"video": VIDEO})["logits"]
        assert np.abs(other - logits()).max() > 1e-5


def test_the_fields_of_the_transformer_over_time():
    fields = {"temporal_depth": 3, "temporal_num_heads": 2, "temporal_mlp_ratio": 1.0}
    inputs = {"video": jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)}
    model = small("factorised_encoder", **fields)
    init = functools.partial(model.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), inputs)["params"]["temporal_encoder"]
    assert {"block_0", "block_2"} <= params.keys() and "block_3" not in params
    assert params["block_0"]["attention"]["query"]["kernel"].shape == (48, 2, 24)
    assert params["block_0"]["mlp"]["fc1"]["kernel"].shape == (48, 48)


@pytest.mark.slow
def test_dropout_and_stochastic_depth_are_of_training_only():
    for attention, fields in (
        ("spacetime", {"head_dropout": 0.3}),
        ("factorised_encoder", {"dropout": 0.3}),
        ("factorised_self_attention", {"drop_path_rate": 0.5}),
    ):
        model = small(attention, **fields)

        def train(key, model=model, attention=attention):
            inputs, rngs = {"video": VIDEO}, {"dropout": key}
            return model.apply(started(attention), inputs, train=True, rngs=rngs)["logits"]

        run = compiled(train, jax.random.key(0))
        assert (run(jax.random.key(0)) != run(jax.random.key(1))).any(), fields
        np.testing.assert_array_equal(logits(attention, **fields), logits(attention))


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 8, 30, 32, 3), r"\(8, 30, 32\), expected multiples of the patch \(2, 8, 8\)"),
        ((1, 7, 32, 32, 3), r"\(7, 32, 32\), expected multiples"),
        ((1, 8, 32, 32, 1), "1 channels in the last axis, expected .N, T, H, W, 3."),
        ((8, 32, 32, 3), r"shape \(8, 32, 32, 3\): expected \(N, T, H, W, 3\)"),
        ((1, 8, 32, 40, 3), r"encoder/position_embedding was made for a grid of \(4, 4, 4\)"),
        ((1, 16, 32, 32, 3), r"this input has \(8, 4, 4\): .*load them into a model of this input"),
    ],
)
def test_videos_that_do_not_fit(shape, words):
    with pytest.raises(ValueError, match=words):
        small().apply(started(), {"video": jnp.zeros(shape)}, train=False)


def test_what_cannot_be():
    inputs = {"video": VIDEO}
    for attention in ("factorised_self_attention", "factorised_dot_product"):
        with pytest.raises(ValueError, match='has no class token, .*give pool="mean"'):
            small(attention, pool="token").init(jax.random.key(0), inputs, train=False)
    with pytest.raises(ValueError, match="3 heads: one half attends over time"):
        small("factorised_dot_product", num_heads=3).init(jax.random.key(0), inputs, train=False)
    for field in ("pool", "activation", "embed_init", "temporal_init"):
        with pytest.raises(UnknownNameError, match=f"unknown {field} 'x'"):
            small(**{field: "x"}).init(jax.random.key(0), inputs, train=False)
    with pytest.raises(UnknownNameError, match="unknown attention 'x'"):
        vivit.build(2, attention="x").init(jax.random.key(0), inputs, train=False)
    with pytest.raises(UnknownNameError, match="'vivit' has no variant 'XL'"):
        vivit.build(2, variant="XL")
