"""say what videos show, by a checkpoint's classes or by labels in words"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxvid import pretrained
from jaxvid.cli._predicted import Teller
from jaxvid.convert import hub
from jaxvid.core import lookup
from jaxvid.core.batch import FLOW
from jaxvid.core.errors import USER_ERRORS, ConfigError
from jaxvid.data import text
from jaxvid.data.datasets._files import video_files
from jaxvid.data.source import NO_FLOW, ON_ERROR, STORED
from jaxvid.decode.flow import METHODS
from jaxvid.decode.video import BACKENDS
from jaxvid.infer import predictor
from jaxvid.infer.zero_shot import ZeroShot

TOP_K = 5
TEMPLATES = {"plain": text.PLAIN, "kinetics": text.KINETICS}
EXAMPLES = """examples:
  jaxvid predict fight.mp4 park.avi --checkpoint runs/videomae_rwf
  jaxvid predict home.mp4 --checkpoint runs/slowfast_charades --threshold 0.3
  jaxvid predict *.mp4 --checkpoint MCG-NJU/videomae-base-finetuned-kinetics --top-k 3 --json
  jaxvid predict fight.mp4 --checkpoint xclip-base-patch32/ --labels "fighting,hugging,shaking hands"

exit code: 0, 1 if a video could not be read, 2 if nothing could be started
"""


def run(argv: Sequence[str]) -> int:
    """`jaxvid predict VIDEO… --checkpoint DIR` -> exit code."""
    args = _parser().parse_args(list(argv))
    try:
        teller, predictions = _predictions(args)
    except (*USER_ERRORS, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed, told = 0, []
    for prediction in predictions:
        failed += prediction.error is not None
        if args.json:
            told.append(teller.as_json(prediction))
        elif prediction.error is None:
            print(teller.as_text(prediction), flush=True)
        if prediction.error is not None:
            print(f"error: {prediction.error}", file=sys.stderr, flush=True)
            if args.on_error == "raise":
                break
    if args.json:
        print(json.dumps(told, indent=2))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="jaxvid predict",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="a file, a folder of videos, or a folder of frames; for models of features a .npy file "
        "(frames, numbers)",
    )
    p.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="workdir, export, or Hugging Face folder or id",
    )
    p.add_argument("--arch", help="what a bare file of weights is of")
    p.add_argument("--labels", help="classes in words, with commas between, for models of texts")
    p.add_argument(
        "--templates", choices=TEMPLATES, default="plain", help="prompts made of the labels"
    )
    p.add_argument(
        "--top-k", type=_positive, help="classes told at most (default 5; with --threshold all)"
    )
    p.add_argument(
        "--threshold",
        type=_share,
        default=0.0,
        metavar="P",
        help="tell classes of at least this probability",
    )
    p.add_argument("--json", action="store_true", help="one list of objects on stdout")
    p.add_argument("--clips", type=_positive, default=1, help="clips of a video, pooled")
    p.add_argument("--crops", type=int, choices=predictor.CROPS, default=1)
    p.add_argument(
        "--box",
        type=_box,
        metavar="X1,Y1,X2,Y2",
        help="look at this part of the picture, such as a person: shares of its width and height",
    )
    p.add_argument("--flow", choices=METHODS, help="how a model of optical flow gets it")
    p.add_argument("--batch-size", type=_positive, default=4, help="videos at a time")
    p.add_argument("--decoder", choices=BACKENDS, default="pyav")
    p.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="skip",
        help="a video that cannot be read is said and the others done (skip), or it ends all (raise)",
    )
    p.add_argument("--deadline-seconds", type=_seconds, default=30.0, help="for one video")
    return p


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is below 1")
    return number


def _seconds(word: str) -> float:
    number = float(word)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{word} is not above 0")
    return number


def _share(word: str) -> float:
    number = float(word)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{word} is no probability: expected 0 to 1")
    return number


def _box(word: str) -> tuple[float, ...]:
    box = tuple(map(float, word.split(",")))
    x1, y1, x2, y2 = box if len(box) == 4 else (1.0,) * 4  # which is no part of anything
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise argparse.ArgumentTypeError(
            f"{word} is no part of the picture: expected shares from 0 to 1, the left before the right and "
            "the top before the bottom"
        )
    return box


def _predictions(args) -> tuple[Teller, Iterator[predictor.Prediction]]:
    path = hub.resolve(args.checkpoint)
    if args.labels is not None and not (path.is_dir() and text.has_tokenizer(path)):
        text.load(path)  # says which files are missing
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model, variables, info = pretrained.from_pretrained(path, arch=args.arch, dtype=dtype)
    if info["fresh"]:
        raise ConfigError(
            f"{path} has no weights for {', '.join(info['fresh'])}: nothing to predict by"
        )
    told, task = info["preprocessing"], info.get("task") or predictor.ONE_LABEL
    if args.labels is not None:
        names = [label.strip() for label in args.labels.split(",")]
        length = getattr(model, "context_length", text.CONTEXT_LENGTH)
        zero_shot = ZeroShot(model, variables, text.load(path, context_length=length))
        classify = predictor.named_classes(zero_shot, names, TEMPLATES[args.templates], told, dtype)
        task = predictor.ONE_LABEL
    else:
        names = _class_names(model, info, path)
        classify = predictor.fixed_classes(model, variables, told, task, dtype)
    how = predictor.reading(
        told,
        clips=args.clips,
        crops=args.crops,
        flow=_flow(args.flow, model, info, path),
        decoder=args.decoder,
        deadline_seconds=args.deadline_seconds,
        box=args.box,
    )
    top_k = args.top_k or (None if args.threshold else TOP_K)
    # In a log the predictions that come tell how far it is.
    show = not args.json and sys.stderr.isatty()
    return Teller(names, task["heads"], top_k, args.threshold), predictor.predict(
        classify, _videos(args.videos), how, batch_size=args.batch_size, show=show
    )


def _videos(paths: Sequence[str]) -> list[str]:
    """The files of folders of videos in their natural order; else what was given."""
    found = []
    for path in map(Path, paths):
        inside = video_files(path) if path.is_dir() else []
        found += [str(p) for p in inside] or [str(path)]
    return found


def _class_names(model, info, path: Path) -> list[str]:
    count = getattr(model, "num_classes", None) or len(getattr(model, "class_texts", None) or ())
    if not count:
        hint = "give --labels" if hasattr(model, "encode_text") else "fine-tune it first"
        raise ConfigError(f"{path}: {info['model']!r} has no classes of its own; {hint}")
    return info["class_names"] or [f"class {i}" for i in range(count)]


def _flow(asked: str | None, model, info, path: Path) -> str:
    inputs = lookup.module("model", info["model"]).example_inputs()
    sees_flow = FLOW in inputs or getattr(model, "stream", "") == FLOW
    trained = info["preprocessing"].get("flow")
    if asked is not None and not sees_flow:
        raise ConfigError(
            f"{path}: model {info['model']!r} sees no optical flow: leave --flow {asked} away"
        )
    if trained in METHODS:
        return asked or trained
    if asked is None and trained == STORED:
        raise ConfigError(
            f"{path}: model {info['model']!r} was trained on the optical flow of a store that is not here "
            "to tell its method; say which jaxvid data prepare was given: --flow "
            + " or --flow ".join(METHODS)
        )
    if asked is None and sees_flow:
        raise ConfigError(
            f"{path}: model {info['model']!r} sees optical flow; say how it is computed: --flow "
            + " or --flow ".join(METHODS)
        )
    return asked or NO_FLOW
