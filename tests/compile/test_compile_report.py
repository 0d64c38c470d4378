import dataclasses
import json

import pytest

from jaxvid.compile.estimate import estimate
from jaxvid.compile.program import Program, TooLarge
from jaxvid.compile.report import Report
from jaxvid.metrics.chips import Chip
from jaxvid.metrics.collectives import Traffic

GIB = 2**30
CHIP = Chip("TPU v0", 16 * GIB, 1e12, 1e14, 1e11)
PROGRAM = Program(
    arguments=2 * GIB,
    outputs=0,
    temporaries=3 * GIB,
    code=GIB,
    touched_bytes=1e10,
    collectives={"all-reduce": Traffic(3, 2e9), "all-gather": Traffic(1, 1e9, 1)},
    seconds=12.0,
)


def make(**changes):
    made = Report(
        recipe="configs/x.py",
        model="videomae B",
        parameters=86_200_000,
        dtype="bfloat16",
        device="TPU v0",
        devices=4,
        mesh={"data": 1, "fsdp": 2, "tensor": 2},
        batch_size=8,
        clip=(1, 16, 224, 224, 3),
        program=PROGRAM,
        next_batch=GIB,
        memory_limit=16 * GIB,
        done_flops=16 * 10**12,
        useful_flops=12 * 10**12,
        chip=CHIP,
        estimate=estimate(PROGRAM, CHIP, done_flops=4e12, useful_flops=3e12),
    )
    return dataclasses.replace(made, **changes)


def test_the_estimate_by_hand():
    time = make().estimate
    assert (time.products, time.memory, time.transfers) == (0.04, 0.01, 0.03)
    assert time.overlapped == 0.04 and time.in_turn == pytest.approx(0.08)
    assert time.peak_share_overlapped == pytest.approx(0.75)
    assert time.peak_share_in_turn == pytest.approx(0.375)


def test_it_fits_with_the_next_batch_beside_it():
    made = make()
    assert made.memory == 7 * GIB and made.fits
    assert made.verdict() == "fits: 7.00 GiB of the 16.00 GiB of TPU v0 (44%)"
    tight = make(memory_limit=7 * GIB - 1)
    assert not tight.fits and tight.verdict().startswith(
        "does not fit: 7.00 GiB, on TPU v0 of 7.00 GiB."
    )
    assert "model.overrides.remat=True" in tight.verdict()
    assert "scan_layers" not in tight.verdict()
    assert "scan_layers" in make(memory_limit=1, device="cpu").verdict()


def test_what_the_compiler_could_not_fit():
    made = make(program=TooLarge(20 * GIB, 15 * GIB, "…"), memory_limit=15 * GIB, estimate=None)
    assert not made.fits
    assert made.verdict().startswith("does not fit: 20.00 GiB, on TPU v0 of 15.00 GiB.")
    assert "memory a device" not in made.table() and "FLOPs a clip" in made.table()
    silent = make(program=TooLarge(None, None, "…"))
    assert silent.verdict().startswith("does not fit: the compiler found no way to fit it, on")


def test_a_device_whose_memory_is_unknown():
    made = make(memory_limit=None, chip=None, estimate=None)
    assert made.fits and made.verdict().startswith(
        "needs 7.00 GiB a device; the memory of TPU v0 is"
    )
    silent = make(program=TooLarge(None, None, "…"), memory_limit=None)
    assert not silent.fits and silent.verdict().startswith(
        "does not fit: the compiler found no way"
    )


def test_the_table():
    lines = make(largest_batch=24, assumptions=("400 classes",)).table().splitlines()
    rows = {line[:24].strip(): line[25:] for line in lines}
    assert rows["recipe"] == "configs/x.py: videomae B, 86.2M parameters"
    assert rows["devices"] == "4 × TPU v0 (data 1, fsdp 2, tensor 2)"
    assert rows["batch"] == "8 clips of 1×16×224×224×3, 4 a device, in bfloat16"
    assert rows["assumed"] == "400 classes"
    assert rows["all-gather"] == "0.93 GiB, 1 times (1 in loops of unknown length)"
    assert rows["FLOPs a clip"] == "1.5 TFLOP, forward and backward"
    assert (
        rows["FLOPs a step"] == "12 TFLOP; 16 TFLOP as programmed, what is computed again included"
    )
    assert rows["a step, estimated"] == "40 ms if these overlap wholly, 80 ms if not"
    assert rows["clips a second"] == "200, or 100"
    assert rows["share of peak"] == "75%, or 38%"
    assert rows["largest batch"] == "24 clips"
    assert "none fits" in make(largest_batch=0).table()
    alone = make(program=dataclasses.replace(PROGRAM, collectives={}))
    assert "sent by a device         nothing" in alone.table()


def test_json_has_it_all():
    told = json.loads(json.dumps(make().plain()))
    assert told["memory"] == 7 * GIB and told["fits"] is True and told["mesh"]["fsdp"] == 2
    assert told["program"]["collectives"]["all-reduce"] == {
        "count": 3,
        "bytes": 2e9,
        "in_unknown_loops": 0,
    }
    assert told["chip"]["bf16_flops"] == 1e14 and told["estimate"]["products"] == 0.04
    assert json.loads(json.dumps(make(chip=None, estimate=None).plain()))["chip"] is None
