"""Hosts by names that Python takes."""

import pytest

from mlepool.repl.names import identifier, identifiers


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("gpu1", "gpu1"),
        ("gpu-1", "gpu_1"),
        ("localhost:9000", "localhost_9000"),
        ("10.0.0.1", "host_10_0_0_1"),
        ("_x", "host__x"),
        ("print", "host_print"),
        ("class", "host_class"),
        ("match", "host_match"),
        ("rechner-ü", "rechner_ü"),
    ],
)
def test_a_host_has_a_name_at_the_prompt(name, word):
    assert identifier(name) == word
    assert word.isidentifier()


def test_of_two_that_would_be_the_same_the_first_has_the_name():
    assert identifiers(["gpu-1", "gpu.1"]) == {"gpu_1": "gpu-1"}


def test_a_host_hides_nothing_of_the_prompt():
    assert identifiers(["pool"], taken={"pool"}) == {"host_pool": "pool"}
