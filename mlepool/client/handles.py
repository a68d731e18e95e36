"""What lives in one process, and says so when somebody would send it elsewhere."""

from typing import NoReturn

__all__ = ["Handle"]


class Handle:
    """A part of a running client: it can't be pickled, and a copy makes no sense."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} belongs to its process, and can't be pickled or copied: add() "
            "a connection where it is used, and attach(job_id) to a job there"
        )
