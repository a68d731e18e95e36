"""Every link keeps the same contract, whichever way it moves frames."""

import asyncio
import functools

import pytest

from mlepool.testing.contracts import LINK_CONTRACTS, LinkContract, OpenPair
from mlepool.testing.loop import run
from mlepool.transport import unix, websocket
from mlepool.transport.base import LinkInfo
from mlepool.wire import codec
from tests.tools import memory_links, turned_round, unix_links, websocket_links

both_ways_round = pytest.mark.parametrize("turned", [False, True])
each_contract = pytest.mark.parametrize(
    "contract", LINK_CONTRACTS, ids=lambda contract: contract.__name__
)


@pytest.fixture(autouse=True)
def nothing_is_warned_of(caplog):
    """Links in order give asyncio and us nothing to warn of."""
    yield
    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]


def keeps(contract: LinkContract, open_pair: OpenPair, *, turned: bool) -> None:
    """Try a contract with real links, from one end or from the other."""
    if turned:
        open_pair = functools.partial(turned_round, open_pair)
    asyncio.run(contract(open_pair))


@each_contract
def test_a_link_in_memory_keeps_the_contract(contract):
    run(contract(memory_links))


@both_ways_round
@each_contract
def test_a_unix_link_keeps_the_contract(contract, tmp_path, *, turned):
    keeps(contract, functools.partial(unix_links, tmp_path), turned=turned)


@both_ways_round
@each_contract
def test_a_plain_websocket_link_keeps_the_contract(contract, *, turned):
    keeps(contract, functools.partial(websocket_links, None), turned=turned)


@both_ways_round
@each_contract
def test_a_websocket_link_with_tls_keeps_the_contract(contract, identity, *, turned):
    keeps(contract, functools.partial(websocket_links, identity), turned=turned)


@each_contract
@pytest.mark.parametrize("kind", ["unix", "plain", "tls"])
def test_links_keep_the_contract_in_uvloops_loop_too(
    contract, tmp_path, identity, *, kind
):
    uvloop = pytest.importorskip("uvloop", reason="uvloop is an option")
    open_pair: OpenPair = {
        "unix": functools.partial(unix_links, tmp_path),
        "plain": functools.partial(websocket_links, None),
        "tls": functools.partial(websocket_links, identity),
    }[kind]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(contract(open_pair))


def test_all_links_and_the_codec_have_one_limit():
    assert unix.MAX_FRAME == websocket.MAX_FRAME == codec.MAX_FRAME


def test_nothing_is_known_of_the_other_end_at_first():
    assert LinkInfo() == LinkInfo(address="", channel=b"", is_local=False)
