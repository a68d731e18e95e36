"""Where things stand: modules say what they offer, files stay short, tests mirror."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import mlepool

PACKAGE = Path(mlepool.__file__).parent
TESTS = Path(__file__).parent
MAX_LINES = 600

# Tests of no single module: of the tree, of the examples, of a part as a whole.
OF_THE_WHOLE = {
    "test_bad_calls.py": "what users mistype, and output that is much or odd",
    "test_bad_input.py": "what no honest client says",
    "test_coming_from.py": "what a page says of other tools' calls, row by row",
    "test_compared.py": "what others have buttons for, by calls of ours",
    "test_custom_commands.py": "a user's own commands, from their file to the prompt",
    "test_builtin_commands.py": "the built-in commands, on a real worker",
    "test_examples.py": "runs examples/",
    "test_functions.py": "the pool as an executor: functions, called on workers",
    "test_guides.py": "runs what guides in docs/howto show",
    "test_guides_hosts.py": "the same, and of the README: hosts, queues, terminals",
    "test_guides_operations.py": "the same: prompts, metrics, tokens, the reference",
    "test_guides_services.py": "the same: services, settings, faults",
    "test_guides_start.py": "the same, of the tutorial and of pages that start workers",
    "test_layers.py": "import directions",
    "test_rollout.py": "runs the example of a whole rollout",
    "test_limits.py": "quotas, full disks and jobs of the past, on real workers",
    "test_layout.py": "this",
    "test_outlive_links.py": "jobs whose links are cut and whose worker is killed",
    "test_queue.py": "many runs on few slots, and killed workers",
    "test_run.py": "client, worker and supervisor together, through the public names",
    "test_stops.py": "stops and causes of death, on real workers and processes",
    "test_sync.py": "syncs with real workers, whole and broken",
    "test_roles.py": "what tokens let their owners do, on a real worker",
    "test_sweeps.py": "sweeps over workers that are killed, by clients that are, too",
    "test_telemetry.py": "metrics and points of a real worker, which is killed",
    "test_security.py": "what strangers and impostors get, from real workers",
    "test_sync_attacks.py": "hostile names, links and numbers of trees",
    "test_sync_kills.py": "syncs whose client or worker is killed",
    "test_sync_oddities.py": "syncs of paths, names and times that nobody means",
    "test_sync_runs.py": "runs that sync before and collect after",
    "test_sync_whole.py": "random trees over random cuts, against diff and rsync",
    "repl/test_notebook.py": "a notebook, run by a kernel of its own",
    "supervisor/test_durability.py": "what a slow disk delays, and what it does not",
    "supervisor/test_upgrade.py": "workers and supervisors of different releases",
    "client/test_faces.py": "compares the async and the blocking face",
    "client/test_reconnect.py": "connections and listeners whose links break",
}

# Modules that nobody imports names from.
WITHOUT_ALL = {
    "cli/ngram.py": "a script that the demo sends to workers: it is run",
    "version.py": "one constant; the build reads it as text",
}

# Every module here has a test file of its own name.
COMPLETE = ("wire", "transport", "testing")

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")
PYTHON_FILES = sorted([*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")])
TEST_FILES = sorted(TESTS.rglob("test_*.py"))


def of_package(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def of_tests(path: Path) -> str:
    return str(path.relative_to(TESTS))


def named_in_all(path: Path) -> list[str] | None:
    """Give a module's __all__ without importing it; None if it has none."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            try:
                names: list[str] = ast.literal_eval(node.value)
            except ValueError:
                return []  # made at import: test_imports checks it
            return names
    return None


def imports_only(path: Path) -> bool:
    """Tell if a file defines nothing: a package's __init__ with a docstring."""
    kinds = (ast.Expr, ast.Import, ast.ImportFrom)
    return all(isinstance(node, kinds) for node in ast.parse(path.read_text()).body)


@pytest.mark.parametrize("path", MODULES, ids=of_package)
def test_a_module_says_what_it_offers(path):
    names = named_in_all(path)
    if names is None:
        nothing = path.name == "__init__.py" and imports_only(path)
        assert nothing or of_package(path) in WITHOUT_ALL
        return
    assert names == sorted(set(names), key=as_ruff_sorts), "not in order, or twice"


def as_ruff_sorts(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff's RUF022 has it."""
    if name.isupper():
        return 0, name
    return (1, name) if name[:1].isupper() else (2, name)


def test_what_a_module_offers_is_there():
    for info in pkgutil.walk_packages(mlepool.__path__, "mlepool."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            for name in getattr(module, "__all__", ()):
                assert hasattr(module, name), f"{info.name} has no {name}"


@pytest.mark.parametrize("path", MODULES, ids=of_package)
def test_a_module_begins_by_saying_what_it_is(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text
    assert text.splitlines()[0].endswith((".", "?"))


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: path.name)
def test_a_file_is_not_too_long(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", TEST_FILES, ids=of_tests)
def test_a_test_file_mirrors_a_module(path):
    if of_tests(path) not in OF_THE_WHOLE:
        assert mirrored(path), f"no module is tested by {of_tests(path)}"


def mirrored(path: Path) -> bool:
    """Find the module: test_codec_fuzz.py may be about codec.py, too."""
    folder = PACKAGE / path.parent.relative_to(TESTS)
    words = path.stem.removeprefix("test_").split("_")
    names = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
    found = [one for one in names if (folder / f"{one}.py").is_file()]
    return bool(found) or any((folder / one).is_dir() for one in names)


@pytest.mark.parametrize(
    "path",
    [path for part in COMPLETE for path in (PACKAGE / part).rglob("[!_]*.py")],
    ids=of_package,
)
def test_a_module_has_a_test_file(path):
    folder = TESTS / path.parent.relative_to(PACKAGE)
    assert (folder / f"test_{path.name}").is_file()


def test_exceptions_to_the_mirror_are_needed():
    for name in OF_THE_WHOLE:
        path = TESTS / name
        assert not path.is_file() or not mirrored(path)


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "common", "manager", "misc", "base_utils"}
    assert not [path for path in MODULES if path.stem in vague]


def test_the_package_carries_its_types():
    assert (PACKAGE / "py.typed").is_file()
