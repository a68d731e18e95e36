"""Calls for a value alone: answers, errors, lost links, and bulk that waits."""

import asyncio
from typing import Any

import pytest

import mlepool
from mlepool.client.links.questions import FAST_BULK, LARGE, MAX_BULK, Questions
from mlepool.errors import ConnectionLostError, LocalProtocolError, RemoteProtocolError
from mlepool.wire.messages import Accepted, Ended, Failure, Outcome, Request
from tests.tools import in_jumping_time, in_real_time


class Conversation:
    """A link's end that notes what is sent over it."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.open: dict[int, Any] = {}
        self.left: list[Any] = []
        self.peer = self
        self.is_full = False
        self.is_writable = lambda: None

    def next_number(self) -> int:
        return len(self.sent) + 1

    def send(self, question: Any) -> None:
        question.number, question.sent = question.message.call, question.made
        self.open[question.number] = question
        self.sent.append(question.message)

    def resume(self, question: Any) -> None:
        message = question.again(self.next_number())
        question.number = message.call
        self.open[message.call] = question
        self.sent.append(message)

    def leave_call(self, question: Any) -> None:
        self.left.append(question)

    def answer(self, number: int, outcome: Outcome, questions: Questions) -> None:
        question = self.open.pop(number)
        question.deliver(Ended(number, outcome))
        questions.ended(question)


def ask(questions: Questions, name: str, size: int = 0) -> asyncio.Task[Any]:
    return asyncio.create_task(questions.ask(name, name, {}, size=size))


def value(one: Any) -> Outcome:
    return Outcome("SUCCEEDED", value=one)


async def linked() -> tuple[Questions, Any]:
    questions, link = Questions("gpu1"), Conversation()
    questions.link_made(link)  # type: ignore[arg-type]
    return questions, link


@in_jumping_time
async def test_many_are_under_way_and_each_gets_its_own_answer():
    questions, link = await linked()
    tasks = [ask(questions, name) for name in "abc"]
    await asyncio.sleep(0)
    assert [one.command for one in link.sent] == ["a", "b", "c"]
    for number in (3, 1, 2):
        link.answer(number, value(number), questions)
    assert await asyncio.gather(*tasks) == [1, 2, 3]


@in_jumping_time
async def test_what_the_worker_raised_is_raised():
    questions, link = await linked()
    task = ask(questions, "a")
    await asyncio.sleep(0)
    failure = Failure("FileNotFoundError", "No such file", errno=2, filename="x")
    link.answer(1, Outcome("FAILED", failure=failure), questions)
    with pytest.raises(FileNotFoundError, match=r"'x' \(on gpu1\)"):
        await task


@in_jumping_time
async def test_an_unknown_outcome_is_an_error():
    questions, link = await linked()
    task = ask(questions, "a")
    await asyncio.sleep(0)
    link.answer(1, Outcome("LOST", reason="it was forgotten"), questions)
    with pytest.raises(mlepool.JobLostError, match="forgotten"):
        await task


@in_jumping_time
async def test_open_ones_are_repeated_under_their_id_over_the_next_link():
    questions, first = await linked()
    tasks = [ask(questions, name) for name in "ab"]
    await asyncio.sleep(0)
    first.answer(1, value(1), questions)
    questions.link_gone()
    later = ask(questions, "c")
    await asyncio.sleep(1)
    second = Conversation()
    questions.link_made(second)  # type: ignore[arg-type]
    assert [(one.id, one.age > 0) for one in second.sent] == [("b", True), ("c", False)]
    for number in (1, 2):
        second.answer(number, value(number), questions)
    assert await asyncio.gather(*tasks, later) == [1, 1, 2]


@in_jumping_time
async def test_all_fail_when_no_link_will_come():
    questions, _ = await linked()
    tasks = [ask(questions, "a"), ask(questions, "b", MAX_BULK), ask(questions, "c", 1)]
    await asyncio.sleep(0)
    questions.link_gone()
    questions.fail(ConnectionLostError("gpu1", "cut"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [ConnectionLostError] * 3


@in_jumping_time
@pytest.mark.parametrize(("size", "count"), [(LARGE, 4), (LARGE + 1, 7)])
async def test_bulk_waits_for_room_and_what_is_small_goes_before_it(size, count):
    assert count == (MAX_BULK if size == LARGE else FAST_BULK) // size
    questions, link = await linked()
    first, last = [str(number) for number in range(count)], ["next", "last"]
    tasks = [ask(questions, name, size) for name in first + last]
    await asyncio.sleep(0)
    assert [one.command for one in link.sent] == first
    tasks.append(ask(questions, "small"))
    await asyncio.sleep(0)
    assert [one.command for one in link.sent] == [*first, "small"]
    link.answer(2, value("b"), questions)
    await asyncio.sleep(0.1)
    assert [one.command for one in link.sent] == [*first, "small", "next"]
    for number in tuple(link.open):
        link.answer(number, value(0), questions)
    await asyncio.sleep(0.1)
    link.answer(count + 3, value("last"), questions)
    await asyncio.gather(*tasks)


@in_jumping_time
async def test_bulk_waits_while_the_link_is_full():
    questions, link = await linked()
    link.is_full = True
    task = ask(questions, "a", 10)
    await asyncio.sleep(1)
    assert link.sent == []
    link.is_full = False
    link.is_writable()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    link.answer(1, value(1), questions)
    assert await task == 1


@in_jumping_time
async def test_more_than_all_the_room_goes_alone():
    questions, link = await linked()
    task = ask(questions, "a", FAST_BULK + 1)
    await asyncio.sleep(0)
    link.answer(1, value(1), questions)
    assert await task == 1


@in_jumping_time
async def test_a_cancelled_one_leaves_its_call_and_its_room():
    questions, link = await linked()
    tasks = [ask(questions, name, FAST_BULK) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[0].cancel()
    await asyncio.sleep(0.1)
    assert [one.command for one in link.sent] == ["a", "c"]
    assert [one.message.command for one in link.left] == ["a"]
    link.answer(2, value(1), questions)
    assert await tasks[2] == 1


@in_jumping_time
async def test_output_for_one_is_a_protocol_error():
    questions, link = await linked()
    task = ask(questions, "a")
    await asyncio.sleep(0)
    with pytest.raises(RemoteProtocolError, match="Accepted came"):
        link.open[1].deliver(Accepted(1))
    task.cancel()


@in_jumping_time
async def test_what_can_not_be_sent_is_said_at_once_also_without_a_link():
    questions = Questions("gpu1")
    with pytest.raises(LocalProtocolError):
        await questions.ask("1", "a", {"x": object()}, size=0)


@pytest.mark.real
@in_real_time
async def test_a_real_worker_answers(worker: Any):
    async with mlepool.AsyncClientPool() as pool:
        async with pool.add("localhost", worker.port) as conn:
            answers = await asyncio.gather(
                *(conn._calls.ask("get_time", {}) for _ in range(100))
            )
            assert len(answers) == 100
            with pytest.raises(LookupError, match="no command 'nothing'"):
                await conn._calls.ask("nothing", {})
        with pytest.raises(mlepool.ConnectionClosedError):
            await conn._calls.ask("get_time", {})
