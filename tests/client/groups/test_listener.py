"""The handle of a group's call in asyncio, and what goes before a run."""

import pytest

import mlepool
from tests.tools import in_real_time

pytestmark = pytest.mark.real


def pool_of(worker, count: int = 2) -> mlepool.AsyncClientPool:
    pool = mlepool.AsyncClientPool()
    for number in range(count):
        pool.add("localhost", worker.port, name=f"gpu{number}")
    return pool


@in_real_time
async def test_messages_come_by_for_and_by_next_and_the_names_by_a_plain_for(worker):
    async with pool_of(worker) as pool:
        live = await pool.run("echo 1; echo 2", complete=False)
        found = [item async for item in live]
        assert sorted(found) == [
            (name, line) for name in ("gpu0", "gpu1") for line in ("1", "2")
        ]
        assert {await live.next() for _ in found} == set(found)
        assert (await live.next(), await live.next()) == (None, None)
        assert list(live) == ["gpu0", "gpu1"]
        assert [one.stdout for one in live.values()] == ["1\n2\n"] * 2
        assert await live.check() is live
        assert live == live
        assert repr(live) == (
            "<AsyncGroupListener run 'echo 1; echo 2' on 2 hosts: 2 succeeded>"
        )


@in_real_time
async def test_echo_and_errors_are_as_in_the_blocking_face(worker, capsys):
    async with pool_of(worker, 1) as pool:
        group = pool["gpu*"]
        assert repr(group) == "<AsyncGroup gpu0 (1)>"
        with pytest.raises(ExceptionGroup, match="failed on 1 of 1 hosts") as caught:
            await group.run("echo x; exit 3", echo_response=True, raise_error=True)
        assert isinstance(caught.value.exceptions[0], mlepool.CommandError)
        assert capsys.readouterr().out == "gpu0: x\n"
        assert (await group.get_time()).grouped()[0].names == ["gpu0"]


@in_real_time
async def test_leaving_its_block_stops_the_listening_and_no_job(worker):
    async with pool_of(worker) as pool:
        async with await pool.run("sleep 1000", max_parallel=1, complete=False) as live:
            await live["gpu0"].accepted()
        await live.wait()
        assert (live.running, live.skipped) == (["gpu0"], ["gpu1"])
        report = (await pool["gpu0"].stop(live["gpu0"].id)).value
        assert report.status == "STOPPED"


@in_real_time
async def test_silence_of_all_is_an_error(worker):
    async with pool_of(worker) as pool:
        live = await pool.run("sleep 1000", max_interval=0.1, complete=False)
        with pytest.raises(mlepool.ListenerTimeoutError, match="2 hosts"):
            await live.next()
        await live.stop()


@in_real_time
async def test_what_goes_wrong_before_a_run_is_its_outcome(worker, tmp_path):
    async with pool_of(worker) as pool:
        done = await pool.run("true", sync=tmp_path / "none")
        assert done.failed == done.names
        assert isinstance(done["gpu1"].error, FileNotFoundError)
        with pytest.raises(ExceptionGroup, match="2 of 2"):
            await done.check()


@in_real_time
async def test_files_go_to_all_and_come_from_all(worker, tmp_path):
    async with pool_of(worker) as pool:
        target = tmp_path / "there"
        await pool.put(b"content", target, max_parallel=1, raise_error=True)
        assert target.read_bytes() == b"content"
        got = await pool.get(target)
        assert [one.value for one in got.values()] == [b"content"] * 2
        await pool.get(target, tmp_path / "{host}.txt", raise_error=True)
        assert (tmp_path / "gpu1.txt").read_bytes() == b"content"
        (tmp_path / "here").write_text("x")
        await pool["gpu0*"].transfer(
            tmp_path / "here", tmp_path / "over", raise_error=True
        )
        assert (tmp_path / "over").read_text() == "x"
        with pytest.raises(TypeError, match="src is a path, not int"):
            await pool.transfer(7, "there")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"group's put\(\) has no keyword 'mode'"):
            await pool.put(b"", "there", mode=1)
