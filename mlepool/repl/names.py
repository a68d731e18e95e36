"""What hosts are called at a Python prompt."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Collection, Iterable

__all__ = ["identifier", "identifiers"]


def identifier(name: str) -> str:
    """Make a name that Python takes: ``gpu-1`` is ``gpu_1``.

    What would begin with a digit, or hide a word of Python's, begins with ``host_``.
    """
    word = re.sub(r"\W", "_", name)
    is_taken = keyword.iskeyword(word) or keyword.issoftkeyword(word)
    if is_taken or hasattr(builtins, word) or not re.match(r"[^\W\d_]", word):
        return f"host_{word}"
    return word


def identifiers(names: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Give each host a name at the prompt, as far as they differ.

    Args:
        names: The hosts.
        taken: Names that mean something else.

    Returns:
        The hosts by their identifiers. Of two that would be the same the first has it;
        the other one is at ``pool["..."]`` only.
    """
    found: dict[str, str] = {}
    for name in names:
        word = identifier(name)
        word = f"host_{word}" if word in taken else word
        found.setdefault(word, name)
    return found
