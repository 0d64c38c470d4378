"""Divide a folder of classes, ROOT/CLASS/clip, into training and validation clips: nothing is moved, the
lists train.csv and val.csv are written into ROOT, which dataset `table` reads."""

import argparse
import csv
import io
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DataError
from jaxvid.core.files import write_atomically
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import splitting
from jaxvid.data.datasets import _files, _table_file
from jaxvid.data.source_groups import read_groups
from jaxvid.data.store_format import digest_of
from jaxvid.evaluate.report import format_table

EXAMPLES = r"""examples:
  jaxvid data split videos                                # videos/calm/*.mp4, videos/fight/*.mp4
  jaxvid data split videos --val 0.15 --test 0.15 --seed 1
  jaxvid data split videos --recording '(camera\d+)_'     # clips of one camera stay together
  jaxvid data split videos --groups recordings.csv        # columns path,group

Every class is divided by the same shares. Files of equal content never stand on two sides, nor do clips of
one recording, where it is told: what is measured on scenes that were trained on is memory.

exit code: 0, 2 if nothing could be written
"""


def run(argv: Sequence[str]) -> int:
    """`jaxvid data split ROOT …` -> exit code."""
    args = _parser().parse_args(argv)
    try:
        _write(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="jaxvid data split",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("root", type=Path, metavar="ROOT", help="the folder that holds a folder a class")
    p.add_argument("--val", type=float, default=0.2, metavar="SHARE", help="default 0.2")
    p.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="default 0: none")
    p.add_argument("--seed", type=int, default=0, help="another one divides in another way")
    p.add_argument("--groups", metavar="CSV", help="the recording of each clip: columns path,group")
    p.add_argument(
        "--recording",
        metavar="REGEX",
        help="whose first (...) finds the recording in a clip's path below ROOT",
    )
    p.add_argument("--overwrite", action="store_true", help="lists that are there already")
    return p


def _write(args: argparse.Namespace) -> None:
    root = args.root.expanduser()
    names, records = _clips(root)
    shares = {"val": args.val} | ({"test": args.test} if args.test else {})
    groups = _groups(args, names, records)
    found = splitting.divide(records, groups, names, shares, args.seed)
    lists = {split: root / f"{split}.csv" for split in found}
    there = [str(path) for path in lists.values() if path.exists()]
    if there and not args.overwrite:
        raise ConfigError(f"{', '.join(there)}: there already; give --overwrite to replace it")
    for split, path in lists.items():
        write_atomically(path, _csv(found[split], names))
    counts = {split: Counter(r.labels[0] for r in part) for split, part in found.items()}
    rows = [
        [name, *(str(count[label]) for count in counts.values())]
        for label, name in enumerate(names)
    ]
    print(format_table(rows, ["class", *found]))
    print(f"{len(records)} clips of {len(set(groups))} recordings or contents")
    print("written: " + ", ".join(map(str, lists.values())))
    print(f"next:    jaxvid data check {shlex.quote(str(root))}")
    print(f"         … --config.data.dataset=table --config.data.root={shlex.quote(str(root))}")


def _clips(root: Path) -> tuple[list[str], list[VideoRecord]]:
    """(class names, all clips); ids are paths within root."""
    folders = _files.subfolders(root) if root.is_dir() else []
    if len(folders) < 2:
        raise DataError(
            f"{root}: expected a folder for each of at least two classes; it holds {_files.contents(root)}"
        )
    divided = [f.name for f in folders if _files.split_of(f.name)]
    if divided:
        raise DataError(f"{root}: divided already, into {', '.join(divided)}: use dataset 'folder'")
    unfit = [f.name for f in folders if any(c in f.name for c in _table_file.LABEL_SEPARATORS)]
    if unfit:
        raise DataError(
            f"{root / unfit[0]}: a class in a table may not hold {' or '.join(_table_file.LABEL_SEPARATORS)}, "
            "which divide labels; rename the folder"
        )
    records: list[VideoRecord] = []
    for label, folder in enumerate(folders):
        records += _files.clip_records(folder, base=root, label=label)
    return [f.name for f in folders], records


def _groups(
    args: argparse.Namespace, names: Sequence[str], records: Sequence[VideoRecord]
) -> list[str]:
    """Of each record: its recording, else its content; clips that share a content share a group."""
    if args.groups and args.recording:
        raise ConfigError("--groups and --recording both say the recording: leave one out")
    told = {}
    if args.groups:
        told = read_groups(args.groups, {"all": DatasetIndex(tuple(records), tuple(names))})
    elif args.recording:
        told = _recordings(args.recording, records)
    recordings = [("recording", told[r.id]) if r.id in told else None for r in records]
    shown = progress.bar(records, total=len(records), what="comparing", unit="clip")
    contents = [("content", digest_of(record.path)) for record in shown]
    return _joined(recordings, contents)


def _recordings(pattern: str, records: Sequence[VideoRecord]) -> dict[str, str]:
    try:
        finder = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--recording {pattern!r}: {error}") from error
    if finder.groups < 1:
        raise ConfigError(f"--recording {pattern!r}: no (...) that finds the recording")
    found = {record.id: finder.search(record.id) for record in records}
    without = [name for name, match in found.items() if not match or match[1] is None]
    if without:
        raise DataError(
            f"--recording {pattern!r} finds nothing in {len(without)} of {len(found)} clips: "
            f"{_files.some(without, 3)}"
        )
    return {name: match[1] for name, match in found.items()}


def _joined(recordings: Sequence[tuple | None], contents: Sequence[tuple]) -> list[str]:
    """One name a clip, the same for clips that share a recording or a content, also by way of others."""
    parent: dict[tuple, tuple] = {}

    def first(key):
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for recording, content in zip(recordings, contents, strict=True):
        if recording is not None:
            parent[first(recording)] = first(content)
    return [str(first(content)) for content in contents]


def _csv(records: Sequence[VideoRecord], names: Sequence[str]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label"])
    table.writerows([record.id, names[record.labels[0]]] for record in records)
    return text.getvalue().encode()
