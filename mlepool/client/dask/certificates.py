"""Keys and certificates of one Dask cluster, which knows nobody else.

An authority is made for the cluster and forgotten with it: its key signs one
certificate for each part, and is never kept.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Credentials"]

DAYS = 30  # a cluster's longest life: without its certificates no part is let in
EARLIER = datetime.timedelta(days=1)  # clocks of hosts differ


class Credentials(NamedTuple):
    """What a part shows, and by what it knows the others; all PEM.

    Attributes:
        authority: The certificate of who has signed all.
        certificate: This part's.
        key: Its private key.
    """

    authority: str
    certificate: str
    key: str


class Authority:
    """Signs the certificates of one cluster."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("mlepool dask cluster")
        self._certificate = self._sign(self._name, self._key, is_authority=True)

    def credentials(self, name: str) -> Credentials:
        """Make a key and a certificate.

        Args:
            name: Whose, for people.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(f"mlepool dask {name}"), key)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Credentials(_pem(self._certificate), _pem(certificate), private.decode())

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        rule = x509.BasicConstraints(
            ca=is_authority, path_length=0 if is_authority else None
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLIER)
            .not_valid_after(now + datetime.timedelta(days=DAYS))
            .add_extension(rule, critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _named(name: str) -> x509.Name:
    # 64 characters are all that fit, and only people read them.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
