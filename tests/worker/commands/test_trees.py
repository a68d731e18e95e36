"""Requests about trees that no honest client makes: refused, with no harm."""

import pytest

from mlepool.wire.messages import Ended, Request
from tests.raw import raw_client

pytestmark = pytest.mark.real

OPEN = {"session": "0" * 16, "root": b"x", "options": [[], []]}


@pytest.mark.parametrize(
    "request_and_error",
    [
        ("scan", {"session": "0" * 16, "step": 1}, "UnknownSessionError"),
        ("open_source", {**OPEN, "session": "../../x"}, "ValueError"),
        ("open_source", {**OPEN, "root": b""}, "ValueError"),
        ("open_source", {**OPEN, "root": b"a\0b"}, "ValueError"),
        ("open_source", {**OPEN, "options": [[1], []]}, "TypeError"),
        (
            "write",
            {"session": "0" * 16, "step": 1, "pieces": [[2, -1, 0, b""]]},
            "TypeError",
        ),
        (
            "write",
            {"session": "0" * 16, "step": 1, "pieces": [[2, 0, 1 << 63, b""]]},
            "TypeError",
        ),
        (
            "offer",
            {"session": "0" * 16, "step": 1, "offers": [[1, 0, 0, [[b"", 1]]]]},
            "TypeError",
        ),
        (
            "reserve",
            {"session": "0" * 16, "step": 1, "size": -1, "count": 0},
            "ValueError",
        ),
        (
            "expect",
            {"session": "0" * 16, "step": 1, "first": 0, "entries": [[b"../x", "f"]]},
            "ValueError",
        ),
        (
            "prepare",
            {
                "session": "0" * 16,
                "step": 1,
                "folders": [],
                "links": [],
                "touched": [],
                "deleted": [b"a/../../b"],
            },
            "ValueError",
        ),
        (
            "read",
            {
                "session": "0" * 16,
                "entry": [b"a", "f"],
                "number": 0,
                "ranges": [[0, 1 << 40]],
            },
            "ValueError",
        ),
    ],
)
def test_requests_are_checked_at_the_border(worker, request_and_error):
    command, arguments, error = request_and_error
    with raw_client(worker) as client:
        client.send(Request(1, "0" * 16, f"_tree_{command}", arguments))
        outcome = client.wait_for(Ended).outcome
    assert outcome.status == "FAILED"
    assert outcome.failure is not None
    assert outcome.failure.type_name == error
