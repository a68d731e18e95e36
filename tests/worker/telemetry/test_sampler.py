"""What is measured when, and who gets it: a worker and its clients in one loop."""

import asyncio
import contextlib
import functools
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import mlepool
from mlepool.client.connection import AsyncConnection
from mlepool.errors import WorkerError
from mlepool.wire.telemetry import KINDS, MemorySample, Sample
from mlepool.worker import Worker
from mlepool.worker.access.tokens import Token
from mlepool.worker.queue.gpus import Device
from mlepool.worker.telemetry import sampler as module
from mlepool.worker.telemetry.sampler import Schedule
from tests.tools import in_real_time, transport_of
from tests.worker.houses import connected, until

pytestmark = pytest.mark.real

DAY = 24 * 3600
START = 1_700_000_000.0


@contextlib.asynccontextmanager
async def quiet_worker(folder: Path, **more: Any) -> AsyncIterator[Worker]:
    """Run a worker that measures only what it is asked for."""
    options: dict[str, Any] = {"sample_interval": 0.0, **more}
    state = folder / "state"
    async with Worker(state_dir=state, listen="127.0.0.1:0", **options) as worker:
        yield worker


def keep(worker: Worker, count: int, interval: float = 10.0) -> list[int]:
    """Have samples taken by a clock that is an argument; give their ids."""
    first = worker.telemetry.store.last + 1
    for number in range(count):
        memory = MemorySample(1000, 500, 500, 500, number)
        worker.telemetry.keep(Sample(time=START + interval * number, memory=memory))
    return list(range(first, first + count))


class Quiet:
    """One such worker for several tests, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = asyncio.Runner()
        self.stack = contextlib.AsyncExitStack()
        enter = self.stack.enter_async_context(quiet_worker(folder))
        self.worker = self.runner.run(enter)

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Iterator[Quiet]:
    quiet = Quiet(tmp_path_factory.mktemp("quiet"))
    yield quiet
    quiet.close()


def in_its_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in the loop of the worker that is shared; it begins with nothing."""

    async def whole(quiet: Quiet, **more: Any) -> None:
        telemetry = quiet.worker.telemetry
        telemetry.set_intervals(dict.fromkeys(KINDS, 0.0))
        async with telemetry._busy:
            pass  # what was being measured is kept now
        telemetry.store.acknowledge(telemetry.store.last)
        async with asyncio.timeout(30):
            await test(quiet, **more)

    @functools.wraps(test)
    def wrapper(quiet: Quiet, **more: Any) -> None:
        quiet.runner.run(whole(quiet, **more))

    return wrapper


class Heard:
    """Takes what a connection is told, and may break its link at some of it."""

    def __init__(self, conn: AsyncConnection, *, cut_at: tuple[int, ...] = ()) -> None:
        self.samples: list[Sample] = []
        self._cut_at = cut_at
        self._conn = conn
        conn.on("metrics", self._take)

    @property
    def ids(self) -> list[int]:
        return [one.id for one in self.samples]

    def _take(self, conn: AsyncConnection, sample: Sample) -> None:
        assert conn is self._conn
        self.samples.append(sample)
        if len(self.samples) in self._cut_at:
            cut(conn)


def cut(conn: AsyncConnection) -> None:
    assert conn._conversation is not None
    transport_of(conn._conversation.peer.link).abort()


# -- when


def test_each_kind_is_due_at_its_own_interval():
    schedule = Schedule(10.0)
    schedule.begin(87.0)
    assert (schedule.next(), schedule.take(87.0)) == (90.0, [])
    schedule.set({"cpu": 1.0, "gpus": 0.0})
    assert schedule.next() == 0
    assert set(schedule.take(100.5)) == set(KINDS) - {"gpus"}
    assert (schedule.next(), schedule.take(100.9)) == (101.0, [])
    assert schedule.take(101.0) == ["cpu"]
    assert set(schedule.take(500.0)) == set(KINDS) - {"gpus"}  # it slept: once
    schedule.set(dict.fromkeys(KINDS, 0.0))
    assert (schedule.next(), schedule.take(10**9)) == (math.inf, [])


@pytest.mark.parametrize("seconds", [0.09, -1, math.inf, math.nan])
def test_intervals_that_can_not_be_are_refused(seconds):
    with pytest.raises(ValueError, match=r"0 for never, or 0\.1 s"):
        Schedule(10.0).set({"cpu": seconds})


@in_its_loop
async def test_nothing_is_measured_that_nobody_wants(quiet):
    worker, folder = quiet.worker, quiet.folder
    async with connected(folder) as conn:
        await conn.run("true")
        assert worker.telemetry._latest == {}
        sample = await conn.metrics()
        assert sample.cpu
        assert sample.memory is not None
        assert sample.memory.total > 0
        assert any(one.total > 0 for one in sample.disks or ())
        assert any(one.name == "lo" for one in sample.network or ())
        total = sum(
            getattr(sample.cpu[0], name) for name in sample.cpu[0].__struct_fields__
        )
        assert total - sample.cpu[0].guest == pytest.approx(100, abs=0.1)
        assert worker.telemetry.store.read(0, limit=1) == []


@in_its_loop
async def test_clients_set_intervals_and_a_new_configuration_sets_them_back(quiet):
    worker, folder = quiet.worker, quiet.folder
    async with connected(folder) as conn:
        heard = Heard(conn)
        listener = await conn.set_metrics(cpu=0.1, raise_error=True)
        assert listener.value == {**dict.fromkeys(KINDS, 0.0), "cpu": 0.1}
        await until(lambda: len(heard.ids) >= 3)
        assert all(one.cpu and one.memory is None for one in heard.samples)
        assert (await conn.set_metrics(every=60, cpu=0)).value["memory"] == 60
        wrong = await conn.set_metrics(cpu=0.01)
        assert isinstance(wrong.error, ValueError)
        other = structs.replace(worker.config, name="other")
        worker.telemetry.reconfigure(other)
        assert worker.telemetry.intervals["memory"] == 60  # it says nothing new of it
        worker.telemetry.reconfigure(structs.replace(other, sample_interval=30.0))
        assert set(worker.telemetry.intervals.values()) == {30.0}


# -- who


@in_its_loop
async def test_a_day_of_samples_is_delivered_once_over_links_that_break(quiet):
    worker, folder = quiet.worker, quiet.folder
    ids = keep(worker, DAY // 10)
    assert len(worker.telemetry.store.read(0, limit=10**9)) == 8640
    async with connected(folder) as conn:
        heard = Heard(conn, cut_at=(1, 1000, 1001, 5000, 8640))
        await until(lambda: len(heard.ids) >= 8640)
        live = keep(worker, 1)
        await until(lambda: worker.telemetry.store.acknowledged == live[0])
    assert heard.ids == ids + live
    assert [one.time for one in heard.samples[:2]] == [START, START + 10]
    async with connected(folder) as conn:
        again = Heard(conn)
        live = keep(worker, 1)
        await until(lambda: again.ids)
        assert again.ids == live


@in_its_loop
async def test_what_is_not_acknowledged_waits_for_the_next(quiet):
    worker, folder = quiet.worker, quiet.folder
    ids = keep(worker, 3)
    async with connected(folder) as conn:
        follow = {"follower": "x", "after": ids[0], "collects": True}
        assert await conn._calls.ask("_metrics_follow", follow) is True
    async with connected(folder) as conn:
        heard = Heard(conn)
        await until(lambda: len(heard.ids) == 2)
        assert heard.ids == ids[1:]


@in_real_time
async def test_who_has_later_ids_than_the_worker_is_not_left_without(tmp_path):
    async with quiet_worker(tmp_path) as worker, connected(tmp_path) as conn:
        heard = Heard(conn)
        old = keep(worker, 1)
        await until(lambda: heard.ids == old)
        # As if samples had been removed, and the worker restarted by an earlier clock.
        worker.telemetry.store.last -= 1000 * DAY
        worker.telemetry.store._acknowledged = 0
        cut(conn)
        await until(lambda: worker.telemetry.store.last >= old[0])
        new = keep(worker, 2)
        await until(lambda: heard.ids == old + new)
    assert new[0] > old[0]


@in_its_loop
async def test_one_client_collects_and_the_others_get_what_is_live(quiet):
    worker, folder = quiet.worker, quiet.folder
    old = keep(worker, 2)
    async with connected(folder) as first, connected(folder) as second:
        one = Heard(first)
        await until(lambda: one.ids == old)
        other = Heard(second)
        await until(lambda: worker.telemetry.delivery._watchers)
        live = keep(worker, 3)
        await until(lambda: one.ids == old + live and other.ids == live)
        await first.disconnect()
        missed = keep(worker, 1)
        await until(lambda: other.ids == live + missed)
        await first.connect()
        await until(lambda: one.ids == old + live + missed)
    assert other.ids == live + missed


@in_real_time
async def test_how_many_were_let_go_is_told_once(tmp_path):
    async with quiet_worker(tmp_path, sample_size=16 * 1024) as worker:
        ids = keep(worker, 2000)
        dropped = worker.telemetry.store.dropped
        assert dropped > 1000
        async with connected(tmp_path) as conn:
            heard = Heard(conn)
            await until(lambda: heard.ids == ids[dropped:])
            assert [one.dropped for one in heard.samples if one.dropped] == [dropped]
            await until(lambda: worker.telemetry.store.dropped == 0)


@in_real_time
async def test_what_is_not_to_be_kept_comes_live_all_the_same(tmp_path):
    async with quiet_worker(tmp_path, sample_size=0) as worker:
        store = worker.telemetry.store
        keep(worker, 3)
        assert store.dropped == 3
        async with connected(tmp_path) as conn:
            heard = Heard(conn)
            await until(lambda: worker.telemetry.delivery.is_followed)
            live = keep(worker, 4)
            await until(lambda: store.acknowledged == live[-1])
            assert heard.ids == live
            assert [one.dropped for one in heard.samples] == [3, 0, 0, 0]
            assert store.dropped == 0
            await conn.disconnect()
            await until(lambda: not worker.telemetry.delivery.is_followed)
            keep(worker, 1)
            await conn.connect()
            await until(lambda: worker.telemetry.delivery.is_followed)
            more = keep(worker, 1)
            await until(lambda: heard.ids == live + more)
            assert heard.samples[-1].dropped == 1


@in_real_time
async def test_on_a_full_disk_nothing_comes_before_what_is_kept(tmp_path):
    async with quiet_worker(tmp_path) as worker:
        kept = keep(worker, 2)
        worker.telemetry.store.size = 0
        keep(worker, 1)
        async with connected(tmp_path) as conn:
            heard = Heard(conn)
            await until(lambda: heard.ids == kept)
            assert heard.samples[0].dropped == 1
            await until(lambda: worker.telemetry.store.acknowledged == kept[-1])
            live = keep(worker, 1)
            await until(lambda: heard.ids == kept + live)


@in_its_loop
async def test_a_callback_that_raises_has_had_its_sample(quiet, caplog):
    def fail(conn: AsyncConnection, sample: Sample) -> None:
        raise ZeroDivisionError

    worker, folder = quiet.worker, quiet.folder
    ids = keep(worker, 2)
    async with connected(folder) as conn:
        conn.on("metrics", fail)
        await until(lambda: worker.telemetry.store.acknowledged == ids[-1])
    assert caplog.text.count("a callback for 'metrics' failed") == 2


# -- what


@in_its_loop
async def test_a_job_is_measured_with_its_whole_tree(quiet):
    """Also what has left its session: a daemon."""
    burn = "while :; do :; done"
    worker, folder = quiet.worker, quiet.folder
    async with connected(folder) as conn:
        script = f"(sh -c '{burn}' &) ; setsid sh -c 'sleep 60 & sleep 60'; wait"
        job = await conn.run(["sh", "-c", script], complete=False)
        assert job.metrics is None
        await conn.set_metrics(jobs=0.1)

        def is_seen() -> bool:
            seen = job.metrics
            return seen is not None and seen.processes >= 4 and seen.cpu_time > 0.2

        await until(is_seen)
        assert job.metrics is not None
        assert job.metrics.id == job.id
        assert job.metrics.rss > 4 * 100_000
        whole = await conn.metrics()
        assert [one.id for one in whole.jobs or ()] == [job.id]
        await job.stop(grace=0.1)
        await until(lambda: not worker.telemetry._latest["jobs"][1].jobs)
        assert job.metrics is not None  # the last that was known


class Driver:
    """A driver of GPUs that may hang."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0

    def devices(self) -> list[Device]:
        self.asked += 1
        self.answers.wait(30)
        return [Device(0, "GPU-0", "odd", 10, 5, (), 12.5, 40.0, 99.0)]


@in_real_time
async def test_gpus_that_hang_hold_up_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_LIMIT", 0.05)
    monkeypatch.setattr(module, "FRESH", 0.0)
    driver = Driver()
    async with quiet_worker(tmp_path, gpus=driver), connected(tmp_path) as conn:
        for _ in range(2):
            sample = await conn.metrics()
            assert sample.gpus is None
            assert sample.cpu
        assert driver.asked == 1
        driver.answers.set()
        monkeypatch.setattr(module, "LOOK_LIMIT", 10.0)
        (gpu,) = (await conn.metrics()).gpus or ()
    assert (gpu.utilization, gpu.temperature, gpu.power) == (12.5, 40, 99)


@in_real_time
async def test_without_a_driver_there_are_no_gpus(tmp_path):
    class NoDriver:
        def devices(self) -> list[Device]:
            raise WorkerError("no driver")

    async with quiet_worker(tmp_path, gpus=NoDriver()), connected(tmp_path) as conn:
        assert (await conn.metrics()).gpus == ()


@in_its_loop
async def test_a_token_that_may_not_look_gets_no_metrics(quiet, caplog):
    worker = quiet.worker
    async with mlepool.AsyncClientPool() as pool:
        token = runner_token(worker)
        async with pool.add(worker.join_url(), token=token) as conn:
            with pytest.raises(mlepool.PermissionDeniedError, match="'view'"):
                await conn.metrics()
            heard = Heard(conn)
            await until(lambda: "tells of no metrics" in caplog.text)
            keep(worker, 1)
            await conn.run("true")
            assert heard.ids == []


def runner_token(worker: Worker) -> str:
    worker.gate._tokens.create(Token("runner", "r" * 43, ("run",)))
    return "r" * 43


@in_real_time
@pytest.mark.parametrize(
    ("problem", "has_traceback"),
    [(OSError(24, "Too many open files", "/proc/stat"), False), (KeyError("x"), True)],
)
async def test_what_keeps_samples_from_being_taken_is_said_once_until_one_is(
    tmp_path, caplog, monkeypatch, *, problem, has_traceback
):
    async with quiet_worker(tmp_path) as worker:
        telemetry = worker.telemetry
        measure, calls = telemetry.meters.measure, []

        def fail(kinds: Any, jobs: Any) -> Sample:
            calls.append(kinds)
            if len(calls) == 5:
                return measure(kinds, jobs)
            raise problem

        monkeypatch.setattr(telemetry.meters, "measure", fail)
        telemetry.set_intervals({"memory": 0.1})
        await until(lambda: len(calls) > 8)
    failed = [one for one in caplog.records if "samples can't" in one.getMessage()]
    assert [one.exc_info is not None for one in failed] == [has_traceback] * 2
    assert ("/proc/stat" in failed[0].getMessage()) is not has_traceback
