"""mlepool top: once for scripts, live on a terminal."""

import json

import pytest

from tests.cli.terminals import at_terminal

pytestmark = pytest.mark.real


def test_where_it_is_piped_it_is_one_table(host, here):
    done = here("top", "-H", f"{host},localhost:1")
    assert (done.status, done.err) == (255, "")
    head, _, up, down = done.out.splitlines()
    assert head.split()[:4] == ["host", "status", "jobs", "cpu"]
    assert up.split()[0] == host
    assert up.split()[1] in {"idle", "running"}
    assert down.split()[:2] == ["localhost:1", "DOWN"]
    assert "refused" in down


def test_machines_get_an_object_for_each_host(host, here):
    done = here("top", "--json", "--once", "-H", host)
    facts = json.loads(done.out)
    assert (done.status, facts["host"], facts["problem"]) == (0, host, "")
    assert facts["memory"]["total"] > 0


def test_on_a_terminal_it_is_live_and_shows_who_is_lost(own_worker):
    host = f"localhost:{own_worker.port}"
    with at_terminal("top", "--interval", "0.1", "-H", host) as here:
        here.wait_for(r"1 host; 0 jobs run.*idle")
        own_worker.process.kill()
        here.wait_for(r"LOST.*the link is lost")
        here.type("q")
        assert here.end() == 0


def test_ctrl_c_ends_it_and_restores_the_terminal(host):
    with at_terminal("top", "-H", host) as here:
        here.wait_for("q ends it")
        here.type("\x03")
        assert here.end() == 130


def test_an_interval_must_be_one(here):
    done = here("top", "--interval", "0")
    assert (done.status, done.out) == (2, "")
    assert "give 0.1 seconds or more" in done.err
