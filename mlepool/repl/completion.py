"""Completion at a prompt: hosts, commands, job ids, remote paths.

What is typed is looked at as text, up to the cursor. Of it only names that the prompt
knows are looked up: nothing is called, no attribute is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mlepool.client.sync import ClientPool, Connection
from mlepool.client.sync.groups import GroupVerbs
from mlepool.errors import MlepoolError
from mlepool.repl.asking import Asker

__all__ = ["Completer", "Found"]

OWNER = r"(?P<owner>[^\W\d]\w*)(?:\[\s*(?P<mark>[\"'])(?P<key>[^\"']*)(?P=mark)\s*\])?"

# What ends the line: conn.verb(..., "text   conn.attribute   pool["text
STRING = re.compile(
    OWNER + r"\.(?P<verb>\w+)\((?P<args>[^()]*)(?<![\w\"'])(?P<quote>[\"'])"
    r"(?P<text>[^\"']*)$"
)
ATTRIBUTE = re.compile(rf"(?<![\w.]){OWNER}\.(?P<text>\w*)$")
SUBSCRIPT = re.compile(r"(?<![\w.])(?P<owner>[^\W\d]\w*)\[\s*[\"'](?P<text>[^\"']*)$")
MAGIC = re.compile(r"^\s*(?:%{1,2}|:)on\s+(?P<text>\S*)$")
KEYWORD = re.compile(r"(\w+)\s*=\s*$")

# Which argument of which command is what: a number by position, or a keyword.
JOBS = {("attach", 0), ("stop", 0), ("kill", 0), ("job", 0), ("logs", 0)}
JOBS |= {("is_alive", 0), ("send_input", 0)}
FOLDERS = {("cd", 0), ("run", "cwd"), ("exec", "cwd"), ("sync", 1)}
PATHS = {
    *((verb, 0) for verb in ("ls", "stat", "read", "rdfile", "write", "wrfile", "rm")),
    *((verb, 0) for verb in ("get", "glob", "mkdir", "mkdirs", "touch")),
    *((verb, at) for verb in ("copy", "move") for at in (0, 1)),
    *((verb, 1) for verb in ("put", "transfer")),
}


class Found(NamedTuple):
    """What may stand in place of the last part of the line.

    Attributes:
        text: That part, as it was typed.
        choices: What may stand there.
    """

    text: str
    choices: list[str]


class Completer:
    """Completes lines.

    Args:
        names: What is known at the prompt, by name.
        asker: Asks workers.
    """

    def __init__(self, names: Mapping[str, Any], asker: Asker | None = None) -> None:
        self._names = names
        self._asker = asker or Asker()

    def complete(self, line: str) -> Found | None:
        """Complete a line up to the cursor; None where this knows nothing."""
        for pattern, choose in (
            (MAGIC, self._after_magic),
            (STRING, self._in_string),
            (SUBSCRIPT, self._in_subscript),
            (ATTRIBUTE, self._of_connection),
        ):
            match = pattern.search(line)
            found = choose(match) if match else None
            if found is not None:
                return found
        return None

    def paths(self, conn: Connection, text: str) -> Found:
        """Complete a path on a worker."""
        return Found(text, _beginning(text, self._asker.paths(conn, text)))

    def hosts(self, text: str) -> Found | None:
        """Complete the last name of a set of hosts, of the pool of the prompt."""
        pool = self._names.get("pool")
        return _hosts(pool, text) if isinstance(pool, GroupVerbs) else None

    def _after_magic(self, match: re.Match[str]) -> Found | None:
        return self.hosts(match["text"])

    def _in_subscript(self, match: re.Match[str]) -> Found | None:
        pool = self._names.get(match["owner"])
        return _hosts(pool, match["text"]) if isinstance(pool, GroupVerbs) else None

    def _of_connection(self, match: re.Match[str]) -> Found | None:
        owner, text = self._owner(match), match["text"]
        if isinstance(owner, Connection):
            self._asker.open(owner)  # what it offers is known once it is connected
        elif owner is None or match["key"] is None:
            return None  # others know names as well
        names = (one for one in dir(owner) if text.startswith("_") or one[0] != "_")
        return Found(text, _beginning(text, names))

    def _in_string(self, match: re.Match[str]) -> Found | None:
        conn, text = self._owner(match), match["text"]
        if not isinstance(conn, Connection):
            return None
        given = KEYWORD.search(match["args"])
        place = match["verb"], given[1] if given else match["args"].count(",")
        if place in JOBS:
            return Found(text, _beginning(text, self._asker.job_ids(conn)))
        if place in FOLDERS:
            folders = (one for one in self._asker.paths(conn, text) if one[-1] == "/")
            return Found(text, _beginning(text, folders))
        return self.paths(conn, text) if place in PATHS else None

    def _owner(self, match: re.Match[str]) -> Connection | GroupVerbs | None:
        """Find what a name means, or a name with hosts in brackets."""
        found = self._names.get(match["owner"])
        if match["key"] is not None and isinstance(found, GroupVerbs):
            try:
                found = found[match["key"]]
            except (KeyError, MlepoolError):
                return None
        return found if isinstance(found, Connection | GroupVerbs) else None


def _hosts(pool: GroupVerbs, text: str) -> Found:
    """Complete the last name, or ``@group``: those before it, of a set, stay."""
    begun = re.split(r"[,!&^]", text)[-1].lstrip()
    groups = pool.groups if isinstance(pool, ClientPool) else ()
    return Found(
        begun, _beginning(begun, [*pool.names, *(f"@{one}" for one in groups)])
    )


def _beginning(text: str, names: Iterable[str]) -> list[str]:
    return sorted({one for one in names if one.startswith(text)})
