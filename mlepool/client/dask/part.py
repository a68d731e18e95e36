"""One job of a Dask cluster: the scheduler, or a host's workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.dask.script import SIGN
from mlepool.client.ids import new_job_id
from mlepool.client.listening.listener import AsyncListener
from mlepool.errors import ClientError, MlepoolError
from mlepool.wire.values import StopReport

__all__ = ["Part"]

SCRIPT = Path(__file__).with_name("script.py")
STOP_GRACE = 5.0  # seconds between two signals; it ends its processes in less
FALLBACK = "python3"  # where a worker is too old to say what runs it


class Part:
    """A job that runs the script.

    Args:
        connection: The way to its host.
        kind: ``"scheduler"`` or ``"workers"``.
        python: The program that runs it; by default what runs mlepool's worker.

    Attributes:
        host: The connection's name.
        kind: As given.
        listener: The job's handle; None before it was begun.
    """

    def __init__(
        self, connection: AsyncConnection, *, kind: str, python: str | None
    ) -> None:
        self.host = connection.name
        self.kind = kind
        self.listener: AsyncListener | None = None
        self._connection = connection
        self._python = python or connection.state.get("interpreter", FALLBACK)
        self._job_id = ""
        self._lines: AsyncIterator[str] | None = None
        self._facts: dict[str, Any] = {}

    async def begin(self, settings: dict[str, Any], *, orphan_timeout: float) -> None:
        """Begin the job.

        Args:
            settings: The script's, beside ``part``: plain values.
            orphan_timeout: Seconds for which it goes on without a client.

        Raises:
            ClientError: If it can't be begun.
        """
        given = {"part": self.kind, **settings}
        keywords = {
            "input": f"{SCRIPT.read_text()}\n\nmain({given!r})\n",
            "orphan_timeout": orphan_timeout,
            "complete": False,
            "raise_error": False,
        }
        command = [self._python, "-", f"dask-{self.kind}"]
        self._job_id = new_job_id()  # from here on there may be something to stop
        run = self._connection.find("run")
        try:
            self.listener = await self._connection.call(
                run, (command,), keywords, job_id=self._job_id
            )
        except MlepoolError as exc:
            raise ClientError(f"{self.host}: {exc}") from exc

    async def hear(self, name: str, *, limit: float) -> Any:
        """Wait until it tells a fact.

        Args:
            name: The fact's.
            limit: When to give up, by the loop's clock.

        Raises:
            ClientError: If it can't go on, has ended, or does not tell it in time.
        """
        assert self.listener is not None
        self._lines = self._lines or aiter(self.listener)
        try:
            async with asyncio.timeout_at(limit):
                while name not in self._facts:
                    self._read(await anext(self._lines))
        except StopAsyncIteration:
            text = f"ended before it was ready ({self._standing()})"
            raise self._error(text) from None
        except TimeoutError:
            raise self._error(f"not ready in time ({self._standing()})") from None
        except MlepoolError as exc:
            raise self._error(str(exc)) from exc
        return self._facts[name]

    async def watch(self) -> str:
        """Wait until it has ended; says how."""
        assert self.listener is not None
        try:
            await self.listener.wait()
        except MlepoolError as exc:
            return str(exc)
        return self._standing()

    async def stop(self) -> StopReport | None:
        """End it and what it has started, and remove its folder.

        Returns:
            What was signalled; None if it was never begun, or has ended with its
            connection.

        Raises:
            MlepoolError: If the host can't be asked, or refuses.
        """
        has_ended = self.listener is not None and self.listener.intake.is_over
        if not self._job_id or (has_ended and self._connection.is_closed):
            return None
        stop, ask = self._connection.find("stop"), {"raise_error": True}
        given = {"signal": "SIGINT", "grace": STOP_GRACE, **ask}
        try:
            listener = await self._connection.call(stop, (self._job_id,), given)
        except LookupError:
            return None  # it was given up before it was sent
        folder = self._facts.get("folder")
        if folder:  # it has done so itself, unless it was killed
            remove, words = self._connection.find("run"), ["rm", "-rf", "--"]
            await self._connection.call(remove, ([*words, folder],), ask)
        report = listener.value
        assert isinstance(report, StopReport)
        return report

    def _read(self, line: str) -> None:
        """Note what a line tells; most are of the log.

        Raises:
            ClientError: If it tells of a problem.
        """
        if not line.startswith(SIGN):
            return
        facts: dict[str, Any] = json.loads(line.removeprefix(SIGN))
        self._facts |= facts
        problem, text = facts.get("problem"), facts.get("text", "")
        if problem == "missing":
            raise ClientError(
                f"{facts['interpreter']} there can't import distributed ({text}): "
                "install 'mlepool[dask]' for it, or give python="
            )
        if problem == "unreachable":
            raise ClientError(
                f"it can't reach the scheduler ({text}): give address= by which all "
                "hosts and this one can"
            )

    def _standing(self) -> str:
        assert self.listener is not None
        error = str(self.listener.error or "").partition("\n")[0]
        lines = str(self.listener.output).split("\n")
        said = [one for one in lines if one.strip() and not one.startswith(SIGN)]
        last = f"; its last line: {said[-1].strip()}" if said else ""
        return f"{self.listener.status}{f', {error}' if error else ''}{last}"

    def _error(self, text: str) -> ClientError:
        return ClientError(f"{self.kind} on {self.host}: {text}")
