"""hosts.toml written from what was found elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from mlepool.client.inventory.brackets import fold_each
from mlepool.client.inventory.faults import printable
from mlepool.client.inventory.foreign.draft import MAX_DEPTH, Draft, DraftGroup
from mlepool.errors import ConfigError

__all__ = ["written"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that TOML takes without quotes


def written(draft: Draft, source: str) -> str:
    """Write a draft as the text of a ``hosts.toml``.

    Args:
        draft: What was found; names and labels have been checked.
        source: Where, for the first line.

    Raises:
        ConfigError: If a group is in itself.
    """
    lines = [f"# From {printable(source)}"]
    lines += [f"# {printable(note)}" for note in draft.notes]
    if draft.defaults:
        lines += ["", "[defaults]", f"labels = {_table(draft.defaults)}"]
    lines += ["", "[hosts]", *_hosts(draft)]
    if draft.groups:
        lines += ["", "[groups]", *_groups(draft.groups)]
    return "\n".join(lines) + "\n"


def _hosts(draft: Draft) -> Iterator[str]:
    """Write hosts; those of which nothing is said but their names are folded."""
    alike: dict[str, list[str]] = {}
    for name, address in draft.addresses.items():
        labels = draft.labels[name]
        parts = [f"address = {_text(address)}"] if address else []
        parts += [f"labels = {_table(labels)}"] if labels else []
        value = f"{{ {', '.join(parts)} }}" if parts else "{}"
        if address and not labels:
            value = _text(address)
        alike.setdefault(value, []).append(name)
    for value, names in alike.items():
        yield from (f"{_key(name)} = {value}" for name in fold_each(names))


def _groups(groups: Mapping[str, DraftGroup]) -> Iterator[str]:
    """Write groups, each before those in it: what is said later counts."""
    depths: dict[str, int] = dict.fromkeys(groups, 0)
    for _ in range(MAX_DEPTH + 1):
        before = dict(depths)
        for name, group in groups.items():
            for child in group.children:
                depths[child] = max(depths[child], depths[name] + 1)
        if depths == before:
            break
    else:
        raise ConfigError("a group has itself in it, or groups are nested too deep")
    for name in sorted(groups, key=depths.__getitem__):
        group = groups[name]
        members = [*fold_each(group.hosts), *(f"@{child}" for child in group.children)]
        listed = f"[{', '.join(map(_text, members))}]"
        if group.labels:
            listed = f"{{ members = {listed}, labels = {_table(group.labels)} }}"
        yield f"{_key(name)} = {listed}"


def _table(labels: Mapping[str, str]) -> str:
    pairs = (f"{_key(key)} = {_text(value)}" for key, value in labels.items())
    return f"{{ {', '.join(pairs)} }}"


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _text(text)


def _text(text: str) -> str:
    """Write a text that can be printed; JSON's strings are TOML's, too."""
    return json.dumps(text, ensure_ascii=False)
