"""The producers of one epoch: where exactly once and at least once differ, and nowhere else.

Exactly once: one transactional producer; records and checkpoint record commit together.
At least once: records go through a producer without transactions; the checkpoint record follows, once they are
delivered, in a transaction of its own, so that the late record of an older instance is fenced all the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from deltaforge.envelopes.base import Encoded
from deltaforge.errors import Fault
from deltaforge.failpoints import failpoint_async
from deltaforge.sinks.kafka.opening import check_lease
from deltaforge.sinks.kafka.pause import MarkerPause
from deltaforge.sinks.kafka.producer import KafkaProducer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.errors import DeltaforgeError
    from deltaforge.model import Lease
    from deltaforge.sinks.kafka.wiring import KafkaWiring


class Session:
    """Producers for one Lease. Close it whatever happens."""

    def __init__(self, wiring: KafkaWiring, lease: Lease, nursery: trio.Nursery) -> None:
        self._w, self._lease, self._nursery = wiring, lease, nursery
        self._ledger = KafkaProducer(wiring.ledger_properties, brokers=wiring.config.brokers, oauth=wiring.oauth)
        self._data = self._ledger
        if not wiring.config.exactly_once:
            self._data = KafkaProducer(wiring.data_properties, brokers=wiring.config.brokers, oauth=wiring.oauth)
        self._begun = False
        self._begun_at = 0.0
        self.took_s = 0.0
        """How long the brokers took for the rest of the last Kafka transaction, from its end on."""
        self._pause = MarkerPause()
        self._asked = self._answered = 0
        self.given_up = False
        """Whether what waited for Kafka was told to wait no longer."""

    async def _start(self, producer: KafkaProducer) -> None:
        await producer.open()
        self._nursery.start_soon(producer.serve)

    async def _fence(self) -> None:
        """Start the transactional producer as the only one of its id."""
        await self._start(self._ledger)
        await self._ledger.reach(self._w.checkpoint.name)
        await self._ledger.init()

    @property
    def trouble(self) -> DeltaforgeError | None:
        """What the clients last complained about, first of all what only a person can mend."""
        complaints = [error for error in (self._ledger.last_error, self._data.last_error) if error is not None]
        return next((error for error in complaints if error.fault is Fault.OPERATOR), next(iter(complaints), None))

    def give_up(self, cause: DeltaforgeError) -> None:
        """Let whatever waits for Kafka raise Doubt for this reason."""
        self.given_up = True
        for producer in (self._ledger, self._data):
            producer.failure = producer.failure or cause

    def forget_trouble(self) -> None:
        """All is well again: what was complained about before explains nothing that comes later."""
        self._ledger.last_error = self._data.last_error = None

    @property
    def progress(self) -> tuple[int, int] | None:
        """Grows as Kafka answers; None when it owes no answer."""
        if self._asked == self._answered and not self._data.queued:
            return None
        return self._answered, self._data.taken

    async def init(self) -> None:
        """Fence older producers and settle their transactions. Waits for Kafka for ever. Raises Doubt."""
        await failpoint_async("kafka.before_init")
        if self._data is not self._ledger:
            await self._start(self._data)
        await self._fence()
        await failpoint_async("kafka.after_init")

    def begin(self) -> None:
        """Open a Kafka transaction unless one is open. Raises Doubt."""
        if not self._begun:
            if self._data is self._ledger:
                self._ledger.begin()
            self._begun_at = trio.current_time()
            self._begun = True

    async def produce(self, encoded: Encoded, partitions: Sequence[int]) -> None:
        """Hand over records; waits while librdkafka is full. Raises Doubt."""
        await self._data.produce(encoded, partitions)

    def handed(self, nbytes: int) -> None:
        """What was produced since the last call is one batch that weighs `nbytes`."""
        self._data.handed(nbytes)

    def delivered(self) -> int:
        """Weight delivered since the last call."""
        return self._data.delivered()

    @property
    def inflight(self) -> int:
        """Batches not yet delivered."""
        return self._data.inflight

    def check(self) -> None:
        """Raise Doubt when a delivery has failed."""
        self._data.check()

    async def settle(self, topic: str, record: tuple[bytes, bytes]) -> bool:
        """Make everything produced durable together with the checkpoint record.

        Returns:
          Whether a late copy of the commit may still be on its way.

        Raises:
          Doubt: nobody knows whether it is durable.
        """
        self._asked += 1
        limit_s = self._w.config.send_timeout_secs
        deadline = trio.current_time() + limit_s
        key, value = record
        line = Encoded([topic], [key], [value], [None], len(key) + len(value), 0)
        await failpoint_async("kafka.before_checkpoint")
        if self._data is not self._ledger:
            await self._deliver(limit_s)
            deadline = trio.current_time() + limit_s
            self._ledger.begin()
        await self._ledger.produce(line, [0])
        await failpoint_async("kafka.after_checkpoint")
        # Flushed first, so that the commit below is one request, and its duration says whether it was repeated.
        ended = trio.current_time()
        await self._ledger.flush(deadline)
        self.took_s = trio.current_time() - ended
        if self._data is self._ledger:
            self._pause.delivered(ended - self._begun_at, self.took_s)
        await failpoint_async("kafka.before_commit")
        limit = trio.current_time() + self._w.transaction_timeout_s
        repeated = await self._ledger.commit(limit)
        self._begun = False
        self._answered += 1
        await failpoint_async("kafka.after_commit")
        return repeated

    @property
    def late(self) -> bool:
        """Whether the brokers did not take a Kafka transaction in time. Plain records have no such time."""
        return self._data is self._ledger and self._ledger.late

    @property
    def pause_s(self) -> float:
        """Seconds to let pass after a commit, so that the next transaction's first request is answered at once."""
        return self._pause.seconds

    async def _deliver(self, limit_s: float) -> None:
        """Wait for plain deliveries. Sending again would repeat them, so being late is told, not acted upon; a client
        that is let in nowhere is given up all the same."""
        with trio.move_on_after(limit_s) as patience:
            await self._data.flush(math.inf)
        if patience.cancelled_caught:
            self._w.report("waiting", f"Kafka has not taken the records within {limit_s:g} s (send_timeout_secs)")
            await self._data.flush(math.inf)
            self._w.report("running", "")

    async def rebuild(self) -> None:
        """Replace the transactional producer: its new epoch kills any late copy of the last commit.

        Raises Doubt, LeaseLost: only the second answer proves that nobody committed in between.
        """
        await failpoint_async("kafka.before_rebuild")
        await check_lease(self._w.slot, self._lease)
        self._asked += 1
        old, wiring = self._ledger, self._w
        self._ledger = KafkaProducer(wiring.ledger_properties, brokers=wiring.config.brokers, oauth=wiring.oauth)
        if self._data is old:
            self._data = self._ledger
        await old.close()
        await failpoint_async("kafka.during_rebuild")
        await self._fence()
        self._answered += 1
        await failpoint_async("kafka.after_rebuild")
        await check_lease(self._w.slot, self._lease)

    async def explain(self, cause: DeltaforgeError) -> DeltaforgeError:
        """The reason behind `cause`, where librdkafka tells it only when asked."""
        return await self._ledger.explain(cause)

    async def abort(self) -> None:
        """Abort the open Kafka transaction, so that readers need not wait for its timeout. Raises Doubt."""
        if self._begun and self._data is self._ledger:
            await failpoint_async("kafka.before_abort")
            await self._ledger.abort()
            await failpoint_async("kafka.after_abort")
        self._begun = False

    async def close(self) -> None:
        """Throw the producers away."""
        await self._ledger.close()
        if self._data is not self._ledger:
            await self._data.close()
