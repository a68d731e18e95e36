"""What the pages about hosts, queues and terminals show, and the README, is run."""

import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.cli.main import main
from mlepool.worker import WorkerThread, serve_in_thread
from mlepool.worker.queue.gpus import Device
from tests.cli.terminals import at_terminal
from tests.guides import blocks, run, shell

# What a page shows and is not here, and what stands for it.
INSTEAD = {
    "nvidia-smi": "echo",
    "git -C exp pull": "true",
    "pip freeze": "echo one",
    "python train.py": f"{sys.executable} train.py",
    '["python"': f"[{sys.executable!r}",
}
INVENTORY = """
[hosts]
"gpu[1-8]" = { address = "unix:STATE", labels = { gpu = "a100" } }
"gpu[1-4]" = { labels = { zone = "a" } }
"gpu[5-8]" = { labels = { zone = "b" } }
"gpu[01-08]" = "unix:STATE"
"lab-pc:9000" = "unix:STATE"

[groups]
train = "gpu[1-2,5]"
"""
TRAIN = """
import os

os.makedirs("out", exist_ok=True)
for name in ("metrics.json", "out/model"):
    with open(name, "w") as file:
        file.write("[]")
print("trained")
"""
PROGRAMS = {
    "update.sh": "echo updated\n",
    "train": "echo $*; [ $4 != 3 ]\n",
    "login.sh": 'printf "login: "; read name; echo Welcome $name\n',
}

pytestmark = pytest.mark.real


class Rack:
    """GPUs that do nothing."""

    def devices(self) -> list[Device]:
        return [Device(number, f"GPU-{number}") for number in range(3)]


def write_project(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "Makefile").write_text("test:\n\t@echo tested\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder where a worker's paths begin, with what pages run in it."""
    folder = Path(tmp_path_factory.mktemp("root"))
    write_project(folder)
    write_project(folder / "exp")
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def served(root, tmp_path_factory) -> Iterator[WorkerThread]:
    """A worker in a thread, which is all hosts of the pages."""
    state = tmp_path_factory.mktemp("guides") / "state"
    (state.parent / "pictures.py").write_text(blocks("../README.md")[4])
    with serve_in_thread(
        [str(state.parent / "pictures.py")],
        state_dir=state,
        listen="127.0.0.1:0",
        root=root,
    ) as running:
        yield running


@pytest.fixture
def place(served, tmp_path: Path, monkeypatch) -> Path:
    """A folder to be in, of an account whose inventory has the pages' hosts."""
    text = INVENTORY.replace("STATE", str(served.worker.config.state_dir))
    (tmp_path / "hosts.toml").write_text(text)
    write_project(tmp_path / "src")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def names(place, served) -> Iterator[dict[str, Any]]:
    """What pages take for granted."""
    said: list[str] = []
    with mlepool.ClientPool() as pool:
        pool.load()
        made = {"mlepool": mlepool, "pool": pool, "conn": pool["gpu1"]}
        made["print"] = lambda *words: said.append(" ".join(map(str, words)))
        yield made | {"said": said}


@pytest.fixture
def type_line(place, monkeypatch, capsys) -> Callable[..., str]:
    """Runs a line of a shell, in this process if it is no more than ``mlepool``."""

    def call(line: str, instead: dict[str, str] = INSTEAD, *, status: int = 0) -> str:
        for shown, here in instead.items():
            line = line.replace(shown, here)
        words = shlex.split(line, comments=True)
        if words[0] != "mlepool" or {"|", "&&", "<", "<<<"} & set(words):
            return "\n".join(shell(line, cwd=place, instead={}, status=status))
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as caught:
            main()
        told = "".join(capsys.readouterr())
        assert caught.value.code == status, f"{line}\n{told}"
        return told

    return call


def lines_of(page: str, number: int = 0) -> list[str]:
    return blocks(page, "sh")[number].splitlines()


@pytest.fixture
def home(served) -> str:
    """How that worker is reached without an inventory."""
    return f"unix:{served.worker.config.state_dir}"


def test_python_of_the_readme(names, home):
    one, many, sweep, files, _ = blocks("../README.md")
    found = dict(names)
    run(one, found, INSTEAD | {'add("gpu1")': f'add("{home}")'})
    trained, end = names["said"]
    assert (trained, end.split()[0]) == ("stdout trained", "0")
    run(many, found, INSTEAD)
    assert found["done"].succeeded == [f"gpu{n}" for n in (1, 2, 4, 5, 6, 7, 8)]
    found = dict(names)
    run(sweep, found, INSTEAD)
    assert found["sweep"].counts == {"SUCCEEDED": 16, "FAILED": 2}
    assert len(Path("results.csv").read_text().splitlines()) == 19
    run(files, found, INSTEAD)
    assert found["metrics"] == b"[]"
    assert Path("out/model").is_file()
    assert names["conn"].shrink(["a"]).next() == {"path": "a", "width": 640}


def test_command_line_of_the_readme(names, type_line, served):
    worker, trust, *others, attach = lines_of("../README.md", 1)
    job = names["conn"].run("echo began; sleep 0.1", detach=True, complete=False)
    url = served.join_url()
    told = type_line(trust, {"mlepool trust -": f"mlepool trust - <<< '{url}'"})
    assert told.startswith("trusting 127.0.0.1:")
    told = [type_line(line) for line in others]
    assert worker.startswith("mlepool worker ")
    assert "gpu8" in told[0]
    assert type_line(attach, {"5f3a": job.id}) == "began\n"


def test_many_hosts_in_a_shell(type_line):
    first, *others = blocks("howto/many-hosts.md", "sh")
    assert len(type_line(first).splitlines()) == 3
    for line in "".join(others).splitlines():
        assert type_line(line), line
    assert type_line('eval "$(mlepool completion bash)"') == ""


def test_inventory(names, type_line, place):
    run(blocks("howto/inventory.md")[0], names, INSTEAD)
    assert "gpu1 -L" in names["said"]
    for line in lines_of("howto/inventory.md"):
        assert "gpu03" not in type_line(line) or "hosts" in line
    (place / "config").write_text("Host far\n  HostName far.example.org\n")
    (place / "inventory.ini").write_text("[web]\nweb[1:3]\n")
    ssh, ansible = lines_of("howto/inventory.md", 1)
    assert "far.example.org" in type_line(ssh, {"~/.ssh/": ""})
    type_line(ansible, {"~/.config/mlepool/hosts.toml": "made.toml"})
    assert "web" in Path("made.toml").read_text()


def test_what_is_wrong_with_an_inventory(place):
    unknown, cycle = blocks("howto/inventory.md", "")[0].splitlines()
    for told, text in (
        (unknown, "[hosts]" + "\n" * 6 + 'a = { adress = "b" }'),
        (cycle, "[groups]" + "\n" * 11 + 'a = "@b"\nb = "@a"'),
    ):
        (place / "hosts.toml").write_text(text)
        with mlepool.ClientPool() as pool, pytest.raises(mlepool.ConfigError) as caught:
            pool.load("hosts.toml")
        assert str(caught.value).endswith(told)


def test_interactive(names, place):
    prompt, terminal = blocks("howto/interactive.md")
    run(prompt, names, INSTEAD)
    assert names["live"].wait().output.endswith("Welcome ann\n")
    run(terminal, names, INSTEAD)
    assert names["live"].wait().ok
    assert "load average" in names["live"].output
    edit, feed = lines_of("howto/interactive.md")
    words = shlex.split(edit, comments=True)
    assert words[0] == "mlepool"
    with at_terminal(*words[1:]) as screen:
        screen.wait_for("notes.txt")
        screen.type(":q\r")
        assert screen.end() == 0
    shell("touch a && tar cf a.tar a", cwd=place, instead={})
    told = shell(feed, cwd=place, instead={"gpu1,gpu2": "gpu[1-2]"})
    assert told == []


@pytest.fixture(scope="module")
def queue(tmp_path_factory) -> Iterator[WorkerThread]:
    """A worker as the page about queues configures one, with three GPUs."""
    folder = tmp_path_factory.mktemp("queue")
    wait = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n"
    (folder / "train.py").write_text(wait)
    (folder / "Makefile").write_text("all:\n")
    (toml,) = blocks("howto/queue.md", "toml")
    settings = tomllib.loads(toml)
    with serve_in_thread(
        state_dir=folder / "state",
        listen="127.0.0.1:0",
        root=folder,
        gpus=Rack(),
        **settings,
    ) as running:
        yield running


def test_queue(queue, names, type_line):
    home = f"unix:{queue.worker.config.state_dir}"
    go = queue.worker.root / "go"
    many, refused, gpus = blocks("howto/queue.md")
    submit, shown, wait = many.partition("for job in jobs:")
    names["conn"] = names["pool"].add(home, name="queue")
    run(submit, names, INSTEAD)
    assert names["said"] == ["PENDING 6"]
    with pytest.raises(mlepool.WorkerBusyError):
        run(refused, names, INSTEAD)
    detach, busy, listing, stop = lines_of("howto/queue.md", 0)
    here = INSTEAD | {"gpu1": home}
    job = type_line(detach, here).partition(": job ")[2].split()[0]
    type_line(busy, here, status=75)
    assert "PENDING 3" in type_line(listing, here)
    told = type_line(stop, here | {"5f3a": job})
    assert "waited in line, and will not begin" in told
    go.touch()
    run(shown + wait, names, INSTEAD)
    run(gpus, names, INSTEAD)
    assert names["job"].wait().ok
    assert len(names["conn"].job(names["job"].id).value.gpus) == 2
    run(refused, names, INSTEAD)
