"""What becomes of jobs when no supervisor can be started, and what one is told."""

import asyncio

import pytest

import mlepool
from mlepool.supervisor.messages import Attend
from mlepool.testing.kill import kill_supervisor
from mlepool.worker.supervision import LOG_FILE, Supervision
from tests.worker.houses import served


@pytest.mark.real
def test_a_supervisor_that_could_not_start_is_tried_again(own_worker):
    pool = mlepool.ClientPool()
    with pool, pool.add(f"unix:{own_worker.state_dir}") as conn:
        live = conn.run("read x", stdin=True, complete=False)
        log = own_worker.state_dir / LOG_FILE
        log.unlink()
        log.mkdir()  # where its log should be
        kill_supervisor(own_worker.state_dir)
        assert live.wait().status.value == "LOST"
        assert "its supervisor was killed" in live.reason
        stopped = conn.stop(live.id)
        assert "there is no supervisor" in str(stopped.error)
        log.rmdir()
        assert conn.run("echo well").output == "well\n"
    assert own_worker.log.count("cannot start a supervisor") >= 1


@pytest.mark.real
def test_a_supervisor_is_told_who_keeps_up_with_a_flood(tmp_path, monkeypatch):
    told: list[Attend] = []
    attend = Supervision.attend
    flood = ["yes", "x" * 65_000]

    async def main() -> None:
        has_stopped = asyncio.Event()

        def listen(line: Supervision, word: Attend) -> None:
            told.append(word)
            attend(line, word)
            if not word.is_followed:
                has_stopped.set()

        monkeypatch.setattr(Supervision, "attend", listen)
        async with served(tmp_path) as (_, conn):
            live = await conn.run(flood, complete=False)
            await has_stopped.wait()  # it was sent what it has room for
            while not told[-1].is_followed:
                assert await live.next() == flood[1]
            await live.stop()

    asyncio.run(main())
    unread = next(n for n, one in enumerate(told) if not one.is_followed)
    assert told[unread] == Attend(told[0].id, is_read=True, is_followed=False)
    assert told[unread + 1] == Attend(told[0].id, is_read=True, is_followed=True)
