import asyncio
import errno
import os
import re
import socket
import stat
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlepool.errors import LinkError
from mlepool.testing.links import Recorder
from mlepool.transport import accepting, unix
from mlepool.transport.base import Piece
from mlepool.transport.unix import (
    FIRST_BUFFER,
    FULL_BUFFER,
    MAX_FRAME,
    MAX_SOCKET_PATH,
    dial_unix,
    listen_unix,
    reachable,
)
from tests.needs import NOBODY, need_root
from tests.tools import (
    Accepted,
    in_real_time,
    listen_at,
    transport_of,
    unix_links,
)

LENGTH = struct.Struct(">I")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other accounts can reach."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def connect_as_nobody(path: Path) -> socket.socket:
    """Connect as another account would: the kernel looks at the effective user."""
    need_root()
    sock = socket.socket(socket.AF_UNIX)
    os.seteuid(NOBODY)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.seteuid(0)
    return sock


async def raw_client(
    path: Path,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect without the frame format, to send what no link would."""
    return await asyncio.open_unix_connection(path)


# -- where it listens


@in_real_time
async def test_only_this_account_may_open_the_socket(tmp_path):
    path = tmp_path / "socket"
    old = os.umask(0)
    try:
        acceptor = await listen_unix(path, Accepted())
    finally:
        os.umask(old)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await acceptor.close()


@in_real_time
async def test_another_account_is_kept_out_by_the_sockets_mode(open_folder):
    accepted = await listen_at(open_folder / "socket")
    with pytest.raises(PermissionError):
        connect_as_nobody(open_folder / "socket")
    assert accepted.links.empty()


@in_real_time
async def test_another_account_that_got_in_is_not_taken_for_ours(open_folder):
    accepted = await listen_at(open_folder / "socket")
    (open_folder / "socket").chmod(0o666)
    with connect_as_nobody(open_folder / "socket"):
        link = await accepted.next()
        assert not link.info.is_local
        assert link.info.address == f"pid {os.getpid()} of uid {NOBODY}"
        link.close()


@in_real_time
async def test_our_own_processes_are_vouched_for(tmp_path):
    async with unix_links(tmp_path) as pair:
        for link in (pair.dialled, pair.accepted):
            assert link.info.is_local
            assert link.info.channel == b""
            assert link.info.address == f"pid {os.getpid()} of uid {os.geteuid()}"
            link.close()


@in_real_time
async def test_without_peer_credentials_the_mode_alone_says_who_is_ours(
    tmp_path, monkeypatch
):
    monkeypatch.delattr(socket, "SO_PEERCRED")
    async with unix_links(tmp_path) as pair:
        assert pair.accepted.info.is_local
        assert pair.accepted.info.address == "a process on this machine"
        pair.dialled.close()


@pytest.mark.parametrize("extra", [-1, 0, 1, 100])
@in_real_time
async def test_a_path_may_be_longer_than_the_kernel_takes(tmp_path, extra):
    length = MAX_SOCKET_PATH + extra - len(os.fsencode(tmp_path)) - len("//socket")
    folder = tmp_path / ("d" * max(1, length))
    folder.mkdir()
    async with unix_links(folder) as pair:
        assert (folder / "socket").exists()
        assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o600
        far = Recorder()
        pair.accepted.attach(far)
        pair.dialled.send(b"hello")
        await far.until(lambda: far.frames == [b"hello"])
        pair.dialled.close()
    assert not (folder / "socket").exists()


def test_a_short_path_is_used_as_it_is(tmp_path):
    with reachable(tmp_path / "s") as name:
        assert name == str(tmp_path / "s")


def test_a_long_path_is_reached_through_its_folder(tmp_path):
    folder = tmp_path / ("d" * MAX_SOCKET_PATH)
    folder.mkdir()
    with reachable(folder / "socket") as name:
        assert len(name) < MAX_SOCKET_PATH
        assert os.path.samefile(os.path.dirname(name), folder)
    assert not os.path.exists(os.path.dirname(name))


@in_real_time
async def test_a_long_path_without_a_way_round_is_a_plain_error(tmp_path, monkeypatch):
    folder = tmp_path / ("d" * MAX_SOCKET_PATH)
    folder.mkdir()
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    with pytest.raises(LinkError, match="is over 100 bytes long"):
        await listen_unix(folder / "socket", Accepted())
    with pytest.raises(LinkError, match="is over 100 bytes long"):
        await dial_unix(folder / "socket")


@in_real_time
async def test_a_dead_workers_socket_is_replaced(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(LinkError):
        await dial_unix(path)
    async with unix_links(tmp_path) as pair:
        pair.dialled.close()


@in_real_time
async def test_links_go_on_after_the_acceptor_has_closed(tmp_path):
    accepted, far = Accepted(), Recorder()
    acceptor = await listen_unix(tmp_path / "socket", accepted)
    assert acceptor.address == f"unix:{tmp_path / 'socket'}"
    near = await dial_unix(tmp_path / "socket")
    link = await accepted.next()
    await acceptor.close()
    assert not (tmp_path / "socket").exists()
    link.attach(far)
    near.send(b"still here")
    await far.until(lambda: far.frames == [b"still here"])
    near.close()
    await far.lost()


# -- what can't be opened


@in_real_time
async def test_what_keeps_links_out_is_one_line_and_they_are_taken_later(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(accepting, "ACCEPT_PAUSE", 0.0)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(errno.EMFILE, "full")] * 5

    async def accept_at_last(listener: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", accept_at_last)
    accepted = Accepted()
    acceptor = await listen_unix(tmp_path / "socket", accepted)
    near = await dial_unix(tmp_path / "socket")
    assert await accepted.next()
    near.close()
    await acceptor.close()
    assert [one.split(":")[0] for one in caplog.messages] == [
        "cannot accept connections, who comes waits"
    ]


@in_real_time
async def test_a_link_that_is_lost_as_it_comes_is_not_the_last(
    tmp_path, caplog, monkeypatch
):
    loop = asyncio.get_running_loop()
    connect, failures = loop.connect_accepted_socket, [OSError(errno.ENOSPC, "full")]

    async def connect_at_last(*args: Any, **keywords: Any) -> Any:
        if failures:
            raise failures.pop()
        return await connect(*args, **keywords)

    monkeypatch.setattr(loop, "connect_accepted_socket", connect_at_last)
    accepted = Accepted()
    acceptor = await listen_unix(tmp_path / "socket", accepted)
    lost, near = [await dial_unix(tmp_path / "socket") for _ in range(2)]
    assert await accepted.next()
    assert accepted.links.empty()
    for one in (lost, near):
        one.close()
    await acceptor.close()
    assert caplog.messages == ["lost a local link as it came: full"]


@in_real_time
async def test_nobody_listens(tmp_path):
    for path in (tmp_path / "socket", tmp_path / "no" / "folder", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(LinkError, match=re.escape(str(path))) as caught:
            await dial_unix(path)
        assert caught.value.kind == "refused"


@in_real_time
async def test_a_folder_in_the_sockets_place_is_a_plain_error(tmp_path):
    (tmp_path / "socket").mkdir()
    with pytest.raises(LinkError, match="cannot listen on"):
        await listen_unix(tmp_path / "socket", Accepted())


@in_real_time
async def test_a_folder_that_is_not_there_is_a_plain_error(tmp_path):
    with pytest.raises(LinkError, match="cannot listen on .*No such file"):
        await listen_unix(tmp_path / "no" / "socket", Accepted())


@in_real_time
async def test_a_socket_that_may_not_be_opened_is_a_plain_error(tmp_path):
    with pytest.raises(LinkError) as caught:
        await dial_unix(tmp_path / ("n" * 300))
    assert caught.value.kind == "other"
    assert "too long" in caught.value.cause


# -- frames in pieces


@in_real_time
async def test_frames_come_whole_in_pieces_of_every_size(tmp_path):
    accepted, far = await listen_at(tmp_path / "socket"), Recorder()
    reader, writer = await raw_client(tmp_path / "socket")
    link = await accepted.next()
    link.attach(far)
    frames = [b"", b"a", b"frame" * 20]
    whole = b"".join(LENGTH.pack(len(one)) + one for one in frames)
    for size in range(1, len(whole) + 1):
        for at in range(0, len(whole), size):
            notes = far.notes
            writer.write(whole[at : at + size])
            await far.noted(notes + 1)
        assert far.frames == frames
        far.frames.clear()
    writer.close()
    await far.lost()


@in_real_time
async def test_a_part_of_a_frame_is_a_sign_of_life(tmp_path):
    accepted, far = await listen_at(tmp_path / "socket"), Recorder()
    reader, writer = await raw_client(tmp_path / "socket")
    link = await accepted.next()
    link.attach(far)
    for number, part in enumerate((b"\x00", b"\x00\x00\x05", b"par")):
        writer.write(part)
        await far.noted(number + 1)
        assert far.frames == []
    writer.write(b"ts")
    await far.until(lambda: far.frames == [b"parts"])
    writer.close()
    await far.lost()
    assert len(far.losses) == 1


@pytest.mark.parametrize("size", [FIRST_BUFFER, FULL_BUFFER, MAX_FRAME])
@in_real_time
async def test_frames_about_as_large_as_the_buffer_come_whole(tmp_path, size):
    async with unix_links(tmp_path) as pair:
        far = Recorder()
        pair.accepted.attach(far)
        sizes = [one for one in range(size - 9, size + 2) if one <= MAX_FRAME]
        for one in sizes:
            pair.dialled.send(bytes([one % 251]) * one)
        await far.until(lambda: len(far.frames) == len(sizes))
        assert far.frames == [bytes([one % 251]) * one for one in sizes]
        pair.dialled.close()


@pytest.mark.parametrize(
    ("sizes", "beats"),
    [([FIRST_BUFFER * 3], 0), ([MAX_FRAME, MAX_FRAME], 3)],
    ids=["one frame", "bulk"],
)
@in_real_time
async def test_an_idle_link_keeps_a_small_buffer(tmp_path, sizes, beats):
    async with unix_links(tmp_path) as pair:
        far = Recorder()
        pair.accepted.attach(far)
        tracemalloc.start()
        for size in (*sizes, *[10] * beats):  # bulk is over after some small frames
            pair.dialled.send(bytes(size))
            await far.until(lambda: bool(far.frames))
            far.frames.clear()
        here = [tracemalloc.Filter(True, unix.__file__)]
        held = tracemalloc.take_snapshot().filter_traces(here).statistics("filename")
        tracemalloc.stop()
        assert sum(one.size for one in held) < 2 * FIRST_BUFFER
        pair.dialled.close()


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("attached", [True, False])
@in_real_time
async def test_a_huge_announced_length_ends_the_link_at_once(
    tmp_path, length, attached
):
    accepted, far = await listen_at(tmp_path / "socket"), Recorder()
    reader, writer = await raw_client(tmp_path / "socket")
    link = await accepted.next()
    if attached:
        link.attach(far)
    writer.write(LENGTH.pack(3) + b"one" + LENGTH.pack(length) + bytes(100))
    assert await reader.read() == b""
    if not attached:
        link.attach(far)
    assert await far.lost() == f"a frame of {length} bytes was announced"
    await asyncio.sleep(0)
    assert far.frames == [b"one"]
    assert len(far.losses) == 1
    writer.close()


@in_real_time
async def test_the_other_side_may_end_in_the_middle_of_a_frame(tmp_path):
    accepted, far = await listen_at(tmp_path / "socket"), Recorder()
    reader, writer = await raw_client(tmp_path / "socket")
    (await accepted.next()).attach(far)
    writer.write(LENGTH.pack(10) + b"half")
    writer.close()
    assert await far.lost() == "the other side closed the link"
    assert far.frames == []


# -- the end


@in_real_time
async def test_closing_does_not_wait_for_who_does_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(unix, "CLOSE_LIMIT", 0.05)
    async with unix_links(tmp_path) as pair:
        near = Recorder()
        pair.dialled.attach(near)
        pair.stall()
        while not pair.dialled.is_full:
            pair.dialled.send(bytes(MAX_FRAME))
        pair.dialled.close()
        await near.lost()
        pair.accepted.close()


@in_real_time
async def test_who_only_stops_sending_is_let_go_though_it_reads_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(unix, "CLOSE_LIMIT", 0.05)
    accepted, far = await listen_at(tmp_path / "socket"), Recorder()
    reader, writer = await raw_client(tmp_path / "socket")
    link = await accepted.next()
    link.attach(far)
    while not link.is_full:
        link.send(bytes(MAX_FRAME))
    writer.write_eof()
    await far.lost()
    writer.transport.abort()


@in_real_time
async def test_a_close_that_took_its_time_is_not_aborted_afterwards(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(unix, "CLOSE_LIMIT", 0.05)
    async with unix_links(tmp_path) as pair:
        near, far = Recorder(), Recorder()
        pair.dialled.attach(near)
        pair.accepted.attach(far)
        pair.stall()
        while not pair.dialled.is_full:
            pair.dialled.send(bytes(MAX_FRAME))
        pair.dialled.close()
        pair.resume()
        await near.lost()
        with pytest.raises(TimeoutError):  # and nothing is logged meanwhile
            async with asyncio.timeout(0.1):
                await far.until(lambda: len(far.losses) > 1)


@in_real_time
async def test_nothing_is_sent_after_close_though_frames_still_wait(tmp_path):
    async with unix_links(tmp_path) as pair:
        far = Recorder()
        pair.stall()
        count = 0
        while not pair.dialled.is_full:
            pair.dialled.send(bytes(MAX_FRAME))
            count += 1
        pair.dialled.close()
        pair.dialled.send(b"too late")
        pair.dialled.send_file(b"too late", Piece(-1, 0, 0))
        pair.accepted.attach(far)
        pair.resume()
        await far.lost()
        assert far.frames == [bytes(MAX_FRAME)] * count


@in_real_time
async def test_a_broken_link_tells_its_cause(tmp_path):
    async with unix_links(tmp_path) as pair:
        near = Recorder()
        pair.dialled.attach(near)
        pair.stall()
        pair.dialled.send(b"never read")
        pair.accepted.close()
        assert "reset" in (await near.lost()).lower()
        assert transport_of(pair.dialled).is_closing()
