"""Loading of custom commands: from real files, modules and installed packages."""

import importlib
import sys
from pathlib import Path

import pytest

from mlepool.worker.custom.loading import OUR_PREFIX, LoadError, find_sources

COMMAND = "from mlepool.worker import command\n@command\ndef {name}() -> int:\n"


def write(path: Path, name: str = "work", body: str = "    return 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(COMMAND.format(name=name) + body)
    return path


def source(path: Path | str, root: Path = Path("/")):
    """Give what one path or name stands for."""
    return find_sources([path], root=root)[0]


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """A folder that modules are imported from; they are gone after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(path: Path | str):
    (part,) = source(path).load()
    return part


def test_a_file_is_read_anew_each_time_however_soon(tmp_path):
    path = write(tmp_path / "mine.py")
    assert load(path).functions["work"]() == 1
    old = load(path).functions["work"]
    write(path, body="    return 2\n")
    assert load(path).functions["work"]() == 2
    assert old() == 1


def test_a_relative_path_counts_from_the_root_and_modules_have_no_slash(tmp_path):
    write(tmp_path / "sub/mine.py")
    found = source("sub/mine.py", root=tmp_path)
    assert found.files() == [tmp_path / "sub/mine.py"]
    assert source("package.module").label == "package.module"


def test_annotations_of_its_own_dataclasses_are_found(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from mlepool.worker import command\n"
        "@dataclasses.dataclass\n"
        "class Box:\n"
        "    size: list[Size]\n"
        "Size = int\n"
        "@command\n"
        "def work(box: Box) -> None: ...\n"
    )
    assert "work" in load(path).functions


def test_a_module_is_imported_anew_with_what_is_in_its_package(importable):
    write(importable / "pack/__init__.py")
    (importable / "pack/__init__.py").write_text("from pack.inner import work\n")
    write(importable / "pack/inner.py")
    found = source("pack")
    (part,) = found.load()
    old = part.functions["work"]
    assert [one.name for one in found.files()] == ["__init__.py", "inner.py"]
    write(importable / "pack/inner.py", body="    return 22\n")
    (part,) = found.load()
    assert (part.functions["work"](), old()) == (22, 1)


def test_an_object_in_a_module_can_be_named(importable):
    write(importable / "single.py", name="other")
    assert list(load("single:other").functions) == ["other"]


def test_installed_packages_offer_theirs_by_entry_points(importable):
    write(importable / "acme.py")
    info = importable / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mlepool.commands]\ntools = acme\n")
    (found,) = find_sources([], root=importable)
    (part,) = found.load()
    assert (part.name, list(part.functions)) == ("tools", ["work"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nraise ValueError('no')\n", "mine.py:2: ValueError: no"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: SystemExit: 3"),
        ("x = (\n", "mine.py:1: SyntaxError: '.' was never closed"),
        ("def f():\n    1/0\nf()\n", "mine.py:2: ZeroDivisionError"),
        ("import nothing_there\n", "mine.py:1: ModuleNotFoundError"),
        ("x = 1\n", "mine.py: nothing in it is marked with"),
        ("\0", "mine.py: .*null bytes"),
        ("import json\njson.loads('{')\n", "mine.py:2: JSONDecodeError"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)
    before = set(sys.modules)
    with pytest.raises(LoadError, match=said):
        source(path).load()
    assert {one for one in sys.modules if "mine" in one} <= before


def test_what_an_exception_says_is_not_for_clients(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise KeyError('hunter2')\n")
    with pytest.raises(LoadError, match="KeyError: 'hunter2'") as caught:
        source(path).load()
    shown = f"{path}:1: KeyError (the worker's log says more)"
    assert caught.value.trouble.shown == shown
    path.write_text("import nothing_there\n")
    with pytest.raises(LoadError) as caught:
        source(path).load()
    assert caught.value.trouble.shown == str(caught.value)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(LoadError, match=r"gone\.py: FileNotFoundError"):
        source(tmp_path / "gone.py").load()
    with pytest.raises(LoadError, match="no_module_of_this: ModuleNotFoundError"):
        source("no_module_of_this").load()
    with pytest.raises(LoadError, match="json:nothing: AttributeError"):
        source("json:nothing").load()


def test_a_broken_module_leaves_the_former_one_in_place(importable):
    write(importable / "single.py")
    found = source("single")
    found.load()
    before = sys.modules["single"]
    (importable / "single.py").write_text("raise KeyError('x')\n")
    with pytest.raises(LoadError, match=r"single\.py:1: KeyError"):
        found.load()
    assert sys.modules["single"] is before


def test_a_module_that_the_program_has_imported_is_not_imported_twice(importable):
    write(importable / "single.py")
    module = importlib.import_module("single")
    assert load("single").functions["work"] is module.work


@pytest.fixture
def beside(importable, monkeypatch):
    """A folder that nobody imports from but the files in it."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    folder = importable / "beside"
    write(folder / "mine.py").write_text("from helper import work\n")
    write(folder / "helper.py")
    return folder


def test_what_is_beside_a_file_is_imported_and_read_anew_with_it(beside):
    found = source(beside / "mine.py")
    (part,) = found.load()
    assert [one.name for one in found.files()] == ["mine.py", "helper.py"]
    write(beside / "helper.py", body="    return 2\n")
    (again,) = found.load()
    assert (again.functions["work"](), part.functions["work"]()) == (2, 1)
    former = sys.modules["helper"]
    (beside / "helper.py").write_text("work = 1/0\n")
    with pytest.raises(LoadError, match=r"helper\.py:1: ZeroDivisionError"):
        found.load()
    assert sys.modules["helper"] is former


def test_what_two_files_import_belongs_to_both_though_one_has_brought_it(beside):
    (beside / "other.py").write_text("from helper import work\n")
    both = [source(beside / name) for name in ("mine.py", "other.py")]
    for found in both:
        found.load()
    assert [found.files()[1:] for found in both] == [[beside / "helper.py"]] * 2
    write(beside / "helper.py", body="    return 2\n")
    values = [found.load()[0].functions["work"]() for found in reversed(both)]
    assert values == [2, 2]
    former = sys.modules["helper"]
    write(beside / "other.py")  # it imports nothing now
    both[1].load()
    assert sys.modules["helper"] is former


def test_what_a_broken_file_has_imported_is_forgotten(beside):
    (beside / "mine.py").write_text("import helper\n1/0\n")
    with pytest.raises(LoadError, match=r"mine\.py:2: ZeroDivisionError"):
        source(beside / "mine.py").load()
    assert "helper" not in sys.modules


def test_a_file_that_is_read_at_the_same_time_is_not_beside(beside):
    two, name = beside / "two.py", f"{OUR_PREFIX}two"
    # What another thread does meanwhile.
    (beside / "one.py").write_text(
        "import sys, types\n"
        f"other = sys.modules[{name!r}] = types.ModuleType({name!r})\n"
        f"other.__file__ = {str(two)!r}\n"
        "from helper import work\n"
    )
    one = source(beside / "one.py")
    one.load()
    del sys.modules[name]
    assert [path.name for path in one.files()] == ["one.py", "helper.py"]
