"""The autoencoder: the references' numbers and losses, what it sees, what it refuses."""

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
from jaxvid.core.tree import flatten
from jaxvid.models import videomae, videomae_pretrain
from jaxvid.objectives import mae

pytestmark = pytest.mark.usefixtures("quickly_made")

GOLDENS = Path(__file__).parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
import recipe

PROBES = {  # of the reference -> module of ours
    "videomae.embeddings": "encoder/embed_dropout",
    "videomae.encoder": "encoder/block_1",
    "encoder.norm": "encoder/norm",
    "encoder_to_decoder": "encoder_to_decoder",
    "decoder.blocks.0": "decoder/block_0",
    "decoder.norm": "decoder/norm",
}
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


@pytest.mark.parametrize(
    "name, arch, mask, losses",
    [
        (
            "hf_videomae_pretrain_normpix",
            "hf/videomae_pretrain",
            "in.bool_masked_pos",
            {"loss": True},
        ),
        (
            "hf_videomae_pretrain_rawpix",
            "hf/videomae_pretrain",
            "in.bool_masked_pos",
            {"loss": False},
        ),
        (
            "orig_videomae_pretrain",
            "videomae/pretrain",
            "in.mask",
            {"loss_normpix": True, "loss_rawpix": False},
        ),
    ],
)
def test_the_references_numbers_and_losses(name, arch, mask, losses):
    facts = json.loads((GOLDENS / f"{name}.json").read_text())
    stored = np.load(GOLDENS / f"{name}.npz")
    atol = facts["checks"]["suggested_atol"]
    weights = {key: recipe.tensor(key, s, facts["gain"]) for key, s, _, _ in facts["state_dict"]}
    model, variables, _ = jaxvid.from_state_dict(weights, arch=arch, config=facts["config"])
    video = recipe.video(facts["input"]["seed"], facts["input"]["shape"]).transpose(0, 2, 3, 4, 1)
    mask = stored[mask].astype(bool)
    outputs, kept = model.apply(
        variables,
        {"video": video, "tube_mask": mask},
        train=False,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    stride = facts["outputs"]["logits"].get("stride", 1)
    logits = np.asarray(outputs["logits"]).ravel()[::stride]
    np.testing.assert_allclose(logits, stored["logits"].ravel(), atol=atol)
    compare_probes(facts, stored, kept["intermediates"], atol)
    targets = {"video": video * STD + MEAN, "tube_mask": mask, "weight": np.ones(len(video))}
    for key, normalise_target in losses.items():
        objective = mae.build(patch=(2, 8, 8), normalise_target=normalise_target)
        total, weight = objective(outputs, targets)["loss"]
        assert float(total / weight) == pytest.approx(float(stored[key]), abs=atol)


def compare_probes(facts, stored, intermediates, atol):
    for name, probe in facts["probes"].items():
        if name == "encoder.patch_embed":  # of all tokens; ours embeds the visible ones only
            continue
        node = intermediates
        for part in PROBES[name].split("/"):
            node = node[part]
        got = np.asarray(node["__call__"][0]).ravel()[:: probe["stride"]]
        np.testing.assert_allclose(got, stored[f"probe.{name}"].ravel(), atol=atol, err_msg=name)


def shapes(module, variant, **fields):
    model = module.build(400, variant=variant, **fields)
    zeros = {k: jnp.zeros(x.shape, x.dtype) for k, x in module.example_inputs(variant).items()}
    return jax.eval_shape(lambda: model.init(jax.random.key(0), zeros, train=False))["params"]


def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def test_parameters_are_as_many_as_published():
    assert count(shapes(videomae_pretrain, "B")) == 94_210_944


@pytest.mark.parametrize(
    "variant, scan_layers",
    [("test", False), ("test", True), ("S", True), ("B", True), ("L", True), ("H", True)],
)
def test_its_encoder_is_the_classifiers(variant, scan_layers):
    options = {"scan_layers": scan_layers, "layer_scale": 0.1}
    pretrained = flatten(shapes(videomae_pretrain, variant, **options)["encoder"])
    token_head = flatten(shapes(videomae, variant, pool="token", **options)["encoder"])
    assert pretrained == token_head
    mean_head = flatten(shapes(videomae, variant, **options)["encoder"])
    assert mean_head == {k: v for k, v in pretrained.items() if not k.startswith("norm/")}


@pytest.mark.parametrize("variant", ["S", "B", "L", "H"])
def test_sizes_of_the_published_decoders(variant):
    row = videomae_pretrain.VARIANTS[variant]
    assert row["decoder_width"] == row["width"] // 2
    assert row["decoder_num_heads"] == {"S": 3, "B": 6, "L": 8, "H": 8}[variant]
    assert row["decoder_depth"] == {"S": 4, "B": 4, "L": 12, "H": 12}[variant]


# --- the small one ------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
VIDEO = RNG.standard_normal((2, 4, 32, 32, 3), dtype=np.float32)
MASK = np.stack([RNG.permutation(32) < 20 for _ in range(2)])
INPUTS = {"video": jnp.asarray(VIDEO), "tube_mask": jnp.asarray(MASK)}


def small(**fields):
    return videomae_pretrain.build(variant="test", **fields)


def start(model):
    return jax.jit(lambda: model.init(jax.random.key(0), INPUTS, train=False))()


@pytest.fixture(scope="module")
def variables():
    return start(small())


def test_outputs(variables):
    outputs = small().apply(variables, INPUTS, train=False)
    found = {name: (x.shape, x.dtype.name) for name, x in outputs.items()}
    assert found == {
        "logits": ((2, 20, 2 * 8 * 8 * 3), "float32"),
        "features": ((2, 32), "float32"),
        "tokens": ((2, 12, 32), "float32"),
    }


@pytest.mark.parametrize("field", ["norm_eps", "decoder_norm_eps"])
def test_each_epsilon_reaches_its_norms(variables, field):
    plain = small().apply(variables, INPUTS, train=False)
    other = small(**{field: 1.0}).apply(variables, INPUTS, train=False)
    assert (plain["logits"] != other["logits"]).any()
    assert (plain["tokens"] != other["tokens"]).any() == (field == "norm_eps")


def test_masked_pixels_are_never_seen(variables):
    hidden = MASK.reshape(2, 2, 4, 4).repeat(2, 1).repeat(8, 2).repeat(8, 3)[..., None]
    other = np.where(hidden, RNG.standard_normal(VIDEO.shape, dtype=np.float32), VIDEO)
    outputs = small().apply(variables, INPUTS, train=False)
    again = small().apply(variables, INPUTS | {"video": other}, train=False)
    jax.tree.map(np.testing.assert_array_equal, outputs, again)
    seen = small().apply(variables, INPUTS | {"video": VIDEO + 1}, train=False)
    assert (seen["logits"] != outputs["logits"]).any()


def test_under_jit_with_the_number_of_visible_tokens_given(variables):
    model = small(num_visible=12)
    compiled = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])(variables, INPUTS)
    plain = small().apply(variables, INPUTS, train=False)["logits"]
    np.testing.assert_allclose(compiled, plain, atol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"dtype": jnp.bfloat16}, {"remat": True, "drop_path_rate": 0.1}]
)
def test_a_training_step_has_finite_gradients(variables, fields):
    model = small(num_visible=12, **fields)
    objective = mae.build(patch=(2, 8, 8))
    targets = INPUTS | {"weight": jnp.ones(2)}

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        rngs = {"dropout": jax.random.key(0)}
        outputs = model.apply({"params": params}, INPUTS, train=True, rngs=rngs)
        total, weight = objective(outputs, targets)["loss"]
        return total / weight

    value, grads = loss(variables["params"])
    assert 0.5 < float(value) < 3
    for path, gradient in flatten(grads).items():
        assert bool(jnp.isfinite(gradient).all()), path
        assert bool(gradient.any()), path


def test_scanned_layers_are_stacked_in_both_parts():
    params = shapes(videomae_pretrain, "test", scan_layers=True)
    assert "blocks" in params["encoder"] and "blocks" in params["decoder"]


def test_parts_that_a_reference_may_lack():
    params = shapes(videomae_pretrain, "test", decoder_head_bias=False, encoder_norm=False)
    assert params["decoder"]["head"].keys() == {"kernel"} and "norm" not in params["encoder"]


def test_the_start_is_that_of_the_original_repository():
    params = start(small(width=96, decoder_width=64))["params"]
    block = params["encoder"]["block_0"]
    # Xavier over (width, 3·width) and over (width, hidden); PyTorch's default; two bounds of 0.02.
    for kernel, bound in (
        (block["attention"]["query"]["kernel"], math.sqrt(6 / (96 + 3 * 96))),
        (block["attention"]["out"]["kernel"], math.sqrt(6 / (96 + 96))),
        (block["mlp"]["fc1"]["kernel"], math.sqrt(6 / (96 + 192))),
        (params["encoder_to_decoder"]["kernel"], 1 / math.sqrt(96)),
        (params["mask_token"], 0.02),
    ):
        assert 0.9 * bound < float(jnp.abs(kernel).max()) <= bound


def apply(variables, model=None, **changes):
    return (model or small()).apply(variables, INPUTS | changes, train=False)


def test_masks_that_do_not_fit(variables):
    with pytest.raises(
        ValueError, match=r"bool of shape \(2, 16\), expected bool of shape \(2, 32"
    ):
        apply(variables, tube_mask=jnp.asarray(MASK[:, :16]))
    with pytest.raises(ValueError, match="tube_mask is int32 .* expected bool"):
        apply(variables, tube_mask=jnp.asarray(MASK, jnp.int32))
    uneven = MASK.copy()
    uneven[0, np.flatnonzero(~MASK[0])[0]] = True
    with pytest.raises(ValueError, match=r"leaves \[11, 12\] of 32 tokens visible, expected one"):
        apply(variables, tube_mask=jnp.asarray(uneven))
    with pytest.raises(ValueError, match=r"leaves \[32\] of 32 tokens visible"):
        apply(variables, tube_mask=jnp.zeros((2, 32), bool))
    with pytest.raises(ValueError, match=r"leaves \[12\] of 32 .* num_visible=8"):
        apply(variables, small(num_visible=8))


def test_the_number_of_visible_tokens_must_be_known_under_jit(variables):
    with pytest.raises(
        ValueError, match="build it with num_visible=tokens - ops.tube_mask.num_mask"
    ):
        jax.jit(lambda x: small().apply(variables, x, train=False))(INPUTS)
    with pytest.raises(ValueError, match=r"leaves \[32\] of 32 tokens visible"):
        jax.jit(lambda x: small(num_visible=32).apply(variables, x, train=False))(INPUTS)


def test_videos_that_do_not_fit(variables):
    with pytest.raises(ValueError, match=r"\(4, 30, 32\), expected multiples"):
        apply(variables, video=jnp.zeros((2, 4, 30, 32, 3)))
    with pytest.raises(ValueError, match="2 channels in the last axis, expected 3"):
        apply(variables, video=jnp.zeros((2, 4, 32, 32, 2)))


def test_unknown_variants():
    with pytest.raises(UnknownNameError, match="'videomae_pretrain' has no variant 'XL'"):
        videomae_pretrain.build(variant="XL")
