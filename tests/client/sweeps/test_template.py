"""Commands with fields: what is filled in, and how a shell takes it."""

import subprocess

import pytest
from hypothesis import given, settings, strategies as st

from mlepool.client.sweeps.template import Pattern, Template
from tests.tools import steady

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def test_fields_are_filled_as_str_format_does():
    template = Template("train --lr {lr:.1e} --name {name!r} {lr}")
    assert template.fields == ("lr", "name")
    filled = template.fill({"lr": 0.001, "name": "a"})
    assert filled == """train --lr 1.0e-03 --name ''"'"'a'"'"'' 0.001"""


def test_a_list_is_filled_word_by_word_and_not_quoted():
    template = Template(["train", "--lr={lr}", "{name}", 3])
    filled = template.fill({"lr": 0.1, "name": "a b; c"})
    assert filled == ["train", "--lr=0.1", "a b; c", "3"]
    assert template.command == ["train", "--lr={lr}", "{name}", "3"]


def test_a_brace_that_is_meant_is_doubled():
    assert Template("awk '{{print $1}}' {f}").fill({"f": "x"}) == "awk '{print $1}' x"


@pytest.mark.parametrize(
    "text",
    ["echo {", "echo {0}", "echo {}", "echo {a.b}", "{a[0]}", "{a:{b}}", "{a!x}"],
)
def test_what_is_no_field_is_refused(text):
    with pytest.raises(ValueError, match=r"\{|field|format|doubled"):
        Template(text)


@pytest.mark.parametrize("command", [3, b"x", None])
def test_a_command_is_text_or_a_list(command):
    with pytest.raises(TypeError, match="a str or a list"):
        Template(command)


def test_an_empty_command_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Template("")
    with pytest.raises(ValueError, match="empty"):
        Template([])


@settings(steady, max_examples=30)  # each one is a process
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_a_shell_takes_each_value_as_one_word_whatever_it_is(values):
    names = [f"v{number}" for number in range(len(values))]
    text = "printf '%s\\0' " + " ".join(f"{{{name}}}" for name in names)
    command = str(Template(text).fill(dict(zip(names, values, strict=True))))
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == values


def test_a_pattern_is_not_quoted():
    assert Pattern("out/{run}/{n}").fill({"run": 3, "n": "a b"}) == "out/3/a b"
