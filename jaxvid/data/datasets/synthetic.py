"""A generated data set of real video files: four classes that differ by motion alone.

    root/{train,val}/{left,right,approaching,receding}/0000.mp4      root/synthetic.json

It is written on first use, in seconds, so that everything can be tried on a machine that has no
data. What the clips show, and why no model blind to order passes 0.5, is told in `_scene.py`. Every
frame is coded by itself with the same quantiser: the coding does not tell either which way a clip
runs. Flip none of these clips left to right: that makes `right` of `left`.
"""

import concurrent.futures
import fractions
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from jaxvid.core import progress
from jaxvid.core.errors import ConfigError, DataError, unknown
from jaxvid.core.record import DatasetIndex
from jaxvid.data.datasets import _files, folder
from jaxvid.data.datasets._scene import CLASSES, render

SPLITS = ("train", "val")
CLASS_NAMES = tuple(CLASSES)
PARAMETERS_FILE = "synthetic.json"
GENERATOR = 1  # raised when the same parameters come to mean other clips
DEFAULTS: dict[str, Any] = {
    "clips_per_class": {"train": 200, "val": 50},
    "num_frames": 16,
    "size": 64,
    "seed": 0,
    "fps": 10.0,
}

_log = logging.getLogger("jaxvid.data")


def load(
    root: str | Path,
    split: str,
    *,
    annotations: str | Path | None = None,
    videos: str | Path | None = None,
    max_missing: float = 0.0,
    **options,
) -> DatasetIndex:
    """The records of "train" or "val", labels left 0, right 1, approaching 2, receding 3.

    A root that is missing or empty is filled first: options are those of `generate`. For a root that is
    generated already they must agree with how it was made; what is not given is not compared.
    max_missing: the share of a split's clips that may be gone from the disk.

    Raises UnknownNameError for another split or option, ConfigError for annotations, videos or options
    that cannot be, DataError for a root that holds something else, other clips, or too few of them.
    """
    if split not in SPLITS:
        raise unknown("split of synthetic", split, SPLITS)
    for name in options:
        if name not in DEFAULTS:
            raise unknown("option of synthetic", name, DEFAULTS)
    _files.refuse_annotations("synthetic", annotations)
    if videos is not None:
        raise ConfigError(
            f"dataset 'synthetic' writes its own videos under root; got videos={str(videos)!r}: leave "
            "it unset"
        )
    root = Path(root)
    if _stored_parameters(root) is None:
        generate(root, **options)
    stored = _check_same(root, _plain({**DEFAULTS, **options}), names=options)
    index = folder.load(root, split, class_names=CLASS_NAMES)
    _check_complete(root / split, len(index), stored["clips_per_class"][split], max_missing)
    return index


def generate(
    root: str | Path,
    *,
    clips_per_class: Mapping[str, int] = DEFAULTS["clips_per_class"],
    num_frames: int = DEFAULTS["num_frames"],
    size: int = DEFAULTS["size"],
    seed: int = DEFAULTS["seed"],
    fps: float = DEFAULTS["fps"],
) -> Path:
    """Writes the whole data set, all of it or nothing, and returns root.

    clips_per_class: how many clips of each class, for "train" and for "val". num_frames a clip, size
    their side in pixels (even), fps frames a second. The same arguments write the same clips. A root
    that they have written already is left as it is.

    Raises ConfigError for arguments that cannot be, DataError when root holds anything else.
    """
    wanted = _plain(
        {
            "clips_per_class": clips_per_class,
            "num_frames": num_frames,
            "size": size,
            "seed": seed,
            "fps": fps,
        }
    )
    root = Path(root)
    if _stored_parameters(root) is None:
        if root.exists() and not (root.is_dir() and not os.listdir(root)):
            raise DataError(
                f"{root}: is to be filled with generated clips but is no empty folder, and no "
                f"generated data set either ({PARAMETERS_FILE} is missing); it holds "
                f"{_files.contents(root)}. Choose another root, or delete it."
            )
        _write_all(root.resolve(), wanted)
    _check_same(root, wanted, names=wanted)
    return root


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as JSON would give them back; ConfigError listing all that cannot be."""
    counts = dict(parameters["clips_per_class"])
    plain = {**parameters, "clips_per_class": counts, "fps": float(parameters["fps"])}
    wrong = []
    if set(counts) != set(SPLITS) or any(not isinstance(n, int) or n < 1 for n in counts.values()):
        wrong.append(f"clips_per_class is {counts}, expected a number >= 1 for train and for val")
    if plain["num_frames"] < 2:
        wrong.append(f"num_frames is {plain['num_frames']}, expected >= 2 (one does not move)")
    if plain["size"] < 16 or plain["size"] % 2:
        wrong.append(f"size is {plain['size']}, expected an even number of pixels >= 16")
    if plain["seed"] < 0:
        wrong.append(f"seed is {plain['seed']}, expected >= 0")
    if not 0 < plain["fps"] <= 1000:
        wrong.append(f"fps is {plain['fps']}, expected more than 0 and at most 1000")
    if wrong:
        raise ConfigError("dataset 'synthetic' cannot be generated: " + "; ".join(wrong))
    return {"generator": GENERATOR, **plain}


def _stored_parameters(root: Path) -> dict[str, Any] | None:
    """What root was generated with; None when it was not."""
    path = root / PARAMETERS_FILE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: stored[name] for name in ("generator", *DEFAULTS)}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: is not what the generator wrote ({type(error).__name__}: {error}); delete "
            f"{root} to have it written again"
        ) from error


def _check_same(root: Path, wanted: Mapping[str, Any], names) -> dict[str, Any]:
    """The stored parameters, if those of these names are the wanted ones; else DataError."""
    stored = _stored_parameters(root)
    other = [name for name in ("generator", *names) if stored[name] != wanted[name]]
    if other:
        differences = "; ".join(
            f"{name} is {stored[name]} there, asked for is {wanted[name]}" for name in other
        )
        raise DataError(
            f"{root}: was generated with other parameters: {differences}. Delete it to have it "
            "written again, or choose another root."
        )
    return stored


def _check_complete(path: Path, found: int, per_class: int, max_missing: float) -> None:
    expected = per_class * len(CLASS_NAMES)
    missing = expected - found
    if missing > max_missing * expected or missing < 0:
        raise DataError(
            f"{path}: holds {found} clips, {expected} were generated (max_missing is {max_missing}); "
            f"delete {path.parent} to have them written again"
        )
    if missing:
        _log.warning("synthetic: %s: %d of %d clips are missing", path, missing, expected)


def _write_all(root: Path, parameters: dict[str, Any]) -> None:
    """Writes beside root and renames: a root is there whole or not at all."""
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = root.parent / f".{root.name}-{uuid.uuid4().hex}"
    jobs = [
        (draft / split / name / f"{number:04d}.mp4", name, (s, c, number))
        for s, split in enumerate(SPLITS)
        for c, name in enumerate(CLASS_NAMES)
        for number in range(parameters["clips_per_class"][split])
    ]

    def write(job) -> None:
        path, name, place = job
        frames = render(
            name,
            (parameters["seed"], *place),
            num_frames=parameters["num_frames"],
            size=parameters["size"],
        )
        _write_video(path, frames, parameters["fps"])

    try:
        for folder_ in sorted({job[0].parent for job in jobs}):
            folder_.mkdir(parents=True)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(write, jobs)
            what = f"writing {root.name}"
            for _ in progress.bar(done, total=len(jobs), what=what, unit="clip"):
                pass
        text = json.dumps(parameters, indent=2) + "\n"
        (draft / PARAMETERS_FILE).write_text(text, encoding="utf-8")
        _move(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # nothing is left of it unless something failed


def _move(draft: Path, root: Path) -> None:
    try:
        if root.is_dir():
            root.rmdir()  # it is empty; not every system renames onto a folder
        draft.rename(root)
    except OSError:
        if _stored_parameters(root) is None:
            raise
        # another process has been quicker; whether it wrote the same is checked by the caller


def _write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes uint8 (T, H, W, 3) as MPEG-4, each frame a key frame of the same, best quantiser."""
    options = {"g": "1", "qmin": "2", "qmax": "2", "threads": "1"}
    rate = fractions.Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode())
