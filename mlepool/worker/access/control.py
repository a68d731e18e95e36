"""Who may come in: judges proofs, and makes those who fail wait."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import NamedTuple

from mlepool.wire.messages import Proof
from mlepool.wire.session import Role, Session, prove
from mlepool.worker.access.tokens import Token, TokenStore, token_id

__all__ = ["AccessControl", "Verdict"]

MAX_FAILURES = 5  # failed proofs from one address before it has to wait
FAILURE_WINDOW = 60.0  # seconds after which they are forgotten
MAX_ADDRESSES = 1024  # addresses remembered; the oldest is forgotten first


class Verdict(NamedTuple):
    """What became of a try to come in.

    Attributes:
        token: The token that lets in; None if none does.
        mac: The worker's own proof that it knows that token.
        reason: Why it is refused; empty if it is not.
        is_repeated: True for one of those who have failed too often, and have to wait.
    """

    token: Token | None = None
    mac: bytes = b""
    reason: str = ""
    is_repeated: bool = False


class AccessControl:
    """Judges who wants to come in.

    Args:
        tokens: The tokens of which one must be known.
        clock: Gives the time, in seconds.
    """

    def __init__(self, tokens: TokenStore, *, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._clock = clock
        self._failures: dict[str, list[float]] = {}

    def judge(
        self, session: Session, proof: Proof, *, channel: bytes, address: str
    ) -> Verdict:
        """Judge a client's proof.

        A right proof is let in at any time: nobody guesses 256 random bits, and who
        shares an address with somebody who tries must not suffer for it. What has
        become of a token is told to nobody but who has it.
        """
        token = self._tokens.find(proof.token_id)
        transcript = session.transcript(channel)
        if token is not None:
            expected = prove(token.secret, Role.CLIENT, transcript=transcript)
            if hmac.compare_digest(expected, proof.mac):
                mac = prove(token.secret, Role.WORKER, transcript=transcript)
                return self._known(token, mac, address)
        return self._unknown(proof, address, is_named=token is not None)

    def judge_secret(self, secret: str, *, address: str) -> Verdict:
        """Judge who shows a token's secret itself, as HTTP does with TLS around it."""
        token = self._tokens.find(token_id(secret))
        known = b"" if token is None else token.secret.encode()
        if token is not None and hmac.compare_digest(known, secret.encode()):
            return self._known(token, b"", address)
        return self._unknown(Proof(token_id(secret)), address, is_named=False)

    def _known(self, token: Token, mac: bytes, address: str) -> Verdict:
        """Judge who has shown to have a token."""
        problem = token.problem(self._tokens.clock())
        if problem:
            return self._refuse(problem, address)
        self._failures.pop(_source(address), None)
        self._tokens.note_use(token)
        return Verdict(token, mac)

    def _unknown(self, proof: Proof, address: str, *, is_named: bool) -> Verdict:
        if not proof.token_id:
            reason = "no token; run 'mlepool trust URL' with the worker's join URL"
        elif not is_named:
            reason = "wrong token; run 'mlepool trust URL' with the worker's join URL"
        else:
            reason = (
                "the proof is wrong: the link does not lead straight to this worker"
            )
        return self._refuse(reason, address)

    def _refuse(self, reason: str, address: str) -> Verdict:
        wait = self._must_wait(address)
        if wait > 0:
            reason = f"too many failed attempts; try again in {wait:.0f} s"
            return Verdict(reason=reason, is_repeated=True)
        self._note_failure(address)
        return Verdict(reason=reason)

    def _must_wait(self, address: str) -> float:
        failures = self._failures.get(_source(address), [])
        recent = [one for one in failures if self._clock() - one < FAILURE_WINDOW]
        if len(recent) < MAX_FAILURES:
            return 0.0
        return FAILURE_WINDOW - (self._clock() - recent[0])

    def _note_failure(self, address: str) -> None:
        source = _source(address)
        failures = self._failures.pop(source, [])
        self._failures[source] = [*failures[-MAX_FAILURES + 1 :], self._clock()]
        if len(self._failures) > MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]


def _source(address: str) -> str:
    """Give an address without its port, which is another one at each attempt."""
    return address.rpartition(":")[0] or address
