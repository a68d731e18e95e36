"""Where a value can be quoted: what a real shell makes of it, and what is refused."""

import subprocess

import pytest

from mlepool.client.sweeps.quoting import ShellPlace
from mlepool.client.sweeps.template import Template

NASTY = "a b'\"`id`$(id)\\\n; exit 9 #"


def place_after(text: str) -> ShellPlace:
    place = ShellPlace()
    place.go_on(text)
    return place


@pytest.mark.parametrize(
    "text",
    [
        "echo 'x ",
        'echo "x ',
        'echo "a\\" ',
        'echo "a\\\\\\" ',
        "echo \\",
        "echo $",
        "echo `cat ",
        "echo $'a\\' ",
        'echo "$(echo "',
        'echo "${x:-"',
        "cat <<EOF\n",
        "echo # see ",
        "(# see ",
        "a\\ #'\n",
    ],
)
def test_a_field_that_can_not_be_quoted_is_refused(text):
    assert place_after(text).problem
    with pytest.raises(ValueError, match="can't be quoted there"):
        Template(text.replace("{", "{{") + "{x}")


@pytest.mark.parametrize(
    "before",
    [
        "",
        "'a'",
        '"a\\""',
        '"a\\\\"',
        '"${HOME}"',
        "\\'",
        "a#",
        "\\$",
        ": # it's a note\nprintf '%s\\0' ",
        "$(printf x)",
        "a\\ #",
        "'it'\"'\"'s'",
    ],
)
def test_a_shell_agrees_that_the_value_is_one_word_there(before):
    text = f"printf '%s\\0' {before.replace('{', '{{').replace('}', '}}')}{{x}}"
    command = str(Template(text).fill({"x": NASTY}))
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True)
    assert done.stdout.decode().endswith(f"{NASTY}\0")
