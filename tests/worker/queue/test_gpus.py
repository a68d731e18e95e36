"""GPUs: leased to jobs, given back with proof; against a driver made for this."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mlepool
from mlepool.client.connection import AsyncConnection
from mlepool.errors import WorkerError
from mlepool.worker.queue.gpus import MAX_IDLE_MEMORY, Device, NvmlDriver, chosen
from mlepool.worker.queue.leases import Leases, Look, environment, look
from tests.worker.houses import House, house, orders, served, until

GIB = 1024**3


class Rack:
    """A driver of GPUs that do nothing, unless the test says so."""

    def __init__(self, count: int) -> None:
        self.found = [
            Device(index, f"GPU-{index}", "toy", 80 * GIB) for index in range(count)
        ]
        self.problem: Exception | None = None
        self.looks = 0

    def devices(self) -> list[Device]:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return list(self.found)

    def use(self, index: int, *pids: int, memory: int = 0) -> None:
        """Have processes compute on a GPU, and use memory."""
        self.found[index] = msgspec.structs.replace(
            self.found[index], processes=pids, memory_used=memory
        )


class Racked:
    """A worker with three GPUs, for all tests that do not harm it."""

    def __init__(self, house: House, rack: Rack) -> None:
        self.house, self.rack = house, rack

    def run(self, test: Callable[[AsyncConnection], Coroutine[Any, Any, None]]) -> None:
        self.rack.problem = None
        for index in range(3):
            self.rack.use(index)
        self.house.run(test)


@pytest.fixture(scope="module")
def racked(tmp_path_factory) -> Iterator[Racked]:
    rack = Rack(3)
    with house(tmp_path_factory.mktemp("gpus"), None, gpus=rack) as shared:
        yield Racked(shared, rack)


SHOW = "echo $CUDA_DEVICE_ORDER $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES"


@pytest.mark.real
def test_jobs_get_gpus_of_their_own_and_wait_for_free_ones(racked):
    async def main(conn: AsyncConnection) -> None:
        racked.rack.use(0, 4711)  # a stranger's
        first = await conn.run(f"{SHOW}; read x", stdin=True, gpus=1, complete=False)
        assert await first.next() == "PCI_BUS_ID 1 GPU-1"
        large = await conn.run(SHOW, gpus=2, complete=False)
        await until(lambda: large.status == "PENDING" and large.place == 1)
        small = await conn.run(SHOW, gpus=1, complete=False)
        plain = await conn.run(["echo", "plain"])  # needs none, and waits for none
        assert plain.output == "plain\n"
        assert (await conn.job(first.id)).value.gpus == (1,)
        await first.send_input("\n")
        assert (await large.wait()).output == "PCI_BUS_ID 1,2 GPU-1,GPU-2\n"
        assert (await small.wait()).output == "PCI_BUS_ID 1 GPU-1\n"
        state = {"gpus": 3, "gpus_free": 2}
        await until(lambda: state.items() <= conn.state["slots"].items())
        assert orders(racked.house.folder) == []

    racked.run(main)


@pytest.mark.real
def test_more_gpus_than_there_are_are_refused_at_once(racked):
    async def main(conn: AsyncConnection) -> None:
        many = await conn.run(SHOW, gpus=4)
        assert isinstance(many.error, ValueError)
        assert "gpus=4: this worker has 3" in str(many.error)
        racked.rack.use(1, 4711)
        now = await conn.run(SHOW, gpus=3, queue=False)
        assert isinstance(now.error, mlepool.WorkerBusyError)
        assert "3 GPUs and a slot are not free now (2 GPUs are)" in str(now.error)
        clash = await conn.run(SHOW, gpus=1, env={"CUDA_VISIBLE_DEVICES": "0"})
        assert "leave it out of env" in str(clash.error)
        known = {one.id for one in (await conn.jobs()).value}
        assert known.isdisjoint((many.id, now.id, clash.id))
        assert (await conn.run(SHOW, gpus=1, queue=False)).ok

    racked.run(main)


@pytest.mark.real
def test_gpus_come_back_only_with_proof_also_over_a_restart(tmp_path):
    async def main() -> None:
        rack = Rack(1)
        async with served(tmp_path, None, gpus=rack) as (_, conn):
            rack.use(0)
            job = await conn.run("read x", stdin=True, gpus=1, complete=False)
            await until(lambda: job.status == "RUNNING")
            leases = json.loads((tmp_path / "state/gpus.json").read_bytes())
            assert leases == {job.id: ["GPU-0"]}
            rack.use(0, os.getpid(), memory=2 * GIB)  # a process that stays
            await job.stop(signal="SIGKILL")
            waiting = await conn.run(SHOW, gpus=1, complete=False, detach=True)
            kept = {job.id: f"GPU 0 is still used by pid {os.getpid()}"}
            await until(lambda: conn.state["slots"].get("gpus_kept") == kept)
        async with served(tmp_path, None, gpus=rack) as (_, conn):
            again = await conn.attach(waiting.id)
            assert again.status == "PENDING"
            rack.use(0, memory=2 * GIB)
            text = f"{2 * GIB} bytes of GPU 0 are still in use"
            await until(lambda: conn.state["slots"].get("gpus_kept") == {job.id: text})
            rack.use(0, memory=MAX_IDLE_MEMORY)
            assert (await again.wait()).output == "PCI_BUS_ID 0 GPU-0\n"
            path = tmp_path / "state/gpus.json"
            await until(lambda: json.loads(path.read_bytes()) == {})

    asyncio.run(main())


@pytest.mark.real
def test_a_tree_that_lives_on_keeps_its_gpus(racked):
    async def main(conn: AsyncConnection) -> None:
        job = await conn.run("setsid sleep 600 >/dev/null 2>&1 & echo $!", gpus=1)
        pid = int(job.output)
        kept = {job.id: f"it has ended, but left pid {pid}"}
        await until(lambda: conn.state["slots"].get("gpus_kept") == kept)
        os.kill(pid, 9)
        await until(lambda: conn.state["slots"]["gpus_free"] == 3)

    racked.run(main)


@pytest.mark.real
def test_a_driver_that_fails_for_a_while_ends_nobody(racked):
    async def main(conn: AsyncConnection) -> None:
        rack = racked.rack
        for index in range(3):
            rack.use(index, 4711)
        waiting = await conn.run(SHOW, gpus=1, complete=False)
        await until(lambda: waiting.place == 1)
        rack.problem = RuntimeError("fell off the bus")
        before = rack.looks
        await until(lambda: rack.looks >= before + 2)
        assert waiting.status == "PENDING"
        rack.problem = None
        rack.use(0)
        assert (await waiting.wait()).ok

    racked.run(main)


@pytest.mark.real
def test_without_a_driver_there_are_no_gpus(tmp_path):
    async def main() -> None:
        rack = Rack(1)
        rack.problem = WorkerError("no driver today")
        async with served(tmp_path, None, gpus=rack) as (_, conn):
            none = await conn.run(SHOW, gpus=1)
            assert "gpus=1: no driver today" in str(none.error)

    asyncio.run(main())


def test_leases_are_written_before_they_count(tmp_path):
    rack = Rack(2)
    leases = Leases(tmp_path / "gpus.json")
    assert leases.free() == []  # nobody has looked
    leases.note(look(rack, (), tmp_path))
    assert leases.lease("a", 1) == rack.found[:1]
    again = Leases(tmp_path / "gpus.json")
    again.note(look(rack, (), tmp_path))
    assert (again.holders(), again.indices("a")) == (["a"], (0,))
    assert again.free() == rack.found[1:]
    assert (again.end("a"), again.end("b")) == (True, False)
    again.note(Look(tuple(rack.found)))  # begun before its end: it says nothing of it
    assert again.holders() == ["a"]
    again.note(Look(problem="no answer"))
    assert (again.free(), again.total) == ([], 2)
    again.note(look(rack, again.ended, tmp_path))
    assert (again.holders(), again.ended) == ([], frozenset())


def test_a_file_of_leases_that_can_not_be_read_is_none(tmp_path, caplog):
    path = tmp_path / "gpus.json"
    path.write_text("[1")
    assert Leases(path).holders() == []
    assert "can't be read" in caplog.text


def test_a_process_sees_its_gpus_only():
    rack = Rack(3)
    assert environment(rack.found[1:]) == {
        b"CUDA_DEVICE_ORDER": b"PCI_BUS_ID",
        b"CUDA_VISIBLE_DEVICES": b"1,2",
        b"NVIDIA_VISIBLE_DEVICES": b"GPU-1,GPU-2",
    }


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("", []),
        ("0,2", [0, 2]),
        (" 2, GPU-1 ", [1, 2]),
        ("GPU-2,GPU-2", [2]),
        ("1,7,0", [1]),  # as CUDA does: nothing after what it can't find
        ("GPU", []),  # which one of them?
        ("-1", []),
    ],
)
def test_a_worker_that_may_use_some_gpus_gives_away_no_others(visible, indices):
    assert [one.index for one in chosen(Rack(3).found, visible)] == indices


def test_without_nvidias_driver_it_says_so():
    if Path("/proc/driver/nvidia").exists():
        assert NvmlDriver().devices() is not None
        assert NvmlDriver("").devices() == []
    else:
        with pytest.raises(WorkerError, match="no NVIDIA driver|not installed"):
            NvmlDriver().devices()
