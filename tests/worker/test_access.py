"""Who may come in: key, certificate and token on disk; proofs; rate limits."""

import base64
import hashlib
import ssl

import pytest
from cryptography import x509

from mlepool.client.trust import Target
from mlepool.errors import WorkerError
from mlepool.wire.messages import Hello, Proof
from mlepool.wire.session import Role, Session, prove
from mlepool.worker.access import (
    FAILURE_WINDOW,
    MAX_ADDRESSES,
    MAX_FAILURES,
    AccessControl,
    Identity,
    token_id,
)

CHANNEL = b"c" * 32
WRONG = "x" * 43
FILES = ["certificate.pem", "key.pem", "token"]


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> Identity:
    return Identity(tmp_path_factory.mktemp("identity") / "state")


class Door:
    """A worker's access control, a clock set by hand, and who tries to come in."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.now = 1000.0
        self.access = AccessControl(identity, clock=lambda: self.now)

    def judge(self, token: str, address: str = "10.0.0.7:5000") -> str:
        """Come with a token; why it is refused, or nothing."""
        session = greeted(self.identity)
        mac = prove(token, Role.CLIENT, transcript=session.transcript(CHANNEL))
        return self.judge_proof(Proof(token_id(token) if token else "", mac), address)

    def judge_proof(self, proof: Proof, address: str = "10.0.0.7:5000") -> str:
        session = greeted(self.identity)
        return self.access.judge(session, proof, channel=CHANNEL, address=address) or ""

    def fail(self, address: str = "10.0.0.7:", times: int = MAX_FAILURES) -> None:
        for number in range(times):
            assert self.judge(WRONG, f"{address}{number}").startswith("wrong token")


@pytest.fixture
def door(identity) -> Door:
    return Door(identity)


def greeted(identity: Identity, client: bytes = b"c" * 32) -> Session:
    """Make the worker's session with a client that has said Hello."""
    hello = Hello(1, 1, key=identity.fingerprint, nonce=b"w" * 32)
    session = Session(Role.WORKER, hello, now=0.0)
    other = Session(Role.CLIENT, Hello(1, 1, nonce=client), now=0.0)
    session.receive(other.frames_to_send()[0])
    return session


# -- key, certificate, token


def test_the_first_start_makes_three_files_for_this_account_only(tmp_path):
    identity = Identity(tmp_path / "state")
    assert identity.is_new
    made = sorted((tmp_path / "state").iterdir())
    assert [path.name for path in made] == FILES
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_later_start_finds_the_same_identity(tmp_path):
    first, second = Identity(tmp_path), Identity(tmp_path)
    assert not second.is_new
    assert (first.token, first.fingerprint) == (second.token, second.fingerprint)


def test_every_worker_has_a_key_and_a_token_of_its_own(tmp_path):
    one, other = Identity(tmp_path / "one"), Identity(tmp_path / "other")
    assert one.token != other.token
    assert one.fingerprint != other.fingerprint
    assert len(base64.urlsafe_b64decode(one.token + "=")) == 32


def test_the_fingerprint_is_that_of_the_certificate(tmp_path):
    identity = Identity(tmp_path)
    pem = (tmp_path / "certificate.pem").read_bytes()
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    digest = hashlib.sha256(der).digest()
    assert base64.urlsafe_b64decode(identity.fingerprint + "=") == digest
    assert identity.channel == digest
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.not_valid_after_utc.year > 2100


def test_the_join_url_is_what_a_client_reads(identity):
    for host in ("gpu1", "10.0.0.7", "::1"):
        target = Target.parse(identity.join_url(host, 99))
        expected = Target(host, 99, "wss", identity.fingerprint, identity.token)
        assert target == expected


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [None, b"", b"\n", b"nonsense\n", b"\xff\xfe"])
def test_a_damaged_identity_is_an_error_that_says_what_to_do(tmp_path, name, content):
    Identity(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    if (name, content) == ("certificate.pem", None):
        assert Identity(tmp_path).is_new  # that is how a new one is asked for
        return
    with pytest.raises(WorkerError, match="remove all three to make new ones"):
        Identity(tmp_path).tls()


def test_a_key_of_another_certificate_is_noticed(tmp_path):
    Identity(tmp_path / "one")
    Identity(tmp_path / "other")
    (tmp_path / "one/key.pem").replace(tmp_path / "other/key.pem")
    with pytest.raises(WorkerError, match="not usable"):
        Identity(tmp_path / "other").tls()


def test_only_tls_1_3_is_spoken(identity):
    assert identity.tls().minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_token_is_named_without_telling_it(identity):
    name = token_id(identity.token)
    assert len(name) == 16
    assert name not in identity.token


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
    mac = door.access.prove(greeted(door.identity), channel=CHANNEL)
    assert door.judge_proof(Proof(token_id(door.identity.token), mac))


def test_no_reason_for_a_refusal_tells_a_token(door):
    for token in (WRONG, door.identity.token[:-1]):
        verdict = door.judge(token)
        assert verdict
        assert door.identity.token not in verdict
        assert token not in verdict


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
