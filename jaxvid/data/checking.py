"""What is wrong with a dataset before anyone trains on it: splits, files, labels, and what leaks.

The indices say what the annotations promise, the facts (`data/file_facts.py`) what the files hold. Each
check is a function of the two that returns findings; none stops at the first.
"""

import collections
import os
from collections.abc import Mapping

import numpy as np

from jaxvid.core.errors import DataError
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.file_facts import FileFacts
from jaxvid.data.findings import ERROR, WARNING, Finding, found
from jaxvid.data.label_counts import label_counts
from jaxvid.data.sampling import segment_frames

Indices = Mapping[str, DatasetIndex]
Facts = Mapping[str, FileFacts]


def check(indices: Indices, facts: Facts, groups: Mapping[str, str] | None = None) -> list[Finding]:
    """All findings on these splits, errors first.

    facts: of the path of each record. groups: {record id: its source}, for sets whose readers do not
    tell it in extra["group"].
    """
    findings = [
        *missing(indices, facts),
        *unreadable(indices, facts),
        *segments(indices, facts),
        *same_content(indices, facts),
        *same_source(indices, groups or {}),
        *classes(indices),
        *labels(indices),
    ]
    return sorted(findings, key=lambda f: f.level != ERROR)


def missing(indices: Indices, facts: Facts) -> list[Finding]:
    """Files that the annotations name and that are not there."""
    gone = [p for p in _splits_of_paths(indices) if facts[p].is_missing]
    return found(ERROR, "missing", "files that do not exist: {n}", gone)


def unreadable(indices: Indices, facts: Facts) -> list[Finding]:
    """Files that cannot be decoded, that are a single picture, or hold less than they say."""
    there = [facts[p] for p in _splits_of_paths(indices) if not facts[p].is_missing]
    broken = [f"{f.path}: {f.error}" for f in there if f.meta is None]
    single = [f.path for f in there if f.meta is not None and f.meta.num_frames == 1]
    short = [
        f"{f.path}: {f.missing_frames} of {f.meta.num_frames} frames"
        for f in there
        if f.missing_frames
    ]
    return [
        *found(ERROR, "unreadable", "files that cannot be decoded: {n}", broken),
        *found(ERROR, "one-frame", "files of a single frame, in which nothing moves: {n}", single),
        *found(
            WARNING,
            "short",
            "files that end before their container says: {n}; the last frame stands in for the rest",
            short,
        ),
    ]


def segments(indices: Indices, facts: Facts) -> list[Finding]:
    """Labelled stretches that lie outside their video, or reach beyond its end by more than a
    second."""
    outside, beyond = [], []
    for _, record in _records(indices):
        meta = facts[record.path].meta
        if meta is None:
            continue
        try:
            segment_frames(meta, record)
        except DataError as error:
            outside.append(str(error))
            continue
        if record.end_seconds is not None and record.end_seconds > meta.duration_seconds + 1:
            beyond.append(
                f"{record.path}: to {record.end_seconds:g} s of {meta.duration_seconds:.2f} s"
            )
    return [
        *found(
            ERROR, "segment", "labelled segments that hold no frame of their video: {n}", outside
        ),
        *found(WARNING, "segment", "labelled segments cut at their video's end: {n}", beyond),
    ]


def same_content(indices: Indices, facts: Facts) -> list[Finding]:
    """Files of equal bytes: in two splits, with two labels, or simply twice; and one file in two
    splits."""
    splits, labels_of = _splits_of_paths(indices), collections.defaultdict(set)
    for _, record in _records(indices):
        labels_of[record.path].add(record.labels)
    alike = collections.defaultdict(list)
    for path in splits:
        alike[facts[path].content or path].append(path)
    across, contradicting, twice = [], [], []
    for paths in alike.values():
        told = " = ".join(f"{path} ({', '.join(splits[path])})" for path in paths)
        if len(set().union(*(splits[path] for path in paths))) > 1:
            across.append(told)
        elif len(paths) > 1 and len({frozenset(labels_of[path]) for path in paths}) > 1:
            contradicting.append(told)
        elif len(paths) > 1:
            twice.append(told)
    return [
        *found(
            ERROR,
            "duplicate",
            "videos in two splits with the same content: {n}; what they measure is memory",
            across,
        ),
        *found(
            ERROR,
            "duplicate",
            "videos that stand there twice, with other labels: {n}",
            contradicting,
        ),
        *found(WARNING, "duplicate", "videos that stand twice in one split: {n}", twice),
    ]


def same_source(indices: Indices, groups: Mapping[str, str]) -> list[Finding]:
    """Clips cut from one recording (extra["group"]) on both sides of a split."""
    clips = collections.defaultdict(lambda: collections.defaultdict(list))
    for split, record in _records(indices):
        group = groups.get(record.id, record.extra.get("group"))
        if group is not None:
            clips[group][split].append(record.id)
    crossing = [
        f"{group}: " + "; ".join(f"{split}: {_some(ids)}" for split, ids in by_split.items())
        for group, by_split in clips.items()
        if len(by_split) > 1
    ]
    message = "{n} sources have clips in two splits: a model can win by recognising the scene"
    return found(ERROR, "group", message, crossing)


def classes(indices: Indices) -> list[Finding]:
    """Class lists that differ between splits."""
    first, *others = indices
    wrong = [
        f"{split}: {len(indices[split].class_names)} classes, {first}: {len(indices[first].class_names)}"
        for split in others
        if tuple(indices[split].class_names) != tuple(indices[first].class_names)
    ]
    return found(ERROR, "classes", "splits that have other classes than the first: {n}", wrong)


def labels(indices: Indices) -> list[Finding]:
    """Classes without clips, labels that seem to be counted from another number, and none at all."""
    findings, by_split = [], {split: label_counts(index) for split, index in indices.items()}
    for split, index in indices.items():
        bare = [record.id for record in index.records if not record.labels]
        findings += found(WARNING, "labels", split + ": clips without a label: {n}", bare)
    first, *others = [split for split in by_split if _any_label(by_split[split])] or [None]
    if first is None:
        return findings
    for head, trained in by_split[first].items():
        names = np.array(list(trained))
        counts = np.array(list(trained.values()))
        elsewhere = sum((np.array(list(by_split[s][head].values())) for s in others), 0 * counts)
        of = f" of {head}" if head else ""
        nowhere = names[(counts + elsewhere) == 0].tolist()
        untrained = names[(counts == 0) & (elsewhere > 0)].tolist()
        what = f"classes{of} without a clip in any split: {{n}} of {len(names)}"
        what += _base(nowhere, names)
        findings += found(WARNING, "labels", what, nowhere)
        what = (
            f"classes{of} without a clip in {first}, but with some in {' or '.join(others)}: {{n}}"
        )
        findings += found(WARNING, "labels", what, untrained)
    if not (indices[first].multilabel or indices[first].heads):
        findings += _one_class_or_unseen(first, others, by_split)
    return findings


def _one_class_or_unseen(first: str, others: list[str], by_split: dict) -> list[Finding]:
    """Of clips of one class each: what is trained alone, and what a split that could have all lacks."""
    trained = [name for name, count in by_split[first][""].items() if count]
    findings = []
    if len(trained) == 1:
        what = f"{first} has clips of {{n}} class alone: there is nothing to tell it from"
        findings += found(WARNING, "labels", what, trained)
    for split in others:
        counts = by_split[split][""]
        if sum(counts.values()) >= len(trained):
            what = f"classes with clips in {first} and none in {split}: {{n}}"
            unseen = [name for name in trained if not counts.get(name, 0)]
            findings += found(WARNING, "labels", what, unseen)
    return findings


def _base(nowhere: list[str], names: np.ndarray) -> str:
    """What an empty class at one end of the list says about the number that labels begin with."""
    if len(names) > 2 and nowhere == [names[0]]:
        return "; it is the first one: are the labels counted from 1 and read as if from 0?"
    if len(names) > 2 and nowhere == [names[-1]]:
        return "; it is the last one: are the labels counted from 0 and read as if from 1?"
    return ""


def _any_label(counts: Mapping[str, Mapping[str, int]]) -> bool:
    return any(any(head.values()) for head in counts.values())


def _records(indices: Indices) -> list[tuple[str, VideoRecord]]:
    return [(split, record) for split, index in indices.items() for record in index.records]


def _splits_of_paths(indices: Indices) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for split, record in _records(indices):
        if split not in splits.setdefault(record.path, []):
            splits[record.path].append(split)
    return splits


def _some(ids: list[str], most: int = 3) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(map(os.fspath, ids[:most])) + more
