"""Who gets in, who does not, and what is never told; against real workers."""

import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.client.links.trust import Target, TrustStore
from mlepool.wire.messages import Bye, Hello, Proof, Welcome
from mlepool.wire.session import Role, Session, prove
from mlepool.worker.access.control import MAX_FAILURES
from mlepool.worker.access.identity import Identity
from tests.conftest import RunningWorker, processes, wait_until
from tests.needs import NOBODY, need_program, need_root
from tests.raw import (
    ClientLink,
    FakeWorker,
    RawClient,
    TcpWay,
    any_certificate,
    raw_client,
)

pytestmark = pytest.mark.real

WRONG = "x" * 43


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that other accounts can reach."""
    with tempfile.TemporaryDirectory(prefix="mlepool-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def gate(open_folder) -> Iterator[RunningWorker]:
    """A worker whose log is read; nobody may fail five times at its door."""
    running = RunningWorker(open_folder / "gate")
    running.join_url = running.read_join_url()
    yield running
    running.end()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Iterator[RunningWorker]:
    """A worker without TLS."""
    folder = tmp_path_factory.mktemp("plain")
    running = RunningWorker(folder, listen="ws://127.0.0.1:0")
    running.join_url = running.read_join_url()
    yield running
    running.end()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> None:
    """Be an account that knows no worker."""
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path / "elsewhere"))


is_elsewhere = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def pool() -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        yield pool


def refused(kind: type[Exception], *place: Any, **keywords: Any) -> str:
    """Connect in vain; what the error says."""
    with mlepool.ClientPool() as pool:
        connection = pool.add(*place, **keywords)
        with pytest.raises(kind) as caught:
            connection.connect(timeout=20)
    assert type(caught.value) is kind
    return str(caught.value)


def forgive(worker: RunningWorker) -> None:
    """Have a worker forget who failed at its door."""
    with raw_client(worker, token=worker.token()):
        pass


class NewLines:
    """What a worker's log gains from here on."""

    def __init__(self, worker: RunningWorker) -> None:
        self._worker = worker
        self._begin = len(worker.log)

    def one(self) -> str:
        """Wait for the only complaint."""
        wait_until(lambda: bool(self.complaints()))
        lines = self.complaints()
        assert len(lines) == 1, lines
        assert "Traceback" not in self._worker.log
        return lines[0]

    def complaints(self) -> list[str]:
        """Give what is not about somebody let in."""
        lines = self._worker.log[self._begin :].splitlines()
        return [one for one in lines if "has connected" not in one]


# -- the first start


def test_the_first_start_makes_secrets_for_this_account_only(own_worker):
    url = own_worker.read_join_url()
    target = Target.parse(url)
    assert (target.port, target.token) == (own_worker.port, own_worker.token())
    state = own_worker.state_dir
    assert state.stat().st_mode & 0o777 == 0o700
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in state.iterdir()
        if path.is_file()
    }
    for name in ("key.pem", "certificate.pem", "token"):
        assert modes[name] == 0o600
    for name in ("worker.sock", "supervisor.sock"):
        assert (state / name).stat().st_mode & 0o777 == 0o600
    assert (state / "jobs").stat().st_mode & 0o777 == 0o700


def test_a_second_start_prints_no_secret(own_worker):
    token = own_worker.token()
    own_worker.end()
    second = RunningWorker(own_worker.state_dir.parent)
    assert second.process.stdout is not None
    second.process.terminate()
    said = second.process.stdout.read()
    second.end()
    assert said == ""
    assert second.token() == token
    assert token not in second.log


# -- who gets in


def test_the_same_account_needs_nothing(worker, pool):
    for place in ("localhost", "127.0.0.1"):
        connection = pool.add(place, worker.port)
        connection.connect()
        assert connection.run("echo well").stdout == "well\n"
    local = pool.add(f"unix:{worker.state_dir}")
    local.connect()
    assert local.run("echo well").stdout == "well\n"


@is_elsewhere
def test_the_join_url_is_all_that_a_client_needs(gate, pool):
    connection = pool.add(gate.join_url)
    connection.connect()
    assert connection.run("echo well").stdout == "well\n"


@is_elsewhere
def test_a_worker_that_was_trusted_is_known_at_any_address(gate, pool):
    TrustStore().add(Target.parse(gate.join_url))
    for host in ("127.0.0.1", "localhost", f"wss://127.0.0.1:{gate.port}/"):
        connection = pool.add(host, gate.port, name=host)
        connection.connect()
        assert connection.run("echo well").stdout == "well\n"


@is_elsewhere
def test_a_plain_worker_lets_in_by_token_too(plain, pool):
    assert "scheme=ws" in plain.join_url
    connection = pool.add(plain.join_url)
    connection.connect()
    assert connection.run("echo well").stdout == "well\n"
    place = f"ws://127.0.0.1:{plain.port}"
    text = refused(mlepool.AuthenticationError, place)
    assert "no token" in text


# -- who does not


@is_elsewhere
def test_who_has_no_token_is_refused_in_one_line(gate, pool):
    lines = NewLines(gate)
    text = refused(mlepool.AuthenticationError, "127.0.0.1", gate.port)
    expected = "no token; run 'mlepool trust URL' with the worker's join URL"
    assert text == f"cannot connect to 127.0.0.1:{gate.port}: {expected}"
    line = lines.one()
    assert "refused 127.0.0.1:" in line
    assert expected in line
    forgive(gate)


@is_elsewhere
def test_a_wrong_token_is_refused_and_repeated_nowhere(gate, pool):
    lines = NewLines(gate)
    text = refused(mlepool.AuthenticationError, "127.0.0.1", gate.port, token=WRONG)
    assert "wrong token" in text
    line = lines.one()
    assert "wrong token" in line
    assert WRONG not in text + line
    forgive(gate)


@is_elsewhere
def test_a_refusal_that_comes_with_the_links_end_is_no_fault(gate, caplog):
    for _ in range(5):
        refused(mlepool.AuthenticationError, "127.0.0.1", gate.port, token=WRONG)
    assert [one for one in caplog.records if one.name == "asyncio"] == []
    forgive(gate)


@is_elsewhere
def test_the_token_of_another_worker_is_wrong(gate, worker, pool):
    other = worker.token()
    text = refused(mlepool.AuthenticationError, "127.0.0.1", gate.port, token=other)
    assert "wrong token" in text
    forgive(gate)


@is_elsewhere
def test_a_worker_with_another_key_than_the_pinned_one_is_not_spoken_to(gate, pool):
    target = Target.parse(gate.join_url)
    url = gate.join_url.replace(target.key, "A" * 43)
    lines = NewLines(gate)
    text = refused(mlepool.UntrustedWorkerError, url)
    assert f"it shows the key {target.key[:12]}" in text
    assert target.token not in text
    line = lines.one()
    assert "closed the link to 127.0.0.1:" in line
    assert line.endswith("this is not the worker that it trusts")
    forgive(gate)


@is_elsewhere
def test_another_worker_at_a_trusted_address_is_not_spoken_to(gate, pool):
    moved = Target("127.0.0.1", gate.port, "wss", "A" * 43, WRONG)
    TrustStore().add(moved)
    text = refused(mlepool.UntrustedWorkerError, "127.0.0.1", gate.port)
    assert "the trusted one is AAAAAAAAAAAA" in text
    assert "run 'mlepool trust' with its new join URL" in text


@is_elsewhere
def test_after_five_failures_an_address_waits_unless_it_knows(own_worker, pool):
    for _ in range(MAX_FAILURES + 1):
        text = refused(
            mlepool.AuthenticationError, "127.0.0.1", own_worker.port, token=WRONG
        )
    assert "too many failed attempts; try again in" in text
    good = RawClient(TcpWay(own_worker.port))
    good.enter(own_worker.token())
    good.way.close()
    local = pool.add(f"unix:{own_worker.state_dir}")
    local.connect()
    assert local.run("echo well").stdout == "well\n"


# -- other accounts of the same machine

AS_NOBODY = """
import json, os, sys, tempfile
import mlepool, mlepool.client.sync, encodings.idna
from pathlib import Path
os.setgroups([])
os.setgid({nobody})
os.setuid({nobody})
os.environ["MLEPOOL_HOME"] = {home!r}
def attempt(host, *more):
    try:
        with mlepool.add(host, *more, name=host + "-") as conn:
            return conn.run("id -u").stdout.strip()
    except Exception as exc:
        return f"{{type(exc).__name__}}: {{exc}}"
def read(path):
    try:
        return Path(path).read_text()
    except OSError as exc:
        return type(exc).__name__
print(json.dumps([{expressions}]))
"""


def as_nobody(*expressions: str) -> list[str]:
    """Give what expressions are worth to another account of this machine."""
    need_root()
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, NOBODY, NOBODY)
        code = AS_NOBODY.format(
            nobody=NOBODY, home=home, expressions=", ".join(expressions)
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    results: list[str] = json.loads(done.stdout)
    return results


def test_another_account_is_refused_and_can_read_no_secret(gate):
    state = gate.state_dir
    tcp, unix, *read = as_nobody(
        f"attempt('127.0.0.1', {gate.port})",
        f"attempt('unix:{state}')",
        *(f"read('{state}/{name}')" for name in ("token", "key.pem", "jobs")),
    )
    assert tcp.startswith("AuthenticationError: ")
    assert "no token" in tcp
    assert unix.startswith("ConnectError: ")
    assert unix.endswith(
        "for the account that runs the worker; others need its join URL"
    )
    assert read == ["PermissionError"] * 3
    forgive(gate)


def test_another_account_is_refused_even_where_it_can_reach_the_socket(gate):
    for path, mode in (
        (gate.state_dir, 0o755),
        (gate.state_dir / "worker.sock", 0o666),
    ):
        path.chmod(mode)
    lines = NewLines(gate)
    (answer,) = as_nobody(f"attempt('unix:{gate.state_dir}/worker.sock')")
    for path, mode in (
        (gate.state_dir, 0o700),
        (gate.state_dir / "worker.sock", 0o600),
    ):
        path.chmod(mode)
    assert answer.startswith("AuthenticationError: ")
    line = lines.one()
    assert f"of uid {NOBODY}: no token" in line


def test_another_account_gets_in_with_the_join_url(gate):
    (answer,) = as_nobody(f"attempt({gate.join_url!r})")
    assert answer == str(os.getuid())


# -- in between


@pytest.fixture(scope="module")
def false_identity(tmp_path_factory) -> Identity:
    """A key and certificate of somebody else."""
    return Identity(tmp_path_factory.mktemp("false"))


def heard_nothing(fake: FakeWorker) -> bool:
    """Tell if a fake worker has got nothing but greetings and farewells."""
    return {type(one) for one in fake.messages()} <= {Hello, Bye}


@is_elsewhere
def test_a_man_in_the_middle_gets_nothing_and_is_detected(gate, false_identity, pool):
    key = Target.parse(gate.join_url).key

    def pass_on(client: ClientLink) -> None:
        client.greet(key)  # the worker's true Hello, behind another certificate
        client.listen()

    with FakeWorker(pass_on, false_identity) as fake:
        url = gate.join_url.replace(f":{gate.port}", f":{fake.port}")
        text = refused(mlepool.UntrustedWorkerError, url)
        assert "somebody stands between" in text
        TrustStore().add(Target.parse(url))
        text = refused(mlepool.UntrustedWorkerError, "127.0.0.1", fake.port)
        assert "somebody stands between" in text
    assert heard_nothing(fake)


@is_elsewhere
def test_a_man_in_the_middle_with_a_key_of_his_own_gets_nothing(
    gate, false_identity, pool
):
    def pretend(client: ClientLink) -> None:
        client.greet(false_identity.fingerprint)
        client.listen()

    with FakeWorker(pretend, false_identity) as fake:
        url = gate.join_url.replace(f":{gate.port}", f":{fake.port}")
        text = refused(mlepool.UntrustedWorkerError, url)
    assert f"it shows the key {false_identity.fingerprint[:12]}" in text
    assert heard_nothing(fake)


@is_elsewhere
def test_a_proof_that_a_man_in_the_middle_passes_on_is_worth_nothing(
    gate, false_identity, pool
):
    judged = []

    def relay(client: ClientLink) -> None:
        # The client knows a token but no key: it proves to whoever is there.
        worker = RawClient(TcpWay(gate.port))
        hello = client.greet(false_identity.fingerprint)
        worker.nonce = hello.nonce
        worker.greet()
        proof = client.receive()
        assert isinstance(proof, Proof)
        worker.send(proof)
        judged.extend(worker.rest())
        worker.way.close()
        client.send(Welcome(b"m" * 32))
        client.listen()

    with FakeWorker(relay, false_identity) as fake:
        text = refused(
            mlepool.UntrustedWorkerError, "127.0.0.1", fake.port, token=gate.token()
        )
    assert "it can't prove that it knows the token" in text
    assert "does not lead straight to this worker" in str(judged)
    assert gate.token().encode() not in b"".join(fake.heard)
    forgive(gate)


@is_elsewhere
def test_a_stranger_who_welcomes_us_without_a_token_is_not_trusted(
    false_identity, pool
):
    def welcome(client: ClientLink) -> None:
        nonce = b"w" * 32
        mine = Hello(1, 1, "fake", false_identity.fingerprint, nonce)
        session = Session(Role.WORKER, mine, now=0.0)
        client.send(mine)
        client.receive()
        session.receive(fake.heard[-1])
        client.receive()
        transcript = session.transcript(false_identity.channel)
        client.send(Welcome(prove("", Role.WORKER, transcript=transcript)))
        client.listen()

    with FakeWorker(welcome, false_identity) as fake:
        text = refused(mlepool.UntrustedWorkerError, "127.0.0.1", fake.port)
    assert "it can't prove" in text


# -- who is no client at all


def test_a_plain_client_on_a_tls_port_is_told_so_on_both_sides(gate, pool):
    lines = NewLines(gate)
    place = f"ws://127.0.0.1:{gate.port}"
    text = refused(mlepool.ConnectError, place)
    assert "This port speaks TLS only" in text
    line = lines.one()
    assert "refused 127.0.0.1:" in line
    assert "no TLS on this port" in line


def test_a_tls_client_on_a_plain_port_is_told_so_on_both_sides(plain, pool):
    lines = NewLines(plain)
    text = refused(mlepool.ConnectError, f"wss://127.0.0.1:{plain.port}")
    assert "does not speak TLS" in text
    line = lines.one()
    assert "refused 127.0.0.1:" in line
    assert "a TLS client on this port" in line


@pytest.mark.parametrize(
    ("url", "answer", "log"),
    [
        ("https://gate", "This is an mlepool worker, not a web page", "plain HTTP"),
        ("http://gate", "This port speaks TLS only", "no TLS on this port"),
        ("http://plain", "This is an mlepool worker, not a web page", "plain HTTP"),
        ("https://plain", "", "a TLS client on this port"),
    ],
)
def test_a_browser_gets_one_clear_answer(gate, plain, *, url, answer, log):
    scheme, _, place = url.partition("://")
    worker = gate if place == "gate" else plain
    lines = NewLines(worker)
    page = f"{scheme}://127.0.0.1:{worker.port}/any/page?q=1"
    curl = need_program("curl")
    command = [curl, "-sk", "--noproxy", "*", "--max-time", "20", page]
    done = subprocess.run(command, capture_output=True, text=True)
    assert answer in done.stdout
    line = lines.one()
    assert log in line


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"\0" * 1000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16",
        b"\x16\x03\x01\xff\xff" + b"x" * 5000,
        b"\x16\x03\x01\0\x05hello",
        b"",
    ],
)
def test_garbage_costs_one_line_of_log(gate, plain, garbage):
    for worker in (gate, plain):
        lines = NewLines(worker)
        with socket.create_connection(("127.0.0.1", worker.port), 20) as stranger:
            say(stranger, garbage)
        line = lines.one()
        assert "refused 127.0.0.1:" in line


def test_garbage_through_tls_costs_one_line_of_log(gate):
    for garbage in (
        b"\0" * 1000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"x" * 100_000,
    ):
        lines = NewLines(gate)
        with (
            socket.create_connection(("127.0.0.1", gate.port), 20) as bare,
            any_certificate().wrap_socket(bare) as stranger,
        ):
            say(stranger, garbage)
        line = lines.one()
        assert "refused 127.0.0.1:" in line


def say(stranger: socket.socket, garbage: bytes) -> None:
    """Send garbage and read to the end, in whatever way it comes."""
    try:
        stranger.sendall(garbage)
        if not isinstance(stranger, ssl.SSLSocket):
            stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass


# -- what is never told


@is_elsewhere
def test_the_token_is_told_to_nobody(own_worker, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    token = own_worker.token()
    command = [sys.executable, "-m", "mlepool"]
    url = own_worker.read_join_url()
    trust = [*command, "trust", "-"]
    subprocess.run(trust, input=f"{url}\n", text=True, check=True, capture_output=True)
    with mlepool.ClientPool() as pool, pool.add(url) as connection:
        job = connection.run("env; cat /proc/$PPID/environ; sleep 60", complete=False)
        while job.next() is not None and "MLEPOOL_JOB" not in str(job.stdout):
            pass
        told = [repr(connection), repr(pool), repr(job), str(connection.state)]
        told += [str(connection.jobs().value), str(connection.commands), job.output]
        told += [_proc_text(pid, "cmdline") for pid in processes()]
        own = [own_worker.process.pid, own_worker.supervisor_pid(), _pid_of(connection)]
        told += [_proc_text(pid, "environ") for pid in own]
        assert _proc_text(own[2], "environ")
        refused(
            mlepool.AuthenticationError,
            "127.0.0.1",
            own_worker.port,
            token=token[:-1] + "!",
        )
    told += [caplog.text, own_worker.log]
    told += [
        path.read_bytes().decode("latin-1")
        for path in own_worker.state_dir.rglob("*")
        if path.is_file() and path.name != "token"
    ]
    assert len(told) > 20
    assert not [one for one in told if token in one]
    assert not [one for one in told if token[:-1] in one]


def _pid_of(connection: mlepool.Connection) -> int:
    (info,) = connection.jobs().value
    pid: int = info.pid
    return pid


def _proc_text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode("latin-1")
    except OSError:
        return ""  # gone since it was listed
