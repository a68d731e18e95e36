"""All custom commands of a worker: offered, replaced, set up and shut down."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlepool.worker import capability, command
from mlepool.worker.custom.command import CustomCommand
from mlepool.worker.custom.extensions import MAX_CATALOGUE, Extensions
from mlepool.worker.custom.loading import find_sources

DONE: list[str] = []


@capability
class Hooked:
    async def setup(self) -> None:
        DONE.append("setup")

    def shutdown(self) -> None:
        DONE.append("shutdown")

    @command
    def go(self) -> None:
        pass


@capability
class Failing:
    def setup(self) -> None:
        raise OSError("no device")

    def shutdown(self) -> None:
        DONE.append("not set up, but shut down")

    @command
    def go(self) -> None:
        pass


@capability(name="hooked")
class Rival:
    @command
    def come(self) -> None:
        pass


def run() -> None:
    pass


def hooked() -> None:
    pass


def fine() -> None:
    pass


def _hidden() -> None:
    pass


def named_class() -> None:
    pass


named_class.__name__ = "class"


class Custom:
    """Extensions, and what they have offered last."""

    def __init__(self, *things: Any, root: Path = Path("/")) -> None:
        self.offered: dict[str, CustomCommand] = {}
        self.errors: list[str] = []
        sources = find_sources(things, root=root)
        self.all = Extensions(sources, builtin=["run"], changed=self._changed)

    def _changed(self, commands: dict[str, CustomCommand], errors: list[str]) -> None:
        self.offered, self.errors = commands, errors


@pytest.fixture(autouse=True)
def _forget():
    DONE.clear()


def loaded(*things: Any) -> Custom:
    async def load() -> Custom:
        custom = Custom(*things)
        await custom.all.load()
        await custom.all.close()
        return custom

    return asyncio.run(load())


def test_a_capability_is_set_up_before_and_shut_down_after():
    custom = loaded(Hooked, fine)
    assert list(custom.offered) == ["hooked.go", "fine"]
    assert custom.errors == []
    assert DONE == ["setup", "shutdown"]


@pytest.mark.parametrize(
    "case",
    [
        ([run, fine], ["fine"], "run: run is a command of every worker"),
        (
            [Hooked, Rival],
            ["hooked.go"],
            "hooked.come: there is a capability hooked already, at",
        ),
        (
            [Hooked, hooked],
            ["hooked.go"],
            "hooked: there is a capability hooked already, at",
        ),
        (
            [hooked, Hooked],
            ["hooked"],
            "hooked.go: there is a command hooked already, at",
        ),
        ([fine, fine], ["fine"], "fine: there is a command fine already, at"),
        (
            [Failing, fine],
            ["fine"],
            "OSError (the worker's log says more) (in setup())",
        ),
        ([_hidden], [], "'_hidden' can't be a name"),
        ([named_class], [], "'class' can't be a name"),
        (["gone.py", fine], ["fine"], "gone.py: FileNotFoundError"),
    ],
)
def test_what_can_not_be_offered_is_said_and_the_rest_is_there(case, caplog):
    things, offered, said = case
    custom = loaded(*things)
    assert list(custom.offered) == offered
    (error,) = custom.errors
    assert said in error
    assert error.partition(" (")[0] in caplog.text
    if things[0] != "gone.py":
        assert error.startswith(f"{__file__}:")
    assert "not set up, but shut down" not in DONE


def test_a_shutdown_that_fails_is_logged_and_that_is_all(caplog):
    @capability
    class Bad:
        async def shutdown(self) -> None:
            raise OSError("it is stuck")

        @command
        def go(self) -> None:
            pass

    assert loaded(Bad, fine).errors == []
    assert "OSError: it is stuck (in shutdown())" in caplog.text


def test_what_is_loaded_while_the_worker_ends_is_shut_down():
    async def load() -> Custom:
        custom = Custom(Hooked)
        loading = asyncio.create_task(custom.all.load())
        await asyncio.sleep(0)
        await custom.all.close()
        await loading
        await custom.all.close()
        return custom

    assert not asyncio.run(load()).offered
    assert DONE == ["setup", "shutdown"]


def test_docs_that_no_frame_would_hold_are_not_offered():
    def long() -> None:
        pass

    long.__doc__ = "x" * MAX_CATALOGUE
    custom = loaded(fine, long)
    assert list(custom.offered) == ["fine"]
    assert "long: there are too many and too long docs" in custom.errors[0]


FILE = """
from mlepool.worker import capability, command
DONE = []
@command
def work() -> int:
    return {value}
@capability
class Thing:
    def shutdown(self):
        DONE.append({value})
    @command
    def go(self):
        return DONE
"""


def test_a_new_version_replaces_the_old_one_and_a_broken_one_does_not(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(value=1))

    async def replace() -> None:
        custom = Custom(path)
        await custom.all.load()
        old = custom.offered["work"]
        path.write_text("1/0")
        (error,) = await custom.all.load()
        assert (
            error == f"{path}:1: ZeroDivisionError: division by zero (kept as it was)"
        )
        assert custom.offered["work"] is old
        path.write_text(FILE.format(value=2))
        assert await custom.all.load() == []
        assert custom.offered["work"].prepare(None, {})() == 2
        assert old.prepare(None, {})() == 1
        await custom.all.close()

    asyncio.run(replace())


def test_the_old_version_is_shut_down_once_nothing_of_it_runs(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(value=1))

    async def replace() -> None:
        custom = Custom(path)
        await custom.all.load()
        old = custom.offered["thing.go"]
        done = old.prepare(None, {})()
        old.bundle.enter()
        await custom.all.load()
        assert done == []
        old.bundle.leave()
        await custom.all.close()
        assert done == [1]

    asyncio.run(replace())
