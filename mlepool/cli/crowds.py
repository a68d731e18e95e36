"""What is said of the jobs of many hosts: together, where it is the same."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterable, Mapping

from mlepool.cli.wording import come_back, in_words
from mlepool.wire.values import StopReport

__all__ = ["FEW", "fold", "goes_on", "stopped"]

FEW = 4  # hosts of whom each has a line of its own


def fold(names: Iterable[str]) -> str:
    """Write hosts as short as they go: ``gpu[1-8]``."""
    # Not at the top: few hosts need no ranges.
    ranges = importlib.import_module("mlepool.client.inventory.ranges")
    text: str = ranges.fold(names)
    return text


def goes_on(jobs: Mapping[str, str]) -> list[str]:
    """Say which jobs were left, and how to come back to them.

    Args:
        jobs: Their ids by host.
    """
    if len(jobs) <= FEW:
        return [come_back(job_id, host) for host, job_id in jobs.items()]
    hosts = fold(jobs)
    which = f"-w {shlex.quote(hosts)}"
    return [
        f"{len(jobs)} jobs go on on {hosts}; come back with: mlepool logs -f {which}, "
        f"which follows the latest of each; mlepool jobs {which} lists them"
    ]


def stopped(reports: Mapping[str, StopReport]) -> list[str]:
    """Say what stops have done; what is left of a job always has lines of its own.

    Args:
        reports: By host.
    """
    few = len(reports) <= FEW
    lines: list[str] = []
    alike: dict[str, list[str]] = {}
    for host, report in reports.items():
        if few or not report.complete:
            lines += in_words(report, host)
        else:
            alike.setdefault(_fate(report), []).append(host)
    together = [f"{fold(hosts)}: {fate}" for fate, hosts in alike.items()]
    return [*together, *lines]


def _fate(report: StopReport) -> str:
    if report.was_waiting:
        return "waited in line, and will not begin"
    return "all dead" if report.signalled else "had ended before"
