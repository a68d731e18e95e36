"""What a client may do: roles, and what narrows them."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["FULL", "ROLES", "Grant"]

# Each role by itself; a token has one or several. "admin" has all that the others have.
ROLES = ("view", "run", "sync", "admin")


class Grant(msgspec.Struct, frozen=True):
    """What the client of one link may do.

    Attributes:
        name: Of its token; ``"local"`` for this account on this machine.
        roles: Of :data:`ROLES`.
        commands: Patterns that a run's command must match one of; none: any command.
        roots: Folders that all files must be in; none: those of the worker's settings.
        labels: The token's own, for people.
        expires: When it ends, in seconds since the epoch; None for never.
    """

    name: str
    roles: frozenset[str]
    commands: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    labels: dict[str, str] = {}
    expires: float | None = None


FULL = Grant("local", frozenset(ROLES))
