"""One command on several hosts at once, for ``mlepool run``."""

from __future__ import annotations

import asyncio
import importlib
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mlepool.cli.choosing import Choice
from mlepool.cli.crowds import fold, goes_on, stopped
from mlepool.cli.exits import FAILED, INTERRUPTED, TIMED_OUT, UNKNOWN, exit_status
from mlepool.cli.interrupts import Interrupts
from mlepool.cli.outputs import Ending, JsonLines, Live, Output
from mlepool.cli.reach import MAX_DIALS, NOT_SENT, leave, open_chosen, stop_job
from mlepool.cli.tee import Tee
from mlepool.cli.wording import come_back, complain
from mlepool.client.connection import AsyncConnection
from mlepool.client.files.places import folder_of
from mlepool.client.ids import new_job_id
from mlepool.client.links.redial import PERMANENT
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.sources import chunks
from mlepool.errors import ClientError, CommandTimeoutError, MlepoolError
from mlepool.wire.values import StopReport

__all__ = ["Jobs", "Order"]

LINGER = 2.0  # seconds for the second Ctrl-C, which stops the jobs
STOP_GRACE = 5.0  # seconds between the signals of that stop
PIPE_GRACE = 2.0  # seconds after SIGPIPE, where our output's reader has gone away
STOP_LIMIT = 30.0  # seconds that workers may take to say that jobs are dead


class Order(NamedTuple):
    """What is to be run, where and how.

    Attributes:
        choice: The hosts.
        command: The command.
        keywords: As the worker's ``run`` takes them.
        sync: A folder to sync first.
        leaves: True to leave a job once it has begun.
        feeds: True to feed our stdin to it.
        limits: How many hosts at once, and the like; None for all at once.
        view: ``live``, ``json``, ``gather`` or ``diff``.
    """

    choice: Choice
    command: Any
    keywords: dict[str, Any]
    sync: Path | None = None
    leaves: bool = False
    feeds: bool = False
    limits: Any = None
    view: str = "live"


class Jobs:
    """One command on several hosts at once.

    Args:
        order: What is to be run.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._connections: list[AsyncConnection] = []
        self._output: Output = Live([])
        self._tee = Tee(chunks(_our_stdin(), "utf-8")) if order.feeds else None
        self._branches: dict[str, Any] = {}
        self._going: dict[str, AsyncConnection] = {}
        self._rollout: Any = None
        self._endings: dict[str, Ending] = {}
        self._refused: set[str] = set()

    async def run(self) -> int:
        """Run on all; the worst exit status."""
        with Interrupts() as interrupts:
            try:
                status = await interrupts.unless_pressed(self._run_on_all())
                if status is None:
                    self._output.close()
                    await self._interrupted(interrupts)
                return INTERRUPTED if status is None else status
            except BrokenPipeError:
                # As in a shell: who writes into a pipe that nobody reads is ended.
                await self._stop_all("SIGPIPE", grace=PIPE_GRACE)
                raise
            finally:
                # Not close(): what Ctrl-C leaves running is not to be stopped.
                await leave(self._connections)

    def say_what_goes_on(self) -> None:
        """Name the jobs that were begun and have not ended."""
        jobs = {one.name: job_id for job_id, one in self._going.items()}
        for line in goes_on(jobs):
            complain(line)

    # -- all hosts

    async def _run_on_all(self) -> int:
        self._connections = await open_chosen(self._order.choice)
        by_name = {one.name: one for one in self._connections}
        self._output = _make_output(list(by_name), self._order.view)
        if self._tee is not None:
            self._branches = {name: self._tee.branch() for name in by_name}
        self._gate = asyncio.Semaphore(MAX_DIALS)
        if self._order.limits is not None:
            await self._run_in_waves(by_name)
        else:
            await asyncio.gather(*map(self._run_on, self._connections))
        self._output.close()
        self._sum_up()
        known = (one.exit_status for one in self._endings.values())
        return max(one for one in known if one is not None)

    async def _run_in_waves(self, by_name: dict[str, AsyncConnection]) -> None:
        # Not at the top: few hosts need no waves.
        module = importlib.import_module("mlepool.cli.rollout")
        self._rollout = module.Rollout(list(by_name), self._order.limits)

        async def begin(name: str) -> Any:
            ending = await self._run_on(by_name[name])
            if ending.exit_status == 0:
                return module.Verdict.GOOD
            # Not repeated: what may be running, what somebody stopped, and who refuses.
            is_known = ending.exit_status != UNKNOWN or ending.id is None
            is_final = ending.status == "STOPPED" or name in self._refused
            may_repeat = is_known and not is_final
            return module.Verdict.AGAIN if may_repeat else module.Verdict.BAD

        await self._rollout.run(begin)
        for name in self._rollout.not_begun():
            why = f"not begun, since {self._rollout.cause}"
            self._end(name, Ending("SKIPPED", None, error=why))

    def _sum_up(self) -> None:
        """Say which of several hosts have ended badly, where nothing was said yet."""
        if len(self._endings) < 2 or self._order.view == "json":
            return
        alike: dict[str, list[str]] = {}
        for name in (one.name for one in self._connections):
            one = self._endings[name]
            if one.status == "SKIPPED":
                alike.setdefault(one.error, []).append(name)
            elif one.exit_status and not one.error:
                alike.setdefault(f"exit status {one.exit_status}", []).append(name)
        for what, names in alike.items():
            complain(f"{fold(names)}: {what}")

    async def _interrupted(self, interrupts: Interrupts) -> None:
        """Say what goes on, and stop it if Ctrl-C comes again soon."""
        if self._rollout is not None and (names := self._rollout.not_begun()):
            complain(f"{fold(names)}: not begun")
        if not self._going:
            return
        self.say_what_goes_on()
        what = "it" if len(self._going) == 1 else "them"
        complain(f"press Ctrl-C again within {LINGER:g} s to stop {what}")
        if await interrupts.unless_pressed(_linger()):
            return
        complain(f"stopping {what}")
        stop = self._stop_all("SIGINT", grace=STOP_GRACE)
        reports = await interrupts.unless_pressed(stop)
        for line in reports or ["not waited for the end of the stop"]:
            complain(line)

    async def _stop_all(self, signal: str, *, grace: float) -> list[str]:
        """Stop what was begun and has not ended; say what became of it."""
        names = [one.name for one in self._going.values()]
        stops = [
            self._stop(job_id, connection, signal, grace=grace)
            for job_id, connection in self._going.items()
        ]
        found = dict(zip(names, await asyncio.gather(*stops), strict=True))
        reports = {n: one for n, one in found.items() if isinstance(one, StopReport)}
        failed = [one for one in found.values() if isinstance(one, str)]
        return [*stopped(reports), *failed]

    async def _stop(
        self, job_id: str, connection: AsyncConnection, signal: str, *, grace: float
    ) -> StopReport | str:
        """Stop a job; give the proof, or why there is none."""
        try:
            async with asyncio.timeout(STOP_LIMIT):
                return await stop_job(connection, job_id, signal, grace=grace)
        except (MlepoolError, TimeoutError) as exc:
            why = str(exc) or f"no answer within {STOP_LIMIT:g} s"
            return f"job {job_id} on {connection.name} could not be stopped: {why}"

    # -- one host

    async def _run_on(self, connection: AsyncConnection) -> Ending:
        name, job_id = connection.name, new_job_id()
        branch = self._branches.get(name)
        try:
            async with self._gate:
                await connection.connect()
            ending = await self._follow(connection, job_id, branch)
        except CommandTimeoutError as exc:
            self._output.complain(name, str(exc))
            if exc.stopped:
                del self._going[job_id]
            status = TIMED_OUT if exc.stopped else UNKNOWN
            ending = Ending("TIMED_OUT", status, job_id, error=str(exc))
        except MlepoolError as exc:
            self._output.complain(name, str(exc))
            if isinstance(exc, ClientError) and job_id in self._going:
                self._output.complain(name, come_back(job_id, name))
            if isinstance(exc, PERMANENT):
                self._refused.add(name)
            begun = job_id if job_id in self._going else None
            ending = Ending("LOST", UNKNOWN, begun, error=str(exc))
        finally:
            if branch is not None:
                branch.close()
        self._end(name, ending)
        return ending

    def _end(self, name: str, ending: Ending) -> None:
        self._endings[name] = ending
        self._output.ended(name, ending)

    async def _follow(
        self, connection: AsyncConnection, job_id: str, branch: Any
    ) -> Ending:
        name, order = connection.name, self._order
        keywords = {**order.keywords, "complete": False, "input": branch}
        keywords |= await self._with_files(connection)
        run, what = connection.find("run"), (order.command,)
        # Entered before it is sent: Ctrl-C may come before the worker's answer.
        self._going[job_id] = connection
        try:
            listener = await connection.call(run, what, keywords, job_id=job_id)
        except NOT_SENT as exc:
            del self._going[job_id]
            self._output.complain(name, str(exc))
            return Ending("FAILED", FAILED, error=str(exc))
        was_begun = listener.error is None or listener.exit_code is not None
        if listener.place:
            self._output.complain(name, f"it waits in line: place {listener.place}")
        if order.leaves and was_begun:
            self._output.left(name, listener.id)
            return Ending(str(listener.status), 0, listener.id)
        async for batch in listener.batches():
            self._output.print(name, batch)
        del self._going[job_id]
        return self._ending(listener)

    def _ending(self, listener: AsyncListener) -> Ending:
        """Say how a command has ended, where that is more than its exit status."""
        said: list[str] = []
        status = exit_status(listener, said.append)
        for text in said:
            self._output.complain(listener.host, text)
        facts = listener.id, listener.exit_code, listener.duration, "".join(said)
        return Ending(str(listener.status), status, *facts)

    async def _with_files(self, connection: AsyncConnection) -> dict[str, Any]:
        """Sync what it is to run in; give the keywords about files."""
        keywords: dict[str, Any] = {}
        folder, given = self._order.sync, self._order.keywords
        if folder is not None:
            place = given.get("cwd") or folder.name or "."
            done = await connection.sync(folder, place, raise_error=True)
            keywords = {"cwd": place, "tree": done.value.digest}
        if given.get("collect"):
            several = folder_of(connection.name) if len(self._connections) > 1 else ""
            keywords["collect_to"] = Path(folder or "", several)
        return keywords


def _make_output(names: list[str], view: str) -> Output:
    several = names if len(names) > 1 else []
    if view == "json":
        return JsonLines()
    if view == "live":
        return Live(several)
    # Not at the top: it is for many hosts, and loads what compares.
    gather = importlib.import_module("mlepool.cli.gather")
    output: Output = gather.Gathered(names, as_diff=view == "diff")
    return output


def _our_stdin() -> io.RawIOBase:
    """Open stdin without a buffer: a thread that waits in one is in our way out."""
    return io.FileIO(sys.stdin.fileno(), closefd=False)


async def _linger() -> bool:
    await asyncio.sleep(LINGER)
    return True
