"""What clients see of a worker's state, as it changes, over lost links too."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from mlepool.client.connection import AsyncConnection
from mlepool.config import Limits
from mlepool.worker.live import LiveConfig
from tests.worker.houses import House, connected, house, until

MIB = 1024 * 1024


class Told:
    """What a connection's callback was told, one after the other."""

    def __init__(self, conn: AsyncConnection) -> None:
        self.changes: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        conn.on("state-change", self._note)

    def _note(self, conn: AsyncConnection, data: dict[str, Any]) -> None:
        assert data.keys() == {"state", "changed"}
        assert data["state"] == conn.state
        self.changes.append(data["changed"])
        self.states.append(data["state"])

    def of(self, name: str) -> list[Any]:
        return [change[name] for change in self.changes if name in change]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("home"), None) as home:
        yield home


def test_a_state_has_what_is_known_of_the_worker_and_its_host(home):
    async def main(conn: AsyncConnection) -> None:
        await until(lambda: "cpu" in conn.state)
        state = conn.state
        assert state["id"] == home.worker.identity.fingerprint[:12]
        assert (state["name"], state["labels"]) == ("here", {})
        assert (state["run_status"], state["sync_status"]) == ("idle", "idle")
        assert state["pid"] == os.getpid()
        assert state["cpu"]["threads"] == os.cpu_count()
        assert state["memory"]["total"] > 0
        assert isinstance(state["gpu"], list)
        for name in ("os", "arch", "kernel", "hostname", "python", "boot_time"):
            assert state[name]

    home.run(main)


def test_what_runs_is_told(home):
    async def main(conn: AsyncConnection) -> None:
        told = Told(conn)
        job = await conn.run("read x", stdin=True, complete=False)
        await until(lambda: conn.state["run_status"] == "running")
        await job.close_input()
        await until(lambda: conn.state["run_status"] == "idle")
        assert told.of("run_status") == ["running", "idle"]

    home.run(main)


def test_a_client_renames_a_worker_and_all_clients_see_it(home):
    async def main(conn: AsyncConnection) -> None:
        async with connected(home.folder) as other:
            told = Told(other)
            assert (await conn.set_name("gpu1")).value == "gpu1"
            labels: dict[str, str | None] = {"gpu": "a100"}
            assert (await conn.set_labels(labels)).value == labels
            done = await conn.set_state({"rack": 7, "x": 1})
            assert done.value == {"rack": 7, "x": 1}
            assert (await conn.set_state({"x": None})).value == {"rack": 7}
            await until(lambda: told.of("x") == [1, None])
            assert told.of("name") == ["gpu1"]
            assert (other.state["labels"], other.state["rack"]) == (labels, 7)
            assert "x" not in other.state
        again = LiveConfig(structs.replace(home.worker.config, name="here")).config
        assert (again.name, again.extra) == ("gpu1", {"rack": 7})

    home.run(main)


@pytest.mark.parametrize("name", ["accessToken", "os"])
def test_a_client_cannot_put_a_secret_or_a_fact_into_the_state(home, name):
    async def main(conn: AsyncConnection) -> None:
        done = await conn.set_state({name: "hunter2"})
        assert done.status == "FAILED"
        assert isinstance(done.error, ValueError)
        assert name in str(done.error)
        assert "hunter2" not in str(conn.state)

    home.run(main)


def test_what_changed_while_the_link_was_gone_is_told_after_it(home):
    async def main(conn: AsyncConnection) -> None:
        live = home.worker.live
        await until(lambda: "cpu" in conn.state)
        told, back = Told(conn), []
        conn.on("reconnected", lambda conn: back.append(len(told.changes)))
        live.set_properties({"gone": 1})
        await until(lambda: told.of("gone"))
        for service in tuple(home.worker._services):
            service.peer.link.close()
        live.set_properties({"gone": None, "new": 2})
        live.set_labels({"zone": "b"})
        await until(lambda: told.of("new"))
        assert back == [1]
        [change] = told.changes[1:]
        disk = {"disk"} & change.keys()  # it may be fuller now
        assert change.keys() == {"gone", "new", "labels", *disk}
        assert (change["gone"], change["new"]) == (None, 2)
        assert conn.state["labels"]["zone"] == "b"
        assert "gone" not in conn.state

    home.run(main)


def test_limits_and_roots_change_while_it_runs(home):
    async def main(conn: AsyncConnection) -> None:
        source, target = home.folder / "a", home.folder / "b"
        source.mkdir()
        assert (await conn.sync(source, target / "1")).ok
        limits = Limits(job_quota=MIB, keep_free=0.0)
        roots = (home.folder / "c",)
        config = structs.replace(home.worker.config, limits=limits, roots=roots)
        home.worker.live.reconfigure(config)
        done = await conn.sync(source, target / "2")
        assert isinstance(done.error, PermissionError)
        done = await conn.run("head -c 4000000 /dev/zero", encoding=None)
        assert stored(home.folder / f"state/jobs/{done.id}.journal") < 2 * MIB

    home.run(main)


def stored(path: Path) -> int:
    return path.stat().st_blocks * 512
