"""Write the store that training reads fastest: every frame of a dataset as a JPEG, at random access."""

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jaxvid
from jaxvid.cli import _data_arguments as arguments
from jaxvid.core.errors import ConfigError, DataError
from jaxvid.data import store_writer
from jaxvid.data.split_loading import load_splits
from jaxvid.data.store_format import NO_FLOW, Settings
from jaxvid.decode import jpeg
from jaxvid.decode.flow import METHODS
from jaxvid.decode.video import BACKENDS

SHORT_SIDE, QUALITY = 256, 90
EXAMPLES = """examples:
  jaxvid data prepare data/rwf2000 --store stores/rwf2000
  jaxvid data prepare --config configs/videomae_rwf.py --config.data.store=stores/rwf2000
  jaxvid data prepare data/kinetics --store /shared/k400 --part 3/8     (the third of eight machines)

Then train with --config.data.store=STORE: it takes the same frames as from the files, without them being
there. Started again it goes on where it was, and adds what is new, failed or changed; Ctrl-C loses nothing.

exit code: 0, 1 if a video cannot be decoded (the others are done) or it was interrupted, 2 if nothing
could be started
"""


def run(argv: Sequence[str]) -> int:
    """`jaxvid data prepare ROOT|--config FILE --store STORE …` -> exit code."""
    args, overrides = arguments.parse(_parser(), argv)
    try:
        return _prepare(args, arguments.choose(args, overrides))
    except (ValueError, OSError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


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
    mine = _videos(args, chosen)[args.part[0] - 1 :: args.part[1]]
    store_writer.check(store, settings)
    todo = store_writer.pending(store, mine, chosen.root, workers=workers)
    expected = store_writer.estimate(todo, settings, deadline_seconds=args.deadline_seconds)
    free = store_writer.check_space(store, expected)
    say(
        f"{store}: {len(mine) - len(todo)} of {len(mine)} videos are there; the other {len(todo)} will "
        f"take about {expected.bytes / 1e9:.2f} GB of {free / 1e9:.0f} GB free"
    )
    report = {"store": str(store), "found": len(mine), "to_do": len(todo)}
    report |= {"estimated_bytes": expected.bytes, "settings": dataclasses.asdict(settings)}
    if args.dry_run:
        return _told(args, report, 0)
    if jpeg.CODEC != "simplejpeg":
        say(f"JPEGs by {jpeg.CODEC}; reading and writing is quicker with: pip install simplejpeg")
    store_writer.start(store, settings, {"jaxvid": jaxvid.__version__})
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
    ending = "interrupted: run it again to go on" if done.stopped else _next(store)
    say(f"{done.videos} videos stored, {done.bytes / 1e9:.2f} GB; {ending}")
    report |= dataclasses.asdict(done)
    return _told(args, report, 1 if done.failed or done.stopped else 0)


def _quiet(_: str) -> None:
    pass


def _told(args: argparse.Namespace, report: dict, code: int) -> int:
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    return code


def _next(store: Path) -> str:
    return f"train with --config.data.store={shlex.quote(str(store))}"


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


def _videos(args: argparse.Namespace, chosen: arguments.Chosen) -> list[str]:
    """The files of all splits, each once, sorted. What is missing is told on stderr."""
    splits = arguments.split_names(args.split) if args.split else chosen.splits
    indices, findings = load_splits(
        chosen.dataset, chosen.root, splits=splits, options=chosen.options
    )
    for finding in findings:
        print(f"{finding.level}: {finding.message}", file=sys.stderr)
    paths = sorted({record.path for index in indices.values() for record in index.records})
    if not paths:
        raise DataError(f"{chosen.root}: no videos of {chosen.dataset!r} to prepare")
    return paths
