"""Who is at the other end of a link: what they may do, and what they did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from msgspec import structs

from mlepool.errors import PermissionDeniedError
from mlepool.files.base import TargetReport
from mlepool.files.descent import is_inside
from mlepool.wire.messages import CommandSpec, Request
from mlepool.worker.access.audit import AuditLog, facts_of, in_words
from mlepool.worker.access.grants import FULL, command_line, denied, foreign_variables
from mlepool.worker.access.tokens import Token, TokenStore
from mlepool.worker.job import Job
from mlepool.worker.jobs import JobTable
from mlepool.worker.registry import Process
from mlepool.worker.threads import in_thread

__all__ = ["Visitor"]

MAX_FED = 1000  # jobs of one link of which it is remembered that they got input

RUNS = ("run", "exec")  # what patterns judge by its argv alone

# Requests of syncs are many, and made for the client: these say what a sync is.
TREE = "_tree_"  # what their names begin with
SYNC_STEPS = ("_tree_open_source", "_tree_open_target", "_tree_commit")


class Visitor:
    """Who is at the other end of a link, and what they may do.

    Args:
        tokens: The worker's tokens.
        jobs: The worker's jobs.
        audit: Where it is written down.
        address: Where they are; of a local one pid and uid.
        token: What they came in by; None for this account on this machine.

    Attributes:
        grant: What they may do.
        token: What they came in by.
        who: Who they are, for the audit log.
    """

    def __init__(
        self,
        tokens: TokenStore,
        jobs: JobTable,
        audit: AuditLog,
        *,
        address: str,
        token: Token | None,
    ) -> None:
        self.grant = FULL if token is None else token.grant()
        self.token = token
        self.who = {"token": self.grant.name, "address": address}
        if token is not None:
            self.who["token_id"] = token.id
        self._tokens = tokens
        self._jobs = jobs
        self._audit = audit
        self._fed: set[str] = set()

    def start_folder(self, root: Path) -> Path:
        """Give the folder that their relative paths count from.

        Args:
            root: The worker's own.

        Returns:
            That, or the first of the folders that the token is for, if it is for some.
        """
        return self.grant.roots[0] if self.grant.roots else root

    def problem(self) -> tuple[str, str] | None:
        """Say why they have to leave now; None if they may stay.

        Returns:
            Code and reason of a :class:`~mlepool.wire.messages.Bye`.
        """
        if self.token is None:
            return None
        known = self._tokens.find(self.who["token_id"])
        if known is None:
            return "refused", f"this token ({self.grant.name!r}) is not known any more"
        if problem := known.problem(self._tokens.clock()):
            return "refused", problem
        if known is not self.token and known.grant() != self.grant:
            return "closed", f"the rights of this token ({known.name!r}) have changed"
        return None

    # -- may they?

    def check(self, spec: CommandSpec, request: Request) -> None:
        """Check that they may call a command; what a process is, is judged later.

        Raises:
            PermissionDeniedError: If they may not.
        """
        grant = self.grant
        if not grant.has(spec.role):
            self._refuse(f"the role {spec.role!r}", request)
        if grant.commands and spec.role == "run" and not spec.spawns:
            self._check_by_name(spec, request)

    def check_process(self, request: Request, process: Process) -> None:
        """Check that they may start a process: the command, and what is set for it.

        Raises:
            PermissionDeniedError: If they may not.
        """
        grant = self.grant
        if not grant.commands:
            return
        names = () if request.command in RUNS else (request.command,)
        line = command_line(process.argv)
        if not grant.fits(*filter(None, (line, *names))):
            what = f"not {line!r}" if line else "and for the shell one of plain words"
            patterns = " or ".join(map(repr, grant.commands))
            right = f"a command that fits {patterns}, {what}"
            self._refuse(right, request, argv=in_words(process.argv))
        if foreign := foreign_variables(process.env):
            right = f"to set {', '.join(foreign)} for a command"
            self._refuse(right, request, argv=in_words(process.argv))

    def check_reader(self, job: Job) -> None:
        """Check that they may read a job's output.

        Raises:
            PermissionDeniedError: If they may not.
        """
        if not self.grant.has("view") and job.owner != self.grant.name:
            self._refuse("the role 'view' for the jobs of others", job=job.id)

    async def settle(self, request: Request, process: Process, cwd: Path) -> Process:
        """Find where a process would run, and that it may run there.

        Raises:
            PermissionDeniedError: If the folder is not of those that the token is for.
        """
        if not self.grant.roots:
            return process
        asked, roots = _place(cwd, process), self.grant.roots
        real = await in_thread(lambda: _real_folder(asked, roots))
        if not real:
            right = f"a folder of its own to run in, not {asked!r}"
            self._refuse(right, request, argv=in_words(process.argv))
        return structs.replace(process, cwd=real)

    # -- what they did

    def note(self, spec: CommandSpec, request: Request) -> None:
        """Write down that they call a command that may change something."""
        name = request.command
        if spec.role in ("any", "view") or spec.spawns or name == "resize":
            return
        if name.startswith("_") and name not in SYNC_STEPS and spec.role != "admin":
            return
        if name == "send_input" and not self._is_first_input(request):
            return
        facts = facts_of(request.arguments, is_builtin=not spec.streams)
        job = request.id if spec.streams else None
        self._write("accepted", **_called(name), job=job, **facts)

    def note_process(self, request: Request, process: Process, cwd: Path) -> None:
        """Write down that they start a process."""
        facts: dict[str, Any] = {
            "command": request.command,
            "job": request.id,
            "argv": in_words(process.argv),
            "cwd": in_words((_place(cwd, process),))[0],
        }
        if process.env:
            facts["env"] = sorted(process.env)
        if process.files.tree:
            facts["tree"] = process.files.tree
        self._audit.write("accepted", **self.who, **facts)

    def note_not_begun(self, request: Request, exc: Exception) -> None:
        """Write down that a job of theirs was accepted, and could not begin."""
        (reason,) = in_words([str(exc)])
        self._write("ended", job=request.id, status="FAILED", reason=reason)

    def note_value(self, request: Request, value: Any) -> None:
        """Write down what a sync has done."""
        if isinstance(value, TargetReport):
            self._write(
                "synced",
                session=request.arguments.get("session"),
                tree=request.arguments.get("digest") or None,
                written=value.written,
                deleted=value.deleted,
                problems=len(value.problems),
            )

    def note_failure(self, request: Request, exc: Exception) -> None:
        """Write down that files are not open to them, or not to the account."""
        if isinstance(exc, PermissionError) and not isinstance(
            exc, PermissionDeniedError
        ):
            facts = {**_called(request.command), "job": request.id}
            text = str(exc).removeprefix(f"[Errno {exc.errno}] ")
            self._write("refused", right=next(iter(in_words([text]))), **facts)

    # -- within

    def _check_by_name(self, spec: CommandSpec, request: Request) -> None:
        """Check a command that starts no process, for who may run some only."""
        job_id = request.arguments.get("job_id")
        if not isinstance(job_id, str):
            if not self.grant.fits(spec.name):
                self._refuse(f"a command pattern that fits {spec.name!r}", request)
        elif self._jobs.find(job_id).owner != self.grant.name:
            self._refuse("to have started that job itself", request)

    def _refuse(
        self, right: str, request: Request | None = None, **facts: Any
    ) -> NoReturn:
        grant = self.grant
        if request is not None:
            facts = {**facts, **_called(request.command), "job": request.id}
        self._write("refused", right=right, **facts)
        roles = ", ".join(sorted(grant.roles))
        raise denied(f"needs {right}; this token ({grant.name!r}) has: {roles}")

    def _write(self, event: str, **facts: Any) -> None:
        self._audit.write(event, **self.who, **facts)

    def _is_first_input(self, request: Request) -> bool:
        """Tell if they have not sent a job anything before: that is written once."""
        job_id = str(request.arguments.get("job_id"))
        if job_id in self._fed:
            return False
        if len(self._fed) >= MAX_FED:
            self._fed.clear()
        self._fed.add(job_id)
        return True


def _called(name: str) -> dict[str, str]:
    """Give a command's name for the log: of a sync's request that, and which it is."""
    if name.startswith(TREE):
        return {"command": "sync", "step": name.removeprefix(TREE)}
    return {"command": name.lstrip("_")}


def _place(cwd: Path, process: Process) -> str:
    """Give the folder that a process is to run in."""
    if process.cwd is None:
        return str(cwd)
    if process.cwd.startswith("/"):
        return process.cwd
    return os.path.join(cwd, os.path.expanduser(process.cwd))


def _real_folder(path: str, roots: tuple[Path, ...]) -> str:
    """Give a folder's real path; empty if it is in none of the roots."""
    real = os.path.realpath(os.fsencode(path))
    allowed = [os.path.realpath(os.fsencode(one)) for one in roots]
    return os.fsdecode(real) if any(is_inside(real, one) for one in allowed) else ""
