"""What becomes of a sweep's runs, record by record."""

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlepool.client.sweeps.plan import FINAL, Plan, RunState
from mlepool.client.sweeps.records import (
    Buried,
    Ended,
    GaveUp,
    Given,
    Halted,
    Head,
    Repeated,
    TakenBack,
)
from tests.tools import steady

HEAD = Head("abc", "echo {x}", axes={"x": [1, 2, 3]})


def test_a_job_id_is_made_of_sweep_run_and_attempt():
    plan = Plan(HEAD)
    assert (plan.job_id(2, 0), plan.values(2)) == ("abc-2-0", {"run": 2, "x": 3})


def test_runs_are_given_in_order_and_those_that_come_back_first():
    plan = Plan(HEAD)
    for number in range(2):
        assert plan.next() == number
        plan.apply(Given(number, 0, "a", 1.0))
    plan.apply(TakenBack(1))
    assert plan.next() == 1
    plan.apply(Given(1, 0, "b", 2.0))  # it was not sent: it is the same attempt
    assert (plan.run(1).host, plan.next()) == ("b", 2)


def test_an_attempt_that_is_repeated_has_another_id():
    plan = Plan(HEAD)
    for status in ("FAILED", "LOST"):
        plan.apply(Given(0, plan.run(0).attempt, "a", 1.0))
        plan.apply(Ended(0, status))
        plan.apply(Repeated(0))
    run = plan.run(0)
    assert (run.attempt, run.failures, run.losses) == (2, 1, 1)
    with pytest.raises(ValueError, match="can't be"):
        plan.apply(Given(0, 1, "a", 2.0))


def test_what_is_given_up_is_known_until_it_is_buried():
    plan = Plan(HEAD)
    plan.apply(Given(0, 0, "a", 1.0))
    plan.apply(GaveUp(0))
    assert (plan.zombies, plan.run(0).attempt, plan.next()) == ({"a": {(0, 0)}}, 1, 0)
    plan.apply(Buried(0, 0, "a"))
    assert plan.zombies == {"a": set()}


def test_after_a_halt_nothing_begins_and_what_waits_is_skipped():
    plan = Plan(HEAD)
    plan.apply(Given(0, 0, "a", 1.0))
    plan.apply(Halted("enough"))
    assert (plan.next(), plan.is_over, plan.state(1)) == (None, False, RunState.SKIPPED)
    plan.apply(Ended(0, "SUCCEEDED"))
    assert plan.is_over
    plan.apply(Halted())
    assert (plan.next(), plan.is_over) == (1, False)


@pytest.mark.parametrize(
    ("limit", "may"), [(None, 3), (0, 0), (1, 1), ("34%", 1), ("67%", 2), ("33%", 0)]
)
def test_so_many_may_fail_and_no_more(limit, may):
    plan = Plan(Head("abc", "echo {x}", axes={"x": [1, 2, 3]}, max_failures=limit))
    for number in range(3):
        assert plan.may_fail() == (number <= may)
        plan.apply(Given(number, 0, "a", 1.0))
        plan.apply(Ended(number, "FAILED"))
    assert plan.may_fail() == (may == 3)


@pytest.mark.parametrize(
    "record",
    [
        Given(1, 0, "a", 0.0),
        Given(3, 0, "a", 0.0),
        Ended(0, "SUCCEEDED"),
        Ended(0, "ODD"),
        TakenBack(0),
        Repeated(0),
        GaveUp(9),
        Buried(0, 0, "a"),
    ],
)
def test_a_record_that_can_not_be_is_refused(record):
    with pytest.raises(ValueError, match="can't be at this place"):
        Plan(HEAD).apply(record)


class Sweeping(RuleBasedStateMachine):
    """Whatever happens, each run is in one place, and the records say all of it."""

    def __init__(self):
        super().__init__()
        self.plan = Plan(HEAD)
        self.records = []

    def note(self, record):
        self.plan.apply(record)
        self.records.append(record)

    def of(self, *states):
        return [one.number for one in self.plan.begun() if one.state in states]

    @precondition(lambda self: self.plan.next() is not None)
    @rule(host=st.sampled_from("ab"))
    def give(self, host):
        number = self.plan.next()
        assert number is not None
        self.note(Given(number, self.plan.run(number).attempt, host, 1.0))

    @precondition(lambda self: self.of(RunState.GIVEN))
    @rule(data=st.data())
    def end(self, data):
        number = data.draw(st.sampled_from(self.of(RunState.GIVEN)))
        kinds = [TakenBack(number), GaveUp(number)]
        kinds += [Ended(number, str(one)) for one in sorted(FINAL)]
        self.note(data.draw(st.sampled_from(kinds)))

    @precondition(lambda self: self.of(*FINAL))
    @rule(data=st.data())
    def repeat(self, data):
        self.note(Repeated(data.draw(st.sampled_from(self.of(*FINAL)))))

    @rule(reason=st.sampled_from(["", "enough"]))
    def halt(self, reason):
        self.note(Halted(reason))

    @invariant()
    def counts_are_true(self):
        states = [self.plan.run(number).state for number in range(3)]
        assert self.plan.waiting == states.count(RunState.WAITING)
        assert self.plan.given == states.count(RunState.GIVEN)
        assert self.plan.ended == sum(one in FINAL for one in states)

    @invariant()
    def the_records_make_the_same_plan(self):
        again = Plan(HEAD)
        for record in self.records:
            again.apply(record)
        for number in range(3):
            one, other = self.plan.run(number), again.run(number)
            assert (one.state, one.attempt, one.host) == (
                *(other.state, other.attempt, other.host),
            )
        assert (again.next(), again.zombies) == (self.plan.next(), self.plan.zombies)


TestSweeping = Sweeping.TestCase
TestSweeping.settings = settings(steady, max_examples=20, stateful_step_count=25)
