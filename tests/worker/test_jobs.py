"""Jobs of real workers: once only, read by many, fed, on a full disk."""

import itertools
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

import mlepool
from mlepool.supervisor.messages import SOCKET_FILE
from mlepool.wire.codec import BULK_DATA, MAX_DATA, Data
from mlepool.wire.messages import Accepted, Attach, Credit, Ended, Leave, Request
from mlepool.wire.records import RecordParser
from mlepool.worker.reader import FIRST_DATA
from tests.conftest import RunningWorker, wait_until
from tests.needs import small_disk, unread
from tests.raw import RawClient, raw_client

pytestmark = pytest.mark.real

PLENTY = 2**40  # bytes of credit


@pytest.fixture
def client(worker) -> Iterator[RawClient]:
    with raw_client(worker) as client:
        yield client


def run(client: RawClient, command: str, call: int = 1, **fields) -> str:
    """Ask for a job; its id."""
    job_id = fields.pop("job_id", None) or secrets.token_hex(8)
    arguments = {"command": command, **fields.pop("arguments", {})}
    window = fields.pop("window", PLENTY)
    client.send(Request(call, job_id, "run", arguments, window, **fields))
    return str(job_id)


def read(client: RawClient, call: int) -> tuple[bytes, Ended]:
    """Read a call's output to its end; what belongs to other calls is passed over."""
    parser, output = RecordParser(), b""
    while True:
        message = client.receive()
        if isinstance(message, Data) and message.call == call:
            output += b"".join(one.data for one in parser.feed(message.payload))
        elif isinstance(message, Ended) and message.call == call:
            return output, message


# -- once only


def test_a_start_is_not_lost_with_the_line_to_the_supervisor(own_worker, tmp_path):
    ran, path = tmp_path / "ran", own_worker.state_dir / SOCKET_FILE
    over = threading.Event()

    def disturb() -> None:
        seen = None
        while not over.wait(0.02):
            if seen == (seen := ran.exists() and ran.stat().st_size):
                continue  # on a busy machine nothing would ever begin
            # Each newcomer takes the worker's place.
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(path))

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        with mlepool.ClientPool() as pool:
            conn = pool.add(f"unix:{own_worker.state_dir}")
            conn.connect()
            for number in range(150):
                done = conn.run(f"echo {number} >> {ran}; exit 4")
                assert isinstance(done.error, mlepool.CommandError)
                assert (done.exit_code, done.error.returncode) == (4, 4)
    finally:
        over.set()
        disturber.join()
    assert ran.read_text() == "".join(f"{number}\n" for number in range(150))


def test_the_same_id_is_the_same_job_whoever_asks_and_however_often(worker, tmp_path):
    command = f"echo ran >> {tmp_path}/ran; sleep 0.2; echo well"
    with raw_client(worker) as one, raw_client(worker) as other:
        job_id = run(one, command)
        run(one, command, 2, job_id=job_id)
        run(other, command, 1, job_id=job_id)
        run(other, "echo something else", 2, job_id=job_id)
        for client, call in ((one, 2), (other, 1)):
            output, ended = read(client, call)
            assert (output, ended.outcome.exit_code) == (b"well\n", 0)
        run(other, command, 3, job_id=job_id)
        assert read(other, 3)[0] == b"well\n"
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_job_outlives_the_link_that_asked_for_it(worker, tmp_path):
    with raw_client(worker) as client:
        job_id = run(
            client,
            f"read x; echo well; touch {tmp_path}/done",
            arguments={"stdin": True},
        )
        client.wait_for(Accepted)
    with raw_client(worker) as client:
        feed = {"job_id": job_id, "data": b"go\n"}
        client.send(Attach(1, job_id, 0, PLENTY), Request(2, "f", "send_input", feed))
        assert read(client, 1)[0] == b"well\n"
    assert (tmp_path / "done").exists()


# -- reading


def test_output_stops_where_credit_ends_and_goes_on_with_more(client):
    run(client, "head -c 1000000 /dev/zero", window=1000)
    assert client.wait_for(Accepted).position == 0
    first = client.wait_for(Data)
    assert (first.position, len(first.payload)) == (0, 1000)
    client.send(Credit(1, 1500))
    second = client.wait_for(Data)
    assert (second.position, len(second.payload)) == (1000, 500)
    client.send(Credit(1, 700), Credit(1, PLENTY))
    position = 1500
    while not isinstance(message := client.receive(), Ended):
        if isinstance(message, Data):  # and not that the worker is busy
            assert message.position == position
            position += len(message.payload)
    assert message.outcome.end == position
    assert message.outcome.stdout == 1_000_000


def test_who_has_no_credit_slows_nobody(client, worker):
    run(client, "yes | head -c 6000000", window=0)
    with raw_client(worker) as other:
        job_id = run(other, "yes | head -c 6000000")
        assert len(read(other, 1)[0]) == 6_000_000
        other.send(Attach(2, job_id, 0, PLENTY))
        assert len(read(other, 2)[0]) == 6_000_000
    client.send(Credit(1, PLENTY))
    assert len(read(client, 1)[0]) == 6_000_000


def test_an_attached_reader_begins_with_a_record_unless_it_goes_on(client):
    job_id = run(client, "echo one; echo two")
    _, ended = read(client, 1)
    end = ended.outcome.end
    client.send(Attach(2, job_id, 0, PLENTY))
    whole = b"".join(_data_until_end(client))
    assert len(whole) == end
    for call, position in enumerate((0, 5, end - 1, end), 3):
        client.send(Attach(call, job_id, position, PLENTY, is_resumed=True))
        assert client.wait_for(Accepted).position == position
        assert b"".join(_data_until_end(client)) == whole[position:]
    for call, position in enumerate((5, end - 1, end + 1, end + 100), 7):
        client.send(Attach(call, job_id, position, PLENTY))
        refused = client.wait_for(Ended).outcome
        assert refused.failure.type_name == "ValueError"
        assert refused.end == position


def test_what_was_read_of_a_job_and_is_gone_makes_it_lost(client):
    job_id = run(client, "echo one")
    _, ended = read(client, 1)
    end = ended.outcome.end
    client.send(Attach(2, job_id, end + 1, PLENTY, is_resumed=True))
    outcome = client.wait_for(Ended).outcome
    assert (outcome.status, outcome.end) == ("LOST", end + 1)
    client.send(Attach(3, "nobody", 77, PLENTY, is_resumed=True))
    outcome = client.wait_for(Ended).outcome
    assert (outcome.status, outcome.end) == ("LOST", 77)


def test_a_request_that_is_repeated_goes_on_from_its_position(client):
    job_id = run(client, "echo one; echo two")
    read(client, 1)
    client.send(Attach(2, job_id, 0, PLENTY))
    journal = b"".join(_data_until_end(client))
    again = Request(3, job_id, "run", {"command": "echo no"}, PLENTY)
    client.send(structs.replace(again, position=7, age=1.0))
    assert b"".join(_data_until_end(client)) == journal[7:]


def test_what_is_repeated_too_late_is_not_begun(tmp_path, start_worker):
    let_go = tmp_path / "old" / "state" / "jobs" / ".forgotten"
    let_go.parent.mkdir(parents=True)
    let_go.write_text(str(time.time() - 1000))
    request = Request(1, secrets.token_hex(8), "run", {"command": "echo no"}, PLENTY)
    with raw_client(start_worker("old")) as client:
        client.send(structs.replace(request, age=1.0, timeout=0.0))
        outcome = client.wait_for(Ended).outcome
        assert (outcome.status, outcome.exit_code) == ("TIMED_OUT", None)
        client.send(structs.replace(request, call=2, age=1500.0))
        outcome = client.wait_for(Ended).outcome
        assert (outcome.status, outcome.exit_code) == ("LOST", None)
        client.send(structs.replace(request, call=3, age=500.0))
        _, ended = read(client, 3)
        assert ended.outcome.exit_code == 0


def _data_until_end(client: RawClient) -> Iterator[bytes]:
    while not isinstance(message := client.receive(), Ended):
        if isinstance(message, Data):
            yield bytes(message.payload)


@pytest.mark.parametrize("window", [PLENTY, 2 * BULK_DATA - 1])
def test_frames_are_large_where_a_reader_has_room(client, window):
    size = 3_000_000
    job_id = run(client, f"head -c {size} /dev/zero")
    read(client, 1)
    client.send(Attach(2, job_id, 0, window))
    parser, frames, output = RecordParser(), [], b""
    while len(output) < size:
        message = client.wait_for(Data)
        frames.append(len(message.payload))
        output += b"".join(one.data for one in parser.feed(message.payload))
        client.send(Credit(2, message.position + frames[-1] + window))
    assert output == bytes(size)
    client.wait_for(Ended)
    most = BULK_DATA if window == PLENTY else MAX_DATA
    assert max(frames) <= most
    assert max(frames) > most // 2


def test_the_first_frames_are_small(client):
    job_id = run(client, "head -c 3000000 /dev/zero")
    read(client, 1)
    client.send(Attach(2, job_id, 0, PLENTY))
    sizes = [len(client.wait_for(Data).payload) for _ in range(7)]
    assert sizes[0] <= FIRST_DATA
    assert all(later <= 2 * one for one, later in itertools.pairwise(sizes[:4]))
    assert max(sizes) > BULK_DATA // 2
    client.wait_for(Ended)


def test_who_leaves_gets_no_more_and_the_job_goes_on(client):
    job_id = run(client, "read x; echo well", arguments={"stdin": True})
    client.wait_for(Accepted)
    feed = {"job_id": job_id, "data": b"go\n"}
    client.send(Leave(1), Leave(1), Request(2, "f", "send_input", feed))
    client.send(Attach(3, job_id, 0, PLENTY))
    while getattr(client.receive(), "call", 1) == 1:
        pass  # on its way before it was known that nobody listens
    seen = []
    while not isinstance(message := client.receive(), Ended) or message.call != 3:
        seen.append(message)
    assert all(getattr(one, "call", None) != 1 for one in seen)


# -- what a process gets


@pytest.fixture
def set_worker(tmp_path) -> Iterator[RunningWorker]:
    """A worker with something in its environment."""
    worker = RunningWorker(tmp_path, A="worker", B="worker", MLEPOOL_SECRET="x")
    yield worker
    worker.end()


def test_a_job_gets_the_workers_environment_without_its_settings(set_worker, tmp_path):
    state = set_worker.state_dir
    with mlepool.ClientPool() as pool, pool.add(f"unix:{state}") as conn:
        lines = list(conn.run(["env"], env={"B": "job", "C": "$A ü"}))
        assert {"A=worker", "B=job", "C=$A ü", "PYTHONUNBUFFERED=1"} <= set(lines)
        ours = [one for one in lines if one.startswith("MLEPOOL_")]
        names = {one.partition("=")[0] for one in ours}
        assert names == {"MLEPOOL_JOB", "MLEPOOL_JOB_STATE_DIR"}
        assert conn.run("pwd").stdout == f"{tmp_path}\n"
        (tmp_path / "sub").mkdir()
        assert conn.run("pwd", cwd="sub").stdout == f"{tmp_path}/sub\n"
        assert conn.run("pwd", cwd="/").stdout == "/\n"
        assert conn.run(["true"], env={"KEY": "never-on-disk"}).ok
        for path in state.rglob("*"):
            assert not path.is_file() or b"never-on-disk" not in path.read_bytes()
        home = os.path.expanduser("~")
        assert conn.run("pwd", cwd="~").stdout == f"{home}\n"


# -- stdin


def test_input_of_many_senders_is_whole(conn):
    job = conn.run(["cat"], stdin=True, complete=False)
    senders = [
        threading.Thread(target=job.send_input, args=[bytes([65 + number]) * 700_000])
        for number in range(8)
    ]
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    job.close_input()
    output = job.wait(20).stdout
    assert len(output) == 8 * 700_000
    assert {output.count(letter) for letter in "ABCDEFGH"} == {700_000}


def test_a_process_that_does_not_read_its_input_holds_up_nobody_else(conn, worker):
    job = conn.run("exec sleep 60", stdin=True, complete=False)
    with pytest.raises(TimeoutError):
        job.send_input(bytes(5_000_000), timeout=0.3)
    assert conn.run("cat", input="well").stdout == "well"
    with mlepool.ClientPool() as pool, pool.add("127.0.0.1", worker.port) as other:
        assert other.run("echo well").stdout == "well\n"
    assert job.stop().complete


def test_input_for_a_closed_stdin_is_a_broken_pipe(conn):
    without = conn.run("exec sleep 60", complete=False)
    closed = conn.run("exec sleep 60", stdin=True, complete=False)
    closed.close_input()
    closed.close_input()
    ended = conn.run("exit 3", stdin=True)
    deaf = conn.run("exec <&-; echo deaf; exec sleep 60", stdin=True, complete=False)
    assert deaf.next() == "deaf"
    for job in (without, closed, ended, deaf):
        with pytest.raises(BrokenPipeError):
            job.send_input("x")
    ended.close_input()
    for job in (without, closed, deaf):
        assert job.stop().complete


def test_a_program_that_reads_only_a_part_of_its_input_ends_well(conn):
    for number in range(10):
        listener = conn.run("exec head -c 3", input=b"abc" + bytes(500_000 + number))
        assert (listener.stdout, listener.exit_code) == ("abc", 0)


# -- time


def test_a_timeout_stops_the_whole_tree(conn, tmp_path):
    command = f"sleep 61 & echo $! > {tmp_path}/pid; sleep 62"
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.run(command, timeout=0.5)
    assert caught.value.stopped
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_stop_of_a_job_that_has_ended_signals_nobody(conn):
    job = conn.run("exit 3")
    report = conn.stop(job.id).value
    assert (report.status, report.signalled, report.complete) == ("FAILED", (), True)


# -- a full disk


@pytest.fixture
def full_disk(tmp_path) -> Iterator[RunningWorker]:
    """A worker with 300 KB of disk left, until the file ``hog`` is removed."""
    with small_disk(tmp_path / "disk", "600k") as disk:
        worker = RunningWorker(disk)
        (disk / "hog").write_bytes(bytes(300_000))
        try:
            yield worker
        finally:
            worker.end()
        assert "Traceback" not in worker.log


def test_what_a_full_disk_lost_is_said_in_the_stream(full_disk, tmp_path):
    code = (
        "import sys; sys.stdout.write('x' * 999_999 + '\\n');"
        "sys.stdout.flush(); open(sys.argv[1], 'w').close();"
        "sys.stdin.readline(); print('last')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "all")]
    with mlepool.ClientPool() as pool, pool.add(f"unix:{full_disk.state_dir}") as conn:
        job = conn.run(command, stdin=True, complete=False)
        (info,) = conn.jobs().value
        wait_until((tmp_path / "all").exists)
        wait_until(lambda: unread(info.pid) == 0)
        full_disk.state_dir.with_name("hog").unlink()
        job.send_input("go\n")
        assert job.wait(20).exit_code == 0
        lines = list(job)
        kept = sum(len(data) for _, _, data in job.records())
        assert conn.run("echo well").stdout == "well\n"
    assert lines[-1] == "last"
    said = [one for one in lines if "bytes of output were not kept" in one]
    dropped = sum(int(one.split()[1]) for one in said)
    assert dropped == 1_000_005 - kept
    assert dropped > 300_000
