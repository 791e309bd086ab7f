"""Keep a sink that nobody waits for from holding up the others.

Every sink has a byte budget of its own. The reader waits for room in the budgets of the sinks that the commit policy
needs; a sink it can do without is detached instead, once it is behind by its whole budget or asks for a second rewind
within a minute. A detached sink gets nothing more in this epoch. The next epoch attaches it again, if the slot still
holds what it lacks; otherwise its own guard parks it. What was taken out of its inbox meanwhile is forgotten but for
where its stream began: a sink that was never told could not know what it lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from actors import WeightBudget
from deltaforge.model import Lease, Lsn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actors import Cell, Mailbox
    from deltaforge.model import Batch

BUDGET_BYTES = 32 * 1024 * 1024
"""WAL bytes upstream plus encoded bytes in hand and in librdkafka, for each sink."""
REWIND_EVERY_S = 60.0
ASK_AGAIN_S = 1.0
"""While the reader waits for a sink, the ones that make it dispensable may begin to deliver."""


class Attachment:
    """One sink's place in the flow.

    Args:
      dispensable: whether the commit policy could do without this sink just now.
      report: says `detached` and why, and `starting` when it is attached again.
    """

    def __init__(
        self,
        inbox: Mailbox[Lease | Batch],
        dispensable: Callable[[], bool],
        report: Callable[[str, str], None],
    ) -> None:
        self.inbox, self._dispensable, self._report = inbox, dispensable, report
        self.budget = WeightBudget(BUDGET_BYTES, name="room in the byte budget")
        self.attached = True
        self.passed_over = Lsn(0)
        """Where the slot stood in the first Lease that was taken from the sink unread; 0 = none was."""

    def attach(self) -> None:
        """A new epoch begins."""
        if not self.attached:
            self.attached = True
            self._report("starting", "")

    def detach_if_dispensable(self, why: str) -> bool:
        """Detach the sink unless it is needed; says whether it is detached now."""
        if self.attached and self._dispensable():
            self.attached = False
            self._report("detached", why)
            # What it has not taken yet would only keep memory; the next epoch brings it again, if at all.
            try:
                while True:
                    item = self.inbox.receive_nowait()
                    if isinstance(item, Lease):
                        self.passed_over = self.passed_over or item.confirmed_flush
            except (trio.WouldBlock, trio.EndOfChannel):
                pass
        return not self.attached


class Budgets:
    """The budgets of all sinks as the reader sees them: one limit over everything."""

    def __init__(self, attachments: Sequence[Attachment]) -> None:
        self._attachments = attachments

    @property
    def limit(self) -> int:
        """Bytes allowed, over all sinks."""
        return sum(each.budget.limit for each in self._attachments)

    @property
    def used(self) -> int:
        """Bytes held, over all sinks."""
        return sum(each.budget.used for each in self._attachments)

    async def acquire(self, weight: int, generation: int) -> None:
        """Hold `weight` bytes in every attached sink's budget. Cancellation: may hold some; the epoch is over then."""
        for each in self._attachments:
            budget, held = each.budget, False
            while each.attached and not held:
                full = budget.used and budget.used + weight > budget.limit
                if not (full and each.detach_if_dispensable("it is behind by its whole byte budget")):
                    with trio.move_on_after(ASK_AGAIN_S) as waited:
                        await budget.acquire(weight, generation)
                    held = not waited.cancelled_caught

    def reset(self, generation: int) -> None:
        """A new epoch: what older ones held is forgotten, and every sink is attached again."""
        for each in self._attachments:
            each.budget.reset(generation)
            each.attach()


class Rewinds:
    """The rewind cell as one sink sees it: a sink that can be spared may ask once a minute, then it is detached."""

    def __init__(self, shared: Cell[int], attachment: Attachment) -> None:
        self._shared, self._attachment = shared, attachment
        self._own = 0
        self._asked_at = -REWIND_EVERY_S

    @property
    def value(self) -> int:
        """The newest epoch that this sink, or anybody, wants to leave."""
        return max(self._own, self._shared.value)

    def raise_to(self, epoch: int) -> bool:
        """Ask for an epoch newer than `epoch`; says whether anything changed."""
        if epoch <= self.value:
            return False
        self._own = epoch
        now = trio.current_time()
        if now < self._asked_at + REWIND_EVERY_S and self._attachment.detach_if_dispensable(
            "it asked for a second rewind within a minute"
        ):
            return True
        self._asked_at = now
        return self._shared.raise_to(epoch)
