"""What a Listener holds of a job's output: a bounded part, and where each piece is.

No I/O: records in, messages out. Pieces are decoded into messages when somebody asks
for messages, each once, in order.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import xxhash

from mlepool.client.lines import LineDecoder
from mlepool.wire.records import STDERR, STDOUT, STREAM_NAMES, Record

__all__ = ["Batch", "EvictedError", "Output"]

LINE_COST = 64  # bytes that a short str takes in memory besides its text


class EvictedError(Exception):
    """What is asked for has left memory; the worker's journal still has it."""


class Batch:
    """What came in one frame.

    Attributes:
        records: As they were read from the process.
        messages: Those that the records completed; None until they were asked for.
        first: Number of the first message, counted from the start.
    """

    __slots__ = ("cost", "first", "messages", "records")

    def __init__(self, records: list[Record], cost: int) -> None:
        self.records = records
        self.cost = cost
        self.messages: list[Any] | None = None
        self.first = 0


class Output:
    """The held part of a job's output, as numbered batches.

    Args:
        decoder: Makes lines of records.
        limit: Bytes to hold; the oldest batches go first.

    Attributes:
        held_from: Number of the oldest batch that is still held.
        end: Number that the next batch will get.
        ended: True once no batch will come any more.
    """

    def __init__(self, decoder: LineDecoder, *, limit: int) -> None:
        self._decoder = decoder
        self._limit = limit
        self._batches: deque[Batch] = deque()
        self._held = 0
        self._decoded = 0
        self._count = 0
        self._digests = {STDOUT: xxhash.xxh3_128(), STDERR: xxhash.xxh3_128()}
        self.held_from = 0
        self.end = 0
        self.ended = False
        self.dropped = 0

    @property
    def progress(self) -> Any:
        """The latest state of a line that is rewritten; None for none."""
        return self._decoder.progress

    @property
    def is_whole(self) -> bool:
        """True if nothing had to be let go."""
        return self.held_from == 0

    def add(self, records: list[Record]) -> None:
        """Take records."""
        size = 0
        for record in records:
            self._digests[record.stream].update(record.data)
            self.dropped += record.dropped
            size += len(record.data)
        self._append(Batch(records, size))

    def finish(self) -> None:
        """Take the end."""
        self._decode_to(self.end)
        rest = self._decoder.finish()
        if rest:
            batch = Batch([], 0)
            self._append(batch)
            self._decoded = self.end
            self._number(batch, rest)
        self.ended = True

    def digest(self) -> str:
        """Give the digests of all that came, as the worker writes them."""
        digests = ",".join(self._digests[one].hexdigest() for one in (STDOUT, STDERR))
        return f"xxh3-128:{digests}"

    def batch(self, number: int) -> Batch:
        """Give a held batch, with its messages.

        Raises:
            EvictedError: If it is no longer held.
        """
        if number < self.held_from:
            raise EvictedError(number)
        self._decode_to(number + 1)
        return self._batches[number - self.held_from]

    def raw_batch(self, number: int) -> Batch:
        """Give a held batch; its messages may not be made yet.

        Raises:
            EvictedError: If it is no longer held.
        """
        if number < self.held_from:
            raise EvictedError(number)
        return self._batches[number - self.held_from]

    def count(self) -> int:
        """Count the messages that have come."""
        self._decode_to(self.end)
        return self._count

    def message(self, index: int) -> Any:
        """Give a message by its number.

        Raises:
            IndexError: If there is none (yet).
            EvictedError: If it is no longer held.
        """
        count = self.count()
        index += count if index < 0 else 0
        if not 0 <= index < count:
            raise IndexError("no such message (yet)")
        for batch in reversed(self._batches):
            assert batch.messages is not None
            if batch.first <= index:
                return batch.messages[index - batch.first]
        raise EvictedError(index)

    def messages(self) -> Iterator[Any]:
        """Give every message that is held."""
        self._decode_to(self.end)
        for batch in list(self._batches):
            assert batch.messages is not None
            yield from batch.messages

    def data(self, stream: str | None) -> bytes:
        """Give the held bytes of a stream, or of both in their order for None."""
        return b"".join(
            record.data
            for batch in list(self._batches)
            for record in batch.records
            if stream is None or STREAM_NAMES[record.stream] == stream
        )

    def clear(self) -> None:
        """Let go of everything held."""
        self._decode_to(self.end)
        self._batches.clear()
        self.held_from = self.end
        self._held = 0

    def _append(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._held += batch.cost
        self.end += 1
        while self._held > self._limit and len(self._batches) > 1:
            self._decode_to(self.held_from + 1)
            self._held -= self._batches.popleft().cost
            self.held_from += 1

    def _decode_to(self, number: int) -> None:
        while self._decoded < number:
            batch = self._batches[self._decoded - self.held_from]
            self._decoded += 1
            messages: list[Any] = []
            for record in batch.records:
                messages += self._decoder.feed(record)
            self._number(batch, messages)

    def _number(self, batch: Batch, messages: list[Any]) -> None:
        batch.first = self._count
        batch.messages = messages
        self._count += len(messages)
        cost = batch.cost + LINE_COST * len(messages)
        self._held += cost
        batch.cost += cost
