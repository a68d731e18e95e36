"""A catalogue as it travels."""

from typing import Any

import msgspec
import pytest

from mlepool.errors import RemoteProtocolError
from mlepool.wire.catalogue import digest_of, pack, unpack
from mlepool.wire.codec import decode, encode
from mlepool.wire.messages import CommandSpec, Event, Parameter, Welcome

RUN = CommandSpec("run", "Run it.", (Parameter("command", "KEYWORD_ONLY"),))


def test_a_catalogue_comes_back_as_it_was():
    assert unpack(pack([RUN]).commands) == (RUN,)
    assert unpack(pack([]).commands) == unpack(b"") == ()


def test_the_same_commands_have_the_same_digest_and_others_another():
    first = pack([RUN])
    assert pack((RUN,)) == first
    assert digest_of(first.commands) == first.digest
    changed = msgspec.structs.replace(RUN, doc="Run that.")
    assert pack([changed]).digest != first.digest


@pytest.mark.parametrize(
    "bad",
    [b"\xc1", b"\x91", b"\x80", b"\x91\x91\xc0", b"\x91\x91\xa1\xff", b"\x90\x90"],
)
def test_bytes_that_are_no_catalogue_are_refused(bad):
    with pytest.raises(RemoteProtocolError, match="a catalogue is wrong"):
        unpack(bad)


class FirstWelcome(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The message as the first clients and workers have it."""

    mac: bytes
    worker: str = ""
    commands: tuple[CommandSpec, ...] = ()
    state: dict[str, Any] = {}


def test_clients_and_workers_of_the_first_release_read_and_write_it_as_an_array():
    first = FirstWelcome(b"m", "gpu1", (RUN,), {"os": "linux"})
    packed = msgspec.Raw(pack([RUN]).commands)
    now = Welcome(b"m", "gpu1", packed, {"os": "linux"})
    assert msgspec.msgpack.decode(encode(now), type=FirstWelcome) == first
    assert decode(msgspec.msgpack.encode(first)) == now
    told = decode(encode(Event("catalogue", packed)))
    assert isinstance(told, Event)
    assert unpack(msgspec.msgpack.encode(told.data)) == (RUN,)
