"""Look at a running pipeline from outside: lag, rates, slot, channel fill. Changes nothing it looks at."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from deltaforge.errors import DeltaforgeError
from deltaforge.failpoints import failpoint_async
from deltaforge.logs import get_logger
from deltaforge.memory import Tidying, give_back
from deltaforge.status import LagView, RatesView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from actors import ActorContext, Mailbox
    from deltaforge.attachment import Budgets
    from deltaforge.metrics import PipelineMetrics
    from deltaforge.model import SlotState

log = get_logger("monitor")

_TICK_S = 1.0
_SLOT_EVERY = 5
_RATE_SAMPLES = 11


class Sample(msgspec.Struct, frozen=True):
    """One look at the counters."""

    at: float
    """Monotonic seconds."""
    epoch: int
    epoch_events: int
    """Received in this epoch."""
    commit_time_us: int
    """Commit time of the newest transaction received, microseconds since 1970."""
    events: int
    nbytes: int
    sent: int


class SinkLook(Protocol):
    """What is asked of a sink."""

    @property
    def durable_events(self) -> int: ...


class Monitor:
    """Samples a pipeline every second, and gives memory back when a busy time is over.

    Owns: the samples of the last minutes.
    Receives: nothing.  Sends: metrics, warnings about columns that are left out.
    On stop: ends.
    On restart: starts without samples.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        metrics: PipelineMetrics,
        sample: Callable[[], Sample],
        sinks: Mapping[str, SinkLook],
        flushed: Callable[[str], int],
        channels: Sequence[Mailbox[object]],
        budget: Budgets,
        slot: Callable[[], Awaitable[SlotState]],
        omitted: Callable[[], Iterable[str]],
    ) -> None:
        """`omitted`: columns without a form in the sinks' envelope, as schema.table.column."""
        self._pipeline, self._omitted, self._warned = pipeline, omitted, set[str]()
        self._metrics, self._sample, self._sinks, self._flushed = metrics, sample, sinks, flushed
        self._channels, self._budget, self._ask_slot = channels, budget, slot
        self._recent: deque[Sample] = deque(maxlen=_RATE_SAMPLES)
        # A sample for each second with new events, kept until every sink has them: the age of what waits.
        self._waiting: deque[Sample] = deque(maxlen=100_000)
        self._seen = (0, 0)
        self._counted = (0, 0)
        self._tidying = Tidying()
        self.slot: SlotState | None = None
        self.lag, self.rates = LagView(), RatesView()

    async def run(self, ctx: ActorContext) -> None:
        """Sample until stopped. Cancellation: at any time."""
        ctx.started()
        turn = 0
        while not ctx.stopping.is_set():
            await failpoint_async("monitor.loop")
            if turn % _SLOT_EVERY == 0:
                with ctx.waiting("PostgreSQL"):
                    await self._look_at_slot()
            turn += 1
            self._look()
            await self._tidy()
            ctx.beat()
            with trio.move_on_after(_TICK_S):
                await ctx.stopping.wait()

    async def _look_at_slot(self) -> None:
        try:
            with trio.move_on_after(10):
                self.slot = await self._ask_slot()
                self._metrics.slot_retained(self.slot.retained_bytes)
        except DeltaforgeError:
            # The reader says what is wrong with the server; here it only means that the last picture stays.
            return

    async def _tidy(self) -> None:
        now, lately = self._recent[-1], self.rates.received_bytes_per_second
        if self._tidying.due(now.at, epoch=now.epoch, nbytes=now.nbytes, per_second=lately):
            await trio.to_thread.run_sync(give_back)

    def _look(self) -> None:
        now = self._sample()
        self._recent.append(now)
        if (now.epoch, now.epoch_events) != self._seen:
            if now.epoch != self._seen[0]:
                self._waiting.clear()
            self._seen = (now.epoch, now.epoch_events)
            self._waiting.append(now)
        self._count(now)
        self._measure(now)
        self._metrics.budget(self._budget.used, self._budget.limit)
        for column in self._omitted():
            if column not in self._warned:
                self._warned.add(column)
                why = "its type has no form in the records"
                log.warning("column left out", pipeline=self._pipeline, column=column, reason=why)
        for channel in self._channels:
            fill = channel.statistics()
            self._metrics.channel_fill(fill.name, fill.buffered, int(fill.capacity))

    def _count(self, now: Sample) -> None:
        events, nbytes = now.events - self._counted[0], now.nbytes - self._counted[1]
        self._counted = (now.events, now.nbytes)
        self._metrics.received(events, nbytes)
        self._metrics.epoch(now.epoch)

    def _measure(self, now: Sample) -> None:
        wal = self.slot.current_wal if self.slot is not None else None
        worst_events, worst_bytes, worst_s = 0, 0 if wal is not None else None, 0.0
        for sink, look in self._sinks.items():
            events = max(now.epoch_events - look.durable_events, 0)
            flushed = self._flushed(sink)
            # Before anything is durable the difference would be the whole address, not a distance.
            nbytes = max(wal - flushed, 0) if wal is not None and flushed else None
            age_s = self._age_s(look.durable_events) if events else 0.0
            self._metrics.sink(sink).lag(events, nbytes=nbytes, seconds=age_s)
            worst_events, worst_s = max(worst_events, events), max(worst_s, age_s)
            worst_bytes = None if nbytes is None or worst_bytes is None else max(worst_bytes, nbytes)
        self.lag = LagView(bytes=worst_bytes, seconds=round(worst_s, 3), events=worst_events)
        done = min((look.durable_events for look in self._sinks.values()), default=0)
        while self._waiting and self._waiting[0].epoch_events <= done:
            self._waiting.popleft()
        first = self._recent[0]
        passed = max(now.at - first.at, _TICK_S)
        self.rates = RatesView(
            events_per_second=round(max(now.sent - first.sent, 0) / passed, 1),
            received_events_per_second=round(max(now.events - first.events, 0) / passed, 1),
            received_bytes_per_second=round(max(now.nbytes - first.nbytes, 0) / passed, 1),
        )

    def _age_s(self, durable: int) -> float:
        """Seconds since the commit of the first sampled event above `durable`."""
        for sample in self._waiting:
            if sample.epoch_events > durable and sample.commit_time_us:
                return max(time.time() - sample.commit_time_us / 1e6, 0.0)
        return 0.0
