"""Hundreds of damaged copies of real clips, read in a process of their own, which must survive them all."""

import collections
import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLIPS = Path(__file__).parents[1] / "data" / "clips"
DEADLINE = 20
# Every third copy is cut off, every third is hit where its facts stand, every third anywhere.
CHILD = """
    import json, sys, time
    from pathlib import Path
    import numpy as np
    from jaxvid.core.errors import DecodeError
    from jaxvid.decode import video
    from jaxvid.decode.deadline import run_with_deadline

    folder, backend, copies, deadline = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    sources = sorted(p for p in Path(folder).iterdir() if p.suffix != ".md")

    def damaged(data, seed):
        rng = np.random.default_rng(seed)
        if seed % 3 == 0:
            return data[: rng.integers(1, len(data))]
        first, stop = 0, len(data)
        if seed % 3 == 1:
            first = max(data.tobytes().find(b"moov"), 0)
            stop = min(first + 3000, stop)
        where = rng.integers(first, stop, rng.integers(1, 40))
        data = data.copy()
        if rng.random() < 0.5:
            data[where] ^= (1 << rng.integers(0, 8, len(where))).astype(np.uint8)
        else:
            data[where] = rng.integers(0, 256, len(where))
        return data

    def read(path):
        with video.open(path, backend=backend) as reader:
            meta = reader.meta
            assert meta.num_frames > 0 and 0 < meta.fps < 1e4 and meta.duration_seconds < 1e6, meta
            wanted = [meta.num_frames - 1, 0, meta.num_frames // 2]
            frames = reader.frames_at(wanted)
            assert frames.shape == (3, meta.height, meta.width, 3) and frames.dtype == np.uint8

    for number in range(copies):
        source, seed = sources[number % len(sources)], number // len(sources)
        data = damaged(np.frombuffer(source.read_bytes(), np.uint8), seed)
        target = Path(sys.argv[5]) / f"{number}{source.suffix}"
        path = target
        if source.suffix in (".jpg", ".png", ".webp", ".bmp"):  # a folder of frames, the second hit
            target.mkdir()
            path = target / f"2{source.suffix}"
            for name in "13":
                (target / (name + source.suffix)).write_bytes(source.read_bytes())
        path.write_bytes(data.tobytes())
        told = {"number": number, "source": source.name, "path": str(target)}
        print(json.dumps(told | {"outcome": "died"}), flush=True)
        start = time.monotonic()
        try:
            run_with_deadline(lambda: read(target), deadline, str(target), backend)
            told["outcome"] = "frames"
        except DecodeError as error:
            told |= {"outcome": "DecodeError", "said": str(error), "at": error.path}
        except BaseException as error:
            told |= {"outcome": type(error).__name__, "said": repr(error)}
        print(json.dumps(told | {"seconds": time.monotonic() - start}), flush=True)
        path.unlink()
    print(json.dumps({"number": -1, "outcome": "lived"}), flush=True)
"""


def fuzz(folder, backend, copies, scratch):
    """What became of each copy; fails unless the process lived."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), folder, backend]
        + [str(copies), str(DEADLINE), str(scratch)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    told = {line["number"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0 and told.pop(-1, None), (
        done.stderr[-2000:],
        list(told.values())[-1:],
    )
    assert len(told) == copies
    return list(told.values())


def check(outcomes):
    """Frames or a DecodeError that names the file, in time; both of them, or the test tests nothing."""
    counts = collections.Counter(o["outcome"] for o in outcomes)
    wrong = [o for o in outcomes if o["outcome"] not in ("frames", "DecodeError")]
    assert not wrong, (counts, wrong[:3])
    assert min(counts["frames"], counts["DecodeError"]) >= len(outcomes) // 10, counts
    for o in outcomes:
        if o["outcome"] == "DecodeError":
            assert o["at"] == o["path"] and o["path"] in o["said"]
            assert "deadline" not in o["said"]
        assert o["seconds"] < DEADLINE


@pytest.mark.parametrize("backend, copies", [("pyav", 300), ("decord", 90)])
def test_real_clips(tmp_path, backend, copies):
    if backend == "decord":
        pytest.importorskip("decord")
    check(fuzz(CLIPS, backend, copies, tmp_path))


def test_frames_as_images(tmp_path):
    blocks = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = Image.fromarray(blocks).resize((48, 40))
    sources, scratch = tmp_path / "images", tmp_path / "copies"
    sources.mkdir()
    scratch.mkdir()
    for kind in ("jpg", "png", "webp", "bmp"):
        file = io.BytesIO()
        image.save(file, {"jpg": "jpeg"}.get(kind, kind))
        (sources / f"frame.{kind}").write_bytes(file.getvalue())
    check(fuzz(sources, "pyav", 200, scratch))
