"""Evaluating a recipe: on schedule while it trains, at its end, or from a checkpoint of its workdir."""

import dataclasses
import logging
import math
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvid import build, build_data, config, pretrained
from jaxvid.checkpoint.manager import Checkpoints
from jaxvid.convert import reading
from jaxvid.core.batch import ROW
from jaxvid.core.errors import CheckpointError, ConfigError, DataError, NonFiniteLossError
from jaxvid.core.places import Place, as_given
from jaxvid.core.record import DatasetIndex
from jaxvid.data.fingerprint import fingerprint, fingerprint_of
from jaxvid.data.source import NO_FLOW
from jaxvid.evaluate import by_kind, duplicates, precise_bn, reconstruct, report, runner
from jaxvid.metrics.sums import finish
from jaxvid.nn.rows import rows_divided
from jaxvid.ops.pixels import statistics
from jaxvid.sharding.agreement import agree
from jaxvid.sharding.hosts import is_main, to_global
from jaxvid.sharding.mesh import batch_sharding, replicated
from jaxvid.sharding.rules import TRANSFORMER_RULES, tree_shardings
from jaxvid.train import workdir as folder
from jaxvid.train.stop import let_sigterm_end

log = logging.getLogger("jaxvid")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What training and evaluation share."""

    mesh: Mesh
    train_index: DatasetIndex
    val_index: DatasetIndex
    task: build.Task
    to_device: Callable


def make_setting(c: ConfigDict) -> Setting:
    """Mesh, data and model of a recipe. Raises ConfigError or DataError for what does not fit."""
    mesh = build.mesh(c)
    train_index, val_index = (
        build_data.index(c, c.data.train_split),
        build_data.index(c, c.data.val_split),
    )
    if train_index.class_names != val_index.class_names:
        raise ConfigError(
            f"{build_data.root(c)}: the splits {c.data.train_split!r} and {c.data.val_split!r} have other "
            f"classes: {train_index.class_names} and {val_index.class_names}"
        )
    task = build.task_of(c, train_index)
    by_kind.check_kind(task.kind, train_index, c.data.dataset)
    by_kind.check_metric(task.kind, c.eval.metric, train_index)
    by_kind.check_pooling(task.kind, c.eval.pooling)
    return Setting(mesh, train_index, val_index, task, lambda batch: to_global(batch, mesh))


# Where a host's files lie and how it reads them is its own affair; `options` say what the records tell.
_OF_A_HOST = ("root", "store", "in_memory", "memory_gib", "threads", "workers", "prefetch_batches")
_OF_A_HOST += ("options",)


def shared_by_hosts(c: ConfigDict, setting: Setting) -> dict:
    """What must be equal on all hosts: the recipe, the records and classes of both splits, versions."""
    recipe = config.plain(c)
    for name in _OF_A_HOST:
        del recipe["data"][name]
    return recipe | {
        "train records": fingerprint(setting.train_index),
        "validation records": fingerprint(setting.val_index),
        "classes": fingerprint_of(setting.train_index.class_names),
        "versions": {name: metadata.version(name) for name in ("jaxvid", "jax")},
    }


def checkpoints_of(c: ConfigDict, workdir: Place, *, read_only: bool = False) -> Checkpoints:
    """The checkpoints of a workdir, kept as the recipe says."""
    return Checkpoints(
        workdir / "checkpoints",
        keep_last=c.checkpoint.keep_last,
        keep_best=c.checkpoint.keep_best,
        metric=c.eval.metric,
        mode=c.eval.mode,
        read_only=read_only,
    )


def evaluate(c: ConfigDict, workdir: Place) -> dict:
    """Restores `eval.checkpoint`, evaluates the validation split by the final protocol, writes and
    prints the report. Returns what stands in eval/SPLIT.json."""
    setting = make_setting(c)
    let_sigterm_end()
    agree(shared_by_hosts(c, setting), config.difference)
    variables, step, checkpoint = _restore(c, setting, workdir)
    measured = measure(c, setting, final_views(c))(variables)
    return write_report(c, setting, workdir, measured, step, checkpoint)


def _restore(c: ConfigDict, setting: Setting, workdir: Place) -> tuple[Any, int, str]:
    name = c.eval.checkpoint
    within = name in ("last", "best") or name.isdigit()
    path = as_given(name, "eval.checkpoint")
    if not within and path.exists() and not (path / "checkpoints").is_dir():
        return _foreign(c, setting, path), 0, str(path)
    home = path if not within and path.is_dir() else workdir
    folder.refuse_another_recipe(home, config.plain(c), config.difference)
    folder.refuse_other_classes(home, setting.train_index.class_names)
    with checkpoints_of(c, home, read_only=True) as checkpoints:
        step = checkpoints.which("last" if home is path else name)
        weights = checkpoints.restore_weights(step)
    return _place(setting, weights, f"{home}, step {step}"), step, str(home)


def _place(setting: Setting, weights, what: str) -> dict:
    """Weights on the mesh, after a comparison with the model's shapes."""
    merged, report_ = pretrained.merge_weights(_shapes(setting), weights, what=what)
    _refuse_fresh(report_, what)
    return jax.device_put(merged, tree_shardings(merged, setting.mesh, TRANSFORMER_RULES))


def _foreign(c: ConfigDict, setting: Setting, path: Path) -> dict:
    checkpoint = foreign_checkpoint(c, setting, path)
    known, ours = checkpoint.info.get("class_names") or (), setting.train_index.class_names
    if sorted(known) == sorted(ours):  # other spellings of the same classes nobody can tell
        folder.check_classes(str(path), known, ours)
    elif known:
        log.warning(
            "%s names its classes otherwise than the data: %s, …", path, ", ".join(known[:5])
        )
    variables, report_ = pretrained.load_into(setting.task.model, _shapes(setting), checkpoint)
    _refuse_fresh(report_, str(path))
    return jax.device_put(variables, tree_shardings(variables, setting.mesh, TRANSFORMER_RULES))


def _shapes(setting: Setting) -> dict:
    """Of the model's variables; no statistics are an empty collection."""
    return {"batch_stats": {}, **jax.eval_shape(setting.task.init, jax.random.key(0))}


def foreign_checkpoint(c: ConfigDict, setting: Setting, path: Path) -> reading.Checkpoint:
    """Of a Hugging Face folder or weights file; says what it was made with and the recipe is not."""
    checkpoint = reading.from_path(path, c.init.arch or None)
    told = checkpoint.info["preprocessing"]
    ours = statistics(c.data.statistics)
    if (tuple(told["mean"]), tuple(told["std"])) != tuple(ours):
        log.warning(
            "%s was made for pixels of mean %s, std %s; data.statistics=%r is %s, %s",
            *(path, told["mean"], told["std"], c.data.statistics, ours.mean, ours.std),
        )
    for name, value in checkpoint.arguments.items():
        mine = getattr(setting.task.model, name, value)
        if name in _OF_ARCHITECTURE and mine != value:
            log.warning(
                "%s has %s=%r, this model %r; --config.model.overrides.%s=%r follows it",
                *(path, name, value, mine, name, value),
            )
    return checkpoint


# Fields that change a forward pass without changing a shape.
_OF_ARCHITECTURE = ("norm_eps", "fc_norm_eps", "decoder_norm_eps", "pool", "num_heads")


def _refuse_fresh(report_, what: str) -> None:
    if report_.fresh:
        raise CheckpointError(
            f"{what} has no weights for {', '.join(report_.fresh)}: a head that was never trained "
            "cannot be evaluated. Fine-tune first (init.checkpoint), or evaluate a checkpoint of the "
            "same classes"
        )


Views = tuple[int, int]  # clips, crops


def scheduled_views(c: ConfigDict) -> Views:
    """Of evaluations while training."""
    return c.eval.clips, c.eval.crops


def final_views(c: ConfigDict) -> Views:
    """Of the evaluation that is reported."""
    return c.eval.final_clips or c.eval.clips, c.eval.final_crops or c.eval.crops


@dataclasses.dataclass
class ScheduledEvaluator:
    """(step, state) -> (split, numbers), with a line in the log; masked pretraining also draws.

    `measured` is the latest evaluation, (step, (metrics, rows)): the report at the end of a run need
    not repeat it where its views are the same.
    """

    c: ConfigDict
    setting: Setting
    workdir: Place
    measured: tuple[int, tuple[dict, dict | None]] | None = None

    def __post_init__(self):
        self._measure = measure(self.c, self.setting, scheduled_views(self.c))
        self._draw = None
        if self.setting.task.draw_step and self.c.eval.reconstructions:
            self._draw = _drawer(self.c, self.setting, self.workdir)

    def __call__(self, step: int, state) -> tuple[str, dict[str, float]]:
        split, variables = self.c.data.val_split, state.eval_variables()
        metrics, rows = self._measure(variables)
        self.measured = (step, (metrics, rows))
        numbers = {k: v for k, v in metrics.items() if isinstance(v, float)}
        log.info(
            "step %d, %s: %s", step, split, ", ".join(f"{k} {v:.4f}" for k, v in numbers.items())
        )
        if self._draw:
            self._draw(step, variables)
        return split, numbers


def measure(c: ConfigDict, setting: Setting, views: Views) -> Callable:
    """-> function of variables -> (metrics, rows); in masked pretraining rows is None and
    metrics["clips"] how many were counted."""
    batches = build_data.evaluation_data(
        c, setting.val_index, setting.mesh, clips=views[0], crops=views[1]
    )
    step = jitted(setting.task.evaluate_step, setting.mesh)
    refresh = _precise_bn(c, setting) if c.eval.precise_bn_batches else lambda variables: variables

    def run(variables):
        variables = refresh(variables)
        how = {"what": f"evaluate {c.data.val_split}", "show": is_main()}
        if setting.task.kind == "masked":
            sums = runner.collect_sums(step, variables, batches, setting.to_device, **how)
            counted = round(sums["loss"][1] / math.prod(views))
            _check_decoded(c, setting, counted)
            if not np.isfinite(sums["loss"][0]):
                raise _diverged(f"summed losses of {counted}")
            return {**finish(sums), "clips": counted}, None
        rows = runner.collect_rows(step, variables, batches, setting.to_device, **how)
        _check_decoded(c, setting, len(rows[ROW]))
        diverged = int((~np.isfinite(rows["probabilities"]).all(axis=1)).sum())
        if diverged:
            raise _diverged(f"probabilities of {diverged} of {len(rows[ROW])}")
        return by_kind.metrics(setting.task.kind, rows, setting.val_index), rows

    return run


def jitted(step: Callable, mesh: Mesh) -> Callable:
    """Each device keeps to its own rows; what comes out is whole on all of them."""

    def divided(*arguments):
        with rows_divided(batch_sharding(mesh)):
            return step(*arguments)

    return jax.jit(divided, out_shardings=replicated(mesh))


def _check_decoded(c: ConfigDict, setting: Setting, counted: int) -> None:
    if not counted:
        raise DataError(
            f"{build_data.root(c)}: none of {len(setting.val_index)} clips could be decoded"
        )


def _diverged(what: str) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"the {what} validation clips are not finite: the weights have diverged. Lower "
        "optim.learning_rate or set optim.clip_norm; earlier checkpoints are untouched"
    )


def _precise_bn(c: ConfigDict, setting: Setting) -> Callable:
    """variables -> variables with batch normalisation's statistics measured anew."""
    of_batch = precise_bn.make_step(setting.task.batch_statistics, setting.task.prepare)
    step = jitted(of_batch, setting.mesh)

    def refresh(variables):
        with build_data.training_data(c, setting.train_index, setting.mesh) as batches:
            return precise_bn.estimate(
                step,
                variables,
                batches,
                setting.to_device,
                count=c.eval.precise_bn_batches,
                seed=c.run.seed,
                show=is_main(),
            )

    return refresh


def _drawer(c: ConfigDict, setting: Setting, workdir: Place) -> Callable:
    """(step, variables) -> writes eval/SPLIT_reconstruction.png of the first validation clips."""
    chosen = dataclasses.replace(
        setting.val_index, records=setting.val_index.records[: c.eval.reconstructions]
    )
    batches = build_data.evaluation_data(c, chosen, setting.mesh, clips=1, crops=1)
    step = jitted(setting.task.draw_step, setting.mesh)

    def draw(number: int, variables):
        shown = reconstruct.collect(
            step, variables, batches, setting.to_device, c.eval.reconstructions
        )
        if is_main() and len(shown[0]):  # else none of them could be decoded
            path = workdir / "eval" / f"{c.data.val_split}_reconstruction.png"
            report.reconstruction_png(path, *shown, title=f"step {number}")

    return draw


def write_report(
    c: ConfigDict, setting: Setting, workdir: Place, measured: tuple, step: int, checkpoint: str
) -> dict:
    """Writes eval/SPLIT.json with its CSV and PNG of a measurement by the final views, prints it."""
    clips, crops = final_views(c)
    metrics, rows = measured
    counted = metrics["clips"] if rows is None else len(rows[ROW])
    missing = [] if rows is None else _missing(setting.val_index, rows[ROW])
    result = {
        "split": c.data.val_split,
        "n": counted,
        "step": step,
        "checkpoint": checkpoint,
        "protocol": _protocol(c, clips, crops, setting.task.kind),
        "skipped": missing,
        "metrics": metrics,
    }
    if is_main():
        result |= _without_duplicates(c, setting, rows)
        print(report.summary(result))  # first: a folder that cannot be written loses no result
        report.write_evaluation(workdir, result, index=setting.val_index, rows=rows)
    return result


def _without_duplicates(c: ConfigDict, setting: Setting, rows: dict | None) -> dict:
    """Of clips that were trained on too: which, and the numbers without them; {} where there are
    none."""
    val, train = setting.val_index, setting.train_index
    many = len(val) + len(train) > c.eval.duplicates_among
    one_split = c.data.val_split == c.data.train_split
    if rows is None or many or one_split or build_data.sees_features(c):
        return {}
    copies = duplicates.copies(val, train, content_of=build_data.content_of(c))
    found = {row: copies[row] for row in rows[ROW].tolist() if row in copies}
    own = np.array([row not in found for row in rows[ROW].tolist()])
    if own.all():
        return {}
    log.warning(
        "%d of %d %s clips are also in %s, byte for byte: eval/%s.json has the numbers without them too",
        *((~own).sum(), len(own), c.data.val_split, c.data.train_split, c.data.val_split),
    )
    kept = {name: values[own] for name, values in rows.items()}
    told = by_kind.metrics(setting.task.kind, kept, val) if by_kind.any_label(kept) else {}
    return {
        "duplicates": [{"path": val.records[i].path, "of": path} for i, path in found.items()],
        "metrics_without_duplicates": {k: v for k, v in told.items() if isinstance(v, float)},
    }


def _protocol(c: ConfigDict, clips: int, crops: int, kind: str) -> dict:
    protocol = {
        "views": clips * crops,
        "clips": clips,
        "crops": crops,
        "sampling": c.data.sampling,
        "frames": c.data.num_frames,
        "size": c.data.size,
    }
    if c.data.sampling == "dense":
        protocol["stride_frames"] = c.data.stride_frames
    if c.data.flow != NO_FLOW:
        protocol["flow"] = c.data.flow
    if kind == "masked":
        return protocol | {"mask": c.objective.mask, "mask_ratio": c.objective.mask_ratio}
    return protocol | {"pooling": f"{c.eval.pooling} of the views' {_SCORES[kind]}"}


_SCORES = {"classify": "softmax", "multilabel": "sigmoid", "multihead": "softmax of each head"}


def _missing(index: DatasetIndex, rows) -> list[str]:
    there = set(rows.tolist())
    return [r.path for i, r in enumerate(index.records) if i not in there]
