"""The sessions of syncs: once each step, over lost links, ended when they are left."""

import asyncio
from typing import Any

import pytest

from mlepool.errors import WorkerError
from mlepool.files.base import Scan, SourceOptions, TargetOptions, TargetReport
from mlepool.worker.tree_session import GONE_AFTER, MAX_STEPS, TreeSession
from mlepool.worker.trees import (
    IDLE_LIMIT,
    LINKED_LIMIT,
    MAX_SESSIONS,
    TAKEOVER_AFTER,
    Trees,
    UnknownSessionError,
)
from tests.tools import in_jumping_time


class Link:
    """Is the same only as itself."""


LINK, OTHER = Link(), Link()


class End:
    """A tree that notes what is done with it."""

    def __init__(self) -> None:
        self.closed = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def scan(self) -> Scan:
        return Scan([])

    async def close(self) -> None:
        self.closed += 1


class TargetEnd(End):
    commits = 0

    async def commit(self, *, digest: str = "") -> TargetReport:
        await self.go_on.wait()
        self.commits += 1
        return TargetReport()


class Ends:
    """Makes them."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.delay = 0.0

    async def resolve(self, root: bytes) -> bytes:
        await asyncio.sleep(self.delay)
        if root == b"/no":
            raise PermissionError("not there")
        return root

    def source(self, root: bytes, options: Any) -> Any:
        self.made.append(End())
        return self.made[-1]

    def target(self, root: bytes, options: Any, waiting: Any) -> Any:
        self.made.append(TargetEnd())
        return self.made[-1]


class Table(Trees):
    """The sessions, with what was told of them."""

    def __init__(self) -> None:
        self.opened = Ends()
        self.told: list[str] = []
        ends: Any = self.opened
        super().__init__(ends, changed=lambda: self.told.append(self.status))

    async def begin(self, name: str, root: bytes = b"/t", link: Any = LINK) -> Any:
        await self.open(name, root, TargetOptions())
        return self.find(name, link)


def session() -> TreeSession:
    ends: Any = Ends()
    return TreeSession(ends, b"/t", TargetOptions())


@in_jumping_time
async def test_a_step_is_done_once_and_its_answer_given_again():
    tree, done = session(), []

    async def work() -> int:
        done.append(1)
        await asyncio.sleep(1)
        return len(done)

    first = asyncio.create_task(tree.once(1, work))
    await asyncio.sleep(0.5)
    first.cancel()  # the link was lost
    assert await tree.once(1, work) == 1
    assert await tree.once(1, work) == 1
    assert await tree.once(2, work) == 2


@in_jumping_time
async def test_what_a_step_raises_is_raised_again():
    tree = session()

    async def fail() -> None:
        raise OSError(28, "full")

    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            await tree.once(1, fail)


@in_jumping_time
async def test_only_the_latest_answers_are_kept():
    tree, done = session(), []

    async def work() -> None:
        done.append(1)

    for step in range(MAX_STEPS + 1):
        await tree.once(step, work)
    await tree.once(1, work)
    assert len(done) == MAX_STEPS + 1
    await tree.once(0, work)
    assert len(done) == MAX_STEPS + 2


@in_jumping_time
async def test_too_many_steps_under_way_are_refused():
    tree = session()
    never = asyncio.Event()
    tasks = [
        asyncio.create_task(tree.once(step, never.wait)) for step in range(MAX_STEPS)
    ]
    await asyncio.sleep(0)
    with pytest.raises(WorkerError, match="256 requests"):
        await tree.once(MAX_STEPS, never.wait)
    never.set()
    await asyncio.gather(*tasks)


@in_jumping_time
async def test_the_status_is_that_of_the_syncs_under_way_and_then_of_the_last():
    table = Table()
    assert table.status == "idle"
    await table.begin("a", b"/a")
    await table.begin("b", b"/b")
    await table.end("a", is_success=True)
    assert table.status == "syncing"
    await table.end("b", is_success=False)
    assert table.told == ["syncing", "error"]
    await table.begin("c")
    await table.end("c", is_success=True)
    assert table.told == ["syncing", "error", "syncing", "success"]


@in_jumping_time
async def test_a_session_is_opened_once_and_closed_once():
    table = Table()
    await table.begin("a")
    await table.begin("a")
    assert len(table.opened.made) == 1
    await table.end("a", is_success=True)
    await table.end("a", is_success=True)
    assert table.opened.made[0].closed == 1
    with pytest.raises(UnknownSessionError, match="no sync 'a'"):
        table.find("a", LINK)


@pytest.mark.parametrize("root", [b"/t", b"/no"])
@in_jumping_time
async def test_who_asks_right_behind_opening_a_tree_waits_for_that(root):
    table = Table()
    table.opened.delay = 1.0
    opening = asyncio.create_task(table.open("a", root, TargetOptions()))
    await asyncio.sleep(0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(table.ready("a"), 0.1)
    await table.ready("a")
    if root == b"/t":
        assert table.find("a", LINK)
    else:
        with pytest.raises(UnknownSessionError):
            table.find("a", LINK)
    await asyncio.wait([opening])
    await table.ready("b")  # which nobody opens


@in_jumping_time
async def test_a_session_that_is_ended_while_it_is_opened_does_not_begin():
    table = Table()
    table.opened.delay = 1.0  # a disk that is slow to say where a path leads
    opening = asyncio.create_task(table.open("a", b"/t", TargetOptions()))
    await asyncio.sleep(0.5)
    waiting = asyncio.create_task(table.ready("a"))
    await asyncio.sleep(0)
    await table.end("a", is_success=False)
    await waiting
    with pytest.raises(UnknownSessionError):
        await opening
    assert (table.opened.made, table.status) == ([], "idle")
    twice = [table.open("b", b"/t", TargetOptions()) for _ in range(2)]
    await asyncio.gather(*twice)
    assert len(table.opened.made) == 1


@in_jumping_time
async def test_a_commit_comes_to_its_end_before_the_session_does():
    table = Table()
    tree = await table.begin("a")
    end = tree.end
    end.go_on.clear()
    commit = asyncio.create_task(tree.commit())
    await asyncio.sleep(0)
    ending = asyncio.create_task(table.end("a", is_success=False))
    await asyncio.sleep(1)
    assert (end.closed, table.status) == (0, "syncing")
    end.go_on.set()
    await ending
    assert await commit == await tree.commit()  # once, and told again
    assert (end.commits, end.closed, table.status) == (1, 1, "success")


@in_jumping_time
async def test_a_session_outlives_its_link_and_ends_when_it_is_idle():
    table = Table()
    await table.begin("a")
    await asyncio.sleep(5)
    table.link_gone(LINK)
    await asyncio.sleep(IDLE_LIMIT - 10)
    table.find("a", OTHER)  # it is back, over another link
    await asyncio.sleep(2 * IDLE_LIMIT)
    assert table.status == "syncing"
    table.link_gone(OTHER)
    await asyncio.sleep(IDLE_LIMIT - 10)
    assert table.opened.made[0].closed == 0
    await asyncio.sleep(10 + IDLE_LIMIT / 10)
    assert table.status == "error"
    assert table.opened.made[0].closed == 1


@in_jumping_time
async def test_a_sync_whose_client_is_gone_does_not_count_as_one():
    table = Table()
    await table.begin("a")
    table.link_gone(LINK)
    await asyncio.sleep(GONE_AFTER - 1)
    assert table.status == "syncing"
    await asyncio.sleep(2)
    assert table.status == "error"
    table.find("a", OTHER)  # it is back
    assert table.status == "syncing"


@in_jumping_time
async def test_a_session_whose_client_is_there_may_rest_for_hours():
    table = Table()
    await table.begin("a")
    await asyncio.sleep(LINKED_LIMIT - 10)
    assert table.status == "syncing"
    await asyncio.sleep(10 + IDLE_LIMIT / 10)
    assert table.status == "error"


@in_jumping_time
async def test_a_session_that_is_at_work_is_not_idle():
    table = Table()
    tree = await table.begin("a")
    go_on = asyncio.Event()
    task = asyncio.create_task(tree.once(1, go_on.wait))
    await asyncio.sleep(2 * LINKED_LIMIT)
    assert table.status == "syncing"
    go_on.set()
    await task


@in_jumping_time
async def test_a_tree_whose_client_is_gone_is_left_to_who_wants_it():
    table = Table()
    await table.begin("a", b"/t")
    await table.begin("elsewhere", b"/tree")
    table.link_gone(LINK)
    await asyncio.sleep(10 * TAKEOVER_AFTER)
    again = Link()
    assert table.find("a", again)
    table.link_gone(again)
    await table.begin("b", b"/t/inside", OTHER)
    await asyncio.sleep(TAKEOVER_AFTER / 2)
    assert table.opened.made[0].closed == 0  # it may come back yet
    await asyncio.sleep(TAKEOVER_AFTER)
    assert [one.closed for one in table.opened.made] == [1, 0, 0]


@in_jumping_time
async def test_a_tree_whose_client_comes_back_in_time_stays_its_own():
    table = Table()
    await table.begin("a")
    await table.begin("b", link=OTHER)
    table.link_gone(LINK)
    await asyncio.sleep(TAKEOVER_AFTER / 2)
    table.find("a", Link())
    await asyncio.sleep(10 * TAKEOVER_AFTER)
    assert [one.closed for one in table.opened.made] == [0, 0]


@in_jumping_time
async def test_a_tree_that_was_asked_for_over_a_link_that_is_lost_is_left_to_others():
    table = Table()
    await table.begin("b", link=OTHER)
    lost = Link()
    table.link_gone(lost)
    await table.begin("a", link=lost)  # where the path leads was being looked up
    await asyncio.sleep(TAKEOVER_AFTER * 1.5)
    assert [one.closed for one in table.opened.made] == [0, 1]
    await table.end("b", is_success=True)
    await table.begin("c", link=lost)
    assert table.status == "syncing"
    await asyncio.sleep(GONE_AFTER + 1)
    assert table.status == "error"
    again = Link()
    assert table.find("c", again).link is again
    assert table.find("c", lost).link is again


@in_jumping_time
async def test_all_are_closed_with_the_worker():
    table = Table()
    for number in range(3):
        await table.begin(str(number), str(number).encode())
    await table.close()
    assert [one.closed for one in table.opened.made] == [1, 1, 1]
    assert table.status == "error"


@in_jumping_time
async def test_their_number_is_limited_and_more_wait_for_one_to_end():
    table = Table()
    for number in range(MAX_SESSIONS):
        await table.begin(str(number))
    with pytest.raises(WorkerError, match="128 syncs"):
        await table.begin("never")
    names = "one more", "ended", "another"
    waiting = [asyncio.create_task(table.begin(one)) for one in names]
    await asyncio.sleep(1)
    await table.end("ended", is_success=False)
    await asyncio.sleep(1)
    assert [one.done() for one in waiting] == [False, True, False]
    assert isinstance(waiting[1].exception(), UnknownSessionError)
    for number in range(2):
        await table.end(str(number), is_success=True)
    await waiting[0]
    await waiting[2]
    assert len(table.opened.made) == MAX_SESSIONS + 2


@in_jumping_time
async def test_a_tree_is_read_or_written_and_not_both():
    table = Table()
    tree = await table.begin("a")
    with pytest.raises(ValueError, match="written, not read"):
        tree.source()
    await table.open("b", b"/s", SourceOptions())
    with pytest.raises(ValueError, match="read, not written"):
        table.find("b", LINK).target()
