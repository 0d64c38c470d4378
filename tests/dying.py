"""What a process does that dies; in a file that imports little, for a fresh process imports it."""

import os
import signal


def at_once(*_) -> None:
    """As a fault in compiled code does it, whatever is asked."""
    os.kill(os.getpid(), signal.SIGSEGV)
