"""Selectors, against a reference that is too plain to be wrong."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from mlepool.client.inventory.selectors import MAX_KEY, Selector
from mlepool.errors import ConfigError

LABELS = {"gpu": "a100", "zone": "a", "slots": "10", "a/b.c": "x", "empty": ""}
FACTS = {
    "os": "linux",
    "cpu": {"cores": 16, "model": "Xeon"},
    "gpu": [{"name": "NVIDIA A100", "memory": 80 * 1024**3}, {"name": "T4"}],
    "memory": {"total": 64 * 1024**3},
    "disks": [],
    "reload": True,
    "load": 0.5,
    "gone": None,
    "labels": {"zone": "b", "rack": "7"},
}


@pytest.mark.parametrize(
    "text",
    [
        *("gpu=a100", "gpu==a100", "gpu = a100", "gpu!=t4", "gpu", "!broken"),
        *("zone in (a,b)", "zone notin (c, d)", "gpu=a100,zone in (a,b),!broken"),
        *("rack=7", "zone=a", "zone!=b", "os=linux", "cpu.cores=16", "cpu.cores>8"),
        *("slots>9", "slots<11", "slots>9.5", "load<0.51", "load=0.50", "reload=true"),
        *("gpu.name=T4", "gpu.name='NVIDIA A100'", 'gpu.name in (x,"NVIDIA A100")'),
        *("memory.total>63GiB", "gpu.memory>80GB", "a/b.c=x", "empty", "empty="),
        *("missing!=x", "missing notin (x)", "missing!=", "!missing.below", "!disks"),
        *("!gone", "empty in ()", "empty in (a,)", "!in", "in!=in", "in notin (in)"),
        *("cpu", "cpu!=16", "gpu.name!=A100"),
    ],
)
def test_it_matches(text):
    assert Selector.parse(text).matches(LABELS, FACTS)


@pytest.mark.parametrize(
    "text",
    [
        *("gpu=A100", "gpu!=a100", "!gpu", "broken", "missing=x", "missing="),
        *("zone notin (a,b)", "zone in (b)", "gpu=a100,broken", "gpu in ()"),
        *("missing>0", "missing<1", "zone>0", "zone<1", "slots>10", "reload>0"),
        *("cpu=16", "cpu.cores.more", "os.name", "disks", "gpu.name!=T4"),
        *("memory.total>64GiB", "gone", "reload=1"),
    ],
)
def test_it_does_not_match(text):
    assert not Selector.parse(text).matches(LABELS, FACTS)


def test_facts_may_be_unknown():
    assert not Selector.parse("os=linux").matches({"zone": "a"})
    assert Selector.parse("zone=a,os!=linux").matches({"zone": "a"})
    assert not Selector.parse("labels.x").matches({}, {"labels": "odd"})


@pytest.mark.parametrize(
    ("text", "at", "cause"),
    [
        ("", 0, "a key is missing"),
        (" ", 1, "a key is missing"),
        ("a,", 2, "a key is missing"),
        ("a,,b", 2, "a key is missing"),
        ("=a", 0, "a key is missing"),
        ("!", 1, "a key is missing"),
        ("!!a", 1, "a key is missing"),
        ("''=a", 0, "a key is missing"),
        ("a b", 2, "put one of"),
        ("a!b", 1, "put one of"),
        ("a in b", 5, "in brackets"),
        ("a in (b", 7, "put a ',' or a ')'"),
        ("a in (b c)", 8, "put a ',' or a ')'"),
        ("a=b c", 4, "put a ',' here"),
        ("!a=b", 2, "put a ',' here"),
        ("a=(b)", 2, "put a ',' here"),
        ("a>b", 2, "put a number"),
        ("a>=3", 2, "put a number"),
        ("a<", 2, "put a number"),
        ("a='b", 2, "the second ' is missing"),
        (f"a,{'k' * (MAX_KEY + 1)}", 2, f"at most {MAX_KEY}"),
    ],
)
def test_what_cannot_be_read_is_shown(text, at, cause):
    with pytest.raises(ConfigError) as caught:
        Selector.parse(text)
    sentence, _, caret = str(caught.value).split("\n")
    assert cause in sentence
    assert caret == f"  {' ' * at}^"


WORDS = st.sampled_from(["a", "b", "in", "1", "2", "x-y", "x.y/z"])
HOSTS = st.dictionaries(WORDS, WORDS)
PARTS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(WORDS, st.sampled_from(["exists", "!"]), st.just([])),
    st.tuples(WORDS, st.sampled_from(["=", "==", "!="]), st.lists(WORDS, max_size=1)),
    st.tuples(WORDS, st.sampled_from(["in", "notin"]), st.lists(WORDS, min_size=1)),
    st.tuples(WORDS, st.sampled_from("><"), st.sampled_from([["1"], ["2"]])),
)


def written(part):
    key, operator, values = part
    if operator == "exists":
        return key
    if operator == "!":
        return f"! {key}"
    if operator in ("in", "notin"):
        return f"{key} {operator} ( {' ,'.join(values)})"
    return f"{key}{operator}{''.join(values)}"


def holds(part, host):
    """What https://kubernetes.io/docs/concepts/overview/working-with-objects says."""
    key, operator, values = part
    if operator in ("exists", "!"):
        return (key in host) == (operator == "exists")
    if operator in (">", "<"):
        if not host.get(key, "").isdigit():
            return False
        more = int(host[key]) > int(values[0])
        less = int(host[key]) < int(values[0])
        return more if operator == ">" else less
    if operator in ("=", "==", "in"):
        return key in host and host[key] in (values or [""])
    return key not in host or host[key] not in (values or [""])


@given(st.lists(PARTS, min_size=1, max_size=4), HOSTS)
def test_it_means_what_kubernetes_says(parts, host):
    selector = Selector.parse(",".join(map(written, parts)))
    assert selector.matches(host) == all(holds(part, host) for part in parts)
    assert selector.matches({}, {"labels": host}) == selector.matches(host)


@given(st.text(alphabet="ab1 .=!<>(),'\"\n\x00", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        selector = Selector.parse(text)
    except ConfigError:
        return
    assert selector.matches(LABELS, FACTS) in (True, False)
