"""`--mode compile` as a user runs it: for eight CPU devices that are here, for TPU slices that are not."""

import functools
import importlib.metadata
import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import dying
import jax
import pytest

from jaxvid import build, config, main, run_compile
from jaxvid.compile.program import TooLarge
from jaxvid.core.apart import ProcessDied
from jaxvid.core.errors import ConfigError, DataError
from jaxvid.metrics.multiply_adds import multiply_adds
from jaxvid.sharding.mesh import make_mesh

RECIPE = "configs/videomae_rwf.py:test"
# Without the rejection sampling of mixup, which takes longest to compile.
SHORT = ("data.mixup_alpha=0", "data.cutmix_alpha=0", "data.colour_jitter=(0.0,0.0,0.0,0.0)")

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed (extra tpu): nothing is compiled for TPU slices",
)


def run(*overrides, json=True):
    here = ("data.batch_size=8", "data.root=nowhere")
    words = [f"--config.{x}" for x in (*SHORT, *here, *overrides)]
    return main.main(["--config", RECIPE, "--mode", "compile", *words, *["--json"] * json])


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    monkeypatch.setattr(run_compile.build_data, "root", lambda c: tmp_path / "absent")


def test_devices_that_are_here(capsys):
    assert run("mesh.fsdp=4", "mesh.tensor=2", "compile.num_classes=7") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mesh"] == {"data": 1, "fsdp": 4, "tensor": 2} and told["dtype"] == "float32"
    assert told["fits"] and told["chip"] is None and told["estimate"] is None
    assert told["assumptions"][0].startswith("7 classes, for ")
    assert told["clip"] == [1, 4, 32, 32, 3] and told["next_batch"] == 2 * (4 * 32 * 32 * 3 + 9)
    assert told["program"]["collectives"]["all-reduce"]["bytes"] > 0
    assert told["program"]["collectives"]["all-gather"]["bytes"] > 0


def step(*overrides, devices=8):
    c = config.load(RECIPE, [*SHORT, "data.batch_size=8", *overrides])
    mesh = make_mesh(fsdp=c.mesh.fsdp, tensor=c.mesh.tensor, devices=jax.devices()[:devices])
    return run_compile._step(c, mesh, [])


@pytest.mark.slow
def test_memory_falls_with_fsdp_as_the_shardings_say():
    arguments = {}
    for fsdp in (1, 8):
        made = step(f"mesh.fsdp={fsdp}")
        batch = {
            name: x for name, x in made.batch(8).items() if name != "row"
        }  # not used, not held
        leaves = jax.tree.leaves((made.state, batch))
        shards = [math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves]
        arguments[fsdp] = made.compile(8).arguments
        assert arguments[fsdp] == sum(shards)
    assert arguments[8] < 0.4 * arguments[1]


def test_flops_are_those_of_the_whole_batch_however_it_is_divided(monkeypatch):
    tiny = TooLarge(None, None, "not compiled here")
    monkeypatch.setattr(run_compile, "compile_program", lambda *_: tiny)

    def flops(*overrides):
        c = config.load(RECIPE, [*SHORT, "data.batch_size=16", *overrides])
        made = run_compile.report(c, RECIPE)
        return made.done_flops, made.useful_flops

    whole = flops()
    task = build.task(config.load(RECIPE), 400)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((16, 4, 32, 32, 3), "float32")
    forward = functools.partial(task.model.apply, train=False)
    assert whole[1] == 3 * 2 * multiply_adds(forward, variables, {"video": video})
    assert flops("optim.accumulate_steps=2") == whole
    assert flops("mesh.fsdp=2", "mesh.tensor=2") == whole
    recomputed = flops("model.overrides.remat=True")
    assert recomputed[0] > 1.1 * whole[0] and recomputed[1] == whole[1]


@pytest.fixture(scope="module")
def program():
    return step().compile(8)


def test_the_largest_batch_that_fits(monkeypatch, capsys, program):
    sizes = []

    def compile_(self, size):
        sizes.append(size)
        return TooLarge(None, None, "…") if size > 40 else program

    monkeypatch.setattr(run_compile.Step, "compile", compile_)
    assert run("compile.largest_batch=True", json=False) == 0
    assert "largest batch            40 clips" in capsys.readouterr().out
    assert sizes == [8, 16, 32, 64, 48, 40]
    monkeypatch.setattr(run_compile.Step, "compile", lambda *_: TooLarge(None, None, "…"))
    assert run("compile.largest_batch=True", json=False) == 1
    assert "largest batch            none fits" in capsys.readouterr().out


def test_what_does_not_fit_exits_with_1(monkeypatch, capsys, program):
    monkeypatch.setattr(run_compile.Step, "compile", lambda *_: program)
    monkeypatch.setattr(run_compile, "memory_limit", lambda: 1000)
    assert run(json=False) == 1
    assert "verdict                  does not fit: " in capsys.readouterr().out


def test_data_that_is_there_and_broken_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run_compile.build_data, "root", lambda c: tmp_path)

    def broken(c, split):
        raise DataError("line 3 is no line")

    monkeypatch.setattr(run_compile.build_data, "index", broken)
    assert run() == 1
    assert "line 3 is no line" in capsys.readouterr().err


def test_a_batch_that_the_slice_does_not_divide(monkeypatch, capsys):
    monkeypatch.setattr(run_compile, "absent_devices", lambda name: jax.devices())
    monkeypatch.setattr(run_compile, "run_apart", lambda function, *args: function(*args))
    assert run("data.batch_size=12", "compile.topology=v5e:2x4") == 1
    assert "data.batch_size=12 is not divisible by 8" in capsys.readouterr().err


def test_json_is_of_this_mode(capsys):
    with pytest.raises(SystemExit):
        main.main(["--config", RECIPE, "--json"])
    assert "--json belongs to --mode compile" in capsys.readouterr().err


@needs_libtpu
def test_an_absent_slice(monkeypatch, capsys):
    """In a process of its own: here no device is touched."""
    monkeypatch.setattr(run_compile, "is_main", pytest.fail)
    assert run("compile.topology=v5e:2x2", "mesh.fsdp=2") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["devices"] == 4 and told["dtype"] == "bfloat16" and told["device"] == "TPU v5e"
    assert told["memory_limit"] == 16 * 2**30 and told["fits"]
    assert told["estimate"]["overlapped"] > 0 and told["chip"]["bf16_flops"] == 197e12
    assert {"all-reduce", "all-gather"} <= set(told["program"]["collectives"])


@needs_libtpu
def test_an_absent_slice_that_is_too_small(capsys):
    large = ("data.size=224", "data.num_frames=16", "data.batch_size=4096")
    crop = 'data.train_transforms=({"name": "random_resized_crop", "size": 224},)'
    assert run("compile.topology=v5e:1x1", *large, crop) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["fits"] and told["memory"] > told["memory_limit"] > 15 * 2**30


BEGINS = "the process that compiled videomae test for compile.topology='v5e:2x2' died of "


def test_a_compiler_that_crashes_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(run_compile, "_alone", dying.at_once)
    assert run("compile.topology=v5e:2x2") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert (
        f"\nerror: {BEGINS}SIGSEGV (exit code -11); a fault of the TPU's compiler, lib" in said.err
    )
    assert ", not of the recipe: try another model.variant or data.size, another vers" in said.err
    assert "or devices that are here (without compile.topology)\n" in said.err


def test_a_machine_of_too_little_memory_is_another(monkeypatch):
    def killed(*_):
        raise ProcessDied(-9)

    monkeypatch.setattr(run_compile, "run_apart", killed)
    c = config.load(RECIPE, ["compile.topology=v5e:2x2"])
    words = (
        f"{BEGINS}SIGKILL (exit code -9); this machine's memory has run out, it seems: compile on"
    )
    with pytest.raises(ConfigError, match=re.escape(words)):
        run_compile.compile_ahead(c, RECIPE, as_json=True)


def test_libtpu_under_another_name(monkeypatch):
    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(run_compile.importlib.metadata, "version", unknown)
    assert run_compile._libtpu() == "libtpu"


@needs_libtpu
@pytest.mark.slow
def test_a_scan_over_layers_touches_what_the_layers_do(capsys):
    crop = 'data.train_transforms=({"name": "random_resized_crop", "size": 64},)'
    wide = ("model.overrides.width=256", "model.overrides.num_heads=4", "model.overrides.depth=6")
    clips = (
        "compile.topology=v5e:2x2",
        "data.batch_size=32",
        "data.size=64",
        "data.num_frames=8",
        crop,
    )
    touched = []
    for scan in (False, True):
        assert run(*clips, *wide, f"model.overrides.scan_layers={scan}") == 0
        told = json.loads(capsys.readouterr().out)
        touched.append(told["program"]["touched_bytes"])
        assert told["estimate"]["memory"] == touched[-1] / told["chip"]["memory_bytes_per_second"]
    assert touched[1] == pytest.approx(touched[0], rel=0.2)


def compile_apart(name, tmp_path):
    """As a user does it: (exit code, stdout, stderr)."""
    overrides = (*SHORT, "compile.topology=v6e:2x2", "mesh.fsdp=2", "data.batch_size=8")
    words = [f"--config.{x}" for x in (*overrides, f"data.root={tmp_path / 'absent'}")]
    recipe = f"configs/{name}.py:test"
    command = [sys.executable, "-m", "jaxvid.main", "--config", recipe, "--mode", "compile", *words]
    ended = subprocess.run([*command, "--json"], check=False, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in Path("configs").glob("*_rwf.py")))
def test_every_model_on_an_absent_slice(name, tmp_path):
    code, out, err = compile_apart(name, tmp_path)
    assert code == 0, err[-2000:]
    told = json.loads(out)
    assert told["fits"]
    assert told["program"]["collectives"]["all-reduce"]["bytes"] > 4 * told["parameters"] / 8
