"""Commands: what clients see of a function, and how its arguments are checked."""

import asyncio
import types
from typing import Any

import pytest

from mlepool.wire.messages import Parameter
from mlepool.worker import command
from mlepool.worker.commands import builtin_commands
from mlepool.worker.registry import Process, Registry, describe, find_commands


class Somebody:
    """A context that offers nothing but itself."""


def plain(a: int, b: str = "x", *, c: list[float] | None = None) -> dict[str, object]:
    """Do this.

    And that.
    """
    return {"a": a, "b": b, "c": c}


async def with_context(ctx, a: int = 1) -> Any:
    return ctx, a


def shouted(text="hey") -> Process:
    return Process((b"echo", text.encode()), f"echo {text}")


@pytest.fixture
def registry() -> Registry:
    return Registry({"plain": plain, "ctx": with_context, "shouted": shouted})


def call(registry: Registry, name: str, **arguments: Any) -> Any:
    return registry.find(name).call(Somebody(), arguments)  # type: ignore[arg-type]


def test_a_command_is_described_as_it_is_written():
    spec = describe("plain", plain)
    assert spec.name == "plain"
    assert spec.doc == "Do this.\n\nAnd that."
    assert spec.parameters == (
        Parameter("a", "POSITIONAL_OR_KEYWORD", "int"),
        Parameter("b", "POSITIONAL_OR_KEYWORD", "str", "'x'"),
        Parameter("c", "KEYWORD_ONLY", "list[float] | None", "None"),
    )
    assert spec.returns == "dict[str, object]"
    assert not spec.spawns


def test_the_context_is_not_shown_and_a_process_is_said():
    assert [one.name for one in describe("ctx", with_context).parameters] == ["a"]
    spec = describe("shouted", shouted)
    assert spec.spawns
    assert spec.parameters[0].annotation == ""


def test_arguments_go_by_name_and_defaults_are_the_functions_own(registry):
    assert call(registry, "plain", a=1) == {"a": 1, "b": "x", "c": None}
    assert call(registry, "plain", a=1, c=[2]) == {"a": 1, "b": "x", "c": [2.0]}
    assert call(registry, "shouted", text="ü").argv == (b"echo", "ü".encode())


def test_the_context_is_given_to_who_asks_for_it(registry):
    ctx, a = asyncio.run(call(registry, "ctx", a=2))
    assert isinstance(ctx, Somebody)
    assert a == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "missing required field a"),
        ({"a": "1"}, "a: expected int, got str"),
        ({"a": 1.5}, "a: expected int, got float"),
        ({"a": None}, "a: expected int, got None"),
        ({"a": 1, "b": b"x"}, "b: expected str, got bytes"),
        ({"a": 1, "c": [1, "2"]}, "c[1]: expected float, got str"),
        ({"a": 1, "d": 1}, "unknown field d"),
        ({"a": 1, "ctx": 1}, "unknown field ctx"),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error_that_names_them(
    registry, arguments, text
):
    with pytest.raises(TypeError) as caught:
        call(registry, "plain", **arguments)
    said = str(caught.value)
    assert said.startswith("plain(): ")
    for word in text.replace(":", "").split():
        assert word in said


def test_an_unknown_command_is_a_lookup_error(registry):
    with pytest.raises(LookupError, match="no command 'nope'"):
        registry.find("nope")


def test_commands_are_found_by_their_mark():
    module = types.ModuleType("module")
    vars(module).update(plain=command(plain), other=shouted, number=7)
    assert find_commands(module) == {"plain": plain}
    del plain.__mlepool_command__  # type: ignore[attr-defined]


def test_the_built_in_commands_are_all_there_with_docs_and_types():
    registry = Registry(builtin_commands())
    catalogue = {one.name: one for one in registry.catalogue()}
    assert {"run", "stop", "jobs", "send_input", "get_time"} <= set(catalogue)
    assert catalogue["run"].spawns
    for spec in catalogue.values():
        assert spec.doc
        assert spec.returns
        assert all(one.annotation for one in spec.parameters)
