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
"""A client that needs a person is thrown away after this: the next one reads certificates again."""
_LONGER = 4
"""It may be one broker of several that needs him: each try may take twice as long as the one before, up to so much."""


async def tell_when_stuck(session: Session, report: Report, tries: int) -> None:
    """Report why Kafka owes an answer while nothing moves, and `running` when it does again. Runs for ever.

    Args:
      tries: how many in a row came to nothing.
    """
    told, mark, since, refused_s = False, session.progress, trio.current_time(), 0.0
    while True:
        await trio.sleep(_LOOK_S)
        now = session.progress
        if now is None or now != mark:
            mark, since, refused_s = now, trio.current_time(), 0.0
            session.forget_trouble()
            if told:
                report("running", "")
            told = False
        elif trio.current_time() - since >= _PATIENCE_S:
            told = True
            if session.trouble is None:
                report("waiting", "Kafka: no answer to what was sent")
            refused_s = _tell_trouble(session, report, tries, refused_s)


async def tell_while_opening(session: Session, report: Report, tries: int) -> None:
    """Report what keeps the client from its brokers. Runs for ever."""
    refused_s = 0.0
    while True:
        await trio.sleep(_LOOK_S)
        refused_s = _tell_trouble(session, report, tries, refused_s)


def _tell_trouble(session: Session, report: Report, tries: int, refused_s: float) -> float:
    """Returns for how many seconds a person has been needed."""
    trouble = session.trouble
    if trouble is None or trouble.fault is not Fault.OPERATOR:
        if trouble is not None:
            report("waiting", trouble.line())
        return 0.0
    report("blocked", trouble.line())
    refused_s += _LOOK_S
    if refused_s >= _HOPELESS_S * min(2**tries, _LONGER):
        session.give_up(trouble)
    return refused_s
