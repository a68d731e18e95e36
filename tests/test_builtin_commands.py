"""The built-in commands of a real worker, and Conplyent's documented examples."""

import contextlib
import datetime
import getpass
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.kill import alive
from mlepool.testing.proxy import FaultProxy
from mlepool.wire.messages import Ended, Request
from mlepool.worker.access.tokens import Token, TokenStore
from mlepool.worker.threads import MAX_THREADS
from tests.conftest import RunningWorker
from tests.needs import mounted, need_program, need_root
from tests.raw import raw_client

pytestmark = pytest.mark.real

SECRET = "c0ffee" * 10


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[RunningWorker]:
    """A worker whose host can be rebooted without harm."""
    folder = tmp_path_factory.mktemp("host")
    note = folder / "called"
    (folder / "bin").mkdir()
    program = folder / "bin/systemctl"
    program.write_text(f'#!/bin/sh\necho "$*" >> {note}\n')
    program.chmod(0o755)
    (folder / "home").mkdir()
    (folder / "token").write_text("worth nothing")
    path = f"{program.parent}:{os.environ['PATH']}"
    running = RunningWorker(
        folder, PATH=path, HOME=str(folder / "home"), SOME_TOKEN="hush"
    )
    token = Token("ci", SECRET, ("view", "run", "sync"), created=time.time())
    TokenStore(running.state_dir).create(token)
    yield running
    running.end()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of the test's own, where the connection begins."""
    work: Path = tmp_path / "work"
    work.mkdir()
    return work


@pytest.fixture
def conn(host, folder) -> Iterator[mlepool.Connection]:
    with mlepool.ClientPool() as pool, pool.add("localhost", host.port) as conn:
        conn.cd(str(folder))
        yield conn


@contextlib.contextmanager
def guest(host) -> Iterator[mlepool.Connection]:
    """Connect as somebody who is no admin."""
    with (
        mlepool.ClientPool() as pool,
        pool.add("127.0.0.1", host.port, token=SECRET, name="guest") as conn,
    ):
        yield conn


# -- a folder of one's own


def test_relative_paths_count_from_the_connection_s_folder(conn, folder):
    conn.mkdirs("a/b")
    assert conn.cd("a").value == str(folder / "a")
    assert conn.cwd().value == str(folder / "a")
    assert conn.run("pwd").stdout == conn.exec(["pwd"]).stdout == f"{folder}/a\n"
    assert conn.run("pwd", cwd="b").stdout == f"{folder}/a/b\n"
    assert conn.ls().value.names == ["b"]
    conn.put(b"content", "file")
    assert conn.get("file").value == b"content"
    (folder / "here").mkdir()
    (folder / "here/x").write_text("x")
    assert conn.sync(folder / "here", "there").ok
    assert (folder / "a/there/x").exists()
    assert conn.run("cat x", sync=(folder / "here", "run")).stdout == "x"
    assert (folder / "a/run/x").exists()
    conn.cd("..")
    assert conn.cwd().value == str(folder)


def test_a_folder_is_one_connection_s_alone_and_outlives_links(host, folder):
    with FaultProxy(host.port) as proxy, mlepool.ClientPool() as pool:
        one = pool.add("127.0.0.1", proxy.port, name="one")
        other = pool.add("127.0.0.1", proxy.port, name="other")
        pool.connect()
        at_first = other.cwd().value
        one.cd(str(folder))
        assert other.cwd().value == at_first == str(host.state_dir.parent)
        proxy.cut()
        assert one.run("pwd").stdout == f"{folder}\n"
        one.disconnect()
        one.connect()
        assert one.cwd().value == str(folder)


def test_a_folder_that_can_not_be_entered_changes_nothing(conn, folder):
    for call in (
        lambda: conn.cd("none"),
        lambda: conn.cd("none", complete=False).wait(),
    ):
        assert isinstance(call().error, FileNotFoundError)
    assert conn.cwd().value == str(folder)


# -- files


def test_files_are_written_read_and_looked_at(conn, folder):
    info = conn.write("notes.txt", "one\ntwo\nthree\n").value
    assert (info.kind, info.size, info.path) == ("file", 14, f"{folder}/notes.txt")
    assert conn.read("notes.txt").value == "one\ntwo\nthree\n"
    assert conn.read("notes.txt", tail=1).value == "three\n"
    assert conn.read("notes.txt", encoding=None, offset=4, size=3).value == b"two"
    assert conn.rdfile(Path("notes.txt")).value == b"one\ntwo\nthree\n"
    assert conn.wrfile("raw", bytes(range(256))).value.size == 256
    conn.wrfile("raw", b"more", append=True)
    assert conn.read("raw", encoding=None, offset=256).value == b"more"
    assert conn.touch("empty").value.size == 0
    listing = conn.ls().value
    assert isinstance(listing, mlepool.Listing)
    assert listing.names == ["empty", "notes.txt", "raw"]
    assert str(conn.ls()) == str(listing)
    assert isinstance(conn.stat("raw").value, mlepool.FileInfo)
    assert conn.glob("*.txt").value.names == ["notes.txt"]
    conn.mkdir("to")
    assert conn.copy("raw", "to/").value.path == f"{folder}/to/raw"
    assert conn.move("notes.txt", "to/n").value.name == "n"
    values = {"lr": 0.1, "layers": [1, 2]}
    conn.write("config.json", json.dumps(values, indent="\t"))
    assert json.loads(conn.read("config.json").value) == values
    assert conn.rm("to", recursive=True).value == f"{folder}/to"


def test_a_large_file_is_read_in_parts_that_fit(conn, folder):
    content = os.urandom(3_000_001)
    (folder / "large").write_bytes(content)
    assert conn.rdfile("large").value == content
    assert (
        conn.read("large", encoding=None, offset=1, size=2_000_000).value
        == (content[1:2_000_001])
    )
    (folder / "text").write_text("\N{SNOWMAN}" * 700_000)
    assert conn.read("text", complete=False).wait().value == "\N{SNOWMAN}" * 700_000
    with pytest.raises(ValueError, match=r"not utf-8 text.*encoding=None"):
        conn.read("large", raise_error=True)
    with pytest.raises(ValueError, match=r"put\(\)"):
        conn.write("large", content)
    with open(folder / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"get\(\)"):
        conn.read("huge", raise_error=True)
    assert conn.read("huge", encoding=None, size=10).value == bytes(10)


def test_a_large_folder_is_listed_whole(conn, folder):
    names = [f"file number {number:05} with a long name" for number in range(3000)]
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT))
    listing = conn.ls().value
    assert listing.names == names
    assert listing.more == b""
    assert conn.glob("file*").value.names == names


def test_names_that_are_no_text_are_told_and_taken(conn, folder):
    open(os.fsencode(folder) + b"/\xff", "w").close()
    (entry,) = conn.ls().value
    assert (entry.raw, entry.name, entry.path) == (
        b"\xff",
        "\udcff",
        f"{folder}/\udcff",
    )
    assert conn.stat(entry.name).value.path == entry.path
    conn.move(entry.raw, "sub\udcfe", raise_error=True)
    conn.write("sub\udcfe", "text")
    assert conn.read(Path(folder, "sub\udcfe")).value == "text"
    assert conn.run(["cat", "sub\udcfe"]).stdout == "text"
    (entry,) = conn.glob("sub*").value
    assert conn.get(entry.path).value == b"text"
    assert "'sub\\udcfe'" in str(conn.ls())
    conn.rm(entry.path, raise_error=True)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("direction", ["to_worker", "to_client"])
def test_what_changes_files_is_done_once_over_links_that_are_cut(
    host, folder, direction
):
    path = host.state_dir.parent / f"proxy-{direction}"
    listening = FaultProxy(host.state_dir / "worker.sock", listen=path)
    with listening as proxy, mlepool.ClientPool() as pool:
        conn = pool.add(proxy.address)
        conn.connect()
        conn.cd(str(folder))
        before = proxy.forwarded(direction)
        conn.write("log", "once\n", append=True)
        size = proxy.forwarded(direction) - before
        for count, place in enumerate(range(0, size + 1, 10), 2):
            proxy.cut(after_bytes=place, direction=direction)
            assert conn.write("log", "once\n", append=True).value.size == 5 * count
        content = os.urandom(2_000_000)
        (folder / "large").write_bytes(content)
        proxy.cut(after_bytes=1_000_000, direction="to_client")
        assert conn.rdfile("large").value == content
        assert proxy.cuts > size // 20


def test_what_a_worker_before_may_have_done_is_not_done_again(host, folder):
    arguments = {"path": str(folder / "new")}
    with raw_client(host) as client:
        for number, age in ((1, 1e6), (2, 0.0)):
            job_id = f"{number:016x}"
            client.send(Request(number, job_id, "mkdir", arguments, age=age))
            outcome = client.wait_for(Ended).outcome
            status = "LOST" if age else "SUCCEEDED"
            assert (outcome.status, (folder / "new").exists()) == (status, not age)


def test_errors_are_those_of_python(conn, folder):
    (folder / "file").touch()
    for call, error in (
        (lambda: conn.read("none", raise_error=True), FileNotFoundError),
        (lambda: conn.ls("none", raise_error=True), FileNotFoundError),
        (lambda: conn.mkdir("file", raise_error=True), FileExistsError),
        (lambda: conn.read(".", raise_error=True), IsADirectoryError),
        (lambda: conn.cd("file", raise_error=True), NotADirectoryError),
    ):
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value, mlepool.RemoteError)
        assert caught.value.filename.startswith(str(folder))


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[Path]:
    """Mount a file system on which every change waits for as long as this lasts."""
    need_root()
    make, freeze = need_program("mkfs.ext4"), need_program("fsfreeze")
    image = folder / "image"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    subprocess.run([make, "-q", str(image)], check=True)
    with mounted(folder / "disk", ["-o", "loop", str(image)]) as disk:
        subprocess.run([freeze, "-f", str(disk)], check=True)
        try:
            yield disk
        finally:
            subprocess.run([freeze, "-u", str(disk)], check=True)


def test_a_disk_that_hangs_holds_up_nobody(host, conn, tmp_path):
    with mlepool.ClientPool() as pool, pool.add("localhost", host.port) as greedy:
        with frozen(tmp_path) as disk:
            stuck = [conn.write(f"{disk}/0", "x", complete=False)]
            with pytest.raises(mlepool.CommandTimeoutError):
                conn.mkdir(f"{disk}/folder", timeout=0.1)
            for number in range(1, 2 * MAX_THREADS):
                path = f"{disk}/{number}"
                stuck.append(greedy.write(path, "x", complete=False))
            assert conn.ls().ok
            assert conn.run("echo well").stdout == "well\n"
            assert greedy.run("echo well").stdout == "well\n"
            tasks = f"/proc/{host.process.pid}/task"
            assert MAX_THREADS < len(os.listdir(tasks)) < 2 * MAX_THREADS
            assert not [one for one in stuck if one.status != "RUNNING"]
        assert all(one.wait(10).ok for one in stuck)


def test_the_worker_s_secrets_are_for_admins(host, folder):
    with guest(host) as conn:
        for name in ("token", "tokens.json", "key.pem", "../state/token"):
            path = str(host.state_dir / name)
            for call in (conn.read, conn.ls, conn.rm, lambda p: conn.write(p, "x")):
                assert isinstance(call(path).error, PermissionError)
        assert isinstance(conn.ls(str(host.state_dir)).error, PermissionError)
        assert isinstance(
            conn.copy(
                str(host.state_dir.parent), str(folder / "x"), recursive=True
            ).error,
            PermissionError,
        )
        assert conn.env().value["SOME_TOKEN"] == "(hidden)"
        assert conn.read(str(host.state_dir.parent / "token")).value == "worth nothing"
    with mlepool.ClientPool() as pool, pool.add("localhost", host.port) as conn:
        assert conn.read(str(host.state_dir / "token")).value == f"{host.token()}\n"
        assert conn.env().value["SOME_TOKEN"] == "hush"


# -- jobs and the host


def test_jobs_are_asked_about_and_killed(conn):
    job = conn.exec("trap '' INT TERM; sleep 60 & wait", complete=False)
    assert conn.is_alive(job.id).value is True
    report = conn.kill(job.id).value
    assert report.complete
    assert report.signalled[0].signal == "SIGKILL"
    assert job.wait().status == "STOPPED"
    assert conn.is_alive(job.id).value is False
    assert isinstance(conn.is_alive("0" * 16).error, LookupError)
    typing = conn.exec(["cat"], stdin=True, complete=False)
    conn.send_input(typing.id, "typed\n", end=True)
    assert typing.wait().stdout == "typed\n"
    assert job.id in {one.id for one in conn.jobs().value}


def test_the_host_is_described(conn, host):
    assert conn.user_name().value == getpass.getuser()
    assert isinstance(conn.os_info().value, mlepool.OsInfo)
    assert conn.os_info().value.system == "linux"
    assert isinstance(conn.get_time().value, datetime.datetime)
    assert conn.env().value["PATH"].startswith(str(host.state_dir.parent / "bin"))
    assert conn.which("systemctl").value == str(host.state_dir.parent / "bin/systemctl")
    assert conn.which("no-such-program").value is None
    assert conn.cd().value == str(host.state_dir.parent / "home")


def test_a_sleep_has_an_end_and_a_timeout(conn):
    sleeping = conn.sleep(60, complete=False)  # returns once it has begun
    assert sleeping.status == "RUNNING"
    sleeping.close()
    assert conn.sleep(0.01).ok
    with pytest.raises(mlepool.CommandTimeoutError):
        conn.sleep(60, timeout=0.05)


def test_the_host_is_rebooted_and_shut_down_by_admins_only(host):
    called = host.state_dir.parent / "called"
    with guest(host) as conn:
        for call in (conn.reboot, conn.shutdown, conn.close_server):
            with pytest.raises(mlepool.PermissionDeniedError, match="admin"):
                call(raise_error=True)
    assert not called.exists()
    with mlepool.ClientPool() as pool, pool.add("localhost", host.port) as conn:
        assert conn.reboot(raise_error=True).value.endswith("systemctl reboot")
        assert conn.shutdown(raise_error=True).value.endswith("systemctl poweroff")
    assert called.read_text() == "reboot\npoweroff\n"


def test_a_closed_worker_drains_and_its_jobs_go_on(own_worker, start_worker):
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", own_worker.port)
        conn.connect()
        job = conn.run("echo begun; sleep 60", complete=False, detach=True)
        assert next(iter(job)) == "begun"
        pid = conn.job(job.id).value.pid
        waiting = conn.sleep(0.3, complete=False)
        assert [one.id for one in conn.close_server().value] == [job.id]
        refused = conn.run("echo too late")
        assert isinstance(refused.error, mlepool.MlepoolError)
        assert "about to end" in str(refused.error)
        assert waiting.wait().ok
        assert own_worker.process.wait(10) == 0
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)


# -- what Conplyent's documentation shows, with `add` replaced


def test_example_add_connect_and_close(host):
    connection = mlepool.add("localhost", port=host.port)
    connection.connect(timeout=240)  # "users should always": here the first call does
    assert connection.exec("echo hi")[0] == "hi"
    connection.disconnect()
    connection.connect()
    assert connection.cwd().ok
    connection.close()
    with pytest.raises(mlepool.ConnectionClosedError):
        connection.cwd()
    mlepool.pool.remove(connection.name)


def test_example_a_scope_connects_and_closes(host):
    with mlepool.add(
        "localhost", port=host.port, enter_connect_timeout=240
    ) as connection:
        assert connection.is_connected
        assert connection.heartbeat() is True
    assert connection.is_closed
    assert connection.heartbeat() is False
    mlepool.pool.remove(connection.name)


def test_example_complete_gives_the_output_or_a_listener(conn):
    output = conn.exec("echo one; echo two")
    assert list(output) == ["one", "two"]
    listener = conn.exec("echo one; read x; echo $x", stdin=True, complete=False)
    assert not listener.done
    assert listener.next() == "one"
    listener.send_input("two\n")
    assert (listener.next(), listener.next(), listener.next()) == ("two", None, None)
    assert listener.done
    with conn.exec("echo hi", complete=False) as listener:
        assert listener.next() == "hi"


def test_example_a_listener_gives_messages_as_they_come(conn):
    listener = conn.exec(
        "for i in 1 2 3; do echo $i; read x; done", stdin=True, complete=False
    )
    messages = []
    for msg in iter(listener.next, None):
        messages.append(msg)  # the next one is not there before it is asked for
        listener.send_input("go on\n")
    assert messages == ["1", "2", "3"]
    assert listener.exit_code is not None


def test_example_timeout_limits_the_command(conn):
    with pytest.raises(mlepool.CommandTimeoutError):
        conn.exec("sleep 60", timeout=0.2)


def test_example_echo_response_prints(conn):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        conn.exec("echo one; echo two", echo_response=True)
    assert out.getvalue() == "one\ntwo\n"


def test_example_max_interval_limits_the_silence(conn):
    listener = conn.exec("echo hi; sleep 60", complete=False, max_interval=0.2)
    assert listener.next() == "hi"
    with pytest.raises(mlepool.ClientError):
        listener.next()
    listener.max_interval = 0.05
    with pytest.raises(mlepool.ListenerTimeoutError):
        listener.next()
    assert listener.status == "RUNNING"
    listener.stop("SIGKILL")


def test_example_raise_error_raises_what_the_server_raised(conn):
    with pytest.raises(FileNotFoundError):
        conn.cd("no such folder", raise_error=True)
    with pytest.raises(FileNotFoundError):
        conn.exec(["no-such-program"], raise_error=True)
    assert isinstance(conn.cd("no such folder").error, FileNotFoundError)


def test_example_transfer_sends_a_file(conn, folder, tmp_path):
    (tmp_path / "file").write_bytes(b"\0binary\n" * 1000)
    conn.transfer(str(tmp_path / "file"), "some/where/file")
    assert (folder / "some/where/file").read_bytes() == b"\0binary\n" * 1000


def test_every_command_of_conplyent_s_server_is_there(conn):
    theirs = (
        "cd close_server cwd exec get_time is_alive jobs kill ls mkdir mkdirs os_info "
        "rdfile reboot rm send_input shutdown sleep touch user_name wrfile transfer"
    )
    assert not set(theirs.split()) - set(conn.server_methods())
