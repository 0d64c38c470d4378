"""`--mode compile`: the training step of a recipe, compiled ahead of time and never run, for the
devices that are here or for a TPU slice that is not."""

import dataclasses
import importlib.metadata
import json
import logging
import math
import signal
from collections.abc import Callable

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvid import build, build_data
from jaxvid.compile.estimate import estimate
from jaxvid.compile.program import Program, TooLarge, compile_program, memory_limit
from jaxvid.compile.report import Report
from jaxvid.compile.search import largest
from jaxvid.core.apart import ProcessDied, run_apart
from jaxvid.core.batch import FEATURES, VIDEO
from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.metrics.chips import Chip, chip_of
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.sharding.hosts import is_main
from jaxvid.sharding.mesh import (
    batch_sharding,
    batch_shards,
    check_batch_size,
    make_mesh,
    replicated,
)
from jaxvid.sharding.rules import TRANSFORMER_RULES
from jaxvid.sharding.topology import absent_devices, devices_per_chip
from jaxvid.train import state as train_state
from jaxvid.train.cost import make_forward, useful_flops
from jaxvid.train.workdir import start_logging

log = logging.getLogger("jaxvid")

ASSUMED_CLASSES = 400
MOST_CLIPS = 4096  # of a device, in the search for the largest batch


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step as shapes: nothing of it lies in memory."""

    mesh: Mesh
    platform: str | None  # to compile for; None: that of the mesh's devices, which are here
    function: Callable  # (state, batch) -> (state, sums)
    forward: Callable  # (state, batch) -> outputs
    state: train_state.TrainState
    clip: dict[str, jax.ShapeDtypeStruct]  # one example of a batch, unbatched
    partly_frozen: bool  # some parameters do not learn

    def batch(self, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        sharding = batch_sharding(self.mesh)
        return {
            name: jax.ShapeDtypeStruct((size, *x.shape), x.dtype, sharding=sharding)
            for name, x in self.clip.items()
        }

    def compile(self, size: int) -> Program | TooLarge:
        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        jitted = jax.jit(
            self.function, out_shardings=(shardings, replicated(self.mesh)), donate_argnums=0
        )
        traced = jitted.trace(self.state, self.batch(size))
        return compile_program(traced, self.mesh.size, self.platform)

    def flops(self, size: int) -> tuple[int, int]:
        """Of all devices: in the products of a step, and the useful ones of them (train/cost.py)."""
        batch = self.batch(size)
        done = multiply_adds(self.function, self.state, batch)
        partly = self.function if self.partly_frozen else None
        return 2 * done, useful_flops(self.forward, self.state, batch, partly)

    def bytes_a_device(self, size: int) -> int:
        """Of a batch."""
        clip = sum(math.prod(x.shape) * x.dtype.itemsize for x in self.clip.values())
        return clip * size // batch_shards(self.mesh)


def compile_ahead(c: ConfigDict, recipe: str, *, as_json: bool) -> int:
    """Compiles, prints a table or JSON. Returns the exit code: 0, or 1 where it does not fit.

    For an absent slice it all happens in a process of its own: a fault of libtpu ends that one.
    Call it before jax touches a device. Raises ConfigError for what cannot be built.
    """
    made = _apart(c, recipe) if c.compile.topology else _uncached(c, recipe)
    if c.compile.topology or is_main():  # the second takes hold of the devices that are here
        print(json.dumps(made.plain(), indent=2) if as_json else made.table())
    return 0 if made.fits else 1


def _apart(c: ConfigDict, recipe: str) -> Report:
    try:
        return run_apart(_alone, c.copy_and_resolve_references(), recipe)
    except ProcessDied as death:
        if death.code == -signal.SIGKILL:
            why = (
                "this machine's memory has run out, it seems: compile on one that has more, or try"
            )
        else:
            why = f"a fault of the TPU's compiler, {_libtpu()}, not of the recipe: try"
        raise ConfigError(
            f"the process that compiled {c.model.name} {c.model.variant} for compile.topology="
            f"{c.compile.topology!r} died of {death.cause}; {why} another model.variant or data.size, "
            "another version of libtpu (pip install libtpu==…), or devices that are here (without "
            "compile.topology)"
        ) from death


def _libtpu() -> str:
    try:
        return f"libtpu {importlib.metadata.version('libtpu')}"
    except importlib.metadata.PackageNotFoundError:  # that of a machine with TPUs has other names
        return "libtpu"


def _alone(c: ConfigDict, recipe: str) -> Report:
    start_logging(None, main=True)
    return _uncached(c, recipe)


def _uncached(c: ConfigDict, recipe: str) -> Report:
    cache = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)  # a program from there tells less
    try:
        return report(c, recipe)
    finally:
        jax.config.update("jax_enable_compilation_cache", cache)


def report(c: ConfigDict, recipe: str) -> Report:
    """What compiling the step of a config finds out."""
    devices = absent_devices(c.compile.topology) if c.compile.topology else jax.devices()
    c = c.copy_and_resolve_references()  # it is completed below
    if c.compile.topology and c.model.dtype == "auto":
        c.model.dtype = "bfloat16"  # "auto" looks at the devices that are here
    assumptions: list[str] = []
    mesh = _mesh(c, devices)
    step = _step(c, mesh, assumptions)
    size = c.data.batch_size
    log.info("compiling for %d × %s …", mesh.size, devices[0].device_kind)
    program = step.compile(size)
    chip = chip_of(devices[0].device_kind)
    chip = chip and chip.share(devices_per_chip(devices))
    done, useful = step.flops(size)
    time = None
    if isinstance(program, Program) and chip:
        shares = {"done_flops": done / mesh.size, "useful_flops": useful / mesh.size}
        time = estimate(program, chip, **shares)
    made = Report(
        recipe=recipe,
        model=f"{c.model.name} {c.model.variant}",
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(step.state.params)),
        dtype=str(build.compute_dtype(c)),
        device=chip.name if chip else devices[0].device_kind,
        devices=mesh.size,
        mesh=dict(mesh.shape),
        batch_size=size,
        clip=next(step.clip[name].shape for name in (VIDEO, FEATURES) if name in step.clip),
        program=program,
        next_batch=step.bytes_a_device(size),
        memory_limit=_limit(c, program, chip),
        done_flops=done,
        useful_flops=useful,
        chip=chip,
        estimate=time,
        assumptions=tuple(assumptions),
    )
    if c.compile.largest_batch:
        made = dataclasses.replace(made, largest_batch=_largest_batch(c, step, made))
    return made


def _limit(c: ConfigDict, program: Program | TooLarge, chip: Chip | None) -> int | None:
    """Bytes of a device."""
    if isinstance(program, TooLarge) and program.limit:
        return program.limit
    if c.compile.topology:
        return chip and chip.memory_bytes
    return memory_limit()


def _largest_batch(c: ConfigDict, step: Step, known: Report) -> int:
    """Clips; a multiple of what the mesh and the accumulation divide a batch into."""
    unit = batch_shards(step.mesh) * c.optim.accumulate_steps

    def fits(units: int) -> bool:
        size = units * unit
        if size == known.batch_size:
            return known.fits
        tried = dataclasses.replace(
            known, program=step.compile(size), next_batch=step.bytes_a_device(size)
        )
        log.info("batch %d: %s", size, tried.verdict())
        return tried.fits

    return unit * largest(fits, known.batch_size // unit, MOST_CLIPS)


def _mesh(c: ConfigDict, devices: list[jax.Device]) -> Mesh:
    mesh = make_mesh(fsdp=c.mesh.fsdp, tensor=c.mesh.tensor, devices=devices)
    parts = c.optim.accumulate_steps
    check_batch_size(c.data.batch_size, mesh, accumulate=parts, name="data.batch_size")
    return mesh


def _step(c: ConfigDict, mesh: Mesh, assumptions: list[str]) -> Step:
    records = _index(c, assumptions)
    build.name_classes(c, records.class_names)
    clip = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype)
        for name, x in build_data.example(c, records).items()
    }
    task = build.task(
        c,
        records.num_classes,
        class_names=records.class_names,
        heads=records.heads,
        feature_size=clip[FEATURES].shape[-1] if FEATURES in clip else 0,
    )
    steps = build.steps(c, max(len(records), c.data.batch_size))
    tx, schedule = build.optimiser(c, task.model, steps["total"], steps["warmup"])
    init = train_state.make_init(task.init, tx, ema=c.optim.ema_decay > 0)

    function = build.train_step(c, task, tx, schedule, mesh)
    return Step(
        mesh,
        "tpu" if c.compile.topology else None,
        function,
        make_forward(task.prepare, task.apply),
        train_state.abstract(init, mesh, TRANSFORMER_RULES),
        clip,
        bool(build.frozen(c, task.model)),
    )


def _index(c: ConfigDict, assumptions: list[str]) -> DatasetIndex:
    """The training split; where the data is not here, one that looks like it."""
    try:
        return build_data.index(c, c.data.train_split)
    except (DataError, OSError):
        # Something is wrong with data that is here, or nobody can guess what it looks like.
        if build_data.root(c).exists() or c.objective.name == "multihead":
            raise
    classes = c.compile.num_classes or ASSUMED_CLASSES
    assumptions.append(
        f"{classes} classes, for {build_data.root(c)} is not here (compile.num_classes)"
    )
    c.data.store = ""
    names = tuple(f"class {number}" for number in range(classes))
    multilabel = c.objective.name == "multilabel"
    return DatasetIndex((VideoRecord("absent", "absent", (0,)),), names, multilabel=multilabel)
