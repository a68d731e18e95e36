"""Reads a unit as systemd does, as far as ours go: systemd.syntax(7), .service(5)."""

import codecs
import re
from pathlib import Path

WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


def values(path: Path, key: str) -> list[str]:
    """Give what stands behind a key, each time that it stands there."""
    lines = path.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def command(path: Path) -> list[str]:
    """Give what the unit starts."""
    (line,) = values(path, "ExecStart")
    program, *arguments = words(line)
    return [program, *(one.replace("$$", "$") for one in arguments)]


def words(line: str) -> list[str]:
    """Take a line apart into its words, which are all quoted."""
    assert WORD.sub("", line).strip() == "", "something is not quoted"
    return [_meant(found) for found in WORD.findall(line)]


def _meant(quoted: str) -> str:
    plain = codecs.escape_decode(quoted.encode())[0]
    assert isinstance(plain, bytes)
    text = plain.decode("utf-8", "surrogateescape")
    assert "%" not in text.replace("%%", ""), "a specifier"
    return text.replace("%%", "%")
