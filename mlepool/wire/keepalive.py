"""Keep-alive: when a side asks for a sign of life, how long that takes, when it ends.

Each side sees to it that it is heard: it pings when it has sent nothing for a while.
So an idle link carries one Ping and one Pong in 20 seconds, a busy one neither. A side
that hears nothing for a long time asks once more, and then gives up.
"""

from __future__ import annotations

__all__ = [
    "ASK_AFTER",
    "FIRST_PING",
    "OTHER_WAITS",
    "PING_AFTER",
    "SILENCE_LIMIT",
    "KeepAlive",
]

FIRST_PING = 1.0  # seconds after a client is let in, to measure how far the worker is
PING_AFTER = (
    20.0  # seconds of sending nothing; 20 s costs 4 % of a core at 10,000 links
)
OTHER_WAITS = 5.0  # seconds more for the other side: so of two that are idle one pings
ASK_AFTER = 40.0  # seconds of hearing nothing, whatever was sent
SILENCE_LIMIT = 60.0  # seconds of it: a busy host is not taken for dead


class KeepAlive:
    """The keep-alive of one side of one link. Times are in seconds.

    Args:
        now: The time.
        begins: True on the side that measures the link soon, and pings first when both
            are idle: the client.

    Attributes:
        heard: When bytes came last.
        sent: When a frame was sent last.
        rtt: How long the latest Ping waited for its Pong; None before the first.
    """

    def __init__(self, now: float, *, begins: bool) -> None:
        self.heard = self.sent = now
        self.rtt: float | None = None
        self._first = now + FIRST_PING if begins else None
        self._ping_after = PING_AFTER if begins else PING_AFTER + OTHER_WAITS
        self._number = 0
        self._asked: float | None = None
        self._again = now  # when to look if the Pong has come: then it is sooner

    def next_tick(self) -> float:
        """Give when something is due: a ping, or the end."""
        end = self.heard + SILENCE_LIMIT
        if self._asked is not None:
            return min(self._again, end)
        ping = min(self.sent + self._ping_after, self.heard + ASK_AFTER)
        if self._first is not None:
            ping = min(ping, self._first)
        return min(ping, end)

    def is_silent(self, now: float) -> bool:
        """Tell if nothing was heard for so long that the link is to be given up."""
        return now - self.heard >= SILENCE_LIMIT

    def ping(self, now: float) -> int | None:
        """Begin a Ping, and give its number; None if one waits for its Pong."""
        self._again = now + self._ping_after
        if self._asked is not None:
            return None
        self._first = None
        self._asked = self.sent = now
        self._number += 1
        return self._number

    def pong(self, number: int) -> None:
        """Take a Pong, which came when bytes were heard last."""
        if self._asked is not None and number == self._number:
            self.rtt = max(0.0, self.heard - self._asked)
            self._asked = None
