"""Views in notebooks: HTML that follows what it shows, until that has ended.

A view is shown by IPython when an object is the value of a cell, or by
``IPython.display.display``. One thread keeps all views of a process current; it is
there while there are any. It is not the thread of the connections: a notebook that
takes nothing any more holds up views alone.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import sys
import threading
from typing import Any

__all__ = ["Painter", "Viewed"]

logger = logging.getLogger("mlepool.client")

INTERVAL = 0.25  # seconds between two states of a view, at least
MAX_VIEWS = 50  # that are kept current; of more, the oldest stay as they are


class Viewed:
    """What notebooks show as HTML, and go on showing while it changes."""

    def _repr_html_(self) -> str | None:
        """Give what it looks like now; None for its text."""
        raise NotImplementedError

    def _is_live(self) -> bool:
        """Tell if it may look otherwise later."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        """Show it in a notebook, and go on; IPython calls this.

        Raises:
            NotImplementedError: For IPython: to show it as any other object. It is no
                notebook, or there is nothing to follow.
        """
        if not _in_notebook() or not self._is_live():
            raise NotImplementedError
        _painter.add(_View(self))


class _View:
    """One place in a notebook, and what is shown there."""

    def __init__(self, viewed: Viewed) -> None:
        display = importlib.import_module("IPython.display").display
        self._viewed = viewed
        self._html = viewed._repr_html_()
        self._handle = display(self._bundle(), raw=True, display_id=True)

    def refresh(self) -> bool:
        """Show the present state, if it is another one.

        Returns:
            False once it was the last.
        """
        is_live = self._viewed._is_live()  # first: what comes after it is shown
        html = self._viewed._repr_html_()
        if html != self._html:
            self._html = html
            self._handle.update(self._bundle(), raw=True)
        return is_live

    def _bundle(self) -> dict[str, Any]:
        return {"text/plain": repr(self._viewed), "text/html": self._html or ""}


class Painter:
    """Keeps views current, in a thread that ends with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: list[Any] = []
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def add(self, view: Any) -> None:
        """Refresh a view every quarter of a second, until it says that it is done."""
        with self._lock:
            self._views = [*self._views, view][-MAX_VIEWS:]
            # Also after a fork: the child has the list, and not the thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="mlepool views", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        """Show the last states and end; at the interpreter's end."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        has_views = True
        while has_views:
            is_last = self._ending.wait(INTERVAL)
            ended = [one for one in self._views if not _refreshed(one)]
            with self._lock:
                self._views = [one for one in self._views if one not in ended]
                has_views = bool(self._views) and not is_last
                if not has_views:
                    self._thread = None


def _refreshed(view: Any) -> bool:
    try:
        return bool(view.refresh())
    except Exception:
        # The top of a thread: one view that can't be shown must not end the others.
        logger.debug("a view in a notebook has ended", exc_info=True)
        return False


def _in_notebook() -> bool:
    """Tell if there is a front-end that shows HTML, and can replace it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


_painter = Painter()
atexit.register(_painter.end)
