"""What docs/topics/coming-from.md says of mlepool is run, row by row."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.cli.main import main

PAGE = Path(__file__).parents[1] / "docs/topics/coming-from.md"
PARTS = PAGE.read_text().split("\n## ")[1:]

pytestmark = pytest.mark.real


def calls_of(part: str) -> list[str]:
    """Give what stands in the middle column of a part's table."""
    rows = re.findall(r"^\|.*\| `([^|]+)` \|[^|]*\|$", part, re.MULTILINE)
    return [row.replace("`, `", ", ") for row in rows]


@pytest.fixture
def place(worker, tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder to be in, with files to send and an inventory."""
    (tmp_path / "src").mkdir()
    for name in ("a.txt", "src/a.txt"):
        (tmp_path / name).write_text("hi\n")
    (tmp_path / "inventory.ini").write_text("[web]\nweb[1:3]\n")
    (tmp_path / "hosts.toml").write_text(
        f"[hosts]\n'gpu[1-2]' = 'unix:{worker.state_dir}'\n[groups]\ntrain = 'gpu*'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    root = worker.state_dir.parent
    before = set(root.iterdir())
    yield tmp_path
    for new in set(root.iterdir()) - before:
        new.unlink() if new.is_file() else shutil.rmtree(new)


def run_line(line: str, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(line))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0, line


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.split("\n")[0])
def test_each_row_is_true(part, monkeypatch):
    calls = calls_of(part)
    assert len(calls) > 9
    with mlepool.ClientPool() as pool:
        pool.load()
        names: dict[str, Any] = {"pool": pool, "conn": pool["gpu1"]}
        pool["gpu1"].connect()
        for call in calls:
            if call.startswith("mlepool "):
                run_line(call, monkeypatch)
            else:
                exec(compile(call, call, "exec"), names)


def test_every_row_with_a_call_is_seen():
    text = PAGE.read_text()
    rows = re.findall(r"^\|(?! There|---).*\|$", text, re.MULTILINE)
    without = [row for row in rows if re.search(r"\| \| [^|]+ \|$", row)]
    assert len(rows) - len(without) == sum(len(calls_of(part)) for part in PARTS)
