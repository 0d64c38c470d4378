"""How each parameter is divided over the mesh, by its path; optimiser state follows its parameter.

A rule is (pattern, axes): the pattern is searched in the "/"-joined path, `axes` names a mesh axis (or
None) for each of the last len(axes) dimensions; leading ones (a scanned layer axis) stay whole. An
axis that does not divide its dimension is dropped. What no rule matches, and what a rule could not
divide over fsdp, is divided along its largest divisible dimension, if it is large enough to matter.
"""

import re
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Rule = tuple[str, tuple[str | None, ...]]

# Megatron's division of a transformer block: columns of the first product, rows of the second.
TRANSFORMER_RULES: tuple[Rule, ...] = (
    (r"attention/(query|key|value)/kernel$", ("fsdp", "tensor", None)),
    (r"attention/(query|key|value)/bias$", ("tensor", None)),
    (r"attention/out/kernel$", ("tensor", None, "fsdp")),
    (r"mlp/fc1/kernel$", ("fsdp", "tensor")),
    (r"mlp/fc1/bias$", ("tensor",)),
    (r"mlp/fc2/kernel$", ("tensor", "fsdp")),
)
MIN_ELEMENTS_TO_DIVIDE = 2**12  # below this a gather costs more than the memory it saves


def partition_spec(
    path: str, shape: Sequence[int], mesh: Mesh, rules: Sequence[Rule] = TRANSFORMER_RULES
) -> PartitionSpec:
    """The PartitionSpec of one array."""
    axes: list[str | None] = [None] * len(shape)
    for pattern, wanted in rules:
        if re.search(pattern, path) and len(wanted) <= len(shape):
            axes[len(shape) - len(wanted) :] = wanted
            break
    axes = [
        axis if axis and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, shape, strict=True)
    ]
    size = 1
    for dimension in shape:
        size *= dimension
    fsdp = mesh.shape["fsdp"]
    if fsdp > 1 and "fsdp" not in axes and size >= MIN_ELEMENTS_TO_DIVIDE:
        free = [i for i, n in enumerate(shape) if axes[i] is None and n % fsdp == 0]
        if free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)


def path_name(path) -> str:
    """jax's key path as "/"-joined text: state fields, dict keys and tuple indices alike."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def tree_shardings(tree, mesh: Mesh, rules: Sequence[Rule] = TRANSFORMER_RULES):
    """A NamedSharding for each leaf of a tree of arrays or ShapeDtypeStructs (a TrainState, say)."""

    def one(path, leaf):
        return NamedSharding(mesh, partition_spec(path_name(path), leaf.shape, mesh, rules))

    return jax.tree_util.tree_map_with_path(one, tree)
