"""What editors and type checkers are told of built-in commands, and who asks help()."""

import ast
import inspect
import pydoc
from pathlib import Path

import pytest

import mlepool
from mlepool.client.catalogue import builtin_commands
from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.options import CallOptions
from mlepool.client.tables import JobList
from mlepool.wire.messages import Outcome
from mlepool.wire.values import JobInfo
from mlepool.worker import commands
from mlepool.worker.registry import describe

SPECS = {
    name: describe(name, function)
    for name, function in commands.builtin_commands().items()
    if not name.startswith("_")
}


def declared(module):
    """Give each method's parameters: name, kind and default, by the method's name."""
    tree = ast.parse(Path(inspect.getfile(module)).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name: list(parameters(node.args))
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    }


def parameters(args):
    defaults = [None] * (len(args.args) - len(args.defaults)) + args.defaults
    for one, default in zip(args.args[1:], defaults[1:], strict=True):
        yield one.arg, "POSITIONAL_OR_KEYWORD", default and ast.unparse(default)
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield one.arg, "KEYWORD_ONLY", default and ast.unparse(default)


def test_declarations_are_those_of_the_worker():
    assert declared(builtin_commands) == {
        name: [(one.name, one.kind, one.default) for one in spec.parameters]
        for name, spec in SPECS.items()
    }


def test_the_keywords_are_those_of_calls():
    keys = builtin_commands.RunKeywords.__annotations__
    assert set(keys) == set(CallOptions.__struct_fields__)
    every = builtin_commands.CallKeywords.__annotations__
    bound = BoundCommand(SPECS["jobs"])
    assert set(every) == set(bound.signature.parameters)


def test_none_of_them_is_there_before_a_worker_offers_it():
    for kind in (mlepool.Connection, mlepool.AsyncConnection):
        assert not set(SPECS) & set(dir(kind))


@pytest.mark.parametrize("name", SPECS)
def test_help_is_whole_and_fits_a_terminal(name):
    bound = BoundCommand(SPECS[name])
    assert SPECS[name].doc.splitlines()[0].endswith((".", "?", ":"))
    assert max(map(len, bound.doc.splitlines())) <= 88
    assert "These keywords are for it:\n    complete: " in bound.doc
    documented = bound.doc.partition("Args:")[2]
    for one in SPECS[name].parameters:
        assert f"    {one.name}: " in documented, one.name
        assert one.annotation
    shown = str(bound.signature)
    assert "FilePath" not in shown
    assert ":class:" not in bound.doc
    assert shown.endswith("-> Listener")
    assert str(bound.async_signature).endswith("-> AsyncListener")


def test_help_of_a_bound_command_reads_like_a_library_s(conn):
    text = pydoc.render_doc(conn.ls, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    head, _, rest = text.partition("\n\n")
    assert head == "Python Library Documentation: function ls in module mlepool"
    assert rest.startswith("ls(src: str | bytes | os.PathLike = '.', *, ")


def test_jobs_are_printed_as_a_table(conn):
    done = conn.run("exit 3")
    lines = str(conn.jobs()).splitlines()
    assert lines[0].split() == ["id", "status", "exit", "started", "took", "command"]
    (line,) = (one for one in lines if done.id in one)
    assert line.split()[1:3] == ["FAILED", "3"]
    assert line.endswith("exit 3")
    assert isinstance(conn.jobs().value, list)
    assert done.id in conn.jobs()._repr_html_()
    assert ">FAILED<" in done._repr_html_()
    table = JobList([JobInfo("a", "x\x1b[2J", 0, 1.0, outcome=Outcome("STOPPED"))])
    assert "\x1b" not in str(table)
    assert "<table>" in table._repr_html_()
    assert str(JobList()) == "no job is known"


VERBS = ("sync", "put", "get", "transfer")


@pytest.mark.parametrize("name", VERBS)
def test_help_of_our_own_verbs_is_whole_on_both_faces(name):
    texts = []
    for kind in (mlepool.AsyncConnection, mlepool.Connection):
        method = getattr(kind, name)
        assert "'" not in str(inspect.signature(method)).partition(" = (")[0]
        text = inspect.getdoc(method) or ""
        assert ":meth:" not in text
        assert text.partition("Args:")[2].startswith("\n    s")
        texts.append(text)
    asyncs, blocking = texts
    assert set(asyncs.splitlines()) < set(blocking.splitlines())
    assert "Ctrl-C while this waits stops it" in blocking
