"""Lines for commands inside the worker: cut, repeated, too many, and ended."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from mlepool.worker.custom.task_input import MAX_WRITERS, ROOM, TaskInput

Test = Callable[[TaskInput], Awaitable[None]]


def with_input(test: Test) -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await test(TaskInput(asyncio.get_running_loop()))

    asyncio.run(run())


async def feed(lines: TaskInput, data: bytes, offset: int = 0, **given) -> int:
    given = {"end": False, "writer": "w", **given}
    return (await lines.feed(data, offset=offset, **given)).offset


def test_lines_are_cut_anywhere_and_decoded_whole():
    async def test(lines: TaskInput) -> None:
        data = "eins\r\nzwölf\n\nlast".encode()
        for at in range(len(data)):
            assert await feed(lines, data[at : at + 1], at) == at + 1
        await feed(lines, b"", len(data), end=True)
        assert [one async for one in lines] == ["eins", "zwölf", "", "last"]
        assert [one async for one in lines] == []

    with_input(test)


def test_what_a_writer_repeats_is_taken_once_and_gaps_are_refused():
    async def test(lines: TaskInput) -> None:
        assert await feed(lines, b"one\n") == 4
        assert await feed(lines, b"one\ntwo\n") == 8
        assert await feed(lines, b"other\n", writer="x") == 6
        with pytest.raises(ValueError, match="at 8, not at 9"):
            await feed(lines, b"!", 9)
        lines.close()
        assert [one async for one in lines] == ["one", "two", "other"]

    with_input(test)


def test_who_sends_more_than_is_read_is_held_up():
    async def test(lines: TaskInput) -> None:
        line = b"x" * 999 + b"\n"
        sending = asyncio.create_task(feed(lines, line * 300))
        await asyncio.sleep(0.01)
        assert not sending.done()
        got = []
        async for one in lines:
            got.append(len(one))
            if len(got) == 300:
                break
        assert await sending == 300_000
        assert got == [999] * 300

    with_input(test)


def test_a_thread_waits_for_lines_and_ends_with_them():
    async def test(lines: TaskInput) -> None:
        got: list[str] = []
        thread = threading.Thread(target=lambda: got.extend(lines))
        thread.start()
        await feed(lines, b"one\ntwo\n")
        lines.close()
        await asyncio.to_thread(thread.join)
        assert got == ["one", "two"]
        with pytest.raises(RuntimeError, match="async for"):
            next(iter(lines))

    with_input(test)


def test_after_a_stop_no_line_comes_and_who_sends_is_let_go():
    async def test(lines: TaskInput) -> None:
        sending = asyncio.create_task(feed(lines, b"x\n" * ROOM))
        await asyncio.sleep(0.01)
        lines.end()
        assert await sending < 2 * ROOM
        assert [one async for one in lines] == []
        assert lines.is_closed
        assert await feed(lines, b"", end=True) > 0

    with_input(test)


def test_a_line_without_an_end_comes_in_parts():
    async def test(lines: TaskInput) -> None:
        sending = asyncio.create_task(feed(lines, b"y" * (2 * ROOM) + b"\nlast"))
        got = [len(await anext(aiter(lines))) for _ in range(2)]
        assert sum(got) > ROOM
        await sending
        lines.close()
        rest = [one async for one in lines]
        assert rest[-1] == "last"
        assert sum(got) + sum(map(len, rest)) == 2 * ROOM + 4

    with_input(test)


def test_the_latest_writers_are_known_without_end():
    async def test(lines: TaskInput) -> None:
        for number in range(MAX_WRITERS + 10):
            await feed(lines, b".", writer=str(number))
        latest, first = str(MAX_WRITERS + 9), "0"
        assert await feed(lines, b".", writer=latest) == 1
        assert await feed(lines, b".", writer=first) == 1  # news, after so many
        lines.close()
        assert [len(one) async for one in lines] == [MAX_WRITERS + 11]

    with_input(test)
