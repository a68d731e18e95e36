"""Commands that run on the client: messages, values, ends, stops and limits."""

import asyncio

import pytest

from mlepool.client.listening.listener import AsyncListener
from mlepool.client.local import LocalJob
from mlepool.client.options import CallOptions
from mlepool.errors import (
    ClientError,
    CommandTimeoutError,
    ConnectionLostError,
    ListenerTimeoutError,
)
from tests.tools import in_jumping_time


def begin(work, **options) -> LocalJob:
    return LocalJob("gpu1", "do it", work, options=CallOptions(**options))


async def never(job):
    await asyncio.Event().wait()


@in_jumping_time
async def test_it_gives_its_messages_as_lines_and_its_value():
    async def work(job):
        job.say(["one", "two"])
        job.say([])
        job.say(["three"])
        return 42

    listener = await begin(work).listener.wait()
    assert listener[:] == ["one", "two", "three"]
    assert [await listener.next() for _ in range(4)] == ["one", "two", "three", None]
    assert (listener.value, listener.status, listener.ok) == (42, "SUCCEEDED", True)
    assert (listener.host, listener.command, listener.error) == ("gpu1", "do it", None)


@in_jumping_time
async def test_messages_come_while_it_runs():
    go_on = asyncio.Event()

    async def work(job):
        job.say(["one"])
        await go_on.wait()
        job.say(["two"])

    listener = begin(work).listener
    assert await listener.next() == "one"
    assert listener.status == "RUNNING"
    go_on.set()
    assert [message async for message in listener] == ["one", "two"]
    assert listener.done


@in_jumping_time
async def test_many_messages_are_all_held():
    async def work(job):
        for begin in range(0, 400_000, 4000):
            job.say(f"{'x' * 60} {one}" for one in range(begin, begin + 4000))

    listener = await begin(work).listener.wait()  # 26 MB: a job's would be let go
    assert len(listener) == 400_000
    assert listener[-1].endswith(" 399999")


@in_jumping_time
async def test_what_it_raises_is_the_error_as_it_is():
    async def work(job):
        job.value = "so far"
        raise FileNotFoundError(2, "No such file", "src")

    listener = await begin(work).listener.wait()
    assert listener.status == "FAILED"
    assert isinstance(listener.error, FileNotFoundError)
    assert listener.value == "so far"
    with pytest.raises(FileNotFoundError, match="src"):
        await begin(work, raise_error=True).listener.wait()


@in_jumping_time
async def test_a_link_that_is_lost_for_good_is_never_a_success():
    async def work(job):
        raise ConnectionLostError("gpu1", "cut")

    listener = begin(work).listener
    with pytest.raises(ConnectionLostError):
        await listener.wait()
    assert listener.status == "LOST"


@in_jumping_time
async def test_a_stop_ends_it_and_waits_for_its_cleanup():
    ends = []

    async def work(job):
        try:
            await never(job)
        finally:
            await asyncio.sleep(1)
            ends.append("clean")

    listener = begin(work).listener
    await asyncio.sleep(0.1)
    report = await listener.stop()
    assert (report.status, listener.status) == ("STOPPED", "STOPPED")
    assert ends == ["clean"]
    assert isinstance(listener.error, ClientError)
    assert (await listener.stop()).status == "STOPPED"  # twice is fine


@in_jumping_time
async def test_a_stop_before_it_has_begun_ends_it_too():
    async def work(job):
        raise AssertionError("it was run")

    listener = begin(work).listener
    await listener.stop()
    assert listener.status == "STOPPED"


@in_jumping_time
async def test_a_stop_while_it_is_held_waits_for_its_end():
    async def work(job):
        with job.held():
            await asyncio.sleep(5)
        return "done"

    listener = begin(work).listener
    await asyncio.sleep(1)
    assert (await listener.stop()).status == "SUCCEEDED"
    assert listener.value == "done"


@in_jumping_time
async def test_a_stop_after_what_can_not_be_undone_comes_too_late():
    async def work(job):
        with job.held():
            pass
        await asyncio.sleep(5)  # both ends are let go of
        return "done"

    listener = begin(work).listener
    await asyncio.sleep(1)
    assert (await listener.stop()).status == "SUCCEEDED"
    assert listener.value == "done"


@in_jumping_time
async def test_what_failed_while_it_was_held_can_be_stopped_again():
    async def work(job):
        try:
            with job.held():
                raise LookupError
        except LookupError:
            await asyncio.sleep(5)

    listener = begin(work).listener
    await asyncio.sleep(1)
    assert (await listener.stop()).status == "STOPPED"


@in_jumping_time
async def test_its_timeout_stops_it():
    listener = begin(never, timeout=3).listener
    with pytest.raises(CommandTimeoutError, match="it was stopped"):
        await listener.wait()
    assert listener.status == "TIMED_OUT"


@in_jumping_time
async def test_silence_is_noticed():
    listener = begin(never, max_interval=2).listener
    with pytest.raises(ListenerTimeoutError):
        await listener.next()
    await listener.stop()


@in_jumping_time
async def test_closing_the_listener_leaves_it_going_on():
    async def work(job):
        await asyncio.sleep(1)
        return 1

    listener = begin(work).listener
    listener.close()
    await asyncio.sleep(2)
    assert listener.value == 1


@in_jumping_time
async def test_a_call_that_is_cancelled_stops_it():
    job = begin(never)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await job.finish(print)
    assert job.is_over
    assert job.listener.status == "STOPPED"


@in_jumping_time
async def test_a_call_prints_what_it_says():
    printed: list[str] = []

    async def work(job):
        job.say(["one", "two"])

    listener = await begin(work, echo_response=True).finish(printed.append)
    assert printed == ["one", "two"]
    assert isinstance(listener, AsyncListener)


@in_jumping_time
async def test_it_takes_no_input_and_has_no_terminal():
    listener = begin(never).listener
    with pytest.raises(BrokenPipeError):
        await listener.send_input("text")
    with pytest.raises(ValueError, match="no terminal"):
        await listener.resize(1, 1)
    await listener.stop()


@in_jumping_time
async def test_messages_that_were_let_go_are_gone():
    async def work(job):
        job.say(["one"])

    listener = await begin(work).listener.wait()
    listener.clear_messages()
    with pytest.raises(LookupError, match="were let go"):
        [message async for message in listener]


@in_jumping_time
async def test_a_stop_that_came_while_it_was_held_ends_what_would_go_on():
    held, go_on = asyncio.Event(), asyncio.Event()

    async def work(job):
        for number in range(5):
            with job.held():
                job.say([f"{number}"])
                held.set()
                await go_on.wait()
            job.value = number
            job.go_on()

    listener = begin(work).listener
    await held.wait()
    stop = asyncio.create_task(listener.stop())
    await asyncio.sleep(1)
    assert listener.status == "RUNNING"
    go_on.set()
    assert (await stop).status == "STOPPED"
    assert (listener[:], listener.value) == (["0"], 0)
