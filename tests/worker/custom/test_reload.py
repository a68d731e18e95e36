"""Files of custom commands that change while their worker serves."""

import sys
import threading
from pathlib import Path

import pytest

import mlepool
from mlepool.worker import serve_in_thread
from tests.conftest import wait_until

pytestmark = pytest.mark.real

TEXT = "from mlepool.worker import command\n@command\ndef work(): return {value}\n"


def test_what_is_saved_is_offered_and_what_is_broken_is_not(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TEXT.format(value=1))
    settings = {"state_dir": tmp_path / "state", "listen": "127.0.0.1:0"}
    with (
        serve_in_thread([path], reload=True, **settings),
        mlepool.ClientPool() as pool,
        pool.add(f"unix:{tmp_path / 'state'}") as conn,
    ):
        news = threading.Semaphore(0)
        conn.on("catalogue", lambda *_: news.release())
        assert conn.work().value == 1
        path.write_text(TEXT.format(value=2))
        assert news.acquire(timeout=10)
        assert conn.work().value == 2
        save_as_editors_do(path, "def work(:\n")
        wait_until(lambda: conn.state["load_errors"])
        assert f"{path}:1: SyntaxError" in conn.state["load_errors"][0]
        assert conn.work().value == 2
        save_as_editors_do(path, TEXT.format(value=3))
        wait_until(lambda: conn.work().value == 3)
        assert conn.state["load_errors"] == []


def save_as_editors_do(path: Path, text: str) -> None:
    beside = path.with_name("mine.py~")
    beside.write_text(text)
    beside.replace(path)


def test_a_file_that_two_use_brings_new_versions_of_both(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    helper = tmp_path / "shared_by_two.py"
    helper.write_text("VALUE = 1\n")
    for name in ("first", "second"):
        text = TEXT.replace("work()", f"{name}()").format(value="VALUE")
        (tmp_path / f"{name}.py").write_text(f"from shared_by_two import VALUE\n{text}")
    settings = {"state_dir": tmp_path / "state", "listen": "127.0.0.1:0"}
    files = [tmp_path / "first.py", tmp_path / "second.py"]
    with (
        serve_in_thread(files, reload=True, **settings),
        mlepool.ClientPool() as pool,
        pool.add(f"unix:{tmp_path / 'state'}") as conn,
    ):
        assert (conn.first().value, conn.second().value) == (1, 1)
        helper.write_text("VALUE = 2\n")
        wait_until(lambda: (conn.first().value, conn.second().value) == (2, 2))
