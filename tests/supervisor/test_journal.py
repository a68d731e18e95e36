"""Journals on a real disk: written, read by position, damaged."""

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, strategies as st
from msgspec import structs

from mlepool.config import Limits
from mlepool.errors import WorkerError
from mlepool.supervisor.blocks import JobHead, JobProcess, journal_path
from mlepool.supervisor.files import look_at_disk
from mlepool.supervisor.journal import Journal, seal
from mlepool.supervisor.journal_writer import JournalWriter
from mlepool.supervisor.recorder import Recorder
from mlepool.wire.messages import Outcome
from mlepool.wire.records import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    STDERR,
    STDOUT,
    YIELDED,
    RecordParser,
    pack_header,
)
from tests.needs import simple_disk, small_disk

HEAD = JobHead("job", "echo hi", "/tmp", 12.5, "boot")
PROCESS = JobProcess(4711, (99, 100), 12.75)
OUTPUT = [(STDOUT, b"one\n"), (STDERR, b"oh\n"), (STDOUT, b"two\n")]


def write(folder: Path, output=()) -> JournalWriter:
    folder.mkdir(exist_ok=True)
    writer = JournalWriter(folder, HEAD)
    writer.begin(PROCESS)
    for number, (stream, data) in enumerate(output):
        writer.append(stream, data, time=float(number))
    return writer


def finish(writer: JournalWriter) -> Outcome:
    outcome = writer.complete(Outcome("SUCCEEDED", exit_code=0))
    writer.finish(outcome)
    return outcome


@pytest.fixture
def journal(tmp_path):
    finish(write(tmp_path, OUTPUT))
    journal = Journal(tmp_path, "job")
    yield journal
    journal.close()


def test_head_and_process_are_read_back(journal):
    assert (journal.head, journal.process) == (HEAD, PROCESS)


def test_output_is_read_by_position_in_pieces_of_any_size(journal):
    outcome = journal.outcome()
    assert outcome is not None
    for size in (1, 7, HEADER_SIZE, 1000):
        parser, position, records = RecordParser(), 0, []
        while position < outcome.end:
            piece = journal.read(position, min(size, outcome.end - position))
            records += parser.feed(piece)
            position += len(piece)
        assert [(one.stream, one.data) for one in records] == OUTPUT
        assert [one.time for one in records] == [0.0, 1.0, 2.0]


def test_a_command_inside_the_worker_has_a_third_stream(tmp_path):
    writer = JournalWriter(tmp_path, structs.replace(HEAD, streams=True))
    writer.begin(PROCESS)
    writer.append(YIELDED, b"value", time=0.0)
    outcome = finish(writer)
    assert (outcome.stdout, outcome.stderr, outcome.yielded) == (0, 0, 5)
    texts = (b"", b"", b"value")
    digests = ",".join(xxhash.xxh3_128(text).hexdigest() for text in texts)
    assert outcome.digest == f"xxh3-128:{digests}"
    with contextlib.closing(Journal(tmp_path, "job")) as journal:
        assert journal.head.streams


def test_the_end_holds_positions_and_digests_of_what_was_written(journal):
    outcome = journal.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.exit_code) == ("SUCCEEDED", 0)
    assert outcome.end == sum(HEADER_SIZE + len(data) for _, data in OUTPUT)
    assert (outcome.stdout, outcome.stderr) == (8, 3)
    digests = [xxhash.xxh3_128(text).hexdigest() for text in (b"one\ntwo\n", b"oh\n")]
    assert outcome.digest == f"xxh3-128:{digests[0]},{digests[1]}"


def test_the_writer_knows_its_position_after_each_record(tmp_path):
    writer = write(tmp_path)
    assert writer.position == 0
    writer.append(STDOUT, b"12345", time=1.0)
    assert writer.position == HEADER_SIZE + 5
    finish(writer)


def test_a_journal_without_an_end_has_no_outcome_but_all_its_output(tmp_path):
    writer = write(tmp_path, OUTPUT)
    journal = Journal(tmp_path, "job")
    assert journal.outcome() is None
    assert journal.measure() == writer.position
    journal.close()
    finish(writer)


def test_measure_leaves_a_torn_tail_out(tmp_path):
    first = write(tmp_path / "one", OUTPUT[:1]).position
    writer = write(tmp_path / "two", OUTPUT[:2])
    whole = Path(journal_path(tmp_path / "two", "job")).read_bytes()
    begin = len(whole) - (writer.position - first)
    for length in range(begin, len(whole) + 1):
        journal = opened(tmp_path, whole[:length])
        assert journal.outcome() is None
        expected = first if length < len(whole) else writer.position
        assert journal.measure() == expected
        journal.close()


def test_a_journal_that_is_cut_in_its_head_is_damaged_at_every_length(tmp_path):
    write(tmp_path)
    whole = Path(journal_path(tmp_path, "job")).read_bytes()
    for length in range(len(whole)):
        with pytest.raises(WorkerError, match=r"no whole (HEAD block|PROC block|gap)"):
            opened(tmp_path, whole[:length])
    opened(tmp_path, whole).close()


def test_every_changed_byte_of_the_head_is_noticed(tmp_path):
    write(tmp_path)
    whole = Path(journal_path(tmp_path, "job")).read_bytes()
    for changed in changed_bytes(whole, 0):
        with pytest.raises(WorkerError):
            opened(tmp_path, changed)


def test_a_damaged_end_is_no_end_and_the_output_is_still_there(tmp_path):
    writer = write(tmp_path, OUTPUT)
    begin = Path(journal_path(tmp_path, "job")).stat().st_size
    finish(writer)
    whole = Path(journal_path(tmp_path, "job")).read_bytes()
    cuts = [whole[:length] for length in range(begin, len(whole))]
    for damaged in cuts + list(changed_bytes(whole, begin)):
        journal = opened(tmp_path, damaged)
        assert journal.outcome() is None
        assert journal.measure() == writer.position
        journal.close()


def test_output_that_looks_like_an_end_is_not_taken_for_one(tmp_path):
    finish(write(tmp_path, OUTPUT))
    journal = Path(journal_path(tmp_path, "job")).read_bytes()
    end = journal[journal.index(b"END1") :]
    writer = write(tmp_path / "other", [(STDOUT, b"MLEE" * 20), (STDOUT, end[-8:])])
    other = Journal(tmp_path / "other", "job")
    assert other.outcome() is None
    outcome = finish(writer)
    assert other.outcome() == outcome
    other.close()


@given(st.binary(max_size=200))
def test_a_file_of_random_bytes_is_a_damaged_journal(tmp_path_factory, data):
    with pytest.raises(WorkerError):
        opened(tmp_path_factory.getbasetemp(), data)


def test_the_same_id_is_never_begun_twice(tmp_path):
    writer = write(tmp_path)
    for _ in range(2):
        with pytest.raises(FileExistsError):
            JournalWriter(tmp_path, HEAD)
        if writer.position == 0:
            writer.append(STDOUT, b"x", time=0.0)
            finish(writer)


def test_no_other_account_may_read_a_journal(tmp_path):
    write(tmp_path)
    assert Path(journal_path(tmp_path, "job")).stat().st_mode & 0o777 == 0o600


def test_an_unknown_job_is_a_lookup_error(tmp_path):
    with pytest.raises(LookupError, match="there is no job nobody"):
        Journal(tmp_path, "nobody")


def test_a_full_disk_cuts_no_record_in_two_and_the_gap_shows(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "hog").write_bytes(bytes(16 * 1024))
        writer = write(disk)
        written = fill(writer)
        writer.skip(STDOUT, 10_000)
        os.truncate(disk / "hog", 0)
        writer.append(STDOUT, b"again", time=0.0)
        outcome = finish(writer)
        journal = Journal(disk, "job")
        assert journal.measure() == outcome.end
        records = RecordParser().feed(journal.read(0, outcome.end))
        journal.close()
    assert sum(len(one.data) for one in records[:-1]) == written
    assert (records[-1].data, records[-1].dropped) == (b"again", 10_000)
    assert outcome.stdout == written + 10_000 + len(b"again")


def test_a_discarded_journal_leaves_no_file_and_no_descriptor(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    write(tmp_path, OUTPUT).discard()
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


def fill(writer: JournalWriter) -> int:
    """Write until the disk is full; the bytes of output that are on it."""
    for number in itertools.count():
        try:
            writer.append(STDOUT, bytes(10_000), time=0.0)
        except OSError:
            return number * 10_000
    raise AssertionError


def opened(folder: Path, content: bytes) -> Journal:
    """Open a journal of this content."""
    Path(journal_path(folder, "made")).write_bytes(content)
    return Journal(folder, "made")


def changed_bytes(whole: bytes, begin: int) -> Iterator[bytes]:
    """Give a copy for each byte, with that byte changed."""
    for at in range(begin, len(whole)):
        yield whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]


def test_large_records_are_not_cut_where_that_can_be_helped(tmp_path):
    writer = JournalWriter(tmp_path, HEAD)
    writer.begin(PROCESS)
    for size in (50_000, 60_000, 10, 50_000):
        writer.append(STDOUT, bytes(size), time=0.0)
    with contextlib.closing(Journal(tmp_path, HEAD.id)) as journal:
        first, both = 50_000 + HEADER_SIZE, 110_000 + 2 * HEADER_SIZE
        assert journal.whole_records(0, both) == both
        assert journal.whole_records(0, both - 1) == first
        assert journal.whole_records(0, first + 5) == first
        assert journal.whole_records(0, first - 1) == first - 1  # it can't be helped
        assert journal.whole_records(both, 30_000) == 30_000  # it need not be
        assert journal.whole_records(7, 30_000) == 30_000  # within a record


# -- pouring


@pytest.fixture
def pipe():
    """A pipe that holds the longest record and something more."""
    ours, its = os.pipe()
    fcntl.fcntl(its, fcntl.F_SETPIPE_SZ, 1024 * 1024)
    os.write(its, os.urandom(MAX_PAYLOAD) + b"more")
    os.close(its)
    yield ours
    os.close(ours)


def contents(folder: Path) -> bytes:
    """Give a journal's stdout."""
    with contextlib.closing(Journal(folder, "job")) as journal:
        records = RecordParser().feed(journal.read(0, journal.measure()))
    return b"".join(one.data for one in records if one.stream == STDOUT)


def test_what_a_pipe_holds_is_poured_as_a_record(pipe, tmp_path):
    writer = write(tmp_path, OUTPUT)
    writer.pour(STDOUT, pipe, MAX_PAYLOAD, time=4.0)
    assert os.read(pipe, 10) == b"more"
    text = contents(tmp_path)
    assert text.startswith(b"one\ntwo\n")
    assert len(text) == 8 + MAX_PAYLOAD == writer.offsets()[STDOUT]
    assert writer.digests()[STDOUT] == xxhash.xxh3_128(text).hexdigest()
    finish(writer)


def test_what_a_full_disk_does_not_take_stays_in_the_pipe(pipe, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as folder:
        writer = write(folder)
        writer.pour(STDOUT, pipe, MAX_PAYLOAD, time=0.0)
        with pytest.raises(OSError, match="No space left"):
            writer.pour(STDOUT, pipe, 100, time=0.0)
        text, left = contents(folder), os.read(pipe, 1024 * 1024)
        assert 0 < len(text) == writer.position - HEADER_SIZE
        assert len(text) + len(left) == MAX_PAYLOAD + len(b"more")
        assert writer.digests()[STDOUT] == xxhash.xxh3_128(text).hexdigest()
        writer.discard()


def test_one_goes_on_where_a_writer_was_killed_wherever_that_was(tmp_path):
    tail, kept = b"", [0]  # what the other has poured; of each length, how much counts
    for data, offset in ((b"three\n", 8), (b"four\n", 14)):
        tail += pack_header(STDOUT, len(data), offset, time=5.0) + data
        kept += [kept[-1]] * HEADER_SIZE
        kept += range(len(tail) - len(data) + 1, len(tail) + 1)
    for length, taken in enumerate(kept):
        folder = tmp_path / str(length)
        writer = write(folder, OUTPUT)
        before = writer.position
        with open(journal_path(folder, "job"), "ab") as file:
            file.write(tail[:length])
        writer.recover([0, 0, 7, 0])
        text = contents(folder)
        assert b"one\ntwo\nthree\nfour\n".startswith(text)
        assert writer.position == before + taken
        assert writer.offsets() == {STDOUT: len(text), STDERR: 7}  # 4 are dropped
        assert writer.digests()[STDOUT] == xxhash.xxh3_128(text).hexdigest()
        writer.append(STDOUT, b"on\n", time=6.0)
        assert contents(folder) == text + b"on\n"
        finish(writer)


def test_behind_a_gap_one_goes_on_too_but_for_the_digests(tmp_path):
    writer = small_writer(tmp_path)
    child = os.fork()
    if child == 0:
        write_numbered(writer, 5_000)
        os._exit(0)
    os.waitpid(child, 0)
    writer.recover([0] * 4)
    write_numbered(writer, 5_000)
    outcome = finish(writer)
    assert outcome.digest == ""
    numbers, dropped = read_numbered(tmp_path, outcome.end)
    assert numbers[-1] == 4_999
    kept = sum(8 * (1 + number % 97) for number in numbers)
    assert dropped == outcome.stdout - kept
    assert Path(journal_path(tmp_path, "job")).stat().st_blocks * 512 < 2 * HELD


# -- gaps

KEPT = 64 * 1024  # bytes of the head in these tests
HELD = 256 * 1024  # bytes of the journal in these tests


def write_numbered(writer: JournalWriter, count: int, *, limit: int = HELD) -> None:
    """Write numbered records of odd sizes, and let go of the middle as it grows."""
    for number in range(count):
        writer.append(STDOUT, (b"%08d" % number) * (1 + number % 97), time=0.0)
        if number % 16 == 0 and writer.held > limit:
            assert writer.trim(limit)


def read_numbered(folder: Path, end: int) -> tuple[list[int], int]:
    """Read to a position: the numbers that are there, and the bytes that are not."""
    numbers, position, parser = [], 0, RecordParser()
    dropped = 0
    with contextlib.closing(Journal(folder, "job")) as journal:
        while (after := journal.after_gap(position)) < end:
            if after != position:
                parser.skip()
            data = journal.read(after, min(10_000, end - after))
            position = after + len(data)
            for record in parser.feed(data):
                number = int(record.data[:8])
                assert record.data == record.data[:8] * (1 + number % 97)
                numbers.append(number)
                dropped += record.dropped
    return numbers, dropped


def small_writer(folder: Path) -> JournalWriter:
    writer = JournalWriter(folder, JobHead("job", "x", "/", 1.0, "boot", KEPT))
    writer.begin(PROCESS)
    return writer


def test_head_and_tail_are_kept_and_the_disk_gets_the_rest_back(tmp_path):
    writer = small_writer(tmp_path)
    write_numbered(writer, 60_000)
    assert writer.position > 20 * 1024**2
    outcome = finish(writer)
    numbers, dropped = read_numbered(tmp_path, outcome.end)
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, 59_999)
    kept = sum(8 * (1 + number % 97) for number in numbers)
    assert dropped == outcome.stdout - kept
    path = Path(journal_path(tmp_path, "job"))
    assert path.stat().st_blocks * 512 <= HELD + 96 * 1024
    head = next(n for n, one in enumerate(numbers) if one != n)
    assert sum(24 + 8 * (1 + n % 97) for n in range(head)) >= KEPT
    with contextlib.closing(Journal(tmp_path, "job")) as journal:
        assert journal.measure() == outcome.end
        assert journal.outcome() == outcome


def test_a_reader_is_never_given_what_is_being_let_go(tmp_path):
    """Readers race with the writer: what they read is whole, or said to be gone."""
    writer = small_writer(tmp_path)
    child = os.fork()
    if child == 0:
        write_numbered(writer, 120_000)
        os._exit(0)
    rounds = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        with contextlib.closing(Journal(tmp_path, "job")) as journal:
            end = os.fstat(journal.locate(0)[0]).st_size - journal.locate(0)[1]
        numbers, _ = read_numbered(tmp_path, max(0, end - 4096))
        assert numbers == sorted(set(numbers))
        rounds += 1
    assert rounds > 3


def test_the_end_of_a_job_with_a_gap_is_sealed_behind_its_tail(tmp_path):
    writer = small_writer(tmp_path)
    write_numbered(writer, 20_000)
    end = writer.position
    os.write(writer.release(), b"")
    with open(journal_path(tmp_path, "job"), "ab") as file:
        file.write(b"M\x01torn")
    outcome = seal(tmp_path, "job", Outcome("LOST"))
    assert outcome.end == end
    numbers, _ = read_numbered(tmp_path, end)
    assert numbers[-1] == 19_999


def test_where_parts_cannot_be_given_back_the_journal_says_so(tmp_path):
    with simple_disk(tmp_path / "disk") as folder:
        writer = small_writer(folder)
        for _ in range(100):
            writer.append(STDOUT, bytes(1000), time=0.0)
        held = writer.held
        assert writer.trim(KEPT) is False
        assert writer.held == held
        outcome = finish(writer)
        with contextlib.closing(Journal(folder, "job")) as journal:
            assert journal.gap() == (0, 0)
            assert journal.measure() == outcome.end == held


def test_without_gaps_the_head_is_kept_and_the_rest_is_counted(tmp_path):
    with simple_disk(tmp_path / "disk") as folder:
        size = look_at_disk(folder).size
        recorder = Recorder(folder, HEAD, Limits(1024**2, 0.0), disk_size=size)
        recorder.begin(PROCESS)
        for _ in range(400):
            recorder.write(STDERR, bytes(10_000))
        assert 0.8 * 1024**2 < recorder.position < 1.3 * 1024**2
        outcome = recorder.end(Outcome("SUCCEEDED"))
        assert recorder.is_saved
        assert outcome.stderr == 4_000_000
        os.close(recorder.release())
        with contextlib.closing(Journal(folder, "job")) as journal:
            parser = RecordParser()
            kept = parser.feed(journal.read(0, outcome.end))
            (last,) = parser.finish({STDERR: outcome.stderr}, time=1.0)
        assert sum(len(one.data) for one in kept) + recorder.dropped == 4_000_000
        assert last.dropped == recorder.dropped
