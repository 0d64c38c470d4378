"""Files that are written whole or not at all, locally or in a bucket (gs://…, s3://…)."""

import json
import math
import uuid
from typing import Any

import numpy as np
from etils import epath

from jaxvid.core.places import is_remote, storage_errors


def write_atomically(path: epath.PathLike, data: bytes) -> None:
    """Writes a file beside `path` and renames it, so that no reader and no crash sees a part of it.

    In a bucket, where an object appears whole or not at all, it is written as it is. Makes missing
    parent folders. Raises OSError of the same errno that names `path`; what stood there before is
    untouched then.
    """
    path = epath.Path(path)
    if is_remote(path):
        with storage_errors(path):
            path.write_bytes(data)
        return
    # Not the number of the process: containers on several machines have the same.
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot be written ({reason}); a former version is unchanged", str(path)
        ) from error


def write_json(path: epath.PathLike, value: Any) -> None:
    """Strict JSON, UTF-8: numpy values become plain ones and what is not finite becomes null.

    Lists without anything nested and small tables take one line, so that a confusion matrix of
    400 classes is 400 lines.
    """
    write_atomically(path, (_pretty(plain(value), "") + "\n").encode())


def plain(value: Any) -> Any:
    """Dicts, lists, str, bool, int, float and None only; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _pretty(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, dict) and (not indent or any(map(_nested, value.values()))):
        items = [f"{json.dumps(k)}: {_pretty(v, deeper)}" for k, v in value.items()]
        return _lines("{", items, "}", indent)
    if isinstance(value, list) and any(map(_nested, value)):
        return _lines("[", [_pretty(v, deeper) for v in value], "]", indent)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _lines(opening: str, items: list[str], closing: str, indent: str) -> str:
    inside = f",\n{indent}  ".join(items)
    return f"{opening}\n{indent}  {inside}\n{indent}{closing}" if items else opening + closing
