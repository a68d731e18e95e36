"""Jobs as they stand in a worker's state folder: no worker needs to run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mlepool.cli.lookup import JobLookupError
from mlepool.cli.records import RecordPrinter
from mlepool.cli.wording import ago, clock, visible
from mlepool.client.listening.output import Output
from mlepool.client.tables import Table
from mlepool.errors import ConfigError, WorkerError
from mlepool.supervisor.journal import Journal
from mlepool.wire.messages import Outcome
from mlepool.wire.records import STDERR, STDOUT, BadRecordError, Record, RecordParser

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
        output, position = _Printed(printer, has_yields=journal.head.streams), 0
        while (position := journal.after_gap(position)) < end:
            piece = journal.read(position, min(PIECE, end - position))
            if piece:
                position += len(piece)
                output.take(piece, end=position)
            elif journal.after_gap(position) == position:
                raise WorkerError(f"the journal ends at {position}, before its end")
        output.finish(outcome)


class _Printed:
    """Prints a journal's output, and checks it against what was written at its end."""

    def __init__(self, printer: RecordPrinter, *, has_yields: bool) -> None:
        self._printer = printer
        self._parser = RecordParser()
        self._seen = Output(limit=0)
        if has_yields:
            self._seen.expect_yields()

    def take(self, piece: bytes, *, end: int) -> None:
        """Print the records that are whole with a piece, which ends there."""
        try:
            self._print(self._parser.feed(piece))
        except BadRecordError as exc:
            self._print(exc.records)
            raise self._damage(f"at {end - exc.left}: {exc}") from exc
        except KeyError:
            raise self._damage(f"at {end}: a stream that there can't be") from None

    def finish(self, outcome: Outcome | None) -> None:
        """Print what is left; the outcome is None if no end was written."""
        if outcome is not None and outcome.digest:
            ends = {STDOUT: outcome.stdout, STDERR: outcome.stderr}
            self._print(self._parser.finish(ends, time=outcome.ended))
            if not self._seen.dropped and self._seen.digest() != outcome.digest:
                raise self._damage("at its end: these are not the bytes of its digest")
        self._printer.finish()

    def _print(self, records: list[Record]) -> None:
        self._seen.add(records)
        self._printer.take(records)

    def _damage(self, text: str) -> WorkerError:
        self._printer.finish()
        return WorkerError(f"the journal is damaged, as is seen {text}")


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
