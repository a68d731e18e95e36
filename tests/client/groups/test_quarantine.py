"""Who is left out, and for how long: faults and times in, standings out."""

from mlepool.client.groups.quarantine import (
    FIRST_PAUSE,
    MAX_PAUSE,
    STRIKES,
    Quarantine,
    Standing,
)


def struck(quarantine: Quarantine, count: int, now: float = 0.0) -> None:
    for _ in range(count):
        quarantine.fault("gpu1", "it fell", now=now)


def test_faults_in_a_row_lead_out_and_time_leads_to_a_proof():
    one = Quarantine()
    struck(one, STRIKES - 1)
    assert one.standing("gpu1", now=0.0) is Standing.GOOD
    assert one.names() == []
    assert one.fault("gpu1", "it fell again", now=5.0) == (
        "it fell again",
        5.0 + FIRST_PAUSE,
    )
    assert one.names() == ["gpu1"]
    assert one.standing("gpu1", now=5.0) is Standing.OUT
    assert one.standing("gpu1", now=4.9 + FIRST_PAUSE) is Standing.OUT
    assert one.standing("gpu1", now=5.0 + FIRST_PAUSE) is Standing.DUE
    assert one.standing("gpu2", now=5.0) is Standing.GOOD


def test_a_good_end_between_two_faults_begins_anew():
    one = Quarantine()
    for _ in range(5):
        struck(one, STRIKES - 1)
        one.good("gpu1")
    assert one.names() == []


def test_who_fails_the_proof_is_left_out_for_twice_as_long_up_to_an_hour():
    one, now, pauses = Quarantine(), 0.0, []
    struck(one, STRIKES - 1)
    for _ in range(10):
        stay = one.fault("gpu1", "gone", now=now)
        assert stay is not None
        pauses.append(stay.until - now)
        now = stay.until
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == MAX_PAUSE


def test_faults_that_come_in_late_change_nothing():
    one = Quarantine()
    struck(one, STRIKES + 5)
    stay = one.stay("gpu1")
    assert stay is not None
    assert stay.until == FIRST_PAUSE


def test_who_has_proved_itself_is_back_and_watched():
    one = Quarantine()
    struck(one, STRIKES)
    assert one.proved("gpu1")
    assert not one.proved("gpu1")
    assert one.standing("gpu1", now=0.0) is Standing.GOOD
    stay = one.fault("gpu1", "and again", now=100.0)
    assert stay is not None
    assert stay.until == 100.0 + 2 * FIRST_PAUSE
    assert one.proved("gpu1")
    one.good("gpu1")
    struck(one, STRIKES - 1)
    assert one.names() == []


def test_who_is_released_has_no_past():
    one = Quarantine()
    struck(one, STRIKES)
    assert one.release("gpu1")
    assert not one.release("gpu1")
    struck(one, STRIKES - 1)
    assert one.names() == []
