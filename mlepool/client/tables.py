"""Tables: rows for programs, and text for people."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlepool.wire.messages import Outcome
from mlepool.wire.values import JobInfo

__all__ = ["JobList", "Table"]

COMMAND_WIDTH = 80  # characters of a command in a printed table of jobs


class Table(Sequence[tuple[Any, ...]]):
    """Rows with named columns; ``str()`` is a text table, notebooks show HTML.

    Args:
        headers: The columns' names.
        rows: A tuple each, as long as ``headers``.
        widths: How many characters of a column ``str()`` shows; by default all. Rows
            and HTML have the whole.
    """

    def __init__(
        self,
        headers: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
        *,
        widths: Mapping[str, int] | None = None,
    ) -> None:
        self.headers = tuple(headers)
        self.rows = list(rows)
        self._widths = dict(widths or {})

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __str__(self) -> str:
        from tabulate import tabulate

        rows = [map(self._cell, self.headers, row) for row in self.rows]
        return tabulate(rows, self.headers, disable_numparse=True)

    def _cell(self, header: str, value: Any) -> Any:
        width = self._widths.get(header)
        if width is None or len(str(value)) <= width:
            return value
        return f"{str(value)[: width - 3]}..."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from mlepool.client.html import Cell, page, table

        rows = [
            [Cell(one, "number") if _is_number(one) else one for one in row]
            for row in self.rows
        ]
        return page(table(self.headers, rows))


class JobList(list[JobInfo]):
    """Jobs of a worker; ``str()`` is a table of them."""

    def table(self) -> Table:
        """Give what people want to know first."""
        headers = ("id", "status", "exit", "started", "took", "command")
        return Table(headers, self._rows(), widths={"command": COMMAND_WIDTH})

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                one.id,
                one.status,
                _code(one.outcome),
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.started)),
                f"{one.duration:.1f} s",
                one.command if one.command.isprintable() else repr(one.command),
            )
            for one in self
        ]

    def __str__(self) -> str:
        return str(self.table()) if self else "no job is known"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _code(outcome: Outcome | None) -> str:
    if outcome is None or outcome.exit_code is None:
        return ""
    return str(outcome.exit_code)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
