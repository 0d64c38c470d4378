import os
import signal

import jax
import pytest
from jax.experimental import multihost_utils

from jaxvid.train.stop import StopSignal, let_sigterm_end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_a_wish_and_the_handlers_come_back(number):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with StopSignal() as stop:
        assert not stop.requested(1)
        signal.raise_signal(number)
        assert stop.requested(2) and stop.received == number.name
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_ctrl_c_ends_at_once():
    with StopSignal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_on_several_hosts_all_end_at_the_step_they_agree_on(monkeypatch):
    told = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(os, "kill", lambda *a: told.append(a))
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 5)
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGTERM) == before  # jax's own, which tells the others
        signal.raise_signal(signal.SIGINT)
        assert told == [(os.getpid(), signal.SIGTERM)]
        assert [stop.requested(i) for i in (3, 4, 5)] == [False, False, True]
        assert stop.received == "SIGINT"
    with StopSignal() as other:  # which got no signal itself
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as jax's hides it
        assert other.requested(5) and other.received == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # nothing asks for it any more


def test_alone_sigterm_stays_whose_it_is():
    let_sigterm_end()
    with StopSignal():
        mine = signal.getsignal(signal.SIGTERM)
        let_sigterm_end()
        assert signal.getsignal(signal.SIGTERM) == mine != signal.SIG_DFL
