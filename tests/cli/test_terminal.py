"""mlepool run -t and -i: a real terminal session, over links that break; our stdin."""

import re
import signal
import subprocess
import sys
import termios

import pytest

import mlepool as package
from mlepool.cli.terminal import Escapes
from mlepool.testing.proxy import FaultProxy
from tests.cli.shell import LIMIT, MLEPOOL
from tests.cli.terminals import at_terminal
from tests.conftest import wait_until
from tests.needs import need_program

pytestmark = pytest.mark.real


def is_left(text: str) -> str:
    found = re.search(r"job (\w{16}) goes on", text)
    assert found, text
    return found[1]


# -- keys


@pytest.mark.parametrize(
    ("typed", "sent", "has_left"),
    [
        ([b"ls\r~."], b"ls\r", True),
        ([b"~."], b"", True),
        ([b"~", b"."], b"", True),
        ([b"a~."], b"a~.", False),
        ([b"~~."], b"~.", False),
        ([b"~x\r~", b"~\r"], b"~x\r~\r", False),
        ([b"~\r~."], b"~\r", True),
    ],
)
def test_enter_tilde_dot_leaves(typed, sent, has_left):
    escapes = Escapes()
    assert b"".join(escapes.take(one) for one in typed) == sent
    assert escapes.has_left == has_left


# -- a session


def test_it_is_a_terminal_with_the_size_type_and_keys_of_ours(host):
    wait = "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.02; done; echo resized"
    # A signal between fork and exec of one long sleep would wait for its end.
    naps = "while :; do sleep 0.1; done"
    command = f"tty; stty size; echo $TERM; read x; {wait}; {naps}"
    with at_terminal(
        "run", "-t", "-H", host, "--", f"trap 'exit 9' INT; {command}"
    ) as here:
        here.wait_for(r"Enter ~ \. to leave.*/dev/pts/\d+\r\n30 100\r\nxterm\r\n")
        here.type("x\r")
        here.wait_for("x\r\n")
        termios.tcsetwinsize(here.its, (40, 120))  # and so SIGWINCH
        here.wait_for("resized\r\n")
        here.type("\x03")
        here.wait_for(r"\^C")
        assert here.end() == 9


def test_the_exit_status_is_the_commands(host):
    with at_terminal("run", "-t", "-H", host, "--", "kill -TERM $$") as here:
        assert here.end() == 128 + signal.SIGTERM
    with at_terminal("run", "-t", "-H", host, "--", "/no/such", "x") as here:
        assert here.end() == 127
        assert "No such file" in here.seen


def test_tilde_dot_leaves_the_job_and_says_how_to_come_back(host):
    with at_terminal("run", "-t", "-H", host, "--", "cat") as here:
        here.wait_for("leave the job running")
        here.type("one\r~.")
        assert here.end() == 0
        job_id = is_left(here.seen)
    with package.ClientPool() as pool, pool.add(host) as conn:
        live = conn.attach(job_id)
        assert live.status == "RUNNING"
        live.send_input("two\n")
        live.close_input()
        assert live.wait().stdout == "one\r\none\r\ntwo\r\ntwo\r\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_restores_the_terminal_and_leaves_the_job(number, host):
    with at_terminal("run", "-t", "-H", host, "--", "echo on; cat") as here:
        here.wait_for("on\r\n")
        assert not here.is_restored()
        here.process.send_signal(number)
        assert here.end() == 128 + number
        job_id = is_left(here.seen)
    with package.ClientPool() as pool, pool.add(host) as conn:
        assert conn.stop(job_id).value.complete


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-t",), "stdin and stdout must be a terminal"),
        (("-t", "--detach"), "it goes with one host"),
        (("-t", "-H", "other"), "it goes with one host"),
    ],
)
def test_what_can_be_no_session_is_refused(arguments, complaint, here):
    host = "localhost:1"
    done = here("run", "-H", host, *arguments, "--", "true")
    assert (done.status, done.out) == (2, "")
    assert complaint in " ".join(done.err.split())


# -- over links that break

FULL_SCREEN = r"""
import sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
typed = b""
sys.stdout.write("\x1b[?1049h\x1b[H\x1b[J"); sys.stdout.flush()
while not typed.endswith(b"q"):
    typed += sys.stdin.buffer.raw.read(1)
    sys.stdout.write(f"\x1b[Htyped <{typed.decode()}>"); sys.stdout.flush()
sys.stdout.write("\x1b[?1049l"); sys.stdout.flush()
termios.tcsetattr(0, termios.TCSADRAIN, before)
print("all:", typed.decode())
"""


def test_keys_typed_while_the_link_is_cut_arrive_once_after_it(worker):
    with FaultProxy(worker.port) as proxy:
        host = f"localhost:{proxy.port}"
        command = (sys.executable, "-c", FULL_SCREEN)
        with at_terminal("run", "-t", "-H", host, "--", *command) as here:
            here.wait_for(r"\x1b\[J")  # it is in raw mode by now
            here.type("a")
            here.wait_for("typed <a>")
            proxy.refuse()
            proxy.cut()
            here.wait_for("lost the link")
            for key in "bcdef":
                here.type(key)
            proxy.accept()
            here.wait_for("connected to .* again")
            here.wait_for("typed <abcdef>")
            here.type("q")
            here.wait_for("all: abcdefq\r\n")
            assert here.end() == 0


def test_a_link_that_is_cut_in_the_middle_of_vim(worker, tmp_path):
    need_program("vim")
    file = tmp_path / "text"
    with FaultProxy(worker.port) as proxy:
        host = f"localhost:{proxy.port}"
        vim = ("vim", "-u", "NONE", "-N", "-n", str(file))
        with at_terminal("run", "-t", "-H", host, "--", *vim) as here:
            here.wait_for(r"\[New")
            here.type("ione")
            here.wait_for("INSERT")
            proxy.refuse()
            proxy.cut()
            here.wait_for("lost the link")
            here.type(" two")
            proxy.accept()
            here.wait_for("connected to .* again")
            here.wait_for("one")  # the screen is painted anew, how is up to vim
            here.type("\x1b:wq\r")
            assert here.end() == 0
    assert file.read_text() == "one two\n"


# -- without a terminal


def test_our_stdin_is_fed_to_each_host(host, other):
    data = "".join(f"{number}\n" for number in range(200_000))
    for hosts, times in ((host, 1), (f"{host},{other}", 2)):
        done = subprocess.run(
            [*MLEPOOL, "run", "-i", "-H", hosts, "--", "cksum"],
            input=data,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        expected = subprocess.run(
            ["cksum"], input=data, capture_output=True, text=True, check=True
        )
        assert done.stdout.count(expected.stdout) == times
        assert (done.returncode, done.stderr) == (0, "")


def test_a_host_that_does_not_read_on_does_not_hold_up_the_others(host, other):
    data = "x" * 5_000_000
    command = "case $PWD in */other) exit 3;; esac; wc -c"
    done = subprocess.run(
        [*MLEPOOL, "run", "-i", "-H", f"{host},{other}", "--", command],
        input=data,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 3
    assert "5000000" in done.stdout


def test_an_answer_comes_while_stdin_stays_open(host):
    with subprocess.Popen(
        [*MLEPOOL, "run", "-i", "-H", host, "--", "read x; echo got $x; exit 4"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "got one\n"
        wait_until(lambda: process.poll() == 4)
