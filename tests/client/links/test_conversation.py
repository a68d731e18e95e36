"""What comes right behind a welcome, before the connection has taken it."""

from types import SimpleNamespace
from typing import Any

import pytest

from mlepool.client.links.conversation import Conversation
from mlepool.errors import RemoteProtocolError
from mlepool.wire.messages import Event


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
