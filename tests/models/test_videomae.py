"""The classifier: the references' numbers, sizes, input checks, options."""

import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvid
from jaxvid.core.errors import UnknownNameError
from jaxvid.models import videomae

pytestmark = pytest.mark.usefixtures("quickly_made")

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import recipe

PROBES = {  # of the reference -> module of ours
    "videomae.embeddings": "encoder/embed_dropout",
    "videomae.encoder.layer.0": "encoder/block_0",
    "videomae.layernorm": "encoder/norm",
    "patch_embed": "encoder/patch_embed",
    "blocks.0": "encoder/block_0",
    "blocks.1": "encoder/block_1",
    "fc_norm": "fc_norm",
}


def compare_probes(facts, stored, intermediates, modules, atol):
    """Every probe of a golden against the output of the module it stands for."""
    for name, probe in facts["probes"].items():
        node = intermediates
        for part in modules[name].split("/"):
            node = node[part]
        got = np.asarray(node["__call__"][0]).ravel()[:: probe["stride"]]
        np.testing.assert_allclose(got, stored[f"probe.{name}"].ravel(), atol=atol, err_msg=name)


@pytest.mark.parametrize(
    "name, arch",
    [
        ("hf_videomae_cls_cls0", "hf/videomae"),
        ("hf_videomae_cls_meanpool", "hf/videomae"),
        ("orig_videomae_finetune", "videomae/finetune"),
        ("orig_videomae_finetune_cls0_layerscale", "videomae/finetune"),
        ("orig_videomaev2_finetune", "videomaev2/finetune"),
        ("orig_videomaev2_finetune_cosattn", "videomaev2/finetune"),
    ],
)
def test_the_references_numbers(name, arch):
    facts = json.loads((GOLDENS / f"{name}.json").read_text())
    stored = np.load(GOLDENS / f"{name}.npz")
    weights = {key: recipe.tensor(key, s, facts["gain"]) for key, s, _, _ in facts["state_dict"]}
    model, variables, _ = jaxvid.from_state_dict(weights, arch=arch, config=facts["config"])
    video = recipe.video(facts["input"]["seed"], facts["input"]["shape"]).transpose(0, 2, 3, 4, 1)
    outputs, kept = model.apply(
        variables,
        {"video": video},
        train=False,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    atol = facts["checks"]["suggested_atol"]
    np.testing.assert_allclose(outputs["logits"], stored["logits"], atol=atol)
    compare_probes(facts, stored, kept["intermediates"], PROBES, atol)
    if "last_hidden_state" in stored:
        np.testing.assert_allclose(outputs["tokens"], stored["last_hidden_state"], atol=atol)


def shapes(model, inputs):
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), zeros, train=False))["params"]


# ViT-g/14 of VideoMAE V2, a billion, summed from its widths: patches, blocks, fc_norm, head.
GIANT = (
    (3 * 2 * 14 * 14 + 1) * 1408
    + 40 * (4 * 1408 * (1408 + 1) - 1408 + 2 * 1408 * 6144 + 6144 + 1408 + 4 * 1408)
    + 2 * 1408
    + 1409 * 710
)


@pytest.mark.parametrize(
    "variant, num_classes, expected",
    [
        ("S", 400, 22_033_936),
        ("B", 400, 86_534_800),
        ("L", 400, 304_270_736),
        ("H", 400, 632_119_440),
        ("B", 2, 86_534_800 - 398 * 769),
        ("g", 710, GIANT),
    ],
)
def test_parameters_are_as_many_as_published(variant, num_classes, expected):
    # One compiled layer instead of 32 has as many parameters and is faster to shape.
    model = videomae.build(num_classes, variant=variant, scan_layers=variant in "LHg")
    leaves = jax.tree.leaves(shapes(model, videomae.example_inputs(variant)))
    assert sum(math.prod(x.shape) for x in leaves) == expected
    assert {x.dtype for x in leaves} == {jnp.dtype(jnp.float32)}


# --- the small one ------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3), dtype=np.float32)


def small(**fields):
    return videomae.build(5, **({"variant": "test", "head_init_scale": 1.0} | fields))


def start(model):
    return jax.jit(lambda: model.init(jax.random.key(0), {"video": VIDEO}, train=False))()


@pytest.fixture(scope="module")
def variables():
    return start(small())


def test_outputs(variables):
    outputs = small().apply(variables, {"video": VIDEO}, train=False)
    found = {name: (x.shape, x.dtype.name) for name, x in outputs.items()}
    assert found == {
        "logits": ((2, 5), "float32"),
        "features": ((2, 32), "float32"),
        "tokens": ((2, 32, 32), "float32"),
    }


def test_16_bit_computation_is_close(variables):
    exact = small().apply(variables, {"video": VIDEO}, train=False)
    half = small(dtype=jnp.bfloat16).apply(variables, {"video": VIDEO}, train=False)
    assert half["tokens"].dtype == jnp.bfloat16 and half["logits"].dtype == jnp.float32
    assert bool(jnp.isfinite(half["logits"]).all())
    np.testing.assert_allclose(half["features"], exact["features"], atol=0.1)
    assert start(small(dtype=jnp.bfloat16))["params"]["head"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize("field", ["norm_eps", "fc_norm_eps"])
def test_each_epsilon_reaches_its_norms(variables, field):
    plain = small().apply(variables, {"video": VIDEO}, train=False)
    other = small(**{field: 1.0}).apply(variables, {"video": VIDEO}, train=False)
    assert (plain["logits"] != other["logits"]).any()
    assert (plain["tokens"] != other["tokens"]).any() == (field == "norm_eps")


def test_any_number_of_frames_and_any_size(variables):
    x = jnp.ones((1, 6, 16, 40, 3))
    assert small().apply(variables, {"video": x}, train=False)["tokens"].shape == (1, 30, 32)


def test_order_of_frames_matters(variables):
    logits = small().apply(variables, {"video": VIDEO}, train=False)["logits"]
    backwards = small().apply(variables, {"video": VIDEO[:, ::-1]}, train=False)["logits"]
    assert float(jnp.abs(logits - backwards).max()) > 1e-4


def test_the_token_head_ends_the_encoder_with_a_norm_and_has_no_other():
    params = shapes(small(pool="token"), {"video": jnp.asarray(VIDEO)})
    assert params.keys() == {"encoder", "head"} and "norm" in params["encoder"]
    params = shapes(small(), {"video": jnp.asarray(VIDEO)})
    assert params.keys() == {"encoder", "fc_norm", "head"} and "norm" not in params["encoder"]


def test_the_start_is_that_of_the_original_repository():
    params = start(small(width=128, head_init_scale=0.5, layer_scale=0.1))["params"]
    block = params["encoder"]["block_0"]
    for kernel in (block["attention"]["query"]["kernel"], block["mlp"]["fc1"]["kernel"]):
        assert float(kernel.std()) == pytest.approx(0.02, rel=0.05)
    assert float(params["head"]["kernel"].std()) == pytest.approx(0.01, rel=0.1)
    assert not params["head"]["bias"].any() and (block["gamma_1"] == 0.1).all()


def test_dropout_and_stochastic_depth_are_of_training_only(variables):
    for fields in ({"dropout": 0.3}, {"head_dropout": 0.3}, {"drop_path_rate": 0.5}):
        model = small(**fields)

        @jax.jit
        def run(key, model=model):
            inputs = {"video": VIDEO}
            return model.apply(variables, inputs, train=True, rngs={"dropout": key})["logits"]

        assert (run(jax.random.key(0)) != run(jax.random.key(1))).any(), fields
        evaluated = model.apply(variables, {"video": VIDEO}, train=False)["logits"]
        plain = small().apply(variables, {"video": VIDEO}, train=False)["logits"]
        np.testing.assert_array_equal(evaluated, plain)


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 4, 30, 32, 3), r"\(4, 30, 32\), expected multiples of the patch \(2, 8, 8\)"),
        ((1, 3, 32, 32, 3), r"\(3, 32, 32\), expected multiples"),
        ((1, 4, 32, 32, 1), "1 channels in the last axis, expected 3"),
        ((1, 3, 4, 32, 32), "32 channels in the last axis, expected 3; give .N, T, H, W, C"),
        ((4, 32, 32, 3), r"shape \(4, 32, 32, 3\), expected \(N, T, H, W, C\)"),
    ],
)
def test_videos_that_do_not_fit(variables, shape, words):
    with pytest.raises(ValueError, match=words):
        small().apply(variables, {"video": jnp.zeros(shape)}, train=False)


def test_unknown_names(variables):
    with pytest.raises(UnknownNameError, match="unknown pool 'max'.*mean, token"):
        small(pool="max").apply(variables, {"video": VIDEO}, train=False)
    with pytest.raises(UnknownNameError, match="'videomae' has no variant 'XL'"):
        videomae.build(2, variant="XL")
