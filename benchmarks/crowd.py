"""mlepool with many hosts: groups, sweeps, and its command line."""

import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .contender import Contender, expect, rate, seconds, timed, times
from .work import Work


class ManyHosts(Contender):
    """Many connections to one worker, each as if it were to a host of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._crowd: Any = None

    def place(self) -> str:
        """Return where the worker is."""
        raise NotImplementedError

    def leave_crowd(self) -> None:
        """Close the connections that were kept open. Twice is fine."""
        if self._crowd is not None:
            self._crowd.close()
            self._crowd = None

    def hosts_open(self, work: Work) -> list[float]:
        """Run `true` on a pool of many connections: seconds."""
        if self._crowd is None:
            self._crowd = self._many(work.hosts)
            all_ended_well(self._crowd.run(["true"]), work.hosts)
        crowd = self._crowd
        return times(
            lambda: all_ended_well(crowd.run(["true"]), work.hosts), work.waves
        )

    def hosts_connect(self, work: Work) -> list[float]:
        """Run `true` on a pool whose connections are not open: seconds."""
        with self._many(work.hosts) as crowd:
            return [seconds(lambda: all_ended_well(crowd.run(["true"]), work.hosts))]

    def sweep(self, work: Work) -> list[float]:
        """Submit `true`s to one worker with so many slots: commands a second."""

        def sweep() -> int:
            plan = self.folder / f"plan-{time.monotonic_ns()}"
            with self._many(1) as pool:
                sweep = pool.map(
                    ["true", "{number}"],
                    number=range(work.sweep),
                    slots=work.slots,
                    plan=plan,
                )
                return len(sweep.wait().succeeded)

        return rate(sweep, work.sweep)

    def whole_process(self, work: Work) -> list[float]:
        """Run `mlepool run -H host -- true`: seconds each."""
        command = [sys.executable, "-m", "mlepool", "run", "-H", self.place()]

        def run() -> None:
            done = subprocess.run([*command, "--", "true"], capture_output=True)
            expect(done.returncode, 0)

        return timed(run, work.tools)

    def _many(self, count: int) -> Any:
        """Return a pool with so many connections to the worker, none of them open."""
        pool = importlib.import_module("mlepool").ClientPool()
        for number in range(count):
            pool.add(self.place(), name=f"host{number}")
        return pool


def all_ended_well(listeners: Any, count: int) -> None:
    """Check that as many finished commands succeeded."""
    expect(len(listeners.succeeded), count)
