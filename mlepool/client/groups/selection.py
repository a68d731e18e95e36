"""Which connections of a pool are meant: by name, by a set of names, by labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mlepool.client.connection import AsyncConnection
from mlepool.client.inventory.faults import nearest
from mlepool.client.inventory.ranges import expand, is_set
from mlepool.client.inventory.selectors import Selector

__all__ = ["Groups", "choose", "choose_by_labels"]

Groups = Mapping[str, Collection[str]]


def choose(
    key: str, members: Sequence[AsyncConnection], groups: Groups
) -> AsyncConnection | list[AsyncConnection]:
    """Give the connection of a name, or those of a set of names.

    Raises:
        TypeError: If it is no text.
        KeyError: If a name is not there; says what is near.
        ConfigError: If it can't be read: shows where.
    """
    if not isinstance(key, str):
        raise TypeError(f"a name or a set of names is a str, not {key!r}")
    by_name = {one.name: one for one in members}
    if key in by_name:
        return by_name[key]
    if not is_set(key):
        raise KeyError(f"the pool has no {key!r}; {nearest(key, by_name)}")
    return [by_name[one] for one in expand(key, names=by_name, groups=groups)]


def choose_by_labels(
    selector: str, members: Sequence[AsyncConnection]
) -> list[AsyncConnection]:
    """Give the connections whose labels and facts a selector fits.

    Raises:
        TypeError: If it is no text.
        ConfigError: If it can't be read: shows where.
    """
    if not isinstance(selector, str):
        raise TypeError(f"a selector is a str, not {selector!r}")
    wanted = Selector.parse(selector)
    return [one for one in members if wanted.matches(one.labels, one.state)]
