"""What the system's errors mean for a link, in our words."""

import errno
import re
import socket
import ssl

from mlepool.errors import LinkError

__all__ = ["cause_of", "link_error"]

_NO_TLS = ("wrong version number", "record layer failure", "http request")


_UNREACHABLE = ("unreachable", "the address is unreachable")
# What a pool of a thousand hosts meets where 1,024 files may be open.
_FULL = (
    "other",
    "this process has too many files open: raise the limit, as by 'ulimit -n'",
)
_KNOWN: dict[int, tuple[str, str]] = {
    errno.ECONNREFUSED: ("refused", "connection refused; no worker listens there"),
    errno.ENETUNREACH: _UNREACHABLE,
    errno.EHOSTUNREACH: _UNREACHABLE,
    errno.ENETDOWN: _UNREACHABLE,
    errno.ETIMEDOUT: ("timeout", "timed out"),
    errno.ECONNRESET: ("other", "the other side reset the connection"),
    errno.EMFILE: _FULL,
    errno.ENFILE: _FULL,
}


def cause_of(exc: BaseException) -> str:
    """Say what went wrong; TLS's own words are for who knows OpenSSL."""
    if not isinstance(exc, ssl.SSLError):
        said = exc.strerror if isinstance(exc, OSError) else None
        return said or str(exc) or type(exc).__name__
    reason = (getattr(exc, "reason", "") or str(exc)).replace("_", " ").lower()
    if reason in _NO_TLS:
        return "the other side does not speak TLS"
    return f"the TLS handshake failed: {reason}"


def link_error(exc: OSError) -> LinkError:
    """Make the error of a link that could not be opened."""
    if isinstance(exc, ssl.SSLError):
        return LinkError("tls", cause_of(exc))
    if isinstance(exc, socket.gaierror):
        return LinkError("unknown host", f"unknown host ({exc.strerror})")
    number = exc.errno
    if number is None:
        # Several addresses failed: asyncio joins the texts and drops the numbers.
        found = re.search(r"\[Errno (\d+)\]", str(exc))
        number = int(found.group(1)) if found else 0
    if number in _KNOWN:
        return LinkError(*_KNOWN[number])
    return LinkError("other", cause_of(exc))
