"""Named places where a test may make this process die, raise or hang. Off unless DELTAFORGE_FAILPOINTS is set.

DELTAFORGE_FAILPOINTS="name=action[@n],..."; actions: kill (SIGKILL to ourselves), raise, cancel (the actor is cancelled
behind its supervisor's back), stall (sleep for ever, without a beat). `@n`: only at the n-th pass (1 = first).
Without `@n`: every time.
"""

from __future__ import annotations

import os
import signal

import trio

from actors import current_actor

VARIABLE = "DELTAFORGE_FAILPOINTS"


class FailpointHit(Exception):
    """Raised on purpose by an armed failpoint."""


class _Armed:
    def __init__(self, action: str, at: int) -> None:
        self.action, self.at, self.passes = action, at, 0


def _parse(text: str) -> dict[str, _Armed]:
    armed: dict[str, _Armed] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, action = entry.partition("=")
        action, _, at = action.partition("@")
        if action not in ("kill", "raise", "cancel", "stall"):
            raise ValueError(f"unknown failpoint action in {entry!r}")
        armed[name] = _Armed(action, int(at or 0))
    return armed


_armed = _parse(os.environ.get(VARIABLE, ""))


def _due(name: str) -> str | None:
    point = _armed.get(name)
    if point is None:
        return None
    point.passes += 1
    if point.at and point.passes != point.at:
        return None
    return point.action


def failpoint(name: str) -> None:
    """A place in synchronous code: `kill` and `raise` act here; the other actions need `failpoint_async`."""
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
        await trio.lowlevel.checkpoint()
    if action == "stall":
        await trio.sleep_forever()


def _act(name: str, action: str | None) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise FailpointHit(f"failpoint {name}")
