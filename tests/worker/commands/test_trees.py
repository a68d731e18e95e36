"""Requests about trees that no honest client makes: refused, with no harm."""

import pytest

from mlepool.tree import decode_pages, make_outline, unpack_outline
from mlepool.wire.messages import Ended, Outcome, Request
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


def test_groups_are_told_a_page_each_until_the_listing_is_let_go_of(worker, tmp_path):
    for number in range(300):
        (tmp_path / f"{number:04}").touch()
    session = {"session": "1" * 16}
    with raw_client(worker) as client:

        def ask(call: int, command: str, **arguments: object) -> Outcome:
            text = f"_tree_{command}"
            client.send(Request(call, f"{call:016}", text, {**session, **arguments}))
            return client.wait_for(Ended).outcome

        ask(1, "open_target", root=bytes(tmp_path), options=[[], []])
        found = ask(2, "scan", step=1, outline=True).value
        outline = unpack_outline(found["outline"])
        assert (found["pages"], found["page"]) == (0, b"")
        pages = ask(3, "groups", numbers=[*range(len(outline))]).value
        entries = decode_pages(pages)
        assert [one.path for one in entries] == [b"%04d" % one for one in range(300)]
        assert make_outline(entries) == outline
        for call, number in ((4, -1), (5, len(outline))):
            assert ask(call, "groups", numbers=[number]).failure is not None
        ask(6, "reserve", step=2, size=0, count=0)
        assert ask(7, "groups", numbers=[0]).failure is not None
        ask(8, "close", is_success=False)
