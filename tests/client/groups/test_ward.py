"""Who is left out of the calls of a pool's groups, and how it comes back."""

import inspect
import logging
import re

import pytest

import mlepool
from mlepool.client.groups import quarantine, waves
from mlepool.client.groups.quarantine import STRIKES
from mlepool.testing.proxy import FaultProxy
from tests.conftest import wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def proxy(worker):
    with FaultProxy(worker.port) as proxy:
        yield proxy


@pytest.fixture
def pool(worker, proxy):
    """One host that is well, and one whose links can be broken."""
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="well")
        pool.add("localhost", proxy.port, name="frail")
        yield pool


def strike(pool: mlepool.ClientPool, count: int = STRIKES) -> None:
    for _ in range(count):
        assert pool.run("true").lost == ["frail"]


def test_who_can_not_be_reached_again_and_again_is_left_out_and_seen_to_be(
    pool, proxy, caplog
):
    events = []
    pool["frail"].on("quarantined", lambda conn, data: events.append((conn, data)))
    proxy.refuse()
    with caplog.at_level(logging.WARNING, "mlepool.client"):
        strike(pool)
    assert "frail has failed in 3 calls in a row: left out for 60 s" in caplog.text
    (name, (why, until)), *others = pool.quarantined.items()
    assert (name, others) == ("frail", [])
    assert "cannot connect" in why
    assert events[0][0] is pool["frail"]
    assert events[0][1].until == pytest.approx(until, abs=1)
    tried = proxy.connections
    done = pool.run("true")
    assert proxy.connections == tried
    assert (done.succeeded, done.skipped, done.lost) == (["well"], ["frail"], [])
    assert done["frail"].status == "LOST"
    assert not done.ok
    assert "quarantined until" in str(done.table())
    assert pool["frail"].name in pool  # it is left out of calls, not of the pool


@pytest.mark.parametrize("face", [mlepool.Connection, mlepool.AsyncConnection])
def test_help_says_that_it_is_told_with_data_as_a_workers_own_events_are(face):
    _, _, said = str(inspect.getdoc(face.on)).partition("callback:")
    with_data = {"state-change", "catalogue", "metrics", "quarantined"}
    assert set(re.findall('``"([a-z-]+)"``', said)) == with_data


def test_after_its_time_a_proof_lets_it_back(pool, proxy, monkeypatch):
    monkeypatch.setattr(quarantine, "FIRST_PAUSE", 0.05)
    events = []
    pool["frail"].on("released", lambda conn: events.append(conn.name))
    proxy.refuse()
    strike(pool)
    proxy.accept()
    wait_until(lambda: pool.run("true").ok)
    assert events == ["frail"]
    assert pool.quarantined == {}


def test_who_can_not_prove_itself_is_left_out_for_longer(pool, proxy, monkeypatch):
    monkeypatch.setattr(quarantine, "FIRST_PAUSE", 0.05)
    proxy.refuse()
    strike(pool)
    first = pool.quarantined["frail"].until
    wait_until(lambda: not pool.run("true").skipped)
    assert pool.quarantined["frail"].until >= first + 0.1
    assert pool.run("true").skipped == ["frail"]


def test_who_is_released_takes_part_at_once(pool, proxy):
    proxy.refuse()
    strike(pool)
    proxy.accept()
    pool.release("frail")
    assert pool.quarantined == {}
    assert pool.run("true").ok
    pool.release("frail")
    with pytest.raises(KeyError):
        pool.release("nobody")


def test_where_nobody_fares_well_nobody_is_left_out(pool, proxy):
    proxy.refuse()
    for _ in range(STRIKES + 1):
        assert not pool["frail*"].run("true").ok
    assert pool.quarantined == {}


def test_a_failed_command_counts_only_where_it_is_called_a_fault(pool, tmp_path):
    one = tmp_path / "one"
    script = f'test -n "$(find {one} -mmin +1)" || rmdir {one} 2>/dev/null'
    # What holds on one host and not on another is an answer.
    for _ in range(STRIKES + 1):
        one.mkdir()
        done = pool.run(script, max_parallel=1)
        assert (done.succeeded, done.failed) == (["well"], ["frail"])
    assert pool.quarantined == {}
    for _ in range(STRIKES):
        one.mkdir()
        pool.run(script, max_parallel=1, max_failures=1)
    assert list(pool.quarantined) == ["frail"]
    assert pool.quarantined["frail"].why.endswith("ended with 1")


def test_attempts_of_one_call_are_one_fault(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "FIRST_PAUSE", 0.01)
    one = tmp_path / "one"
    one.mkdir()
    script = f"rmdir {one} 2>/dev/null"
    done = pool.run(script, max_parallel=1, retries=STRIKES)
    assert (done.succeeded, len(done.attempts["frail"])) == (["well"], STRIKES + 1)
    assert pool.quarantined == {}
