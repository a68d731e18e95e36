"""Sessions on a worker: of a tree that is mostly here, only the rest is asked for."""

import asyncio
from typing import Any

import pytest

from mlepool.client.files.remote_trees import RemoteSource
from mlepool.client.listening.failures import remote_error
from mlepool.errors import RemoteError, RemoteProtocolError
from mlepool.files.base import Scan, SourceOptions
from mlepool.tree import Entry, encode_pages, make_outline, pack_outline
from mlepool.wire.messages import Failure
from tests.tools import in_jumping_time
from tests.tree.trees import file, folder, tree


class Answers:
    """What a worker answers that has a tree; one group in each answer."""

    def __init__(self, entries: list[Entry], outline: bytes | None = None) -> None:
        groups = make_outline(entries)
        rest = iter(entries)
        self.groups = [[next(rest) for _ in range(one.size)] for one in groups]
        self.outline = pack_outline(groups) if outline is None else outline
        self.pages = list(encode_pages(entries))
        self.told: list[int] = []

    async def ask(self, name: str, arguments: dict[str, Any], *, size: int = 0) -> Any:
        if name == "_tree_scan" and arguments["outline"]:
            return {"pages": 0, "page": b"", "outline": self.outline}
        if name == "_tree_scan":
            return {"pages": len(self.pages), "page": self.pages[0]}
        if name == "_tree_groups":
            number = arguments["numbers"][0]
            self.told.append(number)
            return list(encode_pages(self.groups[number]))
        return None


def large_tree(**changed: Entry) -> list[Entry]:
    entries = [folder("d"), *(file(f"d/{number:05}") for number in range(2000))]
    return tree([changed.get(one.path.decode()[2:], one) for one in entries])


async def scan(answers: Answers, here: list[Entry]) -> list[Entry]:
    source = RemoteSource(answers, b"tree", SourceOptions())
    near = asyncio.ensure_future(asyncio.sleep(0, Scan(here)))
    return (await source.scan_like(near)).entries


@in_jumping_time
async def test_what_is_here_is_not_told():
    here = large_tree()
    answers = Answers(large_tree())
    found = await scan(answers, here)
    assert found == here
    assert answers.told == []
    assert all(one is other for one, other in zip(found, here, strict=True))


@in_jumping_time
async def test_of_what_differs_only_its_groups_are_told():
    there = large_tree(**{"00007": file("d/00007", 5), "01500": file("d/01500+")})
    answers = Answers(there)
    assert await scan(answers, large_tree()) == there
    assert 2 <= len(answers.told) <= 4 < len(answers.groups)


@in_jumping_time
async def test_all_is_told_to_who_has_nothing():
    answers = Answers(large_tree())
    assert await scan(answers, []) == large_tree()
    assert answers.told == [*range(len(answers.groups))]


@in_jumping_time
async def test_without_an_outline_there_are_pages():
    answers = Answers(large_tree(), b"")
    answers.pages = list(encode_pages([]))
    source = RemoteSource(answers, b"tree", SourceOptions())
    assert (await source.scan()).entries == []


@in_jumping_time
async def test_a_tree_that_is_the_same_is_the_list_that_is_here():
    here = large_tree()
    source = RemoteSource(Answers(large_tree()), b"tree", SourceOptions())
    near = asyncio.ensure_future(
        asyncio.sleep(0, Scan(here, outline=make_outline(here)))
    )
    assert (await source.scan_like(near)).entries is here


class Refusing(Answers):
    """A worker that lets nobody open a tree; the scan behind that knows none."""

    async def ask(self, name: str, arguments: dict[str, Any], *, size: int = 0) -> Any:
        if name == "_tree_scan":
            raise remote_error(Failure("UnknownSessionError"), "w")
        await asyncio.sleep(1)
        raise remote_error(Failure("PermissionError", "not there"), "w")


@in_jumping_time
async def test_what_is_wrong_with_opening_a_tree_is_said():
    source = RemoteSource(Refusing([]), b"tree", SourceOptions())
    with pytest.raises(RemoteError, match="not there"):
        await source.scan()


@pytest.mark.parametrize("break_it", ["cut", "twice"])
@in_jumping_time
async def test_an_outline_that_can_not_be_is_an_error(break_it):
    answers = Answers(large_tree())
    outline = answers.outline
    answers.outline = outline[:-1] if break_it == "cut" else outline * 2
    with pytest.raises(RemoteProtocolError):
        await scan(answers, large_tree())


@in_jumping_time
async def test_groups_that_do_not_follow_each_other_are_an_error():
    answers = Answers(large_tree())
    answers.groups = [[file("x")]] * len(answers.groups)
    with pytest.raises(RemoteProtocolError, match="out of order"):
        await scan(answers, [])
