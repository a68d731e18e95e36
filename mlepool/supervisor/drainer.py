"""A job's drainer: a process that pours what the job writes into its journal.

It may be killed at any moment, and no byte is lost or comes twice: what leaves a pipe
is in the journal by the same system call, and whoever comes next sees by the length of
the file how far that was.
"""

import array
import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from mlepool.supervisor.notes import Notes
from mlepool.supervisor.recorder import Recorder
from mlepool.wire.records import MAX_PAYLOAD

__all__ = ["CALLED_OFF", "drain_aside"]

CALLED_OFF = b"q"  # take what is there, and come to an end
NEWS = b"."
NEWS_PAUSE = 0.02  # seconds between two times that the supervisor is woken up
# While nobody keeps up with the job, and others have something to do, they go first.
# That leaves it 256 MiB a second at most.
SMALL_PART = 256 * 1024  # bytes of a pipe in each turn
REST = 0.001  # seconds after each turn
BUSY = 0.5  # seconds for which others count as busy after each thing they do
NICENESS = 5  # as nice(1) has it: a third of what others get, where all want some
OWN_SHARE = Path("/proc/self/autogroup")  # sched(7): niceness counts within a session

logger = logging.getLogger("mlepool.supervisor")


def drain_aside(
    pipes: dict[int, int],
    recorder: Recorder,
    notes: Notes,
    *,
    line: socket.socket,
    lock: int,
) -> NoReturn:
    """Drain a job to the end of its pipes, in a process forked for it.

    Args:
        pipes: The job's, with their streams.
        recorder: The job's.
        notes: Shared with the supervisor.
        line: To the supervisor, who is woken up by it. Its end is the supervisor's.
        lock: Held as long as somebody writes here: the next supervisor waits for it.
    """
    before = recorder.position
    try:
        _settle_in({0, 1, 2, *pipes, recorder.fileno(), line.fileno(), lock})
        Drainer(pipes, recorder, notes, line=line).run()
    except Exception as exc:
        # The top of a process: whatever it was is logged, and the supervisor goes on.
        is_refused = isinstance(exc, OSError) and exc.errno == errno.EINVAL
        notes.is_unable = is_refused and recorder.position == before
        if not notes.is_unable:
            logger.exception("a drainer has failed")
    finally:
        os._exit(0)


class Drainer:
    """Pours pipes into a journal until they have ended; the arguments as above."""

    def __init__(
        self,
        pipes: dict[int, int],
        recorder: Recorder,
        notes: Notes,
        *,
        line: socket.socket,
    ) -> None:
        self._pipes = pipes
        self._recorder = recorder
        self._notes = notes
        self._line = line
        self._told = 0.0
        self._has_news = False
        self._poll = select.poll()
        for fd in (*pipes, line.fileno()):
            self._poll.register(fd, select.POLLIN)

    def run(self) -> None:
        """Drain, and leave what the supervisor needs to go on in the notes."""
        self._recorder.recover(self._notes)
        while self._pipes:
            gives_way = self._gives_way()
            most = SMALL_PART if gives_way else sys.maxsize
            for fd, event in self._poll.poll(self._patience()):
                if fd not in self._pipes:
                    self._called()
                elif not self._pour(fd, most) and event & ~select.POLLIN:
                    self._poll.unregister(fd)
                    del self._pipes[fd]
            self._tell()
            if gives_way:
                time.sleep(REST)
        self._recorder.hand_over(self._notes)

    def _gives_way(self) -> bool:
        notes = self._notes
        return notes.is_unread and time.monotonic() < notes.busy + BUSY

    def _pour(self, fd: int, most: int) -> bool:
        """Pour what a pipe holds, as several records if need be; False for nothing.

        It is asked once how much: a writer holds up who asks as much as who takes.
        """
        held = array.array("i", [0])
        fcntl.ioctl(fd, termios.FIONREAD, held)
        for left in range(min(held[0], most), 0, -MAX_PAYLOAD):
            count = min(left, MAX_PAYLOAD)
            self._recorder.pour(self._pipes[fd], fd, count, notes=self._notes)
            self._has_news = True
        return held[0] > 0

    def _called(self) -> None:
        try:
            word = self._line.recv(len(CALLED_OFF))
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if not word:
            os._exit(0)  # the supervisor was killed: the journal is the next one's
        for fd in self._pipes:
            self._pour(fd, sys.maxsize)
        self._pipes.clear()

    def _patience(self) -> int | None:
        """Give the milliseconds to wait for output; None for any time."""
        if not self._has_news:
            return None
        return max(0, round((self._told + NEWS_PAUSE - time.monotonic()) * 1000))

    def _tell(self) -> None:
        now = time.monotonic()
        if self._has_news and now >= self._told + NEWS_PAUSE:
            self._told, self._has_news = now, False
            self._recorder.tell(self._notes)
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                self._line.send(NEWS)


def _settle_in(needed: Collection[int]) -> None:
    """Keep no other job's pipes open, and let everybody else go first."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in needed:
            with contextlib.suppress(OSError):
                os.close(int(name))
    signal.set_wakeup_fd(-1)
    os.setsid()
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        OWN_SHARE.write_text(str(NICENESS))
