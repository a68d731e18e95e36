"""Who may come in: the worker's key and token, join URLs, proofs, rate limits."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import secrets
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlepool.config import write_private
from mlepool.errors import WorkerError
from mlepool.wire.messages import Proof
from mlepool.wire.session import Role, Session, prove

__all__ = ["TOKEN_FILE", "AccessControl", "Identity", "token_id"]

KEY_FILE = "key.pem"
CERTIFICATE_FILE = "certificate.pem"
TOKEN_FILE = "token"
TOKEN_BYTES = 32  # of entropy: nobody guesses it, so a slow hash is not needed
MIN_TOKEN = 32  # characters; shorter ones were not made here
CERTIFICATE_YEARS = 100  # trust is pinned to the key: there is nothing to renew

MAX_FAILURES = 5  # failed proofs from one address before it has to wait
FAILURE_WINDOW = 60.0  # seconds after which they are forgotten
MAX_ADDRESSES = 1024  # addresses remembered; the oldest is forgotten first


def token_id(token: str) -> str:
    """Name a token without telling it: the start of its SHA-256."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


class Identity:
    """A worker's key, certificate and token, made at its first start.

    Args:
        state_dir: Where they are kept, each with mode 0600.

    Raises:
        WorkerError: If they can't be made or read, or are damaged.

    Attributes:
        fingerprint: SHA-256 of the certificate; clients know the worker by it.
        is_new: True if they were made just now.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.is_new = not (state_dir / CERTIFICATE_FILE).exists()
        try:
            if self.is_new:
                self._make()
            certificate = (state_dir / CERTIFICATE_FILE).read_text()
            der = ssl.PEM_cert_to_DER_cert(certificate)
            self.token = (state_dir / TOKEN_FILE).read_text().strip()
        except (OSError, ValueError) as exc:
            raise WorkerError(_damaged(state_dir, str(exc))) from exc
        if len(self.token) < MIN_TOKEN:
            # With an empty file everybody would know the token.
            raise WorkerError(_damaged(state_dir, f"{TOKEN_FILE} is too short"))
        self.channel = hashlib.sha256(der).digest()
        self.fingerprint = base64.urlsafe_b64encode(self.channel).decode().rstrip("=")

    def discard(self) -> None:
        """Undo the making, while nobody has seen it: the next start is the first."""
        (self._state_dir / CERTIFICATE_FILE).unlink(missing_ok=True)

    def tls(self) -> ssl.SSLContext:
        """Make the TLS settings of the listening side: TLS 1.3 only.

        Raises:
            WorkerError: If key and certificate are damaged or do not fit.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(
                self._state_dir / CERTIFICATE_FILE, self._state_dir / KEY_FILE
            )
        except OSError as exc:
            raise WorkerError(_damaged(self._state_dir, str(exc))) from exc
        return context

    def join_url(self, host: str, port: int) -> str:
        """Make the URL that gives a client everything it needs. It is a secret."""
        query = urllib.parse.urlencode({"key": self.fingerprint, "token": self.token})
        place = f"[{host}]" if ":" in host else host
        return f"mle://{place}:{port}?{query}"

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlepool worker")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365 * CERTIFICATE_YEARS))
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_private(self._state_dir / KEY_FILE, private)
        write_private(self._state_dir / TOKEN_FILE, token.encode() + b"\n")
        # The certificate comes last: where it is, the others are.
        write_private(self._state_dir / CERTIFICATE_FILE, certificate.public_bytes(pem))


class AccessControl:
    """Judges proofs, and makes those who fail wait.

    Args:
        identity: Whose token must be known.
        clock: Gives the time, in seconds.
    """

    def __init__(self, identity: Identity, *, clock: Callable[[], float]) -> None:
        self._identity = identity
        self._clock = clock
        self._failures: dict[str, list[float]] = {}

    def judge(
        self, session: Session, proof: Proof, *, channel: bytes, address: str
    ) -> str | None:
        """Judge a client's proof.

        A right proof is let in at any time: nobody guesses 256 random bits, and who
        shares an address with somebody who tries must not suffer for it.

        Returns:
            Why it is refused; None if it is accepted.
        """
        token = self._identity.token
        expected = prove(token, Role.CLIENT, transcript=session.transcript(channel))
        if hmac.compare_digest(expected, proof.mac):
            self._failures.pop(_source(address), None)
            return None
        wait = self._must_wait(address)
        if wait > 0:
            return f"too many failed attempts; try again in {wait:.0f} s"
        self._note_failure(address)
        if not proof.token_id:
            return "no token; run 'mlepool trust URL' with the worker's join URL"
        if proof.token_id != token_id(token):
            return "wrong token; run 'mlepool trust URL' with the worker's join URL"
        return "the proof is wrong: the link does not lead straight to this worker"

    def prove(self, session: Session, *, channel: bytes) -> bytes:
        """Prove to the client that this worker knows the token too."""
        transcript = session.transcript(channel)
        return prove(self._identity.token, Role.WORKER, transcript=transcript)

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


def _damaged(state_dir: Path, cause: str) -> str:
    return (
        f"the worker's key, certificate and token in {state_dir} are not usable: "
        f"{cause}; remove all three to make new ones"
    )


def _source(address: str) -> str:
    """Give an address without its port, which is another one at each attempt."""
    return address.rpartition(":")[0] or address
