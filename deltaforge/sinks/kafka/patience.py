"""Notice that Kafka takes nothing any more, and say so: the calls themselves wait much longer before they give up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import trio

from deltaforge.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.sinks.kafka.session import Session

    Report: TypeAlias = Callable[[str, str], None]

_LOOK_S = 1.0
_PATIENCE_S = 4.0
"""A broker that is restarted in good order is back sooner, and leaders move sooner."""
_HOPELESS_S = 10.0
"""A client that is let in nowhere is thrown away after this: files and passwords are read again by the next one."""


async def tell_when_stuck(session: Session, report: Report) -> None:
    """Report why Kafka owes an answer while nothing moves, and `running` when it does again. Runs for ever."""
    told, mark, since = False, session.progress, trio.current_time()
    while True:
        await trio.sleep(_LOOK_S)
        now = session.progress
        if now is None or now != mark:
            mark, since = now, trio.current_time()
            session.forget_trouble()
            if told:
                report("running", "")
            told = False
        elif (stuck_s := trio.current_time() - since) >= _PATIENCE_S:
            told = True
            if not _tell_trouble(session, report, stuck_s):
                report("waiting", "Kafka: no answer to what was sent")


async def tell_while_opening(session: Session, report: Report) -> None:
    """Report what keeps the client from its brokers. Runs for ever."""
    since = trio.current_time()
    while True:
        await trio.sleep(_LOOK_S)
        _tell_trouble(session, report, trio.current_time() - since)


def _tell_trouble(session: Session, report: Report, stuck_s: float) -> bool:
    trouble = session.trouble
    if trouble is None:
        return False
    hopeless = trouble.fault is Fault.OPERATOR
    report("blocked" if hopeless else "waiting", trouble.line())
    if hopeless and stuck_s >= _HOPELESS_S:
        session.give_up(trouble)
    return True
