"""mlepool hosts: a table of who is known, and who answers."""

import re

import pytest

from mlepool.client.links.trust import Target, TrustStore
from tests.cli.shell import mlepool

pytestmark = pytest.mark.real


@pytest.mark.usefixtures("elsewhere")
def test_without_any_worker_it_says_how_to_get_one(here):
    assert here("hosts") == (0, "no worker is known; see 'mlepool trust'\n", "")


def test_the_table_says_who_is_up_and_who_is_down_and_why(
    join_url, elsewhere, other_worker
):
    key, gone = re.findall(r"key=([\w-]{43})", join_url)[0], "B" * 43
    for url in (join_url, f"mle://localhost:1?key={gone}&token=t"):
        TrustStore(elsewhere).add(Target.parse(url))
    done = mlepool("hosts")
    assert (done.status, done.err) == (0, "")
    head, _, *rows = done.out.splitlines()
    assert head.split() == ["host", "address", "key", "known", "state"]
    up, down = sorted(rows, key=lambda row: "down" in row)
    place = f"127.0.0.1:{other_worker.port}"
    assert up.split()[:5] == [place, place, key[:12], "trusted", "up"]
    assert down.split()[:5] == [*["localhost:1"] * 2, gone[:12], "trusted", "down"]
    assert "refused" in down


def test_no_check_connects_to_nobody(worker, here):
    before = worker.log
    done = here("hosts", "--no-check")
    assert f"localhost:{worker.port}" in done.out
    assert "not checked" in done.out
    assert worker.log == before
