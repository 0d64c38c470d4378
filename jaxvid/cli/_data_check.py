"""Report what is wrong with a dataset before anyone trains on it: every file is opened and decoded, of
features and other records some of each shard are read."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from jaxvid.cli import _data_arguments as arguments
from jaxvid.config_values import NO_AUDIO
from jaxvid.core import lookup, sizes
from jaxvid.core.record import DatasetIndex
from jaxvid.data import checking, record_checking, record_facts
from jaxvid.data.file_facts import read_facts
from jaxvid.data.findings import ERROR, KINDS, WARNING, Finding
from jaxvid.data.source_groups import read_groups
from jaxvid.data.split_loading import load_splits
from jaxvid.data.split_summary import summary
from jaxvid.decode.video import BACKENDS

EXAMPLES = """examples:
  jaxvid data check data/rwf2000
  jaxvid data check data/ucf101 --option fold=2 --frames all
  jaxvid data check --config configs/videomae_rwf.py --config.data.root=DIR --json

Looked at are: splits that can be read, files that are missing, cannot be decoded or hold one frame,
labelled segments beyond the end, the same content or the same source in two splits, classes without
clips, and the number that labels begin with; with a recipe that hears, the sound too. Of sets of
features (youtube8m) and of frames in files of records (tfds): shards that are damaged, --frames records
of each with their checksums, feature sizes, numbers that are not finite, ids in two splits, and labels as
above; equal contents are not compared there. Not looked at: data.store.

exit code: 0, 1 if there are errors, 2 if nothing could be started
"""
MANY_CLASSES = 24
SHOWN = 10


def run(argv: Sequence[str]) -> int:
    """`jaxvid data check ROOT|--config FILE …` -> exit code."""
    args, overrides = arguments.parse(_parser(), argv)
    try:
        report = _report(args, arguments.choose(args, overrides))
    except (ValueError, OSError, TypeError) as error:  # TypeError: an option its reader has not
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2, ensure_ascii=False) if args.json else text(report))
    return 1 if report["errors"] else 0


def _parser() -> argparse.ArgumentParser:
    p = arguments.parser("check", __doc__, EXAMPLES)
    p.add_argument("--splits", type=arguments.split_names, metavar="A,B", help="only these")
    p.add_argument(
        "--frames",
        type=_frames,
        default=16,
        metavar="N|all",
        help="decoded of each file, first and last among them, or records read of each shard "
        "(default 16)",
    )
    p.add_argument(
        "--groups",
        metavar="CSV",
        help="says which recording a clip is of, in columns path and group (or source), for sets "
        "that do not",
    )
    p.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=KINDS,
        metavar="KIND",
        help=f"count these errors as warnings: {', '.join(KINDS)}; may be given several times",
    )
    p.add_argument("--decoder", choices=BACKENDS, default="pyav")
    p.add_argument("--deadline-seconds", type=float, default=60.0, help="for one file")
    p.add_argument(
        "--threads", type=arguments.positive, help="files decoded at once (default: one a core)"
    )
    p.add_argument("--json", action="store_true", help="one object on stdout")
    return p


def _frames(word: str) -> int | None:
    return None if word == "all" else arguments.positive(word)


def _report(args: argparse.Namespace, chosen: arguments.Chosen) -> dict[str, Any]:
    indices, findings = load_splits(
        chosen.dataset, chosen.root, splits=args.splits or chosen.splits, options=chosen.options
    )
    groups = read_groups(args.groups, indices) if args.groups and indices else None
    module = lookup.module("dataset", chosen.dataset)
    how = {
        "deadline_seconds": args.deadline_seconds,
        "threads": args.threads or arguments.usable_cores(),
        "show": sys.stderr.isatty() or not args.json,
    }
    if hasattr(module, "read_features") or hasattr(module, "Opener"):
        splits, more = _of_records(module, indices, groups, args.frames, how)
    else:
        splits, more = _of_files(args, indices, groups, how | {"audio_rate": _rate(chosen.config)})
    findings += more
    findings = sorted((_allowed(f, args.allow) for f in findings), key=lambda f: f.level != ERROR)
    return {
        "dataset": chosen.dataset,
        "detected": chosen.detected,
        "root": str(chosen.root),
        "splits": splits,
        "findings": [dataclasses.asdict(f) for f in findings],
        "errors": sum(f.level == ERROR for f in findings),
        "warnings": sum(f.level == WARNING for f in findings),
    }


Indices = dict[str, DatasetIndex]
Found = tuple[dict[str, dict[str, Any]], list[Finding]]  # what each split holds, what is wrong


def _rate(c: ConfigDict | None) -> int:
    """Samples a second of what a recipe hears; 0: nothing."""
    return 0 if c is None or c.data.audio == NO_AUDIO else c.data.audio_rate


def _of_files(args: argparse.Namespace, indices: Indices, groups, how: dict[str, Any]) -> Found:
    paths = (record.path for index in indices.values() for record in index.records)
    facts = read_facts(paths, frames=args.frames, decoder=args.decoder, **how)
    wrong = checking.check(indices, facts, groups) if indices else []
    return {split: summary(index, facts) for split, index in indices.items()}, wrong


def _of_records(
    module: ModuleType, indices: Indices, groups, count: int | None, how: dict[str, Any]
) -> Found:
    features = hasattr(module, "read_features")
    if features:
        look = record_facts.features(module.read_features)
    else:
        look = record_facts.frames(module.Opener(), count)
    records = (record for index in indices.values() for record in index.records)
    shards = record_facts.read_shards(records, look, count=count, **how)
    wrong = record_checking.check(indices, shards, groups, features=features) if indices else []
    return {
        split: record_checking.summary(index, shards) for split, index in indices.items()
    }, wrong


def _allowed(finding: Finding, kinds: Sequence[str]) -> Finding:
    return dataclasses.replace(finding, level=WARNING) if finding.kind in kinds else finding


# --- as text -----------------------------------------------------------------------------------------


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    how = ", found out by its files" if report["detected"] else ""
    lines = [f"{report['root']}: dataset {report['dataset']}{how}"]
    for split, facts in report["splits"].items():
        lines += ["", *_split_lines(split, facts)]
    lines += _class_lines({s: facts["classes"] for s, facts in report["splits"].items()})
    for finding in report["findings"]:
        lines += ["", f"{finding['level']} ({finding['kind']}): {finding['message']}"]
        lines += [f"    {example}" for example in finding["examples"][:SHOWN]]
        more = len(finding["examples"]) - SHOWN
        lines += [f"    … and {more} more (--json lists all)"] * (more > 0)
    counts = f"{_count(report['errors'], 'error')}, {_count(report['warnings'], 'warning')}"
    return "\n".join([*lines, "", counts])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _split_lines(split: str, facts: dict[str, Any]) -> list[str]:
    size = sizes.in_words(facts["size_bytes"])
    if "read" in facts:
        return _shard_lines(split, facts, size)
    held = f"{facts['clips']} clips in {facts['files']} files, {facts['decoded']} decoded"
    lines = [f"{split}: {held}, {_long(facts['hours'])}, {size}"]
    for name in ("seconds", "clip_seconds", "num_frames"):
        if facts[name]:
            spread = ", ".join(f"{word} {value:g}" for word, value in _rounded(facts[name]))
            lines.append(f"  {name.replace('_', ' '):<13}{spread}")
    for name in ("fps", "sizes"):
        if facts[name]:
            lines.append(f"  {name:<13}{_frequent(facts[name])}")
    return lines


def _long(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} hours"
    return f"{hours * 60:.1f} minutes" if hours * 60 >= 1 else f"{hours * 3600:.1f} seconds"


def _shard_lines(split: str, facts: dict[str, Any], size: str) -> list[str]:
    part = facts["read"] < facts["clips"]
    read = f"{facts['read']} read (--frames all: every one)" if part else "all read"
    lines = [f"{split}: {facts['clips']} records in {facts['files']} shards, {size}; {read}"]
    if facts["num_frames"]:
        spread = ", ".join(f"{word} {value:g}" for word, value in _rounded(facts["num_frames"]))
        lines += [f"  {'num frames':<13}{spread}", f"  {'sizes':<13}{_frequent(facts['sizes'])}"]
    return lines


def _rounded(spread: dict[str, float]):
    return ((word, round(value, 2)) for word, value in spread.items())


def _frequent(values: dict[str, int], most: int = 6) -> str:
    shown = [f"{value} ({count})" for value, count in list(values.items())[:most]]
    more = [f"{len(values) - most} others"] * (len(values) > most)
    return ", ".join(shown + more)


def _class_lines(by_split: dict[str, dict]) -> list[str]:
    """A table of classes × splits; for many classes the smallest and largest ones of each split."""
    first = next(iter(by_split.values()), {})
    if any(isinstance(counts, dict) for counts in first.values()):  # heads
        heads = {head: {s: classes[head] for s, classes in by_split.items()} for head in first}
        return [line for head, table in heads.items() for line in _table(f"{head} ", table)]
    return _table("", by_split) if first else []


def _table(kind: str, by_split: dict[str, dict[str, int]]) -> list[str]:
    names = list(next(iter(by_split.values())))
    if len(names) > MANY_CLASSES:
        return ["", f"{len(names)} {kind}classes (--json counts each)", *_ends(by_split)]
    width = max(map(len, [f"{kind}class", *names]))
    columns = [max(len(split), 7) for split in by_split]
    head = " ".join(f"{s:>{w}}" for s, w in zip(by_split, columns, strict=True))
    lines = ["", f"{kind + 'class':<{width}} {head}"]
    for name in names:
        cells = zip(by_split.values(), columns, strict=True)
        lines.append(f"{name:<{width}} " + " ".join(f"{c.get(name, 0):>{w}}" for c, w in cells))
    return lines


def _ends(by_split: dict[str, dict[str, int]]) -> list[str]:
    lines = []
    for split, counts in by_split.items():
        ordered = sorted(counts.items(), key=lambda item: item[1])
        ends = [f"{name} {n}" for name, n in ordered[:2]] + ["…"]
        lines.append(f"  {split}: " + ", ".join(ends + [f"{name} {n}" for name, n in ordered[-2:]]))
    return lines
