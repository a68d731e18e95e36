"""A fault proxy does each harm that it says, to the byte, and nothing else."""

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import mlepool
from mlepool.testing.proxy import Cut, FaultProxy
from tests.conftest import wait_until

pytestmark = pytest.mark.real

LIMIT = 10.0  # seconds until a socket that nothing comes from fails its test
BULK = bytes(range(256)) * 4096  # 1 MiB


class Ends:
    """A proxy, and what is before and behind it."""

    def __init__(self, proxy: FaultProxy, server: socket.socket) -> None:
        self.proxy = proxy
        self.server = server
        self.opened = contextlib.ExitStack()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Connect through the proxy: the client's end, and the worker's."""
        client = self.dial()
        worker, _ = self.server.accept()
        worker.settimeout(LIMIT)
        return client, self.opened.enter_context(worker)

    def dial(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.proxy.port), LIMIT)
        return self.opened.enter_context(client)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)
        yield server


@pytest.fixture
def ends(server) -> Iterator[Ends]:
    with FaultProxy(server.getsockname()[1]) as proxy:
        ends = Ends(proxy, server)
        with ends.opened:
            yield ends


def receive(sock: socket.socket, size: int) -> bytes:
    """Take so many bytes."""
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data)) or pytest.fail(f"the end after {data!r}")
    return data


def rest(sock: socket.socket) -> bytes:
    """Take all until an orderly end."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def is_quiet(sock: socket.socket) -> bool:
    """Tell that nothing has come, neither a byte nor an end."""
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(LIMIT)
    return False


def is_read_no_more(sock: socket.socket) -> bool:
    """Send until nobody takes it."""
    sock.settimeout(0.2)
    try:
        for _ in range(100):
            sock.sendall(BULK)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(LIMIT)
    return False


# -- without a fault


def test_bytes_and_ends_pass_both_ways(ends):
    client, worker = ends.pair()
    sender = threading.Thread(target=client.sendall, args=(BULK,))
    sender.start()
    assert receive(worker, len(BULK)) == BULK
    sender.join()
    worker.sendall(b"answer")
    assert receive(client, 6) == b"answer"
    client.shutdown(socket.SHUT_WR)
    assert worker.recv(1) == b""
    worker.sendall(b"a half-closed link still answers")
    worker.close()
    assert rest(client) == b"a half-closed link still answers"
    assert ends.proxy.forwarded("to_worker") == len(BULK)
    assert ends.proxy.forwarded("to_client") == 38
    assert ends.proxy.forwarded() == len(BULK) + 38
    assert (ends.proxy.connections, ends.proxy.cuts) == (1, 0)
    client.close()
    wait_until(lambda: ends.proxy.open_connections == 0)


def test_a_reset_passes_too(ends):
    client, worker = ends.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionResetError):
        worker.recv(1)
    assert ends.proxy.cuts == 0


def test_a_worker_that_is_not_there_is_a_reset(ends):
    ends.server.close()
    with pytest.raises(ConnectionResetError):
        ends.dial().recv(1)


def test_the_worker_may_come_back_elsewhere(ends):
    client, _ = ends.pair()
    with socket.create_server(("127.0.0.1", 0)) as moved:
        ends.proxy.upstream = moved.getsockname()[1]
        ends.dial().sendall(b"hello")
        worker, _ = moved.accept()
        with worker:
            assert receive(worker, 5) == b"hello"
    assert is_quiet(client)


# -- cut and reset


@pytest.mark.parametrize("size", [1, 1000, 65536, 65537, 300_000])
def test_a_cut_comes_after_exactly_so_many_bytes(ends, size):
    client, worker = ends.pair()
    ends.proxy.cut(after_bytes=size, direction="to_client")
    client.sendall(b"not counted")
    assert receive(worker, 11) == b"not counted"
    worker.sendall(BULK[:size])
    assert rest(client) == BULK[:size]
    assert rest(worker) == b""
    assert ends.proxy.cuts == 1


def test_a_cut_loses_what_comes_after_it(ends):
    client, worker = ends.pair()
    ends.proxy.cut(after_bytes=5, direction="to_worker")
    client.sendall(b"123456789")
    assert rest(worker) == b"12345"
    assert rest(client) == b""  # in order, though the proxy has not passed all on


def test_a_cut_may_count_both_directions(ends):
    client, worker = ends.pair()
    ends.proxy.cut(after_bytes=6)
    client.sendall(b"abc")
    assert receive(worker, 3) == b"abc"
    worker.sendall(b"defg")
    assert rest(client) == b"def"


def test_a_cut_at_once_concerns_who_has_connected_and_no_later_one(ends):
    client = ends.dial()  # the proxy's thread may not have seen it yet
    ends.proxy.cut()
    assert client.recv(1) == b""
    ends.server.accept()[0].close()
    later, worker = ends.pair()
    worker.sendall(b"fine")
    assert receive(later, 4) == b"fine"
    assert (ends.proxy.connections, ends.proxy.cuts) == (2, 1)


def test_a_cut_connection_is_closed_even_if_its_ends_do_not_close(ends):
    client, worker = ends.pair()
    ends.proxy.cut()
    assert client.recv(1) == worker.recv(1) == b""
    wait_until(lambda: ends.proxy.open_connections == 0)


def test_a_reset_breaks_both_ends(ends):
    client, worker = ends.pair()
    ends.proxy.reset()
    for end in (client, worker):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    assert ends.proxy.cuts == 1


def test_a_reset_may_come_after_some_bytes(ends):
    client, worker = ends.pair()
    ends.proxy.reset(after_bytes=4, direction="to_worker")
    client.sendall(b"abc")
    assert receive(worker, 3) == b"abc"
    client.sendall(b"d")
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_schedule_says_how_each_next_connection_ends(ends):
    ends.proxy.schedule([Cut(2, "to_client"), Cut(3, reset=True), Cut(0)])
    client, worker = ends.pair()
    worker.sendall(b"abcd")
    assert rest(client) == b"ab"
    client, worker = ends.pair()
    client.sendall(b"ab")
    assert receive(worker, 2) == b"ab"
    worker.sendall(b"cd")
    with pytest.raises(ConnectionResetError):
        client.recv(1) and client.recv(1)
    client, worker = ends.pair()
    assert client.recv(1) == b""
    client, worker = ends.pair()  # none is left
    worker.sendall(b"abcd")
    assert receive(client, 4) == b"abcd"
    assert (ends.proxy.connections, ends.proxy.cuts) == (4, 3)


def test_a_schedule_may_have_no_end(ends):
    ends.proxy.schedule(Cut(size, "to_client") for size in itertools.count(1))
    for size in range(1, 20):
        client, worker = ends.pair()
        worker.sendall(BULK[:100])
        assert rest(client) == BULK[:size]


# -- stall, trickle, delay


@pytest.mark.parametrize("direction", ["to_client", "to_worker"])
def test_a_stalled_direction_forwards_nothing_and_loses_nothing(ends, direction):
    client, worker = ends.pair()
    source, sink = (client, worker) if direction == "to_worker" else (worker, client)
    ends.proxy.stall(direction)
    source.sendall(b"late")
    sink.sendall(b"the other way")
    assert receive(source, 13) == b"the other way"
    source.close()
    assert is_quiet(sink)
    assert ends.proxy.forwarded(direction) == 0
    ends.proxy.resume(direction)
    assert rest(sink) == b"late"


def test_a_stalled_proxy_reads_nothing_and_keeps_little(ends):
    client, worker = ends.pair()
    ends.proxy.stall()
    assert is_read_no_more(client)
    assert is_quiet(worker)


def test_a_stall_concerns_later_connections_too(ends):
    ends.proxy.stall()
    client, worker = ends.pair()
    client.sendall(b"late")
    assert is_quiet(worker)
    ends.proxy.resume()
    assert receive(worker, 4) == b"late"


def test_a_reader_that_stalls_is_not_read_for(ends):
    client, worker = ends.pair()
    assert is_read_no_more(client)
    assert ends.proxy.forwarded("to_client") == 0
    worker.sendall(b"the other way")
    assert receive(client, 13) == b"the other way"


def test_a_trickle_takes_its_time_and_ends_when_told(ends):
    client, worker = ends.pair()
    ends.proxy.trickle(1000, "to_client")
    worker.sendall(BULK[:100])
    began = time.monotonic()
    assert receive(client, 100) == BULK[:100]
    assert time.monotonic() - began > 0.08
    worker.sendall(BULK[:100_000])
    assert receive(client, 1) == BULK[:1]
    ends.proxy.resume()
    assert receive(client, 99_999) == BULK[1:100_000]


def test_a_delay_keeps_bytes_in_order(ends):
    client, worker = ends.pair()
    ends.proxy.delay(0.3, "to_worker")
    began = time.monotonic()
    client.sendall(b"late, ")
    worker.sendall(b"the other way")
    assert receive(client, 13) == b"the other way"
    wait_until(lambda: not is_quiet(worker))
    assert time.monotonic() - began >= 0.3
    client.sendall(b"on its way, ")
    ends.proxy.resume()
    client.sendall(b"and this")
    client.shutdown(socket.SHUT_WR)
    assert rest(worker) == b"late, on its way, and this"


@pytest.mark.parametrize("order", ["trickle", "delay"])
def test_a_speed_that_is_none_is_refused(ends, order):
    for number in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="is "):
            getattr(ends.proxy, order)(number)


def test_a_direction_that_is_none_is_refused(ends):
    for order in (ends.proxy.stall, ends.proxy.forwarded):
        with pytest.raises(ValueError, match="a direction is one of"):
            order("sideways")
    with pytest.raises(ValueError, match="a direction is one of"):
        ends.proxy.cut(direction="sideways")


# -- half-open, refused


def test_a_half_open_connection_drops_all_and_tells_nobody(ends):
    client, worker = ends.pair()
    ends.proxy.half_open()
    client.sendall(BULK)  # taken, as by a kernel that waits for a route
    client.close()
    worker.sendall(b"nobody hears it")
    later, its_worker = ends.pair()
    later.sendall(b"fine")
    assert receive(its_worker, 4) == b"fine"
    assert is_quiet(worker)
    assert ends.proxy.forwarded() == 4
    ends.proxy.resume()
    assert is_quiet(worker)
    assert ends.proxy.open_connections == 2
    worker.close()
    wait_until(lambda: ends.proxy.open_connections == 1)


def test_a_half_open_connection_can_be_ended(ends):
    client, worker = ends.pair()
    ends.proxy.half_open()
    ends.proxy.cut()
    assert (rest(client), rest(worker)) == (b"", b"")
    client, worker = ends.pair()
    ends.proxy.half_open()
    ends.proxy.reset(after_bytes=1)  # there will be none
    client.sendall(b"x")
    assert is_quiet(worker)
    ends.proxy.reset()
    for end in (client, worker):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    assert ends.proxy.cuts == 2


def test_refused_connections_and_those_there_were(ends):
    client, worker = ends.pair()
    ends.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        ends.dial()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", ends.proxy.port))  # it is still ours
    client.sendall(b"fine")
    assert receive(worker, 4) == b"fine"
    ends.proxy.accept()
    ends.proxy.accept()
    client, worker = ends.pair()
    client.sendall(b"fine")
    assert receive(worker, 4) == b"fine"
    assert ends.proxy.connections == 2


def test_connections_may_be_closed_as_soon_as_they_are_accepted(ends):
    ends.proxy.refuse(after_accept=True)
    assert ends.dial().recv(1) == b""
    assert ends.proxy.connections == 0
    ends.proxy.accept()
    ends.pair()


# -- the proxy itself


def test_closing_closes_all_and_twice_is_fine(ends):
    client, worker = ends.pair()
    ends.proxy.close()
    ends.proxy.close()
    assert client.recv(1) == worker.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        ends.dial()
    with pytest.raises(RuntimeError, match="the proxy is closed"):
        ends.proxy.stall()
    assert ends.proxy.connections == 1


def test_a_port_that_is_taken_is_an_error(server):
    with pytest.raises(OSError, match="in use"):
        FaultProxy(1, listen=server.getsockname()[1])


def test_a_worker_may_be_named_by_host_and_port(server):
    with FaultProxy(("localhost", server.getsockname()[1])) as proxy:
        assert proxy.address == f"127.0.0.1:{proxy.port}"
    with pytest.raises(OSError, match="not known|resolution"):
        FaultProxy(("no.such.host.invalid", 1))


def test_unix_sockets_are_forwarded_between_and_never_opened_to_a_port(tmp_path):
    behind, before = tmp_path / "behind", tmp_path / "before"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as near:
        server.bind(str(behind))
        server.listen()
        with pytest.raises(ValueError, match="a unix socket needs listen="):
            FaultProxy(behind)
        with FaultProxy(behind, listen=before) as proxy:
            assert (proxy.address, proxy.port) == (f"unix:{before}", 0)
            assert before.stat().st_mode & 0o777 == 0o600
            near.settimeout(LIMIT)
            near.connect(str(before))
            far, _ = server.accept()
            with far:
                proxy.cut(after_bytes=3, direction="to_client")
                far.sendall(b"abcd")
                assert rest(near) == b"abc"
            proxy.refuse()
            with (
                socket.socket(socket.AF_UNIX) as other,
                pytest.raises(ConnectionRefusedError),
            ):
                other.connect(str(before))
            proxy.accept()
    assert not before.exists()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="in use"):
        FaultProxy(1, listen=path)
    assert path.read_text() == "data"


# -- with a worker


def test_a_blocking_program_loses_its_link_and_not_its_job(worker):
    command = "echo begun; read x"
    with (
        FaultProxy(worker.port) as proxy,
        mlepool.ClientPool() as pool,
        pool.add("localhost", proxy.port) as conn,
    ):
        job = conn.run(command, stdin=True, complete=False, detach=True)
        assert job.next() == "begun"
        proxy.refuse()
        proxy.reset()
        with pool.add(f"unix:{worker.state_dir}", name="local") as local:
            again = local.attach(job.id)
            again.close_input()
            assert again.wait().stdout == "begun\n"
    assert proxy.cuts == 1


def test_a_client_of_a_unix_socket_goes_through_it(worker, tmp_path):
    upstream = worker.state_dir / "worker.sock"
    with FaultProxy(upstream, listen=tmp_path / "worker.sock") as proxy:
        with mlepool.ClientPool() as pool, pool.add(proxy.address) as conn:
            assert conn.run("echo here").stdout == "here\n"
        assert proxy.connections == 1


def test_it_works_beside_asyncio_in_one_thread(worker):
    async def main(proxy: FaultProxy) -> str:
        async with (
            asyncio.timeout(LIMIT),
            mlepool.AsyncClientPool() as pool,
            pool.add("localhost", proxy.port) as conn,
        ):
            proxy.delay(0.05)
            listener = await conn.run("echo slow")
            return str(listener.stdout)

    with FaultProxy(worker.port) as proxy:
        assert asyncio.run(main(proxy)) == "slow\n"
