"""Commands with fields: ``python train.py --lr {lr}``. Text in, text out."""

from __future__ import annotations

import shlex
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mlepool.client.sweeps.quoting import ShellPlace

__all__ = ["Filling", "Pattern", "Template"]

_CONVERSIONS: dict[str | None, Callable[[Any], Any]] = {
    None: lambda value: value,
    "r": repr,
    "s": str,
    "a": ascii,
}


class _Part(NamedTuple):
    """Text, and the field behind it; the last one may have none."""

    text: str
    field: str | None
    spec: str
    conversion: str | None


class Pattern:
    """Text with fields, as in ``str.format``: ``{name}``, ``{name:.3f}``, ``{name!r}``.

    A brace that is meant is written twice.

    Args:
        text: The text.

    Attributes:
        fields: The fields' names, in the order in which they come first.

    Raises:
        ValueError: If a field has no name, or is none.
    """

    def __init__(self, text: str) -> None:
        try:
            parts = [
                _Part(*one) for one in map(_in_order, string.Formatter().parse(text))
            ]
        except ValueError as exc:
            raise ValueError(
                f"{text!r}: {exc}; a brace that is meant is doubled"
            ) from None
        for part in parts:
            _check(part, text)
        self.text = text
        self.parts = parts
        self.fields = tuple(dict.fromkeys(one.field for one in parts if one.field))

    def fill(self, values: Mapping[str, Any], *, quoted: bool = False) -> str:
        """Give the text with values for its fields.

        Args:
            values: By the fields' names.
            quoted: True to quote each value for a shell.

        Raises:
            ValueError: If a value can't be written as its field asks for.
        """
        return "".join(self._words(values, shlex.quote if quoted else str))

    def _words(
        self, values: Mapping[str, Any], quote: Callable[[str], str]
    ) -> Iterator[str]:
        for text, field, spec, conversion in self.parts:
            yield text
            if field is not None:
                yield quote(format(_CONVERSIONS[conversion](values[field]), spec))


class Template:
    """A command with fields: a str for the shell, or a program and its arguments.

    In a str each value is quoted, so that a shell takes it for what it is: as one
    word, whatever is in it. That can't be kept within quotes of the template's own,
    so a field there is refused.

    Args:
        command: The command.

    Attributes:
        fields: The fields' names.

    Raises:
        TypeError: If it is neither.
        ValueError: If a field has no name, or stands where it can't be quoted.
    """

    def __init__(self, command: str | Sequence[Any]) -> None:
        if isinstance(command, str):
            self._patterns = [Pattern(command)]
            _check_quoting(self._patterns[0])
        elif isinstance(command, Sequence) and not isinstance(command, bytes):
            self._patterns = [Pattern(_word(one)) for one in command]
        else:
            kind = type(command).__name__
            raise TypeError(f"a command is a str or a list of its words, not {kind}")
        if not any(one.text for one in self._patterns):
            raise ValueError("the command is empty")
        self._is_shell = isinstance(command, str)
        names = (name for one in self._patterns for name in one.fields)
        self.fields = tuple(dict.fromkeys(names))

    @property
    def command(self) -> str | list[str]:
        """The command as it was given."""
        words = [one.text for one in self._patterns]
        return words[0] if self._is_shell else words

    def fill(self, values: Mapping[str, Any]) -> str | list[str]:
        """Give the command with values for its fields.

        Raises:
            ValueError: If a value can't be written as its field asks for.
        """
        if self._is_shell:
            return self._patterns[0].fill(values, quoted=True)
        return [one.fill(values) for one in self._patterns]

    def __str__(self) -> str:
        command = self.command
        return command if isinstance(command, str) else " ".join(command)


class Filling:
    """Options with fields in their texts, in lists and dicts, too.

    Args:
        options: By name.

    Attributes:
        fields: The fields' names.

    Raises:
        ValueError: If a field has no name, or is none.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._parts = {name: _compiled(one) for name, one in options.items()}
        patterns = [one for part in self._parts.values() for one in _patterns(part)]
        names = (name for one in patterns for name in one.fields)
        self.fields = tuple(dict.fromkeys(names))

    def fill(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Give the options with values for their fields.

        Raises:
            ValueError: If a value can't be written as its field asks for.
        """
        return {name: _filled(one, values) for name, one in self._parts.items()}


def _compiled(value: Any) -> Any:
    if isinstance(value, str):
        return Pattern(value)
    if isinstance(value, dict):
        return {name: _compiled(one) for name, one in value.items()}
    return [_compiled(one) for one in value] if isinstance(value, list) else value


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, Pattern):
        return part.fill(values)
    if isinstance(part, dict):
        return {name: _filled(one, values) for name, one in part.items()}
    return [_filled(one, values) for one in part] if isinstance(part, list) else part


def _patterns(part: Any) -> Iterator[Pattern]:
    if isinstance(part, Pattern):
        yield part
    elif isinstance(part, dict | list):
        for one in part.values() if isinstance(part, dict) else part:
            yield from _patterns(one)


def _in_order(
    found: tuple[str, str | None, str | None, str | None],
) -> tuple[str, str | None, str, str | None]:
    text, field, spec, conversion = found
    return text, field, spec or "", conversion


def _check(part: _Part, text: str) -> None:
    if part.field is None:
        return
    if not part.field.isidentifier():
        raise ValueError(
            f"{{{part.field}}} in {text!r} is no field: it needs a name; a brace that "
            "is meant is written twice, {{ and }}"
        )
    if "{" in part.spec or part.conversion not in _CONVERSIONS:
        raise ValueError(f"the field {part.field!r} in {text!r} has an odd format")


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if hasattr(value, "__fspath__") and isinstance(value.__fspath__(), str):
        return str(value.__fspath__())
    raise TypeError(f"an argument must be a str, not {type(value).__name__}")


def _check_quoting(pattern: Pattern) -> None:
    """See that each field stands where what shlex.quote() gives is one word.

    Raises:
        ValueError: If one does not.
    """
    place = ShellPlace()
    for part in pattern.parts:
        place.go_on(part.text)
        if part.field is None:
            continue
        if place.problem:
            raise ValueError(
                f"{{{part.field}}} stands {place.problem}: a value can't be quoted "
                "there. Write it without quotes (each value is quoted), or give the "
                "command as a list of words"
            )
        place.go_on_after_a_word()
