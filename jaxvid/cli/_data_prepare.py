"""Write the store that training reads fastest: every frame of a dataset as a JPEG, at random access,
and which clips are of which split and class."""

import argparse
import contextlib
import dataclasses
import json
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import jaxvid
from jaxvid.cli import _data_arguments as arguments
from jaxvid.core import lookup, sizes
from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.record import DatasetIndex
from jaxvid.data import store_index, store_writer
from jaxvid.data.findings import ERROR, Finding
from jaxvid.data.split_loading import lacks_files, load_splits
from jaxvid.data.store_format import NO_FLOW, Settings
from jaxvid.decode import jpeg
from jaxvid.decode.flow import METHODS
from jaxvid.decode.video import BACKENDS

SHORT_SIDE, QUALITY = 256, 90
EXAMPLES = """examples:
  jaxvid data prepare data/rwf2000 --store stores/rwf2000
  jaxvid data prepare --config configs/videomae_rwf.py --config.data.store=stores/rwf2000
  jaxvid data prepare data/kinetics --store /shared/k400 --part 3/8     (the third of eight machines)

Then train with --config.data.store=STORE: it takes the same frames as from the files. On a machine that has
only the store it also takes the records from there, of the splits and reader options prepared (--split,
--option, or those of --config). Started again it goes on where it was, and adds what is new, failed or
changed; Ctrl-C and SIGTERM lose nothing.

exit code: 0, 1 if a video or split cannot be read (the others are done) or it was interrupted, 2 if
nothing could be started
"""


def run(argv: Sequence[str]) -> int:
    """`jaxvid data prepare ROOT|--config FILE --store STORE …` -> exit code."""
    args, overrides = arguments.parse(_parser(), argv)
    try:
        with _sigterm_as_ctrl_c():
            return _prepare(args, arguments.choose(args, overrides))
    except (ValueError, OSError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A cluster that preempts sends SIGTERM: what is whole shall be kept then too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    p = arguments.parser("prepare", __doc__, EXAMPLES)
    p.add_argument("--store", metavar="DIR", help="its folder; default: the recipe's data.store")
    p.add_argument(
        "--split", metavar="NAMES", help="with commas between; default: all, or those of the recipe"
    )
    p.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="of all frames, 0: as in the files; default: what the recipe's decoder resizes to, or "
        f"{SHORT_SIDE} without a recipe",
    )
    p.add_argument(
        "--quality", type=int, default=QUALITY, help=f"of the JPEGs, 1 to 100 (default {QUALITY})"
    )
    p.add_argument(
        "--audio-rate",
        type=int,
        metavar="HZ",
        help="keep the sound, one channel; default: the recipe's if it hears, else none",
    )
    p.add_argument(
        "--flow",
        choices=METHODS,
        help="also keep the optical flow from each frame to the next, for data.flow='stored'",
    )
    p.add_argument("--decoder", choices=BACKENDS, help="default: the recipe's, or pyav")
    p.add_argument("--workers", type=arguments.positive, help="shards at once; default: one a core")
    p.add_argument(
        "--part", type=_part, default=(1, 1), metavar="I/N", help="only this part of the videos"
    )
    p.add_argument("--deadline-seconds", type=float, default=600.0, help="for one video")
    p.add_argument("--dry-run", action="store_true", help="say what would be done, and how large")
    p.add_argument("--json", action="store_true", help="one object on stdout")
    return p


def _part(word: str) -> tuple[int, int]:
    index, _, count = word.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{word!r}: expected I/N with I from 1 to N, such as 3/8")
    return int(index), int(count)


def _prepare(args: argparse.Namespace, chosen: arguments.Chosen) -> int:
    store, settings = _store(args, chosen), _settings(args, chosen)
    workers = args.workers or arguments.usable_cores()
    say = _quiet if args.json else print
    _refuse_what_needs_no_store(chosen.dataset)
    store_writer.check(store, settings)
    indices, findings = _splits(args, chosen)
    mine = _videos(chosen, indices)[args.part[0] - 1 :: args.part[1]]
    wrong = any(finding.level == ERROR for finding in findings)
    todo = store_writer.pending(store, mine, chosen.root, workers=workers)
    expected = store_writer.estimate(todo, settings, deadline_seconds=args.deadline_seconds)
    free = store_writer.check_space(store, expected)
    say(
        f"{store}: {len(mine) - len(todo)} of {len(mine)} videos are there{_to_come(expected, free)}"
    )
    whole = {s: index for s, index in indices.items() if not lacks_files(s, findings)}
    report = {"store": str(store), "found": len(mine), "to_do": len(todo)}
    report["splits"] = {split: len(index) for split, index in whole.items()}
    report |= {"estimated_bytes": expected.bytes, "settings": dataclasses.asdict(settings)}
    if args.dry_run:
        return _told(args, report, int(wrong))
    if jpeg.CODEC != "simplejpeg":
        say(f"JPEGs by {jpeg.CODEC}; reading and writing is quicker with: pip install simplejpeg")
    store_writer.start(store, settings, {"jaxvid": jaxvid.__version__})
    _keep_records(store, chosen, whole)
    done = store_writer.write(
        store,
        todo,
        settings,
        root=chosen.root,
        workers=workers,
        deadline_seconds=args.deadline_seconds,
        show=not args.json or sys.stderr.isatty(),
    )
    for path, reason in done.failed.items():
        print(f"error: {path}: {reason}", file=sys.stderr)
    ending = "interrupted: run it again to go on" if done.stopped else _next(store, chosen)
    kept = ", ".join(f"{split} ({len(index)} clips)" for split, index in whole.items())
    added = (
        f"{done.videos} videos stored, {sizes.in_words(done.bytes)}" if todo else "nothing to add"
    )
    say(f"{added}; records of {kept or 'no split'}")
    say(ending)
    report |= dataclasses.asdict(done)
    return _told(args, report, int(bool(done.failed or done.stopped or wrong)))


def _quiet(_: str) -> None:
    pass


def _told(args: argparse.Namespace, report: dict, code: int) -> int:
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    return code


def _to_come(expected: store_writer.Estimate, free: int) -> str:
    if not expected.videos:
        return ""
    needs, has = sizes.in_words(expected.bytes), sizes.in_words(free)
    return f"; the other {expected.videos} will take about {needs} of {has} free"


def _next(store: Path, chosen: arguments.Chosen) -> str:
    words = {} if chosen.config else {"dataset": chosen.dataset, "root": chosen.root}
    options = {f"options.{name}": value for name, value in chosen.options.items()}
    words |= ({} if chosen.config else options) | {"store": store}
    return "train with " + " ".join(
        f"--config.data.{name}={shlex.quote(str(value))}" for name, value in words.items()
    )


def _store(args: argparse.Namespace, chosen: arguments.Chosen) -> Path:
    store = args.store or (chosen.config.data.get("store", "") if chosen.config else "")
    if not store:
        raise ConfigError("name the folder of the store with --store DIR (or data.store)")
    return Path(store).expanduser()


def _settings(args: argparse.Namespace, chosen: arguments.Chosen) -> Settings:
    data = chosen.config.data if chosen.config else {}
    side = args.short_side
    if side is None:  # a recipe shall get the batches that it gets from the files
        side = data.decode_short_side if chosen.config else SHORT_SIDE
    if side < 0:
        raise ConfigError(f"--short-side {side}: expected a number of pixels, or 0: as they are")
    rate = args.audio_rate
    if rate is None:
        rate = data.get("audio_rate", 0) if data.get("audio", "none") != "none" else 0
    return Settings(
        dataset=chosen.dataset,
        root=str(chosen.root.absolute()),
        short_side=side or None,
        quality=args.quality,
        decoder=args.decoder or data.get("decoder", BACKENDS[0]),
        audio_rate=rate,
        flow=args.flow or NO_FLOW,
    )


def _refuse_what_needs_no_store(dataset: str) -> None:
    module = lookup.module("dataset", dataset)
    if hasattr(module, "read_features"):
        raise ConfigError(
            f"dataset {dataset!r} is made of features, which train as they are: there are no frames to prepare"
        )
    if hasattr(module, "Opener"):
        raise ConfigError(
            f"the videos of dataset {dataset!r} lie as frames in files of records, which train as they are: "
            "there is nothing to prepare"
        )


def _splits(
    args: argparse.Namespace, chosen: arguments.Chosen
) -> tuple[dict[str, DatasetIndex], list[Finding]]:
    """All splits that can be read, and what is wrong with them, which is told on stderr."""
    splits = arguments.split_names(args.split) if args.split else chosen.splits
    indices, findings = load_splits(
        chosen.dataset, chosen.root, splits=splits, options=chosen.options
    )
    for finding in findings:
        print(f"{finding.level}: {finding.message}", file=sys.stderr)
    for split in indices:
        if lacks_files(split, findings):
            print(
                f"error: the records of {split} are not kept in the store, since files of it are missing: "
                "get them, or tolerate it with --option max_missing=SHARE",
                file=sys.stderr,
            )
    return indices, findings


def _keep_records(store: Path, chosen: arguments.Chosen, indices: dict[str, DatasetIndex]) -> None:
    load = lookup.module("dataset", chosen.dataset).load
    choices = store_index.choices(load, chosen.options)
    for split, index in indices.items():
        store_index.write(store, index, split=split, chosen=choices, root=chosen.root)


def _videos(chosen: arguments.Chosen, indices: dict[str, DatasetIndex]) -> list[str]:
    """The files of all splits, each once, sorted."""
    paths = sorted({record.path for index in indices.values() for record in index.records})
    if not paths:
        raise DataError(f"{chosen.root}: no videos of {chosen.dataset!r} to prepare")
    return paths
