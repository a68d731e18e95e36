"""Tables: rows for programs, and text for people."""

from collections.abc import Iterator, Sequence
from typing import Any

from tabulate import tabulate

__all__ = ["Table"]


class Table(Sequence[tuple[Any, ...]]):
    """Rows with named columns; ``str()`` is a text table, notebooks show HTML.

    Args:
        headers: The columns' names.
        rows: A tuple each, as long as ``headers``.
    """

    def __init__(self, headers: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        self.headers = tuple(headers)
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __str__(self) -> str:
        return tabulate(self.rows, self.headers, disable_numparse=True)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return tabulate(self.rows, self.headers, tablefmt="html", disable_numparse=True)
