"""What is read from one line of text: where to listen."""

import pytest

from mlepool.config import DEFAULT_PORT, ListenAddress, parse_listen


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:5", "127.0.0.1", 5),
        ("127.0.0.1", "127.0.0.1", DEFAULT_PORT),
        ("gpu1", "gpu1", DEFAULT_PORT),
        ("gpu1:0", "gpu1", 0),
        ("5", "", 5),
        (":5", "", 5),
        ("[::1]:5", "::1", 5),
        ("[::1]", "::1", DEFAULT_PORT),
    ],
)
def test_a_host_may_end_with_digits_and_a_port_stand_alone(text, host, port):
    assert parse_listen(text) == ListenAddress(host, port)
    assert parse_listen(f"ws://{text}") == ListenAddress(host, port, tls=False)
