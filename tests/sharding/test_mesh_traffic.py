"""What a step sends between devices that divide its weights: weights and their gradients.

A weight is gathered once where it is used (and again for its gradient where layers are a loop), a
gradient is summed once, which sends twice as much. Activations sent instead of weights show, since
clips are so many that they are larger than the weights of a layer.
"""

import jax
import pytest
from sharded_steps import CLASSES, QUICKLY_MADE, batch_of, config_of, mesh_of, training

from jaxvid import build, run_eval
from jaxvid.metrics.collectives import traffic
from jaxvid.sharding.mesh import batch_sharding

DEVICES = 8
REST = 0.05  # of the weights' bytes: statistics of batches, sums, what a head's few rows are
CLIPS = 16
WIDE = {"width": 256, "num_heads": 4}
# Fields of the test variants: wide enough that the compiler would move activations where it may.
QUICK = {"video_swin": {"depths": (2,), "num_heads": (2,)}}
SLOW = {
    "audio_visual": {"width": 256},
    "videomae_pretrain": {},
    "vivit": WIDE | {"scan_layers": True},
    "timesformer": WIDE | {"depth": 2},
    "xclip": {},
    "mvit": {"width": 128, "depth": 2, "stage_starts": (1,)},
    "uniformer": {"widths": (64, 128, 192, 256), "head_dim": 64},
    "r2plus1d": {},
    "slowfast": {},
}
CASES = [pytest.param(name, fields, id=name) for name, fields in QUICK.items()]
CASES += [
    pytest.param(name, fields, id=name, marks=pytest.mark.slow) for name, fields in SLOW.items()
]


@pytest.mark.parametrize("name, fields", CASES)
def test_weights_are_sent_and_no_activations(name, fields):
    c = config_of(name, **fields)
    trained, mesh = training(c), mesh_of(1, DEVICES, 1)
    step = trained.compiled(mesh, batch_of(c, CLIPS), **QUICKLY_MADE)
    sent = {kind: x.bytes for kind, x in traffic(step.as_text(), DEVICES).items()}
    params = trained.abstract(mesh).params
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    once = weights * (DEVICES - 1) / DEVICES
    gathers = 2 if fields.get("scan_layers") else 1
    assert sent.pop("all-gather") <= gathers * once + REST * weights
    assert sent.pop("all-reduce") <= 2 * once + REST * weights
    assert sum(sent.values()) <= REST * weights, sent


def test_an_evaluation_gathers_weights_and_no_activations():
    c = config_of("videomae", **WIDE, scan_layers=True)
    task, mesh = build.task(c, CLASSES), mesh_of(1, DEVICES, 1)
    variables = training(c).abstract(mesh).eval_variables()
    batch = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh))
        for name, x in batch_of(c, CLIPS).items()
    }
    step = run_eval.jitted(task.evaluate_step, mesh).lower(variables, batch)
    compiled = step.compile(compiler_options=QUICKLY_MADE)
    sent = {kind: x.bytes for kind, x in traffic(compiled.as_text(), DEVICES).items()}
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(variables["params"]))
    assert sent.pop("all-gather") <= weights * (DEVICES - 1) / DEVICES + REST * weights
    assert sum(sent.values()) <= REST * weights, sent
