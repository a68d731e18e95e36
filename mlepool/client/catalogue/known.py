"""Catalogues that workers have sent: read once, however many workers offer the same."""

from __future__ import annotations

from collections.abc import Mapping

from mlepool.client.catalogue.commands import BoundCommand, bound
from mlepool.errors import RemoteProtocolError
from mlepool.wire.catalogue import digest_of, unpack
from mlepool.wire.messages import Welcome

__all__ = ["KNOWN", "Commands", "KnownCatalogues", "offered_by"]

# Workers of one release with the same commands of their user's share one. Each worker
# is told of all, so it is not many; they are 60 KiB each, and may be 1 MiB.
MOST = 8

Commands = Mapping[str, BoundCommand]


class KnownCatalogues:
    """The catalogues that came last, by their digests.

    The digest is always made here, of what came: a worker can't put its own catalogue
    in the place of another's.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Commands] = {}

    def latest(self) -> dict[bytes, Commands]:
        """Give those that are known now, by digest."""
        return self._known.copy()

    def take(self, packed: bytes) -> Commands:
        """Give the commands of a catalogue that a worker has sent.

        Raises:
            RemoteProtocolError: If it is none.
        """
        digest = digest_of(packed)
        commands = self._known.get(digest)
        if commands is None:
            commands = bound(unpack(packed))
        self.use(digest, commands)
        return commands

    def use(self, digest: bytes, commands: Commands) -> None:
        """Note that a catalogue is in use; forget the one that was not for longest."""
        self._known.pop(digest, None)
        self._known[digest] = commands
        while len(self._known) > MOST:
            self._known.pop(next(iter(self._known)), None)


KNOWN = KnownCatalogues()  # of this process: its pools mostly have the same workers


def offered_by(welcome: Welcome, named: Mapping[bytes, Commands]) -> Commands:
    """Give what a worker offers.

    Args:
        welcome: What it said.
        named: The catalogues that it was told of, which it need not send.

    Raises:
        RemoteProtocolError: If that is no catalogue, or one that it was not told of.
    """
    if not welcome.catalogue:
        return KNOWN.take(bytes(welcome.commands))
    commands = named.get(welcome.catalogue)
    if commands is None:
        raise RemoteProtocolError("it leaves out a catalogue that it was not told of")
    KNOWN.use(welcome.catalogue, commands)
    return commands
