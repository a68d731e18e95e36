"""``mlepool shell`` at a terminal, for tests that type."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.cli.terminals import Terminal

CONTROLS = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>]"


class Prompt(Terminal):
    """A prompt: what is on the screen is read without its colours and movements."""

    def _read(self) -> None:
        super()._read()
        # What is cut in the middle is whole with the next piece.
        self.seen = re.sub(CONTROLS, "", self.seen)


@contextlib.contextmanager
def prompt(home: str, folder: str, *options: str) -> Iterator[Prompt]:
    """Open one, for an account's folder; IPython keeps its things in the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLEPOOL_HOME", home)
        patch.setenv("IPYTHONDIR", folder)
        patch.setenv("PYTHON_HISTORY", f"{folder}/history")
        # Nobody answers here where the cursor is; it would be waited for.
        patch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")
        opened = Prompt("shell", *options)
    try:
        yield opened
    finally:
        opened.close()
