"""Trees of files: the requests that a client's sync is made of.

They are not in the catalogue: clients offer ``sync``, ``put`` and ``get``, and make
these requests for them. Each names the session, and if it changes something, its step:
so it is done once, over however many links it is repeated.
"""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import msgspec
from msgspec import structs

from mlepool.files.aside import aside
from mlepool.files.base import (
    MAX_SIZE,
    Offer,
    Piece,
    Problem,
    Scan,
    Source,
    SourceOptions,
    TargetOptions,
    TargetReport,
)
from mlepool.files.descent import split_path
from mlepool.tree import (
    FILE,
    FOLDER,
    LINK,
    MAX_PATH,
    MAX_TIME,
    Entry,
    encode_pages,
    pack_outline,
)
from mlepool.worker.registry import Context, command as offered
from mlepool.worker.tree_session import TreeSession

__all__ = [
    "tree_close",
    "tree_commit",
    "tree_describe",
    "tree_describe_many",
    "tree_drop",
    "tree_expect",
    "tree_groups",
    "tree_holder",
    "tree_offer",
    "tree_open_source",
    "tree_open_target",
    "tree_page",
    "tree_prepare",
    "tree_read",
    "tree_read_many",
    "tree_reserve",
    "tree_scan",
    "tree_write",
]

MAX_PROBLEMS = 128 * 1024  # bytes of them in an answer; of more, how many there are
MAX_GROUPS = 25_000  # of an outline, which is in one answer: 500 KB
RULE_PAGE = 512 * 1024  # bytes: a page of a manifest has as many at most
MAX_ANSWER = 768 * 1024  # bytes of content in an answer, which is one frame
_SESSION = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

command = offered(role="sync")


@command
async def tree_open_source(
    ctx: Context, session: str, root: bytes, options: SourceOptions
) -> None:
    """Begin to read a tree."""
    await _open(ctx, _checked(session), root, options)


@command
async def tree_open_target(
    ctx: Context, session: str, root: bytes, options: TargetOptions
) -> None:
    """Begin to write a tree."""
    await _open(ctx, _checked(session), root, options)


@command
async def tree_scan(
    ctx: Context, session: str, step: int, *, outline: bool = False
) -> dict[str, Any]:
    """See what is there: the first page of its manifest, and how many there are.

    A client asks for it at once when it opens a tree, and has no answer to that yet.
    For a client that has most of it already: an outline, and no pages of it.
    """
    await ctx.trees.ready(session)
    tree = ctx.tree(session)
    facts = await tree.once(step, lambda: _scan(tree, outline=outline))
    has_pages = not facts["outline"] and tree.pages
    return {**facts, "page": tree.pages[0] if has_pages else b""}


async def _scan(tree: TreeSession, *, outline: bool) -> dict[str, Any]:
    scan = await tree.end.scan()
    tree.holder = ""
    tree.forget_listing()
    count, pages = len(scan.entries), list[bytes]()
    groups = scan.outline if outline else []
    if 0 < len(groups) <= MAX_GROUPS:
        rest = iter(scan.entries)
        tree.groups = [list(itertools.islice(rest, one.size)) for one in groups]
    else:
        groups = []
        pages = await aside(count, lambda: list(encode_pages(scan.entries)))
    rules = [] if tree.is_target else _rule_pages(scan)
    tree.pages = pages + rules
    return {
        "pages": len(pages),
        "rules": len(rules),
        "problems": _first(scan.problems),
        "exists": scan.exists,
        "outline": pack_outline(groups),
    }


def _rule_pages(scan: Scan) -> list[bytes]:
    """Give what ignore files say, as pages that come after those of the manifest."""
    data = msgspec.msgpack.encode(scan.patterns) if scan.patterns else b""
    return [data[at : at + RULE_PAGE] for at in range(0, len(data), RULE_PAGE)]


@command
async def tree_holder(ctx: Context, session: str) -> str:
    """Tell who else has the tree, while its scan waits; empty for nobody."""
    await ctx.trees.ready(session)
    return ctx.tree(session).holder


@command
async def tree_page(ctx: Context, session: str, number: int) -> bytes:
    """Give a page of the manifest, or of the rules."""
    pages = ctx.tree(session).pages
    if not 0 <= number < len(pages):
        raise ValueError(f"there is no page {number}")
    return pages[number]


@command
async def tree_groups(ctx: Context, session: str, numbers: list[int]) -> list[bytes]:
    """Give groups of the manifest, a page each: the first ones, as many as fit."""
    groups = ctx.tree(session).groups
    pages, size = list[bytes](), 0
    for number in numbers:
        if not 0 <= number < len(groups):
            raise ValueError(f"there is no group {number}")
        (page,) = encode_pages(groups[number])
        size += len(page)
        if pages and size > MAX_ANSWER:
            break
        pages.append(page)
    return pages


@command
async def tree_describe(
    ctx: Context, session: str, entry: Entry, number: int, offset: int
) -> Offer | Problem:
    """Name the chunks of a file's next part."""
    if offset < 0:
        raise ValueError(f"an offset of {offset} bytes")
    source = _source(ctx, session, [entry])
    return await source.describe(entry, number, offset=offset)


@command
async def tree_describe_many(
    ctx: Context, session: str, entries: list[tuple[int, Entry]]
) -> list[Offer | Problem]:
    """Name what small files consist of."""
    source = _source(ctx, session, [entry for _, entry in entries])
    return await source.describe_many(entries)


@command
async def tree_read(
    ctx: Context,
    session: str,
    entry: Entry,
    number: int,
    ranges: list[tuple[int, int]],
    *,
    pack: bool = True,
) -> list[Piece] | list[Problem]:
    """Read parts of a file; a problem stands alone."""
    if any(offset < 0 or length <= 0 for offset, length in ranges):
        raise ValueError("a range begins before the file, or is empty")
    _check_answer(sum(length for _, length in ranges))
    source = _source(ctx, session, [entry])
    found = await source.read(entry, number, ranges=ranges, pack=pack)
    return [found] if isinstance(found, Problem) else found


@command
async def tree_read_many(
    ctx: Context,
    session: str,
    entries: list[tuple[int, Entry]],
    *,
    pack: bool = True,
) -> list[Piece | Problem]:
    """Read small files."""
    _check_answer(sum(entry.size for _, entry in entries))
    source = _source(ctx, session, [entry for _, entry in entries])
    return await source.read_many(entries, pack=pack)


@command
async def tree_reserve(
    ctx: Context, session: str, step: int, size: int, count: int
) -> None:
    """Check that there is room."""
    if size < 0 or count < 0:
        raise ValueError(f"no tree has {count} files of {size} bytes")
    tree = ctx.tree(session)
    tree.forget_listing()
    await tree.once(step, lambda: tree.target().reserve(size, count))


@command
async def tree_expect(
    ctx: Context, session: str, step: int, first: int, entries: list[Entry]
) -> None:
    """Tell which files come."""
    if first < 0:
        raise ValueError(f"a file's number is not {first}")
    _check_entries(entries, FILE)
    tree = ctx.tree(session)
    await tree.once(step, lambda: tree.target().expect(first, entries))


@command
async def tree_offer(
    ctx: Context, session: str, step: int, offers: list[Offer]
) -> list[list[int]]:
    """Tell what files consist of; what is missing is answered."""
    tree = ctx.tree(session)
    return await tree.once(step, lambda: tree.target().offer(offers))


@command
async def tree_write(
    ctx: Context,
    session: str,
    step: int,
    pieces: list[Piece],
    *,
    offers: tuple[Offer, ...] = (),
) -> float:
    """Send what is missing; the seconds that it took here are answered."""
    tree, begin = ctx.tree(session), time.monotonic()
    await tree.once(step, lambda: tree.target().write(pieces, offers=offers))
    return time.monotonic() - begin


@command
async def tree_drop(ctx: Context, session: str, step: int, numbers: list[int]) -> None:
    """Tell which files don't come."""
    tree = ctx.tree(session)
    await tree.once(step, lambda: tree.target().drop(numbers))


@command
async def tree_prepare(
    ctx: Context,
    session: str,
    step: int,
    folders: list[Entry],
    links: list[Entry],
    touched: list[Entry],
    deleted: list[bytes],
) -> None:
    """Tell what else is to be done."""
    _check_entries(folders, FOLDER)
    _check_entries(links, LINK)
    _check_entries(touched, FILE)
    for path in deleted:
        split_path(path)
    tree = ctx.tree(session)
    await tree.once(
        step,
        lambda: tree.target().prepare(
            folders=folders, links=links, touched=touched, deleted=deleted
        ),
    )


@command
async def tree_commit(ctx: Context, session: str, digest: str = "") -> TargetReport:
    """Do it all; a repeated request gets the same report.

    The tree's digest is for the audit log, and what the client says it is.
    """
    if digest and not _DIGEST.fullmatch(digest):
        raise ValueError(f"a tree's digest is 64 hex digits, not {digest[:80]!r}")
    report = await ctx.tree(session).commit()
    return structs.replace(report, problems=_first(report.problems))


@command
async def tree_close(ctx: Context, session: str, is_success: bool) -> None:
    """Let go of a tree, and of what was not committed."""
    await ctx.trees.end(session, is_success=is_success)


async def _open(
    ctx: Context, session: str, root: bytes, options: SourceOptions | TargetOptions
) -> None:
    ends = ctx.trees.ends.confined(ctx.cwd, ctx.grant)
    await ctx.trees.open(session, root, options, ends=ends)
    ctx.tree(session)


def _first(problems: list[Problem]) -> list[Problem]:
    """Give as many problems as fit in an answer, and how many more there are."""
    size, found = 0, list[Problem]()
    for one in problems:
        text = one.text.encode("utf-8", "replace")
        size += len(one.path) + len(text) + 16
        if size > MAX_PROBLEMS:
            rest = len(problems) - len(found)
            return [*found, Problem(b"", f"and {rest} more")]
        found.append(Problem(one.path, text.decode()))
    return found


def _checked(session: str) -> str:
    if not _SESSION.fullmatch(session):
        raise ValueError(f"a session's id is 16 hex digits, not {session[:40]!r}")
    return session


def _source(ctx: Context, session: str, entries: list[Entry]) -> Source:
    _check_entries(entries, FILE)
    tree = ctx.tree(session)
    tree.forget_listing()
    return tree.source()


def _check_answer(size: int) -> None:
    if size > MAX_ANSWER:
        raise ValueError(f"{size} bytes are more than fits in an answer")


def _check_entries(entries: list[Entry], kind: str) -> None:
    """Check what the client says of files.

    Raises:
        ValueError: If there can't be such an entry.
    """
    for one in entries:
        split_path(one.path)
        target = one.target if one.kind == LINK else b"/"
        if (
            one.kind != kind
            or len(one.path) > MAX_PATH
            or not 0 <= one.mode <= 0o7777
            or not 0 <= one.size <= MAX_SIZE
            or abs(one.mtime_ns) > MAX_TIME
            or not 0 < len(target) <= MAX_PATH
            or b"\0" in target
        ):
            raise ValueError(f"there can't be such an entry: {one!r:.300}")
