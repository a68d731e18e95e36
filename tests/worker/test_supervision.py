"""The worker's line to its supervisor: found, started, or not answering."""

import asyncio
import contextlib
import os
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mlepool.config import Limits
from mlepool.errors import WorkerError
from mlepool.supervisor.messages import (
    SOCKET_FILE,
    Feed,
    Greeting,
    Grown,
    JobEnded,
    Spawn,
    Spawned,
    Stop,
    encode,
)
from mlepool.wire.messages import Outcome
from mlepool.worker import supervision
from mlepool.worker.supervision import LOG_FILE, Supervision
from tests.tools import in_real_time

# Strays are found by their job's id, on the whole machine: so also those of a test
# that runs beside this one, in a process of its own, if its job had this name.
JOB = f"job{os.getpid()}"

pytestmark = pytest.mark.real

ENVIRONMENT = {b"PATH": os.environb[b"PATH"]}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def greeted(self, greeting: Greeting) -> None:
        self.told.put_nowait(("greeted", greeting))

    def spawned(self, spawned: Spawned) -> None:
        self.told.put_nowait(("spawned", spawned))

    def grown(self, grown: Grown) -> None:
        self.told.put_nowait(("grown", (grown.id, grown.position)))

    def pressed(self) -> None:
        self.told.put_nowait(("pressed", None))

    def ended(self, ended: JobEnded) -> None:
        self.told.put_nowait(("ended", ended))

    def supervisor_lost(self) -> None:
        self.told.put_nowait(("lost", None))

    async def wait_for(self, what: str) -> Any:
        while True:
            told, detail = await self.told.get()
            if told == what:
                return detail


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Supervision, Notes]]:
    """Open a line to a real supervisor."""
    notes = Notes()
    line = Supervision(folder, notes, environment=ENVIRONMENT, limits=Limits())
    await line.open()
    try:
        yield line, notes
    finally:
        line.close()


@contextlib.asynccontextmanager
async def false_supervisor(folder: Path, serve: Serve) -> AsyncIterator[Supervision]:
    """Listen where a supervisor should, and answer in our own way."""
    writers = []

    async def accept(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(4)
            await serve(reader, writer)

    server = await asyncio.start_unix_server(accept, folder / SOCKET_FILE)
    line = Supervision(folder, Notes(), environment={}, limits=Limits())
    try:
        yield line
    finally:
        line.close()
        server.close()
        for one in writers:
            one.close()


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def spawn(job_id: str, command: str) -> Spawn:
    return Spawn(job_id, (b"/bin/sh", b"-c", command.encode()), command, "/", {})


@in_real_time
async def test_a_supervisor_is_started_where_none_is_and_found_later(tmp_path):
    async with opened(tmp_path) as (line, notes):
        line.spawn(spawn(JOB, "exec sleep 60"))
        first = await notes.wait_for("greeted")
        await notes.wait_for("spawned")
    async with opened(tmp_path) as (line, notes):
        second = await notes.wait_for("greeted")
        assert second.pid == first.pid
        assert [one.id for one in second.jobs] == [JOB]
        report = await line.stop(Stop(JOB))
        assert report.complete
        assert (await notes.wait_for("ended")).outcome.status == "STOPPED"


@in_real_time
async def test_several_who_stop_one_job_are_all_answered(tmp_path):
    async with opened(tmp_path) as (line, _):
        line.spawn(spawn(JOB, "exec sleep 60"))
        reports = await asyncio.gather(*(line.stop(Stop(JOB)) for _ in range(3)))
        assert all(one.complete for one in reports)


@contextlib.asynccontextmanager
async def bereaved(
    folder: Path,
) -> AsyncIterator[tuple[Supervision, Notes, Callable[[], None]]]:
    """Open a line to a supervisor that has a job and does nothing more.

    Yields:
        The line, what it says, and what kills the supervisor.
    """
    async with opened(folder) as (line, notes):
        greeting = await notes.wait_for("greeted")
        line.spawn(Spawn(JOB, (b"sleep", b"60"), "sleep", "/", {}, stdin=True))
        job = await notes.wait_for("spawned")
        os.kill(greeting.pid, signal.SIGSTOP)
        try:
            yield line, notes, lambda: os.kill(greeting.pid, signal.SIGKILL)
        finally:
            for pid in (greeting.pid, job.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def ask(line: Supervision) -> asyncio.Future[Any]:
    """Stop a job, twice, and write to its stdin."""
    feed = line.feed(Feed(JOB, 0, bytes(900_000)))
    return asyncio.gather(line.stop(Stop(JOB)), line.stop(Stop(JOB)), feed)


@pytest.mark.parametrize("is_asked", ["before it was killed", "after that"])
@in_real_time
async def test_who_asks_a_supervisor_that_was_killed_is_answered_by_the_next(
    tmp_path, is_asked
):
    async with bereaved(tmp_path) as (line, notes, kill):
        if is_asked == "before it was killed":
            asking = asyncio.ensure_future(ask(line))
            await asyncio.sleep(0)
        kill()
        await notes.wait_for("lost")
        if is_asked == "after that":
            asking = asyncio.ensure_future(ask(line))
            await asyncio.sleep(0)
        assert not asking.done()
        await line.open()
        report, again, fed = await asking
        assert (report.status, report.complete) == ("LOST", True)
        assert {one.command for one in report.signalled} == {"sleep 60"}
        assert again == report
        assert (fed.offset, fed.closed) == (0, True)


@in_real_time
async def test_who_waits_is_told_if_no_supervisor_can_be_started(tmp_path):
    async with bereaved(tmp_path) as (line, notes, kill):
        asking = asyncio.ensure_future(ask(line))
        await asyncio.sleep(0)
        (tmp_path / LOG_FILE).unlink()
        (tmp_path / LOG_FILE).mkdir()  # where its log should be
        kill()
        await notes.wait_for("lost")
        with pytest.raises(IsADirectoryError):
            await line.open()
        with pytest.raises(WorkerError, match="no supervisor could be started"):
            await asking
        with pytest.raises(WorkerError, match="there is no supervisor"):
            await ask(line)


@in_real_time
async def test_who_waits_is_told_when_the_line_is_closed(tmp_path):
    async with bereaved(tmp_path) as (line, _, _):
        asking = asyncio.ensure_future(ask(line))
        await asyncio.sleep(0)
        line.close()
        with pytest.raises(WorkerError, match="the worker ends"):
            await asking


@in_real_time
async def test_a_command_that_is_too_long_is_refused_and_the_line_goes_on(tmp_path):
    async with opened(tmp_path) as (line, notes):
        with pytest.raises(OSError, match="Argument list too long"):
            line.spawn(Spawn("long", (b"x" * 2**20,), "long", "/", {}))
        line.spawn(spawn(JOB, "exit 3"))
        assert (await notes.wait_for("ended")).outcome.exit_code == 3


@in_real_time
async def test_a_supervisor_that_does_not_answer_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "START_LIMIT", 0.3)

    async def say_nothing(reader: asyncio.StreamReader, _: Any) -> None:
        await reader.read()

    async with false_supervisor(tmp_path, say_nothing) as line:
        with pytest.raises(WorkerError, match=r"does not answer within 0\.3 s"):
            await line.open()


@in_real_time
async def test_a_supervisor_of_another_version_is_said(tmp_path):
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(encode(Greeting(0, 4711))))

    async with false_supervisor(tmp_path, answer) as line:
        with pytest.raises(
            WorkerError, match=r"pid 4711\) speaks no version of 1 to 1"
        ):
            await line.open()


@in_real_time
async def test_a_supervisor_that_was_just_ending_is_asked_again(tmp_path):
    asked = []

    async def end_at_first(_: Any, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        if len(asked) == 1:
            writer.close()
        else:
            writer.write(framed(encode(Greeting(1, 4711))))

    async with false_supervisor(tmp_path, end_at_first) as line:
        await line.open()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "nonsense",
    [framed(b"\xc1"), framed(b""), b"\xff\xff\xff\xff", framed(b"\x91" * 100_000)],
)
@in_real_time
async def test_nonsense_from_a_supervisor_closes_the_line(tmp_path, nonsense):
    async def greet_then_babble(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(encode(Greeting(1, 4711))) + nonsense)

    async with false_supervisor(tmp_path, greet_then_babble) as line:
        await line.open()
        notes = line._observer
        assert isinstance(notes, Notes)
        await notes.wait_for("lost")


@in_real_time
async def test_the_end_of_a_job_answers_who_feeds_it(tmp_path):
    async with opened(tmp_path) as (line, notes):
        wish = Spawn(JOB, (b"sleep", b"0.2"), "sleep", "/", {}, stdin=True)
        line.spawn(wish)
        fed = await line.feed(Feed(JOB, 0, bytes(900_000)))
        assert fed.closed
        outcome: Outcome = (await notes.wait_for("ended")).outcome
        assert outcome.exit_code == 0
