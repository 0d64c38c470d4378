"""What a run tells about its cost, as a user starts it: first step, profile, flags, share of peak."""

import json
import logging
import re
from types import SimpleNamespace

import jobs
import pytest

from jaxvid import config, main, run_compile, run_train
from jaxvid.compile.program import TooLarge
from jaxvid.sharding.mesh import make_mesh
from jaxvid.train.cost import Cost

SHORT = ("--config.data.mixup_alpha=0", "--config.data.cutmix_alpha=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_video):
    return jobs.make_data(tmp_path_factory.mktemp("rwf"), write_video)


def test_first_step_cold_and_warm_profile_and_deterministic_kernels(data, tmp_path):
    dump = tmp_path / "dump"
    environment = jobs.make_environment(tmp_path / "cache", devices=1)
    told = []
    for name in ("cold", "warm"):
        more = {"XLA_FLAGS": f"--xla_dump_to={dump / name} --xla_dump_hlo_module_re=jit_train_step"}
        words = [*SHORT, "--config.run.steps=4", "--config.run.deterministic=true"]
        words += ["--config.run.profile_steps=(2,2)"] if name == "warm" else []
        run = jobs.main_process(data, tmp_path / name, {**environment, **more}, *words)
        code, stderr = jobs.finish(run)
        assert code == 0, stderr
        match = re.search(
            r"first step after ([\d.]+) s, ([\d.]+) s of it compiling: (\d+) programs compiled, (\d+) read",
            (tmp_path / name / "log.txt").read_text(),
        )
        told.append([float(x) for x in match.groups()])
    (cold, cold_compiling, compiled, read), (warm, warm_compiling, again, from_cache) = told
    assert compiled > 0 and read == 0 and again == 0 and from_cache == compiled
    assert cold > cold_compiling > 2 * warm_compiling and warm > warm_compiling
    assert jobs.losses(tmp_path / "cold") == jobs.losses(tmp_path / "warm")

    assert len(list((tmp_path / "warm" / "profile" / "plugins").rglob("*.xplane.pb"))) == 1
    assert not (tmp_path / "cold" / "profile").exists()
    assert "profile of steps 2 to 3: tensorboard --logdir" in stderr

    flags = json.loads((tmp_path / "warm" / "environment.json").read_text())["xla_flags"]
    assert "--xla_gpu_deterministic_ops=true" in flags
    options = next((dump / "cold").glob("*train_step*debug_options")).read_text()
    assert "xla_gpu_deterministic_ops: true" in options  # XLA has read it


@pytest.mark.slow
def test_share_of_peak_stands_in_the_metrics_where_the_chip_is_known(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_train, "peak_flops", lambda devices: 1e9 * len(devices))
    words = jobs.arguments(data, tmp_path / "run", *SHORT, "--config.data.batch_size=8", steps=8)
    assert main.main(words) == 0
    rows = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train" and "steps_per_second" in row]
    assert rows and all("device_memory_bytes" not in row for row in rows)  # CPUs do not tell

    overrides = [x.removeprefix("--config.") for x in words if x.startswith("--config.")]
    monkeypatch.setattr(run_compile, "compile_program", lambda *_: TooLarge(None, None, "not now"))
    counted = run_compile.report(config.load(jobs.RECIPE, overrides), jobs.RECIPE).useful_flops
    for row in rows:
        assert row["peak_share"] == pytest.approx(counted * row["steps_per_second"] / 8e9)


def test_work_that_cannot_be_counted_is_said(monkeypatch, caplog):
    def uncountable(*_):
        raise ValueError("there are products inside a `while` loop")

    class Setting:
        mesh = make_mesh(fsdp=1, tensor=1)
        task = SimpleNamespace(prepare=None, apply=None, model=None)
        train_index = None

    c = config.load(jobs.RECIPE)
    monkeypatch.setattr(run_train, "useful_flops", uncountable)
    monkeypatch.setattr(run_train.build_data, "example", lambda c, records: {})
    # CPUs: no data sheet
    assert run_train._cost(c, Setting, None, None) == Cost() and not caplog.records
    monkeypatch.setattr(run_train, "peak_flops", lambda devices: 1e12)
    with caplog.at_level(logging.WARNING, logger="jaxvid"):
        assert run_train._cost(c, Setting, None, None) == Cost()
    assert "peak is not measured: there are products inside a `while` loop" in caplog.text
