"""Progress bars on a terminal: one for each host that files go to or come from."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mlepool.cli.wording import ago, visible

__all__ = ["Bars", "size"]

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Bars:
    """Shows how far several listeners are; nothing where stderr is no terminal.

    A context manager, which takes the bars away at its end.

    Args:
        are_shown: False to show nothing on a terminal either.
    """

    def __init__(self, *, are_shown: bool = True) -> None:
        self._display: Any = None
        self._tasks: dict[str, Any] = {}
        if are_shown and sys.stderr.isatty():
            self._display = _make_display()

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def show(self, listeners: Mapping[str, Any]) -> None:
        """Draw the bars once; a listener without ``progress`` has just begun."""
        if self._display is None:
            return
        for name, listener in listeners.items():
            progress = listener.progress
            if name not in self._tasks:
                self._tasks[name] = self._display.add_task(name, total=None, text="")
            if progress is not None:
                self._display.update(
                    self._tasks[name],
                    completed=progress.bytes,
                    # Nothing to be sent is all of it.
                    total=progress.bytes_total or progress.bytes or None,
                    text=_in_words(progress),
                )
        self._display.refresh()


def size(count: float) -> str:
    """Give an amount of bytes in its largest unit, with about three digits."""
    power = 0
    while count >= 1000 and power < len(UNITS) - 1:
        count /= 1024
        power += 1
    places = 0 if count >= 100 or not power else 1
    return f"{count:.{places}f} {UNITS[power]}"


def _make_display() -> Any:
    # Not at the top: it takes longer to load than many a sync.
    progress = importlib.import_module("rich.progress")
    console = importlib.import_module("rich.console").Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[text]}", markup=False),
    )
    return progress.Progress(
        *columns, console=console, auto_refresh=False, transient=True
    )


def _in_words(progress: Any) -> str:
    if progress.waiting:
        return f"waits for {visible(progress.waiting)}"
    parts = [
        f"{progress.files:,}/{progress.files_total:,} files",
        f"{size(progress.bytes)} of {size(progress.bytes_total)}",
        f"{size(progress.rate)}/s",
    ]
    if progress.remaining is not None and progress.bytes < progress.bytes_total:
        parts.append(f"{ago(progress.remaining)} left")
    return ", ".join(parts)
