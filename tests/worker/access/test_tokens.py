"""A worker's tokens on disk: made, found, replaced, and gone at once."""

import json
import threading
from pathlib import Path

import pytest

from mlepool.errors import WorkerError
from mlepool.worker.access.grants import FULL, ROLES
from mlepool.worker.access.identity import Identity, new_secret
from mlepool.worker.access.tokens import (
    FIRST,
    REMEMBERED,
    TOKENS_FILE,
    Token,
    TokenStore,
    token_id,
)


class Folder:
    """A worker's state folder, and two who look at its tokens: worker and user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = Identity(path).token
        self.now = 1_000_000.0
        self.worker = TokenStore(path, clock=lambda: self.now)
        self.user = TokenStore(path, clock=lambda: self.now)

    def add(self, name: str = "ci", **settings: object) -> Token:
        token = Token(name, new_secret(), ("view",), **settings)  # type: ignore[arg-type]
        self.user.create(token)
        return token

    def names(self) -> list[str]:
        return [one.name for one in self.user.listing()]


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


def test_the_first_token_has_all_rights(folder):
    token = folder.worker.find(token_id(folder.first))
    assert token is not None
    assert (token.name, token.secret) == (FIRST, folder.first)
    assert token.grant().roles == FULL.roles == frozenset(ROLES)
    assert token.grant().commands == token.grant().roots == ()


def test_a_token_is_known_at_once_and_whole(folder):
    assert folder.worker.find(token_id("x")) is None
    token = folder.add(
        commands=("python *",), roots=("/data",), labels={"of": "ci"}, expires=2e6
    )
    assert folder.worker.find(token.id) == token
    grant = token.grant()
    assert (grant.name, grant.roles) == ("ci", frozenset({"view"}))
    assert (grant.commands, grant.roots) == (("python *",), (Path("/data"),))
    assert (grant.labels, grant.expires) == ({"of": "ci"}, 2e6)
    assert folder.names() == [FIRST, "ci"]


def test_nobody_else_can_read_them(folder):
    folder.add()
    assert (folder.path / TOKENS_FILE).stat().st_mode & 0o777 == 0o600


def test_a_token_shows_its_secret_nowhere(folder):
    token = folder.add()
    assert token.secret not in f"{token} {token!r} {token.grant()!r}"
    assert len(token.id) == 16
    assert token.id not in token.secret


def test_a_revoked_token_is_good_no_more_and_known_as_such_for_a_while(folder):
    token = folder.add()
    assert folder.worker.find(token.id) == token
    assert token.problem(folder.now) == ""
    assert folder.user.revoke("ci") == token
    gone = folder.worker.find(token.id)
    assert gone is not None
    assert gone.problem(folder.now) == (
        "this token ('ci') was revoked on 1970-01-12 13:46 UTC"
    )
    assert folder.names() == [FIRST]
    folder.now += REMEMBERED + 1
    folder.add("other")
    assert folder.worker.find(token.id) is None


def test_tokens_are_revoked_by_id_too(folder):
    token = folder.add()
    folder.user.revoke(token.id)
    with pytest.raises(WorkerError, match="there is no token 'ci'"):
        folder.user.revoke("ci")


def test_a_name_is_free_again_after_its_token_was_revoked(folder):
    old = folder.add()
    with pytest.raises(WorkerError, match="the name 'ci' is taken"):
        folder.add()
    folder.user.revoke("ci")
    new = folder.add()
    assert folder.worker.find(new.id) == new
    assert folder.worker.find(old.id) != old


def test_rotating_changes_the_secret_and_nothing_else(folder):
    old = folder.add(commands=("make",), expires=2e6)
    folder.now += 5
    new = folder.user.rotate("ci")
    assert (new.name, new.grant()) == (old.name, old.grant())
    assert new.secret != old.secret
    assert folder.worker.find(new.id) == new
    gone = folder.worker.find(old.id)
    assert gone is not None
    assert "was revoked" in gone.problem(folder.now)


def test_the_first_token_can_be_rotated_and_not_revoked(folder):
    with pytest.raises(WorkerError, match="rotate it instead"):
        folder.user.revoke(FIRST)
    assert folder.worker.find(token_id(folder.first)) is not None
    identity = Identity(folder.path)
    new = folder.user.rotate(FIRST)
    assert identity.token == new.secret != folder.first
    assert new.secret in identity.join_url("gpu1", 1)
    gone = folder.worker.find(token_id(folder.first))
    assert gone is not None
    assert "was revoked" in gone.problem(folder.now)
    assert (folder.path / "token").stat().st_mode & 0o777 == 0o600


def test_a_token_expires_at_its_time_and_not_before(folder):
    token = folder.add(expires=folder.now + 1)
    assert token.problem(folder.now + 0.999) == ""
    assert "has expired on 1970-01-12" in token.problem(folder.now + 1)
    assert folder.names() == [FIRST, "ci"]  # whoever made it may want to know


@pytest.mark.parametrize(
    "name", [FIRST, "local", "", "a b", "../x", ".x", "0123456789abcdef", "x" * 65]
)
def test_a_name_that_would_mislead_is_refused(folder, name):
    with pytest.raises(WorkerError):
        folder.add(name)
    assert not (folder.path / TOKENS_FILE).exists()


def test_rights_that_there_are_not_are_refused(folder):
    with pytest.raises(WorkerError, match="not 'root'"):
        folder.user.create(Token("ci", new_secret(), ("run", "root")))
    with pytest.raises(WorkerError, match="not none"):
        folder.user.create(Token("ci", new_secret(), ()))
    with pytest.raises(WorkerError, match="absolute"):
        folder.add(roots=("data",))


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[",
        b"{}",
        b"\xff",
        b'[{"name": "ci"}]',
        b'[{"name": "ci", "secret": "short", "roles": ["admin"]}]',
        b'[{"name": "ci", "secret": "%s", "roles": ["admin"], "expire": 5}]'
        % (b"x" * 43),
        b'[{"name": "first", "secret": "%s", "roles": ["admin"]}]' % (b"x" * 43),
    ],
)
def test_nobody_gets_in_by_a_damaged_file(folder, caplog, damage):
    token = folder.add()
    (folder.path / TOKENS_FILE).write_bytes(damage)
    assert folder.worker.find(token.id) is None
    assert folder.worker.find(token_id("x" * 43)) is None
    assert folder.worker.find(token_id(folder.first)) is not None
    assert len(caplog.records) == 1
    assert "tokens.json is damaged" in caplog.text
    for edit in (lambda: folder.user.revoke("ci"), lambda: folder.add("new")):
        with pytest.raises(WorkerError, match="is damaged"):
            edit()
    assert (folder.path / TOKENS_FILE).read_bytes() == damage


def test_two_that_edit_at_once_lose_nothing(folder):
    def make(number: int) -> None:
        for count in range(5):
            TokenStore(folder.path).create(
                Token(f"t{number}-{count}", new_secret(), ("view",))
            )

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(json.loads((folder.path / TOKENS_FILE).read_text())) == 20


def test_when_a_token_was_used_last_is_known(folder):
    token = folder.add()
    assert folder.user.last_use(token) is None
    folder.worker.note_use(token)
    assert folder.user.last_use(token) is not None
    folder.user.rotate("ci")
    assert folder.user.last_use(token) is not None
    folder.user.revoke("ci")
    assert folder.user.last_use(token) is None


def test_a_use_that_cant_be_noted_is_no_failure(tmp_path):
    TokenStore(tmp_path / "gone").note_use(Token("ci", new_secret(), ("view",)))
