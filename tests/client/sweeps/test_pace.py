"""How long runs take, and how much hosts may hold by that."""

from mlepool.client.sweeps.pace import QUICK, RESERVE, Pace


def test_before_the_first_end_a_host_holds_what_it_has_slots_for():
    pace = Pace()
    assert pace.mean is None
    assert pace.room(3) == 3


def test_of_quick_runs_hosts_hold_some_more():
    pace = Pace()
    assert pace.note(QUICK / 2)
    assert pace.room(2) == 2 * (1 + RESERVE)
    assert not pace.note(QUICK / 2)  # as before


def test_runs_that_get_longer_end_the_reserve():
    pace = Pace()
    pace.note(QUICK / 2)
    assert pace.note(100 * QUICK)
    assert pace.room(2) == 2


def test_a_run_of_just_the_limit_is_not_quick():
    pace = Pace()
    assert not pace.note(QUICK)
    assert not pace.is_quick
