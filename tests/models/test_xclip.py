"""X-CLIP: the reference's numbers, sizes, its ways of taking texts, input checks."""

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
from jaxvid.models import xclip
from jaxvid.nn.transformer import stack_layers

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

pytestmark = pytest.mark.usefixtures("quickly_made")

GOLDEN = "hf_xclip"
PROBES = {  # of the reference -> module of ours
    "vision_model.pre_layernorm": "visual/norm_pre",
    "vision_model.encoder.layers.0": "visual/block_0",
    "vision_model.post_layernorm": "visual/norm",
    "visual_projection": "visual_projection",
    "text_projection": "text_projection",
    "prompts_generator": "prompt",
}


def test_the_references_numbers():
    told, stored = check.facts(GOLDEN), check.stored(GOLDEN)
    model, variables, _ = jaxvid.from_state_dict(
        check.weights(GOLDEN), arch="hf/xclip", config=told["config"]
    )
    ids, mask = stored["in.input_ids"].astype(np.int32), stored["in.attention_mask"]
    # Texts are padded on the right, where a causal tower does not look: no mask is needed.
    assert (np.diff(mask, axis=1) <= 0).all() and (mask.sum(axis=1) < mask.shape[1]).any()
    inputs = {"video": check.clip(GOLDEN), "text_ids": ids, "text_mask": mask}

    options = {"capture_intermediates": True, "mutable": ["intermediates"]}
    outputs, kept = jax.jit(lambda v, x: model.apply(v, x, train=False, **options))(
        variables, inputs
    )
    atol = told["checks"]["suggested_atol"]
    for theirs, ours in PROBES.items():
        node = kept["intermediates"]
        for part in ours.split("/"):
            node = node[part]
        probe, want = told["probes"][theirs], stored[f"probe.{theirs}"].ravel()
        got = np.asarray(node["__call__"][0])
        assert got.size == math.prod(probe["shape"]), theirs
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(
            got.ravel()[:: probe["stride"]], want, atol=atol * scale, err_msg=theirs
        )
    np.testing.assert_allclose(outputs["logits"], stored["logits_per_video"], atol=atol)
    for name in ("video_embeds", "text_embeds"):
        np.testing.assert_allclose(outputs[name], stored[name], atol=atol, err_msg=name)
    assert outputs["features"].dtype == outputs["logits"].dtype == jnp.float32


# --- sizes ----------------------------------------------------------------------------------------


def abstract(variant, **fields):
    """(model, inputs, shapes of its variables); one compiled layer is traced for all of a stack."""
    model = xclip.build(variant=variant, scan_layers=True, **fields)
    inputs = {
        **xclip.example_inputs(variant),
        "text_ids": jax.ShapeDtypeStruct((1, 77), jnp.int32),
    }
    init = lambda key, inputs: model.init(key, inputs, train=False)
    return model, inputs, jax.eval_shape(init, jax.random.key(0), inputs)


@pytest.mark.parametrize(
    "variant, parameters, billions",
    [
        ("B/32", 196_585_729, 39),
        ("B/16", 194_929_153, 145),
        ("L/14", 575_673_601, 658),
        ("B/32-16f", 196_585_729 + 8 * 512, 75),
        ("B/16-16f", 194_929_153 + 8 * 512, 287),
    ],
)
def test_parameters_and_work_are_as_published(variant, parameters, billions):
    # The paper's table 1 counts a clip and one text.
    model, inputs, variables = abstract(variant)
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(variables)) == parameters
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    forward = functools.partial(model.apply, train=False)
    assert multiply_adds(forward, variables, inputs) / 1e9 == pytest.approx(billions, rel=0.015)


# --- the small one ----------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3), dtype=np.float32)
IDS = np.array([[510, 7, 8, 511], [510, 9, 511, 511], [510, 1, 511, 511]], np.int32)
INPUTS = {"video": VIDEO, "text_ids": IDS}


def small(num_classes=None, **fields):
    return xclip.build(num_classes, variant="test", **fields)


@pytest.fixture(scope="module")
def variables():
    made = run(lambda: small().init(jax.random.key(0), INPUTS, train=False))
    rng = np.random.default_rng(1)  # no bias stays 0, no message unheard
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype), made)


def run(function, *args):
    """What is compiled runs once: quickly made is better than quick."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*args).compile(compiler_options=options)(*args)


def logits(model, variables, inputs):
    return run(lambda v, x: model.apply(v, x, train=False)["logits"], variables, inputs)


@pytest.fixture(scope="module")
def plain(variables):
    return logits(small(), variables, INPUTS)


def test_outputs(variables):
    outputs = jax.eval_shape(lambda: small().apply(variables, INPUTS, train=False))
    assert {name: (x.shape, x.dtype.name) for name, x in outputs.items()} == {
        "logits": ((2, 3), "float32"),
        "features": ((2, 32), "float32"),
        "video_embeds": ((2, 32), "float32"),
        "text_embeds": ((2, 3, 32), "float32"),
        "tokens": ((2, 4, 16, 48), "float32"),
    }


def test_texts_and_videos_encoded_beforehand_give_the_same_logits(variables, plain):
    model = small()
    texts = run(lambda v: model.apply(v, IDS, method="encode_text"), variables)
    video = run(lambda v: model.apply(v, VIDEO, method="encode_video"), variables)
    assert texts.shape == (3, 32)
    outputs = run(lambda v: model.apply(v, video, texts, method="classify"), variables)
    np.testing.assert_allclose(outputs["logits"], plain, atol=1e-5)


def test_class_texts_are_the_texts_of_every_input(variables, plain):
    model = small(class_texts=IDS)
    assert model.class_texts == tuple(map(tuple, IDS.tolist()))
    np.testing.assert_allclose(logits(model, variables, {"video": VIDEO}), plain, atol=1e-6)
    assert logits(model, variables, {**INPUTS, "text_ids": IDS[:2]}).shape == (2, 2)


def test_what_stands_behind_the_end_token_does_not_matter(variables):
    encode = jax.jit(lambda ids: small().apply(variables, ids, method="encode_text"))
    other = IDS.copy()
    other[1, 3] = other[2, 3] = 5
    np.testing.assert_array_equal(encode(IDS), encode(other))
    other[1, 1] = 5
    changed = np.abs(encode(IDS) - encode(other)).max(axis=1)
    assert changed[1] > 1e-3 and changed[0] == changed[2] == 0


def test_classes_without_words_are_a_token_each():
    model = small(3)
    assert model.class_texts == ((510, 0, 511), (510, 1, 511), (510, 2, 511))
    assert not hasattr(model, "num_classes")
    with pytest.raises(ValueError, match="511 classes without texts need a vocabulary of 513"):
        small(511)


def test_frames_hear_of_each_other(variables):
    model = small()
    encode = jax.jit(lambda x: model.apply(variables, x, method="encode_video"))
    plain = encode(VIDEO)
    assert np.abs(encode(VIDEO[:, ::-1])["clip"] - plain["clip"]).max() > 1e-3
    other = VIDEO.copy()
    other[:, 3] = 0
    # What the first frame hears of the last comes through the messages alone.
    assert np.abs(encode(other)["tokens"] - plain["tokens"])[:, 0].max() > 1e-4
    other = VIDEO.copy()
    other[1] = 0
    assert np.abs(encode(other)["tokens"] - plain["tokens"])[0].max() == 0


def gradients(model, variables):
    def loss(v):
        return jnp.sum(model.apply(v, INPUTS, train=False)["logits"] ** 2)

    return run(jax.value_and_grad(loss), variables)


@pytest.mark.slow
def test_a_loop_over_layers_and_computing_again_change_nothing(variables):
    expected, slopes = gradients(small(), variables)
    stacked = stack_layers(variables)
    value, grads = gradients(small(scan_layers=True, remat=True), stacked)
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(stack_layers(slopes)), strict=True)
    for one, other in pairs:
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(one, other, atol=2e-4 * max(scale, 1.0))


def test_16_bit_computation_is_close(variables, plain):
    half = small(dtype=jnp.bfloat16)
    outputs = run(lambda v: half.apply(v, INPUTS, train=False), variables)
    assert outputs["tokens"].dtype == jnp.bfloat16 and outputs["logits"].dtype == jnp.float32
    np.testing.assert_allclose(outputs["logits"], plain, atol=0.5)


def test_stochastic_depth_is_of_training_only(variables, plain):
    model = small(drop_path_rate=0.5)

    def keyed(key):
        return model.apply(variables, INPUTS, train=True, rngs={"dropout": key})["logits"]

    two = run(jax.vmap(keyed), jax.random.split(jax.random.key(0)))
    assert (two[0] != two[1]).any()
    np.testing.assert_array_equal(logits(model, variables, INPUTS), plain)


@pytest.mark.parametrize("field", ["norm_eps", "text_norm_eps"])
def test_each_epsilon_reaches_its_norms(variables, plain, field):
    assert (logits(small(**{field: 1.0}), variables, INPUTS) != plain).any()


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({"video": VIDEO}, "no texts to compare .* give inputs.'text_ids'."),
        ({**INPUTS, "video": VIDEO[:, :3]}, "4.* the clip has .3,.: the number of frames must be"),
        ({**INPUTS, "video": VIDEO[:, :, :24, :24]}, "4, 4.* has .3, 3.: the size must be that"),
        ({**INPUTS, "video": VIDEO[:, :, :30]}, "expected multiples of the patch .1, 8, 8."),
        ({**INPUTS, "video": VIDEO[..., :1]}, "1 channels in the last axis, expected 3"),
        ({**INPUTS, "text_ids": np.ones((2, 17), np.int32)}, "1 to 16 tokens; truncate longer"),
        ({**INPUTS, "text_ids": np.ones(4, np.int32)}, r"shape \(4,\), expected \(texts, tokens\)"),
    ],
)
def test_inputs_that_do_not_fit(variables, inputs, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda: small().apply(variables, inputs, train=False))


def test_class_texts_that_do_not_fit():
    with pytest.raises(ValueError, match=r"3 texts of \[1, 2\] tokens, expected .* of one length"):
        small(class_texts=[[1, 2], [3], [4]])
    with pytest.raises(ValueError, match="3 texts for 2 classes"):
        small(2, class_texts=IDS)
    with pytest.raises(ValueError, match="0 texts"):
        small(class_texts=[])
    with pytest.raises(UnknownNameError, match="'xclip' has no variant 'XL'"):
        xclip.build(variant="XL")
    with pytest.raises(ValueError, match="width 48 is not a multiple of num_heads=5"):
        model = small(num_heads=5)
        jax.eval_shape(lambda: model.init(jax.random.key(0), INPUTS, train=False))
