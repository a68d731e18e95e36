"""Where a choice goes, by the line editor's own idea of a word."""

import pytest

from mlepool.repl.editor import Typing, at_word


@pytest.mark.parametrize(
    ("line", "begin", "text", "choice", "put"),
    [
        ("gpu1.ru", 0, "ru", "run", "gpu1.run"),
        ("pool['gp", 6, "gp", "gpu1", "gpu1"),
        ("c.ls('/a b/c", 10, "/a b/c", "/a b/cd", "/cd"),
        ("c.ls('/et", 6, "/et", "/etc/", "/etc/"),
    ],
)
def test_a_choice_is_put_where_the_word_begins(*, line, begin, text, choice, put):
    assert at_word(line, len(line), begin=begin, text=text, choice=choice) == put


def test_paths_of_the_host_are_completed_and_then_what_was_before(pool, files):
    readline = pytest.importorskip("readline")
    before = readline.get_completer(), readline.get_completer_delims()
    with Typing(pool["gpu1"]) as typing:
        assert readline.get_completer() == typing.complete
        assert typing.complete(f"{files}/de", 0) == f"{files}/deep/"
        assert typing.complete(f"{files}/de", 1) is None
    assert (readline.get_completer(), readline.get_completer_delims()) == before
