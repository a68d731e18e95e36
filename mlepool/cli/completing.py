"""What may follow on a command line: answers to a shell, at each press of a key.

``mlepool __complete WORD...`` gets the words after ``mlepool``; the last one is not
ended. It prints what that may become, a line each, with a tab and an explanation where
there is one; ``:files`` means the names of files. Whatever goes wrong, it says nothing
and ends with 0: there is a user who types.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mlepool.cli.commands import COMMANDS

__all__ = ["Word", "complete", "main", "words_of"]

# Not at the top: most answers need neither.
_MAIN = "mlepool.cli.main"
_PLACES = "mlepool.cli.places"
_JOBS = "mlepool.cli.listing"

HOST_OPTIONS = ("-H", "-w", "--host", "--hosts")
LABEL_OPTIONS = ("-l", "--selector")
OF_JOBS = ("attach", "logs", "stop")  # whose arguments are jobs
OF_FILES = ("sync", "put", "get")
FACTS = ("arch", "cpu.cores", "gpu.name", "memory.total", "os", "run_status", "version")
FILES = ":files"

_BREAKS = "\"'><=;|&(:@$"  # where bash begins a word anew
_KEPT = "@$"  # and these belong to that word


class Word(NamedTuple):
    """What a word may become, and what that is."""

    text: str
    about: str = ""


def main() -> None:
    """Answer a shell."""
    given = sys.argv[2:]
    with contextlib.suppress(BaseException), open(os.devnull, "w") as nothing:
        sys.stderr = nothing  # who types is not to be disturbed
        is_line = given[:1] == ["--line"]
        words = words_of(given[1]) if is_line else given
        cut = _in_word(given[1]) if is_line else 0
        for word in complete(words):
            text = word.text if word.text == FILES else word.text[cut:]
            about = "" if is_line or not word.about else f"\t{word.about}"
            sys.stdout.write(f"{text}{about}\n")
        sys.stdout.flush()


def words_of(line: str) -> list[str]:
    """Cut a line of shell, up to the cursor, into the words after the command."""
    words, word, quote, has_word = [], "", "", False
    signs = iter(line)
    for sign in signs:
        if quote:
            word, quote = (word, "") if sign == quote else (word + sign, quote)
        elif sign in "'\"":
            quote, has_word = sign, True
        elif sign == "\\":
            word, has_word = word + next(signs, ""), True
        elif sign.isspace():
            if has_word:
                words.append(word)
            word, has_word = "", False
        else:
            word, has_word = word + sign, True
    return [*words, word][1:]


def complete(words: Sequence[str]) -> Iterator[Word]:
    """Give what the last word may become."""
    *before, current = words or [""]
    if not before:
        known = [Word(name, one.summary) for name, one in COMMANDS.items()]
        options = [Word("--help"), Word("--version")]
        yield from _fitting(options if current.startswith("-") else known, current)
    elif before[0] in COMMANDS:
        yield from _after(before, current)


def _after(before: Sequence[str], current: str) -> Iterator[Word]:
    """Complete within a subcommand."""
    name, last = before[0], before[-1]
    option, separator, value = current.partition("=")
    if option.startswith("--") and separator:  # --hosts=gpu
        for word in _value_of(option, value):
            yield Word(f"{option}={word.text}", word.about)
    elif last in HOST_OPTIONS + LABEL_OPTIONS:
        yield from _value_of(last, current)
    elif name == "run" and _has_begun(before[1:]):
        return
    elif current.startswith("-"):
        yield from _fitting(_options(before), current)
    elif last.startswith("-") and _takes_value(before):
        yield Word(FILES)
    else:
        yield from _arguments(before, current)


def _arguments(before: Sequence[str], current: str) -> Iterator[Word]:
    name, last = before[0], before[-1]
    actions = COMMANDS[name].actions
    if actions:
        known = (Word(one) for one in actions)
        yield from _fitting(known if last == name else (), current)
    elif name == "completion":
        yield from _fitting(map(Word, ("bash", "zsh", "fish")), current)
    elif name in OF_JOBS:
        listed = importlib.import_module(_JOBS).jobs(_hosts_in(before))
        taken = set(before)
        words = [
            Word(job_id, about)
            for job_id, about, runs in listed
            if job_id not in taken and (runs or name != "stop")
        ]
        yield from _fitting(words, current)
    elif name in OF_FILES:
        yield Word(FILES)


def _value_of(option: str, current: str) -> Iterator[Word]:
    """Complete hosts or labels: the last of several."""
    if option in HOST_OPTIONS:
        start = max((current.rfind(sign) + 1 for sign in ",!&^"), default=0)
        words = _hosts()
    elif option in LABEL_OPTIONS:
        start = max(current.rfind(sign) + 1 for sign in ",!")
        words = _labels()
    else:
        return
    taken = current[:start].split(",")
    for word in _fitting(words, current[start:]):
        if word.text in taken:
            continue
        yield Word(current[:start] + word.text, word.about)


def _hosts() -> Iterator[Word]:
    places = importlib.import_module(_PLACES)
    for name, place in places.known_places().items():
        labels = place.options.get("labels") or {}
        about = ",".join(f"{key}={value}" for key, value in labels.items())
        yield Word(name, about)
    for group, members in places.read_book().groups.items():
        yield Word(f"@{group}", f"{len(members)} hosts")


def _labels() -> Iterator[Word]:
    found: dict[str, int] = {}
    for host in importlib.import_module(_PLACES).read_book().hosts.values():
        for key, value in host.labels.items():
            text = f"{key}={value}"
            found[text] = found.get(text, 0) + 1
    for text, count in found.items():
        yield Word(text, "1 host" if count == 1 else f"{count} hosts")
    yield from (Word(one, "a fact of the worker") for one in FACTS)


def _hosts_in(before: Sequence[str]) -> list[str]:
    """Find the hosts that a line names so far."""
    pairs = zip(before, before[1:], strict=False)
    named = [value for option, value in pairs if option in HOST_OPTIONS]
    return named or os.environ.get("MLEPOOL_HOSTS", "").split()


def _parameters(before: Sequence[str]) -> list[Any]:
    """Load a subcommand, or one of its actions, for its options."""
    module = importlib.import_module(_MAIN)
    command = module.command_of(before[0])
    actions = getattr(command, "commands", {})
    if len(before) > 1 and before[1] in actions:
        command = actions[before[1]]
    return [one for one in command.params if one.opts[0].startswith("-")]


def _options(before: Sequence[str]) -> Iterator[Word]:
    for one in _parameters(before):
        if not getattr(one, "hidden", False):
            for spelling in (*one.opts, *one.secondary_opts):
                yield Word(spelling, getattr(one, "help", "") or "")
    yield Word("--help", "Show what there is.")


def _takes_value(before: Sequence[str]) -> bool:
    """Tell if the last word is an option whose value follows."""
    options = (one for one in _parameters(before) if before[-1] in one.opts)
    return any(not getattr(one, "is_flag", False) for one in options)


def _has_begun(words: Sequence[str]) -> bool:
    """Tell if the command of a run has begun: what follows is its own."""
    if "--" in words:
        return True
    expects = False
    for number, word in enumerate(words):
        if word.startswith("-"):
            expects = "=" not in word and _takes_value(["run", *words[: number + 1]])
        elif expects:
            expects = False
        else:
            return True
    return False


def _fitting(words: Iterable[Word], current: str) -> Iterator[Word]:
    return (one for one in words if one.text.startswith(current))


def _in_word(line: str) -> int:
    """Give how much of the last word bash will not replace.

    It takes a word to begin after each of its signs; not within quotes.
    """
    raw = re.split(r"(?<!\\)\s", line)[-1]
    if "'" in raw or '"' in raw:
        return 0
    start = max((raw.rfind(sign) for sign in _BREAKS), default=-1)
    return start + (0 if start >= 0 and raw[start] in _KEPT else 1)
