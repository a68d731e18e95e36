"""What a Listener holds of a job's output: a bounded part, as numbered batches.

No I/O, and no lines: what is held are the bytes as they were read from the process.
Each reader makes lines of them for itself, so that a line lives only as long as its
reader wants it: a million of them kept in memory would cost ten times their text.
"""

import itertools
from collections import deque
from typing import Any

import xxhash

from mlepool.wire.records import STDERR, STDOUT, STREAM_NAMES, YIELDED, Record

__all__ = ["EvictedError", "Output"]

NO_DIGEST = xxhash.xxh3_128().hexdigest()  # of a stream without a byte
TAIL_RECORDS = 8  # records to look through for a line that is being rewritten


class EvictedError(Exception):
    """What is asked for has left memory; the worker's journal still has it."""


class Output:
    """The held part of a job's output.

    Args:
        limit: Bytes to hold; the oldest batches go first.

    Attributes:
        held_from: Number of the oldest batch that is still held.
        end: Number that the next batch will get.
        offsets: By stream, the bytes that have come or were not kept.
        dropped: Bytes that the worker could not keep.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._batches: deque[list[Record]] = deque()
        self._held = 0
        self._digests: dict[int, Any] = {STDOUT: None, STDERR: None}
        self.held_from = 0
        self.end = 0
        self.offsets = dict.fromkeys(STREAM_NAMES, 0)
        self._offsets: deque[dict[int, int]] = deque()  # after each batch that is held
        self.dropped = 0

    @property
    def is_whole(self) -> bool:
        """True if nothing had to be let go."""
        return self.held_from == 0

    def expect_yields(self) -> None:
        """Take what is yielded, too; before anything has come."""
        self._digests[YIELDED] = None

    def add(self, records: list[Record]) -> None:
        """Take a batch.

        Raises:
            KeyError: For a stream that there can't be.
        """
        for record in records:
            size = len(record.data)
            digest = self._digests[record.stream] or self._begin_digest(record.stream)
            digest.update(record.data)
            self.dropped += record.dropped
            self._held += size
            self.offsets[record.stream] += size + record.dropped
        self._batches.append(records)
        self._offsets.append(self.offsets.copy())
        self.end += 1
        while self._held > self._limit and len(self._batches) > 1:
            self._let_go()

    def digest(self) -> str:
        """Give the digests of all that came, as the worker writes them."""
        digests = [
            NO_DIGEST if one is None else one.hexdigest()
            for one in self._digests.values()
        ]
        return f"xxh3-128:{','.join(digests)}"

    def _begin_digest(self, stream: int) -> Any:
        # Not before there is output: many commands have none, or on one stream only.
        digest = self._digests[stream] = xxhash.xxh3_128()
        return digest

    def batch(self, number: int) -> list[Record]:
        """Give a batch.

        Raises:
            EvictedError: If it is no longer held.
        """
        if number < self.held_from:
            raise EvictedError(number)
        return self._batches[number - self.held_from]

    def offsets_after(self, number: int) -> dict[int, int]:
        """Give how far each stream had come with a batch that is held."""
        return self._offsets[number - self.held_from]

    def data(self, stream: str | None) -> bytes:
        """Give the held bytes of a stream, or of both in their order for None."""
        return b"".join(
            record.data
            for batch in list(self._batches)
            for record in batch
            if stream == STREAM_NAMES[record.stream]
            or (stream is None and record.stream != YIELDED)
        )

    def lines(self) -> int:
        """Count the lines that are held, a piece of one at the end among them.

        It may be called in any thread: what comes meanwhile is counted or not.
        """
        count, ends = 0, {}
        for batch in list(self._batches):
            for record in batch:
                if record.stream != YIELDED and record.data:
                    count += record.data.count(b"\n")
                    ends[record.stream] = record.data[-1:]
        return count + sum(end != b"\n" for end in ends.values())

    def last_state(self) -> bytes:
        """Give the latest state of a line that is being rewritten; empty for none."""
        records = itertools.chain.from_iterable(map(reversed, reversed(self._batches)))
        line = b""
        for record in itertools.islice(records, TAIL_RECORDS):
            _, newline, after = record.data.rpartition(b"\n")
            line = after + line
            if newline:
                break
        states = [one for one in line.split(b"\r") if one] if b"\r" in line else []
        return states[-1] if states else b""

    def clear(self) -> None:
        """Let go of everything held."""
        while self._batches:
            self._let_go()

    def _let_go(self) -> None:
        batch = self._batches.popleft()
        self._offsets.popleft()
        self._held -= sum(len(record.data) for record in batch)
        self.held_from += 1
