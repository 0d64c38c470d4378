"""Checkpoints of a run: state, data iterator and metrics under one step number, through Orbax.

A checkpoint appears under its final name only when all of it is written; saving happens in the
background and never removes an older checkpoint before the new one is whole.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from jaxvid.checkpoint import checksums, s3
from jaxvid.core.errors import CheckpointError
from jaxvid.core.places import Place, is_remote, place
from jaxvid.core.tree import flatten

log = logging.getLogger("jaxvid")
_LISTED = 20
_REASON = 300  # characters
_TEMPORARY = ".orbax-checkpoint-tmp"


class Checkpoints:
    """The checkpoints under `folder`: the last `keep_last`, and the `keep_best` by `metric`.

    folder: on this machine, or in a bucket (gs://…, s3://…).

    metric: a name in the metrics given to `save`; mode "max" or "min". Checkpoints saved without
    metrics never count as best. Use as a context manager: closing waits for the last save.
    """

    def __init__(
        self,
        folder: Place | str,
        *,
        keep_last: int = 2,
        keep_best: int = 1,
        metric: str = "top1",
        mode: str = "max",
        read_only: bool = False,
    ):
        self.folder = place(folder, "checkpoints in")
        self._local = not is_remote(self.folder)
        self._saving: int | None = None
        self._metric, self._mode = metric, mode
        worst = float("-inf") if mode == "max" else float("inf")

        def score(metrics) -> float:
            value = (metrics or {}).get(metric)
            return worst if value is None else float(value)

        policies: list = [keep.LatestN(keep_last)]
        if keep_best:
            policies.append(
                keep.BestN(
                    get_metric_fn=score,
                    reverse=mode == "min",
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        temporary = None  # the kind that Orbax chooses for disks and for gs://
        if str(self.folder).startswith("s3://"):
            s3.enable()
            temporary = s3.TEMPORARY
        if not read_only and jax.process_index() == 0:
            self._clear_leftovers()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep.AnyPreservationPolicy(policies),
            best_fn=score,
            best_mode=mode,
            read_only=read_only,
            create=not read_only,
            temporary_path_class=temporary,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _clear_leftovers(self) -> None:
        """In buckets Orbax passes over what was never finished, and writes over it."""
        there = self._local and self.folder.is_dir()
        for path in sorted(self.folder.glob(f"*{_TEMPORARY}*")) if there else ():
            log.warning("%s was never finished (the run was killed while saving): removed", path)
            shutil.rmtree(path)

    def steps(self) -> list[int]:
        """All whole checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, extra: dict, metrics: dict | None = None) -> None:
        """Starts saving in the background. `extra` is JSON (iterator state, log window, …).

        Raises CheckpointError when this or the previous save cannot be written: what was there stays.
        """
        if self._local:
            self._check_room(step, state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra)
        )
        with self._writing(step):
            self._manager.wait_until_finished()  # its checksums are of its step
            self._saving = step
            self._manager.save(step, args=items, metrics=metrics or None, force=True)

    def _check_room(self, step: int, state: Any) -> None:
        own = (s for x in jax.tree.leaves(state) for s in x.addressable_shards)
        needed = sum(s.data.nbytes for s in own if s.replica_id == 0)  # what this host writes
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} needs about {needed / 2**20:.0f} MiB and "
                f"{free / 2**20:.0f} MiB are free. Earlier checkpoints {self.steps()} are untouched; "
                "make room and start the same command again"
            )

    def _write_checksums(self) -> None:
        """Called by Orbax, in the background on the main host, when all files of a checkpoint are
        written and it is about to get its final name."""
        if self._local:
            for path in self.folder.glob(f"{self._saving}{_TEMPORARY}*"):
                checksums.write(path)

    def wait(self) -> None:
        """Until the last save is whole on disk. Raises CheckpointError if it failed."""
        with self._writing(None):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    @contextlib.contextmanager
    def _writing(self, step: int | None) -> Iterator[None]:
        """Whatever goes wrong within is storage that cannot be written; each kind has its own
        errors."""
        kinds = (OSError, ValueError, RuntimeError) if self._local else Exception
        try:
            yield
        except kinds as error:
            raise self._failed(step, error) from error

    def _failed(self, step: int | None, error: Exception) -> CheckpointError:
        which = "the last checkpoint" if step is None else f"the checkpoint of step {step}"
        return CheckpointError(
            f"{self.folder}: {which} could not be written ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}). "
            f"Earlier checkpoints {self._on_disk()} are untouched; start the same command again to go on"
        )

    def _on_disk(self) -> list[int]:
        """What is there, not what the manager meant to keep once the failed save was whole."""
        return sorted(self._manager.all_steps(read=self._local))

    def which(self, name: str) -> int:
        """The step that "last", "best" or a number names. Raises CheckpointError when there is none."""
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"{self.folder}: there is no whole checkpoint here; train first")
        if name == "last":
            return steps[-1]
        if name == "best":
            scored = [(m[self._metric], s) for s in steps if (m := self._metrics(s))]
            if not scored:
                raise CheckpointError(
                    f"{self.folder}: none of the checkpoints {steps} was evaluated, so none is best; "
                    "use --config.eval.checkpoint=last or a step"
                )
            return (max if self._mode == "max" else min)(scored)[1]
        if not name.isdigit() or int(name) not in steps:
            raise CheckpointError(
                f"{self.folder}: no checkpoint {name!r}; there are {steps}, 'last' and 'best'"
            )
        return int(name)

    def _metrics(self, step: int) -> dict:
        metrics = self._manager.metrics(step) or {}
        return metrics if metrics.get(self._metric) is not None else {}

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict]:
        """(state, extra) of a step. `abstract_state`: ShapeDtypeStructs with the shardings wanted now,
        on whatever mesh. Raises CheckpointError when the checkpoint holds something else."""
        self._verify(step)
        self._compare(step, abstract_state)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract_state), extra=ocp.args.JsonRestore()
        )
        with self._reading(step):
            restored = self._manager.restore(step, args=items)
        return restored["state"], restored["extra"]

    def restore_weights(self, step: int) -> dict:
        """{"params", "batch_stats"} of a step as numpy arrays on the host, whatever model they are of;
        the moving average where one was kept."""
        self._verify(step)
        state = self._saved_shapes(step)
        shapes = {name: state.get(name, {}) for name in ("params", "batch_stats")}
        if state.get("ema"):
            shapes = {"ema": state["ema"]}
        wanted = jax.tree.map(lambda m: np.zeros(m.shape, m.dtype), shapes)
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        with self._reading(step), ocp.PyTreeCheckpointer() as checkpointer:
            restored = checkpointer.restore(
                self.folder / str(step) / "state",
                ocp.args.PyTreeRestore(item=wanted, restore_args=how, partial_restore=True),
            )
        return {"batch_stats": {}, **restored.get("ema", restored)}

    def _verify(self, step: int) -> None:
        """Raises CheckpointError unless all files are as they were written. The main host looks, lest a
        shared disk has to give everything to everybody twice."""
        if self._local and jax.process_index() == 0:
            with self._reading(step):
                damage = checksums.find_damage(self.folder / str(step))
            if damage:
                raise self._damaged(step, damage)

    def _saved_shapes(self, step: int) -> dict:
        with self._reading(step), ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.metadata(self.folder / str(step) / "state").item_metadata
        if found is None:
            raise self._damaged(step, "its metadata is missing")
        return found.tree

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Whatever goes wrong within is the checkpoint's fault, but for what the devices say."""
        try:
            yield
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:  # Orbax raises bare Exceptions for files that end too early
            first = error
            while first.__cause__ is not None:
                first = first.__cause__
            reason = f"{type(first).__name__}: {str(first).partition(chr(10))[0][:_REASON]}"
            raise self._damaged(step, reason) from error

    def _damaged(self, step: int, reason: str) -> CheckpointError:
        others = [s for s in self.steps() if s != step]
        return CheckpointError(
            f"{self.folder / str(step)} cannot be read ({reason}); it is damaged, or not for this "
            f"version of orbax-checkpoint ({ocp.__version__}). Move that folder away to go on from an "
            f"earlier one: there are {others}"
        )

    def _compare(self, step: int, abstract_state: Any) -> None:
        """All parameters that are missing, left over or of another shape, before anything is read."""
        saved, wanted = (
            {
                name: tuple(x.shape)
                for part in ("params", "batch_stats", "ema")
                for name, x in flatten(tree.get(part) or {}, part + "/").items()
            }
            for tree in (self._saved_shapes(step), vars(abstract_state))
        )
        wrong = [
            f"{name}: {saved.get(name, 'absent')} in the checkpoint, {wanted.get(name, 'absent')} here"
            for name in sorted({*saved, *wanted})
            if saved.get(name) != wanted.get(name)
        ]
        if wrong:
            shown = "\n  ".join(wrong[:_LISTED])
            more = f"\n  … and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
            raise CheckpointError(
                f"{self.folder / str(step)} is the checkpoint of another architecture; "
                f"{len(wrong)} parameters differ:\n  {shown}{more}"
            )

    def close(self) -> None:
        """Waits for the last save and ends the background threads."""
        try:
            self.wait()
        finally:
            self._manager.close()
