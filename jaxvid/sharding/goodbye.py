"""No host of a run waits for one that has gone.

A host that ends with an error says why at the coordinator, and all others end with that reason within
seconds. A host that vanishes without a word (killed, power, network) is noticed by jax's own heartbeat,
at the latest after hosts.HEARTBEAT_SECONDS.
"""

import atexit
import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax
from jax._src import distributed  # the store of the coordinator has no public name

log = logging.getLogger("jaxvid")
POLL_SECONDS = 1.0
_KEY = "jaxvid/ended"
_stop = threading.Event()


def here() -> str:
    """This host in words, for messages: "host 1 of 4 (node07)"."""
    state = distributed.global_state  # jax.process_index() would start the devices
    return f"host {state.process_id} of {state.num_processes} ({socket.gethostname()})"


def watch() -> None:
    """From now on this process ends when another says goodbye. Called once, after joining."""
    thread = threading.Thread(target=_watch, name="jaxvid-goodbye", daemon=True)
    thread.start()
    atexit.register(_stop_watching, thread)


@contextlib.contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
    """Ends this process with code 1 and the message unless the block is left in time. For calls that
    jax would end with a stack trace, or never."""

    def end() -> None:
        print(f"\nerror: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def end_all(reason: str) -> None:
    """Tells the other hosts why this one ends, and ends it with code 1; alone it does nothing.

    The interpreter is left at once: a regular end would wait for hosts that wait for this one.
    """
    state = distributed.global_state
    if state.client is None:
        return
    _stop.set()
    try:
        state.client.key_value_set(_KEY, json.dumps({"who": here(), "reason": reason}))
    except jax.errors.JaxRuntimeError as error:  # the coordinator has gone, or another was first
        log.debug("no goodbye: %s", error)
    _leave()


def end_all_unexpectedly(error: Exception) -> None:
    """`end_all` for what is no error of the user's. When devices report one, another host may have
    gone: its own words, if it had any, are waited for and shown instead."""
    if distributed.global_state.client is None:
        return
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if isinstance(error, jax.errors.JaxRuntimeError):
        time.sleep(3 * POLL_SECONDS)  # the watching thread ends the process if there is a reason
        print(
            f"\nerror: {here()}: {reason}\nAnother host of this run, or the network to it, may have "
            "gone. All hosts end; the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    end_all(reason)


def _watch() -> None:
    while not _stop.wait(POLL_SECONDS):
        client = distributed.global_state.client
        if client is None:
            return
        try:
            said = json.loads(client.key_value_try_get(_KEY))
        except jax.errors.JaxRuntimeError:  # nobody has said anything
            continue
        if _stop.is_set():
            return
        print(
            f"\nerror: {said['who']} ended: {said['reason']}\n{here()} ends with it; once that is "
            "mended, the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
        _leave()


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if distributed.global_state.process_id == 0:  # the coordinator lives here: let others read it
        time.sleep(3 * POLL_SECONDS)
    os._exit(1)


def _stop_watching(thread: threading.Thread) -> None:
    _stop.set()
    thread.join(2 * POLL_SECONDS)
