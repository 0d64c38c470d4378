"""Comparing a model with a golden fixture, and a table with the manifest of a published checkpoint."""

import gzip
import json
from pathlib import Path

import jax
import numpy as np
import recipe

import jaxvid
from jaxvid import model_tree
from jaxvid.convert import apply, reading, writing
from jaxvid.core import lookup

HERE = Path(__file__).parent


def facts(name):
    return json.loads((HERE / f"{name}.json").read_text())


def stored(name):
    return np.load(HERE / f"{name}.npz")


def weights(name):
    """{key: array} by the rule of the fixtures."""
    told = facts(name)
    made = {}
    for key, shape, _, kind in told["state_dict"]:
        if kind.startswith("alias of "):
            made[key] = made[kind.removeprefix("alias of ")]
        elif kind != "buffer":
            made[key] = recipe.tensor(key, shape, told["gain"], flax=name.startswith("scenic"))
    return made


def drawn(name):
    """The input in the reference's layout, (B, C, T, H, W) or (B, C, H, W) or (B, L, D)."""
    told = facts(name)["input"]
    return recipe.video(told["seed"], told["shape"])


def clip(name):
    """The input as the models take it: (B, T, H, W, C)."""
    x = drawn(name)
    return x.transpose(0, 2, 3, 4, 1) if x.ndim == 5 else x.transpose(0, 2, 3, 1)[:, None]


def check_golden(name, arch, probes=None):
    """Logits and probes within the fixture's own tolerance.

    probes: {module of the reference: (module of ours, function of its output that gives the
    reference's layout, or None for channels first)}. Returns the largest error of the logits.
    """
    told, z = facts(name), stored(name)
    model, variables, _ = jaxvid.from_state_dict(weights(name), arch=arch, config=told["config"])

    @jax.jit
    def run(variables, video):
        return model.apply(
            variables,
            {"video": video},
            train=False,
            capture_intermediates=True,
            mutable=["intermediates"],
        )

    outputs, kept = run(variables, clip(name))
    atol = told["checks"]["suggested_atol"]
    for theirs, ours in (probes or {}).items():
        ours, layout = ours if isinstance(ours, tuple) else (ours, None)
        node = kept["intermediates"]
        for part in ours.split("/"):
            node = node[part]
        got = np.asarray(node["__call__"][0])
        got = layout(got) if layout else np.moveaxis(got, -1, 1)
        probe, want = told["probes"][theirs], z[f"probe.{theirs}"].ravel()
        assert list(got.shape) == list(probe["shape"]), (theirs, got.shape, probe["shape"])
        # Inner values are larger than the logits the tolerance was made for.
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(
            got.ravel()[:: probe["stride"]], want, atol=atol * scale, err_msg=theirs
        )
    np.testing.assert_allclose(outputs["logits"], z["logits"], atol=atol)
    return float(np.abs(np.asarray(outputs["logits"]) - z["logits"]).max())


def check_manifest(name, arch, config, waived="num_batches"):
    """Every key used or waived, every leaf filled, the count of parameters, and back to the same keys.

    waived: what stands in the names of keys that may be left aside.
    """
    listing = json.loads(gzip.decompress((HERE / "manifests" / f"{name}.json.gz").read_bytes()))
    rows = [row if len(row) == 4 else [*row, "float32", "param"] for row in listing["state_dict"]]
    state = {
        key: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for key, shape, dtype, _ in rows
    }
    checkpoint = reading.from_state(state, arch, config)
    model = lookup.module("model", checkpoint.model).MODULE(**checkpoint.arguments)
    shapes = apply.flatten_variables(model_tree.variable_shapes(model, checkpoint.clip))
    filled, report = apply.load(checkpoint.state, shapes, checkpoint.entries)
    assert filled.keys() == shapes.keys() and not report.fresh
    assert report.used.keys() | report.waived.keys() == state.keys()
    aliases = [key for key, why in report.waived.items() if why.startswith("the same tensor as ")]
    assert all(waived in key for key in report.waived if key not in aliases), report.waived
    params = {path: x for path, x in filled.items() if not path.startswith("batch_stats/")}
    assert sum(int(np.prod(x.shape)) for x in params.values()) == listing["param_count"]
    written = writing.to_state(
        checkpoint.model, checkpoint.arguments, filled, arch, checkpoint.clip
    )
    assert {k: tuple(x.shape) for k, x in written.state.items()} == {
        k: x.shape for k, x in state.items()
    }
