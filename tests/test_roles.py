"""Roles, patterns, folders, revocation: what a real worker lets whom do."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import mlepool
from mlepool.client.ids import new_job_id
from mlepool.config import write_private
from mlepool.files.base import Chunk, Offer, Piece, SourceOptions, TargetOptions
from mlepool.tree import FILE, FOLDER, Entry
from mlepool.wire.messages import Ended, Outcome, Request
from mlepool.worker.access.audit import read_audit
from mlepool.worker.access.identity import Identity, new_secret
from mlepool.worker.access.tokens import FIRST, Token, TokenStore
from mlepool.worker.commands import builtin_commands
from mlepool.worker.registry import Registry
from tests.conftest import RunningWorker, wait_until
from tests.raw import RawClient, raw_client

pytestmark = pytest.mark.real

REGISTRY = Registry(builtin_commands())
ROLES = {name: REGISTRY.find(name).spec.role for name in builtin_commands()}


COMMANDS = """
from mlepool.worker import command

@command
def greet(name: str, key: str = ""):
    yield f"hello {name}"

@command(role="admin")
def wipe():
    raise RuntimeError("nobody got here")
"""


class Guarded:
    """A real worker, and who comes to it with which token."""

    def __init__(self, folder: Path) -> None:
        (folder / "state").mkdir()
        (folder / "own.py").write_text(COMMANDS)
        settings = f"commands = ['{folder / 'own.py'}']\n"
        (folder / "state/config.toml").write_text(settings)
        self.running = RunningWorker(folder)
        self.state = self.running.state_dir
        self.tokens = TokenStore(self.state)
        self._names = (f"t{number}" for number in range(1000))

    def token(self, *roles: str, **settings: Any) -> Token:
        token = Token(next(self._names), new_secret(), roles, **settings)
        self.tokens.create(token)
        return token

    def url(self, token: Token) -> str:
        identity = Identity(self.state)
        return identity.join_url("127.0.0.1", self.running.port, token=token.secret)

    def lines(self, **facts: Any) -> list[dict[str, Any]]:
        """Give the lines of the audit log that say this."""
        found = [one for one in read_audit(self.state) if one is not None]
        return [
            one
            for one in found
            if all(one.get(key) == value for key, value in facts.items())
        ]

    def story(self, job_id: str) -> list[dict[str, Any]]:
        """Give the lines of a job, once its end is among them."""
        wait_until(lambda: self.lines(job=job_id, event="ended"))
        return self.lines(job=job_id)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    yield guarded
    guarded.running.end()


Enter = Callable[[Token], mlepool.Connection]


@pytest.fixture
def enter(guarded) -> Iterator[Enter]:
    """Connect with a token."""
    with mlepool.ClientPool() as pool:

        def connect(token: Token) -> mlepool.Connection:
            connection = pool.add(guarded.url(token), name=token.id)
            connection.connect(timeout=20)
            return connection

        yield connect


@pytest.fixture
def local(guarded) -> Iterator[mlepool.Connection]:
    """Be the worker's account on its machine."""
    with mlepool.ClientPool() as pool, pool.add(f"unix:{guarded.state}") as conn:
        yield conn


# -- each role tries everything


@pytest.mark.parametrize("role", ["view", "run", "sync", "admin"])
def test_each_role_may_do_what_it_is_for_and_nothing_else(guarded, role):
    token = guarded.token(role)
    outcomes = {}
    with raw_client(guarded.running, token=token.secret) as client:
        for number, name in enumerate(ROLES, start=1):
            # Nobody has such an argument: who is let through does nothing, either.
            client.send(Request(number, f"{role}{number}", name, {"nonsense": 1}))
            outcomes[name] = client.wait_for(Ended).outcome.failure
    refused = {}
    for name, failure in outcomes.items():
        assert failure is not None, name
        if failure.type_name == "PermissionDeniedError":
            refused[name] = failure.message
        else:
            assert failure.type_name == "TypeError", (name, failure)
    may = {"any", role}
    forbidden = {name for name in ROLES if role != "admin" and ROLES[name] not in may}
    assert set(refused) == forbidden
    for name, text in refused.items():
        expected = f"needs the role {ROLES[name]!r}; this token ({token.name!r}) has: "
        assert text == expected + role
    noted = guarded.lines(event="refused", token=token.name)
    assert {one.get("step") or one["command"] for one in noted} == {
        one.removeprefix("_tree").lstrip("_") for one in forbidden
    }
    assert {one["command"] for one in noted if "step" in one} <= {"sync"}
    assert {one["right"] for one in noted} == {
        f"the role {ROLES[name]!r}" for name in forbidden
    }


def test_every_command_has_a_role_and_none_of_files_is_for_those_who_view():
    assert set(ROLES.values()) == {"any", "view", "run", "sync", "admin"}
    assert {name for name, role in ROLES.items() if role == "any"} == {"cd", "cwd"}
    hidden = {role for name, role in ROLES.items() if name.startswith("_tree")}
    assert hidden == {"sync"}
    for name in ("reboot", "shutdown", "close_server"):
        assert ROLES[name] == "admin"


# -- what that means for users


def test_who_may_view_sees_jobs_and_starts_nothing(guarded, enter, tmp_path):
    local = enter(guarded.token("run"))
    job = local.run("echo secret of the owner")
    viewer = enter(guarded.token("view"))
    assert job.id in {one.id for one in viewer.jobs().value}
    attached = viewer.attach(job.id)
    assert attached.wait()
    assert attached.stdout == "secret of the owner\n"
    trace = tmp_path / "trace"
    done = viewer.run(["touch", str(trace)])
    assert isinstance(done.error, mlepool.PermissionDeniedError)
    with pytest.raises(PermissionError, match="needs the role 'run'"):
        viewer.run(["touch", str(trace)], raise_error=True)
    with pytest.raises(mlepool.PermissionDeniedError, match="needs the role 'sync'"):
        viewer.put(b"x", str(trace), raise_error=True)
    assert not trace.exists()
    assert not guarded.lines(event="accepted", job=done.id)


def test_who_may_run_reads_the_own_jobs_only(guarded, enter, local):
    other = local.run("echo secret of the owner")
    token = guarded.token("run")
    runner = enter(token)
    own = runner.run("echo mine")
    assert own.stdout == "mine\n"
    attached = runner.attach(own.id)
    assert attached.wait()
    assert attached.stdout == "mine\n"
    again = enter(guarded.token("view"))
    infos = {one.id: one for one in again.jobs().value}
    assert (infos[own.id].owner, infos[other.id].owner) == (token.name, "local")
    with pytest.raises(mlepool.PermissionDeniedError, match="role 'view'"):
        runner.attach(other.id)


def test_who_may_run_some_commands_runs_no_others(guarded, enter, tmp_path):
    patterns = ("echo *", "/bin/cat")
    runner = enter(guarded.token("run", commands=patterns))
    assert runner.run(["echo", "a b"]).stdout == "a b\n"
    assert runner.run("echo  a  b").stdout == "a b\n"
    trace = tmp_path / "trace"
    for command in (
        ["touch", str(trace)],
        f"echo x > {trace}",
        f"echo `touch {trace}`",
        f"echo x; touch {trace}",
        ["/bin/sh", "-c", f"touch {trace}"],
        ["sh", "-c", f"touch {trace}"],
    ):
        done = runner.run(command)
        assert isinstance(done.error, mlepool.PermissionDeniedError), command
        assert "fits 'echo *' or '/bin/cat', " in str(done.error)
    evil = runner.run(["echo", "x"], env={"LD_PRELOAD": "/tmp/x.so"})
    assert "to set LD_PRELOAD" in str(evil.error)
    assert not trace.exists()


def test_who_may_run_some_commands_types_into_no_others_job(guarded, enter, local):
    shell = local.run("read line; echo got $line", stdin=True, complete=False)
    runner = enter(guarded.token("run", "view", commands=("/bin/cat",)))
    for call in (
        lambda: runner.attach(shell.id).send_input("rm\n"),
        lambda: runner.stop(shell.id, raise_error=True),
    ):
        with pytest.raises(mlepool.PermissionDeniedError, match="started that job"):
            call()
    shell.send_input("well\n")
    shell.wait()
    assert shell.stdout == "got well\n"
    own = runner.run(["/bin/cat"], stdin=True, complete=False)
    own.send_input("mine\n")
    own.close_input()
    own.wait()
    assert own.stdout == "mine\n"


def test_who_may_use_some_folders_gets_to_no_others(guarded, enter, tmp_path):
    data, beside = tmp_path / "data", tmp_path / "data-b"
    for one in (data / "in", beside):
        one.mkdir(parents=True)
    (beside / "secret").write_text("secret")
    (data / "link").symlink_to(beside)
    client = enter(guarded.token("run", "sync", roots=(str(data),)))
    assert client.run("pwd").stdout == f"{data}\n"
    assert client.run("pwd", cwd="in").stdout == f"{data}/in\n"
    client.put(b"mine", "file", raise_error=True)
    assert (data / "file").read_bytes() == b"mine"
    assert client.read("file", raise_error=True).value == "mine"
    for place in ("..", "../data-b", "link", str(beside), "/"):
        done = client.run("pwd", cwd=place)
        assert isinstance(done.error, mlepool.PermissionDeniedError), place
        assert "a folder of its own" in str(done.error)
        with pytest.raises(PermissionError):
            client.put(b"evil", f"{place}/evil", raise_error=True)
        with pytest.raises(PermissionError):
            client.get(f"{place}/secret", tmp_path / "got", raise_error=True)
        with pytest.raises(PermissionError):
            client.read(f"{place}/secret", raise_error=True)
    assert sorted(os.listdir(beside)) == ["secret"]
    assert not (tmp_path / "got").exists()


def test_the_workers_own_folder_is_closed_to_who_is_no_admin(guarded, enter):
    client = enter(guarded.token("sync"))
    for name in ("tokens.json", "token", "key.pem", "audit/audit.jsonl"):
        with pytest.raises(PermissionError, match="own folder"):
            client.read(str(guarded.state / name), raise_error=True)
        with pytest.raises(PermissionError):
            client.write(str(guarded.state / name), "x", raise_error=True)


def test_no_sync_reaches_the_workers_own_folder_for_who_is_no_admin(
    guarded, enter, tmp_path
):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/tokens.json").write_text("[]")
    client = enter(guarded.token("sync"))
    state = guarded.state
    before = {one: one.read_bytes() for one in state.glob("*token*")}
    for call in (
        lambda: client.get(str(state / "token")),
        lambda: client.sync(str(state), tmp_path / "got", pull=True),
        lambda: client.sync(str(state / "jobs"), tmp_path / "got", pull=True),
        lambda: client.put(b"[]", str(state / "tokens.json")),
        lambda: client.put(b"evil", str(state / "new/evil")),
        lambda: client.sync(tmp_path / "src", str(state)),
    ):
        error = call().error
        assert isinstance(error, PermissionError), error
        assert "for admins only" in str(error)
    assert not (tmp_path / "got").exists()
    assert {one: one.read_bytes() for one in state.glob("*token*")} == before


def asking(client: RawClient) -> Callable[..., Outcome]:
    """Give what makes requests of one session's trees, and takes their answers."""
    calls = itertools.count(1)

    def ask(command: str, session: str, **arguments: Any) -> Outcome:
        arguments = {"session": session, **arguments}
        request = Request(next(calls), new_job_id(), f"_tree_{command}", arguments)
        client.send(request)
        return client.wait_for(Ended).outcome

    return ask


def test_nothing_of_the_workers_own_folder_is_reached_through_a_tree_around_it(
    guarded,
):
    name = guarded.state.name.encode()
    chunk = Chunk(blake3(b"[]").digest(), 2)
    entry = Entry(name + b"/tokens.json", FILE, 0o600, 2, 10**18)
    key = (guarded.state / "key.pem").stat()
    secret = Entry(name + b"/key.pem", FILE, 0o600, key.st_size, key.st_mtime_ns)
    token = guarded.token("sync").secret
    before = (guarded.state / "tokens.json").read_bytes()
    with raw_client(guarded.running, token=token) as client:
        ask = asking(client)
        root, reading, writing = os.fsencode(guarded.state.parent), "0" * 16, "1" * 16
        ask("open_source", reading, root=root, options=SourceOptions())
        ask("scan", reading, step=1)
        (told,) = ask("read_many", reading, entries=[(0, secret)]).value
        assert "for admins only" in str(told)
        ask("open_target", writing, root=root, options=TargetOptions())
        ask("scan", writing, step=1)
        ask("expect", writing, step=2, first=0, entries=[entry])
        ask("offer", writing, step=3, offers=[Offer(0, 0, (chunk,))])
        ask("write", writing, step=4, pieces=[Piece(0, 0, b"[]")])
        assert "for admins only" in str(ask("commit", writing).value)
        ask("close", writing, is_success=True)
    assert (guarded.state / "tokens.json").read_bytes() == before


def test_the_workers_own_folder_is_not_changed_through_a_tree_around_it(guarded):
    state, around = os.fsencode(guarded.state), guarded.state.parent
    name, session = os.path.basename(state), "2" * 16
    before = guarded.state.stat()
    with raw_client(guarded.running, token=guarded.token("sync").secret) as client:
        ask = asking(client)
        root = os.fsencode(around.parent)
        path = os.fsencode(around.name) + b"/" + name
        opened = Entry(path, FOLDER, 0o777, 0, 10**18)
        gone = [path, path + b"/token", os.path.dirname(path)]
        ask("open_target", session, root=root, options=TargetOptions())
        ask("scan", session, step=1)
        ask(
            "prepare",
            session,
            step=2,
            folders=[opened],
            links=[],
            touched=[],
            deleted=gone,
        )
        *_, problems = ask("commit", session).value
        ask("close", session, is_success=True)
    after = guarded.state.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert (guarded.state / "token").exists()
    assert {path for _, path, _ in problems} == {*gone, opened.path}
    assert {text for *_, text in problems} == {
        "the worker's own folder: for admins only"
    }


def test_commands_of_ones_own_need_roles_too(guarded, enter):
    token = guarded.token("run")
    client = enter(token)
    done = client.greet("ann", key="hush")
    assert list(done) == ["hello ann"]
    accepted, ended = guarded.story(done.id)
    assert (accepted["command"], accepted["token"]) == ("greet", token.name)
    assert accepted["arguments"] == ["key", "name"]
    assert (ended["event"], ended["status"]) == ("ended", "SUCCEEDED")
    assert "hush" not in str((accepted, ended))
    with pytest.raises(mlepool.PermissionDeniedError, match="the role 'admin'"):
        client.wipe(raise_error=True)
    other = enter(guarded.token("run", commands=("greet*",)))
    assert list(other.greet("bob")) == ["hello bob"]
    with pytest.raises(
        mlepool.PermissionDeniedError, match="fits 'greet\\*', not 'pwd'"
    ):
        other.run(["pwd"], raise_error=True)


# -- tokens that end


def gone(connection: mlepool.Connection) -> str:
    """Wait until the worker has sent somebody away; why they can't come back."""
    begin = time.monotonic()
    wait_until(lambda: not connection.is_connected)
    assert time.monotonic() - begin < 5  # two seconds, on a busy machine
    with pytest.raises(mlepool.AuthenticationError) as caught:
        connection.connect(timeout=20)
    return str(caught.value)


def test_who_has_a_revoked_token_is_sent_away_and_does_not_come_back(guarded, enter):
    token = guarded.token("view", "run")
    connection = enter(token)
    job = connection.run("read line", stdin=True, complete=False)
    guarded.tokens.revoke(token.name)
    said = f"this token ({token.name!r}) was revoked on "
    assert said in gone(connection)
    assert isinstance(job.error, mlepool.ConnectionLostError)
    assert said in str(job.error)
    assert not guarded.lines(event="ended", job=job.id)


def test_who_gets_other_rights_comes_back_with_them(guarded, enter):
    token = guarded.token("run")
    connection = enter(token)
    job = connection.run("read line; echo $line", stdin=True, complete=False)
    back: list[Any] = []
    connection.on("reconnected", back.append)
    path = guarded.state / "tokens.json"
    listed = json.loads(path.read_text())
    listed[-1]["roles"] = ["view"]
    write_private(path, json.dumps(listed).encode())
    wait_until(lambda: bool(back))
    refused = connection.stop(job.id)
    assert "needs the role 'run'; this token" in str(refused.error)
    assert not job.done


def test_an_expired_token_is_of_no_use_from_then_on(guarded, enter):
    token = guarded.token("run", expires=time.time() + 1.0)
    assert f"this token ({token.name!r}) has expired on " in gone(enter(token))


def test_the_next_request_after_a_revocation_does_nothing(guarded, enter, tmp_path):
    token = guarded.token("run")
    trace = tmp_path / "trace"
    with raw_client(guarded.running, token=token.secret) as client:
        guarded.tokens.revoke(token.name)
        client.send(Request(1, "late", "run", {"command": ["touch", str(trace)]}))
        said = client.rest()
    assert "was revoked" in str(said[-1])
    assert not trace.exists()


def test_rotating_the_first_token_ends_its_links_and_not_local_ones(
    guarded, enter, local
):
    identity = Identity(guarded.state)
    first = Token(FIRST, identity.token, ("admin",))
    connection = enter(first)
    new = guarded.tokens.rotate(FIRST)
    assert "this token ('first') was revoked" in gone(connection)
    assert enter(new).run("echo well").stdout == "well\n"
    assert local.run("echo well").stdout == "well\n"


# -- the audit log


def test_a_job_is_in_the_log_from_its_begin_to_its_end(guarded, enter):
    token = guarded.token("run")
    job = enter(token).run(
        ["sh", "-c", "echo $KEY; exit 3"], env={"KEY": "hush"}, cwd="/"
    )
    assert job.stdout == "hush\n"
    accepted, ended = guarded.story(job.id)
    assert accepted["event"] == "accepted"
    assert (accepted["token"], accepted["token_id"]) == (token.name, token.id)
    assert accepted["address"].startswith("127.0.0.1:")
    assert accepted["argv"] == ["sh", "-c", "echo $KEY; exit 3"]
    assert (accepted["env"], accepted["cwd"]) == (["KEY"], "/")
    assert (ended["event"], ended["token"]) == ("ended", token.name)
    assert (ended["status"], ended["exit_code"]) == ("FAILED", 3)
    assert ended["digest"].startswith("xxh3-128:")
    assert "hush" not in str((accepted, ended))


def test_a_sync_is_in_the_log_with_its_folder_and_counts(guarded, enter, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "file").write_text("the contents")
    token = guarded.token("sync")
    done = enter(token).sync(source, str(target), raise_error=True)
    (synced,) = guarded.lines(event="synced", token=token.name)
    assert (synced["written"], synced["deleted"], synced["problems"]) == (1, 0, 0)
    assert synced["tree"] == done.value.digest
    assert len(synced["tree"]) == 64
    opened = guarded.lines(
        command="sync", step="open_target", session=synced["session"]
    )
    assert [one["root"] for one in opened] == [str(target)]
    assert "the contents" not in str(guarded.lines(token=token.name))


def test_no_secret_is_ever_in_the_log(guarded, local):
    local.run("cat", input="typed secret\n")
    text = str(guarded.lines())
    for token in guarded.tokens.listing():
        assert token.secret not in text
    assert "typed secret" not in text
    assert guarded.lines(token="local", event="connected")


def test_who_kills_the_worker_by_a_command_is_in_its_log(start_worker):
    victim = start_worker("victim")
    pid = victim.process.pid
    with raw_client(victim) as client:
        client.send(Request(1, "first", "run", {"command": ["sleep", "60"]}))
        client.send(Request(2, "last", "run", {"command": ["kill", "-9", str(pid)]}))
        victim.process.wait(20)
    found = [one for one in read_audit(victim.state_dir) if one is not None]
    argvs = [one["argv"] for one in found if "argv" in one]
    assert argvs == [["sleep", "60"], ["kill", "-9", str(pid)]]
    second = start_worker("victim")
    with mlepool.ClientPool() as pool, pool.add(f"unix:{second.state_dir}") as conn:
        assert conn.job("first").value.owner == "local"
        assert conn.stop("first", signal="SIGKILL").value.complete

    def ends() -> set[str]:
        found = read_audit(victim.state_dir)
        return {one["job"] for one in found if one and "status" in one}

    wait_until(lambda: "first" in ends())
