"""``mlepool trust``: remember a worker's key and token."""

import sys
from typing import Annotated

import typer

from mlepool.client.links.trust import Target, TrustStore

__all__ = ["trust"]


def trust(
    url: Annotated[
        str,
        typer.Argument(
            help="The join URL that the worker printed; '-' reads it from stdin, "
            "which keeps it out of the process list and the shell's history."
        ),
    ],
) -> None:
    """Trust a worker: keep its key and token for this account."""
    text = sys.stdin.readline().strip() if url == "-" else url
    target = Target.parse(text)
    TrustStore().add(target)
    print(f"trusting {target.name} (key {target.key[:12]}...)")
