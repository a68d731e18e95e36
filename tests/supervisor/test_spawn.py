"""Real processes: started, proven to be who they are, found, signalled."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlepool.supervisor import spawn
from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.processes import identify, read_stamp, stamp_of
from mlepool.supervisor.spawn import Started, start
from tests.conftest import children_of

BASE = {b"PATH": os.environb[b"PATH"]}
STATE = Path("/state")
STAMP = stamp_of("job-1", STATE)


def order(*argv: str, cwd: str = "/", stdin: bool = False, **env: str) -> Spawn:
    words = tuple(os.fsencode(one) for one in argv)
    given = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    return Spawn("job-1", words, " ".join(argv), cwd, given, stdin=stdin)


def begin(wish: Spawn) -> Started:
    return start(wish, {**BASE, **wish.env, **STAMP})


def close(started: Started) -> None:
    for fd in (started.stdin, started.stdout, started.stderr):
        if fd >= 0:
            os.close(fd)


def output(started: Started) -> tuple[bytes, bytes, int]:
    """Read both pipes to their ends and reap."""
    texts = []
    for fd in (started.stdout, started.stderr):
        os.set_blocking(fd, True)
        with open(os.dup(fd), "rb") as file:
            texts.append(file.read())
    close(started)
    _, status = os.waitpid(started.pid, 0)
    return texts[0], texts[1], os.waitstatus_to_exitcode(status)


# -- starting


def test_a_process_gets_argv_env_and_cwd_as_data(tmp_path):
    code = "import os, sys; print(sys.argv[1:], os.environ['A'], os.getcwd())"
    words = ["$HOME; 'x' \"y\" *", "", "ü"]
    wish = order(sys.executable, "-c", code, *words, cwd=str(tmp_path), A="$B")
    text, _, status = output(begin(wish))
    assert text.decode() == f"{words} $B {tmp_path}\n"
    assert status == 0


def test_a_process_has_its_own_session_and_its_jobs_stamp():
    started = begin(order("cat", stdin=True))
    os.write(started.stdin, b"in")
    select.select([started.stdout], [], [])  # its environment is there by now
    found = identify(started.pid)
    assert found is not None
    stamp = read_stamp(started.pid)
    os.kill(started.pid, signal.SIGKILL)
    output(started)
    assert (found.session, found.group) == (started.pid, started.pid)
    assert found.parent == os.getpid()
    assert stamp == STAMP
    assert read_stamp(started.pid) == {}  # it is gone


def test_stdin_is_empty_unless_a_pipe_was_asked_for():
    assert output(begin(order("cat"))) == (b"", b"", 0)
    started = begin(order("cat", stdin=True))
    os.write(started.stdin, b"in")
    os.close(started.stdin)
    assert output(started._replace(stdin=-1)) == (b"in", b"", 0)


def test_a_process_inherits_no_descriptor_of_ours(tmp_path):
    with open(tmp_path / "secret", "w"):
        text, _, _ = output(begin(order("ls", "-l", "/proc/self/fd")))
    assert b"secret" not in text


def test_our_ends_of_the_pipes_do_not_block():
    started = begin(order("sleep", "60"))
    with pytest.raises(BlockingIOError):
        os.read(started.stdout, 1)
    os.kill(started.pid, signal.SIGKILL)
    output(started)


@pytest.mark.parametrize(
    ("wish", "error", "filename"),
    [
        (order("no-such-program"), FileNotFoundError, "no-such-program"),
        (order("/etc/passwd"), PermissionError, "/etc/passwd"),
        (order("ls", cwd="/no/such/folder"), FileNotFoundError, "/no/such/folder"),
        (order("ls", cwd="/etc/passwd"), NotADirectoryError, "/etc/passwd"),
        (order("/bin/ls", "x" * 200_000), OSError, "/bin/ls"),
    ],
)
def test_what_cannot_be_started_raises_and_leaves_nothing(wish, error, filename):
    output(begin(order("true")))  # what is opened once for all is open then
    before = os.listdir("/proc/self/fd"), children_of(os.getpid())
    with pytest.raises(error) as caught:
        begin(wish)
    assert os.fsdecode(caught.value.filename) == filename
    assert (os.listdir("/proc/self/fd"), children_of(os.getpid())) == before


@pytest.mark.parametrize(
    "wish", [order("ls", "a\0b"), order("ls", A="a\0b"), order("ls", cwd="/a\0b")]
)
def test_a_nul_is_a_value_error(wish):
    with pytest.raises(ValueError, match="null"):
        begin(wish)


def test_a_process_is_born_between_the_times_that_are_noted():
    started = begin(order("true"))
    found = identify(started.pid)
    output(started)
    assert found is not None
    assert started.born[0] <= found.start_ticks <= started.born[1]


@pytest.mark.parametrize("is_ours", [False, True], ids=["another", "ours"])
def test_a_program_is_found_on_the_path_that_it_will_have(
    tmp_path, monkeypatch, is_ours
):
    def begin_on(path: str) -> Started:
        if is_ours:  # the C library looks then
            monkeypatch.setenv("PATH", path)
            monkeypatch.setattr(spawn, "OWN_PATH", os.fsencode(path))
        return begin(order("tool", cwd=str(tmp_path), PATH=path))

    (tmp_path / "folder/tool").mkdir(parents=True)
    for folder, mode in (("denied", 0o644), ("good", 0o755)):
        (tmp_path / folder).mkdir()
        script = tmp_path / folder / "tool"
        script.write_text(f"#!/bin/sh\necho {folder}\n")
        script.chmod(mode)
    # Relative to where it runs, as execvp(3) has it.
    text, _, _ = output(begin_on("nowhere:folder:denied:good:/bin"))
    assert text == b"good\n"
    for path, error in (("denied:/bin", PermissionError), ("/bin", FileNotFoundError)):
        with pytest.raises(error) as caught:
            begin_on(path)
        assert caught.value.filename == b"tool"
    assert Path.cwd() != tmp_path


def test_who_looks_for_a_program_is_the_c_library_where_the_path_is_ours(monkeypatch):
    looked: list[object] = []
    real = os.access

    def access(path, mode):
        looked.append(path)
        return real(path, mode)

    monkeypatch.setattr(os, "access", access)
    path = os.environ["PATH"]
    output(begin(order("true")))
    assert looked == []
    output(begin(order("true", PATH=f"{path}:/nowhere")))
    assert looked != []


def test_a_process_heeds_what_python_ignores():
    text, _, _ = output(begin(order("grep", "SigIgn", "/proc/self/status")))
    ignored = int(text.split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored >> (number - 1) & 1


def test_a_process_ignores_what_its_starter_was_told_to_ignore():
    script = """
import os, signal
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, lambda *_: None)
from mlepool.supervisor.messages import Spawn
from mlepool.supervisor.spawn import start
argv = (b"/bin/grep", b"SigIgn", b"/proc/self/status")
started = start(Spawn("job-1", argv, "grep", "/", {}), {})
os.waitpid(started.pid, 0)
print(os.read(started.stdout, 100).decode())
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE)
    ignored = int(done.stdout.split()[1], 16)
    assert ignored >> (signal.SIGQUIT - 1) & 1
    assert not ignored >> (signal.SIGHUP - 1) & 1
