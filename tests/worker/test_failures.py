"""Exceptions as data."""

import os

from mlepool.wire.codec import encode
from mlepool.wire.messages import Ended
from mlepool.worker.failures import failed

ODD = os.fsdecode(b"odd\xff")


def test_what_is_no_utf_8_in_an_error_does_not_keep_it_from_being_told():
    try:
        os.stat(ODD)
    except OSError as exc:
        outcome = failed(exc)
    assert encode(Ended(1, outcome))
    assert outcome.failure is not None
    assert (outcome.failure.errno, outcome.failure.filename) == (2, r"odd\udcff")
    assert encode(Ended(1, failed(ValueError(f"a lone \ud800 of {ODD}"))))
