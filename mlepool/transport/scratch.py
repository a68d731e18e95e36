"""Room to read into, which all links of a thread share.

What a transport reads is used up before it returns to its loop, so none needs room of
its own: that would be made anew for each read, or kept by each idle link.
"""

import threading

__all__ = ["SCRATCH_SIZE", "scratch"]

SCRATCH_SIZE = 16 * 1024  # bytes; a TLS record's


class _Room(threading.local):
    """One in each thread that has a loop."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SCRATCH_SIZE))


_room = _Room()


def scratch() -> memoryview:
    """Give this thread's room; what is in it lasts until the next read."""
    return _room.view
