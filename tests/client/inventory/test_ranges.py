"""Sets of names, against ClusterShell, which has the same signs."""

import string

import pytest
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
from hypothesis import given, strategies as st

from mlepool.client.inventory.ranges import MAX_NAMES, expand, fold, is_set
from mlepool.errors import ConfigError

NAMES = [*(f"gpu{number}" for number in range(1, 9)), "lab", "[::1]:9922", "a!b"]
GROUPS = {"train": ["gpu2", "gpu1", "gone"], "rack1": ["lab"], "rack2": ["gpu8"]}

NUMBERS = st.integers(0, 30)
RANGES = st.one_of(
    NUMBERS.map(str),
    st.tuples(NUMBERS, NUMBERS).map(lambda two: f"{min(two)}-{max(two)}"),
    st.tuples(NUMBERS, NUMBERS).map(lambda two: f"{min(two):02d}-{max(two):02d}"),
    st.tuples(NUMBERS, NUMBERS, st.integers(1, 5)).map(
        lambda three: f"{min(three[:2])}-{max(three[:2])}/{three[2]}"
    ),
)
BRACKETS = st.lists(RANGES, min_size=1, max_size=3).map(",".join)
TERMS = st.builds(
    "{}[{}]{}".format, st.sampled_from("abx"), BRACKETS, st.sampled_from(["", "c[1-2]"])
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu1", "gpu1"),
        ("gpu[1-3],!gpu2", "gpu1 gpu3"),
        ("gpu[1-3]!gpu2,lab", "gpu1 gpu3 lab"),
        ("lab,gpu2,gpu1,gpu2", "gpu1 gpu2 lab"),
        ("gpu[1-8/3,8] ^ gpu[7-8]", "gpu1 gpu4"),
        ("gpu*&gpu[1-3]", "gpu1 gpu2 gpu3"),
        ("?ab", "lab"),
        ("gpu*!*[1-6]", "gpu7 gpu8"),
        ("!gpu*,!lab", "[::1]:9922 a!b"),
        ("@train", "gpu1 gpu2"),
        ("@rack[1-2]", "gpu8 lab"),
        ("@train,@rack2,&gpu[2-8]", "gpu2 gpu8"),
        ("[::1]:9922", "[::1]:9922"),
        ("[::1]:9922,lab", "lab [::1]:9922"),
        ("a!b", "a!b"),
        ("gpu1!gpu1", ""),
    ],
)
def test_a_text_stands_for_names_in_their_order(text, expected):
    assert expand(text, names=NAMES, groups=GROUPS) == expected.split()


def test_without_known_names_all_are_taken():
    assert expand("b,a[08-10]") == ["b", "a08", "a09", "a10"]
    assert expand("a,@x", groups={"x": ["q"]}) == ["a", "q"]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("gpu9", "there is no 'gpu9' (near: gpu8, gpu7, gpu6)"),
        ("gpu[7-10]", "there is no 'gpu[9-10]'"),
        ("gpu[1-8],!gpu33", "there is no 'gpu33'"),
        ("@trian", "there is no group 'trian' (near: train)"),
        ("gqu*", "no name is like 'gqu*' (there are gpu1,"),
    ],
)
def test_what_is_not_there_is_named_with_what_is_near(text, near):
    with pytest.raises(KeyError) as caught:
        expand(text, names=NAMES, groups=GROUPS)
    assert near in caught.value.args[0]


@pytest.mark.parametrize(
    ("text", "at", "cause"),
    [
        ("", 0, "a name is missing"),
        ("a,", 2, "a name is missing"),
        ("a,,b", 2, "a name is missing"),
        ("a,! b!", 6, "a name is missing"),
        ("a!&b", 2, "a name is missing"),
        ("&a", 0, "a name is missing"),
        ("a[1-3", 1, "']' to this is missing"),
        ("a]", 1, "no place for a ']'"),
        ("a[1[2]]", 3, "no place for a '['"),
        ("b,a[x]", 4, "'x' is no range"),
        ("a[1,c-d]", 4, "'c-d' is no range"),
        ("a[]", 2, "'' is no range"),
        ("a[1:3]", 2, "'1:3' is no range"),
        ("a[٣]", 2, "is no range"),
        ("a[3-1]", 2, "write 1-3"),
        ("a[1,01-3]", 4, "write 01-03"),
        ("a[1-9/0]", 2, "a step is 1 or more"),
        ("a[1-9999999999999999999]", 2, "at most 18 digits"),
        ("b,@", 2, "the name of a group"),
        ("a*", 0, "names must be written out"),
        ("!a", 0, "names must be written out"),
    ],
)
def test_what_cannot_be_read_is_shown(text, at, cause):
    with pytest.raises(ConfigError) as caught:
        expand(text)
    sentence, shown, caret = str(caught.value).split("\n")
    assert cause in sentence
    assert (shown, caret) == (f"  {text}", f"  {' ' * at}^")


@pytest.mark.parametrize(
    "text",
    [
        f"a[0-{MAX_NAMES}]",
        "a[1-999999999]",
        "a[0-999]b[0-99]c[0-1]",
        f"a[1-{MAX_NAMES}],b",
        "a[1-60000],a[1-60000]",
        f"a[{','.join(['1-60000', '60001-120000'])}]",
    ],
)
def test_there_is_an_end_to_names(text):
    with pytest.raises(ConfigError, match="more than 100,000"):
        expand(text)


def test_so_many_names_are_fine():
    assert len(expand(f"a[1-{MAX_NAMES}]")) == MAX_NAMES


def test_a_long_text_is_shown_around_the_place():
    with pytest.raises(ConfigError) as caught:
        expand(f"{'a' * 5000},\x1b[2J,{'b' * 5000}")
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)


@given(st.lists(TERMS, min_size=1, max_size=4), st.lists(st.sampled_from(",!&^")))
def test_clustershell_reads_the_same(terms, signs):
    text = terms[0]
    for sign, term in zip(signs, terms[1:], strict=False):
        text += sign + term
    try:
        theirs = set(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except Exception:
        theirs = None  # of mixed lengths, say
    try:
        ours = set(expand(text))
    except ConfigError:
        ours = None
    assert ours == theirs


@given(st.lists(st.text("ab0129.:-", min_size=1, max_size=5)))
def test_folded_names_are_the_same_names(names):
    text = fold(names)
    assert (set(expand(text)) if text else set()) == set(names)


@given(st.lists(st.text(max_size=8)))
def test_odd_names_are_the_same_among_those_known(names):
    names = list(dict.fromkeys(names))
    for name in names:
        assert expand(name, names=names) == [name]
    assert bool(fold(names)) == any(names)


@given(st.text(alphabet="ab12[]-,!&^@*?/: " + string.whitespace, max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        found = expand(text, names=NAMES, groups=GROUPS)
    except (ConfigError, KeyError):
        return
    assert set(found) <= set(NAMES)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("gpu3 gpu1 gpu2 lab gpu7", "gpu[1-3,7],lab"),
        ("a08 a09 a10 a11", "a[08-11]"),
        ("a9 a10 a11", "a[9-11]"),
        ("r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"),
        ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
        ("10.0.0.1 10.0.0.2", "10.0.0.[1-2]"),
        ("a:9922 a:9923", "a:[9922-9923]"),
        ("[::1]:1 [::1]:2", "[::1]:1,[::1]:2"),
        ("", ""),
    ],
)
def test_names_are_folded(names, text):
    assert fold(names.split()) == text


def test_only_what_has_signs_may_be_a_set():
    assert all(map(is_set, ["a[1-2]", "a,b", "!a", "@a", "a*", "a?", "a&b", "a^b"]))
    assert not any(map(is_set, ["gpu1", "host:9923", "unix:/run/a b", "me@host", ""]))
