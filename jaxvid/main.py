"""`python -m jaxvid.main --config configs/videomae_rwf.py [--workdir DIR] [--mode eval|compile]`"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxvid import config
from jaxvid.core import xla_flags
from jaxvid.core.device_memory import is_full, what_helps, what_is_full
from jaxvid.core.errors import USER_ERRORS
from jaxvid.core.places import place
from jaxvid.run_compile import compile_ahead
from jaxvid.run_eval import evaluate
from jaxvid.run_train import enable_compilation_cache, train
from jaxvid.sharding import goodbye, hosts
from jaxvid.train.workdir import start_logging


def parser() -> argparse.ArgumentParser:
    """The command line, but for `--config.section.field=value`, which any field of config.py takes."""
    p = argparse.ArgumentParser(
        prog="python -m jaxvid.main",
        description="Train a recipe, evaluate what was trained, or compile the training step and say "
        "what it needs. Started again with the same workdir, training goes on where it stopped.",
        epilog="Any field of jaxvid/config.py: --config.optim.learning_rate=1e-4. "
        "`jaxvid config FILE` prints them all.",
        allow_abbrev=False,
    )
    p.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a recipe, see configs/")
    p.add_argument(
        "--workdir", help="where the run lies: a folder, gs://… or s3://… (default: runs/<recipe>)"
    )
    p.add_argument("--mode", choices=("train", "eval", "compile"), default="train")
    p.add_argument("--json", action="store_true", help="of --mode compile: JSON instead of a table")
    p.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, for several processes")
    p.add_argument("--num_processes", type=int)
    p.add_argument("--process_id", type=int, help="these three come from SLURM, … where they can")
    p.add_argument(
        "--stopped_code",
        type=int,
        default=0,
        metavar="N",
        help="exit code once SIGTERM was obeyed; 143 lets a cluster start the run again (default 0)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with the reason on stderr when the user can mend it."""
    args, overrides = parse(sys.argv[1:] if argv is None else argv)
    start_logging(None, main=True)
    try:
        c = config.load(args.config, overrides)
        if c.run.deterministic:
            xla_flags.set_deterministic(os.environ)
        if args.mode == "compile" and c.compile.topology:  # no device of any host is touched
            return compile_ahead(c, args.config, as_json=args.json)
        hosts.initialize(args.coordinator, args.num_processes, args.process_id)
        recipe = Path(args.config.partition(":")[0])
        workdir = place(args.workdir or Path("runs") / recipe.stem)
        if c.run.compilation_cache:
            enable_compilation_cache()
        if args.mode == "compile":
            return compile_ahead(c, args.config, as_json=args.json)
        if args.mode == "eval":
            evaluate(c, workdir)
            return 0
        words = ["--config", args.config, *(f"--config.{x}" for x in overrides)]
        command = f"python -m jaxvid.main {shlex.join(words)}"
        reason = train(c, workdir, command)
        if reason.startswith("SIG"):
            print(f"{reason}: everything is saved. To go on from here:", file=sys.stderr)
            print(f"  {command} --workdir {shlex.quote(str(workdir))}", file=sys.stderr)
        return {"SIGINT": 130, "SIGTERM": args.stopped_code}.get(reason, 0)
    except USER_ERRORS as error:
        print(f"\nerror: {error}", file=sys.stderr)
        goodbye.end_all(f"{type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:  # not in training, which saves and ends
        print("\ninterrupted", file=sys.stderr)
        goodbye.end_all("interrupted")
        return 130
    except Exception as error:
        if is_full(error):
            words = _too_large(error, args.mode)
            print(f"\nerror: {words}", file=sys.stderr)
            goodbye.end_all(words)
            return 1
        goodbye.end_all_unexpectedly(error)
        raise


def _too_large(error: Exception, mode: str) -> str:
    device = jax.local_devices()[0]
    said = f"the memory of {device.device_kind} is full: {what_is_full(error)}. "
    if mode == "eval":
        return said + "A smaller evaluation.batch_size helps"
    helps = what_helps(on_cpu=device.platform == "cpu")
    return (
        f"{said}{helps}, in evaluation a smaller evaluation.batch_size; --mode compile says what a "
        "training step needs"
    )


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(arguments, overrides as "section.field=value"); a wrong word ends the program with the usage."""
    p = parser()
    args, rest = p.parse_known_args(list(argv))
    if args.json and args.mode != "compile":
        p.error("--json belongs to --mode compile")
    overrides = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("--config."):
            p.error(
                f"unknown argument {word!r}; fields of the config are --config.section.field=value"
            )
        if "=" not in word:
            if not rest:
                p.error(f"{word} needs a value: {word}=…")
            word = f"{word}={rest.pop(0)}"
        overrides.append(word.removeprefix("--config."))
    return args, overrides


if __name__ == "__main__":
    sys.exit(main())
