r"""Patterns of ignore files, with the meaning that git gives them.

All of git's own rules, byte for byte, those too that its manual does not tell: a
pattern is what stands in the line without trailing spaces (but ``\ ``); the last one
that matches decides; ``**`` is special only as a whole part of a path, or right behind
the text before the first wildcard.

A pattern becomes a regular expression whose time is bounded by the product of its own
length and the path's: where a wildcard has found the first place that fits, no later
one is tried, since what can be reached from there can be reached from the first one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import NamedTuple

__all__ = ["CLASSES", "Patterns"]

BOM = b"\xef\xbb\xbf"  # Windows' editors begin UTF-8 files with it
SPECIAL = re.compile(rb"[*?[\\]")
LETTERS = bytes((*range(65, 91), *range(97, 123)))
DIGITS = b"0123456789"
PRINTED = bytes(range(0x21, 0x7F))  # and not the space

# git's own ones: bytes beyond ASCII are in none, \v and \f are no space.
CLASSES = {
    b"alnum": LETTERS + DIGITS,
    b"alpha": LETTERS,
    b"blank": b" \t",
    b"cntrl": bytes((*range(32), 127)),
    b"digit": DIGITS,
    b"graph": PRINTED,
    b"lower": LETTERS[26:],
    b"print": b" " + PRINTED,
    b"punct": bytes(set(PRINTED) - set(LETTERS + DIGITS)),
    b"space": b" \t\n\r",
    b"upper": LETTERS[:26],
    b"xdigit": DIGITS + b"abcdefABCDEF",
}


class _Rule(NamedTuple):
    """One pattern.

    Attributes:
        text: What is compared: all of a name or path, a name's ending, or, if neither
            ``is_whole`` nor ``is_ending``, a regular expression.
        by_name: It is about the last part of a path only.
    """

    text: bytes
    is_whole: bool
    is_ending: bool
    by_name: bool
    is_negative: bool
    only_folders: bool

    @property
    def test(self) -> Callable[[bytes], object]:
        """What a name, or a path, is given to."""
        if self.is_whole:
            return self.text.__eq__
        if self.is_ending:
            return methodcaller("endswith", self.text)
        return re.compile(self.text, re.DOTALL).match


class Patterns:
    """The patterns of one ignore file.

    Args:
        text: What is in the file, in any encoding.
    """

    def __init__(self, text: bytes) -> None:
        rules = [rule for line in _lines(text) if (rule := _parse(line))]
        self._tests = [(rule.test, rule) for rule in reversed(rules)]
        # To see fast that none matches, as is the rule.
        named = [rule for rule in rules if rule.by_name]
        placed = [rule for rule in rules if not rule.by_name]
        self._names = frozenset(rule.text for rule in named if rule.is_whole)
        self._paths = frozenset(rule.text for rule in placed if rule.is_whole)
        self._endings = tuple({rule.text for rule in named if rule.is_ending})
        self._name_globs = _any_of(named)
        self._path_globs = _any_of(placed)
        self._has_paths = bool(placed)

    def __bool__(self) -> bool:
        return bool(self._tests)

    def decide(self, folder: bytes, name: bytes, *, is_folder: bool) -> bool | None:
        """Tell what the last pattern that matches says.

        Args:
            folder: Path of the folder that the name is in, relative to that of the
                ignore file: empty, or with a slash at its end.
            name: The last part of the path.
            is_folder: A link to a folder is none.

        Returns:
            True to leave it out, False to take it, None if no pattern matches.
        """
        path = folder + name if self._has_paths else b""
        if not (
            name in self._names
            or path in self._paths
            or name.endswith(self._endings)
            or (self._name_globs and self._name_globs(name))
            or (self._path_globs and self._path_globs(path))
        ):
            return None
        for test, rule in self._tests:
            if (is_folder or not rule.only_folders) and test(
                name if rule.by_name else path
            ):
                return not rule.is_negative
        return None


# -- reading patterns, as git's dir.c does


def _lines(text: bytes) -> Iterator[bytes]:
    for line in text.removeprefix(BOM).split(b"\n"):
        if not line.startswith(b"#"):
            # A C string ends at a NUL.
            kept = _without_spaces(line.removesuffix(b"\r").partition(b"\0")[0])
            if kept:
                yield kept


def _without_spaces(line: bytes) -> bytes:
    """Strip trailing spaces, but one behind a backslash."""
    kept = line.rstrip(b" ")
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return line[: len(kept) + backslashes % 2]


def _parse(line: bytes) -> _Rule | None:
    """Read one pattern; None if it never matches."""
    pattern = line.removeprefix(b"!")
    body = pattern.removesuffix(b"/")
    by_name = b"/" not in body
    literal = body[: found.start()] if (found := SPECIAL.search(body)) else body
    is_ending = by_name and body[:1] == b"*" and not SPECIAL.search(body, 1)
    text: bytes | None = body[1:]
    if literal == body:
        text = body.removeprefix(b"/")
    elif not is_ending:
        # git compares the text before the first wildcard by itself: a ** right
        # behind it is at the beginning of what is left.
        cut = 0 if by_name else len(literal)
        text = _translate(body[cut:], prefix=body[:cut].removeprefix(b"/"))
    if text is None or not body:
        return None
    return _Rule(
        text,
        is_whole=literal == body,
        is_ending=is_ending,
        by_name=by_name,
        is_negative=line != pattern,
        only_folders=body != pattern,
    )


def _any_of(rules: list[_Rule]) -> Callable[[bytes], object] | None:
    texts = [rule.text for rule in rules if not rule.is_whole and not rule.is_ending]
    return re.compile(b"|".join(texts), re.DOTALL).match if texts else None


def _translate(pattern: bytes, *, prefix: bytes) -> bytes | None:
    """Make a regular expression of a pattern; None if it is broken, and so no match."""
    try:
        return _Translator(pattern).run(prefix)
    except ValueError:
        return None


class _Translator:
    """Makes a regular expression, as git's wildmatch.c understands a pattern.

    A pattern is groups with any number of folders between them (``**/``); a group is
    parts of a path; a part is pieces of known length with stars between them.
    """

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._at = 0
        self._groups: list[bytes] = []  # finished ones
        self._lead = b""  # what is between the last group and this one
        self._parts = b""  # finished parts of this group
        self._pieces = [b""]  # of this part

    def run(self, prefix: bytes) -> bytes:
        self._pieces = [re.escape(prefix)]
        while self._at < len(self._pattern):
            self._take()
        self._end_part()
        last = self._lead + self._parts + rb"\Z"
        return b"".join(self._groups) + last

    def _take(self) -> None:
        pattern, at = self._pattern, self._at
        char = pattern[at : at + 1]
        self._at += 1
        if char == b"*":
            self._take_stars(at)
        elif char == b"/":
            self._take_slash()
        elif char == b"?":
            self._pieces[-1] += b"[^/]"
        elif char == b"[":
            self._pieces[-1] += self._take_class()
        elif char == b"\\":
            self._take_escaped()
        else:
            self._pieces[-1] += re.escape(char)

    def _take_escaped(self) -> None:
        char = self._next()
        if char == b"/":
            self._take_slash()
        else:
            self._pieces[-1] += re.escape(char)

    def _next(self) -> bytes:
        self._at += 1
        char = self._pattern[self._at - 1 : self._at]
        if not char:
            raise ValueError("the pattern ends too early")
        return char

    def _take_slash(self) -> None:
        self._end_part()
        self._parts += b"/"

    def _take_stars(self, begin: int) -> None:
        pattern = self._pattern
        after = begin + 1
        while pattern[after : after + 1] == b"*":
            after += 1
        rest = pattern[after : after + 2]
        is_part = begin == 0 or pattern[begin - 1 : begin] == b"/"
        is_part = is_part and (rest[:1] in {b"", b"/"} or rest == b"\\/")
        self._at = after
        if after - begin == 1 or not is_part:
            self._pieces.append(b"")
        elif rest[:1] == b"/":
            self._end_group(rb"(?:.*?/)??")
            self._at += 1
        else:
            self._end_group(b".*?")

    def _end_group(self, lead: bytes) -> None:
        """End a group; all but the last are left as soon as they fit."""
        self._end_part()
        self._groups.append(b"(?>" + self._lead + self._parts + b")")
        self._lead, self._parts = lead, b""

    def _end_part(self) -> None:
        """End a part: but for the last star, the first place that fits is the one."""
        first, *pieces = self._pieces
        self._parts += first
        for piece in pieces[:-1]:
            self._parts += b"(?>[^/]*?" + piece + b")"
        if pieces:
            self._parts += b"[^/]*" + pieces[-1]
        self._pieces = [b""]

    def _take_class(self) -> bytes:
        """Read ``[...]``: which bytes it stands for; never a slash."""
        is_negative = self._pattern[self._at : self._at + 1] in {b"!", b"^"}
        self._at += is_negative
        found, last, char = set[int](), 0, self._next()
        while True:
            last = self._take_member(char, last, found)
            char = self._next()
            if char == b"]":
                break
        if is_negative:
            found = set(range(1, 256)) - found
        found.discard(ord("/"))
        if not found:
            return b"(?!)"
        return b"[" + b"".join(b"\\x%02x" % one for one in sorted(found)) + b"]"

    def _take_member(self, char: bytes, last: int, found: set[int]) -> int:
        """Read a byte, range or class; give the byte that a range may begin with."""
        if char == b"\\":
            char = self._next()
        elif char == b"-" and last and self._pattern[self._at : self._at + 1] != b"]":
            char = self._next()
            if char == b"\\":
                char = self._next()
            found.update(range(last, ord(char) + 1))
            return 0
        elif char == b"[" and self._pattern[self._at : self._at + 1] == b":":
            end = self._pattern.find(b"]", self._at + 1)
            if end < 0:
                raise ValueError("a class has no end")
            if end > self._at + 1 and self._pattern[end - 1 : end] == b":":
                found.update(self._class_named(self._at + 1, end - 1))
                self._at = end + 1
                return 0
        found.add(ord(char))
        return ord(char)

    def _class_named(self, begin: int, end: int) -> bytes:
        name = self._pattern[begin:end]
        if name not in CLASSES:
            raise ValueError(f"there is no class {name!r}")
        return CLASSES[name]
