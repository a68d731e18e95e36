"""Jobs that wait in line: told, refused, stopped, fed, kept over a restart."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator

import msgspec
import pytest

import mlepool
from mlepool.client.connection import AsyncConnection
from mlepool.supervisor.messages import Spawn
from mlepool.testing.kill import kill_supervisor
from mlepool.wire.values import JobInfo
from mlepool.worker.access.audit import read_audit
from mlepool.worker.queue.backlog import MAX_ORDER, Backlog, Order
from mlepool.worker.queue.news import MAX_LISTED, first_in_line
from mlepool.worker.queue.slots import Ticket
from tests.needs import small_disk
from tests.worker.houses import House, connected, house, orders, served, until

pytestmark = pytest.mark.real

NEVER = "sleep 600"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[House]:
    """A worker with one slot, for all tests that do not harm it."""
    with house(tmp_path_factory.mktemp("queue")) as shared:
        yield shared


async def facts(
    conn: AsyncConnection, *jobs: mlepool.AsyncListener
) -> list[tuple[str, int]]:
    """Ask what jobs are at: status and place of each."""
    found = {one.id: (one.status, one.place) for one in (await conn.jobs()).value}
    return [found[one.id] for one in jobs]


def test_a_run_over_capacity_is_pending_and_begins_in_its_turn(shared):
    async def main(conn: AsyncConnection) -> None:
        running = await conn.run("read x", stdin=True, complete=False)
        first = await conn.run("echo first", complete=False)
        second = await conn.run("echo second", complete=False)
        urgent = await conn.run("echo urgent", complete=False, priority=1)
        assert running.status == "RUNNING"
        assert [one.status for one in (first, second, urgent)] == ["PENDING"] * 3
        assert (first.place, second.place, urgent.place) == (1, 2, 1)
        assert (first.duration, first.exit_code, first.done) == (0.0, None, False)
        assert await facts(conn, running, urgent, first, second) == [
            ("RUNNING", 0),
            *(("PENDING", place) for place in (1, 2, 3)),
        ]
        await until(lambda: (first.place, second.place) == (2, 3))  # it is told
        await until(lambda: conn.state["slots"]["waiting"] == 3)
        again = await conn.attach(second.id)
        assert (again.status, again.place) == ("PENDING", 3)
        await running.send_input("\n")
        done = [await one.wait() for one in (urgent, first, second, again)]
        begins = [one.intake.outcome.started for one in done[:3]]  # type: ignore[union-attr]
        assert begins == sorted(begins)
        assert [one.output for one in done[2:]] == ["second\n"] * 2
        assert (second.place, second.status) == (0, "SUCCEEDED")
        assert orders(shared.folder) == []
        slots = {"max": 1, "running": 0, "waiting": 0}
        await until(lambda: conn.state["slots"] == slots)

    shared.run(main)


def test_who_may_not_wait_is_refused_and_leaves_nothing_behind(shared):
    async def main(conn: AsyncConnection) -> None:
        free = await conn.run("echo free", queue=False)
        assert free.output == "free\n"
        await conn.run(NEVER, complete=False)
        refused = await conn.run("echo no", queue=False, complete=False)
        assert isinstance(refused.error, mlepool.WorkerBusyError)
        assert "all slots (1) are taken" in str(refused.error)
        with pytest.raises(mlepool.WorkerBusyError):
            await conn.run("echo no", queue=False, raise_error=True)
        with pytest.raises(LookupError):
            await conn.attach(refused.id)
        assert refused.id not in [one.id for one in (await conn.jobs()).value]
        journals = [one.name for one in (shared.folder / "state/jobs").iterdir()]
        assert f"{refused.id}.journal" not in journals
        audit = [one for one in read_audit(shared.folder / "state") if one]
        (last,) = [one["event"] for one in audit if one.get("job") == refused.id][1:]
        assert last == "ended"
        for bad in (await conn.run("a", priority=1001), await conn.run("a", gpus=-1)):
            assert isinstance(bad.error, ValueError)

    shared.run(main)


def test_a_pending_job_that_is_stopped_has_ended_for_good(tmp_path):
    async def main() -> None:
        ran = tmp_path / "ran"
        async with served(tmp_path) as (_, conn):
            await conn.run(NEVER, complete=False, detach=True)
            waiting = await conn.run(f"touch {ran}", complete=False, detach=True)
            report = await waiting.stop()
            assert (report.status, report.signalled) == ("STOPPED", ())
            assert report.complete
            assert report.was_waiting
            assert (waiting.status, waiting.duration) == ("STOPPED", 0.0)
            assert waiting.reason.startswith("stopped by ")
            assert orders(tmp_path) == []
        async with served(tmp_path) as (_, conn):
            again = await (await conn.attach(waiting.id)).wait()
            assert (again.status, again.output) == ("STOPPED", "")
            # A request that is repeated finds it, too.
            call = conn.call(conn.find("run"), (f"touch {ran}",), {}, job_id=waiting.id)
            assert (await call).status == "STOPPED"
            for one in (await conn.jobs()).value:
                await conn.stop(one.id, signal="SIGKILL")
        assert not ran.exists()

    asyncio.run(main())


def test_what_ends_with_its_connection_ends_in_line_too(shared):
    async def main(conn: AsyncConnection) -> None:
        await conn.run(NEVER, complete=False)
        async with connected(shared.folder) as other:
            owned = await other.run("echo owned", complete=False)
            left = await other.run("echo left", complete=False, detach=True)
        assert await facts(conn, owned, left) == [("STOPPED", 0), ("PENDING", 1)]
        await conn.stop(left.id)

    shared.run(main)


def test_more_slots_let_more_begin_and_fewer_stop_nothing(shared):
    async def main(conn: AsyncConnection) -> None:
        table, jobs = shared.worker.jobs, []

        async def begin(count: int) -> None:
            jobs.extend(
                [
                    await conn.run("read x", stdin=True, complete=False)
                    for _ in range(count)
                ]
            )

        def states() -> str:
            return "".join(one.status[0] for one in jobs)

        table.set_max_concurrent(None)
        await begin(1)
        slots = {"max": None, "running": None, "waiting": 0}
        await until(lambda: conn.state["slots"] == slots)
        table.set_max_concurrent(2)  # the one that runs counts
        await begin(4)
        assert states() == "RRPPP"
        table.set_max_concurrent(3)
        await until(lambda: states() == "RRRPP")
        table.set_max_concurrent(1)
        await jobs[0].send_input("\n")
        await jobs[0].wait()
        assert states() == "SRRPP"
        table.set_max_concurrent(None)
        await until(lambda: states() == "SRRRR")

    shared.run(main)


def test_no_time_counts_in_line_and_input_waits(shared):
    async def main(conn: AsyncConnection) -> None:
        first = await conn.run("sleep 0.8", complete=False)
        fed = asyncio.create_task(conn.run("cat", input="a\nb\n"))
        bounded = await conn.run(
            "echo 1; sleep 60", complete=False, timeout=0.4, max_interval=0.3
        )
        assert bounded.status == "PENDING"
        line = await bounded.next()  # no ListenerTimeoutError before
        assert (first.status, line) == ("SUCCEEDED", "1")
        assert (await fed).output == "a\nb\n"
        with pytest.raises(mlepool.CommandTimeoutError):
            await bounded.wait()
        assert 0.4 <= bounded.duration < 3.0

    shared.run(main)


def test_the_blocking_face_waits_in_line_as_long_as_it_takes(shared):
    def block() -> tuple[int, str, str]:
        address = f"unix:{shared.folder}/state"
        with mlepool.ClientPool() as pool, pool.add(address) as conn:
            live = conn.run("echo 1", complete=False, max_interval=0.2)
            return live.place, live.status, live.next()

    async def main(conn: AsyncConnection) -> None:
        await conn.run("sleep 0.5", complete=False)
        assert await asyncio.to_thread(block) == (1, "PENDING", "1")

    shared.run(main)


def test_jobs_wait_while_there_is_no_supervisor_and_begin_with_the_next(tmp_path):
    async def main() -> None:
        async with served(tmp_path) as (_, conn):
            running = await conn.run(NEVER, complete=False)
            waiting = [await conn.run(f"echo {n}", complete=False) for n in range(3)]
            kill_supervisor(tmp_path / "state")
            await running.wait()
            assert running.status == "LOST"
            done = [await one.wait() for one in waiting]
            assert [one.output for one in done] == ["0\n", "1\n", "2\n"]
            await conn.stop(running.id, signal="SIGKILL")  # it still runs

    asyncio.run(main())


def test_orders_are_the_accounts_own_and_go_when_the_supervisor_has_them(shared):
    async def main(conn: AsyncConnection) -> None:
        secret = {"KEY": "hunter2"}
        running = await conn.run("read x", stdin=True, complete=False)
        last = await conn.run("read x", stdin=True, env=secret, complete=False)
        (path,) = orders(shared.folder)
        assert b"hunter2" in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await running.send_input("\n")
        await until(lambda: last.status == "RUNNING")
        assert list(path.parent.iterdir()) == []

    shared.run(main)


def test_without_room_for_its_order_a_run_fails_and_is_not_left_in_line(tmp_path):
    with small_disk(tmp_path / "state", "64k"):

        async def main() -> None:
            async with served(tmp_path) as (_, conn):
                await conn.run(NEVER, complete=False)
                filler = tmp_path / "state/filler"
                with contextlib.suppress(OSError):
                    filler.write_bytes(bytes(1 << 20))
                failed = await conn.run("echo no", complete=False)
                assert isinstance(failed.error, OSError)
                assert "No space left" in str(failed.error)
                filler.unlink()
                waiting = await conn.run("echo yes", complete=False)
                assert (waiting.status, waiting.place) == ("PENDING", 1)
                assert len(orders(tmp_path)) == 1
                await waiting.stop()

        asyncio.run(main())


def test_clients_take_turns_however_much_each_has_asked_for(shared):
    async def main(conn: AsyncConnection) -> None:
        running = await conn.run("read x", stdin=True, complete=False)
        mine = [await conn.run("true", complete=False) for _ in range(3)]
        url = shared.worker.join_url()  # with a token, by TLS: another client
        async with mlepool.AsyncClientPool() as pool, pool.add(url) as other:
            theirs = [await other.run("true", complete=False) for _ in range(3)]
            await running.send_input("\n")
            jobs = [await one.wait() for one in (*mine, *theirs)]
        outcomes = [one.intake.outcome for one in jobs]
        begins = [one.started for one in outcomes if one is not None]
        turns = [
            one for pair in zip(begins[:3], begins[3:], strict=True) for one in pair
        ]
        assert turns == sorted(turns)

    shared.run(main)


def test_an_order_that_was_begun_already_is_not_begun_again(tmp_path):
    """As if the worker had been killed after the supervisor had it."""

    async def main() -> None:
        ran = tmp_path / "ran"
        async with served(tmp_path) as (_, conn):
            running = await conn.run("read x", stdin=True, complete=False)
            script = f"echo x >> {ran}; read x"
            job = await conn.run(script, stdin=True, complete=False, detach=True)
            (path,) = orders(tmp_path)
            data = path.read_bytes()
            await running.send_input("\n")
            await until(lambda: job.status == "RUNNING")
        path.write_bytes(data)  # it runs
        async with served(tmp_path) as (_, conn):
            assert await facts(conn, job) == [("RUNNING", 0)]
            assert orders(tmp_path) == []
            again = await conn.attach(job.id)
            await again.send_input("\n")
            await again.wait()
        path.write_bytes(data)  # it has run
        async with served(tmp_path) as (_, conn):
            assert await facts(conn, job) == [("SUCCEEDED", 0)]
            assert orders(tmp_path) == []
        assert ran.read_text() == "x\n"

    asyncio.run(main())


def test_a_listing_has_as_much_of_the_line_as_goes_into_one_answer():
    ended = [JobInfo("e", "true", 1, 1.0)]
    line = [
        JobInfo(f"j{one}", "x" * 2000, 0, 1.0, place=one) for one in range(500, 0, -1)
    ]
    shown = first_in_line([*line, *ended])
    assert shown[0] == ended[0]
    assert [one.place for one in shown[1:]] == list(range(1, len(shown)))
    assert MAX_LISTED - 3000 < len(msgspec.msgpack.encode(shown)) < MAX_LISTED + 3000
    assert first_in_line(line[-3:]) == line[:-4:-1]


def test_a_terminal_that_is_resized_in_line_begins_with_that_size(shared):
    async def main(conn: AsyncConnection) -> None:
        running = await conn.run("read x", stdin=True, complete=False)
        script = "read x; stty size"
        job = await conn.run(script, tty=True, rows=10, cols=20, complete=False)
        await job.resize(30, 40)
        await running.send_input("\n")
        await job.send_input("\n")
        assert (await job.wait()).output.split() == ["30", "40"]

    shared.run(main)


def order(number: int, *, size: int = 0) -> Order:
    spawn = Spawn(f"j{number}", (b"echo", bytes(size)), "echo", "/", {b"A": b"b"})
    return Order(Ticket(0, number, number, f"j{number}", "a"), 1.0, spawn)


def test_orders_come_back_whole_and_torn_ones_are_passed_over(tmp_path, caplog):
    backlog = Backlog(tmp_path / "queue", tmp_path)
    assert list(backlog.load()) == []
    for number in (3, 1, 2):
        backlog.add(order(number))
    with pytest.raises(OSError, match="too long"):
        backlog.add(order(4, size=MAX_ORDER))
    with pytest.raises(FileExistsError):
        backlog.add(order(1))
    torn = tmp_path / "queue/j2.order"
    os.truncate(torn, 20)
    (tmp_path / "queue/j5.journal").touch()  # of a worker that was killed
    again = Backlog(tmp_path / "queue", tmp_path)
    found = sorted(again.load(), key=lambda one: one.ticket)
    assert found == [order(1), order(3)]
    assert again.size == sum(one.stat().st_size for one in torn.parent.iterdir())
    assert "job j2 was to be run, but its order can't be read" in caplog.text
    for one in found:
        again.drop(one.ticket.id)
        again.drop(one.ticket.id)
    assert (again.size, list(torn.parent.iterdir())) == (0, [])
    with pytest.raises(mlepool.WorkerError, match="can't be read"):
        again.read("j1")
