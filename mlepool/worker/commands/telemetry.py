"""What is measured on the worker's host, and how often."""

from __future__ import annotations

from mlepool.worker.registry import Context, command

__all__ = ["set_metrics"]


@command
def set_metrics(
    ctx: Context,
    *,
    every: float | None = None,
    cpu: float | None = None,
    memory: float | None = None,
    disks: float | None = None,
    network: float | None = None,
    gpus: float | None = None,
    jobs: float | None = None,
) -> dict[str, float]:
    """Set how often the worker measures what, for all clients; 0 is never.

    The worker forgets it when it ends: its configuration counts again then
    (``sample_interval``, 10 s by default).

    Args:
        every: Seconds between two samples of all that is not named here; None for as
            it is.
        cpu: Seconds, of the cores and the load averages.
        memory: Seconds, of memory and swap space.
        disks: Seconds, of file systems and disks.
        network: Seconds, of network interfaces.
        gpus: Seconds, of GPUs.
        jobs: Seconds, of what jobs use.

    Returns:
        All intervals now, in seconds.

    Raises:
        ValueError: For less than 0.1 s that is not 0, and more than a year.
    """
    named = {
        "cpu": cpu,
        "memory": memory,
        "disks": disks,
        "network": network,
        "gpus": gpus,
        "jobs": jobs,
    }
    given = {kind: every if one is None else one for kind, one in named.items()}
    return ctx.telemetry.set_intervals(
        {kind: seconds for kind, seconds in given.items() if seconds is not None}
    )
