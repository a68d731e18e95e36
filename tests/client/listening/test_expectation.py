"""expect(): patterns in what has come, within lines, over lines, in prompts."""

import re
import time

import pytest

import mlepool
from mlepool.client.listening.expectation import STEP, WINDOW, Expectation
from mlepool.client.listening.lines import LineDecoder
from mlepool.wire.records import STDOUT, Record

ASK = "printf 'login: '; read x; printf pass; sleep .3; printf 'wd: '; read y; echo ok"


def messages(text, encoding="utf-8"):
    decoder = LineDecoder(encoding)
    return [*decoder.decode([Record(0.0, STDOUT, text)]), *decoder.finish()]


def filled(text, encoding="utf-8"):
    seen = Expectation()
    first, *rest = messages(text, encoding)
    more = iter(rest)
    seen.add(first, more)
    return seen, more


def find(text, pattern, count):
    """Find a pattern so many times, as a listener does."""
    seen, _ = filled(text)
    found = []
    for _ in range(count):
        found.append(seen.search(pattern)[0])
        if more := seen.give_back():
            seen.add(more[0], iter(more[1:]))
    assert seen.search(pattern) is None
    return found


def test_what_comes_after_a_match_stays_for_the_next_one():
    assert find(b"a1 a2\na3\n", r"a\d", 3) == ["a1", "a2", "a3"]


def test_a_pattern_reaches_over_lines_and_knows_their_edges():
    seen, _ = filled(b"begin\nmiddle\nend\n")
    assert seen.search(re.compile(r"begin.*end", re.DOTALL))
    assert find(b"x\n12\n13\n", r"^\d+$", 2) == ["12", "13"]


def test_messages_after_the_match_are_given_back():
    seen, _ = filled(b"one\ntwo three\nfour\nfive\n")
    assert seen.search("two")
    assert seen.give_back() == ["four", "five"]
    assert seen.search("three")
    assert seen.search("four") is None


def test_bytes_are_searched_with_bytes():
    seen, _ = filled(b"one \xff two\n", None)
    assert seen.search(rb"\xff t")[0] == b"\xff t"
    assert seen.tail == "wo\n"


def test_what_is_looked_at_is_bounded():
    seen, more = filled(b"mark\n" + b"x" * 99 + b"\n" + b"y\n" * 500_000)
    assert sum(1 for _ in more) > 500_000 - STEP
    for _ in range(WINDOW // STEP + 1):
        first, *rest = messages(b"z\n" * STEP)
        seen.add(first, iter(rest))
    assert seen.search("mark") is None
    assert seen.search("z")


# -- from a worker


@pytest.mark.real
def test_a_dialogue_of_prompts(conn):
    live = conn.run(ASK, complete=False, stdin=True)
    assert live.expect("login: $", timeout=20)
    live.send_input("ann\n")
    assert live.expect("passwd: $", timeout=20)[0] == "passwd: "  # came in two
    live.send_input("secret\n")
    assert live.next() == "ok"


@pytest.mark.real
def test_next_goes_on_with_the_message_after_the_match(conn):
    live = conn.run("printf 'a b\nc\nd e\nf\n'")
    assert live.expect("a")
    assert live.expect("b")
    assert live.next() == "c"
    with pytest.raises(EOFError, match="'d e.*f.*'"):
        live.expect("c")  # that has been given
    live = conn.run("seq 100000")
    assert live.expect("^50000$")
    assert live.next() == "50001"


@pytest.mark.real
def test_what_is_not_seen_in_time_is_an_error_that_shows_the_tail(conn):
    live = conn.run("echo one; printf two; sleep 60", complete=False)
    began = time.monotonic()
    with pytest.raises(
        mlepool.ListenerTimeoutError, match="'three' was not seen"
    ) as it:
        live.expect("three", timeout=0.6)
    assert 0.6 <= time.monotonic() - began < 5
    assert it.value.tail == "one\ntwo"
    assert "within 0.6 s, but 'one\\ntwo'; the job" in str(it.value)
    assert live.expect("one")  # another one still has it
    live.max_interval = 0.2
    with pytest.raises(mlepool.ListenerTimeoutError, match=r"within 0\.2 s, but"):
        live.expect("three", timeout=60)
    live.stop(signal="SIGKILL")
