"""mlepool trust: join URLs, from the command line and from stdin."""

import pytest

from tests.cli.shell import mlepool

pytestmark = pytest.mark.real


@pytest.mark.usefixtures("elsewhere")
def test_nobody_is_let_in_before_trust_and_then_by_any_address(join_url, other, here):
    assert here("run", "-H", other, "true") == (
        255,
        "",
        f"mlepool: cannot connect to {other}: no token; run 'mlepool trust URL' with "
        "the worker's join URL\n",
    )
    trusted = here("trust", join_url)
    assert (trusted.status, trusted.err) == (0, "")
    assert trusted.out.startswith("trusting 127.0.0.1:")
    # It was trusted at 127.0.0.1; trust goes by the key, so that localhost will do.
    assert here("run", "-H", other, "true") == (0, "", "")


def test_a_dash_reads_the_url_from_stdin_and_no_secret_is_printed(
    join_url, elsewhere, other_worker
):
    done = mlepool("trust", "-", stdin=f"  {join_url}\n")
    assert (done.status, done.err) == (0, "")
    assert other_worker.token() not in done.out
    kept = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in kept] == [0o600]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("localhost:9922", "only a join URL (mle://...) can be trusted"),
        ("mle://gpu1:9922?key=abc&token=sesame", "the join URL is not whole"),
        ("http://gpu1/?token=sesame", "cannot connect to a http:// address"),
        ("", "'' is not a host or host:port"),
    ],
)
def test_what_is_no_join_url_is_one_line_that_repeats_no_token(text, complaint, here):
    done = here("trust", text)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool: {complaint}")
    assert len(done.err.splitlines()) == 1
    assert "sesame" not in done.err
