"""Where the files of one of several hosts go here."""

from __future__ import annotations

import os

__all__ = ["folder_of", "place_for"]

PLACE = "{host}"  # stands for a host's name in a destination here


def folder_of(name: str) -> str:
    """Give the name of a host's folder: the host's, as far as a folder can have it."""
    own = name.replace(os.sep, "_")
    return own.replace(".", "_") if own in {os.curdir, os.pardir} else own


def place_for(name: str, destination: str | bytes | os.PathLike[str]) -> str:
    """Give where a host's files go here.

    Args:
        name: The host's.
        destination: A path in which ``{host}`` is its name; or a folder, in which it
            gets one of its name.

    Raises:
        TypeError: If the destination is no path.
    """
    place = os.fsdecode(os.fspath(destination))
    own = folder_of(name)
    if PLACE in place:
        return place.replace(PLACE, own)
    return os.path.join(place, own, "")
