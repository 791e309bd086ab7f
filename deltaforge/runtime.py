"""What a run was asked to do, and how a pipeline's run came out: the words between the command line and a pipeline."""

from __future__ import annotations

from typing import Literal

import msgspec

from deltaforge.model import Lsn  # noqa: TC001 - msgspec reads the annotation


class RunOptions(msgspec.Struct, frozen=True):
    """What the operator asked for on the command line, beyond the pipeline file."""

    adopt_slot: Lsn | None = None
    """Begin with an existing slot at exactly this confirmed position, though no checkpoint knows it."""
    accept_gap: Lsn | None = None
    """Go on although changes below this position are lost; given by the operator after a refusal named it."""
    grace_s: float = 25.0
    """Seconds a drain may take, from the first signal to the last commit."""
    stall_after_s: float = 30.0
    """Seconds of silence after which an actor is restarted, and after which a silent event loop ends the process."""


class Outcome(msgspec.Struct, frozen=True):
    """How a pipeline stands for the process's end: `working` while it can still work or wait."""

    state: Literal["working", "blocked", "stopped", "refused", "failed"]
    """blocked: waits for a person (exit 3 when stopped meanwhile). refused, failed: parked for good."""
    line: str = ""
    """One line for the operator; empty when there is nothing to say."""
