"""Training a recipe in a workdir, from its first step or from where its last checkpoint stands."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvid import build, build_data, config, pretrained
from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.core.places import Place, as_given, is_remote
from jaxvid.data.fingerprint import fingerprint
from jaxvid.evaluate.report import learning_curves
from jaxvid.nn.attention import attention_path
from jaxvid.run_eval import (
    ScheduledEvaluator,
    Setting,
    checkpoints_of,
    final_views,
    foreign_checkpoint,
    make_setting,
    measure,
    scheduled_views,
    shared_by_hosts,
    write_report,
)
from jaxvid.sharding import goodbye
from jaxvid.sharding.agreement import agree
from jaxvid.sharding.hosts import is_main
from jaxvid.sharding.mesh import replicated
from jaxvid.sharding.rules import TRANSFORMER_RULES
from jaxvid.train import state as train_state
from jaxvid.train import workdir as folder
from jaxvid.train.clock import Clock
from jaxvid.train.cost import Cost, make_forward, peak_flops, useful_flops
from jaxvid.train.guard import EarlyStop, NonFiniteSteps, SkippedClips
from jaxvid.train.lock import only_run
from jaxvid.train.loop import Loop
from jaxvid.train.profile import Profile
from jaxvid.train.state import TrainState
from jaxvid.train.stop import StopSignal
from jaxvid.train.watchdog import Watchdog
from jaxvid.train.writers import MetricsWriter, Progress

log = logging.getLogger("jaxvid")


def train(c: ConfigDict, workdir: Place, command: str) -> str:
    """Trains, or goes on where the workdir's last checkpoint stands, evaluating on schedule and at the
    end. `command` is what started it, without workdir, for the hints at the end. Returns why it ended:
    "done", "early stop" or a signal's name."""
    clock = Clock()
    setting = make_setting(c)
    agree(shared_by_hosts(c, setting), config.difference)
    with only_run(workdir) if is_main() else contextlib.nullcontext():
        if is_main():
            folder.open_for_training(workdir, _description(c, setting), config.difference)
        folder.start_logging(workdir, main=is_main())
        try:
            return _train(c, setting, workdir, command, clock)
        finally:  # a bucket's log cannot be written any more when the interpreter ends
            folder.start_logging(None, main=is_main())


def _description(c: ConfigDict, setting: Setting) -> folder.Description:
    index = setting.train_index
    return folder.Description(
        config.plain(c),
        index.class_names,
        setting.task.kind,
        index.heads,
        build_data.feature_size(c, index),
    )


def _train(c: ConfigDict, setting: Setting, workdir: Place, command: str, clock: Clock) -> str:
    _say_setting(c, setting, workdir)
    with StopSignal() as stop, checkpoints_of(c, workdir) as checkpoints:
        loop, state, step = _make_loop(c, setting, workdir, checkpoints, stop, clock)
        if step and is_main():  # nothing refuses to go on
            _description(c, setting).write(workdir)
        try:
            with loop.watchdog:
                state, step, reason = loop.run(state, step)
        finally:
            loop.profile.close()
            loop.progress.close()
            loop.writer.close()
            loop.batches.close()
        checkpoints.wait()
    log.info(
        "step %d of %d: %s; checkpoints in %s", step, loop.total_steps, reason, checkpoints.folder
    )
    if reason in ("done", "early stop"):
        measured = _final_measurement(c, setting, loop.evaluators[0], state, step)
        write_report(c, setting, workdir, measured, step, str(workdir))
        if is_main():
            learning_curves(workdir / "metrics.jsonl", workdir / "learning_curves.png")
            _say_what_next(command, workdir, loop.early_stop)
    return reason


def _make_loop(
    c: ConfigDict,
    setting: Setting,
    workdir: Place,
    checkpoints: Checkpoints,
    stop: StopSignal,
    clock: Clock,
) -> tuple[Loop, TrainState, int]:
    steps = build.steps(c, len(setting.train_index))
    tx, schedule = build.optimiser(c, setting.task.model, steps["total"], steps["warmup"])
    task, mesh = setting.task, setting.mesh
    init = train_state.make_init(task.init, tx, ema=c.optim.ema_decay > 0)
    start = max(checkpoints.steps(), default=0)
    abstract = train_state.abstract(init, mesh, TRANSFORMER_RULES)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    writer = MetricsWriter(workdir, tensorboard=c.run.tensorboard, enabled=is_main())
    writer.drop_after(start)
    step_function = build.train_step(c, task, tx, schedule, mesh)
    loop = Loop(
        train_step=jax.jit(
            step_function, out_shardings=(shardings, replicated(mesh)), donate_argnums=0
        ),
        batches=build_data.training_data(c, setting.train_index, mesh),
        to_device=setting.to_device,
        total_steps=steps["total"],
        batch_size=c.data.batch_size,
        checkpoints=checkpoints,
        writer=writer,
        progress=Progress(steps["total"], start, enabled=is_main()),
        stop=stop,
        skipped=SkippedClips(setting.train_index, max_share=c.data.max_skipped_share),
        nonfinite=NonFiniteSteps(setting.train_index, limit=c.run.nonfinite_limit),
        early_stop=EarlyStop(
            metric=c.eval.metric, mode=c.eval.mode, patience=c.eval.early_stop_patience
        ),
        evaluators=(ScheduledEvaluator(c, setting, workdir),),
        fingerprint=fingerprint(setting.train_index),
        log_every=c.run.log_every_steps,
        watchdog=Watchdog(goodbye.here(), least_seconds=c.run.watchdog_seconds),
        save_every=c.checkpoint.every_steps,
        evaluate_every=steps["evaluate_every"],
        clock=clock,
        cost=_cost(c, setting, abstract, step_function),
        profile=_profile(c, workdir),
    )
    if start:
        state, extra = checkpoints.restore(start, abstract)
        loop.resume(extra)
        log.info("resumed from the checkpoint of step %d", start)
        return loop, state, start
    # Read first: what is wrong with the file is said before a large model is initialised.
    merge = _initial_weights(c, setting) if c.init.checkpoint else None
    state = train_state.create(init, c.run.seed, shardings)
    if merge is not None:
        variables, report = merge({"params": state.params, "batch_stats": state.batch_stats})
        for line in report.lines():
            log.info("%s", line)
        state = train_state.with_weights(state, variables, shardings)
    return loop, state, 0


def _cost(c: ConfigDict, setting: Setting, state: TrainState, step: Callable) -> Cost:
    """state: shapes are enough. Where the devices' peak is not known nothing is counted."""
    peak = peak_flops(setting.mesh.devices.flatten())
    if not peak:
        return Cost()
    example = build_data.example(c, setting.train_index)
    batch = {
        name: jax.ShapeDtypeStruct((c.data.batch_size, *x.shape), x.dtype)
        for name, x in example.items()
    }
    forward = make_forward(setting.task.prepare, setting.task.apply)
    partly = step if build.frozen(c, setting.task.model) else None
    try:
        return Cost(useful_flops(forward, state, batch, partly), peak)
    except ValueError as error:
        log.warning("the share of the devices' peak is not measured: %s", error)
        return Cost()


def _profile(c: ConfigDict, workdir: Place) -> Profile:
    """Of this run's first host, which writes everything but its part of a checkpoint."""
    start, count = c.run.profile_steps if is_main() else (0, 0)
    # jax writes it to folders only.
    home = Path("runs", workdir.name).absolute() if is_remote(workdir) else workdir
    return Profile(home / "profile", start=start, count=count)


def _initial_weights(c: ConfigDict, setting: Setting) -> Callable[[dict], tuple]:
    """Reads init.checkpoint -> (variables -> (they with its weights where they fit, report))"""
    path = as_given(c.init.checkpoint, "init.checkpoint")
    if (path / "checkpoints").is_dir():
        with Checkpoints(path / "checkpoints", read_only=True) as other:
            step = other.which("last")
            weights = other.restore_weights(step)
        what = f"{path}, step {step}"
        return functools.partial(pretrained.merge_weights, weights=weights, what=what)
    checkpoint = foreign_checkpoint(c, setting, path)
    return functools.partial(pretrained.load_into, setting.task.model, checkpoint=checkpoint)


def _say_setting(c: ConfigDict, setting: Setting, workdir: Place) -> None:
    shapes = jax.eval_shape(setting.task.init, jax.random.key(0))["params"]
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))
    log.info("workdir %s", workdir)
    log.info(
        "%s %s: %.2fM parameters, %d classes, computing in %s",
        c.model.name,
        c.model.variant,
        count / 1e6,
        setting.train_index.num_classes,
        build.compute_dtype(c),
    )
    log.info(
        "%s: %d training and %d validation clips; batch %d",
        build_data.root(c),
        len(setting.train_index),
        len(setting.val_index),
        c.data.batch_size,
    )
    mesh = ", ".join(f"{axis} {size}" for axis, size in setting.mesh.shape.items())
    log.info("%d × %s as mesh (%s)", setting.mesh.size, jax.devices()[0].device_kind, mesh)
    heads, width = (getattr(setting.task.model, n, 0) for n in ("num_heads", "width"))
    if heads and width:  # numbers of each stage keep the head's size
        size = width // (heads[0] if isinstance(heads, tuple) else heads)
        path = attention_path(build.compute_dtype(c), size)
        log.info("attention, where it has no bias: %s", path)


def _final_measurement(c, setting: Setting, scheduled: ScheduledEvaluator, state, step: int):
    same_views = scheduled_views(c) == final_views(c)
    if same_views and scheduled.measured and scheduled.measured[0] == step:
        return scheduled.measured[1]
    return measure(c, setting, final_views(c))(state.eval_variables())


def _say_what_next(command: str, workdir: Place, early: EarlyStop) -> None:
    if early.best is not None:
        log.info(
            "best %s %.4f, at step %d: chosen on the split it is measured on, so it flatters",
            early.metric,
            early.best,
            early.best_step,
        )
    log.info("pictures: %s, %s/*.png", workdir / "learning_curves.png", workdir / "eval")
    log.info("What to try next:")
    log.info("  evaluate again:    %s --workdir %s --mode eval", command, workdir)
    log.info("  change anything:   %s --config.optim.learning_rate=3e-4 --workdir OTHER", command)
    log.info("  all fields:        jaxvid config RECIPE")
    log.info("  your own videos:   lay them out as DIR/train/CLASS/* and DIR/val/CLASS/*, then")
    log.info(
        "                     … --config.data.dataset=folder --config.data.root=DIR --workdir NEW"
    )


def enable_compilation_cache() -> None:
    """Compiled programs are kept in the user's cache folder, so that a second start is quick."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "jaxvid" / "xla"))
