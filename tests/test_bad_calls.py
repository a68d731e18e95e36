"""What users mistype, and output that is much or odd, against a real worker."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlepool
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("command", "keywords", "kind"),
    [
        (["ls", "a\0b"], {}, ValueError),
        ("echo a\0b", {}, ValueError),
        (["no-such-program"], {}, FileNotFoundError),
        (["/no/such/program"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["/"], {}, PermissionError),
        ([""], {}, (FileNotFoundError, PermissionError)),
        (["ls"], {"cwd": "/no/such/folder"}, FileNotFoundError),
        (["ls"], {"cwd": "/etc/passwd"}, NotADirectoryError),
        (["ls"], {"cwd": "a\0b"}, ValueError),
        (["ls"], {"env": {"A": "a\0b"}}, ValueError),
        (["ls"], {"env": {"A=B": "c"}}, ValueError),
        (["ls", "x" * 200_000], {}, OSError),
        ("", {}, ValueError),
        ([], {}, ValueError),
        (["ls", 7], {}, TypeError),
        (["ls", None], {}, TypeError),
        (["ls", ["-l"]], {}, TypeError),
        (7, {}, TypeError),
        (None, {}, TypeError),
        (["ls"], {"env": {"A": 7}}, TypeError),
        (["ls"], {"env": {"A": None}}, TypeError),
        (["ls"], {"env": {7: "A"}}, TypeError),
        (["ls"], {"env": "A=B"}, TypeError),
        (["ls"], {"cwd": 7}, TypeError),
        (["ls"], {"stdin": "yes"}, TypeError),
    ],
)
def test_a_wrong_run_is_of_the_matching_type_and_failed(
    conn, command, keywords, *, kind
):
    with pytest.raises(kind):
        conn.run(command, raise_error=True, **keywords)
    try:
        listener = conn.run(command, **keywords)
    except (TypeError, ValueError):
        return  # known here already: nothing was sent
    assert (listener.status, listener.ok, listener.exit_code) == ("FAILED", False, None)
    assert isinstance(listener.error, kind)
    assert isinstance(listener.error, mlepool.RemoteError)
    assert str(listener.error)


def test_a_command_too_long_for_a_message_is_said_here(conn):
    with pytest.raises(
        ValueError, match=r"run\(\): command takes 11\d+ bytes; .* fit in 1048576"
    ):
        conn.run(["ls", *["x" * 1000] * 1100])
    with pytest.raises(ValueError, match=r"run\(\): env takes 20000\d\d bytes"):
        conn.run("true", env={"A": "x" * 2_000_000})
    assert conn.run(["true", *["x" * 1000] * 900]).ok


def test_os_errors_have_their_number_and_file(conn):
    error = conn.run(["ls"], cwd="/no/such/folder").error
    assert (error.errno, error.filename) == (2, "/no/such/folder")
    error = conn.run(["/etc/passwd"]).error
    assert (error.errno, error.filename) == (13, "/etc/passwd")


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"nope": 1}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"max_interval": -0.1}, ValueError),
        ({"max_interval": float("nan")}, ValueError),
        ({"encoding": "nope"}, LookupError),
        ({"encoding": "rot13"}, LookupError),
        ({"encoding": 7}, TypeError),
        ({"errors": "nope"}, LookupError),
        ({"on_timeout": "nope"}, ValueError),
        ({"complete": "yes"}, TypeError),
        ({"raise_error": 1}, TypeError),
        ({"input": 7}, TypeError),
        ({"memory": -1}, ValueError),
        ({"command": "twice"}, TypeError),
    ],
)
def test_a_wrong_keyword_is_raised_here_and_starts_nothing(conn, keywords, kind):
    before = len(conn.jobs().value)
    with pytest.raises(kind) as caught:
        conn.run("true", **keywords)
    assert not isinstance(caught.value, mlepool.RemoteError)
    assert len(conn.jobs().value) == before


def test_wrong_calls_of_other_commands_are_raised(conn):
    with pytest.raises(AttributeError, match="did you mean 'get_time'"):
        _ = conn.get_tme
    with pytest.raises(TypeError, match="job_id"):
        conn.stop()
    for wrong, kind in (
        ({"signal": "SIGNOPE"}, ValueError),
        ({"grace": -1}, ValueError),
        ({"grace": float("nan")}, ValueError),
        ({}, LookupError),
    ):
        with pytest.raises(kind):
            conn.stop("nobody", raise_error=True, **wrong)
    with pytest.raises(LookupError):
        conn.attach("nobody")
    with pytest.raises(LookupError):
        conn.attach("../token")


# -- much, and odd, output


def test_utf_8_of_every_width_comes_whole(conn):
    text = "".join(itertools.islice(itertools.cycle("aé€\N{GRINNING FACE}\n"), 60_000))
    assert len(text.encode()) > 120_000
    # Written in pieces of 7 bytes, so that characters are cut everywhere.
    code = "import os, sys; data = sys.stdin.buffer.read()\n"
    code += "for at in range(0, len(data), 7): os.write(1, data[at:at+7])"
    listener = conn.run([sys.executable, "-c", code], input=text)
    assert listener.stdout == text
    assert "\ufffd" not in listener.stdout
    assert "".join(f"{line}\n" for line in listener) == text


def test_what_is_no_utf_8_is_replaced_in_lines_and_whole_in_records(conn):
    data = bytes(range(256)) + b"\n\xff\xfe\n\xe2\x82"
    code = f"import os; os.write(1, {data!r})"
    listener = conn.run([sys.executable, "-c", code])
    assert b"".join(piece for _, _, piece in listener.records()) == data
    assert listener.stdout == data.decode("utf-8", "replace")
    assert "\ufffd\ufffd" in list(listener)
    assert conn.run([sys.executable, "-c", code], encoding=None).stdout == data
    latin = conn.run([sys.executable, "-c", code], encoding="latin-1")
    assert latin.stdout == data.decode("latin-1")


LONG_LINE = """
import resource, sys
import mlepool
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with mlepool.add({url!r}) as conn:
    assert conn.run("head -c 1000000 /dev/zero").ok
    before = peak()
    size, ends, parts = 0, set(), 0
    job = conn.run("head -c 100000000 /dev/zero | tr '\\\\0' x", complete=False)
    for part in job:
        assert part.count("x") == len(part)
        size, parts = size + len(part), parts + 1
        ends.add(part.end)
    print(size, parts, ends == {{""}}, job.exit_code, peak() - before)
"""


def resident(pid: int, what: str = "VmRSS") -> int:
    """Give a process's memory in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"{what}:")[2].split()[0]) * 1024


def test_a_line_of_100_mb_costs_nobody_its_size(own_worker):
    pids = [own_worker.process.pid, own_worker.supervisor_pid()]
    with mlepool.ClientPool() as pool, pool.add(f"unix:{own_worker.state_dir}") as conn:
        conn.run("head -c 1000000 /dev/zero")
    before = [resident(pid, "VmHWM") for pid in pids]
    code = LONG_LINE.format(url=own_worker.read_join_url())
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    size, parts, only_parts, status, grown = done.stdout.split()
    assert (int(size), only_parts, status) == (100_000_000, "True", "0")
    assert int(parts) >= 100_000_000 // (64 * 1024)
    assert int(grown) * 1024 < 48 * 2**20  # 16 MiB held, and as much on the way
    after = [resident(pid, "VmHWM") for pid in pids]
    assert max(b - a for a, b in zip(before, after, strict=True)) < 16 * 2**20


def test_a_thousand_runs_leave_worker_and_supervisor_as_they_were(own_worker):
    pids = [own_worker.process.pid, own_worker.supervisor_pid()]
    with mlepool.ClientPool() as pool, pool.add("127.0.0.1", own_worker.port) as conn:
        run_many(conn, 200)
        before = [resident(pid) for pid in pids]
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
        run_many(conn, 800)
        after = [resident(pid) for pid in pids]
        # Journals are let go of once the disk has them; a control group is kept.
        wait_until(
            lambda: all(
                len(os.listdir(f"/proc/{pid}/fd")) <= count + 5
                for pid, count in zip(pids, files, strict=True)
            )
        )
    assert max(b - a for a, b in zip(before, after, strict=True)) < 1.5 * 2**20
    wait_until(lambda: used_while_idle(own_worker) < 2)  # they come to rest


def run_many(conn: mlepool.Connection, count: int) -> None:
    for _ in range(count // 50):
        jobs = [conn.run(["echo", "hi"], complete=False) for _ in range(50)]
        ends = {(job.wait().status, job.reason, job.stdout) for job in jobs}
        assert ends == {("SUCCEEDED", "", "hi\n")}


def used_while_idle(worker: RunningWorker) -> int:
    """Give the CPU ticks that a worker and its supervisor use in 2 s of idleness."""

    def used() -> int:
        fields = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for pid in (worker.process.pid, worker.supervisor_pid())
        ]
        return sum(int(one[11]) + int(one[12]) for one in fields)

    before = used()
    deadline = time.monotonic() + 2
    wait_until(lambda: time.monotonic() > deadline)
    return used() - before
