"""Guides of prompts, metrics, tokens; jobs and files from the shell: what they show."""

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.cli.main import main
from tests.conftest import RunningWorker, wait_until
from tests.guides import DOCS, blocks, replaced, run, running, shell, write_programs
from tests.needs import lacking
from tests.repl.prompts import prompt

TESTS = Path(__file__).parent

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def gpu1(tmp_path_factory) -> Iterator[RunningWorker]:
    """The host of the pages: a worker that is set as they say, with its programs."""
    root = tmp_path_factory.mktemp("gpu1")
    write_programs(root / "bin")
    (root / "state").mkdir()
    (metrics,) = blocks("howto/telemetry.md", "toml")
    (root / "state/config.toml").write_text(metrics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{root}/bin", prepend=":")
        running = RunningWorker(root)
    yield running
    running.end()


@pytest.fixture
def place(gpu1, tmp_path, monkeypatch) -> Iterator[Path]:
    """A home on that host: a folder to be in, and an inventory whose hosts it is."""
    root = gpu1.state_dir.parent
    (tmp_path / "hosts.toml").write_text(
        f"[hosts]\n'gpu[1-4]' = 'unix:{gpu1.state_dir}'\n"
        f"gpu-2 = {{address = 'unix:{gpu1.state_dir}', labels = {{zone = 'a'}}}}\n"
    )
    write_programs(tmp_path / "bin")
    for name in ("HOME", "MLEPOOL_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("MLEPOOL_STATE_DIR", str(gpu1.state_dir))
    monkeypatch.delenv("MLEPOOL_LOOP", raising=False)
    monkeypatch.chdir(tmp_path)
    (root / "exp").mkdir()
    (root / "train.py").write_text("print('#loss 3 0.25')\n")
    before = set(root.iterdir()) - {root / "exp", root / "train.py"}
    yield tmp_path
    for new in set(root.iterdir()) - before:
        new.unlink() if new.is_file() else shutil.rmtree(new)


@pytest.fixture
def instead(gpu1) -> dict[str, str]:
    """How the page's host is named here."""
    address = f"'unix:{gpu1.state_dir}'"
    return {
        'add("gpu1")': f'add({address}, name="gpu1")',
        "pandas.DataFrame(job.points.rows())": "rows = list(job.points.rows())",
    }


@pytest.fixture
def pool(place) -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        pool.load()
        yield pool


@pytest.fixture
def typed(place, monkeypatch, capsys) -> Callable[..., list[str]]:
    """Runs lines that begin with mlepool, each to a good end; gives what they print."""

    def type_them(code: str, instead: Mapping[str, str] = {}) -> list[str]:
        for line in replaced(code, instead).splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "mlepool"
            monkeypatch.setattr("sys.argv", [program, *arguments])
            with pytest.raises(SystemExit) as caught:
                main()
            assert caught.value.code == 0, line
        said: list[str] = capsys.readouterr().out.splitlines()
        return said

    return type_them


# -- notebooks, prompts


@pytest.mark.usefixtures("place")
def test_a_notebook_s_first_cell(instead, capsys):
    blocking, _ = blocks("howto/notebooks.md")
    try:
        run(blocking, {}, instead)
        assert capsys.readouterr().out == "A100\n"
        with pytest.raises(ValueError, match="gpu1"):
            run(blocking, {}, instead)
        assert mlepool.pool["gpu1"].is_connected
    finally:
        mlepool.pool.remove("gpu1")


@pytest.mark.usefixtures("place")
def test_a_notebook_s_own_loop(instead):
    _, code = blocks("howto/notebooks.md")
    names: dict[str, Any] = {"mlepool": mlepool}
    *lines, last = code.splitlines()
    run("\n".join([*lines, f"shown = {last}", "await pool.close()"]), names, instead)
    assert names["shown"] == "A100\n"


def test_cells_that_run_on_hosts(pool, capsys):
    (shown,) = blocks("howto/notebooks.md", "")
    load, cell = shown.split("\n\n")
    if importlib.util.find_spec("IPython") is None:
        lacking("ipython")
    ipython = importlib.import_module("IPython.core.interactiveshell")
    notebook = ipython.InteractiveShell()
    notebook.user_ns["pool"] = pool
    notebook.run_cell(load).raise_error()
    found = notebook.run_cell(cell).result
    assert found.failed == [f"gpu{number}" for number in range(1, 5)]
    assert found.grouped()[0].hosts == "gpu[1-4]"
    said = capsys.readouterr()
    assert "gpu3 | pulled\n" in said.out
    assert "gpu3 | main.c:3: error\n" in said.out + said.err
    notebook.run_cell("found = %on gpu1 nvidia-smi").raise_error()
    assert notebook.user_ns["found"].succeeded == ["gpu1"]
    assert notebook.run_cell("%%on gpu1 python3 -\nprint(6 * 7)").result.succeeded
    assert "gpu1 | 42\n" in capsys.readouterr().out


def test_a_prompt(place, gpu1):
    (code,) = blocks("howto/repl.md")
    (shown,) = blocks("howto/repl.md", "")
    with prompt(str(place), str(place), "--plain") as at:
        at.wait_for(r"hosts: ([\w, ]+)\r\n.*>>> ")
        for line in code.splitlines():
            at.type(f"{line}\r")
            at.wait_for(r">>> ")
        at.type("live.wait()\r")
        at.wait_for(r"4 failed.*>>> ")
        here = shown.replace("/home/me", str(gpu1.state_dir.parent))
        for asked, answer in asked_and_answered(here):
            at.type(f"{asked}\r")
            at.wait_for(answer)
        at.type("exit()\r")
        assert at.end() == 0


def asked_and_answered(transcript: str) -> list[tuple[str, str]]:
    """Give what is typed in a transcript, and a pattern of what follows it."""
    parts = re.split(r"^(?:>>>|gpu1>) (.*)\n", transcript, flags=re.MULTILINE)[1:]
    answers = (as_pattern(one.replace("\n", "\r\n")) for one in parts[1::2])
    return list(zip(parts[::2], answers, strict=True))


def as_pattern(text: str) -> str:
    """Make a pattern of what a page shows, for any time that it took."""
    return re.sub(r"\d+\\\.\d", r"\\d+\\.\\d", re.escape(text))


def test_who_is_at_the_prompt(place):
    (code,) = blocks("howto/repl.md", "sh")
    said = shell(code, cwd=place, instead={"mlepool shell": "mlepool shell --plain"})
    assert [line for line in said if line.startswith("pool, and")] == [
        "pool, and its hosts: gpu1, gpu2, gpu3, gpu4, gpu_2",
        "pool, and its hosts: gpu1, gpu2, gpu3, gpu4",
        "pool, and its hosts: gpu_2",
    ]


# -- metrics


def test_metrics(pool, instead, capsys):
    now, often, live, *jobs = blocks("howto/telemetry.md")
    names: dict[str, Any] = {"conn": pool["gpu1"]}
    for code in (now, live, often):
        run(code, names, instead)
    assert names["now"].cpu_percent is not None
    said = capsys.readouterr().out.splitlines()
    assert len(said) > len(names["now"].cpu)
    for code in jobs:
        run(code, names, instead)
    names["job"].wait()
    assert names["job"].points["loss"] == [(3, 0.25)]
    (forms,) = blocks("howto/telemetry.md", "text")
    job = names["conn"].run(["printf", "%s", forms])
    assert job.points["loss"] == [(3, 0.25), (3, 0.25)]


def test_prometheus(pool, gpu1, typed):
    place = Path.cwd()
    runs = pool["gpu1"].run("sleep 60", complete=False)
    pool["gpu1"].set_metrics(jobs=0.1)
    wait_until(lambda: runs.metrics is not None)  # of jobs there is something to say
    pool["gpu1"].set_metrics(jobs=0)
    (url,) = typed("mlepool token create --name prometheus --role view")
    (text,) = blocks("howto/telemetry.md", "yaml")
    yaml = importlib.import_module("yaml")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    here = place / Path(job["authorization"]["credentials_file"]).name
    here.write_text(re.findall(r"token=([^&]+)", url)[0])
    tls = job["tls_config"]
    copy = shutil.copy(
        gpu1.state_dir / "certificate.pem", place / Path(tls["ca_file"]).name
    )
    context = ssl.create_default_context(cafile=copy)
    with (
        socket.create_connection(("127.0.0.1", gpu1.port)) as plain,
        context.wrap_socket(plain, server_hostname=tls["server_name"]) as link,
    ):
        link.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: gpu1:9922\r\nConnection: close\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % here.read_bytes()
        )
        answer = link.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 200 ")
    page = (DOCS / "howto/telemetry.md").read_text()
    for name in re.findall(r"`(mlepool_\w{9,})", page):
        assert f"# HELP {name} " in answer


# -- tokens


def test_tokens(place, gpu1, typed):
    create, other, some, folders, change, audit = blocks("howto/tokens.md", "sh")
    revoked = at(gpu1, *typed(create))
    shell(other, cwd=place, instead={})
    assert re.search(r"laptop .*run, ?view, ?sync", "\n".join(typed(change)))
    with pytest.raises(mlepool.AuthenticationError, match="revoked"):
        asked(revoked, "true")
    url = at(gpu1, *typed(some))
    assert asked(url, "python train.py 7") is None
    assert isinstance(asked(url, "python other.py"), mlepool.PermissionDeniedError)
    (place / "ann").mkdir()
    url = at(gpu1, *typed(folders, {"/data/ann": str(place / "ann")}))
    with mlepool.ClientPool() as pool, pool.add(url) as conn:
        assert conn.write("a", "b").ok
        assert not conn.read("/etc/hostname").ok
    events = [json.loads(line) for line in typed(audit) if line.startswith("{")]
    assert {one["event"] for one in events} == {"refused"}


def at(worker: RunningWorker, url: str) -> str:
    """Give a join URL for where the worker listens: its options say it, not a file."""
    return re.sub("//[^?]+", f"//127.0.0.1:{worker.port}", url)


def asked(url: str, command: str) -> BaseException | None:
    """Run a command by a join URL; how it failed."""
    with mlepool.ClientPool() as pool, pool.add(url) as conn:
        error: BaseException | None = conn.run(command).error
        return error


def test_what_a_role_does_not_allow(gpu1, typed):
    url = at(gpu1, *typed("mlepool token create --name dashboard --role view"))
    (shown,) = blocks("howto/tokens.md", "")
    assert shown.strip() in str(asked(url, "true"))


# -- jobs, files


def test_jobs_from_the_shell(gpu1, typed):
    (code,) = blocks("howto/jobs.md", "sh")
    begin, others = code.split("\n", 1)
    (job,) = re.findall(r"^gpu1: job (\w+)$", "\n".join(typed(begin)))
    said = typed(others, {"5f3a": job, "DIR": str(gpu1.state_dir)})
    assert said.count("#loss 3 0.25") == 3  # of attach, and twice logs


def test_files_from_the_shell(place, gpu1, typed):
    there = gpu1.state_dir.parent
    (code,) = blocks("howto/files.md", "sh")
    lines = code.splitlines()
    (watch,) = (one for one in lines if "--watch" in one)
    (place / "src").mkdir()
    (place / "src/a").write_text("a")
    (place / "model.pt").write_text("model")
    makes = "import os; os.makedirs('out', exist_ok=True); open('out/b', 'w')\n"
    (place / "train.py").write_text(makes)
    (there / "exp/out").mkdir()
    (there / "exp/metrics.json").write_text("{}")
    (there / "exp/out/c").write_text("c")
    typed("\n".join(one for one in lines if one != watch))
    assert {one.name for one in (place / "out").iterdir()} == {"b", "c"}
    assert (there / "exp/a").read_text() == "a"
    assert (there / "models/model.pt").read_text() == "model"
    assert (place / "results/gpu2/metrics.json").read_text() == "{}"
    with running(watch, cwd=place, instead={}):
        (place / "src/a").write_text("changed")
        wait_until(lambda: (there / "exp/a").read_text() == "changed")


# -- other tools


def test_a_pool_for_those_who_come(place):
    (code,) = blocks("topics/coming-from.md")
    names: dict[str, Any] = {}
    run(code, names, {})
    with names["pool"] as pool:
        assert pool["gpu1"].run("true").ok


# -- the reference


def test_commands(pool, gpu1, capsys):
    exp = gpu1.state_dir.parent / "exp"
    for name in ("old.ckpt", "train.log", "train.py"):
        (exp / name).write_text(f"print('in {name}')\n")
    names: dict[str, Any] = {"conn": pool["gpu1"]}
    (code,) = blocks("reference/commands.md")
    run(code, names, {})
    assert "old.ckpt" in capsys.readouterr().out
    assert (names["newest"].name, names["tail"]) == (
        "exp/old.ckpt",
        "print('in train.log')\n",
    )
    assert (exp / "config.json").read_text() == '{"lr": 0.1}'
    assert names["conn"].run("python train.py").stdout == "in train.py\n"


def test_state(pool, capsys):
    conn = pool["gpu1"]
    conn.connect()
    (code,) = blocks("reference/state.md")
    run(code, {"conn": conn}, {})
    told = threading.Event()
    conn.on("state-change", lambda conn, data: told.set())
    conn.set_name("big")
    assert told.wait(30)
    assert "gpu1 {'name': 'big'}\n" in capsys.readouterr().out


def test_every_page_with_code_is_run_by_some_test():
    tests = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    for page in DOCS.rglob("*.md"):
        place = str(page.relative_to(DOCS))
        if any(blocks(place, one) for one in ("python", "sh", "toml", "yaml")):
            assert f'{place}"' in tests
