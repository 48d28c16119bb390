"""Ending a long-running command by SIGTERM or SIGINT: the loop ends its round and leaves in order."""

import signal
import threading
from types import FrameType


def stopped_by_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set. For the main thread of a command."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopped
