"""Ignore files, path by path beside git's own answer to the same files."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from mlepool.files.base import Problem, Scan
from mlepool.files.ignore import Rules, leave_out, pick
from mlepool.files.patterns import CLASSES, Patterns
from mlepool.files.scan import scan_tree
from mlepool.tree import FILE, FOLDER, LINK, Entry
from tests.needs import need_program

NAMES = [
    *(b"a", b"b", b"ab", b"a.b", b"foo", b"foo bar", b"x ", b"a\\b", b"[a]", b"a*"),
    *(b"!a", b"#a", b"\xff\xe9", b"caf\xc3\xa9", b"a\nb", b"A", b"a\r", b"-", b"a]"),
    *(b"~", b"a\tb", b"x?", b"abc", b"foobar", b".b", b"..b"),
]
KINDS = (FOLDER, FILE, FOLDER, LINK, FILE)


class Tree:
    """A real tree with all kinds of names in it, whose ignore files change."""

    def __init__(self, root: Path) -> None:
        self.git = need_program("git")
        self.root = os.fsencode(root)
        self.env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        self.run("init", "--quiet")
        self.entries: list[Entry] = []
        self._fill(b"", 3)
        self.entries.sort(key=lambda entry: entry.path.split(b"/"))
        self.paths = {entry.path for entry in self.entries}

    def _fill(self, folder: bytes, depth: int) -> None:
        """Put many names into the root, and fewer below, each kind in turn."""
        step = 1 if depth == 3 else 5
        for number, name in enumerate(NAMES[len(folder) % step :: step]):
            path = folder + name
            kind = KINDS[(number + len(folder)) % len(KINDS)]
            self.entries.append(self._make(path, kind))
            if kind == FOLDER and depth > 1:
                self._fill(path + b"/", depth - 1)

    def _make(self, path: bytes, kind: str) -> Entry:
        full = os.path.join(self.root, path)
        if kind == FOLDER:
            os.mkdir(full)
        elif kind == LINK:
            os.symlink(b".", full)
        else:
            os.close(os.open(full, os.O_CREAT | os.O_WRONLY))
        return Entry(path, kind, target=b"." if kind == LINK else b"")

    def run(self, *words: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [self.git, *words],
            cwd=self.root,
            input=given,
            capture_output=True,
            check=False,
            env={**os.environ, **self.env},
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def ignored(self, texts: Mapping[bytes, bytes], paths=None) -> set[bytes]:
        """Ask git what it ignores."""
        given = b"".join(path + b"\0" for path in paths or self.paths)
        files = [os.path.join(self.root, one, b".gitignore") for one in texts]
        try:
            for file, text in zip(files, texts.values(), strict=True):
                Path(os.fsdecode(file)).write_bytes(text)
            words = ("check-ignore", "--no-index", "--stdin", "-z")
            return set(self.run(*words, given=given).split(b"\0")) - {b""}
        finally:
            for file in files:
                os.unlink(file)

    def left_out(self, texts: Mapping[bytes, bytes]) -> set[bytes]:
        """See what we ignore."""
        taken = leave_out(self.entries, sorted(texts.items()))
        return self.paths - {entry.path for entry in taken}

    def compare(self, texts: Mapping[bytes, bytes]) -> set[bytes]:
        expected = self.ignored(texts)
        assert self.left_out(texts) == expected
        return expected


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Tree:
    return Tree(tmp_path_factory.mktemp("tree"))


# -- fixed patterns: those of git's manual, and those that its code has a rule for


PATTERNS = r"""
a | /a | a/ | /a/ | a/b | /a/b | a/b/ | a/* | a/** | a/**/ | **/a | **/a/ | **/a/b
a/**/b | a/**/**/b | **/a/**/b | **/** | ** | **/ | */ | * | /* | /** | /**/ | /*/ | */*
foo**bar | foo**/bar | a**/b | a/**b | a/b** | **b | a** | a*b | *b | *.b | .* | ..* | ?
?? | a? | a?b | a/? | [ab] | [!a] | [^a] | [a-c]* | [c-a] | [-] | [a-] | [-a] | [--z]
[]] | []a] | [!]] | [a | [ | [] | [!] | [!a | a[ | a[/]b | [/] | a[!x]b | a?b/ | [a]
\[a] | \[a\] | [[]a] | a\* | a\b | a\\b | x\? | \a | \!a | \#a | !a | #a | !! | !
/ | // | //a | a// | /./a | ./a | ../a | a/../b | foo bar | foo\ bar | foo\bar
[[:alpha:]] | [[:alpha:][:digit:]] | [[:foo:]] | [[:alpha] | [[:]a] | [[:a | [:alpha:]
[![:alpha:]] | [[:space:]] | a[[:space:]]b | a[[:cntrl:]]b | [[:upper:]] | [\a] | [\]]a]
[a\-z] | [[-a] | [\[-a] | [a-\c] | [a-\ | [\ | \ | a\ | \/ | a\/b | a/\b | a\/
**\/b | a**\/b | */b | a*/b | ?/b | [a-f]*/*b | *a*b* | *o*o* | */**/* | **/*/** | *\
A | ~ | - | .b | .gitignore | caf? | caf?? | caf*
"""
FIXED = [
    pattern.strip() for row in PATTERNS.split("\n") for pattern in row.split(" | ")
]


@pytest.mark.parametrize("pattern", FIXED)
def test_a_pattern_means_what_it_means_to_git(tree, pattern):
    tree.compare({b"": pattern.encode()})
    tree.compare({b"": pattern.encode() + b"/\n", b"a": b"!" + pattern.encode()})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"a\r\nb\r\n",
        b"a\r",
        b"a\r\r\n",
        b"\r\n",
        b"a\\\r\n",
        b"\xef\xbb\xbfa\nb",
        b"\xef\xbb\xbf#a\nb",
        b"b\n\xef\xbb\xbfa",
        b"x \n",
        b"x\\ \n",
        b"x\\ \\ \n",
        b"x\\  \n",
        b"x\\\\ \n",
        b"x   ",
        b" x",
        b"a\t",
        b"a\tb",
        b"# a\n #a\n",
        b"\\#a\n\\!a\n",
        b"!#a\n",
        b"a\0b\nfoo",
        b"\0a\nfoo",
        b"\xff*\n",
        b"[\xfe-\xff]\xe9",
        b"[!\xff]\xe9\n",
        b"caf\xc3?\n",
        b"*\n!a\n!a/b\n",
        b"*\n!*/\n!a*\n",
        b"a\n!a/b\n",
        b"a/*\n!a/b\n",
        b"/*\n!/a\n/a/*\n!/a/b\n",
        b"!a\na\n",
        b"a\n!a\n",
        b"a/\n!a\n",
        b"*\n!a/\n",
        b"foo*\n!foobar\n",
    ],
)
def test_lines_are_read_as_git_reads_them(tree, text):
    tree.compare({b"": text})
    tree.compare({b"": text + b"\n*b\n", b"a": text})


def test_deeper_files_are_heard_first_and_relative_to_their_folder(tree):
    tree.compare({b"": b"b\n", b"a": b"!b\n"})
    tree.compare({b"": b"!b\n", b"a": b"/b\n"})
    tree.compare({b"a": b"a/b\n/*b\nfoo\n!a\n"})
    tree.compare({b"": b"a/\n", b"a": b"!b\n!*\n"})
    folders = [one.path for one in tree.entries if one.kind == FOLDER]
    assert tree.compare({folder: b"*\n!*b\n!*/\n" for folder in folders})


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_the_same_bytes(tree, name):
    names = [b"n" + bytes((one,)) for one in range(1, 256) if one != ord("/")]
    for pattern in (b"n[[:" + name + b":]]", b"n[![:" + name + b":]]"):
        found = Patterns(pattern)
        ours = {one for one in names if found.decide(b"", one, is_folder=False)}
        assert ours == tree.ignored({b"": pattern}, names)


# -- patterns that nobody would think of


PIECES = st.sampled_from(
    [
        *(b"*", b"**", b"?", b"/", b"/", b"/", b"a", b"b", b".", b"foo", b"x", b"-"),
        *(b"[a-c]", b"[!a]", b"[^b]", b"[]", b"[", b"]", b"[a", b"[\\]]", b"[]-a]"),
        *(b"\\", b" ", b"!", b"#", b"\\ ", b"\\*", b"\\/", b"\r", b"\t", b"\0"),
        *(b"[[:alpha:]]", b"[[:space:]]", b"[[:foo:]]", b"[[:a]", b"[--z]", b"[.-0]"),
        *(b"\xff", b"\xe9", b"[\xe0-\xff]", b"**/", b"/**", b"/**/", b"*/"),
    ]
)
PATHS = st.sampled_from(NAMES + [b"a/" + one for one in NAMES])


@st.composite
def patterns(draw):
    """Make a pattern: wild, or out of a path that there is."""
    parts = draw(st.lists(PIECES, max_size=5))
    if draw(st.booleans()):
        path = draw(PATHS)
        parts.insert(draw(st.integers(0, len(parts))), path)
        at = draw(st.integers(0, len(path)))
        parts = [path[:at], *parts[:2], path[at + draw(st.integers(0, 2)) :]]
    begin = draw(st.sampled_from([b"", b"", b"", b"!", b"/", b"**/"]))
    end = draw(st.sampled_from([b"", b"", b"", b"/", b" ", b"/**", b"*", b"\r"]))
    return (begin + b"".join(parts) + end).replace(b"\n", b"")


TEXTS = st.lists(patterns(), min_size=1, max_size=6).map(b"\n".join)
FOLDERS = st.sampled_from([b"", b"", b"a", b"foo", b"a/a"])


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(FOLDERS, TEXTS, min_size=1, max_size=3))
def test_any_files_mean_what_they_mean_to_git(tree, texts):
    there = {b""} | {one.path for one in tree.entries if one.kind == FOLDER}
    tree.compare({one: text for one, text in texts.items() if one in there})


@given(st.binary(max_size=60))
def test_any_bytes_are_patterns(text):
    rules = Rules()
    rules.add(text)
    rules.enter(b"a").hides(b"b", is_folder=False)


@pytest.mark.parametrize("pattern", [b"*a" * 40 + b"b", b"**/a/" * 40 + b"b"])
def test_no_pattern_takes_for_ever(pattern):
    found = Patterns(pattern)
    assert not found.decide(b"a/" * 2000, b"a" * 255, is_folder=False)
    assert not found.decide(b"", b"a" * 255, is_folder=True)
    assert found.decide(b"a/" * 2000, b"a" * 250 + b"b", is_folder=False) is (
        True if pattern.startswith(b"*a") else None
    )


# -- exclude, and whole trees


def listed_by_git(tree: Tree, exclude) -> set[bytes]:
    """Give files and links that git would add, if it were not for .gitignore's own."""
    words = [f"--exclude={pattern}" for pattern in exclude]
    words += ["--exclude-per-directory=.gitignore", "--others", "-z"]
    return set(tree.run("ls-files", *words).split(b"\0")) - {b""}


@pytest.mark.parametrize(
    "exclude",
    [
        ["a"],
        ["/a/", "*b"],
        ["!foo", "!a/"],
        ["a/**/b", "!*"],
        [".gitignore"],
        ["!*"],
        ["*", "!*/", "!?"],
    ],
)
def test_exclude_has_the_last_word_in_a_scan(tree, exclude):
    files = {b"": b"foo\nb\n*.b\n", b"a": b"!b\n/a*\n"}
    written = [Path(os.fsdecode(tree.root), os.fsdecode(one)) for one in files]
    try:
        for folder, text in zip(written, files.values(), strict=True):
            (folder / ".gitignore").write_bytes(text)
        fd = os.open(tree.root, os.O_RDONLY)
        found = scan_tree(fd, exclude=[*exclude, "/.git/"])
        os.close(fd)
        ours = {one.path for one in found.entries if one.kind != FOLDER}
        assert ours == listed_by_git(tree, exclude)
    finally:
        for folder in written:
            (folder / ".gitignore").unlink()


def test_exclude_may_name_what_is_not_utf_8():
    rules = Rules([os.fsdecode(b"\xff*")])
    assert rules.hides(b"\xffa", is_folder=False)
    assert not rules.hides(b"a", is_folder=False)


# -- rules of one tree upon another


def entries(*paths: str) -> Iterator[Entry]:
    for path in paths:
        kind = FOLDER if path.endswith("/") else FILE
        yield Entry(path.rstrip("/").encode(), kind)


def test_what_another_tree_ignores_is_dropped_and_its_folder_knows():
    target = [*entries("a/", "a/build/", "a/build/x", "a/x.o", "a/y", "b/", "z.o")]
    kept = leave_out(target, [(b"", b"*.o\n"), (b"a", b"/build/\n")])
    assert kept == [Entry(b"a", FOLDER, size=2), *entries("a/y", "b/")]


def test_without_rules_all_is_kept():
    target = [*entries("a/", "a/b")]
    assert leave_out(target, []) == target
    assert leave_out(target, [(b"gone", b"*\n")]) == target


def test_exclude_is_heard_before_another_trees_files():
    target = [*entries("a", "b")]
    assert leave_out(target, [(b"", b"*\n")], exclude=["!a"]) == [*entries("a")]


@pytest.mark.parametrize(
    ("include", "picked"),
    [
        (["out/**"], [b"out", b"out/a", b"out/deep", b"out/deep/b.o"]),
        (["out"], [b"out", b"out/a", b"out/deep", b"out/deep/b.o"]),
        (["*.o"], [b"c.o", b"out", b"out/deep", b"out/deep/b.o"]),
        (["/c.o", "out/a"], [b"c.o", b"out", b"out/a"]),
        (["*.o", "!c.o"], [b"out", b"out/deep", b"out/deep/b.o"]),
        (["nothing"], []),
    ],
)
def test_what_patterns_pick_comes_with_the_folders_on_the_way(include, picked):
    tree = [
        Entry(b"c.o", FILE),
        Entry(b"out", FOLDER),
        Entry(b"out/a", FILE),
        Entry(b"out/deep", FOLDER),
        Entry(b"out/deep/b.o", FILE),
        Entry(b"src", FOLDER),
        Entry(b"src/a", FILE),
    ]
    assert [one.path for one in pick(Scan(tree, []), include).entries] == picked


@pytest.mark.parametrize(
    ("include", "left"),
    [
        (["out/**"], [b"locked", b"out/socket"]),
        (["out/*.o"], [b"locked"]),
        (["socket"], [b"locked", b"out/socket", b"socket", b"src/socket"]),
        (["/socket", "lock*"], [b"locked", b"socket"]),
        (["none"], [b"locked"]),
    ],
)
def test_problems_of_what_is_not_picked_are_none_but_folders_that_are_closed(
    include, left
):
    tree = [Entry(one, FOLDER) for one in (b"locked", b"out", b"src")]
    places = [b"locked", b"out/socket", b"socket", b"src/socket"]
    picked = pick(Scan(tree, [Problem(one, "why") for one in places]), include)
    assert [one.path for one in picked.problems] == left
