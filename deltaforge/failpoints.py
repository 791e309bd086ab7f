"""Named places where a test may make this process die, raise or hang. Off unless DELTAFORGE_FAILPOINTS is set.

DELTAFORGE_FAILPOINTS="name=action[@n],..."; actions: kill (SIGKILL to ourselves), raise, cancel (the surrounding task is
cancelled), stall (sleep for ever, without a beat). `@n`: only at the n-th pass (1 = first), once. Without `@n`: every
time, for kill the first. Test rigs may also arm points at run time (`arm`, through the admin API only when the
variable DELTAFORGE_FAILPOINTS exists).
"""

from __future__ import annotations

import os
import signal

import trio

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
ENABLED = VARIABLE in os.environ


def arm(text: str) -> None:
    """Arm further failpoints at run time. Raises ValueError on nonsense, PermissionError when not in a test rig."""
    if not ENABLED:
        raise PermissionError("failpoints are disabled")
    _armed.update(_parse(text))


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
    if action == "cancel":
        with trio.CancelScope() as scope:
            scope.cancel(reason=f"failpoint {name}")
            await trio.lowlevel.checkpoint()
        raise FailpointHit(f"failpoint {name} (cancelled)")
    if action == "stall":
        await trio.sleep_forever()


def _act(name: str, action: str | None) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise FailpointHit(f"failpoint {name}")
