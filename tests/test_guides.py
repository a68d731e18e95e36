"""The Python of guides in docs/howto is run as it stands, block by block."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from tests.guides import blocks, run

NAMES = [f"gpu{number}" for number in range(1, 9)]

# What a page shows and is not here, and what stands for it.
INSTEAD = {
    "git -C exp pull": "true",
    "systemctl --user restart app && ./healthy": "true",
    "python ": f"{sys.executable} ",
    '"python"': repr(sys.executable),
    "gpus=1": "timeout=60",
    "gpu.name": "cpu.cores",
    "pandas.DataFrame(sweep.rows())": "sweep.rows()",
}

pytestmark = pytest.mark.real


@pytest.fixture
def place(worker, tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with an inventory of eight hosts, which are one worker's."""
    home = f"unix:{worker.state_dir}"
    (tmp_path / "hosts.toml").write_text(f"[hosts]\n'gpu[1-8]' = '{home}'\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("print('#loss 1')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    monkeypatch.setitem(INSTEAD, "pool.add(host)", f"pool.add('{home}', name=host)")
    root = worker.state_dir.parent
    before = set(root.iterdir())
    (root / "Makefile").write_text("test:\n\t@echo tested\n")
    shutil.copytree(tmp_path / "src", root / "exp")
    (root / "eval.py").write_text("print('found')\n")
    (root / "train.py").write_text("print('#loss 1')\n")
    yield tmp_path
    for new in set(root.iterdir()) - before:
        new.unlink() if new.is_file() else shutil.rmtree(new)


@pytest.mark.usefixtures("place")
def test_many_hosts(capsys):
    first, *others = blocks("howto/many-hosts.md")
    names: dict[str, Any] = {"hosts": NAMES[:2]}
    run(first, names, INSTEAD)
    assert names["done"].succeeded == NAMES[:3]
    with mlepool.ClientPool() as pool:
        pool.load()
        names |= {"pool": pool, "done": pool.run("make test")}
        for code in others:
            if "async with" not in code:
                run(code, names, INSTEAD)
        assert names["live"].succeeded == NAMES
        assert (names["done"].skipped, names["codes"]) == ([], [0] * 8)
    (code,) = (one for one in others if "async with" in one)
    run(code, names, INSTEAD)
    assert names["live"].succeeded == NAMES[:2]
    assert "\ngpu[1-8] (8)\n---------------\ntested\n" in capsys.readouterr().out


def test_sweeps(place, capsys):
    first, results, resume, submit = blocks("howto/sweeps.md")
    names: dict[str, Any] = {"names": ["a", "b"]}
    run(first, names, INSTEAD)
    assert names["sweep"].counts == {"SUCCEEDED": 9}
    with mlepool.ClientPool() as pool:
        pool.load()
        plan = str(names["sweep"].plan)
        names |= {"pool": pool, "sweep": pool.resume(plan)}
        run(results, names, INSTEAD)
        run(submit, names, INSTEAD)
    assert "<Sweep 9 runs: 9 done>" in capsys.readouterr().out
    assert [row["loss"] for row in names["frame"]] == [1] * 9
    assert len((place / "results.csv").read_text().splitlines()) == 10
    assert [job.exit_code for job in names["jobs"]] == [0, 0]
    run(re.sub(r'"~.*"', repr(plan), resume), names, INSTEAD)
    assert names["sweep"].counts == {"SUCCEEDED": 9}


@pytest.fixture
def names(place, worker, monkeypatch) -> Iterator[dict[str, Any]]:
    """What a page about one host takes for granted."""
    home = f"unix:{worker.state_dir}"
    for shown in ('mlepool.add("gpu1"', 'mlepool.add(\n    "gpu1"'):
        monkeypatch.setitem(INSTEAD, shown, f"pool.add('{home}', name=str(id([]))")
    with mlepool.ClientPool() as pool, pool.add(home) as conn:
        live = conn.run("sleep 60", complete=False)
        yield {"mlepool": mlepool, "conn": conn, "pool": pool, "live": live}


def run_each(page: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a page's blocks, none of which knows of the others; give what they made."""
    found: dict[str, Any] = {}
    for code in blocks(page):
        own = dict(names)
        run(code, own, INSTEAD)
        found |= own
    return found


def test_errors(names, capsys):
    assert run_each("howto/errors.md", names)["done"].ok
    assert "trian.py" in capsys.readouterr().out


def test_jobs(names, capsys):
    found = run_each("howto/jobs.md", names)
    assert found["shell"].wait().stdout == "42\n"
    assert found["report"].complete
    assert "stdout #loss 1\na\nb\n" in capsys.readouterr().out


def test_files(names, place, worker):
    root = worker.state_dir.parent
    for folder in ("exp/out", "exp/keep"):
        (root / folder).mkdir()
    (root / "exp/runs/7").mkdir(parents=True)
    for name in ("metrics.json", "train.log", "best.ckpt", "runs/7/last.ckpt"):
        (root / "exp" / name).write_text(name)
    for name in ("model.pt", "a.csv", "b.csv", "images"):
        (place / name).write_text(name)
    makes = "import os; os.makedirs('out', exist_ok=True); open('out/a', 'w')\n"
    (place / "train.py").write_text(makes)
    found = run_each("howto/files.md", names)
    assert (root / "models/model.pt").read_text() == "model.pt"
    assert found["text"] == (place / "metrics.json").read_text() == "metrics.json"
    assert (root / "exp/keep/best.ckpt").is_file()
    assert not (root / "exp/runs/7").exists()
    assert (place / "out/a").is_file()
