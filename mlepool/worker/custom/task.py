"""One custom command that runs inside the worker: a job, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from signal import SIGKILL

from mlepool.wire.messages import Outcome
from mlepool.wire.values import InputAck, Signalled, StopReport, Survivor
from mlepool.worker.custom.task_call import TaskCall
from mlepool.worker.custom.task_context import Context
from mlepool.worker.custom.task_end import make_outcome
from mlepool.worker.custom.task_output import TaskOutput
from mlepool.worker.job import Job
from mlepool.worker.steps import in_steps

__all__ = ["Task"]

logger = logging.getLogger("mlepool.worker")

TIMEOUT_GRACE = 1.0  # seconds between the stages of a stop, once the time is over
LONG_STEP = 0.5  # seconds without the event loop, of which the log tells
LEAST_GRACE = 0.5  # seconds that even a stop without grace waits for the end


class Task:
    """Runs one call of a custom command; see :class:`~mlepool.worker.job.Runner`.

    A stop has two stages. First ``ctx.stopped`` is set: a function that looks at it
    returns, a generator is closed at its next value. After ``grace`` seconds an async
    function is cancelled; one without ctx at once, since it can't know. A thread can't
    be ended from outside: one that goes on is reported, and nobody hears of it again.

    Args:
        job: The job.
        call: The call.
        context: What the command sees of it.
        output: Where it goes.
        has_context: True if the command does see that.
        ended: Called once it has ended, with the outcome as it was written.
    """

    def __init__(
        self,
        job: Job,
        call: TaskCall,
        *,
        context: Context,
        output: TaskOutput,
        has_context: bool,
        ended: Callable[[Outcome], None],
    ) -> None:
        self._job = job
        self._call = call
        self._input = context.input
        self._output = output
        self._stopped = context.stopped
        self._has_context = has_context
        self._ended = ended
        self._outcome: Outcome | None = None
        self._stopped_as = ""
        self._reason = ""
        self._stopping: asyncio.Task[StopReport] | None = None
        self._news = asyncio.Event()  # it has ended, or a stop is in a hurry
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def is_left(self) -> bool:
        """True if the job has ended, and a thread of it goes on."""
        return self._outcome is not None and self._call.is_in_thread

    def begin(self, timeout: float | None) -> None:
        """Begin to run; after ``timeout`` seconds it is stopped."""
        loop = asyncio.get_running_loop()
        if timeout is not None:
            self._timer = loop.call_later(timeout, self._time_out)
        self._running = loop.create_task(self._run())

    async def stop(self, *, signal: str, grace: float, reason: str) -> StopReport:
        """Stop it; a second stop goes on to the next stage at once.

        Args:
            signal: SIGKILL leaves out the first stage where there is a second one.
            grace: Seconds between the stages.
            reason: For the outcome.
        """
        if self._outcome is not None:
            return StopReport(self._job.id, self._outcome.status)
        if self._stopping is None:
            is_kill = signal == SIGKILL.name
            self._begin_stop("STOPPED", reason, grace=0.0 if is_kill else grace)
        else:
            self._news.set()
        assert self._stopping is not None
        return await asyncio.shield(self._stopping)

    async def feed(
        self, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Give it input; returns once it has room for all of it."""
        return await self._input.feed(data, offset=offset, end=end, writer=writer)

    async def _run(self) -> None:
        value, error = None, None
        try:
            value = await in_steps(self._call.run(), self._note_step)
        except BaseException as exc:
            # Whatever a command raises, SystemExit too, is its own end and no other's.
            error = exc
        if self._outcome is None:
            self._finish(
                make_outcome(
                    value,
                    error,
                    command=self._job.command,
                    started=self._job.started,
                    stopped_as=self._stopped_as,
                    reason=self._reason,
                )
            )

    def _note_step(self, seconds: float) -> None:
        if seconds > LONG_STEP:
            text = "%s() kept all clients waiting for %.1f s: it is async, and blocks"
            logger.warning(text, self._job.command, seconds)

    def _finish(self, outcome: Outcome) -> None:
        self._outcome = self._output.end(outcome)
        self._input.end()
        self._stopped.set()  # who waits for it in a thread that is left wakes up
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()
        self._ended(self._outcome)

    def _time_out(self) -> None:
        if self._stopping is None:
            self._begin_stop("TIMED_OUT", "timeout", grace=TIMEOUT_GRACE)

    def _begin_stop(self, status: str, reason: str, *, grace: float) -> None:
        self._stopped_as, self._reason = status, reason
        self._stopping = asyncio.get_running_loop().create_task(self._stages(grace))

    async def _stages(self, grace: float) -> StopReport:
        loop, sent = asyncio.get_running_loop(), []
        began = loop.time()
        self._stopped.set()
        self._input.end()
        sent.append(self._signalled("stop", 0.0))
        if not self._call.is_cancellable:
            await self._wait(max(grace, LEAST_GRACE))
        elif self._has_context and grace:
            await self._wait(grace)
        if self._outcome is None and self._call.is_cancellable:
            assert self._running is not None
            sent.append(self._signalled("cancel", loop.time() - began))
            self._running.cancel()
            await self._wait(max(grace, LEAST_GRACE))
        left = self._give_up() if self._outcome is None else ()
        assert self._outcome is not None
        seconds = loop.time() - began
        job = self._job
        return StopReport(job.id, self._outcome.status, tuple(sent), left, seconds)

    async def _wait(self, seconds: float) -> None:
        if self._outcome is None:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()

    def _give_up(self) -> tuple[Survivor, ...]:
        """End the job without its code, which goes on unheard."""
        command, cause = self._job.command, self._cause()
        self._reason = f"{self._reason}; it goes on, unheard: {cause}"
        self._finish(
            make_outcome(
                None,
                None,
                command=command,
                started=self._job.started,
                stopped_as=self._stopped_as,
                reason=self._reason,
            )
        )
        if not self._call.is_cancellable and self._running is not None:
            self._running.cancel()  # nobody waits for the thread any more
        return (Survivor(os.getpid(), command, cause),)

    def _cause(self) -> str:
        if self._call.is_cancellable:
            return "an async function that does not let itself be cancelled"
        what = "does not look at ctx.stopped" if self._has_context else "takes no ctx"
        where = self._call.where()
        at = f", at {where}" if where else ""
        return f"a thread of the worker that {what}{at}"

    def _signalled(self, name: str, after: float) -> Signalled:
        return Signalled(name, os.getpid(), self._job.command, after)
