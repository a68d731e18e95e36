"""From a target to an open conversation: dial, prove, be welcomed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import importlib
import secrets

import msgspec

from mlepool.client.catalogue.known import KNOWN, Commands, offered_by
from mlepool.client.links.trust import (
    KEY,
    Target,
    TrustStore,
    local_socket,
    plain_sockets,
)
from mlepool.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    ConnectTimeoutError,
    LinkError,
    UntrustedWorkerError,
    VersionError,
)
from mlepool.peer import Handler, Peer
from mlepool.transport.base import Link
from mlepool.transport.unix import dial_unix
from mlepool.version import __version__
from mlepool.wire.codec import Data
from mlepool.wire.messages import Hello, Message, Proof, Welcome
from mlepool.wire.session import (
    NEWEST_VERSION,
    NONCE_SIZE,
    OLDEST_VERSION,
    Role,
    Session,
    prove,
)

__all__ = ["WEBSOCKET", "Entrance", "dial"]

# A fifth of what a client loads, and a worker's own socket needs nothing of it.
WEBSOCKET = "mlepool.transport.websocket.client"


async def dial(target: Target, *, proxy: str | None) -> Link:
    """Open a link.

    Raises:
        ConnectError: If there is no way to the worker.
    """
    try:
        if target.scheme == "unix":
            return await dial_unix(local_socket(target.host))
        # By way of a proxy, "localhost" is another machine.
        for path in plain_sockets(target) if proxy is None else ():
            with contextlib.suppress(LinkError):  # killed, it has left its name behind
                return await dial_unix(path)
        dial_websocket = importlib.import_module(WEBSOCKET).dial_websocket
        link: Link = await dial_websocket(target.url, proxy=proxy)
        return link
    except ConfigError as exc:
        raise ConnectError(target.name, target.port, str(exc)) from exc
    except LinkError as exc:
        kind = ConnectTimeoutError if exc.kind == "timeout" else ConnectError
        raise kind(target.host or target.name, target.port, exc.cause) from exc


class Entrance:
    """The handshake of one connection, until the worker has welcomed us.

    Args:
        target: Whom we want to speak to.
        link: The link to it.
        handler: Who takes over afterwards.
    """

    def __init__(self, target: Target, link: Link, *, handler: Handler) -> None:
        loop = asyncio.get_running_loop()
        self._target = target
        self._link = link
        self._handler = handler
        self._token = ""
        self._catalogues = KNOWN.latest()
        self._welcomed: asyncio.Future[Welcome] = loop.create_future()
        nonce = secrets.token_bytes(NONCE_SIZE)
        software = f"mlepool {__version__}"
        hello = Hello(OLDEST_VERSION, NEWEST_VERSION, software, nonce=nonce)
        session = Session(Role.CLIENT, hello, now=loop.time())
        self.peer = Peer(link, session, handler=self)

    @property
    def key(self) -> str:
        """The key that the worker has shown; empty before that."""
        hello = self.peer.session.peer
        return hello.key if hello is not None else ""

    async def enter(self) -> Welcome:
        """Do the handshake.

        Raises:
            AuthenticationError: If the worker refuses us.
            UntrustedWorkerError: If it is not the worker that is trusted.
            VersionError: If there is no common version.
            ConnectError: If the link breaks.
        """
        self.peer.start()
        try:
            return await self._welcomed
        except UntrustedWorkerError:
            self.peer.close("untrusted", "this is not the worker that it trusts")
            raise
        except BaseException:
            self.peer.close()
            raise

    def offered(self, welcome: Welcome) -> Commands:
        """Give what the worker offers.

        Raises:
            RemoteProtocolError: If that is no catalogue, or one that nobody has.
        """
        return offered_by(welcome, self._catalogues)

    def message_received(self, message: Message | Data) -> None:
        """Act on the worker's part of the handshake (peer)."""
        if isinstance(message, Hello):
            if self.peer.session.version:
                self._prove(message)
        elif isinstance(message, Welcome) and not self._welcomed.done():
            self._check(message)

    def writable(self) -> None:
        """Note that bulk may be sent: there is none before the welcome (peer)."""

    def peer_gone(self, cause: str, code: str) -> None:
        """Say why we were not let in (peer)."""
        if self._welcomed.done():  # a problem of ours was found first
            return
        kinds = {"refused": AuthenticationError, "version": VersionError}
        kind = kinds.get(code, ConnectError)
        self._welcomed.set_exception(self._error(kind, cause))

    def _prove(self, hello: Hello) -> None:
        if self._link.info.is_local:
            # Who we are was said by the kernel.
            self.peer.session.prove(Proof(catalogues=tuple(self._catalogues)))
            return
        try:
            self._token = self._choose_token(hello.key)
        except (ConnectError, ConfigError) as exc:
            if not self._welcomed.done():
                self._welcomed.set_exception(exc)
            return
        transcript = self.peer.session.transcript(self._link.info.channel)
        mac = prove(self._token, Role.CLIENT, transcript=transcript)
        token_id = hashlib.sha256(self._token.encode()).hexdigest()[:16]
        self.peer.session.prove(
            Proof(token_id if self._token else "", mac, tuple(self._catalogues))
        )

    def _choose_token(self, key: str) -> str:
        """Judge the key that the worker shows, and find the token that belongs to it.

        Raises:
            ConnectError: If it is no key at all.
            UntrustedWorkerError: If it is not the key that it should be.
        """
        if not KEY.fullmatch(key):
            raise self._error(ConnectError, "what it shows is no worker's key")
        channel = self._link.info.channel
        shown = base64.urlsafe_b64encode(channel).decode().rstrip("=")
        if channel and shown != key:
            raise self._error(
                UntrustedWorkerError,
                "the certificate is not the worker's own: somebody stands between",
            )
        target = self._target
        if target.key and target.key != key:
            raise self._untrusted(key, target.key)
        token = target.token or TrustStore().token_for(key)
        if not token and (expected := TrustStore().key_at(target)):
            raise self._untrusted(key, expected)
        return token

    def _check(self, welcome: Welcome) -> None:
        """Have the worker prove that it knows the token too."""
        if self._link.info.is_local or self._is_proven(welcome.mac):
            self.peer.reset_timer()
            # Nothing of this is kept for as long as the connection is: the welcome
            # alone, with the worker's whole catalogue, is 60 KiB.
            self.peer.hand_over(self._handler)
            # Its catalogue is still a part of the link's buffer.
            own = msgspec.structs.replace(welcome, commands=welcome.commands.copy())
            self._welcomed.set_result(own)
        else:
            cause = "it can't prove that it knows the token"
            self._welcomed.set_exception(self._error(UntrustedWorkerError, cause))

    def _is_proven(self, mac: bytes) -> bool:
        if not self._token:
            return False  # anybody can prove to know nothing
        transcript = self.peer.session.transcript(self._link.info.channel)
        expected = prove(self._token, Role.WORKER, transcript=transcript)
        return hmac.compare_digest(expected, mac)

    def _untrusted(self, shown: str, trusted: str) -> ConnectError:
        return self._error(
            UntrustedWorkerError,
            f"it shows the key {shown[:12]}..., but the trusted one is "
            f"{trusted[:12]}...; if it was set up anew, run 'mlepool trust' with its "
            "new join URL",
        )

    def _error(self, kind: type[ConnectError], cause: str) -> ConnectError:
        host = self._target.host or self._target.name
        return kind(host, self._target.port, cause)
