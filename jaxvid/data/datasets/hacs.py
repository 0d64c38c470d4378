"""HACS: 1.5 million two-second clips (HACS Clips) and 50,000 videos with segments (HACS Segments)
of 200 actions.

H. Zhao et al., "HACS: Human Action Clips and Segments Dataset for Recognition and Temporal
Localization", ICCV 2019.

    HACS_v1.1.1/HACS_clips_v1.1.1.csv       classname,youtube_id,subset,start,end,label
    HACS_v1.1.1/HACS_segments_v1.1.1.json   the format of ActivityNet
    Archery/v_<youtube_id>.mp4              anywhere below root, folders of classes or not

Both label the same whole videos. In HACS Clips label 1 is a clip that shows the class, -1 one that
was proposed for it and does not: a record without labels, whose `extra["negative_class"]` is the
number of that class. Such negatives teach a multi-label model (BCE); a softmax needs
negatives=False.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import DataError, nearest, unknown
from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data.datasets import _classes, _files, _listed, _segments, _videos

SPLITS = ("train", "val", "test")
KINDS = ("clips", "segments")
COLUMNS = ("classname", "youtube_id", "subset", "start", "end", "label")
_FOLDERS = ("", "HACS_v1.1.1/", "HACS_v1.1/", "annotations/")
FILES = {
    "clips": tuple(f"{folder}HACS_clips*.csv" for folder in _FOLDERS),
    "segments": tuple(f"{folder}HACS_segments*.json" for folder in _FOLDERS),
}

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    kind: str | None = None,
    negatives: bool = True,
    untrimmed: bool = False,
    class_names: Sequence[str] | str | None = None,
) -> DatasetIndex:
    """The records of one split, in the order of the file.

    annotations: the csv, the JSON, or the folder of either; videos: the folder of the videos; both
    root by default. kind: "clips" or "segments"; None: by the file that is there, clips if both are
    (it is said). negatives: whether clips of label -1 are records (without labels). untrimmed
    (segments only): a record a video with all its labels, multi-label. class_names: the classes in
    label order, a file of them or the name of a list that ships with jaxvid; None: the sorted names
    in the file. max_missing: the share of videos that may be absent.

    Raises UnknownNameError for another split or kind, DataError for what does not fit, with its line.
    """
    if split not in SPLITS:
        raise unknown("split of hacs", split, SPLITS)
    if kind is not None and kind not in KINDS:
        raise unknown("kind of hacs", kind, KINDS)
    file = _file(Path(root), annotations, kind)
    place = _listed.given_place(Path(root), videos)
    names = _classes.chosen(Path(root), annotations, class_names, ())
    if file.suffix.lower() == ".json":
        return _segments.load(
            "hacs",
            file,
            split,
            place,
            untrimmed=untrimmed,
            class_names=names,
            max_missing=max_missing,
        )
    if untrimmed:
        raise DataError(
            f"{file}: untrimmed=True is for HACS Segments; this is HACS Clips (kind='segments', or name the "
            "JSON in annotations)"
        )
    return _clips(file, split, place, names, negatives, max_missing)


def _file(root: Path, annotations: str | Path | None, kind: str | None) -> Path:
    if kind is not None:
        return _listed.annotation_file("hacs", root, annotations, FILES[kind])
    file = _listed.annotation_file("hacs", root, annotations, [n for k in KINDS for n in FILES[k]])
    found = "HACS Segments" if file.suffix.lower() == ".json" else "HACS Clips"
    _log.info("hacs: %s: taken as %s", file, found)
    return file


def _clips(
    file: Path,
    split: str,
    videos: Path,
    names: Sequence[str] | None,
    negatives: bool,
    max_missing: float,
) -> DatasetIndex:
    rows = _listed.read_csv(file, header=COLUMNS)
    names = names or sorted({row["classname"].strip() for _, row in rows} - {""})
    numbers = {name: number for number, name in enumerate(names)}
    folder = _videos.VideoFolder(videos)
    records, lines = [], []
    for line, row in rows:
        record = _record(f"{file}:{line}", row, split, numbers, folder)
        if record is not None and (record.labels or negatives or split == "test"):
            records.append(record)
            lines.append(line)
    if not records:
        held = sorted({row["subset"] for _, row in rows})
        raise DataError(f"{file}: no row of the split {split!r}; the subsets are {', '.join(held)}")
    records = _listed.drop_duplicates("hacs", records, file=file, lines=lines)
    kept = _listed.keep_present("hacs", records, max_missing=max_missing)
    without = sum(not record.labels for record in kept)
    _log.info(
        "hacs: %s of %s: %d clips of %d classes, %d of them without label",
        *(split, file, len(kept), len(names), without),
    )
    return DatasetIndex(kept, tuple(names))


def _record(where: str, row: dict, wanted: str, numbers: dict, folder) -> VideoRecord | None:
    """The record of a row; None for one of another split."""
    split = _files.split_of(row["subset"])
    if not split:
        raise DataError(
            f"{where}: the subset is {row['subset']!r}, expected training, validation or testing"
        )
    name, label = row["classname"].strip(), row["label"].strip()
    if name not in numbers and (name or split != "test"):
        raise DataError(
            f"{where}: {name!r} is none of the {len(numbers)} classes.{nearest(name, numbers)}"
        )
    if label not in ("1", "-1") and (label or split != "test"):
        raise DataError(f"{where}: the label is {label!r}, expected 1 (shows the class) or -1")
    start, end = _videos.segment(row["start"], row["end"], where)
    if split != wanted:
        return None
    key = row["youtube_id"].strip()
    if not key:
        raise DataError(f"{where}: the youtube_id is empty")
    return VideoRecord(
        path=str(folder.find(f"v_{key}", key, within=[name] if name else ())),
        id=f"{key}_{start:.10g}_{end:.10g}_{name}",
        labels=(numbers[name],) if label == "1" else (),
        start_seconds=start,
        end_seconds=end,
        extra={"negative_class": numbers[name]} if label == "-1" else {},
    )
