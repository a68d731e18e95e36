"""A worker follows its file: what changes, and what a broken file leaves as it was."""

import asyncio
import os
from pathlib import Path
from typing import Any

from mlepool.settings.reading import Source
from mlepool.worker.live import LiveConfig
from mlepool.worker.rereading import LOOK_EVERY, Rereader
from mlepool.worker.state import StateBoard
from tests.tools import in_jumping_time


class Follower:
    """A rereader of a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.toml"
        source = Source({"name": "flag"}, {"MLEPOOL_STATE_DIR": str(folder)})
        self.changes: list[dict[str, Any]] = []
        self.live = LiveConfig(source.read().config)
        board = StateBoard(self.changes.append)
        self.rereader = Rereader(source, self.live, board)

    @property
    def limit(self) -> int | None:
        return self.live.config.max_concurrent


@in_jumping_time
async def test_a_file_that_changes_is_followed(tmp_path):
    one = Follower(tmp_path)
    one.rereader.open()
    for limit in (5, 6):
        one.file.write_text(f"max_concurrent = {limit}\nname = 'file'\n")
        await asyncio.sleep(1.1 * LOOK_EVERY)
        assert (one.limit, one.live.config.name) == (limit, "flag")
    new = tmp_path / "new"
    new.write_text("max_concurrent = 7\nname = 'file'\n")
    os.replace(new, one.file)
    await asyncio.sleep(1.1 * LOOK_EVERY)
    assert one.limit == 7
    one.file.unlink()
    await asyncio.sleep(1.1 * LOOK_EVERY)
    assert one.limit is None
    one.rereader.close()
    one.file.write_text("max_concurrent = 8\n")
    await asyncio.sleep(10 * LOOK_EVERY)
    assert one.limit is None
    assert one.changes == []


@in_jumping_time
async def test_a_broken_file_changes_nothing_and_is_told_until_it_is_right(
    tmp_path, caplog
):
    one = Follower(tmp_path)
    one.rereader.open()
    one.file.write_text("max_concurrent = 5\n")
    await asyncio.sleep(1.1 * LOOK_EVERY)
    one.file.write_text("sample_size = 1\nmax_concurent = 6\n")
    await asyncio.sleep(5 * LOOK_EVERY)
    what = "there is no key 'max_concurent'; did you mean 'max_concurrent'?"
    problem = f"{one.file}:2: {what}"
    assert one.limit == 5
    assert one.changes == [{"config_error": problem}]
    assert caplog.text.count(problem) == 1  # not at every look
    one.file.write_text("max_concurrent = 6\n")
    await asyncio.sleep(1.1 * LOOK_EVERY)
    assert one.limit == 6
    assert one.changes[1:] == [{"config_error": None}]
    one.rereader.close()


@in_jumping_time
async def test_an_odd_path_does_not_end_it(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    one = Follower(folder)
    one.rereader.open()
    one.file.write_text("x = 1\n")
    await asyncio.sleep(1.1 * LOOK_EVERY)
    assert "/?/config.toml:1: there is no key 'x'" in one.changes[0]["config_error"]
    one.file.write_text("max_concurrent = 5\n")
    await asyncio.sleep(1.1 * LOOK_EVERY)
    assert one.limit == 5
    one.rereader.close()


@in_jumping_time
async def test_it_is_read_again_when_asked_to_changed_or_not(tmp_path, caplog):
    one = Follower(tmp_path)
    one.file.write_text("max_concurrent = 5\nhub = 'x'\n")
    one.rereader.reread()
    one.rereader.reread()
    assert one.limit == 5
    assert caplog.text.count("the hub 'x' is only noted") == 2
