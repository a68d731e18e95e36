"""Looking after jobs."""

from __future__ import annotations

from signal import Signals
from typing import Any

from mlepool.signals import signal_name
from mlepool.wire.values import InputAck, JobInfo, StopReport
from mlepool.worker.registry import Context, check_size, command

__all__ = ["is_alive", "job", "jobs", "kill", "resize", "send_input", "stop"]

KILL_GRACE = 2.0  # seconds until those are named that even SIGKILL has not ended
Data = Any  # str or bytes: no annotation that msgspec knows says that


@command
async def stop(
    ctx: Context, job_id: str, signal: str | int = "SIGINT", grace: float = 10.0
) -> StopReport:
    """Stop a job: its whole tree of processes, with proof.

    The signal is sent first, SIGTERM after ``grace`` seconds, SIGKILL after as many
    again; a stage that everybody left ignores is skipped. A second stop while one is
    under way goes to the next stage at once.

    Args:
        job_id: The job.
        signal: The first signal: ``"SIGTERM"``, ``"TERM"`` or ``signal.SIGTERM``.
        grace: Seconds between two stages.

    Returns:
        What was signalled, and what survived. A job that had ended already is not
        touched; the report then has its status and no signals.

    Raises:
        LookupError: If there is no such job.
        ValueError: If there is no such signal, or grace is negative.
    """
    name = signal_name(signal)
    if name not in Signals.__members__:
        some = "SIGINT, SIGTERM and SIGUSR1 are some"
        raise ValueError(f"stop(): there is no signal {signal!r}; {some}")
    if not 0 <= grace < float("inf"):
        raise ValueError(f"stop(): grace must be a number of seconds, not {grace}")
    return await ctx.stop(job_id, signal=name, grace=grace)


@command
async def kill(ctx: Context, job_id: str) -> StopReport:
    """Kill a job: SIGKILL to its whole tree of processes, with proof.

    Args:
        job_id: The job.

    Returns:
        What was signalled, and what survived, as ``stop`` does.

    Raises:
        LookupError: If there is no such job.
    """
    return await ctx.stop(job_id, signal="SIGKILL", grace=KILL_GRACE)


@command(role="view")
def jobs(ctx: Context) -> list[JobInfo]:
    """List the jobs of this worker: that run or wait, and the latest that have ended.

    Returns:
        A list of :class:`~mlepool.JobInfo`; those that have ended come first. Of a
        very long line no more than go into one answer.
    """
    return ctx.job_list()


@command(role="view")
def is_alive(ctx: Context, job_id: str) -> bool:
    """Tell if a job has not ended yet.

    Args:
        job_id: The job.

    Returns:
        True while it runs, or waits for its turn.

    Raises:
        LookupError: If there is no such job.
    """
    return ctx.job_info(job_id).outcome is None


@command(role="view")
def job(ctx: Context, job_id: str) -> JobInfo:
    """Describe one job, also one that has ended long ago.

    Args:
        job_id: The job.

    Returns:
        A :class:`~mlepool.JobInfo`.

    Raises:
        LookupError: If there is no such job.
    """
    return ctx.job_info(job_id)


@command
async def send_input(
    ctx: Context,
    job_id: str,
    data: Data = b"",
    offset: int = 0,
    end: bool = False,
    *,
    writer: str = "",
) -> InputAck:
    """Write to a job's stdin; returns when the process's pipe has taken it.

    Args:
        job_id: A job that was started with ``stdin=True``, ``input=`` or ``tty=True``.
        data: The bytes; a str is sent as UTF-8. No newline is added.
        offset: Position of ``data`` in all that this writer sends; bytes that it has
            sent before are passed over.
        end: True to close stdin after ``data``.
        writer: Who writes, as a name of your own making: each counts its own bytes.

    Raises:
        LookupError: If there is no such job.
        BrokenPipeError: If its stdin is closed.
    """
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, bytes):
        kind = type(data).__name__
        raise TypeError(f"send_input(): data: expected str or bytes, got {kind}")
    return await ctx.feed(job_id, data, offset=offset, end=end, writer=writer)


@command
def resize(ctx: Context, job_id: str, rows: int, cols: int) -> None:
    """Give a job's terminal another size; who runs there is told by SIGWINCH.

    Args:
        job_id: A job that was started with ``tty=True``; nothing if it has ended.
        rows: Height.
        cols: Width.

    Raises:
        LookupError: If there is no such job.
        ValueError: If it has no terminal, or none can have that size.
    """
    ctx.resize(job_id, *check_size("resize", rows, cols))
