"""The gate: who is let in, who is watched, and what is noted of it."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from mlepool.transport.base import LinkInfo
from mlepool.wire.messages import Hello, Outcome, Proof
from mlepool.wire.session import Role, Session, prove
from mlepool.wire.values import JobInfo
from mlepool.worker.access.audit import AuditLog, read_audit
from mlepool.worker.access.control import MAX_FAILURES, AccessControl
from mlepool.worker.access.gate import LOOK_EVERY, WRITE_AFTER, Admission, Gate
from mlepool.worker.access.identity import Identity, new_secret
from mlepool.worker.access.tokens import Token, TokenStore
from mlepool.worker.job import Job
from mlepool.worker.jobs import JobTable
from tests.tools import in_jumping_time

THERE = LinkInfo("10.0.0.7:5000", b"c" * 32)
HERE = LinkInfo("pid 7 of uid 1000", is_local=True)


class Guest:
    """One who was let in, and leaves when told so."""

    def __init__(self) -> None:
        self.is_bad = False
        self.looks = 0

    def check_token(self) -> bool:
        self.looks += 1
        return self.is_bad


class Worker:
    """A worker's gate, and all that it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = Identity(folder).token
        self.tokens = TokenStore(folder)
        self.audit = AuditLog(folder, size=1 << 20)
        access = AccessControl(self.tokens, clock=lambda: 0.0)
        jobs = cast(JobTable, None)  # asked only for jobs of others
        self.gate = Gate(self.tokens, access, audit=self.audit, jobs=jobs)

    def come(self, secret: str, info: LinkInfo = THERE) -> Admission:
        session = Session(Role.WORKER, Hello(1, 1, nonce=b"w" * 32), now=0.0)
        client = Session(Role.CLIENT, Hello(1, 1, nonce=b"c" * 32), now=0.0)
        session.receive(client.frames_to_send()[0])
        transcript = session.transcript(info.channel)
        token = Token("any", secret, ())
        mac = prove(secret, Role.CLIENT, transcript=transcript)
        return self.gate.admit(session, Proof(token.id, mac), info)

    def lines(self) -> list[dict[str, Any]]:
        found = [one for one in read_audit(self.folder) if one is not None]
        return [{k: v for k, v in one.items() if k != "time"} for one in found]


@pytest.fixture
def worker(tmp_path):
    worker = Worker(tmp_path)
    yield worker
    worker.gate.close()


def test_who_is_let_in_is_noted_with_the_token(worker):
    token = Token("ci", new_secret(), ("view",))
    worker.tokens.create(token)
    visitor, mac, reason = worker.come(token.secret)
    assert visitor is not None
    assert (visitor.grant, reason) == (token.grant(), "")
    assert mac
    (line,) = worker.lines()
    assert line == {
        "event": "connected",
        "token": "ci",
        "address": THERE.address,
        "token_id": token.id,
    }


def test_this_account_on_this_machine_needs_no_token(worker):
    visitor, mac, _ = worker.come("", HERE)
    assert visitor is not None
    assert (visitor.grant.name, visitor.token, mac) == ("local", None, b"")
    (line,) = worker.lines()
    assert line["address"] == "pid 7 of uid 1000"


def test_who_fails_is_noted_but_not_who_goes_on_failing(worker):
    for _ in range(MAX_FAILURES + 20):
        assert worker.come("x" * 43).visitor is None
    lines = worker.lines()
    assert len(lines) == MAX_FAILURES  # nobody can push the log out from outside
    assert {one["event"] for one in lines} == {"refused"}
    assert "x" * 43 not in str(lines)


@in_jumping_time
async def test_the_end_of_a_job_is_noted_a_moment_later(tmp_path):
    worker = Worker(tmp_path)
    job = Job("j", "true", folder=tmp_path)
    job.owner = "ci"
    digest = "xxh3-128:00,00"
    job.outcome = Outcome("STOPPED", -2, digest=digest, value="secret", reason="why")
    worker.gate.job_ended(job)
    assert worker.lines() == []
    await asyncio.sleep(WRITE_AFTER)
    (line,) = worker.lines()
    assert line == {
        "event": "ended",
        "token": "ci",
        "job": "j",
        "status": "STOPPED",
        "exit_code": -2,
        "digest": digest,
        "reason": "why",
    }
    worker.gate.close()


@in_jumping_time
async def test_an_end_is_noted_before_what_is_asked_for_next(tmp_path):
    worker = Worker(tmp_path)
    for name in ("a", "b"):
        job = Job(name, "true", folder=tmp_path)
        job.outcome = Outcome("SUCCEEDED", 0)
        worker.gate.job_ended(job)
    worker.come("", HERE)
    assert [one["event"] for one in worker.lines()] == ["ended", "ended", "connected"]
    worker.gate.job_ended(job)
    worker.gate.close()
    assert [one["event"] for one in worker.lines()][3:] == ["ended"]


@in_jumping_time
async def test_what_ended_while_no_worker_was_there_is_noted_by_the_next(tmp_path):
    first = Worker(tmp_path)
    first.audit.write("connected")
    first.gate.close()
    since = first.audit.last_time()
    assert since is not None

    def info(name: str, ended: float) -> JobInfo:
        job = Job(name, "true", folder=tmp_path)
        job.outcome = Outcome("SUCCEEDED", 0, ended=since + ended)
        return job.info()

    AuditLog(tmp_path, size=1 << 20, clock=lambda: since + 99).write("token")
    second = Worker(tmp_path)
    seen = Job("seen", "true", folder=tmp_path)
    seen.outcome = Outcome("SUCCEEDED", 0, ended=since + 2)
    second.gate.job_ended(seen)
    running = Job("running", "true", folder=tmp_path).info()
    jobs = [info("old", -1), info("missed", 1), info("seen", 2), running]
    second.gate.note_past(jobs)
    second.gate.note_past(jobs)
    second.gate.close()
    found = [(one["job"], one.get("at")) for one in second.lines() if "job" in one]
    assert found == [("seen", None), ("missed", since + 1)]


def test_without_a_log_before_nothing_is_made_up(worker, tmp_path):
    job = Job("old", "true", folder=tmp_path)
    job.outcome = Outcome("SUCCEEDED", 0, ended=1e12)
    worker.gate.note_past([job.info()])
    assert worker.lines() == []


@in_jumping_time
async def test_tokens_are_looked_at_while_somebody_is_there_with_one(tmp_path):
    worker = Worker(tmp_path)
    visitor = worker.come(worker.first).visitor
    assert visitor is not None
    guest = Guest()
    worker.gate.enter(guest, visitor)
    await asyncio.sleep(10 * LOOK_EVERY + 0.1)
    assert guest.looks == 10
    worker.gate.left(guest)
    worker.gate.left(guest)
    await asyncio.sleep(10 * LOOK_EVERY)
    assert guest.looks == 10
    worker.gate.enter(guest, visitor)
    worker.gate.close()
    worker.gate.close()
    await asyncio.sleep(2 * LOOK_EVERY)
    assert guest.looks == 10


@in_jumping_time
async def test_nothing_is_looked_at_for_this_account_on_this_machine(tmp_path):
    worker = Worker(tmp_path)
    visitor = worker.come("", HERE).visitor
    assert visitor is not None
    guest = Guest()
    worker.gate.enter(guest, visitor)
    await asyncio.sleep(3 * LOOK_EVERY)
    assert guest.looks == 0
    worker.gate.close()
