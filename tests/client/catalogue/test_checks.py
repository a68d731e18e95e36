"""Arguments judged here: what the worker would refuse, and nothing that it takes."""

import datetime
import enum
import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from mlepool.client.catalogue.checks import check_for
from mlepool.errors import LocalProtocolError
from mlepool.wire.codec import decode, encode
from mlepool.wire.messages import Event
from tests.tools import steady


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.Enum):
    HIGH = "high"
    ONE = 1


KINDS: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "bytes": bytes,
    "list": list,
    "dict": dict,
    "list[str]": list[str],
    "list[int | None]": list[int | None],
    "list[list[int]]": list[list[int]],
    "dict[str, int]": dict[str, int],
    "str | None": str | None,
    "int | str": int | str,
    "float | list[float]": float | list[float],
    "Optional[int]": int | None,
    "typing.Union[int, list[str]]": int | list[str],
    "Literal['a', 'b']": Literal["a", "b"],
    "typing.Literal[1, 2, None]": Literal[1, 2, None],
    "Literal['a'] | list[str]": Literal["a"] | list[str],
    "tuple[int, str]": tuple[int, str],
    "Path": str,
    "set[int]": set[int],
    "Any": Any,
    "": Any,
}

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(allow_nan=False, width=16)
    | st.sampled_from(["a", "b", "YQ=="])
    | st.binary(max_size=2)
    | st.sampled_from([Path("a"), Colour.RED, Level.HIGH, Level.ONE])
    | st.just(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
)
VALUES = PLAIN | st.recursive(
    st.lists(PLAIN, max_size=2) | st.sets(st.integers(0, 1)),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner),
    max_leaves=3,
)


def taken(kind: Any, value: Any) -> bool:
    """Tell if a worker takes a value that comes over a link."""
    try:
        sent = decode(encode(Event("x", value)))
        assert isinstance(sent, Event)
        msgspec.convert(sent.data, kind)
    except (msgspec.ValidationError, LocalProtocolError):
        return False
    return True


@settings(steady, max_examples=200)
@given(st.sampled_from(sorted(KINDS)), VALUES)
def test_nothing_is_refused_that_a_worker_takes(annotation, value):
    try:
        check_for(annotation)(value)
    except TypeError:
        assert not taken(KINDS[annotation], value)


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        ("int", "1", ": expected int, got str"),
        ("int", True, ": expected int, got bool"),
        ("int", 1.0, ": expected int, got float"),
        ("float", None, ": expected float, got None"),
        ("bool", 1, ": expected bool, got int"),
        ("str", b"a", ": expected str, got bytes"),
        ("str | None", 5, ": expected str | None, got int"),
        ("list[str]", "a", ": expected list[str], got str"),
        ("list[str]", ["a", 1], "[1]: expected str, got int"),
        (
            "list[list[int]] | None",
            [[], [1, "b"]],
            "[1][1]: expected int, got str",
        ),
        ("Literal['a', 'b']", "c", ": expected one of 'a', 'b', got 'c'"),
        ("Literal[1]", True, ": expected one of 1, got True"),
        ("Literal['a']", [], ": expected one of 'a', got []"),
        ("dict[str, int]", [1], ": expected dict[str, int], got list"),
    ],
)
def test_what_is_plainly_wrong_is_refused_and_says_why(annotation, value, text):
    with pytest.raises(TypeError) as caught:
        check_for(annotation)(value)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "annotation",
    ["1 +", "", "a.b[c](d)", "x" * 5000, "(" * 500, "Unknown | int", "'int'"],
)
def test_what_is_not_understood_is_left_to_the_worker(annotation):
    assert check_for(annotation)("x") == "x"


def test_a_command_and_an_environment_are_judged_of_what_starts_a_process_only():
    with pytest.raises(TypeError, match="must be a str or a list of str, not int"):
        check_for("str | list[Any]", spawns=True)(7)
    assert check_for("str | list[Any]")([7]) == [7]


def test_what_the_caller_changes_later_is_not_what_was_given():
    given_one = {"a": [1, (2, {3})], "b": os}
    got = check_for("Any")(given_one)
    given_one["a"].append(4)  # type: ignore[attr-defined]
    assert got == {"a": [1, [2, {3}]], "b": os}
