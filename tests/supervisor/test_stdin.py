"""What processes read: pipes and terminals, several writers, repeats, the end."""

import os
import re
import sys
import termios

import pytest

from mlepool.supervisor.messages import Fed, Feed, Grown, Resize, Spawned
from mlepool.supervisor.stdin import MAX_WRITERS, Stdin
from tests.conftest import wait_until
from tests.supervisor.conftest import wait_for_output

pytestmark = pytest.mark.real

SIZE = (30, 100)


def pipe() -> tuple[int, Stdin]:
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    return theirs, Stdin(ours)


def test_each_writer_counts_its_own_bytes():
    theirs, stdin = pipe()
    stdin.feed(0, b"one ", end=False, writer="a")
    stdin.feed(0, b"two ", end=False, writer="b")
    stdin.feed(0, b"one ", end=False, writer="a")  # again, after a lost link
    assert stdin.fed == 4
    stdin.feed(2, b"e three", end=True, writer="a")
    assert stdin.fed == 9
    assert os.read(theirs, 99) == b"one two three"
    assert os.read(theirs, 99) == b""
    os.close(theirs)


def test_what_waits_is_not_counted_as_taken_whoever_sent_it():
    theirs, stdin = pipe()
    big = bytes(100_000)
    stdin.feed(0, big, end=False, writer="a")
    taken = stdin.fed
    assert 0 < taken < len(big)
    stdin.feed(0, b"after", end=False, writer="b")
    assert stdin.fed == 0
    stdin.feed(0, big, end=False, writer="a")
    assert stdin.fed <= taken
    while stdin.is_waiting:
        os.read(theirs, 65536)
        stdin.write()
    assert stdin.fed == len(big)
    stdin.feed(0, b"after", end=False, writer="b")
    assert stdin.fed == 5
    os.close(theirs)
    stdin.close()


def test_what_was_taken_stays_taken_after_the_end_and_what_waited_does_not():
    theirs, stdin = pipe()
    stdin.feed(0, b"abc", end=False, writer="a")
    stdin.feed(0, bytes(100_000), end=False, writer="b")
    stdin.close()
    assert stdin.fed < 100_000
    stdin.feed(0, b"abc", end=False, writer="a")
    assert stdin.fed == 3
    os.close(theirs)


def test_writers_are_remembered_up_to_a_bound():
    theirs, stdin = pipe()
    for number in range(MAX_WRITERS + 1):
        stdin.feed(0, b"x", end=False, writer=str(number))
    with pytest.raises(ValueError, match="stdin is at 0, not at 1"):
        stdin.feed(1, b"x", end=False, writer="0")
    stdin.feed(0, b"x", end=False, writer=str(MAX_WRITERS))
    assert len(os.read(theirs, 99_999)) == MAX_WRITERS + 1
    os.close(theirs)
    stdin.close()


# -- terminals


@pytest.mark.parametrize(
    ("text", "ends"), [(b"", 1), (b"line\n", 1), (b"half", 2), (b"line\r", 1)]
)
def test_a_terminals_input_ends_by_its_character(text, ends):
    ours, its = os.openpty()
    os.set_blocking(ours, False)
    attributes = termios.tcgetattr(its)
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    attributes[6][termios.VEOF] = b"\x05"
    termios.tcsetattr(its, termios.TCSANOW, attributes)
    stdin = Stdin(os.dup(ours), is_terminal=True)
    stdin.feed(0, text, end=True)
    stdin.feed(0, text, end=True)  # again
    assert not stdin.is_open
    assert os.read(its, 99) == text.replace(b"\r", b"\n") + b"\x05" * ends
    os.close(its)
    os.close(ours)


def test_a_job_at_a_terminal_has_one_of_its_own(line, supervisor):
    code = (
        "import os, sys; "
        "print(os.isatty(0), os.isatty(1), os.isatty(2), os.ttyname(0)); "
        "print(os.tcgetpgrp(0) == os.getpid(), open('/dev/tty').isatty()); "
        "print('odd', file=sys.stderr); print(os.get_terminal_size(), end='')"
    )
    line.spawn("job", f'exec {sys.executable} -c "{code}"', terminal=SIZE)
    assert line.outcome("job").exit_code == 0
    text = supervisor.output("job")["stdout"].decode()
    assert re.fullmatch(
        r"True True True /dev/pts/\d+\r\nTrue True\r\nodd\r\n.*columns=100, lines=30\)",
        text,
    )
    assert supervisor.output("job")["stderr"] == b""


def test_what_is_typed_is_echoed_and_read_and_ended(line, supervisor):
    line.spawn("job", "cat; echo end", terminal=SIZE)
    line.send(Feed("job", 0, b"abc\n"))
    assert line.wait_for(Fed).offset == 4
    wait_for_output(supervisor, "job", b"abc\r\nabc\r\n")
    line.send(Feed("job", 4, b"", end=True), Feed("job", 4, b"", end=True))
    assert line.outcome("job").exit_code == 0
    assert supervisor.output("job")["stdout"] == b"abc\r\nabc\r\nend\r\n"


def test_ctrl_c_interrupts_who_is_in_the_foreground(line, supervisor):
    # A child that has not become another program yet would take the signal for itself.
    command = "trap 'echo caught; exit 7' INT; echo on; while :; do sleep 0.1; done"
    line.spawn("job", command, terminal=SIZE)
    wait_for_output(supervisor, "job", b"on\r\n")
    line.send(Feed("job", 0, b"\x03"))
    assert line.outcome("job").exit_code == 7
    assert supervisor.output("job")["stdout"] == b"on\r\n^Ccaught\r\n"


def test_another_size_is_told_to_who_runs_there(line, supervisor):
    command = "trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done"
    line.spawn("job", command, terminal=SIZE)
    wait_for_output(supervisor, "job", b"30 100\r\n")
    line.send(Resize("job", 40, 120), Resize("job", 40, 120), Resize("nobody", 1, 1))
    wait_for_output(supervisor, "job", b"30 100\r\n40 120\r\n")


def test_a_job_with_pipes_is_not_resized(line, supervisor):
    line.spawn("job", "read x; echo $x", stdin=True)
    line.send(Resize("job", 40, 120), Feed("job", 0, b"well\n"))
    assert line.outcome("job").exit_code == 0
    assert supervisor.output("job")["stdout"] == b"well\n"


def test_output_of_a_terminal_comes_whole_to_its_end(line, supervisor):
    line.spawn("job", "seq 100000", terminal=SIZE)
    assert line.outcome("job").exit_code == 0
    text = b"".join(b"%d\r\n" % number for number in range(1, 100_001))
    assert supervisor.output("job")["stdout"] == text


def test_who_closes_its_terminal_has_no_more_input(line):
    line.spawn("job", "echo on; exec <&- >&- 2>&- sleep 60", terminal=SIZE)
    line.wait_for(Spawned, "job")
    line.wait_for(Grown, "job")
    offset = 0
    while True:
        line.send(Feed("job", offset, b"x"))
        fed = line.wait_for(Fed)
        if fed.closed:
            break
        offset = fed.offset


def test_a_terminals_job_that_cannot_be_started_leaves_nothing_open(line, supervisor):
    folder = f"/proc/{supervisor.process.pid}/fd"
    before = len(os.listdir(folder))
    for number in range(3):
        line.spawn(f"job{number}", "true", terminal=SIZE, cwd="/nowhere")
        failure = line.outcome(f"job{number}").failure
        assert failure is not None
        assert failure.type_name == "FileNotFoundError"
    for number in range(3):
        line.spawn(f"well{number}", "true", terminal=SIZE)
        assert line.outcome(f"well{number}").exit_code == 0
    line.spawn("last", "true")
    line.outcome("last")
    # What was written is made safe, and then closed, a little later.
    wait_until(lambda: len(os.listdir(folder)) <= before + 2)
