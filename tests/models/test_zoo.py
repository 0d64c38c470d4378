"""What every file of models/ must keep: found by listing the folder, so a new model is tested too."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvid import model_tree
from jaxvid.core import lookup

NAMES = lookup.names("model")
PRETRAINING = {"videomae_pretrain"}
CLASSIFIERS = [name for name in NAMES if name not in PRETRAINING]
# These see frames, or the set of them, but not their order.
ORDER_BLIND = {"resnet", "vit", "single_frame", "late_fusion", "c2d", "feature_head"}
# No gradient by construction: the class token comes first and is all that is read of the last block,
# where the forward scan has no earlier state to let decay.
UNREACHED = {"videomamba": {"['encoder']['block_2']['mixer']['forward']['A_log']"}}
# Compiled for longer than all others; their blocks have tests of their own.
LONG = {"mvit", "avslowfast", "x3d", "uniformer", "xclip", "two_stream_i3d", "csn", "slowfast"}
LONG |= {"i3d", "s3d", "hiera", "i3d_resnet"}
LONG_STEPS = LONG | {"r2plus1d", "audio_visual", "timesformer", "clip_pooling", "c2d", "c3d"}
LONG_STEPS |= {"mc3", "r3d", "vjepa2", "videomamba", "two_stream", "resnet", "video_swin", "slow"}
LONG_STEPS |= {"cnn_lstm", "early_fusion", "late_fusion"}


def cases():
    """Every variant of every model; in each run of the tests the smallest and the default one."""
    for name in NAMES:
        module = lookup.module("model", name)
        default = inspect.signature(module.build).parameters["variant"].default
        for variant in module.VARIANTS:
            often = variant in ("test", default)
            yield pytest.param(name, variant, marks=[] if often else pytest.mark.slow)


def long_ones_slow(names, long):
    """Parameters for `names`, those of `long` left to slow runs."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in long)) for n in names]


def zeros(inputs):
    return {name: jnp.zeros(x.shape, x.dtype) for name, x in inputs.items()}


def compiled(function, *args):
    """What is compiled runs once or twice here: quickly made is better than quick."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*args).compile(compiler_options=options)


@functools.cache
def ready(name):
    """(model, variables, inputs of two clips, jitted forward pass) of the test variant."""
    module = lookup.module("model", name)
    model = module.build(5, variant="test")
    rng = np.random.default_rng(0)
    inputs = {
        key: rng.normal(size=(2, *x.shape[1:])).astype(np.float32)
        for key, x in module.example_inputs("test").items()
    }
    init = functools.partial(model.init, train=False)
    variables = compiled(init, jax.random.key(0), inputs)(jax.random.key(0), inputs)
    # Zero-initialised branches would hide what is in them.
    leaves, tree = jax.tree.flatten(variables["params"])
    noisy = [x + 0.05 * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    variables = {**variables, "params": jax.tree.unflatten(tree, noisy)}
    forward = compiled(lambda inputs: model.apply(variables, inputs, train=False), inputs)
    return model, variables, inputs, forward


@pytest.mark.parametrize("name, variant", list(cases()), ids=lambda x: x)
def test_every_variant_is_built_from_its_own_input(name, variant):
    module = lookup.module("model", name)
    assert "test" in module.VARIANTS
    model = module.build(7, variant=variant)
    assert type(model) is module.MODULE and model_tree.model_name(model) == name
    inputs = module.example_inputs(variant)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), inputs)
    assert set(variables) <= {"params", "batch_stats"}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    if name in PRETRAINING:
        return
    half = model.clone(dtype=jnp.bfloat16)
    for each in (model, half):
        outputs = jax.eval_shape(functools.partial(each.apply, train=False), variables, inputs)
        assert outputs["logits"].shape == (1, 7) and outputs["logits"].dtype == jnp.float32
        assert outputs["features"].ndim == 2 and outputs["features"].dtype == jnp.float32


@pytest.mark.parametrize("name", long_ones_slow(CLASSIFIERS, LONG_STEPS))
def test_a_step_reaches_every_parameter(name):
    model, variables, inputs, _ = ready(name)
    stats = {k: v for k, v in variables.items() if k != "params"}

    def step(params):
        def loss(params):
            outputs, changed = model.apply(
                {"params": params, **stats},
                inputs,
                train=True,
                rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats"],
            )
            return jnp.sum(jnp.square(outputs["logits"] - 1.0)), changed

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, changed), grads = compiled(step, variables["params"])(variables["params"])
    assert np.isfinite(value)
    flat = jax.tree_util.tree_leaves_with_path(grads)
    assert all(np.isfinite(g).all() for _, g in flat)
    still = [jax.tree_util.keystr(path) for path, g in flat if not np.any(g)]
    assert set(still) == UNREACHED.get(name, set()), f"no gradient: {still}"
    if "batch_stats" in variables:
        pairs = zip(
            jax.tree.leaves(changed["batch_stats"]),
            jax.tree.leaves(variables["batch_stats"]),
            strict=True,
        )
        assert all(np.any(a != b) for a, b in pairs)
        assert hasattr(model, "bn_momentum") and hasattr(model, "frozen_bn")


@pytest.mark.parametrize("name", long_ones_slow(CLASSIFIERS, LONG))
def test_a_clips_logits_do_not_depend_on_its_neighbour(name):
    _, _, inputs, forward = ready(name)
    other = {key: np.stack([x[0], x[1][::-1]]) for key, x in inputs.items()}
    np.testing.assert_allclose(forward(inputs)["logits"][0], forward(other)["logits"][0], atol=1e-5)


@pytest.mark.parametrize("name", long_ones_slow(CLASSIFIERS, LONG))
def test_the_order_of_frames_matters_to_those_that_see_it(name):
    _, _, inputs, forward = ready(name)
    backwards = {key: x[:, ::-1].copy() for key, x in inputs.items()}
    logits, reversed_logits = (np.asarray(forward(x)["logits"]) for x in (inputs, backwards))
    difference = np.abs(logits - reversed_logits).max() / np.abs(logits).max()
    if name in ORDER_BLIND:
        assert difference < 1e-5
    else:
        assert difference > 1e-3, f"reversing the clip changes the logits by {difference:.1e} only"


# A course's table of models on RWF-2000, 16 frames, 2 classes, where its text determines the model.
COURSE = {
    ("single_frame", "18"): 11.5,
    ("late_fusion", "18"): 11.5,
    ("early_fusion", "18"): 11.6,
    ("cnn_lstm", "18"): 15.3,
    ("s3d", "S3D-G"): 9.1,
    ("videomae", "B"): 86.2,
}


@pytest.mark.parametrize("case, millions", COURSE.items(), ids=lambda x: str(x))
def test_the_parameters_of_the_courses_table(case, millions):
    module = lookup.module("model", case[0])
    model = module.build(2, variant=case[1])
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), module.example_inputs(case[1]))["params"]
    assert round(sum(x.size for x in jax.tree.leaves(shapes)) / 1e6, 1) == millions
