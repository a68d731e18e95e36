"""Two cores joined by hand: no link, no loop, no clock but the numbers given."""

from typing import Any

import msgspec

from mlepool.wire.codec import Data, encode
from mlepool.wire.messages import (
    Accepted,
    Attach,
    Bye,
    Credit,
    Ended,
    Event,
    Hello,
    Leave,
    Look,
    Message,
    Outcome,
    Ping,
    Pong,
    Proof,
    Request,
    Seen,
    Skip,
    Welcome,
)
from mlepool.wire.session import Role, Session, prove

TOKEN = "a token"
CHANNEL = b"the key that TLS showed"
CLIENT_NONCE = bytes(range(32))
WORKER_NONCE = bytes(range(32, 64))

# One message of each kind, and a data frame's stand-in.
EACH_MESSAGE: list[Message] = [
    Hello(1, 1, "mlepool 1.2", "key", CLIENT_NONCE, ("a", "b")),
    Proof("0123456789abcdef", bytes(32), (bytes(32),)),
    Welcome(bytes(32), "gpu1", msgspec.Raw(b"\x91\xc3"), {"os": "linux"}, bytes(32)),
    Bye("closed", "the end"),
    Ping(7),
    Pong(8),
    Request(1, "id", "run", {"command": "true"}, 65536, 2.5),
    Accepted(1, 10, 1.5, "true"),
    Ended(1, Outcome("SUCCEEDED", 0)),
    Credit(1, 4096),
    Attach(2, "id", 10, 65536),
    Leave(1),
    Skip(1, 500),
    Look(1),
    Seen(1, 500),
    Event("state-change", {"load": [1, 2.5, None, True, b"bytes"]}),
]


def client_hello(**changes: Any) -> Hello:
    """Make what a client says first."""
    return _hello("mlepool 1 client", CLIENT_NONCE, changes)


def worker_hello(**changes: Any) -> Hello:
    """Make what a worker says first."""
    return _hello("mlepool 1 worker", WORKER_NONCE, {"key": "fingerprint"} | changes)


def _hello(software: str, nonce: bytes, changes: dict[str, Any]) -> Hello:
    facts: dict[str, Any] = {"software": software, "nonce": nonce}
    return Hello(**({"oldest": 1, "newest": 1} | facts | changes))


def client_session(now: float = 0.0, **changes: Any) -> Session:
    """Make a client's session that has said Hello."""
    return Session(Role.CLIENT, client_hello(**changes), now=now)


def worker_session(now: float = 0.0, **changes: Any) -> Session:
    """Make a worker's session that has said Hello."""
    return Session(Role.WORKER, worker_hello(**changes), now=now)


def deliver(sender: Session, receiver: Session) -> list[Message | Data]:
    """Move what one has to send to the other; give what that one passes on."""
    received = [receiver.receive(frame) for frame in sender.frames_to_send()]
    return [message for message in received if message is not None]


def greet(client: Session, worker: Session) -> None:
    """Move both Hellos."""
    deliver(client, worker)
    deliver(worker, client)


def proof_of(client: Session, token: str = TOKEN, channel: bytes = CHANNEL) -> Proof:
    """Make the proof that a client sends."""
    transcript = client.transcript(channel)
    return Proof("", prove(token, Role.CLIENT, transcript=transcript))


def open_pair(now: float = 0.0) -> tuple[Session, Session]:
    """Make two sessions that have shaken hands."""
    client, worker = client_session(now), worker_session(now)
    greet(client, worker)
    client.prove(proof_of(client))
    deliver(client, worker)
    worker.welcome(Welcome(b"mac"))
    deliver(worker, client)
    return client, worker


def session_in(role: Role, state: str) -> Session:
    """Make a session of a role that is in a state."""
    client, worker = client_session(), worker_session()
    if state == "proving":
        greet(client, worker)
    elif state != "greeting":
        client, worker = open_pair()
    session = client if role is Role.CLIENT else worker
    if state == "closed":
        session.close("closed", "")
    session.frames_to_send()
    return session


def frame_of(message: Message) -> bytes:
    """Encode without regard to who may send it when."""
    return encode(message)
