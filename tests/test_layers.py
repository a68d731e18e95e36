"""Imports go down only: the rules as data, and what finds who breaks them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mlepool

ROOT = Path(mlepool.__file__).parent

# Parts by level, the lowest first. A part may import what is below it, never what is
# beside it or above. A part is a module or a package directly in mlepool.
LEVELS: list[set[str]] = [
    {"errors", "version"},
    {"wire", "transport", "tree", "config", "signals"},
    {"peer", "supervisor", "files", "settings"},
    {"client", "worker", "hub"},
    {"__init__"},
    {"repl"},
    {"cli", "testing"},
    {"__main__"},
]

# Nobody imports these: testing is for tests, of ours and of others.
FOR_TESTS_ONLY = {"testing"}

# The core takes bytes and numbers, and gives bytes and messages.
CORE = "wire"
NOT_IN_THE_CORE = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "random", "secrets"),
    *("select", "selectors", "signal", "socket", "ssl", "subprocess", "threading"),
}
CLOCK = "time"
MAY_READ_THE_CLOCK = {"mlepool.wire.values"}  # the age of a running job, for people

# Each library has one home, or one part; what is not named here anyone may use.
HOMES = {
    "websockets": {"mlepool.transport.websocket"},
    "janus": {"mlepool.client.sync"},
    "redis": {"mlepool.hub.store"},
    "sqlite3": {"mlepool.hub.store", "mlepool.worker.jobs", "mlepool.files"},
    "cryptography": {
        *("mlepool.client.dask.certificates", "mlepool.worker.access.certificate"),
    },
    "dask": {"mlepool.client.dask.script"},
    "distributed": {"mlepool.client.dask.script", "mlepool.client.sync.dask"},
    "platformdirs": {"mlepool.config"},
    "tabulate": {"mlepool.client.tables"},
    "typer": {"mlepool.cli"},
    "IPython": {"mlepool.repl.interactive", "mlepool.repl.magics"},
    "traitlets": {"mlepool.repl.interactive"},
    "rich": {"mlepool.cli.bars"},
    "blake3": {"mlepool.tree", "mlepool.files"},
    "pyfastcdc": {"mlepool.files"},
    "watchfiles": {"mlepool.files.watcher", "mlepool.worker.custom.reload"},
    "psutil": {"mlepool.worker"},
    "pynvml": {"mlepool.worker"},
    "zstandard": {"mlepool.files"},
    "xxhash": {"mlepool.client", "mlepool.supervisor", "mlepool.worker"},
    "cloudpickle": {"mlepool.client.functions", "mlepool.worker.calling.script"},
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
}

# What may be missing or takes long to load, and is imported where it is needed.
OPTIONAL = {
    *("IPython", "traitlets"),  # where the prompt is to be more than Python's own
    *("dask", "distributed"),  # in the text that hosts run
    *("psutil", "pynvml", "redis", "uvloop", "watchfiles"),
    "mlepool.worker.access.certificate",  # at a worker's first start only
    "tabulate",  # when a table is printed
    "mlepool.client.html",  # when a notebook shows one
}


class Import(NamedTuple):
    """One import statement.

    Attributes:
        by: The module that imports.
        of: What it imports, as a dotted name; for ``from a import b`` it is ``a.b``.
        line: Where.
        is_inside: True within a function or class.
    """

    by: str
    of: str
    line: int
    is_inside: bool = False

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.of}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_in(source: str, by: str, *, is_package: bool = False) -> Iterator[Import]:
    """Find every import of a module, wherever in it it stands."""
    tree = ast.parse(source)
    at_top = {id(node) for node in outside_of_functions(tree)}
    base = by.split(".") if is_package else by.split(".")[:-1]
    for node in ast.walk(tree):
        inside = id(node) not in at_top
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(by, name.name, node.lineno, inside)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            prefix = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                yield Import(by, f"{prefix}.{name.name}", node.lineno, inside)


def outside_of_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            yield from outside_of_functions(node)


def read_all() -> tuple[list[Import], set[str]]:
    imports: list[Import] = []
    modules = set()
    for path in sorted(ROOT.rglob("*.py")):
        name = module_name(path)
        modules.add(name)
        is_package = path.name == "__init__.py"
        imports += imports_in(path.read_text(), name, is_package=is_package)
    return imports, modules


IMPORTS, MODULES = read_all()


def module_of(name: str) -> str | None:
    """Give the module of ours that a dotted name is in; None for others' names."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def part_of(module: str) -> str:
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] or "__init__"


def level_of(part: str) -> int:
    return next(number for number, level in enumerate(LEVELS) if part in level)


def is_within(module: str, homes: set[str]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def wrong_directions(imports: list[Import]) -> list[str]:
    wrong = []
    for one in imports:
        target = module_of(one.of)
        if target is None:
            continue
        mine, theirs = part_of(one.by), part_of(target)
        if mine != theirs and level_of(theirs) >= level_of(mine):
            wrong.append(str(one))
    return wrong


def cycles(imports: list[Import]) -> list[list[str]]:
    """Find modules that import each other, directly or by way of others."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        target = module_of(one.of)
        if target is not None and target != one.by:
            graph.setdefault(one.by, set()).add(target)
    reach = {module: reachable_from(module, graph) for module in graph}
    found = {
        tuple(
            sorted(other for other in reach[module] if module in reach.get(other, ()))
        )
        for module in graph
        if module in reach[module]
    }
    return [list(cycle) for cycle in sorted(found)]


def reachable_from(module: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


# -- the rules, upon the package


def test_every_part_has_a_level():
    parts = {part_of(module) for module in MODULES}
    assert parts <= set().union(*LEVELS)


def test_imports_go_down_only():
    assert wrong_directions(IMPORTS) == []


def test_no_modules_import_each_other():
    assert cycles(IMPORTS) == []


def test_nothing_imports_what_is_for_tests():
    found = [
        str(one)
        for one in IMPORTS
        if part_of(module_of(one.of) or "") in FOR_TESTS_ONLY
        and part_of(one.by) not in FOR_TESTS_ONLY
    ]
    assert found == []


def test_the_core_does_no_io_has_no_clock_and_no_tasks():
    core = [one for one in IMPORTS if part_of(one.by) == CORE]
    assert core
    roots = {one: one.of.partition(".")[0] for one in core}
    assert [str(one) for one, root in roots.items() if root in NOT_IN_THE_CORE] == []
    clocks = {one.by for one, root in roots.items() if root == CLOCK}
    assert clocks <= MAY_READ_THE_CLOCK


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_its_home(library):
    strays = [
        str(one)
        for one in IMPORTS
        if one.of.partition(".")[0] == library and not is_within(one.by, HOMES[library])
    ]
    assert strays == []


def test_nothing_is_imported_inside_of_functions():
    found = [
        str(one) for one in IMPORTS if one.is_inside and not is_within(one.of, OPTIONAL)
    ]
    assert found == []


# -- the rules find what breaks them


def found_in(source: str, by: str = "mlepool.wire.codec") -> list[Import]:
    return list(imports_in(source, by))


def test_imports_are_found_wherever_they_stand():
    source = """
import os, asyncio.events as events
from mlepool import errors
if True:
    try:
        from . import messages
    except ImportError:
        from ..transport.base import Link
def function():
    import socket
class Class:
    from time import monotonic
"""
    assert [(one.of, one.is_inside) for one in found_in(source)] == [
        ("os", False),
        ("asyncio.events", False),
        ("mlepool.errors", False),
        ("socket", True),
        ("time.monotonic", True),
        ("mlepool.wire.messages", False),
        ("mlepool.transport.base.Link", False),
    ]


def test_a_package_imports_relative_to_itself():
    (one,) = imports_in("from . import codec", "mlepool.wire", is_package=True)
    assert one.of == "mlepool.wire.codec"


@pytest.mark.parametrize(
    ("by", "source"),
    [
        ("mlepool.errors", "from mlepool.wire.codec import decode"),
        ("mlepool.wire.codec", "import mlepool.transport.base"),
        ("mlepool.wire.codec", "from mlepool import peer"),
        ("mlepool.client.pool", "from mlepool.worker import daemon"),
        ("mlepool.supervisor.keeper", "from mlepool.peer import Peer"),
        ("mlepool.worker.daemon", "import mlepool"),
        ("mlepool.testing.links", "from mlepool.cli import main"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(by, source):
    assert len(wrong_directions(found_in(source, by))) == 1


@pytest.mark.parametrize(
    ("by", "source"),
    [
        ("mlepool.wire.codec", "from mlepool.wire.messages import Message"),
        ("mlepool.wire.codec", "import msgspec"),
        ("mlepool.client.pool", "from mlepool.transport.base import Link"),
        ("mlepool.__main__", "from mlepool.cli import main"),
        ("mlepool", "from mlepool.client.pool import AsyncClientPool"),
    ],
)
def test_an_import_that_goes_down_is_fine(by, source):
    assert wrong_directions(found_in(source, by)) == []


def test_modules_that_import_each_other_are_found():
    imports = [
        *found_in("import mlepool.wire.messages", "mlepool.wire.codec"),
        *found_in("import mlepool.wire.window", "mlepool.wire.messages"),
        *found_in("from mlepool.wire import codec", "mlepool.wire.window"),
        *found_in("import mlepool.wire.codec", "mlepool.wire.session"),
    ]
    names = ["mlepool.wire.codec", "mlepool.wire.messages", "mlepool.wire.window"]
    assert cycles(imports) == [names]
