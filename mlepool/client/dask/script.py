"""A Dask scheduler, or a host's workers, until a signal comes.

This text is sent to hosts, where any Python runs it from its stdin: nothing of ours
need be installed there. Settings and keys come with it: they are in no argument and
in no environment, and in files only while TLS reads them, in a folder of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

__all__ = ["main"]

SIGN = "mlepool-dask: "  # of lines for who has sent this
CLOSE_LIMIT = 3.0  # seconds that workers may take to end by themselves

# Each server of Dask has an HTTP server beside it, for its dashboard, that asks nobody
# who they are. Here it has none.
NO_HTTP = """\
import distributed.node
distributed.node.ServerNode.start_http_server = lambda *args, **keywords: None
"""
# In each worker's process, too. A stop signals all processes, and a worker must then be
# left to who has started it. (An ignored signal would be so for what it starts, too.)
PRELOAD = f"""{NO_HTTP}\
import signal
signal.signal(signal.SIGINT, lambda *ignored: None)
"""


def main(settings: dict[str, Any]) -> None:
    """Run what the settings say; its facts go to stdout, its log to stderr."""
    # Processes that this starts would look for a file of this name: it is stdin.
    globals().pop("__file__", None)
    try:
        import distributed
    except ImportError as exc:
        say(problem="missing", text=str(exc), interpreter=sys.executable)
        sys.exit(1)
    python = ".".join(map(str, sys.version_info[:2]))
    say(distributed=distributed.__version__, python=python)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:  # a connection to each part, as Dask itself has
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard // 2), hard))
    exec(NO_HTTP, {})
    serve = serve_scheduler if settings["part"] == "scheduler" else serve_workers
    with a_folder() as folder:
        say(folder=folder)
        asyncio.run(serve(settings))


@contextlib.contextmanager
def a_folder() -> Iterator[str]:
    """Have all that is put into files go to a folder, and with it."""
    import dask

    parent = dask.config.get("temporary-directory", None)
    folder = tempfile.mkdtemp(prefix="mlepool-dask-", dir=parent)
    try:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        dask.config.set({"temporary-directory": folder})
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def say(**facts: Any) -> None:
    """Tell who has sent this."""
    sys.stdout.write(f"{SIGN}{json.dumps(facts)}\n")
    sys.stdout.flush()


def security_of(settings: dict[str, Any], part: str) -> Any:
    """Give the TLS settings: only what has this cluster's certificates is let in."""
    from distributed.security import Security

    return Security(
        require_encryption=True,
        tls_min_version=ssl.TLSVersion.TLSv1_3,
        tls_ca_file=settings["authority"],
        **{
            f"tls_{part}_cert": settings["certificate"],
            f"tls_{part}_key": settings["key"],
        },
    )


async def serve_scheduler(settings: dict[str, Any]) -> None:
    """Be the scheduler."""
    import distributed

    async with distributed.Scheduler(
        host=settings["listen"],
        port=settings["port"],
        protocol="tls",
        security=security_of(settings, "scheduler"),
        dashboard=False,
    ) as scheduler:
        say(port=scheduler.port)
        await until_the_end([scheduler])


async def serve_workers(settings: dict[str, Any]) -> None:
    """Be a host's workers: each a process, which is started again if it dies."""
    security = security_of(settings, "worker")
    tls = security.get_connection_args("worker")["ssl_context"]
    unreachable = await asyncio.to_thread(try_to_reach, settings["scheduler"], tls)
    if unreachable:
        say(problem="unreachable", text=unreachable)
        sys.exit(1)
    nannies = make_nannies(settings, security)
    try:
        await asyncio.gather(*nannies)
        say(ready=len(nannies))
        await until_the_end(nannies)
    finally:
        ends = [one.close(timeout=CLOSE_LIMIT) for one in nannies]
        await asyncio.gather(*ends, return_exceptions=True)


def make_nannies(settings: dict[str, Any], security: Any) -> list[Any]:
    """Make what starts the workers, and starts them again."""
    import distributed

    return [
        distributed.Nanny(
            settings["address"],
            name=name,
            nthreads=threads_of(settings),
            memory_limit=settings["memory_limit"],
            protocol="tls",
            security=security,
            host=settings["listen"],
            preload=[PRELOAD],
        )
        for name in settings["names"]
    ]


def threads_of(settings: dict[str, Any]) -> int:
    """Share this host's processors among its workers."""
    from dask.system import CPU_COUNT

    threads: int = settings["threads"] or CPU_COUNT // len(settings["names"])
    return max(1, threads)


def try_to_reach(place: tuple[str, int, float], tls: ssl.SSLContext) -> str:
    """Say why there is no way to the scheduler; empty if there is one."""
    host, port, limit = place
    try:
        with socket.create_connection((host, port), timeout=limit) as plain:
            tls.wrap_socket(plain).close()
    except OSError as exc:
        return str(exc)
    return ""


async def until_the_end(servers: list[Any]) -> None:
    """Wait for a signal, or until all of them have ended."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    asked = asyncio.create_task(stopped.wait())
    ends = [asyncio.ensure_future(one.finished()) for one in servers]
    ended = asyncio.ensure_future(asyncio.wait(ends))
    await asyncio.wait([asked, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in (asked, ended, *ends):
        task.cancel()
