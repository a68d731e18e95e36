"""Who is in which group: sets of names and of other groups, written out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mlepool.client.inventory.entries import Where
from mlepool.client.inventory.ranges import expand
from mlepool.errors import ConfigError

__all__ = ["Membership"]

MAX_DEPTH = 32  # groups in groups in groups


class Membership(Mapping[str, tuple[str, ...]]):
    """The members of each group, found when they are asked for.

    Args:
        texts: For each group the sets of names that it has.
        hosts: All names, in their order.
        where: Says where a group stands.
    """

    def __init__(
        self, texts: Mapping[str, Sequence[str]], hosts: Sequence[str], where: Where
    ) -> None:
        self._texts = texts
        self._hosts = dict.fromkeys(hosts)
        self._where = where
        self._found: dict[str, tuple[str, ...]] = {}
        self._open: list[str] = []  # groups within which others are being found

    def resolve(self) -> dict[str, tuple[str, ...]]:
        """Give the members of all, in the order of the hosts.

        Raises:
            ConfigError: If a group has what is not there, or itself: says where.
        """
        return {name: self[name] for name in self}

    def __getitem__(self, name: str) -> tuple[str, ...]:
        if name not in self._found:
            if name in self._open or len(self._open) >= MAX_DEPTH:
                way = " -> ".join([*self._open, name])
                what = (
                    "has itself in it" if name in self._open else "is nested too deep"
                )
                raise ConfigError(f"{self._where(name)}: a group {what}: {way}")
            self._open.append(name)
            self._found[name] = self._find(name)
            self._open.pop()
        return self._found[name]

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __contains__(self, name: object) -> bool:
        return name in self._texts

    def _find(self, name: str) -> tuple[str, ...]:
        found: set[str] = set()
        for text in self._texts[name]:
            try:
                found.update(expand(text, names=self._hosts, groups=self))
            except KeyError as exc:
                raise ConfigError(
                    f"{self._where(name)}: {name}: {exc.args[0]}"
                ) from None
            except ConfigError as exc:
                raise self._placed(name, exc) from None
        return tuple(one for one in self._hosts if one in found)

    def _placed(self, name: str, exc: ConfigError) -> ConfigError:
        """Say where it is wrong, unless that was said of a group within it."""
        if self._open[-1] != name:
            return exc
        return ConfigError(f"{self._where(name)}: {name}: {exc}")
