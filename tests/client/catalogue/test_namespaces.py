"""What a worker offers, as attributes: commands, capabilities, and others later."""

import asyncio
import contextlib
import inspect
import operator
import pydoc
import rlcompleter
from collections.abc import Iterator

import msgspec
import pytest

import mlepool
from mlepool.client.catalogue.commands import Catalogue, bound
from mlepool.client.catalogue.namespaces import offered
from mlepool.wire.messages import (
    CommandSpec,
    Ended,
    Event,
    Outcome,
    Parameter,
    Request,
)
from tests.client.journals import ASK, TOKEN
from tests.conftest import wait_until
from tests.raw import ClientLink, FakeWorker

PLAIN = pydoc.plaintext  # type: ignore[attr-defined]
ABOUT = "Work on pictures."
RESIZE = CommandSpec(
    "images.resize",
    "Make a picture smaller.\n\nArgs:\n    path: Which one.",
    (
        Parameter("path", "POSITIONAL_OR_KEYWORD", "str"),
        Parameter("width", "POSITIONAL_OR_KEYWORD", "int", "100"),
        Parameter("mode", "KEYWORD_ONLY", "Literal['fit', 'crop']", "'fit'"),
    ),
    "str",
    streams=True,
    about=ABOUT,
)
CROP = CommandSpec("images.crop", "Cut a picture.", about=ABOUT)
DEEP = CommandSpec("lab.robot.move", "Move.", role="admin")
SPECS = (ASK, RESIZE, CROP, DEEP)


def get(name, specs=SPECS):
    catalogue = Catalogue("gpu1", bound(specs))
    return offered(lambda: catalogue, name, lambda command: command.spec.name)


def test_a_capability_lists_its_actions_and_says_what_it_is_for():
    images = get("images")
    assert dir(images) == ["crop", "resize"]
    assert images.resize == "images.resize"
    assert repr(images) == "<capability images of gpu1: crop, resize>"
    assert images.__doc__ == (
        "Work on pictures.\n\n"
        "images.resize(path: str, width: int = 100, *, "
        "mode: Literal['fit', 'crop'] = 'fit')\n    Make a picture smaller.\n\n"
        "images.crop()\n    Cut a picture.\n"
    )
    assert dir(get("lab")) == ["robot"]
    assert get("lab").robot.move == "lab.robot.move"


def test_a_command_comes_before_a_capability_of_its_name():
    assert get("images", (*SPECS, CommandSpec("images"))) == "images"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "images.resise",
            "worker gpu1 has no command 'images.resise'.*'images.resize'",
        ),
        ("imagse", "worker gpu1 has no command 'imagse'; did you mean 'images'"),
        ("lab.robot.mov", "'lab.robot.mov'; did you mean 'lab.robot.move'"),
        ("ask.it", "'str' object has no attribute 'it'"),
        ("zzz", "worker gpu1 has no command 'zzz'$"),
        ("images._private", "_private"),
    ],
)
def test_an_unknown_name_says_where_and_what_is_near(path, text):
    first, _, rest = path.partition(".")
    with pytest.raises(AttributeError, match=text):
        operator.attrgetter(rest)(get(first)) if rest else get(first)


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "a.class", "a b.c", "a.b-c", "."])
def test_names_that_can_t_be_written_are_not_offered(name):
    assert Catalogue("gpu1", bound([CommandSpec(name)])).names() == []


# -- over a link


@pytest.fixture
def pool() -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        yield pool


class Offering:
    """A fake worker that offers commands, and others when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self._links: list[ClientLink] = []

    def answer(self, client: ClientLink) -> None:
        self._links.append(client)
        client.let_in(SPECS, token=TOKEN)
        while True:
            request = client.receive()
            if isinstance(request, Request):
                self.asked.append(request)
                value = request.arguments
                client.send(Ended(request.call, Outcome("SUCCEEDED", value=value)))

    def offer(self, *specs: CommandSpec) -> None:
        data = [list(msgspec.structs.astuple(one)) for one in specs]
        self._links[0].send(Event("catalogue", data))

    def say(self, data: object) -> None:
        self._links[0].send(Event("catalogue", data))


@pytest.fixture
def offering() -> Iterator[tuple[Offering, str]]:
    offering = Offering()
    with FakeWorker(offering.answer) as fake:
        yield offering, fake.url


@contextlib.contextmanager
def changed(conn: mlepool.Connection) -> Iterator[None]:
    """Have the worker offer other commands within it, and wait until they are here."""
    tables = []
    conn.on("catalogue", lambda _, table: tables.append(table))
    yield
    wait_until(lambda: tables)
    assert [row[0] for row in tables[0]] == [row[0] for row in conn.commands]


def test_actions_are_called_with_their_arguments(pool, offering):
    fake, url = offering
    with pool.add(url, token=TOKEN) as conn:
        done = conn.images.resize("a.png", mode="crop")
        assert done.value == {"path": "a.png", "mode": "crop"}
        assert conn.call_named("images.resize", "b.png", 5).value["width"] == 5
        assert conn.lab.robot.move().ok
        names = [one.command for one in fake.asked]
        assert names == ["images.resize", "images.resize", "lab.robot.move"]
        with pytest.raises(AttributeError, match="did you mean 'images.resize'"):
            conn.call_named("images.resiz")


def test_wrong_arguments_of_actions_are_raised_before_anything_is_sent(pool, offering):
    fake, url = offering
    with pool.add(url, token=TOKEN) as conn:
        for args, keywords, text in (
            ((), {}, r"images.resize\(\): missing a required argument: 'path'"),
            ((5,), {}, r"images.resize\(\): path: expected str, got int"),
            (
                ("a",),
                {"width": "1"},
                r"images.resize\(\): width: expected int, got str",
            ),
            (("a",), {"mode": "x"}, "mode: expected one of 'fit', 'crop', got 'x'"),
            (("a",), {"colour": 1}, "unexpected keyword argument 'colour'"),
            (("a",), {"memory": "x"}, "memory: expected int, got str"),
        ):
            with pytest.raises(TypeError, match=text):
                conn.images.resize(*args, **keywords)
        assert fake.asked == []


def test_completion_and_help_know_them_on_both_faces(pool, offering):
    _, url = offering
    with pool.add(url, token=TOKEN, name="gpu1") as conn:
        complete = rlcompleter.Completer({"conn": conn}).complete
        assert complete("conn.imag", 0) == "conn.images"
        assert complete("conn.images.re", 0) == "conn.images.resize("
        assert {"images", "ask", "lab"} <= set(dir(conn))
        assert "images.resize" in conn.server_methods()
        assert "images.resize" not in dir(conn)
        assert {name: role for name, _, role, _ in conn.commands}["lab.robot.move"] == (
            "admin"
        )
        text = pydoc.render_doc(conn.images.resize, renderer=PLAIN)
        assert text.startswith("Python Library Documentation: function resize in")
        assert "resize(path: str, width: int = 100, *, mode: Literal[" in text
        assert ") -> Listener\n    Make a picture smaller.\n    \n    Args:" in text
        assert "These keywords are for it:\n        complete: Wait" in text
        assert "detach: Do not stop it" in text
        assert "encoding" not in text
        assert "Work on pictures." in pydoc.render_doc(conn.images)
        with pytest.raises(AttributeError):
            conn.images.__wrapped__  # noqa: B018
        is_callable = inspect.signature(conn._async.images.resize).return_annotation
        assert repr(is_callable) == "AsyncListener"
        assert {"images", "ask"} <= set(dir(conn._async))


def test_a_new_catalogue_counts_at_once(pool, offering):
    fake, url = offering
    with pool.add(url, token=TOKEN, name="gpu1") as conn:
        resize, crop, images = conn.images.resize, conn.images.crop, conn.images
        wider = msgspec.structs.replace(RESIZE, parameters=RESIZE.parameters[:1])
        with changed(conn):
            fake.offer(ASK, wider, CommandSpec("images.turn"))
        assert dir(images) == dir(conn.images) == ["resize", "turn"]
        assert resize("a").ok
        with pytest.raises(TypeError, match="too many positional"):
            resize("a", 5)
        with pytest.raises(
            LookupError, match="gpu1 has no command 'images.crop' any m"
        ):
            crop()
        with pytest.raises(AttributeError, match="has no command 'lab'"):
            conn.lab  # noqa: B018
        assert conn.images.turn().ok


def test_a_new_catalogue_counts_on_the_asyncio_face(offering):
    fake, url = offering

    async def scenario() -> None:
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add(url, token=TOKEN) as conn,
        ):
            came = asyncio.Event()
            conn.on("catalogue", lambda *_: came.set())
            crop = conn.images.crop
            fake.offer(CommandSpec("images.turn"))
            async with asyncio.timeout(20):
                await came.wait()
            assert (await conn.images.turn()).ok
            assert (await conn.call_named("images.turn")).ok
            with pytest.raises(LookupError, match="any more"):
                await crop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "data",
    [None, 5, b"\x90", ["x"], [[5]], [["a", "", [["two words", "KEYWORD_ONLY"]]]]],
)
def test_a_catalogue_that_is_none_loses_that_connection_only(pool, offering, data):
    fake, url = offering
    with pool.add(url, token=TOKEN) as conn:
        fake.say(data)
        wait_until(lambda: conn.state["connection"] == "lost")
        assert "ask" in conn.server_methods()
