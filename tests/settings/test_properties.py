"""What may be in a worker's state, and what looks like a secret."""

import datetime

import pytest

from mlepool.settings.properties import (
    MAX_PROPERTIES,
    OWN_KEYS,
    check_labels,
    check_name,
    check_properties,
    check_secrets,
    looks_secret,
)


@pytest.mark.parametrize(
    "key",
    [
        *("accessToken", "ACCESS_TOKEN", "access-token", "accesstoken", "token"),
        *("Token", "hf_token_file", "HF_TOKEN", "wandbToken", "tokens", "jwt"),
        *("password", "dbPassword", "DB_PASSWD", "passphrase", "pwd", "db_pwd"),
        *("secret", "clientSecret", "aws_secret_access_key", "apiKey", "API_KEY"),
        *("api-key", "openaiApiKey", "privateKey", "ssh_key", "credentials"),
        *("authorization", "Cookie", "bearer"),
    ],
)
def test_names_of_secrets_are_known_in_any_form(key):
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        *("tokenizer", "max_tokens", "maxTokens", "key", "keyboard", "name", "rack"),
        *("monkey", "public_url", "path", "pass", "author", "hash", "Ωmega", "", "7"),
        *("password"[:4], "sshd", "api", "turnkey"),
    ],
)
def test_other_names_are_not(key):
    assert not looks_secret(key)


def test_none_of_the_workers_own_names_looks_like_a_secret():
    assert not [key for key in OWN_KEYS if looks_secret(key)]


def test_a_secret_is_found_however_deep():
    with pytest.raises(ValueError, match=r"^a\.b\.api_key: it looks like a secret"):
        check_secrets({"a": [1, {"b": ({"api_key": 1},)}]})
    check_secrets({"a": [{"b": "password"}]})  # a value may be any


def test_properties_become_plain():
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    plain = check_properties({"when": when, "size": (1, 2.5), "raw": b"\0", "no": None})
    assert plain == {
        "when": "2026-01-02T03:04:05",
        "size": [1, 2.5],
        "raw": "AA==",
        "no": None,
    }


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {"end": 1}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"os": 1}, "os: the worker itself says that"),
        ({"": 1}, "'': that is no name"),
        ({"a\n": 1}, "that is no name"),
        ({"x" * 201: 1}, "that is no name"),
        ({3: 1}, "'3': that is no name"),
        ({"a": object()}, "it can't be sent"),
        ({"a": 2**70}, "it can't be sent"),
        ({"a": "x" * MAX_PROPERTIES}, "bytes are over the limit of 65536"),
        (nested(20), "nested over 16 deep"),
    ],
)
def test_what_can_be_no_property_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        check_properties(values)


def test_properties_may_be_of_the_greatest_size():
    room = MAX_PROPERTIES - len('{"a":""}')
    assert check_properties({"a": "x" * room})
    with pytest.raises(ValueError, match="over the limit"):
        check_properties({"a": "x" * (room + 1)})


def test_labels_are_text():
    check_labels({"gpu": "a100", "zone": ""})
    with pytest.raises(ValueError, match="rack: a label is text, not int"):
        check_labels({"rack": 7})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="token: it looks like a secret"):
        check_labels({"token": "x"})


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "x" * 201, "\x1b[1m"])
def test_a_name_can_be_printed(name):
    with pytest.raises(ValueError, match="a name has 1 to 200 characters"):
        check_name(name)
    check_name("Rechner 7 (Büro)")
    check_name("x" * 200)
