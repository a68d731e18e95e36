"""A catalogue as it travels."""

import msgspec
import pytest

from mlepool.errors import RemoteProtocolError
from mlepool.wire.catalogue import digest_of, pack, unpack
from mlepool.wire.messages import CommandSpec, Parameter

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
