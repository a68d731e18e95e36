"""Questions about the host; reboot and shutdown with programs that only take notes."""

import asyncio
import getpass
import os
import sys
import time
from types import SimpleNamespace

import pytest

from mlepool.worker.access.grants import FULL, Grant
from mlepool.worker.commands import host


def program(folder, name: str, *lines: str) -> None:
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)


def test_the_host_is_described():
    assert abs(host.get_time().timestamp() - time.time()) < 60
    assert host.get_time().tzinfo is not None
    assert host.os_info().system == sys.platform.replace("darwin", "mac")
    assert host.os_info().hostname == os.uname().nodename
    assert host.user_name() == getpass.getuser()


def test_secrets_in_the_environment_are_for_admins(monkeypatch, tmp_path):
    secrets = {"API_TOKEN": "t", "dbPassword": "p", "SIGN_KEY": "k", "DB_PASS": "x"}
    monkeypatch.setenv("PWD", "/somewhere")
    for name, value in {**secrets, "MLEPOOL_X": "ours", "PLAIN": "shown"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DB_URL", "pg://ann:pass@db/x")
    found = host.env(SimpleNamespace(grant=Grant("ci", frozenset({"run"}))))
    assert {found[name] for name in secrets} == {"(hidden)"}
    assert (found["PLAIN"], found["PWD"]) == ("shown", "/somewhere")
    assert found["DB_URL"] == "pg://(hidden)@db/x"
    assert found["PYTHONUNBUFFERED"] == "1"
    assert "MLEPOOL_X" not in found
    everything = host.env(SimpleNamespace(grant=FULL))
    assert {name: everything[name] for name in secrets} == secrets


def test_a_program_is_found_as_run_would(monkeypatch, tmp_path):
    program(tmp_path, "tool")
    (tmp_path / "data").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    ctx = SimpleNamespace(cwd=tmp_path)
    assert (
        host.which(ctx, "tool") == host.which(ctx, "./tool") == str(tmp_path / "tool")
    )
    assert host.which(ctx, "none") is None
    assert host.which(ctx, "./data") is None


def test_a_sleep_is_a_time():
    asyncio.run(host.sleep(0.0))
    for seconds in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="must be a time"):
            asyncio.run(host.sleep(seconds))


@pytest.mark.parametrize(
    "called",
    [
        (host.reboot, "systemctl", "reboot"),
        (host.shutdown, "systemctl", "poweroff"),
        (host.reboot, "shutdown", "-r now"),
        (host.shutdown, "shutdown", "-h now"),
        (host.reboot, "reboot", ""),
        (host.shutdown, "poweroff", ""),
    ],
)
def test_the_host_s_own_program_is_called(monkeypatch, tmp_path, called):
    verb, name, words = called
    program(tmp_path, name, f'echo "with $*" > {tmp_path}/note')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verb() == f"{tmp_path}/{name} {words}".strip()
    assert (tmp_path / "note").read_text().strip() == f"with {words}".strip()


def test_a_failure_to_reboot_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="systemctl, shutdown, reboot"):
        host.reboot()
    program(tmp_path, "systemctl", "echo 'not allowed' >&2", "exit 4")
    with pytest.raises(RuntimeError, match="exit status 4: not allowed"):
        host.reboot()


def test_a_worker_ends_within_a_time():
    asked: list[float] = []
    running, ended = SimpleNamespace(outcome=None), SimpleNamespace(outcome=1)
    ctx = SimpleNamespace(close_worker=asked.append, job_list=lambda: [ended, running])
    assert host.close_server(ctx, 2.5) == [running]
    assert asked == [2.5]
    with pytest.raises(ValueError, match="grace"):
        host.close_server(ctx, -1.0)
