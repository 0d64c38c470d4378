"""The folder `save_pretrained` writes, and how it and single files come to be whole or not at all.

jaxvid.json               model, arguments, class names, preprocessing, where it came from
model.safetensors         the weights, under the keys of `arch` in jaxvid.json
config.json, preprocessor_config.json      where Hugging Face has the architecture; of some models it
                          is video_preprocessor_config.json
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvid.convert import hf_folder, preprocessing, safetensors_file, source
from jaxvid.core.errors import ConversionError
from jaxvid.core.files import write_json

DESCRIPTION, WEIGHTS = "jaxvid.json", "model.safetensors"
FORMAT = 1


def is_export(path: str | Path) -> bool:
    """Whether the folder was written by `write`."""
    return (Path(path) / DESCRIPTION).is_file()


def describe(
    model: str, arch: str, arguments: Mapping[str, Any], clip: source.Clip, info: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of jaxvid.json."""
    kept = ("class_names", "task", "preprocessing", "assumed", "source", "config", "fresh")
    return {
        "format": FORMAT,
        "model": model,
        "arch": arch,
        "arguments": dict(arguments),
        "clip": list(clip),
        "info": {name: info[name] for name in kept if info.get(name) is not None},
    }


def check_description(description: Mapping[str, Any], where: str | Path) -> Mapping[str, Any]:
    """Returns it. Raises ConversionError when a newer jaxvid wrote it or parts are absent."""
    absent = {"format", "model", "arch", "arguments", "clip", "info"} - description.keys()
    if absent or description["format"] > FORMAT:
        raise ConversionError(
            f"{where}: "
            + (f"{', '.join(sorted(absent))} absent" if absent else "written by a newer jaxvid")
            + f"; this jaxvid reads exports up to format {FORMAT}"
        )
    return description


def write(
    path: str | Path,
    description: Mapping[str, Any],
    state: Mapping[str, Any],
    hf_config: Mapping[str, Any] | None = None,
    beside: Sequence[Path] = (),
) -> None:
    """Writes the folder, whole or not at all.

    hf_config: config.json, for architectures that Hugging Face has. beside: files to copy into it, as
    those of a tokenizer. Raises FileExistsError when the
    folder has something else in it than an earlier export.
    """
    with new_folder(path) as folder:
        safetensors_file.write(folder / WEIGHTS, state)
        write_json(folder / DESCRIPTION, description)
        if hf_config is not None:
            processor = source.find(description["arch"]).source.processor
            told = preprocessing.to_hf(description["info"]["preprocessing"], processor)
            write_json(folder / hf_folder.CONFIG, hf_config)
            of_videos = processor.endswith(preprocessing.OF_VIDEOS)
            name = hf_folder.VIDEO_PREPROCESSOR if of_videos else hf_folder.PREPROCESSOR
            write_json(folder / name, told)
        for file in beside:
            shutil.copyfile(file, folder / file.name)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when the block ends well.

    An earlier export there is replaced. Raises FileExistsError when anything else is.
    """
    path = Path(path).absolute()
    taken = path.is_file() or (path.is_dir() and any(path.iterdir()) and not is_export(path))
    if taken:
        raise FileExistsError(
            f"{path}: exists and is not an earlier export of jaxvid; "
            "it is left as it is: choose another folder or empty this one"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        yield fresh
        if path.exists():
            os.rename(path, Path(scratch) / "old")
        os.rename(fresh, path)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary name of the same suffix that becomes `path` when the block ends well.

    For weights, which are streamed: core/files.py wants a file's bytes at once.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
