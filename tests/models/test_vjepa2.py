"""V-JEPA 2: the reference's numbers, published sizes, any clip, the frozen encoder, options."""

import functools
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvid.core.errors import UnknownNameError
from jaxvid.core.tree import flatten
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.models import vjepa2
from jaxvid.nn.transformer import stack_layers
from jaxvid.train.optim import layer_scales, make_optimizer

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import check

# What is compiled runs once or twice here: quickly made is better than quick.
QUICKLY = {"xla_backend_optimization_level": 0}


def same(x):
    return x


def test_hugging_faces_numbers():
    check.check_golden(
        "hf_vjepa2_cls",
        "hf/vjepa2",
        {
            "vjepa2.encoder.embeddings": ("encoder/patch_embed", same),
            "vjepa2.encoder.layer.0": ("encoder/block_0", same),
            "vjepa2.encoder.layernorm": ("encoder/norm", same),
            "pooler": ("pooler", same),
        },
    )


# --- sizes ------------------------------------------------------------------------------------------


def shapes(model, inputs):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), inputs)["params"]


def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "variant, encoder, rest",
    [
        # The paper's "300M", "600M" and "1B" are of the encoder.
        ("L", 303_885_312, 49_514_670),
        ("H", 631_648_000, 77_294_254),
        ("g", 1_012_173_952, 93_494_190),
    ],
)
def test_published_sizes(variant, encoder, rest):
    model = vjepa2.build(174, variant=variant, scan_layers=True)
    params = shapes(model, vjepa2.example_inputs(variant))
    assert count(params["encoder"]) == encoder and count(params) == encoder + rest
    hidden = round(model.width * model.mlp_ratio)
    assert params["encoder"]["blocks"]["mlp"]["fc1"]["bias"].shape == (model.depth, hidden)


def test_its_work_is_that_of_its_products():
    model, inputs = vjepa2.build(174, scan_layers=True), vjepa2.example_inputs()
    variables = {"params": shapes(model, inputs)}
    found = multiply_adds(functools.partial(model.apply, train=False), variables, inputs)
    tokens, width = 8 * 16 * 16, 1024
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    patches = tokens * 2 * 16 * 16 * 3 * width
    query = tokens * 2 * width**2 + 2 * tokens * width + 9 * width**2
    assert found == patches + (24 + 3) * block + query + 174 * width


# --- the small one ----------------------------------------------------------------------------------

VIDEO = np.random.default_rng(0).standard_normal((2, 4, 16, 24, 3), dtype=np.float32)


def small(**fields):
    return vjepa2.build(5, **({"variant": "test"} | fields))


@functools.cache
def noisy():
    """Variables in which nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(0)

    def draw(x):
        scale = 0.5 if len(x.shape) == 1 else 2 / math.sqrt(math.prod(x.shape[:-1]))
        return scale * rng.standard_normal(x.shape, dtype=np.float32)

    return {"params": jax.tree.map(draw, shapes(small(), {"video": VIDEO}))}


@functools.cache
def compiled(model):
    return jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICKLY)


def run(model, variables, video=VIDEO):
    return compiled(model)(variables, {"video": video})


def test_outputs_and_16_bit_computation():
    exact = run(small(), noisy())
    found = {name: (x.shape, x.dtype.name) for name, x in exact.items()}
    assert found == {
        "logits": ((2, 5), "float32"),
        "features": ((2, 48), "float32"),
        "tokens": ((2, 2 * 2 * 3, 48), "float32"),
    }
    half = run(small(dtype=jnp.bfloat16), noisy())
    assert half["tokens"].dtype == jnp.bfloat16 and half["logits"].dtype == jnp.float32
    np.testing.assert_allclose(half["tokens"], exact["tokens"], atol=0.1)


def test_one_set_of_weights_takes_any_clip():
    for shape in ((1, 2, 8, 8, 3), (1, 10, 32, 16, 3)):
        video = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
        outputs = run(small(), noisy(), video)
        assert outputs["tokens"].shape == (1, math.prod(shape[1:4]) // (2 * 8 * 8), 48)
        assert np.isfinite(outputs["logits"]).all()


def test_places_matter_along_every_axis():
    """The pooler's query sees a set of tokens: what tells places apart are the encoder's rotations."""
    logits = run(small(), noisy())["logits"]
    for axis, patch in ((1, 2), (2, 8), (3, 8)):
        parts = np.split(VIDEO, VIDEO.shape[axis] // patch, axis)
        swapped = np.concatenate([parts[1], parts[0], *parts[2:]], axis)
        assert np.abs(run(small(), noisy(), swapped)["logits"] - logits).max() > 1e-2, axis


@pytest.mark.slow
def test_layers_in_one_loop_are_the_same_function():
    variables, expected = noisy(), run(small(), noisy())["logits"]
    for fields in ({"scan_layers": True}, {"scan_layers": True, "remat": True}, {"remat": True}):
        given = stack_layers(variables) if fields.get("scan_layers") else variables
        model = small(**fields)
        assert jax.tree.map(jnp.shape, given["params"]) == jax.tree.map(
            jnp.shape, shapes(model, {"video": VIDEO})
        )
        np.testing.assert_allclose(run(model, given)["logits"], expected, atol=1e-5)


def gradient(model, variables, key=None):
    rngs = None if key is None else {"dropout": key}

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def of(variables):
        def loss(variables):
            outputs = model.apply(variables, {"video": VIDEO}, train=True, rngs=rngs)
            return jnp.sum(outputs["logits"] ** 2)

        return jax.grad(loss)(variables)

    return of(variables)["params"]


@functools.cache
def plain_gradient():
    return gradient(small(), noisy())


@pytest.mark.slow
def test_a_scanned_encoder_has_the_same_gradient():
    plain = plain_gradient()
    looped = gradient(small(scan_layers=True, remat=True), stack_layers(noisy()))
    for a, b in zip(
        jax.tree.leaves(stack_layers(plain)), jax.tree.leaves(dict(looped)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4 * (float(np.abs(a).max()) + 1))


def test_a_frozen_encoder_gets_no_gradient_no_dropping_and_no_step():
    model = small(freeze_encoder=True, drop_path_rate=0.9)
    assert small().frozen_paths == ()
    grads = gradient(model, noisy(), jax.random.key(0))
    assert not any(np.any(g) for g in jax.tree.leaves(grads["encoder"]))
    assert all(np.any(g) for g in jax.tree.leaves({k: grads[k] for k in ("pooler", "head")}))
    # What learns has the gradient that it has beside an encoder that learns.
    whole = plain_gradient()
    for name in ("pooler", "head"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=1e-3), grads[name], whole[name]
        )
    params = noisy()["params"]
    tx = make_optimizer(weight_decay=0.5, frozen=model.frozen_paths)
    stepped = optax.apply_updates(params, tx.update(grads, tx.init(params), params)[0])
    still = {p for p, x in flatten(stepped).items() if np.array_equal(x, flatten(params)[p])}
    assert still == {p for p in flatten(params) if p.startswith("encoder/")}


def test_rates_that_decay_leave_the_pooler_with_the_head():
    scales = flatten(layer_scales(noisy()["params"], 0.5))
    assert {float(x) for p, x in scales.items() if p.startswith(("pooler/", "head/"))} == {1.0}
    assert float(scales["encoder/block_0/mlp/fc1/kernel"]) == 0.25
    assert float(scales["encoder/patch_embed/kernel"]) == 0.125


@pytest.mark.slow
def test_the_start_is_the_references():
    model = small(width=96, num_heads=4)
    init = jax.jit(functools.partial(model.init, train=False), compiler_options=QUICKLY)
    params = init(jax.random.key(0), {"video": VIDEO})["params"]
    block = params["encoder"]["block_1"]
    kernels = [block["attention"]["out"]["kernel"], block["mlp"]["fc2"]["kernel"]]
    kernels += [params["encoder"]["patch_embed"]["kernel"], params["head"]["kernel"]]
    for kernel in kernels:
        assert float(kernel.std()) == pytest.approx(0.02, rel=0.15)
    assert not any(np.any(x) for p, x in flatten(params).items() if p.endswith("/bias"))


@pytest.mark.slow
def test_dropout_and_stochastic_depth_are_of_training_only():
    plain = run(small(), noisy())["logits"]
    for fields in ({"head_dropout": 0.3}, {"drop_path_rate": 0.5}):
        model = small(**fields)

        @functools.partial(jax.jit, compiler_options=QUICKLY)
        def train(key, model=model):
            rngs = {"dropout": key}
            return model.apply(noisy(), {"video": VIDEO}, train=True, rngs=rngs)["logits"]

        trained = [train(jax.random.key(i)) for i in (0, 1)]
        assert (trained[0] != trained[1]).any(), fields
        np.testing.assert_allclose(run(model, noisy())["logits"], plain, atol=1e-6)


def test_options_do_something():
    expected = run(small(), noisy())
    other = run(small(norm_eps=1.0), noisy())
    for part in ("tokens", "features"):
        assert np.abs(other[part] - expected[part]).max() > 1e-2, part
    without = shapes(small(qkv_bias="none"), {"video": VIDEO})["encoder"]["block_0"]["attention"]
    assert all("bias" not in without[name] for name in ("query", "key", "value"))
    deeper = shapes(small(pooler_depth=3, pooler_mlp_ratio=1.0), {"video": VIDEO})["pooler"]
    assert "layer_2" in deeper and deeper["layer_2"]["mlp"]["fc1"]["kernel"].shape == (48, 48)


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 3, 32, 32, 3), r"\(3, 32, 32\), expected multiples of the patch \(2, 8, 8\)"),
        ((1, 4, 30, 32, 3), r"\(4, 30, 32\), expected multiples of the patch \(2, 8, 8\)"),
        ((1, 4, 32, 32, 1), "1 channels in the last axis, expected 3"),
        ((4, 32, 32, 3), r"shape \(4, 32, 32, 3\), expected \(N, T, H, W, C\)"),
    ],
)
def test_videos_that_do_not_fit(shape, words):
    with pytest.raises(ValueError, match=words):
        shapes(small(), {"video": jnp.zeros(shape)})


def test_heads_that_do_not_fit():
    for fields, words in (
        ({"num_heads": 12}, "heads of an even size from 6, got 4"),
        ({"num_heads": 7}, "width 48 is not a multiple of num_heads=7"),
    ):
        with pytest.raises(ValueError, match=words):
            shapes(small(**fields), {"video": VIDEO})


def test_unknown_variants():
    with pytest.raises(UnknownNameError, match="'vjepa2' has no variant 'B'"):
        vjepa2.build(2, variant="B")
