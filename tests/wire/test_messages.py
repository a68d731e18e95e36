"""Versions: fields that were appended, fields that are not there yet."""

import math
import typing
from typing import Any

import msgspec
import pytest

from mlepool.errors import RemoteProtocolError
from mlepool.wire.codec import decode, encode
from mlepool.wire.messages import (
    MAX_CALL,
    Attach,
    Credit,
    Failure,
    Hello,
    Leave,
    Message,
    Outcome,
    Ping,
    Request,
)
from tests.wire.cores import EACH_MESSAGE
from tests.wire.frozen_v1 import FRAMES

KINDS = typing.get_args(Message)
FIRST_VERSION = {1: 2, 2: 0, 3: 1, 4: 1, 5: 0, 6: 0, 7: 3, 8: 1, 9: 2, 10: 2, 11: 2}
# tag: fields that were there from the beginning
FIRST_VERSION |= {12: 1, 13: 1, 14: 2, 15: 1, 16: 2}


def wire_form(message: Message) -> list[Any]:
    """Give a message as the plain array that it is on the wire."""
    form = msgspec.msgpack.decode(encode(message))
    assert isinstance(form, list)
    return form


def from_wire(form: list[Any]) -> object:
    return decode(msgspec.msgpack.encode(form))


def test_there_is_an_example_of_each_message():
    assert {type(message) for message in EACH_MESSAGE} == set(KINDS)


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_what_was_sent_at_first_is_sent_and_understood_today(message):
    frame = FRAMES[type(message).__name__]
    assert decode(frame) == message
    assert encode(message) == frame


def test_tags_are_never_given_anew():
    tags = {kind.__name__: kind.__struct_config__.tag for kind in KINDS}
    assert tags == {
        "Hello": 1,
        "Proof": 2,
        "Welcome": 3,
        "Bye": 4,
        "Ping": 5,
        "Pong": 6,
        "Request": 7,
        "Accepted": 8,
        "Ended": 9,
        "Credit": 10,
        "Attach": 11,
        "Leave": 12,
        "Event": 13,
        "Skip": 14,
        "Look": 15,
        "Seen": 16,
    }


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_fields_that_a_newer_peer_appended_are_ignored(message):
    newer: list[list[Any]] = [[1], [None, {"a": []}, "more"], [b"x" * 1000]]
    for extra in newer:
        assert from_wire(wire_form(message) + extra) == message


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_trailing_fields_that_an_older_peer_lacks_take_their_defaults(message):
    form = wire_form(message)
    required = FIRST_VERSION[form[0]]
    fields = message.__struct_fields__
    for count in range(required, len(fields)):
        older = from_wire(form[: 1 + count])
        assert type(older) is type(message)
        values = [getattr(older, name) for name in fields[:count]]
        assert values == [getattr(message, name) for name in fields[:count]]


@pytest.mark.parametrize("message", EACH_MESSAGE, ids=lambda one: type(one).__name__)
def test_fields_that_were_always_there_must_be(message):
    form = wire_form(message)
    for count in range(FIRST_VERSION[form[0]]):
        with pytest.raises(RemoteProtocolError, match="Expected `array`"):
            from_wire(form[: 1 + count])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_is_a_frozen_array(kind):
    config = kind.__struct_config__
    assert config.frozen
    assert config.array_like
    assert not config.forbid_unknown_fields


def test_structs_within_messages_grow_by_appending_too():
    outcome = Outcome("FAILED", 1, failure=Failure("OSError", "no", errno=2))
    form = msgspec.msgpack.decode(msgspec.msgpack.encode(outcome))
    form[7].append("newer")
    newer = msgspec.msgpack.encode([*form, "newer", 1])
    assert msgspec.msgpack.decode(newer, type=Outcome) == outcome
    older = msgspec.msgpack.encode(["FAILED", 1])
    assert msgspec.msgpack.decode(older, type=Outcome) == Outcome("FAILED", 1)


@pytest.mark.parametrize(
    "message",
    [
        Leave(1),
        Leave(MAX_CALL),
        Credit(1, 0),
        Credit(1, 2**64 - 1),
        Attach(1, "id", 0, 0),
        Attach(1, "id", 2**63, 2**64 - 1),
        Request(1, "id", "run", {}, 0, 0.0),
        Request(1, "id", "run", {}, 1, math.inf),
    ],
    ids=repr,
)
def test_the_first_and_last_of_a_range_are_taken(message):
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Leave(0),
        Leave(-1),
        Leave(MAX_CALL + 1),
        Leave(2**64 - 1),
        Credit(1, -1),
        Attach(1, "id", -1),
        Attach(1, "id", 0, -1),
        Request(1, "id", "run", {}, -1),
        Request(1, "id", "run", {}, 0, -0.001),
        Request(1, "id", "run", {}, 0, math.nan),
    ],
    ids=repr,
)
def test_what_is_out_of_range_is_refused(message):
    with pytest.raises(RemoteProtocolError, match="Expected `(int|float)`"):
        decode(encode(message))


def test_a_number_is_not_a_text_nor_a_truth_value():
    for bad in ("1", 1.5, True, None, [1]):
        with pytest.raises(RemoteProtocolError, match="Expected `int`"):
            from_wire([Ping.__struct_config__.tag, bad])


def test_a_hello_of_the_first_version_needs_only_its_range():
    assert from_wire([1, 1, 9]) == Hello(1, 9)
