"""The supervisor's loop: spawn, drain, reap; answers the worker over a unix socket.

One thread, one selector, no asyncio: it starts in a fraction of the time and wakes up
faster. It ends by itself when no worker is connected and no job runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlepool.errors import RemoteProtocolError
from mlepool.supervisor.channel import Channel
from mlepool.supervisor.job import Job
from mlepool.supervisor.messages import (
    VERSION,
    Fed,
    Feed,
    Finish,
    Greet,
    Greeting,
    Grown,
    JobEnded,
    Spawn,
    Spawned,
    Stop,
    Stopped,
    decode_to_supervisor,
    encode,
)
from mlepool.supervisor.processes import become_subreaper
from mlepool.supervisor.stop import POLL, Stopping
from mlepool.wire.messages import Failure
from mlepool.wire.values import StopReport

__all__ = ["JOBS_FOLDER", "LOCK_FILE", "SOCKET_FILE", "Keeper", "main"]

logger = logging.getLogger("mlepool.supervisor")

SOCKET_FILE = "supervisor.sock"
LOCK_FILE = "supervisor.lock"
JOBS_FOLDER = "jobs"
READY = b"ready\n"  # written to stdout once the socket listens
LOCK_LIMIT = 2.0  # seconds that a supervisor before us may take to be gone
LINGER = 5.0  # seconds that an idle supervisor waits for its (first) worker
TIMEOUT_SIGNAL = "SIGTERM"  # a deadline has passed: there is no time left to ask nicely
TIMEOUT_GRACE = 2.0  # seconds
MAX_WAIT = 3600.0  # seconds; epoll takes no more than 24 days
ACCEPT_PAUSE = 0.5  # seconds before a worker that could not be accepted is tried again
NEWS_DELAY = 0.02  # seconds before telling of a start that nobody waits for
CLOSE_PIPES_AFTER = 1.0  # seconds after a stop that a survivor may hold our pipes


class Keeper:
    """Owns jobs and one connection to a worker.

    Args:
        folder: The worker's state folder.
        listener: The listening unix socket.
    """

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self._jobs_folder = folder / JOBS_FOLDER
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._jobs: dict[str, Job] = {}
        self._by_pid: dict[int, Job] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._deadlines: dict[str, float] = {}
        self._news: dict[str, float] = {}
        self._environment: dict[bytes, bytes] = {}
        self._channel: Channel | None = None
        self._grown: dict[str, Job] = {}
        self._finishing = False
        self._idle_since = time.monotonic()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Greet: self._greet,
            Spawn: self._spawn,
            Feed: self._feed,
            Stop: self._stop,
            Finish: self._finish,
        }

    def run(self, wakeup: socket.socket) -> None:
        """Work until there is nothing left to do.

        Args:
            wakeup: Readable after a signal came (``signal.set_wakeup_fd``).
        """
        self._watch(self._listener, self._accept)
        self._watch(wakeup, lambda: self._woken(wakeup))
        while not self._is_done():
            for key, _ in self._selector.select(self._next_timeout()):
                key.data()
            self._run_timers()
            self._send_positions()
        self._drop_worker()

    def _watch(self, source: Any, callback: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, callback)

    def _is_done(self) -> bool:
        if self._by_pid or (self._channel is not None and not self._finishing):
            self._idle_since = time.monotonic()
            return False
        return self._finishing or time.monotonic() - self._idle_since >= LINGER

    def _next_timeout(self) -> float | None:
        if self._timers or self._deadlines or self._news:
            due = [when for when, _ in self._timers]
            due += [*self._deadlines.values(), *self._news.values()]
            return min(max(0.0, min(due) - time.monotonic()), MAX_WAIT)
        return LINGER if self._channel is None and not self._by_pid else None

    # -- the worker

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as exc:
            # Out of descriptors: the worker waits until jobs have let some go.
            logger.error("cannot accept a worker: %s", exc)
            self._selector.unregister(self._listener)
            self._after(ACCEPT_PAUSE, lambda: self._watch(self._listener, self._accept))
            return
        self._drop_worker()  # the newest worker is the one: it holds the lock
        self._channel = Channel(sock)
        self._finishing = False
        self._watch(sock, self._read_worker)

    def _drop_worker(self) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel.sock)
            self._channel.close()
            self._channel = None

    def _read_worker(self) -> None:
        assert self._channel is not None
        try:
            for frame in self._channel.receive():
                message = decode_to_supervisor(frame)
                self._handlers[type(message)](message)
        except EOFError:
            self._drop_worker()
        except (OSError, ValueError, RemoteProtocolError) as exc:
            logger.warning("dropped the worker: %s", exc)
            self._drop_worker()

    def _send(self, message: Any) -> None:
        if self._channel is not None:
            self._channel.send(encode(message))

    def _flush(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            channel.flush()
        except OSError:
            self._drop_worker()
            return
        events = selectors.EVENT_READ
        if channel.has_backlog:
            events |= selectors.EVENT_WRITE
        if self._selector.get_key(channel.sock).events != events:
            self._selector.modify(channel.sock, events, self._worker_ready)

    def _worker_ready(self) -> None:
        self._flush()
        if self._channel is not None:
            self._read_worker()

    def _send_positions(self) -> None:
        """Tell how far journals have grown: once a round, and only if it is read."""
        if self._channel is None:
            self._grown.clear()  # the next worker's greeting says where each one is
        elif not self._channel.has_backlog:
            for job in self._grown.values():
                if job.outcome is None:
                    self._tell_news(job.id)
                    self._send(Grown(job.id, job.position))
            self._grown.clear()
        self._flush()

    # -- what the worker asks for

    def _greet(self, greet: Greet) -> None:
        version = VERSION if greet.oldest <= VERSION <= greet.newest else 0
        self._environment = greet.environment
        jobs = tuple(job.info() for job in self._jobs.values())
        self._send(Greeting(version, os.getpid(), jobs))
        for job in [one for one in self._jobs.values() if one.outcome is not None]:
            del self._jobs[job.id]

    def _spawn(self, order: Spawn) -> None:
        try:
            job = Job(order, self._jobs_folder, self._environment)
        except OSError as exc:
            failure = Failure(type(exc).__name__, str(exc), "", exc.errno)
            self._send(Spawned(order.id, failure=failure))
            return
        if job.failure is not None:
            assert job.outcome is not None
            self._send(JobEnded(job.id, job.outcome))
            return
        self._jobs[job.id] = self._by_pid[job.pid] = job
        for fd in job.pipes:
            self._watch(fd, functools.partial(self._drain, job, fd))
        if job.timeout is not None:
            self._deadlines[job.id] = time.monotonic() + job.timeout
        if order.is_awaited:
            self._send(Spawned(job.id, job.pid, job.started))
        else:
            self._news[job.id] = time.monotonic() + NEWS_DELAY

    def _feed(self, feed: Feed) -> None:
        job = self._jobs.get(feed.id)
        if job is None or job.outcome is not None:
            self._send(Fed(feed.id, feed.offset, closed=True))
            return
        had_watch = job.wants_to_feed
        stdin = job.stdin
        try:
            job.feed(feed.offset, feed.data, end=feed.end)
        except ValueError as exc:
            self._send(Fed(job.id, job.fed, closed=job.stdin < 0, problem=str(exc)))
            return
        self._after_feeding(job, stdin, had_watch=had_watch)

    def _after_feeding(self, job: Job, stdin: int, *, had_watch: bool) -> None:
        if job.wants_to_feed and not had_watch:
            self._selector.register(
                stdin, selectors.EVENT_WRITE, lambda: self._write_input(job, stdin)
            )
        elif had_watch and not job.wants_to_feed:
            self._selector.unregister(stdin)
        self._send(Fed(job.id, job.fed, closed=job.stdin < 0))

    def _write_input(self, job: Job, stdin: int) -> None:
        if job.stdin != stdin:
            return  # closed since select(); the number may be another pipe's by now
        job.write_input()
        self._after_feeding(job, stdin, had_watch=True)

    def _stop(self, stop: Stop) -> None:
        job = self._jobs.get(stop.id)
        if job is None or job.outcome is not None:
            status = job.outcome.status if job and job.outcome else ""
            self._send(Stopped(stop.id, StopReport(stop.id, status)))
            return
        self._begin_stop(job, stop)

    def _finish(self, _: Finish) -> None:
        self._finishing = True

    # -- jobs

    def _drain(self, job: Job, fd: int) -> None:
        before = job.position
        if not job.drain(fd):
            self._selector.unregister(fd)
            self._try_to_end(job)
        if job.position != before and job.outcome is None:
            self._grown[job.id] = job

    def _woken(self, wakeup: socket.socket) -> None:
        wakeup.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._by_pid.get(pid)
            if job is not None:
                if job.stdin >= 0 and job.wants_to_feed:
                    self._selector.unregister(job.stdin)
                job.reaped(status)
                self._try_to_end(job)

    def _try_to_end(self, job: Job) -> None:
        if job.try_to_end():
            assert job.outcome is not None
            del self._by_pid[job.pid]
            self._grown.pop(job.id, None)
            self._deadlines.pop(job.id, None)
            self._news.pop(job.id, None)
            self._send(JobEnded(job.id, job.outcome))
            if job.is_saved:
                del self._jobs[job.id]  # else the next worker is told, too

    def _time_out(self, job_id: str) -> None:
        del self._deadlines[job_id]
        stop = Stop(job_id, TIMEOUT_SIGNAL, TIMEOUT_GRACE, "timeout")
        self._begin_stop(self._jobs[job_id], stop)

    def _tell_news(self, job_id: str) -> None:
        if self._news.pop(job_id, None) is not None:
            job = self._jobs[job_id]
            self._send(Spawned(job.id, job.pid, job.started))

    def _begin_stop(self, job: Job, stop: Stop) -> None:
        if job.stopping is not None and not job.stopping.is_over:
            job.stopping.hurry()
        else:
            job.stopping = Stopping(
                stop.signal,
                stop.grace,
                lambda: job.living(lambda: list(self._by_pid)),
                now=time.monotonic(),
                reason=stop.reason,
            )
            self._continue_stop(job, job.stopping)
        self._report_when_over(job, job.stopping)

    def _continue_stop(self, job: Job, stopping: Stopping) -> None:
        # Without a free descriptor nobody can be looked at: look again, it is not over.
        with contextlib.suppress(OSError):
            stopping.advance(time.monotonic())
        if not stopping.is_over:
            self._after(POLL, lambda: self._continue_stop(job, stopping))
            return
        self._try_to_end(job)
        if job.outcome is None:
            self._after(CLOSE_PIPES_AFTER, lambda: self._close_pipes(job))

    def _report_when_over(self, job: Job, stopping: Stopping) -> None:
        if job.outcome is not None:
            status = job.outcome.status
        elif stopping.has_survivors and not job.pipes:
            status = "RUNNING"  # its first process itself hangs and can't be reaped
        else:
            self._after(POLL, lambda: self._report_when_over(job, stopping))
            return
        self._send(Stopped(job.id, stopping.report(job.id, status)))

    def _close_pipes(self, job: Job) -> None:
        if job.outcome is None:
            for fd in list(job.pipes):
                self._selector.unregister(fd)
            job.abandon_pipes()
            self._try_to_end(job)

    # -- time

    def _after(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, callback))

    def _run_timers(self) -> None:
        if not self._timers and not self._deadlines and not self._news:
            return
        now = time.monotonic()
        for job_id in [one for one, when in self._news.items() if when <= now]:
            self._tell_news(job_id)
        for job_id in [one for one, when in self._deadlines.items() if when <= now]:
            self._time_out(job_id)
        due = [callback for when, callback in self._timers if when <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for callback in due:
            callback()


def main(arguments: Sequence[str]) -> int:
    """Run a supervisor for a state folder until there is nothing left to do."""
    folder = Path(arguments[0])
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    if not _take_lock(folder):
        logger.error("another supervisor serves %s", folder)
        return 1
    (folder / JOBS_FOLDER).mkdir(mode=0o700, exist_ok=True)
    become_subreaper()
    wakeup = _catch_signals()
    os.chdir(folder)  # a relative name keeps the socket's path short enough to bind
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    Path(SOCKET_FILE).unlink(missing_ok=True)
    listener.bind(SOCKET_FILE)
    os.chmod(SOCKET_FILE, 0o600)
    listener.listen()
    os.write(sys.stdout.fileno(), READY)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        Keeper(folder, listener).run(wakeup)
    finally:
        Path(SOCKET_FILE).unlink(missing_ok=True)
    return 0


def _take_lock(folder: Path) -> bool:
    """Take the folder for ourselves; wait for a supervisor that is just ending."""
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_LIMIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL)
        else:
            return True


def _catch_signals() -> socket.socket:
    """Have SIGCHLD wake the loop; leave ending to the work being done."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    writing.detach()
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reading
