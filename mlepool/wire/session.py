"""One side of one conversation: handshake, what may come when, keep-alive.

Both sides send :class:`~mlepool.wire.messages.Hello` at once. The client answers the
worker's Hello with a Proof, the worker answers that with Welcome, and then requests
may flow. Time is an argument, in seconds; bytes to send pile up in the session until
the driver takes them.
"""

import enum
import hashlib
import hmac

from mlepool.errors import LocalProtocolError, RemoteProtocolError
from mlepool.wire.codec import Data, decode, encode
from mlepool.wire.keepalive import SILENCE_LIMIT, KeepAlive
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
    Ping,
    Pong,
    Proof,
    Request,
    Seen,
    Skip,
    Welcome,
)

__all__ = [
    "HANDSHAKE_LIMIT",
    "NEWEST_VERSION",
    "OLDEST_VERSION",
    "Role",
    "Session",
    "State",
    "prove",
]

OLDEST_VERSION = 1
NEWEST_VERSION = 1

HANDSHAKE_LIMIT = 10.0  # seconds; a stranger may hold a link no longer
NONCE_SIZE = 32  # bytes
MAX_NAME = 256  # characters; what names the other side stands in errors and proofs


class Role(enum.Enum):
    """Which side we are."""

    CLIENT = "client"
    WORKER = "worker"


class State(enum.Enum):
    """Where the conversation stands."""

    GREETING = "greeting"
    PROVING = "proving"
    OPEN = "open"
    CLOSED = "closed"


# Who may receive what, when. What is not here is a protocol error.
_ALWAYS = frozenset({Bye, Ping, Pong})
_OWN = _ALWAYS | {Hello, Welcome}  # what means something to the session itself
EXPECTED: dict[tuple[Role, State], frozenset[type]] = {
    (Role.CLIENT, State.GREETING): frozenset({Hello, Bye}),
    (Role.CLIENT, State.PROVING): frozenset({Welcome, Bye}),
    (Role.CLIENT, State.OPEN): _ALWAYS | {Accepted, Ended, Event, Data, Skip, Seen},
    (Role.WORKER, State.GREETING): frozenset({Hello, Bye}),
    (Role.WORKER, State.PROVING): frozenset({Proof, Bye}),
    (Role.WORKER, State.OPEN): _ALWAYS | {Request, Attach, Credit, Leave, Look},
}

# What moves the state on. What is not here leaves it where it is.
TRANSITIONS: dict[tuple[State, str], State] = {
    (State.GREETING, "greeted"): State.PROVING,
    (State.PROVING, "welcomed"): State.OPEN,
    (State.GREETING, "closed"): State.CLOSED,
    (State.PROVING, "closed"): State.CLOSED,
    (State.OPEN, "closed"): State.CLOSED,
    (State.CLOSED, "closed"): State.CLOSED,
}


def prove(secret: str, role: Role, *, transcript: bytes) -> bytes:
    """Make the proof that one side knows a secret, for this conversation only.

    HMAC-SHA256 (RFC 2104) over the role, both nonces, the worker's key and the
    key that the channel itself showed: a proof can't be used on another link.
    """
    message = b"mlepool 1 " + role.value.encode() + b"\0" + transcript
    return hmac.digest(secret.encode(), message, hashlib.sha256)


class Session:
    """The protocol of one side of one link.

    Args:
        role: Which side we are.
        hello: What we say first.
        now: The time, in seconds.

    Attributes:
        peer: The other side's Hello, once it came.
        version: The version agreed on, once greeted.
        farewell: The reason that we gave when we closed.
        outgoing: Frames that are to be sent now; :meth:`frames_to_send` takes them.
    """

    def __init__(self, role: Role, hello: Hello, *, now: float) -> None:
        self.role = role
        self.hello = hello
        self.state = State.GREETING
        self.peer: Hello | None = None
        self.version = 0
        self.farewell = ""
        self.outgoing: list[bytes] = [encode(hello)]
        self._other = Role.WORKER if role is Role.CLIENT else Role.CLIENT
        self._look_up()
        self._began = now
        self._alive = KeepAlive(now, begins=role is Role.CLIENT)

    def frames_to_send(self) -> list[bytes]:
        """Take the frames that are to be sent now."""
        frames, self.outgoing = self.outgoing, []
        return frames

    @property
    def rtt(self) -> float | None:
        """Seconds that the latest Ping waited for its Pong; None before the first."""
        return self._alive.rtt

    def heard(self, now: float) -> None:
        """Note that bytes came, of whatever kind: the other side lives."""
        self._alive.heard = now

    def sent(self, now: float) -> None:
        """Note that a frame was sent, of whatever kind: the other side hears us."""
        self._alive.sent = now

    def ping(self, now: float) -> None:
        """Queue a Ping, unless one waits for its Pong.

        Raises:
            LocalProtocolError: If the session is not open.
        """
        number = self._alive.ping(now)
        if number is not None:
            self._queue(Ping(number))

    def send(self, message: Message) -> None:
        """Queue a message of the open conversation.

        Raises:
            LocalProtocolError: If the session is not open, or the message is not
                one that the other side may receive; :meth:`close` says Bye.
        """
        if self.state is not State.OPEN or isinstance(message, Bye):
            raise self._untimely(message)
        self._queue(message)

    def receive(self, frame: bytes | memoryview) -> Message | Data | None:
        """Take a frame.

        Returns:
            The message for the driver; None for what the session handled itself.

        Raises:
            RemoteProtocolError: If the frame is bad, or not expected now.
        """
        if self.state is State.CLOSED:
            return None
        message = decode(frame)
        kind = type(message)
        if kind not in self._expected:
            raise RemoteProtocolError(
                f"{kind.__name__} is not expected by the "
                f"{self.role.value} while {self.state.value}"
            )
        if kind not in _OWN:
            return message  # nearly all that comes
        if isinstance(message, Ping):
            self.outgoing.append(encode(Pong(message.number)))
            return None
        self._note(message)
        return message

    def _note(self, message: Message | Data) -> None:
        """Do what a message means to the session itself."""
        if isinstance(message, Pong):
            self._alive.pong(message.number)  # and never a Ping for it: no storms
        elif isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Welcome):
            self._move("welcomed")
        elif isinstance(message, Bye):
            self._move("closed")

    def transcript(self, channel: bytes) -> bytes:
        """Give what both sides' proofs must cover.

        Args:
            channel: The key that the channel itself showed; empty where it has none.
        """
        assert self.peer is not None
        pair = (self.hello, self.peer)
        client, worker = pair if self.role is Role.CLIENT else pair[::-1]
        parts = (client.nonce, worker.nonce, worker.key.encode(), channel)
        return b"".join(len(part).to_bytes(2, "big") + part for part in parts)

    def prove(self, proof: Proof) -> None:
        """Queue the client's proof.

        Raises:
            LocalProtocolError: If the worker does not wait for one.
        """
        self._queue(proof)

    def welcome(self, welcome: Welcome) -> None:
        """Queue the worker's welcome; the conversation is open.

        Raises:
            LocalProtocolError: If the client does not wait for one, or it is too large.
        """
        self._queue(welcome)
        self._move("welcomed")

    def close(self, code: str, reason: str) -> None:
        """Queue a farewell; twice is fine."""
        if self.state is not State.CLOSED:
            self.farewell = reason
            self.outgoing.append(encode(Bye(code, reason)))
            self._move("closed")

    def next_tick(self) -> float | None:
        """When :meth:`tick` must be called at the latest; None for never."""
        if self.state is State.CLOSED:
            return None
        if self.state is not State.OPEN:
            return self._began + HANDSHAKE_LIMIT
        return self._alive.next_tick()

    def tick(self, now: float) -> str | None:
        """Do what is due.

        Returns:
            Why the link is to be given up; None if it is well.
        """
        due = self.next_tick()
        if due is None or now < due:
            return None
        if self.state is not State.OPEN:
            return f"no handshake within {HANDSHAKE_LIMIT:g} s"
        if self._alive.is_silent(now):
            return f"nothing heard for {SILENCE_LIMIT:g} s"
        self.ping(now)
        return None

    def _greet(self, peer: Hello) -> None:
        if peer.oldest > peer.newest or len(peer.nonce) != NONCE_SIZE:
            raise RemoteProtocolError("a Hello without a version range and nonce")
        if max(len(peer.software), len(peer.key)) > MAX_NAME:
            raise RemoteProtocolError(f"a Hello with over {MAX_NAME} characters a name")
        self.peer = peer
        low = max(self.hello.oldest, peer.oldest)
        high = min(self.hello.newest, peer.newest)
        if low > high:
            self.close("version", self._version_clash(peer))
            return
        self.version = high
        self._move("greeted")

    def _version_clash(self, peer: Hello) -> str:
        sides = {self.role: self.hello}
        sides[Role.WORKER if self.role is Role.CLIENT else Role.CLIENT] = peer
        texts = [
            f"the {role.value} ({hello.software or 'unknown'}) speaks "
            f"{hello.oldest} to {hello.newest}"
            for role, hello in sides.items()
        ]
        return f"no common protocol version: {', '.join(texts)}"

    def _queue(self, message: Message) -> None:
        if type(message) not in self._sendable:
            raise self._untimely(message)
        self.outgoing.append(encode(message))

    def _untimely(self, message: Message) -> LocalProtocolError:
        kind = type(message).__name__
        return LocalProtocolError(f"cannot send {kind} while {self.state.value}")

    def _move(self, event: str) -> None:
        self.state = TRANSITIONS[self.state, event]
        if event == "welcomed":
            begins = self.role is Role.CLIENT
            self._alive = KeepAlive(self._alive.heard, begins=begins)
        self._look_up()

    def _look_up(self) -> None:
        """Note what may come and go now: looked at for every frame."""
        self._expected = EXPECTED.get((self.role, self.state), frozenset())
        self._sendable = EXPECTED.get((self._other, self.state), frozenset())
