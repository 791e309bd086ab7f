"""Named places where a test may make this process die, raise or hang. Off unless DELTAFORGE_FAILPOINTS is set.

DELTAFORGE_FAILPOINTS="name=action[@n],..."; actions: kill (SIGKILL to ourselves), raise, cancel (the actor is cancelled
behind its supervisor's back), stall (sleep for ever, without a beat), slow (go on six seconds later), block (the whole
event loop stands still). `@n`: only at the n-th pass (1 = first); `@n+`: from the n-th pass on; without: every time. A
name may come several times, and with the name of a pipeline before it (`orders:reader.loop`) for that pipeline alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import trio

from actors import current_actor
from deltaforge.logs import get_logger

VARIABLE = "DELTAFORGE_FAILPOINTS"
_FOR_EVER_S = 3600.0
_SLOW_S = 6.0

log = get_logger("failpoints")


class FailpointHit(Exception):
    """Raised on purpose by an armed failpoint."""


class _Armed:
    def __init__(self) -> None:
        self.passes = 0
        self.actions: list[tuple[str, range]] = []
        """Action, and the passes it is for."""


def _parse(text: str) -> dict[str, _Armed]:
    armed: dict[str, _Armed] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, action = entry.partition("=")
        action, _, at = action.partition("@")
        if action not in ("kill", "raise", "cancel", "stall", "slow", "block"):
            raise ValueError(f"unknown failpoint action in {entry!r}")
        first = int(at.removesuffix("+") or 1)
        last = first if at.isdigit() else sys.maxsize - 1
        armed.setdefault(name, _Armed()).actions.append((action, range(first, last + 1)))
    return armed


_armed = _parse(os.environ.get(VARIABLE, ""))


def _due(name: str) -> str | None:
    actor = current_actor()
    # root/PIPELINE/...
    pipeline = actor.path.split("/")[1:2] if actor is not None else []
    for known in (name, *(f"{each}:{name}" for each in pipeline)):
        if (point := _armed.get(known)) is not None:
            point.passes += 1
            for action, passes in point.actions:
                if point.passes in passes:
                    return action
    return None


def failpoint(name: str) -> None:
    """A place in synchronous code; `cancel`, `stall` and `slow` need `failpoint_async`."""
    if _armed:
        _act(name, _due(name))


async def failpoint_async(name: str) -> None:
    """A place in an actor. A checkpoint only when armed."""
    if not _armed:
        return
    action = _due(name)
    _act(name, action)
    if action == "cancel" and (actor := current_actor()) is not None:
        actor.cancel(f"failpoint {name}")
        # The supervisor cancels a moment later, and not one step of the work may come in between.
        await trio.sleep_forever()
    if action == "stall":
        await trio.sleep_forever()
    if action == "slow":
        await trio.sleep(_SLOW_S)


def _act(name: str, action: str | None) -> None:
    if action is not None:
        # What comes of it may coincide with another failure, and be told as that one.
        log.warning(f"failpoint {name}", action=action)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise FailpointHit(f"failpoint {name}")
    if action == "block":
        time.sleep(_FOR_EVER_S)
