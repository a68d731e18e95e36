"""What the tutorial shows, and the pages that start workers, is run."""

import doctest
import re
import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mlepool
from mlepool.settings.keys import KEYS
from mlepool.testing.proxy import FaultProxy
from mlepool.worker import serve_in_thread
from tests.guides import DOCS, blocks, replaced, run, running, shell
from tests.needs import need_program
from tests.transport.websocket.test_proxies import free_port, running as serving

HOST = rf"\[::\]|127\.0\.0\.1|localhost|gpu1|{re.escape(socket.gethostname())}"

# What differs each time in what is printed.
VARYING = {
    r"\b[0-9a-f]{16}\b": "ID",
    r"key=[^&]*&token=\S*": "key=KEY&token=TOKEN",
    r"\(key [^)]*\)": "(key KEY)",
    r"[\w-]{12}(?= +trusted)": "KEY",
    r"state in \S+": "state in FOLDER",
    rf"\b({HOST})(:\d+)?|\[::\]:\d+": "HOST",
    r"mlepool \d\S+": "mlepool VERSION)",
    r"\^C": "",
    r" +": " ",
    r"-{3,}": "---",
}

pytestmark = pytest.mark.real


class Begun(NamedTuple):
    """A worker that a page's line has started."""

    said: list[str]
    port: int

    @property
    def url(self) -> str:
        """What it printed to join it, for this machine."""
        return re.sub(r"//[^?]*", f"//localhost:{self.port}", self.said[-1].strip())


@contextmanager
def begun(line: str, cwd: Path, instead: Mapping[str, str] = {}) -> Iterator[Begun]:
    """Run a line that starts a worker, until it says that it listens; it ends well."""
    with running(f"env {line}", cwd=cwd, instead=instead) as process:
        said = [first_line(process)]
        found = re.match(r"listening on \S+:(\d+)", said[0])
        assert found, said
        while not re.match(r"\s+(mle|ws)://", said[-1]):
            said.append(first_line(process))
        yield Begun(said, int(found[1]))
    assert process.returncode == 0


def first_line(process: subprocess.Popen[str]) -> str:
    """Read a line that was printed; some is, or else what was is shown."""
    assert process.stdout
    line = process.stdout.readline()
    assert line, process.wait()
    return line


def same(text: str) -> list[str]:
    """Give lines without what differs each time."""
    for varying, name in VARYING.items():
        text = re.sub(varying, name, text)
    return text.splitlines()


@pytest.fixture(scope="module")
def gpu1(tmp_path_factory) -> Iterator[Begun]:
    """The tutorial's worker, started as it says, but on a free port."""
    folder = tmp_path_factory.mktemp("gpu1")
    with pytest.MonkeyPatch.context() as patch:
        free_listen(patch, folder)
        with begun(blocks("tutorial.md", "sh")[1], folder) as worker:
            patch.undo()
            yield worker


@pytest.fixture
def laptop(gpu1, tmp_path, monkeypatch) -> Path:
    """The folder of an account that trusts nobody yet."""
    folder = Path(tmp_path)
    monkeypatch.setenv("MLEPOOL_HOME", str(folder))
    return folder


def test_tutorial_on_the_first_machine(gpu1, tmp_path):
    install, _, hello, *_ = blocks("tutorial.md", "sh")
    begin, greeting, *_ = blocks("tutorial.md", "")
    (pip,) = re.findall(r"python3 -m venv.*", install)
    assert shell(install, cwd=tmp_path, instead={pip: "true"})[0].startswith("mlepool ")
    assert same("".join(gpu1.said)) == same(begin)
    here = {"localhost": f"localhost:{gpu1.port}"}
    said = "\n".join(shell(hello, cwd=tmp_path, instead=here))
    assert sorted(same(said)) == sorted(same(greeting))


def test_tutorial_on_the_second_machine(gpu1, laptop):
    _, _, _, trust, hosts, steps, *_ = blocks("tutorial.md", "sh")
    _, _, trusting, table, interrupted, _ = blocks("tutorial.md", "")
    said = shell(trust, cwd=laptop, instead={"trust -": f"trust - <<< '{gpu1.url}'"})
    assert same("\n".join(said)) == same(trusting)
    assert same("\n".join(shell(hosts, cwd=laptop, instead={}))) == same(table)
    here = {"gpu1": f"localhost:{gpu1.port}", "sleep 1;": "sleep 0.3;"}
    with running(steps, cwd=laptop, instead=here) as process:
        printed = first_line(process)
        process.send_signal(signal.SIGINT)
        printed += process.communicate(timeout=30)[0]
    assert same(printed) == same(interrupted)
    (job,) = re.findall(r"job (\w+)", printed)
    (shown,) = re.findall(r"job (\w+)", interrupted)
    here |= {shown: job, "pid=4711": "pid=...", "sleep 1;": "sleep 0.1;"}
    follow_in_python(here)


def follow_in_python(here: dict[str, str]) -> None:
    """Type what the tutorial does, and get what it shows."""
    *typed, script = blocks("tutorial.md")
    text = replaced("\n".join(typed), here)
    test = doctest.DocTestParser().get_doctest(text, {}, "tutorial", None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    assert runner.run(test, out=told.append).failed == 0, "".join(told)
    run(script, {"mlepool": mlepool}, here)


def test_tutorial_with_one_machine_only(tmp_path):
    *_, worker, ask = blocks("tutorial.md", "sh")
    here = {"/tmp/": f"{tmp_path}/", ":19922": ":0"}
    with begun(worker, tmp_path, here) as started:
        here[":19922"] = f":{started.port}"
        said = shell(ask, cwd=tmp_path, instead=here, status=255)
    assert same("\n".join(said)) == same(blocks("tutorial.md", "")[-1])


def free_listen(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have workers that are started listen on any port, with a state of their own."""
    patch.setenv("MLEPOOL_LISTEN", "127.0.0.1:0")
    patch.setenv("MLEPOOL_STATE_DIR", str(folder / "state"))


def test_custom_commands(tmp_path, monkeypatch):
    """What the page shows of Python is run with the custom commands' own tests."""
    free_listen(monkeypatch, tmp_path)
    python = blocks("howto/commands.md")
    (tmp_path / "pictures.py").write_text(python[0])
    (start,) = blocks("howto/commands.md", "sh")
    with begun(start, tmp_path) as worker, mlepool.add(worker.url) as conn:
        assert conn.scale(["a.png"]).next() == "open a.png"
    text = (DOCS / "howto/commands.md").read_text()
    assert len(re.findall(r"^<!-- .* -->\n```python$", text, re.M)) == len(python)


def test_functions(tmp_path, monkeypatch):
    """What the page shows of Python is run with the other tests of functions."""
    free_listen(monkeypatch, tmp_path)
    install, start = blocks("howto/functions.md", "sh")[0].splitlines()
    assert install == "pip install 'mlepool[functions]'"
    with begun(start, tmp_path) as worker, mlepool.add(worker.url) as conn:
        conn.connect()
        assert "functions" in dir(conn)


def test_without_tls(tmp_path, monkeypatch):
    free_listen(monkeypatch, tmp_path)
    _, start = blocks("howto/behind-a-proxy-or-tunnel.md", "sh")
    with begun(start, tmp_path, {":9922": ":0"}) as worker:
        token = (tmp_path / "state/token").read_text().strip()
        monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path / "elsewhere"))
        url = f"ws://127.0.0.1:{worker.port}"
        with mlepool.add(url, token=token) as conn:
            assert conn.run("echo hi").output == "hi\n"


def test_forwarded_ports_and_proxies(gpu1, laptop):
    tunnel, _ = blocks("howto/behind-a-proxy-or-tunnel.md", "sh")
    ssh, ask = tunnel.splitlines()
    assert ssh.startswith("ssh -N -L 19922:localhost:9922 gpu1 ")
    shell(f"mlepool trust '{gpu1.url}'", cwd=laptop, instead={})
    with FaultProxy(gpu1.port) as forwarded:
        said = shell(ask, cwd=laptop, instead={":19922": f":{forwarded.port}"})
    assert said == [socket.gethostname()]
    port = free_port()
    command = [need_program("microsocks"), "-i", "127.0.0.1", "-p", str(port)]
    here = {'"gpu1"': f'"localhost:{gpu1.port}"', "bastion:1080": f"127.0.0.1:{port}"}
    with serving(command, port, laptop / "log"):
        names: dict[str, Any] = {"mlepool": mlepool}
        run(blocks("howto/behind-a-proxy-or-tunnel.md")[0], names, here)
        with names["conn"] as conn:
            assert conn.run("echo hi").output == "hi\n"


ORIGIN = re.compile(r"(\w+) +(.*?) +(\S+)")


def test_configure(tmp_path, monkeypatch):
    (check,) = blocks("howto/configure.md", "sh")
    (toml,) = blocks("howto/configure.md", "toml")
    (tmp_path / "mine.py").touch()
    (tmp_path / "config.toml").write_text(toml)
    found = {}
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.setenv("MLEPOOL_STATE_DIR", str(folder))
        lines = shell(check, cwd=tmp_path, instead={})
        found[folder] = [one.groups() for one in map(ORIGIN.fullmatch, lines) if one]
    said = dict(re.findall(r"^(\w+) = .*?(# .*)?$", toml, re.M))
    named = {*tomllib.loads(toml)}
    for (key, value, origin), (_, default, _) in zip(*found.values(), strict=True):
        assert (key in named) == ("config.toml:" in origin), key
        if key in said and "default:" not in said[key]:
            assert value == default, key
    assert named == {*KEYS} - {"state_dir", "hub", "hub_token"}


def test_what_is_wrong_with_a_configuration(tmp_path, monkeypatch):
    (toml,) = blocks("howto/configure.md", "toml")
    (told,) = blocks("howto/configure.md", "")
    (tmp_path / "config.toml").write_text("\n\njob_quta = 1\n")
    monkeypatch.setenv("MLEPOOL_STATE_DIR", str(tmp_path))
    (said,) = shell("mlepool worker --check-config", cwd=tmp_path, instead={}, status=1)
    assert said.endswith(f"/{told.strip()}")


def test_configure_from_a_client(tmp_path):
    names: dict[str, Any] = {}
    with (
        serve_in_thread(state_dir=tmp_path / "state", listen="127.0.0.1:0"),
        mlepool.add(f"unix:{tmp_path}/state") as names["conn"],
    ):
        run(blocks("howto/configure.md")[0], names, {})
        state = dict(names["conn"].state)
    assert (state["name"], state["labels"], state["rack"]) == (
        "gpu1",
        {"gpu": "a100"},
        7,
    )
