"""Questions to workers while somebody types: short, cached, and never an error."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Coroutine
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.sync import Connection
from mlepool.errors import MlepoolError, RemoteError

__all__ = ["Asker"]

LIMIT = 1.5  # seconds that a Tab may take
FRESH = 5.0  # seconds that an answer is used again
SORRY = 20.0  # seconds before a worker that did not answer is asked again
MAX_ANSWERS = 200  # that are kept
MAX_JOBS = 100  # whose ids are offered: the latest


class Asker:
    """Asks workers, within a bound; gives nothing where that fails."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str, str], tuple[float, list[str]]] = {}
        self._silent: dict[tuple[str, bool], float] = {}

    def open(self, conn: Connection) -> None:
        """Connect, if it was not connected yet."""
        if conn.state["connection"] == "new":
            self._ask(conn, _open(conn._async))

    def job_ids(self, conn: Connection) -> list[str]:
        """Give the ids of a worker's latest jobs."""
        return self._cached(conn, "jobs", "")

    def paths(self, conn: Connection, text: str) -> list[str]:
        """Give the paths that text may become; folders end with ``/``."""
        folder, name = posixpath.split(text)
        if name == "~" and not folder:
            return ["~/"]
        place = f"{folder.rstrip('/')}/" if folder else ""
        names = self._cached(conn, "ls", folder or ".")
        hidden = name.startswith(".")
        return [f"{place}{one}" for one in names if hidden or one[0] != "."]

    def _cached(self, conn: Connection, verb: str, about: str) -> list[str]:
        question = conn.name, verb, about
        asked, answer = self._answers.get(question, (0.0, []))
        if time.monotonic() - asked < FRESH:
            return answer
        work = _jobs(conn._async) if verb == "jobs" else _names(conn._async, about)
        answer = self._ask(conn, work) or []
        if len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
        self._answers[question] = time.monotonic(), answer
        return answer

    def _ask(self, conn: Connection, question: Coroutine[Any, Any, Any]) -> Any:
        # Who has a link now and had none may answer.
        how = conn.name, conn.is_connected
        if time.monotonic() < self._silent.get(how, 0.0):
            question.close()
            return None
        try:
            return conn._portal.call(question, LIMIT)
        except RemoteError:
            return None  # it has answered: there is no such folder
        except (MlepoolError, OSError, LookupError, AttributeError, TypeError):
            # A prompt is no place for errors.
            self._silent[how] = time.monotonic() + SORRY
            return None


async def _open(conn: AsyncConnection) -> None:
    if not conn.is_connected and not conn.is_closed:
        await conn.connect()


async def _jobs(conn: AsyncConnection) -> list[str]:
    await _open(conn)
    jobs = (await conn.call_named("jobs", raise_error=True)).value or []
    latest = sorted(jobs, key=lambda one: -float(one.started))
    return [one.id for one in latest[:MAX_JOBS]]


async def _names(conn: AsyncConnection, folder: str) -> list[str]:
    await _open(conn)
    found = (await conn.call_named("ls", folder, raise_error=True)).value or []
    # A name with a quote would end the string that it is put into.
    return [
        f"{one.name}/" if one.is_folder else one.name
        for one in found
        if one.name.isprintable() and not set(one.name) & {'"', "'", "\\"}
    ]
