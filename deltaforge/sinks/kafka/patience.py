"""Notice that Kafka takes nothing any more, and say so: the calls themselves wait much longer before they give up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.sinks.kafka.session import Session

_LOOK_S = 1.0
_PATIENCE_S = 4.0
"""A broker that is restarted in good order is back sooner, and leaders move sooner."""


async def tell_when_stuck(session: Session, report: Callable[[str, str], None]) -> None:
    """Report `waiting` while Kafka owes an answer and nothing moves, `running` when it does again. Runs for ever."""
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
        elif trio.current_time() - since >= _PATIENCE_S:
            told = True
            report("waiting", session.trouble or "Kafka: no answer to what was sent")
