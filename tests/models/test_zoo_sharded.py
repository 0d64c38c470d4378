"""Every model on a mesh of data, fsdp and tensor: what is divided, and that numbers stay the same."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxvid.core import lookup
from jaxvid.core.tree import flatten
from jaxvid.sharding.mesh import make_mesh
from jaxvid.sharding.rules import MIN_ELEMENTS_TO_DIVIDE, partition_spec, tree_shardings

NAMES = lookup.names("model")
# Of what is above MIN_ELEMENTS_TO_DIVIDE, these have no axis that two devices divide.
WHOLE = {
    "r2plus1d": {"backbone/stem/conv/spatial/kernel"},  # (1, 7, 7, 3, 45)
    "video_swin": {  # (15, 13, 13, 3)
        f"encoder/stage_1/block_{i}/attention/relative_position_bias" for i in range(2)
    },
}
# Kernels of attention and its layers after, with the axis of theirs that the mesh's "tensor" divides.
DIVIDED_BY_TENSOR = {
    r"attention/(query|key|value)/kernel$": -2,  # heads
    r"attention/out/kernel$": -3,
    r"mlp/fc1/kernel$": -1,
    r"mlp/fc2/kernel$": -2,
}
# One of each kind of block; batch normalisation must see the whole batch.
STEPPED = ["videomae", "xclip"]
LONG = ("timesformer", "r2plus1d", "cnn_mamba", "mvit", "video_swin")
STEPPED += [pytest.param(name, marks=pytest.mark.slow) for name in LONG]


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=2, tensor=2)


def shapes_of(name):
    module = lookup.module("model", name)
    model = module.build(400)
    init = functools.partial(model.init, train=False)
    return flatten(jax.eval_shape(init, jax.random.key(0), module.example_inputs())["params"])


@pytest.mark.parametrize("name", NAMES)
def test_large_parameters_are_divided(name, mesh):
    whole = set()
    for path, x in shapes_of(name).items():
        spec = partition_spec(path, x.shape, mesh)
        if not any(spec) and math.prod(x.shape) >= MIN_ELEMENTS_TO_DIVIDE:
            whole.add(path)
        axes = [axis for pattern, axis in DIVIDED_BY_TENSOR.items() if re.search(pattern, path)]
        if axes and x.shape[axes[0]] % 2 == 0:
            assert "tensor" in spec, f"{path} {x.shape}: {spec}"
    assert whole == WHOLE.get(name, set())


@pytest.mark.parametrize("name", STEPPED)
def test_a_step_equals_that_of_one_device(name, mesh):
    module = lookup.module("model", name)
    model = module.build(4, variant="test")
    if hasattr(model, "head_dropout"):
        model = model.clone(head_dropout=0.0)
    rng = np.random.default_rng(0)
    inputs = {
        key: rng.normal(size=(8, *x.shape[1:])).astype(np.float32)
        for key, x in module.example_inputs("test").items()
    }
    init = functools.partial(model.init, train=False)
    variables = jax.jit(init)(jax.random.key(0), {k: x[:1] for k, x in inputs.items()})
    noisy = [
        x + 0.02 * rng.normal(size=x.shape).astype(np.float32)
        for x in jax.tree.leaves(variables["params"])
    ]
    variables["params"] = jax.tree.unflatten(jax.tree.structure(variables["params"]), noisy)
    labels = rng.integers(0, 4, 8)

    def step(variables, inputs, labels):
        rest = {k: v for k, v in variables.items() if k != "params"}

        def loss(params):
            outputs, changed = model.apply(
                {"params": params, **rest}, inputs, train=True, mutable=["batch_stats"]
            )
            chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs["logits"]), labels[:, None], 1)
            return -jnp.mean(chosen), changed

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    def run(*args):
        options = {"xla_backend_optimization_level": 0}  # quickly made
        return jax.jit(step).lower(*args).compile(compiler_options=options)(*args)

    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    divided = jax.device_put(variables, tree_shardings(variables, mesh))
    got = run(divided, jax.device_put(inputs, rows), jax.device_put(labels, rows))
    expected = run(variables, inputs, labels)
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(divided))
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        scale = max(float(np.abs(other).max()), 1e-3)
        np.testing.assert_allclose(
            one, other, atol=2e-4 * scale, err_msg=jax.tree_util.keystr(path)
        )
