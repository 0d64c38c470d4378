"""What is wrong with a dataset whose clips are records of shards: the counterpart of
`data/checking.py`."""

import collections
from collections.abc import Mapping
from typing import Any

from jaxvid.core.record import DatasetIndex
from jaxvid.data import checking
from jaxvid.data.findings import ERROR, Finding, found
from jaxvid.data.label_counts import label_counts
from jaxvid.data.record_facts import RecordFacts, ShardFacts
from jaxvid.data.split_summary import spread

Indices = Mapping[str, DatasetIndex]
Shards = Mapping[str, ShardFacts]


def check(
    indices: Indices, shards: Shards, groups: Mapping[str, str] | None = None, *, features: bool
) -> list[Finding]:
    """All findings on these splits, errors first.

    shards: of the path of each record. groups: see `checking.check`. features: whether the records are
    features, all of one size, or frames.
    """
    findings = [
        *unreadable(shards),
        *(sizes(shards) if features else single(shards)),
        *twice(indices),
        *checking.same_source(indices, groups or {}),
        *checking.classes(indices),
        *checking.labels(indices),
    ]
    return sorted(findings, key=lambda f: f.level != ERROR)


def unreadable(shards: Shards) -> list[Finding]:
    """Records that are damaged, or hold numbers that are none."""
    read = [(path, name, facts) for path, name, facts in _each(shards)]
    broken = [facts.error for _, _, facts in read if facts.error]
    strange = [f"{path}: {name}" for path, name, facts in read if not facts.finite]
    return [
        *found(ERROR, "unreadable", "records that cannot be read: {n}", broken),
        *found(ERROR, "unreadable", "records with numbers that are not finite: {n}", strange),
    ]


def sizes(shards: Shards) -> list[Finding]:
    """Features of another length than most; a model takes one."""
    of_size = collections.defaultdict(list)
    for path, name, facts in _each(shards):
        if not facts.error:
            of_size[facts.size].append(f"{path}: {name} has {facts.size[0]} numbers")
    usual = max(of_size, key=lambda size: len(of_size[size]), default=())
    others = [text for size, texts in of_size.items() if size != usual for text in texts]
    message = (
        f"{{n}} records have features of another size than the usual {usual[0]}" if usual else ""
    )
    return found(ERROR, "features", message, others)


def single(shards: Shards) -> list[Finding]:
    """Videos in which nothing moves."""
    one = [f"{path}: {name}" for path, name, facts in _each(shards) if facts.num_frames == 1]
    return found(ERROR, "one-frame", "records of a single frame, in which nothing moves: {n}", one)


def twice(indices: Indices) -> list[Finding]:
    """Records of one id in two splits: the same video. Sets that number their records have no such
    ids."""
    splits = collections.defaultdict(dict)
    for split, index in indices.items():
        for record in index.records:
            splits[record.id][split] = record.path
    across = [
        f"{name}: " + " = ".join(f"{path} ({split})" for split, path in places.items())
        for name, places in splits.items()
        if len(places) > 1
    ]
    message = "videos in two splits: {n}; what they measure is memory"
    return found(ERROR, "duplicate", message, across)


def summary(index: DatasetIndex, shards: Shards) -> dict[str, Any]:
    """Plain values for JSON. read: how many records were looked at. num_frames: of those, {shortest,
    median, longest}; sizes: {numbers of a row, or "HxWx3": records}, most frequent first."""
    paths = list(dict.fromkeys(record.path for record in index.records))
    read = [facts for path in paths for facts in shards[path].records.values()]
    whole = [facts for facts in read if not facts.error]
    counts = label_counts(index)
    by_size = collections.Counter("x".join(map(str, facts.size)) for facts in whole)
    return {
        "clips": len(index),
        "files": len(paths),
        "read": len(read),
        "size_bytes": sum(shards[path].size_bytes for path in paths),
        "unlabelled": sum(not record.labels for record in index.records),
        "classes": counts if index.heads else counts[""],
        "num_frames": spread([facts.num_frames for facts in whole]),
        "sizes": dict(by_size.most_common()),
    }


def _each(shards: Shards) -> list[tuple[str, str, RecordFacts]]:
    return [(path, name, f) for path, facts in shards.items() for name, f in facts.records.items()]
