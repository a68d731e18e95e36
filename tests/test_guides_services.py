"""Guides of services, settings, faults: what they show is run."""

import contextlib
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.cli import service
from mlepool.cli.main import main
from mlepool.config import WorkerConfig
from mlepool.settings.reading import Source
from mlepool.testing.proxy import FaultProxy
from mlepool.worker import serve_in_thread
from tests.cli import units
from tests.guides import DOCS, blocks, run, running, shell, write_programs

pytestmark = pytest.mark.real


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A home, which is where one is, too; with programs that pages call."""
    write_programs(tmp_path / "bin")
    for name in ("HOME", "MLEPOOL_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("MLEPOOL_STATE_DIR", "MLEPOOL_LOOP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    folder: Path = tmp_path
    return folder


# -- services


def test_a_service(place):
    install, change, _, _, several = blocks("howto/service.md", "sh")
    folder = place / "systemd/user"
    assert "mle://" in " ".join(shell(install, cwd=place, instead={}))
    unit = (folder / "mlepool.service").read_text()
    for setting in explained():
        assert f"\n{setting}\n" in unit
    assert "pip install -U mlepool" in shell(change, cwd=place, instead={})
    assert not (folder / "mlepool.service").exists()
    log = (place / "log").read_text().splitlines()
    assert "systemctl --user restart mlepool.service" in log
    assert "systemctl --user disable --now mlepool.service" in log
    assert log[-1] == "systemctl --user restart mlepool"
    first, second = several.splitlines()
    shell(first, cwd=place, instead={})
    unit_path = folder / first.split("# ")[1]
    assert units.command(unit_path)[4:] == [
        "worker",
        f"--state-dir={place / 'second'}",
        "--listen=:9923",
    ]
    shell(second, cwd=place, instead={})
    assert not unit_path.exists()


def explained() -> list[str]:
    """Give the unit's settings that the page says the reasons of."""
    text = (DOCS / "howto/service.md").read_text()
    rows = re.findall(r"^\| (`[A-Z].*?) \| ", text, re.MULTILINE)
    found = re.findall(r"`(\w+=\S+)`", " ".join(rows))
    assert len(found) == 8
    return found


def test_a_service_for_the_system(place, monkeypatch):
    *_, line = blocks("howto/service.md", "sh")[2].split("sudo /path/to/venv/bin/")
    monkeypatch.setattr(service, "SYSTEM_UNITS", place / "etc")
    monkeypatch.setattr("sys.argv", line.split())
    monkeypatch.setenv("PATH", f"{place}/bin", prepend=":")
    with pytest.raises(SystemExit, match="0"):
        main()
    assert units.command(place / "etc/mlepool.service")[4] == "worker"
    (drop_in,) = blocks("howto/service.md", "ini")
    assert drop_in == "[Service]\nUser=lab\n"


def test_a_container(place):
    code = blocks("howto/service.md", "sh")[3]
    here = {"/state --listen :9922": f"{place}/inside --listen 127.0.0.1:0"}
    with running(code, cwd=place, instead=here) as container:
        assert container.stdout is not None
        assert "listening on 127.0.0.1:" in container.stdout.readline()
        assert {"token", "key.pem"} <= {
            one.name for one in (place / "inside").iterdir()
        }
    assert container.returncode == 0


def test_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    roots, disk = (
        settings(one, tmp_path) for one in blocks("howto/service.md", "toml")
    )
    assert roots.roots == (Path("/data"), tmp_path / "exp")
    assert disk == settings("", tmp_path)
    assert len(blocks("howto/service.md", "toml")[1].split(" = ")) == 7


def settings(text: str, folder: Path) -> WorkerConfig:
    (folder / "config.toml").write_text(text)
    found = Source({}, {"MLEPOOL_STATE_DIR": str(folder)}).read()
    assert found.notes == []
    return found.config


# -- what goes wrong


def test_a_key_that_got_out(tmp_path):
    page = (DOCS / "topics/security.md").read_text()
    (files,) = re.findall(
        r"remove (.*) from the state folder, start it", " ".join(page.split())
    )
    with serve_in_thread(state_dir=tmp_path, listen="127.0.0.1:0") as before:
        port = before.port
        known = before.join_url()
        assert can_run(known)
    secrets = {path: path.read_bytes() for path in tmp_path.glob("*.pem")}
    for name in re.findall(r"`(\S+)`", files):
        (tmp_path / name).unlink()
    with serve_in_thread(state_dir=tmp_path, listen=f"127.0.0.1:{port}") as after:
        with pytest.raises(mlepool.UntrustedWorkerError):
            can_run(known)
        assert can_run(after.join_url())
    assert all(path.read_bytes() != secret for path, secret in secrets.items())


def can_run(url: str) -> bool:
    with mlepool.ClientPool() as pool, pool.add(url) as conn:
        done: bool = conn.run("true").ok
        return done


def test_no_worker_there(capsys):
    code = blocks("howto/errors.md")[0]
    with mlepool.ClientPool() as pool, contextlib.closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        run(code, {"mlepool": mlepool, "conn": pool.add("127.0.0.1", port)}, {})
    (shown,) = re.findall(r"# (.*) \.\.\.", code)
    assert shown.replace("gpu1:9922", f"127.0.0.1:{port}") in capsys.readouterr().out


def test_faults(place):
    (start,) = blocks("howto/testing.md", "sh")
    proxied, scheduled, killed = blocks("howto/testing.md")
    state = str(place / "test-worker")
    here = {"/tmp/test-worker": state, "127.0.0.1:9999": "127.0.0.1:0"}
    with running(start, cwd=place, instead=here) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        (port,) = re.findall(r"listening on \S+:(\d+)", line)
        here |= {"9999": port}
        names: dict[str, Any] = {}
        run(proxied, names, here | {"...  # what": "seen = list(job)  # what"})
        assert (names["proxy"].cuts, len(names["seen"])) == (1, 100000)
        mlepool.pool.remove(names["conn"].name)
        with FaultProxy(int(port)) as proxy:
            run(scheduled, {"proxy": proxy}, {})
        run(killed, {}, here)
        assert process.wait() == -9
