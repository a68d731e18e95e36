"""The text in which ``expect()`` looks for patterns."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from mlepool.client.listening.values import is_line

__all__ = ["Expectation"]

WINDOW = 64 * 1024  # characters in which a pattern is looked for
STEP = 16 * 1024  # characters that are added before it is looked for again
TAIL = 200  # characters that an error shows


class Expectation:
    """What has come since the last match, as far as it is still looked at."""

    def __init__(self) -> None:
        self._text: Any = ""
        self._cut = 0  # characters of the text that were let go
        self._messages: deque[tuple[int, Any]] = deque()  # where each one begins
        self._has_values = False

    @property
    def tail(self) -> str:
        """The last of the text, for errors."""
        tail = self._text[-TAIL:]
        return tail if isinstance(tail, str) else tail.decode("utf-8", "replace")

    def clear(self) -> None:
        """Forget the text."""
        self._text = self._text[:0]
        self._messages.clear()

    def add(self, message: Any, more: Iterator[Any]) -> None:
        """Take a message, and those that are there already, up to a bound.

        Values are passed over: only lines have a text.
        """
        parts, size = [], 0
        begin = self._cut + len(self._text)
        if self._has_values:
            # A match is yet to come, and after them: they will not be given back.
            lines = (one for one in self._messages if is_line(one[1]))
            self._messages, self._has_values = deque(lines), False
        while message is not None:
            self._messages.append((begin + size, message))
            if is_line(message):
                end = message.end
                text = message + (end if isinstance(message, str) else end.encode())
                parts.append(text)
                size += len(text)
            else:
                self._has_values = True
            message = next(more, None) if size < STEP else None
        if not parts:
            return
        joined = parts[0][:0].join(parts)
        self._text = self._text + joined if self._text else joined
        self._trim()

    def search(self, pattern: Any) -> re.Match[Any] | None:
        """Look for a pattern; what comes after it stays, for the next one."""
        if not isinstance(pattern, re.Pattern):
            pattern = re.compile(pattern, re.MULTILINE)
        if not self._text:
            return None
        found: re.Match[Any] | None = pattern.search(self._text)
        if found is None:
            return None
        self._let_go(self._cut + found.end())
        rest = len(self._text)
        if self._messages:
            rest = self._messages[0][0] - self._cut
        self._text = self._text[found.end() : rest]
        return found

    def give_back(self) -> list[Any]:
        """Give the messages that were taken, and begin after the match."""
        messages = [message for _, message in self._messages]
        self._messages.clear()
        return messages

    def _trim(self) -> None:
        cut = len(self._text) - WINDOW
        if cut > 0:
            self._text = self._text[cut:]
            self._cut += cut
            self._let_go(self._cut)

    def _let_go(self, before: int) -> None:
        while self._messages and self._messages[0][0] < before:
            self._messages.popleft()
