"""What a worker finds out about its host."""

import os
import platform
import subprocess
import sys
import time

import psutil
import pytest

from mlepool.worker import facts


def test_what_is_found_out_is_so():
    found = facts.at_once()
    assert (found["os"], found["arch"]) == ("linux", platform.machine())
    assert found["hostname"] == platform.node()
    found |= facts.gather()
    assert found["cpu"]["threads"] == os.cpu_count()
    assert 1 <= found["cpu"]["cores"] <= found["cpu"]["threads"]
    assert found["cpu"]["model"]
    assert found["memory"]["total"] == psutil.virtual_memory().total
    assert 0 < found["boot_time"] < time.time()
    assert isinstance(found["gpu"], list)


def test_a_part_that_fails_costs_only_itself(monkeypatch, caplog):
    def fail() -> None:
        raise OSError("no such thing here")

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    found = facts.gather()
    assert "cpu" not in found
    assert "gpu" in found
    assert "cannot find out all about this host: no such thing here" in caplog.text


class Driver:
    """What NVML says of two GPUs; some releases say it in bytes."""

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"550.1"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index + 100

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return "NVIDIA A100" if handle == 100 else b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:  # noqa: N802
        return type("Memory", (), {"total": handle * 1024**3})


def test_gpus_are_listed():
    assert facts.gpus(Driver()) == [
        {
            "index": index,
            "name": f"NVIDIA {name}",
            "uuid": f"GPU-{100 + index}",
            "memory": (100 + index) * 1024**3,
            "driver": "550.1",
        }
        for index, name in enumerate(("A100", "H100"))
    ]


def test_a_worker_starts_without_what_facts_take():
    loaded = "{'psutil', 'pynvml'} & {*sys.modules}"
    code = f"import sys, mlepool.worker.daemon; print({loaded})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("text", ["model name\t: A: B\nmodel name: C\n", ""])
def test_a_processor_without_a_name_has_its_kinds(tmp_path, monkeypatch, text):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(facts, "CPU_INFO", path)
    expected = "A: B" if text else platform.processor() or platform.machine()
    assert facts.gather()["cpu"]["model"] == expected
