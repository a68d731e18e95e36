"""Turns results into text: the machine, the table, and who wins where."""

import itertools
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from .child import CONTENDERS
from .cuts import GAP
from .measure import NOT_OFFERED, Results
from .rows import LIMIT, OURS, PARTS, PEERS, TITLES, Row
from .work import MIB, Work


def machine() -> str:
    """Return what the ratios are measured on, and how busy it is before."""
    cores = os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    # Above about 0.3 at the start, somebody else is using the cores, and it shows.
    return f"{cores} cores, {python}, {system}; load {os.getloadavg()[0]:.2f}"


def table(results: Results, rows: Sequence[Row]) -> str:
    """Return the one table: medians of the rounds, and their spread."""
    columns = [*OURS, *(peer for peer in PEERS if _took_part(results, rows, peer))]
    titles = [TITLES[name].replace(" (", "\n(") for name in columns]
    body = [
        [row.what, row.reach, _limit(results, row)]
        + [_cell(results, row, name) for name in columns]
        for row in rows
    ]
    headers = ["what", "to reach", "local limit", *titles]
    return tabulate(body, headers, tablefmt="grid", disable_numparse=True)


def _took_part(results: Results, rows: Sequence[Row], peer: str) -> bool:
    """Return whether a peer offers any of this."""
    keys = [(row.measure, peer) for row in rows]
    asked = [results.failures.get(key) for key in keys if key in results.samples]
    return any(failure is None or failure.reason != NOT_OFFERED for failure in asked)


def _limit(results: Results, row: Row) -> str:
    value = results.limit(row)
    return "none" if value is None else row.show_limit(value)


def _cell(results: Results, row: Row, name: str) -> str:
    spread = results.spread(row, name)
    if not spread:
        return f"n/a\n({_reason(results, row, name)})"
    text = row.show(row.over_rounds(spread))
    if len(spread) > 1:
        text += f"\n{row.show(min(spread))}..{row.show(max(spread))}"
    if reason := results.broke(row, name):
        text += f"\nthen {reason}"
    if row.beside and name in OURS:
        peer, title = row.beside
        ratio = results.against(row, name, peer)
        text += f"\n{row.show(ratio)} {title}" if ratio else ""
    missed = name in OURS and not _reaches(results, row, name)
    return text + "\nMISSED" if missed else text


def _reason(results: Results, row: Row, name: str) -> str:
    failure = results.failures.get((row.measure, name))
    if failure:
        return failure.reason
    return "no limit" if (row.measure, name) in results.samples else "not measured"


def _reaches(results: Results, row: Row, name: str) -> bool:
    value = results.middle(row, name)
    if value is None or results.broke(row, name):
        return False
    goal = row.goals.get(name)
    near = _ahead(results, row, name, times=row.margin)
    behind = set(near) & set(row.ahead_of.get(name, ()))
    return not behind and (goal is None or row.is_better(value, goal))


def _ahead(results: Results, row: Row, name: str, *, times: float = 1.0) -> list[str]:
    """Return the peers that one of ours is not so many times better than."""
    own = results.middle(row, name)
    values = {peer: results.middle(row, peer) for peer in PEERS}
    return [
        peer
        for peer, value in values.items()
        if value is not None
        and own is not None
        and not row.is_better(own, value, times=times)
    ]


def outcome(results: Results, rows: Sequence[Row]) -> str:
    """Return where mlepool loses, and where it wins, a line for each row and way."""
    verdicts: dict[str, list[str]] = {"loses": [], "wins": [], "has no result": []}
    for row, name in itertools.product(rows, OURS):
        what = f"  {' '.join(row.what.split())}, {TITLES[name]}"
        value = results.middle(row, name)
        if value is None:
            verdicts["has no result"].append(what)
            continue
        ahead = _ahead(results, row, name)
        is_reached = _reaches(results, row, name)
        says = "reaches" if is_reached else "misses"
        text = f"{what}: {row.show(value)} {says} {' '.join(row.reach.split())}"
        if reason := results.broke(row, name):
            text += f" (failed: {reason})"
        text += _compared(results, row, ahead)
        verdicts["wins" if is_reached and not ahead else "loses"].append(text)
    return "\n".join(
        "\n".join([f"Where mlepool {verdict}:", *(lines or ["  nowhere"])])
        for verdict, lines in verdicts.items()
    )


def _compared(results: Results, row: Row, ahead: Sequence[str]) -> str:
    """Return who is better and who is not, as far as there are results."""
    measured = [peer for peer in PEERS if results.middle(row, peer) is not None]
    behind = [peer for peer in measured if peer not in ahead]
    parts = (("; behind", ahead), ("; ahead of", behind))
    return "".join(
        f"{word} {_values(results, row, peers)}" for word, peers in parts if peers
    )


def _values(results: Results, row: Row, peers: Sequence[str]) -> str:
    values = [(peer, results.middle(row, peer)) for peer in peers]
    return ", ".join(f"{peer} {row.show(value)}" for peer, value in values if value)


def notes(results: Results, work: Work) -> Iterator[str]:
    """Yield what a reader of the table has to know: versions, amounts, failures."""
    yield f"Versions: {', '.join(dict.fromkeys(results.versions.values())) or 'none'}"
    yield (
        f"{work.rounds} interleaved rounds; cells: median of the rounds, min..max. "
        f"bytes: {work.size / 1e6:,.0f} MB; lines: {work.lines:,}; "
        f"memory: {work.flood / 1e6:,.0f} MB unread, most growth seen; "
        "flood: beside output without end that nobody reads, which at the limit a "
        "`cat` writes to a file; "
        f"reconnect: {work.ticks:,} lines, cut (RST) whenever {GAP} have come, "
        "the most that any round lost."
    )
    yield (
        f"files: seconds, as ratios to the limit, cp -a (-u). {work.files:,} files of "
        f"4 KiB; a large one of {work.large / MIB:,.0f} MiB; a virtual environment of "
        f"{work.environment / MIB:,.0f} MiB at most; {work.workers} workers at once. "
        "openssh: rsync -a over one multiplexed connection; asyncssh: its sftp."
    )
    yield (
        f"hosts: {work.hosts} connections to one server; openssh runs a client process "
        f"for each. sweep: {work.sweep:,} commands on {work.slots} slots. tools: "
        "`mlepool run -H host -- true` and `ssh host true`, from start to exit."
    )
    yield from _shares(results)
    yield from _memory(results)
    yield from _failures(results)


def _shares(results: Results) -> Iterator[str]:
    for name in results.versions:
        shares = CONTENDERS[name].shares.items()
        parts = [f"{measure} {share:g}" for measure, share in shares]
        if parts:
            yield f"Slow, so less work: {name}: {', '.join(parts)} of the others'"


def _failures(results: Results) -> Iterator[str]:
    measures: dict[tuple[str, str], list[str]] = {}
    for (measure, name), failure in results.failures.items():
        if failure.detail:
            measures.setdefault((name, failure.detail), []).append(measure)
    for (name, detail), failed in measures.items():
        yield f"n/a: {TITLES[name]}, {', '.join(failed)}: {detail}"


def _memory(results: Results) -> Iterator[str]:
    for name in OURS:
        for turn in results.samples.get(("memory", name), []):
            if turn:
                parts = zip(PARTS, turn[:3], turn[3:6], strict=True)
                grown = [f"{part} {was:.1f} to {most:.1f}" for part, was, most in parts]
                journal = f"the journal grew by {turn[6]:.1f}"
                yield f"Memory in MiB, {TITLES[name]}: {', '.join(grown)}; {journal}"


def write_json(results: Results, path: Path, *, place: str) -> None:
    """Write the raw samples: seconds, rates a second, or MiB, by measure."""
    measures: dict[str, dict[str, object]] = {}
    for (measure, name), rounds in results.samples.items():
        failure = results.failures.get((measure, name))
        entry = {"rounds": rounds, "failure": failure and str(failure)}
        measures.setdefault(measure, {})[name] = entry
    document = {
        "machine": place,
        "versions": results.versions,
        "limit": LIMIT,
        "measures": measures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
