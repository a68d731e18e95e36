"""One call's way through a job's output, under its own credit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlepool.errors import WorkerError
from mlepool.peer import Peer
from mlepool.wire.codec import BULK_DATA, MAX_DATA
from mlepool.wire.messages import Accepted, Ended, Outcome, Skip
from mlepool.wire.window import SendWindow
from mlepool.worker.job import Job

__all__ = ["Reader"]

FIRST_DATA = 16 * 1024  # bytes of a first frame: a link that soon breaks gets on, too
FRAMES_AT_ONCE = 2  # data frames to one reader before others get their turn


class Reader:
    """One call's way through a job's output, under its own credit.

    Args:
        job: The job.
        call: The number of the call on its link.
        peer: Where the output goes.
        window: Where to begin, and how much may be sent.
        finished: Called once the end was sent.
    """

    def __init__(
        self,
        job: Job,
        call: int,
        peer: Peer,
        *,
        window: SendWindow,
        finished: Callable[[Reader], None],
    ) -> None:
        self.job = job
        self.call = call
        self._peer = peer
        self._window = window
        self._finished = finished
        # Credit that falls short of a frame is worth waiting for the next, if there
        # must be a next: records are not cut between frames then.
        allowed = window.allowed
        self._is_roomy = allowed >= 2 * MAX_DATA
        self._largest = BULK_DATA if allowed >= 2 * BULK_DATA else MAX_DATA
        self._most = FIRST_DATA  # of a frame; twice as much in each that follows
        self._told: int | None = None  # the place in line; 0 once it has begun
        self._scheduled = False

    @property
    def position(self) -> int:
        """The journal's position of the next byte to send."""
        return self._window.position

    def accept(self) -> None:
        """Tell the client that the job has begun, or its place in line; if it is news.

        How the line moves is not told to a client that does not take what it is sent.
        """
        job, told = self.job, self._told
        if told == job.place or (told and job.place and self._peer.is_full):
            return
        self._told = job.place
        accepted = Accepted(
            self.call,
            self._window.position,
            job.started,
            job.command,
            job.streams,
            job.place,
        )
        self._peer.send(accepted)

    def grant(self, position: int) -> None:
        """Take credit."""
        self._window.grant(position)
        self.pump()

    def pump(self) -> None:
        """Send what there is, what credit allows and what the link takes."""
        try:
            self._pump()
        except (LookupError, OSError, EOFError, WorkerError) as exc:
            # Somebody has removed or cut the file: this reader's affair alone.
            end = self._window.position
            cause = f"its journal can't be read: {exc}"
            self._peer.send(Ended(self.call, Outcome("LOST", end=end, reason=cause)))
            self._finished(self)

    def _pump(self) -> None:
        if self._peer.is_full or self._peer.is_gone:
            return
        if self.job.fresh:
            self._send_news()
        for _ in range(FRAMES_AT_ONCE):
            size = self._next_size()
            if size <= 0:
                break
            self._send(size)
            if self._peer.is_full or self._peer.is_gone:
                return
        else:
            self._pump_later()
            return
        outcome = self.job.outcome
        if outcome is not None and self._window.position >= outcome.end:
            self._peer.send(Ended(self.call, outcome))
            self._finished(self)

    def _send_news(self) -> None:
        """Send at once what is at hand, if it is all that there is, and small."""
        window = self._window
        data = self.job.news(window.position)
        if 0 < len(data) <= min(self._most, window.allowed):
            self._peer.send_bytes(self.call, window.position, data)
            window.sent(len(data))
            self._most = min(2 * self._most, self._largest)

    def _next_size(self) -> int:
        """Give how much to send now, after a gap if there is one; 0 for nothing."""
        window = self._window
        if window.position >= self.job.position:
            return 0
        if window.allowed:
            position = self.job.after_gap(window.position)
            if position != window.position:
                self._peer.send(Skip(self.call, position))
                window.skip(position)
        there = min(self._most, self.job.position - window.position)
        size = min(window.allowed, there)
        return 0 if size < there and self._is_roomy else size

    def _send(self, size: int) -> None:
        position = self._window.position
        piece = self.job.piece(position, size)
        if piece is not None:
            piece.check()
            self._peer.send_data(self.call, position, piece)
            self._window.sent(piece.size)
        elif data := self.job.read(position, size):
            self._peer.send_bytes(self.call, position, data)
            self._window.sent(len(data))
        self._most = min(2 * self._most, self._largest)

    def _pump_later(self) -> None:
        """Go on after others had their turn."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump_again)

    def _pump_again(self) -> None:
        self._scheduled = False
        if self in self.job.readers:
            self.pump()
