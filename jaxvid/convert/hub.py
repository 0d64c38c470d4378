"""Checkpoints by their id on the Hugging Face hub; the only file that knows huggingface_hub."""

import re
from pathlib import Path

from jaxvid.core.errors import ConversionError
from jaxvid.core.places import Place, as_given

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DESCRIPTION = ("*.json", "merges.txt", "vocab.txt")
WEIGHTS = ("*.safetensors", "*.bin")  # the second only where there are none of the first


def resolve(path: str | Path) -> Place:
    """What exists as it is; for an id as "MCG-NJU/videomae-base" the folder of its snapshot.

    A snapshot is fetched once and then lies in huggingface_hub's cache. Raises FileNotFoundError for
    what neither exists nor is an id or when the package is missing, ConversionError when the hub
    cannot be reached or has no such checkpoint; both name the way without the hub.
    """
    local = as_given(path, "checkpoint")
    if local.exists():
        return local
    if not _ID.fullmatch(str(path)):
        raise FileNotFoundError(f"{path}: no such checkpoint (a folder or a file of weights)")
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: no such checkpoint (a folder or a file of weights). If it is an id of the Hugging Face "
            "hub: pip install 'jaxvid[hub]', or download its folder and give its path"
        ) from error
    try:
        folder = _fetch(huggingface_hub, str(path), WEIGHTS[0])
        if not any(folder.glob(WEIGHTS[0])):
            folder = _fetch(huggingface_hub, str(path), WEIGHTS[1])
    except (OSError, ValueError) as error:  # all of the package's errors are of these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(
            f"{path} is no folder or file here and could not be fetched from the Hugging Face hub: "
            f"{reason} Without a network: download the folder elsewhere and give its path"
        ) from error
    return folder


def _fetch(huggingface_hub, name: str, weights: str) -> Path:
    patterns = [*_DESCRIPTION, weights]
    return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
