"""A notebook, run by a kernel of its own on a worker: what its cells show."""

import asyncio
import importlib
import importlib.util
from typing import Any, NamedTuple

import pytest

from tests.needs import lacking

pytestmark = pytest.mark.real

# Cells by name, in their order.
CELLS = {
    "load": "%load_ext mlepool\nimport mlepool, threading, time\npool = mlepool.pool",
    "magic": "%%on gpu1,gpu-2\necho out $((6*7))\necho odd >&2",
    "taken": "_.succeeded",
    "pool": "pool",
    "input": "%%on @train python3 -\nprint('by', 'python')",
    "line": "found = %on gpu1 echo a line\nfound.ok",
    "mode": "%on gpu1",
    "value": "pool['gpu1'].ls('/')",
    "live": """
command = "echo begun; echo '<script>' >&2; read a; printf '1%%\\\\r2%%\\\\r'; exit 3"
live = pool['gpu1'].run(command, stdin=True, complete=False)
live""",
    "both": "both = pool.run('read a; echo b', stdin=True, complete=False)\nboth",
    "while": "time.sleep(0.6)\nthreading.active_count()",
    "ended": """
live.close_input()
for one in both.values(): one.close_input()
live.wait(), both.wait()
while any(one.name == 'mlepool views' for one in threading.enumerate()):
    time.sleep(0.05)""",
    "gone": "kept = pool['gpu1'].run('sleep 60', complete=False)\nkept",
    "interrupted": """
import os, signal
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
kept.wait()""",
    "after": "print(kept.status)\nkept.stop().status",
}


class Shown(NamedTuple):
    """What a cell has shown: its text, its errors, its HTML."""

    text: str
    error: str
    html: str


@pytest.fixture(scope="module")
def shown(home, tmp_path_factory) -> dict[str, Shown]:
    """Run the notebook once."""
    for name in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(name) is None:
            lacking(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLEPOOL_HOME", home)
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("jupyter")))
        cells = asyncio.run(executed())
    return {name: gathered(cell) for name, cell in zip(CELLS, cells, strict=True)}


async def executed() -> list[Any]:
    nbclient = importlib.import_module("nbclient")
    v4 = importlib.import_module("nbformat.v4")
    notebook = v4.new_notebook(cells=list(map(v4.new_code_cell, CELLS.values())))
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", allow_errors=True
    )
    await client.async_execute()
    cells: list[Any] = notebook.cells
    return cells


def gathered(cell: Any) -> Shown:
    outputs = cell.outputs
    data = [one.get("data", {}) for one in outputs]
    streams = [one.get("text", "") for one in outputs]
    return Shown(
        "".join([*streams, *(one.get("text/plain", "") for one in data)]),
        " ".join(f"{one.ename}: {one.evalue}" for one in outputs if "ename" in one),
        "".join(one.get("text/html", "") for one in data),
    )


def test_a_cell_runs_on_hosts_and_says_who_says_what(shown):
    text = shown["magic"].text
    assert {"gpu1  | out 42", "gpu-2 | out 42", "gpu1  | odd"} <= set(text.split("\n"))
    assert "on 2 hosts: 2 succeeded>" in text
    assert shown["magic"].html.count(">SUCCEEDED<") == 2
    assert shown["taken"].text == "['gpu1', 'gpu-2']"


def test_a_cell_may_be_what_a_program_reads(shown):
    assert "gpu1 | by python\n" in shown["input"].text


def test_a_line_gives_its_result(shown):
    assert shown["line"].text == "gpu1 | a line\nTrue"
    assert shown["mode"].text.startswith("UsageError: in a notebook it is %on HOSTS")


def test_a_pool_and_a_value_are_tables(shown):
    assert "<div>2 hosts <" in shown["pool"].html
    assert "<caption>/</caption>" in shown["value"].html
    assert shown["value"].text.startswith("/:\n")


def test_a_view_follows_its_job_to_the_end(shown):
    html = shown["live"].html
    assert ">FAILED<" in html
    assert "exit 3" in html
    assert "begun\n" in html
    assert '<span class="err">&lt;script&gt;</span>\n2%</pre>' in html
    assert html.count('<div class="mlepool">') == 1  # in one place
    assert "<script" not in html


def test_a_view_of_many_hosts_follows_them(shown):
    assert shown["both"].html.count(">SUCCEEDED<") == 2
    assert "2 hosts" in shown["both"].html
    assert "2 succeeded" in shown["both"].html
    assert shown["ended"].error == ""  # and no thread was left


def test_the_stop_button_ends_the_waiting_and_not_the_job(shown):
    assert "KeyboardInterrupt" in shown["interrupted"].error
    assert "goes on on gpu1: attach(" in shown["interrupted"].text
    assert shown["after"].text.startswith("RUNNING\n")
    assert shown["after"].text.endswith("'STOPPED'")
