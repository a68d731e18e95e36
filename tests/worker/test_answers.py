"""Answers that are kept: for a request that is repeated, and not for ever."""

import asyncio

from mlepool.wire.messages import Outcome
from mlepool.worker.answers import MAX_KEPT, Answers
from tests.tools import in_jumping_time


async def answer(value: int) -> Outcome:
    await asyncio.sleep(0)
    return Outcome("SUCCEEDED", value=value)


@in_jumping_time
async def test_an_answer_is_found_while_it_is_made_and_after():
    answers = Answers()
    task = answers.begin("mkdir", "1", answer(7))
    assert answers.is_busy
    assert answers.find("mkdir", "1") is task
    assert answers.find("mkdir", "2") is None
    await task
    await asyncio.sleep(0)
    assert not answers.is_busy
    assert answers.find("mkdir", "1") is task


@in_jumping_time
async def test_what_is_not_to_be_kept_is_not():
    answers = Answers()
    await answers.begin("read", "1", answer(7), is_kept=False)
    await asyncio.sleep(0)
    assert answers.find("read", "1") is None


@in_jumping_time
async def test_what_may_have_been_forgotten_is_known():
    answers = Answers()
    assert answers.may_be_forgotten(1e6)  # a worker before this one was asked
    assert not answers.may_be_forgotten(0.0)
    for number in range(MAX_KEPT):
        await answers.begin("mkdir", str(number), answer(number))
    await asyncio.sleep(0)
    assert answers.find("mkdir", "0") is not None
    assert not answers.may_be_forgotten(0.0)
    await answers.begin("mkdir", "another", answer(0))
    await asyncio.sleep(0)
    assert answers.find("mkdir", "0") is None
    assert answers.may_be_forgotten(60.0)
    assert not answers.may_be_forgotten(0.0)


@in_jumping_time
async def test_what_runs_is_cancelled_at_the_end():
    answers = Answers()
    task = answers.begin("sleep", "1", _for_ever())
    await answers.close()
    assert task.cancelled()


async def _for_ever() -> Outcome:
    await asyncio.Event().wait()
    return Outcome("SUCCEEDED")
