"""What IPython is given: completions, and lines that it takes for its own."""

import types

import pytest

from mlepool.repl.magics import Magics


@pytest.fixture
def magics(pool) -> Magics:
    return Magics(types.SimpleNamespace(user_ns={"pool": pool}, kernel=None))


def matches(magics: Magics, text: str):
    found = magics.matches(types.SimpleNamespace(text_until_cursor=text))
    return [one.text for one in found["completions"]], found.get("matched_fragment")


def test_the_line_at_the_cursor_is_completed(magics):
    assert matches(magics, "x = 1\npool['gpu-") == (["gpu-2"], "gpu-")
    assert matches(magics, "%%on gpu1,gp") == (["gpu-2", "gpu1"], "gp")
    assert matches(magics, "%on gpu1\nx.") == ([], None)


def test_a_colon_is_a_magic_s_sign_where_it_begins_with_on(magics):
    assert magics.colon([":on gpu1\n"]) == ["%on gpu1\n"]
    assert magics.colon(["x = 1\n", ":on\n"]) == ["x = 1\n", ":on\n"]
    assert magics.colon([]) == []


def test_hosts_are_those_of_the_user_s_pool(magics, capsys):
    found = magics.on_cell("gpu-2", "echo there")
    assert found.succeeded == ["gpu-2"]
    assert capsys.readouterr().out == "gpu-2 | there\n"


def test_without_hosts_it_says_how_it_is_used(magics):
    with pytest.raises(ValueError, match="on HOSTS"):
        magics.on_cell("", "true")
    with pytest.raises(KeyError, match="gpu9"):
        magics.on_line("gpu9 true")
