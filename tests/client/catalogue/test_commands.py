"""The catalogue: signatures, nearest names, options parted from arguments."""

import inspect
from pathlib import Path

import pytest

from mlepool.client.catalogue.commands import BoundCommand, Catalogue, bound
from mlepool.worker.commands import builtin_commands
from mlepool.worker.registry import describe


def catalogue():
    specs = tuple(describe(name, one) for name, one in builtin_commands().items())
    return Catalogue("gpu1", bound(specs))


def test_the_worker_s_signature_comes_first_and_the_client_s_keywords_after():
    signature = catalogue().find("run").signature
    names = list(signature.parameters)
    assert names[:4] == ["command", "cwd", "env", "stdin"]
    ours = ["complete", "timeout", "echo_response", "max_interval", "raise_error"]
    first = names.index(ours[0])
    assert names[first : first + 5] == ours
    theirs = describe("run", builtin_commands()["run"]).parameters
    assert names[:first] == [one.name for one in theirs]
    assert signature.parameters["stdin"].default is False
    assert str(signature).startswith("(command: str | list[Any], *, cwd: str | None")


def test_a_command_that_starts_nothing_has_no_keywords_of_output():
    names = catalogue().find("get_time").signature.parameters
    assert "encoding" not in names
    assert "complete" in names


def test_an_unknown_name_says_the_worker_and_the_nearest_command():
    with pytest.raises(AttributeError, match="gpu1 has no command 'runn'.*'run'"):
        catalogue().find("runn")


@pytest.mark.parametrize(
    ("args", "keywords", "text"),
    [
        ((), {}, "missing a required argument: 'command'"),
        (("a", "b"), {}, "too many positional arguments"),
        (("a",), {"colour": 1}, "unexpected keyword argument 'colour'"),
        (("a",), {"complete": "yes"}, "complete: expected bool, got str"),
        (("a",), {"timeout": "1"}, r"timeout: expected float \| None, got str"),
        (("a",), {"input": 5}, "an iterator, not int"),
        ((["echo", 1],), {}, r"run\(\): command: .* str or bytes, not 1"),
        ((7,), {}, r"run\(\): command must be a str or a list of str, not int"),
        (("a",), {"env": {"A": 1}}, r"run\(\): env: .* must be str, not 'A': int"),
        (("a",), {"env": {1: "A"}}, r"run\(\): env: .* must be str, not 1: str"),
        (("a",), {"env": "A=B"}, r"run\(\): env must be a dict, not str"),
    ],
)
def test_wrong_arguments_are_a_type_error_before_anything_is_sent(args, keywords, text):
    with pytest.raises(TypeError, match=text):
        catalogue().find("run").bind(args, keywords)


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"max_interval": float("inf")}, ValueError),
        ({"on_timeout": "explode"}, ValueError),
        ({"encoding": "nope"}, LookupError),
        ({"errors": "nope"}, LookupError),
        ({"memory": -1}, ValueError),
    ],
)
def test_impossible_options_are_refused(keywords, kind):
    with pytest.raises(kind):
        catalogue().find("run").bind(("true",), keywords)


def test_options_are_parted_from_arguments():
    command = catalogue().find("run")
    options, rest = command.bind(("true",), {"cwd": "/", "timeout": 3, "detach": True})
    assert rest == {"command": "true", "cwd": "/"}
    assert (options.timeout, options.detach, options.complete) == (3, True, True)


def test_names_that_are_no_identifiers_are_not_offered():
    spec = describe("run", builtin_commands()["run"])
    odd = type(spec)("rm -rf", spec.doc, spec.parameters)
    assert Catalogue("gpu1", bound((spec, odd))).names() == ["run"]


def test_a_default_that_is_no_literal_is_shown_as_its_source():
    spec = describe("run", builtin_commands()["run"])
    parameter = type(spec.parameters[0])("x", "KEYWORD_ONLY", "", "object()")
    signature = BoundCommand(type(spec)("f", "", (parameter,))).signature
    assert isinstance(signature, inspect.Signature)
    assert "x=object()" in str(signature)


def test_what_the_caller_changes_later_is_not_what_is_repeated():
    argv, env = ["echo", b"a", Path("b")], {"A": "a"}
    _, arguments = catalogue().find("run").bind((argv,), {"env": env})
    argv.append("c")
    env["B"] = "b"
    assert arguments == {"command": ["echo", b"a", Path("b")], "env": {"A": "a"}}
    _, arguments = catalogue().find("run").bind(("true",), {"env": None})
    assert arguments == {"command": "true", "env": None}
