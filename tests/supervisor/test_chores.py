"""What is left for the end of a turn: in order, each once."""

from mlepool.supervisor.chores import Chores


def test_chores_are_done_in_order_and_once():
    done: list[str] = []
    chores = Chores()
    chores.add(lambda: done.append("first"))
    chores.add(lambda: done.append("second"))
    assert done == []
    chores.run()
    chores.run()
    assert done == ["first", "second"]


def test_what_a_chore_leaves_is_for_the_next_turn():
    done: list[str] = []
    chores = Chores()
    chores.add(lambda: chores.add(lambda: done.append("later")))
    chores.run()
    assert done == []
    chores.run()
    assert done == ["later"]
