"""Commands of the workers' own, called on all hosts: by methods of the group."""

from collections.abc import Iterator

import pytest

import mlepool
from mlepool.worker import capability, command, serve_in_thread

pytestmark = pytest.mark.real


@capability
class Images:
    """Pictures."""

    @command
    def resize(self, path: str, batch: int = 1) -> str:
        """Make one smaller."""
        return f"{path} by {batch}"


@command
def count(to: int = 2) -> Iterator[int]:
    """Count."""
    yield from range(to)


@pytest.fixture(scope="module")
def pool(worker, tmp_path_factory) -> Iterator[mlepool.ClientPool]:
    """Two ways to a worker that has commands of its own, and one to another."""
    folder = tmp_path_factory.mktemp("own")
    own = serve_in_thread(
        [Images(), count], state_dir=folder / "state", listen="127.0.0.1:0"
    )
    with own, mlepool.ClientPool() as pool:
        for name in ("a", "b"):
            pool.add(own.join_url(), name=name)
        pool.add("localhost", worker.port, name="plain")
        pool.connect()
        yield pool


def test_a_capability_is_an_attribute_with_its_actions(pool):
    group = pool.group("a", "b")
    assert dir(group.images) == ["resize"]
    assert "images" in dir(group)
    done = group.images.resize("x.png")
    assert [one.value for one in done.values()] == ["x.png by 1"] * 2
    assert repr(done) == "<GroupListener images.resize on 2 hosts: 2 succeeded>"
    assert repr(group.images.resize) == "<images.resize on 2 hosts>"
    assert "Make one smaller." in group.images.resize.__doc__
    with pytest.raises(AttributeError, match="no command 'images.resizee'"):
        group.images.resizee()


def test_what_is_yielded_comes_with_its_host(pool):
    found = list(pool["a,b"].count(to=3, complete=False))
    assert sorted(found) == [(name, n) for name in ("a", "b") for n in range(3)]


def test_a_host_that_has_no_such_command_is_a_result(pool):
    done = pool.count()
    assert (done.succeeded, done.failed) == (["a", "b"], ["plain"])
    assert "no command 'count'" in str(done["plain"].error)
    assert done.table()[2][4].startswith("the worker plain has no command 'count'")
    with pytest.raises(AttributeError, match="the worker plain has no command 'count'"):
        pool.group("plain").call_named("count")


def test_the_groups_keywords_mean_the_group(pool):
    done = pool["a,b"].images.resize("x", batch=1)
    assert [one.value for one in done.values()] == ["x by 1"] * 2
    with pytest.raises(ValueError, match="batch must be 1 or more"):
        pool["a,b"].images.resize("x", batch=0)
