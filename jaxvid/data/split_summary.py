"""The numbers of one split: clips, files, classes, durations, sizes, frame rates."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvid.core.record import DatasetIndex
from jaxvid.data.file_facts import FileFacts
from jaxvid.data.label_counts import label_counts


def summary(index: DatasetIndex, facts: Mapping[str, FileFacts]) -> dict[str, Any]:
    """Plain values for JSON. seconds, num_frames: of whole files, {shortest, median, longest};
    clip_seconds: of labelled segments where there are any; fps, sizes ("WxH"): {value: files}, most
    frequent first."""
    files = [facts[path] for path in dict.fromkeys(r.path for r in index.records)]
    metas = [f.meta for f in files if f.meta is not None]
    seconds = [meta.duration_seconds for meta in metas]
    segments = [r.end_seconds - r.start_seconds for r in index.records if r.end_seconds is not None]
    counts = label_counts(index)
    return {
        "clips": len(index),
        "files": len(files),
        "decoded": len(metas),
        "size_bytes": sum(f.size_bytes for f in files),
        "hours": sum(seconds) / 3600,
        "unlabelled": sum(not record.labels for record in index.records),
        "classes": counts if index.heads else counts[""],
        "seconds": spread(seconds),
        "clip_seconds": spread(segments),
        "num_frames": spread([meta.num_frames for meta in metas]),
        "fps": _frequent(f"{meta.fps:.4g}" for meta in metas),
        "sizes": _frequent(f"{meta.width}x{meta.height}" for meta in metas),
    }


def spread(values: list[float]) -> dict[str, float] | None:
    """{shortest, median, longest}; None of nothing."""
    if not values:
        return None
    return {
        "shortest": float(min(values)),
        "median": float(np.median(values)),
        "longest": float(max(values)),
    }


def _frequent(values) -> dict[str, int]:
    return dict(collections.Counter(values).most_common())
