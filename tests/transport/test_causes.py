import errno
import os
import socket
import ssl

import pytest

from mlepool.transport.causes import cause_of, link_error


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("exc", "kind", "cause"),
    [
        (system_error(errno.ECONNREFUSED), "refused", "connection refused; no worker"),
        (system_error(errno.ENETUNREACH), "unreachable", "the address is unreachable"),
        (system_error(errno.EHOSTUNREACH), "unreachable", "the address is unreachable"),
        (system_error(errno.ENETDOWN), "unreachable", "the address is unreachable"),
        (system_error(errno.ETIMEDOUT), "timeout", "timed out"),
        (system_error(errno.ECONNRESET), "other", "the other side reset"),
        (system_error(errno.EPIPE), "other", "Broken pipe"),
        (system_error(errno.EMFILE), "other", "raise the limit"),
        (socket.gaierror(-2, "Name or service not known"), "unknown host", "not known"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed"),
            "refused",
            "refused",
        ),
        (OSError("without a number"), "other", "without a number"),
        (OSError(), "other", "OSError"),
        (ssl.SSLError(1, "odd"), "tls", "the TLS handshake failed"),
    ],
    ids=repr,
)
def test_the_systems_errors_are_said_in_our_words(exc, kind, cause):
    error = link_error(exc)
    assert error.kind == kind
    assert cause in error.cause


def test_tls_errors_are_said_in_plain_words():
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    assert cause_of(error) == "the other side does not speak TLS"
    error.reason = "UNSUPPORTED_PROTOCOL"
    assert cause_of(error) == "the TLS handshake failed: unsupported protocol"


def test_an_error_without_a_text_is_named():
    assert cause_of(ConnectionResetError()) == "ConnectionResetError"


def test_an_errors_number_is_left_out():
    assert cause_of(system_error(errno.EPIPE)) == "Broken pipe"
