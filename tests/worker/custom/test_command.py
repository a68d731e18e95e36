"""Custom commands: their arguments, and functions that can't be commands."""

import dataclasses
import datetime
import enum
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
import pytest

from mlepool.worker import command
from mlepool.worker.custom.command import (
    Bundle,
    CustomCommand,
    Given,
    UnfitError,
    place_of,
)

CWD = Path("/somewhere")


@dataclasses.dataclass
class Box:
    width: int
    name: str = "box"


class Colour(enum.Enum):
    RED = "red"


class Circle(msgspec.Struct):
    radius: float


class Odd:
    pass


def takes(
    ctx: Any,
    number: int,
    box: Box = Box(1),  # noqa: B008
    *,
    paths: list[Path] = [],  # noqa: B006
    kind: Literal["a", "b"] = "a",
    when: datetime.datetime | None = None,
    colour: Colour = Colour.RED,
    part: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5,
    circle: Circle | None = None,
    folder: Path = Path("here"),
    whatever=None,
) -> str:
    """Take much."""
    return ""


def make(function: Any, name: str = "takes") -> CustomCommand:
    return CustomCommand(name, function, bundle=Bundle(lambda: None))


def check(**arguments: Any) -> dict[str, Any]:
    return make(takes).check(arguments, CWD).values


def test_arguments_become_what_their_annotations_say():
    now = datetime.datetime.now(datetime.UTC)
    given = {
        "box": {"width": 2},
        "paths": ["a", "/b", "../c"],
        "kind": "b",
        "when": now,
        "colour": "red",
        "part": 1,
        "circle": {"radius": 1.5},
        "whatever": [1, {"a": b"x"}],
    }
    assert check(number=1, **given) == {
        "number": 1,
        "box": Box(2),
        "paths": [CWD / "a", Path("/b"), CWD / "../c"],
        "kind": "b",
        "when": now,
        "colour": Colour.RED,
        "part": 1.0,
        "circle": Circle(1.5),
        "folder": CWD / "here",
        "whatever": [1, {"a": b"x"}],
    }


def test_what_is_not_given_is_left_to_the_function_but_for_where_it_is():
    assert check(number=1) == {"number": 1, "folder": CWD / "here"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "missing required field number"),
        ({"number": "1"}, "number: expected int, got str"),
        ({"number": 1, "box": {"width": "x"}}, "box.width: expected int, got str"),
        ({"number": 1, "paths": [1]}, r"paths\[0\]: expected path, got int"),
        ({"number": 1, "kind": "c"}, r"kind: .*; it is Literal\['a', 'b'\]"),
        ({"number": 1, "colour": "blue"}, "colour: .*; it is .*Colour"),
        ({"number": 1, "part": 2}, "part: expected float <= 1"),
        ({"number": 1, "other": 2}, "unknown field other"),
        ({"number": 1, "ctx": 2}, "unknown field ctx"),
    ],
)
def test_wrong_arguments_name_command_argument_and_what_is_expected(arguments, text):
    with pytest.raises(TypeError, match=rf"takes\(\): .*{text}"):
        check(**arguments)


def test_clients_are_told_what_they_can_give():
    spec = make(takes, "things.takes").spec
    assert (spec.name, spec.doc, spec.role) == ("things.takes", "Take much.", "run")
    assert spec.streams
    assert not spec.spawns
    assert [one.name for one in spec.parameters][:2] == ["number", "box"]


def stars(*numbers: int) -> None:
    pass


def keywords(**numbers: int) -> None:
    pass


def only_by_place(number: int, /) -> None:
    pass


def odd(thing: Odd) -> None:
    pass


def odd_within(things: dict[str, list[Odd | None]]) -> None:
    pass


def two_kinds(thing: Box | Circle) -> None:
    pass


def unknown(thing: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


@command(role="rnu")
def of_no_role() -> None:
    pass


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (stars, "numbers: int: arguments come by name"),
        (keywords, "arguments come by name"),
        (only_by_place, "arguments come by name"),
        (odd, "thing: arguments can't be checked: Odd is no data"),
        (odd_within, "things: arguments can't be checked: Odd is no data"),
        (two_kinds, "thing: arguments can't be checked: .*union"),
        (unknown, "Missing"),
        (of_no_role, "there is no role 'rnu', but view, run, sync"),
        (3, "signature can't be read"),
    ],
)
def test_what_clients_could_not_call_is_refused_when_it_is_loaded(function, text):
    with pytest.raises(UnfitError, match=text):
        make(function)


def test_other_paths_are_made_as_they_are():
    def function(path: PurePosixPath) -> None:
        pass

    assert make(function).check({"path": "a"}, CWD) == Given(
        {"path": PurePosixPath("a")}, (PurePosixPath("a"),)
    )


def test_a_bundle_is_shut_down_once_it_is_retired_and_idle():
    done: list[int] = []
    bundle = Bundle(lambda: done.append(1))
    bundle.enter()
    bundle.retire()
    bundle.retire()
    assert done == []
    bundle.leave()
    assert done == [1]


def test_where_it_is_written_is_known():
    line = takes.__code__.co_firstlineno
    assert place_of(takes) == f"{__file__}:{line}"
    assert place_of(Box).startswith(f"{__file__}:")
    assert place_of(3) == ""


@pytest.fixture
def busy_collector() -> Iterator[None]:
    """Collect garbage often, so that threads take turns in the midst of anything."""

    def note(*_: Any) -> None:
        sum(range(200))

    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(100)
    gc.callbacks.append(note)
    yield
    gc.callbacks.remove(note)
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def test_places_are_found_by_several_threads_at_once(busy_collector):
    with ThreadPoolExecutor(4) as threads:
        places = set(threads.map(place_of, [Box] * 20))
    assert places == {place_of(Box)}
