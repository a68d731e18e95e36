"""Jobs as they stand in a worker's state folder: no worker needs to run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mlepool.cli.reach import JobLookupError
from mlepool.cli.records import RecordPrinter
from mlepool.cli.wording import ago, clock, visible
from mlepool.client.tables import Table
from mlepool.errors import ConfigError, WorkerError
from mlepool.supervisor.journal import Journal
from mlepool.wire.records import STDERR, STDOUT, BadRecordError, RecordParser

__all__ = ["list_journals", "print_journal"]

JOBS_FOLDER = "jobs"
SUFFIX = ".journal"
PIECE = 256 * 1024  # bytes read at once
HEADERS = ("id", "status", "exit", "started", "time", "pid", "command")
NO_END = "NO END"  # it runs, or its supervisor was killed: a journal can't tell


def list_journals(state_dir: Path) -> None:
    """Print a table of the jobs in a state folder, by their start.

    Raises:
        ConfigError: If it is no state folder, or can't be read.
    """
    rows = sorted(_row(state_dir, job_id) for job_id in _ids(state_dir))
    print(Table(HEADERS, [row for _, row in rows]) if rows else "no job is in there")


def print_journal(state_dir: Path, text: str, printer: RecordPrinter) -> None:
    """Print the output of one job.

    Args:
        state_dir: The state folder.
        text: The job's id, or how it begins.
        printer: What prints.

    Raises:
        ConfigError: If it is no state folder, or can't be read.
        JobLookupError: If no job is meant, or more than one.
        WorkerError: If the journal is damaged.
    """
    with _open(state_dir, _choose(state_dir, text)) as journal:
        outcome = journal.outcome()
        end = journal.measure() if outcome is None else outcome.end
        parser, position = RecordParser(), 0
        while (position := journal.after_gap(position)) < end:
            piece = journal.read(position, min(PIECE, end - position))
            if piece:
                position += len(piece)
                _print(parser, piece, printer=printer, end=position)
            elif journal.after_gap(position) == position:
                raise WorkerError(f"the journal ends at {position}, before its end")
        if outcome is not None and outcome.digest:
            ends = {STDOUT: outcome.stdout, STDERR: outcome.stderr}
            printer.take(parser.finish(ends, time=outcome.ended))
    printer.finish()


def _print(
    parser: RecordParser, piece: bytes, *, printer: RecordPrinter, end: int
) -> None:
    try:
        printer.take(parser.feed(piece))
    except BadRecordError as exc:
        printer.take(exc.records)
        printer.finish()
        text = f"the journal is damaged, as is seen at {end - exc.left}: {exc}"
        raise WorkerError(text) from exc


def _ids(state_dir: Path) -> list[str]:
    folder = state_dir.expanduser() / JOBS_FOLDER
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as exc:
        raise ConfigError(f"cannot read {folder}: {exc.strerror}") from exc
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]


def _choose(state_dir: Path, text: str) -> str:
    ids = _ids(state_dir)
    meant = [text] if text in ids else [one for one in ids if one.startswith(text)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        listed = "".join(f"\n  {one}" for one in meant)
        raise JobLookupError(f"{text!r} may be any of {len(meant)} jobs:{listed}")
    raise JobLookupError(
        f"there is no job {visible(text)!r} in {state_dir}; "
        f"'mlepool logs --state-dir {state_dir}' lists what there is"
    )


@contextlib.contextmanager
def _open(state_dir: Path, job_id: str) -> Iterator[Journal]:
    journal = Journal(state_dir.expanduser() / JOBS_FOLDER, job_id)
    try:
        yield journal
    finally:
        journal.close()


def _row(state_dir: Path, job_id: str) -> tuple[float, tuple[str, ...]]:
    try:
        with _open(state_dir, job_id) as journal:
            head, process, outcome = journal.head, journal.process, journal.outcome()
    except (LookupError, WorkerError):
        return 0.0, (job_id, "NOT BEGUN", "", "", "", "", "")
    code = None if outcome is None else outcome.exit_code
    lasted = "" if outcome is None else ago(max(0.0, outcome.ended - process.started))
    return process.started, (
        job_id,
        NO_END if outcome is None else outcome.status,
        "" if code is None else str(code),
        clock(process.started),
        lasted,
        str(process.pid or ""),
        visible(head.command),
    )
