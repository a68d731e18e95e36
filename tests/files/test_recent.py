"""What was used of late, within a limit."""

from hypothesis import given, strategies as st

from mlepool.files.recent import Recent


def test_what_was_not_used_for_longest_goes_first():
    recent: Recent[str] = Recent(3)
    for key in "abc":
        recent.put(key, key.upper())
    assert recent.get("a") == "A"
    recent.put("d", "D")
    assert [recent.get(key) for key in "abcd"] == ["A", None, "C", "D"]


def test_a_value_that_is_larger_than_the_limit_is_not_kept():
    recent: Recent[str] = Recent(10)
    recent.put("a", "A", size=10)
    recent.put("b", "B", size=11)
    assert (recent.get("a"), recent.get("b")) == ("A", None)
    none: Recent[str] = Recent(0)
    none.put("a", "A")
    assert none.get("a") is None


def test_what_is_dropped_makes_room():
    recent: Recent[int] = Recent(10)
    recent.put("a", 1, size=10)
    recent.drop("a")
    recent.drop("a")
    recent.put("b", 2, size=6)
    recent.put("c", 3, size=4)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (None, 2, 3)
    recent.clear()
    recent.put("d", 4, size=10)
    assert (recent.get("b"), recent.get("d")) == (None, 4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), max_size=40))
def test_all_together_keep_to_the_limit(puts):
    recent: Recent[int] = Recent(20)
    for key, size in puts:
        recent.put(key, size, size=size)
        held = [one for key in range(6) if (one := recent.get(key)) is not None]
        assert sum(held) <= 20
        assert recent.get(key) == size
