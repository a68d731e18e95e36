"""Examples are run as a user would; of the docs what can be checked is checked."""

import ast
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import typer.main

import mlepool
from mlepool.cli.main import COMMANDS, make_app
from mlepool.client.options import CallOptions
from mlepool.wire import messages
from mlepool.worker.commands import builtin_commands
from mlepool.worker.registry import Registry

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
PROTOCOL = "docs/topics/protocol.md"
COMMANDS_PAGE = "docs/reference/commands.md"
MAX_LINES = 30
LIMIT = 60.0  # seconds for one example on a busy machine


real = pytest.mark.real


def run(name: str, *hosts: str) -> list[str]:
    """Run an example to its good end; the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")],
        env={**os.environ, "MLEPOOL_EXAMPLE_HOST": ",".join(hosts)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def host(worker) -> str:
    return f"localhost:{worker.port}"


@real
def test_one_host(host):
    assert run("one_host", host) == [
        "exit code 3",
        "stdout: hello from Linux",
        "stderr: oops",
    ]


@real
def test_many_hosts(host, own_worker):
    other = f"localhost:{own_worker.port}"
    assert run("many_hosts", host, other) == [
        f"{host}: SUCCEEDED, ['Linux']",
        f"{other}: SUCCEEDED, ['Linux']",
        "2 of 2 are well",
    ]


@real
def test_waves(host, own_worker):
    other = f"localhost:{own_worker.port}"
    assert run("waves", host, other) == [
        f"{host}: Linux",
        f"{other}: Linux",
        "2 hosts say ['Linux']",
        "1 failed, 1 skipped",
        f"skipped on {other}: all hosts of wave 1 had failed",
    ]


@real
def test_live_listener(host):
    lines = run("live_listener", host)
    silent = "silent for 0.4 s; the job goes on, and so do we"
    assert silent in lines[lines.index("stdout: loading") :]
    assert [line for line in lines if line != silent] == [
        "stdout: loading",
        "stderr: half of it is odd",
        "stdout: done",
        "exit code 0",
    ]


@real
def test_async_client(host):
    assert run("async_client", host) == [
        "step 1",
        "step 2",
        "step 3",
        "STOPPED with 0 survivors",
    ]


@real
def test_repl_transcript(host):
    assert run("repl_transcript", host) == ["TestResults(failed=0, attempted=9)"]


@real
def test_errors(host):
    assert run("errors", host) == [
        "not found: no-such-program",
        "exit status 3 and stderr: the disk is full",
        "too slow; stopped: True - output: started",
    ]


@real
def test_wait_in_line(start_worker):
    busy = start_worker("busy", MLEPOOL_MAX_CONCURRENT="1")
    host = f"localhost:{busy.port}"
    assert run("wait_in_line", host) == [
        "first in line: echo urgent, place 1",
        f"refused: all slots (1) are taken; waiting for one: 3 (on {host})",
        "STOPPED before it began",
        "SUCCEEDED: urgent",
        "SUCCEEDED: job 1",
    ]


@real
def test_sweep(host, own_worker):
    head, *rows, again = run("sweep", host, f"localhost:{own_worker.port}")
    assert head == "<Sweep 6 runs: 4 done, 2 failed>"
    assert rows == [
        f"{width} {depth} {'FAILED' if depth == 3 else 'SUCCEEDED'} {width * depth}"
        for width in (10, 20)
        for depth in (1, 2, 3)
    ]
    assert re.fullmatch(r"repeated: \[(2, 5|5, 2)\]", again)


@real
def test_sync_files(host):
    assert run("sync_files", host) == ["+ job.py", "42", "0 sent, 1 unchanged"]


@real
def test_metrics(host):
    first, *lines, points = run("metrics", host)
    assert re.fullmatch(r"\d+ cores, [\d.]+ % of them in use", first)
    assert [line.split(" (")[0].rstrip() for line in lines] == [
        "#loss 1 0.8",
        "#loss 2 0.7",
        "#loss 3 0.6",
    ]
    assert re.search(r"\(\d+ KiB\)$", lines[-1])
    assert points == "[(1, 0.8), (2, 0.7), (3, 0.6)]"


@real
def test_stop_a_job(host):
    *signalled, last = run("stop_a_job", host)
    found = [re.match(r"SIGTERM to pid (\d+): ", line) for line in signalled]
    # The shell and both of its children; again what became another program by then.
    assert len({one[1] for one in found if one}) == 3
    assert all(found)
    assert last == "STOPPED; survivors: 0"


@real
def test_custom_commands():
    assert run("custom_commands") == ["'at 1'", "1", "'at 2'", "4", "SUCCEEDED 100 %"]


def test_every_example_is_run_here():
    tests = Path(__file__).read_text()
    assert {path.stem for path in EXAMPLES} == set(re.findall(r'run\("(\w+)"', tests))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_shaped_like_the_others(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(tree)
    assert "main" in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


# -- the docs


def read(place: str) -> str:
    return (ROOT / place).read_text()


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_python_in_a_page_is_python(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if not block.startswith(">>>"):
            compile(block, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_readme_is_short_and_its_test_command_is_one_command():
    text = read("README.md")
    assert len(text.splitlines()) <= 150
    block = text.partition("<!-- test-command -->\n")[2].partition("\n```\n")[0]
    assert re.fullmatch(r"```sh\n.+ && .+/pytest -q -n 2 --dist worksteal", block)


def test_the_reference_has_every_public_name():
    text = read("docs/reference/api.md")
    kinds = [mlepool.ClientPool, mlepool.Connection, mlepool.Listener]
    kinds += [*mlepool.Group.__mro__, *mlepool.GroupListener.__mro__]
    ours = [kind for kind in kinds if kind.__module__.startswith("mlepool.")]
    members = {name for kind in ours for name in vars(kind) if name[0] != "_"}
    hidden = {"leave_all", "leave_alone"}  # for Ctrl-C
    names = {*mlepool.__all__, *members - hidden, *CallOptions.__struct_fields__}
    assert [one for one in sorted(names) if not re.search(rf"\b{one}\b", text)] == []


def test_the_reference_has_every_option_of_the_command_line():
    text = read("docs/reference/cli.md")
    commands = typer.main.get_command(make_app(COMMANDS)).commands  # type: ignore[attr-defined]
    actions = [
        action
        for command in commands.values()
        for action in getattr(command, "commands", {}).values()
    ]
    options = {
        option
        for command in (*commands.values(), *actions)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }
    options -= {"--check", "--help"}  # the defaults
    assert {f"## mlepool {name}" for name in commands} <= set(text.splitlines())
    assert [one for one in sorted(options) if f"`{one}" not in text] == []


def test_the_protocol_page_has_every_message_with_its_fields():
    found = re.findall(r"^\| (\d+) \| (\w+) \| \S+ \| (.*) \|$", read(PROTOCOL), re.M)
    kinds = typing.get_args(messages.Message)
    assert found == [
        (
            str(kind.__struct_config__.tag),
            kind.__name__,
            ", ".join(kind.__struct_fields__),
        )
        for kind in kinds
    ]


def test_the_protocol_page_has_the_parts_of_messages():
    text = " ".join(read(PROTOCOL).split())
    for kind in (messages.Outcome, messages.Failure, messages.Parameter):
        assert f"{', '.join(kind.__struct_fields__)}." in text
    assert ", ".join(messages.CommandSpec.__struct_fields__) in text


def test_the_reference_has_every_built_in_command_with_its_role():
    found = r"^\| `(.+?)` \| [^|]* \| `(\w+)` \|"
    rows = re.findall(found, read(COMMANDS_PAGE), re.M)
    specs = Registry(builtin_commands()).catalogue()
    assert dict(rows) == {f"{one.name}({call_of(one)})": one.role for one in specs}


def call_of(spec: messages.CommandSpec) -> str:
    """Write a command's parameters as its reference does."""
    words: list[str] = []
    for one in spec.parameters:
        if one.kind == "KEYWORD_ONLY" and "*" not in words:
            words.append("*")
        words.append(one.name if one.default is None else f"{one.name}={one.default}")
    return ", ".join(words)


def test_what_is_compared_has_its_test_or_is_said_to_be_missing():
    rows = re.findall(r"^\| .* \| (.*) \|$", read("docs/topics/compared.md"), re.M)
    cells = [one for one in rows if one not in {"Test", "---"}]
    assert len(cells) > 80
    for cell in cells:
        place, _, name = cell.strip("`").partition("::")
        if not cell.startswith("not here"):
            assert f"def {name}(" in read(f"tests/{place}"), cell
