"""Workers and supervisors of different releases: old ones are understood for ever."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect
import pytest

import mlepool
from mlepool import config
from mlepool.supervisor import journal, messages
from mlepool.supervisor.messages import SOCKET_FILE, Greet, common_version
from mlepool.testing.kill import kill_worker, supervisor_pid
from mlepool.wire import messages as wire_messages, values
from tests.conftest import RunningWorker, wait_until
from tests.supervisor import frozen_v1 as frozen
from tests.supervisor.conftest import RunningSupervisor

UNIONS = [
    (messages.ToSupervisor, frozen.ToSupervisor),
    (messages.FromSupervisor, frozen.FromSupervisor),
]
HOMES = (messages, journal, values, wire_messages, config)
FROZEN = [
    one
    for one in vars(frozen).values()
    if isinstance(one, type) and issubclass(one, msgspec.Struct)
]
NEXT = (
    "import runpy, sys, mlepool.worker.supervision as lines\n"
    "lines.VERSION = 2; lines.OLDEST_VERSION = {}\n"
    "sys.argv = sys.argv[3:]\n"
    "runpy.run_module('mlepool', run_name='__main__', alter_sys=True)"
)


def todays(old: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Find what a frozen struct is called today."""
    found: list[type[msgspec.Struct] | None]
    found = [getattr(home, old.__name__, None) for home in HOMES]
    return next(one for one in found if one is not None)


def shape(kind: msgspec.inspect.Type) -> Any:
    """Give what of a type is seen on the wire: bounds may change, kinds may not."""
    inner = [
        getattr(kind, name)
        for name in ("item_type", "key_type", "value_type")
        if hasattr(kind, name)
    ]
    inner += [*getattr(kind, "item_types", ()), *getattr(kind, "types", ())]
    name = getattr(getattr(kind, "cls", None), "__name__", type(kind).__name__)
    members = tuple(sorted(getattr(kind, "values", ())))
    return name, members, tuple(sorted(map(shape, inner)))


def sample(kind: msgspec.inspect.Type, number: int) -> Any:
    """Make a value of a type that is no default."""
    if isinstance(kind, msgspec.inspect.StructType):
        fields = msgspec.inspect.type_info(kind.cls).fields  # type: ignore[attr-defined]
        return kind.cls(*(sample(one.type, n) for n, one in enumerate(fields, 1)))
    if isinstance(kind, msgspec.inspect.UnionType):
        return sample(kind.types[0], number)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return (sample(kind.item_type, number),)
    if isinstance(kind, msgspec.inspect.TupleType):
        return tuple(sample(one, number) for one in kind.item_types)
    if isinstance(kind, msgspec.inspect.DictType):
        return {sample(kind.key_type, number): sample(kind.value_type, number)}
    if isinstance(kind, msgspec.inspect.LiteralType):
        return kind.values[-1]
    values: dict[type, Any] = {
        msgspec.inspect.IntType: 2 * 1024**2 + number,
        msgspec.inspect.FloatType: number / 64,
        msgspec.inspect.StrType: f"text-{number}",
        msgspec.inspect.BytesType: b"bytes-%d" % number,
        msgspec.inspect.BoolType: True,
        msgspec.inspect.AnyType: ["any", number],
    }
    return values[type(kind)]


def sample_of(kind: type[msgspec.Struct]) -> Any:
    if kind.__name__ == "Resize":
        return kind("text-1", 2, 3)
    if kind.__name__ == "Spawn":
        made = sample(msgspec.inspect.type_info(kind), 0)
        return msgspec.structs.replace(made, terminal=(4, 5))
    return sample(msgspec.inspect.type_info(kind), 0)


def in_places(value: Any) -> Any:
    """Give a struct's values in their places, and those of what is in it."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return info.fields


@pytest.mark.parametrize("old", FROZEN, ids=lambda one: one.__name__)
def test_no_field_has_changed_its_place_name_or_type(old):
    new = todays(old)
    before = fields_of(old)
    after = fields_of(new)
    for then, now in zip(before, after, strict=False):
        assert (now.name, shape(now.type)) == (then.name, shape(then.type))
        assert now.required == then.required
    assert len(after) >= len(before)
    assert not any(one.required for one in after[len(before) :])
    assert new.__struct_config__.array_like


@pytest.mark.parametrize("unions", UNIONS, ids=["to", "from"])
def test_no_tag_is_used_again(unions):
    now, then = (
        {one.__struct_config__.tag: one.__name__ for one in typing.get_args(union)}
        for union in unions
    )
    assert {tag: now.get(tag) for tag in then} == then
    assert len(now) == len(typing.get_args(unions[0]))


def begins_with(later: Any, earlier: Any) -> bool:
    """Tell if it is the same, but for what was appended at any level."""
    if not isinstance(earlier, list | tuple):
        return bool(later == earlier)
    pairs = zip(later, earlier, strict=False)
    return len(later) >= len(earlier) and all(begins_with(*pair) for pair in pairs)


@pytest.mark.parametrize("old", FROZEN, ids=lambda one: one.__name__)
def test_what_either_release_writes_the_other_reads(old):
    new, encode = todays(old), msgspec.msgpack.encode
    said = sample_of(old)
    read = msgspec.msgpack.decode(encode(said), type=new)
    assert begins_with(in_places(read), in_places(said))
    back = msgspec.msgpack.decode(encode(read), type=old)
    assert back == said


@pytest.mark.parametrize("old", FROZEN, ids=lambda one: one.__name__)
def test_what_a_later_release_appends_is_passed_over(old):
    later = msgspec.defstruct(
        "Later", [("news", str, "new"), ("more", list[int], [])], bases=(todays(old),),
        frozen=True, array_like=True, tag=old.__struct_config__.tag,
    )  # fmt: skip
    fields = msgspec.structs.asdict(sample_of(todays(old)))
    said = later(**{**fields, "news": "newer"})
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=old)
    assert in_places(read) == in_places(sample_of(old))


def test_the_newest_common_version_is_spoken():
    assert common_version(Greet(1, 1)) == 1
    assert common_version(Greet(1, 2)) == 1
    assert common_version(Greet(2, 3)) == 0
    assert common_version(Greet(0, 0)) == 0


# -- real processes


class OldSupervisor:
    """Stands before a real supervisor; lets pass what the first release could say.

    Each message is read by the frozen structs and written anew by them, both ways.
    """

    def __init__(self, folder: Path) -> None:
        self.passed: set[str] = set()
        self._real, path = folder / "real.sock", folder / SOCKET_FILE
        path.rename(self._real)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._socks: list[socket.socket] = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                worker, _ = self._listener.accept()
                supervisor = socket.socket(socket.AF_UNIX)
                supervisor.connect(str(self._real))
                self._socks += [worker, supervisor]
                self._move(worker, supervisor, frozen.ToSupervisor)
                self._move(supervisor, worker, frozen.FromSupervisor)

    def _move(self, source: socket.socket, target: socket.socket, kind: Any) -> None:
        def move() -> None:
            with contextlib.suppress(OSError), source.makefile("rb") as file:
                while head := file.read(4):
                    frame = file.read(struct.unpack(">I", head)[0])
                    message = msgspec.msgpack.decode(frame, type=kind)
                    self.passed.add(type(message).__name__)
                    frame = msgspec.msgpack.encode(message)
                    target.sendall(struct.pack(">I", len(frame)) + frame)
                target.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=move, daemon=True).start()

    def close(self) -> None:
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def old_supervisor(tmp_path) -> Iterator[OldSupervisor]:
    """A supervisor of the first release, in the folder of a worker to come."""
    (tmp_path / "old").mkdir()
    running = RunningSupervisor(tmp_path / "old" / "state")
    old = OldSupervisor(running.folder)
    yield old
    old.close()
    running.end()


@pytest.mark.real
def test_todays_worker_is_served_by_a_supervisor_of_the_first_release(
    old_supervisor, tmp_path
):
    worker = RunningWorker(tmp_path / "old")
    try:
        with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
            assert conn.run("echo hi; exit 3").exit_code == 3
            assert conn.run("cat", input="in\n").output == "in\n"
            assert not conn.run(["/no/such/program"]).ok
            live = conn.run("sleep 60", complete=False, orphan_timeout=30)
            report = live.stop()
            assert (report.status, report.complete) == ("STOPPED", True)
            assert live.wait().reason.startswith("stopped by 127.0.0.1:")
            orphan = conn.run("sleep 60", complete=False, orphan_timeout=0.1)
            orphan.close()
            wait_until(lambda: not [1 for x in conn.jobs().value if not x.outcome])
            assert conn.attach(orphan.id).wait().reason == "orphaned"
    finally:
        worker.end()
    expected = {"Greet", "Greeting", "Spawn", "Spawned", "Feed", "Fed", "Stop"}
    assert old_supervisor.passed >= expected | {"Stopped", "JobEnded", "Attend"}


@pytest.mark.real
def test_a_worker_of_the_first_release_is_served_by_todays_supervisor(supervisor):
    line = supervisor.connect()
    line.send(frozen.Greet(environment={b"PATH": os.environb[b"PATH"]}))
    greeting = line.wait_for(messages.Greeting)
    assert (greeting.version, greeting.jobs) == (1, ())
    argv = (b"/bin/sh", b"-c", b"cat; exec sleep 60")
    line.send(frozen.Spawn("job", argv, "cat", "/", {}, stdin=True))
    pid = line.wait_for(messages.Spawned, "job").pid
    line.send(frozen.Feed("job", 0, b"in\n", end=True))
    assert line.wait_for(messages.Fed, "job").offset == 3
    wait_until(lambda: supervisor.output("job")["stdout"] == b"in\n")
    line.send(frozen.Stop("job", "SIGTERM", 5.0, "who"))
    report = line.wait_for(messages.Stopped, "job").report
    assert pid in [one.pid for one in report.signalled]
    outcome = line.outcome("job")
    assert (outcome.status, outcome.reason) == ("STOPPED", "who")
    assert outcome.exit_code == -signal.SIGTERM


@pytest.mark.real
def test_a_job_of_the_first_release_is_served_by_the_next(own_worker):
    script = "while read line; do echo $line; done"
    with mlepool.ClientPool() as pool:
        conn = pool.add(f"unix:{own_worker.state_dir}", reconnect_timeout=0)
        conn.connect()
        live = conn.run(script, stdin=True, complete=False)
        live.send_input("one\n")
        assert live.next() == "one"
        keeper = supervisor_pid(own_worker.state_dir)
        kill_worker(own_worker.state_dir)
    own_worker.end()
    folder = own_worker.state_dir.parent
    upgraded = RunningWorker(folder, within=[sys.executable, "-c", NEXT.format(1)])
    try:
        with mlepool.ClientPool() as pool:
            conn = pool.add("localhost", upgraded.port, name="next")
            conn.connect()
            again = conn.attach(live.id)
            again.send_input("two\n")
            assert [again.next(), again.next()] == ["one", "two"]
            again.close_input()
            assert again.wait().ok
            assert supervisor_pid(own_worker.state_dir) == keeper
            assert conn.run("echo new").output == "new\n"
    finally:
        upgraded.end()


@pytest.mark.real
def test_a_worker_that_shares_no_version_says_so_and_harms_no_job(own_worker):
    with mlepool.ClientPool() as pool, pool.add("localhost", own_worker.port) as conn:
        live = conn.run("cat", stdin=True, complete=False, detach=True)
    keeper = supervisor_pid(own_worker.state_dir)
    own_worker.end()
    folder = own_worker.state_dir.parent
    command = [sys.executable, "-c", NEXT.format(2), sys.executable, "-m", "mlepool"]
    command += ["worker", "--listen=127.0.0.1:0", f"--state-dir={folder / 'state'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"(pid {keeper})" in done.stderr
    assert "2 to 2" in done.stderr
    back = RunningWorker(folder)
    try:
        assert supervisor_pid(own_worker.state_dir) == keeper
        with mlepool.ClientPool() as pool, pool.add("localhost", back.port) as conn:
            assert conn.stop(live.id).value.complete
    finally:
        back.end()
