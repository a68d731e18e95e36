"""A user's own commands on a real worker: from the file that has them to the prompt."""

import code
import contextlib
import io
import os
import re
import rlcompleter
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.proxy import FaultProxy
from tests.cli.shell import mlepool as mlepool_command
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real

PAGE = Path(__file__).parents[1] / "docs/howto/commands.md"
SNIPPETS = dict(
    re.findall(r"<!-- ([^\n]+) -->\n```python\n(.*?)```", PAGE.read_text(), re.S)
)

# The capability that the issue asks for: ten lines.
IMAGES = '''\
from mlepool.worker import capability, command
@capability
class Images:
    """Work on pictures."""
    @command
    def resize(self, ctx, path: str, width: int = 100):
        """Make a picture smaller."""
        for step in range(1, 4):
            ctx.progress(step=step, total=3, log=f"step {step}")
            yield {"path": path, "width": width // step}
'''

SLOW = """\
import time
from mlepool.worker import command

@command
def wait(ctx, large: int = 0):
    yield "x" * large
    ctx.log("waits")
    ctx.stopped.wait(60)
    ctx.log("told")
"""


class Served:
    """A worker that reads its commands from a folder.

    Attributes:
        running: The worker.
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "commands"
        self.folder.mkdir(parents=True)
        self.write("images.py", IMAGES)
        self.write("slow.py", SLOW)
        for name, text in SNIPPETS.items():
            if name.startswith("file: "):
                self.write(name.removeprefix("file: "), text)
        files = sorted(str(path) for path in self.folder.iterdir())
        self.running = RunningWorker(
            folder / "worker",
            MLEPOOL_COMMANDS=os.pathsep.join(files),
            MLEPOOL_RELOAD="true",
        )

    def write(self, name: str, text: str) -> None:
        aside = self.folder.with_name(name)
        aside.write_text(text)
        aside.replace(self.folder / name)  # as editors do


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("custom"))
    yield one
    one.running.end()


@pytest.fixture
def conn(served) -> Iterator[mlepool.Connection]:
    port = served.running.port
    with mlepool.ClientPool() as pool, pool.add("localhost", port, name="gpu1") as conn:
        yield conn


class Prompt:
    """Python's prompt: what is typed, and what it prints."""

    def __init__(self, **names: object) -> None:
        self._console = code.InteractiveConsole(names)

    def type(self, *lines: str) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            for line in lines:
                self._console.push(line)
        return out.getvalue()


def test_a_capability_of_ten_lines_at_a_prompt(conn, served):
    assert len(IMAGES.splitlines()) == 10
    prompt = Prompt(conn=conn, rlcompleter=rlcompleter)
    assert prompt.type("conn.images") == "<capability images of gpu1: resize>\n"
    complete = "rlcompleter.Completer({'conn': conn}).complete('conn.images.r', 0)"
    assert prompt.type(complete) == "'conn.images.resize('\n"
    text = prompt.type("help(conn.images.resize)")
    assert "resize(path: str, width: int = 100, *, complete=True" in text
    assert "    Make a picture smaller." in text
    assert "Work on pictures." in prompt.type("help(conn.images)")
    text = prompt.type("conn.images.resize('a.png', width='wide')")
    assert "TypeError: images.resize(): width: expected int, got str\n" in text
    text = prompt.type("conn.images.resise('a.png')")
    assert "gpu1 has no command 'images.resise'; did you mean 'images.resize'?" in text
    prompt.type("live = conn.images.resize('a.png', complete=False)")
    assert prompt.type("list(live)") == (
        "['step 1', {'path': 'a.png', 'width': 100}, 'step 2', {'path': 'a.png', "
        "'width': 50}, 'step 3', {'path': 'a.png', 'width': 33}]\n"
    )
    shown = prompt.type("live.progress")
    assert shown == "Progress(percent=None, message='', step=3, total=3)\n"
    shown = prompt.type("live")
    assert re.match(r"<Listener 'images.resize' on gpu1: SUCCEEDED 0\.\d s", shown)


def test_stop_and_traceback_at_a_prompt(conn):
    prompt = Prompt(conn=conn)
    prompt.type("live = conn.wait(complete=False)", "live.expect('waits')")
    report = prompt.type("live.stop()")
    assert "STOPPED; stop to 1 process; nothing is left" in report
    assert prompt.type("print(*live)") == " waits told\n"
    text = prompt.type("conn.load('/nowhere', raise_error=True)")
    assert "RemoteFileNotFoundError: No such file or directory: '/nowhere'" in text
    prompt.type("failed = conn.load('/nowhere')")
    text = prompt.type("print(failed.error.traceback)")
    assert re.search(r'broken.py", line \d+, in load\n    with open\(path\)', text)
    shown = prompt.type("print(failed)")
    assert "(FileNotFoundError: No such file or directory: '/nowhere')" in shown


def test_a_new_version_is_there_at_once_and_a_broken_one_is_not(conn, served):
    tables: list[object] = []
    conn.on("catalogue", lambda _, table: tables.append(table))
    resize = conn.images.resize
    turn = IMAGES.replace("resize", "turn").replace("width: int", "angle: float")
    turn = turn.replace("width // step", "angle / step").replace('"width"', '"angle"')
    served.write("images.py", turn)
    wait_until(lambda: tables)
    assert dir(conn.images) == ["turn"]
    assert list(conn.images.turn("a.png", angle=3))[1] == {"path": "a.png", "angle": 3}
    with pytest.raises(LookupError, match="no command 'images.resize' any more"):
        resize("a.png")
    served.write("images.py", turn.replace("def turn(", "def turn[:"))
    wait_until(lambda: conn.state.get("load_errors"))
    (problem,) = conn.state["load_errors"]
    assert re.search(r"images\.py:6: SyntaxError", problem)
    assert conn.images.turn("b.png").ok
    served.write("images.py", IMAGES)
    wait_until(lambda: not conn.state["load_errors"])
    wait_until(lambda: "resize" in dir(conn.images))
    assert resize("a.png").ok
    assert "change detected" not in served.running.log


def test_who_attaches_gets_all_of_it_over_a_link_that_is_cut(served):
    with FaultProxy(served.running.port) as proxy:
        pool = mlepool.ClientPool()
        with pool, pool.add("localhost", proxy.port) as conn:
            live = conn.wait(3_000_000, complete=False)
            proxy.cut()
            assert len(live.next()) == 3_000_000
            assert live.next() == "waits"
            with pool.add("localhost", served.running.port) as other:
                again = other.attach(live.id)
                assert [len(again.next()), again.next()] == [3_000_000, "waits"]
                last = other.attach(live.id, offset=again.position)
                other.stop(live.id)
                assert list(last) == ["told"]
                assert again.next() == "told"
            assert live.wait().status == "STOPPED"


def test_time_limits_hold_as_for_runs(conn):
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.wait(timeout=0.3)
    listener = caught.value.listener
    assert (listener.status, caught.value.stopped) == ("TIMED_OUT", True)
    assert list(listener) == ["", "waits", "told"]
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.wait(timeout=0.2, on_timeout="detach")
    live = conn.attach(caught.value.listener.id, max_interval=0.2)
    assert live.status == "RUNNING"
    assert [live.next(), live.next()] == ["", "waits"]
    with pytest.raises(mlepool.ListenerTimeoutError):
        live.next()
    assert live.stop().status == "STOPPED"


def test_input_and_ownership_are_as_for_runs(conn, served):
    answers = conn.ask(["a?", "b?"], input="1\n2\n")
    assert answers.value == {"a?": "1", "b?": "2"}
    assert list(answers) == ["a?", "b?", answers.value]
    with mlepool.ClientPool().add("localhost", served.running.port) as other:
        owned = other.wait(complete=False)
        kept = other.wait(complete=False, detach=True)
    assert conn.attach(owned.id).wait().status == "STOPPED"
    assert conn.attach(kept.id).status == "RUNNING"
    assert conn.stop(kept.id).value.complete


def test_the_command_line_shows_values_as_lines(conn, served):
    done = conn.images.resize("a.png")
    shown = mlepool_command("attach", done.id, "-H", f"localhost:{served.running.port}")
    out = "".join(f"{{'path': 'a.png', 'width': {n}}}\n" for n in (100, 50, 33))
    assert shown == (0, out, "step 1\nstep 2\nstep 3\n")


@pytest.mark.parametrize(
    "name", [one for one in SNIPPETS if one.startswith("client: ")]
)
def test_the_snippets_of_the_page_run(conn, name, capsys):
    printed = {
        "client: pictures.py": ["'open a.png'", "SUCCEEDED Progress("],
        "client: talk.py": ["{'name?': 'ann', 'age?': '7'}"],
        "client: broken.py": ["No such file or directory", "in load"],
        "client: lab.py": ["<capability lab of gpu1: read>\n0.25\n", "on bench 4."],
    }
    exec(SNIPPETS[name], {"conn": conn, "mlepool": mlepool})
    out = capsys.readouterr().out
    assert [text for text in printed[name] if text not in out] == []


def test_the_program_of_the_page_runs():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SNIPPETS["program"]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "42\n")
