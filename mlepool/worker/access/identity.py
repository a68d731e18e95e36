"""Who a worker is: its key, its certificate and its first token; join URLs."""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import urllib.parse
from pathlib import Path

from mlepool.config import write_private
from mlepool.errors import WorkerError

__all__ = [
    "MIN_TOKEN",
    "TLS_NAME",
    "TOKEN_FILE",
    "Identity",
    "find_identity",
    "new_secret",
]

KEY_FILE = "key.pem"
CERTIFICATE_FILE = "certificate.pem"
TOKEN_FILE = "token"
TOKEN_BYTES = 32  # of entropy: nobody guesses it, so a slow hash is not needed
MIN_TOKEN = 32  # characters; shorter ones were not made here
TLS_NAME = "mlepool-worker"  # of every worker, whatever its host is called


def new_secret() -> str:
    """Make a token's secret."""
    return secrets.token_urlsafe(TOKEN_BYTES)


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
            token = self.token
        except (OSError, ValueError) as exc:
            raise WorkerError(_damaged(state_dir, str(exc))) from exc
        if len(token) < MIN_TOKEN:
            # With an empty file everybody would know the token.
            raise WorkerError(_damaged(state_dir, f"{TOKEN_FILE} is too short"))
        self.channel = hashlib.sha256(der).digest()
        self.fingerprint = base64.urlsafe_b64encode(self.channel).decode().rstrip("=")

    @property
    def token(self) -> str:
        """The first token's secret, as it is now: it may be rotated at any time."""
        return (self._state_dir / TOKEN_FILE).read_text().strip()

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
        context.num_tickets = 0  # no client of ours comes back by one
        try:
            context.load_cert_chain(
                self._state_dir / CERTIFICATE_FILE, self._state_dir / KEY_FILE
            )
        except OSError as exc:
            raise WorkerError(_damaged(self._state_dir, str(exc))) from exc
        return context

    def join_url(self, host: str, port: int, *, token: str = "") -> str:
        """Make the URL that gives a client everything it needs. It is a secret.

        Args:
            host: Where the worker is.
            port: Its TCP port.
            token: A token's secret; by default the first token's.
        """
        fields = {"key": self.fingerprint, "token": token or self.token}
        query = urllib.parse.urlencode(fields)
        place = f"[{host}]" if ":" in host else host
        return f"mle://{place}:{port}?{query}"

    def _make(self) -> None:
        from mlepool.worker.access.certificate import make_pair

        pair = make_pair(TLS_NAME)
        token = new_secret()
        write_private(self._state_dir / KEY_FILE, pair.key)
        write_private(self._state_dir / TOKEN_FILE, token.encode() + b"\n")
        # The certificate comes last: where it is, the others are.
        write_private(self._state_dir / CERTIFICATE_FILE, pair.certificate)


def find_identity(state_dir: Path) -> Identity:
    """Give the identity that a worker has; none is made.

    Raises:
        WorkerError: If there is none, or it is damaged.
    """
    if not (state_dir / CERTIFICATE_FILE).exists():
        raise WorkerError(f"no worker has ever had its state in {state_dir}")
    return Identity(state_dir)


def _damaged(state_dir: Path, cause: str) -> str:
    return (
        f"the worker's key, certificate and token in {state_dir} are not usable: "
        f"{cause}; remove all three to make new ones"
    )
