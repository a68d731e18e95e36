"""What Prometheus may ask for: ``GET /metrics``, in its text format, for a token."""

from __future__ import annotations

import http
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Protocol

from mlepool.transport.websocket import Inquiry, Page
from mlepool.version import __version__
from mlepool.wire.telemetry import JobSample, Sample
from mlepool.worker.access.audit import AuditLog
from mlepool.worker.access.control import AccessControl
from mlepool.worker.telemetry.sampler import Telemetry

__all__ = ["Metric", "MetricsPage", "exposition", "metrics_of"]

logger = logging.getLogger("mlepool.worker")

PATH = "/metrics"
FORMAT = "text/plain; version=0.0.4; charset=utf-8"
MAX_AGE = 1.0  # seconds that a measurement is good for, whoever asks how often

Labels = Mapping[str, str]
Value = tuple[Labels, float]


class Metric:
    """One metric: its name, its help, and a value for each set of labels.

    Args:
        name: Without the prefix; of a counter it ends with ``_total``.
        about: What it is, in a line.
        values: Labels and number.
    """

    def __init__(self, name: str, about: str, values: Iterable[Value]) -> None:
        self.name = f"mlepool_{name}"
        self.kind = "counter" if name.endswith("_total") else "gauge"
        self.about = about
        self.values = list(values)

    def lines(self) -> Iterator[str]:
        """Write it."""
        yield f"# HELP {self.name} {_escaped(self.about, quotes=False)}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.values:
            words = ",".join(f'{key}="{_escaped(one)}"' for key, one in labels.items())
            yield (
                f"{self.name}{{{words}}} {value!r}"
                if words
                else (f"{self.name} {value!r}")
            )


def exposition(metrics: Iterable[Metric]) -> str:
    """Write metrics in the text format; those without a value are left out."""
    lines = [line for one in metrics if one.values for line in one.lines()]
    return "".join(f"{line}\n" for line in lines)


class Settings(Protocol):
    """The settings that count now."""

    @property
    def prometheus(self) -> bool:
        """True to answer."""

    @property
    def name(self) -> str:
        """The worker's name."""


class MetricsPage:
    """Answers who asks for metrics, and has a token with the role ``view``.

    Args:
        telemetry: Measures.
        access: Judges tokens.
        audit: Where refusals are written down.
        settings: Gives the settings that count now.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        access: AccessControl,
        *,
        audit: AuditLog,
        settings: Callable[[], Settings],
    ) -> None:
        self._telemetry = telemetry
        self._access = access
        self._audit = audit
        self._settings = settings

    def answer(self, inquiry: Inquiry) -> Awaitable[Page] | None:
        """Answer a plain HTTP request; None if that is switched off."""
        return self._page(inquiry) if self._settings().prometheus else None

    async def _page(self, inquiry: Inquiry) -> Page:
        if inquiry.path.partition("?")[0] != PATH:
            text = f"There is {PATH} here, and nothing else.\n"
            return Page(http.HTTPStatus.NOT_FOUND, text)
        refusal = self._judge(inquiry)
        if refusal is not None:
            return refusal
        sample = await self._telemetry.newest(MAX_AGE)
        metrics = metrics_of(
            sample, self._telemetry.meters.cpu_seconds(), name=self._settings().name
        )
        text = exposition([*metrics, *self._of_the_store()])
        return Page(http.HTTPStatus.OK, text, (("Content-Type", FORMAT),))

    def _judge(self, inquiry: Inquiry) -> Page | None:
        """Say no to who has no token, or not for this; None to let him in."""
        if not inquiry.is_private and not _is_here(inquiry.address):
            text = "without TLS tokens are taken from this machine only"
            return self._refuse(inquiry, http.HTTPStatus.FORBIDDEN, text)
        scheme, _, secret = inquiry.authorization.partition(" ")
        given = secret.strip() if scheme.lower() == "bearer" else ""
        verdict = self._access.judge_secret(given, address=inquiry.address)
        if verdict.token is None:
            too_many, unknown = (
                http.HTTPStatus.TOO_MANY_REQUESTS,
                http.HTTPStatus.UNAUTHORIZED,
            )
            status = too_many if verdict.is_repeated else unknown
            return self._refuse(inquiry, status, verdict.reason)
        if not verdict.token.grant().has("view"):
            text = f"needs the role 'view'; this token is {verdict.token.name!r}"
            return self._refuse(inquiry, http.HTTPStatus.FORBIDDEN, text)
        return None

    def _refuse(self, inquiry: Inquiry, status: http.HTTPStatus, reason: str) -> Page:
        logger.warning("refused %s: %s", inquiry.address, reason)
        if status is not http.HTTPStatus.TOO_MANY_REQUESTS:
            self._audit.write("refused", address=inquiry.address, right=reason)
        headers = (("WWW-Authenticate", 'Bearer realm="mlepool"'),)
        is_asked = status is http.HTTPStatus.UNAUTHORIZED
        return Page(status, f"{reason}\n", headers if is_asked else ())

    def _of_the_store(self) -> Iterator[Metric]:
        store = self._telemetry.store
        about = "Samples that were let go for want of room, and nobody had."
        yield Metric("samples_dropped", about, [({}, store.dropped)])


def metrics_of(
    sample: Sample, seconds: Iterable[Mapping[str, float]], *, name: str
) -> Iterator[Metric]:
    """Make metrics of what was measured.

    Args:
        sample: All of it.
        seconds: Of each core, the seconds by what it did.
        name: The worker's name.
    """
    info = {"name": name, "version": __version__}
    yield Metric("worker_info", "The worker's name and version.", [(info, 1)])
    yield Metric(
        "cpu_seconds_total",
        "What cores did, in seconds; guest is in user, too.",
        [
            ({"cpu": str(number), "mode": mode}, value)
            for number, core in enumerate(seconds)
            for mode, value in core.items()
        ],
    )
    for minutes, load in zip((1, 5, 15), sample.load or (), strict=False):
        yield Metric(f"load{minutes}", f"Load of {minutes} min.", [({}, load)])
    yield from _of_memory(sample)
    yield from _of_disks(sample)
    yield from _of_network(sample)
    yield from _of_gpus(sample)
    yield from _of_jobs(sample.jobs or ())


def _of_memory(sample: Sample) -> Iterator[Metric]:
    if sample.memory is not None:
        for what in ("total", "available", "used", "free"):
            value = getattr(sample.memory, what)
            yield Metric(f"memory_{what}_bytes", f"Memory, {what}.", [({}, value)])
    if sample.swap is not None:
        for what in ("total", "used", "free"):
            value = getattr(sample.swap, what)
            yield Metric(f"swap_{what}_bytes", f"Swap space, {what}.", [({}, value)])


def _of_disks(sample: Sample) -> Iterator[Metric]:
    places = [
        (
            {"mountpoint": one.mountpoint, "device": one.device, "fstype": one.fstype},
            one,
        )
        for one in sample.disks or ()
    ]
    for name, field in (("size", "total"), ("used", "used"), ("free", "free")):
        values = [(labels, getattr(one, field)) for labels, one in places]
        yield Metric(f"filesystem_{name}_bytes", f"File systems, {field}.", values)
    disks = [({"device": one.name}, one) for one in sample.io or ()]
    for name, field in (
        ("reads", "read_count"),
        ("writes", "write_count"),
        ("read_bytes", "read_bytes"),
        ("written_bytes", "write_bytes"),
    ):
        values = [(labels, getattr(one, field)) for labels, one in disks]
        yield Metric(f"disk_{name}_total", f"Disks, {field}.", values)


def _of_network(sample: Sample) -> Iterator[Metric]:
    devices = [({"device": one.name}, one) for one in sample.network or ()]
    for name, field in (
        ("transmit_bytes", "bytes_sent"),
        ("receive_bytes", "bytes_recv"),
        ("transmit_packets", "packets_sent"),
        ("receive_packets", "packets_recv"),
        ("transmit_errors", "errout"),
        ("receive_errors", "errin"),
        ("transmit_dropped", "dropout"),
        ("receive_dropped", "dropin"),
    ):
        values = [(labels, getattr(one, field)) for labels, one in devices]
        yield Metric(f"network_{name}_total", f"Interfaces, {field}.", values)


def _of_gpus(sample: Sample) -> Iterator[Metric]:
    gpus = [
        ({"gpu": str(one.index), "uuid": one.uuid, "name": one.name}, one)
        for one in sample.gpus or ()
    ]
    for name, field in (
        ("memory_total_bytes", "memory_total"),
        ("memory_used_bytes", "memory_used"),
        ("utilization_percent", "utilization"),
        ("temperature_celsius", "temperature"),
        ("power_watts", "power"),
    ):
        values = [
            (labels, value)
            for labels, one in gpus
            if (value := getattr(one, field)) is not None
        ]
        yield Metric(f"gpu_{name}", f"GPUs, {field}.", values)


def _of_jobs(jobs: Iterable[JobSample]) -> Iterator[Metric]:
    known = [({"job": one.id}, one) for one in jobs]
    yield Metric("jobs_running", "Jobs that run as processes.", [({}, len(known))])
    for name, field in (
        ("cpu_seconds_total", "cpu_time"),
        ("resident_memory_bytes", "rss"),
        ("read_bytes_total", "read_bytes"),
        ("written_bytes_total", "write_bytes"),
        ("processes", "processes"),
    ):
        values = [(labels, getattr(one, field)) for labels, one in known]
        yield Metric(f"job_{name}", f"Jobs with their trees, {field}.", values)


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


def _is_here(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
