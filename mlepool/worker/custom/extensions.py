"""All custom commands of a worker: loaded, set up, offered, replaced, shut down."""

from __future__ import annotations

import asyncio
import inspect
import keyword
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from mlepool.worker.custom.capabilities import Part
from mlepool.worker.custom.command import Bundle, CustomCommand, UnfitError, place_of
from mlepool.worker.custom.loading import LoadError, Source, Trouble, in_words
from mlepool.worker.threads import in_thread

__all__ = ["Extensions"]

logger = logging.getLogger("mlepool.worker")

LOAD_LIMIT = 60.0  # seconds to read one source, and as many for its setup()
SHUTDOWN_LIMIT = 10.0  # seconds for a shutdown()
MAX_ERRORS = 20  # that are told; the log has all
MAX_CATALOGUE = 512 * 1024  # bytes; a client gets it, and more, in one frame


class _Loaded:
    """What one source has given.

    Attributes:
        commands: Its commands, by name, each with the place where it is written.
        bundles: What is to be retired once it is replaced.
        errors: What is wrong with it.
    """

    def __init__(self) -> None:
        self.commands: dict[str, tuple[CustomCommand, str]] = {}
        self.bundles: list[Bundle] = []
        self.errors: list[Trouble] = []


class Extensions:
    """The custom commands of a worker.

    What is wrong with some of them is logged, and kept in :attr:`errors`; the others
    are offered all the same.

    Args:
        sources: Where they come from; of two with one name the first counts.
        builtin: Names that none may have.
        changed: Called with all commands, by name, and with what clients may know of
            what is wrong, after each loading.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        builtin: Iterable[str],
        changed: Callable[[dict[str, CustomCommand], list[str]], None],
    ) -> None:
        self.sources = list(sources)
        self._builtin = frozenset(builtin)
        self._changed = changed
        self._loaded: dict[int, _Loaded] = {}  # by the source's id()
        self._ending: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._reading = asyncio.Lock()  # who forgets a module meets nobody importing it
        self._is_closed = False
        self.errors: list[str] = []

    async def load(self, sources: Iterable[Source] | None = None) -> list[str]:
        """Read sources, all by default, and offer what is in them.

        One that was read before, and is broken now, stays as it was. What runs goes on
        with the old code; its shutdown() is called after that.

        Returns:
            What is wrong with any source.
        """
        async with self._turn:
            wanted = self.sources if sources is None else list(sources)
            before = self.errors
            await asyncio.gather(*map(self._load, wanted))
            self._offer()
            for error in self.errors:
                if error not in before:
                    logger.error("%s", error)
        return self.errors

    async def close(self) -> None:
        """Shut all of it down, within a bounded time; once no command runs."""
        self._is_closed = True
        for loaded in self._loaded.values():
            _retire(loaded)
        self._loaded.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=SHUTDOWN_LIMIT)

    async def _load(self, source: Source) -> None:
        """Read one source; it takes the place of what it gave before, unless broken."""
        loaded, before = await self._read(source), self._loaded.get(id(source))
        has_former = before is not None and bool(before.commands)
        if self._is_closed or (has_former and loaded.errors):
            _retire(loaded)
            if before is not None:
                before.errors = [one.also("(kept as it was)") for one in loaded.errors]
            return
        self._loaded[id(source)] = loaded
        if before is not None:
            _retire(before)

    async def _read(self, source: Source) -> _Loaded:
        loaded = _Loaded()
        try:
            async with self._reading, asyncio.timeout(LOAD_LIMIT):
                parts = await in_thread(source.load, name=f"load {source.label}")
        except LoadError as exc:
            loaded.errors.append(exc.trouble)
            return loaded
        except TimeoutError:
            text = f"{source.label}: was not read within {LOAD_LIMIT:g} s"
            loaded.errors.append(Trouble.known(text))
            return loaded
        for part in parts:
            await self._take(part, loaded)
        return loaded

    async def _take(self, part: Part, loaded: _Loaded) -> None:
        bundle = Bundle(lambda: self._shut_down(part))
        problem = _bad_name(part.name) if part.name else ""
        if problem:
            text = f"{part.place}: capability {problem}"
            loaded.errors.append(Trouble.known(text))
            return
        found = {}
        for key, function in part.functions.items():
            name = f"{part.name}.{key}" if part.name else key
            place = place_of(function) or part.place
            try:
                if problem := _bad_name(key):
                    raise UnfitError(problem)
                command = CustomCommand(name, function, about=part.about, bundle=bundle)
                found[name] = command, place
            except UnfitError as exc:
                text = f"{place}: {name}(): {exc}"
                loaded.errors.append(Trouble.known(text))
        error = await _set_up(part)
        if error is not None:
            loaded.errors.append(error)
            return
        loaded.bundles.append(bundle)
        loaded.commands.update(found)

    def _offer(self) -> None:
        commands: dict[str, CustomCommand] = {}
        owners: dict[str, tuple[CustomCommand, str]] = {}
        errors: list[Trouble] = []
        size = 0
        for source in self.sources:
            loaded = self._loaded.get(id(source), _Loaded())
            errors += loaded.errors
            for name, found in loaded.commands.items():
                owner = owners.setdefault(name.partition(".")[0], found)
                size += len(msgspec.msgpack.encode(found[0].spec))
                problem = self._clash(name, found, owner)
                if not problem and size > MAX_CATALOGUE:
                    problem = (
                        f"{found[1]}: {name}: there are too many and too long docs"
                    )
                if problem:
                    errors.append(Trouble.known(problem))
                else:
                    commands[name] = found[0]
        self.errors = [one.text for one in errors]
        self._changed(commands, [one.shown for one in errors[:MAX_ERRORS]])

    def _clash(
        self,
        name: str,
        found: tuple[CustomCommand, str],
        owner: tuple[CustomCommand, str],
    ) -> str:
        """Say why a name is taken; empty if it is not."""
        command, place = found
        first, its_place = owner
        top = name.partition(".")[0]
        if top in self._builtin:
            return f"{place}: {name}: {top} is a command of every worker"
        if first.bundle is command.bundle:
            return ""
        kind = "capability" if "." in first.spec.name else "command"
        return f"{place}: {name}: there is a {kind} {top} already, at {its_place}"

    def _shut_down(self, part: Part) -> None:
        if part.shutdown is not None:
            work = asyncio.get_running_loop().create_task(_finish(part))
            self._ending.add(work)
            work.add_done_callback(self._ending.discard)


def _retire(loaded: _Loaded) -> None:
    for bundle in loaded.bundles:
        bundle.retire()


def _bad_name(name: str) -> str:
    is_word = name.isidentifier() and not keyword.iskeyword(name)
    if is_word and not name.startswith("_"):
        return ""
    return f"{name!r} can't be a name: clients call it conn.{name}"


async def _set_up(part: Part) -> Trouble | None:
    """Call its setup(); says what went wrong."""
    if part.setup is None:
        return None
    try:
        await _call(part.setup, LOAD_LIMIT)
    except TimeoutError:
        text = f"{part.place}: setup() did not end within {LOAD_LIMIT:g} s"
        return Trouble.known(text)
    except BaseException as exc:
        if isinstance(exc, asyncio.CancelledError):
            raise
        return in_words(exc, part.place).also("(in setup())")
    return None


async def _finish(part: Part) -> None:
    assert part.shutdown is not None
    try:
        await _call(part.shutdown, SHUTDOWN_LIMIT)
    except Exception as exc:
        # The code of others: the worker goes on, or ends, without it.
        logger.error("%s (in shutdown())", in_words(exc, part.place).text)


async def _call(hook: Callable[[], Any], limit: float) -> None:
    async with asyncio.timeout(limit):
        if inspect.iscoroutinefunction(hook):
            await hook()
            return
        result = await in_thread(hook, name="mlepool hook")
        if inspect.isawaitable(result):
            await result
