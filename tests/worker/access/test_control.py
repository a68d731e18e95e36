"""Who may come in: proofs, what is told to those who fail, rate limits."""

from pathlib import Path
from typing import Any

import pytest

from mlepool.wire.messages import Hello, Proof
from mlepool.wire.session import Role, Session, prove
from mlepool.worker.access.control import (
    FAILURE_WINDOW,
    MAX_ADDRESSES,
    MAX_FAILURES,
    AccessControl,
    Verdict,
)
from mlepool.worker.access.identity import Identity, new_secret
from mlepool.worker.access.tokens import Token, TokenStore, token_id

CHANNEL = b"c" * 32
WRONG = "x" * 43


class Door:
    """A worker's access control, a clock set by hand, and who tries to come in."""

    def __init__(self, folder: Path) -> None:
        self.identity = Identity(folder)
        self.now = 1000.0
        self.tokens = TokenStore(folder, clock=lambda: self.now)
        self.access = AccessControl(self.tokens, clock=lambda: self.now)

    def judge(self, token: str, address: str = "10.0.0.7:5000") -> str:
        """Come with a token; why it is refused, or nothing."""
        session = greeted(self.identity)
        mac = prove(token, Role.CLIENT, transcript=session.transcript(CHANNEL))
        return self.judge_proof(Proof(token_id(token) if token else "", mac), address)

    def judge_proof(self, proof: Proof, address: str = "10.0.0.7:5000") -> str:
        return self.verdict(proof, address).reason

    def verdict(self, proof: Proof, address: str = "10.0.0.7:5000") -> Verdict:
        session = greeted(self.identity)
        return self.access.judge(session, proof, channel=CHANNEL, address=address)

    def fail(self, address: str = "10.0.0.7:", times: int = MAX_FAILURES) -> None:
        for number in range(times):
            assert self.judge(WRONG, f"{address}{number}").startswith("wrong token")


@pytest.fixture
def door(tmp_path) -> Door:
    return Door(tmp_path)


def greeted(identity: Identity, client: bytes = b"c" * 32) -> Session:
    """Make the worker's session with a client that has said Hello."""
    hello = Hello(1, 1, key=identity.fingerprint, nonce=b"w" * 32)
    session = Session(Role.WORKER, hello, now=0.0)
    other = Session(Role.CLIENT, Hello(1, 1, nonce=client), now=0.0)
    session.receive(other.frames_to_send()[0])
    return session


# -- proofs


def test_who_knows_the_token_is_let_in(door):
    assert door.judge(door.identity.token) == ""


def test_who_has_no_token_is_told_what_to_do(door):
    expected = "no token; run 'mlepool trust URL' with the worker's join URL"
    assert door.judge("") == expected


def test_who_has_a_wrong_token_is_told_so(door):
    assert door.judge(WRONG).startswith("wrong token")


@pytest.mark.parametrize(
    ("client", "channel"),
    [(b"x" * 32, CHANNEL), (b"c" * 32, b"x" * 32), (b"c" * 32, b"")],
)
def test_a_proof_for_another_conversation_is_worth_nothing(door, client, channel):
    token = door.identity.token
    transcript = greeted(door.identity, client).transcript(channel)
    mac = prove(token, Role.CLIENT, transcript=transcript)
    verdict = door.judge_proof(Proof(token_id(token), mac))
    assert "does not lead straight to this worker" in verdict


def test_the_workers_own_proof_is_no_proof_of_a_client(door):
    transcript = greeted(door.identity).transcript(CHANNEL)
    mac = prove(door.identity.token, Role.WORKER, transcript=transcript)
    assert door.judge_proof(Proof(token_id(door.identity.token), mac))


def test_no_reason_for_a_refusal_tells_a_token(door):
    for token in (WRONG, door.identity.token[:-1]):
        verdict = door.judge(token)
        assert verdict
        assert door.identity.token not in verdict
        assert token not in verdict


# -- other tokens than the first


def add(door: Door, **settings: Any) -> Token:
    """Give the worker a token more."""
    token = Token("ci", new_secret(), ("view",), **settings)
    door.tokens.create(token)
    return token


def test_each_token_lets_in_and_the_worker_proves_that_it_knows_it(door):
    token = add(door)
    session = greeted(door.identity)
    transcript = session.transcript(CHANNEL)
    mac = prove(token.secret, Role.CLIENT, transcript=transcript)
    verdict = door.verdict(Proof(token.id, mac))
    assert (verdict.token, verdict.reason) == (token, "")
    assert verdict.mac == prove(token.secret, Role.WORKER, transcript=transcript)
    assert door.tokens.last_use(token) is not None


def test_one_token_does_not_prove_another(door):
    token = add(door)
    session = greeted(door.identity)
    mac = prove(token.secret, Role.CLIENT, transcript=session.transcript(CHANNEL))
    named = token_id(door.identity.token)
    assert door.judge_proof(Proof(named, mac)).startswith("the proof is wrong")


def test_that_a_token_has_expired_is_told_to_who_has_it_only(door):
    token = add(door, expires=door.now)
    assert door.judge(token.secret).startswith("this token ('ci') has expired on 1970-")
    other = door.judge_proof(Proof(token.id, b"x" * 32))
    assert other.startswith("the proof is wrong")


def test_who_had_a_token_that_was_revoked_is_told_so(door):
    token = add(door)
    door.tokens.revoke("ci")
    assert door.judge(token.secret).startswith("this token ('ci') was revoked on 1970-")
    assert door.judge_proof(Proof(token.id, b"x")).startswith("the proof is wrong")


def test_a_secret_that_is_shown_is_judged_likewise(door):
    token = add(door)
    judge = door.access.judge_secret
    assert judge(token.secret, address="10.0.0.7:1").token == token
    for number in range(MAX_FAILURES):
        wrong = judge(f"\xe4{WRONG}", address=f"10.0.0.7:{number}")
        assert wrong.reason.startswith("wrong token")
    again = judge(WRONG, address="10.0.0.7:9")
    assert again.reason.startswith("too many")
    assert again.is_repeated


# -- rate limits


def test_after_too_many_failures_an_address_has_to_wait(door):
    door.fail()
    assert door.judge(WRONG) == "too many failed attempts; try again in 60 s"


def test_the_wait_ends(door):
    door.fail()
    door.now += FAILURE_WINDOW - 1
    assert door.judge(WRONG) == "too many failed attempts; try again in 1 s"
    door.now += 1
    assert door.judge(WRONG).startswith("wrong token")


def test_the_right_token_never_has_to_wait(door):
    door.fail()
    assert door.judge(door.identity.token) == ""


def test_one_failure_less_makes_nobody_wait(door):
    door.fail(times=MAX_FAILURES - 1)
    assert door.judge(WRONG).startswith("wrong token")


def test_another_address_does_not_have_to_wait(door):
    door.fail()
    for address in ("10.0.0.8:5000", "[::1]:5000"):
        assert door.judge(WRONG, address).startswith("wrong token")


def test_ipv6_addresses_are_told_apart_without_their_ports(door):
    door.fail("[fe80::1]:")
    assert door.judge(WRONG, "[fe80::1]:9").startswith("too many")
    assert door.judge(WRONG, "[fe80::2]:9").startswith("wrong token")


def test_success_forgets_failures(door):
    for _ in range(2):
        door.fail(times=MAX_FAILURES - 1)
        assert door.judge(door.identity.token) == ""


def test_attempts_while_waiting_do_not_prolong_the_wait(door):
    door.fail()
    for _ in range(29):
        door.now += 2
        assert door.judge(WRONG).startswith("too many")
    door.now += 2
    assert door.judge(WRONG).startswith("wrong token")


def test_only_so_many_addresses_are_remembered(door):
    for number in range(MAX_ADDRESSES + 1):
        door.fail(f"10.0.{number >> 8}.{number & 255}:", times=MAX_FAILURES)
    oldest = door.judge(WRONG, "10.0.0.0:1")
    assert oldest.startswith("wrong token")  # it is forgotten
    assert door.judge(WRONG, "10.0.0.2:1").startswith("too many")
