"""say what videos show, by a checkpoint's classes or by labels in words"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxvid import pretrained, workdir_weights
from jaxvid.convert import hub
from jaxvid.core import lookup
from jaxvid.core.batch import FLOW
from jaxvid.core.errors import ConfigError
from jaxvid.data import text
from jaxvid.data.source import NO_FLOW
from jaxvid.decode.flow import METHODS
from jaxvid.decode.video import BACKENDS
from jaxvid.infer import predictor
from jaxvid.infer.zero_shot import ZeroShot

TEMPLATES = {"plain": text.PLAIN, "kinetics": text.KINETICS}
EXAMPLES = """examples:
  jaxvid predict fight.mp4 park.avi --checkpoint runs/videomae_rwf
  jaxvid predict *.mp4 --checkpoint MCG-NJU/videomae-base-finetuned-kinetics --top-k 3 --json
  jaxvid predict fight.mp4 --checkpoint xclip-base-patch32/ --labels "fighting,hugging,shaking hands"

exit code: 0, 1 if a video could not be read (the others are done), 2 if nothing could be started
"""


def run(argv: Sequence[str]) -> int:
    """`jaxvid predict VIDEO… --checkpoint DIR` -> exit code."""
    args = _parser().parse_args(list(argv))
    try:
        names, predictions = _predictions(args)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed, told = 0, []
    for prediction in predictions:
        failed += prediction.error is not None
        if args.json:
            told.append(_as_json(prediction, names, args.top_k))
        elif prediction.error is None:
            print(_as_text(prediction, names, args.top_k), flush=True)
        if prediction.error is not None:
            print(f"error: {prediction.error}", file=sys.stderr, flush=True)
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
    p.add_argument("videos", nargs="+", metavar="VIDEO", help="a file, or a folder of frames")
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
    p.add_argument("--top-k", type=_positive, default=5)
    p.add_argument("--json", action="store_true", help="one list of objects on stdout")
    p.add_argument("--clips", type=_positive, default=1, help="clips of a video, averaged")
    p.add_argument("--crops", type=int, choices=predictor.CROPS, default=1)
    p.add_argument("--flow", choices=METHODS, help="how a model of optical flow gets it")
    p.add_argument("--batch-size", type=_positive, default=4, help="videos at a time")
    p.add_argument("--decoder", choices=BACKENDS, default="pyav")
    p.add_argument("--deadline-seconds", type=float, default=30.0, help="for one video")
    return p


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is below 1")
    return number


def _predictions(args):
    """(class names, iterator of predictions)"""
    path = hub.resolve(args.checkpoint)
    if args.labels is not None and not (path.is_dir() and text.has_tokenizer(path)):
        text.load(path)  # says which files are missing
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model, variables, info = pretrained.from_pretrained(path, arch=args.arch, dtype=dtype)
    if info["fresh"]:
        raise ConfigError(
            f"{path} has no weights for {', '.join(info['fresh'])}: nothing to predict by"
        )
    told = info["preprocessing"]
    if args.labels is not None:
        names = [label.strip() for label in args.labels.split(",")]
        length = getattr(model, "context_length", text.CONTEXT_LENGTH)
        zero_shot = ZeroShot(model, variables, text.load(path, context_length=length))
        classify = predictor.named_classes(zero_shot, names, TEMPLATES[args.templates], told, dtype)
    else:
        names = _class_names(model, info, path)
        classify = predictor.fixed_classes(model, variables, told, dtype)
    how = predictor.reading(
        told,
        clips=args.clips,
        crops=args.crops,
        flow=_flow(args.flow, model, info, path),
        decoder=args.decoder,
        deadline_seconds=args.deadline_seconds,
    )
    return names, predictor.predict(
        classify, args.videos, how, batch_size=args.batch_size, show=not args.json
    )


def _class_names(model, info, path: Path) -> list[str]:
    count = getattr(model, "num_classes", None) or len(getattr(model, "class_texts", None) or ())
    if not count:
        hint = "give --labels" if hasattr(model, "encode_text") else "fine-tune it first"
        raise ConfigError(f"{path}: {info['model']!r} has no classes of its own; {hint}")
    return info["class_names"] or [f"class {i}" for i in range(count)]


def _flow(asked: str | None, model, info, path: Path) -> str:
    inputs = lookup.module("model", info["model"]).example_inputs()
    sees_flow = FLOW in inputs or getattr(model, "stream", "") == FLOW
    trained = (info.get("config") or {}).get("data")
    if workdir_weights.is_workdir(path) and trained and trained["flow"] != NO_FLOW:
        return asked or trained["flow"]
    if asked is None and sees_flow:
        raise ConfigError(
            f"{path}: model {info['model']!r} sees optical flow; say how it is computed: --flow "
            + " or --flow ".join(METHODS)
        )
    return asked or NO_FLOW


def _as_json(prediction: predictor.Prediction, names: list[str], k: int) -> dict:
    if prediction.error is not None:
        return {"path": prediction.path, "error": prediction.error}
    top = [{"label": names[i], "index": i, "probability": p} for i, p in prediction.top(k)]
    return {"path": prediction.path, "predictions": top}


def _as_text(prediction: predictor.Prediction, names: list[str], k: int) -> str:
    lines = [f"  {p:6.1%}  {names[i]}" for i, p in prediction.top(k)]
    return "\n".join([prediction.path, *lines])
