"""convert checkpoints between PyTorch or Hugging Face and jaxvid, both ways"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxvid import pretrained, saving
from jaxvid.convert import source, weights_file
from jaxvid.core.errors import USER_ERRORS

DESCRIPTION = """Converts a checkpoint, strictly: every key is accounted for, or all that does not fit
is listed and nothing is written.

SRC  a Hugging Face folder, a folder or .safetensors file that jaxvid wrote, or a file of weights of
     PyTorch (.pth, .pt, .bin, .safetensors; with --arch)
DST  a folder, which jaxvid and (for architectures it has) transformers load; or one file, whose keys
     --to chooses: .safetensors, or .pth (needs torch)
"""
EXAMPLES = """examples:
  jaxvid convert videomae-base-finetuned-kinetics/ exported/
  jaxvid convert checkpoint.pth exported/ --arch videomae/finetune
  jaxvid convert pretrained.pth start/ --arch videomae --num-classes 2
  jaxvid convert exported/ original.pth --to videomae/finetune
"""


def run(argv: Sequence[str]) -> int:
    """`jaxvid convert SRC DST [--arch ARCH] [--to ARCH] [--num-classes N]` -> exit code."""
    args = _parser().parse_args(list(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        model, variables, info = pretrained.from_pretrained(
            args.source, arch=args.arch, config=args.config, num_classes=args.num_classes
        )
        keys = _write(Path(args.destination), args.to, model, variables, info)
    except (*USER_ERRORS, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    print(
        f"{args.destination}: {info['model']}, {count / 1e6:.2f}M parameters, "
        f"keys of {keys}, from {info['source']['arch']}"
    )
    for path in info["fresh"]:
        print(f"  fresh, train before use: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="jaxvid convert",
        description=DESCRIPTION,
        epilog=EXAMPLES + "\nARCH: " + ", ".join(f.arch for f in source.all_sources()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", metavar="SRC")
    p.add_argument("destination", metavar="DST")
    p.add_argument("--arch", help="what SRC is of; or a model's name, to find it by the keys")
    p.add_argument(
        "--to",
        metavar="ARCH",
        help="whose keys DST has: one of ARCH below, or 'jaxvid'. Default: Hugging Face's where it "
        "has the model, for .pth the original repository's",
    )
    p.add_argument(
        "--config",
        type=_json_object,
        metavar="JSON",
        help="what SRC does not say of itself, in the reference's words, such as '{\"num_heads\": 6}'",
    )
    p.add_argument("--num-classes", type=int, help="another number: the head will be fresh")
    return p


def _json_object(word: str) -> dict:
    try:
        value = json.loads(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{word} is no JSON object {{…}}")
    return value


def _write(path: Path, to: str | None, model, variables, info) -> str:
    """Writes DST; returns whose keys it has."""
    if not weights_file.is_weights_file(path):
        return saving.save_pretrained(path, model, variables, info, arch=to)
    arch = to or _default_arch(path, info["model"])
    saving.save_weights(path, model, variables, info, arch=arch)
    return arch


def _default_arch(path: Path, model: str) -> str:
    """jaxvid's own keys for .safetensors; for .pth those of a reference that writes such files."""
    known = source.sources_of(model) if source.has_table(model) else []
    if path.suffix == ".safetensors" or not known:
        return source.NATIVE
    return next((f.arch for f in known if f.source.model_type is None), known[0].arch)
