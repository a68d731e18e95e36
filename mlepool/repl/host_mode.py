"""Host mode: a prompt whose lines run on a host, or on several at once."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from mlepool.client.sync import ClientPool, Connection, Listener
from mlepool.client.tables import JobList
from mlepool.errors import MlepoolError
from mlepool.repl.editor import Typing
from mlepool.repl.following import Follower
from mlepool.repl.hosts import members
from mlepool.repl.words import OnLine

__all__ = ["HostMode"]

HELP = """\
A line runs on {hosts}, by /bin/sh. What begins with a colon is ours:
  cd DIR       go there; it stays so for this connection
  :jobs        what runs there, and has run
  :attach ID   a job's output from its first byte, then live
  :stop ID     end a job and all of its processes
  :on HOSTS    lines run there until exit; with a COMMAND behind it only that one
  :exit        leave; exit and Ctrl-D, too
Ctrl-C ends the waiting, and the command goes on; :attach comes back to it."""

# What is said in a line, and leaves no one.
ERRORS = (MlepoolError, OSError, LookupError, ValueError, ExceptionGroup)

SHOWN_JOBS = 20  # by :jobs

# What is more than a folder's name to a shell: that runs as it is.
SHELL_SIGNS = re.compile(r"[;&|<>$`()*?\[\]{}\n]")


class HostMode:
    """Reads lines and runs them on hosts, until it is left.

    Args:
        pool: Whose hosts.
        hosts: A name, or a set of names.
        ask: Reads a line after a prompt.

    Raises:
        KeyError: If there is no such host.
    """

    def __init__(
        self, pool: ClientPool, hosts: str, *, ask: Callable[[str], str] = input
    ) -> None:
        self._pool = pool
        self._hosts = hosts
        self._members = members(pool, hosts)
        self._ask = ask
        self._words = {
            "help": self._help,
            "on": self._on,
            "jobs": self._jobs,
            "attach": self._attach,
            "stop": self._stop,
        }

    def run(self) -> None:
        """Read and run lines; ``exit``, ``:exit`` and the end of input leave."""
        names = ", ".join(one.name for one in self._members[:5])
        print(f"lines run on {names}; :help says more, exit leaves")
        with Typing(self._members[0]):
            while (line := self._next()) is not None:
                self.take(line)

    def take(self, line: str) -> None:
        """Run one line; what fails is printed."""
        line = line.strip()
        if line.partition(" ")[0] == "%on":  # as at the prompt around this one
            line = f":{line[1:]}"
        word, _, rest = line.removeprefix(":").partition(" ")
        try:
            if line.startswith(":") and word in self._words:
                self._words[word](rest.strip())
            elif line.startswith(":") and not line.startswith(": "):
                print(f"there is no :{word}; :help says what there is")
            elif line:
                self._run(line)
        except KeyboardInterrupt:
            print()
        except KeyError as exc:
            print(f"mlepool: {exc.args[0]}")  # str() puts it in quotes
        except ERRORS as exc:
            print(f"mlepool: {exc}")

    def _next(self) -> str | None:
        try:
            line = self._ask(f"{self._hosts}> ")
        except KeyboardInterrupt:
            print()
            return ""
        except EOFError:
            print()
            return None
        return None if line.strip() in {"exit", "logout", ":exit"} else line

    def _run(self, line: str) -> None:
        folder = _folder_of(line)
        if folder is not None:
            for connection in self._members:
                _open(connection)
                print(connection.cd(folder, raise_error=True).value)
        elif len(self._members) == 1:
            self._follow(self._only().run(line, complete=False))
        else:
            group = self._pool.group(*(one.name for one in self._members))
            Follower(self._members).follow_all(group.run(line, complete=False))

    def _only(self) -> Connection:
        _open(self._members[0])
        return self._members[0]

    def _follow(self, listener: Listener) -> None:
        Follower(self._members).follow(listener)

    def _help(self, _: str) -> None:
        print(HELP.format(hosts=self._hosts))

    def _on(self, text: str) -> None:
        wanted = OnLine.parse(text)
        other = HostMode(self._pool, wanted.hosts(self._pool), ask=self._ask)
        if wanted.command:
            other.take(wanted.command)
        else:
            other.run()

    def _jobs(self, _: str) -> None:
        for connection in self._members:
            _open(connection)
            if len(self._members) > 1:
                print(f"{connection.name}:")
            found = connection.jobs(raise_error=True).value
            jobs = sorted(found, key=lambda one: one.started)
            print(JobList(jobs[-SHOWN_JOBS:]))
            more = len(jobs) - SHOWN_JOBS
            if more > 0:
                print(f"... and {more} before them: pool[...].jobs() has all")

    def _attach(self, text: str) -> None:
        connection, job_id = self._find(text)
        self._follow(connection.attach(job_id))

    def _stop(self, text: str) -> None:
        connection, job_id = self._find(text)
        print(connection.stop(job_id, raise_error=True).value)

    def _find(self, text: str) -> tuple[Connection, str]:
        """Find the job that an id, or the beginning of one, means.

        Raises:
            LookupError: If there is none, or more than one.
        """
        found = []
        for connection in self._members:
            _open(connection)
            jobs = connection.jobs(raise_error=True).value
            found += [(connection, one.id) for one in jobs if one.id.startswith(text)]
        if not text or len(found) != 1:
            raise LookupError(f"{text!r} is the beginning of {len(found)} jobs' ids")
        return found[0]


def _open(connection: Connection) -> None:
    """Connect, if there is no link and none will come by itself."""
    if connection.state["connection"] in {"new", "disconnected", "lost"}:
        connection.connect()


def _folder_of(line: str) -> str | None:
    """Give the folder, if a line is ``cd`` and nothing else."""
    if line != "cd" and (not line.startswith("cd ") or SHELL_SIGNS.search(line)):
        return None
    words = shlex.split(line)[1:]
    return None if len(words) > 1 else words[0] if words else "~"
