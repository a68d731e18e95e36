"""A worker's catalogue as it travels: packed once, and known by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mlepool.errors import RemoteProtocolError
from mlepool.wire.codec import NOT_DECODABLE
from mlepool.wire.messages import CommandSpec

__all__ = ["Packed", "digest_of", "pack", "unpack"]

_decoder = msgspec.msgpack.Decoder(tuple[CommandSpec, ...])


class Packed(NamedTuple):
    """A catalogue, ready to be sent.

    Attributes:
        commands: Its commands, as MessagePack.
        digest: The SHA-256 of that.
    """

    commands: bytes
    digest: bytes


def pack(commands: Iterable[CommandSpec]) -> Packed:
    """Pack a catalogue."""
    packed = msgspec.msgpack.encode(tuple(commands))
    return Packed(packed, digest_of(packed))


def unpack(packed: bytes) -> tuple[CommandSpec, ...]:
    """Read a catalogue; empty bytes are an empty one.

    Raises:
        RemoteProtocolError: If it is none.
    """
    try:
        return _decoder.decode(packed) if packed else ()
    except NOT_DECODABLE as exc:
        raise RemoteProtocolError(f"a catalogue is wrong: {exc}") from exc


def digest_of(packed: bytes) -> bytes:
    """Give the name that a packed catalogue goes by: nobody can make another of it."""
    return hashlib.sha256(packed).digest()
