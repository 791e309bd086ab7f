"""What the sinks' durable positions together allow to be confirmed to PostgreSQL. Pure.

Rule 1: only a receipt of the current epoch counts: an older one speaks of another stream.
Rule 2: a sink that must be waited for and has not spoken yet allows nothing.
Rule 3: `all` waits for every sink, `required` for those marked so, `quorum` for any that many. Where `required` marks
        no sink at all it means `all`: with nobody to wait for, everything would be confirmed at once and nothing kept.
Rule 4: WAL without events is confirmed when every sink has made it durable, also one that is behind, away or spared
        (`without_idle_gap`): it may lack no event, or soon not any more, and what its next start finds missing counts
        as lost changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.errors import UsageError
from deltaforge.model import Confirm, Lsn, Receipt

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_IDLE_BYTES = 16 * 1024 * 1024
"""So much WAL without events may be kept for a sink, which may be away for good."""


def combine(
    mode: str, quorum: int | None, receipts: Mapping[str, Receipt | None], required: Mapping[str, bool], epoch: int
) -> Confirm | None:
    """The highest LSN that enough sinks hold durably in `epoch`, or None when that is nothing yet.

    `receipts` and `required` have the same keys, the sink ids. Detached sinks are left out by the caller.
    """
    flushed = {
        sink: receipt.flush_lsn if receipt is not None and receipt.epoch == epoch else Lsn(0)
        for sink, receipt in receipts.items()
    }
    if mode == "all":
        counted, wanted = list(flushed.values()), len(flushed)
    elif mode == "required":
        marked = [lsn for sink, lsn in flushed.items() if required[sink]]
        counted = marked or list(flushed.values())
        wanted = len(counted)
    elif mode == "quorum" and quorum is not None and quorum >= 1:
        counted, wanted = list(flushed.values()), quorum
    else:
        raise UsageError(f"commit policy {mode!r} with quorum {quorum} does not exist")
    if not counted or wanted > len(counted):
        return None
    lsn = sorted(counted, reverse=True)[wanted - 1]
    return Confirm(epoch, lsn) if lsn else None


def enough(mode: str, quorum: int | None, required: Mapping[str, bool], sinks: Collection[str]) -> bool:
    """Whether the policy is content with these sinks alone. `required` has all sinks."""
    if mode == "quorum":
        return len(sinks) >= (quorum or 1)
    marked = {sink for sink, needed in required.items() if needed} if mode == "required" else set()
    return (marked or required.keys()) <= set(sinks)


def without_idle_gap(confirm: Confirm, receipts: Mapping[str, Receipt | None]) -> Confirm:
    """`confirm`, lowered to the end of the newest event, or to the slowest of all sinks where that is more."""
    spoken = [r for r in receipts.values() if r is not None and r.epoch == confirm.epoch and r.flush_lsn]
    if not spoken:
        return confirm
    slowest = min(r.flush_lsn for r in spoken) if len(spoken) == len(receipts) else Lsn(0)
    held = Lsn(max(slowest, *(r.event_end for r in spoken)))
    return Confirm(confirm.epoch, held) if 0 < confirm.lsn - held <= _IDLE_BYTES else confirm
