"""Whole training steps of `test` variants on any mesh, put together as run_train.py does it."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvid import build, config
from jaxvid.core import lookup
from jaxvid.core.batch import AUDIO, LABEL, MASK, ROW, VIDEO
from jaxvid.sharding.mesh import batch_sharding, make_mesh, replicated
from jaxvid.sharding.rules import TRANSFORMER_RULES
from jaxvid.train import state as train_state

CLASSES = 4
QUICKLY_MADE = {"xla_backend_optimization_level": 0}


def mesh_of(data: int, fsdp: int, tensor: int) -> Mesh:
    """Over the first devices of the eight."""
    return make_mesh(fsdp=fsdp, tensor=tensor, devices=jax.devices()[: data * fsdp * tensor])


def config_of(name: str, **overrides) -> ConfigDict:
    """Of a model's test variant, with AdamW and a moving average; overrides: of the model's fields."""
    c = config.default()
    example = lookup.module("model", name).example_inputs("test")
    c.model.name, c.model.variant, c.model.dtype = name, "test", "float32"
    c.model.overrides.update(overrides)
    c.data.num_frames, c.data.size = example[VIDEO].shape[1:3]
    if AUDIO in example:
        c.data.audio = "log_mel"
        c.data.audio_frames, c.data.audio_mels = example[AUDIO].shape[1:]
    if name == "videomae_pretrain":
        c.objective.name, c.objective.mask_ratio = "mae", 0.75
    c.optim.schedule, c.optim.learning_rate, c.optim.ema_decay = "constant", 1e-3, 0.9
    return c


def batch_of(c: ConfigDict, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random clips of random classes, as the pipeline gives them; the last row is padding."""
    rng = np.random.default_rng(seed)
    clip = (c.data.num_frames, c.data.size, c.data.size, 3)
    batch = {
        VIDEO: rng.integers(0, 256, (size, 1, *clip), np.uint8),
        LABEL: rng.integers(0, CLASSES, (size, 1)).astype(np.int32),
        MASK: np.arange(size) < size - 1,
        ROW: np.arange(size, dtype=np.int32),
    }
    if c.data.audio != "none":
        shape = (size, 1, c.data.audio_frames, c.data.audio_mels)
        batch[AUDIO] = rng.normal(size=shape).astype(np.float32)
    return batch


@dataclasses.dataclass(frozen=True)
class Training:
    """init: rng -> TrainState. step: mesh -> the training step, before jit. noise: the seed of what
    the start has on its parameters."""

    init: Callable
    step: Callable
    noise: int = 1

    def abstract(self, mesh: Mesh) -> train_state.TrainState:
        """Shapes of a state, divided by the rules."""
        return train_state.abstract(self.init, mesh, TRANSFORMER_RULES)

    @functools.cached_property
    def start(self) -> train_state.TrainState:
        """The state of seed 0 on the host, with noise on all parameters: those that start at zero
        would hide what stands before them."""
        lowered = jax.jit(self.init).lower(jax.random.key(0))
        state = lowered.compile(compiler_options=QUICKLY_MADE)(jax.random.key(0))
        rng = np.random.default_rng(self.noise)
        params = jax.tree.map(
            lambda x: np.asarray(x) + 0.02 * rng.normal(size=x.shape).astype(np.float32),
            state.params,
        )
        ema = train_state.averaged(params, state.batch_stats) if state.ema else {}
        return jax.device_get(state.replace(params=params, ema=ema))

    def compiled(self, mesh: Mesh, batch, **options):
        """The step for arrays or shapes of a batch; options: of the compiler."""
        state, divided = self.abstract(mesh), batch_sharding(mesh)
        batch = {
            k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=divided) for k, x in batch.items()
        }
        shardings = jax.tree.map(lambda x: x.sharding, state)
        jitted = jax.jit(
            self.step(mesh), out_shardings=(shardings, replicated(mesh)), donate_argnums=0
        )
        return jitted.lower(state, batch).compile(compiler_options=options or None)

    def run(self, compiled, mesh: Mesh, batches):
        """-> (the state after a step for each batch, their losses)."""
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract(mesh))
        state, losses = jax.device_put(self.start, shardings), []
        for batch in batches:
            state, sums = compiled(state, jax.device_put(batch, batch_sharding(mesh)))
            jax.block_until_ready(state)
            total, weight = sums["loss"]
            assert float(sums["nonfinite"][0]) == 0
            losses.append(float(total) / float(weight))
        return state, losses


def training(c: ConfigDict, noise: int = 1) -> Training:
    """What a config trains; noise: see `Training`."""
    task = build.task(c, CLASSES)
    tx, schedule = build.optimiser(c, task.model, 5, 0)

    def step(mesh: Mesh):
        return build.train_step(c, task, tx, schedule, mesh)

    return Training(train_state.make_init(task.init, tx, ema=c.optim.ema_decay > 0), step, noise)


def bytes_a_device(tree) -> int:
    """Of the shards of a tree of arrays or shapes that one device holds."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )
