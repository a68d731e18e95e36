"""What was found in another program's inventory, before it is one of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlepool.client.inventory.reading import check_host_name
from mlepool.client.links.trust import Target
from mlepool.settings.properties import check_labels, looks_secret

__all__ = ["MAX_DEPTH", "Draft", "DraftGroup"]

MAX_DEPTH = 16  # files in files, groups in groups: as many as ssh takes
MAX_NOTES = 50
MAX_SHOWN = 80  # characters


class DraftGroup:
    """A group as it was found.

    Attributes:
        hosts: Names of hosts in it.
        children: Names of groups in it.
        labels: What holds for its members.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, None] = {}
        self.children: dict[str, None] = {}
        self.labels: dict[str, str] = {}


class Draft:
    """Hosts and groups as they were found; what can't be ours is noted, and left out.

    Attributes:
        addresses: For each host its address; empty where that is the name.
        labels: Of each host.
        groups: By name.
        defaults: Labels of all.
        notes: What was left out, and why; never a value.
    """

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.groups: dict[str, DraftGroup] = {}
        self.defaults: dict[str, str] = {}
        self.notes: dict[str, None] = {}

    def note(self, text: str) -> None:
        """Note something for people, once."""
        if len(self.notes) < MAX_NOTES:
            self.notes[text] = None

    def add_host(self, name: str, address: str = "") -> bool:
        """Take a host; one that is there gets the address, if there is one.

        Returns:
            False if it can't be one of ours; that was noted.
        """
        try:
            check_host_name(name)
            if not address.isprintable():
                raise ValueError("its address can't be printed")
            Target.parse(address or name)
        except ValueError as exc:
            cause = str(exc).removeprefix(f"{name!r}: ")
            self.note(f"left out {shown(name)}: {cause}")
            return False
        if address or name not in self.addresses:
            self.addresses[name] = "" if address == name else address
        self.labels.setdefault(name, {})
        return True

    def group(self, name: str) -> DraftGroup:
        """Give a group, which may be new."""
        return self.groups.setdefault(name, DraftGroup())

    def add_labels(
        self, labels: dict[str, str], variables: Mapping[Any, Any], of: str
    ) -> None:
        """Take what of variables can be labels.

        Args:
            labels: Those that there are.
            variables: By name; of any kind.
            of: What they are of, for notes.
        """
        for key, value in variables.items():
            if str(key).startswith("ansible_"):
                continue
            try:
                text = plain(value)
                if looks_secret(str(key)):
                    raise ValueError("it looks like a secret")
                if text is None:
                    raise ValueError("it is no plain text or number")
                check_labels({str(key): text})
            except ValueError as exc:
                cause = str(exc).removeprefix(f"{key}: ")
                self.note(f"left out {shown(str(key))} of {of[:MAX_SHOWN]}: {cause}")
            else:
                labels[str(key)] = text

    def prune(self) -> None:
        """Leave out groups that can't be ours, and who is in none of them."""
        for name in list(self.groups):
            try:
                check_host_name(name)
            except ValueError as exc:
                self.note(f"left out the group {shown(name)}: {exc}")
                del self.groups[name]
        for group in self.groups.values():
            group.hosts = _among(group.hosts, self.addresses)
            group.children = _among(group.children, self.groups)


def plain(value: Any) -> str | None:
    """Give a value as a label's text; None if it can't be one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or not value.isprintable():
        return None
    is_made_later = "{{" in value or value.startswith(("$ANSIBLE_VAULT", "!vault"))
    return None if is_made_later else value


def shown(text: str) -> str:
    """Show a name of somebody else's."""
    return repr(text[:MAX_SHOWN])


def _among(names: Iterable[str], known: Mapping[str, Any]) -> dict[str, None]:
    return dict.fromkeys(name for name in names if name in known)
