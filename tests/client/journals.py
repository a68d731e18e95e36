"""Journals of jobs inside a worker, made by hand, and fake workers that serve them."""

from typing import Any, Self

import xxhash
from msgspec import structs

from mlepool.wire.codec import MAX_DATA, Data, encode_data
from mlepool.wire.messages import (
    Accepted,
    Attach,
    CommandSpec,
    Credit,
    Ended,
    Message,
    Outcome,
    Parameter,
    Request,
)
from mlepool.wire.records import STDERR, STDOUT, YIELDED, pack_header
from mlepool.wire.values import Progress, StopReport
from mlepool.wire.yields import PROGRESS, VALUE, pack_yield
from tests.raw import ClientLink

TOKEN = "t" * 43

COUNT = CommandSpec("count", "Count.\n\nUp to a number.", streams=True)
ASK = CommandSpec("ask", "Give a value.", returns="Any")
RUN = CommandSpec("run", parameters=(Parameter("command", "KEYWORD_ONLY"),))
RUN = structs.replace(RUN, spawns=True)
STOP = CommandSpec(
    "stop",
    parameters=tuple(
        Parameter(name, "POSITIONAL_OR_KEYWORD", default=default)
        for name, default in (("job_id", None), ("signal", "''"), ("grace", "1.0"))
    ),
    returns="StopReport",
)


class Journal:
    """What a job has said, as the worker's journal has it.

    Args:
        streams: True of a job inside the worker.
    """

    def __init__(self, *, streams: bool = True) -> None:
        self.streams = streams
        self.data = bytearray()
        kinds = (STDOUT, STDERR, YIELDED) if streams else (STDOUT, STDERR)
        self._offsets = dict.fromkeys(kinds, 0)
        self._digests = {one: xxhash.xxh3_128() for one in kinds}

    def add(self, stream: int, data: bytes) -> Self:
        header = pack_header(stream, len(data), self._offsets[stream], time=1.0)
        self._offsets[stream] += len(data)
        self._digests[stream].update(data)
        self.data += header + data
        return self

    def lose(self, stream: int, count: int) -> Self:
        """Leave out bytes: they were not kept."""
        self._offsets[stream] += count
        return self

    def values(self, *values: Any) -> Self:
        for one in values:
            for part in pack_yield(VALUE, one):
                self.add(YIELDED, part)
        return self

    def progress(self, *facts: Any) -> Self:
        for part in pack_yield(PROGRESS, Progress(*facts)):
            self.add(YIELDED, part)
        return self

    def log(self, text: str) -> Self:
        return self.add(STDERR, f"{text}\n".encode())

    def outcome(self, status: str = "SUCCEEDED", **facts: Any) -> Outcome:
        digests = ",".join(one.hexdigest() for one in self._digests.values())
        return Outcome(
            status,
            end=len(self.data),
            stdout=self._offsets[STDOUT],
            stderr=self._offsets[STDERR],
            yielded=self._offsets.get(YIELDED, 0),
            digest=f"xxh3-128:{digests}",
            **{"started": 1.0, "ended": 2.0, **facts},
        )


class Served:
    """A worker that has jobs, and serves them to one client under its credit.

    Args:
        client: The client's link.
        jobs: The journals, by the command that begins them, and by job id once begun.
        frame: Bytes in a data frame, at most.
        outcomes: How they end, by command; one that is not there goes on for ever.
    """

    def __init__(
        self,
        client: ClientLink,
        jobs: dict[str, Journal],
        outcomes: dict[str, Outcome],
        *,
        frame: int = MAX_DATA,
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._outcomes = outcomes
        self._frame = frame
        self._limits: dict[int, tuple[str, int, int]] = {}

    def run(self) -> None:
        while True:
            self.take(self._client.receive())

    def take(self, message: Message | Data) -> None:
        if isinstance(message, Request) and message.command == "stop":
            report = StopReport(message.arguments["job_id"], "STOPPED")
            self._end(message.call, Outcome("SUCCEEDED", value=report))
        elif isinstance(message, Request):
            self._jobs[message.id] = self._jobs.get(message.command, Journal())
            if message.command in self._outcomes:
                self._outcomes[message.id] = self._outcomes[message.command]
            self._begin(message)
        elif isinstance(message, Attach):
            self._begin(message)
        elif isinstance(message, Credit) and message.call in self._limits:
            job_id, position, _ = self._limits[message.call]
            self._limits[message.call] = (job_id, position, message.position)
            self.pump(message.call)

    def _begin(self, asked: Request | Attach) -> None:
        if asked.id not in self._jobs:
            self._end(asked.call, self._outcomes[asked.id])
            return
        streams = self._jobs[asked.id].streams
        self._client.send(Accepted(asked.call, asked.position, 1.0, "x", streams))
        limit = asked.position + asked.window
        self._limits[asked.call] = (asked.id, asked.position, limit)
        self.pump(asked.call)

    def pump(self, call: int) -> None:
        job_id, position, limit = self._limits[call]
        data = self._jobs[job_id].data
        while position < min(limit, len(data)):
            end = min(position + self._frame, limit, len(data))
            self._client.send_raw(
                encode_data(call, position, bytes(data[position:end]))
            )
            position = end
        self._limits[call] = (job_id, position, limit)
        if position == len(data) and job_id in self._outcomes:
            del self._limits[call]
            self._end(call, self._outcomes[job_id])

    def _end(self, call: int, outcome: Outcome) -> None:
        self._client.send(Ended(call, outcome))
