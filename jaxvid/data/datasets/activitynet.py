"""ActivityNet: 200 everyday activities in untrimmed videos of a few minutes, with their segments.

F. Caba Heilbron et al., "ActivityNet: A Large-Scale Video Benchmark for Human Activity
Understanding", CVPR 2015; release 1.3 (10,024 training, 4,926 validation, 5,044 unlabelled test
videos) or 1.2 (100 classes).

    activity_net.v1-3.min.json          subset, duration, labelled segments of each video
    v_<id>.mp4, .mkv, .webm             anywhere below root

By default a record is a labelled segment (trimmed classification, one label); with untrimmed=True
it is a whole video with all its labels (multi-label, video-level mAP). Many videos are gone from
the web: max_missing.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxvid.core.errors import unknown
from jaxvid.core.record import DatasetIndex
from jaxvid.data.datasets import _classes, _listed, _segments

SPLITS = ("train", "val", "test")
FILES = tuple(
    f"{folder}activity_net.v{release}{kind}.json"
    for folder in ("", "annotations/")
    for release in ("1-3", "1-2")
    for kind in (".min", "")
) + ("activity_net*.json", "annotations/activity_net*.json", "*.json", "annotations/*.json")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    untrimmed: bool = False,
    class_names: Sequence[str] | str | None = None,
) -> DatasetIndex:
    """The segments, or with `untrimmed` the videos, of one split; of "test" the videos, unlabelled.

    annotations: the JSON file or its folder; videos: the folder of the videos, both root by default.
    class_names: the classes in label order, a file of them or the name of a list that ships with jaxvid
    ("activitynet": the 200 of release 1.3); None: the sorted names of all labels in the file. Ids are
    ID_start_end_label, or the video's ID. max_missing: the share of videos that may be absent.

    Raises UnknownNameError for another split, DataError for what does not fit, naming its place.
    """
    if split not in SPLITS:
        raise unknown("split of activitynet", split, SPLITS)
    return _segments.load(
        "activitynet",
        _listed.annotation_file("activitynet", root, annotations, FILES),
        split,
        _listed.given_place(Path(root), videos),
        untrimmed=untrimmed,
        class_names=_classes.chosen(Path(root), annotations, class_names, ()),
        max_missing=max_missing,
    )
