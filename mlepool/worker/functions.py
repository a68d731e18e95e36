"""Functions of clients, called in processes of their own: a capability, off by default.

A worker has it where its owner says so::

    mlepool worker --commands mlepool.worker.functions

Clients then use it through ``pool.executor()``. What comes is a pickle, which may do
whatever this account may: so it needs the role ``admin``. It takes cloudpickle, of the
extra ``mlepool[functions]``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import importlib
import os
from collections.abc import Iterator

from mlepool.worker.calling.process import CallingProcess
from mlepool.worker.custom.capabilities import capability
from mlepool.worker.custom.task_context import Context
from mlepool.worker.registry import command

__all__ = ["Functions"]

PART = 8 * 1024 * 1024  # bytes of one message; a yielded value has 16 MiB at most
PROCESSES = os.cpu_count() or 1  # kept for the next call; more run at once if asked for


@capability(name="functions")
class Functions:
    """Calls Python functions of clients, each in a process of its own."""

    def setup(self) -> None:
        """See if there is what pickles are read with, before anybody calls.

        Raises:
            ImportError: If cloudpickle is not installed.
        """
        importlib.import_module("cloudpickle")
        self._idle: list[CallingProcess] = []
        self._is_over = False

    def shutdown(self) -> None:
        """End the processes that wait for a call; others end with theirs."""
        self._is_over = True
        while self._idle:
            self._idle.pop().kill()

    @command(role="admin")
    def call(self, ctx: Context, call: bytes = b"") -> Iterator[bytes]:
        """Call a function; ``pool.executor()`` is made of this.

        What the function prints comes as lines. A stop kills its process, and all that
        it has started in its session.

        Args:
            call: The function and its arguments, as cloudpickle writes a tuple
                ``(function, args, keywords)``; if empty it is sent as the command's
                input, in base64.
        """
        data = call or _read_input(ctx)
        process = self._idle.pop() if self._idle else CallingProcess()
        answer = None
        try:
            answer = process.ask(
                os.fsencode(ctx.cwd),
                data,
                log=ctx.log,
                is_stopped=lambda: bool(ctx.stopped),
            )
        finally:
            if answer is not None and len(self._idle) < PROCESSES:
                self._idle.append(process)
            else:
                process.kill()
            if self._is_over:  # nobody else would end it
                self.shutdown()
        if answer is None:
            return
        for at in range(0, len(answer), PART):
            yield answer[at : at + PART]


def _read_input(ctx: Context) -> bytes:
    text = "".join(ctx.input)
    with contextlib.suppress(binascii.Error):
        if data := base64.b64decode(text, validate=True):
            return data
    raise ValueError("no call: neither as an argument nor, in base64, as input")
