"""A worker's key, certificate and first token on disk; join URLs."""

import base64
import contextlib
import hashlib
import ssl

import pytest
from cryptography import x509

from mlepool.client.links.trust import Target
from mlepool.errors import WorkerError
from mlepool.worker.access.identity import Identity, find_identity
from tests.raw import any_certificate

FILES = ["certificate.pem", "key.pem", "token"]


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> Identity:
    return Identity(tmp_path_factory.mktemp("identity") / "state")


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


def test_no_tickets_are_handed_out(identity):
    to_worker, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    worker = identity.tls().wrap_bio(to_worker, to_client, server_side=True)
    client = any_certificate().wrap_bio(to_client, to_worker)
    for end in (client, worker, client, worker):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    worker.write(b"hello")
    assert client.read(5) == b"hello"
    assert client.session is not None
    assert not client.session.has_ticket


def test_another_token_can_be_in_the_join_url(identity):
    assert Target.parse(identity.join_url("gpu1", 99, token="x" * 43)).token == "x" * 43


def test_an_identity_is_found_where_there_is_one_and_made_nowhere(tmp_path):
    with pytest.raises(WorkerError, match="no worker has ever"):
        find_identity(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert Identity(tmp_path).fingerprint == find_identity(tmp_path).fingerprint
