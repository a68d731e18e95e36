"""The command line: `python -m benchmarks`."""

import argparse
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from .files import CASES
from .measure import Bench
from .report import machine, notes, outcome, table, write_json
from .rows import LONG, NAMES, OURS, PEERS, ROWS, USUAL
from .session import source_times
from .trees import make_trees
from .work import FULL, GB, QUICK, Work, write_data

LONG_TIME = 6  # times the usual budget is what the long rows get
FLOOD_SECONDS = 60.0  # seconds added to the budget for each GB that nobody reads


def main() -> None:
    """Measure as the arguments say, and print the table."""
    options = _parse()
    signal.signal(signal.SIGTERM, _leave)  # so that what was started is ended
    work = _work(options)
    rows = [row for row in ROWS if row.name in options.only]
    place = machine()
    _say(f"mlepool's benchmarks: {place}")
    sources = source_times()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with Bench(work, folder, options.contenders) as bench:
            write_data(folder / "data", work.size)
            if any(row.measure in CASES for row in rows):
                make_trees(folder / "trees", work)
            for row in rows:
                bench.measure(row, progress=_tell)
    _say(table(bench.results, rows))
    if source_times() != sources:
        _say("WARNING: mlepool's source changed during the run; measure again.")
    for note in notes(bench.results, work):
        _say(note)
    _say(outcome(bench.results, rows))
    if options.json:
        write_json(bench.results, options.json, place=place)


def _work(options: argparse.Namespace) -> Work:
    work = QUICK if options.quick else FULL
    if set(LONG) & set(options.only):
        work = replace(work, budget=work.budget * LONG_TIME)
    if options.rounds:
        work = replace(work, rounds=options.rounds)
    if options.size_gb:
        work = replace(work, size=int(options.size_gb * GB))
    if options.flood_gb:
        seconds = work.budget + options.flood_gb * FLOOD_SECONDS
        work = replace(work, flood=int(options.flood_gb * GB), budget=seconds)
    return work


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="smaller amounts: 90 s; some rows: more")
    add("--only", type=_names, default=USUAL, help=f"of {','.join(NAMES)}")
    contenders = (*OURS, *PEERS)
    add(
        "--contenders",
        type=_names,
        default=contenders,
        help=f"of {','.join(contenders)}",
    )
    add("--rounds", type=int, help="turns of each contender in each row")
    add("--size-gb", type=float, help="GB of the file for the row bytes")
    add("--flood-gb", type=float, help="GB of the unread output for the row memory")
    add("--json", type=Path, metavar="FILE", help="write the raw samples there")
    options = parser.parse_args()
    for chosen, known in ((options.only, NAMES), (options.contenders, contenders)):
        if unknown := set(chosen) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _leave(_number: int, _frame: object) -> None:
    sys.exit(1)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _tell(text: str) -> None:
    """Report progress apart from the table, so that the table can be redirected."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
