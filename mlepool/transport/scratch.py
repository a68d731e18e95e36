"""Room to read into, which all links of a thread share.

What a transport reads is used up before it returns to its loop, so none needs room of
its own: that would be made anew for each read, or kept by each idle link.
"""

import functools
import threading

__all__ = ["SCRATCH_SIZE", "keep_memory", "scratch"]

SCRATCH_SIZE = 16 * 1024  # bytes; a TLS record's
KEPT = 6 * 1024 * 1024  # bytes; what is under way of large frames, and of files


class _Room(threading.local):
    """One in each thread that has a loop."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SCRATCH_SIZE))


_room = _Room()


def scratch() -> memoryview:
    """Give this thread's room; what is in it lasts until the next read."""
    return _room.view


@functools.cache
def keep_memory() -> None:
    """Have the C library keep the memory of large frames for the next ones; once.

    glibc gives free memory back above twice the largest thing that it has mapped for
    itself and freed. With frames of 1 MiB, of which several are under way, it would
    be given back and mapped anew all the time. So it is shown a larger one, of which
    no byte is touched.
    """
    bytes(KEPT)
