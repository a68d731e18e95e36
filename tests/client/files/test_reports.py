"""What a sync tells of its paths."""

import pytest

from mlepool.client.files.reports import quoted


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"a b", "a b"),
        ("é".encode(), "é"),
        (b"a\nb", r"'a\nb'"),
        (b"\xff", r"'\udcff'"),
        (b"'a", '"\'a"'),
    ],
)
def test_paths_that_can_not_be_printed_are_quoted(path, shown):
    assert quoted(path) == shown
