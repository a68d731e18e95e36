"""mlepool token, on a state folder whose worker does not run."""

import json
import os
import time
from pathlib import Path

import pytest

from mlepool.client.links.trust import Target
from mlepool.worker.access.identity import Identity
from mlepool.worker.access.tokens import FIRST, TokenStore, token_id
from tests.needs import NOBODY, need_root


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    """The state folder of a worker that has been started once."""
    folder: Path = tmp_path / "state"
    Identity(folder)
    monkeypatch.setenv("MLEPOOL_STATE_DIR", str(folder))
    return folder


def test_a_token_is_made_and_its_join_url_is_all_of_stdout(here, state):
    begin = time.time()
    done = here(
        *("token", "create", "--name", "ci", "--role", "view,run", "--role", "sync"),
        *("--commands", "python *", "--commands", "make", "--root", "/data"),
        *("--label", "of=me", "--expires", "30d", "--host", "gpu1:99"),
    )
    assert done.status == 0
    assert "the join URL is a secret" in done.err
    target = Target.parse(done.out.strip())
    assert (target.host, target.port) == ("gpu1", 99)
    assert target.key == Identity(state).fingerprint
    token = TokenStore(state).find(token_id(target.token))
    assert token is not None
    assert (token.name, token.roles) == ("ci", ("view", "run", "sync"))
    assert (token.commands, token.roots) == (("python *", "make"), ("/data",))
    assert token.labels == {"of": "me"}
    assert token.expires == pytest.approx(begin + 30 * 86400, abs=60)


def test_tokens_are_listed_without_their_secrets(here, state):
    made = here(
        *("token", "create", "--name", "ci", "--role", "run", "--commands", "make *"),
        *("--root", "/data", "--expires", "2099-01-02T03:04"),
    )
    secret = Target.parse(made.out.strip()).token
    done = here("token", "list")
    assert done.status == 0
    headers, _, first, second = done.out.splitlines()
    assert " ".join(headers.split()) == (
        "name id roles limits created expires last used"
    )
    assert first.startswith("first ")
    assert "view, run, sync, admin" in first
    assert token_id(secret) in second
    assert "commands make *; root /data" in second
    assert "2099-01-02 03:04" in second
    assert second.endswith("never")
    for one in (secret, Identity(state).token):
        assert one not in done.out


def test_machines_get_the_tokens_without_their_secrets(here, state):
    args = ("--role", "run", "--commands", "python *", "--expires", "30d")
    url = here("token", "create", "--name", "ci", *args).out
    secret = url.partition("token=")[2].partition("&")[0].strip()
    done = here("token", "list", "--json")
    ci = next(one for one in json.loads(done.out) if one["name"] == "ci")
    assert (ci["roles"], ci["commands"]) == (["run"], ["python *"])
    assert ci["expires"] > ci["created"]
    assert ci["last_used"] is None
    assert len(secret) > 20
    assert secret not in done.out


def test_revoking_and_rotating_say_what_was_done(here, state):
    here("token", "create", "--name", "ci", "--role", "run")
    rotated = here("token", "rotate", "ci", "--host", "ws://gpu1")
    assert rotated.out.rstrip().endswith("&scheme=ws")
    token = TokenStore(state).find(token_id(Target.parse(rotated.out.strip()).token))
    assert token is not None
    assert token.name == "ci"
    assert here("token", "revoke", token.id).out == (
        f"revoked the token 'ci' ({token.id})\n"
    )
    assert [one.name for one in TokenStore(state).listing()] == [FIRST]
    first = here("token", "rotate", FIRST)
    assert Target.parse(first.out.strip()).token == Identity(state).token


@pytest.mark.parametrize(
    "case",
    [
        (["create", "--name", "ci"], "Missing option '--role'"),
        (["create", "--name", "ci", "--role", "view", "--expires", "x"], "ISO 8601"),
        (
            ["create", "--name", "ci", "--role", "view", "--expires", "2001-01-01"],
            "over already",
        ),
        (["create", "--name", "ci", "--role", "view", "--label", "x"], "KEY=VALUE"),
        (["rotate", "first", "--host", "unix:x"], "HOST:PORT"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_words_end_with_2_and_nothing_is_done(here, state, case):
    words, text = case
    before = Identity(state).token
    done = here("token", *words)
    assert (done.status, done.out) == (2, "")
    assert text in done.err
    assert Identity(state).token == before
    assert not (state / "tokens.json").exists()


def test_a_root_that_is_not_there_is_pointed_out(here, state, tmp_path):
    words = ["token", "create", "--role", "sync", "--root", str(tmp_path)]
    assert "there is no folder" not in here(*words, "--name", "a").err
    done = here(*words, "--name", "b", "--root", str(tmp_path / "no"))
    assert done.status == 0
    assert f"mlepool: there is no folder {tmp_path / 'no'} now" in done.err
    assert done.err.count("there is no folder") == 1
    assert len(TokenStore(state).listing()) == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["create", "--name", "first", "--role", "view"], "the name 'first' is taken"),
        (["create", "--name", "ci", "--role", "root"], "not 'root'"),
        (["revoke", "ci"], "there is no token 'ci'"),
        (["revoke", "first"], "rotate it instead"),
        (["list", "--state-dir", "/nowhere"], "no worker has ever had its state in"),
    ],
)
@pytest.mark.usefixtures("state")
def test_what_cant_be_done_is_one_line(here, words, text):
    done = here("token", *words)
    assert (done.status, done.out) == (1, "")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


def test_another_accounts_folder_is_left_alone(here, state):
    need_root()
    os.chown(state, NOBODY, NOBODY)
    done = here("token", "create", "--name", "ci", "--role", "view")
    assert done.status == 1
    assert "belongs to another account" in done.err
    assert not (state / "tokens.json").exists()


def test_every_change_of_tokens_is_in_the_audit_log(here, state):
    secret = Target.parse(
        here("token", "create", "--name", "ci", "--role", "run").out.strip()
    ).token
    here("token", "rotate", "ci")
    here("token", "revoke", "ci")
    done = here("audit", "--json")
    found = [json.loads(one) for one in done.out.splitlines()]
    assert [(one["action"], one["name"]) for one in found] == [
        ("create", "ci"),
        ("rotate", "ci"),
        ("revoke", "ci"),
    ]
    assert all(one["address"].startswith("pid ") for one in found)
    assert secret not in done.out
