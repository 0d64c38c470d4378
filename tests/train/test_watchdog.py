import logging
import threading
import time

from jaxvid.train.watchdog import Watchdog


class Time:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def make(**options):
    now = Time()
    return now, Watchdog(
        "host 1 of 4 (node7)",
        **{"first_seconds": 100.0, "least_seconds": 5.0, "factor": 10.0, "now": now, **options},
    )


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_names_the_host_the_phase_the_step_and_the_place(caplog):
    now, dog = make()
    dog.phase("waiting for data", 12)
    now.seconds = 99
    dog.check()
    assert warnings(caplog) == []
    now.seconds = 101
    dog.check()
    (text,) = warnings(caplog)
    assert "host 1 of 4 (node7) has been waiting for data (step 12) for 101 s" in text
    assert "it is the first" in text and "test_names_the_host_the_phase" in text


def test_later_phases_are_compared_with_the_longest_before(caplog):
    now, dog = make()
    for step, seconds in enumerate((1.0, 2.0, 0.5)):
        dog.phase("saving", step)
        now.seconds += seconds
    dog.phase("saving", 3)
    now.seconds += 19
    dog.check()
    assert warnings(caplog) == []
    now.seconds += 2
    dog.check()
    assert "the longest before took 2.0 s" in warnings(caplog)[0]


def test_short_phases_are_not_nagged_about_and_other_kinds_not_compared(caplog):
    now, dog = make()
    for kind in ("saving", "waiting for data", "evaluating"):
        dog.phase(kind, 1)
        now.seconds += 0.01
    dog.phase("saving", 2)
    now.seconds += 4.9  # many times 0.01, and nothing to speak of
    dog.check()
    dog.phase("waiting for the devices", 2)  # the first of its kind compiles
    now.seconds += 99
    dog.check()
    assert warnings(caplog) == []


def test_is_said_again_when_it_lasted_twice_as_long(caplog):
    now, dog = make()
    dog.phase("evaluating", 1)
    for _ in range(450):
        now.seconds += 1
        dog.check()
    assert len(warnings(caplog)) == 3  # after 100, 200 and 400 s


def test_watches_by_itself_and_ends_with_its_block(caplog):
    dog = Watchdog("host 0 of 1 (here)", first_seconds=0.0, least_seconds=0.04)
    with dog:
        dog.phase("waiting for the devices", 7)
        deadline = time.monotonic() + 20
        while not warnings(caplog) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "waiting for the devices (step 7)" in warnings(caplog)[0]
    assert "jaxvid-watchdog" not in [t.name for t in threading.enumerate()]


def test_nobody_watches_when_it_is_off(caplog):
    with Watchdog(first_seconds=0.0, least_seconds=0.0) as dog:
        dog.phase("saving", 1)
        assert "jaxvid-watchdog" not in [t.name for t in threading.enumerate()]
    assert warnings(caplog) == []


def test_the_least_holds_for_the_first_of_a_kind_too(caplog):
    now, dog = make(first_seconds=1.0, least_seconds=50.0)
    dog.phase("saving", 1)
    now.seconds = 49
    dog.check()
    assert warnings(caplog) == []
