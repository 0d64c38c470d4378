"""A file imports its own folder and lower floors only; in-package imports stand at the top."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxvid"
FLOORS = {
    0: {"core"},
    1: {"nn", "ops", "decode", "sharding", "metrics"},
    2: {"models", "data", "convert", "checkpoint", "objectives"},
    3: {"train", "evaluate", "infer", "compile"},
    4: {
        "config",
        "config_values",
        "build",
        "build_data",
        "model_tree",
        "pretrained",
        "saving",
        "run_compile",
        "run_train",
        "run_eval",
        "workdir_weights",
    },
    5: {"main", "cli"},
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
NO_JAX = ("core", "decode", "data")  # worker processes import these and must start fast
FILES = sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    parts = file.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(tree: ast.AST):
    """(module, line, inside a function)"""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in inside
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "jaxvid":
                for alias in node.names:
                    yield f"jaxvid.{alias.name}", node.lineno, id(node) in inside
            else:
                yield node.module, node.lineno, id(node) in inside


def breaches(file: Path) -> list[str]:
    here = room(file)
    if here == "__init__":
        return []
    found = []
    for module, line, inside in imports(ast.parse(file.read_text())):
        where = f"{file.relative_to(PACKAGE.parent)}:{line}"
        if module.partition(".")[0] in ("jax", "jaxlib", "flax", "optax") and here in NO_JAX:
            found.append(f"{where} imports {module}: {here}/ must not import jax")
        if not module.startswith("jaxvid."):
            continue
        if inside and file != PACKAGE / "core" / "lookup.py":
            found.append(
                f"{where} imports {module} inside a function: move it to the top of the file"
            )
        there = module.split(".")[1]
        if there not in FLOOR_OF:
            found.append(f"{where} imports {module}: give {there} a floor in tests/test_floors.py")
        elif here != there and FLOOR_OF[there] >= FLOOR_OF[here] and not _same_top(here, there):
            found.append(
                f"{where}: {here} (floor {FLOOR_OF[here]}) imports {there} (floor {FLOOR_OF[there]}); "
                "only lower floors may be imported: pass the object in, or move the shared part down"
            )
    return found


def _same_top(here: str, there: str) -> bool:
    """The files of floors 4 and 5 lie side by side in one folder, the package's."""
    return FLOOR_OF[here] == FLOOR_OF[there] >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_every_file_keeps_to_its_floor(file):
    assert room(file) in FLOOR_OF or room(file) == "__init__", f"{file} stands on no floor"
    assert breaches(file) == []


def test_an_upward_import_is_noticed(tmp_path):
    global PACKAGE
    before = PACKAGE
    try:
        PACKAGE = tmp_path / "jaxvid"
        file = PACKAGE / "ops" / "bad.py"
        file.parent.mkdir(parents=True)
        file.write_text(
            "from jaxvid.train import loop\n\ndef f():\n    from jaxvid.core import tree\n    return tree\n"
        )
        assert len(breaches(file)) == 2
        file = PACKAGE / "data" / "bad.py"
        file.parent.mkdir(parents=True)
        file.write_text("import jax.numpy as jnp\n")
        assert "must not import jax" in breaches(file)[0]
    finally:
        PACKAGE = before
