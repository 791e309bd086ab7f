"""The checkpointer: from the sinks' receipts to the one position that PostgreSQL is told."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from actors import ActorContext
from deltaforge.checkpoint.policy import combine, without_idle_gap
from deltaforge.failpoints import failpoint_async

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actors import Cell
    from deltaforge.model import Confirm, Receipt


class CheckpointActor:
    """Apply the commit policy whenever a sink has made something durable.

    Owns: nothing; the truth is in the cells, and durable in the sinks.
    Receives: the sinks' receipts and the current epoch, through cells.  Sends: Confirm, through a cell.
    On stop: looks at the cells once more and ends.
    On restart: looks at all cells and goes on; nothing is lost, because cells hold the latest value.
    """

    def __init__(
        self,
        *,
        mode: str,
        quorum: int | None,
        receipts: Mapping[str, Cell[Receipt | None]],
        required: Mapping[str, bool],
        epoch: Cell[int],
        flush: Cell[Confirm],
        hold_s: float = 0.0,
    ) -> None:
        """`hold_s`: keep every confirmation back by so many seconds, for a Kafka that may lose its newest records."""
        self._hold_s = hold_s
        self._held: deque[tuple[int, Confirm]] = deque()
        self._holding = trio.Event()
        self._news = trio.Event()
        self._mode, self._quorum = mode, quorum
        self._receipts, self._required = receipts, required
        self._epoch, self._flush = epoch, flush

    async def run(self, ctx: ActorContext) -> None:
        """Work until stopped."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, self._epoch, self._epoch.version)
            for cell in self._receipts.values():
                nursery.start_soon(self._listen, cell, cell.version)
            nursery.start_soon(self._let_go)
            # Only now: what is written after this look wakes a listener, which has taken its version before.
            self._look()
            ctx.started()
            nursery.start_soon(self._work, ctx)
            await ctx.stopping.wait()
            nursery.cancel_scope.cancel(reason="stopping")
        self._look()

    async def _work(self, ctx: ActorContext) -> None:
        while True:
            with ctx.waiting("news of the sinks"):
                await self._news.wait()
            self._news = trio.Event()
            await failpoint_async("checkpointer.loop")
            self._look()

    async def _listen(self, cell: Cell[int] | Cell[Receipt | None], version: int) -> None:
        # A context of its own: a listener always waits, which must not speak for the task that works.
        ActorContext("listener").arm()
        while True:
            version = await cell.changed(version)
            self._news.set()

    def _look(self) -> None:
        """Write a new Confirm if there is more to confirm; what was confirmed in an epoch never falls in it."""
        receipts = {sink: cell.value for sink, cell in self._receipts.items()}
        confirm = combine(self._mode, self._quorum, receipts, self._required, self._epoch.value)
        if confirm is None:
            return
        confirm = without_idle_gap(confirm, receipts)
        if not self._hold_s:
            self._confirm(confirm)
            return
        # In whole seconds, so that a fast stream does not fill the memory with what it may confirm tomorrow.
        due = math.ceil(trio.current_time() + self._hold_s)
        if self._held and self._held[-1][0] == due:
            self._held[-1] = (due, confirm)
        else:
            self._held.append((due, confirm))
        self._holding.set()

    async def _let_go(self) -> None:
        """Pass on what has been held back for long enough."""
        while True:
            await self._holding.wait()
            while self._held:
                await trio.sleep_until(self._held[0][0])
                # Only now: a later confirmation of the same second has taken its place meanwhile.
                self._confirm(self._held.popleft()[1])
            self._holding = trio.Event()

    def _confirm(self, confirm: Confirm) -> None:
        last = self._flush.value
        if (confirm.epoch, confirm.lsn) > (last.epoch, last.lsn):
            self._flush.set(confirm)
