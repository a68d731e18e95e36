"""A worker's key and certificate, as they are made at its first start.

A module of its own, which no later start loads: the library takes long to.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Pair", "make_pair"]

CERTIFICATE_YEARS = 100  # trust is pinned to the key: there is nothing to renew


class Pair(NamedTuple):
    """A private key and the certificate that it has signed for itself, as PEM."""

    key: bytes
    certificate: bytes


def make_pair(host: str) -> Pair:
    """Make a key on the curve P-256, and its certificate.

    Args:
        host: The name in the certificate. Clients of ours go by the key; others, such
            as Prometheus, want a name to check.
    """
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
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    kind = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, kind, serialization.NoEncryption())
    return Pair(private, certificate.public_bytes(pem))
