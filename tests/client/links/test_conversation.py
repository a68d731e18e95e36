"""What comes right behind a welcome, before the connection has taken it."""

from types import SimpleNamespace
from typing import Any

import pytest

from mlepool.client.links.conversation import Call, Conversation
from mlepool.errors import RemoteProtocolError
from mlepool.wire.messages import Event, Request


class Owner:
    """Whose conversation it is; takes events up to a bad one."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def event_came(self, name: str, data: Any) -> None:
        if data == "bad":
            raise RemoteProtocolError("a bad event")
        self.events.append((name, data))

    def call_ended(self, call: object) -> None: ...

    def link_gone(self, conversation: Conversation, cause: str, code: str) -> None: ...


def test_events_wait_until_the_connection_has_taken_the_welcome():
    owner = Owner()
    conversation = Conversation("here", owner)
    conversation.message_received(Event("state-change", 1))
    conversation.message_received(Event("state-change", 2))
    assert owner.events == []
    conversation.release_events()
    assert owner.events == [("state-change", 1), ("state-change", 2)]
    conversation.message_received(Event("catalogue", 3))
    assert owner.events[2:] == [("catalogue", 3)]


def test_a_bad_event_that_waited_closes_the_link():
    owner, said = Owner(), []
    conversation = Conversation("here", owner)
    close = lambda code, reason: said.append((code, reason))  # noqa: E731
    conversation.peer = SimpleNamespace(close=close)  # type: ignore[assignment]
    conversation.message_received(Event("state-change", "bad"))
    conversation.release_events()
    assert said == [("protocol", "a bad event")]
    with pytest.raises(RemoteProtocolError):
        conversation.message_received(Event("state-change", "bad"))


def test_what_was_asked_for_long_ago_is_never_younger_on_a_new_link():
    intake = SimpleNamespace(received=0, window=1)
    listener: Any = SimpleNamespace(intake=intake, timeout=None)
    call = Call(Request(1, "id", "run", timeout=5.0, age=100.0))
    call.listener = listener
    again = call.again(2)
    assert isinstance(again, Request)
    # Nobody here counts its limit, so that is the worker's from its start on.
    assert (again.age, again.timeout) == (100.0, 5.0)
    call.sent = call.made
    later = call.again(3)
    assert isinstance(later, Request)
    assert later.age > 100.0
