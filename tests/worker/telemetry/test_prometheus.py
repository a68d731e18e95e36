"""What Prometheus gets: its own parser reads it, and only who has a token gets any."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlepool.transport.websocket import Inquiry
from mlepool.wire.telemetry import CpuSample, GpuSample, JobSample, Sample
from mlepool.worker import Worker
from mlepool.worker.access.identity import TLS_NAME
from mlepool.worker.access.tokens import Token
from mlepool.worker.telemetry.prometheus import Metric, exposition, metrics_of
from tests.tools import in_real_time


def read(text: str) -> dict[str, list[Any]]:
    families = text_string_to_metric_families(text)
    return {
        sample.name: [one for one in family.samples if one.name == sample.name]
        for family in families
        for sample in family.samples
    }


def test_prometheus_reads_what_is_written_however_odd_its_labels():
    odd = 'a "quoted"\\ path\nof two lines'
    job = JobSample("a1", cpu_time=2.5, rss=1024)
    gpu = GpuSample(0, "GPU-1", odd, 10, 5, utilization=50.0)
    sample = Sample(cpu=(CpuSample(),), load=(1.0, 2.0, 3.0), gpus=(gpu,), jobs=(job,))
    found = read(exposition(metrics_of(sample, [{"user": 1.5}], name=odd)))
    (one,) = found["mlepool_gpu_utilization_percent"]
    assert (one.labels["name"], one.value) == (odd, 50.0)
    (one,) = found["mlepool_cpu_seconds_total"]
    assert (one.labels, one.value) == ({"cpu": "0", "mode": "user"}, 1.5)
    (one,) = found["mlepool_job_resident_memory_bytes"]
    assert (one.labels, one.value) == ({"job": "a1"}, 1024)
    assert "mlepool_gpu_power_watts" not in found


def test_what_only_grows_is_a_counter():
    assert Metric("a_total", "", []).kind == "counter"
    assert Metric("a_bytes", "", []).kind == "gauge"


class Scraper:
    """Asks a worker as Prometheus does, with its certificate and its name checked."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker = worker
        self._tls = ssl.create_default_context(cafile=folder / "certificate.pem")

    async def ask(self, token: str = "", path: str = "/metrics") -> tuple[int, str]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.worker.port, ssl=self._tls, server_hostname=TLS_NAME
        )
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n{bearer}\r\n".encode())
        head, _, body = (await reader.read(-1)).decode().partition("\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        assert f"Content-Length: {len(body.encode())}" in head
        return int(head.split()[1]), body


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {"state_dir": folder, "listen": "127.0.0.1:0", **more}


@in_real_time
async def test_who_has_the_role_gets_metrics_and_nobody_else_does(tmp_path):
    async with Worker(**settings(tmp_path, prometheus=True)) as worker:
        scraper = Scraper(worker, tmp_path)
        tokens = worker.gate._tokens
        tokens.create(Token("seer", "s" * 43, ("view",)))
        tokens.create(Token("runner", "r" * 43, ("run",)))
        status, text = await scraper.ask("s" * 43)
        assert status == 200
        found = read(text)
        modes = {one.labels["mode"] for one in found["mlepool_cpu_seconds_total"]}
        assert {"user", "idle"} <= modes
        assert found["mlepool_memory_total_bytes"][0].value > 0
        assert (await scraper.ask("r" * 43))[0] == 403
        assert (await scraper.ask("s" * 43, "/other"))[0] == 404
        statuses = [(await scraper.ask(wrong))[0] for wrong in ("", "x", "y", "z", "u")]
        assert statuses == [401] * 5
        assert (await scraper.ask("v"))[0] == 429
        assert (await scraper.ask("s" * 43))[0] == 200  # a right one is never late
    log = (tmp_path / "audit/audit.jsonl").read_text()
    assert "the role 'view'" in log
    assert "s" * 43 not in log


@in_real_time
async def test_it_is_off_by_default(tmp_path):
    async with Worker(**settings(tmp_path)) as worker:
        status, text = await Scraper(worker, tmp_path).ask(worker.identity.token)
    assert status == 426
    assert "not a web page" in text


@pytest.mark.parametrize(
    ("address", "status"), [("127.0.0.1:1", 200), ("10.0.0.9:1", 403)]
)
@in_real_time
async def test_without_tls_tokens_are_taken_from_this_machine_only(
    tmp_path, address, status
):
    listen = "ws://127.0.0.1:0"
    async with Worker(**settings(tmp_path, prometheus=True, listen=listen)) as worker:
        answer = worker.page.answer
        bearer = f"Bearer {worker.identity.token}"
        work = answer(Inquiry("/metrics", bearer, address, is_private=False))
        assert work is not None
        page = await work
        assert page.status == status
