"""Catalogues that are known already: not sent again, not read again, not mixed up."""

import asyncio

import msgspec
import pytest

import mlepool
from mlepool.client.catalogue.known import KNOWN, MOST, KnownCatalogues, offered_by
from mlepool.errors import RemoteProtocolError
from mlepool.wire.catalogue import digest_of, pack, unpack
from mlepool.wire.messages import NO_COMMANDS, CommandSpec, Parameter, Proof, Welcome
from tests.raw import RawClient, UnixWay


def packed(name: str) -> bytes:
    return pack([CommandSpec(name)]).commands


def test_a_catalogue_is_read_once():
    known = KnownCatalogues()
    first = known.take(packed("one"))
    assert list(first) == ["one"]
    assert known.take(packed("one")) is first
    assert known.latest() == {digest_of(packed("one")): first}


def test_so_many_are_kept_and_the_one_that_was_not_used_for_longest_goes():
    known = KnownCatalogues()
    for number in range(MOST):
        known.take(packed(f"c{number}"))
    assert len(known.latest()) == MOST
    known.take(packed("c0"))
    known.take(packed("new"))
    kept = [name for commands in known.latest().values() for name in commands]
    assert kept == [*(f"c{number}" for number in range(2, MOST)), "c0", "new"]


def test_what_can_t_be_used_is_not_kept():
    known = KnownCatalogues()
    wrong = CommandSpec("bad", parameters=(Parameter("class", "KEYWORD_ONLY"),))
    for bad in (b"\xc1", pack([wrong]).commands):
        with pytest.raises(RemoteProtocolError):
            known.take(bad)
    assert known.latest() == {}


def test_a_worker_may_leave_out_only_what_it_was_told_of():
    commands = KNOWN.take(packed("one"))
    digest = digest_of(packed("one"))
    left_out = Welcome(b"", catalogue=digest)
    assert offered_by(left_out, {digest: commands}) is commands
    with pytest.raises(RemoteProtocolError, match="not told of"):
        offered_by(left_out, {})  # though another worker's is here
    # Nor is it believed what its own catalogue's digest is.
    with pytest.raises(RemoteProtocolError, match="not told of"):
        offered_by(Welcome(b"", "", msgspec.Raw(packed("two")), {}, digest), {})
    assert list(KNOWN.take(packed("one"))) == ["one"]


def test_a_worker_sends_its_catalogue_to_who_does_not_have_it(worker):
    welcome = enter(worker, Proof())
    names = [one.name for one in unpack(bytes(welcome.commands))]
    assert {"run", "stop"} <= set(names)
    assert welcome.catalogue == b""
    others = (bytes(32), b"", b"x" * 1000)
    assert enter(worker, Proof(catalogues=others)).commands == welcome.commands
    digest = digest_of(bytes(welcome.commands))
    again = enter(worker, Proof(catalogues=(*others, digest)))
    assert (again.commands, again.catalogue) == (NO_COMMANDS, digest)


def enter(worker, proof: Proof) -> Welcome:
    """Come in over the worker's socket."""
    way = UnixWay(worker.state_dir)
    try:
        client = RawClient(way)
        client.greet()
        client.send(proof)
        return client.wait_for(Welcome)
    finally:
        way.close()


def test_connections_share_what_the_same_worker_offers_them(worker):
    async def work() -> None:
        async with mlepool.AsyncClientPool() as pool:
            places = (f"unix:{worker.state_dir}", f"localhost:{worker.port}")
            for name, place in zip("ab", places, strict=True):
                pool.add(place, name=name)
            await pool.connect()
            assert pool["a"].find("run") is pool["b"].find("run")
            assert pool["a"].server_methods() == pool["b"].server_methods()
            done = await pool.run("echo hello")
            assert done.succeeded == ["a", "b"]

    asyncio.run(work())
