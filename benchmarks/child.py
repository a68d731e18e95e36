"""The process of one contender: takes turns on standard input, answers on output.

One JSON object a line, both ways. A process of its own keeps a contender that hangs,
crashes or polls without a pause away from the others and from the table.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from .asyncssh_peer import AsyncSsh
from .clush_peer import Clush
from .conplyent_peer import Conplyent
from .contender import Contender, LinkCutError, NotOfferedError
from .execnet_peer import Execnet
from .fabric_peer import Fabric
from .files import CASES, copy_in_turn
from .local import Local
from .mlepool_bench import Mlepool, MlepoolUnix
from .openssh import OpenSsh
from .processes import ServerError
from .pssh_peer import ParallelSsh
from .work import Work

CONTENDERS: dict[str, type[Contender]] = {
    "local": Local,
    "mlepool-unix": MlepoolUnix,
    "mlepool-tls": Mlepool,
    "openssh": OpenSsh,
    "asyncssh": AsyncSsh,
    "execnet": Execnet,
    "conplyent": Conplyent,
    "parallel-ssh": ParallelSsh,
    "clush": Clush,
    "fabric": Fabric,
}


def main() -> None:
    """Open the contender named in the arguments, measure as told, close it."""
    name, folder, data = sys.argv[1:]
    # So that `finally` runs when the parent, or the terminal, ends us.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    replies = _take_output()
    contender = CONTENDERS[name](Path(folder))
    try:
        opened = _answer(partial(_open, contender))
        _reply(replies, opened)
        if "error" in opened:
            return
        for line in sys.stdin:
            turn = partial(_measure, contender, json.loads(line), data=Path(data))
            _reply(replies, _answer(turn))
    finally:
        contender.close()


def _leave(_number: int, _frame: object) -> None:
    sys.exit(1)


def _take_output() -> TextIO:
    """Keep standard output for replies; what libraries print goes to the log."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _reply(replies: TextIO, answer: dict[str, Any]) -> None:
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


def _open(contender: Contender) -> dict[str, Any]:
    contender.open()
    return {"version": contender.version()}


def _measure(
    contender: Contender, turn: dict[str, Any], *, data: Path
) -> dict[str, Any]:
    measure = turn["measure"]
    work = Work(**turn["work"]).shared(contender.shares.get(measure, 1))
    if measure in CASES:
        trees = data.with_name("trees")
        return {"samples": copy_in_turn(contender, CASES[measure], work, trees=trees)}
    method = getattr(contender, measure)
    needs_data = measure == "read_bytes"
    return {"samples": method(work, data) if needs_data else method(work)}


def _answer(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call, and turn what goes wrong into a reason: the border of the process."""
    try:
        return call()
    except NotOfferedError as exc:
        return {"error": str(exc)}
    except LinkCutError as exc:
        return {"error": str(exc), "detail": exc.detail}
    except ImportError as exc:
        return {"error": "not installed", "detail": str(exc)}
    except ServerError as exc:
        return {"error": "server failed", "detail": str(exc), "look": True}
    except Exception as exc:
        detail = f"{type(exc).__name__}: {exc}"
        traceback.print_exc()
        return {"error": type(exc).__name__, "detail": detail}


if __name__ == "__main__":
    main()
