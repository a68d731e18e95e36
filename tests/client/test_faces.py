"""The two faces have the same verbs with the same parameters."""

import inspect

import pytest

import mlepool

PAIRS = [
    (mlepool.AsyncConnection, mlepool.Connection),
    (mlepool.AsyncListener, mlepool.Listener),
    (mlepool.AsyncClientPool, mlepool.ClientPool),
    (mlepool.AsyncGroup, mlepool.Group),
    (mlepool.AsyncGroupListener, mlepool.GroupListener),
    (mlepool.AsyncSweep, mlepool.Sweep),
]

# What only one face can have, and why.
ONLY_ASYNC = {
    # what sync.py, the command line and listeners use of the async classes
    "AsyncConnection": {
        "begin_call",
        "begin_here",
        "begin_planned",
        "bind",
        "call",
        "call_ended",
        "check_usable",
        "connect_within",
        "event_came",
        "find",
        "give_up_call",
        "is_reconnecting",
        "job_metrics",
        "link_gone",
        "offered",
        "owned",
        "release",
        "run_here",
        "start_call",
        "tell",
        "was_sent",
    },
    "AsyncListener": {
        "accepted",
        "again",
        "batches",
        "begin",
        "change",
        "cut_off",
        "end_reached",
        "end_seen",
        "ended",
        "feed_from",
        "is_excused",
        "is_interrupted",
        "is_run",
        "last_message",
        "left_error",
        "longest",
        "new_decoder",
        "placed",
        "release",
        "shut_error",
        "stop_feeding",
        "take_expiry",
    },
    "AsyncClientPool": {"begin_call", "enter", "follow_call"},
    "AsyncGroup": {"begin_call", "follow_call"},
    "AsyncGroupListener": {
        "abandon",
        "check_fit",
        "errors",
        "options",
        "release",
        "run",
        "silence_error",
    },
    "AsyncSweep": {"next_ended"},
}


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("its_async", "blocking"), PAIRS)
def test_both_faces_have_the_same_names(its_async, blocking):
    missing = public(its_async) - public(blocking)
    # Attributes that are set in __init__ on one side are properties on the other.
    assert missing == ONLY_ASYNC[its_async.__name__]


@pytest.mark.parametrize(("its_async", "blocking"), PAIRS)
def test_both_faces_take_the_same_parameters_but_for_timeouts(its_async, blocking):
    for name in public(its_async) & public(blocking):
        one, other = getattr(its_async, name), getattr(blocking, name)
        if not inspect.isfunction(one) or not inspect.isfunction(other):
            continue
        ours = set(inspect.signature(one).parameters)
        theirs = set(inspect.signature(other).parameters)
        assert theirs - ours <= {"timeout"}, name
        assert ours <= theirs, name
        assert "timeout" not in ours, name
