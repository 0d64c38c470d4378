"""Input pipeline against PyTorch's DataLoader with decord, and a bare PyAV loop, in one run.

    python benchmarks/pipeline.py DIR [--frames 16] [--size 224] [--rounds 3] [--short-side 224]

DIR is a folder in RWF-2000's layout (or any tree of videos). All contenders deliver the same thing: 16
uniformly spread frames a clip, short side resized, centre crop, uint8 batches; on the same cores, in
turn, `--rounds` times, from the store eight times over: once through takes half a second. The store
is what `jaxvid data prepare` makes, of frames whose short side is `--short-side`, in a temporary folder
before the clock runs. Needs the `torch` extra and decord; the store is quicker with the `fast` one.
Prints medians and ratios.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import av
import decord
import numpy as np
import torch

from jaxvid.core.record import DatasetIndex, VideoRecord
from jaxvid.data import store_writer
from jaxvid.data.pipeline import evaluation_batches
from jaxvid.data.sampling import Sampling
from jaxvid.data.source import ClipSource, FileOpener
from jaxvid.data.store import Store
from jaxvid.data.store_format import Settings
from jaxvid.data.transform_list import build_transforms

BATCH = 8
STORE_PASSES = 8
SUFFIXES = {".mp4", ".avi", ".mkv", ".webm", ".mov"}


def jaxvid_clips(paths, frames, size, _cores, open_clip=None):
    records = tuple(VideoRecord(str(p), str(i), (0,)) for i, p in enumerate(paths))
    source = ClipSource(
        DatasetIndex(records, ("any",)),
        sampling=Sampling("uniform", frames),
        size=size,
        open_clip=open_clip or FileOpener("pyav", size),
        transforms=build_transforms(
            [{"name": "short_side_resize", "size": size}, {"name": "centre_crop", "size": size}]
        ),
    )
    return sum(int(batch["mask"].sum()) for batch in evaluation_batches(source, batch_size=BATCH))


def make_store(root, paths, short_side, cores, folder):
    """-> what opens clips from a store of these files."""
    settings = Settings("folder", str(root), short_side, 90, "pyav")
    store_writer.start(folder, settings)
    store_writer.write(folder, list(map(str, paths)), settings, root=root, workers=cores)
    return Store(folder)


class DecordClips(torch.utils.data.Dataset):
    """What VideoMAE's and most public PyTorch trainers do."""

    def __init__(self, paths, frames, size):
        self.paths, self.frames, self.size = paths, frames, size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        reader = decord.VideoReader(str(self.paths[i]), num_threads=1)
        places = (np.arange(self.frames) * 2 + 1) * len(reader) // (2 * self.frames)
        video = torch.from_numpy(reader.get_batch(places).asnumpy()).permute(0, 3, 1, 2)
        height, width = video.shape[-2:]
        scale = self.size / min(height, width)
        shape = (max(self.size, round(height * scale)), max(self.size, round(width * scale)))
        video = torch.nn.functional.interpolate(
            video.float(), shape, mode="bilinear", align_corners=False
        )
        top, left = (shape[0] - self.size) // 2, (shape[1] - self.size) // 2
        return video[..., top : top + self.size, left : left + self.size].round().byte()


def torch_clips(paths, frames, size, cores):
    loader = torch.utils.data.DataLoader(
        DecordClips(paths, frames, size), batch_size=BATCH, num_workers=cores
    )
    return sum(len(batch) for batch in loader)


def bare_pyav(paths, frames, size, cores):
    """Decoding and conversion alone, one thread a core: what no pipeline can beat by much."""
    from concurrent.futures import ThreadPoolExecutor

    def one(path):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            total = stream.frames
            wanted = set(((np.arange(frames) * 2 + 1) * total // (2 * frames)).tolist())
            last, scale = max(wanted), size / min(stream.height, stream.width)
            width, height = round(stream.width * scale), round(stream.height * scale)
            for i, frame in enumerate(container.decode(stream)):
                if i in wanted:
                    frame.reformat(width, height, format="rgb24").to_ndarray()
                if i >= last:
                    break
        return 1

    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(one, paths))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--short-side", type=int, default=224, help="of the store's frames")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args, folder):
    paths = sorted(p for p in args.root.rglob("*") if p.suffix.lower() in SUFFIXES)[: args.clips]
    cores = len(os.sched_getaffinity(0))
    stored = make_store(args.root, paths, args.short_side, cores, folder)
    contenders = {
        "jaxvid (Grain threads, PyAV)": jaxvid_clips,
        "jaxvid, from a store": lambda paths, *rest: jaxvid_clips(
            paths * STORE_PASSES, *rest, open_clip=stored
        ),
        "PyTorch DataLoader + decord": torch_clips,
        "bare PyAV loop": bare_pyav,
    }
    rates = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            clips = run(paths, args.frames, args.size, cores)
            rates[name].append(clips / (time.perf_counter() - began))
    print(f"{len(paths)} clips, {args.frames} × {args.size}², {cores} cores, {args.rounds} rounds")
    ours = statistics.median(rates["jaxvid (Grain threads, PyAV)"])
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"{min(values):.1f}–{max(values):.1f}"
        print(
            f"{name:32s} {median:6.1f} clips/s ({spread}); jaxvid from files is {ours / median:.2f}×"
        )


if __name__ == "__main__":
    main()
